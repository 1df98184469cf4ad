"""Run all assets and checks for a range of days in the current process."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dagster import (
    AssetSelection,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    EventLogEntry,
    ExecuteInProcessResult,
    JobDefinition,
    define_asset_job,
)

from monstera_assets.bronze.bronze_loads import most_rows_are_accepted
from monstera_assets.bronze.load_events import ROWS_OUTSIDE
from monstera_assets.gold.alerting import days_have_events, last_day_follows_the_others
from monstera_assets.operations.abandoned_runs import end_abandoned_runs, marked_as_running
from monstera_assets.operations.jobs import SELECTED, WHOLE_GRAPH
from monstera_assets.settings import SettingsError
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.errors import MissingPartitionsError, WarehouseError
from monstera_assets.warehouse.windows import RANGE_END_TAG, RANGE_START_TAG, DateWindow

whole_graph_job = define_asset_job(
    WHOLE_GRAPH,
    selection=AssetSelection.all(),
    description="Computes all tables and runs all checks for a partition or a range of partitions.",
)
selected_assets_job = define_asset_job(
    SELECTED,
    selection=AssetSelection.all(),
    description="Computes the assets that are selected in the UI, for all selected days in one run.",
)

Listener = Callable[[DagsterEvent], None]

_STEPS_SHOWN = 3
_ENDS_OF_STEPS = (DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE)


@dataclass(frozen=True)
class FailedCheck:
    """A failed check and the number of rows that violate it."""

    table: str
    name: str
    blocking: bool
    violations: int
    note: str


@dataclass(frozen=True)
class Failure:
    """The cause of a failure and the failed steps (none if no step started)."""

    kind: str
    message: str
    steps: tuple[str, ...]

    @property
    def is_source_error(self) -> bool:
        """Whether the failure was caused by an error in the source."""
        return self.kind == SourceError.__name__

    def __str__(self) -> str:
        shown, others = self.steps[:_STEPS_SHOWN], len(self.steps) - _STEPS_SHOWN
        more = f" and {others} more" if others > 0 else ""
        return f"{', '.join(shown)}{more}: {self.message}" if shown else self.message


ABOUT_SOURCE = (most_rows_are_accepted, days_have_events, last_day_follows_the_others)
"""The checks that fail if most rows are rejected, or if days are missing or have a wrong date."""


@dataclass(frozen=True)
class RunReport:
    """The result of a run."""

    window: DateWindow
    run_id: str
    succeeded: bool
    interrupted: bool
    failures: tuple[Failure, ...]
    checks_passed: int
    failed_checks: tuple[FailedCheck, ...]
    rows_outside: int

    @property
    def healthy(self) -> bool:
        """Whether the run succeeded and no check with severity ERROR failed."""
        return self.succeeded and not any(check.blocking for check in self.failed_checks)

    @property
    def questions_source(self) -> bool:
        """Whether a failed check indicates that the source as a whole is wrong."""
        names = {rule.name for rule in ABOUT_SOURCE}
        return any(check.name in names for check in self.failed_checks)


def range_tags(window: DateWindow) -> dict[str, str]:
    """Return the tags for a run over a range of partitions."""
    return {
        RANGE_START_TAG: window.first.isoformat(),
        RANGE_END_TAG: window.last.isoformat(),
    }


def whole_graph(definitions: Definitions) -> JobDefinition:
    """Return the job that runs all assets and checks."""
    return definitions.resolve_job_def(WHOLE_GRAPH)


def run_range(
    job: JobDefinition,
    instance: DagsterInstance,
    window: DateWindow,
    listener: Listener | None = None,
    tags: Mapping[str, str] | None = None,
) -> RunReport:
    """Materialize the whole graph for a range of days in one run and report any failures.

    Args:
        job: the job to run.
        instance: the instance that records the run.
        window: the days to materialize.
        listener: a function that is called with each event in the run.
        tags: additional tags for the run.
    """
    run_id = str(uuid.uuid4())
    end_abandoned_runs(instance)
    with marked_as_running(instance, run_id), _interrupts() as interrupted:

        def on_event(entry: EventLogEntry, _cursor: str = "") -> None:
            event = entry.dagster_event
            if event is None:
                return
            if listener is not None:
                listener(event)
            if event.event_type in _ENDS_OF_STEPS and interrupted():
                # DuckDB turned the interrupt into an error that ended only the step. Raise the
                # interrupt again between steps so that Dagster ends the run.
                signal.raise_signal(signal.SIGINT)

        instance.add_event_listener(run_id, on_event)
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={**range_tags(window), **(tags or {})},
        )
        return _report(result, window, interrupted=interrupted())


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the process has received SIGINT or SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread receives signals
        return
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    received: set[int] = set()

    def interrupted() -> bool:
        with suppress(BlockingIOError):
            received.update(os.read(reading, 4096))
        return bool(received & {signal.SIGINT, signal.SIGTERM})

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield interrupted
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _report(result: ExecuteInProcessResult, window: DateWindow, *, interrupted: bool) -> RunReport:
    evaluations = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    failed = tuple(
        FailedCheck(
            table=evaluation.asset_key.path[-1],
            name=evaluation.check_name,
            blocking=evaluation.severity.value == "ERROR",
            violations=int(str(evaluation.metadata["violations"].value)),
            note=evaluation.description or "",
        )
        for evaluation in evaluations
        if not evaluation.passed
    )
    return RunReport(
        window=window,
        run_id=result.run_id,
        succeeded=result.success,
        interrupted=interrupted,
        failures=tuple(failures_of(result.all_events)),
        checks_passed=sum(evaluation.passed for evaluation in evaluations),
        failed_checks=failed,
        rows_outside=_rows_outside(result.all_events),
    )


def failures_of(events: Sequence[DagsterEvent]) -> list[Failure]:
    """Return the root causes of failures. Failed checks are reported separately."""
    own_errors = set(_names_with_subclasses(SettingsError, SourceError, WarehouseError))
    steps_of: dict[tuple[str, str], list[str]] = {}
    messages: dict[tuple[str, str], str] = {}
    for event in events:
        error = None
        if event.event_type == DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
        elif event.event_type == DagsterEventType.RUN_FAILURE and not messages:
            # If a run's process was killed, another process records the failure without any data.
            error = getattr(event.event_specific_data, "error", None)
        if error is None:
            continue
        while error.cause is not None and error.cls_name not in own_errors:
            error = error.cause
        kind = error.cls_name or ""
        message = " ".join(error.message.split())
        if "blocking asset check" in message:
            continue
        if kind in own_errors:  # remove the class name
            message = message.split(": ", 1)[-1]
        cause = (kind, message)
        if kind == MissingPartitionsError.__name__:
            # Each step reads a different period. Of the messages about a table, the first in sort
            # order contains the earliest missing day. The command in this message materializes
            # the days that all steps need.
            cause = (kind, message.split(" for ", 1)[0])
        steps_of.setdefault(cause, []).extend([step_name(event)] if event.step_key else [])
        messages[cause] = min(messages.get(cause, message), message)
    return [
        Failure(kind, messages[kind, key], tuple(steps)) for (kind, key), steps in steps_of.items()
    ]


def _names_with_subclasses(*kinds: type[Exception]) -> Iterator[str]:
    for kind in kinds:
        yield kind.__name__
        yield from _names_with_subclasses(*kind.__subclasses__())


def step_name(event: DagsterEvent) -> str:
    """Return the name of the table, load or check that a step executes."""
    return (event.step_key or "").rsplit("__", 1)[-1]


def _rows_outside(events: Sequence[DagsterEvent]) -> int:
    for event in events:
        if event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            metadata = event.step_materialization_data.materialization.metadata
            if ROWS_OUTSIDE in metadata:
                return int(str(metadata[ROWS_OUTSIDE].value))
    return 0
