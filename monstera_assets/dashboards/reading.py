"""Reading for the dashboards: windows that end on the as-of date, weeks, tables that may be missing.

Whatever grows with users or events is added up inside DuckDB; what comes out is what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import duckdb

from monstera_assets.dashboards.design import Timeframe
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.writer import quote, require_table

WEEK = 7
_EVERY = 1_000_000


@dataclass(frozen=True)
class Frame:
    """A window of days up to the as-of date, and the days or weeks that are shown of it."""

    first: date
    last: date
    step: int

    @property
    def days(self) -> list[date]:
        """The days shown, which are the last ones of weeks where the step is one."""
        count = (self.last - self.first).days // self.step + 1
        return [self.last - timedelta(days=n * self.step) for n in reversed(range(count))]

    @property
    def whole_weeks(self) -> list[date]:
        """Last days of the weeks that lie in the window as a whole."""
        count = ((self.last - self.first).days + 1) // WEEK
        return [self.last - timedelta(days=n * WEEK) for n in reversed(range(count))]


class Reader:
    """What the pages ask the warehouse; each question names its tables, which may be missing."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, daily: Sequence[MetricTable]) -> None:
        """Read from a connection; the latest day of the daily tables is the as-of date."""
        self._connection = connection
        self._daily = daily
        self._verified: set[str] = set()

    def rows(
        self, tables: Iterable[Table], select: str, parameters: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of a query.

        Args:
            tables: that it reads.
            select: SQL made of declarations; values of the data are parameters.
            parameters: for its question marks.

        Raises:
            MissingTableError: a table was never materialized.
            SchemaMismatchError: a table is stored otherwise than it is declared.
        """
        for table in tables:
            if table.name not in self._verified:
                require_table(self._connection, table)
                self._verified.add(table.name)
        return self._connection.execute(select, list(parameters)).fetchall()

    @cached_property
    def days(self) -> tuple[date, date] | None:
        """First and last day of the daily metrics; None before there are any."""
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
            MissingTableError: there are none.
        """
        return self._known_days()[1]

    def frame(self, timeframe: Timeframe, step: int = 1) -> Frame:
        """The days of a timeframe that there are.

        Raises:
            MissingTableError: there are none.
        """
        first, last = self._known_days()
        return Frame(max(first, last - timedelta(days=timeframe.days - 1)), last, step)

    def by_day(
        self,
        table: MetricTable,
        metrics: Sequence[Metric],
        frame: Frame,
        where: Mapping[str, Any] | None = None,
    ) -> dict[Metric, list[Any]]:
        """Metrics on each day of a frame; None on days that the table does not have."""
        columns = ", ".join(quote(metric.column_name) for metric in metrics)
        condition, parameters = _condition(where)
        found = {
            day: values
            for day, *values in self.rows(
                [table],
                f"SELECT metric_date, {columns} FROM {table.qualified_name}"
                f" WHERE metric_date BETWEEN ? AND ? AND (? - metric_date) % ? = 0{condition}"
                " ORDER BY metric_date",
                [frame.first, frame.last, frame.last, frame.step, *parameters],
            )
        }
        return _columns(metrics, found, frame.days)

    def by_week(
        self,
        table: MetricTable,
        metrics: Sequence[Metric],
        frame: Frame,
        where: Mapping[str, Any] | None = None,
    ) -> dict[Metric, list[Any]]:
        """Metrics of single days added up over the whole weeks of a frame.

        None for a week of which the table lacks a day.
        """
        sums = ", ".join(_sum(table, metric) for metric in metrics)
        condition, parameters = _condition(where)
        found = {
            last: values
            for last, days, *values in self.rows(
                [table],
                f"SELECT metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER) AS last_day,"
                f" count(*), {sums} FROM {table.qualified_name}"
                f" WHERE metric_date BETWEEN ? AND ?{condition} GROUP BY last_day ORDER BY last_day",
                [frame.last, frame.first, frame.last, *parameters],
            )
            if days == WEEK
        }
        return _columns(metrics, found, frame.whole_weeks)

    def by_segment(
        self,
        table: MetricTable,
        metric: Metric,
        dimension: str,
        frame: Frame,
        where: Mapping[str, Any] | None = None,
        *,
        top: int | None = None,
        added_up: bool = False,
    ) -> dict[str, list[Any]]:
        """A metric by the values of a dimension, those with most first.

        Args:
            table: to read.
            metric: its column.
            dimension: the column of the segments.
            frame: the days.
            where: columns that must equal values.
            top: how many segments are wanted; by default all.
            added_up: whether days are added up over the whole weeks of the frame. Then a segment
                without rows counts 0, and a week of which the table lacks a day is not known; else
                what has no row is not known.
        """
        column, segment = quote(metric.column_name), quote(dimension)
        condition, parameters = _condition(where)
        name = table.qualified_name
        within = f"FROM {name} WHERE metric_date BETWEEN ? AND ?{condition}"
        bounds = [frame.first, frame.last, *parameters]
        if added_up:
            days = frame.whole_weeks
            day = f"metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER)"
            select = f"SELECT {day} AS day, {segment}, {_sum(table, metric)} {within} GROUP BY ALL"
            asked = [frame.last, *bounds]
            weight = f"sum({column})"
        else:
            days = frame.days
            select = (
                f"SELECT metric_date, {segment}, {column} {within} AND (? - metric_date) % ? = 0"
            )
            asked = [*bounds, frame.last, frame.step]
            weight = f"max({column}) FILTER (metric_date = (SELECT max(metric_date) FROM {name}))"
        ranked = [
            value
            for (value,) in self.rows(
                [table],
                f"SELECT {segment} {within} GROUP BY {segment}"
                f" ORDER BY {weight} DESC NULLS LAST, {segment} LIMIT ?",
                [*bounds, top if top is not None else _EVERY],
            )
        ]
        found: dict[str, dict[date, Any]] = {value: {} for value in ranked}
        for day_of, value, number in self.rows([table], select, asked):
            if value in found:
                found[value][day_of] = number
        absent: dict[date, Any] = {}
        if added_up:
            complete = self.rows(
                [table],
                f"SELECT metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER) AS day"
                f" FROM {name} WHERE metric_date BETWEEN ? AND ?"
                f" GROUP BY day HAVING count(DISTINCT metric_date) = {WEEK}",
                [frame.last, frame.first, frame.last],
            )
            absent = {last: 0 for (last,) in complete}
            found = {
                value: {last: numbers.get(last, 0) for last in absent}
                for value, numbers in found.items()
            }
        return {value: [numbers.get(day) for day in days] for value, numbers in found.items()}

    def latest(
        self, table: MetricTable, metrics: Sequence[Metric], where: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Metrics on the as-of date; None where the table has no such row."""
        values = self.by_day(table, metrics, Frame(self.as_of, self.as_of, 1), where)
        return [values[metric][0] for metric in metrics]

    def _known_days(self) -> tuple[date, date]:
        if self.days is None:
            raise MissingTableError(
                "no table of daily metrics holds anything yet. Materialize them first, for example"
                " with: monstera run"
            )
        return self.days


def _condition(where: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    """Columns that must equal values, as SQL and its parameters."""
    where = where or {}
    return "".join(f" AND {quote(name)} = ?" for name in where), list(where.values())


def _sum(table: MetricTable, metric: Metric) -> str:
    # Sums of whole numbers come out as HUGEINT; those of decimals are exact in any order.
    column = quote(metric.column_name)
    kind = metric.column.type
    return f"CAST(sum({column}) AS BIGINT)" if kind == "int64" else f"sum({column})"


def _columns(
    metrics: Sequence[Metric], found: Mapping[date, Sequence[Any]], days: Sequence[date]
) -> dict[Metric, list[Any]]:
    """The values of each metric on each day; None on days that were not found."""
    nothing = [None] * len(metrics)
    return {
        metric: [found.get(day, nothing)[place] for day in days]
        for place, metric in enumerate(metrics)
    }
