"""Find the files in a source folder, and the input and day of each file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from monstera_assets.source.errors import SourceError

REQUIRED_INPUTS = ("events", "users", "accounts", "product_catalog")
OPTIONAL_INPUTS = ("subscription_events", "workflows")


class FileFormat(StrEnum):
    """A file format; the value is also the file name extension."""

    PARQUET = "parquet"
    CSV = "csv"


_FORMATS = {f".{kind}": kind for kind in FileFormat}
_PREFIXES = ("", "seed_")
_DAY_KEY = "event_date="
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# Unsupported formats, refused under an input's name: ignoring them would silently lose data.
_OTHER_DATA = re.compile(
    r"\.(csv|tsv|parquet|json|jsonl|ndjson|avro|orc|xlsx?|gz|bz2|xz|zst|zip|snappy)$", re.IGNORECASE
)


class FileStamp(NamedTuple):
    """Size and modification time of a file at discovery, used to detect changes."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class SourceFile:
    """One file of an input.

    ``relative_path`` is relative to the source folder and uses ``/`` on every system.
    ``folder_date`` is the date of its ``event_date=`` folder, if any.
    """

    path: Path
    relative_path: str
    format: FileFormat
    folder_date: date | None
    stamp: FileStamp | None = field(default=None, compare=False, repr=False)

    def check_unchanged(self) -> None:
        """Raise a SourceError if the file is missing or has changed since discovery."""
        now = _stamp(self.path, self.relative_path)
        if self.stamp is not None and now != self.stamp:
            raise SourceError(
                f"{self.relative_path} has changed since the source was scanned. "
                "Run again when no process is writing to the source."
            )


@dataclass(frozen=True)
class SourceInput:
    """The files of one input, sorted by relative path; no files means zero rows."""

    name: str
    files: tuple[SourceFile, ...]
    by_day: bool

    def within(self, first: date, last: date) -> SourceInput:
        """Return the input, restricted to the files of these days if it is laid out by day."""
        dates = {file.folder_date for file in self.files if file.folder_date is not None}
        return self.of_days({day for day in dates if first <= day <= last})

    def of_days(self, days: Container[date]) -> SourceInput:
        """Return the input, restricted to the files of these days if it is laid out by day."""
        if not self.by_day:
            return self
        return replace(self, files=tuple(f for f in self.files if f.folder_date in days))


def discover_source(folder: Path) -> Mapping[str, SourceInput]:
    """Return the inputs in a source folder by name: required inputs, and optional inputs if present.

    An input is ``<name>.csv``, ``<name>.parquet`` or a folder ``<name>/`` of such files, flat or laid
    out by day (``event_date=2025-06-01/``), with or without the prefix ``seed_``.

    Raises:
        SourceError: If the folder cannot be listed; a required input is missing; or an input exists
            twice, mixes day folders with other files, contains a file that is unreadable or not CSV
            or Parquet, has a folder with an unreadable date, or points outside the source folder.
    """
    root = _root(folder)
    entries = {entry.name: entry for entry in _entries(root, str(folder))}
    found = {
        name: source_input
        for name in (*REQUIRED_INPUTS, *OPTIONAL_INPUTS)
        if (source_input := _find(root, name, entries)) is not None
    }
    missing = [name for name in REQUIRED_INPUTS if name not in found]
    if missing:
        wanted = "; ".join(f"{name}.csv, {name}.parquet or a folder {name}/" for name in missing)
        raise SourceError(
            f"The source folder {folder} lacks {', '.join(missing)}. Add {wanted} "
            "(the prefix seed_ is allowed)."
        )
    return found


def _root(folder: Path) -> Path:
    wanted = "Choose the folder that contains events, users, accounts and product_catalog."
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
            f"The folder {shown} cannot be listed ({error.strerror}). Check its permissions."
        ) from error


def _find(root: Path, name: str, entries: Mapping[str, os.DirEntry[str]]) -> SourceInput | None:
    names = [prefix + name for prefix in _PREFIXES]
    files = {stem + suffix for stem in names for suffix in _FORMATS}
    folders = [entries[stem] for stem in names if stem in entries]
    candidates = [entry for entry in entries if entry in files]
    candidates += [entry.name for entry in folders if entry.is_dir() or entry.is_symlink()]
    of_input = [entry for entry in entries if entry.startswith(tuple(f"{stem}." for stem in names))]
    other = [e for e in of_input if e not in candidates and _OTHER_DATA.search(e)]
    if other:
        raise SourceError(
            f"{other[0]} has the name of the input {name}, but its format is not supported. "
            f"Save it as {name}.csv or {name}.parquet, or move it out of the source folder."
        )
    if len(candidates) > 1:
        raise SourceError(
            f"The input {name} exists {len(candidates)} times ({', '.join(sorted(candidates))}). "
            "Keep one and move the others out of the source folder."
        )
    if not candidates:
        return None
    [candidate] = candidates
    file_format = _FORMATS.get(Path(candidate).suffix)
    if file_format is not None:
        file = _source_file(root, Path(candidate), file_format, None)
        return SourceInput(name, (file,), by_day=False)
    return _folder_input(root, name, candidate)


def _folder_input(root: Path, name: str, folder: str) -> SourceInput:
    files: list[SourceFile] = []
    day_folders = False
    for relative, file_format, folder_date in _walk(root, Path(folder), None, frozenset()):
        day_folders = day_folders or folder_date is not None
        if file_format is not None:
            files.append(_source_file(root, relative, file_format, folder_date))
    files.sort(key=lambda file: file.relative_path)
    flat = [file for file in files if file.folder_date is None]
    if day_folders and flat:
        raise SourceError(
            f"The input {name} mixes event_date= folders with files outside them, such as "
            f"{flat[0].relative_path}. Move every file into the folder for its day, or do not "
            "use such folders."
        )
    return SourceInput(name, tuple(files), by_day=day_folders)


def _walk(
    root: Path, folder: Path, folder_date: date | None, above: frozenset[Path]
) -> Iterator[tuple[Path, FileFormat | None, date | None]]:
    """Yield every folder (without a format) and every data file, each with its folder date."""
    here = _inside(root, folder)
    if here in above:
        raise SourceError(f"The folder {folder.as_posix()} links back to itself. Remove the link.")
    yield folder, None, folder_date
    for entry in _entries(root / folder, folder.as_posix()):
        # Spark and Hadoop leave _SUCCESS, _temporary/ and .part.crc next to their data.
        if entry.name.startswith((".", "_")):
            continue
        relative = folder / entry.name
        if entry.is_dir():
            day = _day(relative, folder_date)
            yield from _walk(root, relative, day, above | {here})
        elif (file_format := _FORMATS.get(relative.suffix)) is not None:
            yield relative, file_format, folder_date
        else:
            _inside(root, relative)
            raise SourceError(
                f"{relative.as_posix()} is neither a .csv nor a .parquet file. Convert it, or move "
                "it out of the folder."
            )


def _day(folder: Path, folder_date: date | None) -> date | None:
    if not folder.name.startswith(_DAY_KEY):
        return folder_date
    text = folder.name.removeprefix(_DAY_KEY)
    try:
        if not _DAY.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError as error:
        raise SourceError(
            f"The folder {folder.as_posix()} has no readable date. Name it event_date=YYYY-MM-DD."
        ) from error
    if folder_date is not None and folder_date != day:
        raise SourceError(
            f"The folder {folder.as_posix()} is inside the folder for another day "
            f"({folder_date.isoformat()}). Move it out."
        )
    return day


def _source_file(
    root: Path, relative: Path, file_format: FileFormat, folder_date: date | None
) -> SourceFile:
    shown = relative.as_posix()
    _inside(root, relative)
    path = root / relative
    try:
        shown.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"The name of the file {shown!a} is not UTF-8. Rename the file."
        ) from error
    stamp = _stamp(path, shown)
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise unreadable(shown, error) from error
    return SourceFile(path, shown, file_format, folder_date, stamp)


def _inside(root: Path, relative: Path) -> Path:
    """Return the resolved path of a file or folder, which must be inside the source folder."""
    try:
        real = (root / relative).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"{relative.as_posix()} cannot be reached, because it is a broken link or a permission "
            "is missing. Fix or remove it."
        ) from error
    if not real.is_relative_to(root):
        raise SourceError(
            f"{relative.as_posix()} points outside the source folder (to {real}). Copy its target "
            "into the source folder."
        )
    return real


def _stamp(path: Path, shown: str) -> FileStamp:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(shown, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{shown} is not a regular file. Replace it with one.")
    return FileStamp(status.st_size, status.st_mtime_ns)


def unreadable(shown: str, error: OSError) -> SourceError:
    """Return the error for a file that cannot be read."""
    return SourceError(
        f"{shown} cannot be read ({error.strerror}). Check that it exists and is readable."
    )
