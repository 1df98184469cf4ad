"""The design rules: colours and their places, sizes, limits, timeframes, and what titles look like.

All sizes are pixels of a drawing, which is shown at about its own size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monstera_assets.gold.metrics import Metric

PRIMARY, SECONDARY, DECLINING, RISING = "primary", "secondary", "declining", "rising"
INK, MUTED, LINE, TRACK = "ink", "muted", "line", "track"
COLOURS = (PRIMARY, SECONDARY, DECLINING, RISING, INK, MUTED, LINE, TRACK)
"""Variables of the style sheet, so that one drawing is right in light, in dark and on paper."""

MAX_CHARTS = 20
"""Charts on a page, at most."""
MAX_POINTS = 1000
"""Points of a chart, at most; a series that would have more is shown by week."""
SHADES = 9
"""Shades of a table's cells, from none to the darkest."""

CARD, WIDE = (368, 190), (770, 250)
"""Width and height of a chart, and of one that takes the room of two."""
FONT_SIZE = 12


@dataclass(frozen=True)
class Timeframe:
    """A stretch of days that ends on the as-of date."""

    days: int
    name: str


LAST_30_DAYS = Timeframe(30, "Last 30 Days")
LAST_90_DAYS = Timeframe(90, "Last 90 Days")
LAST_18_MONTHS = Timeframe(548, "Last 18 Months")
LATEST_DAY = Timeframe(1, "Latest Day")


def title(metric: Metric, timeframe: str, by: str = "", *, what: str = "") -> str:
    """`[Entities], [Metric], [Timeframe], [by Segment]`, the first two from the metric's name.

    Args:
        metric: shown.
        timeframe: of the figure.
        by: the segments, if any.
        what: in place of the metric, where several are shown.
    """
    entities, _, rest = metric.name.partition(" by ")[0].partition(" ")
    return headline(entities, what or rest, timeframe, by)


def headline(entities: str, what: str, timeframe: str, by: str = "") -> str:
    """A title from its parts."""
    return ", ".join([entities, what, timeframe, *([f"by {by}"] if by else [])])


def words(name: str) -> str:
    """A value of the data, such as `at_risk`, as people read it: `At risk`."""
    text = name.replace("_", " ").strip()
    return "API" if text == "api" else text[:1].upper() + text[1:]


def count_text(value: Any) -> str:
    """A count as people read it."""
    return "not known" if value is None else f"{value:,}"


def plural(count: int, thing: str) -> str:
    """A count with what is counted: 1 day, 1,200 days."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
