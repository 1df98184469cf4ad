"""Create charts for declared metrics in one call, with a finding, data and definitions.

A chart is replaced by a note if it has no data or if its table was never materialized. The site can
therefore be built from any part of the asset graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec

from monstera_assets.dashboards import model
from monstera_assets.dashboards.findings import Point, ranking
from monstera_assets.dashboards.model import (
    ON_DAY,
    SERIES,
    About,
    Chart,
    Field,
    Figure,
    Item,
    line_colors,
    words,
)
from monstera_assets.dashboards.reading import DAYS_SQL, WEEK, WEEK_SQL, Daily
from monstera_assets.gold.gold_overall_metrics import HEALTH
from monstera_assets.gold.gold_revenue_metrics import REVENUE_RETAINED_GROSS, REVENUE_RETAINED_NET
from monstera_assets.gold.metrics import COUNTS, Metric, MetricTable, Unit
from monstera_assets.gold.published_ids import TOTAL
from monstera_assets.warehouse.duckdb_engine import quote
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table

_FORMATS = {
    **dict.fromkeys(COUNTS, ",d"),
    **dict.fromkeys((Unit.SHARE, Unit.RETENTION), ".1%"),
    **dict.fromkeys((Unit.RATIO, Unit.MONEY, Unit.YEARLY_MONEY), ",.2f"),
    Unit.CHANGE: "+.1%",
}
_TILE_NAMES = {
    HEALTH: "Mean health of paying accounts",
    REVENUE_RETAINED_NET: "NRR in 30 days",
    REVENUE_RETAINED_GROSS: "GRR in 30 days",
}
"""Names that say what a metric without a short name, or with an ambiguous one, covers."""
_Arguments = ParamSpec("_Arguments")


class NothingToShowError(Exception):
    """An item has no data. The message is shown in its place."""


def item(
    name: str | Callable[..., str], title: str | Callable[..., str]
) -> Callable[[Callable[_Arguments, Item]], Callable[_Arguments, Item]]:
    """Name the item that a function returns, and replace it by a note if it cannot be created.

    The title follows the convention `[Entities], [Metric], [Timeframe], [by Segment]`. Both texts can
    refer to the function's arguments in braces, or be functions of these arguments.
    """

    def decorate(build: Callable[_Arguments, Item]) -> Callable[_Arguments, Item]:
        @wraps(build)
        def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Item:
            bound = signature(build).bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            texts = [
                one.format(**given) if isinstance(one, str) else one(**given)
                for one in (name, title)
            ]
            try:
                found = build(*args, **kwargs)
            except (MissingTableError, NothingToShowError) as error:
                found = model.Unavailable(str(error))
            return replace(found, name=texts[0], title=texts[1])

        return made

    return decorate


def require(values: Any, reason: str) -> None:
    """Raise an error with the reason why there is nothing to show, unless there are values."""
    if not values:
        raise NothingToShowError(reason)


def require_any(metrics: Iterable[Metric], values: Iterable[Any]) -> None:
    """Raise an error that there is nothing to show for metrics if all values are 0 or unknown."""
    named = " and ".join(metric.name for metric in metrics)
    require(any(values), f"There are no values to show for {named} in this period.")


@item("{name}", lambda metrics, what, **_: model.title(next(iter(metrics)), what=what))
def trend(
    name: str,
    daily: Daily,
    metrics: Mapping[Metric, str],
    *,
    what: str = "",
    most: float | None = None,
    wide: bool = False,
    added_up: bool = False,
) -> Item:
    """Create a line chart of metrics with the same unit by day, or of counts added up by week.

    `metrics` maps each metric to the name of its line. `what` replaces the first metric in the title.
    Values above `most` are cut off.
    """
    reader, wording = daily.reader, daily.reader.wording
    days = reader.weeks if added_up else reader.every(1)
    values = daily.by_week(metrics) if added_up else daily.on(metrics, days)
    known = [value for one in values.values() for value in one if value is not None]
    require_any(metrics, known if added_up else [known])
    found = [
        wording.total(metric, points(days, one), "week")
        if added_up
        else wording.trend_summary(metric, points(days, one), brief=number > 0)
        for number, (metric, one) in enumerate(values.items())
    ]
    field = metric_field(next(iter(metrics)), wording.currency)
    options = {} if most is None else {"most": most}
    rows = stacked(days, {metrics[metric]: one for metric, one in values.items()})
    colors = line_colors(metrics.values())
    chart = Chart("lines", (ON_DAY, SERIES, field), rows, colors, options=options)
    return Figure(" ".join(found), chart, about(daily.table, *metrics), wide)


def bars(
    what: str,
    rows: Iterable[tuple[str, Any]],
    described: About,
    *,
    name: str,
    whole: bool = False,
    rest: Sequence[int] = (),
) -> Figure:
    """Create a bar chart of counts (`what`, such as `users`) by category.

    `name` is the category field's title. If `whole` is set, the counts and the `rest`, which are the
    counts of categories that are not shown, are the parts of a whole. The table shows their shares.
    """
    known = [(label, count) for label, count in rows if count is not None]
    require(any(count for _, count in known), f"There are no {what} to show.")
    drawn = [*known, (other(len(rest)), sum(rest))] if rest else known
    total = sum(count for _, count in drawn)
    fields = [Field("name", name), Field("count", words(what.split()[-1]), ",d")]
    if whole:
        fields.append(Field("share", "Share", ".1%"))
    shown = [(label, count, count / total)[: len(fields)] for label, count in drawn]
    finding = ranking(what, known, whole=total if whole else None)
    return Figure(finding, Chart("bars", tuple(fields), shown), described)


@item("{name}", lambda metric, by, **_: model.title(metric, by))
def by_part(
    name: str,
    daily: Daily,
    metric: Metric,
    dimension: str,
    *,
    by: str,
    top: int,
    without: Sequence[str] = (TOTAL,),
    named: Callable[[str], str] = words,
    ranked: bool = False,
    wide: bool = False,
) -> Item:
    """Create a chart of a count by complete week and by the value of a dimension that divides it.

    The values `without` are left out, and all but the `top` values are added up. If `ranked` is set,
    there is one bar per value, with its sum over the chosen weeks, in place of stacked columns.
    """
    table, column, part = daily.table.name, quote(metric.column_name), quote(dimension)
    rows, given = daily.reader.rows, daily.where
    left_out = ", ".join(f"'{value}'" for value in without)
    within = f"WHERE {daily.within} AND {part} NOT IN ({left_out})"
    ranked_parts = (
        f"SELECT {part}, count(*) OVER () AS parts FROM {table} {within} GROUP BY {part}"
        f" HAVING sum({column}) > 0 ORDER BY sum({column}) DESC, {part} LIMIT {top}"
    )
    shown = rows(ranked_parts, **given)
    # DuckDB widens integer sums to HUGEINT.
    counts = rows(
        f"WITH ranked AS ({ranked_parts}) SELECT {WEEK_SQL} AS week, ranked.{part},"
        f" CAST(sum({column}) AS BIGINT) FROM {table} LEFT JOIN ranked USING ({part}) {within}"
        " GROUP BY ALL",
        **given,
    )
    weeks = rows(
        f"SELECT {WEEK_SQL} AS week FROM {table} WHERE {DAYS_SQL} GROUP BY week"
        f" HAVING count(DISTINCT metric_date) = {WEEK} ORDER BY week"
    )
    # In a complete week, a part without rows has a count of 0.
    by_week = {(week, value): count for week, value, count in counts}
    names = {value: named(value) for value, _ in shown}
    others = other(shown[0][1] - len(shown)) if shown and shown[0][1] > len(shown) else ""
    if others:
        names[None] = others
    values = {
        one: [by_week.get((week, value), 0) for (week,) in weeks] for value, one in names.items()
    }
    sums = {one: sum(numbers) for one, numbers in values.items()}
    require_any([metric], sums.values())
    unit = words(metric.unit.value)
    if not ranked:
        # The colors follow the names, so that they are the same on all pages.
        values = dict(sorted(values.items(), key=lambda one: (one[0] == others, one[0])))
    colors = {} if ranked else line_colors(values)
    if others and colors:
        colors[others] = model.SECONDARY
    field = Field("part", by) if ranked else SERIES
    chart = Chart(
        "bars" if ranked else "columns",
        (ON_DAY, field, metric_field(metric, title=unit)),
        stacked([week for (week,) in weeks], values),
        colors,
        total=ranked,
    )
    known = [(one, count) for one, count in sums.items() if one != others]
    finding = ranking(f"{unit.lower()} in complete weeks", known, whole=sum(sums.values()))
    return Figure(finding, chart, about(daily.table, metric), wide)


def stacked(
    days: Sequence[date], values: Mapping[str, Sequence[Any]]
) -> list[tuple[date, str, Any]]:
    """Return a row of day, series and value for each value of each series."""
    return [(day, name, one[n]) for n, day in enumerate(days) for name, one in values.items()]


def other(categories: int) -> str:
    """Return the name of the sum of the categories that are not shown, with their number."""
    return f"Other ({categories:,})"


def tiles(daily: Daily, *metrics: Metric) -> list[model.Tile]:
    """Create tiles with metrics on the as-of date and their weekly changes, if there is data."""
    reader = daily.reader
    try:
        values = daily.on(metrics, [reader.last - timedelta(days=WEEK), reader.last])
    except MissingTableError:
        return []
    return [
        model.Tile(
            metric.name,
            reader.wording.text(metric, now),
            definition(metric),
            daily.table.qualified_name,
            reader.wording.week_on_week(metric, now, then),
            short_name=_TILE_NAMES.get(metric, metric.short_name),
        )
        for metric, (then, now) in values.items()
    ]


def metric_field(metric: Metric, currency: str = "", title: str = "") -> Field:
    """Return the field that contains a metric."""
    text = title or metric.short_name or metric.name
    text = f"{text} ({currency})" if metric.unit.is_money and currency else text
    return Field(metric.column_name, text, _FORMATS.get(metric.unit, ",.1f"))


def definition(metric: Metric) -> model.Definition:
    """Return a metric's declared definition."""
    return model.Definition(metric.title, metric.definition, metric.formula, metric.caveats)


def about(source: Table, *shown: Metric | str) -> About:
    """Return the definitions of metrics and columns, their source and its owners."""
    texts = {column.name: column.description for column in source.columns}
    definitions = tuple(
        model.Definition(words(one), texts[one]) if isinstance(one, str) else definition(one)
        for one in shown
    )
    owner = f"{', '.join(source.owners)} (computation)"
    if isinstance(source, MetricTable):
        owner = f"{source.business_owner} (definition), {owner}"
        owner += f", {source.dashboard_owner} (dashboards)"
    return About(definitions, source.qualified_name, owner)


def points(days: Sequence[date], values: Sequence[Any]) -> list[Point]:
    """Combine values with their days for a finding."""
    return [Point(day, value) for day, value in zip(days, values, strict=True)]
