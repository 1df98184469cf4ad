"""A private staging area in the same DuckDB instance, where statements may fail safely.

A failed statement aborts its transaction, and the caller's connection may be inside one. Statements
that can fail on a bad file therefore use a separate connection and write to a separate database,
from which the caller's connection can copy.
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
    """A temporary connection, in-memory database and folder."""

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
        """Drop a table made by `create_table`."""
        self.connection.execute(f"DROP TABLE {table}")

    def new_path(self, name: str) -> Path:
        """Return the path of a file that does not exist yet."""
        return self.folder / f"{uuid4().hex}-{name}"


@contextmanager
def staging_area(connection: duckdb.DuckDBPyConnection) -> Iterator[Staging]:
    """Open a staging area next to ``connection`` and remove it on exit."""
    database = identifier(f"source_{uuid4().hex}")
    with connection.cursor() as cursor, tempfile.TemporaryDirectory(prefix="monstera-") as folder:
        # READ_WRITE is needed, because a read-only connection attaches read-only by default.
        cursor.execute(f"ATTACH ':memory:' AS {database} (READ_WRITE)")
        # Rows must stay in the order of the files.
        cursor.execute("SET SESSION preserve_insertion_order = true")
        try:
            yield Staging(cursor, Path(folder), database)
        finally:
            cursor.execute(f"DETACH {database}")
