"""Fingerprints, which identify the content of source files in the ledger of loads."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from monstera_assets.source.layout import SourceFile, unreadable


class FileFingerprint(NamedTuple):
    """Size and SHA-256 (lowercase hexadecimal) of a file."""

    relative_path: str
    size_bytes: int
    sha256: str


def fingerprint(file: SourceFile) -> FileFingerprint:
    """Read a file once, in blocks, and return its fingerprint.

    Raises:
        SourceError: If the file is missing, unreadable, or has changed since discovery.
    """
    file.check_unchanged()
    try:
        with file.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except OSError as error:
        raise unreadable(file.relative_path, error) from error
    file.check_unchanged()
    return FileFingerprint(file.relative_path, size, digest)
