"""Tests of sliding distinct user counts against published examples and a literal count.

The input and output of the examples come from the Azure Data Explorer documentation (repository
MicrosoftDocs/dataexplorer-docs, `sliding-window-counts-plugin.md` and
`activity-counts-metrics-plugin.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monstera_assets.bronze import bronze_accounts, bronze_events, bronze_users
from monstera_assets.gold import (
    gold_users_active_daily,
    gold_users_active_monthly,
    gold_users_active_weekly,
)
from monstera_assets.gold.gold_users_created_daily import gold_users_created_daily
from monstera_assets.gold.published_ids import TOTAL
from monstera_assets.gold.segments import users_active
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.versions import SEGMENT_DIMENSIONS
from monstera_assets.silver import silver_account_state_intervals, silver_daily_user_activity
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import ACTIVITY as ACTIVITY_ASSET
from monstera_assets_tests.helpers.lifecycle_warehouse import HISTORY, LifecycleWarehouse
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

USERS, ACCOUNTS = bronze_users.TABLE, silver_account_state_intervals.TABLE
ACTIVITY = silver_daily_user_activity.TABLE

AUGUST_1 = date(2017, 8, 1)

# The active users per day, with the repetitions on the page.
SLIDING_WINDOW_EVENTS = {
    AUGUST_1: ["Bob", "David", "David", "John", "Bob"],
    date(2017, 8, 2): ["Ananda", "Atul", "John"],
    date(2017, 8, 3): ["Ananda", "Atul", "Atul", "John", "Bob"],
    date(2017, 8, 4): ["Betsy"],
    date(2017, 8, 5): ["Bob"],
}
SLIDING_WINDOW_DCOUNTS = [3, 5, 5, 5, 5, 2, 1]  # lookback of 3 days, August 1 to 7

ACTIVITY_COUNTS_EVENTS = {
    AUGUST_1: ["A", "D", "J", "B"],
    date(2017, 8, 2): ["C", "T", "J"],
    date(2017, 8, 3): ["H", "T", "T", "J", "B", "S"],
    date(2017, 8, 4): ["S"],
}
DCOUNTS = [4, 3, 5, 1]
NEW_DCOUNTS = [4, 2, 2, 0]
AGGREGATED_DCOUNTS = [4, 6, 8, 8]

Events = Mapping[date, Iterable[str]]


def warehouse(events: Events, people: Iterable[str] = ()) -> MemoryWarehouse:
    made = MemoryWarehouse((USERS, ACCOUNTS, ACTIVITY))
    names = sorted({*people, *(name for day in events.values() for name in day)})
    made.load(ACCOUNTS, [{"account_id": "acc", "subscription_tier": "starter"}])
    made.load(
        USERS,
        [
            {
                "user_id": name,
                "account_id": "acc",
                "user_created_at": "2017-01-01 00:00:00",
                "country": ["DE", "FR", "UK"][number % 3],
                "plan_type": ["free", "paid"][number % 2],
            }
            for number, name in enumerate(names)
        ],
    )
    made.load(
        ACTIVITY,
        [
            # Repetitions become different products, which must not count twice.
            {
                "user_id": name,
                "activity_date": day,
                "product_id": f"product_{number}",
                "events": 1,
                "qualifying_events": 1,
            }
            for day, names_of_day in events.items()
            for number, name in enumerate(names_of_day)
        ],
    )
    return made


def counts(made: MemoryWarehouse, window: DateWindow, days: int) -> dict[str, list[int]]:
    """Return the metric per dimension and date, as a sum over segments."""
    relation = ACTIVITY.relation
    expression = users_active(
        relation.filter(
            relation.activity_date.between(window.first - timedelta(days=days - 1), window.last)
        ),
        USERS.relation,
        ACCOUNTS.relation,
        days=days,
        window=Window.of(window.first, window.last),
        metric="active",
    )
    rows = made.rows(
        "SELECT segment_dimension, metric_date, sum(active)::BIGINT"
        f" FROM ({compile_duckdb(expression)}) GROUP BY ALL"
    )
    by_dimension: dict[str, list[int]] = {}
    for dimension, _, count in rows:
        by_dimension.setdefault(dimension, []).append(count)
    assert [day for dimension, day, _ in rows if dimension == TOTAL] == list(window)
    return by_dimension


def test_sliding_window_counts_worked_example() -> None:
    made = warehouse(SLIDING_WINDOW_EVENTS)
    window = DateWindow(AUGUST_1, date(2017, 8, 7))
    assert counts(made, window, days=3)[TOTAL] == SLIDING_WINDOW_DCOUNTS


def test_activity_counts_metrics_worked_example() -> None:
    """Compare distinct users per day and up to each day, and new users as the difference."""
    made = warehouse(ACTIVITY_COUNTS_EVENTS)
    window = DateWindow(AUGUST_1, date(2017, 8, 4))
    assert counts(made, window, days=1)[TOTAL] == DCOUNTS
    aggregated = counts(made, window, days=len(window))[TOTAL]
    assert aggregated == AGGREGATED_DCOUNTS
    before = [0, *aggregated[:-1]]
    assert [now - then for now, then in zip(aggregated, before, strict=True)] == NEW_DCOUNTS


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (gold_users_active_daily, [4, 3, 5, 1]),
        # No user leaves a window of 7 or 30 days within four days.
        (gold_users_active_weekly, [4, 6, 8, 8]),
        (gold_users_active_monthly, [4, 6, 8, 8]),
    ],
)
def test_published_tables_on_the_worked_example(module: object, expected: list[int]) -> None:
    table = module.TABLE  # type: ignore[attr-defined]
    asset = vars(module)[table.name]
    window = DateWindow(AUGUST_1, date(2017, 8, 4))
    expression = asset(ACTIVITY.relation, USERS.relation, ACCOUNTS.relation, window=window)
    metric = table.name.removeprefix("gold_")
    rows = warehouse(ACTIVITY_COUNTS_EVENTS).rows(
        f"SELECT metric_date, {metric} FROM ({compile_duckdb(expression)})"
        " WHERE segment_dimension = 'all'"
    )
    assert [count for _, count in rows] == expected


def test_users_created_has_a_row_for_days_without_signups() -> None:
    expression = gold_users_created_daily(
        USERS.relation,
        ACCOUNTS.relation,
        window=DateWindow(date(2016, 12, 31), date(2017, 1, 2)),
    )
    rows = warehouse({}, people=["ann", "ben", "cat"]).rows(
        "SELECT segment_dimension, metric_date, sum(users_created_daily)::BIGINT"
        f" FROM ({compile_duckdb(expression)}) GROUP BY ALL"
    )
    assert [count for of, _, count in rows if of == TOTAL] == [0, 3, 0]
    # A segment value has rows starting on the first date on which a user has it.
    for dimension in SEGMENT_DIMENSIONS:
        assert [count for of, _, count in rows if of == dimension] == [3, 0]


def test_users_count_under_the_tier_that_their_account_has_on_the_date() -> None:
    made = MemoryWarehouse((USERS, ACCOUNTS, ACTIVITY))
    made.load(
        ACCOUNTS,
        [
            {
                "account_id": "acc",
                "subscription_tier": tier,
                "valid_from": date(2017, 8, day),
                "valid_to": date(2017, 8, day + 1) if day < 6 else None,
            }
            # On 4 August, something other than the tier changes.
            for day, tier in ((2, "trial"), (3, "starter"), (4, "starter"), (5, "pro"), (6, "pro"))
        ],
    )
    # The user signs up a day before the account exists.
    made.load(
        USERS, [{"user_id": "ann", "account_id": "acc", "user_created_at": "2017-08-01 09:00:00"}]
    )
    made.load(ACTIVITY, [{"user_id": "ann", "activity_date": AUGUST_1, "qualifying_events": 1}])
    window = DateWindow(AUGUST_1, date(2017, 8, 6))
    active = users_active(
        ACTIVITY.relation,
        USERS.relation,
        ACCOUNTS.relation,
        days=7,
        window=Window.of(window.first, window.last),
        metric="count",
    )
    created = gold_users_created_daily(USERS.relation, ACCOUNTS.relation, window=window)

    def by_tier(rows: list[tuple[date, str, str, int]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for _, dimension, tier, count in rows:
            if dimension == "account_tier":
                found.setdefault(tier, []).append(count)
        return found

    # A tier has rows from the first date on which the account has it, through 6 August.
    assert by_tier(made.rows(compile_duckdb(active))) == {
        "unknown": [1, 0, 0, 0, 0, 0],
        "trial": [1, 0, 0, 0, 0],
        "starter": [1, 1, 0, 0],
        "pro": [1, 1],
    }
    assert by_tier(made.rows(compile_duckdb(created))) == {
        "unknown": [1, 0, 0, 0, 0, 0],
        "trial": [0] * 5,
        "starter": [0] * 4,
        "pro": [0] * 2,
    }


PEOPLE = ("ann", "ben", "cat", "dan", "eve")
INDIFFERENT = (("plan_type", "-"), ("acquisition_source", "-"))
"""The segments of the columns that have default values."""
ON_AND_OFF = st.lists(st.tuples(st.integers(-45, 40), st.booleans()), max_size=8)


@cache
def one_warehouse() -> MemoryWarehouse:
    """Return the warehouse that all examples share. Each example replaces its tables."""
    return MemoryWarehouse((USERS, ACCOUNTS, ACTIVITY))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    # For each user: days after August 1 and whether they qualify, the signup and the segments.
    users=st.lists(
        st.tuples(ON_AND_OFF, st.integers(-5, 40), st.sampled_from("ABC"), st.sampled_from("XY")),
        min_size=1,
        max_size=len(PEOPLE),
    ),
    length=st.integers(1, 35),
    days=st.sampled_from([1, 7, 30]) | st.integers(1, 40),
)
def test_every_segment_equals_a_literal_count(
    users: list[tuple[list[tuple[int, bool]], int, str, str]], length: int, days: int
) -> None:
    """The result equals a loop over sets. The window cuts the activity at both ends."""
    window = DateWindow(AUGUST_1, AUGUST_1 + timedelta(days=length - 1))
    made = one_warehouse()
    made.load(ACCOUNTS, [{"account_id": tier, "subscription_tier": tier} for tier in "XY"])
    people = dict(zip(PEOPLE, users, strict=False))
    made.load(
        USERS,
        [
            {
                "user_id": name,
                "account_id": tier,
                "country": country,
                "user_created_at": f"{AUGUST_1 + timedelta(days=signup)} 23:59:59",
            }
            for name, (_, signup, country, tier) in people.items()
        ],
    )
    made.load(
        ACTIVITY,
        [
            {
                "user_id": name,
                "activity_date": AUGUST_1 + timedelta(days=offset),
                "qualifying_events": int(qualifies),
            }
            for name, (offsets, signup, *_) in people.items()
            for offset, qualifies in offsets
            if offset >= signup
        ],
    )
    segments = {
        name: ((TOTAL, TOTAL), ("country", country), ("account_tier", tier), *INDIFFERENT)
        for name, (_, _, country, tier) in people.items()
    }
    held = {(TOTAL, TOTAL): date.min}
    for name, (_, signup, *_) in people.items():
        for segment in segments[name][1:]:
            first_day = AUGUST_1 + timedelta(days=signup)
            held[segment] = min(first_day, held.get(segment, first_day))
    active = {(at, *segment): 0 for at in window for segment, day in held.items() if at >= day}
    created = dict(active)
    for name, (offsets, signup, *_) in people.items():
        qualifying = {
            AUGUST_1 + timedelta(days=offset) for offset, yes in offsets if yes and offset >= signup
        }
        for at in window:
            if (at - AUGUST_1).days >= signup:
                for segment in segments[name]:
                    active[at, *segment] += any(0 <= (at - day).days < days for day in qualifying)
                    created[at, *segment] += (at - AUGUST_1).days == signup

    activity = ACTIVITY.relation
    for expression, literal in (
        (
            users_active(
                activity.filter(activity.activity_date <= window.last),
                USERS.relation,
                ACCOUNTS.relation,
                days=days,
                window=Window.of(window.first, window.last),
                metric="count",
            ),
            active,
        ),
        (
            gold_users_created_daily(USERS.relation, ACCOUNTS.relation, window=window),
            created,
        ),
    ):
        rows = made.rows(compile_duckdb(expression))
        assert len(rows) == len(literal)
        assert {(at, dimension, value): count for at, dimension, value, count in rows} == literal


def test_first_active_users_by_the_state_history() -> None:
    """New users have all of their qualifying events up to a day on that day."""
    made = LifecycleWarehouse()
    made.load(bronze_accounts.TABLE, [{"account_id": "acc"}])
    names = sorted({name for day in ACTIVITY_COUNTS_EVENTS.values() for name in day})
    made.load(
        USERS,
        [
            {"user_id": name, "account_id": "acc", "user_created_at": "2017-01-01 00:00:00"}
            for name in names
        ],
    )
    made.load(
        bronze_events.TABLE,
        [
            {
                "event_id": f"{day}-{number}",
                "entity_id": name,
                "entity_type": "user",
                "event_timestamp": f"{day} 12:00:00",
                "event_date": day,
                "is_qualifying_event": True,
            }
            for day, names_of_day in ACTIVITY_COUNTS_EVENTS.items()
            for number, name in enumerate(names_of_day)
        ],
    )
    made.compute(ACTIVITY_ASSET)
    made.compute(HISTORY, LifecyclePolicy(), DateWindow(AUGUST_1, date(2017, 8, 4)))
    rows = made.rows(
        "SELECT snapshot_date, count(*) FILTER (qualifying_events_count > 0),"
        " count(*) FILTER (qualifying_events_count > 0"
        " AND qualifying_events_count = total_qualifying_events),"
        " count(*) FILTER (total_qualifying_events > 0)"
        " FROM silver.silver_user_state_history GROUP BY snapshot_date"
    )
    assert [counted for _, *counted in rows] == [
        list(counted) for counted in zip(DCOUNTS, NEW_DCOUNTS, AGGREGATED_DCOUNTS, strict=True)
    ]


def test_without_users_there_are_only_totals() -> None:
    expression = users_active(
        ACTIVITY.relation,
        USERS.relation,
        ACCOUNTS.relation,
        days=7,
        window=Window.of(AUGUST_1, AUGUST_1),
        metric="count",
    )
    made = MemoryWarehouse((USERS, ACCOUNTS, ACTIVITY))
    assert made.rows(compile_duckdb(expression)) == [(AUGUST_1, TOTAL, TOTAL, 0)]
