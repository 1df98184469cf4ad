"""The names of the jobs, and when the daily one is late; apart, so as not to import Dagster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from monstera_assets.settings import Settings

WHOLE_GRAPH = "whole_graph"
DAILY = "daily"
EXPIRE_RAW_EVENTS = "expire_raw_events"
EXPORT_TABLES = "export_tables"

LATE_AFTER = timedelta(hours=2)
"""How long after the daily run begins its tables are late (framework, section 9)."""


def deadline(settings: Settings) -> time:
    """The time of day (UTC) from which on a day that is not there is late."""
    return (datetime.combine(date.min, settings.daily_run_at) + LATE_AFTER).time()


@dataclass(frozen=True)
class Due:
    """The day that daily tables are due to have, and the moment from which on they are late."""

    day: date
    deadline: datetime

    @classmethod
    def at(cls, now: datetime, settings: Settings) -> Due:
        """What is due at a moment: yesterday, as seen by the last daily run that is late by now."""
        latest = datetime.combine(now.date(), deadline(settings), UTC)
        if latest > now:
            latest -= timedelta(days=1)
        return cls((latest - LATE_AFTER).date() - timedelta(days=1), latest)
