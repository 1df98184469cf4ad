"""The command line: `monstera run`, `monstera status`, `monstera home`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from monstera_assets.settings import Settings, SettingsError, load_settings
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.errors import WarehouseError

EXIT_UNHEALTHY = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])

_DAY = click.DateTime(formats=["%Y-%m-%d"])


class _Reporting(click.Group):
    """Errors that a user can mend are one line on standard error, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, SourceError, WarehouseError) as error:
            click.echo(f"monstera: {error}", err=True)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo(
                "monstera: interrupted; finished tables are kept, run again to go on.", err=True
            )
            sys.exit(EXIT_INTERRUPTED)


def _where(command: Command) -> Command:
    """The options that say where source and warehouse are."""
    for option in (
        click.option(
            "--database",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The warehouse's DuckDB file.  [MONSTERA_DATABASE; default: data/monstera.duckdb]",
        ),
        click.option(
            "--source",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of the source: events, users, accounts, product_catalog and, if there are"
            " any, subscription_events and workflows, each as NAME.csv, NAME.parquet or a folder of"
            " such files, events also by day as events/event_date=2025-06-01/.  [MONSTERA_SOURCE;"
            " default: seeds]",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=_Reporting, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="monstera-assets")
def main() -> None:
    """Know in which state every user is, on every day.

    Settings come from flags, environment variables (MONSTERA_...) and monstera.toml in the current
    folder, in this order of precedence.
    """


@main.command()
@_where
@click.option(
    "--from",
    "first",
    type=_DAY,
    help="First day to compute, as YYYY-MM-DD.  [default: the first partition, which is"
    " MONSTERA_START_DATE or the earliest date in the source]",
)
@click.option(
    "--to",
    "last",
    type=_DAY,
    help="Last day to compute.  [default: the latest date in the source, at most yesterday (UTC)]",
)
def run(
    source: Path | None, database: Path | None, first: datetime | None, last: datetime | None
) -> None:
    r"""Materialize every table and evaluate every check, for a range of days, in one run.

    Running again replaces what is there; the same source and range give the same tables. Ends with
    exit code 1 if the run or a check of severity ERROR failed, 2 if a setting or the source is
    wrong.

    \b
    Examples:
      monstera run
      monstera run --source /data/events --database /data/monstera.duckdb
      monstera run --from 2025-06-01 --to 2025-06-07
    """
    # Dagster takes seconds to import, which `--help` should not cost.
    from monstera_assets.definitions import build_definitions
    from monstera_assets.operations.home import open_instance
    from monstera_assets.operations.partitions import first_partition, source_range
    from monstera_assets.operations.progress import RunProgress
    from monstera_assets.operations.report import print_report, print_tables
    from monstera_assets.operations.runs import (
        available_partitions,
        choose_window,
        run_range,
        whole_graph,
    )

    settings = _settings(source, database)
    definitions = build_definitions(settings)
    window = choose_window(
        available_partitions(first_partition(settings)),
        lambda: source_range(settings),
        _day(first),
        _day(last),
    )
    console = _console()
    console.print(
        f"{settings.source} into {settings.database}: {window} ({len(window):,} days)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    job = whole_graph(definitions)
    with (
        open_instance(settings) as instance,
        RunProgress(console, steps=len(job.nodes)) as progress,
    ):
        report = run_range(job, instance, window, progress)
    print_tables(console, settings, failing={})
    print_report(console, settings, report)
    sys.exit(0 if report.healthy else EXIT_UNHEALTHY)


@main.command()
@_where
def status(source: Path | None, database: Path | None) -> None:
    """Show each table's rows, range, last materialization and failing checks."""
    from monstera_assets.definitions import build_definitions
    from monstera_assets.operations.home import open_instance
    from monstera_assets.operations.report import print_tables
    from monstera_assets.operations.status import failing_checks

    settings = _settings(source, database)
    if not settings.database.exists():
        raise SettingsError(
            f"database: {settings.database} does not exist yet; `monstera run` makes it"
        )
    definitions = build_definitions(settings)
    with open_instance(settings) as instance:
        failing = failing_checks(instance, definitions)
    print_tables(_console(), settings, failing)


@main.command()
@_where
def home(source: Path | None, database: Path | None) -> None:
    """Print the folder of Dagster's state, for `export DAGSTER_HOME=$(monstera home)`."""
    from monstera_assets.operations.home import dagster_home

    click.echo(dagster_home(_settings(source, database)))


def _settings(source: Path | None, database: Path | None) -> Settings:
    return load_settings(source=source, database=database)


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def _console() -> Console:
    console = Console()
    # Where there is no terminal there is no width to keep to, and cut lines help nobody.
    return console if console.is_terminal else Console(width=120)
