"""Charts as SVG: line charts, column charts over time, bar charts, and small multiples of lines.

Margins, ticks and labels are placed without measuring text, so the same data produces the same
bytes on every machine. Colors are names in `design.COLORS`, which are variables in the style sheet.
All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby, pairwise
from xml.sax.saxutils import escape

from monstera_assets.dashboards.design import (
    CARD,
    DECLINING,
    FONT_SIZE,
    INK,
    LINE,
    MAX_POINTS,
    MUTED,
    PRIMARY,
    RISING,
    SECONDARY,
    TRACK,
)
from monstera_assets.dashboards.model import Drawing, Plot
from monstera_assets.gold.metrics import COUNTS, PERCENTAGES, Unit

Value = float | None
Point = tuple[float, Value]

_LETTER = 6.9
"""Estimated letter width in labels, rounded up, from which margins are computed."""
_WIDE_LETTER = 7.8
"""`_LETTER` for digits, which are wider than most letters."""
_BOLD_LETTER = 8.4
"""`_LETTER` for bold text."""
_TOP, _BOTTOM, _LEFT = 10, 24, 44
_MIDDLE, _HANGING = 4, 9
"""Distances from the middle and the top of a line of text down to its baseline."""
_LABEL_STEP = 15
"""Minimum vertical distance between the centers of two labels."""
_TIMES = 10
"""Minimum ratio for which ticks show multiples, such as 10x, because percentages are too long."""
_MANY_DAYS = 200
"""Number of points above which lines are drawn thinner."""
_LONG_NAME = 18
"""Name length above which small lines span the full width."""
_BAR_STEP, _BAR_HEIGHT = 34, 8
_PANEL_HEIGHT, _PANEL_STEP, _PANEL_GAP = 38, 70, 26
_STYLES = ((PRIMARY, 2.2, ""), (PRIMARY, 1.8, "5,3"), (SECONDARY, 2.2, "1.5,2.5"))
"""Color, thickness and dash pattern for the first, second and third lines."""


@dataclass(frozen=True)
class Series:
    """A named series with one value per day, which is None if unknown."""

    name: str
    values: Sequence[Value]
    shown: str = ""
    """The latest value, formatted for display."""


@dataclass(frozen=True)
class Bar:
    """A category, its value and its displayed value."""

    name: str
    value: float
    shown: str


class _Sketch:
    """A drawing's marks, positioned in pixels from the corner at (`left`, `top`)."""

    def __init__(self, width: int, height: int, left: float = 0, top: float = 0) -> None:
        self.size = (width, height)
        self._marks: list[str] = []
        self._corner = f"translate({_number(left)},{_number(top)})"

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: str = "start",
        *,
        color: str = INK,
        bold: bool = False,
        size: int = FONT_SIZE,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self._marks.append(
            f'<text text-anchor="{anchor}" transform="translate({_number(x)},{_number(y)})"'
            f' font-size="{size}px"{weight} fill="var(--{color})">{escape(text)}</text>'
        )

    def rule(self, left: float, right: float, y: float, color: str) -> None:
        path = f"M{_number(left)},{_number(y)}H{_number(right)}"
        self._marks.append(f'<path d="{path}" stroke="var(--{color})" />')

    def bar(self, x: float, y: float, width: float, height: float, color: str) -> None:
        path = f"M{_number(x)},{_number(y)}h{_number(width)}v{_number(height)}h{_number(-width)}Z"
        self._marks.append(f'<path d="{path}" fill="var(--{color})" />')

    def line(
        self, points: Sequence[Point], color: str, thickness: float, dash: str = "", cap: str = ""
    ) -> None:
        """Draw a line with gaps where values are None."""
        style = f' stroke-linecap="{cap}"' if cap else ""
        style += f' stroke-dasharray="{dash}"' if dash else ""
        stretches = (
            "M" + "L".join(f"{_number(x)},{_number(y)}" for x, y in stretch if y is not None)
            for is_known, stretch in groupby(points, key=lambda point: point[1] is not None)
            if is_known
        )
        self._marks.append(
            f'<path d="{"".join(stretches)}" stroke="var(--{color})"'
            f' stroke-width="{_number(thickness)}" stroke-linejoin="round"{style} />'
        )

    def dots(self, points: Sequence[Point], color: str, area: float) -> None:
        """Draw dots at the last value and at values that have no neighbor to connect to."""
        known = {index: place for index, place in enumerate(points) if place[1] is not None}
        alone = [place for n, place in known.items() if not {n - 1, n + 1} & known.keys()]
        radius = _number(math.sqrt(area) / 2)
        for x, y in (*alone, *list(known.values())[-1:]):
            self._marks.append(
                f'<circle cx="{_number(x)}" cy="{_number(y or 0)}" r="{radius}"'
                f' fill="var(--{color})" />'
            )

    def drawing(
        self, plots: Iterable[Plot], series: Iterable[Series], *, bands: bool = False
    ) -> Drawing:
        """Return a drawing of the series with all marks."""
        width, height = self.size
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            f'<g fill="none" stroke-miterlimit="10" transform="{self._corner}">'
            f"{''.join(self._marks)}</g></svg>"
        )
        values = tuple((one.name, tuple(one.values)) for one in series)
        return Drawing(svg, width, height, values, tuple(plots), bands=bands)


class _Axes(_Sketch):
    """A sketch with grid lines at round values, room for labels on the right, and day labels below."""

    def __init__(
        self,
        series: Sequence[Series],
        unit: Unit,
        labels: Sequence[str],
        columns: Sequence[int],
        size: tuple[int, int],
    ) -> None:
        width, height = size
        known = [value for one in series for value in one.values if value is not None]
        ticks = nice_ticks(min([0.0, *known]), max([0.0, *known]), whole=unit in COUNTS)
        texts = [tick_text(tick, unit) for tick in ticks]
        left = max(_LEFT, 12 + round(max(map(len, texts)) * _WIDE_LETTER))
        right = 12 + max((round(len(text) * _BOLD_LETTER) for text in labels), default=4)
        super().__init__(width, height, left, _TOP)
        self.plot = Plot(left, width - left - right, _TOP, height - _TOP - _BOTTOM, tuple(columns))
        self.low, self.high = ticks[0], ticks[-1]
        for tick in ticks:
            self.rule(0, self.plot.width, self.down(tick), LINE)
        for tick, text in zip(ticks, texts, strict=True):
            self.text(-8, self.down(tick) + _MIDDLE, text, "end", color=MUTED)

    def down(self, value: float) -> float:
        """Return a value's distance from the top."""
        return (self.high - value) / (self.high - self.low) * self.plot.height

    def label_days(self, days: Sequence[date], place: Callable[[date], float]) -> None:
        for day, text in day_ticks(days, self.plot.width):
            y = self.plot.height + 8 + _HANGING
            self.text(place(day), y, text, "middle", color=MUTED)


def line_chart(
    days: Sequence[date], series: Sequence[Series], unit: Unit, *, size: tuple[int, int] = CARD
) -> Drawing:
    """Draw up to three lines over days, labeled with their names and latest values.

    Raises:
        ValueError: If there are no days, more than three series, or too many points.
    """
    _require(days, len(days) * len(series))
    if len(series) > len(_STYLES):
        raise ValueError(f"The chart has {len(series)} lines. The limit is {len(_STYLES)}.")
    ends = _end_labels(series)
    columns = range(1, len(series) + 1)
    axes = _Axes(series, unit, [text for text, _ in ends], columns, size)
    span = (days[-1] - days[0]).days

    def along(day: date) -> float:
        return axes.plot.width * ((day - days[0]).days / span if span else 0.5)

    axes.label_days(days, along)
    for number, one in reversed([*enumerate(series)]):
        color, thickness, dash = _STYLES[number]
        points = [
            (along(day), None if value is None else axes.down(value))
            for day, value in zip(days, one.values, strict=True)
        ]
        thickness *= 1 if len(days) <= _MANY_DAYS else 0.65
        axes.line(points, color, thickness, dash, "butt" if number else "round")
        axes.dots(points, color, 34)
    places = _spread_labels([axes.down(value) for _, value in ends], axes.plot.height)
    for (text, _), place in zip(ends, places, strict=True):
        axes.text(along(days[-1]) + 9, place + _MIDDLE, text, bold=True)
    return axes.drawing([axes.plot], series)


def column_chart(
    days: Sequence[date],
    gains: Series,
    losses: Series | None,
    unit: Unit,
    *,
    size: tuple[int, int] = CARD,
    columns: Sequence[int] = (1,),
) -> Drawing:
    """Draw columns over days or weeks: gains above zero and any losses below zero.

    `columns` are the figure table's columns to show on hover.

    Raises:
        ValueError: If there are no days, or too many points.
    """
    parts = [(gains, PRIMARY)] if losses is None else [(gains, RISING), (losses, DECLINING)]
    _require(days, len(days) * len(parts))
    names = [] if losses is None else [gains.name, losses.name]
    axes = _Axes([part for part, _ in parts], unit, names, columns, size)
    plot, zero = axes.plot, axes.down(0)
    gap = 0.25 if plot.width / len(days) > 4 else 0.1
    step = plot.width / max(1, len(days) - gap)
    left, thickness = (plot.width - step * (len(days) - gap)) / 2, step * (1 - gap)
    for part, color in parts:
        for number, value in enumerate(part.values):
            if value is not None:
                end = axes.down(value)
                top = min(end, zero)
                axes.bar(left + number * step, top, thickness, abs(end - zero), color)
    if names:
        axes.rule(0, plot.width, zero, MUTED)
    for name, value in zip(names, (axes.high, axes.low), strict=False):
        axes.text(plot.width + 8, axes.down(value / 2) + _MIDDLE, name, bold=True)
    places = {day: left + number * step + thickness / 2 for number, day in enumerate(days)}
    axes.label_days(days, places.__getitem__)
    return axes.drawing([plot], [part for part, _ in parts], bands=True)


def bar_chart(bars: Sequence[Bar], *, most: float | None = None) -> Drawing:
    """Draw one horizontal bar per category, with its name above and its value on the right.

    `most` is the value at which a bar spans the full width, by default the highest value.

    Raises:
        ValueError: If there are no categories.
    """
    if not bars:
        raise ValueError("A bar chart needs at least one bar.")
    if most is None:
        most = max([bar.value for bar in bars if bar.value > 0], default=1.0)
    width = CARD[0]
    sketch = _Sketch(width, _BAR_STEP * len(bars) + 6)
    room = width - 16 - max(len(bar.shown) for bar in bars) * _BOLD_LETTER
    for number, bar in enumerate(bars):
        top = number * _BAR_STEP + 20
        sketch.bar(0, top, width, _BAR_HEIGHT, TRACK)
        sketch.bar(0, top, max(bar.value, 0.0) / most * width, _BAR_HEIGHT, PRIMARY)
    for number, bar in enumerate(bars):
        sketch.text(0, number * _BAR_STEP + 15, _shortened(bar.name, room))
    for number, bar in enumerate(bars):
        sketch.text(width, number * _BAR_STEP + 15, bar.shown, "end", bold=True)
    return sketch.drawing((), [Series(bar.name, [bar.value]) for bar in bars])


def small_multiples(days: Sequence[date], panels: Sequence[Series]) -> Drawing:
    """Draw each series in its own panel with its name and latest value, on a shared scale.

    Raises:
        ValueError: If there are no days or series, or too many points.
    """
    _require(days, len(days) * len(panels))
    known = [value for panel in panels for value in panel.values if value is not None]
    most = max([*known, 0.0]) or 1.0
    columns = 1 if any(len(panel.name) > _LONG_NAME for panel in panels) else 2
    width = CARD[0]
    across = (width - _PANEL_GAP * (columns - 1)) / columns
    sketch = _Sketch(width, _PANEL_STEP * math.ceil(len(panels) / columns) + 18)
    step = across / max(len(days) - 1, 1)
    room = across - 8 - max(len(panel.shown) for panel in panels) * _BOLD_LETTER
    plots = []
    for number, panel in enumerate(panels):
        left = (number % columns) * (across + _PANEL_GAP)
        base = (number // columns + 1) * _PANEL_STEP - 10
        plots.append(Plot(left, across, base - _PANEL_HEIGHT, _PANEL_HEIGHT, (number + 1,)))
        points = [
            (left + index * step, None if value is None else base - value / most * _PANEL_HEIGHT)
            for index, value in enumerate(panel.values)
        ]
        sketch.rule(left, left + across, base + 0.5, LINE)
        sketch.line(points, PRIMARY, 1.7)
        sketch.dots(points, PRIMARY, 20)
        sketch.text(left, base - _PANEL_HEIGHT - 8, _shortened(panel.name, room))
    for panel, plot in zip(panels, plots, strict=True):
        sketch.text(plot.left + across, plot.top - 8, panel.shown, "end", bold=True)
    edges = [(0.0, days[0], "start"), (across, days[-1], "end")][: len(days)]
    for x, day, anchor in edges:
        y = sketch.size[1] - 14 + _HANGING
        sketch.text(x, y, _day_text(day), anchor, color=MUTED, size=11)
    return sketch.drawing(plots, panels)


def nice_ticks(low: float, high: float, *, whole: bool, count: int = 4) -> list[float]:
    """Return round numbers that enclose `low` and `high`, in about `count` steps."""
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
    """Return a short label for a tick on the value axis."""
    if unit in PERCENTAGES and abs(value) < _TIMES:
        return f"{round(value * 100, 6):,.15g}%"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            divisor = 1e3 if letter == "k" else size
            return f"{round(value / divisor, 6):,.15g}{letter}"
    times = "x" if unit in PERCENTAGES else ""
    return f"{round(value, 6):,.15g}{times}"


def day_ticks(days: Sequence[date], width: float) -> list[tuple[date, str]]:
    """Return the days to mark below a chart, with their labels.

    The first day of each month is marked, and January is labeled with the year. If no month starts
    in the chart, the middle day is marked.
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
    """Return the number of days between points: 1, or 7 if daily points would exceed the limit."""
    return 1 if days * series <= MAX_POINTS else 7


def _end_labels(series: Sequence[Series]) -> list[tuple[str, float]]:
    """Return the label and the last value of each line that has a value."""
    known = [
        (one, [value for value in one.values if value is not None][-1])
        for one in series
        if any(value is not None for value in one.values)
    ]
    alone = len(series) == 1
    return [(one.shown if alone else f"{one.name} {one.shown}", value) for one, value in known]


def _spread_labels(places: Sequence[float], height: float) -> list[float]:
    """Move labels so that they do not overlap, keeping their order."""
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
    """Shorten a name to the available width, because the figure's table has the full name."""
    letters = max(4, int(room / _LETTER))
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"


def _number(value: float) -> str:
    """Format a number for SVG, rounded to a thousandth of a pixel."""
    return f"{round(value, 3) + 0.0:.6g}"


def _day_text(day: date) -> str:
    return f"{day.day} {day:%b} {day.year}"


def _require(days: Sequence[date], points: int) -> None:
    if not days:
        raise ValueError("A chart needs at least one day.")
    if points > MAX_POINTS:
        raise ValueError(f"The chart has {points} points. The limit is {MAX_POINTS}.")
