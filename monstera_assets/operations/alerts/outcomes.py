"""Read the outcomes of a finished run, its checks and its steps from Dagster's event log.

The run's status is not enough: non-blocking checks can fail in successful runs, and a failed run
may have several failed checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogEntry,
)

from monstera_assets.checks.contract import DESCRIPTIONS, contract_rules
from monstera_assets.checks.rules import AlertLevel, Rule
from monstera_assets.checks.table_checks import LEVEL
from monstera_assets.operations.alerts.text import clean, rows_of
from monstera_assets.operations.runs import failures_of, step_name
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG

OBSERVATION = "observation:"
"""The run id prefix for observations, which are not Dagster runs."""

FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
"""The run statuses to report. Canceled runs are omitted, since cancellation is intentional."""

_READ = {
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_FAILURE,
}
_NAME, _DESCRIPTION, _NOTE, _CELL = 120, 300, 500, 40
_EXAMPLES = 5


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check, step or run, with cleaned and shortened text.

    `subject` identifies the check, step or job and is the same in every run. `at` is the end time,
    in seconds since the Unix epoch. `examples` contains a header and some of the violating rows.
    """

    subject: str
    title: str
    failing: bool
    at: float
    level: str
    owners: tuple[str, ...] = ()
    description: str = ""
    figures: str = ""
    note: str = ""
    examples: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class FinishedRun:
    """A run over `days` that finished at `ended_at`, in seconds since the Unix epoch."""

    run_id: str
    job: str
    days: str
    ended_at: float
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Catalog:
    """Owners by table, and descriptions by table and check."""

    owners: Mapping[str, tuple[str, ...]]
    descriptions: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, tables: Iterable[Table], rules: Iterable[Rule]) -> Catalog:
        """Create the catalog from declared tables and rules."""
        declared = list(tables)
        return cls(
            owners={table.name: table.owners for table in declared},
            descriptions={
                **{
                    (table.name, name): DESCRIPTIONS[name]
                    for table in declared
                    for name in contract_rules(table)
                },
                **{(rule.table.name, rule.name): rule.description for rule in rules},
            },
        )

    def owners_of_step(self, name: str) -> tuple[str, ...]:
        """Return the owners of a step's table, or an empty tuple if the step covers several tables."""
        return self.owners.get(name.removeprefix("check_"), ())


def read_run(instance: DagsterInstance, run: DagsterRun, catalog: Catalog) -> FinishedRun:
    """Return a finished run's outcomes."""
    entries = [
        record.event_log_entry
        for record in instance.get_records_for_run(run.run_id, of_type=_READ).records
    ]
    record = instance.get_run_record_by_id(run.run_id)
    ended_at = (record.end_time if record else None) or max(
        (entry.timestamp for entry in entries), default=0.0
    )
    checks = list(_checks(entries, catalog))
    steps = list(_steps(entries, catalog))
    return FinishedRun(
        run_id=run.run_id,
        job=run.job_name,
        days=_days(run.tags),
        ended_at=ended_at,
        outcomes=(*checks, *steps, *_whole(run, entries, ended_at, [*checks, *steps])),
    )


def _checks(entries: Sequence[EventLogEntry], catalog: Catalog) -> Iterable[Outcome]:
    """Return one outcome per check. A check fails if any of its evaluations in the run failed."""
    outcomes: dict[str, Outcome] = {}
    for entry in entries:
        event = entry.get_dagster_event()
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            outcome = _check(event.asset_check_evaluation_data, entry.timestamp, catalog)
            before = outcomes.get(outcome.subject)
            if before is None or not before.failing:
                outcomes[outcome.subject] = outcome
    return outcomes.values()


def _check(evaluation: AssetCheckEvaluation, at: float, catalog: Catalog) -> Outcome:
    table, name = evaluation.asset_key.path[-1], evaluation.check_name
    metadata = {key: str(value.value) for key, value in evaluation.metadata.items()}
    blocks = evaluation.severity == AssetCheckSeverity.ERROR
    violations = metadata.get("violations", "")
    return Outcome(
        subject=f"check:{'/'.join(evaluation.asset_key.path)}:{name}",
        title=clean(f"{table}.{name}", _NAME),
        failing=not evaluation.passed,
        at=at,
        level=_level(metadata.get(LEVEL), AlertLevel.P0 if blocks else AlertLevel.P2),
        owners=catalog.owners.get(table, ()),
        description=clean(catalog.descriptions.get((table, name), ""), _DESCRIPTION),
        figures=f"{int(violations):,}" if violations.isdecimal() else "",
        note=clean(metadata.get("note") or evaluation.description or "", _NOTE),
        examples=rows_of(metadata.get("examples", ""), rows=_EXAMPLES, width=_CELL),
    )


def _level(given: str | None, otherwise: AlertLevel) -> str:
    return given if given in set(AlertLevel) else str(otherwise)


def _steps(entries: Sequence[EventLogEntry], catalog: Catalog) -> Iterable[Outcome]:
    """Return one outcome per step, except for steps that failed because a blocking check failed."""
    reasons = {
        step: failure.message
        for failure in failures_of([entry.get_dagster_event() for entry in entries])
        for step in failure.steps
    }
    for entry in entries:
        event = entry.get_dagster_event()
        name = step_name(event)
        succeeded = event.event_type == DagsterEventType.STEP_SUCCESS
        if succeeded or (event.event_type == DagsterEventType.STEP_FAILURE and name in reasons):
            yield Outcome(
                subject=f"step:{name}",
                title=clean(f"step {name}", _NAME),
                failing=not succeeded,
                at=entry.timestamp,
                level=str(AlertLevel.P0),
                owners=catalog.owners_of_step(name),
                note="" if succeeded else clean(reasons[name], _NOTE),
            )


def _whole(
    run: DagsterRun, entries: Sequence[EventLogEntry], ended_at: float, parts: Sequence[Outcome]
) -> Iterable[Outcome]:
    """Return the outcome of the run itself, unless a failed check or step explains its failure."""
    failed = run.status == DagsterRunStatus.FAILURE
    if failed and any(part.failing for part in parts):
        return
    events = [entry.get_dagster_event() for entry in entries]
    reasons = [failure.message for failure in failures_of(events)] + [
        event.message or "" for event in events if event.event_type == DagsterEventType.RUN_FAILURE
    ]
    yield Outcome(
        subject=f"run:{run.job_name}",
        title=clean(f"run of {run.job_name}", _NAME),
        failing=failed,
        at=ended_at,
        level=str(AlertLevel.P0),
        note=clean(reasons[0] if reasons else "the run failed", _NOTE) if failed else "",
    )


def _days(tags: Mapping[str, str]) -> str:
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG, "")
    last = tags.get(RANGE_END_TAG) or first
    return clean(first if first == last else f"{first} to {last}", _NAME)


def moment(seconds: float) -> str:
    """Return a UTC time as text."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
