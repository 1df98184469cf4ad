"""Computing in shares of the keys gives what computing at once gives."""

from __future__ import annotations

from pathlib import Path

import duckdb
import ibis
import pytest
from monstera_assets.lifecycle.expressions import by_key

from monstera_assets.warehouse import shares
from monstera_assets.warehouse.compiler import compile_duckdb

FACTS = ibis.table({"user_id": "string", "day": "int64"}, name="facts")
NAMES = ibis.table({"user_id": "string", "name": "string"}, name="names")


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    """A database with 1,000 facts of 100 users, of whom 50 have names."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE facts AS SELECT 'u' || i % 100 AS user_id, i AS day FROM range(1000) AS r(i)"
    )
    connection.execute(
        "CREATE TABLE names AS SELECT 'u' || i AS user_id, 'n' || i AS name FROM range(50) AS r(i)"
    )
    return connection


def latest_days_of_named() -> ibis.Table:
    """By user with a name: the latest day, and whether there are days besides."""
    facts, names = by_key(FACTS, "user_id"), by_key(NAMES, "user_id")
    days = facts.group_by("user_id").aggregate(latest=facts.day.max())
    return days.inner_join(names, "user_id").inner_join(
        facts.select("user_id").distinct(), "user_id"
    )


@pytest.mark.parametrize("rows_of_a_share", [1, 7, 100, 10_000])
def test_shares_together_are_the_whole(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, rows_of_a_share: int
) -> None:
    monkeypatch.setattr(shares, "ROWS_OF_A_SHARE", rows_of_a_share)
    expression = latest_days_of_named()
    with shares.in_shares(connection, expression) as queries:
        found = [connection.execute(query).fetchall() for query in queries]
    # 1,000 facts and 50 names; day i is of user i mod 100, so the latest of user i is 900 + i.
    assert len(found) == -(-1050 // rows_of_a_share)
    assert sorted(row for share in found for row in share) == sorted(
        (f"u{i}", 900 + i, f"n{i}") for i in range(50)
    )
    assert sorted(connection.execute(compile_duckdb(expression)).fetchall()) == sorted(
        row for share in found for row in share
    )


def test_nothing_is_left_behind(connection: duckdb.DuckDBPyConnection) -> None:
    with shares.in_shares(connection, latest_days_of_named()) as queries:
        for query in queries:
            connection.execute(query)
    left = connection.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    assert left == []


def test_no_facts_are_one_share(tmp_path: Path) -> None:
    connection = duckdb.connect(str(tmp_path / "empty.duckdb"))
    connection.execute("CREATE TABLE facts (user_id VARCHAR, day BIGINT)")
    connection.execute("CREATE TABLE names (user_id VARCHAR, name VARCHAR)")
    with shares.in_shares(connection, latest_days_of_named()) as queries:
        assert [connection.execute(query).fetchall() for query in queries] == [[]]
