"""The design rules: colors, limits, timeframes and titles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from monstera_assets.gold.metrics import Metric

PRIMARY, SECONDARY, DECLINING, RISING = "primary", "secondary", "declining", "rising"
MUTED = "muted"
"""Style sheet variables, which let charts work in light mode, dark mode and print."""

LINES = (PRIMARY, "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", SECONDARY)
"""Style sheet variables for the lines in a chart whose lines have no color of their own."""

MAX_CHARTS = 20
"""Maximum number of charts per page."""


@dataclass(frozen=True)
class Timeframe:
    """A period, in days, ending on the as-of date."""

    days: int
    name: str


LAST_90_DAYS = Timeframe(90, "Last 90 Days")
LAST_18_MONTHS = Timeframe(548, "Last 18 Months")
LATEST_DAY = Timeframe(1, "Latest Day")


def title(metric: Metric, timeframe: str, by: str = "", *, what: str = "") -> str:
    """Return a figure's title: `[Entities], [Metric], [Timeframe], [by Segment]`.

    The first two parts come from the metric. `what` replaces the second part if the figure shows
    several metrics.
    """
    entities, _, rest = metric.name.partition(" by ")[0].partition(" ")
    return headline(entities, what or rest, timeframe, by)


def headline(entities: str, what: str, timeframe: str, by: str = "") -> str:
    """Join the parts of a title."""
    return ", ".join([entities, what, timeframe, *([f"by {by}"] if by else [])])


def words(name: str) -> str:
    """Format a value for display, such as `At risk` for `at_risk`."""
    text = name.replace("_", " ").strip()
    return "API" if text == "api" else text[:1].upper() + text[1:]


def state_color(state: str) -> str:
    """Return the style sheet variable of a state, which has the same color on all pages.

    States of users, product relationships and accounts that mean the same share a color.
    """
    return f"state-{state.partition('_')[0]}"


def count_text(value: Any) -> str:
    """Format a count for display."""
    return "not known" if value is None else f"{value:,}"


def day_text(day: date) -> str:
    """Format a day for display, such as 30 Jun 2025."""
    return f"{day.day} {day:%b %Y}"


def plural(count: int, thing: str) -> str:
    """Format a count with its noun, such as 1 day or 1,200 days."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
