"""The command line: `monstera run`, `status`, `dashboard`, `export`, `generate` and others."""

from __future__ import annotations

import gc
import os
import sys
import webbrowser
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from rich.console import Console

from monstera_assets.operations.errors import StateError
from monstera_assets.settings import (
    SETTINGS_FILE,
    Settings,
    SettingsError,
    load_settings,
    variables,
)
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import FileFormat, discover_source
from monstera_assets.synthetic import DEFAULT_DAYS, DEFAULT_END, DEFAULT_SEED, DEFAULT_USERS
from monstera_assets.synthetic.errors import GenerationError
from monstera_assets.warehouse.errors import WarehouseError

EXIT_UNHEALTHY = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])

_DAY = click.DateTime(formats=["%Y-%m-%d"])
_FOLDER = click.Path(file_okay=False, path_type=Path)
_OPTIONS_TOO = ("MONSTERA_SOURCE", "MONSTERA_DATABASE")


class _Reporting(click.Group):
    """Errors that a user can mend are one line on standard error, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (GenerationError, SettingsError, SourceError, StateError, WarehouseError) as error:
            click.echo(f"monstera: {error}", err=True)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo(
                "monstera: interrupted; finished tables are kept, run again to go on.", err=True
            )
            sys.exit(EXIT_INTERRUPTED)


class _Configured(click.Command):
    """A command whose help ends with the settings that have no option."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the environment variables that are not among the options."""
        del ctx
        described = {
            variable: str(field.description)
            for variable, field in variables().items()
            if variable not in _OPTIONS_TOO
        }
        home = "Folder of Dagster's state; by default dagster_home beside the database."
        with formatter.section("Environment variables"):
            formatter.write_text(
                f"All but DAGSTER_HOME may stand in {SETTINGS_FILE} too, such as start_date, or"
                " active_days under [policy]."
            )
            formatter.write_paragraph()
            formatter.write_dl([*described.items(), ("DAGSTER_HOME", home)])


_source_option = click.option(
    "--source",
    type=_FOLDER,
    help="Folder of the source: events, users, accounts, product_catalog and, if there are any,"
    " subscription_events and workflows, each as NAME.csv, NAME.parquet or a folder of such files,"
    " events also by day as events/event_date=2025-06-01/.  [MONSTERA_SOURCE; default: seeds]",
)
_database_option = click.option(
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The warehouse's DuckDB file.  [MONSTERA_DATABASE; default: data/monstera.duckdb]",
)


def _with_settings(*, database_exists: bool = False) -> Callable[[Command], Command]:
    """Options that say where source and warehouse are; the command gets the settings with them."""

    def decorate(command: Command) -> Command:
        @_source_option
        @_database_option
        @wraps(command)
        def configured(source: Path | None, database: Path | None, **arguments: Any) -> None:
            settings = load_settings(source=source, database=database)
            if database_exists and not settings.database.exists():
                raise SettingsError(
                    f"database: {settings.database} does not exist yet; `monstera run` makes it"
                )
            command(settings, **arguments)

        return cast("Command", configured)

    return decorate


@click.group(
    cls=_Reporting, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="monstera-assets")
def main() -> None:
    """Know in which state every user is, on every day.

    Settings come from flags, environment variables (MONSTERA_...) and monstera.toml in the current
    folder, in this order of precedence.
    """


@main.command(cls=_Configured)
@_with_settings()
@click.option(
    "--from",
    "first",
    type=_DAY,
    metavar="DATE",
    help="First day to compute, as YYYY-MM-DD.  [default: the first partition, which is"
    " MONSTERA_START_DATE or the earliest date in the source]",
)
@click.option(
    "--to",
    "last",
    type=_DAY,
    metavar="DATE",
    help="Last day to compute.  [default: the latest date in the source, at most yesterday (UTC)]",
)
@click.option(
    "--changed",
    is_flag=True,
    help="Compute only what a changed source affects: load the days of events that differ from what"
    " was loaded, and compute all tables from the first affected day on.",
)
def run(settings: Settings, first: datetime | None, last: datetime | None, changed: bool) -> None:
    """Materialize every table and evaluate every check, for a range of days, in one run.

    Running again replaces what is there; the same source and range give the same tables. Ends with
    exit code 1 if the run or a check of severity ERROR failed, 2 if a setting or the source is
    wrong.

    \b
    Examples:
      monstera run
      monstera run --source /data/events --database /data/monstera.duckdb
      monstera run --from 2025-06-01 --to 2025-06-07
      monstera run --changed
    """  # noqa: D301  # click's mark for a paragraph that is not to be wrapped
    if changed and (first or last):
        raise SettingsError("--changed finds the days itself: leave out --from and --to")
    # What takes long to import waits until the source and the days are known to be there.
    discover_source(settings.source)
    console = _console()
    tags: Mapping[str, str] = {}
    if changed:
        from monstera_assets.definitions import table_assets
        from monstera_assets.operations.late_data import describe_changes, rebuild_tags
        from monstera_assets.operations.source_comparison import compare_source
        from monstera_assets.operations.status import ensure_writable, print_line

        if settings.database.exists():
            ensure_writable(settings)  # what compares only reads, and would refuse an older layout
        changes = compare_source(settings, table_assets(settings))
        for line in describe_changes(changes):
            print_line(console, line)
        if changes.rebuild is None:
            return
        tags, window = rebuild_tags(changes), changes.rebuild
        first_partition = changes.days.first
    else:
        from monstera_assets.operations import partitions

        # Looking through a large source takes a while: at most once, and only for what is not given.
        in_source = cache(lambda: partitions.source_range(settings))
        first_partition = settings.start_date or in_source().first
        available = partitions.available_partitions(first_partition)
        window = partitions.choose_window(available, in_source, _day(first), _day(last))
    from monstera_assets.definitions import build_alerts, build_definitions, tables
    from monstera_assets.operations import exports, home, progress, report, runs, status

    definitions = build_definitions(settings.model_copy(update={"start_date": first_partition}))
    status.ensure_writable(settings)
    show = partial(status.print_line, console)
    count = f"{len(window):,} day{'' if len(window) == 1 else 's'}"
    show(f"{settings.source} into {settings.database}: {window} ({count})")
    if not changed and last is None and in_source().last > window.last:
        latest = in_source().last
        show(f"The source has dates up to {latest}; {window.last} is the last day that is over.")
    job = runs.whole_graph(definitions)
    alerts = build_alerts(settings)
    with home.open_instance(settings) as instance:
        with progress.RunProgress(console, steps=len(job.nodes)) as shown:
            done = runs.run_range(job, instance, window, shown, tags)
        if done.interrupted:
            raise KeyboardInterrupt
        troubles = alerts.after_run(instance, done.run_id)
        timeout = settings.lock_timeout_seconds
        now = datetime.now(UTC)
        found = status.read_status(instance, settings, now, lock_timeout_seconds=timeout)
    status.print_tables(console, found.tables)
    report.print_report(console, settings, done)
    if settings.export_directory and done.healthy:
        exported = exports.export_all(settings, tables(settings))
        show(f"Export: {exported.folder / 'current'}")
    for trouble in (*done.failures, *troubles):
        click.echo(f"monstera: {trouble}", err=True)
    if any(failure.is_of_the_source for failure in done.failures):
        sys.exit(EXIT_USAGE)
    sys.exit(0 if done.healthy else EXIT_UNHEALTHY)


@main.command(cls=_Configured)
@_with_settings(database_exists=True)
@click.option(
    "--output",
    type=_FOLDER,
    help="Folder of the site; its first page is current/index.html in it."
    "  [MONSTERA_DASHBOARD_DIRECTORY; default: dashboards beside the database]",
)
@click.option("--no-open", is_flag=True, help="Only build the site, do not open it in the browser.")
def dashboard(settings: Settings, output: Path | None, no_open: bool) -> None:
    """Build the dashboards from the tables as they are, and open them in the browser.

    The site needs neither network nor server. It is written whole or not at all: readers see the old
    pages or the new ones. Every `monstera run` builds it too.
    """
    from monstera_assets.dashboards.site import write_site
    from monstera_assets.definitions import metric_tables

    report = write_site(settings, output or settings.dashboards, metric_tables(settings))
    until = f"data to {report.as_of}" if report.as_of else "no data yet: `monstera run` computes it"
    click.echo(f"{report.pages} pages, {report.bytes / 1e6:.1f} MB, {until}")
    click.echo(f"Dashboards: {report.index}")
    if not no_open:
        webbrowser.open(report.index.absolute().as_uri())


@main.command(cls=_Configured)
@_with_settings(database_exists=True)
@click.option(
    "--output",
    type=_FOLDER,
    help="Folder of the exports; readers follow its link `current`.  [MONSTERA_EXPORT_DIRECTORY;"
    " default: exports]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv", "both"]),
    default="both",
    help="What each table is written as.",
)
@click.option(
    "--table",
    "names",
    multiple=True,
    metavar="NAME",
    help="Write this table only, may be repeated; the other tables of the export stay as they are."
    "  [default: all gold tables and the unpartitioned ones of silver]",
)
def export(settings: Settings, output: Path | None, kind: str, names: tuple[str, ...]) -> None:
    """Write tables as files, for tools that must not wait for the database's lock.

    An export is written whole or not at all: readers see the old files or the new ones.
    """
    from monstera_assets.definitions import tables
    from monstera_assets.operations.exports import choose_tables, write_export

    formats = list(FileFormat) if kind == "both" else [FileFormat(kind)]
    chosen = dict.fromkeys(choose_tables(tables(settings), names), formats)
    folder = output or settings.export_directory or Path("exports")
    report = write_export(settings, folder, chosen, every_table=not names)
    for name, rows in report.rows.items():
        click.echo(f"{name}  {rows:,} rows")
    for name in report.missing:
        click.echo(f"{name}  left out: never materialized")
    click.echo(f"Export: {report.folder / 'current'}")


@main.command(cls=_Configured)
@_with_settings(database_exists=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def status(settings: Settings, as_json: bool) -> None:
    """Show in one line how the warehouse is; then each table's rows, range and failing checks.

    Does not wait for a run: while one holds the database, what Dagster has recorded is shown. Ends
    with exit code 0 however the warehouse is, 2 if there is none yet.
    """
    gc.disable()  # What imports make stays; to look for garbage in it takes a sixth of the time.
    from monstera_assets.operations.home import open_instance
    from monstera_assets.operations.status import print_status, read_status

    with open_instance(settings) as instance:
        found = read_status(instance, settings, datetime.now(UTC))
    gc.enable()
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        print_status(_console(), found)


@main.command()
@click.argument("table")
def sql(table: str) -> None:
    """Print the query of a TABLE, formatted, as runs execute it."""
    from monstera_assets.definitions import table_query
    from monstera_assets.warehouse.compiler import formatted

    click.echo(formatted(table_query(table, load_settings())))


@main.command()
@click.option("--users", default=DEFAULT_USERS, help="People who sign up by the last day.")
@click.option("--days", default=DEFAULT_DAYS, help="Days up to the last one.")
@click.option("--seed", default=DEFAULT_SEED, help="Of the random numbers.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the source; it must not exist yet, or be empty.",
)
@click.option(
    "--end-date",
    "end",
    type=_DAY,
    metavar="DATE",
    default=str(DEFAULT_END),
    help="The last day, as YYYY-MM-DD.",
)
@click.option(
    "--until",
    type=_DAY,
    metavar="DATE",
    help="Write the same company only up to this day, as its source was then.  [default: all days]",
)
@click.option(
    "--events",
    type=int,
    help="About how many events there are, within 5 %.  [default: what the rates make]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    help="What the files are.",
)
@click.option(
    "--truth",
    "with_truth",
    is_flag=True,
    help="Write truth/user_hazards.parquet too: every 7th day, each person's true probability of no"
    " qualifying event in the next 30 days. No run reads it.",
)
def generate(
    users: int,
    days: int,
    seed: int,
    output: Path,
    end: datetime,
    until: datetime | None,
    events: int | None,
    kind: str,
    with_truth: bool,
) -> None:
    """Write the source of a made-up company, for demos, tests and benchmarks.

    The same arguments give the same files; docs/synthetic.md tells the rates. The folder is written
    whole or not at all, and nothing is overwritten.

    \b
    Examples:
      monstera generate --output data/demo-company/source
      monstera generate --users 10000 --days 365 --events 1000000 --output /data/benchmark
    """  # noqa: D301  # click's mark for a paragraph that is not to be wrapped
    # NumPy takes a while to import, which `--help` should not cost.
    from monstera_assets.synthetic import writer
    from monstera_assets.synthetic.company import Company

    company = Company(
        users=users, days=days, seed=seed, end=end.date(), events=events, until=_day(until)
    )
    try:
        written = writer.generate(company, output, FileFormat(kind), with_truth=with_truth)
    except KeyboardInterrupt:
        click.echo("monstera: interrupted; nothing was written.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    for name, rows in written.rows.items():
        click.echo(f"{name}  {rows:,} rows")
    click.echo(f"Source: {written.folder}, {company.first} to {company.until or company.end}")


@main.command(cls=_Configured)
@_with_settings(database_exists=True)
@click.argument("user_id")
def forget(settings: Settings, user_id: str) -> None:
    """Forget a person: warehouse, exports and logs know a random tombstone id from then on.

    USER_ID is the id that the source has; with - it is read from standard input, so that it stays out
    of the shell's history. Later loads of the same source find the tombstone too. There is no way back.
    """
    from monstera_assets.definitions import tables
    from monstera_assets.operations.forget import forget_person

    if user_id == "-":
        user_id = sys.stdin.readline().rstrip("\r\n")
    done = forget_person(settings, user_id, tables(settings))
    what = "Had been forgotten already" if done.already else "Forgotten"
    click.echo(f"{what}: now {done.tombstone}")
    for path in done.logs:
        click.echo(f"Log rewritten: {path}")
    for folder in done.exports:
        click.echo(f"Export written anew: {folder}")


@main.command(cls=_Configured)
@_with_settings(database_exists=True)
def expire(settings: Settings) -> None:
    """Remove raw events older than MONSTERA_RAW_EVENT_RETENTION_DAYS.

    States and totals stay as they are. The days concerned cannot be computed anew afterwards.
    """
    from monstera_assets.operations.retention import expire_raw_events

    done = expire_raw_events(settings, datetime.now(UTC).date())
    if done.removed_before is None:
        click.echo("Nothing to remove: no raw events are old enough.")
    for name, rows in done.rows.items():
        click.echo(f"{name}  {rows:,} rows before {done.removed_before} removed")


@main.command(cls=_Configured)
@_with_settings()
def home(settings: Settings) -> None:
    """Print the folder of Dagster's state, for `export DAGSTER_HOME=$(monstera home)`."""
    from monstera_assets.operations.home import dagster_home

    click.echo(dagster_home(settings))


@main.command()
@_source_option
@click.option(
    "--output",
    type=_FOLDER,
    default=Path("docs/generated"),
    help="Folder to write to; pages of the same name are replaced.",
)
def docs(source: Path | None, output: Path) -> None:
    """Write the pages of documentation that are made from the code and the product catalog."""
    settings = load_settings(source=source)
    from monstera_assets.definitions import build_definitions, rules, table_assets, tables
    from monstera_assets.documentation.catalog import read_catalog
    from monstera_assets.documentation.pages import render_pages, write_pages

    graph = build_definitions(settings).resolve_asset_graph()
    catalog = read_catalog(settings.source)
    pages = render_pages(graph, table_assets(settings), tables(settings), rules(settings), catalog)
    try:
        written = write_pages(pages, output)
    except OSError as error:
        raise SettingsError(f"--output {output}: cannot be written to: {error.strerror}") from error
    for path in written:
        click.echo(path)


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def _console() -> Console:
    try:
        # While steps run, Dagster turns the standard output itself into a file of their logs.
        file = open(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding)  # noqa: PTH123, SIM115
    except OSError:  # somebody's stand-in for the standard output
        file = None
    console = Console(file=file)
    # Where there is no terminal there is no width to keep to, and cut lines help nobody.
    return console if console.is_terminal else Console(file=file, width=120)
