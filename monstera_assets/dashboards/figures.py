"""Create figures for declared metrics in one call, with a chart, finding, data and definitions.

A figure is replaced by a note if it has no data or if its table was never materialized. The site can
therefore be built from any part of the asset graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial, wraps
from inspect import getcallargs, signature
from typing import Any, Concatenate, ParamSpec

from monstera_assets.dashboards import findings
from monstera_assets.dashboards.charts import (
    Bar,
    Series,
    bar_chart,
    column_chart,
    line_chart,
    resolution,
    small_multiples,
)
from monstera_assets.dashboards.design import CARD, WIDE, Timeframe, count_text, title, words
from monstera_assets.dashboards.findings import Point
from monstera_assets.dashboards.model import (
    About,
    Cell,
    DataTable,
    Definition,
    Drawing,
    Figure,
    Item,
    Tile,
    Unavailable,
    table,
)
from monstera_assets.dashboards.reading import WEEK, Daily, Frame
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table

MAX_PANELS = 8
"""Maximum number of small lines in a figure. The segments with the highest values are shown."""

WEEK_TO = "Week ending"
_Arguments = ParamSpec("_Arguments")


def item(
    heading: str | Callable[..., str],
) -> Callable[[Callable[Concatenate[str, _Arguments], Item]], Callable[_Arguments, Item]]:
    """Make a function that creates an item return a note if a table is missing.

    Args:
        heading: the function's first argument, or a callable that returns the argument. The callable
            receives the function's arguments that match the callable's parameter names.
    """

    def decorate(build: Callable[Concatenate[str, _Arguments], Item]) -> Callable[_Arguments, Item]:
        @wraps(build)
        def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Item:
            made_heading = heading
            if callable(made_heading):
                given = getcallargs(build, "", *args, **kwargs)
                named = {name: given[name] for name in signature(made_heading).parameters}
                made_heading = made_heading(**named)
            try:
                return build(made_heading, *args, **kwargs)
            except MissingTableError as error:
                return Unavailable(made_heading, str(error))

        return made

    return decorate


@item(lambda metrics, timeframe, what: title(next(iter(metrics)), timeframe.name, what=what))
def trend(
    heading: str,
    daily: Daily,
    metrics: Mapping[Metric, str],
    timeframe: Timeframe,
    *,
    what: str = "",
    wide: bool = False,
) -> Item:
    """Create a line chart of up to three metrics by day, or by week if there are too many points.

    `metrics` maps each metric to the name of its line. `what` replaces the first metric in the title. A
    `wide` chart spans two columns.
    """
    days = daily.reader.frame(timeframe).days
    frame = daily.reader.frame(timeframe, resolution(len(days), len(metrics)))
    values = daily.by_day(metrics, frame)
    if all(value is None for one in values.values() for value in one):
        return Unavailable(heading, _nothing_known(metrics))
    found = [
        findings.trend_summary(metric, points(frame.days, one), brief=number > 0)
        for number, (metric, one) in enumerate(values.items())
    ]
    by_week = ", by Week" if frame.step == WEEK and "by" not in heading else ""
    return line_figure(
        heading + by_week, " ".join(found), frame.days, metrics, values, daily.table, wide=wide
    )


def line_figure(
    heading: str,
    finding: str,
    days: Sequence[date],
    labels: Mapping[Metric, str],
    values: Mapping[Metric, Sequence[Any]],
    source: Table,
    *,
    first_heading: str = "Day",
    wide: bool = False,
) -> Figure:
    """Create a line chart of metrics with the same unit, by day or week."""
    series = [
        Series(label, numbers(values[metric]), _last(metric, values[metric]))
        for metric, label in labels.items()
    ]
    draw = partial(line_chart, days, series, next(iter(labels)).unit)
    data, described = day_table(days, values, first_heading), about(labels, source)
    return charted(heading, finding, draw, data, described, wide=wide)


@item(lambda metric, timeframe, weekly: title(metric, timeframe.name, "Week" if weekly else ""))
def column_chart_figure(
    heading: str,
    daily: Daily,
    metric: Metric,
    timeframe: Timeframe,
    *,
    weekly: bool,
    wide: bool = False,
) -> Item:
    """Create a column chart with one column per day, or one per week with the sum of its days."""
    frame = daily.reader.frame(timeframe)
    days = frame.whole_weeks if weekly else frame.days
    values = (daily.by_week if weekly else daily.by_day)([metric], frame)
    if all(value is None for value in values[metric]):
        return Unavailable(heading, _nothing_known([metric]))
    if not any(values[metric]):
        return Unavailable(
            heading, f"{metric.name} was {metric.format(0)} on every day in this period."
        )
    finding = findings.total(metric, points(days, values[metric]), "week" if weekly else "day")
    draw = partial(
        column_chart, days, Series(metric.name, numbers(values[metric])), None, metric.unit
    )
    data = day_table(days, values, WEEK_TO if weekly else "Day")
    return charted(heading, finding, draw, data, about([metric], daily.table), wide=wide)


@item(
    lambda metric, timeframe, by, added_up: title(
        metric, timeframe.name, f"{by} and Week" if added_up else by
    )
)
def small_multiples_figure(
    heading: str,
    daily: Daily,
    metric: Metric,
    timeframe: Timeframe,
    dimension: str,
    by: str,
    *,
    order: Sequence[str] = (),
    name: Callable[[str], str] = words,
    added_up: bool = False,
) -> Item:
    """Create one small line per segment, by week.

    Args:
        heading: the title, composed of the metric, the timeframe and `by`.
        daily: the rows to show.
        metric: the metric to plot.
        timeframe: the chart's timeframe.
        dimension: the column that contains the segments.
        by: the dimension's name in the title.
        order: the segments to show, by default the `MAX_PANELS` segments with the highest values.
        name: a function that returns a segment's display name.
        added_up: whether to sum each week's days instead of showing the last day.
    """
    frame = daily.reader.frame(timeframe, WEEK)
    top = None if order else MAX_PANELS
    found = daily.by_segment(metric, dimension, frame, top=top, added_up=added_up)
    values = {name(one): found[one] for one in order or found if one in found}
    days = frame.whole_weeks if added_up else frame.days
    return small_lines(heading, days, metric.unit.value, values, about([metric], daily.table))


def small_lines(
    heading: str,
    days: Sequence[date],
    what: str,
    values: Mapping[str, Sequence[Any]],
    described: About,
) -> Item:
    """Create small multiples of weekly counts (`what`, such as `users`) by segment."""
    known = {name: one for name, one in values.items() if any(v is not None for v in one)}
    if not days or not known:
        return Unavailable(heading, f"There are no {what} to show.")
    latest = [(name, float(one[-1] or 0), count_text(one[-1])) for name, one in known.items()]
    series = [Series(name, numbers(one), count_text(one[-1])) for name, one in known.items()]
    rows = (
        [Cell(str(day)), *(_cell(value, count_text) for value in row)]
        for day, *row in reversed([*zip(days, *known.values(), strict=True)])
    )
    return Figure(
        title=heading,
        finding=findings.ranking(what, latest, on=days[-1], share=True),
        drawing=small_multiples(days, series),
        table=table([WEEK_TO, *known], rows),
        about=described,
    )


def bars(
    heading: str,
    what: str,
    rows: Iterable[tuple[str, Any]],
    described: About,
    *,
    name: str,
    share: bool = False,
) -> Item:
    """Create a bar chart of counts (`what`, such as `users`) by category.

    `name` is the category column's heading. If `share` is set, the counts are parts of a whole.
    """
    rows = [*rows]
    known = [(label, float(count), count_text(count)) for label, count in rows if count is not None]
    if not any(count for _, count, _ in known):
        return Unavailable(heading, f"There are no {what} to show.")
    return Figure(
        title=heading,
        finding=findings.ranking(what, known, share=share),
        drawing=bar_chart([Bar(*row) for row in known]),
        table=table(
            [name, words(what.split()[-1])],
            ([Cell(label), _cell(count, count_text)] for label, count in rows),
        ),
        about=described,
    )


def metric_bars(
    heading: str,
    what: str,
    metrics: Mapping[Any, Metric],
    values: Iterable[Any],
    source: Table,
    name: str = "",
) -> Item:
    """Create a bar chart with one metric per category.

    The categories are states unless `name` is set.
    """
    rows = zip(map(words, metrics), values, strict=True)
    described = about(metrics.values(), source)
    return bars(heading, what, rows, described, name=name or "State", share=not name)


def charted(
    heading: str,
    finding: str,
    draw: Callable[..., Drawing],
    data: DataTable,
    described: About,
    *,
    wide: bool = False,
) -> Figure:
    """Create a figure, with an additional wide drawing if `wide` is set."""
    in_full = draw(size=WIDE) if wide else None
    return Figure(heading, finding, draw(size=CARD), data, described, in_full)


def tiles(daily: Daily, metrics: Iterable[Metric]) -> tuple[Tile, ...]:
    """Create tiles with metrics on the as-of date and their weekly changes, if there is data."""
    try:
        as_of = daily.reader.as_of
        values = daily.by_day(metrics, Frame(as_of - timedelta(days=WEEK), as_of, WEEK))
    except MissingTableError:
        return ()
    return tuple(
        Tile(
            metric.name,
            metric.format(now),
            definition(metric),
            findings.week_on_week(metric, now, then),
            short_name=metric.short_name,
        )
        for metric, (then, now) in values.items()
    )


def definition(metric: Metric) -> Definition:
    """Return a metric's declared definition."""
    return Definition(metric.title, metric.definition, metric.formula, metric.caveats)


def about(metrics: Iterable[Metric], source: Table) -> About:
    """Return the definitions, source and owners for a figure that shows metrics."""
    definitions = tuple(definition(metric) for metric in metrics)
    return About(definitions, source.qualified_name, owners(source))


def about_columns(source: Table, names: Sequence[str]) -> About:
    """Return the definitions, source and owners for a figure that shows table columns."""
    texts = {column.name: column.description for column in source.columns}
    definitions = tuple(Definition(words(name), texts[name]) for name in names)
    return About(definitions, source.qualified_name, owners(source))


def owners(source: Table) -> str:
    """Return the owners of a table's definition, computation and dashboards."""
    computed = f"{', '.join(source.owners)} (computation)"
    if isinstance(source, MetricTable):
        definition_and_computation = f"{source.business_owner} (definition), {computed}"
        return f"{definition_and_computation}, {source.dashboard_owner} (dashboards)"
    return computed


def day_table(
    days: Sequence[date], values: Mapping[Metric, Sequence[Any]], heading: str = "Day"
) -> DataTable:
    """Create a table of metrics by day, with the latest day first."""
    rows = (
        [
            Cell(str(day)),
            *(_cell(value, metric.format) for metric, value in zip(values, row, strict=True)),
        ]
        for day, *row in reversed([*zip(days, *values.values(), strict=True)])
    )
    return table([heading, *(metric.name for metric in values)], rows)


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Convert values to floats for a chart."""
    return [None if value is None else float(value) for value in values]


def points(days: Sequence[date], values: Sequence[Any]) -> list[Point]:
    """Combine values with their days for a finding."""
    return [Point(day, value) for day, value in zip(days, values, strict=True)]


def _cell(value: Any, shown: Callable[[Any], str]) -> Cell:
    return Cell(shown(value), None if value is None else float(value))


def _last(metric: Metric, values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    return metric.format(known[-1] if known else None)


def _nothing_known(metrics: Iterable[Metric]) -> str:
    names = " and ".join(metric.name for metric in metrics)
    return f"{names}: no known values in this period."
