"""What several test modules need and what takes long to make: made once a session, for all workers."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


@dataclass(frozen=True)
class Shared:
    """A folder that all workers of a session know."""

    folder: Path

    def once(self, name: str, make: Callable[[Path], Made]) -> Made:
        """What `make` returns for an empty folder: its value here, a copy of it in other workers.

        The first worker that asks for the name makes it while the others wait. The folder stays
        until the session's end and belongs to all: copy a database to change it.

        Args:
            name: of the folder, and of what is made.
            make: returns a value that can be pickled.
        """
        self.folder.mkdir(exist_ok=True)
        folder, kept = self.folder / name, self.folder / f"{name}.pickle"
        with (self.folder / f"{name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if kept.exists():
                made: Made = pickle.loads(kept.read_bytes())  # noqa: S301  # written below
                return made
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose `make` failed
            folder.mkdir()
            made = make(folder)
            kept.write_bytes(pickle.dumps(made))
            return made
