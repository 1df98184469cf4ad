"""A warehouse in memory, for running the pure functions without Dagster.

Tables are created from their declarations, so that unbound Ibis relations find them. Columns that a
test does not set have an allowed value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pandas as pd

from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.tables import Table

_INDIFFERENT = {
    "VARCHAR": "-",
    "BOOLEAN": False,
    "BIGINT": 0,
    "DOUBLE": 0,
    "DECIMAL(18,2)": 0,
    "TIMESTAMP": "2000-01-01 00:00:00",
    "DATE": "2000-01-01",
}
"""Default value of non-null columns by DuckDB type."""

_LOCAL_DATES = {
    "signup_date": ("user_created_at",),
    "created_date": ("account_created_at", "created_at"),
    "first_paid_date": ("first_paid_at",),
}
"""The timestamps of which these columns are the local dates."""

Row = tuple[Any, ...]


def _default_value(column_type: str) -> object:
    return "[]" if column_type.endswith("[]") else _INDIFFERENT[column_type.replace(" ", "")]


def _dates(table: Table, row: Mapping[str, object]) -> dict[str, object]:
    return {
        column.name: row[moment] and str(row[moment])[:10]
        for column in table.columns
        for moment in _LOCAL_DATES.get(column.name, ())
        if moment in row
    }


class MemoryWarehouse:
    """Declared tables in an in-memory DuckDB."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.connection = duckdb.connect(config={**connection_config(threads=1)})
        self._stored = {table.name: table for table in tables}
        for table in self._stored.values():
            DuckDBEngine(self.connection).prepare(table)

    def load(self, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
        """Replace the rows of a table; columns missing from a row get a default value.

        Missing local dates are the UTC dates of their timestamps.
        """
        stored = self._stored[table.name]
        rows = [{**_dates(stored, row), **row} for row in rows]
        indifferent = {
            column.name: None if column.nullable else _default_value(column.stored_type)
            for column in stored.columns
        }
        frame = pd.DataFrame(
            [
                {
                    name: None if (value := row.get(name, other)) is None else str(value)
                    for name, other in indifferent.items()
                }
                for row in rows
            ],
            columns=list(indifferent),
            dtype="string",
        )
        DuckDBEngine(self.connection).delete(stored, None)
        if not frame.empty:
            self.connection.register("given_rows", frame)
            self.connection.execute(
                f"INSERT INTO {stored.qualified_name} BY NAME SELECT * FROM given_rows"
            )
            self.connection.unregister("given_rows")

    def store(self, table: Table, select: str) -> None:
        """Replace a table by the rows of a query, with its declared nulls and types."""
        stored = self._stored[table.name]
        DuckDBEngine(self.connection).delete(stored, None)
        self.connection.execute(f"INSERT INTO {stored.qualified_name} BY NAME {select}")

    def rows(self, select: str) -> list[Row]:
        return self.connection.execute(f"SELECT * FROM ({select}) ORDER BY ALL").fetchall()

    def stored(self, table: Table) -> list[Row]:
        """Return the rows of a table, in the order of its declared columns, sorted."""
        return self.rows(f"FROM {self._stored[table.name].qualified_name}")
