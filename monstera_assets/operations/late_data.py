"""Request the run needed to process late or corrected source data.

A change to one day affects all later days, since states depend on the entire history. One run
therefore covers all days from the first affected day through the latest day. The run loads only the
days whose events differ. A run tag lists these days. The command line and the sensor share this logic.
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
UNCHANGED = "The source has not changed. All tables are up to date."

_SECONDS_BETWEEN_TICKS = 300
_WINDOWS_SHOWN = 5


def rebuild_tags(changes: SourceChanges) -> Mapping[str, str]:
    """Return the tags for the run that the changes require.

    Raises:
        ValueError: If the changes do not require a run.
    """
    if changes.rebuild is None:
        raise ValueError("The source has not changed.")
    return {**range_tags(changes.rebuild), CHANGED_DAYS: as_text(changes.load)}


def describe_changes(changes: SourceChanges) -> Iterator[str]:
    """Yield lines that describe the changes and the required run."""
    events = changes.events
    new = sorted({*events.never_loaded} - {*events.added})
    for what, days in (
        ("added", events.added),
        ("changed", events.changed),
        ("removed", events.removed),
        ("never loaded, without rows", new),
    ):
        if days:
            yield f"Event days {what}: {_listed(days)}"
    if events.rows_outside:
        yield (f"Source rows outside {changes.days}, which are not loaded: {events.rows_outside:,}")
    if changes.inputs:
        reach = "no day"
        if changes.effect.every_day:
            reach = "all days"
        elif changes.effect.affects_from is not None:
            reach = f"days from {changes.effect.affects_from} onward"
        yield f"Inputs changed: {', '.join(changes.inputs)} (can affect {reach})"
    unfinished = changes.unfinished
    if unfinished.days and not events.every >= {*unfinished.days}:
        yield f"Not completed by an earlier run: {_listed(unfinished.days)}"
    elif unfinished.whole_tables and not unfinished.days:
        yield f"Not completed by an earlier run: {', '.join(unfinished.whole_tables)}"
    if changes.rebuild is None:
        yield UNCHANGED
    else:
        to_load = _listed([day for window in changes.load for day in window])
        yield (
            f"To do: load {f'events for {to_load}' if changes.load else 'no events'}, recompute"
            f" {changes.rebuild} ({len(changes.rebuild):,} day"
            f"{'' if len(changes.rebuild) == 1 else 's'})"
        )


def source_changes_sensor(
    settings: Settings, assets: Sequence[TableAsset], first_partition: date
) -> SensorDefinition:
    """Return the sensor that requests one run per source change.

    Args:
        settings: the configuration.
        assets: the silver and gold tables.
        first_partition: the first day in the definitions' calendar.
    """
    fixed = settings.model_copy(update={"start_date": first_partition})

    @sensor(
        name=SENSOR,
        job=whole_graph_job,
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Compares the source with the loaded data and requests one run per change. The run"
        " loads events for the changed days and recomputes all tables from the first affected day. The"
        " sensor is off by default.",
    )
    def look(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        try:
            changes = compare_source(fixed, assets, lock_timeout_seconds=0)
        except WarehouseLockedError:
            return SkipReason(
                "A run is writing to the warehouse. The next tick will compare the source again."
            )
        except (SettingsError, SourceError, WarehouseError) as error:
            # Do not raise the error, since every tick would fail until the user fixes the cause.
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
