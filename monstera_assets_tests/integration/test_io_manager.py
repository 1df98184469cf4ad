"""The IO manager writes atomically and reads exactly the requested days."""

# mypy: disable-error-code="untyped-decorator, empty-body"

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import dagster as dg
import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest

from monstera_assets.lifecycle.intervals import calendar
from monstera_assets.warehouse import connection as connections
from monstera_assets.warehouse.batches import TableBatch
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.errors import (
    SchemaMismatchError,
    WarehouseError,
    WarehouseLockedError,
)
from monstera_assets.warehouse.io_manager import declaration
from monstera_assets.warehouse.table_asset import (
    ALL_DAYS,
    LATEST_DAY,
    SAME_DAYS,
    UP_TO_DAY,
    Days,
    TableAsset,
    last_days,
)
from monstera_assets.warehouse.tables import AssetGroup, Column, Layer, Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_assets import (
    FACTS,
    NAMES,
    SEEN,
    SEEN_NOW,
    TREND,
    build,
    day,
    delivering,
    errors,
    everything,
    expression,
    facts,
    facts_of,
    frame,
    process,
    query,
    reading,
    reading_frame,
    rows,
    run,
    types_of,
)

Deliver = Callable[[Table, list[dict[str, object]]], Any]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture(params=["ibis", "pandas"])
def deliver(request: pytest.FixtureRequest) -> Deliver:
    """Return the rows as an output, for each of the two kinds of asset."""
    if request.param == "pandas":
        return frame
    return lambda table, rows: expression(types_of(table), rows)


@ibis.udf.scalar.builtin(name="error", signature=(("string",), "int64"))
def _error(message: str) -> int: ...


# ---------------------------------------------------------------- all or nothing


def _break(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"the power failed before {name}")

    monkeypatch.setattr(DuckDBEngine, name, fail)


@pytest.mark.parametrize("step", ["insert", "_refresh_trend_flags", "record"])
@pytest.mark.parametrize("table", [FACTS, NAMES], ids=lambda table: table.name)
def test_failure_between_delete_and_commit_changes_nothing(
    database: Path, deliver: Deliver, table: Table, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitioned = table is FACTS
    old, new = facts(day(1), day(2)), facts(day(2), amount=9)
    if not partitioned:
        old, new = [{"name_id": "a", "label": "old"}], [{"name_id": "b", "label": "new"}]
    asset = delivering(table, lambda _: deliver(table, old))
    assert errors(run(database, asset, days=(day(1), day(2)) if partitioned else None)) == {}
    before = everything(database)

    _break(monkeypatch, step)
    asset = delivering(table, lambda _: deliver(table, new))
    result = run(database, asset, days=day(2) if partitioned else None)

    assert errors(result)["RuntimeError"] == f"RuntimeError: the power failed before {step}\n"
    assert everything(database) == before
    monkeypatch.undo()
    assert errors(run(database, asset, days=day(2) if partitioned else None)) == {}
    assert everything(database)[table.qualified_name] != before[table.qualified_name]


@pytest.mark.parametrize("step", ["insert", "record"])
def test_failed_first_write_leaves_no_table(
    database: Path, deliver: Deliver, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, step)
    asset = delivering(FACTS, lambda _: deliver(FACTS, facts(day(1))))
    assert not run(database, asset, days=day(1)).success
    assert everything(database) == {}


def test_row_that_cannot_be_computed_changes_nothing(database: Path) -> None:
    assert errors(run(database, delivering(FACTS, facts_of), days=(day(1), day(3)))) == {}
    before = everything(database)

    def failing_on_one_row(window: DateWindow) -> ir.Table:
        good = facts_of(window)
        return good.mutate(
            left_amount=ibis.ifelse(
                good.fact_date == day(2), _error("row of the 2nd"), good.left_amount
            )
        )

    result = run(database, delivering(FACTS, failing_on_one_row), days=(day(1), day(3)))

    message = errors(result)["WarehouseError"]
    assert "silver.silver_facts was not written and is unchanged" in message
    assert "row of the 2nd" in message
    assert everything(database) == before


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("fact_id", None, "NOT NULL constraint failed: silver_facts.fact_id"),
        ("fact_date", None, "a day other than 2025-01-02 in silver_facts.fact_date: null"),
        ("fact_date", day(3), "a day other than 2025-01-02 in silver_facts.fact_date: 2025-01-03"),
        ("fact_date", day(1), "a day other than 2025-01-02 in silver_facts.fact_date: 2025-01-01"),
    ],
)
def test_bad_row_is_refused_with_all_others(
    database: Path, deliver: Deliver, column: str, value: object, complaint: str
) -> None:
    assert errors(run(database, delivering(FACTS, facts_of), days=(day(1), day(3)))) == {}
    before = everything(database)
    bad = [*facts(day(2)), facts(day(2))[0] | {column: value}]
    result = run(database, delivering(FACTS, lambda _: deliver(FACTS, bad)), days=day(2))
    assert complaint in errors(result)["WarehouseError"]
    assert "is unchanged" in errors(result)["WarehouseError"]
    assert everything(database) == before


def test_number_too_large_is_refused_by_name_of_the_table(database: Path) -> None:
    def overflowing(window: DateWindow) -> ir.Table:
        good = facts_of(window)
        return good.mutate(left_amount=(good.left_amount + (2**63 - 1)) * 2)

    result = run(database, delivering(FACTS, overflowing), days=day(1))
    assert "silver.silver_facts was not written" in errors(result)["WarehouseError"]


# ---------------------------------------------------------------- killed processes

_KILLED = """
import sys, time
from pathlib import Path
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets_tests.integration.example_assets import *

def hang(*_, **__):
    print("ready", flush=True)
    time.sleep(600)

setattr(DuckDBEngine, sys.argv[2], hang)

def many(window):
    # Enough rows for DuckDB to write some to the file before the transaction ends.
    numbers = ibis.range(0, 400_000).unnest().name("number").as_table()
    return numbers.select(
        fact_id=numbers.number.cast("string"),
        fact_date=window.first,
        left_amount=numbers.number,
        right_amount=numbers.number,
        note=numbers.number.cast("string").lpad(40, "x"),
        seen_at=ibis.null("timestamp"),
    )

run(Path(sys.argv[1]), delivering(FACTS, many), days=day(2))
"""


@pytest.mark.parametrize("killed_before", ["insert", "record"])
def test_process_killed_in_the_middle_of_a_write(database: Path, killed_before: str) -> None:
    asset = delivering(FACTS, facts_of)
    assert errors(run(database, asset, days=(day(1), day(3)))) == {}
    before = everything(database)
    with process(_KILLED, database, killed_before) as child:
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert everything(database) == before
    assert errors(run(database, asset, days=(day(2), day(4)))) == {}
    assert [row[1] for row in rows(database, FACTS)] == [day(n) for n in (1, 2, 3, 4)]


# ---------------------------------------------------------------- columns and types


def test_reordered_columns_do_not_swap(database: Path, deliver: Deliver) -> None:
    def reordered(window: DateWindow) -> Any:
        delivered = deliver(FACTS, facts(*window, amount=7))
        names = list(types_of(FACTS))
        return delivered[[*reversed(names)]]

    assert errors(run(database, delivering(FACTS, reordered), days=day(1))) == {}
    assert rows(database, FACTS) == [(f"fact {day(1)}", day(1), 7, -7, None, None)]


def test_missing_and_extra_columns_are_named(database: Path, deliver: Deliver) -> None:
    def renamed(window: DateWindow) -> Any:
        delivered = deliver(FACTS, facts(*window))
        if isinstance(delivered, pd.DataFrame):
            return delivered.rename(columns={"right_amount": "wrong", "seen_at": "other"})
        return delivered.rename(wrong="right_amount", other="seen_at")

    assert errors(run(database, delivering(FACTS, facts_of), days=day(1))) == {}
    before = everything(database)
    message = errors(run(database, delivering(FACTS, renamed), days=day(1)))["SchemaMismatchError"]
    for named in (
        "does not return right_amount",
        "does not return seen_at",
        "returns wrong",
        "returns other",
    ):
        assert named in message
    assert "silver.silver_facts" in message
    assert everything(database) == before


def test_column_delivered_twice_is_named(database: Path) -> None:
    def doubled(window: DateWindow) -> pd.DataFrame:
        delivered = frame(FACTS, facts(*window))
        return pd.concat([delivered, delivered[["note"]]], axis=1)

    message = errors(run(database, delivering(FACTS, doubled), days=day(1)))["SchemaMismatchError"]
    assert "returns note twice" in message


@pytest.mark.parametrize(
    ("column", "of_type", "value", "complaint"),
    [
        ("left_amount", "string", "7", "left_amount is string but is declared as int64"),
        ("left_amount", "boolean", True, "left_amount is boolean but is declared as int64"),
        ("fact_date", "string", "2025-01-01", "fact_date is string but is declared as date"),
        ("note", "int64", 7, "note is int64 but is declared as string"),
        ("seen_at", "int64", 7, "seen_at is int64 but is declared as timestamp"),
    ],
)
def test_wrong_types_are_named(
    database: Path, deliver: Deliver, column: str, of_type: str, value: object, complaint: str
) -> None:
    row = facts(day(1))[0] | {column: value}

    def mistyped(_: DateWindow) -> Any:
        delivered = deliver(FACTS, [row]) if deliver is frame else None
        return (
            delivered
            if delivered is not None
            else expression(types_of(FACTS) | {column: of_type}, [row])
        )

    result = run(database, delivering(FACTS, mistyped), days=day(1))
    assert complaint in errors(result)["SchemaMismatchError"]
    assert everything(database) == {}


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("left_amount", 7.5, "a fraction instead of an integer in"),
        ("fact_date", pd.Timestamp("2025-01-01 10:00"), "a day other than 2025-01-01"),
    ],
)
def test_frame_whose_values_a_cast_would_change_is_refused(
    database: Path, column: str, value: object, complaint: str
) -> None:
    delivered = frame(FACTS, [facts(day(1))[0] | {column: value}])
    result = run(database, delivering(FACTS, lambda _: delivered), days=day(1))
    assert complaint in errors(result)["WarehouseError"]
    assert f"silver_facts.{column}: {value}" in errors(result)["WarehouseError"]


def test_time_of_day_is_refused_where_dates_are_declared(database: Path, deliver: Deliver) -> None:
    table = Table(
        layer=Layer.SILVER,
        name="silver_days",
        grain="one day",
        description="Days.",
        owners=("team:tests",),
        group=AssetGroup.LIFECYCLE,
        key=("some_day",),
        columns=(Column("some_day", "date", "A day."),),
    )
    noon = [{"some_day": pd.Timestamp("2025-01-01 12:00")}]
    delivered = (
        frame(table, noon) if deliver is frame else expression({"some_day": "timestamp"}, noon)
    )
    result = run(database, delivering(table, lambda _: delivered))
    assert "a time of day instead of a date" in errors(result)["WarehouseError"]


def _redeclared(*columns: Column) -> Table:
    return Table(
        layer=FACTS.layer,
        name=FACTS.name,
        grain=FACTS.grain,
        description=FACTS.description,
        owners=FACTS.owners,
        group=AssetGroup.LIFECYCLE,
        key=FACTS.key,
        partition_column=FACTS.partition_column,
        columns=columns,
    )


def test_table_stored_with_an_older_declaration(database: Path, deliver: Deliver) -> None:
    kept = [
        column
        for column in FACTS.columns
        if column.name not in ("note", "left_amount", "right_amount")
    ]
    newer = _redeclared(
        *kept,
        Column("left_amount", "string", "Now a text.", nullable=True),
        Column("right_amount", "int64", "As it was.", nullable=True),
        Column("colour", "string", "New.", nullable=True),
    )
    assert errors(run(database, delivering(FACTS, facts_of), days=day(1))) == {}
    before = everything(database)
    row = {"fact_id": "a", "fact_date": day(1), "left_amount": "x"}
    result = run(database, delivering(newer, lambda _: deliver(newer, [row])), days=day(1))
    message = errors(result)["SchemaMismatchError"]
    assert "silver.silver_facts was written with a different declaration" in message
    assert "colour is missing" in message
    assert "note is not declared" in message
    assert "left_amount is BIGINT but is declared as VARCHAR" in message
    assert "right_amount" not in message
    assert "Drop the table" in message
    assert everything(database) == before


def test_input_stored_with_an_older_declaration(database: Path) -> None:
    older = _redeclared(*(column for column in FACTS.columns if column.name != "note"))
    delivered = expression(types_of(older), facts(day(1)))
    assert errors(run(database, delivering(older, lambda _: delivered), days=day(1))) == {}
    upstream = delivering(FACTS, facts_of)
    for downstream in (reading(SAME_DAYS), reading_frame(SAME_DAYS)):
        result = run(database, upstream, downstream, only=downstream, days=day(1))
        assert "note is missing" in errors(result)["SchemaMismatchError"]


def _nothing(deliver: Deliver, table: Table, _: DateWindow) -> Any:
    return deliver(table, [])


def test_empty_first_write_creates_the_table(database: Path, deliver: Deliver) -> None:
    for table in (FACTS, NAMES):
        asset = delivering(table, partial(_nothing, deliver, table))
        assert errors(run(database, asset, days=day(1) if table is FACTS else None)) == {}
    stored: dict[str, str] = dict(
        query(
            database,
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'silver_facts'",
        )
    )
    assert stored == {
        "fact_id": "VARCHAR",
        "fact_date": "DATE",
        "left_amount": "BIGINT",
        "right_amount": "BIGINT",
        "note": "VARCHAR",
        "seen_at": "TIMESTAMP",
    }
    assert rows(database, FACTS) == []
    assert rows(database, NAMES) == []


def test_column_of_nulls_keeps_its_declared_type(database: Path, deliver: Deliver) -> None:
    nulls = [{"fact_id": "a", "fact_date": day(1)}]
    assert (
        errors(run(database, delivering(FACTS, lambda _: deliver(FACTS, nulls)), days=day(1))) == {}
    )
    assert rows(database, FACTS) == [("a", day(1), None, None, None, None)]
    values = [nulls[0] | {"left_amount": 5, "note": "x", "seen_at": datetime(2025, 1, 1, 2)}]  # noqa: DTZ001
    assert (
        errors(run(database, delivering(FACTS, lambda _: deliver(FACTS, values)), days=day(1)))
        == {}
    )
    assert rows(database, FACTS) == [("a", day(1), 5, None, "x", datetime(2025, 1, 1, 2))]  # noqa: DTZ001


def test_missing_values_of_pandas_become_null(database: Path) -> None:
    delivered = pd.DataFrame(
        {
            "fact_id": ["a", "b"],
            "fact_date": pd.to_datetime(["2025-01-01", "2025-01-01"]),
            "left_amount": [1.0, np.nan],
            "right_amount": pd.array([pd.NA, 2], dtype="Int64"),
            "note": ["x", np.nan],
            "seen_at": [pd.NaT, pd.Timestamp("2025-01-01 10:00:00")],
        }
    )
    assert errors(run(database, delivering(FACTS, lambda _: delivered), days=day(1))) == {}
    assert rows(database, FACTS) == [
        ("a", day(1), 1, None, "x", None),
        ("b", day(1), None, 2, None, datetime(2025, 1, 1, 10)),  # noqa: DTZ001
    ]


AWKWARD = (
    "Zoë's “1 % off” naïve — 東京 🌱",
    "'; DROP TABLE silver.silver_odd; --",
    'a "b" \\ \n\t|',
    "",
)


def test_awkward_text_is_kept_in_values_and_identifiers(database: Path, deliver: Deliver) -> None:
    odd = Table(
        layer=Layer.SILVER,
        name="silver_odd",
        grain="one text",
        description="A table with awkward names.",
        owners=("team:tests",),
        group=AssetGroup.LIFECYCLE,
        key=('the "key"',),
        columns=(
            Column('the "key"', "string", "A name with quotes."),
            Column("größe; it's", "int64", "A name with a quote.", nullable=True),
            Column("select", "string", "A keyword.", nullable=True),
        ),
    )
    texts = [
        {'the "key"': text, "größe; it's": number, "select": text}
        for number, text in enumerate(AWKWARD)
    ]
    asset = delivering(odd, lambda _: deliver(odd, texts))
    for _ in range(2):
        assert errors(run(database, asset)) == {}
        stored = {(key, text) for key, _, text in rows(database, odd)}
        assert stored == {(text, text) for text in AWKWARD}


def test_money_is_kept_to_the_cent(database: Path, deliver: Deliver) -> None:
    table = Table(
        layer=Layer.SILVER,
        name="silver_prices",
        grain="one price",
        description="Prices.",
        owners=("team:tests",),
        group=AssetGroup.LIFECYCLE,
        key=("price",),
        columns=(Column("price", "decimal(18, 2)", "In euros."),),
    )
    prices = [Decimal("0.10"), Decimal("1234567890123.45")]
    delivered = deliver(table, [{"price": price} for price in prices])
    assert errors(run(database, delivering(table, lambda _: delivered))) == {}
    assert [row[0] for row in rows(database, table)] == prices


# ---------------------------------------------------------------- partitions


def test_range_replaces_exactly_its_days(database: Path, deliver: Deliver) -> None:
    asset = delivering(FACTS, lambda window: deliver(FACTS, facts(*window)))
    assert errors(run(database, asset, days=(day(1), day(6)))) == {}
    ledger = everything(database)["operations.materializations"]

    # One day has one fact less, which must not remain after the rewrite.
    replaced = delivering(FACTS, lambda _: deliver(FACTS, facts(day(3), day(5), amount=2)))
    assert errors(run(database, replaced, days=(day(3), day(5)))) == {}

    amounts = {row[1]: row[2] for row in rows(database, FACTS)}
    assert amounts == {day(1): 1, day(2): 1, day(3): 2, day(5): 2, day(6): 1}
    recorded = everything(database)["operations.materializations"]
    assert [row[:3] for row in recorded] == [row[:3] for row in ledger]
    rewritten = [new[2] for old, new in zip(ledger, recorded, strict=True) if old != new]
    assert rewritten == [day(n) for n in (3, 4, 5)]


SCATTERED = ["b", "d", "a", "c"]
SNAPSHOTS = Table(
    layer=Layer.SILVER,
    name="silver_snapshots",
    grain="one name and day",
    description="Names, day by day.",
    owners=("team:tests",),
    group=AssetGroup.LIFECYCLE,
    key=("name_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(
        Column("snapshot_date", "date", "The day."),
        Column("name_id", "string", "The name."),
    ),
)


def test_rows_are_stored_in_the_order_of_the_key(database: Path, deliver: Deliver) -> None:
    names = deliver(NAMES, [{"name_id": name} for name in SCATTERED])
    assert errors(run(database, delivering(NAMES, lambda _: names))) == {}
    of_day = deliver(SNAPSHOTS, [{"name_id": n, "snapshot_date": day(1)} for n in SCATTERED])
    assert errors(run(database, delivering(SNAPSHOTS, lambda _: of_day), days=day(1))) == {}
    for table in (NAMES, SNAPSHOTS):
        stored = query(database, f"SELECT name_id FROM {table.qualified_name} ORDER BY rowid")
        assert stored == [(name,) for name in sorted(SCATTERED)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts of the first eight days."""
    database = tmp_path_factory.mktemp("loaded") / "warehouse.duckdb"
    assert errors(run(database, delivering(FACTS, facts_of), days=(day(1), day(8)))) == {}
    return database


@pytest.fixture(scope="module")
def gapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts of the first three days and the sixth."""
    database = tmp_path_factory.mktemp("gapped") / "warehouse.duckdb"
    for days in ((day(1), day(3)), (day(6), day(6))):
        assert errors(run(database, delivering(FACTS, facts_of), days=days)) == {}
    return database


def _read_days(database: Path, table: Table = SEEN) -> list[date]:
    return [row[-1] for row in rows(database, table)]


@pytest.fixture(params=["ibis", "pandas"])
def reads(request: pytest.FixtureRequest) -> Callable[..., dg.AssetsDefinition]:
    """Return an asset that records the days of its input, for each kind of input."""
    return reading if request.param == "ibis" else reading_frame


@pytest.mark.parametrize(
    ("days", "of_day_5", "of_days_4_to_6"),
    [
        (SAME_DAYS, [5], [4, 5, 6]),
        (last_days(1), [5], [4, 5, 6]),
        (last_days(3), [3, 4, 5], [2, 3, 4, 5, 6]),
        (last_days(30), [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]),
        (UP_TO_DAY, [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]),
        (None, [5], [4, 5, 6]),
    ],
    ids=["same", "last 1", "last 3", "last 30", "up to", "default"],
)
def test_partitioned_input_has_exactly_the_mapped_days(
    database: Path,
    loaded: Path,
    reads: Callable[..., dg.AssetsDefinition],
    days: Days | None,
    of_day_5: list[int],
    of_days_4_to_6: list[int],
) -> None:
    shutil.copy(loaded, database)
    upstream, downstream = delivering(FACTS, facts_of), reads(days)
    assert errors(run(database, upstream, downstream, only=downstream, days=day(5))) == {}
    assert _read_days(database) == [day(n) for n in of_day_5]

    def of_range(silver_facts: ir.Table, *, window: DateWindow) -> ir.Table:
        read = silver_facts.select(read_date=silver_facts.fact_date).distinct()
        return read.mutate(seen_date=window.last)

    ranged = build(TableAsset(SEEN, of_range, {"silver_facts": days} if days else {}))
    assert errors(run(database, upstream, ranged, only=ranged, days=(day(4), day(6)))) == {}
    read = query(database, f"SELECT read_date FROM gold.gold_seen WHERE seen_date = '{day(6)}'")
    assert sorted(row[0] for row in read) == [day(n) for n in of_days_4_to_6]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(ALL_DAYS, [1, 2, 3, 4, 5]), (LATEST_DAY, [5])],
    ids=["all", "latest"],
)
def test_input_of_an_unpartitioned_table(
    database: Path,
    reads: Callable[..., dg.AssetsDefinition],
    days: Days,
    expected: list[int],
) -> None:
    upstream, downstream = delivering(FACTS, facts_of), reads(days, table=SEEN_NOW)
    assert errors(run(database, upstream, days=(day(4), day(5)))) == {}
    assert errors(run(database, upstream, days=(day(1), day(3)))) == {}
    assert errors(run(database, upstream, downstream, only=downstream)) == {}
    assert _read_days(database, SEEN_NOW) == [day(n) for n in expected]


def test_latest_day_may_be_an_empty_one(database: Path) -> None:
    upstream, downstream = delivering(FACTS, facts_of), reading(LATEST_DAY, table=SEEN_NOW)
    empty = delivering(FACTS, lambda _: expression(types_of(FACTS), []))
    assert errors(run(database, upstream, days=(day(1), day(3)))) == {}
    assert errors(run(database, empty, days=day(4))) == {}
    assert errors(run(database, upstream, downstream, only=downstream)) == {}
    assert _read_days(database, SEEN_NOW) == []


@pytest.mark.parametrize(
    ("days", "table", "partition"),
    [
        (SAME_DAYS, SEEN, (day(3), day(6))),
        (last_days(4), SEEN, day(6)),
        (UP_TO_DAY, SEEN, day(6)),
        (ALL_DAYS, SEEN_NOW, None),
    ],
    ids=["same", "last 4", "up to", "all"],
)
def test_missing_days_are_named_with_the_command_that_loads_them(
    database: Path,
    gapped: Path,
    reads: Callable[..., dg.AssetsDefinition],
    days: Days,
    table: Table,
    partition: date | tuple[date, date] | None,
) -> None:
    shutil.copy(gapped, database)
    upstream, downstream = delivering(FACTS, facts_of), reads(days, table=table)
    before = everything(database)
    result = run(database, upstream, downstream, only=downstream, days=partition)
    message = errors(result)["MissingPartitionsError"]
    assert "silver.silver_facts has no partitions for 2025-01-04 to 2025-01-05 (2 days)" in message
    assert "monstera run --from 2025-01-04 --to 2025-01-05" in message
    assert everything(database) == before


def test_days_without_rows_are_not_missing_days(
    database: Path, reads: Callable[..., dg.AssetsDefinition], deliver: Deliver
) -> None:
    upstream, downstream = delivering(FACTS, facts_of), reads(UP_TO_DAY)
    empty = delivering(FACTS, lambda _: deliver(FACTS, []))
    assert errors(run(database, upstream, days=day(1))) == {}
    assert errors(run(database, empty, days=(day(2), day(4)))) == {}
    assert errors(run(database, upstream, downstream, only=downstream, days=day(4))) == {}
    assert _read_days(database) == [day(1)]


def test_input_that_was_never_written(
    database: Path, reads: Callable[..., dg.AssetsDefinition]
) -> None:
    upstream = delivering(FACTS, facts_of)
    for days, table, partition in ((UP_TO_DAY, SEEN, day(2)), (LATEST_DAY, SEEN_NOW, None)):
        downstream = reads(days, table=table)
        result = run(database, upstream, downstream, only=downstream, days=partition)
        [message] = [text for name, text in errors(result).items() if name.startswith("Missing")]
        assert "silver.silver_facts" in message
        assert "monstera run" in message


def test_unpartitioned_input_that_was_never_written(database: Path) -> None:
    def copy(silver_names: ir.Table) -> ir.Table:
        return silver_names.select(read_date=ibis.literal(day(1)))

    upstream = delivering(NAMES, lambda _: frame(NAMES, []))
    downstream = build(TableAsset(SEEN_NOW, copy))
    message = errors(run(database, upstream, downstream, only=downstream))["MissingTableError"]
    assert "silver.silver_names is required but was never materialized" in message


# ---------------------------------------------------------------- trend flags


def _write_trend(database: Path, first: date, last: date, *, empty: bool = False) -> None:
    def trend(window: DateWindow) -> ir.Table:
        days = calendar(window.first, window.last, "metric_date")
        return days.mutate(metric=ibis.literal(1, "int64")).filter(ibis.literal(not empty))

    assert errors(run(database, delivering(TREND, trend), days=(first, last))) == {}


def _assert_trend(database: Path, latest: date) -> None:
    for metric_date, _, is_current_day, is_last_90_days in rows(database, TREND):
        assert is_current_day is (metric_date == latest), metric_date
        assert is_last_90_days is ((latest - metric_date).days <= 89), metric_date


def test_trend_flags_are_right_after_writing_in_any_order(database: Path) -> None:
    latest = day(1)
    for first, last in (
        (40, 50),
        (101, 110),
        (1, 20),
        (111, 111),
        (102, 103),
        (25, 25),
        (140, 140),
    ):
        latest = max(latest, day(last))
        _write_trend(database, day(first), day(last))
        _assert_trend(database, latest)


def test_trend_flags_are_right_when_the_latest_day_becomes_empty(database: Path) -> None:
    _write_trend(database, day(1), day(95))
    _write_trend(database, day(95), day(95), empty=True)
    _assert_trend(database, day(94))


# ---------------------------------------------------------------- batches

_BATCHED = (FACTS, NAMES, TREND)


def _batch(fault: str | None = None, amount: int = 1) -> TableBatch:
    def names(connection: duckdb.DuckDBPyConnection) -> ir.Table:
        [(count,)] = connection.execute(f"SELECT count(*) FROM {FACTS.qualified_name}").fetchall()
        return expression(types_of(NAMES), [{"name_id": f"{count} facts", "label": f"{amount}"}])

    def trend(_: duckdb.DuckDBPyConnection) -> ir.Table:
        if fault == "raises":
            raise RuntimeError("the third table")
        return expression(
            types_of(TREND) | ({"metric": "string"} if fault == "mistyped" else {}),
            [
                {
                    "metric_date": day(9) if fault == "outside" else day(2),
                    "metric": "x" if fault == "mistyped" else amount,
                }
            ],
        )

    return TableBatch(
        {
            FACTS: lambda _: expression(types_of(FACTS), facts(day(2), amount=amount)),
            NAMES: names,
            TREND: trend,
        }
    )


def test_tables_of_a_batch_are_written_together(database: Path) -> None:
    assert errors(run(database, delivering(FACTS, lambda _: _batch()), days=day(2))) == {}
    stored = everything(database)
    assert stored["silver.silver_names"] == [("1 facts", "1")]
    assert stored["gold.gold_trend"] == [(day(2), 1, True, True)]
    assert [row[:3] for row in stored["operations.materializations"]] == [
        ("gold", "gold_trend", day(2)),
        ("silver", "silver_facts", day(2)),
        ("silver", "silver_names", None),
    ]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("raises", "RuntimeError"),
        ("mistyped", "SchemaMismatchError"),
        ("outside", "WarehouseError"),
    ],
)
def test_batch_that_fails_in_its_third_table_changes_none(
    database: Path, fault: str, error: str
) -> None:
    assert errors(run(database, delivering(FACTS, lambda _: _batch()), days=day(2))) == {}
    before = everything(database)
    result = run(database, delivering(FACTS, lambda _: _batch(fault, amount=5)), days=day(2))
    assert error in errors(result)
    assert everything(database) == before


def test_batch_that_fails_when_nothing_is_stored_leaves_nothing(database: Path) -> None:
    assert not run(database, delivering(FACTS, lambda _: _batch("outside")), days=day(2)).success
    assert everything(database) == {}


def test_batch_cannot_be_empty() -> None:
    with pytest.raises(ValueError, match="A batch needs at least one table"):
        TableBatch({})


# ---------------------------------------------------------------- the file

_HOLD = """
import sys
import duckdb
connection = duckdb.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_write_waits_for_a_lock_and_then_fails(database: Path) -> None:
    asset = delivering(FACTS, facts_of)
    assert errors(run(database, asset, days=day(1))) == {}
    before = everything(database)
    with process(_HOLD, database):
        result = run(database, asset, days=day(1), lock_timeout_seconds=0.3)
        message = errors(result)["WarehouseLockedError"]
    assert f"{database} was locked by another process for 0.3 s" in message
    assert "close the program that has the file open" in message
    assert everything(database) == before


def test_write_continues_when_the_lock_is_released(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    with process(_HOLD, database) as holder:

        def let_go(seconds: float) -> None:
            waits.append(seconds)
            holder.communicate(input="")

        monkeypatch.setattr(
            connections, "time", SimpleNamespace(sleep=let_go, monotonic=time.monotonic)
        )
        assert errors(run(database, delivering(FACTS, facts_of), days=day(1))) == {}
    assert len(waits) == 1
    assert len(rows(database, FACTS)) == 1


def test_error_in_a_folder_called_lock_is_not_reported_as_a_lock(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    with (
        pytest.raises(WarehouseError, match="Cannot open ") as caught,
        connect(str(folder), connection_config()),
    ):
        pass
    assert not isinstance(caught.value, WarehouseLockedError)


def _corrupt(path: Path) -> Path:
    path.write_bytes(b"no database at all " * 1000)
    return path


def _damaged_header(path: Path) -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT range FROM range(100000)")
    content = bytearray(path.read_bytes())
    content[4096:12288] = bytes(8192)
    path.write_bytes(content)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _below_a_file(path: Path) -> Path:
    path.write_text("a file")
    return path / "below.duckdb"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (_corrupt, "not a valid DuckDB database file"),
        (_damaged_header, "Cannot open "),
        (_folder, "Is a directory"),
        (_below_a_file, "Cannot create the database folder "),
    ],
)
def test_file_that_cannot_be_opened(
    database: Path, make: Callable[[Path], Path], complaint: str
) -> None:
    place = make(database)
    message = errors(run(place, delivering(FACTS, facts_of), days=day(1)))["WarehouseError"]
    assert str(place.parent if make is _below_a_file else place) in message
    assert complaint in message


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """Yield a folder whose permissions apply, because the process drops its privileges."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_read_only_folder_and_file(unprivileged_folder: Path) -> None:
    database = unprivileged_folder / "warehouse.duckdb"
    unprivileged_folder.chmod(0o500)
    with (
        pytest.raises(WarehouseError, match=r"Cannot open .*warehouse.duckdb: .*permissions"),
        connect(str(database), connection_config()),
    ):
        pass
    with (
        pytest.raises(WarehouseError, match=r"Cannot create the database folder .*below: "),
        connect(str(unprivileged_folder / "below" / "warehouse.duckdb"), connection_config()),
    ):
        pass
    unprivileged_folder.chmod(0o700)
    with connect(str(database), connection_config()) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    database.chmod(0o400)
    with (
        pytest.raises(WarehouseError, match=r"Cannot open .*warehouse.duckdb: .*permissions"),
        connect(str(database), connection_config()),
    ):
        pass
    with connect(str(database), connection_config(), read_only=True) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["silver.duckdb", "Gold.v2.db", "operations"])
def test_database_named_like_one_of_its_schemas(tmp_path: Path, name: str) -> None:
    result = run(tmp_path / name, delivering(FACTS, facts_of), days=day(1))
    assert "cannot have the same name as one of its schemas" in errors(result)["WarehouseError"]
    assert not (tmp_path / name).exists()


# ---------------------------------------------------------------- full disk


def _large(window: DateWindow) -> ir.Table:
    numbers = ibis.range(0, 500_000).unnest().name("number").as_table()
    text = numbers.number.cast("string").hash().cast("string").lpad(60, "x")
    ranked = numbers.select(note=text, number=numbers.number).distinct()
    return ranked.select(
        fact_id=ranked.note,
        fact_date=window.first,
        left_amount=ranked.number,
        right_amount=ibis.row_number().over(ibis.window(order_by=ranked.note)).cast("int64"),
        note=ranked.note,
        seen_at=ibis.null("timestamp"),
    )


def test_too_little_memory_is_reported_and_changes_nothing(database: Path) -> None:
    assert errors(run(database, delivering(FACTS, facts_of), days=(day(1), day(2)))) == {}
    before = everything(database)
    tight = {"memory_limit": "20MB", "max_temp_directory_size": "1MB"}
    result = run(database, delivering(FACTS, _large), days=day(2), config=tight)
    message = errors(result)["WarehouseError"]
    assert "The interrupted write was rolled back. Increase memory_limit" in message
    assert everything(database) == before


_FULL_DISK = """
import resource, sys
from pathlib import Path
from monstera_assets_tests.integration.example_assets import *
from monstera_assets_tests.integration.test_io_manager import _large

database = Path(sys.argv[1])
room = database.stat().st_size + 500_000
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
result = run(database, delivering(FACTS, _large), days=day(2))
print(errors(result).get("WarehouseError"))
"""


def test_full_disk_is_reported_and_changes_nothing(database: Path) -> None:
    assert errors(run(database, delivering(FACTS, facts_of), days=(day(1), day(2)))) == {}
    before = everything(database)
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FULL_DISK, str(database)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    assert f"{database}: " in said
    assert "The interrupted write was rolled back. Check that the disk has free space" in said
    assert everything(database) == before
    assert errors(run(database, delivering(FACTS, facts_of), days=(day(2), day(3)))) == {}
    assert len(rows(database, FACTS)) == 3


# ---------------------------------------------------------------- declarations


def test_an_undeclared_table_is_refused() -> None:
    with pytest.raises(SchemaMismatchError, match=r"silver\.silver_nowhere is not declared"):
        declaration(dg.AssetKey(["silver", "silver_nowhere"]))


def test_trend_flags_are_not_delivered_by_an_asset() -> None:
    assert [column.name for column in TREND.data_columns] == ["metric_date", "metric"]
    assert TREND.trend_flags == {"is_current_day": 0, "is_last_90_days": 89}


@pytest.mark.parametrize(
    ("columns", "partition_column", "complaint"),
    [
        ((Column("d", "timestamp", "."),), "d", "must be a non-nullable date"),
        ((Column("d", "date", ".", nullable=True),), "d", "must be a non-nullable date"),
        ((Column("d", "date", "."), *TREND.columns[2:]), None, "needs a partition column"),
        ((Column("d", "date", "."),), "e", "are not declared"),
        ((Column("d", "date", "."), Column("d", "date", ".")), None, "declares a column twice"),
    ],
)
def test_faulty_declarations_are_refused(
    columns: tuple[Column, ...], partition_column: str | None, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Table(
            layer=Layer.GOLD,
            name="gold_faulty",
            grain="-",
            description="-",
            owners=("team:tests",),
            group=AssetGroup.LIFECYCLE,
            key=("d",),
            columns=columns,
            partition_column=partition_column,
        )
