"""Test the status of a warehouse of which only the runs that compute two tables are recorded."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from io import StringIO
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from rich.console import Console

from monstera_assets.checks import table_checks
from monstera_assets.cli import main
from monstera_assets.operations import status as status_module
from monstera_assets.operations.abandoned_runs import marked_as_running
from monstera_assets.operations.home import open_instance
from monstera_assets.operations.jobs import WHOLE_GRAPH
from monstera_assets.operations.runs import range_tags
from monstera_assets.operations.status import Status, read_status
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import DateWindow

DAYS = DateWindow(date(2025, 6, 1), date(2025, 6, 3))
ON_TIME = datetime(2025, 6, 5, 6, 59, tzinfo=UTC)
"""A minute before the deadline: the daily run starts at 5:00, and its tables are late at 7:00."""
TOO_LATE = datetime(2025, 6, 5, 7, 0, tzinfo=UTC)
PASSING = {"key_is_unique": "P0", "recomputed": "P1", "shifts": "P2", "drifts": "P2"}

PARTITIONS = dg.DailyPartitionsDefinition("2025-06-01", timezone="UTC")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A warehouse whose file is not a database, because the status does not depend on it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    database = tmp_path / "monstera.duckdb"
    database.write_text("no database")
    return Settings(database=database)


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings) as opened:
        yield opened


def run(
    instance: dg.DagsterInstance,
    *,
    failing: Sequence[str] = (),
    checks: Sequence[str] = tuple(PASSING),
    days: DateWindow = DAYS,
    whole: str = "gold_whole",
    breaks: bool = False,
    job: str = WHOLE_GRAPH,
) -> None:
    """Run a graph with the tables, in which some checks or the daily table can fail."""

    @dg.asset(
        key=["silver", "silver_daily"],
        partitions_def=PARTITIONS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={},
    )
    def daily() -> dg.MaterializeResult[None]:
        if breaks:
            raise ValueError("broken")
        return dg.MaterializeResult(metadata={"dagster/row_count": 6, "rows_written": 2})

    @dg.asset(key=["gold", whole], deps=[daily])
    def of_all_days() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"dagster/row_count": 4})

    @dg.asset(key=["dashboards", "static_site"])
    def static_site() -> None: ...

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec(name, asset=daily) for name in checks])
    def judged() -> Iterator[dg.AssetCheckResult]:
        for name in checks:
            yield dg.AssetCheckResult(
                check_name=name,
                passed=name not in failing,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={table_checks.LEVEL: PASSING[name]},
            )

    definitions = dg.Definitions(
        assets=[daily, of_all_days, static_site],
        asset_checks=[judged],
        jobs=[dg.define_asset_job(job, selection=dg.AssetSelection.all())],
    )
    definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        tags=range_tags(days),
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def shown(status: Status) -> list[str]:
    """The printed lines of a status."""
    console = Console(width=120, record=True, file=StringIO())
    status_module.print_status(console, status)
    return [line.strip() for line in console.export_text().splitlines()]


def test_healthy(instance: dg.DagsterInstance, settings: Settings) -> None:
    began = datetime.now(UTC)
    run(instance)
    status = read_status(instance, settings, ON_TIME)
    assert [table.table for table in status.tables] == ["silver_daily", "gold_whole"]
    daily, whole = status.tables
    assert (daily.rows, daily.first_day, daily.last_day) == (6, DAYS.first, DAYS.last)
    assert daily.materialized_at is not None
    assert began <= daily.materialized_at <= datetime.now(UTC)
    assert (whole.rows, whole.first_day) == (4, None)
    assert not status.late
    lines = shown(status)
    health = "Latest day: 2025-06-03, not late; failing checks: none; last run: succeeded, "
    assert lines[0].startswith(health)
    assert lines[0].endswith(" UTC")
    assert lines[2].split() == [
        *("silver_daily", "6", "2025-06-01", "2025-06-03"),
        *f"{daily.materialized_at:%Y-%m-%d %H:%M}".split(),
    ]
    assert len(lines) == 4


def test_late(instance: dg.DagsterInstance, settings: Settings) -> None:
    run(instance)
    status = read_status(instance, settings, TOO_LATE)
    assert status.late
    assert shown(status)[0].startswith(
        "Latest day: 2025-06-03, late (2025-06-04 was due by 2025-06-05 07:00 UTC); "
    )
    # With the daily run at 4:58, the deadline passed a minute ago.
    earlier = settings.model_copy(update={"daily_run_at": time(4, 58)})
    assert read_status(instance, earlier, ON_TIME).late


def test_a_table_without_any_day_is_late_if_another_has_some(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    run(instance)
    run(instance, whole="gold_new", breaks=True)
    status = read_status(instance, settings, ON_TIME)
    assert [(table.table, table.rows) for table in status.tables] == [
        ("silver_daily", 6),
        ("gold_new", None),
    ]
    assert status.late


def test_failing_checks_by_level(instance: dg.DagsterInstance, settings: Settings) -> None:
    run(instance, failing=["key_is_unique", "shifts", "drifts"])
    status = read_status(instance, settings, ON_TIME)
    assert status.failing_checks == {"P0": 1, "P1": 0, "P2": 2, "P3": 0}
    lines = shown(status)
    assert "; failing checks: 1 P0, 2 P2; " in lines[0]
    assert lines[-1] == "silver_daily: failing checks: drifts, key_is_unique, shifts"
    run(instance)
    assert set(read_status(instance, settings, ON_TIME).failing_checks.values()) == {0}


def test_a_check_that_is_no_longer_declared_is_omitted(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    run(instance, failing=["shifts"], whole="gold_renamed")
    run(instance, checks=["recomputed"])
    status = read_status(instance, settings, ON_TIME)
    assert [table.table for table in status.tables] == ["silver_daily", "gold_whole"]
    assert set(status.failing_checks.values()) == {0}


def test_a_later_run_of_a_part_counts(instance: dg.DagsterInstance, settings: Settings) -> None:
    run(instance, failing=["recomputed", "shifts"])
    run(instance, checks=["shifts"], job="gold_only")
    assert read_status(instance, settings, ON_TIME).failing_checks["P1"] == 1
    assert read_status(instance, settings, ON_TIME).failing_checks["P2"] == 0


def test_checks_that_the_last_run_did_not_reach(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    run(instance, failing=["shifts"])
    run(instance, breaks=True)
    status = read_status(instance, settings, ON_TIME)
    assert status.last_run is not None
    assert status.last_run.outcome == "failed"
    lines = shown(status)
    assert "last run: failed, " in lines[0]
    assert lines[-1] == "silver_daily: 4 checks not reached by the last run"


def test_a_running_and_a_killed_run(instance: dg.DagsterInstance, settings: Settings) -> None:
    run(instance, failing=["shifts"])
    begun = instance.create_run_for_job(
        dg.Definitions(
            jobs=[dg.GraphDefinition("nothing").to_job(name=WHOLE_GRAPH)]
        ).resolve_job_def(WHOLE_GRAPH)
    )
    with marked_as_running(instance, begun.run_id):
        status = read_status(instance, settings, ON_TIME)
        assert status.last_run is not None
        assert (status.last_run.run_id, status.last_run.outcome) == (begun.run_id, "running")
    status = read_status(instance, settings, ON_TIME)
    assert status.last_run is not None
    assert status.last_run.outcome == "abandoned"


def test_deleted_logs_of_earlier_runs_do_not_change_the_status(settings: Settings) -> None:
    runs = settings.database.parent / "dagster_home" / "history" / "runs"
    with open_instance(settings) as opened:
        run(opened)
        [earlier] = runs.glob("*-*.db")
        run(opened, failing=["shifts"])
        before = read_status(opened, settings, ON_TIME)
    assert sum(before.failing_checks.values()) > 0
    earlier.unlink()
    with open_instance(settings) as opened:
        assert read_status(opened, settings, ON_TIME) == before
        run(opened)
        assert set(read_status(opened, settings, ON_TIME).failing_checks.values()) == {0}


def test_before_any_run(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    status = read_status(instance, Settings(database=tmp_path / "empty.duckdb"), TOO_LATE)
    assert not status.late
    assert shown(status)[0] == "Latest day: none, not late; failing checks: none; last run: none"
    assert status.tables == []


def test_json_matches_the_documentation(instance: dg.DagsterInstance, settings: Settings) -> None:
    run(instance, failing=["shifts"])
    done = CliRunner().invoke(main, ["status", "--json", "--database", str(settings.database)])
    assert (done.exit_code, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    status = Status.model_validate(
        {key: value for key, value in found.items() if key not in Status.model_computed_fields}
    )
    assert status == read_status(instance, settings, datetime.now(UTC))
    assert found == json.loads(status.model_dump_json())
    assert found["late"] is True  # today is years after the last day
    assert found["latest_day"] == "2025-06-03"
    assert found["failing_checks"] == {"P0": 0, "P1": 0, "P2": 1, "P3": 0}
    assert found["last_run"]["outcome"] == "succeeded"
    assert found["tables"][0] == {
        "table": "silver_daily",
        "rows": 6,
        "first_day": "2025-06-01",
        "last_day": "2025-06-03",
        "missing_days": 0,
        "has_due_day": False,
        "materialized_at": status.tables[0].model_dump(mode="json")["materialized_at"],
        "failing_checks": {"shifts": "P2"},
        "checks_not_reached": [],
    }
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "operations.md").read_text(
        encoding="utf-8"
    )
    for name in (*found, *found["due"], *found["last_run"], *found["tables"][0]):
        assert f"`{name}`" in page


def test_levels_are_read_from_the_key_that_checks_write() -> None:
    assert status_module.LEVEL == table_checks.LEVEL


HEAVY = ["ibis", "pandas", "scipy", "sklearn"]


@pytest.mark.parametrize(
    ("arguments", "code", "without"),
    [
        (["--help"], 0, [*HEAVY, "dagster", "duckdb", "numpy"]),
        (["run", "--help"], 0, [*HEAVY, "dagster", "duckdb", "numpy"]),
        (["generate", "--help"], 0, [*HEAVY, "dagster", "duckdb", "numpy"]),
        (["run", "--frm", "x"], 2, [*HEAVY, "dagster", "duckdb", "numpy"]),
        (["run", "--source", "/nowhere"], 2, [*HEAVY, "dagster", "duckdb", "numpy"]),
        (["status", "--database", "/nowhere/x.duckdb"], 2, [*HEAVY, "dagster", "duckdb", "numpy"]),
        (["run", "--from", "1999-01-01"], 2, ["scipy", "sklearn"]),  # the range follows the rules
        (["status", "--database", "monstera.duckdb"], 0, [*HEAVY, "duckdb"]),
    ],
)
def test_quick_commands_import_only_what_they_need(
    arguments: list[str], code: int, without: list[str], settings: Settings, tmp_path: Path
) -> None:
    program = (
        "import sys; sys.argv[0] = 'monstera'\n"
        "from monstera_assets.cli import main\n"
        "try: main()\n"
        f"finally: print(sorted(set({without!r}) & sys.modules.keys()), file=sys.stderr)"
    )
    seeds = Path(__file__).parents[2] / "seeds"
    source = [] if arguments[0] != "run" or "--source" in arguments else ["--source", str(seeds)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, *source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
