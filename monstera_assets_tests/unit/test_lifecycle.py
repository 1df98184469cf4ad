"""The lifecycle of users agrees with cases computed by hand (framework, section 3).

Users sign up on day 0, 1 January 2025, and ``on(n)`` is the date n days later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta

import pytest

from monstera_assets.lifecycle.billing import billing_intervals
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACCOUNTS,
    CURRENT,
    HISTORY,
    SUBSCRIPTION_EVENTS,
    TRANSITIONS,
    LifecycleWarehouse,
)
from monstera_assets_tests.inputs.strategies import AccountCase, ProductEvent, UserCase
from monstera_assets_tests.oracle.billing import AccountRow, SubscriptionEvent

DAY_0 = date(2025, 1, 1)
LAST = 100
DEFAULT = LifecyclePolicy()
THREE_TO_ACTIVATE = LifecyclePolicy(min_qualifying_events_to_activate=3)

Record = Mapping[str, object]


def on(n: int) -> date:
    return DAY_0 + timedelta(days=n)


def at(n: int, hour: int = 12) -> datetime:
    return datetime.combine(on(n), time(hour))


def use(*days: int) -> list[ProductEvent]:
    """Return a qualifying event at noon of each day, whose id contains the day."""
    return [ProductEvent(at(n), f"use-{n}", None, is_qualifying=True) for n in days]


def billing(n: int, event_type: str, **metadata: object) -> SubscriptionEvent:
    """Return a subscription event on day n, whose id contains the day and the type."""
    return SubscriptionEvent(at(n), f"{event_type}-{n}", event_type, metadata)


class OneUser:
    """The table rows of a user who signed up on day 0 and whose account is paid."""

    def __init__(
        self,
        events: Iterable[ProductEvent] = (),
        subscription: Iterable[SubscriptionEvent] = (),
        *,
        deleted: int | None = None,
        policy: LifecyclePolicy = DEFAULT,
    ) -> None:
        account = AccountCase(
            AccountRow("account", at(0, 0), first_paid_at=at(0, 0)), tuple(subscription)
        )
        deletions = () if deleted is None else (at(deleted),)
        user = UserCase("user", "account", at(0, 9), tuple(events), deletions)
        warehouse = LifecycleWarehouse()
        warehouse.load_facts([account], [user])
        window = DateWindow(on(0), on(LAST))
        self.days: list[Record] = [
            dict(zip((column.name for column in HISTORY.table.columns), row, strict=True))
            for row in warehouse.compute(HISTORY, policy, window)
        ]
        (row,) = warehouse.compute(CURRENT, policy)
        self.now: Record = dict(
            zip((column.name for column in CURRENT.table.columns), row, strict=True)
        )
        self.moves = [
            (row[3], row[4], (row[5] - DAY_0).days, row[6], row[7])
            for row in warehouse.compute(TRANSITIONS, policy, window)
            if row[1] == "platform"
        ]
        """Old state, new state, day, triggering event and days in the previous state, sorted."""
        self.moves.sort(key=lambda move: move[2])

    def states(self, first: int, last: int) -> list[object]:
        return [day["platform_state"] for day in self.days[first : last + 1]]


def test_who_never_comes_is_new_through_day_30_and_then_churned() -> None:
    user = OneUser()
    # "Within 30 days of signup" means new up to a difference of 30 days.
    assert user.states(0, LAST) == ["new"] * 31 + ["churned"] * 70
    assert user.moves == [("new", "churned", 31, None, 31)]
    assert user.days[LAST]["days_since_last_qualifying_event"] is None


def test_one_active_day_is_active_to_gap_30_dormant_to_gap_60_then_churned() -> None:
    user = OneUser(use(0))
    assert user.states(0, 61) == ["active"] * 31 + ["dormant"] * 30 + ["churned"]
    assert user.moves == [
        ("active", "dormant", 31, None, 31),
        ("dormant", "churned", 61, None, 30),
    ]


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (30, "active"),
        (31, "active"),  # gap 30 on the day before
        (32, "returning"),  # gap 31 on the day before; returning requires 32 <= L-P <= 61
        (61, "returning"),
        (62, "reactivated"),  # gap 61 on the day before; reactivated requires L-P >= 62
    ],
)
def test_the_distance_between_two_active_days_decides_the_second(gap: int, expected: str) -> None:
    user = OneUser(use(5, 5 + gap))
    assert user.states(5 + gap, 5 + gap + 1) == [expected, "active"]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (0, "active"),
        (30, "active"),
        (31, "active"),  # new on day 30
        (32, "reactivated"),  # churned on day 31 without ever qualifying
    ],
)
def test_the_day_of_the_first_activity_decides_its_state(first: int, expected: str) -> None:
    user = OneUser(use(first))
    assert user.states(first, first + 1) == [expected, "active"]


def test_returning_lasts_one_day_even_if_the_next_is_active_too() -> None:
    user = OneUser(use(0, 40, 41))
    assert user.states(39, 41) == ["dormant", "returning", "active"]
    # The user is dormant on days 31 to 39. Time ends the state returning, not the event on day 41.
    assert user.moves[1:3] == [
        ("dormant", "returning", 40, "use-40", 9),
        ("returning", "active", 41, None, 1),
    ]


def test_the_first_qualifying_event_of_the_day_is_the_trigger() -> None:
    user = OneUser(
        [
            ProductEvent(at(3, 8), "a-login", None, is_qualifying=False),
            ProductEvent(at(3, 10), "b-boards", "boards", is_qualifying=True),
            ProductEvent(at(3, 9), "d-editor", "editor", is_qualifying=True),
            ProductEvent(at(3, 9), "c-brush", "brush", is_qualifying=True),
        ]
    )
    assert user.moves[0] == ("new", "active", 3, "c-brush", 3)
    assert user.days[3]["qualifying_events_count"] == 3


def test_below_the_threshold_a_user_stays_new_and_then_is_what_the_gap_says() -> None:
    few = OneUser(use(0), policy=THREE_TO_ACTIVATE)
    # On day 31 the user is no longer new, and the gap is 31.
    assert few.moves[0] == ("new", "dormant", 31, None, 31)

    enough = OneUser(use(0, 7, 20), policy=THREE_TO_ACTIVATE)
    assert enough.moves[0] == ("new", "active", 20, "use-20", 20)

    # On day 31 the user would stop being new even without the event, with a gap of 1.
    late = OneUser(use(30, 31), policy=THREE_TO_ACTIVATE)
    assert late.moves[0] == ("new", "active", 31, None, 31)


def test_dunning_covers_active_and_falls_back_to_it() -> None:
    user = OneUser(use(0), [billing(10, "payment_failed"), billing(15, "payment_recovered")])
    assert user.moves[:2] == [
        ("active", "dunning", 10, "payment_failed-10", 10),
        ("dunning", "active", 15, "payment_recovered-15", 5),
    ]
    assert [day["activity_state"] for day in user.days[10:15]] == ["active"] * 5


def test_dunning_is_a_modifier_on_the_other_states() -> None:
    user = OneUser(use(0), [billing(20, "payment_failed"), billing(35, "payment_recovered")])
    assert user.moves[:3] == [
        ("active", "dunning", 20, "payment_failed-20", 20),
        ("dunning", "dormant", 31, None, 11),  # the gap exceeds 30, and the failure is still open
        ("dormant", "churned", 61, None, 30),
    ]
    assert [user.days[n]["is_dunning"] for n in (19, 20, 34, 35)] == [False, True, True, False]


def test_dunning_types_follow_grace_and_the_number_of_failures() -> None:
    user = OneUser(
        use(0),
        [
            billing(10, "payment_failed", grace_until=on(12)),
            billing(14, "payment_failed", grace_until=on(14)),
        ],
    )
    # The grace period of the latest failure comes first, then soft with one open failure or hard with
    # two.
    assert [user.days[n]["dunning_type"] for n in range(9, 16)] == [
        *(None, "grace_period", "grace_period", "grace_period"),
        *("soft", "grace_period", "hard"),
    ]
    assert len([move for move in user.moves if move[1] == "dunning"]) == 1


def test_dunning_ends_with_the_subscription_30_days_after_the_first_failure() -> None:
    user = OneUser(use(0, 25), [billing(10, "payment_failed"), billing(30, "payment_failed")])
    assert user.states(39, 41) == ["dunning", "dunning", "active"]  # day 40 is the last paid day
    assert user.moves[1] == ("dunning", "active", 41, None, 31)


def test_who_becomes_active_while_one_dunning_follows_another_moves_by_activity() -> None:
    user = OneUser(
        use(8),
        [
            billing(5, "payment_failed"),
            SubscriptionEvent(at(8, 9), "recovered", "payment_recovered"),
            SubscriptionEvent(at(8, 10), "failed-again", "payment_failed"),
            billing(9, "payment_recovered"),
        ],
    )
    assert user.moves[:2] == [
        ("new", "dunning", 8, "use-8", 8),
        ("dunning", "active", 9, "payment_recovered-9", 1),
    ]


def test_deletion_is_terminal_and_activity_is_still_recorded() -> None:
    user = OneUser(use(0, 10), [billing(20, "payment_failed")], deleted=10)
    assert user.moves == [("active", "deleted", 10, "gone-user-0", 10)]
    assert user.states(10, LAST) == ["deleted"] * (LAST - 9)
    assert user.days[41]["activity_state"] == "dormant"  # gap 31
    assert user.days[20]["is_dunning"] is True


def test_the_current_state_is_that_of_the_latest_day_of_history() -> None:
    user = OneUser(use(2, 90), [billing(95, "payment_failed")])
    assert user.now == {
        "user_id": "user",
        "account_id": "account",
        "platform_state": "dunning",
        "platform_state_since": on(95),
        "activity_state": "active",
        "is_dunning": True,
        "dunning_type": "soft",
        "dunning_since": on(95),
        "last_qualifying_event_at": at(90),
        "total_qualifying_events": 2,
        "days_since_signup": 100,
        "days_since_last_qualifying_event": 10,
        "as_of_date": on(100),
        "state_updated_at": at(101, 0),
    }


def test_a_first_payment_comes_ahead_of_events_of_the_same_instant() -> None:
    warehouse = LifecycleWarehouse()
    events = (
        SubscriptionEvent(at(3), "a-paused", "subscription_paused"),
        SubscriptionEvent(at(3), "b-renewed", "subscription_renewed"),
    )
    warehouse.load_accounts([AccountCase(AccountRow("a", at(0), first_paid_at=at(3)), events)])
    intervals = billing_intervals(ACCOUNTS.relation, SUBSCRIPTION_EVENTS.relation, DEFAULT)
    query = compile_duckdb(intervals.select("valid_from", "phase", "paused"))
    # The account pays and then pauses. A renewal does not end the pause.
    assert [row[1:] for row in warehouse.rows(query)] == [("never_paid", False), ("paid", True)]
