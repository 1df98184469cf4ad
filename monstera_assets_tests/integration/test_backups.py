"""Test backups, restored backups, and what remains if either is interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monstera_assets.bronze.forgotten import ForgottenKeyError, key_path
from monstera_assets.definitions import tables
from monstera_assets.operations import backups
from monstera_assets.operations.backups import (
    BackupError,
    RestoreError,
    back_up,
    default_folder,
    restore,
)
from monstera_assets.operations.erasure_lists import ErasureListError, read_list
from monstera_assets.operations.forget import forget_person
from monstera_assets.settings import Settings
from monstera_assets.warehouse.errors import WarehouseLockedError
from monstera_assets_tests.helpers.command_line import Snapshot, held, query, snapshot
from monstera_assets_tests.helpers.forked_process import run_forked
from monstera_assets_tests.integration.example_runs import SeedsRun

TABLES = tables()
NOW = datetime(2025, 7, 1, 5, 12, tzinfo=UTC)
ADDRESS = "SELECT email FROM bronze.bronze_users WHERE user_id = 'usr_05'"
DAYS = "SELECT DISTINCT days_since_signup FROM silver.silver_user_current_state"
CHANGE = "UPDATE silver.silver_user_current_state SET days_since_signup = 9999"


@pytest.fixture
def settings(tmp_path: Path, seeds_run: SeedsRun, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of the seeds' database."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    database = tmp_path / "data" / "warehouse.duckdb"
    database.parent.mkdir()
    shutil.copy(seeds_run.database, database)
    return Settings(database=database, lock_timeout_seconds=0.2)


def backup_now(settings: Settings, hours: int = 0) -> Path:
    output = default_folder(settings.database)
    return back_up(settings, output, NOW + timedelta(hours=hours))[0]


def everything(database: Path) -> Snapshot:
    """Return the number and hash of the rows of each table, including those of `operations`."""
    return snapshot(database, ("bronze", "silver", "gold", "operations"))


def files_of(folder: Path) -> dict[str, str]:
    """Return the hash of each file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def in_a_process(settings: Settings, before: str, command: str) -> tuple[int, str]:
    """Run a statement in a separate process, and return its exit code and error output."""
    program = f"""
import os, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from monstera_assets.definitions import tables
from monstera_assets.operations import backups, erasure_lists, forget
from monstera_assets.settings import Settings
from monstera_assets.warehouse import compaction, files
settings = Settings(database=Path(sys.argv[1]), lock_timeout_seconds=0.2)
folder = settings.database.parent / "backups"
{before}
{command}
"""
    done = run_forked(program, str(settings.database))
    return done.returncode, done.stderr


BACK_UP = "backups.back_up(settings, folder, datetime(2025, 7, 2, tzinfo=UTC))"
RESTORE = "backups.restore(settings, folder / '20250701T051200Z', tables())"


def test_a_backup_contains_all_tables_and_no_key(settings: Settings) -> None:
    forget_person(settings, "usr_06", TABLES)
    before = everything(settings.database)
    folder = backup_now(settings)
    assert folder.name == "20250701T051200Z"
    assert everything(folder / "warehouse.duckdb") == before
    manifest = json.loads((folder / "manifest.json").read_text())
    copied = (folder / "warehouse.duckdb").read_bytes()
    assert manifest == {
        "database": "warehouse.duckdb",
        "sha256": hashlib.sha256(copied).hexdigest(),
        "last_day": "2025-06-30",
        "rows": {name: rows for name, (rows, _) in before.items()},
    }
    assert query(folder / "warehouse.duckdb", "SELECT count(*) FROM bronze.bronze_users_current")
    key = key_path(settings.database).read_text().strip()
    for path in folder.parent.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert key.encode() not in data
            assert bytes.fromhex(key) not in data
            assert b"usr_06" not in data
    assert len(read_list(folder.parent)) == 3  # the key's check, an id and an address


def test_earlier_backups_are_kept(settings: Settings) -> None:
    first = backup_now(settings)
    before = files_of(first)
    second = backup_now(settings, hours=1)
    assert second.name == "20250701T061200Z"
    assert files_of(first) == before
    with pytest.raises(BackupError, match=r"Directory not empty\. Earlier backups are unchanged"):
        backup_now(settings)
    assert files_of(first) == before


def test_no_process_writes_during_a_backup(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = backups._copy_file

    def copy(source: Path, target: Path) -> str:
        program = "import duckdb, sys; duckdb.connect(sys.argv[1])"
        done = subprocess.run(
            [sys.executable, "-c", program, str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        opened.append(done.stderr)
        return real(source, target)

    monkeypatch.setattr(backups, "_copy_file", copy)
    backup_now(settings)
    [error] = opened
    assert "Could not set lock on file" in error


def test_locked_database(settings: Settings) -> None:
    folder = backup_now(settings)
    before = files_of(folder.parent)
    with held(settings.database):
        with pytest.raises(WarehouseLockedError, match=r"locked by another process for 0\.2 s"):
            backup_now(settings, hours=1)
        with pytest.raises(WarehouseLockedError, match=r"locked by another process for 0\.2 s"):
            restore(settings, folder, TABLES)
    assert files_of(folder.parent) == before
    assert not list(settings.database.parent.glob("*.restoring*"))


def write_and_kill(settings: Settings) -> None:
    """Commit a write in a process that is killed before it closes the database."""
    program = (
        "import duckdb, os, sys; connection = duckdb.connect(sys.argv[1]);"
        f"connection.execute({CHANGE!r}); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(settings.database)], check=False)
    assert settings.database.with_name("warehouse.duckdb.wal").exists()


def test_a_write_that_a_killed_process_committed_is_in_the_backup(settings: Settings) -> None:
    write_and_kill(settings)
    folder = backup_now(settings)
    assert query(folder / "warehouse.duckdb", DAYS) == [(9999,)]


def test_a_log_of_the_old_database_is_not_applied_to_the_restored_one(settings: Settings) -> None:
    before = everything(settings.database)
    folder = backup_now(settings)
    write_and_kill(settings)
    restore(settings, folder, TABLES)
    assert everything(settings.database) == before
    write_and_kill(settings)
    settings.database.write_bytes(b"no database")  # the log remains
    restore(settings, folder, TABLES)
    assert everything(settings.database) == before


def test_a_backup_is_restored_to_the_last_row(settings: Settings) -> None:
    before = everything(settings.database)
    folder = backup_now(settings)
    settings.database.chmod(0o640)
    for statement in (CHANGE, "DROP TABLE gold.gold_overall_metrics", "CREATE TABLE own (n INT)"):
        query(settings.database, statement)
    done = restore(settings, folder, TABLES)
    assert (str(done.manifest.last_day), done.erased, done.unread) == ("2025-06-30", 0, None)
    assert everything(settings.database) == before
    assert settings.database.stat().st_mode & 0o777 == 0o640
    settings.database.unlink()
    restore(settings, folder, TABLES)
    assert everything(settings.database) == before


def flip_a_byte(folder: Path) -> None:
    path = folder / "warehouse.duckdb"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def assert_no_new_backup(settings: Settings, message: str) -> None:
    """Back up, and verify that the backup fails and leaves only the earlier backup."""
    output = default_folder(settings.database)
    before = files_of(output)
    with pytest.raises(BackupError, match=message):
        backup_now(settings, hours=1)
    assert files_of(output).keys() - {".lock"} == before.keys() - {".lock"}
    assert all(files_of(output)[name] == digest for name, digest in before.items())


def test_a_copy_that_differs_is_no_backup(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_now(settings)
    copy = backups._copy_file

    def with_a_fault_of_the_disk(source: Path, target: Path) -> str:
        digest = copy(source, target)
        flip_a_byte(target.parent)
        return digest

    monkeypatch.setattr(backups, "_copy_file", with_a_fault_of_the_disk)
    assert_no_new_backup(settings, r"differs from the database: its SHA-256 hash is \w+ instead of")
    monkeypatch.undo()
    assert everything(backup_now(settings, hours=1) / "warehouse.duckdb") == everything(
        settings.database
    )


def test_a_copy_of_a_damaged_database_is_no_backup(settings: Settings) -> None:
    """A flipped bit in a block of a table: the copy has the same bytes."""
    backup_now(settings)
    [(block,)] = query(
        settings.database,
        "SELECT max(block_id) FROM pragma_storage_info('gold.gold_segment_metrics')"
        " WHERE persistent AND segment_type <> 'VALIDITY'",
    )
    assert isinstance(block, int)
    with settings.database.open("r+b") as file:
        place = 3 * 4096 + block * 262_144 + 5_000  # three headers, then the blocks
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    assert_no_new_backup(settings, r"is damaged: \w+\.\w+ cannot be read: .*[Cc]hecksum")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "warehouse.duckdb is damaged: its SHA-256 hash differs"),
        (lambda folder: os.truncate(folder / "warehouse.duckdb", 4096), "is damaged"),
        (lambda folder: (folder / "warehouse.duckdb").unlink(), "No such file or directory"),
        (lambda folder: (folder / "manifest.json").unlink(), "is not a complete backup"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "it is not a manifest"),
        (lambda folder: (folder.parent / "forgotten.csv").unlink(), "forgotten.csv is missing"),
        (
            lambda folder: (folder.parent / "forgotten.csv").write_text("a\n"),
            "cannot be read as a list of erasures",
        ),
    ],
)
def test_a_damaged_backup_is_refused(
    settings: Settings, damage: Callable[[Path], object], message: str
) -> None:
    folder = backup_now(settings)
    query(settings.database, CHANGE)
    before = files_of(settings.database.parent / "..")
    damage(folder)
    with pytest.raises((RestoreError, ErasureListError), match=message):
        restore(settings, folder, TABLES)
    after = files_of(settings.database.parent / "..")
    assert after["data/warehouse.duckdb"] == before["data/warehouse.duckdb"]
    assert after.keys() <= before.keys()


def test_a_damaged_database_can_be_replaced(settings: Settings) -> None:
    before = everything(settings.database)
    folder = backup_now(settings)
    settings.database.write_bytes(b"no database")
    done = restore(settings, folder, TABLES)
    assert done.unread is not None
    assert "Cannot open" in done.unread
    assert everything(settings.database) == before


def test_everyone_who_was_erased_since_is_erased_again(settings: Settings) -> None:
    folder = backup_now(settings)
    [(address,)] = query(settings.database, ADDRESS)
    tombstone = forget_person(settings, "usr_05", TABLES).tombstone
    erased = everything(settings.database)
    assert b"usr_05" in (folder / "warehouse.duckdb").read_bytes()
    assert restore(settings, folder, TABLES).erased == 1
    assert everything(settings.database) == erased
    data = settings.database.read_bytes()
    assert b"usr_05" not in data
    assert str(address).encode() not in data
    assert tombstone.encode() in data
    beside = (folder.parent / "forgotten.csv").read_text()
    assert tombstone in beside
    assert "usr_05" not in beside
    assert str(address) not in beside
    assert forget_person(settings, "usr_05", TABLES).already


def test_an_erasure_that_is_not_in_the_list_is_read_from_the_database(settings: Settings) -> None:
    """The folder of backups did not exist at the time of the erasure."""
    folder = backup_now(settings)
    elsewhere = folder.parent.rename(folder.parent.with_name("elsewhere"))
    unreached = forget_person(settings, "usr_05", TABLES).unreached
    assert unreached == (folder.parent.absolute(),)
    assert restore(settings, elsewhere / folder.name, TABLES).erased == 1
    assert b"usr_05" not in settings.database.read_bytes()
    # A repeated erasure extends the list.
    elsewhere.rename(folder.parent)
    assert read_list(folder.parent) == []
    again = forget_person(settings, "usr_05", TABLES)
    assert (again.already, again.unreached) == (True, ())
    assert {kind for kind, *_ in read_list(folder.parent)} == {"key", "user_id", "email"}


def test_a_backup_is_not_restored_without_the_key(settings: Settings, tmp_path: Path) -> None:
    folder = backup_now(settings)
    forget_person(settings, "usr_05", TABLES)
    before = everything(settings.database)
    key = key_path(settings.database)
    kept = key.rename(tmp_path / "key")
    for target in (settings, Settings(database=tmp_path / "new" / "warehouse.duckdb")):
        with pytest.raises(ForgottenKeyError, match=r"is missing\. Without the key"):
            restore(target, folder, TABLES)
    assert everything(settings.database) == before
    assert not (tmp_path / "new" / "warehouse.duckdb").exists()
    key.write_text("00" * 32)
    key.chmod(0o600)
    with pytest.raises(ForgottenKeyError, match="belongs to another warehouse"):
        restore(settings, folder, TABLES)
    kept.replace(key)
    assert restore(settings, folder, TABLES).erased == 1


def test_a_list_of_another_warehouse_is_not_extended(settings: Settings, tmp_path: Path) -> None:
    folder = backup_now(settings)
    other = Settings(database=tmp_path / "other" / "warehouse.duckdb")
    other.database.parent.mkdir()
    shutil.copy(settings.database, other.database)
    forget_person(settings, "usr_05", TABLES)
    forget_person(other, "usr_06", TABLES)
    before = files_of(folder.parent)
    with pytest.raises(ErasureListError, match="lists erasures from another warehouse"):
        back_up(other, folder.parent, NOW + timedelta(hours=1))
    assert files_of(folder.parent) == before


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("backups._copy_file", marks=pytest.mark.faults),
        pytest.param("backups.synchronize", marks=pytest.mark.faults),
        pytest.param("backups._verify", marks=pytest.mark.faults),
        pytest.param("erasure_lists.replacing_file", marks=pytest.mark.faults),
        "Path.rename",
    ],
)
def test_killed_backup_leaves_the_earlier_ones(settings: Settings, where: str) -> None:
    first = backup_now(settings)
    before, database = files_of(first), everything(settings.database)
    code, err = in_a_process(settings, f"{where} = lambda *_: os._exit(9)", BACK_UP)
    assert code == 9, err
    assert files_of(first) == before
    assert everything(settings.database) == database
    visible = [path for path in first.parent.iterdir() if not path.name.startswith(".")]
    assert sorted(path.name for path in visible) == [first.name, "forgotten.csv"]
    second = backup_now(settings, hours=1)
    assert everything(second / "warehouse.duckdb") == database
    assert not (first.parent / ".incoming").exists()


def test_killed_erasure_is_completed_next_to_the_backups(settings: Settings) -> None:
    folder = backup_now(settings)
    kill = "forget.list_beside_backups = lambda *_: os._exit(9)"
    code, err = in_a_process(settings, kill, "forget.forget_person(settings, 'usr_05', tables())")
    assert code == 9, err
    assert read_list(folder.parent) == []
    assert forget_person(settings, "usr_05", TABLES).already
    assert len(read_list(folder.parent)) == 3


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("backups._copy_file", marks=pytest.mark.faults),
        pytest.param("backups.erase_recorded", marks=pytest.mark.faults),
        pytest.param("compaction.replacing_file", marks=pytest.mark.faults),
        "Path.replace",
    ],
)
def test_killed_restore_leaves_the_database(settings: Settings, where: str) -> None:
    folder = backup_now(settings)
    forget_person(settings, "usr_05", TABLES)
    query(settings.database, CHANGE)
    before, files = everything(settings.database), files_of(folder.parent)
    code, err = in_a_process(settings, f"{where} = lambda *_: os._exit(9)", RESTORE)
    assert code == 9, err
    assert everything(settings.database) == before
    assert files_of(folder.parent) == files
    restore(settings, folder, TABLES)
    assert everything(settings.database) != before
    assert b"usr_05" not in settings.database.read_bytes()
    assert not list(settings.database.parent.glob("*.restoring*"))


def test_full_disk(settings: Settings) -> None:
    folder = backup_now(settings)
    forget_person(settings, "usr_05", TABLES)
    query(settings.database, CHANGE)
    before, files = everything(settings.database), files_of(folder.parent)
    # A limit on the size of files simulates a full disk.
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))"
    code, err = in_a_process(settings, limit, BACK_UP)
    assert code == 1
    [said] = [line for line in err.splitlines() if "BackupError: " in line]
    assert "File too large. Earlier backups are unchanged." in said
    code, err = in_a_process(settings, limit, RESTORE)
    assert code == 1
    [said] = [line for line in err.splitlines() if "RestoreError: " in line]
    assert "File too large. The current database is unchanged." in said
    assert everything(settings.database) == before
    assert files_of(folder.parent) == files
    assert not list(settings.database.parent.glob("*.restoring*"))


@pytest.mark.faults
def test_full_disk_while_people_are_erased_again(settings: Settings) -> None:
    folder = backup_now(settings)
    forget_person(settings, "usr_05", TABLES)
    before = everything(settings.database)
    room = (folder / "warehouse.duckdb").stat().st_size + 4096
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    real = "real = backups.erase_recorded"
    code, err = in_a_process(
        settings,
        f"{real}\ndef erase(*a):\n    {limit}\n    return real(*a)\nbackups.erase_recorded = erase",
        RESTORE,
    )
    if code:  # the erased rows may fit into free pages
        assert "Check that the disk has" in err
        assert everything(settings.database) == before
        assert not list(settings.database.parent.glob("*.restoring*"))


def test_a_backup_with_an_older_layout_can_be_made_and_restored(
    settings: Settings, tmp_path: Path
) -> None:
    query(settings.database, "UPDATE operations.layout SET version = 4")
    folder = backup_now(settings)
    assert snapshot(folder / "warehouse.duckdb") == snapshot(settings.database)
    restore(settings, folder, TABLES)
    assert query(settings.database, "FROM operations.layout") == [(4,)]
