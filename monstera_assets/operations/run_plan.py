"""Choose the days of a run.

A run covers consecutive days, which are chosen once, before the run starts: from the days that were
requested, the days in the source and the days that changes affect. A change to one day affects all
later days, since states depend on the entire history. The run therefore recomputes all days from the
first affected day on, but only loads the days whose events differ. Run tags contain these decisions.

The command line, the daily schedule and the sensor all use this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from monstera_assets.bronze.held_back import RESTATE_FROM
from monstera_assets.bronze.load_events import CHANGED_DAYS, HELD_DAYS
from monstera_assets.operations.partitions import available_partitions
from monstera_assets.operations.recorded_settings import ensure_writable
from monstera_assets.operations.runs import range_tags
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.windows import DateWindow, as_text, windows_of

UNCHANGED = "The source has not changed. All tables are up to date."
CHANGES = "monstera/changes"
"""Run tag for the description of the changes that the run processes."""

_WINDOWS_SHOWN = 5


@dataclass(frozen=True)
class RunPlan:
    """The days of a run.

    Attributes:
        days: the days to compute, or None if no run is required.
        first_partition: the first day of the calendar.
        tags: the run's tags, including the tags for the days.
        description: lines that describe the changes and the run.
        key: a unique key for the run.
    """

    days: DateWindow | None
    first_partition: date
    tags: Mapping[str, str] = field(default_factory=dict)
    description: tuple[str, ...] = ()
    key: str = ""


def plan_range(settings: Settings, first: date | None = None, last: date | None = None) -> RunPlan:
    """Plan a run over the requested days, which default to all days in the source.

    Raises:
        SettingsError: If a requested day has no partition, or the range is empty.
        SourceError: If the source cannot be read.
    """
    # Scanning a large source is slow, so scan only if a day was not specified.
    in_source = None if settings.start_date and last else source_range(settings)
    first_partition = settings.start_date or (in_source.first if in_source else date.max)
    available = available_partitions(first_partition, settings.timezone)
    for flag, day in (("--from", first), ("--to", last)):
        if day is not None and not available.first <= day <= available.last:
            raise SettingsError(f"{flag} {day} has no partition. Choose a day from {available}.")
    chosen_first = first or available.first
    chosen_last = last or min(in_source.last if in_source else date.max, available.last)
    if chosen_last < chosen_first:
        raise SettingsError(
            f"The range from {chosen_first} to {chosen_last} is empty. Choose days from {available},"
            " with --from on or before --to."
        )
    days = DateWindow(chosen_first, chosen_last)
    more: tuple[str, ...] = ()
    if last is None and in_source is not None and in_source.last > days.last:
        more = (
            f"The source has dates through {in_source.last}, but {days.last} is the last complete"
            " day.",
        )
    return RunPlan(days, first_partition, range_tags(days), more)


def plan_changes(settings: Settings, assets: Sequence[TableAsset]) -> RunPlan:
    """Plan a run that processes all changes in the source, however old the affected days are.

    For the arguments and the errors raised, see `compare_source`.
    """
    _upgrade(settings)
    changes = compare_source(settings, assets)
    return _plan(changes, changes.key, UNCHANGED)


def plan_day(settings: Settings, assets: Sequence[TableAsset], day: date) -> RunPlan:
    """Plan the daily run, which computes a day and restates earlier days.

    The run computes all missing days through `day`, and recomputes up to `restate_days` earlier days
    that changes affect. If no file was delivered since the last run, no new day is computed.

    For the arguments and the errors raised, see `compare_source`.
    """
    _upgrade(settings)
    changes = compare_source(settings, assets, restate_days=settings.restate_days, last=day)
    if changes.is_delivered or day <= changes.days.last:
        nothing = f"All tables are up to date through {changes.days.last}."
    else:
        nothing = f"No file is new or has changed since the last run. {day} is not computed."
    # A failed run is not started again until files are delivered.
    return _plan(changes, f"{day} {changes.delivery}", nothing)


def _upgrade(settings: Settings) -> None:
    """Upgrade the warehouse's layout, which the comparison reads but cannot upgrade."""
    if settings.database.exists():
        ensure_writable(settings)


def _plan(changes: SourceChanges, key: str, nothing: str) -> RunPlan:
    description = tuple(describe_changes(changes))
    if changes.rebuild is None:
        return RunPlan(None, changes.days.first, {}, (*description, nothing), key)
    return RunPlan(changes.rebuild, changes.days.first, run_tags(changes), description, key)


def run_tags(changes: SourceChanges) -> Mapping[str, str]:
    """Return the tags for the run that the changes require.

    Raises:
        ValueError: If the changes do not require a run.
    """
    if changes.rebuild is None:
        raise ValueError("The changes do not require a run.")
    tags = {
        **range_tags(changes.rebuild),
        CHANGED_DAYS: as_text(changes.load),
        CHANGES: "\n".join(describe_changes(changes)),
    }
    if changes.restate_from is not None:
        tags[RESTATE_FROM] = changes.restate_from.isoformat()
    if changes.held.event_days:
        tags[HELD_DAYS] = as_text(windows_of(changes.held.event_days))
    return tags


def describe_changes(changes: SourceChanges) -> Iterator[str]:
    """Yield lines that describe the changes and the required run."""
    events, held = changes.events, changes.held
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
        yield f"Source rows outside {changes.days}, which are not loaded: {events.rows_outside:,}"
    if changes.inputs:
        reach = "no day"
        if changes.effect.every_day:
            reach = "all days"
        elif changes.effect.affects_from is not None:
            reach = f"days from {changes.effect.affects_from} onward"
        yield f"Inputs changed: {', '.join(changes.inputs)} (can affect {reach})"
    unfinished = [day for day in changes.unfinished.days if day not in held.out_of_date]
    if unfinished and not events.every >= {*unfinished}:
        yield f"Not completed by an earlier run: {_listed(unfinished)}"
    elif changes.unfinished.whole_tables and not changes.unfinished.days:
        yield f"Not completed by an earlier run: {', '.join(changes.unfinished.whole_tables)}"
    if held:
        parts = [
            f"{rows:,} row{'' if rows == 1 else 's'} of {name}" for name, rows in held.rows.items()
        ]
        if held.event_days:
            parts.append(f"the events of {_listed(held.event_days)}")
        if held.out_of_date:
            parts.append(f"the results of {_listed(held.out_of_date)}")
        yield (
            f"Held back, because days before {changes.restate_from} are not recomputed:"
            f" {', '.join(parts)}. To update all days, run: monstera run --changed"
        )
    if changes.rebuild is not None:
        to_load = _listed([day for window in changes.load for day in window])
        count = f"{len(changes.rebuild):,} day{'' if len(changes.rebuild) == 1 else 's'}"
        restated = f", {changes.restated:,} recomputed" if changes.restated else ""
        yield (
            f"To do: load {f'events for {to_load}' if changes.load else 'no events'}, compute"
            f" {changes.rebuild} ({count}{restated})"
        )


def _listed(days: Sequence[date]) -> str:
    windows = windows_of(days)
    more = f" and {len(windows) - _WINDOWS_SHOWN} more" if len(windows) > _WINDOWS_SHOWN else ""
    return ", ".join(map(str, windows[:_WINDOWS_SHOWN])) + more
