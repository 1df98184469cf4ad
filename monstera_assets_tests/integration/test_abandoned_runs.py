"""A run whose process was killed gives up its place in the pool; one that lives keeps it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import dagster as dg
from dagster import DagsterRun, DagsterRunStatus

from monstera_assets.operations.abandoned_runs import end_abandoned_runs, marked_as_running
from monstera_assets.warehouse.table_asset import POOL
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


def _claims(instance: dg.DagsterInstance, run_id: str) -> bool:
    log = instance.event_log_storage
    claimed: bool = log.claim_concurrency_slot(POOL, run_id, "a_step").is_claimed
    if not claimed:
        log.free_concurrency_slots_for_run(run_id)
    return claimed


def _status(instance: dg.DagsterInstance, run: DagsterRun) -> DagsterRunStatus | None:
    found = instance.get_run_by_id(run.run_id)
    return found.status if found else None


def test_place_of_a_killed_run_is_free_again(tmp_path: Path) -> None:
    with batched_instance(tmp_path / "home") as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
        run = instance.add_run(DagsterRun("a_job", status=DagsterRunStatus.STARTED))
        assert _claims(instance, run.run_id)
        with process(_RUNNING, tmp_path / "home", run.run_id):
            assert end_abandoned_runs(instance) == []
            assert not _claims(instance, "the next run")
        # The process was killed on leaving.
        assert end_abandoned_runs(instance) == [run.run_id]
        assert _claims(instance, "the next run")
        assert _status(instance, run) == DagsterRunStatus.FAILURE
        assert end_abandoned_runs(instance) == []


def test_run_that_ends_by_itself_leaves_no_mark(tmp_path: Path) -> None:
    with batched_instance(tmp_path / "home") as instance:
        run = instance.add_run(DagsterRun("a_job", status=DagsterRunStatus.SUCCESS))
        with marked_as_running(instance, run.run_id):
            pass
        assert end_abandoned_runs(instance) == []


def test_run_whose_end_could_not_be_recorded_is_ended_by_the_next(tmp_path: Path) -> None:
    """As on a disk that became full, whose run kept its place in the pool."""
    with batched_instance(tmp_path / "home") as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
        run = instance.add_run(DagsterRun("a_job", status=DagsterRunStatus.STARTED))
        assert _claims(instance, run.run_id)
        with suppress(OSError), marked_as_running(instance, run.run_id):
            raise OSError
        assert not _claims(instance, "the next run")
        assert end_abandoned_runs(instance) == [run.run_id]
        assert _claims(instance, "the next run")
        assert _status(instance, run) == DagsterRunStatus.FAILURE
