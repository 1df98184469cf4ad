"""Dashboard queries over days and weeks through the as-of date.

DuckDB aggregates tables that grow with users or events, and only displayed values are fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import product
from typing import Any

import duckdb

from monstera_assets.dashboards.extract import extract
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.model import PERIOD_DAYS, Link
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.gold.published_ids import NONE, TOTAL, own_id
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.errors import MissingTableError

WEEK = 7
SEGMENT_SQL = (
    f"CASE segment_dimension WHEN '{TOTAL}' THEN '{TOTAL}'"
    " ELSE segment_dimension || ':' || segment_value END"
)
"""The value of the page's segment filter for a row, such as `country:US`."""
WEEK_SQL = f"metric_date + CAST(($last - metric_date) % {WEEK} AS INTEGER)"
"""The last day of a row's week. Weeks end on the weekday of the as-of date."""
DAYS_SQL = "metric_date BETWEEN $first AND $last"
"""Whether a row is in the period that pages show."""
WEEKLY_SQL = f"{DAYS_SQL} AND ($last - metric_date) % {WEEK} = 0"
"""Whether a row is on the last day of a week in the period."""
_TABLE = re.compile(r"\b(?:bronze|silver|gold)_\w+")
Rows = list[tuple[Any, ...]]


class Reader:
    """Run page queries and cache the results.

    `accounts` and `people` contain the file of the page of each account and person that has one, by id.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        metric_tables: Sequence[MetricTable],
        wording: Wording,
    ) -> None:
        """Read the tables in the extract. The as-of date is the latest day of the daily metrics."""
        self.wording = wording
        self.accounts: Mapping[str, str] = {}
        self.people: Mapping[str, str] = {}
        self._connection = connection
        self._extract = extract(metric_tables)
        self._daily = [table.name for table in metric_tables if table.partition_column]
        self._names: dict[str, str] = {}
        self._answers: dict[tuple[Any, ...], Rows] = {}

    def rows(self, select: str, **values: Any) -> Rows:
        """Run a query as `ask` does, cache its rows and return them."""
        asked = (select, *values.items())
        if asked not in self._answers:
            self._answers[asked] = self.ask(select, **values)
        return self._answers[asked]

    def ask(self, select: str, **values: Any) -> Rows:
        """Run a query whose tables are named without their schema, and return its rows.

        Build `select` only from declarations, and pass values from data by name. The names `$first` and
        `$last` are the first and last days that pages show.

        Raises:
            MissingTableError: If a table was never materialized, or there are no daily metrics.
            SchemaMismatchError: If a column of a stored table differs from its declaration.
            KeyError: If the extract does not contain a table.
        """
        select = _TABLE.sub(lambda found: self._qualified(found[0]), select)
        days = {name: getattr(self, name) for name in ("first", "last") if f"${name}" in select}
        return self._connection.execute(select, {**days, **values}).fetchall()

    def _qualified(self, name: str) -> str:
        if name not in self._names:
            DuckDBEngine(self._connection).require_table(self._extract[name], whole=False)
            self._names[name] = self._extract[name].qualified_name
        return self._names[name]

    @cached_property
    def days(self) -> tuple[date, date] | None:
        """The first and last days of the daily metrics, or None if there is no data."""
        bounds: Rows = []
        for name in self._daily:
            with suppress(MissingTableError):
                bounds += self.ask(f"SELECT min(metric_date), max(metric_date) FROM {name}")
        known = [(first, last) for first, last in bounds if last is not None]
        return (min(day for day, _ in known), max(day for _, day in known)) if known else None

    @property
    def last(self) -> date:
        """The latest day of the daily metrics. Raises MissingTableError if there are none."""
        if self.days is None:
            raise MissingTableError("No daily metrics exist. Run `monstera run` to compute them.")
        return self.days[1]

    @property
    def first(self) -> date:
        """The first day of charts over time."""
        last = self.last
        return max(self.days[0] if self.days else last, last - timedelta(days=PERIOD_DAYS - 1))

    def every(self, step: int) -> list[date]:
        """Return the days in charts over time, counted back from the as-of date in steps of days."""
        count = (self.last - self.first).days // step + 1
        return [self.last - timedelta(days=n * step) for n in reversed(range(count))]

    @cached_property
    def weeks(self) -> list[date]:
        """The last day of each complete week in charts over time."""
        weeks = self.every(WEEK)
        return weeks[(weeks[0] - self.first).days < WEEK - 1 :]

    def by_key(
        self, table: MetricTable, key: str, within: str = "", **values: Any
    ) -> dict[Any, dict[Metric, Any]]:
        """Return all metrics in a table, grouped by a column."""
        columns = ", ".join(quote(metric.column_name) for metric in table.metrics)
        rows = self.rows(f"SELECT {quote(key)}, {columns} FROM {table.name} {within}", **values)
        return {value: dict(zip(table.metrics, row, strict=True)) for value, *row in rows}

    def daily(self, table: MetricTable, **where: Any) -> Daily:
        """Return the rows in a daily table that match the column values in `where`."""
        return Daily(self, table, where)


@dataclass(frozen=True)
class Daily:
    """The rows in a daily table that match the column values in `where`."""

    reader: Reader
    table: MetricTable
    where: Mapping[str, Any]

    @property
    def within(self) -> str:
        """The SQL condition for these rows, which refers to the values in `where` by name."""
        return DAYS_SQL + "".join(f" AND {quote(name)} = ${name}" for name in self.where)

    @cached_property
    def _metrics(self) -> dict[date, dict[Metric, Any]]:
        """All metrics by day. `where` must select one row per day."""
        within = f"WHERE {self.within}"
        return self.reader.by_key(self.table, "metric_date", within, **self.where)

    def on(self, metrics: Iterable[Metric], days: Sequence[date]) -> dict[Metric, list[Any]]:
        """Return metrics on days, with None for days without a row."""
        found = [self._metrics.get(day, {}) for day in days]
        return {metric: [row.get(metric) for row in found] for metric in metrics}

    def by_week(self, metrics: Iterable[Metric]) -> dict[Metric, list[Any]]:
        """Return sums of daily metrics over weeks, with None if any of a week's days has no row."""
        sums: dict[Metric, list[Any]] = {metric: [] for metric in metrics}
        for last, metric in product(self.reader.weeks, sums):
            days = [last - timedelta(days=n) for n in range(WEEK)]
            values = [self._metrics[day][metric] for day in days if day in self._metrics]
            known = [value for value in values if value is not None]
            sums[metric].append(sum(known) if known and len(values) == WEEK else None)
        return sums


HOME = "index.html"
MAIN_PAGES = tuple(
    Link(name, f"{name.lower()}.html")
    for name in ("Lifecycle", "Retention", "Revenue", "Products", "Activity", "Risk", "Accounts")
)
"""The links in the navigation bar."""


@dataclass(frozen=True)
class Catalog:
    """The ids of the active products, and the unique names of all product catalog nodes by id."""

    products: tuple[str, ...]
    names: dict[str, str]

    def name(self, node: str) -> str:
        """Return the name of a product, feature or sub-feature, or its id if the name is unknown."""
        return self.names.get(node, node)

    def published_name(self, node: str) -> str:
        """Return the display name for a published id. The id can be `none`."""
        return "None" if node == NONE else self.name(own_id(node))


def read_catalog(reader: Reader) -> Catalog:
    """Return the catalog by product name, with the ids of nodes that share a name.

    The catalog is empty if it was never materialized.
    """
    try:
        nodes = reader.rows(
            "SELECT product_id, product_name, tier = 'product' AND is_active"
            " FROM bronze_product_catalog ORDER BY product_name, product_id"
        )
    except MissingTableError:
        return Catalog((), {})
    uses = Counter(name for _, name, _ in nodes)
    names = {node: name if uses[name] == 1 else f"{name} ({node})" for node, name, _ in nodes}
    return Catalog(tuple(node for node, _, is_active in nodes if is_active), names)


def page_file(kind: str, entity: str) -> str:
    """Return the file name of a page, which depends on nothing but the id."""
    plain = re.sub(r"[^a-z0-9_]+", "_", entity.lower())[:60]
    digest = hashlib.sha256(entity.encode()).hexdigest()[:12]
    return f"{kind}_{plain if plain == entity else f'{plain}-{digest}'}.html"
