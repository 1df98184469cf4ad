"""From declared metrics to figures: query, chart, finding, data and definition in one call.

The pages are lists of these calls. A figure whose table was never materialized, or that has nothing
to show, is replaced by a note that says so: a site can be built of any part of the graph.
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
"""Small lines in a figure; of more segments, those with most are shown."""

WEEK_TO = "Week to"
_Arguments = ParamSpec("_Arguments")


def item(
    heading: str | Callable[..., str],
) -> Callable[[Callable[Concatenate[str, _Arguments], Item]], Callable[_Arguments, Item]]:
    """Declare a function that makes an item; a note takes its place where a table is missing.

    Args:
        heading: the function's first argument, or what makes it of those other arguments of the
            function that it names.
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
    """Lines of up to three metrics, by day or, where that would be too many points, by week.

    Args:
        heading: made of the first metric and the timeframe.
        daily: the rows of a table.
        metrics: to the names of their lines; the first one's course is the finding.
        timeframe: of the chart.
        what: is shown, in place of the first metric in the title.
        wide: whether it may take the room of two.
    """
    days = daily.reader.frame(timeframe).days
    frame = daily.reader.frame(timeframe, resolution(len(days), len(metrics)))
    values = daily.by_day(metrics, frame)
    if all(value is None for one in values.values() for value in one):
        return Unavailable(heading, _nothing_known(metrics))
    found = [
        findings.course(metric, points(frame.days, one), brief=number > 0)
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
    """Lines of metrics of one unit, by day or week."""
    series = [
        Series(label, numbers(values[metric]), _last(metric, values[metric]))
        for metric, label in labels.items()
    ]
    draw = partial(line_chart, days, series, next(iter(labels)).unit)
    data, described = day_table(days, values, first_heading), about(labels, source)
    return charted(heading, finding, draw, data, described, wide=wide)


@item(lambda metric, timeframe, weekly: title(metric, timeframe.name, "Week" if weekly else ""))
def columns(
    heading: str,
    daily: Daily,
    metric: Metric,
    timeframe: Timeframe,
    *,
    weekly: bool,
    wide: bool = False,
) -> Item:
    """A bar a day, or a bar a week in which the days of a metric that adds up are added up."""
    frame = daily.reader.frame(timeframe)
    days = frame.whole_weeks if weekly else frame.days
    values = (daily.by_week if weekly else daily.by_day)([metric], frame)
    if all(value is None for value in values[metric]):
        return Unavailable(heading, _nothing_known([metric]))
    if not any(values[metric]):
        return Unavailable(heading, f"{metric.name} was {metric.format(0)} on every day of these.")
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
def multiples(
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
    """A small line a segment, by week: the last day of each, or its days added up.

    Args:
        heading: made of the metric, the timeframe and what the segments are called.
        daily: the rows of a table.
        metric: what the lines show.
        timeframe: of the chart.
        dimension: the column whose values are the segments.
        by: what the title calls the segments.
        order: the segments; by default those with most, at most `MAX_PANELS`.
        name: what a segment is called.
        added_up: whether the days of a week are added up.
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
    """Small multiples of counts by segment and week.

    Args:
        heading: the title.
        days: last days of the weeks.
        what: is counted, in lower case.
        values: segment to its values.
        described: the definition.
    """
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
    """Bars of counts by category.

    Args:
        heading: the title.
        what: is counted, in lower case; its last word is the heading of the counts' column.
        rows: name and count.
        described: the definition.
        name: heading of the categories' column.
        share: whether the counts add up to a whole.
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
    """Bars of a metric a state; with a name of the categories' column, of other categories."""
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
    """A figure that is drawn once, or twice if it may take the room of two."""
    in_full = draw(size=WIDE) if wide else None
    return Figure(heading, finding, draw(size=CARD), data, described, in_full)


def tiles(daily: Daily, metrics: Iterable[Metric]) -> tuple[Tile, ...]:
    """Metrics on the as-of date with their change over a week; none without the table."""
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
        )
        for metric, (then, now) in values.items()
    )


def definition(metric: Metric) -> Definition:
    """A metric's definition as it is declared."""
    return Definition(metric.name, metric.definition, metric.formula, metric.caveats)


def about(metrics: Iterable[Metric], source: Table) -> About:
    """Where a figure of metrics comes from."""
    definitions = tuple(definition(metric) for metric in metrics)
    return About(definitions, source.qualified_name, owners(source))


def about_columns(source: Table, names: Sequence[str]) -> About:
    """Where a figure of a table's columns comes from: silver declares them, too."""
    texts = {column.name: column.description for column in source.columns}
    definitions = tuple(Definition(words(name), texts[name]) for name in names)
    return About(definitions, source.qualified_name, owners(source))


def owners(source: Table) -> str:
    """Who answers for a table."""
    computed = f"{', '.join(source.owners)} for how it is computed"
    if isinstance(source, MetricTable):
        return (
            f"{source.business_owner} for what it means, {computed},"
            f" {source.dashboard_owner} for how it is shown"
        )
    return computed


def day_table(
    days: Sequence[date], values: Mapping[Metric, Sequence[Any]], heading: str = "Day"
) -> DataTable:
    """Metrics by day, the latest first."""
    rows = (
        [
            Cell(str(day)),
            *(_cell(value, metric.format) for metric, value in zip(values, row, strict=True)),
        ]
        for day, *row in reversed([*zip(days, *values.values(), strict=True)])
    )
    return table([heading, *(metric.name for metric in values)], rows)


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Values as a chart takes them."""
    return [None if value is None else float(value) for value in values]


def points(days: Sequence[date], values: Sequence[Any]) -> list[Point]:
    """Values with their days, as a finding takes them."""
    return [Point(day, value) for day, value in zip(days, values, strict=True)]


def _cell(value: Any, shown: Callable[[Any], str]) -> Cell:
    return Cell(shown(value), None if value is None else float(value))


def _last(metric: Metric, values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    return metric.format(known[-1] if known else None)


def _nothing_known(metrics: Iterable[Metric]) -> str:
    names = " and ".join(metric.name for metric in metrics)
    return f"{names}: not known on any of these days."
