"""Delete raw events older than the retention period without changing states or totals.

To compute a day, assets read raw events from that day and at most `LOOK_BACK_DAYS` earlier days. A
test verifies this limit. The raw events that the latest day needs are always kept. All other tables,
including workflow steps, are also kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb

from monstera_assets.bronze import bronze_events
from monstera_assets.lifecycle.behavior import RECENT_DAYS
from monstera_assets.operations.open_warehouse import open_warehouse
from monstera_assets.settings import Settings
from monstera_assets.warehouse.archive import RAW_TABLES, Archive, record_archive
from monstera_assets.warehouse.compaction import compact_file, request_compaction
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Table

LOOK_BACK_DAYS = RECENT_DAYS
"""The longest period of raw events that any table or check reads: 90 days of behavior."""

LONGEST_RUN = timedelta(days=3)
"""How long replaced files are kept for runs and queries that have begun to read them."""

# The load ledger is kept, but for the deleted days, it no longer matches any table.
_LOADS = "bronze_loads"
_EVENTS = bronze_events.TABLE.qualified_name
_MATERIALIZATIONS = f"{OPERATIONS_SCHEMA}.materializations"


@dataclass(frozen=True)
class Expired:
    """Deleted row counts by table. `removed_before` is None if no raw events were old enough."""

    rows: dict[str, int]
    removed_before: date | None
    rewritten: bool


def expire_raw_events(settings: Settings, tables: Sequence[Table], today: date) -> Expired:
    """Delete raw events older than `raw_event_retention_days` and record the cutoff.

    Args:
        settings: the configuration.
        tables: all declared tables.
        today: the current day.

    Raises:
        WarehouseLockedError: If the database remains locked.
        WarehouseError: If the disk is full. Repeat the call to complete the deletion.
    """
    rows: dict[str, int] = {}
    warehouse = open_warehouse(settings)
    with warehouse.get_connection() as connection:
        stored = connection.execute(
            "SELECT table_name, schema_name FROM duckdb_tables()"
            " WHERE database_name = current_database()"
        ).fetchall()
        schemas = dict(stored)
        cutoff = None
        if {"materializations", "bronze_events"} <= schemas.keys():
            cutoff = _cutoff(connection, today - timedelta(days=settings.raw_event_retention_days))
        if cutoff is not None:
            known = DuckDBEngine(connection).archive()
            # The first partition contains events from earlier days, which are deleted.
            open_from = max(
                cutoff + timedelta(days=LOOK_BACK_DAYS),
                _first_partition(connection) + timedelta(days=1),
            )
            with DuckDBEngine(connection).transaction():
                for name in RAW_TABLES:
                    if name in schemas:
                        rows[name] = _remove(connection, f"{schemas[name]}.{name}", cutoff)
                names = ", ".join(f"'{name}'" for name in (*RAW_TABLES, _LOADS))
                connection.execute(
                    f"DELETE FROM {_MATERIALIZATIONS} WHERE table_name IN ({names})"
                    " AND partition_date < ?",
                    [cutoff],
                )
                open_from = max(open_from, known.open_from) if known else open_from
                record_archive(connection, Archive(cutoff, open_from))
                request_compaction(connection)
    with warehouse.open() as engine:
        deleted = engine.clean_up(tables, datetime.now(UTC) - LONGEST_RUN)
    # The engine counts the rows of all tables, of which the file may contain copies.
    rows |= deleted
    rewritten = compact_file(settings.database, settings.lock_timeout_seconds)
    return Expired(rows, cutoff, rewritten)


def _cutoff(connection: duckdb.DuckDBPyConnection, oldest: date) -> date | None:
    """Return the first day whose raw events are kept, or None if there are no earlier raw events."""
    [(first, last)] = connection.execute(
        f"SELECT least(min(partition_date), (SELECT min(event_date) FROM {_EVENTS})),"
        f" max(partition_date) FROM {_MATERIALIZATIONS} WHERE table_name = 'bronze_events'"
    ).fetchall()
    if last is None:
        return None
    cutoff: date = min(oldest, last - timedelta(days=LOOK_BACK_DAYS))
    return cutoff if first < cutoff else None


def _first_partition(connection: duckdb.DuckDBPyConnection) -> date:
    [(first,)] = connection.execute(
        f"SELECT min(partition_date) FROM {_MATERIALIZATIONS} WHERE table_name = 'bronze_events'"
    ).fetchall()
    return date.min if first is None else first


def _remove(connection: duckdb.DuckDBPyConnection, name: str, cutoff: date) -> int:
    column = "partition_date" if name.endswith("rejected_events") else "event_date"
    [(removed,)] = connection.execute(f"DELETE FROM {name} WHERE {column} < ?", [cutoff]).fetchall()
    return int(removed)
