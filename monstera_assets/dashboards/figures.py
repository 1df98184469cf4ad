"""Create charts for declared metrics in one call, with a finding, data and definitions.

A chart is replaced by a note if it has no data or if its table was never materialized. The site can
therefore be built from any part of the asset graph.
"""

from __future__ import annotations

from collections import Counter
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
from monstera_assets.dashboards.reading import WEEK, WEEK_SQL, Daily
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
    Values above `most` are clipped.
    """
    reader, wording = daily.reader, daily.reader.wording
    days = reader.weeks if added_up else reader.every(1)
    values = daily.by_week(metrics) if added_up else daily.on(metrics, days)
    known = [value for one in values.values() for value in one if value is not None]
    require_any(metrics, known if added_up else [known])
    found = [
        wording.trend_summary(metric, [*map(Point, days, one)], brief=number > 0, weekly=added_up)
        for number, (metric, one) in enumerate(values.items())
    ]
    field = metric_field(next(iter(metrics)), wording.currency)
    options = {} if most is None else {"most": most}
    rows = [(day, metrics[one], values[one][n]) for n, day in enumerate(days) for one in metrics]
    colors = line_colors(metrics.values())
    chart = Chart("lines", (ON_DAY, SERIES, field), rows, colors, options=options)
    return Figure(" ".join(found), chart, about(daily.table, *metrics), wide)


def bars(what: str, rows: Iterable[tuple[str, int]], described: About, *, name: str) -> Figure:
    """Create a bar chart of counts (`what`, such as `users`) by category, which add up to a whole.

    `name` is the category field's title. The table also shows shares.
    """
    known = [*rows]
    total = sum(count for _, count in known)
    require(total, f"There are no {what} to show.")
    count = Field("count", words(what.split()[-1]), ",d")
    shown = [(label, number, number / total) for label, number in known]
    chart = Chart("bars", (Field("name", name), count, Field("share", "Share", ".1%")), shown)
    return Figure(ranking(what, known, whole=total), chart, described)


@item("{name}", lambda metric, by, **_: model.title(metric, by))
def by_part(
    name: str,
    daily: Daily,
    metric: Metric,
    dimension: str,
    *,
    by: str,
    top: int,
    without: Sequence[str] = (),
    named: Callable[[str], str] = words,
) -> Item:
    """Create a chart of a count by complete week and by the value of a dimension that divides it.

    `TOTAL` and the values `without` are left out, and all but the `top` values are added up.
    """
    reader, part, sums = daily.reader, quote(dimension), Counter[str]()
    require_any([metric], reader.weeks)
    # DuckDB widens integer sums to HUGEINT. In a week, a part without rows has a count of 0.
    found = reader.rows(
        f"SELECT {WEEK_SQL} AS week, {part}, CAST(sum({quote(metric.column_name)}) AS BIGINT)"
        f" FROM {daily.table.name} WHERE {daily.within} AND {part} NOT IN {(*without, TOTAL)!r}"
        " AND week >= $start GROUP BY ALL",
        **{**daily.where, "start": reader.weeks[0]},
    )
    for _, value, count in found:
        sums[value] += count
    require_any([metric], sums.values())
    ranked = sorted((-count, value) for value, count in sums.items() if count)
    names = {value: named(value) for _, value in ranked[:top]}
    # The colors follow the names, so that they are the same on all pages.
    colors, others = line_colors(sorted(names.values())), f"Other ({len(ranked) - top:,})"
    if len(ranked) > top:
        colors[others] = model.SECONDARY
    counts = Counter[tuple[date, str]]()
    for week, value, count in found:
        counts[week, names.get(value, others)] += count
    unit = words(metric.unit.value)
    rows = [(week, part, counts[week, part]) for week in reader.weeks for part in colors]
    known = [(names[value], -count) for count, value in ranked[:top]]
    finding = ranking(f"{unit.lower()} in complete weeks", known, whole=sums.total())
    chart = Chart("columns", (ON_DAY, SERIES, metric_field(metric, title=unit)), rows, colors)
    return Figure(finding, chart, about(daily.table, metric), wide=True)


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
