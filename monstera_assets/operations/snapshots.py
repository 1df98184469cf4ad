"""Folders whose files are replaced atomically, such as exports and dashboards.

Such a folder contains:

    current -> snapshots/8f0c2a91    the link that consumers read through
    snapshots/8f0c2a91/              the files

Once the new snapshot is complete and on disk, the link is replaced in one step. The previous
snapshot is kept until the next write for consumers that are still reading it.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import duckdb

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.files import synchronize

CURRENT = "current"
_SNAPSHOTS = "snapshots"
_LOCK = ".lock"


@dataclass(frozen=True)
class Snapshots:
    """A folder of snapshots.

    Attributes:
        output: the folder, which is created on the first write.
        what: the word for a snapshot in messages.
        command: the command that messages suggest for retrying.
        error: the error class to raise.
    """

    output: Path
    what: str
    command: str
    error: type[WarehouseError]

    @property
    def current(self) -> Path:
        """The link through which consumers read the latest snapshot."""
        return self.output / CURRENT

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """Yield a new folder to fill, and publish it when the context exits.

        Raises:
            WarehouseError: If the folder cannot be written to, or another process is writing to it.
                The `error` attribute determines the exception class.
        """
        try:
            with self._locked():
                self._clean()
                snapshot = self.output / _SNAPSHOTS / uuid4().hex[:8]
                snapshot.mkdir(parents=True)
                try:
                    yield snapshot
                    # Flush the files and folders to disk before publishing them. File systems flush
                    # files that are waiting at the same time together, which is many times faster.
                    with ThreadPoolExecutor() as pool:
                        for _ in pool.map(synchronize, snapshot.iterdir()):
                            pass  # raise the first error
                    for path in (snapshot, snapshot.parent):
                        synchronize(path)
                    self._publish(snapshot)
                except BaseException:
                    shutil.rmtree(snapshot, ignore_errors=True)
                    raise
        except (OSError, duckdb.IOException) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise self.error(
                f"Cannot write to {self.output}: {reason}. The previous {self.what} is unchanged."
                " Check the folder's permissions and the disk space, then run"
                f" `{self.command}` again."
            ) from error

    def clean(self) -> None:
        """Delete all snapshots except the current one.

        Raises:
            WarehouseError: If another process is writing to the folder. The `error` attribute
                determines the exception class.
        """
        with self._locked():
            self._clean()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder for a single writer.

        The operating system releases the lock when the process exits.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        if self.current.exists() and not self.current.is_symlink():
            raise self.error(
                f"{self.current} is not a link created by an earlier {self.what}. Delete"
                f" {self.current}, or choose another folder with --output."
            )
        with (self.output / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self.error(
                    f"Another process is writing the {self.what} to {self.output}. Wait for that"
                    f" process to finish, then run `{self.command}` again."
                ) from error
            yield

    def _clean(self) -> None:
        """Delete the previous snapshot and any files left behind by killed writers."""
        current = self.current.resolve()
        (self.output / f".{CURRENT}").unlink(missing_ok=True)
        for snapshot in (self.output / _SNAPSHOTS).glob("*"):
            if snapshot.resolve() != current:
                shutil.rmtree(snapshot)

    def _publish(self, snapshot: Path) -> None:
        # A link cannot be overwritten, but another link can replace it atomically.
        incoming = self.output / f".{CURRENT}"
        incoming.unlink(missing_ok=True)
        incoming.symlink_to(Path(_SNAPSHOTS) / snapshot.name)
        incoming.replace(self.current)
        synchronize(self.output)
