"""Small tables, assets and runs for warehouse tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.io_manager import WarehouseIOManager
from monstera_assets.warehouse.resource import DuckDBWarehouse
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY, Days, TableAsset
from monstera_assets.warehouse.tables import TREND_FLAGS, AssetGroup, Column, Layer, Table
from monstera_assets.warehouse.windows import DateWindow

FIRST = date(2025, 1, 1)
PARTITIONS = dg.DailyPartitionsDefinition(
    start_date=FIRST.isoformat(), end_date="2025-07-01", timezone="UTC"
)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

FACTS = Table(
    layer=Layer.SILVER,
    name="silver_facts",
    grain="one fact",
    description="Facts in daily partitions.",
    owners=("team:tests",),
    group=AssetGroup.LIFECYCLE,
    key=("fact_id",),
    partition_column="fact_date",
    columns=(
        Column("fact_id", "string", "The fact."),
        Column("fact_date", "date", "Its day."),
        Column("left_amount", "int64", "A number.", nullable=True),
        Column("right_amount", "int64", "Another number.", nullable=True),
        Column("note", "string", "A remark.", nullable=True),
        Column("seen_at", "timestamp", "When it was seen.", nullable=True),
    ),
)
NAMES = Table(
    layer=Layer.SILVER,
    name="silver_names",
    grain="one name",
    description="Names, kept whole.",
    owners=("team:tests",),
    group=AssetGroup.LIFECYCLE,
    key=("name_id",),
    columns=(
        Column("name_id", "string", "The name."),
        Column("label", "string", "How it is shown.", nullable=True),
    ),
)
TREND = Table(
    layer=Layer.GOLD,
    name="gold_trend",
    grain="one date",
    description="A metric with trend flags.",
    owners=("team:tests",),
    group=AssetGroup.LIFECYCLE,
    key=("metric_date",),
    partition_column="metric_date",
    columns=(
        Column("metric_date", "date", "The day."),
        Column("metric", "int64", "The value."),
        *TREND_FLAGS,
    ),
)
SEEN = Table(
    layer=Layer.GOLD,
    name="gold_seen",
    grain="one day that was read",
    description="Which days of facts arrived as input.",
    owners=("team:tests",),
    group=AssetGroup.LIFECYCLE,
    key=("seen_date", "read_date"),
    partition_column="seen_date",
    columns=(
        Column("seen_date", "date", "The last day of the run."),
        Column("read_date", "date", "A day of which rows arrived."),
    ),
)
SEEN_NOW = Table(
    layer=Layer.GOLD,
    name="gold_seen_now",
    grain="one day that was read",
    description="Which days of facts arrived as input of a table without partitions.",
    owners=("team:tests",),
    group=AssetGroup.LIFECYCLE,
    key=("read_date",),
    columns=(Column("read_date", "date", "A day of which rows arrived."),),
)

Row = tuple[Any, ...]
Delivery = Callable[[DateWindow], Any]


def day(number: int) -> date:
    """Return the n-th day of the calendar, starting at 1."""
    return FIRST + timedelta(days=number - 1)


def expression(types: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> ir.Table:
    """Return rows as an Ibis expression of literals."""
    one = ibis.literal(0, "int64").name("one").as_table()
    if not rows:
        return one.filter(ibis.literal(value=False)).select(
            **{name: ibis.null(dtype) for name, dtype in types.items()}
        )
    return ibis.union(
        *(
            one.select(
                **{name: ibis.literal(row.get(name), dtype) for name, dtype in types.items()}
            )
            for row in rows
        )
    )


def types_of(table: Table) -> dict[str, str]:
    """Return the name and type of each column that an asset delivers."""
    return {
        column.name: column.type for column in table.columns if column.days_before_latest is None
    }


def frame(table: Table, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as a DataFrame with the types that pandas infers."""
    return pd.DataFrame(rows, columns=list(types_of(table)))


def facts(*days: date, note: str | None = None, amount: int = 1) -> list[dict[str, object]]:
    """Return one fact per day."""
    return [
        {
            "fact_id": f"fact {when}",
            "fact_date": when,
            "left_amount": amount,
            "right_amount": -amount,
            "note": note,
        }
        for when in days
    ]


def facts_of(window: DateWindow) -> ir.Table:
    """Return one fact per day of a window, as an expression."""
    return expression(types_of(FACTS), facts(*window))


def delivering(table: Table, delivery: Delivery) -> dg.AssetsDefinition:
    """Return an asset that delivers the result of a function of the window."""
    if table.partition_column is None:
        return build(TableAsset(table, lambda: delivery(DateWindow(FIRST, FIRST))))

    def compute(*, window: DateWindow) -> Any:
        return delivery(window)

    return build(TableAsset(table, compute))


def reading(days: Days | None, *, table: Table = SEEN) -> dg.AssetsDefinition:
    """Return an asset that records the days of the facts that it receives."""

    def read(silver_facts: ir.Table) -> ir.Table:
        return silver_facts.select(read_date=silver_facts.fact_date).distinct()

    def read_in_window(silver_facts: ir.Table, *, window: DateWindow) -> ir.Table:
        return read(silver_facts).mutate(seen_date=window.last)

    function = read_in_window if table.partition_column else read
    return build(TableAsset(table, function, {"silver_facts": days} if days else {}))


def reading_frame(days: Days | None, *, table: Table = SEEN) -> dg.AssetsDefinition:
    """Return the same asset with DataFrames as input and output."""

    def read(silver_facts: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"read_date": silver_facts["fact_date"].drop_duplicates()})

    def read_in_window(silver_facts: pd.DataFrame, *, window: DateWindow) -> pd.DataFrame:
        return read(silver_facts).assign(seen_date=window.last)

    function = read_in_window if table.partition_column else read
    return build(TableAsset(table, function, {"silver_facts": days} if days else {}))


def build(asset: TableAsset) -> dg.AssetsDefinition:
    """Build the asset with the calendar of these tests."""
    return asset.build(PARTITIONS, LifecyclePolicy())


def run(
    database: Path,
    *assets: dg.AssetsDefinition,
    days: date | tuple[date, date] | None = None,
    only: dg.AssetsDefinition | None = None,
    config: Mapping[str, str | int | bool] | None = None,
    lock_timeout_seconds: float = 30.0,
) -> dg.ExecuteInProcessResult:
    """Materialize assets in a run, for a day, a range, or without partitions."""
    partition: dict[str, Any] = {}
    if isinstance(days, date):
        partition = {"partition_key": days.isoformat()}
    elif days is not None:
        partition = {
            "tags": {
                "dagster/asset_partition_range_start": days[0].isoformat(),
                "dagster/asset_partition_range_end": days[1].isoformat(),
            }
        }
    return dg.materialize(
        list(assets),
        selection=dg.AssetSelection.assets(*(asset.key for asset in ([only] if only else assets))),
        instance=in_memory_instance(),
        resources={
            IO_MANAGER_KEY: WarehouseIOManager(
                warehouse=DuckDBWarehouse(
                    database=str(database),
                    connection_config=connection_config(threads=2) | dict(config or {}),
                    lock_timeout_seconds=lock_timeout_seconds,
                )
            )
        },
        run_config=QUIET,
        raise_on_error=False,
        **partition,
    )


@cache
def in_memory_instance() -> dg.DagsterInstance:
    """Return one instance for all runs, since creating one takes longer than most runs."""
    return dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}})


def errors(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Return the class and message of each error in a run and of its causes, if any."""
    found: dict[str, str] = {}
    for event in result.all_events:
        error = getattr(event.event_specific_data, "error", None)
        while error is not None:
            found.setdefault(error.cls_name, error.message)
            error = error.cause or error.context
    assert bool(found) is not result.success
    return found


def rows(database: Path, table: Table) -> list[Row]:
    """Return the rows of a table, sorted."""
    return query(database, f"SELECT * FROM {table.qualified_name} ORDER BY ALL")


def query(database: Path, select: str) -> list[Row]:
    """Return the rows of a query."""
    with connect(str(database), connection_config(threads=2)) as connection:
        return connection.execute(select).fetchall()


def everything(database: Path) -> dict[str, list[Row]]:
    """Return all rows of all tables and of the bookkeeping tables, except for the layout.

    The configuration differs from that of runs, which DuckDB allows only if all their connections are
    closed.
    """
    with duckdb.connect(str(database), config={"threads": 1}) as connection:
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE table_name <> 'layout'"
            " ORDER BY ALL"
        ).fetchall()
        found = {
            f"{schema}.{table}": connection.execute(
                f'FROM "{schema}"."{table}" ORDER BY ALL'
            ).fetchall()
            for schema, table in tables
        }
        return {name: rows for name, rows in found.items() if rows or "operations." not in name}


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start Python code in another process, and wait until it prints that it is ready."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        assert said == "ready\n", (said, child.communicate()[1])
        yield child
    finally:
        child.kill()
        child.communicate()
