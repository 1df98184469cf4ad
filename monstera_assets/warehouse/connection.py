"""Connections to the DuckDB file: one configuration, a patient wait for the lock, clear errors.

DuckDB admits one writing process per file, and within a process all connections must be opened with
the same configuration. Everything in this project that opens the file therefore comes through here.
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
"""How many connections this process has open, by database; each keeps other processes out."""

Configuration = Mapping[str, str | int | bool]


def connection_config(
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_directory: Path | None = None,
) -> dict[str, str | int | bool]:
    """DuckDB settings for the warehouse.

    Insertion order is not kept: tables are sets of rows, and large inserts then run in parallel and
    in bounded memory.
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
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the database, waiting for another process to release its lock; closed on leaving.

    The first connection brings a file of an older layout up to date.

    Raises:
        WarehouseLockedError: the lock was not released in `lock_timeout_seconds`.
        WarehouseError: the file cannot be opened, is no DuckDB database, has a newer layout, or an
            older one and the connection is read-only, or the disk is full.
    """
    _check_name(database)
    if not read_only:
        _create_folder(database)
    connection = _open(database, config, lock_timeout_seconds, read_only)
    _connections[database] += 1
    try:
        if _connections[database] == 1:
            bring_up_to_date(connection, database, read_only=read_only)
        yield connection
    except duckdb.IOException as error:
        raise WarehouseError(
            f"{database}: {error}. Nothing of the interrupted write is kept. Check that the disk"
            " has room for the database and its temporary files, then run again."
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise WarehouseError(
            f"{database}: {error}. Nothing of the interrupted write is kept. Raise memory_limit, or"
            " give temp_directory a disk with room, then run again."
        ) from error
    except (duckdb.FatalException, duckdb.InternalException) as error:
        raise WarehouseError(
            f"{database}: {error}. Nothing of the interrupted write is kept. Check that the disk"
            " has room and that the file is whole, then run again in a new process."
        ) from error
    finally:
        connection.close()
        _connections[database] -= 1


def _check_name(database: str) -> None:
    # DuckDB calls a database by its file's name, and then cannot tell `silver.t` of schema silver
    # from table t of database silver.
    name = Path(database).name.split(".")[0].lower()
    if name in _RESERVED_NAMES:
        raise WarehouseError(
            f"{database}: a database file cannot have the name of one of its schemas"
            f" ({', '.join(sorted(_RESERVED_NAMES))}). Give it another name with --database or"
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
            f"the folder {folder} of the database cannot be created: {error.strerror}."
            " Choose another place with --database or MONSTERA_DATABASE."
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
                    f"{database} cannot be opened: {error}. Check the path, its permissions and"
                    " that it is a DuckDB database."
                ) from error
            if time.monotonic() >= deadline:
                raise WarehouseLockedError(
                    f"{database} is being written by another process and stayed locked for"
                    f" {lock_timeout_seconds:g} s. Let that run finish, or close the program that"
                    f" holds the file, then run again. ({error})"
                ) from error
            time.sleep(_RETRY_SECONDS)
        except duckdb.Error as error:
            raise WarehouseError(f"{database} cannot be opened: {error}.") from error
