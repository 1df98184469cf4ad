"""Versions of users and accounts: rows that change from one run to the next, and layouts of dumps."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import duckdb
import pytest

from monstera_assets.bronze.load_entities import RESET_VERSIONS
from monstera_assets.definitions import tables
from monstera_assets.operations.runs import failures_of, range_tags
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.helpers.source_files import Texts, write_rows, write_source
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    EVENTS,
    Graph,
    SeedsRun,
    assert_same,
    computed_from,
)
from monstera_assets_tests.integration.test_odd_sources import (
    ACCOUNT,
    FAMILY,
    USER,
    VIDEO,
    events_of,
)

LOADS = [*ENTITIES, *EVENTS]
FIRST = date(2025, 6, 1)
SEEDS_START, SEEDS_LAST = date(2024, 7, 1), date(2025, 6, 30)
OTHER = {**ACCOUNT, "account_id": "other"}


def day(number: int) -> DateWindow:
    """Return a day of June 2025."""
    return DateWindow(date(2025, 6, number), date(2025, 6, number))


def changed(rows: Sequence[Texts], key: str, **of_id: Mapping[str, str]) -> list[Texts]:
    """Return the rows with other values for some ids."""
    return [{**row, **of_id.get(row[key], {})} for row in rows]


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """Return a small source with its current rows and two accounts."""
    source = write_source(
        tmp_path / "source",
        {
            "accounts": [ACCOUNT, OTHER],
            "users": [USER],
            "product_catalog": [FAMILY, VIDEO],
            "events": events_of(FIRST, 9),
        },
    )
    return Graph(source, tmp_path / "w.duckdb", tmp_path / "home", FIRST)


def load(graph: Graph, days: DateWindow, **inputs: Sequence[Texts]) -> None:
    """Write inputs and load them in a run of these days."""
    for name, rows in inputs.items():
        write_rows(graph.source / f"{name}.csv", rows)
    with graph.instance:
        result = graph.run(days, only=LOADS)
    assert result.success, failures_of(result.all_events)


def rows(graph: Graph, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        return connection.execute(query).fetchall()


def users(graph: Graph) -> list[tuple[object, ...]]:
    """Return the first day, account, country and signup date of each version."""
    return rows(
        graph,
        "SELECT day(valid_from), account_id, country, strftime(signup_date, '%m-%d')"
        " FROM bronze.bronze_users ORDER BY user_id, valid_from",
    )


# ---------------------------------------------------------------- rows that change


def test_a_row_that_did_not_change_adds_no_version(graph: Graph) -> None:
    for number in (1, 2, 3):
        load(graph, day(number), users=[USER])
    assert users(graph) == [(1, "acc", "US", "06-01")]


def test_a_row_that_changes_and_changes_back_adds_two_versions(graph: Graph) -> None:
    for number, country in ((1, "US"), (2, "DE"), (4, "US"), (5, "US")):
        load(graph, day(number), users=[{**USER, "country": country}])
    assert users(graph) == [
        (1, "acc", "US", "06-01"),
        (2, "acc", "DE", "06-01"),
        (4, "acc", "US", "06-01"),
    ]
    assert rows(graph, "SELECT user_id, country FROM bronze.bronze_users_current") == [
        ("ada", "US")
    ]


def test_a_later_run_of_the_same_day_replaces_its_version(graph: Graph) -> None:
    load(graph, day(1))
    load(graph, day(2), users=[{**USER, "country": "DE"}])
    load(graph, day(2), users=[{**USER, "country": "FR"}])
    assert users(graph)[1:] == [(2, "acc", "FR", "06-01")]
    load(graph, day(2), users=[USER])
    assert users(graph) == [(1, "acc", "US", "06-01")]


def test_a_run_of_an_earlier_day_sees_rows_on_the_last_stored_day(graph: Graph) -> None:
    load(graph, day(5))
    load(graph, day(2), users=[{**USER, "country": "DE"}])
    load(graph, day(6), users=[{**USER, "country": "FR"}])
    load(graph, day(2), users=[{**USER, "country": "AU"}])
    assert [version[0] for version in users(graph)] == [5, 6]
    assert users(graph)[0][2] == "DE"
    assert users(graph)[1][2] == "AU"


def test_an_entity_that_later_dumps_lack_keeps_its_version(graph: Graph) -> None:
    load(graph, day(1))
    load(graph, day(2), users=[{**USER, "user_id": "bob"}], accounts=[ACCOUNT])
    assert rows(graph, "SELECT user_id FROM bronze.bronze_users_current ORDER BY 1") == [
        ("ada",),
        ("bob",),
    ]
    # The events of the user and the users of the account are still accepted.
    assert rows(graph, "SELECT count(*) FROM bronze.bronze_rejected_events") == [(0,)]
    load(graph, day(3), users=[{**USER, "account_id": "other"}], accounts=[ACCOUNT])
    assert rows(graph, "SELECT count(*) FROM bronze.bronze_rejected_entities") == [(0,)]


def test_creation_is_that_of_the_first_version_and_payment_the_latest_known(graph: Graph) -> None:
    trial = {**ACCOUNT, "first_paid_at": "", "subscription_tier": "trial"}
    load(graph, day(1), accounts=[trial])
    load(graph, day(2), accounts=[{**ACCOUNT, "account_created_at": "2025-02-01 10:00:00"}])
    load(graph, day(3), accounts=[{**trial, "total_seats": "9"}])
    found = rows(
        graph,
        "SELECT day(valid_from), created_date::VARCHAR, first_paid_date::VARCHAR, total_seats"
        " FROM bronze.bronze_accounts WHERE account_id = 'acc' ORDER BY 1",
    )
    assert found == [
        (1, "2025-01-01", "2025-01-02", 5),
        (2, "2025-01-01", "2025-01-02", 5),
        (3, "2025-01-01", "2025-01-02", 9),
    ]


def test_local_dates_follow_a_changed_time_zone(graph: Graph, tmp_path: Path) -> None:
    load(graph, day(1), users=[{**USER, "user_created_at": "2025-06-01 03:00:00"}])
    far = Graph(
        graph.source, graph.database, tmp_path / "other", FIRST, timezone="America/Los_Angeles"
    )
    with duckdb.connect(str(graph.database)) as connection:
        connection.execute("DELETE FROM operations.settings")
    load(far, day(1))
    assert users(far) == [(1, "acc", "US", "05-31")]


def test_an_input_that_is_suddenly_missing_is_refused(graph: Graph) -> None:
    load(graph, day(1))
    before = graph.contents_of(LOADS)
    (graph.source / "users.csv").unlink()
    with graph.instance:
        result = graph.run(day(2), only=LOADS)
    assert not result.success
    [failure] = failures_of(result.all_events)
    assert "The source does not contain users, but an earlier load read users." in str(failure)
    assert_same(graph.contents_of(LOADS), before)


def test_versions_are_reset(graph: Graph) -> None:
    load(graph, day(1))
    load(graph, day(2), users=[{**USER, "account_id": "other"}])
    with graph.instance:
        tags = {**range_tags(DateWindow(FIRST, date(2025, 6, 2))), RESET_VERSIONS: "true"}
        assert graph.run(only=LOADS, tags=tags).success
    assert users(graph) == [(2, "other", "US", "06-01")]


# ---------------------------------------------------------------- layouts


HISTORY: Sequence[tuple[str, Mapping[str, str]]] = (
    ("2025-06-01", {}),
    ("2025-06-03", {"country": "DE"}),
    ("2025-06-05", {"country": "DE", "account_id": "other"}),
)


def by_column(source: Path) -> None:
    write_rows(source / "users.csv", [{**USER, **v, "valid_from": d} for d, v in HISTORY])


def by_time_of_update(source: Path) -> None:
    write_rows(
        source / "users.csv", [{**USER, **v, "updated_at": f"{d} 09:00"} for d, v in HISTORY]
    )


def by_folder(source: Path) -> None:
    (source / "users.csv").unlink()
    for number in range(1, 8):
        snapshot = f"2025-06-{number:02}"
        [values] = [v for d, v in HISTORY if d <= snapshot][-1:]
        write_rows(source / f"users/snapshot_date={snapshot}/part.csv", [{**USER, **values}])


@pytest.mark.parametrize("layout", [by_column, by_time_of_update, by_folder])
def test_layouts_that_state_versions(graph: Graph, layout: object) -> None:
    assert callable(layout)
    layout(graph.source)
    load(graph, DateWindow(FIRST, date(2025, 6, 9)))
    assert users(graph) == [
        (1, "acc", "US", "06-01"),
        (3, "acc", "DE", "06-01"),
        (5, "other", "DE", "06-01"),
    ]
    [ledger] = rows(
        graph,
        "SELECT rows_accepted, rows_repeated, rows_rejected FROM bronze.bronze_entity_loads"
        " WHERE input_name = 'users'",
    )
    assert ledger == (3, 4 if layout is by_folder else 0, 0)


def test_the_last_update_of_a_day_wins(graph: Graph) -> None:
    load(
        graph,
        day(9),
        users=[
            {**USER, "country": "DE", "updated_at": "2025-06-03 18:00"},
            {**USER, "country": "FR", "updated_at": "2025-06-03 09:00"},
        ],
    )
    assert users(graph) == [(3, "acc", "DE", "06-01")]
    assert rows(graph, "SELECT rejection_reason FROM bronze.bronze_rejected_entities") == [
        ("superseded",)
    ]


# ---------------------------------------------------------------- the whole graph


def seeds_rows(source: Path, name: str) -> list[Texts]:
    with (source / f"seed_{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


MORNINGS: Mapping[int, tuple[Mapping[str, Mapping[str, str]], Mapping[str, Mapping[str, str]]]] = {
    # A trial converts with fewer seats, and a user moves to another account.
    27: (
        {"acc_01": {"total_seats": "2", "first_paid_at": "2025-06-27 09:00:00",
                    "subscription_tier": "starter", "monthly_recurring_revenue": "40.00",
                    "contract_renewal_date": "2026-06-27", "is_trial": "false"}},
        {"usr_05": {"account_id": "acc_09"}},
    ),
    28: ({"acc_01": {"total_seats": "5"}}, {"usr_01": {"country": "NZ", "plan_type": "free"}}),
    # No fact states the tier of acc_03.
    29: ({"acc_03": {"subscription_tier": "unlisted"}}, {"usr_05": {"account_id": "acc_03"}}),
    30: ({"acc_01": {"monthly_recurring_revenue": "80.00"}}, {"usr_02": {"account_id": "acc_01"}}),
}  # fmt: skip
"""Changes to accounts and users on each morning, by id."""


def computed_each_morning(folder: Path, only: Iterable[str] | None = None) -> Graph:
    """Return the seeds after several mornings on which rows changed, each computed by one run."""
    source = shutil.copytree(SEEDS, folder / "source")
    graph = Graph(source, folder / "w.duckdb", folder / "home", SEEDS_START)
    with graph.instance:
        result = graph.run(DateWindow(SEEDS_START, date(2025, 6, 26)), only)
        assert result.success, failures_of(result.all_events)
        for number, (of_accounts, of_users) in MORNINGS.items():
            for name, key, values in (
                ("accounts", "account_id", of_accounts),
                ("users", "user_id", of_users),
            ):
                path = source / f"seed_{name}.csv"
                write_rows(path, changed(seeds_rows(source, name), key, **values))
            result = graph.run(day(number), only)
            assert result.success, failures_of(result.all_events)
            failing = [
                check
                for check in result.get_asset_check_evaluations()
                if not check.passed and check.severity.value == "ERROR"
            ]
            assert not failing, failing
    return graph


@pytest.fixture(scope="module")
def mornings(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Return the tables that show the changes of each morning."""
    shown = (
        "silver_account_state_history",
        "silver_user_current_state",
        "gold_users_active_daily",
    )
    return computed_each_morning(tmp_path_factory.mktemp("mornings"), computed_from(shown))


def test_a_changed_account_row_does_not_rewrite_the_past(
    mornings: Graph, seeds_run: SeedsRun
) -> None:
    """The trial's days before its conversion are those of the unchanged seeds."""
    query = (
        "SELECT * FROM silver.silver_account_state_history WHERE account_id = 'acc_01'"
        " AND snapshot_date < DATE '2025-06-27' ORDER BY snapshot_date"
    )
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        unchanged = connection.execute(query).fetchall()
    assert rows(mornings, query) == unchanged
    states = rows(
        mornings,
        "SELECT day(snapshot_date), current_state, total_seats, monthly_recurring_revenue::INT"
        " FROM silver.silver_account_state_history WHERE account_id = 'acc_01'"
        " AND snapshot_date >= DATE '2025-06-26' ORDER BY 1",
    )
    assert states == [
        (26, "trial", 3, 0),
        (27, "new_paid", 2, 40),
        (28, "new_paid", 5, 40),
        (29, "new_paid", 5, 40),
        (30, "new_paid", 5, 80),
    ]


def test_membership_is_that_of_the_day(mornings: Graph) -> None:
    found = rows(
        mornings,
        "SELECT account_id FROM silver.silver_user_current_state WHERE user_id IN ('usr_02', 'usr_05')"
        " ORDER BY user_id",
    )
    assert found == [("acc_01",), ("acc_03",)]
    segments = rows(
        mornings,
        "SELECT day(metric_date), segment_value FROM gold.gold_users_active_daily"
        " WHERE segment_value IN ('NZ', 'unlisted') ORDER BY ALL",
    )
    # A value has rows starting on the first date on which a user has it.
    assert segments == [
        (28, "NZ"),
        *((number, value) for number in (29, 30) for value in ("NZ", "unlisted")),
    ]


@pytest.mark.slow
def test_one_run_with_the_recorded_versions_equals_the_mornings(tmp_path: Path) -> None:
    """No check fails on any morning either."""
    mornings = computed_each_morning(tmp_path)
    computed = [table.name for table in tables() if table.layer != "bronze"]
    daily = mornings.contents_of(computed)
    with mornings.instance:
        assert mornings.run(DateWindow(SEEDS_START, SEEDS_LAST)).success
    assert_same(mornings.contents_of(computed), daily)
