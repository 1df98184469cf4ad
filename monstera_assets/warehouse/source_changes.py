"""Record source changes and find the tables and days that must be recomputed.

A load that finds changed rows records the first affected day in the load's transaction. A partition
that was last materialized before the change was recorded is out of date, even if the run was killed
right after the load.

The bronze and operations packages detect the changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Table
from monstera_assets.warehouse.windows import DateWindow

_MATERIALIZED = ibis.table(
    {"table_name": "string", "partition_date": "date", "materialized_at": "timestamp"},
    name="materializations",
    database=OPERATIONS_SCHEMA,
)
_NOTED = ibis.table(
    {"affects_from": "date", "changed_at": "timestamp"},
    name="source_changes",
    database=OPERATIONS_SCHEMA,
)
_NOTES = f"{OPERATIONS_SCHEMA}.source_changes"
_NO_NOTES = (
    "SELECT '' AS cause, CAST(NULL AS DATE) AS affects_from, CAST(NULL AS TIMESTAMP) AS changed_at"
    " WHERE false"
)
_MATERIALIZATIONS = f"{OPERATIONS_SCHEMA}.materializations"


class Cause(StrEnum):
    """The kind of load that found a change."""

    EVENTS = "events"
    ENTITIES = "entities"


@dataclass(frozen=True)
class OutOfDate:
    """The days and tables that were last computed before their inputs changed.

    Attributes:
        days: the days in daily tables, in order.
        missing: the days in `days` on which a table was never computed.
        whole_tables: the names of unpartitioned tables.
        noted_at: the time at which the latest source change was recorded, or None if no change is
            recorded.
    """

    days: tuple[date, ...]
    missing: tuple[date, ...]
    whole_tables: tuple[str, ...]
    noted_at: datetime | None


def latest_day(table_name: str) -> ir.DateScalar:
    """Return a daily table's latest materialized day, or null if no day is materialized."""
    days = _MATERIALIZED.filter(_MATERIALIZED.table_name == table_name)
    return days.aggregate(day=days.partition_date.max()).as_scalar()


def days_out_of_date(table_name: str) -> ir.Table:
    """Return a table's days that were computed before events or entities changed."""
    days = _MATERIALIZED.filter(_MATERIALIZED.table_name == table_name)
    late = days.inner_join(
        _NOTED,
        [days.partition_date >= _NOTED.affects_from, days.materialized_at < _NOTED.changed_at],
    )
    return late.select(day=late.partition_date).distinct()


def note_change(connection: duckdb.DuckDBPyConnection, cause: Cause, affects_from: date) -> None:
    """Record a source change in the caller's transaction."""
    moment = DuckDBEngine(connection).next_moment()
    # The new record makes existing records for the same day or later days redundant.
    connection.execute(
        f"DELETE FROM {_NOTES} WHERE cause = ? AND affects_from >= ?", [cause, affects_from]
    )
    connection.execute(f"INSERT INTO {_NOTES} VALUES (?, ?, ?)", [cause, affects_from, moment])


def out_of_date(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[Table],
    inputs: Mapping[str, Sequence[str]],
    causes: Mapping[str, Collection[Cause]],
    window: DateWindow,
) -> OutOfDate:
    """Return the days and tables that were not recomputed after their inputs or the source changed.

    Args:
        connection: the connection, which may be read-only.
        tables: the tables to examine.
        inputs: for each table, the names of the tables from which the table is computed.
        causes: for each table, the loads that the table depends on, directly or indirectly.
        window: the days that should exist.
    """
    if not _exists(connection, "materializations"):
        whole = tuple(table.name for table in tables if table.partition_column is None)
        return OutOfDate(tuple(window), tuple(window), whole, None)
    by_day = {table.name: table.partition_column is not None for table in tables}
    _pairs(connection, "asked", by_day.items(), "BOOLEAN")
    _pairs(
        connection, "made_from", ((name, read) for name in by_day for read in inputs.get(name, ()))
    )
    _pairs(connection, "due_to", ((name, cause) for name in by_day for cause in causes[name]))
    notes = _NOTES if _exists(connection, "source_changes") else f"({_NO_NOTES})"
    # For a daily input, only the same day is compared. If that day was recomputed from unchanged
    # inputs, later days are still up to date. Otherwise, a recorded change covers the later days.
    days = connection.execute(
        f"""
        WITH calendar AS (
            SELECT CAST(unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY)) AS DATE) AS day
        ), made AS (
            SELECT table_name, partition_date AS day, materialized_at FROM {_MATERIALIZATIONS}
            WHERE partition_date IS NOT NULL
        ), changed AS (
            SELECT key AS table_name, day, max(changed_at) AS changed_at
            FROM due_to JOIN {notes} AS notes ON notes.cause = value
            JOIN calendar ON affects_from <= day GROUP BY ALL
        ), inputs_made AS (
            SELECT key AS table_name, day, max(materialized_at) AS inputs_made_at
            FROM made_from JOIN made ON made.table_name = value GROUP BY ALL
        )
        SELECT day, bool_or(materialized_at IS NULL) AS is_missing
        FROM (SELECT key AS table_name, day FROM asked CROSS JOIN calendar WHERE value)
        LEFT JOIN made USING (table_name, day)
        LEFT JOIN changed USING (table_name, day)
        LEFT JOIN inputs_made USING (table_name, day)
        WHERE materialized_at IS NULL OR materialized_at < changed_at
            OR materialized_at < inputs_made_at
        GROUP BY day ORDER BY day
        """,
        [window.first, window.last],
    ).fetchall()
    whole_tables = connection.execute(
        f"""
        WITH made AS (
            SELECT table_name, max(materialized_at) AS materialized_at FROM {_MATERIALIZATIONS}
            GROUP BY table_name
        ), changed AS (
            SELECT key AS table_name, max(changed_at) AS changed_at
            FROM due_to JOIN {notes} AS notes ON notes.cause = value GROUP BY ALL
        ), inputs_made AS (
            SELECT key AS table_name, max(materialized_at) AS inputs_made_at
            FROM made_from JOIN made ON made.table_name = value GROUP BY ALL
        )
        SELECT table_name FROM (SELECT key AS table_name FROM asked WHERE NOT value)
        LEFT JOIN made USING (table_name)
        LEFT JOIN changed USING (table_name)
        LEFT JOIN inputs_made USING (table_name)
        WHERE materialized_at IS NULL OR materialized_at < changed_at
            OR materialized_at < inputs_made_at
        ORDER BY table_name
        """
    ).fetchall()
    [(noted_at,)] = connection.execute(f"SELECT max(changed_at) FROM {notes} AS notes").fetchall()
    return OutOfDate(
        tuple(day for day, _ in days),
        tuple(day for day, is_missing in days if is_missing),
        tuple(name for (name,) in whole_tables),
        noted_at,
    )


def _pairs(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    pairs: Iterable[tuple[str, object]],
    dtype: str = "VARCHAR",
) -> None:
    listed = list(pairs)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT unnest(?::VARCHAR[]) AS key,"
        f" unnest(?::{dtype}[]) AS value",
        [[key for key, _ in listed], [value for _, value in listed]],
    )


def _exists(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ?",
        [OPERATIONS_SCHEMA, name],
    ).fetchall()
    return bool(found[0][0])
