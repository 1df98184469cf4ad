"""Find an export's files, and determine each file's format and columns from its content.

File names are not trusted: a `.parquet.zst` is Parquet, and Segment's files have no `.json` in their
name. Members of a zip are copied out, since DuckDB cannot read them in place.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from glob import has_magic, iglob
from pathlib import Path
from typing import IO, cast

import duckdb
from backports import zstd

from monstera_assets.source.errors import SourceError
from monstera_assets.source.sql import path_literal

_SAMPLE_BYTES = 1 << 20
_LARGEST_OBJECT = 64 << 20
_HASH_BYTES = 1 << 20
_SAMPLED = 50
_SNOWPLOW_TABS = 100
_UNREADABLE = {b"\xff\x06\x00\x00sNaPpY": "Snappy", b"\x04\x22\x4d\x18": "LZ4", b"BZh": "bzip2"}
_DAMAGED = (EOFError, OSError, zlib.error, zstd.ZstdError, zipfile.BadZipFile)


class NoFilesError(SourceError):
    """An export contains no files."""


class RawFormat(StrEnum):
    """The format of a raw file's content."""

    PARQUET = "parquet"
    JSON_LINES = "json_lines"
    JSON = "json"
    CSV = "csv"
    TSV_LINES = "tsv_lines"
    EMPTY = "empty"


@dataclass(frozen=True)
class RawFile:
    """A file of an export as it is on disk. `name` is relative to the export's folder."""

    path: Path
    name: str
    size: int
    modified_ns: int

    def digest(self) -> str:
        """Return the SHA-256 digest of the file's bytes."""
        found = hashlib.sha256()
        with self.path.open("rb") as stream:
            while block := stream.read(_HASH_BYTES):
                found.update(block)
        return found.hexdigest()


@dataclass(frozen=True)
class Piece:
    """A part of a raw file that DuckDB can read: the file, or a copied member of a zip."""

    path: Path
    raw_file: str
    format: RawFormat
    compression: str
    columns: tuple[str, ...]
    types: tuple[str, ...] = ()
    delimiter: str = ","

    @property
    def literal(self) -> str:
        """The path as an SQL literal that opens exactly this file."""
        return path_literal(self.path)


def find_files(path: str) -> list[RawFile]:
    """Return the files in a folder or of a pattern, sorted by name.

    Files and folders whose names begin with a dot or an underscore are skipped, such as `_SUCCESS`.

    Raises:
        NoFilesError: If no files exist.
        SourceError: If a file cannot be read.
    """
    if Path(path).exists():
        root = Path(path)
        found = [root] if root.is_file() else list(_walk(root))
        root = root.parent if root.is_file() else root
    elif has_magic(path):
        chosen = [Path(each) for each in iglob(path, recursive=True)]  # noqa: PTH207
        found = [each for one in chosen for each in ([one] if one.is_file() else _walk(one))]
        root = Path(*_fixed_parts(Path(path)))
    else:
        raise NoFilesError(f"The export {path} does not exist. Correct the path in monstera.toml.")
    if not found:
        raise NoFilesError(f"The export {path} contains no files. Check the path in monstera.toml.")
    files = []
    for each in dict.fromkeys(found):
        try:
            status = each.stat()
        except OSError as error:
            raise SourceError(f"{each} cannot be read ({error.strerror}).") from error
        name = each.relative_to(root).as_posix()
        files.append(RawFile(each, name, status.st_size, status.st_mtime_ns))
    return sorted(files, key=lambda file: file.name)


def _fixed_parts(pattern: Path) -> Iterator[str]:
    """Yield the leading parts of a pattern that contain no wildcard."""
    for part in pattern.parts[:-1]:
        if has_magic(part):
            return
        yield part


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [each for each in folders if not each.startswith((".", "_"))]
        yield from (Path(root) / name for name in names if not name.startswith((".", "_")))


def pieces(connection: duckdb.DuckDBPyConnection, file: RawFile, scratch: Path) -> list[Piece]:
    """Return the readable parts of a raw file, in the order of their names.

    Args:
        connection: a connection that reads Parquet schemas.
        file: the raw file.
        scratch: the folder into which members of a zip are copied.

    Raises:
        SourceError: If the file is truncated or corrupt, or its compression is not supported.
    """
    try:
        with file.path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
        if not is_zip:
            return [_piece(connection, file.path, file.name)]
        return [_piece(connection, member, file.name) for member in _members(file, scratch)]
    except _DAMAGED as error:
        raise _damaged(file.name, error) from error
    except RuntimeError as error:  # an encrypted zip, or an unknown compression
        raise SourceError(
            f"{file.name} cannot be unpacked ({error}). Nothing was imported. Write the zip file"
            " without a password, and with the compression deflate or none."
        ) from error


def _members(file: RawFile, scratch: Path) -> list[Path]:
    with zipfile.ZipFile(file.path) as archive:
        copied = []
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        for number, name in enumerate(names):
            if Path(name).name.startswith((".", "_")) or name.startswith("__MACOSX"):
                continue
            # The copy's name does not depend on the member's, which may point outside the folder.
            target = scratch / f"{len(list(scratch.iterdir())):08d}-{number:08d}"
            with archive.open(name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, _HASH_BYTES)
            copied.append(target)
    return copied


def _damaged(name: str, error: Exception) -> SourceError:
    return SourceError(
        f"{name} is corrupt or truncated ({error}). Nothing was imported. Download or copy the file"
        " again."
    )


def _piece(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> Piece:
    with path.open("rb") as stream:
        start = stream.read(16)
    if start.startswith(b"PAR1"):
        return _parquet(connection, path, name)
    for magic, kind in _UNREADABLE.items():
        if start.startswith(magic):
            raise SourceError(
                f"{name} is compressed with {kind}, which is not supported. Export with gzip, zstd or"
                " no compression."
            )
    compression = (
        "gzip"
        if start.startswith(b"\x1f\x8b")
        else "zstd"
        if start.startswith(b"\x28\xb5\x2f\xfd")
        else "none"
    )
    with _opened(path, compression) as content:
        sample = content.read(_SAMPLE_BYTES).removeprefix(b"\xef\xbb\xbf")
        if not sample.strip(b" \r\n\t"):
            return Piece(path, name, RawFormat.EMPTY, compression, ())
        if b"\n" not in sample:
            sample += content.read(_LARGEST_OBJECT)
    text = sample.decode(errors="replace").lstrip()
    if text.startswith(("{", "[")):
        kind, columns = _json_columns(text)
        return Piece(path, name, kind, compression, columns)
    header = text.splitlines()[0]
    if header.count("\t") >= _SNOWPLOW_TABS:
        return Piece(path, name, RawFormat.TSV_LINES, compression, ())
    delimiter = max(",;\t|", key=header.count)
    columns = tuple(each.strip().strip('"') for each in header.split(delimiter))
    return Piece(path, name, RawFormat.CSV, compression, columns, delimiter=delimiter)


def _opened(path: Path, compression: str) -> IO[bytes]:
    if compression == "gzip":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if compression == "zstd":
        return cast("IO[bytes]", zstd.open(path, "rb"))
    return path.open("rb")


def _parquet(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> Piece:
    try:
        found = connection.execute(
            f"DESCRIBE SELECT * FROM read_parquet({path_literal(path)}, binary_as_string = true)"
        ).fetchall()
    except duckdb.Error as error:
        raise SourceError(
            f"{name} is not a complete Parquet file ({str(error).splitlines()[0]}). Nothing was"
            " imported. Download or copy the file again."
        ) from error
    columns, types = tuple(row[0] for row in found), tuple(row[1] for row in found)
    return Piece(path, name, RawFormat.PARQUET, "none", columns, types)


def _json_columns(text: str) -> tuple[RawFormat, tuple[str, ...]]:
    """Return the format, and the keys of the first objects."""
    if text.startswith("{"):
        lines = [_keys(line) for line in text.split("\n")[:_SAMPLED]]
        if any(keys is not None for keys in lines):
            return RawFormat.JSON_LINES, tuple(
                dict.fromkeys(k for each in lines for k in each or ())
            )
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
        objects = value if isinstance(value, list) else [value]
    except (ValueError, RecursionError):
        objects = _first_elements(text)
    if not objects and text.startswith("{"):
        return RawFormat.JSON_LINES, ()
    found = [tuple(each) for each in objects[:_SAMPLED] if isinstance(each, dict)]
    return RawFormat.JSON, tuple(dict.fromkeys(key for each in found for key in each))


def _first_elements(text: str) -> list[object]:
    """Return the first elements of an array that is longer than the sample."""
    found: list[object] = []
    decode, place = json.JSONDecoder().raw_decode, 1
    try:
        while text.startswith("[") and len(found) < _SAMPLED:
            value, end = decode(
                text, place + len(text[place:]) - len(text[place:].lstrip(" \r\n\t,"))
            )
            found.append(value)
            place = end
    except (ValueError, RecursionError):
        pass
    return found


def _keys(line: str) -> tuple[str, ...] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return tuple(value) if isinstance(value, dict) else None
