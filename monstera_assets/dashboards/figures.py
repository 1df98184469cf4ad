"""Create figures for declared metrics in one call, with a chart, finding, data and definitions.

A figure is replaced by a note if it has no data or if its table was never materialized. The site can
therefore be built from any part of the asset graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import wraps
from inspect import getcallargs, signature
from typing import Any, Concatenate, NamedTuple, ParamSpec

from monstera_assets.dashboards import charts, findings
from monstera_assets.dashboards.design import (
    LINES,
    SECONDARY,
    Timeframe,
    count_text,
    headline,
    state_color,
    title,
    words,
)
from monstera_assets.dashboards.findings import Point
from monstera_assets.dashboards.model import (
    DAY,
    About,
    Cell,
    Chart,
    Choice,
    Definition,
    Field,
    Figure,
    Item,
    Listing,
    Tile,
    Unavailable,
    table,
)
from monstera_assets.dashboards.reading import NO_REST, WEEK, Daily, Frame, Rest
from monstera_assets.gold.metrics import COUNTS, Metric, MetricTable, Unit
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table

ON_DAY = Field("day", "Day", DAY)
SERIES = Field("series", "Series")
SEGMENT = Field("segment", "Segment")
_FORMATS = {
    **dict.fromkeys(COUNTS, ",d"),
    **dict.fromkeys((Unit.SHARE, Unit.RETENTION), ".1%"),
    **dict.fromkeys((Unit.RATIO, Unit.MONEY, Unit.YEARLY_MONEY), ",.2f"),
    Unit.CHANGE: "+.1%",
}
_Arguments = ParamSpec("_Arguments")


class Head(NamedTuple):
    """An item's name in a few words, and its title by the convention."""

    name: str
    title: str


def head(name: str, *parts: str, by: str = "") -> Head:
    """Return an item's name and title, `[Entities], [Metric], [Timeframe], [by Segment]`."""
    entities, what, timeframe = parts
    return Head(name, headline(entities, what, timeframe, by))


def item(
    heading: Head | Callable[..., Head],
) -> Callable[[Callable[Concatenate[Head, _Arguments], Item]], Callable[_Arguments, Item]]:
    """Make a function that creates an item return a note if a table is missing.

    Args:
        heading: the function's first argument, or a callable that returns the argument. The callable
            receives the function's arguments that match the callable's parameter names.
    """

    def decorate(
        build: Callable[Concatenate[Head, _Arguments], Item],
    ) -> Callable[_Arguments, Item]:
        @wraps(build)
        def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Item:
            made_heading = heading
            if not isinstance(made_heading, Head):
                given = getcallargs(build, Head("", ""), *args, **kwargs)
                named = {name: given[name] for name in signature(made_heading).parameters}
                made_heading = made_heading(**named)
            try:
                return build(made_heading, *args, **kwargs)
            except MissingTableError as error:
                return Unavailable(*made_heading, str(error))

        return made

    return decorate


@item(lambda name, metrics, timeframe, what: Head(name, _title(metrics, timeframe, what)))
def trend(
    heading: Head,
    name: str,
    daily: Daily,
    metrics: Mapping[Metric, str],
    timeframe: Timeframe,
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
    frame, wording = daily.reader.frame(timeframe), daily.reader.wording
    days = frame.whole_weeks if added_up else frame.days
    values = (daily.by_week if added_up else daily.by_day)(metrics, frame)
    known = [value for one in values.values() for value in one if value is not None]
    if not known or (added_up and not any(known)):
        return Unavailable(*heading, nothing_known(metrics))
    found = [
        wording.total(metric, points(days, one), "week")
        if added_up
        else wording.trend_summary(metric, points(days, one), brief=number > 0)
        for number, (metric, one) in enumerate(values.items())
    ]
    value = metric_field(next(iter(metrics)), wording.currency)
    colors = dict(zip(metrics.values(), LINES, strict=False))
    rows = [
        (day, label, values[metric][place])
        for place, day in enumerate(days)
        for metric, label in metrics.items()
    ]
    chart = Chart(
        (ON_DAY, SERIES, value),
        rows,
        charts.lines(ON_DAY, value, colors, most=most),
        day=ON_DAY.name,
        series=SERIES.name,
        colors=colors,
    )
    return Figure(*heading, " ".join(found), chart, about(metrics, daily.table), wide)


@item(lambda name, metrics, timeframe, what: Head(name, _title(metrics, timeframe, what)))
def totals(
    heading: Head,
    name: str,
    daily: Daily,
    metrics: Mapping[Metric, str],
    timeframe: Timeframe,
    *,
    what: str = "",
    colors: Mapping[str, str] | None = None,
    wide: bool = False,
) -> Item:
    """Create a column chart of counts or amounts that add up over days: by day or by week.

    `metrics` maps each metric to the name of its part of the columns. Weeks are complete.
    """
    frame, wording = daily.reader.frame(timeframe), daily.reader.wording
    by_grain = {
        "Week": (frame.whole_weeks, daily.by_week(metrics, frame)),
        "Day": (frame.days, daily.by_day(metrics, frame)),
    }
    values = by_grain["Day"][1]
    if not any(value for one in values.values() for value in one):
        return Unavailable(*heading, nothing_known(metrics))
    found = [
        wording.total(metric, points(frame.days, one), "day")
        for metric, one in [*values.items()][:2]
    ]
    value = metric_field(next(iter(metrics)), wording.currency)
    colors = colors or dict(zip(metrics.values(), LINES, strict=False))
    grain = Field("grain", "Grain")
    rows = [
        (each, day, label, one[metric][place])
        for each, (days, one) in by_grain.items()
        for place, day in enumerate(days)
        for metric, label in metrics.items()
    ]
    chart = Chart(
        (grain, ON_DAY, SERIES, value),
        rows,
        charts.columns(ON_DAY, value, colors),
        day=ON_DAY.name,
        series=SERIES.name,
        colors=colors,
        choices=(Choice.of(grain, by_grain),),
    )
    return Figure(*heading, " ".join(found), chart, about(metrics, daily.table), wide)


def bars(
    heading: Head,
    what: str,
    rows: Iterable[tuple[str, Any]],
    described: About,
    *,
    name: str,
    whole: bool = False,
    rest: Rest = NO_REST,
) -> Item:
    """Create a bar chart of counts (`what`, such as `users`) by category.

    `name` is the category field's title. If `whole` is set, the counts and the `rest` are the parts of
    a whole, and the table shows each part's share.
    """
    known = [(label, count, count_text(count)) for label, count in rows if count is not None]
    if not any(count for _, count, _ in known):
        return Unavailable(*heading, f"There are no {what} to show.")
    drawn = [(label, count) for label, count, _ in known]
    if rest.categories:
        drawn.append((other(rest.categories), rest.total))
    total = sum(count for _, count in drawn)
    fields = (Field("name", name), Field("count", words(what.split()[-1]), ",d"))
    finding = findings.ranking(what, known, whole=total if whole else None)
    chart = Chart(
        (*fields, Field("share", "Share", ".1%")) if whole else fields,
        [(*row, row[1] / total) for row in drawn] if whole else drawn,
        charts.bars(*fields),
    )
    return Figure(*heading, finding, chart, described)


def grouped_bars(
    heading: Head,
    rows: Sequence[tuple[Any, ...]],
    name: Field,
    value: Field,
    colors: Mapping[str, str],
    finding: str,
    described: About,
    *,
    choice: Choice | None = None,
    stacked: bool = False,
    wide: bool = False,
) -> Item:
    """Create a chart of grouped or stacked bars from rows of choice, if any, name, series and value."""
    chosen = [Field(choice.field, choice.title)] if choice else []
    chart = Chart(
        (*chosen, name, SERIES, value),
        rows,
        charts.grouped_bars(name, value, colors, stacked=stacked),
        series=SERIES.name,
        colors=colors,
        choices=(choice,) if choice else (),
    )
    return Figure(*heading, finding, chart, described, wide)


@item(lambda name, metric, by, timeframe: Head(name, title(metric, timeframe.name, by)))
def by_part(
    heading: Head,
    name: str,
    daily: Daily,
    metric: Metric,
    timeframe: Timeframe,
    *,
    by: str,
    dimension: str,
    top: int,
    without: Sequence[str] = (),
    named: Callable[[str], str] = words,
    ranked: bool = False,
    wide: bool = False,
) -> Item:
    """Create a chart of a count by week and by the value of a dimension that divides it.

    Args:
        heading: the item's name and title.
        name: the item's name.
        daily: the rows.
        metric: the count.
        timeframe: the period.
        by: the dimension's name.
        dimension: the dimension's column.
        top: the maximum number of values. All others are added up.
        without: values to leave out.
        named: returns a value's name.
        ranked: whether to draw one bar per value, with its sum over the chosen weeks, in place of
            stacked columns.
        wide: whether the chart takes two columns of the page.
    """
    frame = daily.reader.frame(timeframe)
    found = daily.by_segment(metric, dimension, frame, top=top, without=without)
    values = {named(part): numbers for part, numbers in found.shown.items()}
    if found.others:
        values[other(found.others)] = found.rest
    sums = {part: sum(filter(None, numbers)) for part, numbers in values.items()}
    what = f"{words(metric.unit.value).lower()} in complete weeks"
    if not any(sums.values()):
        return Unavailable(*heading, nothing_known([metric]))
    shown = [(part, count, count_text(count)) for part, count in sums.items()]
    if found.others:
        shown.pop()
    part, value = Field("part", by), metric_field(metric, title=words(metric.unit.value))
    if not ranked:
        # The colors follow the names, so that they are the same on all pages.
        values = dict(
            sorted(values.items(), key=lambda one: (one[0] == other(found.others), one[0]))
        )
    rows = [
        (day, name, numbers[place])
        for place, day in enumerate(frame.whole_weeks)
        for name, numbers in values.items()
        if numbers[place] is not None
    ]
    series = {} if ranked else line_colors([*values])
    if found.others and series:
        series[other(found.others)] = SECONDARY
    chart = Chart(
        (ON_DAY, part if ranked else SERIES, value),
        rows,
        charts.bars(part, value, total=True) if ranked else charts.columns(ON_DAY, value, series),
        day=ON_DAY.name,
        series="" if ranked else SERIES.name,
        colors=series,
        total=ranked,
    )
    finding = findings.ranking(what, shown, whole=sum(sums.values()))
    return Figure(*heading, finding, chart, about([metric], daily.table), wide)


def stacked_areas(
    heading: Head,
    rows: Sequence[tuple[Any, ...]],
    value: Field,
    order: Sequence[str],
    finding: str,
    described: About,
    *,
    colors: Mapping[str, str] | None = None,
    segment: bool = False,
    wide: bool = True,
) -> Item:
    """Create a chart of stacked areas from rows of day, series, segment (if any) and value."""
    if not rows:
        return Unavailable(*heading, f"There are no {value.title.lower()} to show.")
    colors = colors or {words(state): state_color(state) for state in order}
    fields = (ON_DAY, *([SEGMENT] if segment else []), SERIES, value)
    chart = Chart(
        fields,
        rows,
        charts.areas(ON_DAY, value, colors),
        day=ON_DAY.name,
        series=SERIES.name,
        colors=colors,
        segment=SEGMENT.name if segment else "",
        height=260,
    )
    return Figure(*heading, finding, chart, described, wide)


def other(categories: int) -> str:
    """Return the name of the sum of the categories that are not shown, with their number."""
    return f"Other ({categories:,})"


def line_colors(names: Sequence[str]) -> dict[str, str]:
    """Return a style sheet variable for each line, gray for all lines after the first eight."""
    return {name: LINES[n] if n < len(LINES) else SECONDARY for n, name in enumerate(names)}


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


def metric_field(metric: Metric, currency: str = "", title: str = "") -> Field:
    """Return the field that contains a metric."""
    text = title or metric.short_name or metric.name
    text = f"{text} ({currency})" if metric.unit.is_money and currency else text
    return Field(metric.column_name, text, _FORMATS.get(metric.unit, ",.1f"))


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


def points(days: Sequence[date], values: Sequence[Any]) -> list[Point]:
    """Combine values with their days for a finding."""
    return [Point(day, value) for day, value in zip(days, values, strict=True)]


def cell(value: Any, field: Field, link: str = "") -> Cell:
    """Return a table cell for a value, formatted like the field's values."""
    order = None if value is None or field.format in ("", DAY) else float(value)
    if field.format == DAY and value is not None:
        order = float(value.toordinal())
    return Cell(field.text(value), order, link)


def cells(
    fields: Iterable[Field], row: Sequence[Any], links: Mapping[str, Mapping[str, str]]
) -> list[Cell]:
    """Return the cells of a row, empty where a value is missing.

    `links` maps a field's name to the pages that its values link to.
    """
    return [
        Cell("") if value is None else cell(value, field, links.get(field.name, {}).get(value, ""))
        for field, value in zip(fields, row, strict=True)
    ]


def listing(
    heading: Head,
    finding: str,
    fields: Sequence[Field],
    rows: Iterable[Sequence[Any]],
    described: About,
    *,
    links: Mapping[str, Mapping[str, str]] | None = None,
    footnote: str = "",
) -> Listing:
    """Create a table that readers can filter, with `links` as for `cells`."""
    body = [cells(fields, row, links or {}) for row in rows]
    shown = table(fields, body)
    return Listing(*heading, finding, shown, described, searchable=True, footnote=footnote)


def nothing_known(metrics: Iterable[Metric]) -> str:
    """Return the reason why a figure is unavailable."""
    named = " and ".join(metric.name for metric in metrics)
    return f"There are no values to show for {named} in this period."


def _title(metrics: Iterable[Metric], timeframe: Timeframe, what: str) -> str:
    return title(next(iter(metrics)), timeframe.name, what=what)
