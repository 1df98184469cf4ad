"""Merge the small files of a day into larger files.

Each commit replaces whole days, so the number of files grows with the days and with the files that
an engine writes for a day, but not with the commits. A file never contains several days, since
replacing one of them would then rewrite the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from pyarrow import parquet
from pyiceberg.io.pyarrow import schema_to_pyarrow

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.iceberg.replacement import rewrite_files
from monstera_assets.warehouse.iceberg.stored_table import DataFile, StoredTable
from monstera_assets.warehouse.windows import windows_of

TARGET_SIZE = 128 * 1024 * 1024
"""The size in bytes of a merged file. Spark reads a file of this size as one task."""


@dataclass(frozen=True)
class Merged:
    """The number of files before and after, of the days that were merged."""

    before: int
    after: int


def merge_small_files(stored: StoredTable, target_size: int = TARGET_SIZE) -> Merged:
    """Rewrite the days, or the unpartitioned table, with two or more files below half the target size.

    Rows pass through this process in batches. The record of materialized days does not change.

    Args:
        stored: the table, loaded for writing. It cannot be used for another commit.
        target_size: the size in bytes of a merged file.

    Raises:
        ConflictingWriteError: If another run replaced the same days in the meantime.
        WarehouseError: If the table has row-level deletes, or if a file cannot be read or written.
    """
    groups = [
        (day, files)
        for day, group in groupby(stored.data_files(), key=lambda file: file.day)
        if _are_small(files := list(group), target_size)
    ]
    if not groups:
        return Merged(0, 0)
    try:
        written = [url for day, files in groups for url in _merge(stored, day, files, target_size)]
    except OSError as error:
        raise WarehouseError(
            f"The small files of {stored.declared.qualified_name} were not merged, and the table is"
            f" unchanged: {error} Correct the cause, then run the same command again."
        ) from error
    days = [day for day, _ in groups if day is not None]
    rewrite_files(stored, written, windows_of(days) if days else None)
    return Merged(sum(len(files) for _, files in groups), len(written))


def _are_small(files: Sequence[DataFile], target_size: int) -> bool:
    return sum(file.size * 2 < target_size for file in files) > 1


def _merge(
    stored: StoredTable, day: date | None, files: Sequence[DataFile], target_size: int
) -> Iterator[str]:
    """Write the rows of files into new files of about the target size, and yield their URLs."""
    schema = schema_to_pyarrow(stored.handle.schema(), include_field_ids=False)
    size, rows = sum(file.size for file in files), sum(file.rows for file in files)
    rows_a_file = max(1, -(-rows // max(1, round(size / target_size))))
    folder = stored.new_folder()
    system, path, _ = stored.filesystem(folder)
    system.create_dir(path, recursive=True)
    batches = stored.dataset_of(files).to_batches()
    batch = next(batches, None)
    number = 0
    while batch is not None:
        name = f"{day or 'all'}-{number}.parquet"
        left = rows_a_file
        with parquet.ParquetWriter(f"{path}/{name}", schema, filesystem=system) as writer:
            while batch is not None and left:
                part, rest = batch.slice(0, left), batch.slice(left)
                writer.write_batch(part)
                left -= part.num_rows
                batch = rest if rest.num_rows else next(batches, None)
        yield f"{folder}/{name}"
        number += 1
