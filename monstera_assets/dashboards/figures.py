"""From declared metrics to figures: query, chart, finding, data and definition in one call.

The pages are lists of these calls. A figure whose table was never materialized, or that has nothing
to show, is replaced by a note that says so: a site can be built of any part of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

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
    CARD_WIDTH,
    CHART_HEIGHT,
    WIDE_HEIGHT,
    WIDE_WIDTH,
    Timeframe,
    title,
    words,
)
from monstera_assets.dashboards.findings import Point
from monstera_assets.dashboards.model import (
    About,
    Cell,
    Change,
    DataTable,
    Definition,
    Drawing,
    Figure,
    Item,
    Tile,
    Unavailable,
    table,
)
from monstera_assets.dashboards.reading import WEEK, Frame, Reader
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Column, Table

MAX_PANELS = 8
"""Small lines in a figure; of more segments, those with most are shown."""

Where = Mapping[str, Any]
Labels = Mapping[Metric, str]

_DAY, _WEEK_TO = "Day", "Week to"


def attempt(heading: str, build: Callable[[], Item]) -> Item:
    """What a function builds, or a note in its place if a table of it was never materialized.

    Args:
        heading: of the note.
        build: makes the item.
    """
    try:
        return build()
    except MissingTableError as error:
        return Unavailable(heading, str(error))


def trend(
    reader: Reader,
    source: MetricTable,
    metrics: Labels,
    timeframe: Timeframe,
    *,
    heading: str = "",
    where: Where | None = None,
    wide: bool = False,
) -> Item:
    """Lines of up to three metrics, by day or, where that would be too many points, by week.

    Args:
        reader: of the warehouse.
        source: the table.
        metrics: to the names of their lines; the first one's course is the finding.
        timeframe: of the chart.
        heading: its title; by default that of the first metric.
        where: columns that must equal values.
        wide: whether it may take the room of two.
    """
    heading = heading or title(next(iter(metrics)), timeframe.name)

    def build() -> Item:
        frame = reader.frame(timeframe)
        frame = Frame(frame.first, frame.last, resolution(len(frame.days), len(metrics)))
        values = reader.by_day(source, [*metrics], frame, where)
        if all(value is None for one in values.values() for value in one):
            return Unavailable(heading, _nothing_known(metrics))
        series = [
            Series(
                label, [_number(value) for value in values[metric]], _last(metric, values[metric])
            )
            for metric, label in metrics.items()
        ]
        unit = next(iter(metrics)).unit

        def draw(width: int, height: int) -> Drawing:
            return line_chart(frame.days, series, unit, width=width, height=height)

        found = [
            findings.course(metric, _points(frame.days, values[metric]), brief=number > 0)
            for number, metric in enumerate(metrics)
        ]
        return Figure(
            title=heading + (", by Week" if frame.step == WEEK and "by" not in heading else ""),
            finding=" ".join(found),
            drawing=draw(CARD_WIDTH, CHART_HEIGHT),
            wide=draw(WIDE_WIDTH, WIDE_HEIGHT) if wide else None,
            table=_by_day(frame.days, values, _DAY),
            about=about(metrics, [source]),
        )

    return attempt(heading, build)


def columns(
    reader: Reader,
    source: MetricTable,
    metric: Metric,
    timeframe: Timeframe,
    *,
    weekly: bool,
    where: Where | None = None,
    wide: bool = False,
) -> Item:
    """A bar a day, or a bar a week in which the days of a metric that adds up are added up."""
    heading = title(metric, timeframe.name, "Week" if weekly else "")

    def build() -> Item:
        frame = reader.frame(timeframe)
        read = reader.by_week if weekly else reader.by_day
        days = frame.whole_weeks if weekly else frame.days
        values = read(source, [metric], frame, where)[metric]
        if all(value is None for value in values):
            return Unavailable(heading, _nothing_known([metric]))
        if not any(values):
            return Unavailable(
                heading, f"{metric.name} was {metric.format(0)} on every day of these."
            )
        series = Series(metric.name, [_number(value) for value in values])

        def draw(width: int, height: int) -> Drawing:
            return column_chart(days, series, None, metric.unit, width=width, height=height)

        return Figure(
            title=heading,
            finding=findings.total(metric, _points(days, values), "week" if weekly else "day"),
            drawing=draw(CARD_WIDTH, CHART_HEIGHT),
            wide=draw(WIDE_WIDTH, WIDE_HEIGHT) if wide else None,
            table=_by_day(days, {metric: values}, _WEEK_TO if weekly else _DAY),
            about=about([metric], [source]),
        )

    return attempt(heading, build)


def multiples(
    reader: Reader,
    source: MetricTable,
    metric: Metric,
    timeframe: Timeframe,
    dimension: str,
    by: str,
    *,
    where: Where | None = None,
    order: Sequence[str] = (),
    name: Callable[[str], str] = words,
    added_up: bool = False,
) -> Item:
    """A small line a segment, by week: the last day of each, or its days added up.

    Args:
        reader: of the warehouse.
        source: the table.
        metric: what the lines show.
        timeframe: of the chart.
        dimension: the column whose values are the segments.
        by: what the title calls the segments.
        where: columns that must equal values.
        order: the segments; by default those with most, at most `MAX_PANELS`.
        name: what a segment is called.
        added_up: whether the days of a week are added up.
    """
    heading = title(metric, timeframe.name, f"{by} and Week" if added_up else by)

    def build() -> Item:
        frame = reader.frame(timeframe, WEEK)
        found = reader.by_segment(
            source,
            metric,
            dimension,
            frame,
            where,
            top=None if order else MAX_PANELS,
            added_up=added_up,
        )
        values = {name(one): found[one] for one in order or found if one in found}
        days = frame.whole_weeks if added_up else frame.days
        return segment_figure(heading, days, metric, values, source)

    return attempt(heading, build)


def segment_figure(
    heading: str,
    days: Sequence[date],
    metric: Metric,
    values: Mapping[str, Sequence[Any]],
    source: Table,
) -> Item:
    """Small multiples of a metric's values by segment and week."""
    return multiples_of(
        heading, days, metric.unit.value, values, about([metric], [source]), metric.format
    )


def multiples_of(
    heading: str,
    days: Sequence[date],
    what: str,
    values: Mapping[str, Sequence[Any]],
    described: About,
    shown: Callable[[Any], str] = "{:,}".format,
) -> Item:
    """Small multiples of values by segment and week.

    Args:
        heading: the title.
        days: last days of the weeks.
        what: is counted, in lower case.
        values: segment to its values.
        described: the definition.
        shown: writes a value as people read it.
    """
    known = {name: one for name, one in values.items() if any(v is not None for v in one)}
    if not days or not known:
        return Unavailable(heading, f"There are no {what} to show.")
    latest = [(name, float(one[-1] or 0), shown(one[-1])) for name, one in known.items()]
    return Figure(
        title=heading,
        finding=findings.ranking(what, latest, on=days[-1], share=True),
        drawing=small_multiples(
            days,
            [
                Series(name, [_number(value) for value in one], shown(one[-1]))
                for name, one in known.items()
            ],
        ),
        table=table(
            [_WEEK_TO, *known],
            (
                [
                    Cell(str(day)),
                    *(Cell(shown(one[place]), _number(one[place])) for one in known.values()),
                ]
                for place, day in reversed([*enumerate(days)])
            ),
        ),
        about=described,
    )


def bars(
    heading: str,
    what: str,
    rows: Iterable[tuple[str, Any, str]],
    described: About,
    *,
    name: str,
    value: str,
    share: bool = False,
) -> Item:
    """Bars of categories.

    Args:
        heading: the title.
        what: is counted, in lower case.
        rows: name, value and the value as people read it.
        described: the definition.
        name: heading of the categories' column.
        value: heading of the values' column.
        share: whether the values add up to a whole.
    """
    rows = [*rows]
    known = [(label, float(number), shown) for label, number, shown in rows if number is not None]
    if not known or not any(number for _, number, _ in known):
        return Unavailable(heading, f"There are no {what} to show.")
    return Figure(
        title=heading,
        finding=findings.ranking(what, known, share=share),
        drawing=bar_chart([Bar(*row) for row in known]),
        table=table(
            [name, value],
            (
                [Cell(label), Cell(shown, None if number is None else float(number))]
                for label, number, shown in rows
            ),
        ),
        about=described,
    )


def tile(metric: Metric, value: Any, change: Change | None = None, *, note: str = "") -> Tile:
    """A big number, with its change or, where there is none to tell, a note."""
    return Tile(metric.name, metric.format(value), definition(metric), change, note)


def definition(metric: Metric) -> Definition:
    """A metric's definition as it is declared."""
    return Definition(metric.name, metric.definition, metric.formula, metric.caveats)


def about(metrics: Iterable[Metric], sources: Sequence[Table]) -> About:
    """Where a figure of metrics comes from."""
    return About(
        tuple(definition(metric) for metric in metrics),
        tuple(source.qualified_name for source in sources),
        owners(sources[0]),
    )


def about_columns(source: Table, names: Sequence[str]) -> About:
    """Where a figure of a table's columns comes from: silver declares them, too."""
    declared: dict[str, Column] = {column.name: column for column in source.columns}
    return About(
        tuple(Definition(words(name), declared[name].description) for name in names),
        (source.qualified_name,),
        owners(source),
    )


def owners(source: Table) -> str:
    """Who answers for a table."""
    if isinstance(source, MetricTable):
        return (
            f"{source.business_owner} for what it means, {', '.join(source.owners)} for how it is"
            f" computed, {source.dashboard_owner} for how it is shown"
        )
    return f"{', '.join(source.owners)} for how it is computed"


def _by_day(days: Sequence[Any], values: Mapping[Metric, Sequence[Any]], heading: str) -> DataTable:
    return table(
        [heading, *(metric.name for metric in values)],
        (
            [Cell(str(day)), *(_value_cell(metric, one[place]) for metric, one in values.items())]
            for place, day in reversed([*enumerate(days)])
        ),
    )


def _value_cell(metric: Metric, value: Any) -> Cell:
    return Cell(metric.format(value), _number(value))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _points(days: Sequence[Any], values: Sequence[Any]) -> list[Point]:
    return [Point(day, value) for day, value in zip(days, values, strict=True)]


def _last(metric: Metric, values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    return metric.format(known[-1]) if known else metric.format(None)


def _nothing_known(metrics: Iterable[Metric]) -> str:
    names = " and ".join(metric.name for metric in metrics)
    return f"{names}: not known on any of these days."
