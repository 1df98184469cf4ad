"""The calendar of daily partitions, and the range that a source covers."""

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
    """One partition a UTC day, from `first` to the last day that is over."""
    return DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC")


def first_partition(settings: Settings) -> date:
    """`MONSTERA_START_DATE`, or the earliest date in the source."""
    return settings.start_date or source_range(settings).first


def source_range(settings: Settings) -> DateWindow:
    """From the earliest to the latest date in the source: creations, events, subscription events.

    Raises:
        SourceError: the source cannot be read or has no readable date.
    """
    with duckdb.connect(config=dict(connection_config())) as connection:
        bounds = date_bounds(
            connection, discover_source(settings.source), settings.earliest_event_date
        )
    if bounds is None:
        raise SourceError(f"{settings.source} has no row with a readable date")
    return DateWindow(bounds.first, bounds.last)


def choose_window(
    available: DateWindow, source: Callable[[], DateWindow], first: date | None, last: date | None
) -> DateWindow:
    """The range of a run: as asked, by default all that the source covers.

    `available` are the partitions that exist; `source` gives the range of the source, and is asked only
    where it is needed.

    Raises:
        SettingsError: a day asked for has no partition, or the range is empty.
    """
    for flag, day in (("--from", first), ("--to", last)):
        if day is not None and not available.first <= day <= available.last:
            raise SettingsError(f"{flag} {day}: there are partitions from {available} only")
    chosen_first = first or available.first
    chosen_last = last or min(source().last, available.last)
    if chosen_last < chosen_first:
        raise SettingsError(
            f"the range from {chosen_first} to {chosen_last} is empty; partitions exist from"
            f" {available}"
        )
    return DateWindow(chosen_first, chosen_last)


def available_partitions(first: date) -> DateWindow:
    """The partitions that exist: from the first day to the last one that is over.

    Raises:
        SettingsError: the first day is not over yet.
    """
    last_key = daily_partitions(first).get_last_partition_key()
    if last_key is None:
        raise SettingsError(f"start_date: {first} is not over yet, so there is no partition")
    return DateWindow(first, date.fromisoformat(last_key))
