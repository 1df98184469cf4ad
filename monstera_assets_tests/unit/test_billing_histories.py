"""The billing histories agree with themselves: days, movements, kinds and totals.

No product code runs here. The histories are expectations, and a slip in them would be found late. The
literal implementation of section 5 in the tests agrees with them, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from monstera_assets_tests.inputs.billing_histories import (
    EXCHANGE_RATES,
    HISTORIES,
    Billing,
    History,
    Movement,
    MovementKind,
    Stretch,
)
from monstera_assets_tests.oracle.accounts import Member, Use, account_history
from monstera_assets_tests.oracle.billing import (
    KNOWN_TYPES,
    AccountRow,
    SubscriptionEvent,
    Terms,
    billing_history,
)
from monstera_assets_tests.oracle.policy import OraclePolicy

SIGNS: dict[MovementKind, int] = {
    "new": 1,
    "reactivated": 1,
    "expansion": 1,
    "contraction": -1,
    "churned": -1,
}
MONTHS = ["January", "February", "March", "April", "May", "June"]
SUM = re.compile(rf"(\d+)(?: ({'|'.join(MONTHS)}))? \+ (\d+) = (\d+) ({'|'.join(MONTHS)})\b")
each_history = pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.account_id)


def revenues(history: History) -> Iterator[tuple[date, int, Stretch]]:
    """Yield each day with the revenue of the day before and the day's stretch."""
    before = history.opening
    for day, stretch in history.days():
        yield day, before, stretch
        before = stretch.revenue


def kind(before: Billing, after: Billing, difference: int) -> MovementKind:
    """Return the kind of a difference in revenue, by section 8 of the framework."""
    if after == "paying" and before != "paying":
        return "new" if before == "never_paid" else "reactivated"
    if after != "paying":
        return "churned"
    return "expansion" if difference > 0 else "contraction"


def rank(stretch: Stretch) -> int:
    """Return the rank of a tier, 0 for one without."""
    return {"starter": 1, "professional": 2, "enterprise": 3}.get(stretch.tier, 0)


def signed(movements: tuple[Movement, ...]) -> Counter[tuple[date, str]]:
    """Return the net amount of the movements per day and tier."""
    net: Counter[tuple[date, str]] = Counter()
    for movement in movements:
        net[movement.date, movement.tier] += SIGNS[movement.kind] * movement.amount
    return net


def test_names_and_ids_are_unique() -> None:
    assert len(HISTORIES) >= 24
    for names in (
        [history.name for history in HISTORIES],
        [history.account_id for history in HISTORIES],
        [fact.event_id for history in HISTORIES for fact in history.facts],
        [user.user_id for history in HISTORIES for user in history.users],
    ):
        assert [name for name, count in Counter(names).items() if count > 1] == []


@each_history
def test_stretches_are_contiguous_and_differ(history: History) -> None:
    assert 1 <= len(history.stretches) <= 6
    assert sum(1 for _ in history.days()) <= 150
    assert all(stretch.first <= stretch.last for stretch in history.stretches)
    assert history.stretches[0].first >= history.created_at
    for one, following in pairwise(history.stretches):
        assert following.first == one.last + timedelta(days=1)
        values = (one.state, one.billing, one.revenue, one.tier, one.seats, one.renewal)
        assert values != (
            *(following.state, following.billing, following.revenue),
            *(following.tier, following.seats, following.renewal),
        ) or (one.frozen_reason != following.frozen_reason)


@each_history
def test_values_agree_with_what_the_account_pays(history: History) -> None:
    for stretch in history.stretches:
        assert (stretch.state == "frozen") == (stretch.frozen_reason is not None)
        if stretch.billing == "paying":
            assert stretch.state not in {"trial", "churned"}
        else:
            assert (stretch.revenue, stretch.renewal) == (0, None)
        if stretch.billing == "never_paid":
            assert stretch.tier == "trial"
            assert stretch.state in {"trial", "churned"}
        if stretch.billing == "lapsed":
            assert stretch.state in {"at_risk", "churned"}


@each_history
def test_a_lapsed_account_keeps_seats_and_tier_and_churns_on_day_61(history: History) -> None:
    last_paid: Stretch | None = None
    for day, stretch in history.days():
        if stretch.billing == "paying":
            last_paid = stretch
        elif last_paid is not None:
            assert (stretch.seats, stretch.tier) == (last_paid.seats, last_paid.tier)
            lapsed_for_61_days = (day - last_paid.last).days >= 61
            assert (stretch.state == "churned") == lapsed_for_61_days, day


@each_history
def test_billing_goes_from_never_paid_to_paying_and_lapsed(history: History) -> None:
    following = {"never_paid": {"paying"}, "paying": {"lapsed"}, "lapsed": {"paying"}}
    for one, other in pairwise(stretch.billing for stretch in history.stretches):
        assert one == other or other in following[one]


@each_history
def test_movements_are_the_differences_of_revenue(history: History) -> None:
    first = history.stretches[0]
    begins_at_creation = first.first == history.created_at
    billing: Billing = "never_paid" if begins_at_creation else first.billing
    expected = []
    for day, before, stretch in revenues(history):
        difference = stretch.revenue - before
        if difference:
            of_kind = kind(billing, stretch.billing, difference)
            expected.append(Movement(day, of_kind, abs(difference), stretch.tier))
        billing = stretch.billing
    assert list(history.movements) == expected


@each_history
def test_kinds_follow_each_other(history: History) -> None:
    kinds = [movement.kind for movement in history.movements]
    assert kinds.count("new") <= 1
    assert "new" not in kinds[1:]
    lapsed = history.stretches[0].billing == "lapsed"
    for one in kinds:
        assert (one == "reactivated") == lapsed, kinds
        lapsed = one == "churned"


@each_history
def test_movements_reconcile_per_account(history: History) -> None:
    net = sum(signed(history.movements).values())
    assert history.opening + net == history.stretches[-1].revenue
    assert all(movement.amount > 0 for movement in history.movements)


def test_movements_reconcile_per_tier_and_in_total() -> None:
    opening: Counter[tuple[date, str]] = Counter()
    closing: Counter[tuple[date, str]] = Counter()
    movements: Counter[tuple[date, str]] = Counter()
    for history in HISTORIES:
        movements.update(signed(history.movements))
        for day, before, stretch in revenues(history):
            opening[day, stretch.tier] += before
            closing[day, stretch.tier] += stretch.revenue
    assert movements.keys() <= closing.keys()
    for key in closing:
        assert opening[key] + movements[key] == closing[key], key
    for day in {day for day, _ in closing}:
        of_day = [key for key in closing if key[0] == day]
        net = sum(movements[key] for key in of_day)
        assert sum(opening[key] for key in of_day) + net == sum(closing[key] for key in of_day)


@each_history
def test_facts_are_dated_within_the_history(history: History) -> None:
    last = history.stretches[-1].last
    assert all(fact.timestamp.date() <= last for fact in history.facts)
    assert all(version.valid_from <= last for version in history.versions)
    listed = set(history.facts_on_lapsed_subscriptions)
    assert listed <= {fact.event_id for fact in history.facts}


@each_history
def test_revenue_changes_only_with_a_fact_a_version_or_a_lapse(history: History) -> None:
    stated = {fact.timestamp.date() for fact in history.facts}
    stated |= {version.valid_from for version in history.versions}
    stated |= {version.first_paid_at for version in history.versions if version.first_paid_at}
    for movement in history.movements:
        assert movement.date in stated or movement.kind in {"churned", "contraction"}


@each_history
def test_the_note_derives_a_day_from_a_rule(history: History) -> None:
    bullets = r"\((End|Failure|Pause|Cancellation|Order|Values|Subscriptions|First payment)"
    assert history.name[0].islower()
    assert not history.name.endswith(".")
    assert re.search(rf"rules? \d|{bullets}", history.note), history.note


@each_history
def test_use_is_one_event_per_user_and_day(history: History) -> None:
    use = list(history.use())
    assert len(use) == len(set(use))
    last = history.stretches[-1].last
    of_last_day = {user_id for user_id, day in use if day == last}
    assert of_last_day == {user.user_id for user in history.users if user.deleted_at is None}
    assert all(day <= last for _, day in use)


@each_history
def test_growth_follows_from_the_day_30_days_before(history: History) -> None:
    """Rules 7 and 8, from the expected values only.

    Days before a history that begins after its account's creation are like its first day.
    """
    days = dict(history.days())
    first = history.stretches[0]
    filled_in = all(version.total_seats is None for version in history.versions)
    for day, stretch in days.items():
        if stretch.state not in {"active", "new_paid", "expanding", "contracting"}:
            continue
        before = days.get(day - timedelta(days=30))
        if before is None and first.first > history.created_at:
            before = first
        difference = 0
        if before is not None and before.billing == "paying":
            difference = stretch.revenue - before.revenue or rank(stretch) - rank(before)
            if not filled_in and stretch.seats and before.seats:
                difference = difference or stretch.seats - before.seats
        grows = {"expanding": 1, "contracting": -1}.get(stretch.state, 0)
        assert grows == (difference > 0) - (difference < 0), day


@each_history
def test_use_is_high_where_the_state_does_not_rest_on_it(history: History) -> None:
    """Rule 6: no day that is growing, shrinking or active has a utilization under 50 %."""
    days = dict(history.days())
    users_of: dict[date, set[str]] = {}
    for user_id, day in history.use():
        users_of.setdefault(day, set()).add(user_id)
    for day, stretch in days.items():
        if stretch.state not in {"active", "expanding", "contracting"}:
            continue
        window = [day - timedelta(days=number) for number in range(30)]
        seats = [days[one].seats for one in window if one in days]
        active_seats = set().union(*(users_of.get(one, set()) for one in window))
        assert 0 in seats or 2 * len(active_seats) >= min(seats), day


def test_the_sums_of_the_notes_are_right() -> None:
    sums = [found for history in HISTORIES for found in SUM.findall(history.note)]
    assert len(sums) >= 40
    for day, month, added, result_day, result_month in sums:
        start = date(2025, MONTHS.index(month or result_month) + 1, int(day))
        result = date(2025, MONTHS.index(result_month) + 1, int(result_day))
        assert start + timedelta(days=int(added)) == result, f"{day} {month} + {added}"


# --- the literal implementation ---------------------------------------------------------------

with_accounts = pytest.mark.parametrize(
    "history", [h for h in HISTORIES if h.versions], ids=lambda history: history.account_id
)


def midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time.min)


def row_of(history: History) -> AccountRow:
    first, *later = history.versions
    return AccountRow(
        history.account_id,
        datetime.combine(history.created_at, time.min),
        first.subscription_tier,
        first.total_seats,
        first.monthly_recurring_revenue,
        first.contract_renewal_date,
        midnight(history.versions[-1].first_paid_at),
        tuple(
            (
                version.valid_from,
                Terms(
                    version.subscription_tier,
                    version.total_seats,
                    version.monthly_recurring_revenue,
                    version.contract_renewal_date,
                ),
            )
            for version in later
        ),
    )


@with_accounts
def test_the_literal_implementation_agrees_on_every_day(history: History) -> None:
    policy = OraclePolicy(exchange_rates=tuple(EXCHANGE_RATES.items()))
    events = [
        SubscriptionEvent(fact.timestamp, fact.event_id, fact.event_type, fact.metadata)
        for fact in history.facts
        if fact.event_type in KNOWN_TYPES
    ]
    ignored: list[str] = []
    last = history.stretches[-1].last
    billing = billing_history(row_of(history), events, last, policy, ignored)
    uses = [Use(user_id, day, "video") for user_id, day in history.use()]
    members = [
        Member(
            user.user_id,
            user.created_at,
            None if user.deleted_at is None else user.deleted_at.date(),
        )
        for user in history.users
    ]
    days = {row.snapshot_date: row for row in account_history(billing, uses, policy, members)}
    phases = {"never_paid": "never_paid", "paid": "paying", "lapsed": "lapsed"}
    status = {row.snapshot_date: phases[row.status] for row in billing}
    for day, stretch in history.days():
        row = days[day]
        found = (
            *(row.current_state, status[day], row.monthly_recurring_revenue),
            *(row.subscription_tier, row.total_seats, row.contract_renewal_date, row.frozen_reason),
        )
        assert found == (
            *(stretch.state, stretch.billing, Decimal(stretch.revenue)),
            *(stretch.tier, stretch.seats, stretch.renewal, stretch.frozen_reason),
        ), day
    assert sorted(ignored) == sorted(history.facts_on_lapsed_subscriptions)
