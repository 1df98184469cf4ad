"""Keep a list of erasures next to the backups, so that a restored backup does not restore a person.

The list contains the rows of `operations.forgotten`: keyed hashes and tombstones. It contains neither
ids nor the key, without which the hashes cannot be computed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from monstera_assets.bronze.forgotten import KEY, Erasure
from monstera_assets.operations import registered_folders
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.files import replacing_file

LIST = "forgotten.csv"
REGISTER_SUFFIX = ".backups"
"""The suffix of the register of folders with backups (see `registered_folders`)."""

_HEADER = ("kind", "keyed_hash", "tombstone")


class ErasureListError(WarehouseError):
    """A list of erasures is missing, unreadable or belongs to another warehouse."""


def list_beside_backups(database: Path, erasures: Iterable[Erasure]) -> list[Path]:
    """Add erasures to the lists next to all backups, and return the folders that do not exist.

    Raises:
        ErasureListError: If a list cannot be read or written to.
    """
    known, unreached = list(erasures), []
    for folder in registered_folders.registered(database, REGISTER_SUFFIX):
        if folder.is_dir():
            add_to_list(folder, known)
        else:
            unreached.append(folder)
    return unreached


def add_to_list(folder: Path, erasures: Iterable[Erasure]) -> None:
    """Add erasures to a folder's list, which is created if necessary.

    Raises:
        ErasureListError: If the list cannot be read or written to, or belongs to another warehouse.
    """
    path = folder / LIST
    rows = sorted({*(read_list(folder) if path.exists() else ()), *erasures})
    if sum(kind == KEY for kind, *_ in rows) > 1:
        raise ErasureListError(
            f"{path} lists erasures from another warehouse. Write this warehouse's backups to another"
            " folder with --output."
        )
    try:
        with replacing_file(path, ".writing") as incoming, incoming.open("w", newline="") as file:
            csv.writer(file).writerows([_HEADER, *rows])
    except OSError as error:
        raise ErasureListError(
            f"Cannot write to {path}: {error.strerror}. Until this list is complete, restoring a backup"
            " restores the erased person. Check the folder's permissions and the disk space, then run"
            " the same command again."
        ) from error


def read_list(folder: Path) -> list[Erasure]:
    """Return the erasures in a folder's list.

    Raises:
        ErasureListError: If the list is missing or cannot be read.
    """
    path = folder / LIST
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        if tuple(header) != _HEADER or any(len(row) != len(_HEADER) for row in rows):
            raise ValueError
    except FileNotFoundError as error:
        raise ErasureListError(
            f"{path} is missing. Without the list of erasures, the backup would restore the data of"
            " erased people. Copy the list from the folder in which the backup was made."
        ) from error
    except (OSError, ValueError) as error:
        raise ErasureListError(
            f"{path} cannot be read as a list of erasures. Copy the list from the folder in which the"
            " backup was made."
        ) from error
    return [(kind, keyed_hash, tombstone) for kind, keyed_hash, tombstone in rows]
