"""Notes of what changed in the source, and what has to be computed again for it.

A load that finds other rows than before notes, in its own transaction, from which day on tables are
affected. A partition that was last materialized before such a note is out of date, also when the run
that made the note was killed right after it.

Belongs here: the notes and who is out of date. Not here: what has changed (bronze, operations).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import duckdb

from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets.warehouse.writer import next_moment

_NOTES = f"{OPERATIONS_SCHEMA}.source_changes"
_MATERIALIZATIONS = f"{OPERATIONS_SCHEMA}.materializations"


class Cause(StrEnum):
    """Which load found a change."""

    EVENTS = "events"
    ENTITIES = "entities"


@dataclass(frozen=True)
class OutOfDate:
    """What was last computed before its inputs.

    Attributes:
        days: the days of partitioned tables, in order.
        whole_tables: the names of unpartitioned tables.
        noted_at: when the latest change of the source was noted.
    """

    days: tuple[date, ...]
    whole_tables: tuple[str, ...]
    noted_at: datetime | None


def note_change(connection: duckdb.DuckDBPyConnection, cause: Cause, affects_from: date) -> None:
    """Note a change, inside the caller's transaction."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_NOTES} (cause VARCHAR NOT NULL, affects_from DATE NOT NULL,"
        " changed_at TIMESTAMP NOT NULL)"
    )
    # A later note of an earlier day says all that these say.
    connection.execute(
        f"DELETE FROM {_NOTES} WHERE cause = ? AND affects_from >= ?", [cause, affects_from]
    )
    connection.execute(
        f"INSERT INTO {_NOTES} VALUES (?, ?, ?)", [cause, affects_from, next_moment(connection)]
    )


def out_of_date(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[Table],
    inputs: Mapping[str, Sequence[str]],
    window: DateWindow,
    causes: Sequence[Cause] = tuple(Cause),
) -> OutOfDate:
    """Which days and tables were never materialized, or before a change or what they are made from.

    Args:
        connection: may be read-only.
        tables: the tables to ask about.
        inputs: for each of them, the names of the tables that it is made from.
        window: the days that there should be.
        causes: the loads whose changes count.
    """
    notes = list(map(str, causes))
    if not _exists(connection, "materializations"):
        return OutOfDate(tuple(window), tuple(table.name for table in tables), None)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE asked AS SELECT unnest(?::VARCHAR[]) AS table_name,"
        " unnest(?::BOOLEAN[]) AS by_day",
        [[table.name for table in tables], [bool(table.partition_column) for table in tables]],
    )
    pairs = [(name, read) for name, reads in inputs.items() for read in reads]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE made_from AS SELECT unnest(?::VARCHAR[]) AS table_name,"
        " unnest(?::VARCHAR[]) AS read_name",
        [[name for name, _ in pairs], [read for _, read in pairs]],
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE noted AS"
        + (
            f" SELECT affects_from, changed_at FROM {_NOTES} WHERE list_contains(?, cause)"
            if _exists(connection, "source_changes")
            else " SELECT CAST(NULL AS DATE) AS affects_from, CAST(NULL AS TIMESTAMP) AS changed_at"
            " WHERE list_contains(?, '')"
        ),
        [notes],
    )
    days = connection.execute(
        f"""
        WITH calendar AS (
            SELECT CAST(unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY)) AS DATE) AS day
        ), wanted AS (
            SELECT day, max(changed_at) AS changed_at
            FROM calendar LEFT JOIN noted ON affects_from <= day GROUP BY day
        ), made AS (
            SELECT table_name, partition_date AS day, materialized_at FROM {_MATERIALIZATIONS}
        ), inputs_made AS (
            SELECT made_from.table_name, day, max(materialized_at) AS materialized_at
            FROM made_from JOIN made ON made.table_name = read_name
            WHERE day IS NOT NULL GROUP BY ALL
        )
        SELECT DISTINCT wanted.day FROM asked CROSS JOIN wanted
        LEFT JOIN made ON made.table_name = asked.table_name AND made.day = wanted.day
        LEFT JOIN inputs_made ON inputs_made.table_name = asked.table_name
            AND inputs_made.day = wanted.day
        WHERE by_day AND (made.materialized_at IS NULL
            OR made.materialized_at < wanted.changed_at
            OR made.materialized_at < inputs_made.materialized_at)
        ORDER BY wanted.day
        """,
        [window.first, window.last],
    ).fetchall()
    whole = connection.execute(
        f"""
        WITH made AS (
            SELECT table_name, max(materialized_at) AS materialized_at FROM {_MATERIALIZATIONS}
            GROUP BY table_name
        ), inputs_made AS (
            SELECT made_from.table_name, max(materialized_at) AS materialized_at
            FROM made_from JOIN made ON made.table_name = read_name GROUP BY ALL
        )
        SELECT asked.table_name FROM asked
        LEFT JOIN made ON made.table_name = asked.table_name
        LEFT JOIN inputs_made ON inputs_made.table_name = asked.table_name
        WHERE NOT by_day AND (made.materialized_at IS NULL
            OR made.materialized_at < (SELECT max(changed_at) FROM noted)
            OR made.materialized_at < inputs_made.materialized_at)
        ORDER BY asked.table_name
        """
    ).fetchall()
    [(noted_at,)] = connection.execute("SELECT max(changed_at) FROM noted").fetchall()
    return OutOfDate(tuple(day for (day,) in days), tuple(name for (name,) in whole), noted_at)


def _exists(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ?",
        [OPERATIONS_SCHEMA, name],
    ).fetchall()
    return bool(found[0][0])
