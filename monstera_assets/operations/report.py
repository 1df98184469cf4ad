"""What the command line prints of a run and of the warehouse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import duckdb
from dagster import AssetCheckKey, DagsterInstance
from rich.console import Console
from rich.table import Table as Grid

from monstera_assets.checks.contract import contract_rules
from monstera_assets.checks.rules import Rule
from monstera_assets.operations.runs import RunReport
from monstera_assets.operations.snapshots import CURRENT
from monstera_assets.operations.status import headline, latest_checks, table_statuses
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.tables import Table


def print_tables(console: Console, settings: Settings, tables: Sequence[Table]) -> None:
    """A line a table: rows, range of days, last materialization; then what is missing."""
    with _reading(settings) as connection:
        statuses = table_statuses(connection, tables)
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
        if status.missing_days:
            missing = f"{status.missing_days:,} days within its range are missing"
            print_line(console, f"{status.table.name}: {missing}")


def print_checks(
    console: Console, instance: DagsterInstance, tables: Sequence[Table], rules: Sequence[Rule]
) -> None:
    """The checks whose latest evaluation failed, and those that the last run did not reach."""
    keys = [
        *(
            AssetCheckKey(asset_key(table.name), name)
            for table in tables
            for name in contract_rules(table)
        ),
        *(AssetCheckKey(asset_key(rule.table.name), rule.name) for rule in rules),
    ]
    failing, not_reached = latest_checks(instance, keys)
    for name, checks in _by_table(failing, tables):
        print_line(console, f"{name}: failing checks: {', '.join(checks)}")
    for name, checks in _by_table(not_reached, tables):
        print_line(console, f"{name}: {len(checks)} checks not reached by its last run")


def print_report(console: Console, settings: Settings, report: RunReport) -> None:
    """Headline figures, checks and where everything is."""
    with _reading(settings) as connection:
        figures = headline(connection)
    if figures is not None:
        print_line(console, "")
        states = ", ".join(f"{state} {count:,}" for state, count in figures.users_by_state)
        print_line(console, f"Users on {figures.as_of_date}: {states}")
        for name, value in figures.big_numbers:
            print_line(console, f"{name}: {value}")
    print_line(console, "")
    if report.rows_outside:
        print_line(
            console,
            f"{report.rows_outside:,} rows of the source are dated outside {report.window} and not"
            " part of this run.",
        )
    print_line(
        console,
        f"Checks: {report.checks_passed} passed, {len(report.failed_checks)} failed",
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


def print_line(console: Console, text: str) -> None:
    """Text as it is: not wrapped, no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _by_table(
    keys: Iterable[AssetCheckKey], tables: Iterable[Table]
) -> Iterable[tuple[str, list[str]]]:
    for table in tables:
        names = sorted(key.name for key in keys if key.asset_key == asset_key(table.name))
        if names:
            yield table.name, names


def _reading(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    return connect(
        str(settings.database),
        {},
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=True,
    )
