"""Connect to the DuckDB file with a single configuration, wait for the file lock and explain errors.

DuckDB allows only one writing process per file and requires all connections in a process to use the
same configuration. All code that opens the file therefore uses this module.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from monstera_assets.warehouse.errors import WarehouseError, WarehouseLockedError
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA, Layer
from monstera_assets.warehouse.layout import bring_up_to_date

DEFAULT_LOCK_TIMEOUT_SECONDS = 30.0
_RETRY_SECONDS = 0.25
_LOCKED = "Could not set lock on file"
_RESERVED_NAMES = {*Layer, OPERATIONS_SCHEMA}

_connections: Counter[str] = Counter()
"""Number of open connections in this process, by database. Each connection holds the file lock."""

Configuration = Mapping[str, str | int | bool]


def connection_config(
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_directory: Path | None = None,
) -> dict[str, str | int | bool]:
    """Return DuckDB settings for the warehouse.

    Insertion order is not preserved, so that large inserts can run in parallel with limited memory.
    """
    config: dict[str, str | int | bool] = {
        "preserve_insertion_order": False,
        "TimeZone": "UTC",
        "autoinstall_known_extensions": False,
    }
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    if threads is not None:
        config["threads"] = threads
    if temp_directory is not None:
        config["temp_directory"] = str(temp_directory)
    return config


@contextmanager
def connect(
    database: str,
    config: Configuration,
    *,
    lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
    read_only: bool = False,
    any_layout: bool = False,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Wait until the database is unlocked, open it, and close it on exit.

    The first connection in a process upgrades a file with an older layout, unless `any_layout` is set.

    Raises:
        WarehouseLockedError: If the lock was not released within `lock_timeout_seconds`.
        WarehouseError: If the disk is full, or the file cannot be opened, is not a DuckDB database,
            has a layout that is newer than supported, or has an older layout and the connection is
            read-only.
    """
    _check_name(database)
    if not read_only:
        _create_folder(database)
    connection = _open(database, config, lock_timeout_seconds, read_only)
    _connections[database] += 1
    try:
        if _connections[database] == 1 and not any_layout:
            bring_up_to_date(connection, database, read_only=read_only)
        yield connection
    except duckdb.IOException as error:
        raise WarehouseError(
            f"{database}: {error}. The interrupted write was rolled back. Check that the disk has"
            " free space for the database and its temporary files, then run the command again."
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise WarehouseError(
            f"{database}: {error}. The interrupted write was rolled back. Increase memory_limit, or"
            " set temp_directory to a folder on a disk with more space, then run the command again."
        ) from error
    except (duckdb.FatalException, duckdb.InternalException) as error:
        raise WarehouseError(
            f"{database}: {error}. The interrupted write was rolled back. Check that the disk has"
            " free space and that the file is not damaged, then run the command again in a new process."
        ) from error
    finally:
        connection.close()
        _connections[database] -= 1


def _check_name(database: str) -> None:
    # DuckDB names a database after its file. If a file were named `silver`, `silver.t` would be
    # ambiguous.
    name = Path(database).name.split(".")[0].lower()
    if name in _RESERVED_NAMES:
        raise WarehouseError(
            f"{database}: a database file cannot have the same name as one of its schemas"
            f" ({', '.join(sorted(_RESERVED_NAMES))}). Choose a different name with --database or"
            " MONSTERA_DATABASE."
        )


def _create_folder(database: str) -> None:
    if database == ":memory:":
        return
    folder = Path(database).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WarehouseError(
            f"Cannot create the database folder {folder}: {error.strerror}."
            " Choose a different path with --database or MONSTERA_DATABASE."
        ) from error


def _open(
    database: str, config: Configuration, lock_timeout_seconds: float, read_only: bool
) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + lock_timeout_seconds
    while True:
        try:
            return duckdb.connect(database, read_only=read_only, config=dict(config))
        except duckdb.IOException as error:
            if _LOCKED not in str(error):
                raise WarehouseError(
                    f"Cannot open {database}: {error}. Check the path and its permissions, and"
                    " check that the file is a DuckDB database."
                ) from error
            if time.monotonic() >= deadline:
                raise WarehouseLockedError(
                    f"{database} was locked by another process for {lock_timeout_seconds:g} s. Wait"
                    " for the other process to finish, or close the program that has the file open,"
                    f" then run the command again. ({error})"
                ) from error
            time.sleep(_RETRY_SECONDS)
        except duckdb.Error as error:
            raise WarehouseError(f"Cannot open {database}: {error}.") from error
