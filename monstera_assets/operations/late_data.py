"""Late and corrected data: the run that a changed source asks for, and the sensor that asks for it.

A change of the source affects the days it is about and, as states look back without bound, every day
after them. So one run covers the days from the first one affected to the latest, and of its events it
loads again only the days that differ: a tag of the run names them. Command line and sensor share all
of this; they differ in who starts the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from monstera_assets.bronze.load_events import CHANGED_DAYS
from monstera_assets.operations.runs import range_tags, whole_graph_job
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.errors import WarehouseError, WarehouseLockedError
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.windows import as_text, windows_of

SENSOR = "source_changes"
UNCHANGED = "Nothing has changed: the tables are what the source says."

_SECONDS_BETWEEN_LOOKS = 300
_WINDOWS_SHOWN = 5


def rebuild_tags(changes: SourceChanges) -> Mapping[str, str]:
    """The tags of a run that does what changes ask for.

    Raises:
        ValueError: they ask for nothing.
    """
    if changes.rebuild is None:
        raise ValueError("nothing has changed")
    return {**range_tags(changes.rebuild), CHANGED_DAYS: as_text(changes.load)}


def describe_changes(changes: SourceChanges) -> Iterator[str]:
    """What changed and what will be done about it, a line each."""
    events = changes.events
    new = sorted({*events.never_loaded} - {*events.added})
    for what, days in (
        ("added", events.added),
        ("changed", events.changed),
        ("removed", events.removed),
        ("never loaded, without rows", new),
    ):
        if days:
            yield f"Days of events {what}: {_listed(days)}"
    if events.rows_outside:
        yield (
            f"{events.rows_outside:,} rows of events are dated outside {changes.days}, where there"
            " is no partition."
        )
    if changes.inputs:
        reach = "no day"
        if changes.effect.every_day:
            reach = "any day"
        elif changes.effect.affects_from is not None:
            reach = f"days from {changes.effect.affects_from} on"
        yield f"Inputs changed: {', '.join(changes.inputs)}, which can change {reach}"
    unfinished = changes.unfinished
    if unfinished.days and not events.every >= {*unfinished.days}:
        yield f"Left undone by an earlier run: {_listed(unfinished.days)}"
    elif unfinished.whole_tables and not unfinished.days:
        yield f"Left undone by an earlier run: {', '.join(unfinished.whole_tables)}"
    if changes.rebuild is None:
        yield UNCHANGED
    else:
        to_load = _listed([day for window in changes.load for day in window])
        yield (
            f"To do: load {f'events of {to_load}' if changes.load else 'no events'}, compute"
            f" {changes.rebuild} ({len(changes.rebuild):,} day"
            f"{'' if len(changes.rebuild) == 1 else 's'}) anew"
        )


def source_changes_sensor(
    settings: Settings, assets: Sequence[TableAsset], first_partition: date
) -> SensorDefinition:
    """The sensor that requests the rebuild for a changed source: one run for one change.

    Args:
        settings: the configuration.
        assets: the tables of silver and gold.
        first_partition: where the calendar of the definitions begins.
    """
    fixed = settings.model_copy(update={"start_date": first_partition})

    @sensor(
        name=SENSOR,
        job=whole_graph_job,
        minimum_interval_seconds=_SECONDS_BETWEEN_LOOKS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Compares the source with what the tables were built from, and requests one run"
        " for each change: the changed days of events, and all tables from the first affected day"
        " on. Off until it is switched on.",
    )
    def look(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        try:
            changes = compare_source(fixed, assets, lock_timeout_seconds=0)
        except WarehouseLockedError:
            return SkipReason("A run is writing to the warehouse; looking again when it is done.")
        except (SettingsError, SourceError, WarehouseError) as error:
            # Not raised: what has to be mended is outside, and until then each look would fail.
            context.log.error(str(error))
            return SkipReason(f"The source cannot be compared: {error}")
        for line in describe_changes(changes):
            context.log.info(line)
        if changes.rebuild is None:
            return SkipReason(UNCHANGED)
        return RunRequest(run_key=changes.key, tags=dict(rebuild_tags(changes)))

    return look


def _listed(days: Sequence[date]) -> str:
    windows = windows_of(days)
    more = f" and {len(windows) - _WINDOWS_SHOWN} more" if len(windows) > _WINDOWS_SHOWN else ""
    return ", ".join(map(str, windows[:_WINDOWS_SHOWN])) + more
