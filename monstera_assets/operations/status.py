"""The warehouse's status: row counts, date ranges, the last run, failing checks and late days.

The status is read from Dagster's storage only, so it never waits for a run and never delays one.
Table declarations are not imported, since importing them takes longer than reading the status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
)
from pydantic import BaseModel, computed_field
from rich.console import Console
from rich.table import Table as Grid

from monstera_assets.operations.abandoned_runs import is_abandoned
from monstera_assets.operations.jobs import (
    DAILY,
    EXPIRE_RAW_EVENTS,
    EXPORT_TABLES,
    WHOLE_GRAPH,
    Due,
)
from monstera_assets.settings import Settings
from monstera_assets.settings.alert_urls import LEVELS
from monstera_assets.warehouse.layers import Layer

if TYPE_CHECKING:
    from dagster import RunRecord
    from dagster._core.storage.event_log.base import AssetEntry

LEVEL = "alert_level"
"""The metadata key for a check evaluation's alert level (see checks/table_checks.py)."""

Outcome = Literal["succeeded", "failed", "canceled", "running", "abandoned"]

_OUTCOMES: Mapping[str, Outcome] = {
    "SUCCESS": "succeeded",
    "FAILURE": "failed",
    "CANCELED": "canceled",
}
_LAYERS = ["imports", *map(str, Layer)]
"""The first part of the keys of shown assets: the import, and the tables' layers."""

_RUNS_READ = 25


class TableStatus(BaseModel):
    """The status of a table.

    Attributes:
        rows: number of rows after the last materialization, or None if it is unknown.
        failing_checks: name and level of each check whose latest evaluation failed.
        checks_not_reached: checks that the last run planned but did not evaluate.
    """

    table: str
    rows: int | None = None
    first_day: date | None = None
    last_day: date | None = None
    missing_days: int = 0
    has_due_day: bool = False
    materialized_at: datetime | None = None
    failing_checks: Mapping[str, str] = {}
    checks_not_reached: Sequence[str] = []


class LastRun(BaseModel):
    """The latest run of the graph. `at` is its end time, or its start time if it has not finished."""

    run_id: str
    job: str
    outcome: Outcome
    at: datetime


class Status(BaseModel):
    """The health of the warehouse and its tables, which are sorted by layer and name.

    This model also defines the JSON output.
    """

    due: Due
    last_run: LastRun | None
    tables: Sequence[TableStatus]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def latest_day(self) -> date | None:
        """The latest day that all daily tables have reached, or None if there are no daily tables."""
        return min((table.last_day for table in self.tables if table.last_day), default=None)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def late(self) -> bool:
        """Whether a daily table is missing the due day, or another table was never materialized.

        A warehouse that is empty or starts after the due day is not late.
        """
        first_days = [table.first_day for table in self.tables if table.first_day]
        if not first_days or self.due.day < min(first_days):
            return False
        return any(
            not table.has_due_day if table.first_day else table.materialized_at is None
            for table in self.tables
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def failing_checks(self) -> Mapping[str, int]:
        """The number of failing checks per level, from P0 to P3."""
        levels = Counter(level for table in self.tables for level in table.failing_checks.values())
        return {level: levels[level] for level in LEVELS}


def read_status(instance: DagsterInstance, settings: Settings, now: datetime) -> Status:
    """Read the status as of `now`, which determines the due day."""
    due = Due.at(now, settings)
    runs, with_whole = _runs(instance)
    failing, not_reached = _checks(instance, runs)
    keys = [key for key in instance.all_asset_keys() if key.path[0] in _LAYERS]
    entries = [record.asset_entry for record in instance.get_asset_records(keys)]
    # Dagster's storage keeps renamed and removed tables, but the last run of the whole graph omits
    # them.
    recent = {record.dagster_run.run_id for record in runs}
    current = {
        (entry.asset_key.path[0], entry.asset_key.path[-1]): entry
        for entry in entries
        if not with_whole or entry.last_run_id in recent
    }
    return Status(
        tables=[
            TableStatus(
                table=name,
                failing_checks=failing.get(name, {}),
                checks_not_reached=not_reached.get(name, []),
                **_recorded(instance, current[layer, name], due.day),
            )
            for layer, name in sorted(
                current, key=lambda table: (_LAYERS.index(table[0]), table[1])
            )
        ],
        last_run=_last_run(instance, runs[0]) if runs else None,
        due=due,
    )


def _recorded(instance: DagsterInstance, entry: AssetEntry, due_day: date) -> dict[str, Any]:
    """Return a table's row count and days as of its last materialization."""
    latest = entry.last_materialization
    if latest is None or latest.asset_materialization is None:
        return {}
    is_daily = latest.asset_materialization.partition is not None
    partitions = instance.get_materialized_partitions(entry.asset_key) if is_daily else ()
    days = {date.fromisoformat(day) for day in partitions}
    rows = latest.asset_materialization.metadata.get("dagster/row_count")
    first, last = min(days, default=None), max(days, default=None)
    return {
        "rows": int(str(rows.value)) if rows is not None else None,
        "materialized_at": datetime.fromtimestamp(latest.timestamp, UTC),
        "first_day": first,
        "last_day": last,
        "missing_days": (last - first).days + 1 - len(days) if first and last else 0,
        "has_due_day": due_day in days,
    }


def _runs(instance: DagsterInstance) -> tuple[list[RunRecord], bool]:
    """Return the runs since the latest run of the whole graph and whether that run was found."""
    runs: list[RunRecord] = []
    for record in instance.get_run_records(limit=_RUNS_READ):
        if record.dagster_run.job_name not in (EXPIRE_RAW_EVENTS, EXPORT_TABLES):
            runs.append(record)
            if is_whole(record):
                return runs, True
    return runs, False


def _is_running(instance: DagsterInstance, record: RunRecord) -> bool:
    run = record.dagster_run
    return not run.is_finished and not is_abandoned(instance, run.run_id)


def is_whole(record: RunRecord) -> bool:
    """Return whether a run computes all tables, which a retry of a failed run does not."""
    run = record.dagster_run
    return (
        run.job_name in (WHOLE_GRAPH, DAILY)
        and run.parent_run_id is None
        and not run.asset_selection
        and not run.asset_check_selection
    )


def _checks(
    instance: DagsterInstance, runs: Sequence[RunRecord]
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Return each table's failing checks and the checks that the last run did not reach."""
    planned = {
        AssetCheckKey(check.asset_key, check.check_name)
        for record in runs
        for entry in instance.get_records_for_run(
            record.dagster_run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
        ).records
        for check in [entry.event_log_entry.get_dagster_event().asset_check_planned_data]
    }
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key(sorted(planned))
    running = {record.dagster_run.run_id for record in runs if _is_running(instance, record)}
    failing: dict[str, dict[str, str]] = {}
    not_reached: dict[str, list[str]] = {}
    for key, execution in sorted(latest.items()):
        table = key.asset_key.path[-1]
        evaluation = execution.evaluation
        if not isinstance(evaluation, AssetCheckEvaluation):  # only planned
            if execution.run_id not in running:
                not_reached.setdefault(table, []).append(key.name)
                continue
            summary = storage.get_asset_check_summary_records([key])[key]
            completed = summary.last_completed_check_execution_record
            evaluation = completed and completed.evaluation
        if evaluation and not evaluation.passed:
            failing.setdefault(table, {})[key.name] = _level(evaluation)
    return failing, not_reached


def _level(evaluation: AssetCheckEvaluation) -> str:
    if LEVEL in evaluation.metadata:
        return str(evaluation.metadata[LEVEL].value)
    return "P0" if evaluation.severity == AssetCheckSeverity.ERROR else "P2"


def _last_run(instance: DagsterInstance, record: RunRecord) -> LastRun:
    run = record.dagster_run
    outcome: Outcome = "running" if _is_running(instance, record) else "abandoned"
    at = record.end_time or record.start_time or record.create_timestamp.timestamp()
    return LastRun(
        run_id=run.run_id,
        job=run.job_name,
        outcome=_OUTCOMES.get(run.status.value, outcome),
        at=datetime.fromtimestamp(at, UTC),
    )


def print_status(console: Console, status: Status) -> None:
    """Print the overall health, the tables, and any checks that failed or were not reached."""
    print_line(console, _health(status))
    print_tables(console, status.tables)
    for table in status.tables:
        if table.failing_checks:
            print_line(console, f"{table.table}: failing checks: {', '.join(table.failing_checks)}")
    for table in status.tables:
        if count := len(table.checks_not_reached):
            print_line(console, f"{table.table}: {count} checks not reached by the last run")


def print_tables(console: Console, tables: Sequence[TableStatus]) -> None:
    """Print one line per table with its row count, days and last materialization, then missing days."""
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in ("table", "rows", "from", "to", "materialized (UTC)"):
        grid.add_column(heading, justify="right" if heading == "rows" else "left", no_wrap=True)
    for table in tables:
        grid.add_row(
            table.table,
            "-" if table.rows is None else f"{table.rows:,}",
            str(table.first_day or ""),
            str(table.last_day or ""),
            f"{table.materialized_at:%Y-%m-%d %H:%M}" if table.materialized_at else "never",
        )
    console.print(grid)
    for table in tables:
        if table.missing_days:
            missing = f"{table.missing_days:,} days within its range are missing"
            print_line(console, f"{table.table}: {missing}")


def print_line(console: Console, text: str) -> None:
    """Print text without wrapping or markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _health(status: Status) -> str:
    due = f"{status.due.day} was due by {status.due.deadline:%Y-%m-%d %H:%M %Z}"
    lateness = f"late ({due})" if status.late else "not late"
    failing = [f"{count} {level}" for level, count in status.failing_checks.items() if count]
    run = status.last_run
    return (
        f"Latest day: {status.latest_day or 'none'}, {lateness};"
        f" failing checks: {', '.join(failing) or 'none'};"
        f" last run: {f'{run.outcome}, {run.at:%Y-%m-%d %H:%M} UTC' if run else 'none'}"
    )
