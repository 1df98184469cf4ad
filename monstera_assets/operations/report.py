"""What the command line prints of a run and of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import duckdb
from rich.console import Console
from rich.table import Table as Grid

from monstera_assets.definitions import tables
from monstera_assets.operations.runs import RunReport
from monstera_assets.operations.status import headline, table_statuses
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connect


def print_tables(
    console: Console, settings: Settings, failing: Mapping[str, Sequence[str]]
) -> None:
    """A line a table: rows, range of days, last materialization; then what is missing or fails."""
    with _reading(settings) as connection:
        statuses = table_statuses(connection, tables())
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in ("table", "rows", "from", "to", "materialized (UTC)"):
        grid.add_column(heading, justify="right" if heading == "rows" else "left", no_wrap=True)
    for status in statuses:
        grid.add_row(
            status.table.name,
            "-" if status.rows is None else f"{status.rows:,}",
            str(status.window.first) if status.window else "",
            str(status.window.last) if status.window else "",
            f"{status.materialized_at:%Y-%m-%d %H:%M}" if status.materialized_at else "never",
        )
    console.print(grid)
    for status in statuses:
        name = status.table.name
        if status.missing_days:
            _line(console, f"{name}: {status.missing_days:,} days within its range are missing")
        if failing.get(name):
            _line(console, f"{name}: failing checks: {', '.join(sorted(failing[name]))}")


def print_report(console: Console, settings: Settings, report: RunReport) -> None:
    """Headline figures, checks, errors and where everything is."""
    with _reading(settings) as connection:
        figures = headline(connection)
    if figures is not None:
        _line(console, "")
        states = ", ".join(f"{state} {count:,}" for state, count in figures.users_by_state)
        _line(console, f"Users on {figures.as_of_date}: {states}")
        for name, count in figures.users_active:
            _line(console, f"{name}: {count:,}")
    _line(console, "")
    if report.rows_outside:
        _line(
            console,
            f"{report.rows_outside:,} rows of the source are dated outside {report.window} and not"
            " part of this run.",
        )
    _line(
        console,
        f"Checks: {report.checks_passed} passed, {len(report.failed_checks)} failed",
    )
    for check in report.failed_checks:
        severity = "ERROR" if check.blocking else "WARN"
        detail = check.note or f"{check.violations:,} violations"
        _line(console, f"  {severity}  {check.table}.{check.name}: {detail}")
    for error in report.errors:
        _line(console, f"  FAILED  {error}")
    _line(console, f"Run: {'succeeded' if report.succeeded else 'failed'} ({report.run_id})")
    _line(console, f"Database: {settings.database}")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _reading(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    return connect(
        str(settings.database),
        {},
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=True,
    )
