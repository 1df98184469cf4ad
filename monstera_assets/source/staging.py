"""Create a private staging area in the same DuckDB instance, where statements can fail safely.

A failed statement aborts its transaction, and the caller's connection may have an open transaction.
Statements that can fail because of a bad file therefore use a separate connection and write to a
separate database, from which the caller's connection can copy rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import duckdb

from monstera_assets.source.sql import identifier


@dataclass
class Staging:
    """A temporary connection, a temporary in-memory database and a temporary folder."""

    connection: duckdb.DuckDBPyConnection
    folder: Path
    database: str
    _tables: list[str] = field(default_factory=list)

    def create_table(self, query: str) -> str:
        """Materialize a query in the private database and return the table's qualified name."""
        table = f"{self.database}.t{len(self._tables)}"
        self.connection.execute(f"CREATE TABLE {table} AS {query}")
        self._tables.append(table)
        return table

    def drop_table(self, table: str) -> None:
        """Drop a table that `create_table` created."""
        self.connection.execute(f"DROP TABLE {table}")

    def new_path(self, name: str) -> Path:
        """Return the path of a file that does not exist yet."""
        return self.folder / f"{uuid4().hex}-{name}"


@contextmanager
def staging_area(connection: duckdb.DuckDBPyConnection) -> Iterator[Staging]:
    """Create a staging area for ``connection``, and remove the staging area on exit."""
    database = identifier(f"source_{uuid4().hex}")
    with connection.cursor() as cursor, tempfile.TemporaryDirectory(prefix="monstera-") as folder:
        # READ_WRITE is required, because read-only connections attach databases read-only by default.
        cursor.execute(f"ATTACH ':memory:' AS {database} (READ_WRITE)")
        # Rows must stay in file order.
        cursor.execute("SET SESSION preserve_insertion_order = true")
        try:
            yield Staging(cursor, Path(folder), database)
        finally:
            cursor.execute(f"DETACH {database}")
