"""What identifies the content of a source file in the ledger of loads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monstera_assets.source.errors import SourceError

if TYPE_CHECKING:
    from monstera_assets.source.layout import SourceFile

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileFingerprint:
    """The size and SHA-256 (lowercase hexadecimal) of one file."""

    relative_path: str
    size_bytes: int
    sha256: str


def fingerprint(file: SourceFile) -> FileFingerprint:
    """Read a file once, in blocks, and return its fingerprint.

    Raises:
        SourceError: the file is gone, cannot be read, or has changed since it was found.
    """
    file.check_unchanged()
    digest = hashlib.sha256()
    size = 0
    try:
        with file.path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise SourceError(
            f"{file.relative_path} cannot be read ({error.strerror}): check that it is there and "
            "its permissions."
        ) from error
    file.check_unchanged()
    return FileFingerprint(file.relative_path, size, digest.hexdigest())
