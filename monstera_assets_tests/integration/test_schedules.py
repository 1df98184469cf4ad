"""Test the daily schedule on a normal morning, after an outage, and if no day is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage import tags

from monstera_assets.dashboards.asset import KEY
from monstera_assets.definitions import build_definitions, tables
from monstera_assets.operations.partitions import daily_partitions
from monstera_assets.operations.schedules import daily_schedule, freshness, missing_days
from monstera_assets.settings import Settings
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.windows import (
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    DateWindow,
)
from monstera_assets_tests.integration.example_runs import batched_instance

FIRST = date(2024, 2, 26)
A, B = (dg.AssetKey(["silver", name]) for name in ("a", "b"))
RANGE_START, RANGE_END = (f"dagster/asset_partition_range_{edge}" for edge in ("start", "end"))
SETTINGS = Settings(daily_run_at=time(5, 30))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with batched_instance(tmp_path / "home") as made:
        yield made


def materialize(instance: dg.DagsterInstance, key: dg.AssetKey, days: Iterable[date]) -> None:
    for day in days:
        event = dg.AssetMaterialization(asset_key=key, partition=day.isoformat())
        instance.report_runless_asset_event(event)


def tick(
    instance: dg.DagsterInstance, at: datetime, settings: Settings = SETTINGS
) -> dg.RunRequest | dg.SkipReason:
    schedule = daily_schedule(settings, FIRST, [A, B])
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at) as context:
        result = schedule(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def asked(result: dg.RunRequest | dg.SkipReason) -> tuple[str, str]:
    assert isinstance(result, dg.RunRequest), result
    return result.tags[RANGE_START], result.tags[RANGE_END]


def morning(day: date) -> datetime:
    return datetime.combine(day, time(5, 30), tzinfo=UTC)


def test_the_first_morning_requests_all_days(instance: dg.DagsterInstance) -> None:
    # 2024 has a 29 February.
    assert asked(tick(instance, morning(date(2024, 3, 1)))) == ("2024-02-26", "2024-02-29")


def test_a_normal_morning_requests_yesterday(instance: dg.DagsterInstance) -> None:
    for key in (A, B):
        materialize(instance, key, DateWindow(FIRST, date(2024, 2, 28)))
    assert asked(tick(instance, morning(date(2024, 3, 1)))) == ("2024-02-29", "2024-02-29")


def test_after_an_outage_the_missing_days_are_requested(instance: dg.DagsterInstance) -> None:
    for key in (A, B):
        materialize(instance, key, DateWindow(FIRST, date(2024, 2, 27)))
    assert asked(tick(instance, morning(date(2024, 3, 4)))) == ("2024-02-28", "2024-03-03")


def test_a_day_that_one_table_lacks_is_missing(instance: dg.DagsterInstance) -> None:
    materialize(instance, A, DateWindow(FIRST, date(2024, 2, 29)))
    materialize(instance, B, [day for day in DateWindow(FIRST, date(2024, 2, 29)) if day.day != 27])
    assert asked(tick(instance, morning(date(2024, 3, 1)))) == ("2024-02-27", "2024-02-29")


def test_no_run_is_requested_if_no_day_is_missing(instance: dg.DagsterInstance) -> None:
    for key in (A, B):
        materialize(instance, key, DateWindow(FIRST, date(2024, 2, 29)))
    result = tick(instance, morning(date(2024, 3, 1)))
    assert isinstance(result, dg.SkipReason)
    assert result.skip_message == "All daily tables are up to date through 2024-02-29."
    calendar = DateWindow(FIRST, date(2024, 2, 29))
    assert missing_days(instance, [A, B], calendar) is None


def test_before_the_first_partition_has_ended(instance: dg.DagsterInstance) -> None:
    assert isinstance(tick(instance, morning(FIRST)), dg.SkipReason)
    assert asked(tick(instance, morning(FIRST + timedelta(days=1)))) == ("2024-02-26", "2024-02-26")


@pytest.mark.parametrize(
    ("moment", "yesterday"),
    [
        (datetime(2025, 1, 1, 5, 30, tzinfo=UTC), "2024-12-31"),
        (datetime(2025, 3, 30, 5, 30, tzinfo=UTC), "2025-03-29"),  # Europe moves its clocks
        (datetime(2025, 11, 2, 5, 30, tzinfo=UTC), "2025-11-01"),  # America does
    ],
)
def test_yesterday_is_in_utc(
    instance: dg.DagsterInstance, moment: datetime, yesterday: str
) -> None:
    assert asked(tick(instance, moment))[1] == yesterday


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
    instance: dg.DagsterInstance, zone: str, moment: datetime, yesterday: str
) -> None:
    settings = Settings(daily_run_at=time(5, 30), timezone=zone)
    assert asked(tick(instance, moment, settings))[1] == yesterday
    # Dagster's own calendar has this partition by then, but not the next one.
    keys = daily_partitions(FIRST, zone).get_partition_keys(current_time=moment)
    assert keys[-1] == yesterday


def test_a_run_in_progress_is_not_requested_again(instance: dg.DagsterInstance) -> None:
    job = dg.GraphDefinition(name="waiting", node_defs=[]).to_job()
    tags = {RANGE_START: "2024-02-26", RANGE_END: "2024-02-29"}
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    result = tick(instance, morning(date(2024, 3, 1)))
    assert isinstance(result, dg.SkipReason)
    assert "already in progress" in str(result.skip_message)
    instance.delete_run(run.run_id)
    assert isinstance(tick(instance, morning(date(2024, 3, 1))), dg.RunRequest)


def test_the_graph_has_the_schedule_and_every_table_a_freshness_policy() -> None:
    settings = Settings(start_date=FIRST, daily_run_at=time(22, 15))
    definitions = build_definitions(settings)
    schedule = definitions.resolve_schedule_def("daily_run")
    assert schedule.cron_schedule == "15 22 * * *"
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
    every = {*(asset_key(table.name) for table in tables()), KEY}
    gold = {key for key in every if key.path[0] in ("gold", "dashboards")}
    for name, keys in (("daily", every), ("whole_graph", every), ("gold_only", gold)):
        assert set(definitions.resolve_job_def(name).asset_layer.executable_asset_keys) == keys, (
            name
        )


def test_the_tags_of_partitions_are_those_of_dagster() -> None:
    assert (PARTITION_TAG, RANGE_START_TAG, RANGE_END_TAG) == (
        tags.PARTITION_NAME_TAG,
        tags.ASSET_PARTITION_RANGE_START_TAG,
        tags.ASSET_PARTITION_RANGE_END_TAG,
    )
