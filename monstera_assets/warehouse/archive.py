"""Track which raw events were deleted after the retention period and which days can be recomputed.

Tables computed from deleted events are kept. A day can be recomputed only if its raw events and the
earlier events that its tables and checks read are still stored. Loading a day that cannot be
recomputed raises an error so that published numbers do not change silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import duckdb

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA
from monstera_assets.warehouse.windows import DateWindow

if TYPE_CHECKING:
    from monstera_assets.warehouse.engine import Engine

ARCHIVE = f"{OPERATIONS_SCHEMA}.archived_days"
"""The table with the retention cutoff, which exists after the first deletion."""

RAW_TABLES = ("bronze_events", "bronze_rejected_events", "silver_events_enriched")
"""Tables that contain raw events, which are deleted after the retention period."""


class ArchivedDaysError(WarehouseError):
    """A range includes days whose raw events were deleted."""


@dataclass(frozen=True)
class Archive:
    """The retention cutoff.

    Attributes:
        removed_before: the first day whose raw events were not deleted.
        open_from: the first day that can be recomputed.
    """

    removed_before: date
    open_from: date


def record_archive(connection: duckdb.DuckDBPyConnection, archived: Archive) -> None:
    """Record the retention cutoff in the caller's transaction."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {ARCHIVE} (removed_before DATE NOT NULL, open_from DATE NOT NULL)"
    )
    connection.execute(f"DELETE FROM {ARCHIVE}")
    connection.execute(
        f"INSERT INTO {ARCHIVE} VALUES (?, ?)", [archived.removed_before, archived.open_from]
    )


def require_recomputable(engine: Engine, table_name: str, window: DateWindow | None) -> None:
    """Raise an error if raw events would be written for days that cannot be recomputed.

    Raises:
        ArchivedDaysError: If a day in the window cannot be recomputed. The message includes the first
            day that can be recomputed.
    """
    if window is None or table_name not in RAW_TABLES:
        return
    archived = engine.archive()
    if archived is not None and window.first < archived.open_from:
        raise _not_recomputable(archived)


def require_raw_events(engine: Engine, table_name: str, day: date) -> None:
    """Raise an error if a day is missing because its raw events were deleted.

    Raises:
        ArchivedDaysError: If the raw events were deleted. The message includes the first day that can
            be recomputed.
    """
    archived = engine.archive() if table_name in RAW_TABLES else None
    if archived is not None and day < archived.removed_before:
        raise _not_recomputable(archived)


def _not_recomputable(archived: Archive) -> ArchivedDaysError:
    return ArchivedDaysError(
        f"Raw events before {archived.removed_before} were deleted after the retention period. Days"
        f" before {archived.open_from} depend on deleted events and cannot be recomputed."
        f" Run the command with --from {archived.open_from} or a later date."
    )
