"""Runs of which only the record is left: their process was killed, or could not record their end.

Dagster would show such a run as started for ever, and start no other beside it. A process that
executes a run itself therefore locks a file for as long as it lives, which the system unlocks however
the process ends, and removes the file once the run's end is recorded. A file that can be locked belongs
to a run that was abandoned.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance

_FOLDER = "running"


@contextmanager
def marked_as_running(instance: DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep a run marked as one whose process lives.

    The mark outlives a run whose end could not be recorded, as on a disk that is full.
    """
    path = _folder(instance) / run_id
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished:
            path.unlink(missing_ok=True)


def end_abandoned_runs(instance: DagsterInstance) -> list[str]:
    """Record the end of runs whose process ended without recording it.

    Returns:
        Their ids.
    """
    ended = []
    for path in sorted(_folder(instance).iterdir()):
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            run = instance.get_run_by_id(path.name)
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, "The process of this run ended before the run did.")
            path.unlink(missing_ok=True)
            ended.append(path.name)
    return ended


def is_abandoned(instance: DagsterInstance, run_id: str) -> bool:
    """Whether a run is marked as one whose process lives, and that process has ended."""
    path = _folder(instance) / run_id
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def _folder(instance: DagsterInstance) -> Path:
    folder = Path(instance.root_directory) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder
