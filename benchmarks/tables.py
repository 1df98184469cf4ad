"""What tells whether two warehouses hold the same rows."""

from __future__ import annotations

import hashlib

import duckdb

from monstera_assets.definitions import tables
from monstera_assets.warehouse.writer import quote


def digest(connection: duckdb.DuckDBPyConnection) -> str:
    """A digest of all declared tables: of the number of their rows and the sum of their hashes.

    The same rows give the same digest in any order, with one version of DuckDB.
    """
    told = hashlib.sha256()
    for table in tables():
        columns = ", ".join(quote(column.name) for column in table.columns)
        row = connection.execute(
            f"SELECT count(*), sum(hash({columns})) FROM {table.qualified_name}"  # noqa: S608
        ).fetchall()
        told.update(f"{table.name}: {row}\n".encode())
    return told.hexdigest()[:16]
