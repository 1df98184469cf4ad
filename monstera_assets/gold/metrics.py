"""Metrics, each declared once: name, definition, formula, unit, caveats.

A gold table is made of dimensions and metrics. From a metric's declaration follow its column and that
column's description, its row in gold_metric_catalog, its entry on the page of the catalog, and the
check of the naming convention. A metric that several tables show is one object, imported from the
table that it is named after.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ibis.expr.types as ir

from monstera_assets.gold import OWNERS
from monstera_assets.warehouse.common_columns import METRIC_DATE
from monstera_assets.warehouse.tables import TREND_FLAGS, Column, Layer, Table

PERIODS = ("Daily", "Weekly", "Monthly", "to Date", "per Window", "per Period")
"""What a metric's name says of time: the day, the 7 or 30 days that end on it, all days up to it, or
the window or period that its row names."""
_CHANGES = ("Week on Week", "Month on Month")
_SMALL_WORDS = ("a", "an", "and", "from", "in", "of", "on", "per", "the", "to")
_WORD = rf"(?:[A-Z][A-Za-z]*|[0-9]+|{'|'.join(_SMALL_WORDS)})"
NAMING_CONVENTION = (
    rf"^[A-Z][a-z]+(?: {_WORD})+? (?:{'|'.join(PERIODS)})"
    rf"(?: (?:{'|'.join(_CHANGES)}))?(?: by [A-Z][a-z]+(?: {_WORD})*)?$"
)
"""`[Entity] [Action or State] [Time Period] [by Segment]`, in Title Case."""


class Unit(StrEnum):
    """What a metric is measured in."""

    USERS = "users"
    ACCOUNTS = "accounts"
    MEMBERS = "users, relationships or accounts"
    EVENTS = "events"
    WORKFLOWS = "workflow runs"
    MOVES = "moves"
    FAILURES = "payment failures"
    SHARE = "share, 0 to 1"
    RATIO = "ratio"
    CHANGE = "relative change"
    DAYS = "days"
    HOURS = "hours"
    POSITION = "position"
    SCORE = "score, 0 to 100"
    MONEY = "company's currency a month"


_UNITS = {
    **{
        str(unit).capitalize(): unit
        for unit in (Unit.USERS, Unit.ACCOUNTS, Unit.EVENTS, Unit.MOVES)
    },
    "Members": Unit.MEMBERS,
    "Workflows": Unit.WORKFLOWS,
    "Revenue": Unit.MONEY,
}
"""What the first word of a metric's name counts."""
COUNTS = (
    *(Unit.USERS, Unit.ACCOUNTS, Unit.MEMBERS, Unit.EVENTS),
    *(Unit.WORKFLOWS, Unit.MOVES, Unit.FAILURES),
)
_FORMATS = {
    **dict.fromkeys(COUNTS, "{:,}"),
    **dict.fromkeys((Unit.SHARE, Unit.RATIO), "{:.1%}"),
    Unit.CHANGE: "{:+.1%}",
    Unit.MONEY: "{:,.2f}",
}
QUOTIENTS = (Unit.SHARE, Unit.RATIO, Unit.CHANGE)
_TYPES = {**dict.fromkeys(COUNTS, "int64"), Unit.MONEY: "decimal(18, 2)"}


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: by `NAMING_CONVENTION`; its snake_case is the column's name.
        definition: what it is, in a sentence; the column's description.
        formula: how it is computed.
        unit: what it is measured in; counts are whole numbers, money has two decimals. By default
            that of the name: a share, or what its first word counts.
        nullable: whether it can be null, as quotients can; the definition says when.
        caveats: what one must know to read it rightly, if anything.

    Raises:
        ValueError: the name does not follow the convention, or says no unit.
    """

    name: str
    definition: str
    formula: str
    unit: Unit = None  # type: ignore[assignment]  # set below
    nullable: bool = False
    caveats: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(NAMING_CONVENTION, self.name):
            raise ValueError(
                f"the metric {self.name!r} is not named [Entity] [Action or State] [Time Period]"
                f" [by Segment] in Title Case, with a time period of {', '.join(PERIODS)}"
            )
        if not self.unit:
            words = self.name.split()
            if "Share" not in words and words[0] not in _UNITS:
                raise ValueError(f"the metric {self.name!r} needs a unit: its name does not say it")
            unit = Unit.SHARE if "Share" in words else _UNITS[words[0]]
            object.__setattr__(self, "unit", unit)

    @property
    def column_name(self) -> str:
        """The name in snake_case."""
        return snake_case(self.name)

    @property
    def column(self) -> Column:
        """The column that holds the metric."""
        return Column(
            self.column_name,
            _TYPES.get(self.unit, "float64"),
            self.definition,
            nullable=self.nullable or self.unit in QUOTIENTS,
        )

    def format(self, value: Any) -> str:
        """A value as people read it: shares and changes in percent, money with two decimals."""
        if value is None:
            return "not known"
        return _FORMATS.get(self.unit, "{:,.1f}").format(value)

    def change(self, days: int) -> Metric:
        """The relative change of the metric over 7 or 30 days."""
        period = {7: "Week on Week", 30: "Month on Month"}[days]
        return Metric(
            f"{self.name} {period}",
            f"Change of {self.name} from {days} days before, as a share of what it was then; null if"
            " that was 0 or is not known.",
            f"({self.column_name} - the same {days} days before) / the same {days} days before",
            Unit.CHANGE,
        )


@dataclass(frozen=True, kw_only=True)
class MetricTable(Table):
    """A gold table: columns that say what a row is about, and metrics.

    Attributes:
        dimensions: the columns that are no metrics; trend flags apart.
        metrics: the metrics.
        business_owner: who decides what the metrics mean.
        dashboard_owner: who shows them.
    """

    dimensions: tuple[Column, ...]
    metrics: tuple[Metric, ...]
    business_owner: str = "team:product-management"
    dashboard_owner: str = "team:product-analytics"


def metric_table(
    name: str,
    *,
    grain: str,
    description: str,
    dimensions: Sequence[Column],
    metrics: Sequence[Metric],
    key: Sequence[str] | None = None,
    is_daily: bool = True,
) -> MetricTable:
    """Declare a gold table.

    Args:
        name: of the table.
        grain: what one row is.
        description: what the table is.
        dimensions: the columns that are no metrics; in a daily table `metric_date` first.
        metrics: the metrics, in the order of their columns.
        key: names of the columns that identify a row; by default all dimensions.
        is_daily: whether it is partitioned by `metric_date`, with the trend flags, or describes the
            as-of date.
    """
    return MetricTable(
        layer=Layer.GOLD,
        name=name,
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
    )


def metric_columns(rows: ir.Table, *metrics: Metric) -> tuple[ir.Column, ...]:
    """The columns of some metrics in a table."""
    return tuple(rows[metric.column_name] for metric in metrics)


def counted_by_state(
    rows: ir.Table, state: ir.Value, metrics: Mapping[Any, Metric]
) -> dict[str, ir.IntegerValue]:
    """The columns of a metric a state: how many rows are in it."""
    return {
        metric.column_name: rows.count(where=state == str(value))
        for value, metric in metrics.items()
    }


def zero_filled(rows: ir.Table, metrics: Iterable[Metric]) -> dict[str, ir.Value]:
    """The columns of some metrics, 0 where they are null."""
    return {metric.column_name: rows[metric.column_name].fill_null(0) for metric in metrics}


def columns(kind: str, *, nullable: bool = False, **descriptions: str) -> tuple[Column, ...]:
    """Columns of one type: name to description."""
    return tuple(Column(name, kind, text, nullable) for name, text in descriptions.items())


def snake_case(name: str) -> str:
    """A name in Title Case as the name of a table or column."""
    return name.lower().replace(" ", "_")


def title_case(name: str) -> str:
    """A name in snake_case in Title Case: `snake_case` turned around."""
    return " ".join(word if word in _SMALL_WORDS else word.capitalize() for word in name.split("_"))
