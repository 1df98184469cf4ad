"""Replace files atomically, and copy databases into new files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb


@contextmanager
def replacing_file(path: Path, suffix: str) -> Iterator[Path]:
    """Yield the path of a new file, which replaces `path` once it is complete and on disk.

    Until then, and after an error or a kill, the old file stays in use. Processes that have the old
    file open can continue to read it. The next call deletes the files that a killed process left.

    Args:
        path: the file to replace, which need not exist.
        suffix: the suffix of the new file's name. DuckDB's temporary files have longer suffixes.
    """
    incoming = path.with_name(path.name + suffix)
    _remove(incoming)
    try:
        yield incoming
        synchronize(incoming)
        # A write-ahead log belongs to the old file.
        path.with_name(path.name + ".wal").unlink(missing_ok=True)
        incoming.replace(path)
        synchronize(path.parent)
    except BaseException:
        _remove(incoming)
        raise


@contextmanager
def attached(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, options: str = "READ_WRITE"
) -> Iterator[None]:
    """Attach a new database to fill, and write it to disk and detach it on exit."""
    target = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{target}' AS {name} ({options})")
    try:
        yield
        connection.execute(f"CHECKPOINT {name}")
    except BaseException:
        # A failing DETACH must not hide the original error.
        with suppress(duckdb.Error):
            connection.execute(f"DETACH {name}")
        raise
    connection.execute(f"DETACH {name}")


def copy_database(connection: duckdb.DuckDBPyConnection, target: str) -> None:
    """Copy all tables and views of the current database into an attached one, without free pages."""
    [(name,)] = connection.execute("SELECT current_database()").fetchall()
    quoted = '"' + name.replace('"', '""') + '"'
    connection.execute(f"COPY FROM DATABASE {quoted} TO {target}")


def synchronize(path: Path) -> None:
    """Flush a file's contents or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(incoming: Path) -> None:
    for path in list(incoming.parent.iterdir()):
        if path.name.startswith(incoming.name):
            path.unlink()
