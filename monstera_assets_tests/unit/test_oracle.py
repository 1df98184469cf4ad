"""The oracle agrees with cases computed by hand.

Day 0 is 1 January 2025, and ``on(n)`` is the date n days later.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

import pytest

from monstera_assets_tests.oracle.accounts import (
    AccountDay,
    Member,
    Use,
    account_history,
    account_transitions,
)
from monstera_assets_tests.oracle.billing import (
    AccountRow,
    BillingDay,
    SubscriptionEvent,
    Terms,
    billing_history,
    dunning_by_day,
    in_order,
    subscriptions_of,
)
from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.products import (
    ProductDay,
    product_history,
    product_transitions,
)
from monstera_assets_tests.oracle.users import (
    Dunning,
    QualifyingDay,
    Transition,
    UserDay,
    user_history,
    user_transitions,
)
from monstera_assets_tests.oracle.versions import Versions, activity_of_account

DAY_0 = date(2025, 1, 1)


def on(n: int) -> date:
    return DAY_0 + timedelta(days=n)


def at(n: int, hour: int = 12) -> datetime:
    return datetime.combine(on(n), time(hour))


def user(
    *active: int,
    through: int,
    deleted: int | None = None,
    dunning: Mapping[int, Dunning] | None = None,
    policy: OraclePolicy | None = None,
) -> list[UserDay]:
    """Return the history of a user who signs up on day 0 and has one qualifying event per given day."""
    debts = {on(n): debt for n, debt in (dunning or {}).items()}
    return user_history(
        "u",
        on(0),
        [QualifyingDay(on(n), 1, f"e{n}") for n in active],
        on(through),
        deleted_on=None if deleted is None else on(deleted),
        deletion_event_id="gone",
        dunning=lambda day: debts.get(day, Dunning()),
        policy=policy,
    )


def states(rows: list[UserDay]) -> list[str]:
    return [row.platform_state for row in rows]


# --- users -----------------------------------------------------------------------------------


def test_without_activity_a_user_is_new_through_day_30_and_then_churned() -> None:
    rows = user(through=100)
    assert states(rows) == ["new"] * 31 + ["churned"] * 70
    assert rows[100].platform_state_since == on(31)
    assert rows[100].days_since_last_qualifying_event is None
    assert user_transitions(rows) == [Transition("new", "churned", on(31), 31)]


def test_one_active_day_is_active_to_gap_30_dormant_to_gap_60_then_churned() -> None:
    rows = user(0, through=62)
    assert states(rows) == ["active"] * 31 + ["dormant"] * 30 + ["churned"] * 2
    assert user_transitions(rows) == [
        Transition("active", "dormant", on(31), 31),
        Transition("dormant", "churned", on(61), 30),
    ]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (0, "active"),
        (30, "active"),
        (31, "active"),  # new on day 30
        (32, "reactivated"),  # churned on day 31
    ],
)
def test_the_day_of_the_first_activity_decides_its_state(first: int, expected: str) -> None:
    rows = user(first, through=40)
    assert rows[first].platform_state == expected
    assert rows[first].is_first_activation == (expected == "reactivated")
    assert rows[first + 1].platform_state == "active"


@pytest.mark.parametrize(
    ("gap", "day_before", "expected"),
    [
        (30, "active", "active"),
        (31, "active", "active"),  # gap 30 on the day before
        (32, "dormant", "returning"),  # gap 31 on the day before
        (60, "dormant", "returning"),
        (61, "dormant", "returning"),  # gap 60 on the day before
        (62, "churned", "reactivated"),  # gap 61 on the day before
    ],
)
def test_the_gap_between_two_active_days_decides_the_state(
    gap: int, day_before: str, expected: str
) -> None:
    rows = user(3, 3 + gap, through=80)
    assert rows[3 + gap - 1].platform_state == day_before
    assert rows[3 + gap].platform_state == expected
    assert rows[3 + gap].is_first_activation is False
    assert rows[3 + gap + 1].platform_state == "active"


def test_returning_lasts_one_day_even_if_the_next_is_active_too() -> None:
    rows = user(0, 40, 41, through=41)
    assert states(rows)[39:] == ["dormant", "returning", "active"]
    # The return on day 40 needed that day's event. Day 41 would be active even without an event.
    assert user_transitions(rows)[-2:] == [
        Transition("dormant", "returning", on(40), 9, "e40"),
        Transition("returning", "active", on(41), 1, None),
    ]


def test_activity_out_of_new_is_caused_by_the_first_event_of_the_day() -> None:
    assert user_transitions(user(4, through=10)) == [Transition("new", "active", on(4), 4, "e4")]


def test_deletion_is_terminal_and_activity_is_still_recorded() -> None:
    rows = user(0, through=40, deleted=10)
    assert states(rows) == ["active"] * 10 + ["deleted"] * 31
    assert [rows[n].activity_state for n in (10, 30, 31)] == ["active", "active", "dormant"]
    assert user_transitions(rows) == [Transition("active", "deleted", on(10), 10, "gone")]


def test_dunning_covers_active_and_only_marks_the_rest() -> None:
    open_debt = Dunning(is_dunning=True, dunning_type="soft", dunning_since=on(20))
    debts = dict.fromkeys(range(21, 40), open_debt)
    debts[20] = Dunning(
        is_dunning=True, dunning_type="soft", dunning_since=on(20), changed_by="failed"
    )
    rows = user(0, through=45, dunning=debts)
    # The user is active and in dunning on days 20 to 30, and dormant from day 31. The flags stay until
    # day 39.
    assert states(rows) == ["active"] * 20 + ["dunning"] * 11 + ["dormant"] * 15
    assert rows[35].is_dunning is True
    assert rows[35].dunning_since == on(20)
    assert rows[40].is_dunning is False
    assert user_transitions(rows) == [
        Transition("active", "dunning", on(20), 20, "failed"),
        Transition("dunning", "dormant", on(31), 11, None),
    ]


def test_recovery_moves_back_to_active_by_the_recovery() -> None:
    open_debt = Dunning(is_dunning=True, dunning_type="soft", dunning_since=on(2))
    rows = user(
        1, 5, through=6, dunning={3: open_debt, 4: open_debt, 5: Dunning(changed_by="recovered")}
    )
    # The event on day 5 does not end the dunning.
    assert user_transitions(rows)[-1] == Transition("dunning", "active", on(5), 2, "recovered")


def test_entering_an_account_that_is_in_dunning() -> None:
    debts = {
        n: Dunning(is_dunning=True, dunning_type="hard", dunning_since=on(0)) for n in range(80)
    }
    rows = user(4, 50, through=52, dunning=debts)
    # Activity causes new -> dunning. After dormant -> returning, time causes -> dunning the day after.
    assert user_transitions(rows) == [
        Transition("new", "dunning", on(4), 4, "e4"),
        Transition("dunning", "dormant", on(35), 31, None),
        Transition("dormant", "returning", on(50), 15, "e50"),
        Transition("returning", "dunning", on(51), 1, None),
    ]


def test_entering_another_account_that_is_in_dunning() -> None:
    debts = {
        n: Dunning(is_dunning=True, dunning_type="soft", dunning_since=on(3)) for n in range(6, 9)
    }
    rows = user(0, through=9, dunning=debts)
    # No event causes these moves, only the changes of account on days 6 and 9.
    assert user_transitions(rows) == [
        Transition("active", "dunning", on(6), 6, None),
        Transition("dunning", "active", on(9), 3, None),
    ]
    # A user who becomes active on the day of the change enters dunning by activity.
    rows = user(6, through=6, dunning=debts)
    assert user_transitions(rows) == [Transition("new", "dunning", on(6), 6, "e6")]


def test_a_threshold_of_two_keeps_a_user_new_until_the_second_event() -> None:
    two = OraclePolicy(min_qualifying_events_to_activate=2)
    assert states(user(0, 5, through=6, policy=two)) == ["new"] * 5 + ["active"] * 2
    # With one event, on day 0, the user is no longer new on day 31, when the gap is also 31.
    assert states(user(0, through=32, policy=two)) == ["new"] * 31 + ["dormant"] * 2
    # With one event, on day 9, the gap on day 31 is 22, so time makes the user active.
    moves = user_transitions(user(9, through=32, policy=two))
    assert moves == [Transition("new", "active", on(31), 31, None)]


def test_counts_and_differences_are_those_of_the_day() -> None:
    rows = user_history("u", on(0), [QualifyingDay(on(1), 3), QualifyingDay(on(4), 2)], on(6))
    assert [row.qualifying_events_count for row in rows] == [0, 3, 0, 0, 2, 0, 0]
    assert [row.total_qualifying_events for row in rows] == [0, 3, 3, 3, 5, 5, 5]
    assert [row.days_since_last_qualifying_event for row in rows] == [None, 0, 1, 2, 0, 1, 2]
    assert [row.days_since_signup for row in rows] == list(range(7))


def test_later_facts_do_not_change_earlier_days() -> None:
    assert user(0, 40, through=80)[:40] == user(0, through=39)


# --- products --------------------------------------------------------------------------------


def product(
    *active: int,
    through: int,
    access: int | None = None,
    activation: int | None = None,
    windows: tuple[int, int] | None = None,
) -> list[ProductDay]:
    """Return the history of a user who signs up on day 0 in one product."""
    return product_history(
        "u",
        "p",
        on(0),
        on(through),
        first_access=None if access is None else on(access),
        activation=None if activation is None else on(activation),
        qualifying_days=[QualifyingDay(on(n), 1, f"e{n}") for n in active],
        active_days=windows[0] if windows else None,
        dormant_days=windows[1] if windows else None,
    )


def test_access_without_work_is_new_for_30_days_and_then_churned() -> None:
    rows = product(through=40, access=5)
    # The first access is on day 5, so the user is new up to day 35.
    assert [row.current_state for row in rows] == (
        ["never_adopted"] * 5 + ["new_to_product"] * 31 + ["churned_from_product"] * 5
    )
    assert [row.is_stored for row in rows] == [False] * 5 + [True] * 36
    # The first access is not a transition between stored rows.
    assert product_transitions(rows) == [
        Transition("new_to_product", "churned_from_product", on(36), 31)
    ]


def test_activation_on_the_first_day_skips_new_to_product() -> None:
    rows = product(0, through=62, access=0, activation=0)
    assert [rows[n].current_state for n in (0, 30, 31, 60, 61)] == [
        "active_in_product",
        "active_in_product",
        "dormant_in_product",
        "dormant_in_product",
        "churned_from_product",
    ]


def test_work_without_activation_stays_new_for_the_first_30_days() -> None:
    rows = product(2, 20, through=51, access=0)
    # The user is new up to day 30. On day 31 the gap to day 20 is 11, and it reaches 31 on day 51.
    assert [rows[n].current_state for n in (30, 31, 50, 51)] == [
        "new_to_product",
        "active_in_product",
        "active_in_product",
        "dormant_in_product",
    ]
    assert product_transitions(rows)[0].triggering_event_id is None


def test_activation_moves_out_of_new_by_the_events_of_the_day() -> None:
    rows = product(3, through=3, access=0, activation=3)
    assert product_transitions(rows) == [
        Transition("new_to_product", "active_in_product", on(3), 3, "e3")
    ]


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(31, "active"), (32, "active"), (61, "active"), (62, "reactivated")],
)
def test_there_is_no_returning_in_a_product(gap: int, expected: str) -> None:
    rows = product(0, gap, through=70, access=0, activation=0)
    assert rows[gap].current_state == f"{expected}_in_product"
    assert rows[gap + 1].current_state == "active_in_product"


def test_first_work_after_the_first_30_days_is_a_reactivation() -> None:
    # The user has access on day 0, is churned from day 31 and has a first qualifying event on day 50.
    rows = product(50, through=50, access=0)
    assert rows[50].current_state == "reactivated_in_product"
    # The user is new on the day before day 31.
    assert product(31, through=31, access=0)[31].current_state == "active_in_product"


def test_a_product_may_have_its_own_windows() -> None:
    rows = product(0, through=121, access=0, activation=0, windows=(60, 120))
    assert [rows[n].current_state for n in (60, 61, 120, 121)] == [
        "active_in_product",
        "dormant_in_product",
        "dormant_in_product",
        "churned_from_product",
    ]


# --- billing ---------------------------------------------------------------------------------


def sub(n: int, kind: str, hour: int = 12, **metadata: object) -> SubscriptionEvent:
    """Return a subscription event on day n whose id contains its kind, day and hour."""
    return SubscriptionEvent(at(n, hour), f"{kind}@{n}.{hour}", kind, metadata)


def start(n: int = 0, renewal: int | None = 365, **metadata: object) -> SubscriptionEvent:
    values: dict[str, object] = {
        "total_seats": 10,
        "monthly_recurring_revenue": 1000,
        "subscription_tier": "professional",
    }
    if renewal is not None:
        values["contract_renewal_date"] = on(renewal).isoformat()
    return sub(n, "subscription_started", 9, **{**values, **metadata})


def bill(
    *events: SubscriptionEvent, through: int, row: AccountRow | None = None
) -> list[BillingDay]:
    return billing_history(row or AccountRow("a", at(0, 8), total_seats=2), events, on(through))


def statuses(rows: list[BillingDay], *days: int) -> list[str]:
    return [rows[n].status for n in days]


def test_before_the_first_payment_there_is_a_trial_of_the_seats_of_the_row() -> None:
    rows = bill(start(10), through=10)
    before, after = rows[9], rows[10]
    assert (before.status, before.subscription_tier, before.total_seats) == (
        "never_paid",
        "trial",
        2,
    )
    assert before.monthly_recurring_revenue == 0
    assert before.contract_renewal_date is None
    assert (after.status, after.total_seats, after.first_payment_date) == ("paid", 10, on(10))
    assert after.monthly_recurring_revenue == 1000
    assert after.days_to_renewal == 355


def test_a_missed_renewal_date_ends_after_3_days_of_grace() -> None:
    rows = bill(start(0, renewal=30), through=35)
    assert statuses(rows, 29, 30, 33, 34) == ["paid", "paid", "paid", "lapsed"]
    assert [rows[n].days_to_renewal for n in (29, 30, 33, 34)] == [1, 0, -3, None]
    assert [rows[n].contract_renewal_date for n in (33, 34)] == [on(30), None]
    assert [rows[n].monthly_recurring_revenue for n in (33, 34)] == [1000, 0]
    assert [rows[n].end_date for n in (33, 34)] == [None, on(33)]
    assert [rows[n].lapsed_days for n in (33, 34, 35)] == [None, 1, 2]
    assert rows[34].total_seats == 10


@pytest.mark.parametrize("renewed_on", [30, 33])
def test_a_renewal_on_the_last_paid_day_is_in_time(renewed_on: int) -> None:
    renewed = sub(renewed_on, "subscription_renewed", contract_renewal_date=on(60).isoformat())
    rows = bill(start(0, renewal=30), renewed, through=64)
    assert statuses(rows, 30, 33, 34, 60, 63, 64) == [*["paid"] * 5, "lapsed"]


def test_a_start_or_renewal_without_a_renewal_date_is_open_ended() -> None:
    rows = bill(start(0, renewal=30), sub(20, "subscription_renewed"), through=400)
    assert rows[20].contract_renewal_date is None
    assert statuses(rows, 31, 400) == ["paid", "paid"]


def test_an_unresolved_failure_ends_the_subscription_after_30_days() -> None:
    rows = bill(start(), sub(5, "payment_failed"), through=36)
    # On day 34 the failure is open (34 - 5 = 29). Day 35 is the last paid day (35 - 5 = 30). On day 36
    # the subscription is lapsed, which closes the failure.
    assert statuses(rows, 34, 35, 36) == ["paid", "paid", "lapsed"]
    assert [rows[n].open_failures for n in (4, 5, 35, 36)] == [0, 1, 1, 0]
    assert [rows[n].dunning_since for n in (5, 35, 36)] == [on(5), on(5), None]
    assert [rows[n].dunning_event_id for n in (5, 6, 36)] == ["payment_failed@5.12", None, None]


@pytest.mark.parametrize(("recovered", "lapsed"), [(34, 0), (35, 0), (36, 0), (37, 1), (80, 44)])
def test_a_recovery_after_the_lapse_resumes_the_subscription(recovered: int, lapsed: int) -> None:
    # Day 35 is the last paid day, so that day 36 is the first lapsed one, unless money comes on it.
    rows = bill(start(), sub(5, "payment_failed"), sub(recovered, "payment_recovered"), through=80)
    assert sum(row.status == "lapsed" for row in rows) == lapsed
    assert rows[80].status == "paid"
    assert rows[80].contract_renewal_date == on(365)
    # What the lapse has closed stays closed by it.
    assert rows[36].dunning_event_id is None
    assert rows[35].dunning_event_id == ("payment_recovered@35.12" if recovered == 35 else None)


@pytest.mark.parametrize(("effective", "lapses"), [(38, True), (39, True), (40, False)])
def test_a_recovery_does_not_resume_what_a_cancellation_would_have_ended(
    effective: int, lapses: bool
) -> None:
    ignored: list[str] = []
    events = (
        start(),
        sub(4, "subscription_cancelled", effective_date=on(effective).isoformat()),
        sub(5, "payment_failed"),
        sub(40, "payment_recovered"),
    )
    rows = billing_history(AccountRow("a", at(0, 8)), events, on(41), ignored=ignored)
    # The cancellation outlives lapse and recovery, so that day 40 is paid at most.
    assert statuses(rows, 36, 39, 40, 41) == [
        *("lapsed", "lapsed"),
        "lapsed" if lapses else "paid",
        "lapsed",
    ]
    assert ignored == (["payment_recovered@40.12"] if lapses else [])


def test_dunning_is_grace_then_soft_and_hard_with_a_second_failure() -> None:
    rows = bill(
        start(),
        sub(5, "payment_failed", grace_until=on(7).isoformat()),
        sub(10, "payment_failed"),
        sub(12, "payment_failed", grace_until=on(13).isoformat()),
        sub(15, "payment_recovered"),
        through=15,
    )
    kinds = [rows[n].dunning_type for n in (4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15)]
    # The latest failure has a grace period on days 12 and 13 only.
    assert kinds == [
        None,
        "grace_period",
        "grace_period",
        "soft",
        "soft",
        "hard",
        "hard",
        "grace_period",
        "grace_period",
        "hard",
        None,
    ]
    assert rows[14].dunning_since == on(5)
    # One recovery closes all three failures.
    assert rows[15].open_failures == 0
    assert dunning_by_day(rows)[on(15)] == Dunning(changed_by="payment_recovered@15.12")


def test_an_open_failure_holds_the_contract_over_its_renewal_date() -> None:
    failed = sub(25, "payment_failed")
    plain = bill(start(0, renewal=30), failed, sub(40, "payment_recovered"), through=41)
    # The recovery is after the renewal date and brings no new one, so that it leaves none.
    assert statuses(plain, 31, 40, 41) == ["paid", "paid", "paid"]
    assert [plain[n].contract_renewal_date for n in (39, 40)] == [on(30), None]
    extended = bill(
        start(0, renewal=30),
        failed,
        sub(40, "payment_recovered", contract_renewal_date=on(395).isoformat()),
        through=41,
    )
    assert statuses(extended, 40, 41) == ["paid", "paid"]


def test_a_pause_holds_the_contract_over_its_renewal_date() -> None:
    rows = bill(
        start(0, renewal=30),
        sub(20, "subscription_paused", reason="seasonal"),
        sub(100, "subscription_resumed"),
        through=104,
    )
    # The days of grace count from the end of the pause.
    assert statuses(rows, 31, 99, 100, 103, 104) == [*["paid"] * 4, "lapsed"]
    assert [rows[n].pause_reason for n in (19, 20, 99, 100)] == [None, "seasonal", "seasonal", None]
    assert rows[99].days_to_renewal == -69


def test_a_renewal_does_not_end_a_pause_but_a_start_does() -> None:
    rows = bill(
        start(),
        sub(5, "subscription_paused"),
        sub(10, "subscription_renewed"),
        sub(15, "subscription_started"),
        through=15,
    )
    assert [rows[n].is_paused for n in (4, 5, 10, 14, 15)] == [False, True, True, True, False]
    assert rows[5].pause_reason == "voluntary_pause"


def test_a_cancellation_is_pending_through_its_effective_date() -> None:
    rows = bill(
        start(), sub(5, "subscription_cancelled", effective_date=on(20).isoformat()), through=21
    )
    assert [rows[n].cancellation_pending for n in (4, 5, 20, 21)] == [False, True, True, False]
    assert statuses(rows, 20, 21) == ["paid", "lapsed"]


def test_a_cancellation_without_a_date_ends_on_its_own_day() -> None:
    rows = bill(start(), sub(5, "subscription_cancelled"), through=6)
    assert statuses(rows, 5, 6) == ["paid", "lapsed"]
    assert rows[5].cancellation_pending is True


@pytest.mark.parametrize(("first", "second"), [(20, 10), (10, 20)])
def test_of_two_cancellations_the_latest_counts(first: int, second: int) -> None:
    rows = bill(
        start(),
        sub(5, "subscription_cancelled", effective_date=on(first).isoformat()),
        sub(6, "subscription_cancelled", effective_date=on(second).isoformat()),
        through=21,
    )
    assert statuses(rows, second, second + 1) == ["paid", "lapsed"]


def test_a_renewal_voids_a_pending_cancellation() -> None:
    rows = bill(
        start(),
        sub(5, "subscription_cancelled", effective_date=on(20).isoformat()),
        sub(20, "subscription_renewed"),
        through=60,
    )
    assert [rows[n].cancellation_pending for n in (19, 20)] == [True, False]
    assert rows[60].status == "paid"


def test_only_a_start_or_renewal_changes_a_lapsed_subscription() -> None:
    rows = bill(
        start(0, renewal=7),
        sub(12, "seats_changed", total_seats=99),
        sub(13, "payment_failed"),
        sub(14, "subscription_cancelled"),
        sub(20, "subscription_renewed", monthly_recurring_revenue=500),
        through=40,
    )
    assert [rows[n].total_seats for n in (11, 12, 20)] == [10, 10, 10]
    assert [rows[n].monthly_recurring_revenue for n in (19, 20)] == [0, 500]
    assert statuses(rows, 10, 11, 13, 19, 20, 40) == ["paid", *["lapsed"] * 3, "paid", "paid"]
    assert rows[20].first_payment_date == on(0)


def test_a_renewal_the_morning_after_leaves_no_lapsed_day() -> None:
    rows = bill(start(0), sub(2, "payment_failed"), sub(33, "subscription_renewed", 7), through=33)
    # Day 32 (2 + 30) is the last paid day. The lapse at midnight closed the failure.
    assert statuses(rows, 32, 33) == ["paid", "paid"]
    assert rows[33].open_failures == 0
    assert rows[33].dunning_event_id is None


def test_values_come_from_the_last_event_that_carried_them() -> None:
    rows = bill(
        start(),
        sub(5, "seats_changed", total_seats=12, monthly_recurring_revenue=1200),
        sub(6, "tier_changed", subscription_tier="enterprise", total_seats=None),
        through=6,
    )
    last = rows[6]
    assert (last.subscription_tier, last.total_seats) == ("enterprise", 12)
    assert last.monthly_recurring_revenue == 1200
    assert last.contract_renewal_date == on(365)


def test_values_carried_before_the_first_payment_hold_from_then_on() -> None:
    rows = bill(
        sub(3, "seats_changed", total_seats=7),
        sub(4, "payment_failed"),
        sub(10, "subscription_started", monthly_recurring_revenue=70),
        through=10,
    )
    # Seats hold from the event on, and the revenue from the first payment on.
    assert [rows[n].total_seats for n in (2, 3, 9, 10)] == [2, 7, 7, 7]
    assert [rows[n].monthly_recurring_revenue for n in (9, 10)] == [0, 70]
    assert [rows[n].open_failures for n in (4, 10)] == [0, 0]


def test_the_first_version_holds_before_it_and_the_latest_one_from_its_day_on() -> None:
    versions = Versions("first", ((on(9), "third"), (on(5), "second")))
    found = [versions.on(on(n)) for n in (-99, 4, 5, 8, 9, 99)]
    assert found == ["first", "first", "second", "second", "third", "third"]


def test_activity_belongs_to_the_account_of_its_day() -> None:
    uses = [Use(name, on(n), "p") for name in ("moves", "stays") for n in (4, 5, 6)]
    accounts = {"moves": Versions("a", ((on(5), "b"), (on(6), "a"))), "stays": Versions("b")}
    assert activity_of_account("a", uses, accounts) == [uses[0], uses[2]]
    assert activity_of_account("b", uses, accounts) == [uses[1], *uses[3:]]


def test_values_that_no_event_has_set_come_from_the_version_of_the_day() -> None:
    row = AccountRow(
        "a",
        at(0, 8),
        *("starter", 5, 50.0, None, at(10)),
        later=((on(5), Terms("starter", 6, 60.0)), (on(20), Terms("enterprise", 7, 70.0, on(90)))),
    )
    rows = bill(sub(30, "seats_changed", total_seats=9), row=row, through=30)
    # Seats follow versions during the trial, and all values do afterwards.
    assert [rows[n].total_seats for n in (4, 5, 19, 20, 30)] == [5, 6, 6, 7, 9]
    assert [rows[n].monthly_recurring_revenue for n in (9, 10, 19, 20, 30)] == [0, 60, 60, 70, 70]
    assert [rows[n].subscription_tier for n in (9, 10, 20)] == ["trial", "starter", "enterprise"]
    assert [rows[n].contract_renewal_date for n in (19, 20)] == [None, on(90)]


def test_versions_of_lapsed_days_change_nothing_until_the_account_pays_again() -> None:
    row = AccountRow(
        "a",
        at(0, 8),
        *("starter", 5, 50.0, on(7), at(0, 8)),
        later=((on(10), Terms("starter", 6, 60.0, on(7))), (on(12), Terms("enterprise", 7, 70.0))),
    )
    rows = bill(sub(15, "subscription_started"), row=row, through=15)
    assert statuses(rows, 10, 11, 12, 14, 15) == ["paid", "lapsed", "lapsed", "lapsed", "paid"]
    assert [rows[n].total_seats for n in (9, 10, 14, 15)] == [5, 6, 6, 7]
    assert [rows[n].subscription_tier for n in (14, 15)] == ["starter", "enterprise"]
    assert [rows[n].monthly_recurring_revenue for n in (10, 14, 15)] == [60, 0, 70]


def test_a_version_with_a_later_renewal_date_renews() -> None:
    def row(day: int, before: int | None = 7) -> AccountRow:
        later = ((on(day), Terms("starter", 5, 50.0, on(37))),)
        first = None if before is None else on(before)
        return AccountRow("a", at(0, 8), "starter", 5, 50.0, first, at(0, 8), later)

    def of(rows: list[BillingDay]) -> list[str]:
        return statuses(rows, 10, 11, 12, 40, 41)

    paid, lapsed = "paid", "lapsed"
    assert of(bill(row=row(10), through=41)) == [paid, paid, paid, paid, lapsed]
    assert of(bill(row=row(11), through=41)) == [paid, paid, paid, paid, lapsed]
    assert of(bill(row=row(12), through=41)) == [paid, lapsed, paid, paid, lapsed]
    # It voids what is pending before the facts of its day.
    facts = (sub(8, "payment_failed"), sub(9, "subscription_cancelled", effective_date=on(20)))
    rows = bill(*facts, sub(12, "payment_failed"), row=row(12), through=20)
    assert [rows[n].open_failures for n in (11, 12)] == [1, 1]
    assert rows[12].dunning_since == on(12)
    assert [rows[n].cancellation_pending for n in (11, 12)] == [True, False]
    # From none to a date, a version renews nothing.
    rows = bill(*facts, row=row(12, before=None), through=20)
    assert [rows[n].open_failures for n in (11, 12)] == [1, 1]
    # An event that has set the renewal date makes that of a version irrelevant.
    renewed = sub(5, "subscription_renewed", contract_renewal_date=on(12))
    assert statuses(bill(renewed, row=row(12), through=41), 15, 16) == [paid, lapsed]


def test_facts_without_an_id_belong_to_the_last_subscription_that_started() -> None:
    kinds = (
        ("seats_changed", None),
        ("subscription_started", None),
        ("payment_failed", "B"),
        ("subscription_started", "A"),
        ("seats_changed", "B"),
        ("payment_failed", None),
        ("subscription_renewed", None),
        ("tier_changed", None),
        ("subscription_renewed", "B"),
        ("tier_changed", None),
    )
    events = [sub(n, kind, subscription_id=name) for n, (kind, name) in enumerate(kinds)]
    names, first = subscriptions_of(events)
    assert first == "B"
    assert names == ["B", "B", "B", "A", "B", "A", "A", "A", "B", "B"]
    assert subscriptions_of([sub(0, "seats_changed")]) == ([""], "")


def test_first_paid_at_counts_where_no_start_is_known() -> None:
    row = AccountRow("a", at(0, 8), "starter", 5, 50.0, on(100), first_paid_at=at(10, 10))
    # The failure at 9 precedes the payment at 10, and the failure on day 20 follows it.
    rows = bill(sub(10, "payment_failed", 9), sub(20, "payment_failed"), row=row, through=20)
    assert statuses(rows, 9, 10) == ["never_paid", "paid"]
    assert rows[10].subscription_tier == "starter"
    assert rows[10].monthly_recurring_revenue == 50
    assert rows[10].days_to_renewal == 90
    assert [rows[n].open_failures for n in (10, 20)] == [0, 1]


def test_events_of_one_instant_are_applied_in_order_of_their_kinds() -> None:
    events = [
        SubscriptionEvent(at(5), event_id, kind, {"total_seats": seats})
        for event_id, kind, seats in (
            ("a", "seats_changed", 8),
            ("b", "subscription_started", 7),
            ("c", "subscription_renewed", 6),
            ("d", "subscription_resumed", 5),
            ("e", "payment_recovered", 4),
            ("f", "payment_failed", 3),
            ("g", "subscription_paused", 2),
            ("h", "subscription_cancelled", 1),
        )
    ]
    assert [event.metadata["total_seats"] for event in in_order(events)] == list(range(1, 9))
    assert bill(start(), *events, through=6)[6].status == "paid"


def test_events_of_one_instant_and_kind_are_applied_in_order_of_their_ids() -> None:
    first = SubscriptionEvent(at(5), "1", "seats_changed", {"total_seats": 3})
    second = SubscriptionEvent(at(5), "2", "seats_changed", {"total_seats": 4})
    assert bill(start(), second, first, through=5)[5].total_seats == 4


# --- accounts --------------------------------------------------------------------------------


def account(
    *events: SubscriptionEvent,
    through: int,
    uses: list[Use] | None = None,
    row: AccountRow | None = None,
) -> list[AccountDay]:
    """Return the history of an account created on day 0, by default with eight daily users."""
    if uses is None:
        uses = busy(through)
    return account_history(bill(*events, through=through, row=row), uses)


def busy(through: int, users: int = 8, first: int = 0) -> list[Use]:
    return [Use(f"u{k}", on(n), "p") for n in range(first, through + 1) for k in range(users)]


def named(rows: list[AccountDay], *days: int) -> list[str]:
    return [rows[n].current_state for n in days]


def test_a_trial_lasts_30_days_and_a_payment_after_it_is_new() -> None:
    rows = account(start(50), through=141)
    assert named(rows, 0, 30, 31, 49) == ["trial", "trial", "churned", "churned"]
    # The account pays on day 50 and is new_paid up to day 140 (50 + 90). The end of the trial is not a
    # payment.
    assert named(rows, 50, 80, 81, 140, 141) == ["new_paid"] * 4 + ["active"]


def test_onboarding_hides_low_use_for_30_days() -> None:
    rows = account(start(), through=40, uses=[Use("u", on(0), "p")])
    # One user on 10 seats is 10 %. From day 30 on, the window contains no events.
    assert named(rows, 30, 31) == ["new_paid", "at_risk"]
    assert [rows[n].active_seats for n in (0, 29, 30)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("lapse", "before", "after"),
    [(60, "at_risk", "active"), (61, "churned", "reactivated"), (62, "churned", "reactivated")],
)
def test_a_payment_after_61_lapsed_days_is_a_reactivation(
    lapse: int, before: str, after: str
) -> None:
    # The account is paid up to day 100, the last day of grace. Day 100 + n is the n-th lapsed day, and
    # the account pays again on the day after.
    back = 100 + lapse + 1
    rows = account(start(0, renewal=97), start(back, renewal=900), through=back + 91)
    assert named(rows, 100 + lapse) == [before]
    assert named(rows, back) == [after]
    assert named(rows, back + 90, back + 91) == [after, "active"]


def test_a_failure_or_pause_freezes_and_names_its_reason() -> None:
    rows = account(
        start(),
        sub(5, "subscription_paused", reason="seasonal"),
        sub(7, "payment_failed"),
        sub(9, "payment_recovered"),
        sub(11, "subscription_resumed"),
        through=11,
    )
    assert [rows[n].frozen_reason for n in (4, 5, 7, 9, 10, 11)] == [
        None,
        "seasonal",
        "payment_dunning",
        "seasonal",
        "seasonal",
        None,
    ]
    assert named(rows, 4, 5, 10, 11) == ["new_paid", "frozen", "frozen", "new_paid"]
    assert rows[10].state_since == on(5)


def test_a_pending_cancellation_is_a_risk_until_it_is_voided() -> None:
    rows = account(
        start(),
        sub(120, "subscription_cancelled", effective_date=on(200).isoformat()),
        sub(130, "subscription_renewed"),
        through=130,
    )
    assert named(rows, 119, 120, 129, 130) == ["active", "at_risk", "at_risk", "active"]


def test_low_use_matters_more_near_the_renewal() -> None:
    # Four users on 10 seats are 40 %, which is enough until the renewal on day 200 is 30 days away.
    rows = account(start(0, renewal=200), through=170, uses=busy(170, users=4))
    assert named(rows, 169, 170) == ["active", "at_risk"]


def test_seats_just_bought_do_not_count_against_use() -> None:
    # Four users are 40 % of 10 seats and then 20 % of 20, but still 40 % of the lowest count in 30
    # days.
    rows = account(
        start(),
        sub(120, "seats_changed", total_seats=20),
        through=150,
        uses=busy(150, users=4),
    )
    assert rows[120].seat_utilization_pct == 20
    # On day 148 the window starts on day 119, with 10 seats. On day 149 it starts on day 120.
    assert named(rows, 119, 120, 148, 149) == ["active", "expanding", "expanding", "at_risk"]


def test_use_at_half_of_the_30_days_before_is_a_risk() -> None:
    many = [Use(f"u{k}", on(110), "p") for k in range(10)]
    half = [Use(f"u{k}", on(140), "p") for k in range(5)]
    # Day 140 compares the ten events on D-30 = 110 with the five on D.
    assert named(account(start(), through=140, uses=many + half), 140) == ["at_risk"]
    six = [*half, Use("u0", on(139), "p")]
    assert named(account(start(), through=140, uses=many + six), 140) == ["active"]
    assert named(account(start(), through=140, uses=many[:9] + half[:4]), 140) == ["active"]


def test_changes_show_for_30_days_revenue_first() -> None:
    rows = account(
        start(),
        sub(120, "seats_changed", total_seats=12, monthly_recurring_revenue=900),
        through=150,
    )
    # More seats with less revenue are a smaller contract. D-30 is 119 on day 149 and 120 on day 150.
    assert named(rows, 119, 120, 149, 150) == ["active", "contracting", "contracting", "active"]
    by_tier = account(
        start(), sub(120, "tier_changed", subscription_tier="enterprise"), through=120
    )
    assert named(by_tier, 120) == ["expanding"]
    assert account_transitions(rows)[-2].mrr_change == -100
    assert account_transitions(rows)[-2].seat_change == 2


def test_changes_show_within_new_paid_once_day_30_was_paid() -> None:
    rows = account(start(10), sub(35, "seats_changed", total_seats=11), through=66)
    # Onboarding lasts until day 40. On day 41, D-30 = 11 was paid with 10 seats. On day 65, D-30 is 35.
    assert named(rows, 39, 40, 41, 64, 65) == [
        "new_paid",
        "new_paid",
        "expanding",
        "expanding",
        "new_paid",
    ]


def test_a_new_product_in_use_is_an_expansion_after_90_days() -> None:
    early = [*busy(160), Use("u1", on(80), "q")]
    # The product is first used on day 80, so it is in the window up to day 109. The account is
    # expanding only from day 91.
    assert named(account(start(), through=110, uses=early), 90, 91, 109, 110) == [
        "new_paid",
        "expanding",
        "expanding",
        "active",
    ]
    # The first product does not count. Neither do two products with the same first day.
    both = [Use(f"u{k}", on(120), p) for k in range(8) for p in ("p", "q")]
    assert named(account(start(), through=120, uses=both), 120) == ["active"]


def test_a_lapse_is_at_risk_and_then_churned() -> None:
    rows = account(start(0, renewal=97), through=162)
    # Eight of ten seats are in use, so there is no risk on the renewal date, day 97. The account is
    # lapsed from day 101.
    assert named(rows, 100, 101, 160, 161) == ["active", "at_risk", "at_risk", "churned"]
    assert [
        (move.from_state, move.to_state, move.transition_date, move.days_in_previous_state)
        for move in account_transitions(rows)[-2:]
    ] == [("active", "at_risk", on(101), 10), ("at_risk", "churned", on(161), 60)]
    assert account_transitions(rows)[-2].mrr_change == -1000


def test_the_health_score_is_the_mean_of_its_four_components() -> None:
    # On day 120, 5 of 10 seats and 2 of 5 products are in use. The last use was 10 days ago, and the
    # renewal is in 245 days.
    uses = [Use(f"u{k}", on(110), "p") for k in range(5)] + [Use("u0", on(105), "q")]
    row = account(start(), through=120, uses=uses)[120]
    assert row.seat_utilization_score == 50
    assert row.product_breadth_score == 40
    assert row.recent_activity_score == 75
    assert row.contract_status_score == 100
    assert row.health_score == pytest.approx((50 + 40 + 75 + 100) / 4)
    assert row.health_band == "fair"


@pytest.mark.parametrize(
    ("days", "expected"),
    [(7, 100), (8, 75), (14, 75), (15, 50), (30, 50), (31, 25), (60, 25), (61, 0)],
)
def test_recent_activity_is_graded_at_its_edges(days: int, expected: int) -> None:
    row = account(start(), through=100, uses=[Use("u", on(100 - days), "p")])[100]
    assert row.recent_activity_score == expected


def test_contract_status_is_graded_by_the_first_that_applies() -> None:
    trial = account(through=31, uses=[])
    assert [trial[n].contract_status_score for n in (30, 31)] == [50, 0]
    rows = account(
        start(0, renewal=97),
        sub(5, "payment_failed"),
        sub(6, "payment_recovered"),
        sub(7, "subscription_cancelled", effective_date=on(99).isoformat()),
        sub(8, "subscription_renewed", contract_renewal_date=on(97).isoformat()),
        through=161,
    )
    # The states are failed, canceled, renewed, 31 and 30 days before the renewal, lapsed and churned.
    scores = [rows[n].contract_status_score for n in (4, 5, 6, 7, 8, 66, 67, 101, 160, 161)]
    assert scores == [100, 25, 100, 50, 100, 100, 75, 25, 25, 0]


def test_seats_of_0_are_not_counted() -> None:
    rows = account(
        start(total_seats=0), sub(120, "seats_changed", total_seats=20), through=150, uses=[]
    )
    assert rows[119].seat_utilization_pct is None
    assert rows[119].seat_utilization_score == 100
    # On day 120, 20 seats are no expansion of 0. On day 149, the 0 seats of day 119 leave the window.
    assert named(rows, 119, 120, 148, 149) == ["active", "active", "active", "at_risk"]


def test_seats_that_are_not_stated_are_the_users_of_the_account() -> None:
    row = AccountRow("a", at(0, 8), total_seats=None, first_paid_at=at(0, 8))
    members = [Member("u0", on(0)), Member("u1", on(120)), Member("u2", on(-5), on(130))]
    rows = account_history(bill(through=140, row=row), busy(140, users=1), None, members)
    # u0 and u2; u1 joins; u2 is deleted.
    assert [rows[n].total_seats for n in (0, 119, 120, 129, 130)] == [2, 2, 3, 3, 2]
    assert rows[120].seat_utilization_pct == 100 / 3
    assert named(rows, 119, 120, 129, 130) == ["active"] * 4


def test_users_count_as_seats_of_their_account_of_the_day() -> None:
    row = AccountRow("a", at(0, 8), total_seats=None, first_paid_at=at(0, 8))
    members = [
        Member("u0", on(0), None, Versions("b", ((on(5), "a"), (on(8), "b")))),
        Member("u1", on(2), on(9), Versions("a")),
    ]
    rows = account_history(bill(through=10, row=row), (), None, members)
    assert [row.total_seats for row in rows] == [0, 0, 1, 1, 1, 2, 2, 2, 1, 0, 0]


def test_a_tier_outside_the_list_is_not_compared() -> None:
    rows = account(start(), sub(120, "tier_changed", subscription_tier="free"), through=120)
    assert rows[120].subscription_tier == "free"
    assert named(rows, 120) == ["active"]
    # The seats decide if the tiers cannot be compared.
    both = account(
        start(), sub(120, "tier_changed", subscription_tier="free", total_seats=9), through=120
    )
    assert named(both, 120) == ["contracting"]


def test_more_users_than_seats_exceed_100_percent_but_not_the_score() -> None:
    row = account(start(total_seats=4), through=20)[20]
    assert row.seat_utilization_pct == 200
    assert row.seat_utilization_score == 100
