"""The retention cutoff: which raw events were deleted and which days can still be recomputed.

Tables computed from deleted events are kept. A day can be recomputed only if its raw events and the
earlier events that its tables and checks read are still stored. Loading an earlier day raises an
error so that published numbers do not change silently.
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
"""Tables that contain raw events. Their rows are deleted after the retention period."""


class ArchivedDaysError(WarehouseError):
    """A range includes days whose raw events were deleted."""


@dataclass(frozen=True)
class Archive:
    """Raw events before `removed_before` were deleted. Days from `open_from` on can be recomputed."""

    removed_before: date
    open_from: date


def archive(connection: duckdb.DuckDBPyConnection) -> Archive | None:
    """Return the retention cutoff, or None if no raw events have ever been deleted."""
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


def record_archive(connection: duckdb.DuckDBPyConnection, archived: Archive) -> None:
    """Record the retention cutoff in the caller's transaction."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_ARCHIVE} (removed_before DATE NOT NULL, open_from DATE NOT NULL)"
    )
    connection.execute(f"DELETE FROM {_ARCHIVE}")
    connection.execute(
        f"INSERT INTO {_ARCHIVE} VALUES (?, ?)", [archived.removed_before, archived.open_from]
    )


def require_recomputable(
    connection: duckdb.DuckDBPyConnection, table_name: str, window: DateWindow | None
) -> None:
    """Refuse to write raw events for days before the retention cutoff.

    Raises:
        ArchivedDaysError: If a day cannot be recomputed. The message names the first day that can.
    """
    if window is None or table_name not in RAW_TABLES:
        return
    archived = archive(connection)
    if archived is not None and window.first < archived.open_from:
        raise _not_recomputable(archived)


def require_raw_events(connection: duckdb.DuckDBPyConnection, table_name: str, day: date) -> None:
    """Raise an error if a day is missing because its raw events were deleted.

    Raises:
        ArchivedDaysError: If the raw events were deleted. The message names the first recomputable day.
    """
    archived = archive(connection) if table_name in RAW_TABLES else None
    if archived is not None and day < archived.removed_before:
        raise _not_recomputable(archived)


def _not_recomputable(archived: Archive) -> ArchivedDaysError:
    return ArchivedDaysError(
        f"Raw events before {archived.removed_before} were deleted after the retention period. Days"
        f" before {archived.open_from} cannot be recomputed without these events."
        f" Run with --from {archived.open_from} or later."
    )
