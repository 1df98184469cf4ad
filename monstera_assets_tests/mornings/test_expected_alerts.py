"""Test the queries that decide which alerts the mornings must raise, with figures counted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import duckdb
import pytest

from monstera_assets.definitions import rules
from monstera_assets_tests.mornings.expected_alerts import (
    NOT_QUERIED,
    QUERIES,
    Share,
    Warehouse,
    _activated,
    _churned,
    _dormant,
    _last_closing,
    _reactivated,
    bounded,
    changed,
    dunning_recovery,
    p_value,
    state_shares,
    total,
    volume,
)

LAST = date(2025, 6, 30)
WEEK = timedelta(days=7)


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    """Return a warehouse with empty tables, to which `rows` inserts."""
    with duckdb.connect() as connection:
        connection.execute(
            """
            CREATE SCHEMA bronze;
            CREATE SCHEMA silver;
            CREATE TABLE silver.silver_user_state_history (
                user_id VARCHAR, snapshot_date DATE, platform_state VARCHAR);
            CREATE TABLE bronze.bronze_events (
                entity_id VARCHAR, entity_type VARCHAR, event_date DATE, is_qualifying_event BOOLEAN);
            CREATE TABLE bronze.bronze_users_current (user_id VARCHAR, signup_date DATE);
            CREATE TABLE bronze.bronze_users (user_id VARCHAR, valid_from DATE, account_id VARCHAR);
            CREATE TABLE bronze.bronze_loads (partition_date DATE);
            CREATE TABLE bronze.bronze_subscription_events (
                entity_id VARCHAR, entity_type VARCHAR, event_type VARCHAR, event_id VARCHAR,
                event_timestamp TIMESTAMP, event_date DATE, effective_date DATE);
            """
        )
        yield Warehouse(connection, LAST, LAST)


def state(warehouse: Warehouse, user: str, days_ago: int, state: str) -> None:
    warehouse.rows(
        "INSERT INTO silver.silver_user_state_history VALUES (?, ?, ?)",
        *(user, LAST - timedelta(days=days_ago), state),
    )


def use(warehouse: Warehouse, user: str, days_ago: int, *, qualifies: bool = True) -> None:
    warehouse.rows(
        "INSERT INTO bronze.bronze_events VALUES (?, 'user', ?, ?)",
        *(user, LAST - timedelta(days=days_ago), qualifies),
    )


def test_every_alert_has_a_query() -> None:
    names = {f"{rule.table.name}.{rule.name}" for rule in rules() if not rule.blocking}
    assert names == set(QUERIES) | NOT_QUERIED


# ---------------------------------------------------------------- changes of rates


def alone(share: Share) -> dict[object, Share]:
    """Return people who each have an account of their own."""
    return {n: Share(int(n < share.part), 1) for n in range(share.whole)}


@pytest.mark.parametrize(
    ("now", "before", "limit", "fails"),
    [
        (Share(30, 100), Share(10, 100), 0.2, True),
        (Share(30, 100), Share(10, 100), -0.2, False),  # a rise, not a fall
        (Share(10, 100), Share(30, 100), -0.2, True),
        (Share(30, 100), Share(20, 100), 0.2, False),  # by chance: z = 1.63
        (Share(300, 1000), Share(200, 1000), 0.2, True),  # z = 5.16
        (Share(520, 1000), Share(440, 1000), 0.2, False),  # within the limit
        (Share(20, 29), Share(1, 100), 0.2, False),  # too few
        (Share(20, 30), Share(1, 30), 0.2, True),
        (Share(50, 100), Share(0, 100), 0.2, False),  # a change of nothing is null
        (Share(0, 0), Share(50, 100), -0.2, False),
    ],
)
def test_a_rate_changes_beyond_its_limit(
    now: Share, before: Share, limit: float, fails: bool
) -> None:
    assert changed(alone(now), [alone(before)], limit).fails is fails


def test_a_changed_rate_is_compared_with_the_week_before_and_tested_against_four_weeks() -> None:
    week = alone(Share(200, 1000))
    # z = 0.048 / sqrt(0.2096 * 0.7904 * (1 / 1,000 + 1 / 4,000)) = 3.336, and 2.574 after one week.
    assert changed(alone(Share(248, 1000)), [week] * 4, 0.2).fails
    assert not changed(alone(Share(248, 1000)), [week], 0.2).fails
    assert not changed(alone(Share(248, 1000)), [alone(Share(230, 1000)), *[week] * 3], 0.2).fails


def test_an_account_counts_within_the_bounds_of_chance() -> None:
    # 12 of 60 with a standard deviation of 3.098: between 4.3 and 19.7.
    week: dict[object, Share] = {
        "a": Share(60, 60),
        "b": Share(0, 60),
        "c": Share(19, 60),
        "d": Share(1, 1),
    }
    within: dict[object, Share] = {
        "a": Share(19, 60),
        "b": Share(5, 60),
        "c": Share(19, 60),
        "d": Share(1, 1),
    }
    large: dict[object, Share] = {"e": Share(900, 1000)}
    assert bounded(week | large, 0.2) == within | large


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        # z = 64 / sqrt(0.232 * 0.768 * 2,000) = 3.390.
        (Share(264, 1000), Share(200, 1000), 0.0007),
        # z = 61 / sqrt(0.2305 * 0.7695 * 2,000) = 3.239.
        (Share(261, 1000), Share(200, 1000), 0.0012),
        (Share(200, 1000), Share(261, 1000), 0.0012),
        (Share(10, 100), Share(10, 100), 1.0),
        (Share(0, 100), Share(0, 100), 1.0),
    ],
)
def test_how_often_chance_explains_a_difference(one: Share, other: Share, p: float) -> None:
    assert p_value(one, other) == pytest.approx(p, abs=0.00005)


def test_churned_and_dormant_share_of_users_by_their_states_seven_days_earlier(
    warehouse: Warehouse,
) -> None:
    for user, on_days in (
        # From seven days earlier to the last day.
        ("a", "active active churned churned churned churned churned churned"),
        ("b", "dormant dormant dormant dormant dormant dormant dormant churned"),
        ("c", "dunning active active active active active active active"),
        ("d", "new new new new new new new churned"),  # not in use then
        ("e", "churned churned churned churned churned churned churned churned"),
        ("f", "active dormant churned reactivated active active active active"),  # not churned now
        ("g", "dunning dunning dunning dunning dunning dunning dunning dormant"),
        ("h", "active active active churned churned churned churned deleted"),  # deleted now
    ):
        for number, name in enumerate(on_days.split()):
            state(warehouse, user, 7 - number, name)
    assert total([_churned(warehouse, LAST)]) == Share(2, 5)
    assert total([_dormant(warehouse, LAST)]) == Share(1, 4)


def test_reactivated_share_of_users_with_earlier_activity(warehouse: Warehouse) -> None:
    for user, uses, reactivated in (
        ("a", (100, 6), 6),
        ("b", (100, 0), 0),
        ("c", (100,), None),
        ("d", (3,), 3),  # never used it before
        ("e", (100, 7), 7),  # more than a week ago
        ("f", (100, 5, 2), 5),  # counts once
    ):
        for days_ago in range(8, -1, -1):
            name = "churned" if reactivated is None or days_ago > reactivated else "active"
            state(warehouse, user, days_ago, "reactivated" if days_ago == reactivated else name)
        for days_ago in uses:
            use(warehouse, user, days_ago)
    use(warehouse, "c", 1, qualifies=False)
    for days_ago, name in ((7, "churned"), (0, "deleted")):
        state(warehouse, "g", days_ago, name)
    for days_ago in (100, 4):
        use(warehouse, "g", days_ago)
    assert total([_reactivated(warehouse, LAST)]) == Share(3, 4)


def test_activated_share_of_signups_one_week_earlier(warehouse: Warehouse) -> None:
    for user, signed_up, used in (
        ("a", 13, 6),
        ("b", 7, 7),
        ("c", 13, 5),  # on the eighth day
        ("d", 14, 14),  # too early
        ("e", 6, 6),  # too late
        ("f", 10, None),
    ):
        warehouse.rows(
            "INSERT INTO bronze.bronze_users_current VALUES (?, ?)",
            *(user, LAST - timedelta(days=signed_up)),
        )
        if used is not None:
            use(warehouse, user, used)
    for user, days_ago, account in (("a", 6, "z"), ("a", 7, "x"), ("a", 30, "y"), ("c", 1, "y")):
        warehouse.rows(
            "INSERT INTO bronze.bronze_users VALUES (?, ?, ?)",
            *(user, LAST - timedelta(days=days_ago), account),
        )
    assert _activated(warehouse, LAST) == {"x": Share(1, 1), "y": Share(0, 1), None: Share(1, 2)}


# ---------------------------------------------------------------- other figures


@pytest.mark.parametrize(("active", "fails"), [(31, False), (30, True)])
def test_a_share_moves_by_more_than_five_points(
    warehouse: Warehouse, active: int, fails: bool
) -> None:
    """Of 40 users, 33 were active on each of 28 days: 2 of 40 users are exactly 5 points."""
    for days_ago in range(29):
        limit = active if days_ago == 0 else 33
        for user in range(40):
            state(warehouse, str(user), days_ago, "active" if user < limit else "dormant")
    assert state_shares(warehouse).fails is fails


@pytest.mark.parametrize(
    ("usual", "seen", "fails"),
    [(40, 48, False), (40, 49, True), (40, 31, True), (29, 80, False), (40, 0, False)],
)
def test_a_volume_deviates_by_more_than_a_fifth(
    warehouse: Warehouse, usual: int, seen: int, fails: bool
) -> None:
    for weeks_ago, count in ((0, seen), *((n, usual) for n in range(1, 5))):
        warehouse.rows("INSERT INTO bronze.bronze_loads VALUES (?)", LAST - weeks_ago * WEEK)
        for _ in range(count):
            use(warehouse, "a", 7 * weeks_ago)
    assert volume(warehouse).fails is fails


def d(number: int) -> date:
    return date(2025, 4, 30) + timedelta(days=number)


STARTED = ("subscription_started", d(1), d(1))


@pytest.mark.parametrize(
    ("facts", "last"),
    [
        ([STARTED], None),
        ([STARTED, ("payment_failed", d(5), d(5))], (d(36), False)),
        ([STARTED, ("payment_failed", d(29), d(29))], (d(60), False)),
        ([STARTED, ("payment_failed", d(30), d(30))], None),
        (
            [STARTED, ("payment_failed", d(5), d(5)), ("payment_recovered", d(9), d(9))],
            (d(9), True),
        ),
        # A second failure does not start the 30 days again, and the subscription ends after day 35.
        (
            [
                STARTED,
                ("payment_failed", d(5), d(5)),
                ("payment_failed", d(20), d(20)),
                ("payment_recovered", d(36), d(36)),
            ],
            (d(36), False),
        ),
        (
            [STARTED, ("payment_failed", d(5), d(5)), ("payment_recovered", d(35), d(35))],
            (d(35), True),
        ),
        (
            [
                STARTED,
                ("payment_failed", d(5), d(5)),
                ("subscription_cancelled", d(6), d(10)),
                ("subscription_started", d(20), d(20)),
            ],
            (d(11), False),
        ),
        ([("payment_failed", d(5), d(5)), STARTED], None),  # before it pays, nothing can fail
    ],
)
def test_the_last_closing_of_a_failure(
    facts: list[tuple[object, ...]], last: tuple[date, bool] | None
) -> None:
    assert _last_closing(facts, d(60)) == last


@pytest.mark.parametrize(("recovered", "fails"), [(17, True), (18, False)])
def test_less_than_three_of_five_failures_are_recovered(
    warehouse: Warehouse, recovered: int, fails: bool
) -> None:
    """30 payments fail 35 days before the last day; those not recovered end 4 days before it."""
    failed = LAST - timedelta(days=35)
    for number in range(30):
        facts = [("subscription_started", failed - WEEK), ("payment_failed", failed)]
        if number < recovered:
            facts.append(("payment_recovered", failed + timedelta(days=10)))
        for kind, day in facts:
            warehouse.rows(
                "INSERT INTO bronze.bronze_subscription_events"
                " VALUES (?, 'account', ?, '', ?::DATE, ?, NULL)",
                *(str(number), kind, day, day),
            )
    assert dunning_recovery(warehouse).fails is fails
