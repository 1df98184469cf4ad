"""Test the costs that are read from runs' logs: made by hand, and of a run over the seeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.plan.objects import StepSuccessData
from rich.console import Console

from monstera_assets.cli import main
from monstera_assets.dashboards.cost_page import render_page
from monstera_assets.operations.costs import SIZES, Costs, print_costs, read_costs
from monstera_assets.operations.home import open_instance
from monstera_assets.operations.jobs import SELECTED, WHOLE_GRAPH
from monstera_assets.operations.runs import range_tags
from monstera_assets.settings import Settings
from monstera_assets.warehouse.sizes import TableSize, measure_tables
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import copy_of, in_this_process
from monstera_assets_tests.integration.example_runs import SeedsRun

NOW = datetime(2025, 6, 4, 6, 0, tzinfo=UTC)
FIRST = date(2025, 1, 1)
FREE = 45_500_000
ALL_DAYS = DateWindow(FIRST, date(2025, 6, 1))
"""152 days."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A warehouse whose file is not a database, because costs do not depend on its contents."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, FREE))
    database = tmp_path / "monstera.duckdb"
    database.write_text("no database")
    published = tmp_path / "published" / "monstera.duckdb"
    published.parent.mkdir()
    published.write_text("no copy")
    return Settings(database=database)


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings) as opened:
        yield opened


def sizes(last: date, files: tuple[int, int, int], **tables: tuple[int, int | None]) -> object:
    """Return what a run records, with the bytes of the database, the copy and Dagster's files."""
    return dg.JsonMetadataValue(
        {
            "first_day": str(FIRST),
            "last_day": str(last),
            "files": dict(zip(("database", "published", "dagster"), files, strict=True)),
            "tables": {name: list(size) for name, size in tables.items()},
        }
    )


def succeeded(milliseconds: int) -> StepSuccessData:
    return StepSuccessData(float(milliseconds))  # type: ignore[no-untyped-call]


def log_run(
    instance: dg.DagsterInstance,
    days: DateWindow,
    seconds: float,
    steps: Mapping[str, int],
    recorded: Any = None,
    *,
    job: str = WHOLE_GRAPH,
    ending: str = "PIPELINE_SUCCESS",
) -> None:
    """Write a run to Dagster's log that begins at 6:00 after its last day.

    Args:
        instance: the instance.
        days: the days of the run.
        seconds: the duration of the run.
        steps: the milliseconds of each step, by key.
        recorded: the sizes that the run recorded, or None for no sizes.
        job: the run's job.
        ending: the type of the run's last event.
    """
    definitions = dg.Definitions(jobs=[dg.GraphDefinition("nothing").to_job(name=job)])
    run = instance.create_run_for_job(definitions.resolve_job_def(job), tags=range_tags(days))
    began = datetime(days.last.year, days.last.month, days.last.day, 6, tzinfo=UTC).timestamp()
    events: list[tuple[str, str | None, Any]] = [
        ("PIPELINE_START", None, None),
        *(("STEP_SUCCESS", key, succeeded(duration)) for key, duration in steps.items()),
        ("ENGINE_EVENT", None, EngineEventData({"pid": dg.MetadataValue.text("1")})),
    ]
    if recorded is not None:
        events.append(("ENGINE_EVENT", None, EngineEventData({SIZES: recorded})))
    for kind, key, data in events:
        event = DagsterEvent(kind, job, step_key=key, event_specific_data=data)
        instance.report_dagster_event(event, run.run_id, timestamp=began)
    instance.report_dagster_event(DagsterEvent(ending, job), run.run_id, timestamp=began + seconds)


def log_all_days(instance: dg.DagsterInstance) -> None:
    steps = {
        "load_events": 40_000,
        "silver__silver_daily": 20_000,
        "check_silver_daily": 2_000,
        "gold__gold_current": 1_000,
    }
    files = (10_000_000, 1_000_000, 2_000_000)
    tables = {"silver_daily": (15_200, 4_000_000), "gold_current": (100, None)}
    log_run(instance, ALL_DAYS, 100, steps, sizes(ALL_DAYS.last, files, **tables))


def log_day(
    instance: dg.DagsterInstance,
    day: date,
    seconds: float,
    milliseconds: tuple[int, int, int, int],
    files: tuple[int, int, int],
    rows: tuple[int, int],
    size: int,
) -> None:
    names = ("load_events", "silver__silver_daily", "check_silver_daily", "gold__gold_current")
    recorded = sizes(day, files, silver_daily=(rows[0], size), gold_current=(rows[1], None))
    steps = dict(zip(names, milliseconds, strict=True))
    log_run(instance, DateWindow(day, day), seconds, steps, recorded)


def log_two_days(instance: dg.DagsterInstance) -> None:
    log_day(
        *(instance, date(2025, 6, 2), 10, (1_000, 3_000, 1_000, 500)),
        *((10_100_000, 1_000_000, 2_300_000), (15_300, 101), 4_030_000),
    )
    log_day(
        *(instance, date(2025, 6, 3), 14, (2_000, 4_000, 2_000, 700)),
        *((10_300_000, 1_010_000, 2_600_000), (15_420, 104), 4_060_000),
    )


def shown(costs: Costs) -> list[str]:
    """The printed lines, with single spaces."""
    console = Console(width=120, record=True, file=StringIO())
    print_costs(console, costs)
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_costs_of_daily_runs(instance: dg.DagsterInstance, settings: Settings) -> None:
    log_all_days(instance)
    log_two_days(instance)
    # A run of selected assets and a failed run do not count.
    day = DateWindow(date(2025, 6, 3), date(2025, 6, 3))
    slow = {"silver__silver_daily": 99_000}
    log_run(instance, day, 999, slow, job=SELECTED)
    log_run(instance, day, 999, slow, ending="PIPELINE_FAILURE")
    costs = read_costs(instance, settings, NOW)
    assert [(run.days, run.seconds, run.last_day) for run in costs.runs] == [
        (1, 14, date(2025, 6, 3)),
        (1, 10, date(2025, 6, 2)),
        (152, 100, date(2025, 6, 1)),
    ]
    assert costs.runs[0].database_bytes == 10_300_000
    assert (costs.day_seconds, costs.daily_runs) == (12, 2)
    daily, load, current = costs.steps
    assert (daily.step, load.step, current.step) == ("silver_daily", "load_events", "gold_current")
    assert (daily.seconds, daily.check_seconds, daily.day_seconds) == (4, 2, (4 + 6) / 2)
    assert (daily.rows, daily.rows_per_day) == (15_420, (15_420 - 15_200) / 2)
    assert (daily.bytes, daily.bytes_per_day) == (4_060_000, 30_000)
    assert (load.seconds, load.check_seconds, load.day_seconds) == (2, None, 1.5)
    assert (load.rows, load.bytes) == (None, None)
    assert (current.seconds, current.rows, current.rows_per_day) == (0.7, 104, 2)
    assert current.day_seconds == pytest.approx(0.6)
    assert (current.bytes, current.bytes_per_day) == (None, None)
    disk = costs.disk
    assert disk.bytes_per_day == (13_910_000 - 13_000_000) / 2
    assert disk.growth_since == date(2025, 6, 1)
    # 45,500,000 bytes are free, so the disk is full after 100 days.
    assert (disk.free_bytes, disk.full_on) == (FREE, date(2025, 9, 12))
    assert (disk.database_bytes, disk.published_bytes) == (len("no database"), len("no copy"))
    home = Path(instance.root_directory)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert disk.dagster_bytes == sum(path.stat().st_size for path in files)
    lines = shown(costs)
    assert lines[0] == (
        "Seconds per day: 12.0 s (mean of 2 daily runs); last run: 1 day in 14.0 s,"
        " 2025-06-03 06:00 UTC"
    )
    assert lines[1].endswith("; growth 455.0 kB per day since 2025-06-01")
    assert lines[2] == "Disk: 45.5 MB free, full on 2025-09-12 at this rate"
    assert lines[3] == "step seconds checks s/day rows rows/day bytes bytes/day"
    assert lines[4] == "silver_daily 4.00 2.00 5.00 15,420 110 4.1 MB 30.0 kB"
    assert lines[5:] == [
        "load_events 2.00 - 1.50 - - - -",
        "gold_current 0.70 - 0.60 104 2.0 - -",
    ]


def test_after_one_run_growth_is_the_mean_of_all_days(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    log_all_days(instance)
    costs = read_costs(instance, settings, NOW)
    assert (costs.day_seconds, costs.daily_runs) == (None, 0)
    [daily] = [step for step in costs.steps if step.step == "silver_daily"]
    assert (daily.rows_per_day, daily.day_seconds) == (100, None)
    assert daily.bytes_per_day == 4_000_000 / 152
    assert costs.disk.bytes_per_day == 13_000_000 / 152
    assert costs.disk.growth_since == FIRST
    lines = shown(costs)
    assert lines[0].startswith(
        "Seconds per day: unknown, because no run was over at most 7 days; last run: 152 days in"
    )


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        ([date(2025, 5, 4), date(2025, 5, 5), date(2025, 6, 1)], date(2025, 5, 4)),
        ([date(2025, 4, 1), date(2025, 5, 3)], date(2025, 5, 3)),
        ([date(2025, 6, 3), date(2025, 6, 3)], FIRST),
    ],
    ids=["30 days", "the last one before 30 days", "the same day"],
)
def test_the_day_from_which_growth_is_measured(
    instance: dg.DagsterInstance, settings: Settings, earlier: list[date], expected: date
) -> None:
    for day in (*earlier, date(2025, 6, 3)):
        log_run(instance, DateWindow(day, day), 1, {}, sizes(day, (1, 1, 1)))
    assert read_costs(instance, settings, NOW).disk.growth_since == expected


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (100_001, "not full at this rate"),
        (100_000, "not full at this rate"),
        (100_000 - 12_465, "not full within 10 years at this rate"),
        (100_000 - 12_466, "full on 2035-06-02 at this rate"),
    ],
)
def test_a_disk_that_is_not_full_soon(
    instance: dg.DagsterInstance, settings: Settings, before: int, text: str
) -> None:
    """45,500,000 bytes last ten years of 365 days at 12,465.8 bytes per day."""
    for day, size in ((date(2025, 6, 2), before), (date(2025, 6, 3), 100_000)):
        log_run(instance, DateWindow(day, day), 1, {}, sizes(day, (size, 0, 0)))
    assert shown(read_costs(instance, settings, NOW))[2] == f"Disk: 45.5 MB free, {text}"


def test_before_any_run(instance: dg.DagsterInstance, settings: Settings) -> None:
    costs = read_costs(instance, settings, NOW)
    assert (costs.runs, costs.steps) == ([], [])
    assert shown(costs)[0] == "No run of the whole graph has succeeded yet."
    assert shown(costs)[2] == "Disk: 45.5 MB free, growth unknown"
    assert "No run has recorded any step yet." in render_page(costs, NOW)


def test_bytes_of_tables_are_those_of_their_rows(tmp_path: Path) -> None:
    """Random numbers of 8 bytes cannot be compressed.

    Each row group of 122,880 rows takes 983,040 bytes, or up to four blocks of 262,144 bytes.
    """
    with duckdb.connect(tmp_path / "x.duckdb") as connection:
        assert measure_tables(connection, ["main"]) == {}
        connection.execute("CREATE TABLE small AS SELECT 1 AS n FROM range(9999)")
        connection.execute("CREATE TABLE flat AS SELECT 1 AS n FROM range(10000)")
        connection.execute(
            "CREATE TABLE large AS SELECT hash(n)::UBIGINT AS n FROM range(1_000_000) AS t(n)"
        )
        measured = measure_tables(connection, ["main"])
        file = (tmp_path / "x.duckdb").stat().st_size
    assert measured["small"] == TableSize(9999, None)
    assert measured["flat"].rows == 10_000
    assert measured["flat"].bytes is not None
    assert measured["flat"].bytes < 262_144
    assert measured["large"].rows == 1_000_000
    assert measured["large"].bytes is not None
    assert 8_000_000 <= measured["large"].bytes <= 9 * 4 * 262_144
    assert measured["large"].bytes < file


def test_rows_of_a_run_are_those_in_the_warehouse(
    seeds_run: SeedsRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(seeds_run.outcome, tmp_path / "house")
    page = tmp_path / "pages" / "costs.html"
    command = ["status", "--cost", "--output", str(page), "--json"]
    done = in_this_process(monkeypatch, folder, *command)
    assert (done.code, done.err) == (0, "")
    costs = Costs.model_validate_json(done.out)
    assert json.loads(done.out) == json.loads(costs.model_dump_json())
    with duckdb.connect(done.database, read_only=True) as connection:
        names = connection.execute(
            "SELECT schema_name || '.' || table_name, table_name FROM duckdb_tables()"
            " WHERE schema_name <> 'operations'"
        ).fetchall()
        stored = {
            table: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            for name, table in names
        }
    steps = {step.step: step for step in costs.steps}
    assert {name: step.rows for name, step in steps.items() if step.rows is not None} == stored
    assert {name for name, step in steps.items() if step.rows is None} == {
        "load_entities",
        "load_events",
        "static_site",
        "copy",
    }
    assert sum(step.bytes or 0 for step in costs.steps) < costs.disk.database_bytes
    assert {name for name, step in steps.items() if step.bytes is not None} == {
        name for name, rows in stored.items() if rows >= 10_000
    }
    [run] = costs.runs
    assert (run.days, run.last_day) == (365, date(2025, 6, 30))
    assert run.database_bytes == costs.disk.database_bytes == done.database.stat().st_size
    assert 0 < sum(step.seconds or 0 for step in costs.steps) < run.seconds
    assert costs.disk.published_bytes == Settings(database=done.database).published.stat().st_size
    text = page.read_text(encoding="utf-8")
    assert text.count('<th scope="row"') == len(costs.steps) + 1
    assert '<td class="number" data-order="2461">2,461</td>' in text


def test_the_page_is_only_written_with_the_costs(settings: Settings, tmp_path: Path) -> None:
    where = ["--database", str(settings.database)]
    page = tmp_path / "costs.html"
    done = CliRunner().invoke(main, ["status", "--output", str(page), *where])
    assert done.exit_code == 2
    assert "--output writes the costs. Add --cost." in done.stderr
    done = CliRunner().invoke(main, ["status", "--cost", "--output", str(page), *where])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"Page: {page}")
    blocked = settings.database / "costs.html"
    done = CliRunner().invoke(main, ["status", "--cost", "--output", str(blocked), *where])
    assert done.exit_code == 2
    assert f"Cannot write to --output {blocked}: " in done.stderr


def test_json_matches_the_documentation(instance: dg.DagsterInstance, settings: Settings) -> None:
    log_all_days(instance)
    found = json.loads(read_costs(instance, settings, NOW).model_dump_json())
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "operations.md").read_text(
        encoding="utf-8"
    )
    for name in (*found, *found["runs"][0], *found["steps"][0], *found["disk"]):
        assert f"`{name}`" in page
