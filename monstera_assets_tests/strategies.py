"""Random histories, for comparing the engine with the oracle.

Drawn days crowd where the rules turn: distances are the policy's own thresholds, one day less and
one or two more; dates lie around a year's end and a leap day. What comes out are the facts as the
oracle takes them; each knows its rows for the bronze tables.

Everything happens in and around `SPAN`: some facts lie before its first day or after its last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.oracle.billing import AccountRow, SubscriptionEvent
from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.users import QualifyingDay

SPAN = DateWindow(date(2023, 12, 1), date(2024, 6, 14))
"""The days compared: they hold the end of 2023 and 29 February 2024."""

POLICIES = (
    LifecyclePolicy(),
    LifecyclePolicy(min_qualifying_events_to_activate=3, dunning_days=7),
    LifecyclePolicy(new_user_days=14, active_days=7, dormant_days=21, dunning_days=10),
    LifecyclePolicy(
        new_user_days=45,
        active_days=14,
        dormant_days=14,
        min_qualifying_events_to_activate=2,
        dunning_days=1,
    ),
    LifecyclePolicy(
        new_user_days=0,
        active_days=1,
        dormant_days=3,
        min_qualifying_events_to_activate=4,
        dunning_days=0,
    ),
)
"""The framework's own thresholds, and others that make other rules meet."""

CATALOG: Sequence[Mapping[str, object]] = (
    {"product_id": "work", "tier": "family"},
    {"product_id": "editor", "tier": "product", "parent_product_id": "work"},
    {"product_id": "canvas", "tier": "feature", "parent_product_id": "editor"},
    {"product_id": "brush", "tier": "sub_feature", "parent_product_id": "canvas"},
    {"product_id": "boards", "tier": "product", "parent_product_id": "work"},
)
"""Rows of bronze_product_catalog: two products, one of them three tiers deep."""

_NODES = (None, "editor", "canvas", "brush", "boards")
_MOMENTS = (time.min, time(12), time(12), time(18, 30), time.max)
_FACTOR = int(os.environ.get("MONSTERA_EXAMPLES_FACTOR", "1"))


def examples(count: int) -> settings:
    """Settings of a property: the same `count` examples in every run.

    With the environment variable MONSTERA_EXAMPLES_FACTOR above 1 it is that many times as many, and
    others in each run.
    """
    return settings(
        max_examples=count * _FACTOR,
        derandomize=_FACTOR == 1,
        database=None,
        deadline=None,
        # An example is a batch of independent histories, and a failure shows the one that differs:
        # shrinking the batch would take minutes and tell no more.
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def oracle_policy(policy: LifecyclePolicy) -> OraclePolicy:
    """The same thresholds for the oracle."""
    return OraclePolicy(**policy.model_dump())


@dataclass(frozen=True)
class ProductEvent:
    """One event of a user."""

    at: datetime
    event_id: str
    node_id: str | None
    is_qualifying: bool


@dataclass(frozen=True)
class UserCase:
    """A user and what is known about it; `deletions` are instants, of which the first counts."""

    user_id: str
    account_id: str
    signed_up_at: datetime
    events: tuple[ProductEvent, ...]
    deletions: tuple[datetime, ...]

    @property
    def row(self) -> Mapping[str, object]:
        """The row of bronze_users."""
        return {
            "user_id": self.user_id,
            "account_id": self.account_id,
            "user_created_at": self.signed_up_at,
        }

    @property
    def event_rows(self) -> list[Mapping[str, object]]:
        """The rows of bronze_events."""
        return [
            {
                "event_id": event.event_id,
                "entity_id": self.user_id,
                "entity_type": "user",
                "event_timestamp": event.at,
                "event_date": event.at.date(),
                "product_id": event.node_id,
                "is_qualifying_event": event.is_qualifying,
            }
            for event in self.events
        ]

    @property
    def deletion_events(self) -> list[tuple[datetime, str]]:
        """Instants and ids of the deletions, in order."""
        return sorted((at, f"gone-{self.user_id}-{n}") for n, at in enumerate(self.deletions))

    @property
    def deletion_rows(self) -> list[Mapping[str, object]]:
        """The rows of bronze_subscription_events."""
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

    @property
    def qualifying_days(self) -> list[QualifyingDay]:
        """The days with qualifying events, in any product or none."""
        by_day: dict[date, list[ProductEvent]] = {}
        for event in self.events:
            if event.is_qualifying:
                by_day.setdefault(event.at.date(), []).append(event)
        return [
            QualifyingDay(
                day, len(events), min((event.at, event.event_id) for event in events)[1]
            )
            for day, events in by_day.items()
        ]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.user_id} of {self.account_id} signed up {self.signed_up_at}",
                *(
                    f"  {event.at} {event.event_id} {event.node_id}"
                    f"{' qualifying' if event.is_qualifying else ''}"
                    for event in sorted(self.events, key=lambda e: (e.at, e.event_id))
                ),
                *(f"  {at} {event_id}" for at, event_id in self.deletion_events),
            ]
        )

    def last_qualifying_at(self, through: date) -> datetime | None:
        """The latest qualifying event up to a date."""
        return max(
            (e.at for e in self.events if e.is_qualifying and e.at.date() <= through), default=None
        )


@dataclass(frozen=True)
class AccountCase:
    """An account and its subscription events, in any order."""

    account: AccountRow
    events: tuple[SubscriptionEvent, ...]

    @property
    def row(self) -> Mapping[str, object]:
        """The row of bronze_accounts."""
        return {
            "account_id": self.account.account_id,
            "account_created_at": self.account.account_created_at,
            "first_paid_at": self.account.first_paid_at,
            "contract_renewal_date": self.account.contract_renewal_date,
        }

    @property
    def event_rows(self) -> list[Mapping[str, object]]:
        """The rows of bronze_subscription_events."""
        return [
            {
                "event_id": event.event_id,
                "entity_id": self.account.account_id,
                "entity_type": "account",
                "event_type": event.event_type,
                "event_timestamp": event.timestamp,
                "event_date": event.timestamp.date(),
                **event.metadata,
            }
            for event in self.events
        ]

    def __str__(self) -> str:
        row = self.account
        return "\n".join(
            [
                f"{row.account_id} created {row.account_created_at},"
                f" renewal {row.contract_renewal_date}, first paid {row.first_paid_at}",
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

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Keep a failing example's report readable; the test shows the case that differs."""
        printer.text(f"{len(self.accounts)} accounts, {len(self.users)} users")


def edges(*thresholds: int) -> tuple[int, ...]:
    """Distances at which something turns: each threshold, a day less, one and two days more."""
    return tuple(sorted({max(0, t + n) for t in thresholds for n in (-1, 0, 1, 2)}))


def on(offset: int) -> date:
    """The date so many days after the first of the span."""
    return SPAN.first + timedelta(days=offset)


_LAST = len(SPAN) - 1
_SIGNUPS = (0, 1, 17, 30, 31, 88, 89, 90, 91, 120, _LAST, _LAST + 1)
"""31 December and 1 January are days 30 and 31, 28 February to 1 March days 89 to 91."""


@st.composite
def user_cases(
    draw: st.DrawFn, user_id: str, account_ids: Sequence[str], policy: LifecyclePolicy
) -> UserCase:
    """A user who signs up in the span, or the day after it."""
    signup = on(draw(st.sampled_from(_SIGNUPS)))
    first = st.sampled_from((0, 1, *edges(policy.new_user_days)))
    distance = st.sampled_from((1, 1, 2, *edges(policy.active_days, policy.dormant_days)))
    one_event = st.sampled_from(
        [(node, qualifies, at) for node in _NODES for qualifies in (True, False) for at in _MOMENTS]
    )
    day, events = signup, list[ProductEvent]()
    for gap, todays in draw(
        st.lists(st.tuples(distance, st.lists(one_event, min_size=1, max_size=3)), max_size=8)
    ):
        day += timedelta(days=gap if events else draw(first))
        # Ids fall while time passes, so ties are not decided by the order of drawing.
        events += [
            ProductEvent(
                datetime.combine(day, moment),
                f"{user_id}-{999 - len(events) - n}",
                node,
                qualifies,
            )
            for n, (node, qualifies, moment) in enumerate(todays)
        ]
    deletions = st.builds(
        lambda offset, moment: datetime.combine(signup + timedelta(days=offset), moment),
        st.sampled_from((0, 1, *edges(policy.new_user_days, policy.active_days), 90, 150)),
        st.sampled_from(_MOMENTS),
    )
    is_deleted = draw(st.sampled_from((False, False, False, True)))
    return UserCase(
        user_id=user_id,
        account_id=draw(st.sampled_from(account_ids)),
        signed_up_at=datetime.combine(signup, draw(st.sampled_from((time.min, time.max)))),
        events=tuple(events),
        deletions=tuple(draw(st.lists(deletions, min_size=1, max_size=2)) if is_deleted else ()),
    )


_EVENT_TYPES = (
    *("payment_failed", "payment_failed", "payment_failed", "payment_failed"),
    *("payment_recovered", "payment_recovered"),
    *("subscription_renewed", "subscription_renewed"),
    *("subscription_started", "subscription_paused", "subscription_paused"),
    *("subscription_resumed", "subscription_cancelled", "seats_changed", "tier_changed"),
)


@st.composite
def account_cases(
    draw: st.DrawFn,
    account_id: str,
    policy: LifecyclePolicy,
    created: Sequence[int] = (-40, -1, 0),
) -> AccountCase:
    """An account with any sequence of subscription events; `created` are offsets to the span."""
    created_on = on(draw(st.sampled_from(created)))
    dunning_edges = edges(policy.dunning_days)
    distance = st.sampled_from((0, 0, 0, 0, 1, 1, 2, 3, 14, *dunning_edges))
    ahead = st.sampled_from((None, None, None, -3, 0, 1, 2, 3, 4, 14, *dunning_edges, 60))
    drawn = draw(
        st.lists(
            st.tuples(
                distance,
                st.sampled_from(_MOMENTS),
                st.sampled_from(_EVENT_TYPES),
                ahead,
                ahead,
                st.sampled_from("abc"),
            ),
            max_size=12,
        )
    )
    day, events = created_on + timedelta(days=draw(st.sampled_from((-2, 0, 20, 40)))), []
    for n, (gap, moment, event_type, renewal, other, letter) in enumerate(drawn):
        day += timedelta(days=gap)
        metadata: dict[str, object] = {}
        if renewal is not None and event_type not in {"payment_failed", "subscription_cancelled"}:
            metadata["contract_renewal_date"] = day + timedelta(days=renewal)
        if other is not None and event_type == "payment_failed":
            metadata["grace_until"] = day + timedelta(days=other)
        if other is not None and event_type == "subscription_cancelled":
            metadata["effective_date"] = day + timedelta(days=other)
        # Ids that do not follow the order of drawing, within the account unique.
        event_id = f"{letter}-{account_id}-{n:02}"
        events.append(
            SubscriptionEvent(datetime.combine(day, moment), event_id, event_type, metadata)
        )
    renewal_in_table = draw(st.sampled_from((None, None, -50, 0, 10, 30, 60, 120)))
    return AccountCase(
        AccountRow(
            account_id=account_id,
            account_created_at=datetime.combine(created_on, draw(st.sampled_from(_MOMENTS))),
            contract_renewal_date=None if renewal_in_table is None else on(renewal_in_table),
            first_paid_at=draw(_first_payments(created_on, events)),
        ),
        tuple(events),
    )


def _first_payments(
    created_on: date, events: Sequence[SubscriptionEvent]
) -> st.SearchStrategy[datetime | None]:
    """None, before everything, or just before, at or just after one of the events."""
    candidates: list[datetime | None] = [
        None,
        *([datetime.combine(created_on, time(9)) - timedelta(days=n) for n in (5, 0, -20)] * 2),
    ]
    for event in events[:6]:
        candidates += [event.timestamp + timedelta(hours=n) for n in (-1, 0, 1)]
    return st.sampled_from(candidates)


@st.composite
def populations(
    draw: st.DrawFn, policy: LifecyclePolicy, *, users: int = 30, accounts: int = 8
) -> Population:
    """Accounts, all created before the span begins, and their users."""
    names = [f"a{n}" for n in range(accounts)]
    return Population(
        accounts=tuple(draw(account_cases(name, policy)) for name in names),
        users=tuple(draw(user_cases(f"u{n:02}", names, policy)) for n in range(users)),
    )
