"""Old raw events are deleted, and no published number changes."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from monstera_assets.definitions import build_definitions, table_assets, tables
from monstera_assets.operations.retention import LOOK_BACK_DAYS, expire_raw_events
from monstera_assets.settings import Settings
from monstera_assets.warehouse.archive import RAW_TABLES
from monstera_assets.warehouse.io_manager import Reads
from monstera_assets.warehouse.table_asset import SAME_DAYS
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.integration.example_runs import EVENTS, Graph, SeedsRun, assert_same

TODAY = date(2025, 7, 1)
REMOVED_BEFORE = date(2024, 12, 13)  # 200 days before
OPEN_FROM = date(2025, 3, 13)  # 90 days after
KEPT = [table.name for table in tables() if table.name not in RAW_TABLES]


@pytest.fixture
def graph(tmp_path: Path, seeds_run: SeedsRun) -> Graph:
    """The seeds' graph with a copy of its database."""
    database = tmp_path / "warehouse.duckdb"
    shutil.copy(seeds_run.database, database)
    return Graph(SEEDS, database, tmp_path / "home", seeds_run.days.first)


def settings(graph: Graph, days: int) -> Settings:
    return Settings(database=graph.database, raw_event_retention_days=days)


def raw_events(graph: Graph) -> dict[str, tuple[int, date]]:
    """Return the number and first date of the raw events in each daily table."""
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        return {
            name: connection.execute(f"SELECT count(*), min(event_date) FROM {name}").fetchall()[0]
            for name in ("bronze.bronze_events", "silver.silver_events_enriched")
        }


@pytest.mark.slow
def test_numbers_are_kept_and_later_days_can_be_recomputed(
    graph: Graph, seeds_run: SeedsRun
) -> None:
    before = graph.contents_of(KEPT)
    # The second of two events of project prj_01; the first is from July.
    assert graph.database.read_bytes().count(b'{"project_id": "prj_01"}')
    expired = expire_raw_events(settings(graph, 200), tables(), TODAY)
    # Selected by hand from seeds/seed_events.csv: evt_001 to evt_006.
    assert expired.rows == {
        "bronze_events": 6,
        "bronze_rejected_events": 0,
        "silver_events_enriched": 6,
    }
    assert (expired.removed_before, expired.rewritten) == (REMOVED_BEFORE, True)
    assert_same(graph.contents_of(KEPT), before)
    assert set(raw_events(graph).values()) == {(34, date(2025, 2, 20))}
    assert not graph.database.read_bytes().count(b'{"project_id": "prj_01"}')

    with graph.instance:
        closed = graph.run(
            DateWindow(OPEN_FROM - timedelta(days=1), seeds_run.days.last), only=EVENTS
        )
        assert not closed.success
        message = str(closed.failure_data_for_node("load_events"))
        assert f"Raw events before {REMOVED_BEFORE} were deleted" in message
        assert f"Run the command with --from {OPEN_FROM} or a later date" in message
        assert_same(graph.contents_of(KEPT), before)

        # All tables and all checks, which count raw events again.
        assert graph.run(DateWindow(OPEN_FROM, seeds_run.days.last)).success
        assert_same(graph.contents_of(KEPT), before)

        # Select a single table, which would otherwise be computed from days without events.
        alone = graph.run(
            DateWindow(OPEN_FROM - timedelta(days=2), OPEN_FROM),
            only=["silver_user_segment_history"],
        )
        assert not alone.success
        assert f"Run the command with --from {OPEN_FROM} or a later date" in str(
            alone.failure_data_for_node("silver__silver_user_segment_history")
        )
        assert_same(graph.contents_of(KEPT), before)

    again = expire_raw_events(settings(graph, 200), tables(), TODAY)
    assert (again.rows, again.removed_before, again.rewritten) == ({}, None, False)
    # A longer retention period does not restore days whose events were deleted.
    assert expire_raw_events(settings(graph, 300), tables(), TODAY).removed_before is None


def test_days_that_later_days_look_back_on_are_kept(graph: Graph, seeds_run: SeedsRun) -> None:
    expired = expire_raw_events(settings(graph, 1), tables(), TODAY)
    assert expired.removed_before == seeds_run.days.last - timedelta(days=90)
    assert expire_raw_events(settings(graph, 1), tables(), TODAY + timedelta(days=999)).rows == {}


def test_no_event_is_old_enough(graph: Graph) -> None:
    before = graph.database.read_bytes()
    assert expire_raw_events(settings(graph, 730), tables(), TODAY).rows == {}
    assert graph.contents_of(["bronze_events"])["bronze_events"]
    assert len(graph.database.read_bytes()) == len(before)


def test_no_table_looks_back_further_on_raw_events() -> None:
    days = DateWindow(date(2020, 1, 1), date(2025, 1, 1))
    looking_back = 0
    for asset in table_assets():
        for name in set(asset.inputs) & set(RAW_TABLES):
            reads = asset.days.get(name, SAME_DAYS)
            if reads.reads is Reads.STORED_DAYS:
                continue
            assert reads.reads is Reads.COMPUTED_DAYS, asset.table.name
            assert 0 <= reads.back < LOOK_BACK_DAYS <= len(days)
            looking_back += bool(reads.back)
    assert looking_back


def test_schedule_exists_and_is_stopped(graph: Graph) -> None:
    repository = build_definitions(
        Settings(
            source=SEEDS,
            database=graph.database,
            export_directory=graph.database.parent / "out",
            raw_event_retention_days=1,
        )
    ).get_repository_def()
    schedule = repository.get_schedule_def("expire_raw_events_monthly")
    assert schedule.job_name == "expire_raw_events"
    assert schedule.cron_schedule == "0 3 1 * *"
    assert schedule.default_status.value == "STOPPED"
    with graph.instance:
        assert (
            repository.get_job("export_tables").execute_in_process(instance=graph.instance).success
        )
        assert (graph.database.parent / "out" / "current" / "manifest.json").exists()
        job = repository.get_job("expire_raw_events")
        assert job.execute_in_process(instance=graph.instance).success
    # Today is long after the last day of the seeds, so only the last 90 days remain.
    assert {first for _, first in raw_events(graph).values()} == {date(2025, 4, 8)}
