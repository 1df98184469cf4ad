"""Findings: sentences that summarize a chart, computed from its numbers.

A finding is shown below the title and also serves as the chart's alternative text. The metric's
declaration determines the number format.
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
"""Maximum number of tied names that a finding lists."""
_SMALLEST_PART = 0.0005
"""Smallest relative change to show. Smaller changes would be shown as 0.0%."""


@dataclass(frozen=True)
class Point:
    """A day and its value, which is None if unknown."""

    day: date
    value: Any


def trend_summary(metric: Metric, points: Sequence[Point], *, brief: bool = False) -> str:
    """Describe a metric's change from its first to its last known value, and its highest value.

    If `brief` is set, the highest value is omitted.
    """
    known = [point for point in points if point.value is not None]
    if not known:
        return f"{metric.name} has no known values in this period."
    first, last = known[0], known[-1]
    shown = metric.format
    if len(known) == 1:
        return f"{metric.name} was {shown(first.value)} on {first.day}, the only day with a value."
    highest = max(known, key=lambda point: point.value)
    days = (last.day - first.day).days
    if shown(last.value) == shown(first.value):
        change = f"{metric.name} is {shown(last.value)}, the same as {plural(days, 'day')} earlier"
        if all(point.value == last.value for point in known):
            return f"{metric.name} stayed at {shown(last.value)} for {days + 1:,} days."
    else:
        verb = "rose" if last.value > first.value else "fell"
        change = (
            f"{metric.name} {verb} from {shown(first.value)} to {shown(last.value)}"
            f"{_by(metric, first.value, last.value)} in {plural(days, 'day')}"
        )
    unknown = "" if last == points[-1] else f" No value is known after {last.day}."
    if brief:
        return f"{change}.{unknown}"
    return f"{change}. The highest value was {shown(highest.value)} on {highest.day}.{unknown}"


def total(metric: Metric, points: Sequence[Point], period: str) -> str:
    """Describe a daily metric's total and the day or week (`period`) with the highest value."""
    known = [point for point in points if point.value is not None]
    if not known:
        return f"{metric.name} has no known values in this period."
    added = sum(point.value for point in known)
    sentence = f"{metric.name} totals {metric.format(added)} over {plural(len(known), period)}"
    if not added:
        return f"{sentence}."
    highest = max(known, key=lambda point: point.value)
    when = f"in the week ending {highest.day}" if period == "week" else f"on {highest.day}"
    return f"{sentence}. The highest value was {metric.format(highest.value)} {when}."


def ranking(
    what: str,
    bars: Sequence[tuple[str, float, str]],
    *,
    share: bool = False,
    on: date | None = None,
) -> str:
    """List the categories with the highest and second-highest values.

    Args:
        what: plural noun for what is counted, such as `users`.
        bars: each bar's name, value and displayed value.
        share: whether to show the highest value as a share of the total.
        on: the day to mention, if any.
    """
    when = f"On {on}, " if on else ""
    added = sum(value for _, value, _ in bars)
    if not added:
        return _capital(f"{when}there are no {what}.")
    most = max(value for _, value, _ in bars)
    first = [(name, shown) for name, value, shown in bars if value == most]
    part = f" ({most / added:.0%})" if share else ""
    if len(first) > 1:
        names = ", ".join(name for name, _ in first[:_NAMED])
        more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
        return _capital(f"{when}most {what}: {names}{more}, with {first[0][1]}{part} each.")
    [(name, shown)] = first
    rest = sorted(
        ((value, other, text) for other, value, text in bars if 0 < value < most), reverse=True
    )
    second = f", followed by {rest[0][1]} with {rest[0][2]}" if rest else " and none elsewhere"
    return _capital(f"{when}most {what}: {name} with {shown}{part}{second}.")


def week_on_week(metric: Metric, now: Any, then: Any) -> Change:
    """Return the relative change from a week earlier, or the difference for shares and scores."""
    if now is None or then is None:
        return Change(Direction.UNKNOWN, "change not known", "from a week earlier")
    if metric.format(now) == metric.format(then):
        return Change(Direction.FLAT, "unchanged", "from a week earlier")
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
