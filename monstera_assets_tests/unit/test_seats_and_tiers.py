"""Accounts with seats or tiers that cannot be compared agree with cases computed by hand.

Accounts are created and first paid on day 0, 1 January 2024. User u0 is active every day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import pytest

from monstera_assets.bronze import bronze_accounts, bronze_subscription_events, bronze_users
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver.silver_account_state_intervals import silver_account_state_intervals
from monstera_assets.silver.silver_daily_user_activity import silver_daily_user_activity
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

DAY_0 = date(2024, 1, 1)
LAST = 200
POLICY = LifecyclePolicy()
INPUTS = (
    silver_daily_user_activity.table,
    bronze_users.TABLE,
    bronze_accounts.TABLE,
    bronze_subscription_events.TABLE,
)


def on(day: int) -> date:
    return DAY_0 + timedelta(days=day)


def deleted(user_id: str, day: int) -> dict[str, object]:
    return {"entity_id": user_id, "entity_type": "user", "event_type": "user_deleted", "day": day}


def changed(day: int, **values: object) -> dict[str, object]:
    event_type = "seats_changed" if "total_seats" in values else "tier_changed"
    of_account = {"entity_id": "account", "entity_type": "account", "event_type": event_type}
    return {**of_account, "day": day, **values}


def intervals(
    *events: Mapping[str, object],
    users: Mapping[str, int],
    policy: LifecyclePolicy = POLICY,
    active: Sequence[str] = ("u0",),
    **account: object,
) -> list[dict[str, object]]:
    """Return an account's stored intervals, oldest first.

    Args:
        events: subscription events, each with a `day`.
        users: the signup day of each user.
        policy: the thresholds and tiers.
        active: the users who are active every day.
        account: columns of the account's row.
    """
    warehouse = MemoryWarehouse(INPUTS)
    row = {
        "account_id": "account",
        "account_created_at": DAY_0,
        "first_paid_at": DAY_0,
        "subscription_tier": "starter",
        "total_seats": None,
    }
    warehouse.load(bronze_accounts.TABLE, [{**row, **account}])
    warehouse.load(
        bronze_users.TABLE,
        [
            {"user_id": user_id, "account_id": "account", "user_created_at": on(day)}
            for user_id, day in users.items()
        ],
    )
    warehouse.load(
        bronze_subscription_events.TABLE,
        [
            {
                "event_id": f"e{n}",
                "event_timestamp": on(int(str(event["day"]))),
                "event_date": on(int(str(event["day"]))),
                **event,
            }
            for n, event in enumerate(events)
        ],
    )
    warehouse.load(
        silver_daily_user_activity.table,
        [
            {"user_id": user_id, "activity_date": on(day), "events": 1, "qualifying_events": 1}
            for user_id in active
            for day in range(LAST + 1)
        ],
    )
    expression = silver_account_state_intervals(
        *(table.relation for table in INPUTS), policy=policy, as_of=on(LAST)
    )
    names = list(expression.columns)
    rows = warehouse.rows(compile_duckdb(expression))
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return sorted(found, key=lambda interval: str(interval["valid_from"]))


def changes_of(rows: list[dict[str, object]], column: str) -> list[tuple[date, object]]:
    """Return the days on which a column changes, with the new values."""
    values = [(row["valid_from"], row[column]) for row in rows]
    return [
        (date.fromisoformat(str(day)), value)
        for n, (day, value) in enumerate(values)
        if n == 0 or values[n - 1][1] != value
    ]


def test_missing_seats_are_the_users_who_signed_up_and_are_not_deleted() -> None:
    rows = intervals(
        deleted("u2", 150), users={"u0": -3, "u1": 0, "u2": 120, "u3": 120, "u4": LAST + 1}
    )
    assert changes_of(rows, "total_seats") == [(on(0), 2), (on(120), 4), (on(150), 3)]
    # Users who join or leave do not change the contract: no expansion and no contraction.
    assert changes_of(rows, "current_state") == [
        (on(0), "new_paid"),
        (on(91), "active"),
        # On day 120, one of 4 is active. The lowest count of 30 days stays 2 until day 148.
        (on(149), "at_risk"),
        # The 3 seats of day 150 make 33 percent.
        (on(150), "active"),
    ]
    assert rows[-1]["seat_utilization_pct"] == pytest.approx(100 / 3)


def test_missing_seats_start_a_new_interval_only_if_the_number_changes() -> None:
    # On day 100, one user leaves and one joins. On each of the days 101 to 110, one joins.
    users = {"u0": 0, "u1": 0, "u2": 100, **{f"v{n}": n for n in range(101, 111)}}
    rows = intervals(deleted("u1", 100), users=users, policy=LifecyclePolicy(new_paid_days=30))
    changes = changes_of(rows, "total_seats")
    assert changes == [(on(0), 2), *((on(100 + n), 2 + n) for n in range(1, 11))]
    # On day 31 the account becomes active. On day 131, the lowest count of 30 days is 4, of which one
    # is in use.
    first_days = [row["valid_from"] for row in rows]
    assert first_days == [on(0), on(31), *(on(day) for day in range(101, 111)), on(131)]


def test_a_fact_that_states_seats_ends_the_filling() -> None:
    rows = intervals(changed(50, total_seats=5), users={"u0": 0, "u1": 60})
    assert changes_of(rows, "total_seats") == [(on(0), 1), (on(50), 5)]
    # Seats that were filled in are not compared: 5 seats after 1 user are no expansion.
    assert "expanding" not in {row["current_state"] for row in rows}
    assert [row["subscription_event_id"] for row in rows if row["valid_from"] == on(50)] == ["e0"]


def test_seats_of_a_trial_follow_facts() -> None:
    rows = intervals(changed(10, total_seats=4), users={"u0": 0}, first_paid_at=None, total_seats=2)
    assert changes_of(rows, "total_seats") == [(on(0), 2), (on(10), 4)]
    assert {row["subscription_tier"] for row in rows} == {"trial"}


def test_an_account_without_users_counts_no_seats() -> None:
    rows = intervals(users={}, active=())
    assert {row["total_seats"] for row in rows} == {0}
    assert {row["seat_utilization_pct"] for row in rows} == {None}
    assert {row["seat_utilization_score"] for row in rows} == {100}
    assert changes_of(rows, "current_state") == [(on(0), "new_paid"), (on(91), "active")]


def test_seats_of_0_are_not_compared_and_no_use_is_too_low() -> None:
    rows = intervals(changed(120, total_seats=20), users={"u0": 0}, total_seats=0)
    # One of 20 seats is 5 percent. The seats of 0 leave the window of 30 days on day 149.
    assert changes_of(rows, "current_state") == [
        (on(0), "new_paid"),
        (on(91), "active"),
        (on(149), "at_risk"),
    ]
    assert changes_of(rows, "seat_utilization_pct") == [(on(0), None), (on(120), 5)]


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        ("starter", "enterprise", "expanding"),
        ("starter", "trial", "contracting"),
        ("starter", "free", "active"),
        ("unknown", "enterprise", "active"),
        ("free", "unknown", "active"),
    ],
)
def test_tiers_are_compared_only_if_both_are_in_the_list(
    before: str, after: str, state: str
) -> None:
    rows = intervals(
        changed(120, subscription_tier=after), users={"u0": 0}, subscription_tier=before
    )
    tiers = changes_of(rows, "subscription_tier")
    assert tiers == [(on(0), before), (on(120), after)]
    on_120 = [row["current_state"] for row in rows if row["valid_from"] == on(120)]
    assert on_120 == [state]
    assert all(row["is_paid"] for row in rows)


def test_the_list_of_tiers_is_a_setting() -> None:
    policy = LifecyclePolicy(subscription_tiers=("free", "team"))
    rows = intervals(
        changed(120, subscription_tier="free"),
        users={"u0": 0},
        policy=policy,
        subscription_tier="team",
    )
    assert "contracting" in {row["current_state"] for row in rows}


@pytest.mark.parametrize("tiers", [(), ("free", "team", "free")])
def test_a_list_of_tiers_names_each_once(tiers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="subscription_tiers"):
        LifecyclePolicy(subscription_tiers=tiers)
