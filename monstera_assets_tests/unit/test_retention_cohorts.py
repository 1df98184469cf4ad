"""Retention of three users in one weekly and one monthly cohort, computed by hand.

The range starts with the first event on Monday, 6 January 2025, and ends on 31 January.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from monstera_assets.gold.gold_retention_cohorts import TABLE, gold_retention_cohorts
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACCOUNTS,
    ACTIVITY,
    CURRENT,
    EVENTS,
    HISTORY,
    INTERVALS,
    SUBSCRIPTION_EVENTS,
    USERS,
    LifecycleWarehouse,
)

AS_OF = date(2025, 1, 31)
# For each user the day of signup, the versions' first days and countries, and the days of use.
PEOPLE: dict[str, tuple[int, dict[int, str], tuple[int, ...]]] = {
    "before the range": (1, {1: "DE"}, (6,)),
    # Uses in the periods 0 (day 0) and 1 (day 8).
    "ann": (6, {6: "DE"}, (6, 14)),
    # Uses in the period 0 (day 3). The country changes on that day.
    "ben": (12, {1: "FR", 15: "DE"}, (15,)),
    # Uses in the period 3 (day 22).
    "cat": (8, {8: "DE"}, (30,)),
}

Cells = dict[tuple[str, str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def cells() -> dict[str, Cells]:
    """Return the cells by cohort type, and by segment and period."""
    made = LifecycleWarehouse()
    made.load(ACCOUNTS, [{"account_id": "acc", "account_created_at": date(2024, 1, 1)}])
    made.load(
        USERS,
        [
            {
                "user_id": name,
                "account_id": "acc",
                "user_created_at": date(2025, 1, signup),
                "valid_from": date(2025, 1, day),
                "country": country,
                "plan_type": "team",
                "acquisition_source": "search",
            }
            for name, (signup, countries, _) in PEOPLE.items()
            for day, country in countries.items()
        ],
    )
    made.load(
        EVENTS,
        [
            {
                "event_id": f"{name} {day}",
                "entity_id": name,
                "entity_type": "user",
                "event_type": "video_created",
                "event_timestamp": date(2025, 1, day),
                "event_date": date(2025, 1, day),
                "is_qualifying_event": True,
            }
            for name, (_, _, days) in PEOPLE.items()
            for day in days
        ],
    )
    made.compute(ACTIVITY)
    made.compute(HISTORY, window=DateWindow(date(2025, 1, 6), AS_OF))
    made.compute(CURRENT)
    tables = {
        table.name: table
        for table in (
            *(USERS, SUBSCRIPTION_EVENTS, ACTIVITY.table),
            *(CURRENT.table, HISTORY.table, INTERVALS.table),
        )
    }
    relations = [tables[name].relation for name in gold_retention_cohorts.inputs]
    names = [column.name for column in TABLE.columns]
    DuckDBEngine(made.connection).prepare(TABLE)
    made.connection.execute(
        f"INSERT INTO {TABLE.qualified_name} BY NAME"
        f" {compile_duckdb(gold_retention_cohorts(*relations))}"
    )
    rows = made.connection.execute(f"FROM {TABLE.qualified_name}").fetchall()
    found: dict[str, Cells] = {"week": {}, "month": {}}
    for row in (dict(zip(names, row, strict=True)) for row in rows):
        assert row["as_of_date"] == AS_OF
        assert row["cohort_start"] == date(2025, 1, 6 if row["cohort_type"] == "week" else 1)
        cell = (row["segment_dimension"], row["segment_value"], row["period_number"])
        assert cell not in found[row["cohort_type"]]
        found[row["cohort_type"]][cell] = row
    return found


# The members, the users retained in the period and in it or later, and the users per state at the end
# of the period, by segment and period. The last member of all and of FR (ben) completes the period 1
# on 25 January and would complete the period 2 on 1 February. The last member of DE (cat) completes
# the period 2 on 28 January. Nobody in FR has reached the period 3.
WEEKLY: dict[tuple[str, str, int], tuple[int, int | None, int | None, dict[str, int] | None]] = {
    ("all", "all", 0): (3, 2, 3, {"active": 2, "new": 1}),
    ("all", "all", 1): (3, 1, 2, {"active": 2, "new": 1}),
    ("all", "all", 2): (3, None, None, None),
    ("all", "all", 3): (3, None, None, None),
    ("country", "DE", 0): (2, 1, 2, {"active": 1, "new": 1}),
    ("country", "DE", 1): (2, 1, 2, {"active": 1, "new": 1}),
    ("country", "DE", 2): (2, 0, 1, {"active": 1, "new": 1}),
    ("country", "DE", 3): (2, None, None, None),
    ("country", "FR", 0): (1, 1, 1, {"active": 1}),
    ("country", "FR", 1): (1, 0, 0, {"active": 1}),
    ("country", "FR", 2): (1, None, None, None),
}


def test_weekly_cohorts_by_segment_of_the_signup_day(cells: dict[str, Cells]) -> None:
    found = {}
    for cell, row in cells["week"].items():
        states = {
            name.removeprefix("users_in_state_").removesuffix("_per_period"): value
            for name, value in row.items()
            if name.startswith("users_in_state_")
        }
        known = None if None in states.values() else {s: n for s, n in states.items() if n}
        members, retained, unbounded = (
            row[f"users_{name}_per_period"]
            for name in ("in_cohort", "retained", "retained_unbounded")
        )
        found[cell] = (members, retained, unbounded, known)
    alike = {
        (dimension, value, period): WEEKLY["all", "all", period]
        for dimension, value in (("plan_type", "team"), ("acquisition_source", "search"))
        for period in range(4)
    }
    assert found == {**WEEKLY, **alike}


def test_shares_are_of_the_segment(cells: dict[str, Cells]) -> None:
    shares = [
        (row["users_retained_share_per_period"], row["users_retained_unbounded_share_per_period"])
        for row in (cells["week"]["country", "DE", period] for period in range(4))
    ]
    assert shares == [(1 / 2, 1.0), (1 / 2, 1.0), (0.0, 1 / 2), (None, None)]


def test_a_monthly_cohort_is_not_known_before_its_period_ends(cells: dict[str, Cells]) -> None:
    total = {cell[2]: row for cell, row in cells["month"].items() if cell[0] == "all"}
    assert list(total) == [0]
    assert total[0]["users_in_cohort_per_period"] == 3
    # The last member completes the period 0 on 10 February.
    assert total[0]["users_retained_per_period"] is None
