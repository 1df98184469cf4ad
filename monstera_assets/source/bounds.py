"""The first and last day that a source has facts for: the default range of a run.

Belongs here: which column of an input is its date. Not here: which rows are valid. A date counts
if it can be read, whatever else may be wrong with its row.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from monstera_assets.source.csv_files import (
    NOT_PARSED,
    CsvFile,
    CsvStager,
    csv_scan,
    gone,
    open_csv,
)
from monstera_assets.source.errors import SourceError
from monstera_assets.source.parquet_files import (
    NOT_THE_FILE,
    TEXT,
    check_parquet,
    open_parquet,
    parquet_scan,
    raw_type,
    raw_value,
)
from monstera_assets.source.sql import date_literal, identifier
from monstera_assets.source.staging import staging_area

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from monstera_assets.source.layout import SourceFile, SourceInput
    from monstera_assets.source.staging import Staging

EARLIEST = date(1990, 1, 1)
_LATEST = date.max

_DATED_BY = {
    "users": "user_created_at",
    "accounts": "account_created_at",
    "events": "timestamp",
    "subscription_events": "timestamp",
}


class DateBounds(NamedTuple):
    """The first and the last day, both included."""

    first: date
    last: date


def date_bounds(
    connection: duckdb.DuckDBPyConnection,
    inputs: Mapping[str, SourceInput],
    earliest: date = EARLIEST,
) -> DateBounds | None:
    """Return the first and last day of users, accounts, events and subscription events.

    Times without an offset are UTC, and days are UTC's. Unreadable dates, those before ``earliest``
    and those after the year 9999 do not count. An input laid out by day is dated
    by its folders, and none of its files is opened; of a Parquet file only one column is read.

    Args:
        connection: nothing is left in it; it may be inside a transaction, which cannot be aborted.
        inputs: those of `discover_source`; missing ones are skipped.
        earliest: the first date that is taken for real.

    Returns:
        The bounds, or None if the source has no date.

    Raises:
        SourceError: a file cannot be read, or lacks the column with its dates.
    """
    days: list[date] = []
    with staging_area(connection) as staging:
        staging.connection.execute("SET SESSION TimeZone = 'UTC'")
        for name, column in _DATED_BY.items():
            if name in inputs:
                days += _days(staging, inputs[name], column, earliest)
    return DateBounds(min(days), max(days)) if days else None


def _days(
    staging: Staging, source_input: SourceInput, column: str, earliest: date
) -> Iterator[date]:
    """Yield days of which the smallest and the largest are the bounds of an input."""
    for file in source_input.files:
        if not source_input.by_day:
            bounds = (
                _csv_days(staging, open_csv(file), column, earliest)
                if file.format == "csv"
                else _parquet_days(staging, file, column, earliest)
            )
            yield from (day for day in bounds if day is not None)
        elif file.folder_date is not None and file.folder_date >= earliest:
            yield file.folder_date


def _csv_days(
    staging: Staging, item: CsvFile, column: str, earliest: date
) -> tuple[date | None, ...]:
    names = item.header.names
    if column not in names:
        raise _undated(item.file, column)
    scan = csv_scan([item.file.path], len(names), parallel=True)
    try:
        return _bounds(staging, f"c{names.index(column)}", scan, earliest)
    except NOT_PARSED:
        # The file has records that are not rows, so it is read as the reader reads it.
        stager = CsvStager(staging, [column])
        stager.stage([item])
        days: tuple[date | None, ...] = ()
        for table in stager.tables:
            days += _bounds(staging, identifier(column), table, earliest)
            staging.drop_table(table)
        return days
    except duckdb.IOException as error:
        raise gone(item.file) from error


def _parquet_days(
    staging: Staging, file: SourceFile, column: str, earliest: date
) -> tuple[date | None, ...]:
    item = open_parquet(staging.connection, file)
    if column not in item.types:
        raise _undated(file, column)
    kind = item.types[column]
    target = raw_type(kind) if raw_type(kind) in ("DATE", "TIMESTAMP") else TEXT
    value = raw_value(column, kind, target)
    try:
        return _bounds(staging, value, parquet_scan([file.path]), earliest)
    except NOT_THE_FILE:
        raise
    except duckdb.Error:
        check_parquet(staging.connection, [item], [column])
        raise


def _bounds(staging: Staging, value: str, relation: str, earliest: date) -> tuple[date | None, ...]:
    row = staging.connection.execute(
        "SELECT min(day), max(day) FROM "
        # By way of a zoned timestamp, so that an offset in a text is heeded, as by the loads.
        f"(SELECT CAST(TRY_CAST({value} AS TIMESTAMPTZ) AS TIMESTAMP) AS moment, "
        f"CAST(moment AS DATE) AS day FROM {relation}) "
        f"WHERE isfinite(moment) AND day BETWEEN {date_literal(earliest)} AND {date_literal(_LATEST)}"
    ).fetchone()
    return row or ()


def _undated(file: SourceFile, column: str) -> SourceError:
    return SourceError(
        f"{file.relative_path} lacks the required column {column}: add it, with exactly this name."
    )
