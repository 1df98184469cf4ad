"""Test loads of several tables, clean-up, and the merging of small files."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monstera_assets.warehouse.errors import ConflictingWriteError, WarehouseError
from monstera_assets.warehouse.iceberg.cleanup import clean_up
from monstera_assets.warehouse.iceberg.loads import Load, incomplete_days
from monstera_assets.warehouse.iceberg.merging import Merged, merge_small_files
from monstera_assets.warehouse.iceberg.replacement import replace_rows
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.tables import Column
from monstera_assets_tests.spark.iceberg_tables import (
    ACCEPTED,
    CURRENT,
    HISTORY,
    JUNE,
    LEDGER,
    REJECTED,
    catalog_in,
    content,
    fetched,
    of_versions,
    replace_days,
    table,
    window,
    write_days,
    write_query,
)

pytestmark = pytest.mark.spark

PARTS = table("parts", Column("parts", "array<struct<n: int64>>", "."))
TABLES = (ACCEPTED, REJECTED, LEDGER)


def files_of(load: Load, version: int) -> dict[str, list[str]]:
    """Write two days of each table."""
    return {name: write_days(stored, JUNE[:2], version) for name, stored in load.tables.items()}


def test_a_load_writes_all_tables_with_one_time(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    assert incomplete_days(catalog, TABLES) == []
    load = Load.open(catalog, TABLES)
    done = load.replace(files_of(load, 1), [window(1, 2)], "run 1")
    assert {name: each.rows for name, each in done.items()} == dict.fromkeys(load.tables, 6)
    for each in TABLES:
        stored = catalog.stored(each)
        assert content(stored) == of_versions((window(1, 2), 1))
        assert set(stored.materializations.times.values()) == {load.time}
        assert stored.materializations.run_id == "run 1"
    assert incomplete_days(catalog, TABLES) == []


@pytest.mark.parametrize("reached", [1, 2])
def test_a_load_that_ends_between_is_found_and_repaired(
    tmp_path: Path, uri: str, reached: int
) -> None:
    catalog = catalog_in(tmp_path, uri)
    load = Load.open(catalog, TABLES)
    load.replace(files_of(load, 1), [window(1, 2)])
    partial = Load.open(catalog, TABLES)
    for stored in list(partial.tables.values())[:reached]:
        files = write_days(stored, [JUNE[1]], 2)
        replace_rows(stored, files, [window(2)], time=partial.time)
    assert incomplete_days(catalog, TABLES) == [JUNE[1]]

    load = Load.open(catalog, TABLES)
    load.replace(files_of(load, 3), [window(1, 2)])
    assert incomplete_days(catalog, TABLES) == []
    assert all(content(catalog.stored(each)) == of_versions((window(1, 2), 3)) for each in TABLES)


def test_a_load_that_overtakes_another_does_not_look_complete(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    slow = Load.open(catalog, TABLES)
    accepted, rejected, ledger = slow.tables.values()
    replace_rows(accepted, write_days(accepted, JUNE[:1], 1), [window(1)], time=slow.time)
    fast = Load.open(catalog, TABLES)
    replace_rows(rejected, write_days(rejected, JUNE[:1], 1), [window(1)], time=slow.time)
    with pytest.raises(ConflictingWriteError, match="silver_rejected was not written"):
        fast.replace({name: [] for name in fast.tables}, [window(1)])
    replace_rows(ledger, write_days(ledger, JUNE[:1], 1), [window(1)], time=slow.time)
    assert incomplete_days(catalog, TABLES) == [JUNE[0]]


def test_a_load_with_an_unpartitioned_table(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    mixed = (HISTORY, CURRENT)
    load = Load.open(catalog, mixed)
    load.replace({HISTORY.name: [], CURRENT.name: []}, [window(1)])
    assert incomplete_days(catalog, mixed) == []
    whole = (CURRENT, table("summary", daily=False))
    load = Load.open(catalog, whole)
    load.replace({name: [] for name in load.tables}, None)
    assert incomplete_days(catalog, whole) == []
    replace_rows(catalog.opened(CURRENT), [], None)
    assert incomplete_days(catalog, whole) == [None]


def test_a_load_without_files_for_a_table_writes_nothing(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    load = Load.open(catalog, TABLES)
    with pytest.raises(WarehouseError, match="but the files of silver_accepted are given"):
        load.replace({ACCEPTED.name: []}, [window(1)])
    assert catalog.stored(ACCEPTED).materialized_days == set()


# ---------------------------------------------------------------- clean-up


def files_below(stored: StoredTable) -> set[Path]:
    """Return the files of a local table."""
    folder = Path(stored.location.removeprefix("file://"))
    return {path for path in folder.rglob("*") if path.is_file()}


def make_older(stored: StoredTable, hours: float) -> None:
    """Set the time of all files of a local table back."""
    for path in files_below(stored):
        time = path.stat().st_mtime - hours * 3600
        os.utime(path, (time, time))


def in_hours(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def test_clean_up_deletes_unreferenced_files_only(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    for version in (1, 2, 3):
        replace_days(catalog.opened(HISTORY), window(1, 4), version)
    abandoned = catalog.opened(HISTORY)
    write_days(abandoned, JUNE[:2], 9)  # of a run that was killed before its commit
    before = files_below(abandoned)
    data = {path for path in before if path.suffix == ".parquet"}
    assert len(data) == 3 * 4 + 2

    done = clean_up(catalog.opened(HISTORY), in_hours(1))
    stored = catalog.stored(HISTORY)
    after = files_below(stored)
    assert {path for path in after if path.suffix == ".parquet"} == {
        Path(file.url.removeprefix("file://")) for file in stored.data_files()
    }
    assert (done.snapshots, done.files) == (4, len(before - after))  # two commits of two snapshots
    assert done.size > 0
    assert content(stored) == of_versions((window(1, 4), 3))
    assert stored.materialized_days == set(JUNE[:4])
    assert [each.suffix for each in after].count(".json") == 5  # of 5 changes
    # Afterwards, writing and cleaning up again works.
    replace_days(catalog.opened(HISTORY), window(2), 4)
    assert content(catalog.stored(HISTORY))[1] == (JUNE[1], 4, 3)
    assert clean_up(catalog.opened(HISTORY), in_hours(-1)).files == 0


def test_clean_up_keeps_what_a_job_may_read_or_commit(tmp_path: Path) -> None:
    """A snapshot that was current an hour ago is kept, even if it was made days ago."""
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    replace_days(catalog.opened(HISTORY), window(1), 1)
    reading = catalog.stored(HISTORY).duckdb_rows()
    first = catalog.stored(HISTORY).handle.current_snapshot().timestamp_ms
    make_older(catalog.opened(HISTORY), 48)
    running = catalog.opened(HISTORY)
    uncommitted = write_days(running, JUNE[2:3], 3)
    replace_days(catalog.opened(HISTORY), window(1), 2)
    # One millisecond after the first commit, but before the second commit.
    between = datetime.fromtimestamp((first + 1) / 1000, UTC)
    done = clean_up(catalog.opened(HISTORY), between)
    assert (done.snapshots, done.files) == (0, 0)
    assert fetched(f"SELECT DISTINCT version FROM ({reading})") == [(1,)]
    replace_rows(running, uncommitted, [window(3)])
    assert content(catalog.stored(HISTORY)) == of_versions((window(1), 2), (window(3), 3))


def test_a_writer_older_than_the_clean_up_fails_loudly(tmp_path: Path) -> None:
    """Its conflicts can no longer be found."""
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    replace_days(catalog.opened(HISTORY), window(1), 1)
    late = catalog.opened(HISTORY)
    replace_days(catalog.opened(HISTORY), window(1), 2)
    clean_up(catalog.opened(HISTORY), in_hours(1))
    with pytest.raises(ConflictingWriteError, match="a clean-up has removed the snapshot"):
        replace_days(late, window(5), 3)


def test_old_metadata_and_manifests_do_not_pile_up(tmp_path: Path) -> None:
    """The manifests of the first 30 commits are merged. Each later one adds a manifest."""
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    for number in range(35):
        day = window(1 + number % 30)
        stored = catalog.opened(HISTORY)
        replace_rows(stored, write_days(stored, day, number), [day])
    stored = catalog.stored(HISTORY)
    assert sum(path.suffix == ".json" for path in files_below(stored)) == 21
    assert len(stored.handle.current_snapshot().manifests(stored.handle.io)) == 6
    assert len(stored.data_files()) == 30


# ---------------------------------------------------------------- small files


def test_small_files_of_a_day_are_merged(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    stored = catalog.opened(PARTS)
    part = (
        "SELECT DATE '{day}' AS day, {n}::BIGINT AS number, 1::BIGINT AS version,"
        " CAST({parts} AS STRUCT(n BIGINT)[]) AS parts"
    )
    parts = {0: "[{'n': 5::BIGINT}, NULL]", 1: "[]", 2: "NULL"}
    files = [
        write_query(stored, part.format(day=day, n=n, parts=parts[n]))
        for day, numbers in ((JUNE[0], (0, 1, 2)), (JUNE[1], (0,)), (JUNE[2], (1, 2)))
        for n in numbers
    ]
    replace_rows(stored, files, [window(1, 3)], run_id="run 1")
    before = catalog.stored(PARTS)
    rows = "SELECT * FROM ({}) ORDER BY day, number"
    expected = fetched(rows.format(before.duckdb_rows()))
    assert [row[1:] for row in expected[:3]] == [
        (0, 1, [{"n": 5}, None]),
        (1, 1, []),
        (2, 1, None),
    ]
    late = catalog.opened(PARTS)

    assert merge_small_files(catalog.opened(PARTS)) == Merged(before=5, after=2)
    after = catalog.stored(PARTS)
    assert [(file.day, file.rows) for file in after.data_files()] == [
        (JUNE[0], 3),
        (JUNE[1], 1),
        (JUNE[2], 2),
    ]
    assert after.data_files()[1] in before.data_files()
    assert fetched(rows.format(after.duckdb_rows())) == expected
    assert after.materializations == before.materializations
    assert merge_small_files(catalog.opened(PARTS)) == Merged(0, 0)
    with pytest.raises(ConflictingWriteError, match="silver_parts was not written"):
        merge_small_files(late)


def test_merged_files_have_about_the_target_size(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    stored = catalog.opened(CURRENT)
    query = (
        "SELECT {n} * 1000 + i AS number, (hash(i) % 1000000)::BIGINT AS version"
        " FROM range(1000) AS t(i)"
    )
    files = [write_query(stored, query.format(n=n)) for n in range(10)]
    replace_rows(stored, files, None)
    size = sum(file.size for file in catalog.stored(CURRENT).data_files())
    assert merge_small_files(catalog.opened(CURRENT), size // 3) == Merged(before=10, after=3)
    stored = catalog.stored(CURRENT)
    assert sorted(file.rows for file in stored.data_files()) == [3332, 3334, 3334]
    found = f"SELECT count(DISTINCT number), min(number), max(number) FROM ({stored.duckdb_rows()})"
    assert fetched(found) == [(10_000, 0, 9_999)]
