"""The first and last day with facts in a source, which are the default range of a run.

A readable date counts even if its row is otherwise invalid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import NamedTuple

import duckdb

from monstera_assets.source.layout import SourceInput
from monstera_assets.source.parquet_files import TEXT
from monstera_assets.source.reader import RawColumn, explain_failure, stage_rows
from monstera_assets.source.sql import date_literal, identifier

EARLIEST = date(1990, 1, 1)
_LATEST = date.max

_DATED_BY = {
    "users": "user_created_at",
    "accounts": "account_created_at",
    "events": "timestamp",
    "subscription_events": "timestamp",
}


class DateBounds(NamedTuple):
    """The first and last day, inclusive."""

    first: date
    last: date


def date_bounds(
    connection: duckdb.DuckDBPyConnection,
    inputs: Mapping[str, SourceInput],
    earliest: date = EARLIEST,
) -> DateBounds | None:
    """Return the first and last day of users, accounts, events and subscription events, if any.

    Days, and times without an offset, are in UTC. Dates that are unreadable, before ``earliest``
    or after the year 9999 do not count. For an input laid out by day, the folder names suffice and
    no file is opened; for other inputs, only one column is read. The connection may be inside a
    transaction and is left unchanged.

    Raises:
        SourceError: If a file cannot be read or lacks its date column.
    """
    days: list[date] = []
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TimeZone = 'UTC'")
        for name, column in _DATED_BY.items():
            if name in inputs:
                days += _days(cursor, inputs[name], column, earliest)
    return DateBounds(min(days), max(days)) if days else None


def _days(
    connection: duckdb.DuckDBPyConnection, source_input: SourceInput, column: str, earliest: date
) -> Iterator[date]:
    """Yield days whose minimum and maximum are the bounds of an input."""
    if source_input.by_day:
        folders = (file.folder_date for file in source_input.files)
        yield from (day for day in folders if day is not None and day >= earliest)
        return
    columns = [RawColumn(column, required=True)]
    staged = stage_rows(connection, source_input, columns, "bounds", copy=False)
    value = identifier(column)
    described = connection.execute(f"DESCRIBE {staged.rows}").fetchall()
    if described[0][1] not in ("DATE", "TIMESTAMP"):
        value = f"CAST({value} AS {TEXT})"
    try:
        [bounds] = connection.execute(
            "SELECT min(day), max(day) FROM "
            # Cast to a zoned timestamp first, which respects an offset in text, as loads do.
            f"(SELECT CAST(TRY_CAST({value} AS TIMESTAMPTZ) AS TIMESTAMP) AS moment, "
            f"CAST(moment AS DATE) AS day FROM {staged.rows}) WHERE isfinite(moment) "
            f"AND day BETWEEN {date_literal(earliest)} AND {date_literal(_LATEST)}"
        ).fetchall()
    except duckdb.Error as error:
        explain_failure(connection, source_input, columns, error)
        raise
    yield from (day for day in bounds if day is not None)
