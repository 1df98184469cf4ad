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
from monstera_assets.dashboards.design import (
    CARD,
    WIDE,
    Timeframe,
    count_text,
    share_text,
    title,
    words,
)
from monstera_assets.dashboards.findings import Point, Wording
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
from monstera_assets.dashboards.reading import NO_REST, WEEK, Daily, Frame, Rest
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table

MAX_PANELS = 8
"""Maximum number of segments with a small line of their own: those with the highest values."""

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
        daily.reader.wording.trend_summary(metric, points(frame.days, one), brief=number > 0)
        for number, (metric, one) in enumerate(values.items())
    ]
    by_week = ", by Week" if frame.step == WEEK and "by" not in heading else ""
    return line_figure(
        heading + by_week, " ".join(found), frame.days, metrics, values, daily, wide=wide
    )


def line_figure(
    heading: str,
    finding: str,
    days: Sequence[date],
    labels: Mapping[Metric, str],
    values: Mapping[Metric, Sequence[Any]],
    daily: Daily,
    *,
    first_heading: str = "Day",
    wide: bool = False,
) -> Figure:
    """Create a line chart of metrics with the same unit, by day or week."""
    wording = daily.reader.wording
    series = [
        Series(label, numbers(values[metric]), wording.text(metric, _last(values[metric])))
        for metric, label in labels.items()
    ]
    draw = partial(line_chart, days, series, next(iter(labels)).unit)
    data = day_table(wording, days, values, first_heading)
    described = about(labels, daily.table)
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
    frame, wording = daily.reader.frame(timeframe), daily.reader.wording
    days = frame.whole_weeks if weekly else frame.days
    values = (daily.by_week if weekly else daily.by_day)([metric], frame)
    if all(value is None for value in values[metric]):
        return Unavailable(heading, _nothing_known([metric]))
    if not any(values[metric]):
        return Unavailable(
            heading, f"{metric.name} was {wording.text(metric, 0)} on every day in this period."
        )
    finding = wording.total(metric, points(days, values[metric]), "week" if weekly else "day")
    draw = partial(
        column_chart, days, Series(metric.name, numbers(values[metric])), None, metric.unit
    )
    data = day_table(wording, days, values, WEEK_TO if weekly else "Day")
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
    top: int = MAX_PANELS,
    name: Callable[[str], str] = str,
    added_up: bool = False,
    without: str | None = None,
) -> Item:
    """Create one small line per segment, by week, and one for the sum of all other segments.

    Args:
        heading: the title, composed of the metric, the timeframe and `by`.
        daily: the rows to show.
        metric: the count to plot, which the segments divide.
        timeframe: the chart's timeframe.
        dimension: the column that contains the segments.
        by: the dimension's name in the title.
        order: all segments in display order, by default the `top` segments with the highest values.
        top: number of segments to show.
        name: a function that returns a segment's display name, which must be unique.
        added_up: whether to sum each week's days instead of showing the last day.
        without: a value of the dimension that is not a segment, such as a total.
    """
    frame = daily.reader.frame(timeframe, WEEK)
    found = daily.by_segment(
        metric, dimension, frame, top=len(order) or top, added_up=added_up, without=without
    )
    values = [(name(one), found.shown[one]) for one in order or found.shown if one in found.shown]
    if found.others:
        values.append((other(found.others), found.rest))
    days = frame.whole_weeks if added_up else frame.days
    return small_lines(
        heading,
        days,
        metric.unit.value,
        values,
        about([metric], daily.table),
        others=found.others,
        added_up=added_up,
    )


def small_lines(
    heading: str,
    days: Sequence[date],
    what: str,
    values: Sequence[tuple[str, Sequence[Any]]],
    described: About,
    *,
    others: int = 0,
    added_up: bool = False,
) -> Item:
    """Create small multiples of weekly counts (`what`, such as `users`) by segment.

    Args:
        heading: the title.
        days: the last day of each week.
        what: plural noun for what is counted.
        values: each segment's name and counts. The segments are parts of a whole.
        described: the definitions and the source.
        others: the number of segments that the last entry of `values` sums up, if any.
        added_up: whether the counts are sums over the weeks instead of counts on the days.
    """
    known = [line for line in values if any(value is not None for value in line[1])]
    if not days or not known:
        return Unavailable(heading, f"There are no {what} to show.")
    latest = [(name, float(one[-1] or 0), count_text(one[-1])) for name, one in known]
    named = latest[:-1] if others and known[-1] is values[-1] else latest
    series = [Series(name, numbers(one), count_text(one[-1])) for name, one in known]
    rows = (
        [Cell(str(day)), *(_cell(value, count_text) for value in row)]
        for day, *row in reversed([*zip(days, *(one for _, one in known), strict=True)])
    )
    return Figure(
        title=heading,
        finding=findings.ranking(
            what,
            named,
            whole=sum(value for _, value, _ in latest),
            when=f"{'in the week ending' if added_up else 'on'} {days[-1]}",
        ),
        drawing=small_multiples(days, series),
        table=table([WEEK_TO if added_up else "Day", *(name for name, _ in known)], rows),
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
    rest: Rest = NO_REST,
) -> Item:
    """Create a bar chart of counts (`what`, such as `users`) by category.

    `name` is the category column's heading. If `share` is set, the counts and the `rest` are the parts
    of a whole, and the table shows each part's share.
    """
    rows = [*rows]
    known = [(label, float(count), count_text(count)) for label, count in rows if count is not None]
    if not any(count for _, count, _ in known):
        return Unavailable(heading, f"There are no {what} to show.")
    drawn = known
    if rest.categories:
        rows.append((other(rest.categories), rest.total))
        drawn = [*known, (other(rest.categories), float(rest.total), count_text(rest.total))]
    whole = sum(count for _, count, _ in drawn)

    def part(count: Any) -> list[Cell]:
        return [_cell(None if count is None else count / whole, share_text)] if share else []

    return Figure(
        title=heading,
        finding=findings.ranking(what, known, whole=whole if share else None),
        drawing=bar_chart([Bar(*row) for row in drawn]),
        table=table(
            [name, words(what.split()[-1]), *(["Share"] if share else [])],
            ([Cell(label), _cell(count, count_text), *part(count)] for label, count in rows),
        ),
        about=described,
    )


def other(categories: int) -> str:
    """Return the name of the sum of the categories that are not shown, with their number."""
    return f"Other ({categories:,})"


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
    wording = daily.reader.wording
    return tuple(
        Tile(
            metric.name,
            wording.text(metric, now),
            definition(metric),
            daily.table.qualified_name,
            wording.week_on_week(metric, now, then),
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
    wording: Wording,
    days: Sequence[date],
    values: Mapping[Metric, Sequence[Any]],
    heading: str = "Day",
) -> DataTable:
    """Create a table of metrics by day, with the latest day first."""
    rows = (
        [
            Cell(str(day)),
            *(
                _cell(value, partial(wording.text, metric))
                for metric, value in zip(values, row, strict=True)
            ),
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


def _last(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    return known[-1] if known else None


def _nothing_known(metrics: Iterable[Metric]) -> str:
    names = " and ".join(metric.name for metric in metrics)
    return f"{names}: no known values in this period."
