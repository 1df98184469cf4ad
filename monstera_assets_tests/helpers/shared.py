"""Expensive test data that all workers share, created once per session."""

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
    """A folder shared by all workers of a session."""

    folder: Path

    def once(self, name: str, make: Callable[[Path], Made]) -> Made:
        """Return the result of `make` for an empty folder; other workers get a copy of it.

        The first worker to ask for the name calls `make` while the others wait. All workers share
        the folder until the end of the session: copy a database before changing it.

        Args:
            name: name of the folder and the result.
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
