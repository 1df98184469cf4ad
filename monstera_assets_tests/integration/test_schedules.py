"""Test the daily schedule on a normal morning, after an outage, and without a delivery."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage import tags

from monstera_assets.bronze.held_back import RESTATE_FROM
from monstera_assets.bronze.load_entities import entity_load
from monstera_assets.bronze.load_events import CHANGED_DAYS, HELD_DAYS, event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.dashboards.asset import KEY
from monstera_assets.definitions import build_definitions, table_assets, tables
from monstera_assets.operations.partitions import daily_partitions
from monstera_assets.operations.publishing import KEY as COPY
from monstera_assets.operations.run_plan import CHANGES
from monstera_assets.operations.schedules import daily_schedule, freshness
from monstera_assets.settings import Settings
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.windows import (
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    window_of_run,
)
from monstera_assets_tests.helpers.source_files import write_rows, write_source
from monstera_assets_tests.integration.example_runs import batched_instance
from monstera_assets_tests.integration.test_odd_sources import ACCOUNT, EVENT, FAMILY, USER, VIDEO

FIRST = date(2024, 2, 26)
RANGE_START, RANGE_END = (f"dagster/asset_partition_range_{edge}" for edge in ("start", "end"))
AT = time(5, 30)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with batched_instance(tmp_path / "home") as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings for a source with an empty file of events, and a warehouse that does not exist."""
    entities = {
        "accounts": [ACCOUNT],
        "users": [{**USER, "user_created_at": f"{FIRST} 01:00:00"}],
        "product_catalog": [FAMILY, VIDEO],
    }
    source = write_source(tmp_path / "source", entities)
    write_rows(source / "events" / "first.csv", [], EVENT)
    database = tmp_path / "warehouse.duckdb"
    return Settings(source=source, database=database, daily_run_at=AT, restate_days=3)


def deliver(settings: Settings, *days: date, name: str = "") -> None:
    """Deliver one event on each day, in one file."""
    rows = [{**EVENT, "event_id": f"{name}{day}", "timestamp": f"{day} 10:00:00"} for day in days]
    write_rows(settings.source / "events" / f"{name or days[-1]}.csv", rows)


def tick(
    instance: dg.DagsterInstance, at: datetime, settings: Settings
) -> dg.RunRequest | dg.SkipReason:
    schedule = daily_schedule(settings, [], FIRST)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at) as context:
        result = schedule(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def load(request: dg.RunRequest | dg.SkipReason, settings: Settings) -> None:
    """Run the two loads of the requested run."""
    assert isinstance(request, dg.RunRequest), request
    window = window_of_run(request.tags)
    assert window is not None
    found, reading = discover_source(settings.source), Reading(first_day=FIRST)
    queries = open_queries()
    entities = entity_load(found, reading, queries, window)
    events = event_batch(found, window=window, reading=reading, queries=queries)
    for batch, days in ((entities, None), (events, window)):
        with (
            connect(str(settings.database), connection_config(threads=1)) as connection,
            DuckDBEngine(connection).transaction(),
        ):
            batch.write(connection, days)


def asked(result: dg.RunRequest | dg.SkipReason) -> tuple[str, str]:
    assert isinstance(result, dg.RunRequest), result
    return result.tags[RANGE_START], result.tags[RANGE_END]


def morning(day: date, at: time = AT) -> datetime:
    return datetime.combine(day, at, tzinfo=UTC)


def test_mornings_with_and_without_a_delivery(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    first = tick(instance, morning(date(2024, 3, 1)), settings)
    assert asked(first) == ("2024-02-26", "2024-02-29")  # 2024 has a 29 February
    load(first, settings)

    done = tick(instance, morning(date(2024, 3, 1), time(5, 40)), settings)
    assert done == dg.SkipReason("All tables are up to date through 2024-02-29.")

    without = [tick(instance, morning(date(2024, 3, 2), at), settings) for at in (AT, time(7, 30))]
    assert (
        without
        == [
            dg.SkipReason(
                "No file is new or has changed since the last run. 2024-03-01 is not computed."
            )
        ]
        * 2
    )

    deliver(settings, date(2024, 3, 1), date(2024, 3, 2))
    after = tick(instance, morning(date(2024, 3, 3)), settings)
    assert asked(after) == ("2024-03-01", "2024-03-02")
    load(after, settings)

    write_rows(settings.source / "accounts.csv", [{**ACCOUNT, "total_seats": "7"}])
    without_events = tick(instance, morning(date(2024, 3, 4)), settings)
    assert asked(without_events) == ("2024-03-03", "2024-03-03")


def test_a_late_file_restates_recent_days_and_holds_back_older_days(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    load(tick(instance, morning(date(2024, 3, 3)), settings), settings)
    deliver(settings, date(2024, 2, 27), date(2024, 3, 1), date(2024, 3, 3), name="late")
    request = tick(instance, morning(date(2024, 3, 4)), settings)
    assert asked(request) == ("2024-03-01", "2024-03-03")
    assert isinstance(request, dg.RunRequest)
    assert request.tags[CHANGED_DAYS] == "2024-03-01/2024-03-01,2024-03-03/2024-03-03"
    assert request.tags[RESTATE_FROM] == "2024-02-29"
    assert request.tags[HELD_DAYS] == "2024-02-27/2024-02-27"
    assert request.tags[CHANGES].splitlines() == [
        "Event days added: 2024-02-27, 2024-03-01, 2024-03-03",
        "Held back, because days before 2024-02-29 are not recomputed: the events of 2024-02-27."
        " To update all days, run: monstera run --changed",
        "To do: load events for 2024-03-01, 2024-03-03, compute 2024-03-01 to 2024-03-03 (3 days, 2"
        " recomputed)",
    ]


def test_a_day_that_one_table_lacks_is_missing(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    load(tick(instance, morning(date(2024, 3, 1)), settings), settings)
    [asset] = [each for each in table_assets() if each.table.name == "silver_events_enriched"]
    schedule = daily_schedule(settings, [asset], FIRST)
    at = morning(date(2024, 3, 1))
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at) as context:
        result = schedule(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    assert asked(result) == ("2024-02-26", "2024-02-29")


def test_a_failed_run_is_requested_again_only_after_a_delivery(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    def key() -> str | None:
        result = tick(instance, morning(date(2024, 3, 1)), settings)
        assert isinstance(result, dg.RunRequest)
        return result.run_key

    first = key()
    assert key() == first, "Dagster starts one run for a key."
    deliver(settings, date(2024, 2, 29))
    assert key() != first


def test_a_source_that_cannot_be_read_is_reported_by_a_run(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    (settings.source / "events" / "first.csv").write_text("no,such,columns\n", encoding="utf-8")
    write_rows(settings.source / "events.csv", [], EVENT)  # the input exists twice
    assert asked(tick(instance, morning(date(2024, 3, 1)), settings)) == ("2024-02-29",) * 2


def test_a_look_after_midnight_belongs_to_the_day_before(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    late = settings.model_copy(update={"daily_run_at": time(23, 30)})
    [*schedules] = daily_schedule(late, [], FIRST).cron_schedule
    assert schedules == [
        "30,40,50 23 * * *",
        "0,10,20,30,40,50 0 * * *",
        "0,10,20,30 1 * * *",
    ]
    before = tick(instance, morning(date(2024, 3, 1), time(23, 30)), late)
    after = tick(instance, morning(date(2024, 3, 2), time(0, 10)), late)
    assert asked(before) == asked(after) == ("2024-02-26", "2024-02-29")


def test_before_the_first_partition_has_ended(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    assert isinstance(tick(instance, morning(FIRST), settings), dg.SkipReason)
    second = morning(FIRST + timedelta(days=1))
    assert asked(tick(instance, second, settings)) == ("2024-02-26", "2024-02-26")


@pytest.mark.parametrize(
    ("moment", "yesterday"),
    [
        (datetime(2025, 1, 1, 5, 30, tzinfo=UTC), "2024-12-31"),
        (datetime(2025, 3, 30, 5, 30, tzinfo=UTC), "2025-03-29"),  # Europe moves its clocks
        (datetime(2025, 11, 2, 5, 30, tzinfo=UTC), "2025-11-01"),  # America does
    ],
)
def test_yesterday_is_in_utc(
    instance: dg.DagsterInstance, settings: Settings, moment: datetime, yesterday: str
) -> None:
    assert asked(tick(instance, moment, settings))[1] == yesterday


@pytest.mark.parametrize(
    ("zone", "moment", "yesterday"),
    [
        # 05:30 at UTC-8 and UTC-7. The clocks go forward on 9 March 2025 and back on 2 November.
        ("America/Los_Angeles", datetime(2025, 3, 8, 13, 30, tzinfo=UTC), "2025-03-07"),
        ("America/Los_Angeles", datetime(2025, 3, 9, 12, 30, tzinfo=UTC), "2025-03-08"),
        ("America/Los_Angeles", datetime(2025, 11, 2, 13, 30, tzinfo=UTC), "2025-11-01"),
        # 05:30 at UTC+1 and UTC+2. The clocks go forward on 30 March 2025 and back on 26 October.
        ("Europe/Berlin", datetime(2025, 3, 30, 3, 30, tzinfo=UTC), "2025-03-29"),
        ("Europe/Berlin", datetime(2025, 10, 26, 4, 30, tzinfo=UTC), "2025-10-25"),
        # 05:30 at UTC+5:30 is midnight UTC.
        ("Asia/Kolkata", datetime(2025, 6, 2, 0, 0, tzinfo=UTC), "2025-06-01"),
    ],
)
def test_yesterday_is_in_the_configured_zone(
    instance: dg.DagsterInstance, settings: Settings, zone: str, moment: datetime, yesterday: str
) -> None:
    local = settings.model_copy(update={"timezone": zone})
    assert asked(tick(instance, moment, local))[1] == yesterday
    # Dagster's own calendar has this partition by then, but not the next one.
    keys = daily_partitions(FIRST, zone).get_partition_keys(current_time=moment)
    assert keys[-1] == yesterday


def test_a_run_in_progress_is_not_requested_again(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    job = dg.GraphDefinition(name="waiting", node_defs=[]).to_job()
    tags = {RANGE_START: "2024-02-26", RANGE_END: "2024-02-29"}
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    result = tick(instance, morning(date(2024, 3, 1)), settings)
    assert isinstance(result, dg.SkipReason)
    assert "already in progress" in str(result.skip_message)
    instance.delete_run(run.run_id)
    assert isinstance(tick(instance, morning(date(2024, 3, 1)), settings), dg.RunRequest)


def test_the_graph_has_the_schedule_and_every_table_a_freshness_policy() -> None:
    settings = Settings(start_date=FIRST, daily_run_at=time(22, 15))
    definitions = build_definitions(settings)
    schedule = definitions.resolve_schedule_def("daily_run")
    assert schedule.cron_schedule == [
        "15,25,35,45,55 22 * * *",
        "5,15,25,35,45,55 23 * * *",
        "5,15 0 * * *",
    ]
    assert schedule.execution_timezone == "UTC"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "daily"
    graph = definitions.resolve_asset_graph()
    policies = {
        graph.get(asset_key(table.name)).freshness_policy_or_from_metadata for table in tables()
    }
    [policy] = policies
    assert isinstance(policy, dg.FreshnessPolicy)
    assert "15 0 * * *" in str(policy)  # two hours later, past midnight


def test_schedules_and_freshness_are_in_the_configured_zone() -> None:
    zone = "Europe/Berlin"
    definitions = build_definitions(Settings(start_date=FIRST, timezone=zone))
    for name in ("daily_run", "expire_raw_events_monthly"):
        assert definitions.resolve_schedule_def(name).execution_timezone == zone
    policy = freshness(Settings(timezone=zone))
    assert zone in str(policy)


def test_jobs_contain_the_intended_assets() -> None:
    definitions = build_definitions(Settings(start_date=FIRST))
    every = {*(asset_key(table.name) for table in tables()), KEY, COPY}
    gold = {key for key in every if key.path[0] in ("gold", "dashboards", "published")}
    for name, keys in (
        ("daily", every),
        ("whole_graph", every),
        ("gold_only", gold),
        ("dashboards_only", {KEY, COPY}),
    ):
        job = definitions.resolve_job_def(name)
        assert set(job.asset_layer.executable_asset_keys) == keys, name


def test_jobs_are_described() -> None:
    settings = Settings(start_date=FIRST, export_directory=Path("exports"))
    jobs = build_definitions(settings).resolve_all_job_defs()
    described = {job.name: job.description or "" for job in jobs if job.name != "__ASSET_JOB"}
    assert all(re.match(r"[A-Z][a-z]+s ", text) for text in described.values()), described
    assert set(described) == {
        "Selected_assets",
        "daily",
        "dashboards_only",
        "expire_raw_events",
        "export_tables",
        "gold_only",
        "whole_graph",
    }


def test_the_tags_of_partitions_are_those_of_dagster() -> None:
    assert (PARTITION_TAG, RANGE_START_TAG, RANGE_END_TAG) == (
        tags.PARTITION_NAME_TAG,
        tags.ASSET_PARTITION_RANGE_START_TAG,
        tags.ASSET_PARTITION_RANGE_END_TAG,
    )
