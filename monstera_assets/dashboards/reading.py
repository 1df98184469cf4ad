"""Reading for the dashboards: windows that end on the as-of date, weeks, tables that may be missing.

Whatever grows with users or events is added up inside DuckDB; what comes out is what is shown.
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
        self._answers: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        self._read: dict[tuple[Any, ...], dict[date, dict[Metric, Any]]] = {}

    def rows(
        self, tables: Iterable[Table], select: str, parameters: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of a query, which is asked once.

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
        asked = (select, *parameters)
        if asked not in self._answers:
            self._answers[asked] = self._connection.execute(select, list(parameters)).fetchall()
        return self._answers[asked]

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
        found = self._read_daily(table, where)
        nothing = dict.fromkeys(metrics)
        return {m: [found.get(day, nothing)[m] for day in frame.days] for m in metrics}

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
        found = self._read_daily(table, where)
        weeks = []
        for last in frame.whole_weeks:
            days = [last - timedelta(days=n) for n in range(WEEK)]
            weeks.append([found[day] for day in days if day in found])
        sums: dict[Metric, list[Any]] = {metric: [] for metric in metrics}
        for metric, week in product(metrics, weeks):
            known = [row[metric] for row in week if row[metric] is not None]
            sums[metric].append(sum(known) if known and len(week) == WEEK else None)
        return sums

    def by_key(
        self, table: MetricTable, key: str, within: str = "", parameters: Sequence[Any] = ()
    ) -> dict[Any, dict[Metric, Any]]:
        """All metrics of a table by the values of a column."""
        columns = ", ".join(quote(metric.column_name) for metric in table.metrics)
        select = f"SELECT {quote(key)}, {columns} FROM {table.qualified_name} {within}"
        rows = self.rows([table], select, parameters)
        return {value: dict(zip(table.metrics, row, strict=True)) for value, *row in rows}

    def _read_daily(
        self, table: MetricTable, where: Mapping[str, Any] | None
    ) -> dict[date, dict[Metric, Any]]:
        """All metrics of a table by day, over the longest timeframe; read once."""
        condition, parameters = _condition(where)
        key = (table.name, condition, *parameters)
        if key not in self._read:
            frame = self.frame(LAST_18_MONTHS)
            within = f"WHERE metric_date BETWEEN ? AND ?{condition}"
            bounds = [frame.first, frame.last, *parameters]
            self._read[key] = self.by_key(table, "metric_date", within, bounds)
        return self._read[key]

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
        name, bounds = table.qualified_name, [frame.first, frame.last]
        within = f"FROM {name} WHERE metric_date BETWEEN ? AND ?"
        days = frame.whole_weeks if added_up else frame.days
        if added_up:
            day = f"metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER) AS day"
            select = f"SELECT {day}, {segment}, {_sum(metric)} {within}{condition} GROUP BY ALL"
            asked = [frame.last, *bounds, *parameters]
            weight = f"sum({column})"
            complete = f"SELECT {day} {within} GROUP BY day HAVING count(DISTINCT metric_date) = ?"
            known = self.rows([table], complete, [frame.last, *bounds, WEEK])
        else:
            select = (
                f"SELECT metric_date, {segment}, {column} {within}{condition}"
                " AND (? - metric_date) % ? = 0"
            )
            asked = [*bounds, *parameters, frame.last, frame.step]
            weight = f"max({column}) FILTER (metric_date = (SELECT max(metric_date) FROM {name}))"
            known = []
        ranked = self.rows(
            [table],
            f"SELECT {segment} {within}{condition} GROUP BY {segment}"
            f" ORDER BY {weight} DESC NULLS LAST, {segment} LIMIT ?",
            [*bounds, *parameters, top if top is not None else _EVERY],
        )
        found: dict[str, dict[date, Any]] = {
            value: {last: 0 for (last,) in known} for (value,) in ranked
        }
        for day_of, value, number in self.rows([table], select, asked):
            if value in found and (day_of in found[value] or not added_up):
                found[value][day_of] = number
        return {value: [numbers.get(day) for day in days] for value, numbers in found.items()}

    def latest(self, table: MetricTable, metrics: Sequence[Metric]) -> list[Any]:
        """Metrics on the as-of date; None where the table has no such row."""
        values = self.by_day(table, metrics, Frame(self.as_of, self.as_of, 1))
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


def _sum(metric: Metric) -> str:
    # Sums of whole numbers come out as HUGEINT; those of decimals are exact in any order.
    column = quote(metric.column_name)
    return f"CAST(sum({column}) AS BIGINT)" if metric.column.type == "int64" else f"sum({column})"
