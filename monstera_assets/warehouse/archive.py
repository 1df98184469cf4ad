"""Days whose raw events were removed because they are older than the retention.

What was computed from them stays. A day is open if it can be computed anew from what is left, which
takes the days that its tables and checks look back on raw events; all others are closed, so that a
range that reaches back into them is an error and no silent change of published numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA
from monstera_assets.warehouse.windows import DateWindow

_ARCHIVE = f"{OPERATIONS_SCHEMA}.archived_days"

RAW_TABLES = ("bronze_events", "bronze_rejected_events", "silver_events_enriched")
"""What holds raw events, and is removed."""


class ArchivedDaysError(WarehouseError):
    """A range reaches into days whose raw events were removed."""


@dataclass(frozen=True)
class Archive:
    """Raw events before `removed_before` are gone; days before `open_from` are closed."""

    removed_before: date
    open_from: date


def archive(connection: duckdb.DuckDBPyConnection) -> Archive | None:
    """What was archived; None if nothing was."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name || '.' || table_name = ?",
        [_ARCHIVE],
    ).fetchall()
    if not found[0][0]:
        return None
    rows = connection.execute(
        f"SELECT max(removed_before), max(open_from) FROM {_ARCHIVE}"
    ).fetchall()
    return None if rows[0][0] is None else Archive(*rows[0])


def note_archive(connection: duckdb.DuckDBPyConnection, archived: Archive) -> None:
    """Close days, in the caller's transaction."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_ARCHIVE} (removed_before DATE NOT NULL, open_from DATE NOT NULL)"
    )
    connection.execute(f"DELETE FROM {_ARCHIVE}")
    connection.execute(
        f"INSERT INTO {_ARCHIVE} VALUES (?, ?)", [archived.removed_before, archived.open_from]
    )


def require_open(
    connection: duckdb.DuckDBPyConnection, table_name: str, window: DateWindow | None
) -> None:
    """Refuse to write raw events of closed days.

    Raises:
        ArchivedDaysError: naming the first day that is open.
    """
    if window is None or table_name not in RAW_TABLES:
        return
    archived = archive(connection)
    if archived is not None and window.first < archived.open_from:
        raise _closed(archived)


def require_kept(connection: duckdb.DuckDBPyConnection, table_name: str, day: date) -> None:
    """Say of a day that is missing, if so, that its raw events were removed.

    Raises:
        ArchivedDaysError: naming the first day that is open.
    """
    archived = archive(connection) if table_name in RAW_TABLES else None
    if archived is not None and day < archived.removed_before:
        raise _closed(archived)


def _closed(archived: Archive) -> ArchivedDaysError:
    return ArchivedDaysError(
        f"raw events before {archived.removed_before} were removed, being older than the retention,"
        f" and days before {archived.open_from} look back on them: they keep the numbers that they"
        f" have and cannot be computed anew. Run with --from {archived.open_from} or later."
    )
