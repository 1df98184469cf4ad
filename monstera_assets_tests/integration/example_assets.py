"""Small tables, assets and runs with which the tests of the warehouse write and read."""

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
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY, Days, TableAsset
from monstera_assets.warehouse.tables import TREND_FLAGS, Column, Layer, Table
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
    key=("read_date",),
    columns=(Column("read_date", "date", "A day of which rows arrived."),),
)

Row = tuple[Any, ...]
Delivery = Callable[[DateWindow], Any]


def day(number: int) -> date:
    """The n-th day of the calendar, from 1."""
    return FIRST + timedelta(days=number - 1)


def expression(types: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> ir.Table:
    """Rows as an Ibis expression of literals."""
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
    """Name and type of the columns that an asset delivers."""
    return {
        column.name: column.type for column in table.columns if column.days_before_latest is None
    }


def frame(table: Table, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a DataFrame, typed as pandas types them when it is left alone."""
    return pd.DataFrame(rows, columns=list(types_of(table)))


def facts(*days: date, note: str | None = None, amount: int = 1) -> list[dict[str, object]]:
    """One fact for each day."""
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
    """One fact for each day of a window, as an expression."""
    return expression(types_of(FACTS), facts(*window))


def delivering(table: Table, delivery: Delivery) -> dg.AssetsDefinition:
    """An asset that delivers what a function of the window says; without partitions, of any day."""
    if table.partition_column is None:
        return build(TableAsset(table, lambda: delivery(DateWindow(FIRST, FIRST))))

    def compute(*, window: DateWindow) -> Any:
        return delivery(window)

    return build(TableAsset(table, compute))


def reading(days: Days | None, *, table: Table = SEEN) -> dg.AssetsDefinition:
    """An asset that notes which days of the facts it is given."""

    def read(silver_facts: ir.Table) -> ir.Table:
        return silver_facts.select(read_date=silver_facts.fact_date).distinct()

    def read_in_window(silver_facts: ir.Table, *, window: DateWindow) -> ir.Table:
        return read(silver_facts).mutate(seen_date=window.last)

    function = read_in_window if table.partition_column else read
    return build(TableAsset(table, function, {"silver_facts": days} if days else {}))


def reading_frame(days: Days | None, *, table: Table = SEEN) -> dg.AssetsDefinition:
    """The same with a DataFrame in and out."""

    def read(silver_facts: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"read_date": silver_facts["fact_date"].drop_duplicates()})

    def read_in_window(silver_facts: pd.DataFrame, *, window: DateWindow) -> pd.DataFrame:
        return read(silver_facts).assign(seen_date=window.last)

    function = read_in_window if table.partition_column else read
    return build(TableAsset(table, function, {"silver_facts": days} if days else {}))


def build(asset: TableAsset) -> dg.AssetsDefinition:
    """The asset in the calendar of these tests."""
    return asset.build(PARTITIONS, LifecyclePolicy())


def run(
    database: Path,
    *assets: dg.AssetsDefinition,
    days: date | tuple[date, date] | None = None,
    only: dg.AssetsDefinition | None = None,
    config: Mapping[str, str | int | bool] | None = None,
    lock_timeout_seconds: float = 30.0,
) -> dg.ExecuteInProcessResult:
    """Materialize assets in a real run, for a day, a range in one run, or without partitions."""
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
                database=str(database),
                connection_config=connection_config(threads=2) | dict(config or {}),
                lock_timeout_seconds=lock_timeout_seconds,
            )
        },
        run_config=QUIET,
        raise_on_error=False,
        **partition,
    )


@cache
def in_memory_instance() -> dg.DagsterInstance:
    """One instance for all runs: making one costs more than most of them, and no run looks back."""
    return dg.DagsterInstance.ephemeral()


def errors(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Class and message of the errors of a failed run, causes included; empty for a success."""
    found: dict[str, str] = {}
    for event in result.all_events:
        error = getattr(event.event_specific_data, "error", None)
        while error is not None:
            found.setdefault(error.cls_name, error.message)
            error = error.cause or error.context
    assert bool(found) is not result.success
    return found


def rows(database: Path, table: Table) -> list[Row]:
    """The rows of a table, sorted."""
    return query(database, f"SELECT * FROM {table.qualified_name} ORDER BY ALL")


def query(database: Path, select: str) -> list[Row]:
    """The rows of a query."""
    with connect(str(database), connection_config(threads=2)) as connection:
        return connection.execute(select).fetchall()


def everything(database: Path) -> dict[str, list[Row]]:
    """All rows of all tables and of the notes about them, if there are any, but not the layout.

    Reads them with another configuration than the runs, which DuckDB admits only once every
    connection of a run is closed.
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
    """Run Python code in another process until it has said that it is ready."""
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
