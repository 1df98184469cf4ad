"""`start_date` limits the partitions but not the facts: the first partition contains earlier rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import AssetCheckSeverity

from monstera_assets.definitions import table_assets, tables
from monstera_assets.operations.retention import expire_raw_events
from monstera_assets.operations.run_plan import run_tags
from monstera_assets.operations.source_comparison import compare_source
from monstera_assets.settings import Settings
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.helpers.shared import Shared
from monstera_assets_tests.inputs.changing_source import ChangingSource
from monstera_assets_tests.inputs.random_source import DAYS, FIRST, write_random_source
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    EVENTS,
    Graph,
    SeedsRun,
    assert_same,
    rows_of,
)

START = date(2025, 6, 15)
LAST = date(2025, 6, 30)

MODELS = (
    *("silver_user_churn_features", "silver_account_churn_features"),
    *("gold_user_churn_scores", "gold_account_churn_scores", "gold_churn_model_evaluation"),
    *("gold_recommendation_evaluation", "gold_accounts_needing_attention"),
    "gold_state_distribution_anomalies",
)
"""The tables for models and anomalies, whose baselines start at the first partition."""
COMPARED = [table for table in tables() if table.name not in (*MODELS, "bronze_loads")]


def rows_from(database: Path, start: date) -> Mapping[str, list[tuple[object, ...]]]:
    """Return the rows of all tables, from a given day on in tables without earlier rows."""
    flags = ("is_current_day", "is_last_90_days")
    found = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        for table in COMPARED:
            rows = rows_of(connection, table, without=flags)
            if table.partition_column and not table.takes_earlier_rows:
                names = [column.name for column in table.columns if column.name not in flags]
                day = names.index(table.partition_column)
                rows = [row for row in rows if row[day] >= start]
            found[table.name] = rows
    return found


def run(graph: Graph, *windows: DateWindow) -> None:
    """Run the whole graph, and require that no check with severity ERROR fails."""
    with graph.instance:
        for window in windows:
            result = graph.run(window)
            assert result.success
            failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
            assert [e for e in failed if e.severity == AssetCheckSeverity.ERROR] == []


@pytest.fixture(scope="module")
def started(shared: Shared) -> Path:
    """The seeds from June 15 on, computed in three runs. The last run repeats the first."""

    def make(folder: Path) -> Path:
        graph = Graph(SEEDS, folder / "warehouse.duckdb", folder / "home", START)
        first = DateWindow(START, START + timedelta(days=2))
        run(graph, first, DateWindow(first.last + timedelta(days=1), LAST), first)
        return graph.database

    return shared.once("started_seeds", make)


def test_every_row_is_that_of_the_whole_source(started: Path, seeds_run: SeedsRun) -> None:
    assert_same(rows_from(started, START), rows_from(seeds_run.database, START))


def test_earlier_days_have_no_partition(started: Path) -> None:
    with duckdb.connect(str(started), read_only=True) as connection:
        first_days = connection.execute(
            "SELECT DISTINCT min(partition_date) FROM operations.materializations"
            " GROUP BY table_name HAVING count(partition_date) > 0"
        ).fetchall()
        by_table = {
            table.name: connection.execute(
                f"SELECT min({table.partition_column}) FROM {table.qualified_name}"
            ).fetchall()[0][0]
            for table in tables()
            if table.partition_column
        }
        # Of the 40 events, 28 are older than June 15 and 2 are of June 15.
        ledger = connection.execute(
            "SELECT rows_read, rows_accepted FROM bronze.bronze_loads ORDER BY partition_date"
        ).fetchall()
    assert first_days == [(START,)]
    assert ledger[0] == (30, 30)
    assert sum(read for read, _ in ledger) == 40
    for table in tables():
        if (first := by_table.get(table.name)) is not None:
            assert (first < START) is table.takes_earlier_rows, table.name


@pytest.mark.slow
def test_a_random_source_with_older_users_and_accounts(tmp_path: Path) -> None:
    write_random_source(tmp_path / "source", seed=1)
    last, start = FIRST + timedelta(days=DAYS - 1), FIRST + timedelta(days=70)
    databases = []
    for first in (FIRST, start):
        folder = tmp_path / str(first)
        folder.mkdir()
        graph = Graph(tmp_path / "source", folder / "w.duckdb", folder / "home", first)
        run(graph, DateWindow(first, last))
        databases.append(graph.database)
    whole, started = (rows_from(database, start) for database in databases)
    assert_same(started, whole)


class LateFacts:
    """A random source that starts before the first partition, and its bronze tables."""

    def __init__(self, folder: Path, *, by_day: bool) -> None:
        self.source = ChangingSource(folder / "source", seed=3, by_day=by_day)
        self.start = FIRST + timedelta(days=120)
        self.days = DateWindow(self.start, FIRST + timedelta(days=DAYS - 1))
        self.folder = folder

    def graph(self, name: str) -> Graph:
        (self.folder / name).mkdir()
        made = self.folder / name
        return Graph(self.source.folder, made / "w.duckdb", made / "home", self.start)


@pytest.mark.parametrize("by_day", [False, True], ids=["single_file", "by_day"])
def test_late_facts_before_the_first_partition_change_it(tmp_path: Path, by_day: bool) -> None:
    facts = LateFacts(tmp_path, by_day=by_day)
    graph = facts.graph("changed")
    loads = [*ENTITIES, *EVENTS]
    early = facts.start - timedelta(days=30)
    with graph.instance:
        assert graph.run(facts.days, only=loads).success
        late = facts.source.add_late_event(timestamp=f"{early} 12:00:00")
        facts.source.write_events()
        changes = compare_source(graph.settings, [])
        assert changes.events.every == {facts.start}
        assert changes.rebuild == facts.days
        assert graph.run(tags=run_tags(changes), only=loads).success
        assert compare_source(graph.settings, []).rebuild is None
    fresh = facts.graph("fresh")
    with fresh.instance:
        assert fresh.run(facts.days, only=loads).success
    assert_same(graph.contents_of(loads), fresh.contents_of(loads))
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        [(day,)] = connection.execute(
            "SELECT event_date FROM bronze.bronze_events WHERE event_id = ? UNION ALL"
            " SELECT event_date FROM bronze.bronze_rejected_events"
            " WHERE raw_row ->> '$.event_id' = ?",
            [late["event_id"]] * 2,
        ).fetchall()
    assert day == early


def test_both_layouts_store_the_same_first_partition(tmp_path: Path) -> None:
    stored = []
    for by_day in (False, True):
        facts = LateFacts(tmp_path / str(by_day), by_day=by_day)
        graph = facts.graph("made")
        with graph.instance:
            assert graph.run(facts.days, only=[*ENTITIES, *EVENTS]).success
        events = graph.contents_of(["bronze_events"])["bronze_events"]
        [table] = [t for t in tables() if t.name == "bronze_events"]
        day = [column.name for column in table.columns].index("event_date")
        assert min(row[day] for row in events) < facts.start
        stored.append(events)
    assert stored[0] == stored[1]


def test_expired_events_of_earlier_days_close_the_first_partition(
    started: Path, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    shutil.copy(started, database)
    graph = Graph(SEEDS, database, tmp_path / "home", START)
    days_kept = (LAST - date(2024, 12, 13)).days
    expired = expire_raw_events(
        Settings(database=database, raw_event_retention_days=days_kept), tables(), LAST
    )
    # As without a start date (test_retention): evt_001 to evt_006.
    assert expired.rows["bronze_events"] == 6
    with graph.instance:
        closed = graph.run(DateWindow(START, LAST), only=EVENTS)
        assert not closed.success
        message = str(closed.failure_data_for_node("load_events"))
        assert f"Run the command with --from {START + timedelta(days=1)} or a later date" in message
        assert graph.run(DateWindow(START + timedelta(days=1), LAST)).success


def test_tables_with_earlier_rows_are_those_of_facts() -> None:
    """A fact table is computed from facts on the same days, so its rows keep their dates."""
    by_name: Mapping[str, Table] = {table.name: table for table in tables()}
    is_fact: Callable[[str], bool] = lambda name: by_name[name].takes_earlier_rows  # noqa: E731
    for asset in table_assets():
        if asset.table.takes_earlier_rows:
            assert all(map(is_fact, asset.days)), asset.table.name
