"""A new file for the warehouse, so that what was deleted is gone from its free pages too.

DuckDB marks the blocks of deleted rows as free and leaves their bytes until something else is written
there. Where rows were deleted because they must not be kept, the file is written anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA
from monstera_assets.warehouse.writer import quote

_REQUESTS = f"{OPERATIONS_SCHEMA}.file_rewrites"
_SUFFIX = ".rewriting"


def request_compaction(connection: duckdb.DuckDBPyConnection) -> None:
    """Note, in the caller's transaction, that the file holds what it must not hold for long."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_REQUESTS} (requested_at TIMESTAMP NOT NULL)")
    connection.execute(f"INSERT INTO {_REQUESTS} SELECT now()::TIMESTAMP")


def compact_file(database: Path, lock_timeout_seconds: float) -> bool:
    """Write the file anew, if that was asked for and not done yet; whether it was.

    The new file takes the place of the old one in one step, when it is complete and on disk. Killed
    before that, the old one stays, and the next call begins again.

    Raises:
        WarehouseLockedError: the database stayed locked.
        WarehouseError: the disk has no room for a second file; the old one is in use as before.
    """
    path = database.absolute()
    incoming = path.with_name(path.name + _SUFFIX)
    try:
        with connect(
            str(database),
            {},
            lock_timeout_seconds=lock_timeout_seconds,
            # So nobody can write meanwhile, and closing the old file touches nothing of the new one.
            read_only=True,
        ) as connection:
            if not is_requested(connection):
                return False
            _remove(incoming)
            [(name,)] = connection.execute("SELECT current_database()").fetchall()
            target = str(incoming).replace("'", "''")
            connection.execute(f"ATTACH '{target}' AS rewritten (READ_WRITE)")
            connection.execute(f"COPY FROM DATABASE {quote(name)} TO rewritten")
            connection.execute(f"DELETE FROM rewritten.{_REQUESTS}")
            connection.execute("CHECKPOINT rewritten")
            connection.execute("DETACH rewritten")
            incoming.chmod(path.stat().st_mode & 0o777)
            synchronize(incoming)
            incoming.replace(path)
            synchronize(path.parent)
    except (OSError, duckdb.Error, WarehouseError) as error:
        _remove(incoming)
        raise WarehouseError(
            f"the rows are gone from the tables, but {database} could not be written anew, so its"
            f" free pages may still hold them: {error} Make room for a second file of its size, then"
            " give the same command again."
        ) from error
    return True


def is_requested(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file is still to be written anew."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name || '.' || table_name = ?",
        [_REQUESTS],
    ).fetchall()
    return bool(found[0][0]) and bool(
        connection.execute(f"SELECT 1 FROM {_REQUESTS} LIMIT 1").fetchall()
    )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".wal").unlink(missing_ok=True)


def synchronize(path: Path) -> None:
    """Have a file, or the names in a folder, on disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
