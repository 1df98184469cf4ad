"""The calendar of daily partitions, and the range that a source covers."""

from __future__ import annotations

from datetime import date

import duckdb
from dagster import DailyPartitionsDefinition

from monstera_assets.settings import Settings
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
