"""Read the published copy without pause during ten runs, and compute lost days after a restore."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from monstera_assets.bronze.load_entities import VERSIONED
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.helpers.command_line import Outcome, Snapshot, copy_of, monstera
from monstera_assets_tests.integration.example_runs import SeedsRun

SEEDS = Path(__file__).parents[2] / "seeds"
RUNS = 10
EVENTS = (
    "SELECT (SELECT sum(events_qualifying_daily)::INT FROM gold.gold_activity_metrics"
    " WHERE product_id = 'all' AND event_type = 'all'), (SELECT sum(total_qualifying_events)::INT"
    " FROM silver.silver_user_current_state), (SELECT count(*) FROM duckdb_tables())"
)
"""The number of qualifying events by two tables of one run, and the number of tables."""

# Reads the copy until the standard input is closed, and prints what it saw and the longest wait. Time
# on a processor, or in the queue for one, is not a wait.
READER = """
import json, sys, threading, time
import duckdb

path, query = sys.argv[1:]

def waited():
    with open("/proc/thread-self/schedstat") as file:
        running, queued, _ = map(int, file.read().split())
    return time.monotonic() - (running + queued) / 1e9

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
seen, longest, reads = [], 0.0, 0
print("reads", flush=True)
while not stop.is_set():
    before = waited()
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        [row] = connection.execute(query).fetchall()
    longest = max(longest, waited() - before)
    reads += 1
    if list(row) not in seen:
        seen.append(list(row))
print(json.dumps({"seen": seen, "longest": longest, "reads": reads}))
"""


@contextmanager
def reader(copy: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that reads the copy."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, copy, EVENTS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reads\n"
        yield process


@pytest.mark.slow
def test_two_readers_never_wait_during_ten_runs(seeds_run: SeedsRun, tmp_path: Path) -> None:
    folder = copy_of(seeds_run.outcome, tmp_path / "here")
    source = Path(shutil.copytree(SEEDS, tmp_path / "source"))
    day = str(SEEDS_DAYS.last)
    with ExitStack() as stack:
        copy = folder / "data" / "published" / "monstera.duckdb"
        readers = [stack.enter_context(reader(copy)) for _ in range(2)]
        for number in range(RUNS):
            with (source / "seed_events.csv").open("a", encoding="utf-8") as file:
                file.write(
                    f"evt_x{number},usr_05,user,video_edited,{day} 08:0{number}:00,web_app,,"
                    "video_studio,true,false,\n"
                )
            run = monstera(folder, "run", "--from", day, "--to", day, source=source)
            assert run.code == 0, run.out + run.err
        for process in readers:
            out, err = process.communicate()
            assert (process.returncode, err) == (0, "")
            report = json.loads(out)
            # 35 events in the seeds, and one more after each run; always all 43 tables
            assert report["seen"] == [[35 + more, 35 + more, 43] for more in range(RUNS + 1)]
            assert report["reads"] > 100
            assert report["longest"] < 1, report


def computed(outcome: Outcome) -> Snapshot:
    """Return the tables that do not depend on which run was the first to read a row."""
    read_first = [table.qualified_name for table in VERSIONED]
    return {name: rows for name, rows in outcome.tables.items() if name not in read_first}


@pytest.mark.slow
def test_days_lost_by_a_restore_are_computed_again(seeds_run: SeedsRun, tmp_path: Path) -> None:
    """The backup is ten days old, and Dagster still records the days since then."""
    folder = tmp_path / "here"
    assert monstera(folder, "run", "--to", "2025-06-20").code == 0
    assert monstera(folder, "backup").code == 0
    later = monstera(folder, "run", "--changed")
    assert later.code == 0, later.out + later.err
    assert computed(later) == computed(seeds_run.outcome)
    [backup] = (folder / "data" / "backups").glob("*Z")
    restored = monstera(folder, "restore", str(backup))
    assert restored.code == 0
    assert "data/monstera.duckdb, with data through 2025-06-20" in restored.out
    assert restored.tables != later.tables
    again = monstera(folder, "run", "--changed")
    assert "compute 2025-06-21 to 2025-06-30 (10 days)" in again.out, again.out
    assert again.code == 0, again.out + again.err
    assert again.tables == later.tables
