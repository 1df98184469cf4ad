"""Test table previews. The expected bars and shares were computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import ibis
import pytest

from monstera_assets.warehouse.compiler import compile_query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.previews import Preview, bar, distribution

USERS = ibis.table({"name": "string", "state": "string"}, name="users")


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("CREATE TABLE users (name VARCHAR, state VARCHAR)")
    return made


def rendered(connection: duckdb.DuckDBPyConnection, preview: Preview) -> str:
    query = compile_query(preview.selected(USERS))
    return preview.render(DuckDBEngine(connection).records(query))


def fill(connection: duckdb.DuckDBPyConnection, states: Sequence[str]) -> None:
    connection.executemany(
        "INSERT INTO users VALUES (?, ?)", [[f"u{n}", state] for n, state in enumerate(states)]
    )


def test_a_distribution_has_the_most_frequent_first(connection: duckdb.DuckDBPyConnection) -> None:
    fill(connection, ["dormant", *["active"] * 3])
    preview = distribution("users", "state")
    assert preview.title == "Users by state"
    assert rendered(connection, preview).splitlines() == [
        "| state | users | share |  |",
        "| --- | --- | --- | --- |",
        f"| active | 3 | 75.0% | {'█' * 24} |",
        f"| dormant | 1 | 25.0% | {'█' * 8} |",
    ]


def test_the_preview_of_an_empty_table(connection: duckdb.DuckDBPyConnection) -> None:
    assert rendered(connection, distribution("users", "state")) == "No rows yet."


def test_markup_in_data_is_escaped(connection: duckdb.DuckDBPyConnection) -> None:
    fill(connection, ["<script>alert(1)</script>|*b*"])
    drawn = rendered(connection, distribution("users", "state"))
    assert "&lt;script>alert(1)&lt;/script>\\|\\*b\\*" in drawn


def test_a_note_states_that_rows_are_omitted(connection: duckdb.DuckDBPyConnection) -> None:
    fill(connection, ["active"] * 61)
    drawn = rendered(connection, Preview("All", lambda users: users.order_by("name")))
    assert drawn.count("| active |") == 60
    assert drawn.endswith("Only the first 60 rows are shown.")


@pytest.mark.parametrize(
    ("value", "most", "drawn"),
    [
        (0, 0, ""),
        (0, 10, ""),
        (10, 10, "█" * 24),
        (5, 10, "█" * 12),
        (1, 192, "▏"),  # 192 eighths are 24 characters
        (15, 192, "█▉"),
        (0.4, 192, ""),
    ],
)
def test_bar_length_is_proportional_to_the_highest_value(
    value: float, most: float, drawn: str
) -> None:
    assert bar(value, most) == drawn
