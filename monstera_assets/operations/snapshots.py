"""Folders whose files are replaced all at once: exports, dashboards.

Such a folder looks like this:

    current -> snapshots/8f0c2a91    the link that readers follow
    snapshots/8f0c2a91/              the files

A snapshot is complete and on disk before the link is turned to it, in one step: whoever reads through
the link sees the old files or the new ones. The snapshot before stays until the next one is written,
for readers that have begun with it.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import duckdb

from monstera_assets.warehouse.compaction import synchronize
from monstera_assets.warehouse.errors import WarehouseError

CURRENT = "current"
_SNAPSHOTS = "snapshots"
_LOCK = ".lock"


@dataclass(frozen=True)
class Snapshots:
    """A folder of snapshots.

    Attributes:
        output: the folder; made when first written to.
        what: a snapshot is, in messages.
        command: writes another one, in messages.
        error: what is raised.
    """

    output: Path
    what: str
    command: str
    error: type[WarehouseError]

    @property
    def current(self) -> Path:
        """The link that readers follow."""
        return self.output / CURRENT

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A new folder to be filled; it is what readers see once the body has ended.

        Raises:
            WarehouseError: as `error`: the folder cannot be written to, or another process writes.
        """
        try:
            with self._locked():
                self._clean()
                snapshot = self.output / _SNAPSHOTS / uuid4().hex[:8]
                snapshot.mkdir(parents=True)
                try:
                    yield snapshot
                    # On disk before anybody is led to them: the files, and the folders that name them.
                    for path in (*snapshot.iterdir(), snapshot, snapshot.parent):
                        synchronize(path)
                    self._turn_link(snapshot)
                except BaseException:
                    shutil.rmtree(snapshot, ignore_errors=True)
                    raise
        except (OSError, duckdb.IOException) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise self.error(
                f"{self.output} cannot be written to: {reason}. The {self.what} before it is"
                " untouched. Check that the folder may be written to and that its disk has room,"
                f" then try again: {self.command}."
            ) from error

    def clean(self) -> None:
        """Remove all snapshots but the current one.

        Raises:
            WarehouseError: as `error`: another process writes.
        """
        with self._locked():
            self._clean()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; a killed one releases the lock with its process."""
        self.output.mkdir(parents=True, exist_ok=True)
        if self.current.exists() and not self.current.is_symlink():
            raise self.error(
                f"{self.current} is not the link of an earlier {self.what}: give another folder with"
                " --output, or remove it."
            )
        with (self.output / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self.error(
                    f"another {self.what} is being written into {self.output}: let it finish, then"
                    f" try again: {self.command}."
                ) from error
            yield

    def _clean(self) -> None:
        """Remove what a killed writer left, and the snapshot before the current one."""
        current = self.current.resolve()
        (self.output / f".{CURRENT}").unlink(missing_ok=True)
        for snapshot in (self.output / _SNAPSHOTS).glob("*"):
            if snapshot.resolve() != current:
                shutil.rmtree(snapshot)

    def _turn_link(self, snapshot: Path) -> None:
        # A link cannot be overwritten, but it can be replaced by another one, which is one step.
        incoming = self.output / f".{CURRENT}"
        incoming.unlink(missing_ok=True)
        incoming.symlink_to(Path(_SNAPSHOTS) / snapshot.name)
        incoming.replace(self.current)
        synchronize(self.output)
