"""Dashboard queries over days and weeks through the as-of date.

Tables that grow with the number of users or events are aggregated in DuckDB. Only the displayed
values are fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import product
from typing import Any

import duckdb

from monstera_assets.dashboards.design import LAST_18_MONTHS, Timeframe
from monstera_assets.dashboards.extract import extract
from monstera_assets.dashboards.findings import Wording
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.gold.published_ids import TOTAL
from monstera_assets.warehouse.common_columns import METRIC_DATE
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table

WEEK = 7
SEGMENT_SQL = (
    f"CASE segment_dimension WHEN '{TOTAL}' THEN '{TOTAL}'"
    " ELSE segment_dimension || ':' || segment_value END"
)
"""The value of the page's segment filter for a row, such as `country:US`."""


@dataclass(frozen=True)
class Frame:
    """A window of days ending on the as-of date, and the days to show from the window.

    `step` is the number of days between the days to show.
    """

    first: date
    last: date
    step: int

    @property
    def days(self) -> list[date]:
        """The days to show, counted back from the as-of date."""
        count = (self.last - self.first).days // self.step + 1
        return [self.last - timedelta(days=n * self.step) for n in reversed(range(count))]

    @property
    def whole_weeks(self) -> list[date]:
        """The last day of each complete week in the window."""
        count = ((self.last - self.first).days + 1) // WEEK
        return [self.last - timedelta(days=n * WEEK) for n in reversed(range(count))]


@dataclass(frozen=True)
class Rest:
    """The categories that are not shown one by one: their number and what they add up to."""

    categories: int
    total: Any


NO_REST = Rest(0, 0)


@dataclass(frozen=True)
class Segments:
    """A count by segment and week.

    Attributes:
        shown: each shown segment's values, in descending order of the segments' sums.
        others: the number of segments that are not shown.
        rest: the sums of the segments that are not shown.
    """

    shown: Mapping[str, list[Any]]
    others: int
    rest: list[Any]


class Reader:
    """Run page queries and cache the results.

    Attributes:
        wording: how pages express amounts.
        accounts, people: the file of the page of each account and person that has one, by id.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        metric_tables: Sequence[MetricTable],
        wording: Wording,
    ) -> None:
        """Read the tables in the extract from a connection.

        The as-of date is the latest day in the daily metric tables.
        """
        self.wording = wording
        self.accounts: Mapping[str, str] = {}
        self.people: Mapping[str, str] = {}
        self._connection = connection
        self._extract = extract(metric_tables)
        self._daily = [table for table in metric_tables if table.partition_column]
        self._verified: set[str] = set()
        self._answers: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        self._daily_rows: dict[tuple[Any, ...], Daily] = {}

    def rows(
        self,
        tables: Iterable[Table],
        select: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
    ) -> list[tuple[Any, ...]]:
        """Run a query over `tables`, cache its rows and return them.

        Build `select` only from declarations, and pass values from data as `parameters`.

        Raises:
            MissingTableError: If a table was never materialized.
            SchemaMismatchError: If a column of a stored table differs from its declaration.
            KeyError: If the extract does not contain a table.
        """
        asked = (select, *(parameters.items() if isinstance(parameters, Mapping) else parameters))
        if asked not in self._answers:
            self._answers[asked] = self.ask(tables, select, parameters)
        return self._answers[asked]

    def ask(
        self,
        tables: Iterable[Table],
        select: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
    ) -> list[tuple[Any, ...]]:
        """Run a query as `rows` does, without keeping its rows."""
        for table in tables:
            if table.name not in self._verified:
                DuckDBEngine(self._connection).require_table(self._extract[table.name], whole=False)
                self._verified.add(table.name)
        given = parameters if isinstance(parameters, Mapping) else list(parameters)
        return self._connection.execute(select, given).fetchall()

    @cached_property
    def days(self) -> tuple[date, date] | None:
        """The first and last days of the daily metrics, or None if there is no data."""
        bounds = []
        for table in self._daily:
            with suppress(MissingTableError):
                bounds += self.rows(
                    [table],
                    f"SELECT min(metric_date), max(metric_date) FROM {table.qualified_name}",
                )
        known = [(first, last) for first, last in bounds if last is not None]
        if not known:
            return None
        return min(first for first, _ in known), max(last for _, last in known)

    @property
    def as_of(self) -> date:
        """The latest day of the daily metrics.

        Raises:
            MissingTableError: If there are no daily metrics.
        """
        return self._known_days()[1]

    def frame(self, timeframe: Timeframe, step: int = 1) -> Frame:
        """Return the days in a timeframe for which metrics exist.

        Raises:
            MissingTableError: If there are no daily metrics.
        """
        first, last = self._known_days()
        return Frame(max(first, last - timedelta(days=timeframe.days - 1)), last, step)

    def by_key(
        self, table: MetricTable, key: str, within: str = "", parameters: Sequence[Any] = ()
    ) -> dict[Any, dict[Metric, Any]]:
        """Return all metrics in a table, grouped by a column."""
        columns = ", ".join(quote(metric.column_name) for metric in table.metrics)
        select = f"SELECT {quote(key)}, {columns} FROM {table.qualified_name} {within}"
        rows = self.rows([table], select, parameters)
        return {value: dict(zip(table.metrics, row, strict=True)) for value, *row in rows}

    def daily(self, table: MetricTable, **where: Any) -> Daily:
        """Return the rows in a daily table that match the column values in `where`."""
        return self._daily_rows.setdefault((table.name, *where.items()), Daily(self, table, where))

    def _known_days(self) -> tuple[date, date]:
        if self.days is None:
            raise MissingTableError("No daily metrics exist. Run `monstera run` to compute them.")
        return self.days


@dataclass(frozen=True)
class Daily:
    """The rows in a daily table that match the column values in `where`."""

    reader: Reader
    table: MetricTable
    where: Mapping[str, Any]

    @cached_property
    def _metrics(self) -> dict[date, dict[Metric, Any]]:
        """All metrics by day over the longest timeframe.

        `where` must select one row per day.
        """
        within, bounds = self._within(self.reader.frame(LAST_18_MONTHS))
        return self.reader.by_key(self.table, METRIC_DATE.name, within, bounds)

    def by_day(self, metrics: Iterable[Metric], frame: Frame) -> dict[Metric, list[Any]]:
        """Return metrics on each day in a frame, with None for days without a row."""
        found = [self._metrics.get(day, {}) for day in frame.days]
        return {metric: [row.get(metric) for row in found] for metric in metrics}

    def by_week(self, metrics: Iterable[Metric], frame: Frame) -> dict[Metric, list[Any]]:
        """Return sums of daily metrics over the complete weeks in a frame.

        A week's sum is None if any of the week's days has no row.
        """
        sums: dict[Metric, list[Any]] = {metric: [] for metric in metrics}
        for last, metric in product(frame.whole_weeks, sums):
            days = [last - timedelta(days=n) for n in range(WEEK)]
            values = [self._metrics[day][metric] for day in days if day in self._metrics]
            known = [value for value in values if value is not None]
            sums[metric].append(sum(known) if known and len(values) == WEEK else None)
        return sums

    def latest(self, metrics: Iterable[Metric]) -> list[Any]:
        """Return metrics on the as-of date, or only None values if that date has no row."""
        row = self._metrics.get(self.reader.as_of, {})
        return [row.get(metric) for metric in metrics]

    def by_segment(
        self, metric: Metric, dimension: str, frame: Frame, *, top: int, without: Sequence[str] = ()
    ) -> Segments:
        """Return a count by complete week and by the `top` values of a dimension that divides it.

        A week's sum is 0 for a segment without rows, and None if the table has no rows for one or more
        of the week's days. Rows with the values `without`, such as totals, are left out, and so are
        segments whose count is 0.
        """
        rows, column, segment = self.reader.rows, quote(metric.column_name), quote(dimension)
        name = self.table.qualified_name
        within, asked = self._within(frame)
        within += "".join(f" AND {segment} <> ?" for _ in without)
        asked += without
        ranking = (
            f"SELECT {segment}, count(*) OVER () AS segments FROM {name} {within} GROUP BY {segment}"
            f" HAVING sum({column}) > 0 ORDER BY sum({column}) DESC, {segment} LIMIT ?"
        )
        ranked = rows([self.table], ranking, [*asked, top])
        # DuckDB widens integer sums to HUGEINT.
        found_rows = rows(
            [self.table],
            f"WITH ranked AS ({ranking}) SELECT ranked.{segment} AS shown,"
            f" CAST(sum({column}) AS BIGINT),"
            f" metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER) AS day"
            f" FROM {name} LEFT JOIN ranked USING ({segment}) {within} GROUP BY ALL ORDER BY ALL",
            [*asked, top, frame.last, *asked],
        )
        complete = {day: 0 for (day,) in self._complete_weeks(frame)}
        found: dict[str | None, dict[date, Any]] = {
            value: dict(complete) for value in (*(value for value, _ in ranked), None)
        }
        for value, number, on in found_rows:
            if on in complete:
                found[value][on] = number
        weeks = frame.whole_weeks
        shown = {value: [found[value].get(on) for on in weeks] for value, _ in ranked}
        rest = [found[None].get(on) for on in weeks]
        return Segments(shown, ranked[0][1] - len(ranked) if ranked else 0, rest)

    def _complete_weeks(self, frame: Frame) -> list[tuple[Any, ...]]:
        """Return the last day of each week in a frame for which the table has all days."""
        return self.reader.rows(
            [self.table],
            f"SELECT metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER) AS week"
            f" FROM {self.table.qualified_name} WHERE metric_date BETWEEN ? AND ?"
            " GROUP BY week HAVING count(DISTINCT metric_date) = ?",
            [frame.last, frame.first, frame.last, WEEK],
        )

    def _within(self, frame: Frame) -> tuple[str, list[Any]]:
        """Return the SQL filter and its parameters for a frame's days and for `where`."""
        conditions = "".join(f" AND {quote(name)} = ?" for name in self.where)
        bounds = [frame.first, frame.last, *self.where.values()]
        return f"WHERE {METRIC_DATE.name} BETWEEN ? AND ?{conditions}", bounds
