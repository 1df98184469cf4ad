"""Determine a source's range, from the first accepted fact through the last fact or creation date.

Facts are events and subscription events. Rejected rows do not extend the range, so the range depends on
the loading rules. Entities are loaded into a temporary database. Only events on the first and last days
are classified. If all rows on these days are rejected, more days are classified. Rows are not compared
across days, so a superseded event can extend the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date

import duckdb
import ibis.expr.types as ir

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_product_catalog,
    bronze_subscription_events,
    bronze_users,
    event_rules,
    load_entities,
)
from monstera_assets.bronze.aliases import merging_aliases
from monstera_assets.bronze.loading import open_queries, raw_columns, stage
from monstera_assets.bronze.reading import Reading
from monstera_assets.bronze.validation import REASON, with_values
from monstera_assets.lifecycle.expressions import Window, window_parameters
from monstera_assets.lifecycle.intervals import days_earlier
from monstera_assets.settings import Settings
from monstera_assets.source.databases import shown_source
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.source.reader import explain_failure
from monstera_assets.warehouse.compiler import bind
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.layout import create_bookkeeping
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

_GROWTH = 16
"""Factor by which the number of days grows if all rows on the previous days are rejected."""
_LONGEST_OFFSET = 1
"""Maximum number of days by which a local date can differ from the UTC date."""
_WINDOW = Window.parameters()


def reading(settings: Settings, first: date) -> Reading:
    """Return the rules for reading a source's values. The calendar starts on the day `first`."""
    return Reading(
        earliest=settings.earliest_event_date,
        timezone=settings.timezone,
        first_day=first,
        null_words=settings.null_words,
        tiers=settings.policy.subscription_tiers,
        delimiter=settings.csv_delimiter,
    )


def source_range(settings: Settings) -> DateWindow:
    """Return a source's range.

    If no facts are accepted, the range starts on the day when the first user or account was created.

    Raises:
        SourceError: If the source cannot be read or has no accepted rows.
    """
    inputs = discover_source(settings.source, delimiter=settings.csv_delimiter)
    queries = open_queries()
    config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
    with duckdb.connect(config=dict(config)) as connection:
        create_bookkeeping(connection)
        reads = reading(settings, settings.earliest_event_date)
        load_entities.entity_batch(inputs, reads, queries).write(connection, None)
        facts = [
            *_ends(connection, bronze_subscription_events.TABLE, "event_date"),
            *_EventDays(connection, inputs["events"], reads, queries).ends(),
        ]
        created = [
            *_ends(connection, bronze_users.TABLE, "signup_date"),
            *_ends(connection, bronze_accounts.TABLE, "created_date"),
        ]
    if not facts and not created:
        raise SourceError(
            f"{shown_source(settings.source)} has no valid row with a date. Correct the rows. Without"
            " valid users, accounts or events, there are no days to compute."
        )
    return DateWindow(min(facts or created), max(*facts, *created))


def _ends(connection: duckdb.DuckDBPyConnection, table: Table, column: str) -> list[date]:
    [ends] = connection.execute(
        f"SELECT min({column}), max({column}) FROM {table.qualified_name}"
    ).fetchall()
    return [day for day in ends if day is not None]


class _EventDays:
    """Find the first and last days with accepted events."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        source_input: SourceInput,
        reads: Reading,
        queries: QueryCache,
    ) -> None:
        self._connection, self._input, self._queries = connection, source_input, queries
        self._staged: tuple[ir.Table, ir.Table] | None = None
        self._rules = bronze_events.Classification(
            bronze_users.TABLE.relation,
            bronze_accounts.TABLE.relation,
            bronze_product_catalog.TABLE.relation,
            bronze_subscription_events.TABLE.relation,
            reading=reads,
            aliases=merging_aliases(connection),
        )

    def ends(self) -> list[date]:
        """Return the first and last days, or an empty list if no events are accepted."""
        days, found = self._days(), []
        for in_order, latest in ((days, False), (days[::-1], True)):
            for window in _growing(in_order):
                if (day := self._accepted(window, latest=latest)) is not None:
                    found.append(day)
                    break
        return found

    def _days(self) -> Sequence[date]:
        """Return the sorted days from day folders or, if there are no day folders, from all rows."""
        if self._input.by_day:
            days = {file.folder_date for file in self._input.files if file.folder_date is not None}
            return sorted(day for day in days if day >= self._rules.reading.earliest)

        def days_of(rows: ir.Table) -> ir.Table:
            return self._with_day(rows).select("day").distinct()

        found = self._fetch(self._input, "days", days_of)
        return sorted(day for day in found if day is not None)

    def _accepted(self, window: DateWindow, *, latest: bool) -> date | None:
        """Return a window's first or last day with accepted events, or None if no days have any."""

        def end(rows: ir.Table) -> ir.Table:
            if rows.timestamp.type().is_timestamp():
                # DuckDB applies this filter, but not a filter on days, while it reads Parquet files.
                rows = rows.filter(
                    rows.timestamp >= days_earlier(_WINDOW.first, _LONGEST_OFFSET),
                    rows.timestamp <= days_earlier(_WINDOW.last, -1 - _LONGEST_OFFSET),
                )
            dated = self._with_day(rows)
            dated = dated.filter(dated.day.between(_WINDOW.first, _WINDOW.last))
            rows = self._rules.of_single(dated.select(*rows.columns))
            accepted = rows[REASON].isnull()
            days = rows.filter(accepted).event_date
            return rows.filter(accepted).aggregate(day=days.max() if latest else days.min())

        files = self._input.within(window.first, window.last)
        bind(
            self._connection,
            dict(zip(window_parameters(), (window.first, window.last), strict=True)),
        )
        [day] = self._fetch(files, "last" if latest else "first", end)
        return day

    def _with_day(self, rows: ir.Table) -> ir.Table:
        """Add `day`, the local date of each row."""
        reads = self._rules.reading
        moment = next(c for c in bronze_events.TABLE.columns if c.name == "event_timestamp")
        is_text = rows.timestamp.type().is_string()
        rows = rows.mutate(given_time=reads.text(rows.timestamp) if is_text else rows.timestamp)
        rows = with_values(rows, {moment: "given_time"}, reads)
        return rows.mutate(day=reads.trusted_date(rows.event_timestamp))

    def _fetch(
        self,
        files: SourceInput,
        name: str,
        build: Callable[[ir.Table], ir.Table],
    ) -> list[date | None]:
        columns, required = event_rules.SOURCE_COLUMNS, event_rules.REQUIRED
        if files.by_day or not self._staged:
            self._staged = stage(self._connection, files, columns, required, copy=False)
        rows, _ = self._staged
        select = self._queries.select(
            f"source_range.{name}",
            lambda: build(rows),
            rows.get_name(),
            rows.schema(),
            self._rules.reading,
            self._rules.aliases is None,
        )
        try:
            return [day for (day,) in self._connection.execute(select).fetchall()]
        except duckdb.Error as error:
            explain_failure(self._connection, files, raw_columns(columns, required), error)
            raise


def _growing(days: Sequence[date]) -> Iterator[DateWindow]:
    """Yield windows that cover the days in order, each with more days than the previous one."""
    size, start = 1, 0
    while start < len(days):
        part = days[start : start + size]
        yield DateWindow(min(part), max(part))
        start, size = start + size, size * _GROWTH
