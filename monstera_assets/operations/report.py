"""What the command line prints of a run: headline figures, checks and where everything is."""

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
from monstera_assets.warehouse.connection import connect


def print_report(console: Console, settings: Settings, report: RunReport) -> None:
    """Headline figures, checks and where everything is."""
    with connect(
        str(settings.database),
        {},
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=True,
    ) as connection:
        for line in headline(connection):
            print_line(console, line)
    print_line(console, "")
    if report.rows_outside:
        print_line(
            console,
            f"{report.rows_outside:,} rows of the source are dated outside {report.window} and not"
            " part of this run.",
        )
    print_line(
        console, f"Checks: {report.checks_passed} passed, {len(report.failed_checks)} failed"
    )
    for check in report.failed_checks:
        severity = "ERROR" if check.blocking else "WARN"
        detail = check.note or (
            f"{check.violations:,} violation{'' if check.violations == 1 else 's'}"
        )
        print_line(console, f"  {severity}  {check.table}.{check.name}: {detail}")
    print_line(console, f"Run: {'succeeded' if report.succeeded else 'failed'} ({report.run_id})")
    print_line(console, f"Database: {settings.database}")
    site = settings.dashboards / CURRENT / "index.html"
    if site.exists():
        print_line(console, f"Dashboards: {site}")


def headline(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Lines with the figures of the as-of date, after an empty one; none before there are any."""
    if not _exists(connection, "silver", "silver_user_current_state"):
        return
    states = connection.execute(
        "SELECT platform_state, count(*), max(as_of_date) FROM silver.silver_user_current_state"
        " GROUP BY platform_state ORDER BY platform_state"
    ).fetchall()
    if not states:
        return
    yield ""
    by_state = ", ".join(f"{state} {count:,}" for state, count, _ in states)
    yield f"Users on {states[0][2]}: {by_state}"
    if _exists(connection, *OVERALL.asset_path):
        columns = ", ".join(metric.column_name for metric in BIG_NUMBERS)
        for row in connection.execute(
            f"SELECT {columns} FROM {OVERALL.qualified_name} WHERE is_current_day"
        ).fetchall():
            for metric, value in zip(BIG_NUMBERS, row, strict=True):
                yield f"{metric.name}: {metric.format(value)}"


def _exists(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ?",
        [schema, name],
    ).fetchall()
    return bool(found[0][0])
