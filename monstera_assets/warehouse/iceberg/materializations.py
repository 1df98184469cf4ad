"""Record a table's materialized days in the properties of its snapshots.

The record is what the DuckDB warehouse keeps in `operations.materializations`. Because it is part of
the snapshot, it changes in the same commit as the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from typing import Any

from monstera_assets.warehouse.windows import DateWindow, as_text, from_text, windows_of

MATERIALIZED = "monstera.materialized"
"""The snapshot property with the materialized days and their times."""

REPLACED = "monstera.replaced"
"""The snapshot property with the windows that the commit replaced."""

COMMIT_ID = "monstera.commit-id"
"""The snapshot property that identifies a commit, including its retries."""

RUN_ID = "monstera.run-id"
"""The snapshot property with the run that wrote the rows."""

_AS_OF_DATE = "monstera.as-of-date"
_WHOLE = "all"


@dataclass(frozen=True)
class Materializations:
    """What is recorded about a table.

    Attributes:
        times: the time of materialization in UTC by day. An unpartitioned table has the key None.
        run_id: the run that last wrote rows.
        as_of_date: the date that a current table describes.
    """

    times: Mapping[date | None, datetime] = field(default_factory=dict)
    run_id: str | None = None
    as_of_date: date | None = None

    @property
    def days(self) -> frozenset[date]:
        """A daily table's materialized days."""
        return frozenset(day for day in self.times if day is not None)

    def properties(self) -> dict[str, str]:
        """Return the record as snapshot properties."""
        found = {MATERIALIZED: _times_to_text(self.times)}
        if self.run_id is not None:
            found[RUN_ID] = self.run_id
        if self.as_of_date is not None:
            found[_AS_OF_DATE] = self.as_of_date.isoformat()
        return found


def recorded(metadata: Any) -> Materializations:
    """Return the record of the current snapshot, given the table's metadata.

    Other writers, such as Spark with Iceberg's own jars, do not write a record. The record of the
    latest snapshot that has one then applies.
    """
    snapshot = snapshot_with_record(metadata)
    if snapshot is None:
        return Materializations()
    found = snapshot.summary.additional_properties
    as_of_date = found.get(_AS_OF_DATE)
    return Materializations(
        _times_from_text(found[MATERIALIZED]),
        found.get(RUN_ID),
        date.fromisoformat(as_of_date) if as_of_date else None,
    )


def snapshot_with_record(metadata: Any) -> Any:
    """Return the latest snapshot that has a record, or None."""
    return next((each for each in ancestors(metadata) if MATERIALIZED in properties_of(each)), None)


def ancestors(metadata: Any, until: int | None = None) -> Iterator[Any]:
    """Yield the snapshots, newest first, starting with the current one.

    Args:
        metadata: the table's metadata.
        until: the id of the snapshot before which to stop.
    """
    snapshot = metadata.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != until:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else metadata.snapshot_by_id(parent)


def properties_of(snapshot: Any) -> Mapping[str, str]:
    """Return a snapshot's properties."""
    return snapshot.summary.additional_properties if snapshot.summary else {}


def replaced_to_text(windows: Sequence[DateWindow] | None) -> str:
    """Return the replaced windows as a property. None is the whole table."""
    return _WHOLE if windows is None else as_text(windows)


def overlaps(replaced: str, windows: Sequence[DateWindow] | None) -> bool:
    """Return whether the windows in a property overlap with others."""
    if windows is None or replaced == _WHOLE:
        return True
    return any(
        one.first <= other.last and other.first <= one.last
        for one in from_text(replaced)
        for other in windows
    )


def days_of(windows: Iterable[DateWindow]) -> Iterator[date]:
    """Yield the days in windows."""
    for window in windows:
        yield from window


def _times_to_text(times: Mapping[date | None, datetime]) -> str:
    """Return a text such as `2025-06-01/2025-06-30@2025-07-01T02:00:00.000000`, joined by commas.

    A single day is written without `/`, so that a table that is written once a day stays short.
    """
    entries = [f"@{times[None].isoformat(timespec='microseconds')}"] if None in times else []
    of_days = sorted((day, time) for day, time in times.items() if day is not None)
    for time, group in groupby(of_days, key=lambda entry: entry[1]):
        for window in windows_of(day for day, _ in group):
            days = str(window.first) if len(window) == 1 else f"{window.first}/{window.last}"
            entries.append(f"{days}@{time.isoformat(timespec='microseconds')}")
    return ",".join(entries)


def _times_from_text(text: str) -> dict[date | None, datetime]:
    times: dict[date | None, datetime] = {}
    for entry in filter(None, text.split(",")):
        days, _, time = entry.partition("@")
        moment = datetime.fromisoformat(time)
        if not days:
            times[None] = moment
            continue
        first, _, last = days.partition("/")
        window = DateWindow(date.fromisoformat(first), date.fromisoformat(last or first))
        times.update(dict.fromkeys(window, moment))
    return times
