"""Find the files in a source folder, and determine each file's input and day."""
# Over 400 lines: the rules for which file is which input refer to each other.

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from monstera_assets.source.databases import DatabaseTable, Place, place_of, tables_at
from monstera_assets.source.errors import SourceError

REQUIRED_INPUTS = ("events",)
OPTIONAL_INPUTS = (
    *("users", "accounts", "product_catalog", "subscription_events", "workflows"),
    "user_aliases",
)
INPUTS = REQUIRED_INPUTS + OPTIONAL_INPUTS


class FileFormat(StrEnum):
    """A format for exports and generated sources. The value is also the file extension."""

    PARQUET = "parquet"
    CSV = "csv"


class InputFormat(StrEnum):
    """The format of an input file."""

    PARQUET = "parquet"
    CSV = "csv"
    JSON = "json"
    TABLE = "table"


class Compression(StrEnum):
    """A text file's compression. The value is DuckDB's name for the compression."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_TEXT_FORMATS = {
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.CSV,
    ".jsonl": InputFormat.JSON,
    ".ndjson": InputFormat.JSON,
    ".json": InputFormat.JSON,
}
_COMPRESSIONS = {".gz": Compression.GZIP, ".zst": Compression.ZSTD}
_PREFIXES = ("", "seed_")
_DAY_KEYS = dict.fromkeys(("users", "accounts"), "snapshot_date=")
_DAY_KEY = "event_date="
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# Unsupported formats, which cause an error if such a file would be an input's only file.
_OTHER_DATA = re.compile(
    r"\.(txt|avro|orc|xlsx?|xml|gz|bz2|xz|zst|zip|snappy|lz4|db|sqlite|duckdb)$", re.IGNORECASE
)
_READABLE = "CSV, JSON lines or Parquet"
_TABLE_FORMATS = {
    "Delta Lake": "in DuckDB with COPY (FROM delta_scan('{0}')) TO '{1}.parquet'",
    "Iceberg": "in DuckDB with COPY (FROM iceberg_scan('{0}')) TO '{1}.parquet'",
    "Hudi": "with Spark",
}


class FileStamp(NamedTuple):
    """A file's size and modification time at discovery, which are used to detect changes."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class SourceFile:
    """One file in an input.

    ``relative_path`` is relative to the source folder and uses ``/`` on every system.
    ``folder_date`` is the date of the file's ``event_date=`` or ``snapshot_date=`` folder, if any. If
    ``table`` is set, the database table is read instead of a file, and ``path`` is the database file,
    if there is one. ``delimiter`` is the delimiter in CSV files, or None to detect the delimiter.
    """

    path: Path
    relative_path: str
    format: InputFormat
    folder_date: date | None
    compression: Compression = Compression.NONE
    stamp: FileStamp | None = field(default=None, compare=False, repr=False)
    table: DatabaseTable | None = None
    delimiter: str | None = None

    def check_unchanged(self) -> None:
        """Raise a SourceError if the file is missing or has changed since discovery."""
        if self.table is not None and self.table.place.path is None:
            return
        now = _stamp(self.path, self.relative_path)
        if self.stamp is not None and now != self.stamp:
            raise SourceError(
                f"{self.relative_path} has changed since the source was scanned. "
                "Try again when no process is writing to the source."
            )


@dataclass(frozen=True)
class SourceInput:
    """The files in one input, sorted by relative path. An input without files has no rows."""

    name: str
    files: tuple[SourceFile, ...]
    by_day: bool

    def within(self, first: date, last: date) -> SourceInput:
        """Return the input, restricted to the given days' files if the input is laid out by day."""
        dates = {file.folder_date for file in self.files if file.folder_date is not None}
        return self.of_days({day for day in dates if first <= day <= last})

    def of_days(self, days: Container[date]) -> SourceInput:
        """Return the input, restricted to the given days' files if the input is laid out by day."""
        if not self.by_day:
            return self
        return replace(self, files=tuple(f for f in self.files if f.folder_date in days))


class IgnoredEntry(NamedTuple):
    """A file or folder that looks like part of an input but is not read, and the reason."""

    path: str
    reason: str


class Source(dict[str, SourceInput]):
    """A source's inputs by name, and the entries that look like inputs but are not read."""

    ignored: Sequence[IgnoredEntry] = ()


def discover_source(
    folder: Path,
    errors: dict[str, SourceError] | None = None,
    *,
    delimiter: str | None = None,
) -> Source:
    """Return the inputs in a source folder, database or URL, keyed by name. Only `events` is required.

    An input is a file ``<name>.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json`` or ``.parquet``, or
    a folder ``<name>/`` that contains such files. Names may have the prefix ``seed_``. A folder is
    either flat or laid out by day (``event_date=2025-06-01/`` or, for daily dumps of users and
    accounts, ``snapshot_date=2025-06-01/``). Text files may be compressed (``.gz``, ``.zst``). In a
    database or at a URL (see `databases`), tables have the same names.

    Args:
        folder: the source folder.
        errors: a dictionary to which errors are added by input name, or None to raise errors. Inputs
            with errors are left out.
        delimiter: the delimiter in all CSV files, or None to detect each file's delimiter.

    Raises:
        SourceError: If the folder cannot be listed, `events` is missing, or a file or folder with a
            similar name could be a missing input. The error is also raised if an input exists twice,
            mixes day folders with other files, contains an unreadable or unsupported file, is a Delta
            Lake, Iceberg or Hudi table, contains a folder with an unreadable date, or points outside
            the source folder.
    """
    if (place := place_of(folder)) is not None:
        return _database_source(place)
    root = _root(folder)
    entries = {entry.name: entry for entry in _entries(root, str(folder))}
    ignored: list[IgnoredEntry] = []
    chosen: dict[str, os.DirEntry[str]] = {}
    for name in INPUTS:
        with _collected(errors, name):
            if (found := _candidate(name, entries)) is not None:
                chosen[name] = found
    for name, entry in entries.items():
        if entry not in chosen.values():
            with _collected(errors, resembled(name) or name):
                ignored += _beside(entry, resembled(name), chosen)
    for name in REQUIRED_INPUTS:
        with _collected(errors, name):
            if name not in chosen:
                raise SourceError(
                    f"The source folder {folder} does not contain the input {name}. Add {name}.csv, "
                    f"{name}.parquet or a folder named {name}. The prefix seed_ is allowed."
                )
    source = Source()
    for name, entry in chosen.items():
        with _collected(errors, name):
            found_input = _input(root, name, entry, ignored)
            files = tuple(replace(file, delimiter=delimiter) for file in found_input.files)
            source[name] = replace(found_input, files=files) if delimiter else found_input
    source.ignored = tuple(ignored)
    return source


@contextmanager
def _collected(errors: dict[str, SourceError] | None, name: str) -> Iterator[None]:
    """Collect an input's first error, or raise the error if errors are not collected."""
    try:
        yield
    except SourceError as error:
        if errors is None:
            raise
        errors.setdefault(name, error)


def _database_source(place: Place) -> Source:
    """Return the inputs in a database or at a URL."""
    stems = {prefix + name: name for name in INPUTS for prefix in _PREFIXES}
    found: dict[str, list[DatabaseTable]] = {}
    ignored = []
    for table in tables_at(place, list(stems)):
        stem = re.split(r"[./]", table.name.lower())[0] if place.is_url else table.name.lower()
        if stem in stems:
            found.setdefault(stems[stem], []).append(table)
        elif (name := resembled(stem)) is not None:
            ignored.append(
                IgnoredEntry(table.name, f"looks like the input {name}. Rename the table.")
            )
    for name, tables in found.items():
        if len(tables) > 1:
            names = ", ".join(f"{table.schema}.{table.name}".strip(".") for table in tables)
            raise SourceError(
                f"Found {len(tables)} tables for the input {name}: {names}. Keep only one of them."
            )
    if missing := [name for name in REQUIRED_INPUTS if name not in found]:
        kind = "Parquet file or folder" if place.is_url else "table or view"
        raise SourceError(
            f"The source {place.shown} does not contain a {kind} named {', '.join(missing)}."
        )
    path = place.path
    stamp = _stamp(path, place.shown) if path else None
    source = Source()
    for name, [table] in found.items():
        shown = f"{path.name}/{table.name}" if path else table.name
        file = SourceFile(
            path or Path(table.name), shown, InputFormat.TABLE, None, Compression.NONE, stamp, table
        )
        source[name] = SourceInput(name, (file,), by_day=False)
    source.ignored = tuple(ignored)
    return source


def _root(folder: Path) -> Path:
    wanted = "Choose the folder that contains the events."
    try:
        root = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"The source folder {folder} does not exist or cannot be reached. {wanted}"
        ) from error
    if not root.is_dir():
        raise SourceError(f"The source {folder} is not a folder. {wanted}")
    return root


def _entries(folder: Path, shown: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(
            f"The folder {shown} cannot be listed ({error.strerror}). Check the folder's permissions."
        ) from error


def input_format(name: str) -> tuple[str, InputFormat, Compression] | None:
    """Split a file name into its stem, format and compression, or return None for unsupported files."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - faster for thousands of names
    if suffix.lower() == ".parquet":
        return stem, InputFormat.PARQUET, Compression.NONE
    compression = _COMPRESSIONS.get(suffix.lower(), Compression.NONE)
    if compression is not Compression.NONE:
        stem, suffix = os.path.splitext(stem)  # noqa: PTH122
    kind = _TEXT_FORMATS.get(suffix.lower())
    return None if kind is None else (stem, kind, compression)


def resembled(name: str) -> str | None:
    """Return the input that a file or folder name resembles, ignoring case, or None."""
    if name.startswith((".", "_")):
        return None
    stem = re.sub("[^a-z]+", "_", name.lower().partition(".")[0]).strip("_")
    named = [each for each in INPUTS if re.search(rf"(^|_){each}(_|$)", stem)]
    similar = get_close_matches(stem.removeprefix("seed_"), INPUTS, n=1, cutoff=0.85)
    return max(named, key=len) if named else next(iter(similar), None)


def _candidate(name: str, entries: Mapping[str, os.DirEntry[str]]) -> os.DirEntry[str] | None:
    """Return the file or folder that has an input's name, or None."""
    stems = [prefix + name for prefix in _PREFIXES]
    found = []
    for entry in entries.values():
        parts = input_format(entry.name)
        is_folder = parts is None and (entry.is_dir() or entry.is_symlink())
        if (parts[0] if parts else entry.name) in stems and (parts or is_folder):
            found.append(entry)
        elif entry.name.partition(".")[0] in stems and _OTHER_DATA.search(entry.name):
            raise SourceError(
                f"{entry.name} has the name of the input {name}, but its format is not supported. "
                f"Save the data as {name}.csv or {name}.parquet, or move the file out of the source "
                "folder."
            )
    if len(found) > 1:
        raise SourceError(
            f"Found {len(found)} files or folders for the input {name}: "
            f"{', '.join(sorted(entry.name for entry in found))}. "
            "Keep one of them, and move the others out of the source folder."
        )
    return next(iter(found), None)


def _beside(
    entry: os.DirEntry[str], name: str | None, chosen: Mapping[str, os.DirEntry[str]]
) -> Iterator[IgnoredEntry]:
    """Yield an entry in the source folder that resembles an input but is not read."""
    if name is None:
        return
    if name in chosen:
        yield IgnoredEntry(
            entry.name,
            f"looks like the input {name}, which is read from {chosen[name].name}. To read both, move "
            f"{entry.name} and {chosen[name].name} into a folder named {name}.",
        )
    elif entry.is_dir() or input_format(entry.name) or _OTHER_DATA.search(entry.name):
        raise SourceError(
            f"{entry.name} looks like the input {name}, which is missing. Rename {entry.name} to "
            f"{name}, with the extension for its format, or move it out of the source folder."
        )
    else:
        yield IgnoredEntry(entry.name, f"looks like the input {name}, but is not {_READABLE}.")


def _input(
    root: Path, name: str, entry: os.DirEntry[str], ignored: list[IgnoredEntry]
) -> SourceInput:
    parts = input_format(entry.name)
    if parts is None:
        return _folder_input(root, name, entry.name, ignored)
    file = _source_file(root, Path(entry.name), parts, None)
    return SourceInput(name, (file,), by_day=False)


def _folder_input(root: Path, name: str, folder: str, ignored: list[IgnoredEntry]) -> SourceInput:
    key = _DAY_KEYS.get(name, _DAY_KEY)
    found = list(_walk(root, Path(folder), key, None, frozenset(), ignored))
    files = sorted((file for file, _ in found if file), key=lambda file: file.relative_path)
    day_folders = any(day is not None for _, day in found)
    flat = [file for file in files if file.folder_date is None]
    if day_folders and flat:
        raise SourceError(
            f"The input {name} contains {key} folders and files outside those folders, such as "
            f"{flat[0].relative_path}. Move every file into the folder for its day, or do not use "
            f"{key} folders."
        )
    return SourceInput(name, tuple(files), by_day=day_folders and key == _DAY_KEY)


def _walk(
    root: Path,
    folder: Path,
    key: str,
    folder_date: date | None,
    above: frozenset[Path],
    ignored: list[IgnoredEntry],
) -> Iterator[tuple[SourceFile | None, date | None]]:
    """Yield each data file with its folder date, and None with each folder's date."""
    here = _inside(root, folder)
    if here in above:
        raise SourceError(f"The folder {folder.as_posix()} links back to itself. Remove the link.")
    yield None, folder_date
    entries = _entries(root / folder, folder.as_posix())
    _refuse_table(root, folder, {entry.name for entry in entries})
    for entry in entries:
        # Spark and Hadoop leave _SUCCESS, _temporary/ and .part.crc next to their data.
        if entry.name.startswith((".", "_")):
            continue
        relative = folder / entry.name
        if entry.is_dir():
            day = _day(relative, key, folder_date)
            yield from _walk(root, relative, key, day, above | {here}, ignored)
        elif parts := input_format(entry.name):
            is_link = entry.is_symlink()
            yield _source_file(root, relative, parts, folder_date, is_link=is_link), folder_date
        elif entry.is_symlink() or not relative.suffix or _OTHER_DATA.search(entry.name):
            _inside(root, relative)
            raise SourceError(
                f"{relative.as_posix()} is not {_READABLE}. Convert the file, or move it out of the "
                "folder."
            )
        else:
            ignored.append(IgnoredEntry(relative.as_posix(), f"is not {_READABLE}."))


def _refuse_table(root: Path, folder: Path, names: Container[str]) -> None:
    """Raise a SourceError if a folder is a table whose metadata lists the table's current files."""
    is_iceberg = "metadata" in names and any((root / folder / "metadata").glob("*.metadata.json"))
    marks = {"Delta Lake": "_delta_log" in names, "Iceberg": is_iceberg, "Hudi": ".hoodie" in names}
    for kind, is_marked in marks.items():
        if is_marked:
            name = folder.as_posix()
            how = _TABLE_FORMATS[kind].format(name, folder.parts[0])
            raise SourceError(
                f"The folder {name} uses the {kind} format, which also keeps files with removed rows. "
                f"Export the current rows to Parquet, for example {how}, and use that file instead."
            )


def _day(folder: Path, key: str, folder_date: date | None) -> date | None:
    if not folder.name.startswith(key):
        return folder_date
    text = folder.name.removeprefix(key)
    try:
        if not _DAY.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError as error:
        raise SourceError(
            f"The folder {folder.as_posix()} does not have a readable date. Rename the folder to "
            f"{key}YYYY-MM-DD."
        ) from error
    if folder_date is not None and folder_date != day:
        raise SourceError(
            f"The folder {folder.as_posix()} is inside the folder for another day "
            f"({folder_date.isoformat()}). Move the folder out of the other day's folder."
        )
    return day


def _source_file(
    root: Path,
    relative: Path,
    parts: tuple[str, InputFormat, Compression],
    folder_date: date | None,
    *,
    is_link: bool = True,
) -> SourceFile:
    shown = relative.as_posix()
    if is_link:  # other files are inside the source folder, because their folder is
        _inside(root, relative)
    path = root / relative
    try:
        shown.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"The file name {shown!a} is not valid UTF-8. Rename the file."
        ) from error
    stamp = _stamp(path, shown)
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise unreadable(shown, error) from error
    return SourceFile(path, shown, parts[1], folder_date, parts[2], stamp)


def _inside(root: Path, relative: Path) -> Path:
    """Return the resolved path of a file or folder, which must be inside the source folder."""
    try:
        real = (root / relative).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"{relative.as_posix()} cannot be reached, because it is a broken link or you do not have "
            "permission to read it. Fix the link or the permissions, or remove the file."
        ) from error
    if not real.is_relative_to(root):
        raise SourceError(
            f"{relative.as_posix()} points outside the source folder (to {real}). Copy the target "
            "into the source folder."
        )
    return real


def _stamp(path: Path, shown: str) -> FileStamp:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(shown, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{shown} is not a regular file. Replace it with a regular file.")
    return FileStamp(status.st_size, status.st_mtime_ns)


def unreadable(shown: str, error: OSError) -> SourceError:
    """Return the error for a file that cannot be read."""
    return SourceError(
        f"{shown} cannot be read ({error.strerror}). Check that the file exists and is readable."
    )
