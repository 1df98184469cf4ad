"""Test faults during a run: kills, full disks, locks, concurrent runs and changing sources.

The database contains the data of one company, and the fault occurs while another company is loaded over
the same days. Unchanged, partly written and complete tables can therefore be distinguished.

Slow tests have the mark `faults`; `make test-faults` runs them.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import duckdb
import pytest
from dagster._core.test_utils import freeze_time

from monstera_assets.bronze import loading
from monstera_assets.operations.partitions import available_partitions, daily_partitions
from monstera_assets.operations.runs import failures_of
from monstera_assets.settings import SettingsError
from monstera_assets.source.fingerprint import FileFingerprint, fingerprint
from monstera_assets.source.layout import SourceFile
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import (
    MONSTERA,
    Snapshot,
    environment,
    held,
    snapshot,
)
from monstera_assets_tests.inputs.random_source import DAYS, FIRST, write_random_source
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    EVENTS,
    Graph,
    assert_same,
    batched_instance,
)

WINDOW = DateWindow(FIRST, FIRST + timedelta(days=DAYS - 1))
LOADS = (*ENTITIES, *EVENTS, "silver_events_enriched", "silver_daily_user_activity")
"""The tables that the quick tests compute."""

OF_NO_COMPANY = {
    *("bronze.bronze_product_catalog", "bronze.bronze_workflows", "gold.gold_metric_catalog"),
    *("gold.gold_churn_model_evaluation", "bronze.bronze_source_faults"),
}
"""Tables that are equal for all companies; such small ones cannot be evaluated."""

# Computes these tables in a separate process, which prints when it begins.
_LOAD = """
import sys
from pathlib import Path
from dagster import DagsterInstance
from monstera_assets.operations.runs import failures_of
from monstera_assets_tests.end_to_end.test_faults import LOADS, WINDOW
from monstera_assets_tests.integration.example_runs import Graph

folder, source = Path(sys.argv[1]), Path(sys.argv[2])
graph = Graph(source, folder / "monstera.duckdb", Path(sys.argv[3]), WINDOW.first)
graph.instance = DagsterInstance.from_config(str(graph.home))
graph.definitions
print("begins", flush=True)
with graph.instance:
    for failure in failures_of(graph.run(WINDOW, only=LOADS).all_events):
        print(failure, flush=True)
print("ends", flush=True)
"""


@contextmanager
def loading_process(
    folder: Path, source: Path, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a process that computes `LOADS` from a source, and return when it begins."""
    home = Path(mkdtemp(dir=folder)) / "home"
    batched_instance(home).dispose()
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _LOAD, folder, source, home],
        env=environment(**variables),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield process


def load(folder: Path, source: Path, **variables: str) -> Snapshot:
    """Compute `LOADS` from a source and return the content of the tables."""
    with loading_process(folder, source, **variables) as process:
        assert process.communicate()[0] == "ends\n"
    return snapshot(folder / "monstera.duckdb")


def load_here(folder: Path, source: Path) -> Snapshot:
    """Do the same in this process."""
    home = folder.with_name(f"home_of_{folder.name}")
    graph = Graph(source, folder / "monstera.duckdb", home, WINDOW.first)
    with graph.instance:
        assert graph.run(WINDOW, only=LOADS).success
    return snapshot(graph.database)


@dataclass(frozen=True)
class Companies:
    """A database of one company, and the results of undisturbed runs over both companies."""

    folder: Path
    source: Path
    before: Snapshot
    after: Snapshot
    seconds: float

    def copy(self, folder: Path) -> Path:
        """A copy of the database of the first company."""
        return Path(shutil.copytree(self.folder, folder, symlinks=True))

    def assert_whole(self, tables: Snapshot) -> None:
        """Each table is unchanged or complete, and all tables of one load are in the same state."""
        assert tables.keys() == self.before.keys()
        for name, state in tables.items():
            assert state in (self.before[name], self.after[name]), name
        for together in (ENTITIES, EVENTS):
            names = [f"bronze.{name}" for name in together]
            assert {name: tables[name] for name in names} in (
                {name: self.before[name] for name in names},
                {name: self.after[name] for name in names},
            )


def two_companies(folder: Path, run: Callable[[Path, Path], Snapshot]) -> Companies:
    """Load one company, and in a copy also the other one."""
    for seed in (1, 2):
        write_random_source(folder / f"source_{seed}", seed, users=12)
    before = run(folder / "one", folder / "source_1")
    shutil.copytree(folder / "one", folder / "both", symlinks=True)
    began = time.monotonic()
    after = run(folder / "both", folder / "source_2")
    seconds = time.monotonic() - began
    companies = Companies(folder / "one", folder / "source_2", before, after, seconds)
    same = {name for name in before if before[name] == after[name] and before[name][0]}
    assert same <= OF_NO_COMPANY
    return companies


@pytest.fixture(scope="module")
def companies(tmp_path_factory: pytest.TempPathFactory) -> Companies:
    folder = tmp_path_factory.mktemp("companies")
    (folder / "one").mkdir()
    return two_companies(folder, load_here)


@pytest.fixture(scope="module")
def companies_by_runs(tmp_path_factory: pytest.TempPathFactory) -> Companies:
    """Do the same for the whole graph."""
    return two_companies(tmp_path_factory.mktemp("companies_by_runs"), run_cli)


# ---------------------------------------------------------------- killed


def kill_load(companies: Companies, folder: Path, wait: float) -> None:
    """Kill a load after a random time and verify the tables."""
    with loading_process(folder, companies.source) as process:
        time.sleep(wait)
        process.kill()
    companies.assert_whole(snapshot(folder / "monstera.duckdb"))


@pytest.mark.faults
def test_killed_loads(companies: Companies, tmp_path: Path) -> None:
    random = Random()  # noqa: S311  # a different moment in each test run
    waits = [random.uniform(0, companies.seconds) for _ in range(3)]

    def kill(number: int) -> Snapshot:
        folder = companies.copy(tmp_path / str(number))
        kill_load(companies, folder, waits[number])
        return load(folder, companies.source) if number == 0 else companies.after

    with ThreadPoolExecutor(max_workers=2) as pool:
        for tables in pool.map(kill, range(len(waits))):
            assert tables == companies.after, waits


def run_cli(folder: Path, source: Path) -> Snapshot:
    """Run the whole graph and return the content of the tables."""
    with running_cli(folder, source) as process:
        out, err = process.communicate()
    assert process.returncode == 0, out + err
    return snapshot(folder / "monstera.duckdb")


@contextmanager
def running_cli(
    folder: Path, source: Path, limit: Callable[[], None] | None = None, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Start `monstera run` for a source, with the database and Dagster's state in a folder."""
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(
        [
            *(MONSTERA, "run", "--source", source, "--database", folder / "monstera.duckdb"),
            *("--from", str(WINDOW.first), "--to", str(WINDOW.last)),
        ],
        env=environment(MONSTERA_START_DATE=str(WINDOW.first), **variables),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    ) as process:
        yield process


@pytest.mark.faults
def test_killed_runs(companies_by_runs: Companies, tmp_path: Path) -> None:
    companies = companies_by_runs
    seed = Random().randrange(1_000_000)  # noqa: S311
    random = Random(seed)  # noqa: S311
    chains = [[random.uniform(0, companies.seconds) for _ in range(5)] for _ in range(10)]

    def kill(number: int) -> Snapshot:
        """Kill five runs over one database, then complete one run."""
        folder = companies.copy(tmp_path / str(number))
        for wait in chains[number]:
            with running_cli(folder, companies.source) as process:
                time.sleep(wait)
                process.send_signal(signal.SIGKILL)
                process.communicate()
            companies.assert_whole(snapshot(folder / "monstera.duckdb"))
        return run_cli(folder, companies.source)

    with ThreadPoolExecutor(max_workers=2) as pool:
        for number, tables in enumerate(pool.map(kill, range(len(chains)))):
            assert tables == companies.after, (seed, number)


# ---------------------------------------------------------------- full disk


def lines_of_failed(process: subprocess.Popen[str], code: int) -> list[str]:
    """Return the error output of a command without the lines from Dagster's logger."""
    _, err = process.communicate()
    assert process.returncode == code, err
    assert "Traceback" not in err
    return [line for line in err.splitlines() if line.startswith("monstera: ")]


def limited(limit: int) -> Callable[[], None]:
    """Return a function that limits the size of a process's files, to simulate a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.faults
def test_no_disk_space_for_the_state_of_dagster(tmp_path: Path) -> None:
    with subprocess.Popen(
        [MONSTERA, "run", "--from", "2025-06-30", "--to", "2025-06-30"],
        cwd=tmp_path,
        env=environment(MONSTERA_SOURCE=str(Path(__file__).parents[2] / "seeds")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited(30_000),
    ) as process:
        [said] = lines_of_failed(process, 2)
    home = tmp_path / "data" / "dagster_home"
    assert said.startswith(f"monstera: {home}: Dagster's state cannot be read or written: ")
    assert "Check the disk space and the permissions" in said
    assert snapshot(tmp_path / "data" / "monstera.duckdb") == {}


@pytest.mark.faults
@pytest.mark.parametrize("room", [0, 300_000, 1_500_000, 4_000_000, 9_000_000])
def test_full_disk(companies_by_runs: Companies, tmp_path: Path, room: int) -> None:
    """Put the database, temporary files and Dagster's state on a disk that is almost full."""
    companies = companies_by_runs
    sizes = [path.stat().st_size for path in companies.folder.rglob("*") if path.is_file()]
    with disk(tmp_path / "disk", sizes, room) as limit:
        folder = companies.copy(tmp_path / "disk" / "one")
        with running_cli(folder, companies.source, limit=limit) as process:
            out, err = process.communicate()
        kept = Path(shutil.copytree(folder, tmp_path / "kept", symlinks=True))
    assert process.returncode in (1, 2), out
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("monstera: ")]
    assert any("Check that the disk has free space" in line for line in said), err
    companies.assert_whole(snapshot(kept / "monstera.duckdb"))
    assert run_cli(kept, companies.source) == companies.after


@contextmanager
def disk(folder: Path, sizes: Sequence[int], room: int) -> Iterator[Callable[[], None] | None]:
    """Yield a disk with space for files of these sizes, or set an equivalent limit for a process.

    Only the superuser may mount a disk. For other users, no file may grow by more than this space.
    """
    folder.mkdir()
    if os.geteuid() != 0:
        yield limited(max(sizes) + room)
        return
    blocks = sum(-(-size // 4096) + 1 for size in sizes)
    options = f"size={blocks * 4096 + room}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# ---------------------------------------------------------------- concurrent runs


@pytest.mark.faults
def test_two_loads_at_once_wait_for_each_other(companies: Companies, tmp_path: Path) -> None:
    """The result depends neither on which process is first nor on the time zones."""
    folder = companies.copy(tmp_path / "both")
    began = datetime.now(UTC).replace(tzinfo=None)
    with ExitStack() as holder:
        holder.enter_context(held(folder / "monstera.duckdb"))
        with (
            loading_process(folder, companies.source, TZ="America/New_York") as one,
            loading_process(folder, companies.source, TZ="Pacific/Kiritimati") as other,
        ):
            time.sleep(1)
            assert [process.poll() for process in (one, other)] == [None, None]
            holder.close()
            assert [process.communicate()[0] for process in (one, other)] == ["ends\n", "ends\n"]
    assert snapshot(folder / "monstera.duckdb") == companies.after
    with duckdb.connect(folder / "monstera.duckdb", read_only=True) as connection:
        [(first, last)] = connection.execute(
            "SELECT min(materialized_at), max(materialized_at) FROM operations.materializations"
        ).fetchall()
    assert began <= first <= last <= datetime.now(UTC).replace(tzinfo=None)


_OPEN_STATE = """
import sys
from pathlib import Path
from monstera_assets.operations.home import open_instance
from monstera_assets.settings import Settings
print("ready", flush=True)
sys.stdin.readline()
with open_instance(Settings(database=Path("monstera.duckdb"))) as instance:
    print(instance.get_runs_count())
"""


@pytest.mark.faults
def test_state_of_dagster_created_concurrently(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _OPEN_STATE],
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(Path(__file__).parents[2])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["0\n"] * 3


@pytest.mark.faults
def test_two_runs_at_once(companies_by_runs: Companies, tmp_path: Path) -> None:
    companies = companies_by_runs
    for folder in (tmp_path / "fresh", companies.copy(tmp_path / "over")):
        with (
            running_cli(folder, companies.source, MONSTERA_LOCK_TIMEOUT_SECONDS="600") as one,
            running_cli(folder, companies.source, MONSTERA_LOCK_TIMEOUT_SECONDS="600") as other,
        ):
            for process in (one, other):
                out, err = process.communicate()
                assert process.returncode == 0, out + err
        assert snapshot(folder / "monstera.duckdb") == companies.after


# ---------------------------------------------------------------- changing sources


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


@pytest.mark.parametrize(
    ("name", "meddle"),
    [
        ("users.csv", overwrite),
        ("users.csv", Path.touch),
        ("events.csv", cut),
        ("events.csv", Path.unlink),
    ],
)
def test_file_that_changes_after_it_was_read(
    companies: Companies,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    meddle: Callable[[Path], None],
) -> None:
    def meddling(file: SourceFile) -> FileFingerprint:
        """Return the last fingerprint of the file, which was computed just after the file changed."""
        if file.relative_path == name:
            meddle(file.path)
        return fingerprint(file)

    monkeypatch.setattr(loading, "fingerprint", meddling)
    folder = companies.copy(tmp_path / "folder")
    source = Path(shutil.copytree(companies.source, tmp_path / "source"))
    graph = Graph(source, folder / "monstera.duckdb", folder / "home", WINDOW.first)
    loads = EVENTS if name == "events.csv" else ENTITIES
    with graph.instance:
        before = graph.contents_of(ENTITIES + EVENTS)
        result = graph.run(WINDOW if loads is EVENTS else None, only=loads)
    [failure] = failures_of(result.all_events)
    assert failure.is_source_error
    assert f"{name} " in str(failure)
    assert_same(graph.contents_of(ENTITIES + EVENTS), before)


# ---------------------------------------------------------------- clocks


@contextmanager
def zone(name: str) -> Iterator[None]:
    """Set the time zone of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


ZONES = ["UTC", "Pacific/Kiritimati", "America/New_York", "Europe/Berlin", "Asia/Kolkata"]
"""Including the zone with the largest offset, and zones with daylight saving time."""


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(
    ("now", "yesterday"),
    [
        ("2024-12-31 23:59:59.999999", "2024-12-30"),
        ("2025-01-01 00:00:00", "2024-12-31"),
        ("2024-02-29 00:00:00", "2024-02-28"),
        ("2024-02-29 23:59:59.999999", "2024-02-28"),
        ("2024-03-01 00:00:00", "2024-02-29"),
        ("2025-03-01 00:00:00", "2025-02-28"),
        # Daylight saving time starts and ends at 1:00 UTC in Berlin; it starts at 7:00 UTC in New York.
        *((f"2025-03-30 0{hour}:59:59", "2025-03-29") for hour in range(3)),
        *((f"2024-10-27 0{hour}:00:00", "2024-10-26") for hour in range(4)),
        ("2025-03-30 23:59:59", "2025-03-29"),
        ("2025-03-31 00:00:00", "2025-03-30"),
        ("2025-03-09 07:00:00", "2025-03-08"),
    ],
)
def test_last_partition_is_yesterday_in_utc(name: str, now: str, yesterday: str) -> None:
    with zone(name), freeze_time(datetime.fromisoformat(now).replace(tzinfo=UTC)):
        window = available_partitions(date(2023, 12, 30))
        keys = daily_partitions(date(2023, 12, 30)).get_partition_keys()
    assert window == DateWindow(date(2023, 12, 30), date.fromisoformat(yesterday))
    # Each day occurs once, including those with 23 and 25 hours.
    assert keys == [str(day) for day in window]


@pytest.mark.parametrize("name", ZONES)
def test_first_day_has_not_ended(name: str) -> None:
    with zone(name):
        with (
            freeze_time(datetime(2025, 1, 1, 23, 59, 59, tzinfo=UTC)),
            pytest.raises(SettingsError, match="2025-01-01 has not ended"),
        ):
            available_partitions(date(2025, 1, 1))
        with freeze_time(datetime(2025, 1, 2, tzinfo=UTC)):
            assert len(available_partitions(date(2025, 1, 1))) == 1
