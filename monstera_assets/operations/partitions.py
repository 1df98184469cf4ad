"""The daily partition calendar and a source's date range."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import duckdb
from dagster import DailyPartitionsDefinition

from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.bounds import date_bounds
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.windows import DateWindow


def daily_partitions(first: date) -> DailyPartitionsDefinition:
    """Return one partition per UTC day from `first` through yesterday."""
    return DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC")


def first_partition(settings: Settings) -> date:
    """Return `MONSTERA_START_DATE` if set, otherwise the earliest date in the source."""
    return settings.start_date or source_range(settings).first


def source_range(settings: Settings) -> DateWindow:
    """Return the date range of all entity creations, events and subscription events.

    Raises:
        SourceError: If the source cannot be read or contains no readable dates.
    """
    with duckdb.connect(config=dict(connection_config())) as connection:
        bounds = date_bounds(
            connection, discover_source(settings.source), settings.earliest_event_date
        )
    if bounds is None:
        raise SourceError(f"{settings.source} has no row with a readable date. Correct the dates.")
    return DateWindow(bounds.first, bounds.last)


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
            " with --from before --to."
        )
    return DateWindow(chosen_first, chosen_last)


def available_partitions(first: date) -> DateWindow:
    """Return the existing partitions, from the first day through yesterday.

    Raises:
        SettingsError: If the first day has not ended yet.
    """
    last_key = daily_partitions(first).get_last_partition_key()
    if last_key is None:
        raise SettingsError(f"start_date: {first} has not ended. Set an earlier date.")
    return DateWindow(first, date.fromisoformat(last_key))
