"""Rewrite the warehouse file to remove deleted rows from its free pages.

DuckDB marks blocks of deleted rows as free, but leaves their contents in the file until it reuses
them. Erased and expired rows must not remain in the file.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.files import attached, copy_database, replacing_file
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA

_REQUESTS = f"{OPERATIONS_SCHEMA}.file_rewrites"
_SUFFIX = ".rewriting"


def request_compaction(connection: duckdb.DuckDBPyConnection) -> None:
    """Record, in the caller's transaction, that the file must be rewritten."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_REQUESTS} (requested_at TIMESTAMP NOT NULL)")
    connection.execute(f"INSERT INTO {_REQUESTS} SELECT now()::TIMESTAMP")


def compact_file(database: Path, lock_timeout_seconds: float) -> bool:
    """Rewrite the file if a request is pending and return whether it was rewritten.

    Once the new file is complete, it atomically replaces the old file. If the process is killed
    before the replacement, the old file stays in use, and the next call starts over.

    Raises:
        WarehouseError: If the database remains locked, or the disk does not have enough space for a
            second copy. The old file stays in use.
    """
    path = database.absolute()
    try:
        with connect(
            str(database),
            {},
            lock_timeout_seconds=lock_timeout_seconds,
            # The lock keeps writers out, and closing a read-only connection does not modify the new
            # file.
            read_only=True,
            any_layout=True,
        ) as connection:
            if not is_requested(connection):
                return False
            with replacing_file(path, _SUFFIX) as incoming:
                with attached(connection, incoming, "rewritten"):
                    copy_database(connection, "rewritten")
                    connection.execute(f"DELETE FROM rewritten.{_REQUESTS}")
                incoming.chmod(path.stat().st_mode & 0o777)
    except (OSError, duckdb.Error, WarehouseError) as error:
        raise WarehouseError(
            f"The rows were deleted from the tables, but {database} could not be rewritten. The file's"
            f" free pages may still contain the deleted rows: {error} Free up disk space for a copy of"
            " the file, then run the same command again."
        ) from error
    return True


def is_requested(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a file rewrite is pending."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name || '.' || table_name = ?",
        [_REQUESTS],
    ).fetchall()
    return bool(found[0][0]) and bool(
        connection.execute(f"SELECT 1 FROM {_REQUESTS} LIMIT 1").fetchall()
    )
