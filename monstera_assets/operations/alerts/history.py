"""Read what is new in a finished run, and which tables are late, from Dagster's own records.

A failure is new if the previous evaluation of the check, or the previous run, did not fail. A run that
only restates earlier days says nothing about the latest day, so its non-blocking checks are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import dropwhile, takewhile

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunsFilter,
)
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecordStatus,
)

from monstera_assets.checks.rules import RESPONSES, AlertLevel
from monstera_assets.checks.table_checks import LEVEL, REMEDY
from monstera_assets.imports import LANDED_SOURCE, OWNERS
from monstera_assets.operations.alerts.message import AlertEvent, Item, clean, code, moment, table
from monstera_assets.operations.jobs import DAILY, WHOLE_GRAPH, Due
from monstera_assets.operations.runs import Failure, failures_of
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG

LATE = "freshness of the tables"
"""The subject and title of the item about late tables."""

REMIND_AFTER_DAYS = 7
_RUNS_READ, _EVALUATIONS_READ = 200, 400
_SETTLED_SECONDS = 60.0  # without a change of freshness, so that one message names all late tables
_NAME, _TEXT, _CELL, _ROWS = 120, 500, 40, 5


@dataclass(frozen=True, order=True)
class Run:
    """A finished run and its end in seconds since the Unix epoch."""

    ended_at: float
    run_id: str
    run: DagsterRun = field(compare=False)

    @property
    def key(self) -> tuple[float, str]:
        """The position among all runs."""
        return self.ended_at, self.run_id

    @property
    def days(self) -> tuple[str, str]:
        """The first and last day, which are empty if the run has no partitions."""
        tags = self.run.tags
        first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG, "")
        return first, tags.get(RANGE_END_TAG) or first

    @property
    def command(self) -> str:
        """The command that runs the same days."""
        first, last = self.days
        return f"monstera run --from {first} --to {last}" if first else "monstera run"

    @property
    def text(self) -> str:
        """The job and the days."""
        days = " to ".join(sorted(set(self.days)))
        return code(clean(self.run.job_name, _NAME)) + (f" for {days}" if days else "")

    @property
    def job(self) -> str:
        """The job. The daily run and a run of a range compute the same tables."""
        return WHOLE_GRAPH if self.run.job_name == DAILY else self.run.job_name

    @property
    def succeeded(self) -> bool:
        """Whether the run succeeded."""
        return self.run.status is DagsterRunStatus.SUCCESS


class History:
    """The finished runs of an instance, oldest first."""

    def __init__(self, instance: DagsterInstance, tables: Iterable[Table]) -> None:
        """Read the latest runs."""
        self._instance, self._tables = instance, {table.name: table for table in tables}
        # Canceled runs are omitted, since cancellation is intentional.
        finished = RunsFilter(statuses=[DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE])
        records = instance.get_run_records(finished, limit=_RUNS_READ)
        runs = [(one.end_time or 0.0, one.dagster_run) for one in records]
        self.runs = sorted(Run(ended_at, run.run_id, run) for ended_at, run in runs)
        self._news: dict[str, list[Item]] = {}
        self._restating: set[str] = set()
        latest = ""
        for run in self.runs:
            if "" < run.days[1] < latest:
                self._restating.add(run.run_id)
            latest = max(latest, run.days[1])

    def news(self, run: Run) -> list[Item]:
        """Return what is new in a run compared with the history before it."""
        if run.run_id not in self._news:
            records = self._instance.get_records_for_run(
                run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION
            ).records
            events = [record.event_log_entry.get_dagster_event() for record in records]
            checks = [event.asset_check_evaluation_data for event in events]
            items = [*(self._check(run, check) for check in checks), *self._failures(run)]
            self._news[run.run_id] = [
                one if one.failing else one.recovered() for one in items if one
            ]
        return self._news[run.run_id]

    def owners(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the owners of some tables, or of the import."""
        owners: set[str] = set()
        for name in names:
            if name in self._tables:
                owners.update(self._tables[name].owners)
            elif name == LANDED_SOURCE:
                owners.update(OWNERS)
        return tuple(sorted(owners))

    def _check(self, run: Run, now: AssetCheckEvaluation) -> Item | None:
        if not self._counts(run.run_id, now):
            return None
        key = AssetCheckKey(now.asset_key, now.check_name)
        storage = self._instance.event_log_storage
        failed = {AssetCheckExecutionRecordStatus.FAILED}
        if now.passed and not storage.get_asset_check_execution_history(key, 1, status=failed):
            return None  # the usual case
        records = storage.get_asset_check_execution_history(
            key, _EVALUATIONS_READ, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
        )
        before = [
            (record.event.timestamp, evaluation)
            for record in dropwhile(lambda record: record.run_id != run.run_id, records)
            if record.run_id != run.run_id
            and record.event
            and (evaluation := record.event.get_dagster_event().asset_check_evaluation_data)
            and self._counts(record.run_id, evaluation)
        ]
        streak = list(takewhile(lambda one: not one[1].passed, before))
        since = streak[-1][0] if streak else run.ended_at
        news: AlertEvent | None = AlertEvent.NEW
        if now.passed:
            news = AlertEvent.RECOVERED if streak else None
        elif streak and _level(now) >= _level(streak[0][1]):
            news = _reminder(since, streak[0][0], run.ended_at)
        failed_with = streak[0][1] if now.passed and streak else now
        return self._of_check(run, failed_with, news, since) if news else None

    def _counts(self, run_id: str, evaluation: AssetCheckEvaluation) -> bool:
        return run_id not in self._restating or evaluation.severity is AssetCheckSeverity.ERROR

    def _of_check(
        self, run: Run, evaluation: AssetCheckEvaluation, news: AlertEvent, since: float
    ) -> Item:
        of_table, name = evaluation.asset_key.path[-1], evaluation.check_name
        text = {key: str(value.value) for key, value in evaluation.metadata.items()}
        level = _level(evaluation)
        what_to_do, command = RESPONSES[AlertLevel(level)]
        if evaluation.severity is AssetCheckSeverity.ERROR:
            what_to_do = f"Dependent tables were not computed. {what_to_do}"
        return Item(
            subject=f"check:{'/'.join(evaluation.asset_key.path)}:{name}",
            title=clean(f"{of_table}.{name}", _NAME),
            news=news,
            level=level,
            since=moment(since),
            owners=self.owners([of_table]),
            expected=clean(text.get("expected", "The check passes."), _TEXT),
            seen=code(clean(text.get("observed", "The check fails."), _TEXT)),
            rows=table(text.get("examples", ""), rows=_ROWS, width=_CELL),
            what_to_do=clean(text.get(REMEDY, what_to_do), _TEXT),
            command=command or run.command,
        )

    def _failures(self, run: Run) -> list[Item]:
        """Return the causes of a run's failure, or the recovery of the previous run's causes."""
        causes = self._causes(run)
        before = [one for one in self.runs if one < run and one.job == run.job]
        streak = list(takewhile(self._causes, reversed(before)))
        known = self._causes(streak[0]) if streak else ()
        first = streak[-1] if streak else run
        news: AlertEvent | None = AlertEvent.NEW
        if not causes:
            news = AlertEvent.RECOVERED if run.succeeded else None
        elif {cause.steps for cause in causes} == {cause.steps for cause in known}:
            news = _reminder(first.ended_at, streak[0].ended_at, run.ended_at)
        return [self._of_cause(run, one, news, first) for one in causes or known if news]

    def _causes(self, run: Run) -> tuple[Failure, ...]:
        """Return why a run failed, or nothing if it succeeded or only a blocking check failed."""
        if run.succeeded:
            return ()
        types = {DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
        records = self._instance.get_records_for_run(run.run_id, of_type=types).records
        events = [record.event_log_entry.get_dagster_event() for record in records]
        found = failures_of(events)
        if found or any(event.is_step_failure for event in events):
            return tuple(found)
        return (Failure("", (events[-1].message if events else "") or "The run failed.", ()),)

    def _of_cause(self, run: Run, cause: Failure, news: AlertEvent, first: Run) -> Item:
        more = f" and {len(cause.steps) - 1} more" if len(cause.steps) > 1 else ""
        title = f"step {cause.steps[0]}{more}" if cause.steps else f"run of {run.run.job_name}"
        return Item(
            subject=f"run:{run.job}:{','.join(cause.steps)}",
            title=clean(title, _NAME),
            news=news,
            level=str(AlertLevel.P0),
            since=moment(first.ended_at),
            owners=self.owners(name.removeprefix("check_") for name in cause.steps),
            expected=f"The run of {run.text} succeeds.",
            seen=code(clean(cause.message, _TEXT)),
            what_to_do="Correct the cause that the error describes. Then run the days again.",
            command=run.command,
        )

    def late(self, due: Due, now: float) -> tuple[float, Item] | None:
        """Return since when tables are late, in seconds since the Unix epoch, and the item.

        Returns:
            The time is 0 if no table is late according to Dagster's daemon. The result is None while
            the daemon changes states, or if the latest run failed, which is already reported.
        """
        keys = [asset_key(name) for name in self._tables]
        states = list(self._instance.get_freshness_state_records(keys).values())
        late = {one.entity_key: one for one in states if one.freshness_state is FreshnessState.FAIL}
        changed = max((state.updated_at.timestamp() for state in states), default=0.0)
        last = next((run for run in reversed(self.runs) if run.days[0]), None)
        if now - changed < _SETTLED_SECONDS or (late and last and not last.succeeded):
            return None
        since = min((state.updated_at.timestamp() for state in late.values()), default=0.0)
        names = sorted(key.path[-1] for key in late)
        records = self._instance.get_asset_records(list(late)) if late else []
        made = [record.asset_entry.last_materialization for record in records]
        latest = max((entry.timestamp for entry in made if entry), default=0.0)
        more = f" and {len(names) - _ROWS} more" if len(names) > _ROWS else ""
        return since, Item(
            subject=LATE,
            title=LATE,
            news=AlertEvent.NEW,
            level=str(AlertLevel.P2),
            since=moment(since),
            owners=self.owners(names or self._tables),
            expected=f"{due.day} is materialized by {due.deadline:%Y-%m-%d %H:%M %Z}.",
            seen=f"{', '.join(map(code, names[:_ROWS]))}{more}: last materialized {moment(latest)}.",
            what_to_do="Check whether files were delivered and whether a run is waiting or has stopped."
            " Then compute the day.",
            command="monstera run --daily",
        )


def _level(evaluation: AssetCheckEvaluation) -> str:
    given = evaluation.metadata.get(LEVEL)
    level = str(given.value) if given else ""
    blocks = evaluation.severity is AssetCheckSeverity.ERROR
    return level if level in set(AlertLevel) else str(AlertLevel.P0 if blocks else AlertLevel.P2)


def _reminder(since: float, before: float, now: float) -> AlertEvent | None:
    """Return whether another week since the first failure has passed after the previous one."""
    first, *others = (datetime.fromtimestamp(at, UTC).toordinal() for at in (since, before, now))
    weeks_before, weeks = ((day - first) // REMIND_AFTER_DAYS for day in others)
    return AlertEvent.REMINDER if weeks > weeks_before else None
