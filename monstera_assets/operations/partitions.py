"""The calendar of daily partitions."""

from __future__ import annotations

from datetime import date

from dagster import DailyPartitionsDefinition

from monstera_assets.imports.landing import LEDGER
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.windows import DateWindow


def daily_partitions(first: date, timezone: str = UTC) -> DailyPartitionsDefinition:
    """Return one partition per day in a time zone, from `first` through yesterday."""
    return DailyPartitionsDefinition(start_date=first.isoformat(), timezone=timezone)


def first_partition(settings: Settings) -> date:
    """Return `MONSTERA_START_DATE` if set, otherwise the first day in the source's range.

    Raises:
        SourceError: If the first day depends on the source, and the source cannot be read or the
            exports were never imported.
    """
    if settings.start_date:
        return settings.start_date
    if settings.imports and not (settings.source / LEDGER).exists():
        raise SourceError(
            f"The exports in monstera.toml have not been imported into {settings.source} yet, so the"
            " first day is unknown. Run `monstera run`, which imports first, or set start_date."
        )
    return source_range(settings).first


def available_partitions(first: date, timezone: str = UTC) -> DateWindow:
    """Return the existing partitions, from the first day through yesterday in a time zone.

    Raises:
        SettingsError: If the first day has not ended yet.
    """
    last_key = daily_partitions(first, timezone).get_last_partition_key()
    if last_key is None:
        raise SettingsError(f"start_date: {first} has not ended. Set an earlier date.")
    return DateWindow(first, date.fromisoformat(last_key))
