"""Open text files, which may be compressed with gzip or Zstandard."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from backports import zstd

from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import Compression, SourceFile

_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def open_bytes(file: SourceFile) -> Iterator[BinaryIO]:
    """Open a file to read its decompressed bytes.

    Raises:
        SourceError: If the file is missing, unreadable or damaged.
    """
    try:
        with _open(file.path, file.compression) as stream:
            yield stream
    except _DAMAGED as error:
        raise SourceError(
            f"{file.relative_path} cannot be decompressed ({error}). Compress the original file again."
        ) from error
    except OSError as error:
        raise gone(file) from error


@contextmanager
def open_text(file: SourceFile) -> Iterator[TextIO]:
    """Open a file to read its text. Bytes that are not valid UTF-8 become lone surrogates.

    Raises:
        SourceError: If the file is missing, unreadable, damaged or encoded in UTF-16.
    """
    with open_bytes(file) as stream:
        if stream.read(2) in _UTF_16_MARKS:
            raise SourceError(f"{file.relative_path} is encoded in UTF-16. Save the file in UTF-8.")
        stream.seek(0)
        with io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
            yield text


def gone(*files: SourceFile) -> SourceError:
    """Return the error for files that can no longer be opened or have changed."""
    for file in files:
        file.check_unchanged()
    names = ", ".join(file.relative_path for file in files)
    return SourceError(
        f"{names} cannot be read. Check that each file still exists and is readable."
    )


def _open(path: Path, compression: Compression) -> BinaryIO:
    if compression is not Compression.NONE and not path.stat().st_size:
        raise EOFError("The file is empty")
    if compression is Compression.GZIP:
        return cast("BinaryIO", gzip.open(path, "rb"))
    if compression is Compression.ZSTD:
        return cast("BinaryIO", zstd.open(path, "rb"))
    return path.open("rb")
