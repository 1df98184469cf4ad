"""Random histories, for comparing the engine with the oracle.

Drawn distances are the policy's thresholds, one day less, and one or two days more. Dates are around a
year's end and a leap day, in or near `SPAN`: some facts are before its first day or after its last. The
results are the oracle's facts; each returns its rows for the bronze tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.oracle.billing import AccountRow, SubscriptionEvent, Terms
from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.users import QualifyingDay
from monstera_assets_tests.oracle.versions import Versions

SPAN = DateWindow(date(2023, 12, 1), date(2024, 6, 14))
"""The days compared, including the end of 2023 and 29 February 2024."""

RATES = (("CHF", Decimal("1.00375")), ("EUR", Decimal("1.25")))
POLICIES = (
    LifecyclePolicy(exchange_rates=RATES),
    LifecyclePolicy(min_qualifying_events_to_activate=3, dunning_days=7, renewal_grace_days=0),
    LifecyclePolicy(
        new_user_days=14, active_days=7, dormant_days=21, dunning_days=10, exchange_rates=RATES
    ),
    LifecyclePolicy(
        new_user_days=45,
        active_days=14,
        dormant_days=14,
        min_qualifying_events_to_activate=2,
        dunning_days=1,
        renewal_grace_days=1,
    ),
    LifecyclePolicy(
        new_user_days=0,
        active_days=1,
        dormant_days=3,
        min_qualifying_events_to_activate=4,
        dunning_days=0,
    ),
)
"""The framework's thresholds, and others with which other rules coincide."""

CATALOG: Sequence[Mapping[str, object]] = (
    {"product_id": "work", "tier": "family", "is_active": True},
    *(
        {"product_id": node, "tier": tier, "parent_product_id": parent, "is_active": is_active}
        for node, tier, parent, is_active in (
            ("editor", "product", "work", True),
            ("canvas", "feature", "editor", True),
            ("brush", "sub_feature", "canvas", True),
            ("boards", "product", "work", True),
            ("fax", "product", "work", False),
        )
    ),
)
"""Rows of bronze_product_catalog: products, one with three tiers and one retired."""

_NODES = (None, "editor", "canvas", "brush", "boards", "fax")
_COLUMNS = {"reason": "pause_reason"}
"""Metadata keys that have another name in bronze_subscription_events."""
_MOMENTS = (time.min, time(12), time(12), time(18, 30), time.max)
_FACTOR = int(os.environ.get("MONSTERA_EXAMPLES_FACTOR", "1"))


def examples(count: int) -> settings:
    """Return settings of a property that runs the same `count` examples every time.

    The environment variable MONSTERA_EXAMPLES_FACTOR, above 1, multiplies the count and varies the
    examples between runs.
    """
    return settings(
        max_examples=count * _FACTOR,
        derandomize=_FACTOR == 1,
        database=None,
        deadline=None,
        # An example is a batch of independent histories, and a failure shows the one that differs.
        # Shrinking the batch would take minutes and show no more.
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def oracle_policy(policy: LifecyclePolicy) -> OraclePolicy:
    return OraclePolicy(**policy.model_dump(include=set(OraclePolicy.__dataclass_fields__)))


@dataclass(frozen=True)
class ProductEvent:
    """One event of a user."""

    at: datetime
    event_id: str
    node_id: str | None
    is_qualifying: bool
    is_activating: bool = False


@dataclass(frozen=True)
class UserCase:
    """A user and its facts; the first of `deletions` (instants) counts.

    `account_id` is that of the first version. `moves` contains the first day and the account of each
    later version.
    """

    user_id: str
    account_id: str
    signed_up_at: datetime
    events: tuple[ProductEvent, ...]
    deletions: tuple[datetime, ...]
    moves: tuple[tuple[date, str], ...] = ()

    @property
    def accounts(self) -> Versions[str]:
        return Versions(self.account_id, self.moves)

    @property
    def rows(self) -> list[Mapping[str, object]]:
        return version_rows(
            {"user_id": self.user_id, "user_created_at": self.signed_up_at},
            {"account_id": self.account_id},
            ((valid_from, {"account_id": account}) for valid_from, account in self.moves),
        )

    @property
    def event_rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "event_id": event.event_id,
                "entity_id": self.user_id,
                "entity_type": "user",
                "event_timestamp": event.at,
                "event_date": event.at.date(),
                "product_id": event.node_id,
                "is_qualifying_event": event.is_qualifying,
                "is_activation_event": event.is_activating,
            }
            for event in self.events
        ]

    @property
    def deletion_events(self) -> list[tuple[datetime, str]]:
        return sorted((at, f"gone-{self.user_id}-{n}") for n, at in enumerate(self.deletions))

    @property
    def deletion_rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "event_id": event_id,
                "entity_id": self.user_id,
                "entity_type": "user",
                "event_type": "user_deleted",
                "event_timestamp": at,
                "event_date": at.date(),
            }
            for at, event_id in self.deletion_events
        ]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.user_id} of {self.account_id} signed up {self.signed_up_at}",
                *(f"  from {valid_from} of {account}" for valid_from, account in self.moves),
                *(
                    f"  {event.at} {event.event_id} {event.node_id}"
                    f"{' activating' if event.is_activating else ''}"
                    f"{' qualifying' if event.is_qualifying else ''}"
                    for event in sorted(self.events, key=lambda e: (e.at, e.event_id))
                ),
                *(f"  {at} {event_id}" for at, event_id in self.deletion_events),
            ]
        )


def version_rows(
    same: Mapping[str, object],
    first: Mapping[str, object],
    later: Iterable[tuple[date, Mapping[str, object]]],
) -> list[Mapping[str, object]]:
    """Return the rows of an entity's versions.

    The first one may start at any time before the second one; here, it starts the day before.

    Args:
        same: The values of all versions.
        first: The other values of the first version.
        later: The first day and the other values of each later version.
    """
    later = list(later)
    second = min((valid_from for valid_from, _ in later), default=SPAN.last)
    versions = [(second - timedelta(days=1), first), *later]
    return [{**same, "valid_from": valid_from, **values} for valid_from, values in versions]


def known_versions(
    key: str, rows: Iterable[Mapping[str, object]], through: date
) -> list[Mapping[str, object]]:
    """Return the first version of each entity, and the later ones that start up to a day."""
    known: dict[object, list[Mapping[str, object]]] = {}
    for row in rows:
        of_entity = known.setdefault(row[key], [])
        if not of_entity or str(row["valid_from"]) <= str(through):
            of_entity.append(row)
    return [row for of_entity in known.values() for row in of_entity]


def qualifying_days(events: Iterable[ProductEvent]) -> list[QualifyingDay]:
    by_day: dict[date, list[ProductEvent]] = {}
    for event in events:
        if event.is_qualifying:
            by_day.setdefault(event.at.date(), []).append(event)
    return [
        QualifyingDay(day, len(todays), min((event.at, event.event_id) for event in todays)[1])
        for day, todays in by_day.items()
    ]


@dataclass(frozen=True)
class AccountCase:
    """An account and its subscription events, in any order."""

    account: AccountRow
    events: tuple[SubscriptionEvent, ...]

    @property
    def rows(self) -> list[Mapping[str, object]]:
        row = self.account
        same = {
            "account_id": row.account_id,
            "account_created_at": row.account_created_at,
            "first_paid_at": row.first_paid_at,
        }
        later = ((valid_from, vars(terms)) for valid_from, terms in row.later)
        return version_rows(same, vars(row.versions.first), later)

    @property
    def event_rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "event_id": event.event_id,
                "entity_id": self.account.account_id,
                "entity_type": "account",
                "event_type": event.event_type,
                "event_timestamp": event.timestamp,
                "event_date": event.timestamp.date(),
                **{_COLUMNS.get(name, name): value for name, value in event.metadata.items()},
            }
            for event in self.events
        ]

    def __str__(self) -> str:
        row = self.account
        return "\n".join(
            [
                f"{row.account_id} created {row.account_created_at},"
                f" renewal {row.contract_renewal_date}, first paid {row.first_paid_at}",
                *(f"  from {valid_from} {terms}" for valid_from, terms in row.later),
                *(
                    f"  {event.timestamp} {event.event_id} {event.event_type}"
                    + "".join(f" {name}={value}" for name, value in event.metadata.items())
                    for event in sorted(self.events, key=lambda e: (e.timestamp, e.event_id))
                ),
            ]
        )


@dataclass(frozen=True)
class Population:
    """Accounts and their users."""

    accounts: tuple[AccountCase, ...]
    users: tuple[UserCase, ...]

    def facts_of_user(self, user_id: str) -> str:
        """Return a user's facts, including those of the accounts, for a failure message."""
        user = next(user for user in self.users if user.user_id == user_id)
        names = {user.account_id, *(account for _, account in user.moves)}
        accounts = (str(a) for a in self.accounts if a.account.account_id in names)
        return "\n".join((str(user), *accounts))

    def facts_of_account(self, account_id: str) -> str:
        return str(next(a for a in self.accounts if a.account.account_id == account_id))

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Keep a failing example's report short; the test shows the case that differs."""
        printer.text(f"{len(self.accounts)} accounts, {len(self.users)} users")


def edges(*thresholds: int) -> tuple[int, ...]:
    """Return the distances around each threshold: a day less, equal, one and two days more."""
    return tuple(sorted({max(0, t + n) for t in thresholds for n in (-1, 0, 1, 2)}))


def on(offset: int) -> date:
    return SPAN.first + timedelta(days=offset)


def some_days(random: Random, days: Iterable[date]) -> list[date]:
    """Draw the first days of later versions of an entity, on or around one of some days."""
    known = sorted(days)
    return sorted(
        {
            random.choice(known) + timedelta(days=random.choice((-1, 0, 0, 1, 2)))
            for _ in range(random.choice((0, 0, 1, 2, 4)))
        }
    )


_LAST = len(SPAN) - 1
_SIGNUPS = (0, 1, 17, 30, 31, 88, 89, 90, 91, 120, _LAST, _LAST + 1)
"""31 December and 1 January are days 30 and 31; 28 February to 1 March are days 89 to 91."""


def some_user(
    random: Random,
    user_id: str,
    accounts: Sequence[str],
    policy: LifecyclePolicy,
) -> UserCase:
    """Draw a user who signs up in the span, or the day after it, and may change accounts."""
    signup = on(random.choice(_SIGNUPS))
    distances = (1, 1, 2, *edges(policy.active_days, policy.dormant_days))
    day = signup + timedelta(days=random.choice((0, 1, *edges(policy.new_user_days))))
    events: list[ProductEvent] = []
    for _ in range(random.randrange(10)):
        for _ in range(random.randint(1, 3)):
            is_qualifying = random.random() < 0.75
            events.append(
                ProductEvent(
                    datetime.combine(day, random.choice(_MOMENTS)),
                    # Ids decrease over time, so that the order of drawing does not decide ties.
                    f"{user_id}-{999 - len(events)}",
                    random.choice(_NODES),
                    is_qualifying,
                    is_qualifying and random.random() < 0.3,
                )
            )
        day += timedelta(days=random.choice(distances))
    deletions = (0, 1, *edges(policy.new_user_days, policy.active_days), 90, 150)
    near = (signup, on(60), on(120), *(event.at.date() for event in events))
    return UserCase(
        user_id=user_id,
        account_id=random.choice(accounts),
        signed_up_at=datetime.combine(signup, random.choice((time.min, time.max))),
        events=tuple(events),
        deletions=tuple(
            datetime.combine(
                signup + timedelta(days=random.choice(deletions)), random.choice(_MOMENTS)
            )
            for _ in range(random.choice((0, 0, 0, 0, 0, 1, 1, 2)))
        ),
        moves=tuple((day, random.choice(accounts)) for day in some_days(random, near)),
    )


_EVENT_TYPES = {
    "payment_failed": 8,
    "payment_recovered": 4,
    "subscription_renewed": 4,
    "subscription_started": 2,
    "subscription_paused": 3,
    "subscription_resumed": 2,
    "subscription_cancelled": 1,
    "seats_changed": 1,
    "tier_changed": 1,
}
"""Relative frequency of each type."""
_VALUES: Sequence[Mapping[str, object]] = (
    {},
    {},
    {},
    {"total_seats": 5},
    {"total_seats": 0, "subscription_tier": "starter"},
    {"monthly_recurring_revenue": 250.5},
    {"monthly_recurring_revenue": 80.1, "subscription_tier": "free", "total_seats": 3},
    {"subscription_tier": "basic"},
    {"monthly_recurring_revenue": 0, "subscription_tier": "enterprise", "total_seats": 40},
)


def some_account(
    random: Random,
    account_id: str,
    policy: LifecyclePolicy,
    created: Sequence[int] = (-40, -1, 0),
) -> AccountCase:
    """Draw an account with any sequence of subscription events; `created` are offsets to the span."""
    created_at = datetime.combine(on(random.choice(created)), random.choice(_MOMENTS))
    turns = edges(policy.dunning_days, policy.renewal_grace_days)
    names = some_names(random)
    distances = (*(0,) * 6, 1, 1, 1, 2, 3, 7, 14, *turns, 62)
    ahead = (-3, 0, 1, 1, 2, 3, 4, 14, *turns, 60, 90)
    day = created_at.date() + timedelta(days=random.choice((-2, 0, 5, 40)))
    events: list[SubscriptionEvent] = []
    for event_type in random.choices(
        tuple(_EVENT_TYPES), tuple(_EVENT_TYPES.values()), k=random.randrange(17)
    ):
        day += timedelta(days=random.choice(distances))
        metadata = {
            **random.choice(_VALUES),
            "subscription_id": random.choice(names),
            "currency": random.choice(CURRENCIES),
        }
        if event_type == "payment_failed":
            if random.random() < 0.4:
                metadata["grace_until"] = day + timedelta(days=random.choice(ahead))
        elif event_type == "subscription_cancelled" and random.random() < 0.8:
            metadata["effective_date"] = day + timedelta(days=random.choice(ahead))
        if random.random() < 0.35:
            metadata["contract_renewal_date"] = day + timedelta(days=random.choice(ahead))
        if event_type == "subscription_paused" and random.random() < 0.7:
            metadata["reason"] = random.choice(("seasonal", "voluntary_pause"))
        # Ids are unique within the account and do not follow the order of drawing.
        event_id = f"{random.choice('abc')}-{account_id}-{len(events):02}"
        events.append(
            SubscriptionEvent(
                datetime.combine(day, random.choice(_MOMENTS)), event_id, event_type, metadata
            )
        )
    first_paid_at, first_payment = None, random.random()
    if first_payment < 0.5:
        first_paid_at = created_at + timedelta(days=random.choice((-5, 0, 1, 30)))
    elif first_payment < 0.8 and events:
        near = random.choice(events[:6]).timestamp
        first_paid_at = near + timedelta(hours=random.choice((-1, 0, 1)))
    renewal = random.choice((None, None, None, None, -50, 0, 10, 30, 60, 120))
    return AccountCase(
        AccountRow(
            account_id=account_id,
            account_created_at=created_at,
            subscription_tier="professional",
            total_seats=random.choice((10, None)),
            monthly_recurring_revenue=99.0,
            contract_renewal_date=None if renewal is None else on(renewal),
            first_paid_at=first_paid_at,
            later=_later_terms(random, created_at.date(), events, first_paid_at, renewal),
        ),
        tuple(events),
    )


def _later_terms(
    random: Random,
    created: date,
    events: Sequence[SubscriptionEvent],
    first_paid_at: datetime | None,
    renewal: int | None,
) -> tuple[tuple[date, Terms], ...]:
    """Draw versions that start around the facts of an account."""
    near = [created, on(30), *(event.timestamp.date() for event in events)]
    near += [] if first_paid_at is None else [first_paid_at.date()] * 2
    near += [] if renewal is None else [on(renewal)] * 3
    before = None if renewal is None else on(renewal)
    later: list[tuple[date, Terms]] = []
    for day in some_days(random, near):
        before = some_renewal(random, day, before)
        terms = Terms(
            subscription_tier=random.choice(("professional", "starter", "unknown")),
            total_seats=random.choice((10, 20, 0, None)),
            monthly_recurring_revenue=random.choice((99.0, 0.0, 120.25)),
            contract_renewal_date=before,
        )
        later.append((day, terms))
    return tuple(later)


def some_renewal(random: Random, day: date, before: date | None) -> date | None:
    """Draw the renewal date of a version that starts on a day."""
    ahead = (-1, 0, 1, 14, 30, 60, 120)
    return random.choice((before, before, None, *(day + timedelta(days=days) for days in ahead)))


def some_names(random: Random) -> tuple[str | None, ...]:
    """Draw the ids of subscriptions that an account's facts state, None for facts without one."""
    return random.choice(
        ((None,), (None,), ("A",), ("A", "B"), ("B", "A", None), ("C", "A", "B", "B", None, None))
    )


CURRENCIES = (None, None, None, "EUR", "GBP", "CHF")
"""Of these, the policies have a rate for EUR and CHF."""


# A batch is drawn from a generator that the strategy seeds: choices made one by one by Hypothesis
# take longer than the queries, and there is no use for shrinking a batch.
GENERATORS = st.randoms(use_true_random=True)


def account_batches(policy: LifecyclePolicy, *, accounts: int) -> st.SearchStrategy[Population]:
    """Accounts without users, some of them created within the span."""
    return GENERATORS.map(
        lambda random: Population(
            accounts=tuple(
                some_account(random, f"a{n:03}", policy, created=(-40, -1, 0, 0, 30))
                for n in range(accounts)
            ),
            users=(),
        )
    )


def populations(
    policy: LifecyclePolicy, *, users: int, accounts: int
) -> st.SearchStrategy[Population]:
    """Draw users and their accounts, all created before the span begins."""

    def draw(random: Random) -> Population:
        names = [f"a{n:03}" for n in range(accounts)]
        return Population(
            accounts=tuple(some_account(random, name, policy) for name in names),
            users=tuple(some_user(random, f"u{n:03}", names, policy) for n in range(users)),
        )

    return GENERATORS.map(draw)
