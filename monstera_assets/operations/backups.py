"""Back up the warehouse and restore a backup.

A folder of backups contains:

    20250701T051200Z/monstera.duckdb  the database, as of the time in the folder's name
    20250701T051200Z/manifest.json    its SHA-256 hash, row counts and last day
    forgotten.csv                     the erasures since then (see `erasure_lists`)

A backup does not contain the key that identifies erased people, the published copy, exports,
dashboards or Dagster's state.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO

import duckdb
from pydantic import BaseModel, ValidationError

from monstera_assets.bronze.forgotten import Erasure, key_of, recorded
from monstera_assets.operations import registered_folders
from monstera_assets.operations.erasure_lists import REGISTER_SUFFIX, add_to_list, read_list
from monstera_assets.operations.forget import erase_recorded
from monstera_assets.settings import Settings
from monstera_assets.warehouse.compaction import compact_file, request_compaction
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import quote
from monstera_assets.warehouse.errors import WarehouseError, WarehouseLockedError
from monstera_assets.warehouse.files import replacing_file, synchronize
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA
from monstera_assets.warehouse.tables import Table

MANIFEST = "manifest.json"
_FOLDER_NAME = "%Y%m%dT%H%M%SZ"
_INCOMING = ".incoming"
_LOCK = ".lock"
_CHUNK = 1 << 20


class BackupError(WarehouseError):
    """A backup could not be written. Earlier backups are unchanged."""


class RestoreError(WarehouseError):
    """A backup could not be restored. The current database is unchanged."""


class Manifest(BaseModel):
    """The description of a backup.

    Attributes:
        database: the name of the database file.
        sha256: the file's SHA-256 hash.
        last_day: the last day in any daily table, or None if there is none.
        rows: the number of rows by table, including the tables in the `operations` schema.
    """

    database: str
    sha256: str
    last_day: date | None
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Restored:
    """The result of a restore.

    Attributes:
        manifest: the backup's description.
        erased: the number of erasures that were applied again.
        unread: why the erasures in the replaced database could not be read, or None.
    """

    manifest: Manifest
    erased: int
    unread: str | None


def default_folder(database: Path) -> Path:
    """Return the default folder for a warehouse's backups."""
    return database.parent / "backups"


def back_up(settings: Settings, output: Path, now: datetime) -> tuple[Path, Manifest]:
    """Copy the database to a new folder in `output`, and return the folder and its manifest.

    Runs wait until the copy is complete. The copy is read back and compared with the database before
    it counts as a backup.

    Raises:
        WarehouseLockedError: If the database remains locked.
        BackupError: If the backup cannot be written, the copy differs from the database, or the
            database is damaged.
        ErasureListError: If the list of erasures in `output` cannot be extended.
    """
    with _writing(settings):
        pass  # complete an interrupted write, whose log is not copied
    # Free pages could contain erased rows.
    compact_file(settings.database, settings.lock_timeout_seconds)
    final = output / now.strftime(_FOLDER_NAME)
    incoming = output / _INCOMING
    try:
        output.mkdir(parents=True, exist_ok=True)
        registered_folders.register(settings.database, REGISTER_SUFFIX, output)
        with _one_at_a_time(output), _reading(settings) as connection:
            shutil.rmtree(incoming, ignore_errors=True)
            add_to_list(output, recorded(connection))
            incoming.mkdir()
            try:
                manifest = _copy(connection, settings.database, incoming)
                for path in (*incoming.iterdir(), incoming):
                    synchronize(path)
                _verify(incoming, manifest, settings.database)
                incoming.rename(final)
            except BaseException:
                shutil.rmtree(incoming, ignore_errors=True)
                raise
            synchronize(output)
    except (OSError, duckdb.IOException) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BackupError(
            f"Cannot write a backup to {final}: {reason}. Earlier backups are unchanged. Check the"
            " folder's permissions and the disk space, then run `monstera backup` again."
        ) from error
    return final, manifest


def restore(settings: Settings, backup: Path, tables: Sequence[Table]) -> Restored:
    """Replace the database with a backup, from which everyone who was erased since is erased again.

    Raises:
        RestoreError: If the backup is incomplete or damaged, or the database cannot be replaced.
        ErasureListError: If the list of erasures next to the backup is missing.
        ForgottenKeyError: If people were erased and the key is missing, unusable or wrong.
        WarehouseLockedError: If another process uses the database.
    """
    manifest = _read_manifest(backup)
    in_current, unread = _recorded_in(settings)
    path = settings.database.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            # Read the list under the lock, since an erasure extends the list while it has the lock.
            erasures = sorted({*read_list(backup.parent), *in_current})
            key = key_of(erasures, settings.database) if erasures else None
            with replacing_file(path, ".restoring") as incoming:
                _copy_verified(backup / manifest.database, incoming, manifest.sha256)
                if key is not None:
                    with connect(
                        str(incoming),
                        connection_config(
                            settings.memory_limit, settings.threads, settings.temp_directory
                        ),
                    ) as connection:
                        if not {*erasures} <= {*recorded(connection)}:
                            request_compaction(connection)
                            erase_recorded(connection, key, erasures, tables)
                    compact_file(incoming, settings.lock_timeout_seconds)
                mode = path if path.exists() else backup / manifest.database
                incoming.chmod(mode.stat().st_mode & 0o777)
    except WarehouseLockedError:
        raise
    except OSError as error:
        raise RestoreError(
            f"Cannot restore {backup} to {path}: {error.strerror}. The current database is unchanged."
            " Check the permissions and the disk space, then run the same command again."
        ) from error
    people = sum(kind == "user_id" for kind, *_ in erasures)
    return Restored(manifest, people, unread)


def _copy(connection: duckdb.DuckDBPyConnection, database: Path, folder: Path) -> Manifest:
    """Copy the open database and write the manifest."""
    if database.with_name(database.name + ".wal").exists():
        raise BackupError(
            f"{database} was in use by another process, which did not complete its last write. Run"
            " `monstera backup` again."
        )
    rows = {
        f"{schema}.{name}": connection.execute(
            f"SELECT count(*) FROM {quote(schema)}.{quote(name)}"
        ).fetchall()[0][0]
        for schema, name in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables()"
            " WHERE database_name = current_database() AND NOT temporary ORDER BY ALL"
        ).fetchall()
    }
    last_day = None
    if f"{OPERATIONS_SCHEMA}.materializations" in rows:
        [(last_day,)] = connection.execute(
            f"SELECT max(partition_date) FROM {OPERATIONS_SCHEMA}.materializations"
        ).fetchall()
    copy = folder / database.name
    digest = _copy_file(database, copy)
    copy.chmod(database.stat().st_mode & 0o777)
    manifest = Manifest(database=database.name, sha256=digest, last_day=last_day, rows=rows)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file and return its SHA-256 hash.

    On return, the process loses all locks on the source, even if it is an open database.
    """
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
    return digest.hexdigest()


def _verify(folder: Path, manifest: Manifest, database: Path) -> None:
    """Verify that the copy on disk has the database's bytes, and that each table can be read.

    Reading all rows verifies the checksum of each block. A block that was already damaged in the
    database has the same bytes in the copy.

    Raises:
        BackupError: If the copy differs from the database, or a table cannot be read.
    """
    copy = folder / manifest.database
    with copy.open("rb") as file:
        # Read from the disk instead of the cache, which contains what was written.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != manifest.sha256:
        raise BackupError(
            f"The copy of {database} differs from the database: its SHA-256 hash is {digest} instead of"
            f" {manifest.sha256}. The copy was deleted. Earlier backups are unchanged. Check the disk,"
            " then run `monstera backup` again."
        )
    table = ""
    try:
        with duckdb.connect(str(copy), read_only=True) as connection:
            for table, rows in manifest.rows.items():
                name = ".".join(map(quote, table.split(".", 1)))
                [(read, _)] = connection.execute(
                    f"SELECT count(*), sum(hash(t)) FROM {name} AS t"
                ).fetchall()
                if read != rows:
                    raise BackupError(
                        f"The copy of {table} has {read:,} rows instead of {rows:,}. The copy was"
                        " deleted. Earlier backups are unchanged. Run `monstera backup` again."
                    )
    except duckdb.Error as error:
        raise BackupError(
            f"{database} is damaged: {table or 'the file'} cannot be read: {error}. The copy was"
            " deleted. Earlier backups are unchanged. Restore an earlier backup, or compute all days"
            " again with `monstera run --rebuild`."
        ) from error


def _copy_verified(source: Path, target: Path, sha256: str) -> None:
    target.touch(mode=0o600)  # erased people are still in the file
    if _copy_file(source, target) != sha256:
        raise RestoreError(
            f"{source} is damaged: its SHA-256 hash differs from the one in {MANIFEST}. The current"
            " database is unchanged. Choose another backup."
        )


def _read_manifest(backup: Path) -> Manifest:
    path = backup / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a manifest"
        raise RestoreError(
            f"{backup} is not a complete backup. {path} cannot be read: {reason}. Choose a folder that"
            " `monstera backup` wrote."
        ) from error


def _recorded_in(settings: Settings) -> tuple[list[Erasure], str | None]:
    """Return the erasures in the current database, and why they cannot be read.

    Opening the database also completes an interrupted write, so that its log can be deleted.
    """
    if not settings.database.exists():
        return [], None
    try:
        with _writing(settings) as connection:
            return recorded(connection), None
    except WarehouseLockedError:
        raise
    except WarehouseError as error:
        return [], str(error)


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Take the lock that DuckDB takes, which also works for a damaged file.

    Closing any other descriptor of the file would release the lock.

    Raises:
        WarehouseLockedError: If another process uses the database.
    """
    try:
        file: IO[bytes] = database.open("r+b")
    except FileNotFoundError:
        yield
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise WarehouseLockedError(
                f"{database} is locked by another process. Wait for the process to finish, then run the"
                " command again."
            ) from error
        yield


@contextmanager
def _one_at_a_time(output: Path) -> Iterator[None]:
    """Lock a folder of backups for one writer, until the process exits."""
    with (output / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reading(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    return _open(settings, read_only=True)


def _writing(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    return _open(settings, read_only=False)


def _open(
    settings: Settings, *, read_only: bool
) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Open the database in any layout, because an upgrade may require a backup."""
    return connect(
        str(settings.database),
        {},
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=read_only,
        any_layout=True,
    )
