"""The calendar of daily partitions, and the days that a run covers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from dagster import DailyPartitionsDefinition

from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.warehouse.windows import DateWindow


def daily_partitions(first: date, timezone: str = UTC) -> DailyPartitionsDefinition:
    """Return one partition per day in a time zone, from `first` through yesterday."""
    return DailyPartitionsDefinition(start_date=first.isoformat(), timezone=timezone)


def first_partition(settings: Settings) -> date:
    """Return `MONSTERA_START_DATE` if set, otherwise the first day in the source's range."""
    return settings.start_date or source_range(settings).first


def choose_window(
    available: DateWindow, source: Callable[[], DateWindow], first: date | None, last: date | None
) -> DateWindow:
    """Return the days requested for a run, which default to all days in the source.

    `available` contains the existing partitions. `source` returns the source's date range and is
    called only if needed.

    Raises:
        SettingsError: If a requested day has no partition, or the range is empty.
    """
    for flag, day in (("--from", first), ("--to", last)):
        if day is not None and not available.first <= day <= available.last:
            raise SettingsError(f"{flag} {day} has no partition. Choose a day from {available}.")
    chosen_first = first or available.first
    chosen_last = last or min(source().last, available.last)
    if chosen_last < chosen_first:
        raise SettingsError(
            f"The range from {chosen_first} to {chosen_last} is empty. Choose days from {available},"
            " with --from on or before --to."
        )
    return DateWindow(chosen_first, chosen_last)


def available_partitions(first: date, timezone: str = UTC) -> DateWindow:
    """Return the existing partitions, from the first day through yesterday in a time zone.

    Raises:
        SettingsError: If the first day has not ended yet.
    """
    last_key = daily_partitions(first, timezone).get_last_partition_key()
    if last_key is None:
        raise SettingsError(f"start_date: {first} has not ended. Set an earlier date.")
    return DateWindow(first, date.fromisoformat(last_key))
