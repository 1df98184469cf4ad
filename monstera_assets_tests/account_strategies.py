"""Random accounts with contracts and use, for comparing the account tables with the oracle.

As in `strategies`, drawn distances are around the thresholds. Use comes in runs of regular days, so
that accounts reach all states. Seats are few, and amounts are often near the thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.oracle.accounts import TIERS, Use
from monstera_assets_tests.oracle.billing import AccountRow, SubscriptionEvent
from monstera_assets_tests.strategies import AccountCase, edges

SPAN = DateWindow(date(2023, 12, 1), date(2024, 8, 31))
"""The days compared, enough for a trial, a paid quarter, a lapse and a return."""

POLICIES = (
    LifecyclePolicy(),
    LifecyclePolicy(
        trial_days=14,
        onboarding_days=7,
        new_paid_days=45,
        churn_days=10,
        reactivated_days=20,
        dunning_days=5,
        breadth_target=2,
    ),
    LifecyclePolicy(
        trial_days=0,
        onboarding_days=0,
        new_paid_days=0,
        churn_days=1,
        reactivated_days=0,
        dunning_days=0,
        breadth_target=1,
    ),
)
"""The framework's thresholds, and others with which other rules coincide."""

_MOMENTS = st.sampled_from((time.min, time(12), time(12), time(18, 30), time.max))


@dataclass(frozen=True)
class ContractCase(AccountCase):
    """An account, its subscription events and its users' activity, in any order."""

    uses: tuple[Use, ...]
    idle: tuple[tuple[str, date], ...]

    @property
    def user_rows(self) -> list[Mapping[str, object]]:
        users = {use.user_id for use in self.uses} | {user_id for user_id, _ in self.idle}
        return [
            {"user_id": user_id, "account_id": self.account.account_id} for user_id in sorted(users)
        ]

    @property
    def activity_rows(self) -> list[Mapping[str, object]]:
        qualifying = Counter[tuple[str, str | None, date]]()
        for use in self.uses:
            qualifying[use.user_id, use.product_id, use.day] += use.events
        for user_id, day in self.idle:
            qualifying[user_id, "editor", day] += 0
        return [
            {
                "user_id": user_id,
                "product_id": product_id,
                "activity_date": day,
                "events": events + 1,
                "qualifying_events": events,
            }
            for (user_id, product_id, day), events in qualifying.items()
        ]

    def __str__(self) -> str:
        row = self.account
        return "\n".join(
            [
                super().__str__(),
                f"  {row.total_seats} seats, {row.monthly_recurring_revenue} a month,"
                f" {row.subscription_tier}",
                *(
                    f"  {use.day} {use.user_id} {use.product_id} {use.events} qualifying"
                    for use in sorted(self.uses, key=lambda use: (use.day, use.user_id))
                ),
            ]
        )


@dataclass(frozen=True)
class Accounts:
    """A batch of accounts."""

    cases: tuple[ContractCase, ...]

    def facts_of_account(self, account_id: str) -> str:
        return str(next(case for case in self.cases if case.account.account_id == account_id))

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Keep a failing example's report short; the test shows the account that differs."""
        printer.text(f"{len(self.cases)} accounts")


@st.composite
def batches(draw: st.DrawFn, policy: LifecyclePolicy, *, accounts: int = 25) -> Accounts:
    return Accounts(tuple(draw(contract_cases(f"a{n:02}", policy)) for n in range(accounts)))


_CREATIONS = st.sampled_from((-60, -31, -30, -1, 0, 1, 28, 60, 90, len(SPAN)))
_IN_TABLE = st.tuples(
    _MOMENTS,
    st.sampled_from(TIERS),
    st.sampled_from((0, 1, 1, 2, 3, 4, 10)),
    st.sampled_from((0.0, 10.5, 20.0)),
    st.sampled_from((None, None, 0, 30, 61, 120, 365)),
)
"""Time of creation, tier, seats, revenue, days to the renewal date."""
_CHARACTERS = st.tuples(st.sampled_from((False, True)), st.sampled_from((None, None, 7, 13, 20)))
"""Whether only use can put the contract at risk, and the interval of days on which all users work."""


@st.composite
def contract_cases(draw: st.DrawFn, account_id: str, policy: LifecyclePolicy) -> ContractCase:
    """Draw an account created in the span, up to two months before it, or the day after it."""
    created = SPAN.first + timedelta(days=draw(_CREATIONS))
    at, tier, seats, revenue, renewal = draw(_IN_TABLE)
    is_loyal, steady = draw(_CHARACTERS)
    first, events_after = _subscription_events(policy)
    first_event = created + timedelta(days=draw(first))
    events = _dated(account_id, first_event, draw(events_after), is_loyal=is_loyal)
    first_paid_at = None
    if (payment := draw(_first_payments(policy))) is not None:
        near, distance = payment
        if near is None:
            first_paid_at = datetime.combine(created, time(9)) + timedelta(days=distance)
        elif near < len(events):
            first_paid_at = events[near].timestamp + timedelta(hours=distance)
    uses, idle = list[Use](), list[tuple[str, date]]()
    for n, (stretches, looked) in enumerate(draw(_USE)):
        user_id = f"{account_id}-u{n}"
        if steady is not None:
            stretches = [*stretches[1:], (0, steady, len(SPAN), "editor", 2)]
        uses += [
            Use(user_id, created + timedelta(days=day), product_id, count)
            for start, step, times, product_id, count in stretches
            for day in range(start, start + step * times, step)
            if created + timedelta(days=day) <= SPAN.last + timedelta(days=1)
        ]
        idle += [(user_id, created + timedelta(days=day)) for day in looked]
    return ContractCase(
        AccountRow(
            account_id=account_id,
            account_created_at=datetime.combine(created, at),
            subscription_tier=tier,
            total_seats=seats,
            monthly_recurring_revenue=revenue,
            contract_renewal_date=_days_after(created, renewal),
            first_paid_at=first_paid_at,
        ),
        events,
        tuple(uses),
        tuple(idle),
    )


_OPENERS = ("subscription_started", "subscription_renewed")
_ANY = (
    *("subscription_started", "subscription_renewed", "subscription_renewed"),
    *("subscription_cancelled", "subscription_paused", "subscription_resumed"),
    *("seats_changed", "seats_changed", "tier_changed", "tier_changed"),
    *("payment_failed", "payment_failed", "payment_recovered"),
)
_FOLLOWS: Mapping[str, Sequence[str]] = {
    "": (*_OPENERS, *_OPENERS, *_ANY),
    "payment_failed": ("payment_recovered", "subscription_renewed", "payment_failed", *_ANY),
    "subscription_paused": ("subscription_resumed", *_OPENERS, *_OPENERS, *_ANY),
    "subscription_cancelled": (*_OPENERS, *_OPENERS, *_ANY),
}
"""Events that can come next, likely ones repeated; after other types, any event."""
_CHANGES = ("total_seats", "monthly_recurring_revenue", "subscription_tier")

DrawnEvent: TypeAlias = tuple[
    int,
    int,
    tuple[int | None, float | None, str | None],
    tuple[bool, int | None],
    str | None,
    time,
    str,
]


@cache
def _subscription_events(
    policy: LifecyclePolicy,
) -> tuple[st.SearchStrategy[int], st.SearchStrategy[list[DrawnEvent]]]:
    """Draw the days from creation to the first event, and the arguments of `_dated` per event."""
    first = (-3, 0, 0, 1, 10, *edges(policy.trial_days, policy.trial_days + 61))
    gaps = (
        *(0, 0, 0, 1, 1, 2, 5, 15),
        *edges(30, policy.dunning_days, policy.churn_days, policy.onboarding_days),
        *edges(policy.new_paid_days, policy.reactivated_days),
    )
    ahead = (None, None, None, -2, 0, 1, 5, *edges(30), 60, 90)
    event = st.tuples(
        st.sampled_from(gaps),
        st.integers(0, 51),
        st.tuples(
            st.sampled_from((None, None, 0, 1, 1, 2, 3, 4, 6, 7, 10)),
            st.sampled_from((None, None, 0.0, 10.5, 20.0, 20.0, 30.25)),
            st.sampled_from((None, None, *TIERS)),
        ),
        st.tuples(st.sampled_from((False, False, True)), st.sampled_from(ahead)),
        st.sampled_from((None, "seasonal", "voluntary_pause")),
        _MOMENTS,
        st.sampled_from("abc"),
    )
    return st.sampled_from(first), st.lists(event, max_size=9)


def _dated(
    account_id: str, first: date, drawn: Sequence[DrawnEvent], *, is_loyal: bool
) -> tuple[SubscriptionEvent, ...]:
    """Date the drawn events; a loyal account misses no renewal date and cancels nothing."""
    day, kind = first, ""
    events = list[SubscriptionEvent]()
    for n, (gap, choice, values, (says_renewal, ahead), reason, moment, letter) in enumerate(drawn):
        day += timedelta(days=gap if n else 0)
        kinds = _FOLLOWS.get(kind, _ANY)
        if is_loyal:
            kinds = [k for k in kinds if k != "subscription_cancelled"] if n else _OPENERS
            ahead = None
        kind = kinds[choice % len(kinds)]
        metadata = dict[str, object]()
        if kind not in {"payment_failed", "subscription_paused", "subscription_cancelled"}:
            metadata |= zip(_CHANGES, values, strict=True)
        if kind in _OPENERS or says_renewal:
            metadata["contract_renewal_date"] = _days_after(day, ahead)
        if kind == "subscription_cancelled":
            metadata["effective_date"] = _days_after(day, ahead)
        if kind == "subscription_paused":
            metadata["reason"] = reason
        # Ids are unique within the account and do not follow the order of drawing.
        event_id = f"{letter}-{account_id}-{n:02}"
        events.append(SubscriptionEvent(datetime.combine(day, moment), event_id, kind, metadata))
    return tuple(events)


def _days_after(day: date, days: int | None) -> date | None:
    return None if days is None else day + timedelta(days=days)


@cache
def _first_payments(
    policy: LifecyclePolicy,
) -> st.SearchStrategy[tuple[int | None, int] | None]:
    """Draw first payments: hours from an event, or days from creation, or none."""
    return st.sampled_from(
        [
            *(None, None, None),
            *((None, days) for days in (-5, 0, 10, *edges(policy.trial_days))),
            *((event, hours) for event in range(3) for hours in (-1, 0, 1)),
        ]
    )


_STRETCHES = st.tuples(
    st.sampled_from((-10, 0, 0, 1, 20, 31, *edges(60, 90), 120, 150)),
    st.sampled_from((1, 5, 10, 15, 20, 28, 29, 30, 31)),
    st.sampled_from((1, 1, 2, 4, 8, 16)),
    st.sampled_from((None, "editor", "editor", "boards", "charts", "retired")),
    st.sampled_from((1, 1, 2, 5, 6, 10, 11)),
)
"""First day after creation, days between, days of use, product, events per day."""
_USE = st.lists(
    st.tuples(
        st.lists(_STRETCHES, min_size=1, max_size=3),
        st.lists(st.sampled_from((0, 40, 95, 130)), max_size=1),
    ),
    max_size=4,
)
"""Each user's use, and a day with an event that does not qualify."""
