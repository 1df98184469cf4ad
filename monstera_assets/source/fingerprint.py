"""Compute fingerprints, which identify the content of source files in the load ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from monstera_assets.source.databases import table_digest
from monstera_assets.source.layout import SourceFile, unreadable


class FileFingerprint(NamedTuple):
    """A file's size in bytes and SHA-256 hash in lowercase hexadecimal.

    For a database table, the size is 0, and the hash is the SHA-256 hash of the table's digest.
    """

    relative_path: str
    size_bytes: int
    sha256: str


def summary(prints: Sequence[FileFingerprint]) -> FileFingerprint:
    """Combine fingerprints into one fingerprint, whose path is the number of files.

    A single fingerprint is returned unchanged.
    """
    if len(prints) == 1:
        return prints[0]
    content = "".join(f"{each.sha256} {each.relative_path}\n" for each in sorted(prints))
    return FileFingerprint(
        f"{len(prints)} files",
        sum(each.size_bytes for each in prints),
        hashlib.sha256(content.encode()).hexdigest(),
    )


def fingerprint(file: SourceFile) -> FileFingerprint:
    """Read a file once, in blocks, and return its fingerprint.

    Raises:
        SourceError: If the file is missing, is unreadable, or has changed since discovery.
    """
    file.check_unchanged()
    if file.table is not None:
        content = table_digest(file.table).encode()
        return FileFingerprint(file.relative_path, 0, hashlib.sha256(content).hexdigest())
    try:
        with file.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except OSError as error:
        raise unreadable(file.relative_path, error) from error
    file.check_unchanged()
    return FileFingerprint(file.relative_path, size, digest)
