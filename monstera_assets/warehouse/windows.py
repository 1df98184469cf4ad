"""Windows of consecutive days, which are used to read and write partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"
"""Dagster's tags for a run's partitions: the first and last in a range, or a single partition."""


@dataclass(frozen=True, order=True)
class DateWindow:
    """The days from `first` through `last`.

    `is_opening` is true if the first day is the first partition. In fact tables, the first partition
    also contains the rows for earlier days.
    """

    first: date
    last: date
    is_opening: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"A window cannot end ({self.last}) before it starts ({self.first}).")

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=n) for n in range(len(self)))

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


def window_of_run(tags: Mapping[str, str]) -> DateWindow | None:
    """Return the days in the partitions of a run with these tags, or None if it has none."""
    day = tags.get(PARTITION_TAG)
    first, last = tags.get(RANGE_START_TAG) or day, tags.get(RANGE_END_TAG) or day
    if not (first and last):
        return None
    return DateWindow(date.fromisoformat(first), date.fromisoformat(last))


def windows_of(days: Iterable[date]) -> Sequence[DateWindow]:
    """Group days into windows of consecutive days, in order."""
    windows: list[DateWindow] = []
    for day in sorted(set(days)):
        if windows and day == windows[-1].last + timedelta(days=1):
            windows[-1] = DateWindow(windows[-1].first, day)
        else:
            windows.append(DateWindow(day, day))
    return windows


def as_text(windows: Iterable[DateWindow]) -> str:
    """Return windows as a string, such as `2025-06-01/2025-06-03,2025-06-07/2025-06-07`."""
    return ",".join(f"{window.first}/{window.last}" for window in windows)


def from_text(text: str) -> Sequence[DateWindow]:
    """Parse a string returned by `as_text`.

    Raises:
        ValueError: If the string has a different format.
    """
    ends = [window.split("/") for window in text.split(",") if window]
    return [DateWindow(date.fromisoformat(first), date.fromisoformat(last)) for first, last in ends]


def split_window(window: DateWindow, parts: int) -> Sequence[DateWindow]:
    """Split a window into at most `parts` windows whose lengths differ by at most one day."""
    parts = min(parts, len(window))
    starts = [len(window) * part // parts for part in range(parts + 1)]
    return [
        DateWindow(
            window.first + timedelta(days=start),
            window.first + timedelta(days=end - 1),
            is_opening=window.is_opening and start == 0,
        )
        for start, end in pairwise(starts)
    ]
