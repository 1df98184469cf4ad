"""A run whose process was killed is recorded as failed, while an active run is not changed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import dagster as dg
from dagster import DagsterRun, DagsterRunStatus

from monstera_assets.operations.abandoned_runs import end_abandoned_runs, marked_as_running
from monstera_assets_tests.integration.example_assets import process
from monstera_assets_tests.integration.example_runs import batched_instance

_RUNNING = """
import sys
from dagster import DagsterInstance
from monstera_assets.operations.abandoned_runs import marked_as_running
with DagsterInstance.from_config(sys.argv[1]) as instance, marked_as_running(instance, sys.argv[2]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def _status(instance: dg.DagsterInstance, run: DagsterRun) -> DagsterRunStatus | None:
    found = instance.get_run_by_id(run.run_id)
    return found.status if found else None


def test_killed_run_is_recorded_as_failed(tmp_path: Path) -> None:
    with batched_instance(tmp_path / "home") as instance:
        run = instance.add_run(DagsterRun("a_job", status=DagsterRunStatus.STARTED))
        with process(_RUNNING, tmp_path / "home", run.run_id):
            assert end_abandoned_runs(instance) == []
            assert _status(instance, run) == DagsterRunStatus.STARTED
        # The process was killed when the context exited.
        assert end_abandoned_runs(instance) == [run.run_id]
        assert _status(instance, run) == DagsterRunStatus.FAILURE
        assert end_abandoned_runs(instance) == []


def test_run_that_ends_normally_leaves_no_mark(tmp_path: Path) -> None:
    with batched_instance(tmp_path / "home") as instance:
        run = instance.add_run(DagsterRun("a_job", status=DagsterRunStatus.SUCCESS))
        with marked_as_running(instance, run.run_id):
            pass
        assert end_abandoned_runs(instance) == []


def test_run_whose_end_could_not_be_recorded_is_ended_by_the_next(tmp_path: Path) -> None:
    """As if the disk had become full."""
    with batched_instance(tmp_path / "home") as instance:
        run = instance.add_run(DagsterRun("a_job", status=DagsterRunStatus.STARTED))
        with suppress(OSError), marked_as_running(instance, run.run_id):
            raise OSError
        assert end_abandoned_runs(instance) == [run.run_id]
        assert _status(instance, run) == DagsterRunStatus.FAILURE
