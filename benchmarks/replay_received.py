"""Replay a source's events in the order received, and compare the result with a single load.

    python -m benchmarks.replay_received SOURCE FIRST LAST [--every DAYS] [--work FOLDER]

SOURCE is a folder with events.parquet including `received_at`, users.parquet, accounts.parquet and
product_catalog.csv, such as the OpenStack data. The replay uses events dated FIRST to LAST and received
by LAST. For each day, it adds the events received on that day, and the users and accounts that they
mention for the first time, to a source with daily folders. It then updates the tables as `monstera run
--changed` does, but without checks. With `--every 7`, it does so once per week. At the end, all tables
are compared row by row with those from a single run over the same source. The exit code is 1 if a table
differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from benchmarks.tables import compute, differing_tables
from monstera_assets.definitions import build_definitions, table_assets, tables
from monstera_assets.operations.home import open_instance
from monstera_assets.operations.run_plan import run_tags
from monstera_assets.operations.runs import range_tags
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import DateWindow

METRICS = ("users_active_daily", "users_active_monthly")


@dataclass(frozen=True)
class Warehouse:
    """A database and the source that the replay extends."""

    settings: Settings
    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, tags: Mapping[str, str]) -> None:
        """Compute all tables for the days in the tags, without checks."""
        compute(self.definitions, self.instance, tags)

    def published(self) -> dict[tuple[date, str], Any]:
        """Return the published totals for `METRICS` by date and metric."""
        with duckdb.connect(str(self.settings.database), read_only=True) as connection:
            return {
                (day, metric): value
                for metric in METRICS
                for day, value in connection.execute(
                    f"SELECT metric_date, {metric} FROM gold.gold_{metric}"  # noqa: S608
                    " WHERE segment_dimension = 'all'"
                ).fetchall()
            }


@contextmanager
def warehouse(source: Path, folder: Path, first: date) -> Iterator[Warehouse]:
    """Create a database and a Dagster instance."""
    settings = Settings(source=source, database=folder / "replay.duckdb", start_date=first)
    with open_instance(settings) as instance:
        yield Warehouse(settings, build_definitions(settings), instance)


class Inbox:
    """A source's events, by the day on which they were received."""

    def __init__(self, source: Path, target: Path, days: DateWindow) -> None:
        self.target = target
        self.connection = duckdb.connect()
        target.mkdir(parents=True)
        (target / "product_catalog.csv").write_bytes((source / "product_catalog.csv").read_bytes())
        for name in ("events", "users", "accounts"):
            path = str(source / f"{name}.parquet")
            self.connection.execute(f"CREATE TABLE {name} AS FROM read_parquet(?)", [path])
        self.connection.execute(
            "CREATE TABLE received AS SELECT * FROM (SELECT *, timestamp::DATE AS event_date,"
            " greatest(timestamp, received_at)::DATE AS received_on FROM events)"
            " WHERE event_date BETWEEN ? AND ? AND received_on <= ?",
            [days.first, days.last, days.last],
        )
        self.connection.execute(
            "CREATE TABLE known_users AS SELECT users.*, received_on FROM users JOIN (SELECT"
            " entity_id AS user_id, min(received_on) AS received_on FROM received GROUP BY ALL)"
            " USING (user_id)"
        )
        self.connection.execute(
            "CREATE TABLE known_accounts AS SELECT accounts.*, received_on FROM accounts JOIN"
            " (SELECT account_id, min(received_on) AS received_on FROM known_users GROUP BY ALL)"
            " USING (account_id)"
        )

    def lateness(self) -> tuple[Any, ...]:
        """Return the number of events, the share received late, and the median and maximum delay.

        The delays are in days.
        """
        return self.connection.execute(
            "SELECT count(*), avg((received_on > event_date)::INT), median(late), max(late)"
            " FROM (SELECT *, received_on - event_date AS late FROM received)"
        ).fetchall()[0]

    def hand_over(self, days: DateWindow) -> int:
        """Add the rows received on these days to the source and return the number of events."""
        today = f"received WHERE received_on BETWEEN '{days.first}' AND '{days.last}'"
        rows = self.connection.execute(f"SELECT event_date, count(*) FROM {today} GROUP BY ALL")  # noqa: S608
        counts = dict(rows.fetchall())
        for event_date in counts:
            folder = self.target / "events" / f"event_date={event_date}"
            folder.mkdir(parents=True, exist_ok=True)
            self._write(
                f"SELECT * EXCLUDE (event_date, received_on) FROM {today}"  # noqa: S608
                f" AND event_date = DATE '{event_date}' ORDER BY event_id",
                folder / f"received_{days.last}.parquet",
            )
        for name in ("users", "accounts"):
            self._write(
                f"SELECT * EXCLUDE (received_on) FROM known_{name}"  # noqa: S608
                f" WHERE received_on <= DATE '{days.last}' ORDER BY ALL",
                self.target / f"{name}.parquet",
            )
        return sum(counts.values())

    def _write(self, query: str, path: Path) -> None:
        self.connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


def steps(days: DateWindow, every: int) -> Iterator[DateWindow]:
    """Split the days into windows of `every` days; the last one may be shorter."""
    for first in list(days)[::every]:
        yield DateWindow(first, min(first + timedelta(days=every - 1), days.last))


def replay(
    kept: Warehouse, inbox: Inbox, days: DateWindow, every: int
) -> list[tuple[date, SourceChanges]]:
    """Update the tables after each window and return the changes from each update."""
    done = []
    first_published: dict[tuple[date, str], Any] = {}
    before: dict[tuple[date, str], Any] = {}
    moved: dict[str, list[tuple[int, int]]] = {metric: [] for metric in METRICS}
    for step in steps(days, every):
        day, began = step.last, time.monotonic()
        received = inbox.hand_over(step)
        if not (inbox.target / "events").exists():
            continue
        changes = compare_source(kept.settings, table_assets(kept.settings))
        if changes.rebuild is not None:
            kept.run(run_tags(changes))
            done.append((day, changes))
        now = kept.published()
        for key, value in now.items():
            first_published.setdefault(key, value)
            if before.get(key, value) != value:
                moved[key[1]].append(((day - key[0]).days, abs(value - before[key])))
        before = now
        seconds = time.monotonic() - began
        print(
            f"{day}: {received} events received; loaded"
            f" {sum(map(len, changes.load))} days, computed {changes.rebuild}; {seconds:.1f} s",
            flush=True,
        )
    for metric, moves in moved.items():
        dates = [key for key in before if key[1] == metric]
        restated = sum(first_published[key] != before[key] for key in dates)
        print(
            f"{metric}: {restated} of {len(dates)} dates differ from the first published value;"
            f" {len(moves)} restatements, up to {max((ago for ago, _ in moves), default=0)} days"
            f" back, by up to {max((by for _, by in moves), default=0)}"
        )
        worst = max(dates, key=lambda key: abs(before[key] - first_published[key]), default=None)
        if worst is not None:
            print(f"  {worst[0]}: first {first_published[worst]}, finally {before[worst]}")
    return done


def main() -> None:
    """Run the replay and the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("first", type=date.fromisoformat)
    parser.add_argument("last", type=date.fromisoformat)
    parser.add_argument("--every", type=int, default=1, help="days between runs")
    parser.add_argument("--work", type=Path, help="working folder; must not exist")
    arguments = parser.parse_args()
    days = DateWindow(arguments.first, arguments.last)
    work = arguments.work or Path(tempfile.mkdtemp()) / "replay"
    inbox = Inbox(arguments.source, work / "source", days)
    events, late, median, most = inbox.lateness()
    print(
        f"{events:,} events, {late:.0%} received on a later day; median delay {median:.0f} days,"
        f" maximum {most}"
    )
    began = time.monotonic()
    with warehouse(inbox.target, work / "kept", days.first) as kept:
        done = replay(kept, inbox, days, arguments.every)
        final = compare_source(kept.settings, table_assets(kept.settings))
    print(f"{len(done)} runs in {time.monotonic() - began:.0f} s")
    with warehouse(inbox.target, work / "at_once", days.first) as at_once:
        at_once.run(range_tags(final.days))
    differing = differing_tables(kept.settings.database, at_once.settings.database)
    print(
        f"{len(tables())} tables compared with those of one run over {final.days}:"
        f" {', '.join(differing) or 'no difference'}"
    )
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
