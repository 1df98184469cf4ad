"""Measure how the cost of the daily run follows what changed.

    python -m benchmarks.mornings [--users N] [--events N] [--folder FOLDER]

A generated company with one folder of events per day is loaded through the day before yesterday. Then
`monstera run --daily` processes each of these deliveries, from the same copy of the warehouse, each in
its own process:

* a day without changes: only yesterday's events;
* one account: yesterday's events, and one row of accounts has other seats;
* late events: yesterday's events, and 3% of the events of the five days before;
* one old event: yesterday's events, and one event that is 60 days late.

The day without changes is measured first and last. The command prints the seconds of wall time and
their ratios to the mean of these two.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean

import duckdb

from benchmarks.processes import measure, monstera

LATE_DAYS, LATE_SHARE, OLD_DAYS = 5, 3, 60
LIMITS = {"one account": 1.3, "late events": 2.0, "one old event": 4.0}
"""The maximum ratio of each delivery to a day without changes."""
UNCHANGED = "a day without changes"


class Mornings:
    """A generated source, and a warehouse with all days but yesterday."""

    def __init__(self, folder: Path, users: int, events: int) -> None:
        self._folder, self._users, self._events = folder, users, events
        self._last = datetime.now(UTC).date() - timedelta(days=1)
        self._source, self._late = folder / "source", folder / "late"

    def prepare(self) -> None:
        """Generate the source, set the late files aside, and load the days before yesterday."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._monstera(
            *("generate", "--seed", "1", "--days", "365", "--to", str(self._last)),
            *("--users", str(self._users), "--events", str(self._events)),
            *("--output", str(self._source)),
        )
        self._set_aside(self._last, "true")
        for day in self._late_days():
            self._set_aside(day, f"hash(event_id) % 100 < {LATE_SHARE}")
        old = self._last - timedelta(days=OLD_DAYS)
        first = f"(SELECT min(event_id) FROM '{self._file(old)}')"  # noqa: S608
        self._set_aside(old, f"event_id = {first}")
        before = str(self._last - timedelta(days=1))
        self._monstera("run", "--to", before, *self._where("loaded"))

    def measure(self, delivery: str) -> float:
        """Deliver files, and return the seconds of the daily run."""
        morning = self._folder / "morning"
        shutil.rmtree(morning, ignore_errors=True)
        shutil.copytree(self._folder / "loaded", morning / "warehouse", symlinks=True)
        source = morning / "source"
        shutil.copytree(self._source, source)
        self._add(source, self._last)
        _DELIVERIES[delivery](self, source)
        return self._monstera("run", "--daily", *self._where("morning/warehouse", source))

    def one_account(self, source: Path) -> None:
        """Give one account one more seat."""
        [accounts] = source.glob("accounts.*")
        changed = accounts.with_name("changed.parquet")
        more = "total_seats + CAST(row_number() OVER (ORDER BY account_id) = 1 AS INTEGER)"
        _copy(f"SELECT * REPLACE ({more} AS total_seats) FROM '{accounts}'", changed)  # noqa: S608
        changed.replace(accounts)

    def late_events(self, source: Path) -> None:
        """Deliver the late events."""
        for day in self._late_days():
            self._add(source, day)

    def old_event(self, source: Path) -> None:
        """Deliver the old event."""
        self._add(source, self._last - timedelta(days=OLD_DAYS))

    def _late_days(self) -> list[date]:
        return [self._last - timedelta(days=number) for number in range(1, LATE_DAYS + 1)]

    def _file(self, day: date) -> Path:
        [file] = (self._source / "events" / f"event_date={day}").glob("*.parquet")
        return file

    def _set_aside(self, day: date, condition: str) -> None:
        """Move rows of a day's file to the late files."""
        file, late = self._file(day), self._late_file(day)
        rest = file.with_suffix(".rest")
        is_late = f"coalesce({condition}, false)"
        for target, where in ((late, is_late), (rest, f"NOT {is_late}")):
            _copy(f"SELECT * FROM '{file}' WHERE {where}", target)  # noqa: S608
        rest.replace(file)
        if day == self._last:
            shutil.rmtree(file.parent)

    def _late_file(self, day: date) -> Path:
        self._late.mkdir(exist_ok=True)
        return self._late / f"{day}.parquet"

    def _add(self, source: Path, day: date) -> None:
        folder = source / "events" / f"event_date={day}"
        folder.mkdir(exist_ok=True)
        shutil.copy(self._late_file(day), folder / "late.parquet")

    def _where(self, warehouse: str, source: Path | None = None) -> list[str]:
        folder = self._folder / warehouse
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / "monstera.duckdb"
        return ["--source", str(source or self._source), "--database", str(database)]

    def _monstera(self, *arguments: str) -> float:
        variables = {"XDG_CACHE_HOME": str(self._folder / "cache"), "DAGSTER_HOME": ""}
        log = self._folder / "last.log"
        return measure(monstera(*arguments), log, variables).wall


def _copy(select: str, target: Path) -> None:
    duckdb.execute(f"COPY ({select}) TO '{target}' (FORMAT parquet)")


_DELIVERIES: dict[str, Callable[[Mornings, Path], None]] = {
    UNCHANGED: lambda _mornings, _source: None,
    "one account": Mornings.one_account,
    "late events": Mornings.late_events,
    "one old event": Mornings.old_event,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--folder", type=Path, default=Path("data/mornings"))
    arguments = parser.parse_args()
    mornings = Mornings(arguments.folder.absolute(), arguments.users, arguments.events)
    mornings.prepare()
    taken = [(name, mornings.measure(name)) for name in (*_DELIVERIES, UNCHANGED)]
    unchanged = mean(seconds for name, seconds in taken if name == UNCHANGED)
    print("| delivery | seconds | ratio | limit |\n|---|---|---|---|")
    for name, seconds in taken:
        limit = f"{LIMITS[name]:.1f}" if name in LIMITS else ""
        print(f"| {name} | {seconds:.1f} | {seconds / unchanged:.2f} | {limit} |")


if __name__ == "__main__":
    main()
