"""Findings: what a chart shows, in a sentence computed from its numbers.

They stand below the title and are the chart's alternative text, so that nobody has to see the chart
to know what it says. Numbers are written as the metric's declaration writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from monstera_assets.dashboards.design import plural
from monstera_assets.dashboards.model import Change, Direction
from monstera_assets.gold.metrics import Metric, Unit

_IN_POINTS = (Unit.SHARE, Unit.RATIO)
_NAMED = 3
"""Of equals, how many are named."""
_SMALLEST_PART = 0.0005
"""Changes by less are written as none: they would read as 0.0 %."""


@dataclass(frozen=True)
class Point:
    """A value on a day; None where it is not known."""

    day: date
    value: Any


def course(metric: Metric, points: Sequence[Point], *, brief: bool = False) -> str:
    """How a metric went from its first known value to its last, and its highest one.

    Args:
        metric: names it and says how values are written.
        points: in the order of their days.
        brief: leave out the highest one.
    """
    known = [point for point in points if point.value is not None]
    if not known:
        return f"{metric.name} is not known on any of these days."
    first, last = known[0], known[-1]
    shown = metric.format
    if len(known) == 1:
        return f"{metric.name} was {shown(first.value)} on {first.day}, the only day known."
    highest = max(known, key=lambda point: point.value)
    days = (last.day - first.day).days
    if shown(last.value) == shown(first.value):
        went = f"{metric.name} is {shown(last.value)}, as {plural(days, 'day')} before"
        if all(point.value == last.value for point in known):
            return f"{metric.name} stayed at {shown(last.value)} for {days + 1:,} days."
    else:
        verb = "rose" if last.value > first.value else "fell"
        went = (
            f"{metric.name} {verb} from {shown(first.value)} to {shown(last.value)}"
            f"{_by(metric, first.value, last.value)} in {plural(days, 'day')}"
        )
    unknown = "" if last == points[-1] else f" It is not known after {last.day}."
    if brief:
        return f"{went}.{unknown}"
    return f"{went}; highest {shown(highest.value)} on {highest.day}.{unknown}"


def total(metric: Metric, points: Sequence[Point], period: str) -> str:
    """What a metric of single days adds up to, and the period with most.

    Args:
        metric: names it and says how values are written.
        points: sums, in the order of their days; a week stands under its last day.
        period: what a point is: a day or a week.
    """
    known = [point for point in points if point.value is not None]
    if not known:
        return f"{metric.name} is not known on any of these days."
    added = sum(point.value for point in known)
    what = f"{metric.name} adds up to {metric.format(added)}"
    if not added:
        return f"{what} in {plural(len(known), period)}."
    highest = max(known, key=lambda point: point.value)
    when = f"in the week to {highest.day}" if period == "week" else f"on {highest.day}"
    return f"{what} in {plural(len(known), period)}; most, {metric.format(highest.value)}, {when}."


def ranking(
    what: str,
    bars: Sequence[tuple[str, float, str]],
    *,
    share: bool = False,
    on: date | None = None,
) -> str:
    """Which category has most.

    Args:
        what: is counted, in lower case, such as `users`.
        bars: name, value, and the value as people read it.
        share: whether the values add up to a whole of which the greatest is a part.
        on: the day, if it is to be named.
    """
    when = f"On {on}, " if on else ""
    added = sum(value for _, value, _ in bars)
    if not added:
        return _capital(f"{when}there are no {what} here.")
    most = max(value for _, value, _ in bars)
    first = [(name, shown) for name, value, shown in bars if value == most]
    part = f" ({most / added:.0%})" if share else ""
    if len(first) > 1:
        names = ", ".join(name for name, _ in first[:_NAMED])
        more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
        return _capital(f"{when}most {what}: {names}{more}, {first[0][1]}{part} each.")
    [(name, shown)] = first
    rest = sorted(
        ((value, other, text) for other, value, text in bars if 0 < value < most), reverse=True
    )
    second = f"; next {rest[0][1]}, {rest[0][2]}" if rest else "; none elsewhere"
    return _capital(f"{when}most {what}: {name}, {shown}{part}{second}.")


def week_on_week(metric: Metric, now: Any, then: Any) -> Change:
    """How a number compares with a week before: relatively, or in points where it is a share."""
    if now is None or then is None:
        return Change(Direction.UNKNOWN, "change not known", "from a week before")
    if metric.format(now) == metric.format(then):
        return Change(Direction.FLAT, "unchanged", "from a week before")
    direction = Direction.UP if now > then else Direction.DOWN
    before = f"from {metric.format(then)}"
    if metric.unit in _IN_POINTS:
        return Change(direction, f"{(now - then) * 100:+.1f} pts {before}")
    if metric.unit is Unit.SCORE:
        return Change(direction, f"{now - then:+.1f} {before}")
    if not then:
        return Change(direction, before)
    return Change(direction, f"{float(now - then) / float(then):+.1%} {before}")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _by(metric: Metric, first: Any, last: Any) -> str:
    if metric.unit in _IN_POINTS:
        return f" ({(last - first) * 100:+.1f} points)"
    if metric.unit in (Unit.SCORE, Unit.CHANGE) or not first or first < 0:
        return ""
    part = float(last - first) / float(first)
    return f" ({part:+.1%})" if abs(part) >= _SMALLEST_PART else ""
