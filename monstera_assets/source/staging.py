"""A private place in the same DuckDB instance, where a statement may fail without harm.

A failed statement aborts the transaction it is part of. The connection of the caller may be inside
of one, so whatever can fail on a bad file runs on a connection of its own, and into a database of
its own that the caller's connection can then copy from.
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
    """A connection, an in-memory database and a folder for files, all of them temporary."""

    connection: duckdb.DuckDBPyConnection
    folder: Path
    database: str
    _tables: list[str] = field(default_factory=list)

    def create_table(self, query: str) -> str:
        """Materialise a query in the private database and return the table's qualified name."""
        table = f"{self.database}.t{len(self._tables)}"
        self.connection.execute(f"CREATE TABLE {table} AS {query}")
        self._tables.append(table)
        return table

    def drop_table(self, table: str) -> None:
        """Drop a table that `create_table` has made."""
        self.connection.execute(f"DROP TABLE {table}")

    def new_path(self, name: str) -> Path:
        """Return the path of a file that does not exist yet."""
        return self.folder / f"{uuid4().hex}-{name}"


@contextmanager
def staging_area(connection: duckdb.DuckDBPyConnection) -> Iterator[Staging]:
    """Open a staging area beside ``connection``, and remove it at the end."""
    database = identifier(f"source_{uuid4().hex}")
    with connection.cursor() as cursor, tempfile.TemporaryDirectory(prefix="monstera-") as folder:
        # Spelled out, because a read-only connection would attach it read-only.
        cursor.execute(f"ATTACH ':memory:' AS {database} (READ_WRITE)")
        try:
            yield Staging(cursor, Path(folder), database)
        finally:
            cursor.execute(f"DETACH {database}")
