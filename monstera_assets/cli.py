"""The `monstera` command-line interface."""
# Over 400 lines: the commands share options and words, and side by side they stay the same.

from __future__ import annotations

import gc
import os
import sys
import webbrowser
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from pydantic.fields import FieldInfo
from rich.console import Console

from monstera_assets.operations.errors import StateError
from monstera_assets.settings import Settings, SettingsError, load_settings, variables
from monstera_assets.source.databases import place_of, shown_source
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
_FILE = click.Path(dir_okay=False, path_type=Path)
_SETTINGS_HINT = "Run `monstera settings` to list all settings and their defaults."
_PLAIN = str | int | float | date | time | Path

_OPTION_GROUPS: Mapping[str | None, str] = {
    **dict.fromkeys(("source", "database"), "Source and warehouse"),
    **dict.fromkeys(
        ("first", "last", "changed", "daily", "rebuild", "reset_versions", "days", "end", "until"),
        "Days",
    ),
    **dict.fromkeys(("users", "events", "seed"), "Company"),
    **dict.fromkeys(
        ("output", "kind", "names", "no_open", "cost", "page", "as_json", "with_truth"), "Output"
    ),
}


_RENAMED_OPTIONS: Mapping[tuple[str, str], str] = {
    ("generate", "--end-date"): "--to",
    ("generate", "--until"): "--as-of",
    ("status", "--html"): "--output",
}
"""New names for renamed options, keyed by command and old name. An error about an old name shows the
new name."""


class _Command(click.Command):
    """A command whose help text groups the options, and whose errors show renamed options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if new := _RENAMED_OPTIONS.get((self.name or "", error.option_name)):
                raise click.UsageError(f"{error.option_name} is now called {new}.", ctx) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                groups.setdefault(_OPTION_GROUPS.get(option.name, "Options"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


class _Main(click.Group):
    """A command group that prints one line instead of a traceback for errors that users can fix."""

    command_class = _Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)  # in definition order

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (GenerationError, SettingsError, SourceError, StateError, WarehouseError) as error:
            click.echo(f"monstera: {error}", err=True)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo(
                "monstera: Interrupted. Finished tables are kept. Run the command again to continue.",
                err=True,
            )
            sys.exit(EXIT_INTERRUPTED)


_source_option = click.option(
    "--source",
    type=_FOLDER,
    metavar="FOLDER",
    help="The folder that contains the input files described in docs/how-to/own_data.md."
    "  [MONSTERA_SOURCE; default: seeds]",
)
_database_option = click.option(
    "--database",
    type=_FILE,
    metavar="FILE",
    help="The warehouse's DuckDB file.  [MONSTERA_DATABASE; default: data/monstera.duckdb]",
)


def _with_settings(*, database_exists: bool = False) -> Callable[[Command], Command]:
    """Add the `--source` and `--database` options, and pass the settings to the command."""

    def decorate(command: Command) -> Command:
        @_source_option
        @_database_option
        @wraps(command)
        def configured(source: Path | None, database: Path | None, **arguments: Any) -> None:
            settings = load_settings(source=source, database=database)
            if database_exists and not settings.database.exists():
                raise SettingsError(
                    f"The database {settings.database} does not exist. Create it with `monstera run`,"
                    " or pass another file with --database."
                )
            command(settings, **arguments)

        return cast("Command", configured)

    return decorate


def _print_findings(settings: Settings, error: SourceError | None = None) -> None:
    """Print all findings about the source, unless the only finding repeats the given error."""
    from monstera_assets.operations.source_check import check_source
    from monstera_assets.operations.source_findings import print_findings

    findings = check_source(settings, datetime.now(UTC)).findings
    if [found.message for found in findings] != [str(error)]:
        print_findings(_console(), findings)


def _findings_first(command: Command) -> Command:
    """Print all findings about a source before the error if the source cannot be read."""

    @wraps(command)
    def checked(settings: Settings, **arguments: Any) -> None:
        try:
            command(settings, **arguments)
        except SourceError as error:
            if place_of(settings.source) or settings.source.is_dir():
                _print_findings(settings, error)
            raise

    return cast("Command", checked)


@click.group(
    cls=_Main,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="monstera-assets")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Compute each user's daily lifecycle state, and metrics based on these states.

    \b
    Get started:
      monstera demo                   Compute all tables from the example data.
      monstera init EXPORTS           Prepare the import of analytics tools' exports.
      monstera check --source FOLDER  Check your own data before a run.
      monstera run --source FOLDER --database FILE
                                      Compute all tables from your own data.
      monstera status                 Check that the tables are complete.
      monstera dashboard              Open the dashboards in your browser.
    """  # noqa: D301  # \b keeps click from wrapping the paragraph
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command(epilog=_SETTINGS_HINT)
@_with_settings()
@click.option(
    "--from",
    "first",
    type=_DAY,
    metavar="DATE",
    help="The first day to compute, as YYYY-MM-DD.  [default: MONSTERA_START_DATE if set,"
    " otherwise the earliest date in the source]",
)
@click.option(
    "--to",
    "last",
    type=_DAY,
    metavar="DATE",
    help="The last day to compute.  [default: the latest date in the source or yesterday,"
    " whichever is earlier]",
)
@click.option(
    "--changed",
    is_flag=True,
    help="Load only the days whose events changed in the source, and recompute all tables from the"
    " first affected day onward.",
)
@click.option(
    "--daily",
    is_flag=True,
    help="Compute yesterday and any missing days, and recompute up to MONSTERA_RESTATE_DAYS earlier"
    " days whose data changed.",
)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Delete and recompute all computed days. A rebuild is required after you change a setting"
    " that affects stored days, such as MONSTERA_TIMEZONE.",
)
@click.option(
    "--reset-versions",
    is_flag=True,
    help="Delete the recorded versions of users and accounts, and recompute all days. The current"
    " rows in the source then apply to all days.",
)
def run(
    settings: Settings,
    first: datetime | None,
    last: datetime | None,
    changed: bool,
    daily: bool,
    rebuild: bool,
    reset_versions: bool,
) -> None:
    """Compute all tables and checks for a range of days.

    Existing partitions are replaced. The same source and range always produce the same tables. The
    exit code is 1 if the run or a check with severity ERROR fails, and 2 if a setting or the source
    is invalid.

    \b
    Examples:
      monstera run
      monstera run --source /data/events --database /data/monstera.duckdb
      monstera run --from 2025-06-01 --to 2025-06-07
    """  # noqa: D301
    chosen = {"--from": first, "--to": last, "--changed": changed, "--daily": daily}
    for flag, is_given in (
        ("--daily", daily),
        ("--changed", changed),
        ("--rebuild", rebuild),
        ("--reset-versions", reset_versions),
    ):
        others = [name for name, value in chosen.items() if value and name != flag]
        if is_given and others:
            raise SettingsError(
                f"{flag} determines the days to compute. Remove {' and '.join(others)}."
            )
    _compute(
        settings,
        first=_day(first),
        last=_day(last),
        changed=changed,
        daily=daily,
        rebuild=rebuild,
        reset_versions=reset_versions,
    )


@_findings_first
def _compute(
    settings: Settings,
    *,
    first: date | None = None,
    last: date | None = None,
    changed: bool = False,
    daily: bool = False,
    rebuild: bool = False,
    reset_versions: bool = False,
) -> None:
    """Run the whole graph, print the result and exit with the code that `run` documents."""
    # Delay slow imports until the source and the requested days have been checked.
    console = _console()
    if settings.imports:
        from monstera_assets.imports.import_report import print_import
        from monstera_assets.imports.importer import run_import

        print_import(console, settings, run_import(settings))
    if settings.source == Path("seeds") and not settings.source.exists():
        raise SettingsError(
            "This folder contains no source. Run `monstera demo` to start with example data, or choose"
            " the folder that contains your events with --source."
        )
    discover_source(settings.source)
    from monstera_assets.definitions import table_assets
    from monstera_assets.operations import run_plan
    from monstera_assets.operations.jobs import local_day
    from monstera_assets.operations.recorded_settings import ensure_writable
    from monstera_assets.operations.status import print_line

    show = partial(print_line, console)
    if daily:
        yesterday = local_day(datetime.now(UTC), settings) - timedelta(days=1)
        plan = run_plan.plan_day(settings, table_assets(settings), yesterday)
    elif changed:
        plan = run_plan.plan_changes(settings, table_assets(settings))
    else:
        plan = run_plan.plan_range(settings, first, last)
    for line in plan.description:
        show(line)
    if (window := plan.days) is None:
        return
    from monstera_assets.definitions import build_alerts, build_definitions, tables
    from monstera_assets.operations import exports, home, progress, report, runs, status

    start = {"start_date": plan.first_partition}
    definitions = build_definitions(settings.model_copy(update=start))
    ensure_writable(settings, rebuild=rebuild)
    count = f"{len(window):,} day{'' if len(window) == 1 else 's'}"
    show(f"{shown_source(settings.source)} into {settings.database}: {window} ({count})")
    for path, reason in discover_source(settings.source).ignored:
        show(f"{path} is not read: it {reason}")
    tags = plan.tags
    if reset_versions:
        from monstera_assets.bronze.load_entities import RESET_VERSIONS

        tags = {**tags, RESET_VERSIONS: "true"}
    job = runs.whole_graph(definitions)
    alerts = build_alerts(settings)
    with home.open_instance(settings) as instance:
        with progress.RunProgress(console, steps=len(job.nodes)) as shown:
            done = runs.run_range(job, instance, window, shown, tags)
        if done.interrupted:
            raise KeyboardInterrupt
        troubles = alerts.after_run(instance)
        found = status.read_status(instance, settings, datetime.now(UTC))
    is_source_error = any(failure.is_source_error for failure in done.failures)
    if is_source_error or done.questions_source:
        _print_findings(settings)
    status.print_tables(console, found.tables)
    report.print_report(console, settings, done)
    if settings.export_directory and done.healthy:
        exported = exports.export_all(settings, tables(settings))
        show(f"Export: {exported.folder / 'current'}")
    for trouble in (*done.failures, *troubles):
        click.echo(f"monstera: {trouble}", err=True)
    if is_source_error:
        sys.exit(EXIT_USAGE)
    sys.exit(0 if done.healthy else EXIT_UNHEALTHY)


@main.command()
@click.option(
    "--output",
    type=_FOLDER,
    metavar="FOLDER",
    help="Write the example data and the tables to this folder.  [default: the current folder]",
)
def demo(output: Path | None) -> None:
    """Compute all tables from the example data in the package.

    The command copies the example data to the folder seeds, unless that folder exists, and then does
    what `monstera run` does. The dashboards are in data/dashboards.
    """
    from monstera_assets.operations.demo import DATABASE, SEEDS, place_example

    folder = output or Path()
    settings = load_settings(source=folder / SEEDS, database=output and output / DATABASE)
    place_example(folder, settings.database)
    _compute(settings)


@main.command(epilog=_SETTINGS_HINT)
@click.argument("exports", type=_FOLDER)
def init(exports: Path) -> None:
    """Write monstera.toml and a product catalog for a folder of exports.

    EXPORTS is the folder that contains the exports. The tools are recognized by their columns. The
    command prints the event types, and proposes which ones qualify and activate. Existing files are
    never overwritten. Edit the proposals, then run `monstera run`, which imports the exports first.
    """
    from monstera_assets.imports.import_report import print_proposal
    from monstera_assets.imports.proposal import propose

    print_proposal(_console(), propose(exports))


@main.command(name="import", epilog=_SETTINGS_HINT)
@_source_option
@click.option(
    "--rebuild",
    is_flag=True,
    help="Read every file again, and delete the rows that came from files that no longer exist.",
)
def import_exports(source: Path | None, rebuild: bool) -> None:
    """Import tools' exports into the source folder.

    The [[import]] tables in monstera.toml list the exports (see docs/how-to/importing.md). Only new and
    changed files are read, and only days whose rows differ are written. The command prints what
    happened to the rows. If it fails, the source is unchanged.
    """
    settings = load_settings(source=source)
    from monstera_assets.imports.import_report import print_import
    from monstera_assets.imports.importer import run_import

    print_import(_console(), settings, run_import(settings, rebuild=rebuild))


def _with_site(command: Command) -> Command:
    """Add the options `--output` and `--no-open` of commands that write dashboards."""
    output = click.option(
        "--output",
        type=_FOLDER,
        metavar="FOLDER",
        help="Write the site to this folder. The home page is current/index.html."
        "  [MONSTERA_DASHBOARD_DIRECTORY; default: dashboards, next to the database]",
    )
    no_open = click.option("--no-open", is_flag=True, help="Do not open the site in your browser.")
    return output(no_open(command))


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@_with_site
def dashboard(settings: Settings, output: Path | None, no_open: bool) -> None:
    """Build the dashboards and open them in your browser.

    The site shows the stored tables and does not require a network connection or a server. Each
    `monstera run` also builds the site.
    """
    from monstera_assets.dashboards.site import write_site
    from monstera_assets.definitions import metric_tables
    from monstera_assets.operations.home import open_instance
    from monstera_assets.operations.status import read_status

    with open_instance(settings) as instance:
        status = read_status(instance, settings, datetime.now(UTC))
    report = write_site(settings, output or settings.dashboards, metric_tables(settings), status)
    until = (
        f"data through {report.as_of}" if report.as_of else "no data (start with `monstera run`)"
    )
    click.echo(f"{report.pages} pages, {report.bytes / 1e6:.1f} MB, {until}")
    click.echo(f"Dashboards: {report.index}")
    if not no_open:
        webbrowser.open(report.index.absolute().as_uri())


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@click.argument("account_id")
@_with_site
def account(settings: Settings, account_id: str, output: Path | None, no_open: bool) -> None:
    """Open an account's page in your browser.

    The page shows the account's state, health, revenue, billing and users at high risk. It is written
    to the folder `opened` of the dashboards, even if the account has no page in the site.
    """
    _open_entity(settings, "account", account_id, output, no_open=no_open)


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@click.argument("user_id")
@_with_site
def person(settings: Settings, user_id: str, output: Path | None, no_open: bool) -> None:
    """Open a person's page in your browser.

    The page shows the person's states, segments, churn risk and recommended products. It is written to
    the folder `opened` of the dashboards, even if the person has no page in the site. Pass - to read
    the id from standard input so that the id does not appear in the shell history.
    """
    _open_entity(settings, "person", _given_id(user_id), output, no_open=no_open)


def _open_entity(
    settings: Settings, kind: str, entity: str, output: Path | None, *, no_open: bool
) -> None:
    from monstera_assets.dashboards.site import write_entity
    from monstera_assets.definitions import metric_tables

    folder = output or settings.dashboards
    path = write_entity(settings, folder, metric_tables(settings), kind, entity)
    click.echo(f"Page: {path}")
    if not no_open:
        webbrowser.open(path.absolute().as_uri())


def _given_id(user_id: str) -> str:
    """Return the id given as an argument, or read it from standard input if the argument is -."""
    return sys.stdin.readline().rstrip("\r\n") if user_id == "-" else user_id


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@click.option(
    "--output",
    type=_FOLDER,
    metavar="FOLDER",
    help="Export the tables to this folder. Consumers read the latest export through the folder's"
    " `current` link.  [MONSTERA_EXPORT_DIRECTORY; default: exports]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv", "both"]),
    default="both",
    help="The file format.",
)
@click.option(
    "--table",
    "names",
    multiple=True,
    metavar="TABLE",
    help="Export only this table, and keep the other tables from the previous export. You can repeat"
    " this option.  [default: all gold tables and all unpartitioned silver tables]",
)
def export(settings: Settings, output: Path | None, kind: str, names: tuple[str, ...]) -> None:
    """Export tables as Parquet and CSV files.

    Each export atomically replaces the previous export. Reading the files does not lock the database.
    """
    from monstera_assets.definitions import absent_tables, tables
    from monstera_assets.operations.exports import choose_tables, write_export
    from monstera_assets.warehouse.extras import how_to_install

    if absent := [table for name, table in absent_tables().items() if name in names]:
        raise SettingsError(how_to_install(absent[0]))
    formats = list(FileFormat) if kind == "both" else [FileFormat(kind)]
    chosen = dict.fromkeys(choose_tables(tables(settings), names), formats)
    folder = output or settings.export_directory or Path("exports")
    report = write_export(settings, folder, chosen, every_table=not names)
    for name, rows in report.rows.items():
        click.echo(f"{name}  {rows:,} rows")
    for name in report.missing:
        click.echo(f"{name}  skipped: never materialized")
    click.echo(f"Export: {report.folder / 'current'}")


@main.command(epilog=_SETTINGS_HINT)
@_source_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON object.")
def check(source: Path | None, as_json: bool) -> None:
    """Check a source before a run, and show how to correct any problems.

    The command reads all rows once and does not write to the warehouse. The exit code is 0 if there
    are no findings, 1 if there are findings, and 2 if the folder cannot be read.
    """
    from monstera_assets.operations.source_check import check_source
    from monstera_assets.operations.source_findings import print_check

    found = check_source(load_settings(source=source), datetime.now(UTC))
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        print_check(_console(), found)
    sys.exit(EXIT_UNHEALTHY if found.findings else 0)


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@click.option(
    "--cost",
    "cost",
    is_flag=True,
    help="Show what runs cost instead: seconds per step, rows and bytes per table, and when the disk"
    " will be full.",
)
@click.option(
    "--output",
    "page",
    type=_FILE,
    metavar="FILE",
    help="With --cost, also write the costs to this HTML file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON object.")
def status(settings: Settings, cost: bool, page: Path | None, as_json: bool) -> None:
    """Show the health of the warehouse and each table.

    The first line is a summary. The remaining lines show each table's row count and days, as Dagster
    recorded them. The command does not wait for a run. The exit code is 1 if the latest day is late,
    2 if the database does not exist, and 0 otherwise. With --cost, the exit code is 0.
    """
    if page is not None and not cost:
        raise SettingsError("--output writes the costs. Add --cost.")
    gc.disable()  # Garbage collection during imports would take a sixth of the total time.
    from monstera_assets.operations.home import open_instance

    if cost:
        from monstera_assets.operations import costs

        now = datetime.now(UTC)
        with open_instance(settings) as instance:
            spent = costs.read_costs(instance, settings, now)
        gc.enable()
        if page is not None:
            from monstera_assets.dashboards.cost_page import write_page

            write_page(page, spent, now)
        if as_json:
            click.echo(spent.model_dump_json(indent=2))
        else:
            costs.print_costs(_console(), spent)
            if page is not None:
                click.echo(f"Page: {page}")
        return
    from monstera_assets.operations.status import print_status, read_status

    with open_instance(settings) as instance:
        found = read_status(instance, settings, datetime.now(UTC))
    gc.enable()
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        print_status(_console(), found)
    sys.exit(EXIT_UNHEALTHY if found.late else 0)


@main.command()
@click.argument("table")
def sql(table: str) -> None:
    """Print the SQL query that computes a table."""
    from monstera_assets.definitions import table_query
    from monstera_assets.warehouse.compiler import formatted

    click.echo(formatted(table_query(table, load_settings())))


@main.command(name="semantic-models", epilog=_SETTINGS_HINT)
@click.option(
    "--output",
    type=_FILE,
    default=Path("semantic_models.yml"),
    metavar="FILE",
    help="Write the semantic models to this file, replacing any existing file.",
)
def write_semantic_models(output: Path) -> None:
    """Describe the published copy's metrics for MetricFlow, the semantic layer of dbt.

    The file contains the metrics in the gold tables and the semantic models that they require. Comments
    list the metrics that MetricFlow cannot express. The same settings always produce the same file.
    """
    settings = load_settings()
    from monstera_assets.definitions import metric_tables
    from monstera_assets.documentation.semantic_models import semantic_models
    from monstera_assets.warehouse.files import replacing_file

    content = semantic_models(metric_tables(settings)).to_yaml()
    try:
        with replacing_file(output, ".incoming") as incoming:
            incoming.write_text(content, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"Cannot write to --output {output}: {error.strerror}. Choose another file."
        ) from error
    click.echo(output)


@main.command()
@click.option("--users", default=DEFAULT_USERS, help="Number of users who sign up by the last day.")
@click.option("--days", default=DEFAULT_DAYS, help="Number of days, including the last day.")
@click.option("--seed", default=DEFAULT_SEED, help="Random seed.")
@click.option(
    "--output",
    type=_FOLDER,
    required=True,
    metavar="FOLDER",
    help="Write the source to this folder, which must be empty or not yet exist.",
)
@click.option(
    "--to",
    "end",
    type=_DAY,
    metavar="DATE",
    default=str(DEFAULT_END),
    help="The last day, as YYYY-MM-DD.",
)
@click.option(
    "--as-of",
    "until",
    type=_DAY,
    metavar="DATE",
    help="Write the source as of the end of this day.  [default: all days]",
)
@click.option(
    "--events",
    type=int,
    help="Approximate number of events (within 5%).  [default: determined by the event rates]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    help="The file format.",
)
@click.option(
    "--truth",
    "with_truth",
    is_flag=True,
    help="Also write truth/user_hazards.parquet. For every seventh day, this file contains each user's"
    " true probability of having no qualifying event in the next 30 days. Runs do not read this file.",
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
    """Generate a source for a synthetic company.

    The same arguments always produce the same files. docs/reference/synthetic.md lists the event
    rates. The folder is written atomically, and existing files are never overwritten.

    \b
    Examples:
      monstera generate --output data/demo-company/source
      monstera generate --users 10000 --days 365 --events 1000000 --output /data/benchmark
    """  # noqa: D301
    # NumPy is slow to import, so `--help` must not import it.
    from monstera_assets.synthetic import writer
    from monstera_assets.synthetic.company import Company

    company = Company(
        users=users, days=days, seed=seed, end=end.date(), events=events, until=_day(until)
    )
    try:
        written = writer.generate(company, output, FileFormat(kind), with_truth=with_truth)
    except KeyboardInterrupt:
        click.echo("monstera: Interrupted. No files were written.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    for name, rows in written.rows.items():
        click.echo(f"{name}  {rows:,} rows")
    click.echo(f"Source: {written.folder}, {company.first} to {company.until or company.end}")


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@click.argument("user_id")
def forget(settings: Settings, user_id: str) -> None:
    """Erase a person from the warehouse, published copy, exports, dashboards and logs.

    USER_ID is the user's id in the source. Pass - to read the id from standard input so that the
    id does not appear in the shell history. A random tombstone id replaces the id everywhere,
    including in later loads of the source and when a backup is restored. An erasure cannot be undone.
    """
    from monstera_assets.dashboards.site import rebuild_sites
    from monstera_assets.definitions import tables
    from monstera_assets.operations.forget import forget_person

    declared = tables(settings)
    done = forget_person(
        settings, _given_id(user_id), declared, partial(rebuild_sites, settings, declared)
    )
    what = "Already erased" if done.already else "Erased"
    click.echo(f"{what}: tombstone {done.tombstone}")
    for path in done.logs:
        click.echo(f"Log rewritten: {path}")
    for folder in done.exports:
        click.echo(f"Export rewritten: {folder}")
    if done.published is not None:
        click.echo(f"Published copy rewritten: {done.published}")
    for folder in done.sites:
        click.echo(f"Dashboards rebuilt: {folder}")
    if settings.imports:
        from monstera_assets.imports.importer import run_import

        try:
            imported = run_import(settings)
        except SourceError as error:
            raise SourceError(
                f"The files that were imported into {settings.source} still contain the person. {error}"
                " Then run the same command again."
            ) from error
        click.echo(f"Imported source rewritten: {len(imported.written):,} files")
    for folder in done.unreached:
        click.echo(
            f"monstera: The folder of backups {folder} does not exist, so its list of erasures was not"
            " extended. If the folder still exists elsewhere, make it available and run the same"
            " command again before you restore a backup.",
            err=True,
        )


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
@click.option(
    "--output",
    type=_FOLDER,
    metavar="FOLDER",
    help="Write the backup to a new folder in this folder.  [default: backups, next to the database]",
)
def backup(settings: Settings, output: Path | None) -> None:
    """Back up the database.

    Runs wait until the backup is complete. The backup is read back and compared with the database. A
    backup contains all tables, including the versions of
    users and accounts, but neither Dagster's state nor the key that identifies erased people.
    """
    from monstera_assets.operations.backups import back_up, default_folder

    click.echo(f"Copying {settings.database} ({settings.database.stat().st_size / 1e6:,.1f} MB)")
    folder = output or default_folder(settings.database)
    written, manifest = back_up(settings, folder, datetime.now(UTC))
    click.echo(f"Verified: {len(manifest.rows)} tables, {sum(manifest.rows.values()):,} rows")
    click.echo(f"Backup: {written}")


@main.command(epilog=_SETTINGS_HINT)
@_with_settings()
@click.argument("backup", type=_FOLDER)
def restore(settings: Settings, backup: Path) -> None:
    """Replace the database with a backup.

    BACKUP is a folder that `monstera backup` wrote. Everyone who was erased since the backup is erased
    from the restored database before anyone can read it. If the command fails, the current database is
    unchanged.
    """
    from monstera_assets.definitions import tables
    from monstera_assets.operations import backups

    click.echo(f"Verifying and copying {backup}")
    done = backups.restore(settings, backup, tables(settings))
    if done.unread is not None:
        click.echo(
            "monstera: The erasures in the replaced database could not be read. Only the list next to"
            f" the backup was applied. {done.unread}",
            err=True,
        )
    click.echo(f"Erasures applied: {done.erased:,}")
    click.echo(
        f"Restored: {settings.database}, with data through {done.manifest.last_day or 'no day'}"
    )
    click.echo(
        "Run `monstera run --daily` to compute the days since then. Until then, `monstera status` and"
        " the Dagster UI also show days that are no longer in the database."
    )


@main.command(epilog=_SETTINGS_HINT)
@_with_settings(database_exists=True)
def expire(settings: Settings) -> None:
    """Delete raw events older than the retention period.

    MONSTERA_RAW_EVENT_RETENTION_DAYS sets the period. States and totals are kept, but the affected
    days can no longer be recomputed.
    """
    from monstera_assets.definitions import tables
    from monstera_assets.operations.jobs import local_day
    from monstera_assets.operations.retention import expire_raw_events

    done = expire_raw_events(settings, tables(settings), local_day(datetime.now(UTC), settings))
    if done.removed_before is None:
        click.echo("No raw events are older than the retention period.")
    for name, rows in done.rows.items():
        click.echo(f"{name}  deleted {rows:,} rows before {done.removed_before}")


@main.command(epilog=_SETTINGS_HINT)
@_with_settings()
def home(settings: Settings) -> None:
    """Print DAGSTER_HOME, the folder for Dagster's state."""
    from monstera_assets.operations.home import dagster_home

    click.echo(dagster_home(settings))


@main.command(name="settings")
def list_settings() -> None:
    """List all settings with their defaults.

    Options override environment variables, which override monstera.toml in the current folder. In
    monstera.toml, MONSTERA_POLICY__ACTIVE_DAYS corresponds to active_days under [policy].
    """
    home = "The folder for Dagster's state.  [default: dagster_home, next to the database]"
    formatter = click.HelpFormatter()
    formatter.write_dl([*map(_described, variables().items()), ("DAGSTER_HOME", home)])
    click.echo(formatter.getvalue(), nl=False)


@main.command()
@_source_option
@click.option(
    "--output",
    type=_FOLDER,
    default=Path("docs/generated"),
    metavar="FOLDER",
    help="Write the pages to this folder, replacing any existing pages with the same names.",
)
@click.option(
    "--dialects",
    is_flag=True,
    help="Also compile each table for other engines, and write which of them lack an operation.",
)
def docs(source: Path | None, output: Path, dialects: bool) -> None:
    """Generate the documentation pages that describe the tables."""
    settings = load_settings(source=source)
    from monstera_assets.definitions import build_definitions, rules, table_assets, tables
    from monstera_assets.documentation.catalog import read_catalog
    from monstera_assets.documentation.pages import render_pages, write_pages

    graph = build_definitions(settings).resolve_asset_graph()
    catalog = read_catalog(settings.source)
    pages = render_pages(graph, table_assets(settings), tables(settings), rules(settings), catalog)
    if dialects:
        from monstera_assets.documentation.dialects import render_dialects

        pages = {**pages, **render_dialects(table_assets(settings), tables(settings))}
    try:
        written = write_pages(pages, output)
    except OSError as error:
        raise SettingsError(
            f"Cannot write to --output {output}: {error.strerror}. Choose another folder."
        ) from error
    for path in written:
        click.echo(path)


def _described(setting: tuple[str, FieldInfo]) -> tuple[str, str]:
    variable, field = setting
    default = field.get_default(call_default_factory=True)
    shown = f"  [default: {default}]" if isinstance(default, _PLAIN) else ""
    return variable, f"{field.description}{shown}"


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def _console() -> Console:
    try:
        # While steps run, Dagster redirects standard output to a log file.
        file = open(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding)  # noqa: PTH123, SIM115
    except OSError:  # standard output was replaced with an object without a file descriptor
        file = None
    console = Console(file=file)
    # If the output is not a terminal, a fixed width prevents truncated lines.
    return console if console.is_terminal else Console(file=file, width=120)
