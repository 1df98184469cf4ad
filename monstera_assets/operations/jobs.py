"""Job names and the daily run's deadline. This module does not import Dagster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from monstera_assets.settings import Settings

WHOLE_GRAPH = "whole_graph"
DAILY = "daily"
EXPIRE_RAW_EVENTS = "expire_raw_events"
EXPORT_TABLES = "export_tables"

LATE_AFTER = timedelta(hours=2)
"""Time from the start of the daily run until its tables are late (framework, section 9)."""


def deadline(settings: Settings) -> time:
    """Return the time of day (UTC) after which a missing day is late."""
    return (datetime.combine(date.min, settings.daily_run_at) + LATE_AFTER).time()


@dataclass(frozen=True)
class Due:
    """A day that all daily tables must contain, and its deadline."""

    day: date
    deadline: datetime

    @classmethod
    def at(cls, now: datetime, settings: Settings) -> Due:
        """Return the latest day whose deadline has passed."""
        latest = datetime.combine(now.date(), deadline(settings), UTC)
        if latest > now:
            latest -= timedelta(days=1)
        return cls((latest - LATE_AFTER).date() - timedelta(days=1), latest)
