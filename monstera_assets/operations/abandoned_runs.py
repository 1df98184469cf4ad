"""Find abandoned runs: runs whose process was killed or failed to record the outcome.

Dagster would keep showing such a run as started and would not start another run. Each process that
executes a run therefore locks a file and deletes it once the outcome is recorded. The operating
system releases the lock when the process exits, so a file that can be locked belongs to an
abandoned run.
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
    """Mark a run as running in this process.

    The mark is kept if the run's outcome cannot be recorded, for example because the disk is full.
    """
    path = _folder(instance) / run_id
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished:
            path.unlink(missing_ok=True)


def end_abandoned_runs(instance: DagsterInstance) -> list[str]:
    """Record abandoned runs as failed and return their ids."""
    ended = []
    for path in sorted(_folder(instance).iterdir()):
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            run = instance.get_run_by_id(path.name)
            if run is not None and not run.is_finished:
                instance.report_run_failed(
                    run, "This run's process exited before the run finished."
                )
            path.unlink(missing_ok=True)
            ended.append(path.name)
    return ended


def is_abandoned(instance: DagsterInstance, run_id: str) -> bool:
    """Return whether a run is still marked as running after its process has exited."""
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
