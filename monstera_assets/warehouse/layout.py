"""The version of the warehouse file's layout, and the steps that bring an older file up to date.

The layout is the names of stored tables and columns and their types. A change that makes the tables of
an older file unreadable adds a step to `STEPS`. A new table needs none: the next run creates it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA

Step = Callable[[duckdb.DuckDBPyConnection], None]

_VERSION = f"{OPERATIONS_SCHEMA}.layout"
_FIRST_VERSION = 1
"""Of files that were written before the version was recorded."""


def _record_the_version(_connection: duckdb.DuckDBPyConnection) -> None:
    """From 1 to 2: the version is recorded; the tables stay as they are."""


STEPS: Sequence[Step] = (_record_the_version,)
"""The first step makes version 2 of version 1, and so on. Each runs in the caller's transaction."""


def bring_up_to_date(
    connection: duckdb.DuckDBPyConnection,
    database: str,
    *,
    read_only: bool,
    steps: Sequence[Step] | None = None,
) -> None:
    """Apply the steps that the file lacks and record its version, in one transaction.

    A file that can be written to has the tables of the schema `operations` afterwards.

    Args:
        connection: after an error it must be closed, which rolls the transaction back.
        database: the path of the file, for messages.
        read_only: whether the connection is: then nothing is applied.
        steps: by default `STEPS`.

    Raises:
        WarehouseError: the file has a newer version than the steps lead to, it has an older one and
            the connection is read-only, or a step failed and the file is as it was before.
    """
    steps = STEPS if steps is None else steps
    current = _FIRST_VERSION + len(steps)
    version = stored_version(connection)
    if version is None and read_only:
        return
    if version == current:
        if not read_only:
            create_bookkeeping(connection)
        return
    if version is not None and version > current:
        raise WarehouseError(
            f"{database} has layout {version}, and this version of Monstera knows layouts up to"
            f" {current}. Install the version that wrote the file, or a newer one."
        )
    if read_only:
        raise WarehouseError(
            f"{database} has layout {version}, and this version of Monstera reads layout {current}."
            " Bring the file up to date first, with: monstera run"
        )
    missing = () if version is None else steps[version - _FIRST_VERSION :]
    try:
        connection.execute("BEGIN TRANSACTION")
        for step in missing:
            step(connection)
        create_bookkeeping(connection)
        connection.execute(f"CREATE OR REPLACE TABLE {_VERSION} AS SELECT {current} AS version")
        connection.execute("COMMIT")
    except duckdb.Error as error:
        raise WarehouseError(
            f"{database} has layout {version} and could not be brought up to layout {current}; it is"
            f" as it was before: {error}"
        ) from error


def stored_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The version of an open file; None if nothing was written to it yet."""
    tables = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name IN ('layout', 'materializations') ORDER BY ALL",
        [OPERATIONS_SCHEMA],
    ).fetchall()
    if ("layout",) in tables:
        [(version,)] = connection.execute(f"SELECT version FROM {_VERSION}").fetchall()
        return int(version)
    return _FIRST_VERSION if tables else None


def create_bookkeeping(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables of the schema `operations` that the writer fills, unless they exist."""
    connection.execute(
        f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA};"
        f"CREATE TABLE IF NOT EXISTS {OPERATIONS_SCHEMA}.materializations (schema_name VARCHAR NOT"
        " NULL, table_name VARCHAR NOT NULL, partition_date DATE, materialized_at TIMESTAMP NOT"
        f" NULL); CREATE TABLE IF NOT EXISTS {OPERATIONS_SCHEMA}.source_changes (cause VARCHAR NOT"
        " NULL, affects_from DATE NOT NULL, changed_at TIMESTAMP NOT NULL)"
    )
