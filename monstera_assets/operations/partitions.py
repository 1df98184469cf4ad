"""The calendar of daily partitions."""

from __future__ import annotations

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


def available_partitions(first: date, timezone: str = UTC) -> DateWindow:
    """Return the existing partitions, from the first day through yesterday in a time zone.

    Raises:
        SettingsError: If the first day has not ended yet.
    """
    last_key = daily_partitions(first, timezone).get_last_partition_key()
    if last_key is None:
        raise SettingsError(f"start_date: {first} has not ended. Set an earlier date.")
    return DateWindow(first, date.fromisoformat(last_key))
