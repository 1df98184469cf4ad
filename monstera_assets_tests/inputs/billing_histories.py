"""Billing histories with the days that the framework's text defines, derived by hand.

Each history is one account: its rows, its users and its billing facts, and for each day the state,
the revenue, the tier, the seats and the renewal date at the end of that day. The expected values
come from the text of the framework (sections 2, 5 and 8), never from code. A history's note derives
its decisive day, and quotes the part of section 5 that it rests on: a bullet such as *End*, or a
numbered rule of *State*. A note that begins a sentence with "Reading:" states how it reads a
sentence that can be read in two ways.

How to build a source from a history:

- The timezone is UTC and all settings are the defaults, except `EXCHANGE_RATES`.
- Ids are unique across histories, so that all of them can be one source. A history without rows of
  `accounts` is a source on its own, because it is about a source without billing.
- Users have one qualifying event on each day that `History.use` returns, all in the same product.
- `Fact.event_id` is the id of the row in `subscription_events`. Metadata without keys is null. A
  user with a `deleted_at` has a `user_deleted` fact at that time.
- The days to compare are those of `History.days`. A history that begins after its account's
  creation begins with a day without a movement. Its earlier facts are part of the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

Billing = Literal["never_paid", "paying", "lapsed"]
MovementKind = Literal["new", "reactivated", "expansion", "contraction", "churned"]
FrozenReason = Literal["payment_dunning", "seasonal", "voluntary_pause"]

EXCHANGE_RATES: Mapping[str, float] = {"EUR": 1.25}
"""The setting `exchange_rates`. The `reporting_currency` is the default, USD."""


@dataclass(frozen=True)
class AccountVersion:
    """One row of `accounts`. The account's name is its id."""

    valid_from: date
    account_created_at: date
    subscription_tier: str
    total_seats: int | None
    monthly_recurring_revenue: int
    contract_renewal_date: date | None = None
    first_paid_at: date | None = None
    is_trial: bool = False


@dataclass(frozen=True)
class User:
    """One user of the account, active on each day from the first one to the deletion."""

    user_id: str
    created_at: date
    deleted_at: datetime | None = None


@dataclass(frozen=True)
class Fact:
    """One row of `subscription_events` on the account."""

    event_id: str
    timestamp: datetime
    event_type: str
    metadata: Mapping[str, str | int]


@dataclass(frozen=True)
class Stretch:
    """Consecutive days that end with the same values. Both days are included."""

    first: date
    last: date
    state: str
    billing: Billing
    revenue: int
    tier: str
    seats: int
    renewal: date | None = None
    frozen_reason: FrozenReason | None = None


@dataclass(frozen=True)
class Movement:
    """One movement of monthly recurring revenue. Amounts are positive for all kinds."""

    date: date
    kind: MovementKind
    amount: int
    tier: str


@dataclass(frozen=True)
class History:
    """One account's billing, and what is expected of it.

    Attributes:
        name: what happens, as a sentence without a period.
        note: how the decisive day follows from the rules of section 5.
        account_id: the id of the account.
        versions: the rows of `accounts`, or none in a source without billing.
        users: the account's users.
        facts: the billing facts, in the order of the account's life.
        opening: the revenue at the end of the day before the first stretch.
        stretches: the expected days, contiguous and in order.
        movements: the expected movements of the days, in order.
        facts_on_lapsed_subscriptions: ids of the facts that the check of this name lists.
    """

    name: str
    note: str
    account_id: str
    versions: tuple[AccountVersion, ...]
    users: tuple[User, ...]
    facts: tuple[Fact, ...]
    opening: int
    stretches: tuple[Stretch, ...]
    movements: tuple[Movement, ...] = ()
    facts_on_lapsed_subscriptions: tuple[str, ...] = field(default=())

    @property
    def created_at(self) -> date:
        """Return the account's creation date: its own, or that of its first user."""
        if self.versions:
            return self.versions[0].account_created_at
        return min(user.created_at for user in self.users)

    def days(self) -> Iterator[tuple[date, Stretch]]:
        """Yield each day with the stretch that contains it."""
        for stretch in self.stretches:
            for number in range((stretch.last - stretch.first).days + 1):
                yield stretch.first + timedelta(days=number), stretch

    def use(self) -> Iterator[tuple[str, date]]:
        """Yield each user's days with a qualifying event, up to the day before its deletion."""
        after_last = self.stretches[-1].last + timedelta(days=1)
        for user in self.users:
            until = user.deleted_at.date() if user.deleted_at else after_last
            for number in range((min(until, after_last) - user.created_at).days):
                yield user.user_id, user.created_at + timedelta(days=number)


def version(
    created: str,
    tier: str,
    seats: int | None,
    revenue: int,
    *,
    valid_from: str | None = None,
    renewal: str | None = None,
    first_paid: str | None = None,
    is_trial: bool = False,
) -> AccountVersion:
    """Return one row of `accounts`, by default the version of the day of creation."""
    return AccountVersion(
        date.fromisoformat(valid_from or created),
        date.fromisoformat(created),
        tier,
        seats,
        revenue,
        _day(renewal),
        _day(first_paid),
        is_trial,
    )


def fact(
    timestamp: str, event_type: str, *, event_id: str = "", **metadata: str | int | None
) -> Fact:
    """Return one billing fact. Without an id, `history` gives it one."""
    stated = {key: value for key, value in metadata.items() if value is not None}
    return Fact(event_id, datetime.fromisoformat(timestamp), event_type, stated)


def started(
    timestamp: str,
    tier: str | None = None,
    seats: int | None = None,
    revenue: int | None = None,
    renewal: str | None = None,
    *,
    subscription_id: str | None = None,
    event_id: str = "",
    currency: str | None = None,
) -> Fact:
    """Return a `subscription_started` with the given values."""
    return fact(
        timestamp,
        "subscription_started",
        event_id=event_id,
        subscription_id=subscription_id,
        subscription_tier=tier,
        total_seats=seats,
        monthly_recurring_revenue=revenue,
        contract_renewal_date=renewal,
        currency=currency,
    )


def never_paid(first: str, last: str, state: str, seats: int) -> Stretch:
    """Return days before the first payment: the tier is trial and the revenue 0."""
    days = date.fromisoformat(first), date.fromisoformat(last)
    return Stretch(*days, state, "never_paid", 0, "trial", seats)


def paying(
    first: str,
    last: str,
    state: str,
    revenue: int,
    tier: str,
    seats: int,
    renewal: str | None = None,
    frozen_reason: FrozenReason | None = None,
) -> Stretch:
    """Return days on which at least one subscription is live."""
    days = date.fromisoformat(first), date.fromisoformat(last)
    return Stretch(*days, state, "paying", revenue, tier, seats, _day(renewal), frozen_reason)


def lapsed(first: str, last: str, state: str, tier: str, seats: int) -> Stretch:
    """Return lapsed days: the revenue is 0, tier and seats are those of the last paid day."""
    days = date.fromisoformat(first), date.fromisoformat(last)
    return Stretch(*days, state, "lapsed", 0, tier, seats)


def movement(day: str, kind: MovementKind, amount: int, tier: str) -> Movement:
    """Return one movement under the tier of its day."""
    return Movement(date.fromisoformat(day), kind, amount, tier)


def history(
    account_id: str,
    name: str,
    note: str,
    *,
    versions: tuple[AccountVersion, ...],
    stretches: tuple[Stretch, ...],
    facts: tuple[Fact, ...] = (),
    users: int | tuple[User, ...] = 2,
    opening: int = 0,
    movements: tuple[Movement, ...] = (),
    facts_on_lapsed: tuple[int, ...] = (),
) -> History:
    """Return a history.

    Args:
        account_id: the id of the account.
        name: what happens.
        note: why the decisive day is what it is.
        versions: the rows of `accounts`.
        stretches: the expected days.
        facts: the billing facts. The nth one without an id has the id `<account>_<n>`.
        users: the users, or how many there are from the account's creation on.
        opening: the revenue at the end of the day before the first stretch.
        movements: the expected movements.
        facts_on_lapsed: numbers of the facts, from 1, that the check lists.
    """
    if isinstance(users, int):
        created = versions[0].account_created_at
        users = tuple(User(f"{account_id}_user_{n + 1}", created) for n in range(users))
    with_ids = tuple(
        replace(stated, event_id=stated.event_id or f"{account_id}_{number}")
        for number, stated in enumerate(facts, 1)
    )
    return History(
        name,
        " ".join(note.split()),
        account_id,
        versions,
        users,
        with_ids,
        opening,
        stretches,
        movements,
        tuple(with_ids[number - 1].event_id for number in facts_on_lapsed),
    )


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


# The account of most histories: open-ended, paid at 100 since June 2024, so that by 2025 it is
# past rules 5 and 9. Two users of two seats keep rule 6 away from utilization.
CREATED = "2024-06-01"
ROW = version(CREATED, "starter", 2, 100)
START = started("2024-06-10 10:00:00", "starter", 2, 100)

# The rows of four accounts that failed with real exports. They have five seats and no users, so
# that their utilization is 0 and rule 6 holds on every paid day after the first 30.
EXPORTED = "2025-02-01"


REPORTED = (
    history(
        "acc_m1",
        "one of two subscriptions is cancelled",
        """Two live subscriptions add up to 100 + 50 = 150 (Subscriptions). The cancellation of A on
        1 May has no effective date, so that its own date is the last paid day, and from 2 May on 50
        remains (End). The first payment is on 1 March, so that rule 5 holds up to 1 + 30 = 31
        March, and from then on rule 6, because 0 of 5 seats are in use.""",
        versions=(version(EXPORTED, "starter", 5, 50),),
        users=0,
        facts=(
            started("2025-03-01 10:00:00", None, 5, 100, "2026-03-01", subscription_id="A"),
            started("2025-04-01 10:00:00", None, 2, 50, "2026-04-01", subscription_id="B"),
            fact("2025-05-01 10:00:00", "subscription_cancelled", subscription_id="A"),
        ),
        stretches=(
            never_paid("2025-02-01", "2025-02-28", "trial", 5),
            paying("2025-03-01", "2025-03-31", "new_paid", 100, "starter", 5, "2026-03-01"),
            paying("2025-04-01", "2025-05-01", "at_risk", 150, "starter", 7, "2026-03-01"),
            paying("2025-05-02", "2025-05-31", "at_risk", 50, "starter", 2, "2026-04-01"),
        ),
        movements=(
            movement("2025-03-01", "new", 100, "starter"),
            movement("2025-04-01", "expansion", 50, "starter"),
            movement("2025-05-02", "contraction", 100, "starter"),
        ),
    ),
    history(
        "acc_m2",
        "a new plan starts five seconds before the old one is cancelled, without subscription ids",
        """Without ids there is one subscription (Subscriptions), and in the order of timestamps it
        is cancelled last (Order): 10 May is its last paid day, at the new 120, and 11 May is the
        first lapsed one. The account's state is churned only from 10 May + 61 = 10 July on
        (rule 3).""",
        versions=(version(EXPORTED, "starter", 5, 120),),
        users=0,
        facts=(
            started("2025-03-01 10:00:00", None, 5, 100),
            started("2025-05-10 10:00:00", None, 5, 120),
            fact("2025-05-10 10:00:05", "subscription_cancelled"),
        ),
        stretches=(
            never_paid("2025-02-01", "2025-02-28", "trial", 5),
            paying("2025-03-01", "2025-03-31", "new_paid", 100, "starter", 5),
            paying("2025-04-01", "2025-05-09", "at_risk", 100, "starter", 5),
            paying("2025-05-10", "2025-05-10", "at_risk", 120, "starter", 5),
            lapsed("2025-05-11", "2025-06-20", "at_risk", "starter", 5),
        ),
        movements=(
            movement("2025-03-01", "new", 100, "starter"),
            movement("2025-05-10", "expansion", 20, "starter"),
            movement("2025-05-11", "churned", 120, "starter"),
        ),
    ),
    history(
        "acc_m3",
        "a new plan starts in the second in which the old one is cancelled",
        """On one instant cancelled comes before started, for any ids (Order), and a later
        start voids a cancellation (Cancellation): the account pays on, at 120 from 10 May on.""",
        versions=(version(EXPORTED, "starter", 5, 120),),
        users=0,
        facts=(
            started("2025-03-01 10:00:00", None, 5, 100, event_id="m3a"),
            fact("2025-05-10 10:00:00", "subscription_cancelled", event_id="evt_9zz"),
            started("2025-05-10 10:00:00", None, 5, 120, event_id="evt_1aa"),
        ),
        stretches=(
            never_paid("2025-02-01", "2025-02-28", "trial", 5),
            paying("2025-03-01", "2025-03-31", "new_paid", 100, "starter", 5),
            paying("2025-04-01", "2025-05-09", "at_risk", 100, "starter", 5),
            paying("2025-05-10", "2025-06-20", "at_risk", 120, "starter", 5),
        ),
        movements=(
            movement("2025-03-01", "new", 100, "starter"),
            movement("2025-05-10", "expansion", 20, "starter"),
        ),
    ),
    history(
        "acc_m4",
        "a subscription is renewed five days late",
        """The renewal date is 1 May and the days of grace end with 1 + 3 = 4 May, the last paid day
        (End), so that 100 churns on 5 May. The renewal of 6 May resumes the subscription and 100 is
        reactivated after one day (section 8, however short the gap).""",
        versions=(version(EXPORTED, "starter", 5, 100),),
        users=0,
        facts=(
            started("2025-03-01 10:00:00", None, 5, 100, "2025-05-01"),
            fact(
                "2025-05-06 10:00:00",
                "subscription_renewed",
                monthly_recurring_revenue=100,
                contract_renewal_date="2025-07-01",
            ),
        ),
        stretches=(
            never_paid("2025-02-01", "2025-02-28", "trial", 5),
            paying("2025-03-01", "2025-03-31", "new_paid", 100, "starter", 5, "2025-05-01"),
            paying("2025-04-01", "2025-05-04", "at_risk", 100, "starter", 5, "2025-05-01"),
            lapsed("2025-05-05", "2025-05-05", "at_risk", "starter", 5),
            paying("2025-05-06", "2025-06-20", "at_risk", 100, "starter", 5, "2025-07-01"),
        ),
        movements=(
            movement("2025-03-01", "new", 100, "starter"),
            movement("2025-05-05", "churned", 100, "starter"),
            movement("2025-05-06", "reactivated", 100, "starter"),
        ),
    ),
    history(
        "acc_m2_with_ids",
        "a new plan starts five seconds before the old one is cancelled, with subscription ids",
        """Old ends on 10 May, and New, which did not live on 9 May, starts on that day and lives
        on: New replaces Old, which no longer counts on 10 May (Subscriptions). The revenue is 120,
        not 220, and the seats are 5, not 10. Days up to 9 May + 30 = 8 June compare with 100
        (rule 8). The first payment is on 1 March, so that rule 9 holds up to 30 May only.""",
        versions=(version(EXPORTED, "starter", 5, 120),),
        users=3,
        facts=(
            started("2025-03-01 10:00:00", None, 5, 100, subscription_id="Old"),
            started("2025-05-10 10:00:00", None, 5, 120, subscription_id="New"),
            fact("2025-05-10 10:00:05", "subscription_cancelled", subscription_id="Old"),
        ),
        stretches=(
            never_paid("2025-02-01", "2025-02-28", "trial", 5),
            paying("2025-03-01", "2025-05-09", "new_paid", 100, "starter", 5),
            paying("2025-05-10", "2025-06-08", "expanding", 120, "starter", 5),
            paying("2025-06-09", "2025-06-20", "active", 120, "starter", 5),
        ),
        movements=(
            movement("2025-03-01", "new", 100, "starter"),
            movement("2025-05-10", "expansion", 20, "starter"),
        ),
    ),
    history(
        "late_charge",
        "the charge for a period fails half an hour after the period's end",
        """The failure of 1 April is dated within the days of grace of 31 March and opens as usual,
        and while it is open the renewal date ends nothing (End). The recovery of 8 April is after
        the renewal date and brings no new one, so that it leaves none: the account pays on, and is
        frozen from 1 to 7 April only (rule 1).""",
        versions=(version("2024-03-01", "starter", 2, 100),),
        facts=(
            started("2024-04-01 10:00:00", "starter", 2, 100, "2025-03-31"),
            fact("2025-04-01 00:30:00", "payment_failed"),
            fact("2025-04-08 06:00:00", "payment_recovered"),
        ),
        opening=100,
        stretches=(
            paying("2025-03-10", "2025-03-31", "active", 100, "starter", 2, "2025-03-31"),
            paying(
                *("2025-04-01", "2025-04-07", "frozen", 100, "starter", 2, "2025-03-31"),
                "payment_dunning",
            ),
            paying("2025-04-08", "2025-05-15", "active", 100, "starter", 2),
        ),
    ),
    history(
        "tier_without_rank",
        "an account pays on tiers that are not in the list",
        """Tiers `free` and `Professional` are kept as they are and have no rank, so that rules 7
        and 8 skip the change of 15 March. The first payment is on 1 January, and rule 9 holds up to
        the 90th day after it, 1 April. Reading: `first_paid_at` makes the account a paying one; its
        tier alone, or `is_trial`, does not (First payment).""",
        versions=(
            version("2025-01-01", "free", 2, 20, first_paid="2025-01-01"),
            version(
                *("2025-01-01", "Professional", 2, 20),
                valid_from="2025-03-15",
                first_paid="2025-01-01",
            ),
        ),
        stretches=(
            paying("2025-01-01", "2025-03-14", "new_paid", 20, "free", 2),
            paying("2025-03-15", "2025-04-01", "new_paid", 20, "Professional", 2),
            paying("2025-04-02", "2025-04-30", "active", 20, "Professional", 2),
        ),
        movements=(movement("2025-01-01", "new", 20, "free"),),
    ),
)

ANNUAL_PLANS = (
    history(
        "annual_price_rise",
        "an annual plan is renewed on its renewal day at a higher price",
        """The renewal of 10 April 2025 raises 400 to 440. Days up to 9 April + 30 = 9 May compare
        with 400 and are expanding (rule 8); 10 May compares with 440. A renewal within 30 days
        needs a utilization under 50 % to matter (rule 6), and all 4 seats are in use.""",
        versions=(version("2024-04-01", "professional", 4, 400),),
        users=4,
        facts=(
            started("2024-04-10 10:00:00", "professional", 4, 400, "2025-04-10"),
            fact(
                "2025-04-10 09:00:00",
                "subscription_renewed",
                monthly_recurring_revenue=440,
                contract_renewal_date="2026-04-10",
            ),
        ),
        opening=400,
        stretches=(
            paying("2025-03-20", "2025-04-09", "active", 400, "professional", 4, "2025-04-10"),
            paying("2025-04-10", "2025-05-09", "expanding", 440, "professional", 4, "2026-04-10"),
            paying("2025-05-10", "2025-05-31", "active", 440, "professional", 4, "2026-04-10"),
        ),
        movements=(movement("2025-04-10", "expansion", 40, "professional"),),
    ),
    history(
        "annual_downgrade",
        "an annual plan is downgraded on its renewal day",
        """On 6 May 2025 the plan is renewed and five seconds later moves down: at the end of that
        day 120 is less than the 400 of 6 April, and so up to 5 May + 30 = 4 June (rule 7). The
        contraction of 280 counts under starter, the tier of its day (section 8).""",
        versions=(version("2024-05-01", "professional", 3, 400),),
        facts=(
            started("2024-05-06 10:00:00", "professional", 3, 400, "2025-05-06"),
            fact(
                "2025-05-06 09:00:00",
                "subscription_renewed",
                contract_renewal_date="2026-05-06",
            ),
            fact(
                "2025-05-06 09:00:05",
                "tier_changed",
                subscription_tier="starter",
                total_seats=2,
                monthly_recurring_revenue=120,
            ),
        ),
        opening=400,
        stretches=(
            paying("2025-04-20", "2025-05-05", "active", 400, "professional", 3, "2025-05-06"),
            paying("2025-05-06", "2025-06-04", "contracting", 120, "starter", 2, "2026-05-06"),
            paying("2025-06-05", "2025-06-30", "active", 120, "starter", 2, "2026-05-06"),
        ),
        movements=(movement("2025-05-06", "contraction", 280, "starter"),),
    ),
    history(
        "annual_not_renewed",
        "an annual plan is not renewed",
        """The renewal date is 10 February, and the last paid day 10 + 3 = 13 February (End): 200
        churns on 14 February. The account's state is churned from 13 February + 61 = 15 April on
        (rule 3: 15 days of February, 31 of March, 15 of April). Until the end the renewal date
        stays the one that has passed.""",
        versions=(version("2024-01-20", "starter", 2, 200),),
        facts=(started("2024-02-10 10:00:00", "starter", 2, 200, "2025-02-10"),),
        opening=200,
        stretches=(
            paying("2025-01-20", "2025-02-13", "active", 200, "starter", 2, "2025-02-10"),
            lapsed("2025-02-14", "2025-04-14", "at_risk", "starter", 2),
            lapsed("2025-04-15", "2025-05-10", "churned", "starter", 2),
        ),
        movements=(movement("2025-02-14", "churned", 200, "starter"),),
    ),
    history(
        "annual_last_day_of_grace",
        "an annual plan is renewed on the last day of grace, without a new date",
        """The end is the first date at whose end 3 days have passed without a renewal (End). At the
        end of 10 + 3 = 13 February there is one, of 23:30, so that no day is lapsed. A renewal
        without a renewal date leaves none (Values).""",
        versions=(version("2024-01-20", "starter", 2, 200),),
        facts=(
            started("2024-02-10 10:00:00", "starter", 2, 200, "2025-02-10"),
            fact("2025-02-13 23:30:00", "subscription_renewed"),
        ),
        opening=200,
        stretches=(
            paying("2025-01-20", "2025-02-12", "active", 200, "starter", 2, "2025-02-10"),
            paying("2025-02-13", "2025-03-20", "active", 200, "starter", 2),
        ),
    ),
)

UPGRADES_AND_DOWNGRADES = (
    history(
        "up_and_partly_down",
        "an upgrade and a smaller downgrade on one day leave their net",
        """A day is described by its end (section 1): 500 at 09:00 and 250 at 15:00 leave 250, an
        expansion of 250 - 100 = 150 and no contraction. Days up to 9 April + 30 = 9 May compare
        with 100 (rule 8).""",
        versions=(ROW,),
        facts=(
            START,
            fact(
                "2025-04-10 09:00:00",
                "tier_changed",
                subscription_tier="enterprise",
                monthly_recurring_revenue=500,
            ),
            fact(
                "2025-04-10 15:00:00",
                "tier_changed",
                subscription_tier="professional",
                monthly_recurring_revenue=250,
            ),
        ),
        opening=100,
        stretches=(
            paying("2025-03-20", "2025-04-09", "active", 100, "starter", 2),
            paying("2025-04-10", "2025-05-09", "expanding", 250, "professional", 2),
            paying("2025-05-10", "2025-05-31", "active", 250, "professional", 2),
        ),
        movements=(movement("2025-04-10", "expansion", 150, "professional"),),
    ),
    history(
        "up_and_down",
        "an upgrade is undone on its day",
        """At the end of 10 April the values are those of 9 April (Values: the last event that
        carried them), so that the day has no movement and rules 7 and 8 find no difference.""",
        versions=(ROW,),
        facts=(
            START,
            fact(
                "2025-04-10 09:00:00",
                "tier_changed",
                subscription_tier="professional",
                monthly_recurring_revenue=300,
            ),
            fact(
                "2025-04-10 17:00:00",
                "tier_changed",
                subscription_tier="starter",
                monthly_recurring_revenue=100,
            ),
        ),
        opening=100,
        stretches=(paying("2025-04-01", "2025-05-20", "active", 100, "starter", 2),),
    ),
    history(
        "down_and_up_on_one_instant",
        "a downgrade and an upgrade on one instant are in the order of their ids",
        """Both are changes, so that the event_id decides (Order): `change_a` before `change_b`,
        although the source states `change_b` first. The day ends with 300, an expansion of 200, and
        days up to 9 April + 30 = 9 May compare with 100 (rule 8).""",
        versions=(ROW,),
        facts=(
            START,
            fact(
                "2025-04-10 09:00:00",
                "tier_changed",
                event_id="change_b",
                subscription_tier="professional",
                total_seats=3,
                monthly_recurring_revenue=300,
            ),
            fact(
                "2025-04-10 09:00:00",
                "tier_changed",
                event_id="change_a",
                subscription_tier="starter",
                total_seats=1,
                monthly_recurring_revenue=80,
            ),
        ),
        opening=100,
        stretches=(
            paying("2025-03-20", "2025-04-09", "active", 100, "starter", 2),
            paying("2025-04-10", "2025-05-09", "expanding", 300, "professional", 3),
            paying("2025-05-10", "2025-05-31", "active", 300, "professional", 3),
        ),
        movements=(movement("2025-04-10", "expansion", 200, "professional"),),
    ),
)

RESTARTS = (
    history(
        "restart_within_61_days",
        "an account restarts at a lower price after 29 lapsed days",
        """The cancellation's own date, 1 March, is the last paid day (End) and pending on it
        (rule 6). The restart of 31 March follows an at_risk day, so that rule 4 does not apply. 31
        March compares with 1 March, which was paid at 100: contracting (rule 7). 1 April compares
        with 2 March, which was not paid: rule 10. Reading: a cancellation is pending up to and
        including the date at whose end it has reached its effective date.""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-01 12:00:00", "subscription_cancelled"),
            started("2025-03-31 10:00:00", revenue=80),
        ),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-02-28", "active", 100, "starter", 2),
            paying("2025-03-01", "2025-03-01", "at_risk", 100, "starter", 2),
            lapsed("2025-03-02", "2025-03-30", "at_risk", "starter", 2),
            paying("2025-03-31", "2025-03-31", "contracting", 80, "starter", 2),
            paying("2025-04-01", "2025-05-10", "active", 80, "starter", 2),
        ),
        movements=(
            movement("2025-03-02", "churned", 100, "starter"),
            movement("2025-03-31", "reactivated", 80, "starter"),
        ),
    ),
    history(
        "restart_on_day_61",
        "an account restarts on the 61st day after its end",
        """The end is the effective date, 15 January. 16 March is day 60 and still at_risk (rule 3),
        so that the restart of 17 March, day 61, does not follow a churned day and rule 4 does not
        apply. The revenue is reactivated all the same (section 8).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-01-10 12:00:00", "subscription_cancelled", effective_date="2025-01-15"),
            started("2025-03-17 10:00:00", revenue=100),
        ),
        opening=100,
        stretches=(
            paying("2025-01-01", "2025-01-09", "active", 100, "starter", 2),
            paying("2025-01-10", "2025-01-15", "at_risk", 100, "starter", 2),
            lapsed("2025-01-16", "2025-03-16", "at_risk", "starter", 2),
            paying("2025-03-17", "2025-04-30", "active", 100, "starter", 2),
        ),
        movements=(
            movement("2025-01-16", "churned", 100, "starter"),
            movement("2025-03-17", "reactivated", 100, "starter"),
        ),
    ),
    history(
        "restart_on_day_62",
        "an account restarts on the 62nd day after its end",
        """The end is 15 January, and 15 January + 61 = 17 March is churned (rule 3), the day before
        the restart of 18 March. Rule 4 therefore holds up to 18 March + 90 = 16 June (13 days of
        March, 30 of April, 31 of May, 16 of June).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-01-15 12:00:00", "subscription_cancelled"),
            started("2025-03-18 10:00:00", "professional", revenue=150),
        ),
        stretches=(
            lapsed("2025-02-01", "2025-03-16", "at_risk", "starter", 2),
            lapsed("2025-03-17", "2025-03-17", "churned", "starter", 2),
            paying("2025-03-18", "2025-06-16", "reactivated", 150, "professional", 2),
            paying("2025-06-17", "2025-06-20", "active", 150, "professional", 2),
        ),
        movements=(movement("2025-03-18", "reactivated", 150, "professional"),),
    ),
    history(
        "restart_on_the_next_day",
        "an account restarts on the day after its end",
        """1 March is the last paid day (End), and at the end of 2 March the account pays again: no
        day is lapsed. Reading: movements are differences between the ends of two days (section 8),
        so that 2 March has an expansion of 20, and neither churned nor reactivated revenue. Days up
        to 1 March + 30 = 31 March compare with 100 (rule 8).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-01 12:00:00", "subscription_cancelled"),
            started("2025-03-02 09:00:00", revenue=120),
        ),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-02-28", "active", 100, "starter", 2),
            paying("2025-03-01", "2025-03-01", "at_risk", 100, "starter", 2),
            paying("2025-03-02", "2025-03-31", "expanding", 120, "starter", 2),
            paying("2025-04-01", "2025-04-20", "active", 120, "starter", 2),
        ),
        movements=(movement("2025-03-02", "expansion", 20, "starter"),),
    ),
    history(
        "changes_while_lapsed",
        "changes of a lapsed subscription are ignored, also after its restart",
        """Seats, revenue and a failure dated 10 and 12 March are on a subscription that lapsed on 2
        March, and change nothing (End). The restart of 20 March carries no values, so that those of
        the last paid day return, without the renewal date, which a start has to state (Values).
        20 March compares with 18 February at the same 100 (rule 10).""",
        versions=(ROW,),
        facts=(
            started("2024-06-10 10:00:00", "starter", 2, 100, "2025-06-10"),
            fact("2025-03-01 12:00:00", "subscription_cancelled"),
            fact(
                "2025-03-10 09:00:00",
                "seats_changed",
                total_seats=9,
                monthly_recurring_revenue=900,
            ),
            fact("2025-03-12 05:00:00", "payment_failed"),
            started("2025-03-20 10:00:00"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-02-28", "active", 100, "starter", 2, "2025-06-10"),
            paying("2025-03-01", "2025-03-01", "at_risk", 100, "starter", 2, "2025-06-10"),
            lapsed("2025-03-02", "2025-03-19", "at_risk", "starter", 2),
            paying("2025-03-20", "2025-04-30", "active", 100, "starter", 2),
        ),
        movements=(
            movement("2025-03-02", "churned", 100, "starter"),
            movement("2025-03-20", "reactivated", 100, "starter"),
        ),
        facts_on_lapsed=(3, 4),
    ),
    history(
        "start_after_trial",
        "an account pays for the first time after its trial has expired",
        """The trial holds up to 1 + 30 = 31 January, and from 1 February on the account is churned
        without having paid (rule 2). The first payment on 20 February is new revenue, and the state
        is new_paid, not reactivated (rule 4), up to 20 February + 90 = 21 May (rule 9). Seats
        follow facts before the first payment, too.""",
        versions=(version("2025-01-01", "trial", 2, 0, is_trial=True),),
        facts=(
            fact("2025-01-10 09:00:00", "seats_changed", total_seats=3),
            started("2025-02-20 10:00:00", "starter", revenue=150),
        ),
        stretches=(
            never_paid("2025-01-01", "2025-01-09", "trial", 2),
            never_paid("2025-01-10", "2025-01-31", "trial", 3),
            never_paid("2025-02-01", "2025-02-19", "churned", 3),
            paying("2025-02-20", "2025-05-21", "new_paid", 150, "starter", 3),
            paying("2025-05-22", "2025-05-25", "active", 150, "starter", 3),
        ),
        movements=(movement("2025-02-20", "new", 150, "starter"),),
    ),
)

PAUSES = (
    history(
        "pause_over_renewal",
        "a pause covers the renewal date, and no renewal follows it",
        """While the pause is open the renewal date of 1 April ends nothing. The days of grace count
        from the pause's end, 20 April, which is later than the renewal date: 20 + 3 = 23 April is
        the last paid day (End). A paused account pays on (Values), frozen up to 19 April
        (rule 1).""",
        versions=(version("2024-03-20", "starter", 2, 100),),
        facts=(
            started("2024-04-01 10:00:00", "starter", 2, 100, "2025-04-01"),
            fact("2025-03-20 10:00:00", "subscription_paused", reason="seasonal"),
            fact("2025-04-20 08:00:00", "subscription_resumed"),
        ),
        opening=100,
        stretches=(
            paying("2025-03-01", "2025-03-19", "active", 100, "starter", 2, "2025-04-01"),
            paying(
                *("2025-03-20", "2025-04-19", "frozen", 100, "starter", 2, "2025-04-01"),
                "seasonal",
            ),
            paying("2025-04-20", "2025-04-23", "active", 100, "starter", 2, "2025-04-01"),
            lapsed("2025-04-24", "2025-05-15", "at_risk", "starter", 2),
        ),
        movements=(movement("2025-04-24", "churned", 100, "starter"),),
    ),
    history(
        "renewal_in_a_pause",
        "a paused plan is renewed on its renewal day and resumed later",
        """A renewal does not end a pause (Pause): the account stays frozen up to 19 April, the day
        before it is resumed (rule 1). The renewal of 1 April only moves the renewal date by a
        year.""",
        versions=(version("2024-03-20", "starter", 2, 100),),
        facts=(
            started("2024-04-01 10:00:00", "starter", 2, 100, "2025-04-01"),
            fact("2025-03-20 10:00:00", "subscription_paused", reason="seasonal"),
            fact(
                "2025-04-01 06:00:00",
                "subscription_renewed",
                contract_renewal_date="2026-04-01",
            ),
            fact("2025-04-20 08:00:00", "subscription_resumed"),
        ),
        opening=100,
        stretches=(
            paying("2025-03-01", "2025-03-19", "active", 100, "starter", 2, "2025-04-01"),
            paying(
                *("2025-03-20", "2025-03-31", "frozen", 100, "starter", 2, "2025-04-01"),
                "seasonal",
            ),
            paying(
                *("2025-04-01", "2025-04-19", "frozen", 100, "starter", 2, "2026-04-01"),
                "seasonal",
            ),
            paying("2025-04-20", "2025-05-15", "active", 100, "starter", 2, "2026-04-01"),
        ),
    ),
    history(
        "pause_ended_by_a_start",
        "a start ends a pause and raises the price",
        """A start ends a pause (Pause), so that 24 March is the last frozen day. Days up to 24
        March + 30 = 23 April compare with 100 (rule 8). The reason `budget` is not seasonal and
        therefore voluntary_pause (rule 1).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-10 10:00:00", "subscription_paused", reason="budget"),
            started("2025-03-25 10:00:00", revenue=120),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 100, "starter", 2),
            paying(
                *("2025-03-10", "2025-03-24", "frozen", 100, "starter", 2, None),
                "voluntary_pause",
            ),
            paying("2025-03-25", "2025-04-23", "expanding", 120, "starter", 2),
            paying("2025-04-24", "2025-05-10", "active", 120, "starter", 2),
        ),
        movements=(movement("2025-03-25", "expansion", 20, "starter"),),
    ),
    history(
        "failure_in_a_pause",
        "a payment fails in a pause and is not recovered",
        """An open pause stops the end by the renewal date, not the one by dunning: 5 March + 30 = 4
        April is the last paid day (End). A failure comes before the pause's reason (rule 1). The
        lapse closes both, so that the restart of 20 April is not frozen; it compares with 21 March
        at the same 300 (rule 10).""",
        versions=(version(CREATED, "professional", 2, 300),),
        facts=(
            started("2024-06-10 10:00:00", "professional", 2, 300),
            fact("2025-03-01 10:00:00", "subscription_paused"),
            fact("2025-03-05 05:00:00", "payment_failed"),
            started("2025-04-20 10:00:00"),
        ),
        opening=300,
        stretches=(
            paying("2025-02-10", "2025-02-28", "active", 300, "professional", 2),
            paying(
                *("2025-03-01", "2025-03-04", "frozen", 300, "professional", 2, None),
                "voluntary_pause",
            ),
            paying(
                *("2025-03-05", "2025-04-04", "frozen", 300, "professional", 2, None),
                "payment_dunning",
            ),
            lapsed("2025-04-05", "2025-04-19", "at_risk", "professional", 2),
            paying("2025-04-20", "2025-05-25", "active", 300, "professional", 2),
        ),
        movements=(
            movement("2025-04-05", "churned", 300, "professional"),
            movement("2025-04-20", "reactivated", 300, "professional"),
        ),
    ),
)

FAILURES = (
    history(
        "recovery_after_a_lapse",
        "a payment is recovered five days after the account has lapsed",
        """Dunning counts from the first of the two open failures: 5 March + 30 = 4 April is the
        last paid day (End). The recovery of 10 April resumes the subscription, and is before the
        renewal date, which stays. 10 April compares with 11 March at the same 100 (rule 10).""",
        versions=(version("2024-09-20", "starter", 2, 100),),
        facts=(
            started("2024-10-01 10:00:00", "starter", 2, 100, "2025-10-01"),
            fact("2025-03-05 05:00:00", "payment_failed"),
            fact("2025-03-20 05:00:00", "payment_failed"),
            fact("2025-04-10 09:00:00", "payment_recovered"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-03-04", "active", 100, "starter", 2, "2025-10-01"),
            paying(
                *("2025-03-05", "2025-04-04", "frozen", 100, "starter", 2, "2025-10-01"),
                "payment_dunning",
            ),
            lapsed("2025-04-05", "2025-04-09", "at_risk", "starter", 2),
            paying("2025-04-10", "2025-05-20", "active", 100, "starter", 2, "2025-10-01"),
        ),
        movements=(
            movement("2025-04-05", "churned", 100, "starter"),
            movement("2025-04-10", "reactivated", 100, "starter"),
        ),
    ),
    history(
        "recovery_on_day_30",
        "a payment is recovered on the thirtieth day of dunning",
        """At the end of 5 March + 30 = 4 April no failure is open any more, because it was
        recovered at 22:00, so that nothing ends (End) and 4 April is not frozen (rule 1).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-05 05:00:00", "payment_failed"),
            fact("2025-04-04 22:00:00", "payment_recovered"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-03-04", "active", 100, "starter", 2),
            paying(
                *("2025-03-05", "2025-04-03", "frozen", 100, "starter", 2, None),
                "payment_dunning",
            ),
            paying("2025-04-04", "2025-05-10", "active", 100, "starter", 2),
        ),
    ),
    history(
        "recovery_on_the_first_lapsed_day",
        "a payment is recovered on the first lapsed day",
        """The last paid day is 5 March + 30 = 4 April (End), so that the failure of 5 April is on a
        lapsed subscription and changes nothing. The recovery of the same day resumes it, and at the
        end of 5 April the account pays: no day is lapsed and there is no movement. The lapse has
        closed the failure of 5 March (Failure), so that 5 April is not frozen (rule 1).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-05 05:00:00", "payment_failed"),
            fact("2025-04-05 05:00:00", "payment_failed"),
            fact("2025-04-05 09:00:00", "payment_recovered"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-03-04", "active", 100, "starter", 2),
            paying(
                *("2025-03-05", "2025-04-04", "frozen", 100, "starter", 2, None),
                "payment_dunning",
            ),
            paying("2025-04-05", "2025-05-10", "active", 100, "starter", 2),
        ),
        facts_on_lapsed=(3,),
    ),
    history(
        "recovery_before_the_effective_date",
        "a lapsed payment is recovered before a pending cancellation takes effect",
        """The failure of 20 February ends the subscription after 30 days, with 22 March. The
        recovery of 28 March resumes it, but the cancellation outlives lapse and recovery and still
        ends it with its effective date, 31 March (End): 100 churns twice.""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-02-15 12:00:00", "subscription_cancelled", effective_date="2025-03-31"),
            fact("2025-02-20 05:00:00", "payment_failed"),
            fact("2025-03-28 09:00:00", "payment_recovered"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-01", "2025-02-14", "active", 100, "starter", 2),
            paying("2025-02-15", "2025-02-19", "at_risk", 100, "starter", 2),
            paying(
                *("2025-02-20", "2025-03-22", "frozen", 100, "starter", 2, None),
                "payment_dunning",
            ),
            lapsed("2025-03-23", "2025-03-27", "at_risk", "starter", 2),
            paying("2025-03-28", "2025-03-31", "at_risk", 100, "starter", 2),
            lapsed("2025-04-01", "2025-04-20", "at_risk", "starter", 2),
        ),
        movements=(
            movement("2025-03-23", "churned", 100, "starter"),
            movement("2025-03-28", "reactivated", 100, "starter"),
            movement("2025-04-01", "churned", 100, "starter"),
        ),
    ),
    history(
        "recovery_after_the_effective_date",
        "a lapsed payment is recovered after a pending cancellation took effect",
        """By 5 April the cancellation would have ended the subscription, on 31 March, so that the
        recovery does not resume it (End). The lapse counts from 22 March, the end of dunning, and
        22 March + 61 = 22 May is the first churned day (rule 3).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-02-15 12:00:00", "subscription_cancelled", effective_date="2025-03-31"),
            fact("2025-02-20 05:00:00", "payment_failed"),
            fact("2025-04-05 09:00:00", "payment_recovered"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-01", "2025-02-14", "active", 100, "starter", 2),
            paying("2025-02-15", "2025-02-19", "at_risk", 100, "starter", 2),
            paying(
                *("2025-02-20", "2025-03-22", "frozen", 100, "starter", 2, None),
                "payment_dunning",
            ),
            lapsed("2025-03-23", "2025-05-21", "at_risk", "starter", 2),
            lapsed("2025-05-22", "2025-05-31", "churned", "starter", 2),
        ),
        movements=(movement("2025-03-23", "churned", 100, "starter"),),
        facts_on_lapsed=(4,),
    ),
)

SEVERAL_SUBSCRIPTIONS = (
    history(
        "one_of_two_fails",
        "one of two subscriptions fails, lapses and is recovered",
        """A failure on a part of the subscriptions does not freeze the account, it is at_risk
        (rules 1 and 6). B ends with 1 April + 30 = 1 May: 260 falls to 60 and the tier to A's. The
        account paid all along, so that B's recovery of 20 May is an expansion, and does not
        reactivate. 20 to 31 May compare with days at 260 (rule 10), 1 to 18 June with B's lapsed
        days, 2 to 19 May, at 60 (rule 8).""",
        versions=(version("2024-08-20", "professional", 3, 260),),
        facts=(
            started("2024-09-01 10:00:00", "starter", 2, 60, "2025-09-01", subscription_id="A"),
            started(
                *("2024-12-01 10:00:00", "professional", 1, 200, "2025-12-01"),
                subscription_id="B",
            ),
            fact("2025-04-01 05:00:00", "payment_failed", subscription_id="B"),
            fact("2025-05-20 09:00:00", "payment_recovered", subscription_id="B"),
        ),
        opening=260,
        stretches=(
            paying("2025-03-15", "2025-03-31", "active", 260, "professional", 3, "2025-09-01"),
            paying("2025-04-01", "2025-05-01", "at_risk", 260, "professional", 3, "2025-09-01"),
            paying("2025-05-02", "2025-05-19", "contracting", 60, "starter", 2, "2025-09-01"),
            paying("2025-05-20", "2025-05-31", "active", 260, "professional", 3, "2025-09-01"),
            paying("2025-06-01", "2025-06-18", "expanding", 260, "professional", 3, "2025-09-01"),
            paying("2025-06-19", "2025-06-25", "active", 260, "professional", 3, "2025-09-01"),
        ),
        movements=(
            movement("2025-05-02", "contraction", 200, "starter"),
            movement("2025-05-20", "expansion", 200, "professional"),
        ),
    ),
    history(
        "both_fail",
        "two subscriptions fail and recover one by one",
        """The account has an open failure in rule 1 while every live subscription has one: from 6
        April, when B fails, to 10 April, the day before A recovers. Before and after, a part of its
        subscriptions has one (rule 6).""",
        versions=(version("2024-08-20", "starter", 2, 150),),
        facts=(
            started("2024-09-01 10:00:00", "starter", 1, 100, subscription_id="A"),
            started("2024-10-01 10:00:00", "starter", 1, 50, subscription_id="B"),
            fact("2025-04-01 05:00:00", "payment_failed", subscription_id="A"),
            fact("2025-04-06 05:00:00", "payment_failed", subscription_id="B"),
            fact("2025-04-11 05:00:00", "payment_recovered", subscription_id="A"),
            fact("2025-04-20 05:00:00", "payment_recovered", subscription_id="B"),
        ),
        opening=150,
        stretches=(
            paying("2025-03-10", "2025-03-31", "active", 150, "starter", 2),
            paying("2025-04-01", "2025-04-05", "at_risk", 150, "starter", 2),
            paying(
                *("2025-04-06", "2025-04-10", "frozen", 150, "starter", 2, None),
                "payment_dunning",
            ),
            paying("2025-04-11", "2025-04-19", "at_risk", 150, "starter", 2),
            paying("2025-04-20", "2025-05-10", "active", 150, "starter", 2),
        ),
    ),
    history(
        "one_fails_one_pauses",
        "one of two subscriptions fails while the other is paused",
        """From 6 to 10 April A has an open failure and B an open pause. Reading: "an open failure
        or pause when every live one has" asks of each subscription for one of the two, not for the
        same one, so that these days are frozen (rule 1), for payment_dunning, because a failure is
        open. Before and after, it is a part of its subscriptions (rule 6).""",
        versions=(version("2024-08-20", "starter", 2, 150),),
        facts=(
            started("2024-09-01 10:00:00", "starter", 1, 100, subscription_id="A"),
            started("2024-10-01 10:00:00", "starter", 1, 50, subscription_id="B"),
            fact("2025-04-01 05:00:00", "payment_failed", subscription_id="A"),
            fact(
                "2025-04-06 05:00:00",
                "subscription_paused",
                subscription_id="B",
                reason="seasonal",
            ),
            fact("2025-04-11 05:00:00", "payment_recovered", subscription_id="A"),
            fact("2025-04-20 05:00:00", "subscription_resumed", subscription_id="B"),
        ),
        opening=150,
        stretches=(
            paying("2025-03-10", "2025-03-31", "active", 150, "starter", 2),
            paying("2025-04-01", "2025-04-05", "at_risk", 150, "starter", 2),
            paying(
                *("2025-04-06", "2025-04-10", "frozen", 150, "starter", 2, None),
                "payment_dunning",
            ),
            paying("2025-04-11", "2025-04-19", "at_risk", 150, "starter", 2),
            paying("2025-04-20", "2025-05-10", "active", 150, "starter", 2),
        ),
    ),
    history(
        "both_end",
        "two subscriptions are cancelled one by one",
        """A ends with its effective date, 15 March, and its 200 is a contraction, under the tier
        that remains. The account lapses when none is live: its end is the latest, B's of 25 March
        (Subscriptions), and 25 March + 61 = 25 May is the first churned day (rule 3).""",
        versions=(version("2024-08-20", "professional", 3, 250),),
        facts=(
            started("2024-09-01 10:00:00", "professional", 2, 200, subscription_id="A"),
            started("2024-10-01 10:00:00", "starter", 1, 50, subscription_id="B"),
            fact(
                "2025-03-10 12:00:00",
                "subscription_cancelled",
                subscription_id="A",
                effective_date="2025-03-15",
            ),
            fact("2025-03-25 12:00:00", "subscription_cancelled", subscription_id="B"),
        ),
        opening=250,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 250, "professional", 3),
            paying("2025-03-10", "2025-03-15", "at_risk", 250, "professional", 3),
            paying("2025-03-16", "2025-03-24", "contracting", 50, "starter", 1),
            paying("2025-03-25", "2025-03-25", "at_risk", 50, "starter", 1),
            lapsed("2025-03-26", "2025-05-24", "at_risk", "starter", 1),
            lapsed("2025-05-25", "2025-06-05", "churned", "starter", 1),
        ),
        movements=(
            movement("2025-03-16", "contraction", 200, "starter"),
            movement("2025-03-26", "churned", 50, "starter"),
        ),
    ),
    history(
        "replaced_on_one_instant",
        "an account moves to a smaller subscription on one instant",
        """A ends with 10 April. B did not live on 9 April, starts on 10 April and lives on, so that
        A no longer counts on 10 April (Subscriptions): not its 300, its seats, its earlier renewal
        date, nor its pending cancellation (rule 6). Days up to 9 April + 30 = 9 May compare with
        300 (rule 7).""",
        versions=(version(CREATED, "professional", 3, 300),),
        facts=(
            started(
                *("2024-06-10 10:00:00", "professional", 3, 300, "2025-06-10"),
                subscription_id="A",
            ),
            fact("2025-04-10 10:00:00", "subscription_cancelled", subscription_id="A"),
            started("2025-04-10 10:00:00", "starter", 2, 100, "2026-04-10", subscription_id="B"),
        ),
        opening=300,
        stretches=(
            paying("2025-03-20", "2025-04-09", "active", 300, "professional", 3, "2025-06-10"),
            paying("2025-04-10", "2025-05-09", "contracting", 100, "starter", 2, "2026-04-10"),
            paying("2025-05-10", "2025-05-31", "active", 100, "starter", 2, "2026-04-10"),
        ),
        movements=(movement("2025-04-10", "contraction", 200, "starter"),),
    ),
    history(
        "overlap_of_a_day",
        "a new subscription starts on the day before the old one ends",
        """B already lived on 9 April, so that it does not replace A on 10 April, A's last paid day
        (Subscriptions): both count on two days. 11 April falls to 80; days up to 8 April + 30 = 8
        May compare with 100, and 9 and 10 May with 180 (rule 7). Seats just bought do not count
        against utilization (rule 6).""",
        versions=(ROW,),
        facts=(
            started("2024-06-10 10:00:00", "starter", 2, 100, subscription_id="A"),
            started("2025-04-09 10:00:00", "starter", 2, 80, subscription_id="B"),
            fact("2025-04-10 10:00:00", "subscription_cancelled", subscription_id="A"),
        ),
        opening=100,
        stretches=(
            paying("2025-03-20", "2025-04-08", "active", 100, "starter", 2),
            paying("2025-04-09", "2025-04-09", "expanding", 180, "starter", 4),
            paying("2025-04-10", "2025-04-10", "at_risk", 180, "starter", 4),
            paying("2025-04-11", "2025-05-10", "contracting", 80, "starter", 2),
            paying("2025-05-11", "2025-05-25", "active", 80, "starter", 2),
        ),
        movements=(
            movement("2025-04-09", "expansion", 80, "starter"),
            movement("2025-04-11", "contraction", 100, "starter"),
        ),
    ),
    history(
        "cancellation_without_an_id",
        "a cancellation without a subscription id ends the latest subscription",
        """A fact without an id belongs to the subscription of the last start before it
        (Subscriptions), so that 10 April is B's last paid day (End) and 100 remains. Days up to 10
        April + 30 = 10 May compare with 150 (rule 7).""",
        versions=(version(CREATED, "starter", 2, 150),),
        facts=(
            started("2024-06-10 10:00:00", "starter", 1, 100, subscription_id="A"),
            started("2024-09-10 10:00:00", "starter", 1, 50, subscription_id="B"),
            fact("2025-04-10 12:00:00", "subscription_cancelled"),
        ),
        opening=150,
        stretches=(
            paying("2025-03-20", "2025-04-09", "active", 150, "starter", 2),
            paying("2025-04-10", "2025-04-10", "at_risk", 150, "starter", 2),
            paying("2025-04-11", "2025-05-10", "contracting", 100, "starter", 1),
            paying("2025-05-11", "2025-05-25", "active", 100, "starter", 1),
        ),
        movements=(movement("2025-04-11", "contraction", 50, "starter"),),
    ),
    history(
        "next_of_two_renewals",
        "one of two annual subscriptions is not renewed",
        """The account's renewal date is the earliest not yet passed (Subscriptions): A's up to 15
        March, and B's from 16 March on, while A is in its days of grace. A ends with 15 + 3 = 18
        March (End). Days up to 18 March + 30 = 17 April compare with 150 (rule 7). Reading: a
        renewal date has not yet passed on the date itself.""",
        versions=(version("2024-03-01", "starter", 2, 150),),
        facts=(
            started("2024-03-15 10:00:00", "starter", 1, 100, "2025-03-15", subscription_id="A"),
            started("2024-09-01 10:00:00", "starter", 1, 50, "2025-09-01", subscription_id="B"),
        ),
        opening=150,
        stretches=(
            paying("2025-02-20", "2025-03-15", "active", 150, "starter", 2, "2025-03-15"),
            paying("2025-03-16", "2025-03-18", "active", 150, "starter", 2, "2025-09-01"),
            paying("2025-03-19", "2025-04-17", "contracting", 50, "starter", 1, "2025-09-01"),
            paying("2025-04-18", "2025-04-30", "active", 50, "starter", 1, "2025-09-01"),
        ),
        movements=(movement("2025-03-19", "contraction", 100, "starter"),),
    ),
)

CANCELLATIONS = (
    history(
        "withdrawn_by_a_renewal",
        "a cancellation is withdrawn by a renewal",
        """The renewal of 5 April voids the cancellation (Cancellation), so that the account is
        at_risk from 10 March to 4 April (rule 6) and does not end on 30 April, the former
        effective date.""",
        versions=(version("2024-04-20", "starter", 2, 100),),
        facts=(
            started("2024-04-30 10:00:00", "starter", 2, 100, "2025-04-30"),
            fact("2025-03-10 12:00:00", "subscription_cancelled", effective_date="2025-04-30"),
            fact(
                "2025-04-05 09:00:00",
                "subscription_renewed",
                contract_renewal_date="2026-04-30",
            ),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 100, "starter", 2, "2025-04-30"),
            paying("2025-03-10", "2025-04-04", "at_risk", 100, "starter", 2, "2025-04-30"),
            paying("2025-04-05", "2025-05-20", "active", 100, "starter", 2, "2026-04-30"),
        ),
    ),
    history(
        "withdrawn_on_its_last_day",
        "a cancellation is withdrawn by a start in the evening of its effective date",
        """The end is the first date at whose end a pending cancellation has reached its effective
        date (End). At the end of 31 March none is pending, because the start of 18:00 voids it:
        nothing lapses, and 31 March is no longer at_risk (rule 6).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-10 12:00:00", "subscription_cancelled", effective_date="2025-03-31"),
            started("2025-03-31 18:00:00", revenue=100),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 100, "starter", 2),
            paying("2025-03-10", "2025-03-30", "at_risk", 100, "starter", 2),
            paying("2025-03-31", "2025-04-30", "active", 100, "starter", 2),
        ),
    ),
    history(
        "cancelled_again_for_later",
        "a second cancellation moves the effective date",
        """The latest cancellation counts (Cancellation): 30 April, not 31 March, is the last paid
        day (End), and 100 churns on 1 May.""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-10 12:00:00", "subscription_cancelled", effective_date="2025-03-31"),
            fact("2025-03-20 12:00:00", "subscription_cancelled", effective_date="2025-04-30"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 100, "starter", 2),
            paying("2025-03-10", "2025-04-30", "at_risk", 100, "starter", 2),
            lapsed("2025-05-01", "2025-05-20", "at_risk", "starter", 2),
        ),
        movements=(movement("2025-05-01", "churned", 100, "starter"),),
    ),
    history(
        "cancelled_into_the_past",
        "a second cancellation states an effective date that has passed",
        """The latest cancellation counts, and 20 March is the first date at whose end it is pending
        and has reached its effective date, 15 March (End): 20 March is the last paid day. The days
        from 16 March on stay paid, because the fact of 20 March is not one of theirs
        (section 1).""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-10 12:00:00", "subscription_cancelled", effective_date="2025-04-30"),
            fact("2025-03-20 12:00:00", "subscription_cancelled", effective_date="2025-03-15"),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 100, "starter", 2),
            paying("2025-03-10", "2025-03-20", "at_risk", 100, "starter", 2),
            lapsed("2025-03-21", "2025-04-20", "at_risk", "starter", 2),
        ),
        movements=(movement("2025-03-21", "churned", 100, "starter"),),
    ),
    history(
        "refunds",
        "a refund while the account pays and one after its end change nothing",
        """A refund is not a billing fact of section 2 and carries no values: 5 March has no
        movement. The cancellation of 20 March makes it the last paid day (End), and the refund of
        25 March neither resumes nor moves anything. Section 2 lists the billing facts that
        `bronze_subscription_events` holds, and a refund is not among them: it does not enter, so
        that it is no event on a lapsed subscription.""",
        versions=(ROW,),
        facts=(
            START,
            fact("2025-03-05 09:00:00", "payment_refunded", amount=100),
            fact("2025-03-20 12:00:00", "subscription_cancelled"),
            fact("2025-03-25 09:00:00", "payment_refunded", amount=40),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-19", "active", 100, "starter", 2),
            paying("2025-03-20", "2025-03-20", "at_risk", 100, "starter", 2),
            lapsed("2025-03-21", "2025-04-20", "at_risk", "starter", 2),
        ),
        movements=(movement("2025-03-21", "churned", 100, "starter"),),
    ),
)

ROWS_AND_VERSIONS = (
    history(
        "paid_by_its_row",
        "an account pays by its row and then adds a seat",
        """`first_paid_at` is the first payment and the row's 80 holds until a fact carries a
        revenue (Values). The seat of 10 March is past the 30 days of rule 5, so that days up to 9
        March + 30 = 8 April compare with 80 (rule 8). Rule 9 holds up to 20 January + 90 = 20
        April.""",
        versions=(version("2025-01-06", "starter", 2, 80, first_paid="2025-01-20"),),
        facts=(
            fact(
                "2025-03-10 09:00:00",
                "seats_changed",
                total_seats=3,
                monthly_recurring_revenue=120,
            ),
        ),
        stretches=(
            never_paid("2025-01-06", "2025-01-19", "trial", 2),
            paying("2025-01-20", "2025-03-09", "new_paid", 80, "starter", 2),
            paying("2025-03-10", "2025-04-08", "expanding", 120, "starter", 3),
            paying("2025-04-09", "2025-04-20", "new_paid", 120, "starter", 3),
            paying("2025-04-21", "2025-05-05", "active", 120, "starter", 3),
        ),
        movements=(
            movement("2025-01-20", "new", 80, "starter"),
            movement("2025-03-10", "expansion", 40, "starter"),
        ),
    ),
    history(
        "version_renews_in_grace",
        "a version with a later renewal date renews in the days of grace",
        """The version of 17 March has a later renewal date and renews on its valid_from (Values),
        before the end of 15 + 3 = 18 March (End). Its revenue holds from that day on, and days up
        to 16 March + 30 = 15 April compare with 100 (rule 8).""",
        versions=(
            version(
                *("2024-03-01", "starter", 2, 100),
                renewal="2025-03-15",
                first_paid="2024-03-15",
            ),
            version(
                *("2024-03-01", "starter", 2, 120),
                valid_from="2025-03-17",
                renewal="2026-03-15",
                first_paid="2024-03-15",
            ),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-16", "active", 100, "starter", 2, "2025-03-15"),
            paying("2025-03-17", "2025-04-15", "expanding", 120, "starter", 2, "2026-03-15"),
            paying("2025-04-16", "2025-05-05", "active", 120, "starter", 2, "2026-03-15"),
        ),
        movements=(movement("2025-03-17", "expansion", 20, "starter"),),
    ),
    history(
        "version_renews_late",
        "a version with a later renewal date renews a lapsed account",
        """The last paid day is 15 + 3 = 18 March (End), and the version of 25 March resumes the
        account as `subscription_renewed` does (Values). Days up to 18 March + 30 = 17 April compare
        with 100 (rule 8), those up to 23 April with lapsed days, which do not count (rule 10).""",
        versions=(
            version(
                *("2024-03-01", "starter", 2, 100),
                renewal="2025-03-15",
                first_paid="2024-03-15",
            ),
            version(
                *("2024-03-01", "starter", 2, 120),
                valid_from="2025-03-25",
                renewal="2026-03-15",
                first_paid="2024-03-15",
            ),
        ),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-18", "active", 100, "starter", 2, "2025-03-15"),
            lapsed("2025-03-19", "2025-03-24", "at_risk", "starter", 2),
            paying("2025-03-25", "2025-04-17", "expanding", 120, "starter", 2, "2026-03-15"),
            paying("2025-04-18", "2025-05-10", "active", 120, "starter", 2, "2026-03-15"),
        ),
        movements=(
            movement("2025-03-19", "churned", 100, "starter"),
            movement("2025-03-25", "reactivated", 120, "starter"),
        ),
    ),
    history(
        "version_from_none_to_one",
        "a version that states a first renewal date does not renew",
        """From no renewal date to one renews nothing (Values), so that the account that lapsed on 2
        March stays lapsed on 10 March. While lapsed, seats and tier stay those of the last paid
        day, 1 March, and the version of the day does not matter.""",
        versions=(
            version("2024-03-01", "starter", 2, 100, first_paid="2024-03-15"),
            version(
                *("2024-03-01", "professional", 4, 300),
                valid_from="2025-03-10",
                renewal="2026-03-10",
                first_paid="2024-03-15",
            ),
        ),
        facts=(fact("2025-03-01 12:00:00", "subscription_cancelled"),),
        opening=100,
        stretches=(
            paying("2025-02-10", "2025-02-28", "active", 100, "starter", 2),
            paying("2025-03-01", "2025-03-01", "at_risk", 100, "starter", 2),
            lapsed("2025-03-02", "2025-04-20", "at_risk", "starter", 2),
        ),
        movements=(movement("2025-03-02", "churned", 100, "starter"),),
    ),
    history(
        "version_next_to_facts",
        "a version changes only what no fact has set",
        """The start set tier and revenue, which the version of 15 March does not change (Values).
        It did not set the seats, which rise from 2 to 3: of revenue, tier and seats the first that
        differs is higher, on days up to 14 March + 30 = 13 April (rule 8).""",
        versions=(
            version(CREATED, "starter", 2, 90),
            version(CREATED, "enterprise", 3, 500, valid_from="2025-03-15"),
        ),
        facts=(started("2024-06-10 10:00:00", "professional", revenue=100),),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-14", "active", 100, "professional", 2),
            paying("2025-03-15", "2025-04-13", "expanding", 100, "professional", 3),
            paying("2025-04-14", "2025-05-05", "active", 100, "professional", 3),
        ),
    ),
    history(
        "row_and_first_fact",
        "a first fact replaces the revenue of the row",
        """The payment that `first_paid_at` states belongs to the first subscription that a fact
        names, B (Subscriptions), and the row is never added to facts (Values): from 1 April on the
        revenue is 50, not 150. Days up to 31 March + 30 = 30 April compare with 100 (rule 7).""",
        versions=(version("2024-03-01", "starter", 2, 100, first_paid="2024-03-15"),),
        facts=(started("2025-04-01 10:00:00", revenue=50, subscription_id="B"),),
        opening=100,
        stretches=(
            paying("2025-03-10", "2025-03-31", "active", 100, "starter", 2),
            paying("2025-04-01", "2025-04-30", "contracting", 50, "starter", 2),
            paying("2025-05-01", "2025-05-20", "active", 50, "starter", 2),
        ),
        movements=(movement("2025-04-01", "contraction", 50, "starter"),),
    ),
    history(
        "paid_before_creation",
        "a subscription starts five days before the account is created",
        """Facts before the creation count with their own dates (Order): rule 9 holds up to 5 March
        + 90 = 3 June, not 8 June. The account does not exist before 10 March. Reading: its revenue
        is therefore new on 10 March, its first day, so that the day's opening is the closing of
        the day before.""",
        versions=(version("2025-03-10", "starter", 2, 100),),
        facts=(started("2025-03-05 10:00:00", "starter", 2, 100),),
        stretches=(
            paying("2025-03-10", "2025-06-03", "new_paid", 100, "starter", 2),
            paying("2025-06-04", "2025-06-20", "active", 100, "starter", 2),
        ),
        movements=(movement("2025-03-10", "new", 100, "starter"),),
    ),
)

SEATS_AND_AMOUNTS = (
    history(
        "seats_filled_in",
        "missing seats are the number of users",
        """No row and no fact states seats, so that they are the account's users of the day, without
        those deleted (section 2): 3 from 10 March on and 2 from 10 April on, the day of the
        deletion. Seats filled in are not compared in rules 7 and 8, so that the state stays
        active.""",
        versions=(version(CREATED, "starter", None, 100),),
        users=(
            User("seats_filled_in_user_1", date(2024, 6, 1)),
            User(
                "seats_filled_in_user_2",
                date(2024, 6, 1),
                datetime.fromisoformat("2025-04-10 12:00:00"),
            ),
            User("seats_filled_in_user_3", date(2025, 3, 10)),
        ),
        facts=(started("2024-06-10 10:00:00", "starter", revenue=100),),
        opening=100,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 100, "starter", 2),
            paying("2025-03-10", "2025-04-09", "active", 100, "starter", 3),
            paying("2025-04-10", "2025-05-10", "active", 100, "starter", 2),
        ),
    ),
    history(
        "seats_of_zero",
        "seats are not counted for a while and then counted again",
        """Rules 7 and 8 do not compare seats of 0, neither with the 3 before nor with the 10 after.
        While one of the last 30 days has seats of 0, use is full (rule 6): up to 9 May + 29 = 7
        June. From 8 June on the lowest seat count is 10, and 2 of 10 are under 30 %.""",
        versions=(version(CREATED, "starter", 3, 100),),
        facts=(
            started("2024-06-10 10:00:00", "starter", 3, 100),
            fact("2025-04-01 09:00:00", "seats_changed", total_seats=0),
            fact("2025-05-10 09:00:00", "seats_changed", total_seats=10),
        ),
        opening=100,
        stretches=(
            paying("2025-03-15", "2025-03-31", "active", 100, "starter", 3),
            paying("2025-04-01", "2025-05-09", "active", 100, "starter", 0),
            paying("2025-05-10", "2025-06-07", "active", 100, "starter", 10),
            paying("2025-06-08", "2025-06-20", "at_risk", 100, "starter", 10),
        ),
    ),
    history(
        "currencies",
        "amounts are in a currency with a rate, and then in one without",
        """At 1.25, 100 EUR are 125 and 160 EUR are 200; 180 GBP have no rate and count at 1, 180
        (Subscriptions). Days up to 9 March + 30 = 8 April compare with 125 (rule 8), and those from
        15 May to 14 May + 30 = 13 June with 200 (rule 7).""",
        versions=(version(CREATED, "professional", 2, 0),),
        facts=(
            started("2024-06-10 10:00:00", "professional", 2, 100, currency="EUR"),
            fact(
                "2025-03-10 09:00:00",
                "tier_changed",
                monthly_recurring_revenue=160,
                currency="EUR",
            ),
            fact(
                "2025-05-15 09:00:00",
                "tier_changed",
                monthly_recurring_revenue=180,
                currency="GBP",
            ),
        ),
        opening=125,
        stretches=(
            paying("2025-02-20", "2025-03-09", "active", 125, "professional", 2),
            paying("2025-03-10", "2025-04-08", "expanding", 200, "professional", 2),
            paying("2025-04-09", "2025-05-14", "active", 200, "professional", 2),
            paying("2025-05-15", "2025-06-13", "contracting", 180, "professional", 2),
            paying("2025-06-14", "2025-06-25", "active", 180, "professional", 2),
        ),
        movements=(
            movement("2025-03-10", "expansion", 75, "professional"),
            movement("2025-05-15", "contraction", 20, "professional"),
        ),
    ),
    history(
        "free_at_first",
        "a subscription starts at revenue 0 and has a price later",
        """An account pays while a subscription is live, at any revenue: it first pays on 20
        January, with nothing new to count. Reading: the 50 of 10 March are an expansion, because
        the account does not first pay then (section 8). Days up to 9 March + 30 = 8 April compare
        with 0 (rule 8), and rule 9 holds up to 20 January + 90 = 20 April.""",
        versions=(version("2025-01-06", "starter", 2, 0),),
        facts=(
            started("2025-01-20 10:00:00", "starter", 2, 0),
            fact("2025-03-10 09:00:00", "tier_changed", monthly_recurring_revenue=50),
        ),
        stretches=(
            never_paid("2025-01-06", "2025-01-19", "trial", 2),
            paying("2025-01-20", "2025-03-09", "new_paid", 0, "starter", 2),
            paying("2025-03-10", "2025-04-08", "expanding", 50, "starter", 2),
            paying("2025-04-09", "2025-04-20", "new_paid", 50, "starter", 2),
            paying("2025-04-21", "2025-05-05", "active", 50, "starter", 2),
        ),
        movements=(movement("2025-03-10", "expansion", 50, "starter"),),
    ),
    history(
        "without_billing",
        "a source without accounts and billing facts has paid accounts at revenue 0",
        """The account is created with its first user and is paid since then, at revenue 0
        (section 2), so that rules 5 and 9 hold up to 6 January + 90 = 6 April. The tier is
        `unknown`, and the seats are the number of users.""",
        versions=(),
        users=(
            User("without_billing_user_1", date(2025, 1, 6)),
            User("without_billing_user_2", date(2025, 1, 6)),
        ),
        stretches=(
            paying("2025-01-06", "2025-04-06", "new_paid", 0, "unknown", 2),
            paying("2025-04-07", "2025-04-20", "active", 0, "unknown", 2),
        ),
    ),
)

HISTORIES = (
    *REPORTED,
    *ANNUAL_PLANS,
    *UPGRADES_AND_DOWNGRADES,
    *RESTARTS,
    *PAUSES,
    *FAILURES,
    *SEVERAL_SUBSCRIPTIONS,
    *CANCELLATIONS,
    *ROWS_AND_VERSIONS,
    *SEATS_AND_AMOUNTS,
)
