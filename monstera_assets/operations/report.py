"""Print a run's results: headline figures, checks and paths."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
from rich.console import Console

from monstera_assets.gold.gold_overall_metrics import BIG_NUMBERS
from monstera_assets.gold.gold_overall_metrics import TABLE as OVERALL
from monstera_assets.operations.runs import RunReport
from monstera_assets.operations.snapshots import CURRENT
from monstera_assets.operations.status import print_line
from monstera_assets.settings import Settings
from monstera_assets.silver.silver_user_current_state import TABLE as STATES
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine


def print_report(console: Console, settings: Settings, report: RunReport) -> None:
    """Print headline figures, checks and paths."""
    database, timeout = str(settings.database), settings.lock_timeout_seconds
    with connect(database, {}, lock_timeout_seconds=timeout, read_only=True) as connection:
        lines = [*headline(connection, settings.policy.reporting_currency), ""]
    if report.rows_outside:
        lines.append(
            f"Source rows outside {report.window}, which are not loaded: {report.rows_outside:,}"
        )
    failed = report.failed_checks
    lines.append(f"Checks: {report.checks_passed} passed, {len(failed)} failed")
    for check in failed:
        severity = "ERROR" if check.blocking else "WARN"
        violations = f"{check.violations:,} violation{'' if check.violations == 1 else 's'}"
        lines.append(f"  {severity}  {check.table}.{check.name}: {check.note or violations}")
    lines.append(f"Run: {'succeeded' if report.succeeded else 'failed'} ({report.run_id})")
    lines.append(f"Database: {settings.database}")
    site = settings.dashboards / CURRENT / "index.html"
    if site.exists():
        lines.append(f"Dashboards: {site}")
    for line in lines:
        print_line(console, line)


def headline(connection: duckdb.DuckDBPyConnection, currency: str) -> Iterator[str]:
    """Yield a blank line and the figures for the as-of date, or nothing if no states exist."""
    if not DuckDBEngine(connection).stored_columns(STATES):
        return
    states = connection.execute(
        f"SELECT platform_state, count(*), max(as_of_date) FROM {STATES.qualified_name}"
        " GROUP BY platform_state ORDER BY platform_state"
    ).fetchall()
    if not states:
        return
    yield ""
    by_state = ", ".join(f"{state} {count:,}" for state, count, _ in states)
    yield f"Users on {states[0][2]}: {by_state}"
    if DuckDBEngine(connection).stored_columns(OVERALL):
        columns = ", ".join(metric.column_name for metric in BIG_NUMBERS)
        for row in connection.execute(
            f"SELECT {columns} FROM {OVERALL.qualified_name} WHERE is_current_day"
        ).fetchall():
            for metric, value in zip(BIG_NUMBERS, row, strict=True):
                yield f"{metric.title}: {metric.format(value, currency)}"
