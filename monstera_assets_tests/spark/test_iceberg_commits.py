"""Test commits of days and tables: what they replace, and conflicts between writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestWriterV2,
)

from monstera_assets.warehouse.errors import (
    ConflictingWriteError,
    MissingTableError,
    SchemaMismatchError,
    WarehouseError,
)
from monstera_assets.warehouse.iceberg.replacement import (
    remove_days,
    replace_rows,
    rewrite_files,
)
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.spark.iceberg_tables import (
    CURRENT,
    HISTORY,
    JUNE,
    ROWS,
    catalog_in,
    content,
    of_versions,
    replace_days,
    table,
    window,
    write_days,
    write_query,
)

pytestmark = pytest.mark.spark


def test_days_are_replaced_and_others_stay(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    first = replace_days(catalog.opened(HISTORY), window(1, 5), 1)
    assert (first.rows, first.total_rows, first.files) == (5 * ROWS, 5 * ROWS, 5)

    again = replace_days(catalog.opened(HISTORY), window(3, 4), 2)
    assert (again.rows, again.total_rows) == (2 * ROWS, 5 * ROWS)

    stored = catalog.stored(HISTORY)
    assert content(stored) == of_versions((window(1, 2), 1), (window(3, 4), 2), (window(5), 1))
    assert content(stored, [window(2, 3)]) == of_versions((window(2), 1), (window(3), 2))
    assert content(stored, [window(1), window(5, 6)]) == of_versions((window(1), 1), (window(5), 1))
    assert stored.materialized_days == set(JUNE[:5])
    assert stored.latest_day == date(2025, 6, 5)
    assert stored.total_rows == 5 * ROWS


def test_days_become_empty_and_stay_materialized(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    replace_days(catalog.opened(HISTORY), window(1, 3), 1)

    stored = catalog.opened(HISTORY)
    replace_rows(stored, write_days(stored, [JUNE[1]], 2), [window(1, 3)])
    assert content(catalog.stored(HISTORY)) == of_versions((window(2), 2))

    replace_rows(catalog.opened(HISTORY), [], [window(1, 4)])
    stored = catalog.stored(HISTORY)
    assert content(stored) == []
    assert content(stored, [window(2)]) == []
    assert stored.data_files() == []
    assert stored.materialized_days == set(JUNE[:4])


def test_a_new_table_is_empty(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    with pytest.raises(MissingTableError, match=r"silver\.silver_history .* never materialized"):
        catalog.stored(HISTORY)
    catalog.opened(HISTORY)
    stored = catalog.stored(HISTORY)
    assert content(stored) == []
    assert not stored.materialized_days
    assert (stored.latest_day, stored.total_rows) == (None, 0)


def test_an_unpartitioned_table_is_replaced_as_a_whole(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    for version, as_of in ((1, date(2025, 6, 1)), (2, date(2025, 6, 2))):
        stored = catalog.opened(CURRENT)
        files = [
            write_query(stored, f"SELECT {n}::BIGINT AS number, {version}::BIGINT AS version")
            for n in range(version)
        ]
        replace_rows(stored, files, None, run_id=f"run {version}", as_of_date=as_of)
    stored = catalog.stored(CURRENT)
    assert stored.total_rows == 2
    assert len(stored.data_files()) == 2
    assert (stored.materializations.run_id, stored.materializations.as_of_date) == (
        "run 2",
        date(2025, 6, 2),
    )
    assert list(stored.materializations.times) == [None]
    one, other = catalog.opened(CURRENT), catalog.opened(CURRENT)
    replace_rows(one, [], None)
    with pytest.raises(ConflictingWriteError):
        replace_rows(other, files, None)
    assert catalog.stored(CURRENT).total_rows == 0


def test_the_opening_window_contains_earlier_days(tmp_path: Path, uri: str) -> None:
    facts = table("facts", takes_earlier_rows=True)
    catalog = catalog_in(tmp_path, uri)
    for version in (1, 2):
        stored = catalog.opened(facts)
        files = write_days(stored, [date(2019, 2, 3), *JUNE[:2]], version)
        replace_rows(stored, files, [window(1, 2, is_opening=True)])
    replace_days(catalog.opened(facts), window(2), 3)
    stored = catalog.stored(facts)
    assert content(stored) == [(date(2019, 2, 3), 2, 3), (JUNE[0], 2, 3), (JUNE[1], 3, 3)]
    assert stored.materialized_days == set(JUNE[:2])
    assert content(stored, [window(1, 1, is_opening=True)]) == content(stored)[:2]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (window(2, 4), window(2, 4)),
        (window(2, 4), window(4, 6)),
        (window(2, 4), window(3)),
        (window(20), window(20)),  # a window that was empty before
    ],
    ids=["same", "overlapping", "inside", "was empty"],
)
def test_of_two_writers_of_one_window_one_fails(
    tmp_path: Path, uri: str, mine: DateWindow, theirs: DateWindow
) -> None:
    catalog = catalog_in(tmp_path, uri)
    replace_days(catalog.opened(HISTORY), window(1, 9), 1)
    late, fast = catalog.opened(HISTORY), catalog_in(tmp_path, uri).opened(HISTORY)
    replace_rows(fast, write_days(fast, theirs, 2), [theirs], run_id="run of others")
    before = content(catalog.stored(HISTORY))
    with pytest.raises(ConflictingWriteError) as raised:
        replace_days(late, mine, 3)
    message = str(raised.value)
    assert f"silver.silver_history was not written: this run was to replace {mine}, but" in message
    assert f"another run (run of others) replaced {theirs.first}/{theirs.last} at 2" in message
    assert "run the same command again" in message
    assert content(catalog.stored(HISTORY)) == before
    # The losing run left neither rows nor metadata that stop a repetition.
    replace_days(catalog.opened(HISTORY), mine, 3)
    assert content(catalog.stored(HISTORY), [mine]) == of_versions((mine, 3))


@pytest.mark.parametrize("fast_version", [None, 2], ids=["emptied", "filled"])
@pytest.mark.parametrize("late_version", [None, 3], ids=["empties", "fills"])
@pytest.mark.parametrize("was_empty", [False, True], ids=["full", "empty"])
def test_empty_windows_conflict_too(
    tmp_path: Path, fast_version: int | None, late_version: int | None, *, was_empty: bool
) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    days = window(9) if was_empty else window(1)
    replace_days(catalog.opened(HISTORY), window(1, 2), 1)
    late, fast = catalog.opened(HISTORY), catalog.opened(HISTORY)
    replace_rows(fast, write_days(fast, days, fast_version) if fast_version else [], [days])
    files = write_days(late, days, late_version) if late_version else []
    with pytest.raises(ConflictingWriteError):
        replace_rows(late, files, [days])
    expected = of_versions((days, fast_version)) if fast_version else []
    assert content(catalog.stored(HISTORY), [days]) == expected


def test_writers_of_other_windows_all_succeed(tmp_path: Path, uri: str) -> None:
    """The record also contains the days of all writers, although each opened the empty table."""
    catalog_in(tmp_path, uri).opened(HISTORY)

    def write(writer: int) -> None:
        catalog = catalog_in(tmp_path, uri)
        for commit in range(5):
            replace_days(catalog.opened(HISTORY), window(1 + writer * 5 + commit), writer)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    stored = catalog_in(tmp_path, uri).stored(HISTORY)
    assert content(stored) == of_versions(*((window(day), (day - 1) // 5) for day in range(1, 21)))
    assert stored.materialized_days == set(JUNE[:20])


def test_writers_of_a_new_warehouse_all_succeed(tmp_path: Path, uri: str) -> None:
    """Each creates the catalog, the namespace and the table, unless another was faster."""

    def write(day: int) -> None:
        replace_days(catalog_in(tmp_path, uri).opened(HISTORY), window(day), day)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    expected = of_versions(*((window(day), day) for day in range(1, 5)))
    assert content(catalog_in(tmp_path, uri).stored(HISTORY)) == expected


def test_stale_writers_of_other_windows_succeed(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    writers = {day: catalog.opened(HISTORY) for day in (1, 2, 3)}
    for day, stored in writers.items():
        replace_days(stored, window(day), day)
    stored = catalog.stored(HISTORY)
    assert content(stored) == of_versions(*((window(day), day) for day in (1, 2, 3)))
    times = stored.materializations.times
    assert [times[day] for day in JUNE[:3]] == [each.opened_at for each in writers.values()]


def test_a_table_is_opened_for_each_commit(tmp_path: Path) -> None:
    """A second commit would not find what others have committed since the table was opened."""
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    stored = catalog.opened(HISTORY)
    replace_days(stored, window(1), 1)
    with pytest.raises(RuntimeError, match="must be opened for each commit"):
        replace_days(stored, window(2), 1)


def test_removed_days_are_no_longer_materialized(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    replace_days(catalog.opened(HISTORY), window(1, 5), 1)
    late = catalog.opened(HISTORY)
    remove_days(catalog.opened(HISTORY), [window(1, 3)])
    stored = catalog.stored(HISTORY)
    assert content(stored) == of_versions((window(4, 5), 1))
    assert stored.materialized_days == {JUNE[3], JUNE[4]}
    with pytest.raises(ConflictingWriteError):
        replace_days(late, window(3, 4), 2)


def test_rewritten_files_keep_the_record(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    stored = catalog.opened(HISTORY)
    replace_rows(stored, write_days(stored, JUNE[:2], 1), [window(1, 2)], run_id="run 1")
    before = catalog.stored(HISTORY).materializations
    stored = catalog.opened(HISTORY)
    rewrite_files(stored, write_days(stored, [JUNE[0]], 7), [window(1)])
    stored = catalog.stored(HISTORY)
    assert content(stored) == of_versions((window(1), 7), (window(2), 1))
    assert stored.materializations == before


NUMBERS = "i AS number, 1::BIGINT AS version FROM range(3) AS t(i)"


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (
            f"SELECT DATE '2025-06-03' AS day, {NUMBERS}",
            WarehouseError,
            "rows for 2025-06-03, a day other than 2025-06-01 to 2025-06-02",
        ),
        (
            f"SELECT CASE WHEN i = 0 THEN NULL ELSE DATE '2025-06-01' END AS day, {NUMBERS}",
            WarehouseError,
            "rows without a day",
        ),
        (f"SELECT CAST(NULL AS DATE) AS day, {NUMBERS}", WarehouseError, "rows without a day"),
        (f"SELECT DATE '2025-06-01' AS day, {NUMBERS} WHERE false", WarehouseError, "no rows"),
        (
            f"SELECT DATE '2025-06-01' + i::INTEGER AS day, {NUMBERS}",
            WarehouseError,
            "Cannot infer partition value",
        ),
        (
            "SELECT DATE '2025-06-01' AS day, i AS number FROM range(3) AS t(i)",
            SchemaMismatchError,
            "has no column version. Write all declared columns.",
        ),
        (
            f"SELECT DATE '2025-06-01' AS day, 1 AS added, {NUMBERS}",
            SchemaMismatchError,
            "part.parquet: has added, which is not declared. Correct the cause",
        ),
        (
            "SELECT DATE '2025-06-01' AS day, 1::HUGEINT AS number, 1::BIGINT AS version",
            SchemaMismatchError,
            "part.parquet: number is double but is declared as int64. Correct the cause",
        ),
    ],
    ids=["other day", "null", "only nulls", "no rows", "two days", "missing", "undeclared", "type"],
)
def test_wrong_files_are_refused(
    tmp_path: Path, query: str, error: type[WarehouseError], message: str
) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    replace_days(catalog.opened(HISTORY), window(1, 2), 1)
    before = content(catalog.stored(HISTORY))
    stored = catalog.opened(HISTORY)
    with pytest.raises(error) as raised:
        replace_rows(stored, [write_query(stored, query)], [window(1, 2)])
    assert message in str(raised.value)
    assert "silver.silver_history" in str(raised.value)
    stored = catalog.stored(HISTORY)
    assert content(stored) == before
    assert len(stored.handle.snapshots()) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    with pytest.raises(WarehouseError, match=r"silver_history \(2025-06-01\) was not written"):
        replace_rows(catalog.opened(HISTORY), [f"file://{tmp_path}/x.parquet"], [window(1)])
    with pytest.raises(WarehouseError, match="the days to replace are required"):
        replace_rows(catalog.opened(HISTORY), [], None)
    with pytest.raises(WarehouseError, match="can only be replaced as a whole"):
        replace_rows(catalog.opened(CURRENT), [], [window(1)])


class _DeletesWriter(ManifestWriterV2):  # type: ignore[misc]  # no stubs
    """Write manifests of delete files, which pyiceberg itself only reads."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def test_row_level_deletes_of_another_program_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of files would contain the deleted rows. Replacing the day removes the deletes."""
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    replace_days(catalog.opened(HISTORY), window(1, 2), 1)
    stored = catalog.opened(HISTORY)
    [first, _] = stored.data_files()
    deletes = tmp_path / "deletes.parquet"
    parquet.write_table(
        pa.table({"file_path": [first.url], "pos": pa.array([0], pa.int64())}), deletes
    )
    [task] = stored.handle.scan(row_filter="day = '2025-06-01'").plan_files()
    monkeypatch.setattr(
        "pyiceberg.table.update.snapshot.write_manifest",
        lambda format_version, **named: _DeletesWriter(**named),
    )
    with (
        stored.handle.transaction() as transaction,
        transaction.update_snapshot().fast_append() as append,
    ):
        append.append_data_file(
            DataFile.from_args(
                content=DataFileContent.POSITION_DELETES,
                file_path=f"file://{deletes}",
                file_format=FileFormat.PARQUET,
                partition=task.file.partition,
                record_count=1,
                file_size_in_bytes=deletes.stat().st_size,
                spec_id=stored.handle.spec().spec_id,
            )
        )
    monkeypatch.undo()
    assert len(catalog.stored(HISTORY).handle.scan().to_arrow()) == 2 * ROWS - 1

    message = r"silver\.silver_history has row-level deletes, .* Materialize the days again"
    with pytest.raises(WarehouseError, match=message):
        catalog.stored(HISTORY).data_files()
    with pytest.raises(WarehouseError, match=message):
        catalog.stored(HISTORY).duckdb_rows([window(1)])
    replace_days(catalog.opened(HISTORY), window(1), 2)
    assert content(catalog.stored(HISTORY)) == of_versions((window(1), 2), (window(2), 1))
