"""One run over a range of days: all assets and checks, in this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from dagster import (
    AssetSelection,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    JobDefinition,
    define_asset_job,
)
from dagster._core.events.log import EventLogEntry
from dagster_shared.error import SerializableErrorInfo

from monstera_assets.bronze.load_events import ROWS_OUTSIDE
from monstera_assets.operations.partitions import daily_partitions
from monstera_assets.settings import SettingsError
from monstera_assets.warehouse.windows import DateWindow

WHOLE_GRAPH = "whole_graph"

whole_graph_job = define_asset_job(
    WHOLE_GRAPH,
    selection=AssetSelection.all(),
    description="Every table and every check, for a partition or a range of partitions.",
)

Listener = Callable[[DagsterEvent], None]


@dataclass(frozen=True)
class FailedCheck:
    """A check that did not pass, with the number of rows that break its rule."""

    table: str
    name: str
    blocking: bool
    violations: int
    note: str


@dataclass(frozen=True)
class RunReport:
    """What a run did."""

    window: DateWindow
    run_id: str
    succeeded: bool
    errors: tuple[str, ...]
    checks_passed: int
    failed_checks: tuple[FailedCheck, ...]
    rows_outside: int

    @property
    def healthy(self) -> bool:
        """Whether the run succeeded and no check of severity ERROR failed."""
        return self.succeeded and not any(check.blocking for check in self.failed_checks)


def choose_window(
    available: DateWindow, source: Callable[[], DateWindow], first: date | None, last: date | None
) -> DateWindow:
    """The range of a run: as asked, by default all that the source covers.

    Args:
        available: the partitions that exist.
        source: gives the range of the source; asked only where it is needed.
        first: first day asked for.
        last: last day asked for.

    Raises:
        SettingsError: a day asked for has no partition, or the range is empty.
    """
    for flag, day in (("--from", first), ("--to", last)):
        if day is not None and not available.first <= day <= available.last:
            raise SettingsError(f"{flag} {day}: there are partitions from {available} only")
    chosen_first = first or available.first
    chosen_last = last or min(source().last, available.last)
    if chosen_last < chosen_first:
        raise SettingsError(
            f"the range from {chosen_first} to {chosen_last} is empty; partitions exist from"
            f" {available}"
        )
    return DateWindow(chosen_first, chosen_last)


def available_partitions(first: date) -> DateWindow:
    """The partitions that exist: from the first day to the last one that is over.

    Raises:
        SettingsError: the first day is not over yet.
    """
    last_key = daily_partitions(first).get_last_partition_key()
    if last_key is None:
        raise SettingsError(f"start_date: {first} is not over yet, so there is no partition")
    return DateWindow(first, date.fromisoformat(last_key))


def whole_graph(definitions: Definitions) -> JobDefinition:
    """The job over all assets and checks."""
    return definitions.resolve_job_def(WHOLE_GRAPH)


def run_range(
    job: JobDefinition,
    instance: DagsterInstance,
    window: DateWindow,
    listener: Listener | None = None,
) -> RunReport:
    """Materialize the whole graph for a range of days in one run; failures are in the report.

    Args:
        job: the job to run.
        instance: where the run is recorded.
        window: the partitions.
        listener: is told every event of the run as it happens.
    """
    run_id = str(uuid.uuid4())

    def tell(entry: EventLogEntry, _cursor: str = "") -> None:
        if listener is not None and entry.dagster_event is not None:
            listener(entry.dagster_event)

    instance.add_event_listener(run_id, tell)
    result = job.execute_in_process(
        instance=instance,
        run_id=run_id,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={
            "dagster/asset_partition_range_start": window.first.isoformat(),
            "dagster/asset_partition_range_end": window.last.isoformat(),
        },
    )
    return _report(result, window)


def _report(result: ExecuteInProcessResult, window: DateWindow) -> RunReport:
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
        errors=tuple(_errors(result.all_events)),
        checks_passed=sum(evaluation.passed for evaluation in evaluations),
        failed_checks=failed,
        rows_outside=_rows_outside(result.all_events),
    )


def _errors(events: Sequence[DagsterEvent]) -> list[str]:
    """The root cause of each failure that is not a failed check's, which is reported as such."""
    messages: list[str] = []
    for event in events:
        error: SerializableErrorInfo | None = None
        if event.event_type == DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
        elif event.event_type == DagsterEventType.RUN_FAILURE and not messages:
            error = event.job_failure_data.error
        if error is None:
            continue
        while error.cause is not None:
            error = error.cause
        message = error.message.strip()
        if "blocking asset check" not in message:
            place = f"{event.step_key}: " if event.step_key else ""
            messages.append(f"{place}{message.split(': ', 1)[-1]}")
    return messages


def _rows_outside(events: Sequence[DagsterEvent]) -> int:
    for event in events:
        if event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            metadata = event.step_materialization_data.materialization.metadata
            if ROWS_OUTSIDE in metadata:
                return int(str(metadata[ROWS_OUTSIDE].value))
    return 0
