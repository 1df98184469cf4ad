"""Random accounts with contracts and use, for comparing the account tables with the oracle.

As in `strategies`, drawn distances are around the thresholds. Use comes in runs of regular days, so
that accounts reach all states. Seats are few, and amounts are often near the thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from random import Random

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.inputs.strategies import (
    CURRENCIES,
    GENERATORS,
    RATES,
    AccountCase,
    edges,
    some_days,
    some_names,
    some_renewal,
    version_rows,
)
from monstera_assets_tests.oracle.accounts import Member, Use
from monstera_assets_tests.oracle.billing import TIERS, AccountRow, SubscriptionEvent, Terms
from monstera_assets_tests.oracle.versions import Versions, activity_of_account

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
        renewal_grace_days=1,
        exchange_rates=RATES,
        breadth_target=2,
    ),
    LifecyclePolicy(
        trial_days=0,
        onboarding_days=0,
        new_paid_days=0,
        churn_days=1,
        reactivated_days=0,
        dunning_days=0,
        renewal_grace_days=0,
        breadth_target=1,
    ),
)
"""The framework's thresholds, and others with which other rules coincide."""

_MOMENTS = (time.min, time(12), time(12), time(18, 30), time.max)


@dataclass(frozen=True)
class ContractCase(AccountCase):
    """An account, its subscription events, and the users who are in it first, with their activity."""

    uses: tuple[Use, ...]
    idle: tuple[tuple[str, date], ...]
    members: tuple[Member, ...]

    def first_paid_by(self, day: date) -> bool:
        payments = [e.timestamp for e in self.events if e.event_type in _OPENERS]
        if self.account.first_paid_at is not None:
            payments.append(self.account.first_paid_at)
        return any(paid_at.date() <= day for paid_at in payments)

    def with_moves(self, random: Random, accounts: Sequence[str]) -> ContractCase:
        """Let some of the users change accounts."""
        return replace(
            self,
            members=tuple(
                replace(
                    member,
                    accounts=Versions(
                        self.account.account_id,
                        tuple((day, random.choice(accounts)) for day in self._moves(random)),
                    ),
                )
                for member in self.members
            ),
        )

    def _moves(self, random: Random) -> list[date]:
        near = [
            *(self.account.account_created_at.date(), SPAN.first + timedelta(days=100)),
            *(use.day for use in self.uses[-8:]),
            *(member.joined for member in self.members),
            *(event.timestamp.date() for event in self.events),
        ]
        return some_days(random, near) if random.random() < 0.6 else []

    @property
    def user_rows(self) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = []
        for member in self.members:
            accounts = member.accounts or Versions(self.account.account_id)
            rows += version_rows(
                {"user_id": member.user_id, "user_created_at": member.joined},
                {"account_id": accounts.first},
                ((valid_from, {"account_id": account}) for valid_from, account in accounts.later),
            )
        return rows

    @property
    def deletion_rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "event_id": f"deletion-of-{member.user_id}",
                "entity_id": member.user_id,
                "entity_type": "user",
                "event_type": "user_deleted",
                "event_timestamp": member.deleted,
                "event_date": member.deleted,
            }
            for member in self.members
            if member.deleted is not None
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
                    f"  {member.user_id} joined {member.joined}, deleted {member.deleted},"
                    f" {member.accounts}"
                    for member in self.members
                ),
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

    @property
    def members(self) -> list[Member]:
        return [member for case in self.cases for member in case.members]

    def uses_of(self, account_id: str) -> list[Use]:
        """Return the qualifying events of users of an account on their days."""
        accounts = {
            member.user_id: member.accounts or Versions(case.account.account_id)
            for case in self.cases
            for member in case.members
        }
        uses = [use for case in self.cases for use in case.uses]
        return activity_of_account(account_id, uses, accounts)

    def case(self, account_id: str) -> ContractCase:
        return next(case for case in self.cases if case.account.account_id == account_id)

    def facts_of_account(self, account_id: str) -> str:
        return "\n".join(
            (
                str(self.case(account_id)),
                "in this account:",
                *(f"  {use}" for use in sorted(self.uses_of(account_id), key=lambda use: use.day)),
                "members at times:",
                *(
                    f"  {member}"
                    for member in self.members
                    if member.accounts
                    and account_id in (member.accounts.first, *dict(member.accounts.later).values())
                ),
            )
        )

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Keep a failing example's report short; the test shows the account that differs."""
        printer.text(f"{len(self.cases)} accounts")


def batches(policy: LifecyclePolicy, *, accounts: int = 25) -> st.SearchStrategy[Accounts]:
    """Accounts with anything in their contracts and any use."""
    names = [f"a{n:02}" for n in range(accounts)]
    return GENERATORS.map(
        lambda random: Accounts(
            tuple(some_contract(random, name, policy).with_moves(random, names) for name in names)
        )
    )


def some_contract(random: Random, account_id: str, policy: LifecyclePolicy) -> ContractCase:
    """An account created in the span, up to two months before it, or on the day after it."""
    created = SPAN.first + timedelta(
        days=random.choice((-60, -31, -30, -1, 0, 1, 28, 60, 90, len(SPAN)))
    )
    # Loyal: nothing but use puts the contract at risk. Steady: all users work every so many days.
    is_loyal, steady = random.random() < 0.5, random.choice((None, None, 7, 13, 20))
    events = _subscription_events(random, account_id, created, policy, is_loyal=is_loyal)
    uses, idle, members = list[Use](), list[tuple[str, date]](), list[Member]()
    for n in range(random.randrange(5)):
        user_id = f"{account_id}-u{n}"
        joined = created + timedelta(days=random.choice((-40, -10, 0, 0, 1, 31, 60, 60, 61, 130)))
        members.append(
            Member(user_id, joined, _days_after(joined, random.choice((None, None, 0, 29, 30, 90))))
        )
        stretches = [_stretch(random) for _ in range(random.randint(1, 3))]
        if steady is not None:
            stretches = [*stretches[1:], (0, steady, len(SPAN), "editor", 2)]
        uses += [
            Use(user_id, created + timedelta(days=day), product_id, count)
            for start, step, times, product_id, count in stretches
            for day in range(start, start + step * times, step)
            if created + timedelta(days=day) <= SPAN.last + timedelta(days=1)
        ]
        if random.random() < 0.5:
            idle.append((user_id, created + timedelta(days=random.choice((0, 40, 95, 130)))))
    renewal = _days_after(created, random.choice((None, None, 0, 30, 61, 120, 365)))
    return ContractCase(
        AccountRow(
            account_id=account_id,
            account_created_at=datetime.combine(created, random.choice(_MOMENTS)),
            subscription_tier=random.choice((*TIERS, *_OTHER_TIERS)),
            total_seats=random.choice((None, None, None, 0, 1, 1, 2, 3, 4, 10)),
            monthly_recurring_revenue=random.choice((0.0, 10.5, 20.0)),
            contract_renewal_date=renewal,
            first_paid_at=_first_paid_at(random, created, events, policy),
            later=_later_terms(random, created, events, renewal),
        ),
        events,
        tuple(uses),
        tuple(idle),
        tuple(members),
    )


def _later_terms(
    random: Random, created: date, events: Sequence[SubscriptionEvent], renewal: date | None
) -> tuple[tuple[date, Terms], ...]:
    """Draw versions that start around the facts of an account."""
    days = (0, 30, 61, 120)
    near = [created + timedelta(days=n) for n in days] + [e.timestamp.date() for e in events]
    later: list[tuple[date, Terms]] = []
    for day in some_days(random, near):
        renewal = some_renewal(random, day, renewal)
        terms = Terms(
            subscription_tier=random.choice((*TIERS, *_OTHER_TIERS)),
            total_seats=random.choice((None, None, 0, 1, 2, 3, 10)),
            monthly_recurring_revenue=random.choice((0.0, 10.5, 20.0)),
            contract_renewal_date=renewal,
        )
        later.append((day, terms))
    return tuple(later)


_OTHER_TIERS = ("unknown", "free")
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
"""What may come next, the likely more often; after other events, anything."""


def _subscription_events(
    random: Random, account_id: str, created: date, policy: LifecyclePolicy, *, is_loyal: bool
) -> tuple[SubscriptionEvent, ...]:
    """Draw any sequence; a loyal account has no renewal date to miss and cancels nothing."""
    gaps = (
        *(0, 0, 0, 1, 1, 2, 5, 15),
        *edges(30, policy.dunning_days, policy.churn_days, policy.onboarding_days),
        *edges(policy.renewal_grace_days),
        *edges(policy.new_paid_days, policy.reactivated_days),
    )
    first = (-3, 0, 0, 1, 10, *edges(policy.trial_days, policy.trial_days + 61))
    day, kind, names = created, "", some_names(random)
    events = list[SubscriptionEvent]()
    for n in range(random.randrange(10)):
        day += timedelta(days=random.choice(gaps if n else first))
        kinds = _FOLLOWS.get(kind, _ANY)
        if is_loyal:
            kinds = [k for k in kinds if k != "subscription_cancelled"] if n else _OPENERS
        kind = random.choice(kinds)
        ahead = random.choice((None, None, None, -2, 0, 1, 5, *edges(30), 60, 90))
        metadata: dict[str, object] = {
            "subscription_id": random.choice(names),
            "currency": random.choice(CURRENCIES),
        }
        if kind not in {"payment_failed", "subscription_paused", "subscription_cancelled"}:
            metadata["total_seats"] = random.choice((None, None, 0, 1, 1, 2, 3, 4, 6, 7, 10))
            metadata["monthly_recurring_revenue"] = random.choice(
                (None, None, 0.0, 10.5, 20.0, 20.0, 30.25)
            )
            metadata["subscription_tier"] = random.choice((None, None, *TIERS, *_OTHER_TIERS))
        if kind in _OPENERS or random.random() < 1 / 3:
            metadata["contract_renewal_date"] = None if is_loyal else _days_after(day, ahead)
        if kind == "subscription_cancelled":
            metadata["effective_date"] = _days_after(day, ahead)
        if kind == "subscription_paused":
            metadata["reason"] = random.choice((None, "seasonal", "voluntary_pause"))
        # Ids that do not follow the order of drawing, within the account unique.
        event_id = f"{random.choice('abc')}-{account_id}-{n:02}"
        moment = datetime.combine(day, random.choice(_MOMENTS))
        events.append(SubscriptionEvent(moment, event_id, kind, metadata))
    return tuple(events)


def _days_after(day: date, days: int | None) -> date | None:
    return None if days is None else day + timedelta(days=days)


def _first_paid_at(
    random: Random, created: date, events: Sequence[SubscriptionEvent], policy: LifecyclePolicy
) -> datetime | None:
    """Draw a day around creation, a time within an hour of an early event, or none."""
    near, distance = random.choice(
        [
            *((None, None),) * 3,
            *((None, days) for days in (-5, 0, 10, *edges(policy.trial_days))),
            *((event, hours) for event in range(3) for hours in (-1, 0, 1)),
        ]
    )
    if distance is None:
        return None
    if near is None:
        return datetime.combine(created, time(9)) + timedelta(days=distance)
    return events[near].timestamp + timedelta(hours=distance) if near < len(events) else None


def _stretch(random: Random) -> tuple[int, int, int, str | None, int]:
    """Draw first day after creation, days between, days of use, product, events per day."""
    return (
        random.choice((-10, 0, 0, 1, 20, 31, *edges(60, 90), 120, 150)),
        random.choice((1, 5, 10, 15, 20, 28, 29, 30, 31)),
        random.choice((1, 1, 2, 4, 8, 16)),
        random.choice((None, "editor", "editor", "boards", "charts", "retired")),
        random.choice((1, 1, 2, 5, 6, 10, 11)),
    )
