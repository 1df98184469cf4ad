"""The warehouse's status: row counts, date ranges, the last run, failing checks and late days.

The status is read from Dagster's storage and, if possible, from the DuckDB file. Table
declarations are not imported, since importing them takes longer than reading the status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

import duckdb
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
from monstera_assets.operations.recorded_settings import recorded_settings
from monstera_assets.settings import Settings
from monstera_assets.settings.alert_urls import LEVELS
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.errors import WarehouseLockedError
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA, Layer

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
_LAYERS = [str(layer) for layer in Layer]
_RUNS_READ = 25


class TableStatus(BaseModel):
    """The status of a table.

    Attributes:
        rows: number of rows, or None if the table does not exist or the number is unknown because
            the file is locked.
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

    This model also defines the JSON output. If `locked` is true, another process has locked the
    file, and the rows and days come from Dagster's records.
    """

    due: Due
    last_run: LastRun | None
    locked: bool
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


def read_status(
    instance: DagsterInstance, settings: Settings, now: datetime, *, lock_timeout_seconds: float = 0
) -> Status:
    """Read the status as of `now`, which determines the due day.

    Raises:
        WarehouseError: If the file cannot be opened for a reason other than a lock.
    """
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
    database, timeout, locked = str(settings.database), lock_timeout_seconds, False
    try:
        with connect(database, {}, lock_timeout_seconds=timeout, read_only=True) as connection:
            stored = _stored(connection, due.day)
    except WarehouseLockedError:
        stored = {name: _recorded(instance, entry, due.day) for name, entry in current.items()}
        locked = True
    return Status(
        tables=[
            TableStatus(
                table=name,
                failing_checks=failing.get(name, {}),
                checks_not_reached=not_reached.get(name, []),
                **stored.get((layer, name), {}),
            )
            for layer, name in sorted(
                current or stored, key=lambda table: (_LAYERS.index(table[0]), table[1])
            )
        ],
        last_run=_last_run(instance, runs[0]) if runs else None,
        due=due,
        locked=locked,
    )


def ensure_writable(settings: Settings, *, rebuild: bool = False) -> None:
    """Open the database for writing and close it so that a run that cannot write fails early.

    Args:
        settings: the configuration.
        rebuild: whether to delete all computed days before they are recomputed with other settings.

    Raises:
        ChangedSettingsError: If the stored days were computed with other settings, or cannot be
            recomputed.
        WarehouseError: If another process has locked the database, or the database cannot be
            opened.
    """
    # This module imports Ibis, which `monstera status` does not need.
    from monstera_assets.warehouse.recorded_settings import delete_all_days, require_same_settings

    with connect(
        str(settings.database),
        connection_config(settings.memory_limit, settings.threads, settings.temp_directory),
        lock_timeout_seconds=settings.lock_timeout_seconds,
    ) as connection:
        if rebuild:
            connection.execute("BEGIN TRANSACTION")
            delete_all_days(connection)
            connection.execute("COMMIT")  # closing the connection rolls back after an error
        require_same_settings(connection, str(settings.database), recorded_settings(settings))


def _stored(
    connection: duckdb.DuckDBPyConnection, due_day: date
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return each table's row count and days from the file."""
    existing = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables()"
        " WHERE database_name = current_database()"
    ).fetchall()
    counted = [
        f"SELECT '{schema}', '{name}', count(*) FROM {schema}.{name}"
        for schema, name in existing
        if schema in _LAYERS
    ]
    if not counted:
        return {}
    stored: dict[tuple[str, str], dict[str, Any]] = {
        (schema, name): {"rows": rows}
        for schema, name, rows in connection.execute(" UNION ALL ".join(counted)).fetchall()
    }
    if (OPERATIONS_SCHEMA, "materializations") in existing:
        for schema, name, at, *days in connection.execute(
            "SELECT schema_name, table_name, max(materialized_at), min(partition_date),"
            " max(partition_date), count(partition_date),"
            " count(*) FILTER (partition_date = ?) > 0"
            f" FROM {OPERATIONS_SCHEMA}.materializations GROUP BY ALL",
            [due_day],
        ).fetchall():
            table = stored.setdefault((schema, name), {})
            table |= {"materialized_at": at.replace(tzinfo=UTC), **_days(*days)}
    return stored


def _recorded(instance: DagsterInstance, entry: AssetEntry, due_day: date) -> dict[str, Any]:
    """Return what Dagster recorded about a table, for use when the file is locked.

    A daily table's row count is unknown, since each run records only its own days.
    """
    latest = entry.last_materialization
    if latest is None or latest.asset_materialization is None:
        return {}
    partitions = instance.get_materialized_partitions(entry.asset_key)
    days = {date.fromisoformat(day) for day in partitions}
    rows = latest.asset_materialization.metadata.get("dagster/row_count")
    first, last = min(days, default=None), max(days, default=None)
    return {
        "rows": int(str(rows.value)) if rows is not None else None,
        "materialized_at": datetime.fromtimestamp(latest.timestamp, UTC),
        **_days(first, last, len(days), due_day in days),
    }


def _days(first: date | None, last: date | None, number: int, has_due_day: bool) -> dict[str, Any]:
    missing = (last - first).days + 1 - number if first and last else 0
    return {
        "first_day": first,
        "last_day": last,
        "missing_days": missing,
        "has_due_day": has_due_day,
    }


def _runs(instance: DagsterInstance) -> tuple[list[RunRecord], bool]:
    """Return the runs since the latest run of the whole graph and whether that run was found."""
    runs: list[RunRecord] = []
    for record in instance.get_run_records(limit=_RUNS_READ):
        if record.dagster_run.job_name not in (EXPIRE_RAW_EVENTS, EXPORT_TABLES):
            runs.append(record)
            if _is_whole(record):
                return runs, True
    return runs, False


def _is_running(instance: DagsterInstance, record: RunRecord) -> bool:
    run = record.dagster_run
    return not run.is_finished and not is_abandoned(instance, run.run_id)


def _is_whole(record: RunRecord) -> bool:
    run = record.dagster_run
    # Retrying a failed run skips the steps that succeeded.
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
    if status.locked:
        print_line(
            console,
            "A run has locked the database. Row counts for daily tables are unknown until the run"
            " finishes.",
        )
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
