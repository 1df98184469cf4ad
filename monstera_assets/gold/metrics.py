"""Metric declarations: names, definition, formula, unit with bounds, population and caveats.

A gold table consists of dimensions and metrics. A metric's declaration defines its column, its row in
gold_metric_catalog and its entry on the catalog page. A metric that appears in several tables is
declared once, in the module for the table that is named after the metric.
"""
# Over 400 lines: a metric, its unit, its proportion and its table are one declaration.

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import OWNERS
from monstera_assets.lifecycle.expressions import ratio
from monstera_assets.warehouse.common_columns import METRIC_DATE
from monstera_assets.warehouse.tables import TREND_FLAGS, AssetGroup, Column, Layer, Table

PERIODS = ("Daily", "Weekly", "Monthly", "to Date", "per Window", "per Period")
"""Time periods in metric names: the day, the 7 or 30 days ending on the day, all days through the day,
or the row's window or period."""
_CHANGES = ("Week on Week", "Month on Month")
_SMALL_WORDS = ("a", "an", "and", "from", "in", "of", "on", "per", "the", "to")
_WORD = rf"(?:[A-Z][A-Za-z]*|[0-9]+|{'|'.join(_SMALL_WORDS)})"
NAMING_CONVENTION = (
    rf"^[A-Z][a-z]+(?: {_WORD})+? (?:{'|'.join(PERIODS)})"
    rf"(?: (?:{'|'.join(_CHANGES)}))?(?: by [A-Z][a-z]+(?: {_WORD})*)?$"
)
"""Pattern for metric names: `[Entity] [Action or State] [Time Period] [by Segment]`, in Title Case."""


class Unit(StrEnum):
    """The unit of a metric."""

    USERS = "users"
    ACCOUNTS = "accounts"
    MEMBERS = "users, relationships or accounts"
    EVENTS = "events"
    WORKFLOWS = "workflow runs"
    MOVES = "moves"
    SHARE = "share"
    RETENTION = "share of an earlier amount"
    RATIO = "ratio"
    CHANGE = "relative change"
    DAYS = "days"
    HOURS = "hours"
    POSITION = "position"
    SCORE = "score"
    MONEY = "reporting currency per month"
    YEARLY_MONEY = "reporting currency per year"

    @property
    def is_money(self) -> bool:
        """Whether values are amounts in the reporting currency."""
        return self in (Unit.MONEY, Unit.YEARLY_MONEY)

    def in_currency(self, currency: str) -> str:
        """Return the unit's text, with the code of the reporting currency in amounts of money."""
        return self.replace("reporting currency", currency)


_UNITS = {
    **{
        str(unit).capitalize(): unit
        for unit in (Unit.USERS, Unit.ACCOUNTS, Unit.EVENTS, Unit.MOVES)
    },
    "Members": Unit.MEMBERS,
    "Workflows": Unit.WORKFLOWS,
    "Revenue": Unit.MONEY,
}
"""Default units by the first word in the metric name."""
COUNTS = (
    *(Unit.USERS, Unit.ACCOUNTS, Unit.MEMBERS, Unit.EVENTS),
    *(Unit.WORKFLOWS, Unit.MOVES),
)
_FORMATS = {
    **dict.fromkeys(COUNTS, "{:,}"),
    **dict.fromkeys((Unit.SHARE, Unit.RETENTION), "{:.1%}"),
    Unit.RATIO: "{:,.2f}",
    Unit.CHANGE: "{:+.1%}",
}
PERCENTAGES = (Unit.SHARE, Unit.RETENTION, Unit.CHANGE)
"""Units of quotients that are shown as percentages."""
QUOTIENTS = (*PERCENTAGES, Unit.RATIO)
_TYPES = {
    **dict.fromkeys(COUNTS, "int64"),
    **dict.fromkeys((Unit.MONEY, Unit.YEARLY_MONEY), "decimal(18, 2)"),
}
Bounds = tuple[float | None, float | None]
"""The lowest and the highest possible value, or None if there is no limit."""
_BOUNDS: Mapping[Unit, Bounds] = {
    Unit.SHARE: (0, 1),
    Unit.CHANGE: (-1, None),  # from a value above 0 to 0
    Unit.POSITION: (1, None),
    Unit.SCORE: (0, 100),
}
"""Bounds by unit. The values of other units are 0 or more."""


class Additivity(StrEnum):
    """How the values of several rows and days combine into one value."""

    ADDITIVE = "the sum over rows and days"
    """A count or amount of what happened on the day."""
    SEMI_ADDITIVE = "the sum over rows, on the last day"
    """A count or amount at the end of the day, or over a window that ends on the day."""
    OPENING = "the sum over rows, on the first day"
    """An amount at the start of the day."""
    NON_ADDITIVE = "the value of a single row, on the last day"
    """A quotient, mean, median or score, or a sum of squares."""


@dataclass(frozen=True)
class DistinctUsers:
    """Distinct users in silver_daily_user_activity.

    Attributes:
        only_active: whether users without a qualifying event on a day are left out of that day.
        days: the length of the window that ends on the day.
    """

    only_active: bool = True
    days: int = 1


@dataclass(frozen=True)
class Metric:
    """A named, computed number.

    Attributes:
        name: name that follows `NAMING_CONVENTION`. The column name is the snake_case form.
        definition: one sentence that also serves as the column description.
        formula: how the metric is computed.
        unit: the metric's unit. Counts are integers, and money has two decimal places. By default, the
            unit is share if the name contains `Share`. Otherwise, the unit depends on the name's first
            word.
        nullable: whether the metric can be null. Quotients are always nullable. The definition
            specifies when the value is null.
        caveats: what to consider when interpreting the metric.
        short_name: the name in general use, such as MAU; empty if there is none.
        population: what the denominator of a quotient, mean or median counts or sums up; empty for
            counts and amounts of money.
        is_loss: whether the values are losses, which are negative or 0.
        additivity: how values combine. By default, counts and amounts of money are semi-additive, and
            all other units are not additive.
        distinct: the users that the metric counts, if it counts distinct users by day or window.
        numerator: the metrics of the same table whose sum is divided by `denominator`.
        denominator: the metric of the same table by which `numerator` is divided.
        change_of: the metric whose relative change this is, and the number of days between the values.

    Raises:
        ValueError: If the name does not follow the convention, or if neither `unit` nor the name
            determines the unit.
    """

    name: str
    definition: str
    formula: str
    unit: Unit = None  # type: ignore[assignment]  # set below
    nullable: bool = False
    caveats: str = ""
    short_name: str = ""
    population: str = ""
    is_loss: bool = False
    additivity: Additivity = None  # type: ignore[assignment]  # set below
    distinct: DistinctUsers | None = None
    numerator: tuple[Metric, ...] = ()
    denominator: Metric | None = None
    change_of: tuple[Metric, int] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(NAMING_CONVENTION, self.name):
            raise ValueError(
                f"The metric name {self.name!r} does not follow the pattern [Entity] [Action or State]"
                " [Time Period] [by Segment]. Rename the metric in Title Case, using one of these time"
                f" periods: {', '.join(PERIODS)}."
            )
        if not self.unit:
            words = self.name.split()
            if "Share" not in words and words[0] not in _UNITS:
                raise ValueError(f"The metric {self.name!r} has no unit. Pass `unit`.")
            unit = Unit.SHARE if "Share" in words else _UNITS[words[0]]
            object.__setattr__(self, "unit", unit)
        if not self.additivity:
            is_sum = self.unit in COUNTS or self.unit.is_money
            additivity = Additivity.SEMI_ADDITIVE if is_sum else Additivity.NON_ADDITIVE
            object.__setattr__(self, "additivity", additivity)

    @property
    def bounds(self) -> Bounds:
        """The lowest and the highest possible value."""
        return (None, 0) if self.is_loss else _BOUNDS.get(self.unit, (0, None))

    @property
    def title(self) -> str:
        """The short name with the name in parentheses, or only the name."""
        return f"{self.short_name} ({self.name})" if self.short_name else self.name

    @property
    def column_name(self) -> str:
        """The name in snake_case."""
        return snake_case(self.name)

    @property
    def column(self) -> Column:
        """The column that contains the metric."""
        return Column(
            self.column_name,
            _TYPES.get(self.unit, "float64"),
            f"{self.definition} Short name: {self.short_name}."
            if self.short_name
            else self.definition,
            nullable=self.nullable or self.unit in QUOTIENTS,
            is_share=self.unit is Unit.SHARE,
        )

    def format(self, value: Any, currency: str) -> str:
        """Format a value: shares as percentages, ratios as numbers, and money with its currency."""
        if value is None:
            return "not known"
        if self.unit.is_money:
            return money_text(value, currency)
        return _FORMATS.get(self.unit, "{:,.1f}").format(value)

    def change(self, days: int) -> Metric:
        """Return the metric for the relative change over 7 or 30 days."""
        period = {7: "Week on Week", 30: "Month on Month"}[days]
        return Metric(
            f"{self.name} {period}",
            f"Relative change in {self.name} over {days} days; null if the earlier value is 0 or"
            " unknown.",
            f"({self.column_name} - value {days} days earlier) / value {days} days earlier",
            Unit.CHANGE,
            short_name=self.short_name and f"{self.short_name} {period}",
            population=f"{self.name} {days} days earlier",
            change_of=(self, days),
        )


@dataclass(frozen=True)
class Proportion:
    """A share that is published with the two counts from which it is computed.

    Attributes:
        share: part / population.
        part: the members of the population who meet a condition.
        population: everyone to whom the condition can apply.
    """

    share: Metric
    part: Metric
    population: Metric

    @property
    def metrics(self) -> tuple[Metric, Metric, Metric]:
        """All three metrics."""
        return (self.share, self.part, self.population)

    def columns(
        self,
        part: ir.IntegerValue,
        population: ir.IntegerValue,
        where: ir.BooleanValue | None = None,
    ) -> dict[str, ir.Value]:
        """Return the three columns, which are null in rows that do not match `where`."""
        values = dict(zip(self.metrics, (ratio(part, population), part, population), strict=True))
        return {
            metric.column_name: value if where is None else ibis.ifelse(where, value, None)
            for metric, value in values.items()
        }


def proportion(
    name: str,
    period: str,
    *,
    part: str,
    population: str,
    only: str = "",
    caveats: str = "",
) -> Proportion:
    """Declare a share with its part and its population.

    Args:
        name: the entity and its action or state, such as `Users Churned`.
        period: the time period in the metrics' names.
        part: what is true for the part, as a relative clause such as `who are churned`.
        population: a plural noun phrase for the population.
        only: the rows in which the metrics are not null, if they are null in all other rows.
        caveats: what to consider when interpreting the metrics.
    """
    elsewhere = f"; null in rows other than {only}" if only else ""
    everybody = population[0].upper() + population[1:]
    members = Metric(
        f"{name} {period}",
        f"{everybody} {part}{elsewhere}.",
        f"count({population} {part})",
        nullable=bool(only),
        caveats=caveats,
    )
    everyone = Metric(
        f"{name} Population {period}",
        f"{everybody}{elsewhere}.",
        f"count({population})",
        nullable=bool(only),
        caveats=caveats,
    )
    share = Metric(
        f"{name} Share {period}",
        f"Among {population}, the share {part}; null if there are no such"
        f" {name.split()[0].lower()}{f', and in rows other than {only}' if only else ''}.",
        f"{members.column_name} / {everyone.column_name}",
        caveats=caveats,
        population=population,
        numerator=(members,),
        denominator=everyone,
    )
    return Proportion(share, members, everyone)


@dataclass(frozen=True)
class Slice:
    """Rows of a metric table whose values add up, since they count each member once a date.

    Attributes:
        name: how the rows are selected, as the end of a metric's name, such as `by_country`. Empty for
            the rows that a metric's name alone denotes.
        where: the values of dimensions in the rows.
        parts: the dimensions whose total row is left out.
        without: metrics that are always null in the rows or do not add up over them.
    """

    name: str = ""
    where: Mapping[str, str | int] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    without: tuple[Metric, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MetricTable(Table):
    """A gold table with dimensions and metrics.

    Attributes:
        dimensions: the columns that are neither metrics nor trend flags.
        slices: the rows whose values add up.
        business_owner: the team that defines the metrics.
        dashboard_owner: the team that owns the dashboards.
    """

    dimensions: tuple[Column, ...]
    metrics: tuple[Metric, ...]
    slices: tuple[Slice, ...] = field(compare=False)
    business_owner: str = "team:product-management"
    dashboard_owner: str = "team:product-analytics"


def metric_table(
    name: str,
    *,
    group: AssetGroup,
    grain: str,
    description: str,
    dimensions: Sequence[Column],
    metrics: Sequence[Metric],
    key: Sequence[str] | None = None,
    is_daily: bool = True,
    slices: Sequence[Slice] = (Slice(),),
) -> MetricTable:
    """Declare a gold table of metrics.

    Args:
        name: the table's name.
        group: the table's group in the Dagster UI.
        grain: what one row represents.
        description: the question that the table answers, followed by notes.
        dimensions: the columns that are not metrics; in a daily table, `metric_date` comes first.
        metrics: the metrics, in column order.
        key: names of the columns that identify a row, by default all dimensions.
        is_daily: whether the table is partitioned by `metric_date` and has trend flags. A table that is
            not daily describes the as-of date.
        slices: the rows whose values add up, by default all rows. Empty if only values that differ
            between companies, such as product ids, select such rows.
    """
    return MetricTable(
        layer=Layer.GOLD,
        name=name,
        group=group,
        grain=grain,
        description=description,
        owners=OWNERS,
        key=tuple(key or (column.name for column in dimensions)),
        partition_column=METRIC_DATE.name if is_daily else None,
        columns=(
            *dimensions,
            *(metric.column for metric in metrics),
            *(TREND_FLAGS if is_daily else ()),
        ),
        dimensions=tuple(dimensions),
        metrics=tuple(metrics),
        slices=tuple(slices),
    )


def metric_columns(rows: ir.Table, *metrics: Metric) -> tuple[ir.Column, ...]:
    """Return a table's columns for the given metrics."""
    return tuple(rows[metric.column_name] for metric in metrics)


def counted_by_state(
    rows: ir.Table, state: ir.Value, metrics: Mapping[Any, Metric]
) -> dict[str, ir.IntegerValue]:
    """Return the number of rows in each state, keyed by the column name of the state's metric."""
    return {
        metric.column_name: rows.count(where=state == str(value))
        for value, metric in metrics.items()
    }


def zero_filled(rows: ir.Table, metrics: Iterable[Metric]) -> dict[str, ir.Value]:
    """Return the columns for the given metrics, with nulls replaced by 0."""
    return {metric.column_name: rows[metric.column_name].fill_null(0) for metric in metrics}


def columns(kind: str, *, nullable: bool = False, **descriptions: str) -> tuple[Column, ...]:
    """Return columns of the same type from their names and descriptions."""
    return tuple(Column(name, kind, text, nullable) for name, text in descriptions.items())


def money_text(amount: Any, currency: str) -> str:
    """Format an amount of money with two decimal places and its currency."""
    return f"{amount:,.2f} {currency}"


def snake_case(name: str) -> str:
    """Return the table or column name for a name in Title Case."""
    return name.lower().replace(" ", "_")


def title_case(name: str) -> str:
    """Convert a snake_case name to Title Case (the inverse of `snake_case`)."""
    return " ".join(word if word in _SMALL_WORDS else word.capitalize() for word in name.split("_"))
