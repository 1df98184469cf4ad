"""Remove old snapshots, and files to which no snapshot refers.

A replaced file stays for a while, because a job may be reading it, and a new file is not yet part of
the table, because its commit follows. So both must be older than the longest job.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyiceberg.exceptions import CommitFailedException

from monstera_assets.warehouse.errors import ConflictingWriteError
from monstera_assets.warehouse.iceberg.materializations import ancestors, snapshot_with_record
from monstera_assets.warehouse.iceberg.stored_table import StoredTable

_UNREFERENCED_FOLDERS = ("data", "metadata")


@dataclass(frozen=True)
class Cleaned:
    """The number of removed snapshots and files, and the files' size in bytes."""

    snapshots: int
    files: int
    size: int


def clean_up(stored: StoredTable, before: datetime) -> Cleaned:
    """Remove snapshots that were replaced before a time, and unreferenced files from before it.

    The current snapshot, tags and branches are kept. Only files below the table's folders `data` and
    `metadata` are removed.

    Args:
        stored: the table.
        before: the time, with a time zone. No job that is still running may be older.

    Raises:
        ConflictingWriteError: If other runs commit to the table again and again.
    """
    handle = stored.handle
    handle.refresh()
    expired = _replaced_snapshots(handle.metadata, _milliseconds(before))
    if expired:
        try:
            handle.maintenance.expire_snapshots().by_ids(expired).commit()
        except CommitFailedException as error:
            raise ConflictingWriteError(
                f"{stored.declared.qualified_name} was not cleaned up, because another run committed"
                " at the same time. Run the same command again."
            ) from error
        handle.refresh()
    return _delete_unreferenced(stored, before, len(expired))


def _replaced_snapshots(metadata: Any, before: int) -> list[int]:
    """Return the snapshots that were replaced before the given timestamp (Unix milliseconds).

    The time of a snapshot itself does not matter: the previous snapshot of a table that has not been
    written for months may have been replaced a minute ago.
    """
    kept = {reference.snapshot_id for reference in metadata.refs.values()}
    with_record = snapshot_with_record(metadata)
    if with_record is not None:
        kept.add(with_record.snapshot_id)
    replaced_at: dict[int, int | None] = {}
    newer: int | None = None
    for snapshot in ancestors(metadata):
        replaced_at[snapshot.snapshot_id] = newer
        newer = snapshot.timestamp_ms
    return [
        snapshot.snapshot_id
        for snapshot in metadata.snapshots
        if snapshot.snapshot_id not in kept
        and (replaced_at.get(snapshot.snapshot_id) or snapshot.timestamp_ms) < before
    ]


def _delete_unreferenced(stored: StoredTable, before: datetime, snapshots: int) -> Cleaned:
    # Read what exists first: a file that is written and committed afterwards is not in the list.
    existing = [
        (url, info)
        for folder in _UNREFERENCED_FOLDERS
        for url, info in stored.stored_files(f"{stored.location}/{folder}")
        if info.mtime is not None and info.mtime < before
    ]
    stored.handle.refresh()
    system, _, _ = stored.filesystem(stored.location)
    referenced = {stored.filesystem(url)[1] for url in _referenced(stored.handle)}
    files = size = 0
    for _, info in existing:
        if info.path not in referenced:
            system.delete_file(info.path)
            files += 1
            size += info.size
    return Cleaned(snapshots, files, size)


def _referenced(handle: Any) -> Iterator[str]:
    """Yield the URLs of all files that belong to the table."""
    metadata = handle.metadata
    yield handle.metadata_location
    yield from (entry.metadata_file for entry in metadata.metadata_log)
    yield from (each.statistics_path for each in metadata.statistics)
    yield from (each.statistics_path for each in metadata.partition_statistics)
    seen = set()
    for snapshot in metadata.snapshots:
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(handle.io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            yield manifest.manifest_path
            # Files that a snapshot deleted still belong to the snapshot before it, which lists them.
            for entry in manifest.fetch_manifest_entry(handle.io, discard_deleted=True):
                yield entry.data_file.file_path


def _milliseconds(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1000)
