"""Killed executors and drivers, and runs that are started twice, on a Spark standalone cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from monstera_assets.bronze import load_events
from monstera_assets.definitions import tables
from monstera_assets.operations.runs import failures_of
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.iceberg.loads import incomplete_days
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.integration.example_runs import Graph, computed_from
from monstera_assets_tests.spark.cluster import Cluster
from monstera_assets_tests.spark.spark_graph import SparkGraph, differences, failures

pytestmark = pytest.mark.spark

COMPUTED = computed_from(["silver_user_state_history"])
TABLES = [table for table in tables() if table.name in COMPUTED]
LAST = SEEDS_DAYS.first + timedelta(days=9)
ROOT = Path(__file__).parents[2]

# Computes a day, and kills itself at a commit: after its files are written, but before the catalog
# refers to them, or after it.
_KILLED_RUN = """
import os, signal, sys
from datetime import date
from pathlib import Path
from pyiceberg.catalog.sql import SqlCatalog
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.spark.spark_graph import SparkGraph
from monstera_assets_tests.spark.test_spark_faults import COMPUTED

source, database, home, start, remote, day, table, stage = sys.argv[1:]
commit_table = SqlCatalog.commit_table

def commit_and_kill(self, handle, *arguments):
    is_meant = handle.name()[-1] == table
    if is_meant and stage == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    response = commit_table(self, handle, *arguments)
    if is_meant:
        os.kill(os.getpid(), signal.SIGKILL)
    return response

SqlCatalog.commit_table = commit_and_kill
graph = SparkGraph(Path(source), Path(database), Path(home), date.fromisoformat(start), remote=remote)
day = date.fromisoformat(day)
graph.run(DateWindow(day, day), only=COMPUTED)
"""


KILLED = (
    ("bronze_events", "before"),
    ("bronze_rejected_events", "before"),
    ("bronze_loads", "before"),
    ("bronze_loads", "after"),
    ("silver_user_state_history", "before"),
    ("silver_user_state_history", "after"),
)
"""The tables and the times of commits, each on a day of its own after `LAST`."""
EVERY_DAY = DateWindow(SEEDS_DAYS.first, LAST + timedelta(days=len(KILLED)))


@pytest.fixture(scope="module")
def graph(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SparkGraph:
    """Ten days of a few tables on Spark."""
    folder = tmp_path_factory.mktemp("faults")
    places = (SEEDS, folder / "m.duckdb", folder / "home")
    found = SparkGraph(*places, SEEDS_DAYS.first, remote=cluster.remote)
    found.compute(["silver_user_state_history"], LAST)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A DuckDB warehouse with the same tables after the same runs."""
    folder = tmp_path_factory.mktemp("expected")
    found = Graph(SEEDS, folder / "m.duckdb", folder / "home", SEEDS_DAYS.first)
    found.compute(["silver_user_state_history"], LAST)
    for day in EVERY_DAY:
        if day > LAST:
            assert found.run(DateWindow(day, day), only=COMPUTED).success
    return str(found.database)


@contextmanager
def executors_killed(cluster: Cluster, seconds: float) -> Iterator[list[int]]:
    """Kill an executor every few seconds, and yield the ids of the killed processes."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not done.wait(seconds):
            for process in cluster.executors()[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("number", range(len(KILLED)))
def test_a_driver_that_is_killed_at_a_commit_leaves_whole_tables(
    number: int, graph: SparkGraph
) -> None:
    """Readers see the old days or the new ones, and the next run completes the day."""
    name, stage = KILLED[number]
    [table] = [table for table in TABLES if table.name == name]
    day = LAST + timedelta(days=1 + number)
    process = subprocess.run(
        [
            *(sys.executable, "-c", _KILLED_RUN, SEEDS, graph.database, graph.home),
            *(str(SEEDS_DAYS.first), graph.remote, str(day), name, stage),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    with closing(graph.open_catalog()) as catalog:
        assert (day in catalog.stored(table).materialized_days) == (stage == "after")
        incomplete = incomplete_days(catalog, load_events.TABLES)
    is_between = stage == "before" and name in ("bronze_rejected_events", "bronze_loads")
    assert incomplete == ([day] if is_between else [])
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        in_file = DuckDBEngine(connection).materialized_days(table)
    assert day not in in_file
    done = graph.run(DateWindow(day, day), only=COMPUTED)
    assert not [*failures(done)]
    with closing(graph.open_catalog()) as catalog:
        assert incomplete_days(catalog, load_events.TABLES) == []


def test_days_of_killed_runs_are_the_same(graph: SparkGraph, expected: str) -> None:
    """Needs the days that the tests of killed drivers compute."""
    assert differences(graph, expected, TABLES) == {}


def test_killed_executors_do_not_change_a_table(
    graph: SparkGraph, expected: str, cluster: Cluster
) -> None:
    with executors_killed(cluster, seconds=4) as killed:
        done = graph.run(EVERY_DAY, only=COMPUTED)
    assert killed
    assert not [*failures(done)]
    assert differences(graph, expected, TABLES) == {}


def test_a_run_that_is_started_twice_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """The second run says that the DuckDB file is locked."""
    database = tmp_path / "m.duckdb"
    code = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print(flush=True)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(600)", database], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    second = SparkGraph(
        *(SEEDS, database, tmp_path / "home", SEEDS_DAYS.first),
        remote=cluster.remote,
        more={"lock_timeout_seconds": 1.0},
    )
    try:
        done = second.run(DateWindow(LAST, LAST))
    finally:
        holder.kill()
        holder.wait()
    assert not done.success
    [failure] = failures_of(done.all_events)
    assert "m.duckdb was locked by another process" in failure.message
