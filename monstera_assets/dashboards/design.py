"""The design rules: colors, limits, titles and texts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from monstera_assets.gold.metrics import Metric

PRIMARY, SECONDARY, MUTED = "primary", "secondary", "muted"
"""Style sheet variables, which let charts work in light mode, dark mode and print."""
LINES = (PRIMARY, "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
"""Style sheet variables for series that have no color of their own. All later series are gray."""
MAX_CHARTS = 20
"""Maximum number of charts per page."""
PERIOD_DAYS = 548
"""Number of days in charts over time, ending on the as-of date."""
PERIOD = "Last 18 Months"


def title(metric: Metric, by: str = "", *, what: str = "") -> str:
    """Return a chart's title: `[Entities], [Metric], [Timeframe], [by Segment]`.

    The first two parts come from the metric. `what` replaces the second part if the chart shows
    several metrics.
    """
    entities, _, rest = metric.name.partition(" by ")[0].partition(" ")
    return ", ".join([entities, what or rest, PERIOD, *([f"by {by}"] if by else [])])


def words(name: str) -> str:
    """Format a value for display, such as `At risk` for `at_risk`."""
    text = name.replace("_", " ").strip()
    return "API" if text == "api" else text[:1].upper() + text[1:]


def lowered(sentence: str) -> str:
    """Return a sentence that starts in lower case."""
    return sentence[:1].lower() + sentence[1:]


def line_colors(names: Iterable[str]) -> dict[str, str]:
    """Return a style sheet variable for each series."""
    return {name: LINES[n] if n < len(LINES) else SECONDARY for n, name in enumerate(names)}


def state_color(state: str) -> str:
    """Return the style sheet variable of a state, which has the same color on all pages.

    States of users, product relationships and accounts that mean the same share a color.
    """
    return f"state-{state.partition('_')[0]}"


def state_colors(states: Iterable[str]) -> dict[str, str]:
    """Return the style sheet variables of states by their displayed names."""
    return {words(state): state_color(state) for state in states}


def count_text(value: Any) -> str:
    """Format a count for display."""
    return "not known" if value is None else f"{value:,}"


def day_text(day: date) -> str:
    """Format a day for display, such as 30 Jun 2025."""
    return f"{day.day} {day:%b %Y}"


def plural(count: int, thing: str) -> str:
    """Format a count with its noun, such as 1 day or 1,200 days."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
