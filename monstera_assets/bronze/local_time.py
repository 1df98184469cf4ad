"""Convert between UTC timestamps and calendar days in a time zone.

Timestamps are stored in UTC. Days are calendar days in the time zone that the `timezone` setting
specifies. Bronze tables store a local date for each timestamp that other tables use as a day, so the
other tables do not depend on the time zone.
"""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.timezone import UTC


@ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp"), "timestamp('UTC')"))  # type: ignore[untyped-decorator]
def _instant(zone: str, local: datetime) -> datetime:  # type: ignore[empty-body]
    """Return the instant at which clocks in a time zone show a local time."""


@ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp('UTC')"), "timestamp"))  # type: ignore[untyped-decorator]
def _clock(zone: str, moment: datetime) -> datetime:  # type: ignore[empty-body]
    """Return the local time that clocks in a time zone show at an instant."""


def local_date(moment: ir.TimestampValue, timezone: str) -> ir.DateValue:
    """Return a UTC timestamp's local date in a time zone, which is specified by its IANA name."""
    if timezone == UTC:
        return moment.date()
    return _clock(timezone, _instant(UTC, moment)).date()


def local_midnight(day: ir.DateValue, timezone: str) -> ir.TimestampValue:
    """Return the UTC timestamp at which a day starts in a time zone.

    If a clock change repeats midnight, the day starts at the first midnight. If a clock change skips
    midnight, the day starts at the time of the change.
    """
    midnight = day.cast("timestamp")
    if timezone == UTC:
        return midnight
    begins = _clock(UTC, _instant(timezone, midnight))
    # If midnight occurs twice, DuckDB returns the second occurrence.
    an_hour_earlier = begins - ibis.interval(hours=1)
    is_repeated = local_date(an_hour_earlier, timezone) == day
    return ibis.ifelse(is_repeated, an_hour_earlier, begins)
