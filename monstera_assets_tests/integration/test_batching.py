"""Batches of days or keys give the same result as one computation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pytest

from monstera_assets.definitions import table_assets
from monstera_assets.lifecycle.expressions import by_key
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse import duckdb_engine
from monstera_assets.warehouse.compiler import Query, compile_query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.engine import DateBatches
from monstera_assets.warehouse.table_asset import (
    ALL_DAYS,
    SAME_DAYS,
    UP_TO_DAY,
    Days,
    last_days,
    table_asset,
)
from monstera_assets.warehouse.windows import DateWindow, split_window
from monstera_assets_tests.integration.example_assets import FACTS, errors
from monstera_assets_tests.integration.example_runs import Graph, assert_same

COMPANY = Company(users=150, days=60)
BATCHED = [asset for asset in table_assets() if asset.batch_by_date]
JANUARY = DateWindow(date(2025, 1, 1), date(2025, 1, 31))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A run without batches."""
    folder = tmp_path_factory.mktemp("batches")
    source = generate(COMPANY, folder / "source").folder
    graph = Graph(source, folder / "w.duckdb", folder / "home", COMPANY.first)
    return graph.compute([asset.table.name for asset in BATCHED], COMPANY.end)


def test_batches_of_days_equal_one_range(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [asset.table.name for asset in BATCHED]
    at_once = graph.contents_of(names)
    assert all(at_once.values())
    taken: list[Sequence[DateWindow]] = []
    windows_of = DuckDBEngine.date_batches

    def seen(
        engine: DuckDBEngine, batches: DateBatches, window: DateWindow
    ) -> Sequence[DateWindow]:
        taken.append(windows_of(engine, batches, window))
        return taken[-1]

    monkeypatch.setattr(DuckDBEngine, "date_batches", seen)
    monkeypatch.setattr(duckdb_engine, "ROWS_PER_DATE_BATCH", 700)
    with graph.instance:
        result = graph.run(DateWindow(COMPANY.first, COMPANY.end), only=names)
    assert errors(result) == {}
    assert len(taken) == len(names) > 1
    assert all(len(windows) > 5 for windows in taken)
    assert_same(graph.contents_of(names), at_once)


def test_the_rows_determine_the_number_of_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA silver")
    connection.execute(
        "CREATE TABLE silver.silver_facts AS SELECT i AS fact_id,"
        " DATE '2024-12-31' + (i % 40)::INTEGER AS fact_date FROM range(4000) AS r(i)"
    )
    batches = DateBatches([FACTS, FACTS], lambda _: {})
    # 40 days with 100 rows each, 31 of them in January, read from two inputs
    for rows, expected in ((6200, 1), (6199, 2), (1000, 7), (1, 31)):
        monkeypatch.setattr(duckdb_engine, "ROWS_PER_DATE_BATCH", rows)
        windows = DuckDBEngine(connection).date_batches(batches, JANUARY)
        assert len(windows) == expected
        assert [day for window in windows for day in window] == list(JANUARY)


@pytest.mark.parametrize(
    ("parts", "lengths"),
    [(1, [31]), (2, [15, 16]), (4, [7, 8, 8, 8]), (31, [1] * 31), (99, [1] * 31)],
)
def test_parts_of_a_window_have_similar_lengths(parts: int, lengths: list[int]) -> None:
    windows = split_window(JANUARY, parts)
    assert sorted(len(window) for window in windows) == lengths
    assert [day for window in windows for day in window] == list(JANUARY)


@pytest.mark.parametrize(
    "days",
    [
        {},
        {"silver_facts": UP_TO_DAY},
        {"silver_facts": SAME_DAYS, "silver_names": last_days(2)},
        {"silver_facts": SAME_DAYS, "silver_names": ALL_DAYS},
    ],
)
def test_only_independent_days_can_be_batched(days: dict[str, Days]) -> None:
    def function(silver_facts: ir.Table, silver_names: ir.Table) -> ir.Table:
        return silver_facts.semi_join(silver_names, silver_facts.note == silver_names.label)

    with pytest.raises(ValueError, match="silver_facts: `batch_by_date` requires a query"):
        table_asset(FACTS, days, batch_by_date=True)(function)


# ---------------------------------------------------------------- keys


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    """A database with 1,000 facts of 100 users, 50 of them with names."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE facts AS SELECT 'u' || i % 100 AS user_id, i AS day FROM range(1000) AS r(i)"
    )
    connection.execute(
        "CREATE TABLE names AS SELECT 'u' || i AS user_id, 'n' || i AS name FROM range(50) AS r(i)"
    )
    return connection


def latest_days_of_named() -> Query:
    """Return the latest day of each user with a name, and whether the user has other days."""
    facts = by_key(ibis.table({"user_id": "string", "day": "int64"}, name="facts"), "user_id")
    names = by_key(ibis.table({"user_id": "string", "name": "string"}, name="names"), "user_id")
    days = facts.group_by("user_id").aggregate(latest=facts.day.max())
    return compile_query(
        days.inner_join(names, "user_id").inner_join(facts.select("user_id").distinct(), "user_id")
    )


@pytest.mark.parametrize("rows", [1, 7, 100, 10_000])
def test_batches_of_keys_equal_the_whole(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(duckdb_engine, "ROWS_PER_KEY_BATCH", rows)
    query = latest_days_of_named()
    with DuckDBEngine(connection).key_batches(query) as batches:
        found = [connection.execute(batch).fetchall() for batch in batches]
    # There are 1,000 facts and 50 names. Day i has user i mod 100, so user i's latest day is 900 + i.
    assert len(found) == -(-1050 // rows)
    assert sorted(row for batch in found for row in batch) == sorted(
        (f"u{i}", 900 + i, f"n{i}") for i in range(50)
    )
    assert sorted(connection.execute(query.select).fetchall()) == sorted(
        row for batch in found for row in batch
    )


def test_no_temporary_table_remains(connection: duckdb.DuckDBPyConnection) -> None:
    with DuckDBEngine(connection).key_batches(latest_days_of_named()) as batches:
        for batch in batches:
            connection.execute(batch)
    left = connection.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    assert left == []


def test_no_facts_are_one_batch(tmp_path: Path) -> None:
    connection = duckdb.connect(str(tmp_path / "empty.duckdb"))
    connection.execute("CREATE TABLE facts (user_id VARCHAR, day BIGINT)")
    connection.execute("CREATE TABLE names (user_id VARCHAR, name VARCHAR)")
    with DuckDBEngine(connection).key_batches(latest_days_of_named()) as batches:
        assert [connection.execute(batch).fetchall() for batch in batches] == [[]]
