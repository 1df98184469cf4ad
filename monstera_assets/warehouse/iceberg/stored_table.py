"""Read an Iceberg table: its data files, its record and the rows in DuckDB.

Readers read the list of a table's data files. The list is the table only if there are no row-level
deletes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from pyarrow import dataset as datasets
from pyarrow import fs as storage
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    LessThanOrEqual,
    Or,
)
from pyiceberg.io.pyarrow import schema_to_pyarrow

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.iceberg.materializations import Materializations, recorded
from monstera_assets.warehouse.tables import Column, Table
from monstera_assets.warehouse.windows import DateWindow

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class DataFile:
    """A data file.

    Attributes:
        url: the file's URL.
        day: the day of all of its rows, or None in an unpartitioned table.
        rows: its number of rows.
        size: its size in bytes.
    """

    url: str
    day: date | None
    rows: int
    size: int


class StoredTable:
    """A table as it was when it was loaded.

    Args:
        declared: the declaration.
        handle: the pyiceberg table.
    """

    def __init__(self, declared: Table, handle: Any) -> None:
        self.declared = declared
        self.handle = handle
        self.loaded = handle.metadata
        """The metadata at the time of loading. A commit changes the handle's metadata."""
        self.opened_at = self.next_time
        self._used = False

    @cached_property
    def materializations(self) -> Materializations:
        """The materialized days and their times, the run and the as-of date."""
        return recorded(self.loaded)

    @property
    def materialized_days(self) -> frozenset[date]:
        """A daily table's materialized days."""
        return self.materializations.days

    def use(self) -> None:
        """Note that a commit begins.

        Raises:
            RuntimeError: If the table was used for a commit before. The second commit would not find
                what other runs have committed since the table was loaded.
        """
        if self._used:
            raise RuntimeError(f"{self.declared.qualified_name} must be opened for each commit.")
        self._used = True

    @property
    def next_time(self) -> datetime:
        """The time of a new record in UTC: now, or just after the table's latest record."""
        now = datetime.now(UTC).replace(tzinfo=None)
        latest = max(self.materializations.times.values(), default=None)
        return now if latest is None else max(now, latest + timedelta(microseconds=1))

    @property
    def snapshot_id(self) -> int | None:
        """The id of the snapshot that is read, or None if nothing was ever committed."""
        return _snapshot_id(self.loaded)

    @property
    def total_rows(self) -> int:
        """The number of rows, which is read from the snapshot's summary."""
        return total_rows(self.loaded)

    def data_files(self, windows: Iterable[DateWindow] | None = None) -> list[DataFile]:
        """Return the data files of all rows, or of a daily table's rows in windows, in order.

        Raises:
            WarehouseError: If the table has row-level deletes.
        """
        scan = self.handle.scan(
            row_filter=condition(self.declared, None if windows is None else list(windows)),
            snapshot_id=_snapshot_id(self.loaded),
        )
        tasks = list(scan.plan_files()) if self.loaded.current_snapshot_id is not None else []
        if any(task.delete_files for task in tasks):
            raise WarehouseError(
                f"{self.declared.qualified_name} has row-level deletes, which another program"
                " wrote, so its data files contain deleted rows. Materialize the days again, or"
                " rewrite the files in that program, for example with Spark's procedure"
                " rewrite_data_files, and set write.delete.mode, write.update.mode and"
                " write.merge.mode to copy-on-write."
            )
        found = [data_file(task.file) for task in tasks]
        return sorted(found, key=lambda file: (file.day or date.min, file.url))

    @cached_property
    def latest_day(self) -> date | None:
        """The latest day of a daily table's rows, or None if it has no rows."""
        return max((file.day for file in self.data_files() if file.day is not None), default=None)

    def new_folder(self) -> str:
        """Return the URL of a new folder for data files, below the table's folder."""
        return f"{self.location}/data/{uuid4().hex}"

    @property
    def location(self) -> str:
        """The URL of the table's folder."""
        return str(self.handle.location()).rstrip("/")

    def files_in(self, folder: str) -> list[str]:
        """Return the URLs of the Parquet files that an engine has written into a folder.

        Files of unfinished tasks, whose paths contain `_temporary`, are left out.
        """
        return sorted(
            url
            for url, info in self.stored_files(folder)
            if info.extension == "parquet" and "_temporary" not in PurePosixPath(info.path).parts
        )

    def stored_files(self, folder: str) -> Iterator[tuple[str, storage.FileInfo]]:
        """Yield the URL and the information of each file below a folder, which need not exist."""
        system, path, prefix = self.filesystem(folder)
        for info in system.get_file_info(
            storage.FileSelector(path, recursive=True, allow_not_found=True)
        ):
            if info.type == storage.FileType.File:
                yield f"{prefix}{info.path}", info

    def filesystem(self, url: str) -> tuple[storage.FileSystem, str, str]:
        """Return the file system, the path in it, and what to put before a path to form a URL."""
        io = self.handle.io
        scheme, netloc, path = io.parse_location(url)
        return io.fs_by_scheme(scheme, netloc), path, f"{scheme}://"

    def duckdb_rows(self, windows: Sequence[DateWindow] | None = None) -> str:
        """Return a DuckDB query for the rows, with the declared types and the trend flags.

        A column that was added later is null in older files. DuckDB must be able to read the files'
        URLs: it needs the extension `httpfs` for `s3://` and `azure` for `abfss://`.
        """
        listed = ", ".join(
            _literal(file.url.removeprefix("file://")) for file in self.data_files(windows)
        )
        # The folder names of files that Spark writes repeat the day, under another column name.
        files = f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
        return typed_rows(
            self.declared, f"SELECT * FROM {files}" if listed else None, self.latest_day
        )

    def dataset(self, windows: Sequence[DateWindow] | None = None) -> datasets.Dataset:
        """Return the stored columns of the rows as a dataset, read with the catalog's credentials.

        DuckDB can query a dataset without an extension, with `connection.register` and `typed_rows`.
        """
        return self.dataset_of(self.data_files(windows))

    def dataset_of(self, files: Sequence[DataFile]) -> datasets.Dataset:
        """Return the stored columns of the rows in data files as a dataset."""
        schema = schema_to_pyarrow(self.handle.schema(), include_field_ids=False)
        paths = [self.filesystem(file.url)[1] for file in files]
        if not paths:
            return datasets.dataset(schema.empty_table())
        system, _, _ = self.filesystem(self.location)
        return datasets.dataset(paths, schema=schema, format="parquet", filesystem=system)


def typed_rows(table: Table, select: str | None, latest_day: date | None) -> str:
    """Return a DuckDB query for stored rows, with the declared types and the trend flags.

    Args:
        table: the declaration.
        select: a DuckDB query for the stored columns, or None if there are no files.
        latest_day: the latest day of the table's rows.
    """
    typed = ", ".join(
        f"CAST(NULL AS {column.stored_type}) AS {_quote(column.name)}"
        for column in table.data_columns
    )
    # The relation without rows gives each column a type, even if no file contains the column.
    rows = f"SELECT {typed} WHERE false"
    if select is not None:
        rows += f" UNION ALL BY NAME ({select})"
    projection = ", ".join(_read(table, column, latest_day) for column in table.columns)
    return f"SELECT {projection} FROM ({rows})"


def condition(table: Table, windows: Sequence[DateWindow] | None) -> BooleanExpression:
    """Return the condition for the rows in windows, or for all rows."""
    if windows is None:
        return AlwaysTrue()
    if table.partition_column is None:
        raise WarehouseError(
            f"{table.qualified_name} is not a daily table, so it has no days to read or replace."
        )
    if not windows:
        raise WarehouseError(f"{table.qualified_name}: no days to read or replace are given.")
    day = table.partition_column
    ranges: list[BooleanExpression] = []
    for window in windows:
        last = LessThanOrEqual(day, window.last.isoformat())
        if window.is_opening and table.takes_earlier_rows:
            ranges.append(last)
        else:
            ranges.append(And(GreaterThanOrEqual(day, window.first.isoformat()), last))
    return Or(*ranges) if len(ranges) > 1 else ranges[0]


def data_file(file: Any) -> DataFile:
    """Convert pyiceberg's data file."""
    return DataFile(
        str(file.file_path), _day(file), int(file.record_count), int(file.file_size_in_bytes)
    )


def total_rows(metadata: Any) -> int:
    """Return the number of rows from the summary of the current snapshot."""
    snapshot = metadata.current_snapshot()
    return int(snapshot.summary["total-records"]) if snapshot else 0


def _day(file: Any) -> date | None:
    value = file.partition[0] if len(file.partition) else None
    if value is None or isinstance(value, date):
        return value
    return _EPOCH + timedelta(days=int(value))


def _snapshot_id(metadata: Any) -> int | None:
    return None if metadata.current_snapshot_id is None else int(metadata.current_snapshot_id)


def _read(table: Table, column: Column, latest_day: date | None) -> str:
    name = _quote(column.name)
    if column.days_before_latest is None:
        return f"CAST({name} AS {column.stored_type}) AS {name}"
    if latest_day is None or table.partition_column is None:
        return f"FALSE AS {name}"
    first = latest_day - timedelta(days=column.days_before_latest)
    return f"{_quote(table.partition_column)} >= DATE '{first}' AS {name}"


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
