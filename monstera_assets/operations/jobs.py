"""Job names and the daily run's deadline. This module does not import Dagster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from monstera_assets.settings import Settings

WHOLE_GRAPH = "whole_graph"
SELECTED = "Selected_assets"
"""The job with which the UI materializes selected assets.

Of the jobs that contain all selected assets, the UI launches the first one in ASCII order. A capital
comes before `__ASSET_JOB`, Dagster's own job, which starts a new run at each change between daily and
unpartitioned tables. In these runs, a failed blocking check would not stop the later runs, and checks
would read tables that a later run computes.
"""
DAILY = "daily"
IMPORT_EXPORTS = "import_exports"
EXPIRE_RAW_EVENTS = "expire_raw_events"
EXPORT_TABLES = "export_tables"

LATE_AFTER = timedelta(hours=2)
"""Time after the daily run's start at which its tables are late (framework, section 9)."""


def local_day(now: datetime, settings: Settings) -> date:
    """Return the current day in the configured time zone."""
    return now.astimezone(ZoneInfo(settings.timezone)).date()


@dataclass(frozen=True)
class Due:
    """The day that daily tables must contain, and its deadline in the configured time zone."""

    day: date
    deadline: datetime

    @classmethod
    def at(cls, now: datetime, settings: Settings) -> Due:
        """Return the latest day whose deadline has passed."""
        zone, run_day = ZoneInfo(settings.timezone), local_day(now, settings)
        while (deadline := _deadline(run_day, settings, zone)) > now:
            run_day -= timedelta(days=1)
        return cls(run_day - timedelta(days=1), deadline.astimezone(zone))


def _deadline(run_day: date, settings: Settings, zone: ZoneInfo) -> datetime:
    starts = datetime.combine(run_day, settings.daily_run_at, zone)
    # Add in UTC, because Python ignores clock changes between two times in the same zone.
    return starts.astimezone(UTC) + LATE_AFTER
