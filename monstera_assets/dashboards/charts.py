"""Charts as SVG: line charts, bar charts over time, bars of categories, and small multiples of lines.

Altair describes them and vl-convert draws them, in this process and without network. Layouts are
exact: margins, ticks and labels are placed here rather than by measuring text, and texts are put into
the finished SVG, so that the same data give the same bytes on every machine and no text of the data
passes through the library. The colours of a drawing are names of
`design.COLOURS`, replaced in the SVG by variables of the style sheet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import altair as alt
import vl_convert

from monstera_assets.dashboards.design import (
    CARD_WIDTH,
    CHART_HEIGHT,
    COLOURS,
    DECLINING,
    FONT,
    FONT_SIZE,
    INK,
    LINE,
    MAX_POINTS,
    MUTED,
    PRIMARY,
    RISING,
    SECONDARY,
    SURFACE,
    TRACK,
)
from monstera_assets.dashboards.model import Drawing, Plot
from monstera_assets.gold.metrics import Unit

Value = float | None
Rows = list[dict[str, Any]]

_TEXTS = frozenset({"text", "name", "shown", "first", "last"})
"""Fields of the layers' data that are texts."""
_SVG = "http://www.w3.org/2000/svg"
_VEGALITE = re.sub(r"^v(\d+\.\d+).*", r"\1", alt.SCHEMA_VERSION)
_LETTER = 6.9
"""Pixels of a letter of the labels, on the wide side: what margins are reckoned with."""
_WIDE_LETTER = 7.8
"""As `_LETTER`, for digits, which are wider than most letters."""
_BOLD_LETTER = 8.4
"""As `_LETTER`, for bold ones."""
_TOP, _BOTTOM, _LEFT = 10, 24, 44
_LABEL_STEP = 15
"""Pixels that two labels, one above the other, keep between their middles."""
_TIMES = 10
"""From here on a ratio's tick is a multiple, 10x, and no percentage, which would be too long."""
_MANY_DAYS = 200
"""From so many points on, lines are thinner."""
_LONG_NAME = 18
"""Letters of a name for which a small line needs the whole width."""
_BAR_STEP, _BAR_HEIGHT = 34, 8
_PANEL_HEIGHT, _PANEL_STEP, _PANEL_GAP = 38, 70, 26
_DASHES = ((), (5, 3), (1.5, 2.5))
_STYLES = ((PRIMARY, 2.2), (PRIMARY, 1.8), (SECONDARY, 2.2))
"""Of the first, second and third line: colours repeat, so dashes and labels tell lines apart."""
_CONFIGURATION = {
    "aria": False,  # the page says what the chart shows, in words
    "background": SURFACE,
    "font": FONT,
    "text": {"fontSize": FONT_SIZE},
    "view": {"stroke": None},
}


@dataclass(frozen=True)
class Series:
    """A named series: a value for each day, None where it is not known."""

    name: str
    values: Sequence[Value]
    shown: str = ""
    """Its latest value as people read it."""


@dataclass(frozen=True)
class Bar:
    """A category, its value, and how that is read."""

    name: str
    value: float
    shown: str
    colour: str = PRIMARY


def line_chart(
    days: Sequence[date],
    series: Sequence[Series],
    unit: Unit,
    *,
    width: int = CARD_WIDTH,
    height: int = CHART_HEIGHT,
) -> Drawing:
    """Up to three lines over days, each with its name and latest value at its end.

    Raises:
        ValueError: there are no days, more than three series, or too many points.
    """
    _require(days, len(days) * len(series))
    if len(series) > len(_STYLES):
        raise ValueError(f"{len(series)} lines in one chart; there may be {len(_STYLES)}")
    marks = _Sheet()
    ends = _ends(series)
    right = 12 + max((round(len(text) * _BOLD_LETTER) for text, _ in ends), default=0)
    known = [value for one in series for value in one.values if value is not None]
    ticks = nice_ticks(min([0.0, *known]), max([0.0, *known]), whole=_is_whole(unit))
    left = _room_for(ticks, unit)
    plot = Plot(
        left,
        width - left - right,
        _TOP,
        height - _TOP - _BOTTOM,
        tuple(range(1, len(series) + 1)),
    )
    x = _days_axis(days)
    y = _values_axis(ticks)
    layers = [
        *_grid(marks, ticks, unit, y),
        *_day_labels(marks, days, x, plot),
    ]
    for number, one in reversed([*enumerate(series)]):
        colour, thickness = _STYLES[number]
        rows: Rows = [
            {"day": _moment(day), "value": value}
            for day, value in zip(days, one.values, strict=True)
        ]
        layers.append(
            marks(rows)
            .mark_line(
                color=colour,
                strokeWidth=thickness if len(days) <= _MANY_DAYS else thickness * 0.65,
                strokeDash=list(_DASHES[number]),
                strokeCap="butt" if number else "round",
                strokeJoin="round",
                invalid="break-paths-show-domains",
            )
            .encode(x=x, y=y)
        )
        dots = [rows[index] for index in _alone(one.values)]
        latest = [row for row in rows if row["value"] is not None][-1:]
        layers.append(
            marks([*dots, *latest]).mark_circle(color=colour, size=34, opacity=1).encode(x=x, y=y)
        )
    low, high = ticks[0], ticks[-1]
    placed = _apart([_pixel(value, low, high, plot.height) for _, value in ends], plot.height)
    layers.append(
        marks(
            [
                {
                    "day": _moment(days[-1]),
                    "value": high - place / plot.height * (high - low),
                    "text": text,
                }
                for (text, _), place in zip(ends, placed, strict=True)
            ]
        )
        .mark_text(align="left", dx=9, baseline="middle", color=INK, fontWeight=600)
        .encode(x=x, y=y, text=alt.Text("text:N"))
    )
    return replace(
        _draw(marks, layers, plot, width, height),
        points=len(days) * len(series),
    )


def column_chart(
    days: Sequence[date],
    gains: Series,
    losses: Series | None,
    unit: Unit,
    *,
    width: int = CARD_WIDTH,
    height: int = CHART_HEIGHT,
    columns: Sequence[int] = (1,),
) -> Drawing:
    """Bars over days or weeks; with losses, which are not positive, gains above zero and these below.

    Args:
        days: of the bars, one each.
        gains: what stands above zero.
        losses: what stands below.
        unit: of the values.
        width: of the drawing.
        height: of the drawing.
        columns: of the figure's table that belong to the bars.

    Raises:
        ValueError: there are no days, or too many points.
    """
    marks = _Sheet()
    parts = [(gains, PRIMARY if losses is None else RISING)]
    parts += [] if losses is None else [(losses, DECLINING)]
    _require(days, len(days) * len(parts))
    known = [value for part, _ in parts for value in part.values if value is not None]
    ticks = nice_ticks(min([0.0, *known]), max([0.0, *known]), whole=_is_whole(unit))
    left = _room_for(ticks, unit)
    sides = [part.name for part, _ in parts] if losses is not None else []
    right = 12 + max((round(len(name) * _BOLD_LETTER) for name in sides), default=4)
    plot = Plot(left, width - left - right, _TOP, height - _TOP - _BOTTOM, tuple(columns))
    gap = 0.25 if plot.width / len(days) > 4 else 0.1
    x = alt.X(
        "number:O",
        scale=alt.Scale(domain=list(range(len(days))), paddingInner=gap, paddingOuter=0),
        axis=None,
    )
    y = _values_axis(ticks)
    layers = [*_grid(marks, ticks, unit, y)]
    for part, colour in parts:
        rows: Rows = [
            {"number": number, "value": value, "zero": 0}
            for number, value in enumerate(part.values)
            if value is not None
        ]
        layers.append(
            marks(rows).mark_bar(color=colour).encode(x=x, y=y.copy(), y2=alt.Y2("zero:Q"))
        )
    if losses is not None:
        layers.append(marks([{"value": 0}]).mark_rule(color=MUTED).encode(y=y))
        middles = ((ticks[-1] / 2, gains.name), (ticks[0] / 2, losses.name))
        layers.append(
            marks([{"value": value, "text": name} for value, name in middles])
            .mark_text(align="left", baseline="middle", color=INK, fontWeight=600)
            .encode(x=_across(plot.width + 8), y=y, text=alt.Text("text:N"))
        )
    numbers = {day: number for number, day in enumerate(days)}
    layers.append(
        marks([{"number": numbers[day], "text": text} for day, text in day_ticks(days, plot.width)])
        .mark_text(baseline="top", color=MUTED)
        .encode(x=x, y=_down(plot.height + 8), text=alt.Text("text:N"))
    )
    return replace(
        _draw(marks, layers, plot, width, height), bands=True, points=len(days) * len(parts)
    )


def bar_chart(
    bars: Sequence[Bar], *, width: int = CARD_WIDTH, most: float | None = None
) -> Drawing:
    """A bar a category, from left to right: its name above it, its value at the right.

    Args:
        bars: the categories, in order.
        width: of the drawing.
        most: what a bar over the whole width stands for; by default the greatest value.

    Raises:
        ValueError: there are no categories.
    """
    if not bars:
        raise ValueError("a bar chart without bars")
    marks = _Sheet()
    height = _BAR_STEP * len(bars) + 6
    if most is None:
        most = max([bar.value for bar in bars if bar.value > 0], default=1.0)
    down = alt.Scale(domain=[height, 0], nice=False, zero=False)
    y = alt.Y("top:Q", scale=down, axis=None)
    x = alt.X("zero:Q", scale=alt.Scale(domain=[0, most], nice=False), axis=None)
    room = width - 16 - max(len(bar.shown) for bar in bars) * _BOLD_LETTER
    rows: Rows = [
        {
            "name": _shortened(bar.name, room),
            "value": max(bar.value, 0.0),
            "shown": bar.shown,
            "zero": 0,
            "most": most,
            "top": number * _BAR_STEP + 20,
            "bottom": number * _BAR_STEP + 20 + _BAR_HEIGHT,
            "line": number * _BAR_STEP + 15,
        }
        for number, bar in enumerate(bars)
    ]
    line = alt.Y("line:Q", scale=down, axis=None)
    layers = [
        marks(rows)
        .mark_rect(color=TRACK)
        .encode(x=x, x2=alt.X2("most:Q"), y=y, y2=alt.Y2("bottom:Q")),
        *(
            marks([row for row, bar in zip(rows, bars, strict=True) if bar.colour == colour])
            .mark_rect(color=colour)
            .encode(x=x, x2=alt.X2("value:Q"), y=y, y2=alt.Y2("bottom:Q"))
            for colour in dict.fromkeys(bar.colour for bar in bars)
        ),
        marks(rows)
        .mark_text(align="left", baseline="alphabetic", color=INK)
        .encode(x=_across(0), y=line, text=alt.Text("name:N")),
        marks(rows)
        .mark_text(align="right", fontWeight=600, baseline="alphabetic", color=INK)
        .encode(x=_across(width), y=line, text=alt.Text("shown:N")),
    ]
    plot = Plot(0, width, 0, height, (1,))
    return replace(_draw(marks, layers, plot, width, height), plots=(), points=len(bars))


def small_multiples(
    days: Sequence[date], panels: Sequence[Series], *, width: int = CARD_WIDTH
) -> Drawing:
    """A line a series, each in a panel of its own with its name and latest value, on one scale.

    All panels are one drawing in which values are pixels: a drawing a panel would take as many times
    as long.

    Raises:
        ValueError: there are no days or series, or too many points.
    """
    _require(days, len(days) * len(panels))
    marks = _Sheet()
    known = [value for panel in panels for value in panel.values if value is not None]
    most = max([*known, 0.0]) or 1.0
    columns = 1 if any(len(panel.name) > _LONG_NAME for panel in panels) else 2
    across = (width - _PANEL_GAP * (columns - 1)) / columns
    height = _PANEL_STEP * math.ceil(len(panels) / columns) + 18
    lines: Rows = []
    ends: Rows = []
    bases: Rows = []
    names: Rows = []
    plots = []
    step = across / max(len(days) - 1, 1)
    room = across - 8 - max(len(panel.shown) for panel in panels) * _BOLD_LETTER
    for number, panel in enumerate(panels):
        left = (number % columns) * (across + _PANEL_GAP)
        base = (number // columns) * _PANEL_STEP + _PANEL_STEP - 10
        plots.append(Plot(left, across, base - _PANEL_HEIGHT, _PANEL_HEIGHT, (number + 1,)))
        points: Rows = [
            {
                "x": round(left + index * step, 2),
                "y": None if value is None else round(base - value / most * _PANEL_HEIGHT, 2),
                "panel": number,
            }
            for index, value in enumerate(panel.values)
        ]
        lines += points
        ends += [points[index] for index in _alone(panel.values)]
        ends += [point for point in points if point["y"] is not None][-1:]
        bases.append({"x": left, "x2": left + across, "y": base + 0.5})
        names.append(
            {
                "x": left,
                "x2": left + across,
                "y": base - _PANEL_HEIGHT - 8,
                "name": _shortened(panel.name, room),
                "shown": panel.shown,
            }
        )
    along = alt.Scale(domain=[0, width], nice=False)
    x, x2 = alt.X("x:Q", scale=along, axis=None), alt.X("x2:Q", scale=along, axis=None)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[height, 0], nice=False, zero=False), axis=None)
    edges: Rows = [
        {
            "x": 0,
            "x2": across,
            "y": height - 14.0,
            "first": _day_text(days[0]),
            "last": _day_text(days[-1]),
        }
    ]
    layers = [
        marks(bases).mark_rule(color=LINE).encode(x=x, x2=alt.X2("x2:Q"), y=y),
        marks(lines)
        .mark_line(
            color=PRIMARY,
            strokeWidth=1.7,
            strokeJoin="round",
            invalid="break-paths-show-domains",
        )
        .encode(x=x, y=y, detail=alt.Detail("panel:N"), order=alt.Order("x:Q")),
        marks(ends).mark_circle(color=PRIMARY, size=20, opacity=1).encode(x=x, y=y),
        marks(names)
        .mark_text(align="left", baseline="alphabetic", color=INK)
        .encode(x=x, y=y, text=alt.Text("name:N")),
        marks(names)
        .mark_text(align="right", baseline="alphabetic", color=INK, fontWeight=600)
        .encode(x=x2, y=y, text=alt.Text("shown:N")),
        marks(edges)
        .mark_text(align="left", baseline="top", color=MUTED, fontSize=11)
        .encode(x=x, y=y, text=alt.Text("first:N")),
    ]
    if len(days) > 1:
        layers.append(
            marks(edges)
            .mark_text(align="right", baseline="top", color=MUTED, fontSize=11)
            .encode(x=x2, y=y, text=alt.Text("last:N"))
        )
    drawing = _draw(marks, layers, Plot(0, width, 0, height, ()), width, height)
    return replace(drawing, plots=tuple(plots), points=len(days) * len(panels))


def nice_ticks(low: float, high: float, *, whole: bool, count: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` steps of 1, 2 or 5 apart.

    Args:
        low: least value.
        high: greatest value.
        whole: whether only whole numbers make sense.
        count: how many steps are wanted at most.
    """
    if not high > low:
        high = low + 1
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.9999999)
    if whole:
        step = max(1.0, step if step >= 10 or step != magnitude * 2.5 else magnitude * 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def tick_text(value: float, unit: Unit) -> str:
    """What stands at a tick of the values' axis: short, without more digits than it needs."""
    if unit in (Unit.SHARE, Unit.RATIO, Unit.CHANGE) and abs(value) < _TIMES:
        return f"{round(value * 100, 6):,.15g}%"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            divisor = 1e3 if letter == "k" else size
            return f"{round(value / divisor, 6):,.15g}{letter}"
    times = "x" if unit in (Unit.SHARE, Unit.RATIO, Unit.CHANGE) else ""
    return f"{round(value, 6):,.15g}{times}"


def day_ticks(days: Sequence[date], width: float) -> list[tuple[date, str]]:
    """Days that are marked below a chart, with what stands there: beginnings of months.

    A year stands for its January. A chart with no beginning of a month marks its first day.
    """
    begins = [day for before, day in pairwise(days) if before.month != day.month]
    per_tick = 46.0
    keep = max(1, math.ceil(len(begins) * per_tick / max(width, 1)))
    every = next((n for n in (1, 2, 3, 6, 12) if n >= keep), keep)
    chosen = [day for day in begins if (day.month - 1) % every == 0]
    edge = 14 / max(width, 1)
    span = max((days[-1] - days[0]).days, 1)
    chosen = [day for day in chosen if (day - days[0]).days / span >= edge or day == days[0]]
    if not chosen:
        return [(days[len(days) // 2], _day_text(days[len(days) // 2]))]
    return [(day, f"{day.year}" if day.month == 1 else f"{day:%b}") for day in chosen]


def resolution(days: int, series: int) -> int:
    """Days between the points of a chart: 1, or 7 where daily points would be too many."""
    return 1 if days * series <= MAX_POINTS else 7


@contextmanager
def unvalidated() -> Iterator[None]:
    """Leave out Altair's validation of every part of a chart, which takes longer than drawing it.

    What the functions above make is validated by the tests.
    """
    with alt.utils.schemapi.debug_mode(False):
        yield


def styled(svg: str, width: int, height: int, texts: Mapping[str, str]) -> str:
    """A drawing as it is embedded: texts, variables for colours, nothing that is not seen.

    Args:
        svg: markup of the drawing library.
        width: of the drawing.
        height: of the drawing.
        texts: what the texts of the markup stand for.
    """
    root = ET.fromstring(svg)  # noqa: S314  # made here, not received
    for parent in [*root.iter()]:
        for child in [*parent]:
            if (
                child.tag == f"{{{_SVG}}}path"
                and child.get("class")
                in (
                    "background",
                    "foreground",
                )
            ) or (child.tag == f"{{{_SVG}}}rect" and parent is root):
                parent.remove(child)
    for node in root.iter():
        if node.tag == f"{{{_SVG}}}text":
            node.text = texts[node.text or ""]
        for name in ("fill", "stroke"):
            colour = node.get(name)
            if colour in COLOURS:
                node.set(name, f"var(--{COLOURS[colour]})")
        for name in [*node.attrib]:
            if name.startswith("aria-") or name in (
                "role", "class", "font-family", "pointer-events", "version",
            ):  # fmt: skip
                del node.attrib[name]
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("viewBox", f"0 0 {width} {height}")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


class _Sheet:
    """The data of a chart, kept beside its layers: Altair copies what it is given at each step."""

    def __init__(self) -> None:
        self.datasets: dict[str, Rows] = {}
        self.texts: dict[str, str] = {}

    def __call__(self, rows: Rows) -> alt.Chart:
        """A layer of some data."""
        name = f"rows_{len(self.datasets)}"
        self.datasets[name] = [
            {key: self._token(value) if key in _TEXTS else value for key, value in row.items()}
            for row in rows
        ]
        return alt.Chart(alt.NamedData(name=name))

    def _token(self, text: str) -> str:
        """What is drawn in place of a text: the library takes its time to measure each letter."""
        token = str(len(self.texts))
        self.texts[token] = text
        return token


def _draw(
    marks: _Sheet, layers: Sequence[alt.Chart], plot: Plot, width: int, height: int
) -> Drawing:
    # Put together here: `alt.layer` copies every part of every layer several times.
    spec = {
        "$schema": alt.SCHEMA_URL,
        "layer": [
            layer.to_dict(
                validate=alt.utils.schemapi.DEBUG_MODE,
                context={"top_level": False, "datasets": {}},
            )
            for layer in layers
        ],
        "datasets": marks.datasets,
        "width": plot.width,
        "height": plot.height,
        "autosize": "none",
        "padding": {
            "left": plot.left,
            "top": plot.top,
            "right": width - plot.left - plot.width,
            "bottom": height - plot.top - plot.height,
        },
        "config": _CONFIGURATION,
    }
    svg = vl_convert.vegalite_to_svg(spec, vl_version=_VEGALITE)
    return Drawing(styled(svg, width, height, marks.texts), width, height, (plot,))


def _across(place: float) -> alt.XValue:
    value: alt.XValue = alt.XValue(place)  # type: ignore[no-untyped-call]
    return value


def _down(place: float) -> alt.YValue:
    value: alt.YValue = alt.YValue(place)  # type: ignore[no-untyped-call]
    return value


def _days_axis(days: Sequence[date]) -> alt.X:
    first, last = _moment(days[0]), _moment(days[-1])
    domain = [first, last] if last > first else [first - 1, first + 1]
    return alt.X("day:T", scale=alt.Scale(type="utc", domain=domain, nice=False), axis=None)


def _values_axis(ticks: Sequence[float]) -> alt.Y:
    return alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[ticks[0], ticks[-1]], nice=False, zero=False),
        axis=None,
    )


def _room_for(ticks: Sequence[float], unit: Unit) -> int:
    """Pixels at the left of a chart for what stands at its ticks."""
    return max(_LEFT, 12 + round(max(len(tick_text(tick, unit)) for tick in ticks) * _WIDE_LETTER))


def _grid(marks: _Sheet, ticks: Sequence[float], unit: Unit, y: alt.Y) -> list[alt.Chart]:
    rows: Rows = [{"value": tick, "text": tick_text(tick, unit)} for tick in ticks]
    return [
        marks(rows).mark_rule(color=LINE).encode(y=y),
        marks(rows)
        .mark_text(align="right", baseline="middle", color=MUTED)
        .encode(x=_across(-8), y=y, text=alt.Text("text:N")),
    ]


def _day_labels(marks: _Sheet, days: Sequence[date], x: alt.X, plot: Plot) -> list[alt.Chart]:
    rows: Rows = [{"day": _moment(day), "text": text} for day, text in day_ticks(days, plot.width)]
    return [
        marks(rows)
        .mark_text(baseline="top", color=MUTED)
        .encode(x=x, y=_down(plot.height + 8), text=alt.Text("text:N"))
    ]


def _ends(series: Sequence[Series]) -> list[tuple[str, float]]:
    """What stands at the end of each line that has a value, and the value."""
    known = [
        (one, [value for value in one.values if value is not None][-1])
        for one in series
        if any(value is not None for value in one.values)
    ]
    alone = len(series) == 1
    return [(one.shown if alone else f"{one.name} {one.shown}", value) for one, value in known]


def _alone(values: Sequence[Value]) -> list[int]:
    """Where a value has no neighbour to be joined with by a line."""
    return [
        index
        for index, value in enumerate(values)
        if value is not None
        and (index == 0 or values[index - 1] is None)
        and (index == len(values) - 1 or values[index + 1] is None)
    ]


def _apart(places: Sequence[float], height: float) -> list[float]:
    """Places moved as little as need be for labels not to touch, from top to bottom as they were."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [*places]
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + _LABEL_STEP)
    if order:
        moved[order[-1]] = min(moved[order[-1]], max(height, 0.0))
    for below, above in pairwise(reversed(order)):
        moved[above] = min(moved[above], moved[below] - _LABEL_STEP)
    return moved


def _shortened(name: str, room: float) -> str:
    """A name that fits; the figure's table has it as a whole."""
    letters = max(4, int(room / _LETTER))
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"


def _pixel(value: float, low: float, high: float, height: float) -> float:
    return (high - value) / (high - low) * height


def _moment(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _day_text(day: date) -> str:
    return f"{day.day} {day:%b} {day.year}"


def _is_whole(unit: Unit) -> bool:
    return unit in (
        Unit.USERS,
        Unit.ACCOUNTS,
        Unit.EVENTS,
        Unit.WORKFLOWS,
        Unit.MOVES,
        Unit.FAILURES,
    )


def _require(days: Sequence[date], points: int) -> None:
    if not days:
        raise ValueError("a chart without days")
    if points > MAX_POINTS:
        raise ValueError(f"a chart of {points} points; {MAX_POINTS} are allowed")
