"""Kill publishing, backups and restores at random moments, and run them on full disks.

Each file must be the old one or the complete new one. `make test-faults` runs these tests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from monstera_assets_tests.end_to_end.test_faults import disk
from monstera_assets_tests.helpers.command_line import Snapshot, environment, query, snapshot
from monstera_assets_tests.integration.example_runs import SeedsRun

pytestmark = pytest.mark.faults

KILLS = 15

# Runs a command in a separate process, which prints when it begins and when it ends.
_PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from monstera_assets.definitions import tables
from monstera_assets.operations import backups, forget, publishing
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.errors import WarehouseError

command, folder = sys.argv[1], Path(sys.argv[2])
settings, declared = Settings(database=folder / "monstera.duckdb"), tables()
print("begins", flush=True)
try:
    if command == "publish":
        with connect(str(settings.database), {}) as connection:
            publishing.publish(
                connection, settings.published, publishing.published(settings, declared)
            )
    elif command == "backup":
        backups.back_up(settings, folder / "backups", datetime.now(UTC))
    elif command == "restore":
        [first, *_] = sorted((folder / "backups").glob("*Z"))
        backups.restore(settings, first, declared)
    else:
        forget.forget_person(settings, "usr_05", declared)
except WarehouseError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
print("ends", flush=True)
"""


@contextmanager
def running(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and return when it begins."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM, command, folder],
        env=environment(PYTHONPATH=str(Path(__file__).parents[2])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield process


def run(command: str, folder: Path) -> tuple[int, str]:
    """Run a command and return its exit code and error output."""
    with running(command, folder) as process:
        _, err = process.communicate()
    return process.returncode, err


@dataclass(frozen=True)
class State:
    """The content of the database and the published copy, and the hash of each backup."""

    database: Snapshot
    published: Snapshot
    backups: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> State:
        """Read the files, and verify that each backup is complete."""
        hashes = {}
        for backup in (folder / "backups").glob("*Z"):
            manifest = json.loads((backup / "manifest.json").read_text())
            data = (backup / manifest["database"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == manifest["sha256"]
            hashes[backup.name] = manifest["sha256"]
        copy = folder / "published" / "monstera.duckdb"
        return cls(snapshot(folder / "monstera.duckdb"), snapshot(copy), hashes)


@dataclass(frozen=True)
class Example:
    """A warehouse that was backed up, erased from and changed, and the results of each command."""

    folder: Path
    before: State
    after: dict[str, State]
    seconds: dict[str, float]

    def assert_whole(self, command: str, folder: Path) -> None:
        """Each file is the old one or the complete new one."""
        now, new = State.of(folder), self.after[command]
        assert now.database in (self.before.database, new.database)
        assert now.published in (self.before.published, new.published)
        assert now.backups.items() >= self.before.backups.items()
        if command != "restore":
            assert now.database == self.before.database
        assert b"usr_05" not in (folder / "monstera.duckdb").read_bytes()


@pytest.fixture(scope="module")
def example(seeds_run: SeedsRun, tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(seeds_run.database.parent / "published", folder / "old" / "published")
    shutil.copy(seeds_run.database, folder / "old" / "monstera.duckdb")
    for command in ("backup", "forget"):
        assert run(command, folder / "old") == (0, "")
    query(folder / "old" / "monstera.duckdb",
          "UPDATE silver.silver_user_current_state SET days_since_signup = 9999")  # fmt: skip
    before, after, seconds = State.of(folder / "old"), {}, {}
    for command in ("publish", "backup", "restore"):
        shutil.copytree(folder / "old", folder / command)
        with running(command, folder / command) as process:
            began = time.monotonic()
            process.communicate()
        seconds[command] = time.monotonic() - began
        after[command] = State.of(folder / command)
        assert after[command] != before
    return Example(folder / "old", before, after, seconds)


@pytest.mark.parametrize("command", ["publish", "backup", "restore"])
def test_killed(example: Example, tmp_path: Path, command: str) -> None:
    seed = Random().randrange(1_000_000)  # noqa: S311  # different moments in each test run
    random = Random(seed)  # noqa: S311
    folder = Path(shutil.copytree(example.folder, tmp_path / "here"))
    for _ in range(KILLS):
        with running(command, folder) as process:
            time.sleep(random.uniform(0, 1.2 * example.seconds[command]))
            process.kill()
            process.communicate()
        example.assert_whole(command, folder)
    assert run(command, folder) == (0, ""), seed
    state, new = State.of(folder), example.after[command]
    assert (state.database, state.published) == (new.database, new.published)
    # No file of a killed process remains.
    assert not [path.name for path in folder.rglob("*ing*")]


@pytest.mark.parametrize("command", ["publish", "backup", "restore"])
@pytest.mark.parametrize("room", [0, 1_000_000, 8_000_000, 16_000_000, 24_000_000])
def test_full_disk(example: Example, tmp_path: Path, command: str, room: int) -> None:
    sizes = [path.stat().st_size for path in example.folder.rglob("*") if path.is_file()]
    with disk(tmp_path / "disk", sizes, room):
        folder = Path(shutil.copytree(example.folder, tmp_path / "disk" / "here"))
        code, err = run(command, folder)
        kept = Path(shutil.copytree(folder, tmp_path / "kept"))
    example.assert_whole(command, kept)
    if room <= 8_000_000:
        assert code == 2
    if code:
        assert "Traceback" not in err
        assert "disk" in err
        assert State.of(kept) == example.before
    assert not [path.name for path in kept.rglob("*ing*")]
    assert run(command, kept) == (0, "")
