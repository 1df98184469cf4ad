"""Replace a table or its days by Parquet files in one commit.

A commit removes the old files and adds the new ones in one transaction of the catalog. Readers see
all of it or nothing. The table must be loaded before the inputs are read: then a commit of another
run to the same days in the meantime is found, and this commit fails. Commits to other days do not
conflict.
"""
# Over 400 lines: a commit, its checks and its conflicts share one transaction.

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

from pyarrow import parquet
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.schema import index_by_id

from monstera_assets.warehouse.errors import (
    ConflictingWriteError,
    SchemaMismatchError,
    UnknownOutcomeError,
    WarehouseError,
)
from monstera_assets.warehouse.iceberg.materializations import (
    COMMIT_ID,
    REPLACED,
    RUN_ID,
    Materializations,
    ancestors,
    days_of,
    overlaps,
    properties_of,
    recorded,
    replaced_to_text,
)
from monstera_assets.warehouse.iceberg.stored_table import (
    StoredTable,
    condition,
    data_file,
    total_rows,
)
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

# That a window was empty is not worth a warning. The filter is set once, because changing the filters
# for each commit would affect the commits of other threads.
warnings.filterwarnings("ignore", message="Delete operation did not match any records")

_Change = Callable[[Materializations], Materializations]
"""Returns the record after a commit from the record before it."""


@dataclass(frozen=True)
class Committed:
    """The result of a commit.

    Attributes:
        rows: the number of rows in the new files.
        total_rows: the number of rows in the table.
        files: the number of new files.
    """

    rows: int
    total_rows: int
    files: int


def replace_rows(
    stored: StoredTable,
    files: Sequence[str],
    windows: Sequence[DateWindow] | None,
    *,
    time: datetime | None = None,
    run_id: str | None = None,
    as_of_date: date | None = None,
) -> Committed:
    """Replace the table, or its days in `windows`, and record that it was materialized.

    Args:
        stored: the table, loaded for writing before the inputs were read. It cannot be used for
            another commit.
        files: the URLs of the new Parquet files, each with the rows of a single day. If there are no
            files, the days become empty.
        windows: the days to replace, or None to replace an unpartitioned table.
        time: the recorded time in UTC. The default is the time after which the inputs were read.
        run_id: the run.
        as_of_date: the date that a current table describes.

    Raises:
        ConflictingWriteError: If another run replaced the same days since the table was loaded.
        SchemaMismatchError: If the columns of a file differ from the declaration.
        WarehouseError: If a file contains a day outside `windows`, or if it cannot be read.
        UnknownOutcomeError: If the connection to the catalog was lost during the commit.
    """
    if (windows is None) != (stored.declared.partition_column is None):
        raise WarehouseError(
            f"{stored.declared.qualified_name} is"
            + (
                " a daily table, so the days to replace are required."
                if windows is None
                else " not a daily table, so it can only be replaced as a whole."
            )
        )
    at = time or stored.opened_at
    written = dict.fromkeys([None] if windows is None else days_of(windows), at)
    return _commit(
        stored,
        files,
        windows,
        lambda known: Materializations({**known.times, **written}, run_id, as_of_date),
    )


def remove_days(stored: StoredTable, windows: Sequence[DateWindow]) -> Committed:
    """Remove the rows of days and the record that the days were materialized.

    Raises:
        ConflictingWriteError: If another run replaced the same days since the table was loaded.
        UnknownOutcomeError: If the connection to the catalog was lost during the commit.
    """
    removed = set(days_of(windows))
    return _commit(
        stored,
        [],
        windows,
        lambda known: replace(
            known, times={day: time for day, time in known.times.items() if day not in removed}
        ),
    )


def rewrite_files(
    stored: StoredTable, files: Sequence[str], windows: Sequence[DateWindow] | None
) -> Committed:
    """Replace files without changing the record, for example to merge or to erase rows.

    Raises:
        ConflictingWriteError: If another run replaced the same days since the table was loaded.
        SchemaMismatchError: If the columns of a file differ from the declaration.
        WarehouseError: If a file contains a day outside `windows`, or if it cannot be read.
        UnknownOutcomeError: If the connection to the catalog was lost during the commit.
    """
    return _commit(stored, files, windows, lambda known: known)


class _SnapshotProperties(Mapping[str, str]):
    """Snapshot properties that are computed from the metadata that a commit is based on.

    If another run has replaced other days in the meantime, pyiceberg repeats the commit on the new
    metadata. The record must then contain the days of the other run, too.
    """

    def __init__(self, handle: Any, compute: Callable[[Any], dict[str, str]]) -> None:
        self._handle = handle
        self._compute = compute
        self._values: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        self._values = self._compute(self._handle.metadata)
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]


def _commit(
    stored: StoredTable,
    files: Sequence[str],
    windows: Sequence[DateWindow] | None,
    change: _Change,
) -> Committed:
    table, handle = stored.declared, stored.handle
    stored.use()
    row_filter = condition(table, windows)
    base = stored.loaded.current_snapshot_id
    commit_id = uuid4().hex

    def properties(metadata: Any) -> dict[str, str]:
        _require_no_overlap(metadata, base, windows)
        return {
            **change(recorded(metadata)).properties(),
            REPLACED: replaced_to_text(windows),
            COMMIT_ID: commit_id,
        }

    urls = [_url(path) for path in files]
    transaction = handle.transaction()
    try:
        transaction.delete(row_filter)
        # An empty list, too, makes a snapshot, which carries the record.
        transaction.add_files(urls, snapshot_properties=_SnapshotProperties(handle, properties))
        rows = _verify_added(table, transaction, handle, windows)
    except WarehouseError:
        raise
    except Exception as error:  # of pyiceberg and pyarrow, about a file or its columns
        if isinstance(error, OSError):
            _require_base(stored, windows, error)
            raise WarehouseError(_not_written(table, windows, error)) from error
        found = _differences(stored, urls) or str(error)
        raise SchemaMismatchError(_not_written(table, windows, found)) from error
    try:
        transaction.commit_transaction()
    except (CommitFailedException, ValidationException) as error:
        _require_base(stored, windows, error)
        raise ConflictingWriteError(_conflict(stored, windows, error)) from error
    except Exception as error:  # of SQLAlchemy, boto3, requests and the storage
        _require_landed(stored, windows, commit_id, error)
    return Committed(rows, total_rows(handle.metadata), len(files))


def _verify_added(
    table: Table, transaction: Any, handle: Any, windows: Sequence[DateWindow] | None
) -> int:
    """Verify the staged files, which pyiceberg accepts for any day, and return the number of rows.

    Raises:
        SchemaMismatchError: If a file does not contain all columns.
        WarehouseError: If a file contains a day outside the windows.
    """
    staged = transaction.table_metadata.current_snapshot()
    schema = transaction.table_metadata.schema()
    leaves = {field_id: schema.find_column_name(field_id) for field_id in _leaves(schema)}
    rows = 0
    for manifest in staged.manifests(handle.io):
        if manifest.added_snapshot_id != staged.snapshot_id:
            continue
        for entry in manifest.fetch_manifest_entry(handle.io):
            if entry.status != ManifestEntryStatus.ADDED or entry.snapshot_id != staged.snapshot_id:
                continue
            file = entry.data_file
            missing = sorted(
                name for id_, name in leaves.items() if id_ not in (file.value_counts or {})
            )
            if missing and file.record_count:
                raise SchemaMismatchError(
                    f"{table.qualified_name} was not written: {file.file_path} has no column"
                    f" {', '.join(missing)}. Write all declared columns."
                )
            if windows is not None:
                _verify_day(table, file, schema, windows)
            rows += int(file.record_count)
    return rows


def _verify_day(table: Table, file: Any, schema: Any, windows: Sequence[DateWindow]) -> None:
    column = schema.find_field(table.partition_column)
    day = data_file(file).day
    nulls = (file.null_value_counts or {}).get(column.field_id)
    if not file.record_count:
        problem = "no rows"
    elif nulls != 0 or day is None:
        problem = f"rows without a {column.name}"
    elif any(
        (window.first <= day or (window.is_opening and table.takes_earlier_rows))
        and day <= window.last
        for window in windows
    ):
        return
    else:
        problem = f"rows for {day}, a day other than {', '.join(map(str, windows))}"
    raise WarehouseError(
        f"{table.qualified_name} was not written and is unchanged: {file.file_path} contains"
        f" {problem}. Write only the rows of the days being replaced."
    )


def _differences(stored: StoredTable, urls: Sequence[str]) -> str:
    """Return how the columns of the first file that differs from the declaration differ."""
    expected = schema_to_pyarrow(stored.handle.schema(), include_field_ids=False)
    for url in urls:
        system, path, _ = stored.filesystem(url)
        found = parquet.read_schema(path, filesystem=system)
        problems = [
            *(f"has no column {name}" for name in expected.names if name not in found.names),
            *(
                f"has {name}, which is not declared"
                for name in found.names
                if name not in expected.names
            ),
            *(
                f"{name} is {_type(found, name)} but is declared as {_type(expected, name)}"
                for name in found.names
                if name in expected.names and _type(found, name) != _type(expected, name)
            ),
        ]
        if problems:
            return f"{url}: {'; '.join(problems)}."
    return ""


def _type(schema: Any, name: str) -> str:
    return str(schema.field(name).type).replace("large_", "")


def _leaves(schema: Any) -> Iterator[int]:
    """Yield the ids of the columns without parts, for which files have statistics."""
    for field_id, found in index_by_id(schema).items():
        if found.field_type.is_primitive:
            yield field_id


def _require_no_overlap(
    metadata: Any, base: int | None, windows: Sequence[DateWindow] | None
) -> None:
    """Verify that no run has replaced the same days since the table was loaded.

    pyiceberg compares files, so it does not find that another run left the same days empty.
    """
    for snapshot in ancestors(metadata, base):
        replaced = properties_of(snapshot).get(REPLACED)
        if replaced is not None and overlaps(replaced, windows):
            raise ValidationException(f"Snapshot {snapshot.snapshot_id} replaced {replaced}.")


def _require_base(
    stored: StoredTable, windows: Sequence[DateWindow] | None, error: Exception
) -> None:
    """Verify that the snapshot that was loaded still exists, since conflicts are found from it.

    Raises:
        ConflictingWriteError: If the snapshot was removed.
    """
    base = stored.loaded.current_snapshot_id
    if base is None or stored.handle.refresh().metadata.snapshot_by_id(base) is not None:
        return
    raise ConflictingWriteError(
        f"{stored.declared.qualified_name} was not written: this run was to replace"
        f" {_days(windows)}, but after it began, a clean-up has removed the snapshot that the run"
        " read. Run the same command again, and let the clean-up keep snapshots for longer than the"
        " longest run."
    ) from error


def _require_landed(
    stored: StoredTable, windows: Sequence[DateWindow] | None, commit_id: str, error: Exception
) -> None:
    """After an unexpected error, return if the commit was applied all the same.

    Raises:
        WarehouseError: If the files of the commit could not be written.
        UnknownOutcomeError: If the commit was not applied, or if that cannot be found out.
    """
    table = stored.declared
    try:
        stored.handle.refresh()
        found = any(
            properties_of(snapshot).get(COMMIT_ID) == commit_id
            for snapshot in ancestors(stored.handle.metadata)
        )
    except Exception:  # the catalog is still unreachable
        found = False
    if found:
        return
    if isinstance(error, OSError) and error.errno is not None:  # such as a full disk
        raise WarehouseError(_not_written(table, windows, error)) from error
    raise UnknownOutcomeError(
        f"{table.qualified_name}: the commit of {_days(windows)} was not confirmed: {error} Readers"
        " see either all of the old rows or all of the new rows. Check that the catalog can be"
        " reached, then run the same command again."
    ) from error


def _conflict(stored: StoredTable, windows: Sequence[DateWindow] | None, error: Exception) -> str:
    name = stored.declared.qualified_name
    if isinstance(error, CommitFailedException):
        return (
            f"{name} was not written: other runs committed other days at the same time, again and"
            f" again ({error}). Run the same command again, or start fewer runs at once."
        )
    base = stored.loaded.current_snapshot_id
    others = [
        snapshot
        for snapshot in ancestors(stored.handle.metadata, base)
        if REPLACED in properties_of(snapshot)
        and overlaps(properties_of(snapshot)[REPLACED], windows)
    ]
    if others:
        run = properties_of(others[0]).get(RUN_ID)
        moment = datetime.fromtimestamp(others[0].timestamp_ms / 1000, UTC)
        who = f"another run{f' ({run})' if run else ''} replaced" + (
            f" {properties_of(others[0])[REPLACED]} at {moment:%Y-%m-%d %H:%M:%S} UTC"
        )
    else:
        who = f"another program changed the same rows ({error})"
    return (
        f"{name} was not written: this run was to replace {_days(windows)}, but after it began,"
        f" {who}. The table contains the rows of the other. Do not compute the same days twice at a"
        " time. If this run's source is newer, run the same command again."
    )


def _not_written(table: Table, windows: Sequence[DateWindow] | None, error: Exception | str) -> str:
    return (
        f"{table.qualified_name} ({_days(windows)}) was not written and is unchanged: {error} Correct"
        " the cause, then run the same command again."
    )


def _days(windows: Sequence[DateWindow] | None) -> str:
    return "all rows" if windows is None else ", ".join(map(str, windows))


def _url(path: str) -> str:
    return f"file://{path}" if path.startswith("/") else path
