"""Each launch button of the Dagster UI works, and computes the selected days and no others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from monstera_assets.definitions import tables
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.helpers.command_line import SEEDS, Snapshot, snapshot
from monstera_assets_tests.helpers.dagster_ui import (
    LAUNCHER,
    DagsterUi,
    Materialized,
    Pressed,
    dagster_ui,
    ranges,
)
from monstera_assets_tests.helpers.postgres import postgres_instance, postgres_server
from monstera_assets_tests.integration.example_assets import Row
from monstera_assets_tests.integration.example_runs import (
    SeedsRun,
    assert_same,
    batched_instance,
    computed_from,
    rows_of,
)

HISTORY = "silver_user_state_history"
FIVE_DAYS = tuple(DateWindow(date(2025, 6, 3), date(2025, 6, 7)))
ONE_DAY = (date(2025, 6, 12),)
BEYOND = tuple(DateWindow(date(2025, 6, 28), date(2025, 7, 2)))
"""The last three days of the seeds and the two days after them."""
NO_DATA = (
    "The last day of data is 2025-06-30, but this run is for {days}. No table was changed. Choose days"
    " from 2024-07-01 to 2025-06-30."
)
STORAGES = [
    pytest.param("sqlite", marks=pytest.mark.daemon),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


@dataclass(frozen=True)
class House:
    """The UI, the source and the warehouse."""

    ui: DagsterUi
    source: Path
    database: Path

    def names(self, *, partitioned: bool) -> set[str]:
        """Return the names of the assets with or without partitions."""
        nodes = self.ui.nodes().items()
        return {name for name, node in nodes if node["isPartitioned"] is partitioned}

    @property
    def all_names(self) -> set[str]:
        """The names of all assets."""
        return set(self.ui.nodes())

    def expected(self, names: Collection[str], days: Sequence[date]) -> Materialized:
        """Return what a button materializes if it computes the selection and nothing else."""
        daily = self.names(partitioned=True) & set(names)
        by_day = {(name, str(day)) for name in daily for day in days}
        return by_day | {(name, None) for name in {*names} - daily}

    def selection(self, name: str) -> Collection[str]:
        """Return the names of the selected assets."""
        if name == "all":
            return self.all_names
        return computed_from([HISTORY]) if name == "with_upstreams" else [HISTORY]

    def contents(self) -> Snapshot:
        """Return the number and hash of the rows of each table."""
        return snapshot(self.database)


@contextmanager
def built(folder: Path, storage: str, computed: Path | None) -> Iterator[House]:
    """Load the code location with copies of the seeds and of a computed warehouse, if any."""
    source, database, home = folder / "source", folder / "monstera.duckdb", folder / "home"
    shutil.copytree(SEEDS, source)
    if computed is not None:
        shutil.copy(computed, database)
    with ExitStack() as stack:
        variables = stack.enter_context(pytest.MonkeyPatch.context())
        for name in list(os.environ):
            if name.startswith("MONSTERA_"):
                variables.delenv(name)
        variables.setenv("MONSTERA_SOURCE", str(source))
        variables.setenv("MONSTERA_DATABASE", str(database))
        variables.setenv("MONSTERA_THREADS", "2")
        if storage == "postgres":
            server = stack.enter_context(postgres_server())
            instance = postgres_instance(server, home, LAUNCHER)
        else:
            instance = batched_instance(home, LAUNCHER)
        ui = stack.enter_context(dagster_ui(stack.enter_context(instance)))
        yield House(ui, source, database)


@pytest.fixture(scope="module", params=STORAGES)
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun
) -> Iterator[House]:
    """A warehouse with all days of the seeds, computed by `monstera run`."""
    with built(tmp_path_factory.mktemp("house"), request.param, seeds_run.database) as made:
        yield made


@pytest.fixture(params=STORAGES)
def empty_house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """A warehouse that does not exist yet."""
    with built(tmp_path, request.param, None) as made:
        yield made


def assert_computes(
    house: House,
    names: Collection[str],
    days: Sequence[date],
    press: Callable[[Collection[str], Sequence[date]], Pressed],
) -> Pressed:
    """Press a button and verify that it computes exactly the selection and changes no row."""
    before = house.contents()
    pressed = press(names, days)
    assert pressed.errors == []
    assert pressed.succeeded, pressed
    assert pressed.materialized == house.expected(names, days)
    assert house.ui.red() == set()
    assert house.contents() == before
    # The runs of a backfill with several runs would not stop after a blocking check fails.
    assert len(pressed.runs) == 1
    return pressed


@pytest.mark.parametrize(
    "house", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
def test_a_backfill_of_all_assets_computes_its_five_days_and_no_others(house: House) -> None:
    pressed = assert_computes(house, house.all_names, FIVE_DAYS, house.ui.materialize)
    assert pressed.backfill is not None
    assert ranges(pressed.runs) == {("2025-06-03", "2025-06-07")}


@pytest.mark.parametrize(
    ("selected", "days"),
    [
        pytest.param(selected, days, id=f"{selected}-{len(days)}")
        for selected, days in (
            ("all", ONE_DAY),
            ("with_upstreams", FIVE_DAYS),
            ("with_upstreams", ONE_DAY),
            ("one", FIVE_DAYS),
            ("one", ONE_DAY),
        )
    ],
)
def test_selected_assets_are_computed_for_selected_days(
    house: House, selected: str, days: Sequence[date]
) -> None:
    assert_computes(house, house.selection(selected), days, house.ui.materialize)


def test_a_jobs_page_computes_selected_days_in_one_run(house: House) -> None:
    def press(names: Collection[str], days: Sequence[date]) -> Pressed:
        return house.ui.materialize(names, days, page_of_job="whole_graph")

    pressed = assert_computes(house, house.all_names, FIVE_DAYS, press)
    assert [run.job_name for run in pressed.runs] == ["whole_graph"]


def test_unpartitioned_assets_are_computed_alone(house: House) -> None:
    assert_computes(house, house.names(partitioned=False), (), house.ui.materialize)


@pytest.mark.parametrize("table", [HISTORY, "bronze_loads", "silver_user_current_state"])
def test_checks_are_executed_alone(house: House, table: str) -> None:
    checks = house.ui.nodes()[table]["assetChecksOrError"]["checks"]
    pressed = house.ui.execute_checks(table)
    assert pressed.succeeded, pressed.errors
    [run] = pressed.runs
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    records = house.ui.process.instance.get_records_for_run(run.run_id, of_type=kind).records
    evaluated = [
        record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in records
    ]
    assert {one.check_name for one in evaluated} == {check["name"] for check in checks}
    assert all(one.passed for one in evaluated)
    assert house.ui.red() == set()


def test_checks_alone_find_a_fault_on_any_stored_day(house: House) -> None:
    assert house.ui.execute_checks(HISTORY).succeeded
    change = f"UPDATE silver.{HISTORY} SET platform_state = '{{}}' WHERE {{}}"
    of_day = "snapshot_date = '2024-08-01'"
    where = f"{of_day} AND user_id = (SELECT min(user_id) FROM silver.{HISTORY} WHERE {of_day})"
    with duckdb.connect(house.database) as connection:
        [(state,)] = connection.execute(
            f"SELECT platform_state FROM silver.{HISTORY} WHERE {where}"
        ).fetchall()
        connection.execute(change.format("asleep", where))
    try:
        house.ui.execute_checks(HISTORY)
        assert f"{HISTORY}.values_allowed" in house.ui.red()
    finally:
        with duckdb.connect(house.database) as connection:
            connection.execute(change.format(state, where))
        house.ui.execute_checks(HISTORY)
    assert house.ui.red() == set()


@pytest.mark.parametrize(
    ("selected", "days"),
    [
        pytest.param(selected, days, id=f"{selected}-{len(days)}")
        for selected, days in (("all", BEYOND), ("all", BEYOND[-1:]), ("one", BEYOND))
    ],
)
def test_days_without_data_are_refused_and_turn_nothing_red(
    house: House, selected: str, days: Sequence[date]
) -> None:
    before = house.contents()
    pressed = house.ui.materialize(house.selection(selected), days)
    [message] = pressed.errors
    assert NO_DATA.format(days=DateWindow(days[0], days[-1])) in message
    assert pressed.runs[-1].status == dg.DagsterRunStatus.CANCELED
    assert pressed.backfill in (None, BulkActionStatus.COMPLETED_FAILED)
    assert not {name for name, day in pressed.materialized if day}
    assert house.ui.red() == set()
    assert house.contents() == before


def test_a_backfill_of_a_year_equals_one_run_of_the_command_line(
    empty_house: House, seeds_run: SeedsRun
) -> None:
    house, days = empty_house, tuple(SEEDS_DAYS)
    pressed = house.ui.materialize(house.all_names, days)
    assert pressed.errors == []
    assert pressed.succeeded
    assert pressed.materialized == house.expected(house.all_names, days)
    assert house.ui.red() == set()
    assert_same(rows(house.database), rows(seeds_run.database))

    # After a delivery without rows of the next day, that day is a day without activity.
    next_day, names = BEYOND[3:4], computed_from([HISTORY])
    assert not house.ui.materialize(names, next_day).succeeded
    events = house.source / "seed_events.csv"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join([*lines, lines[-1]]))
    pressed = house.ui.materialize(names, next_day)
    assert pressed.errors == []
    assert pressed.materialized == house.expected(names, next_day)


def rows(database: Path) -> dict[str, list[Row]]:
    """Return the rows of each table."""
    with duckdb.connect(database, read_only=True) as connection:
        return {table.name: rows_of(connection, table) for table in tables()}
