"""Section 5 of the framework, "Billing facts": the subscriptions of one account, event by event.

Within a day, the facts are applied in order of timestamp, kind and event id. Then the end of the day is
evaluated. Use and states are in ``accounts``.

Assumptions where the framework leaves room for interpretation:

* The first payment is an instant, not a day. ``first_paid_at`` takes effect at that time, before events
  with the same timestamp, if the account's first subscription has not been paid for by then. Otherwise
  it changes nothing.
* Before the first payment of a subscription, nothing can fail, pause or be canceled. The values of all
  events are kept and apply once the subscription is paid for ("from the last event that carried them").
* Before the account's first payment, its seats are the sum over the subscriptions that facts name.
* A value that no live subscription has carried comes from the account's version of the day. The row is
  neither added to nor compared with the values of subscriptions that have carried one.
* Any subscription event may contain any of the four values. On a lapsed subscription, only a start, a
  renewal or a recovery takes effect, and the metadata of other events is never used.
* A recovery, renewal, start or lapse closes all open failures. A resumption, start or lapse closes all
  open pauses. The days of grace count from a resumption or a start, but not from a lapse.
* A cancellation without an effective date, or with a past one, ends the subscription on the day of the
  event. It is still pending on the day on which it takes effect, which is the last paid day.
* A recovery on the effective date of a cancellation resumes the subscription for that day.
* Events of the last paid day are applied before the end of that day is evaluated. The lapse takes place
  at the start of the next day, before the events of that day. It closes an open failure, without an
  event, even if a payment follows on the same day. In that case, no day is lapsed.
* If several pauses are open, the latest determines the reason. Any reason except seasonal becomes
  voluntary_pause.
* A version with a later renewal date than the version before renews only a subscription that has been
  paid for. It is no first payment, and no event closes the failures that it closes.
* A subscription that restarts on the day after its end has lived on the day before, so that it replaces
  no other one. A subscription that ends on the day on which it starts replaces none either.
* A renewal date has not yet passed on the date itself.
* Events dated before the creation of the account are applied, but rows start on the creation date.
* The first open failure of a day opened the dunning of that day, and the last event of the day that
  closed a failure closed it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal

from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.users import ONE_DAY, Dunning
from monstera_assets_tests.oracle.versions import Versions

STARTS = ("subscription_started", "subscription_renewed")
KNOWN_TYPES = (
    *STARTS,
    "subscription_cancelled",
    "subscription_paused",
    "subscription_resumed",
    "seats_changed",
    "tier_changed",
    "payment_failed",
    "payment_recovered",
)
ON_ONE_INSTANT = (
    *("subscription_cancelled", "subscription_paused", "payment_failed", "payment_recovered"),
    *("subscription_resumed", "subscription_renewed", "subscription_started"),
)
"""The order of events with the same timestamp; changes come last."""
TIERS: Sequence[str] = ("trial", "starter", "professional", "enterprise")
VALUES = ("subscription_tier", "total_seats", "monthly_recurring_revenue", "contract_renewal_date")


@dataclass(frozen=True)
class Terms:
    """The values of a version of an account that facts can change (section 2).

    ``monthly_recurring_revenue`` is per month, in the currency of the source.
    """

    subscription_tier: str = "trial"
    total_seats: int | None = 0
    monthly_recurring_revenue: float = 0.0
    contract_renewal_date: date | None = None


@dataclass(frozen=True)
class AccountRow:
    """The versions of an account in bronze_accounts, with the columns that billing reads (section 2).

    The terms are those of the first version, and ``later`` contains those of later versions, each with
    its first day. Timestamps are naive and in UTC.
    """

    account_id: str
    account_created_at: datetime
    subscription_tier: str = "trial"
    total_seats: int | None = 0
    monthly_recurring_revenue: float = 0.0
    contract_renewal_date: date | None = None
    first_paid_at: datetime | None = None
    later: tuple[tuple[date, Terms], ...] = ()

    @property
    def versions(self) -> Versions[Terms]:
        """The terms of all versions."""
        first = Terms(
            self.subscription_tier,
            self.total_seats,
            self.monthly_recurring_revenue,
            self.contract_renewal_date,
        )
        return Versions(first, self.later)


@dataclass(frozen=True)
class SubscriptionEvent:
    """One subscription event of an account, with its metadata parsed from JSON (section 2)."""

    timestamp: datetime
    event_id: str
    event_type: str
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class BillingDay:
    """The billing of one account at the end of one day (section 5).

    Attributes:
        account_id: The account.
        snapshot_date: The day that the row describes.
        status: never_paid, paid or lapsed.
        lapsed_days: The number of days since the last paid day, at least 1; None unless lapsed.
        subscription_tier: The tier, which is trial before the first payment.
        total_seats: The number of seats bought; None if it is not stated.
        monthly_recurring_revenue: The revenue per month; 0 if never paid or lapsed.
        contract_renewal_date: The next renewal date; None if never paid, lapsed or open-ended.
        days_to_renewal: Days until the renewal date, negative after it; None if never paid or lapsed.
        open_failures: The number of open payment failures of all live subscriptions.
        failure_open: Whether every live subscription has an open failure or pause, and one a failure.
        partly_halted: Whether only a part of the live subscriptions has an open failure or pause.
        dunning_since: The date of the first open failure.
        latest_grace_until: The end of the grace period in the latest open failure, if any.
        dunning_type: grace_period, soft or hard; None if no failure is open.
        dunning_event_id: The event that opened or closed the dunning on this day, if any.
        is_paused: Whether every live subscription has an open failure or pause, and one a pause.
        pause_reason: The reason of the latest open pause: seasonal or voluntary_pause.
        cancellation_pending: Whether a cancellation is pending.
        end_date: The last paid day; None unless lapsed.
        first_payment_date: The date of the first payment; None before it.
    """

    account_id: str
    snapshot_date: date
    status: str
    lapsed_days: int | None
    subscription_tier: str
    total_seats: int | None
    monthly_recurring_revenue: Decimal
    contract_renewal_date: date | None
    days_to_renewal: int | None
    open_failures: int
    failure_open: bool
    partly_halted: bool
    dunning_since: date | None
    latest_grace_until: date | None
    dunning_type: str | None
    dunning_event_id: str | None
    is_paused: bool
    pause_reason: str | None
    cancellation_pending: bool
    end_date: date | None
    first_payment_date: date | None


@dataclass(frozen=True)
class _Failure:
    position: int
    event_id: str
    day: date
    grace_until: date | None


@dataclass
class _Subscription:
    """The facts about one subscription, updated as events are applied."""

    status: str = "never_paid"
    first_payment: date | None = None
    end: date | None = None
    lived_yesterday: bool = False
    failures: list[_Failure] = field(default_factory=list)
    pauses: list[tuple[int, str]] = field(default_factory=list)
    pause_ended: date | None = None
    cancellation: date | None = None
    carried: dict[str, object] = field(default_factory=dict)

    @property
    def is_halted(self) -> bool:
        """Whether a failure or a pause is open."""
        return bool(self.failures or self.pauses)


def read_date(value: object) -> date | None:
    """Return the date of an ISO date or timestamp in the metadata, or None if there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    return date.fromisoformat(str(value)[:10])


def in_order(events: Iterable[SubscriptionEvent]) -> list[SubscriptionEvent]:
    """Return events by timestamp, on one instant by kind, then by id (section 5, Order)."""

    def key(event: SubscriptionEvent) -> tuple[datetime, int, str]:
        kinds = (*ON_ONE_INSTANT, event.event_type)
        return event.timestamp, kinds.index(event.event_type), event.event_id

    return sorted(events, key=key)


def subscriptions_of(ordered: Sequence[SubscriptionEvent]) -> tuple[list[str], str]:
    """Return the subscription of each event, and the first that an event names ("" if none)."""
    stated = [event.metadata.get("subscription_id") for event in ordered]
    first = next((str(name) for name in stated if name is not None), "")
    found: list[str] = []
    for position, name in enumerate(stated):
        if name is not None:
            found.append(str(name))
            continue
        starts = [n for n in range(position) if ordered[n].event_type in STARTS]
        found.append(found[starts[-1]] if starts else first)
    return found, first


def amount_of(metadata: Mapping[str, object], policy: OraclePolicy) -> Decimal:
    """Return the revenue in the reporting currency, rounded to cents (section 5, Subscriptions)."""
    rates = {currency: Decimal(str(rate)) for currency, rate in policy.exchange_rates}
    rate = rates.get(str(metadata.get("currency")), Decimal(1))
    amount = Decimal(str(metadata["monthly_recurring_revenue"])) * rate
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _pay(subscription: _Subscription, day: date) -> None:
    if subscription.status == "never_paid":
        subscription.first_payment = day
    subscription.status = "paid"
    subscription.end = None


def _is_ignored(subscription: _Subscription, event: SubscriptionEvent) -> bool:
    """Return whether an event changes nothing because the subscription has lapsed."""
    if subscription.status != "lapsed" or event.event_type in STARTS:
        return False
    cancelled = subscription.cancellation
    ended_by_then = cancelled is not None and cancelled < event.timestamp.date()
    return event.event_type != "payment_recovered" or ended_by_then


def _apply(
    subscription: _Subscription,
    event: SubscriptionEvent,
    position: int,
    row_renewal: date | None,
    policy: OraclePolicy,
) -> bool:
    """Apply an event (section 5, Values to End), and return whether it closed a failure.

    Args:
        subscription: The subscription.
        event: The event, which is not ignored.
        position: Its position among the account's events.
        row_renewal: The renewal date of the account's row, if it is that of the subscription.
        policy: The exchange rates.
    """
    kind, day, metadata = event.event_type, event.timestamp.date(), event.metadata
    had_failures = bool(subscription.failures)
    for name in VALUES:
        if metadata.get(name) is not None:
            subscription.carried[name] = metadata[name]
            if name == "monthly_recurring_revenue":
                subscription.carried[name] = amount_of(metadata, policy)
    states_renewal = metadata.get("contract_renewal_date") is not None
    if kind in STARTS:
        _pay(subscription, day)
        if not states_renewal:
            subscription.carried["contract_renewal_date"] = None
        subscription.cancellation = None
        subscription.failures.clear()
        if kind == "subscription_started" and subscription.pauses:
            subscription.pauses.clear()
            subscription.pause_ended = day
        return had_failures
    if subscription.status == "never_paid":
        return False
    if kind == "payment_recovered":
        _pay(subscription, day)
        subscription.failures.clear()
        renewal = _renewal_date(subscription, row_renewal)
        if not states_renewal and renewal is not None and renewal <= day:
            subscription.carried["contract_renewal_date"] = None
        return had_failures
    if kind == "payment_failed":
        grace_until = read_date(metadata.get("grace_until"))
        subscription.failures.append(_Failure(position, event.event_id, day, grace_until))
    elif kind == "subscription_paused":
        reason = "seasonal" if metadata.get("reason") == "seasonal" else "voluntary_pause"
        subscription.pauses.append((position, reason))
    elif kind == "subscription_resumed":
        if subscription.pauses:
            subscription.pause_ended = day
        subscription.pauses.clear()
    elif kind == "subscription_cancelled":
        subscription.cancellation = read_date(metadata.get("effective_date")) or day
    return False


def _renewal_date(subscription: _Subscription, row_renewal: date | None) -> date | None:
    if "contract_renewal_date" in subscription.carried:
        return read_date(subscription.carried["contract_renewal_date"])
    return row_renewal


def _renews_by_version(subscription: _Subscription, row: AccountRow, day: date) -> bool:
    """Return whether a version with a later renewal date than the one before starts on a day."""
    if "contract_renewal_date" in subscription.carried:
        return False
    if all(valid_from != day for valid_from, _ in row.later):
        return False
    before = row.versions.on(day - ONE_DAY).contract_renewal_date
    now = row.versions.on(day).contract_renewal_date
    return before is not None and now is not None and now > before


def _has_ended(
    subscription: _Subscription, renewal: date | None, day: date, policy: OraclePolicy
) -> bool:
    """Return whether a paid day is the last one (section 5, End)."""
    if subscription.cancellation is not None and subscription.cancellation <= day:
        return True
    if subscription.failures:
        unpaid_since = subscription.failures[0].day
        return (day - unpaid_since).days >= policy.dunning_days
    if subscription.pauses or renewal is None:
        return False
    grace_from = renewal
    if subscription.pause_ended is not None and subscription.pause_ended > renewal:
        grace_from = subscription.pause_ended
    return (day - grace_from).days >= policy.renewal_grace_days


def billing_history(
    row: AccountRow,
    events: Iterable[SubscriptionEvent],
    through: date,
    policy: OraclePolicy | None = None,
    ignored: list[str] | None = None,
) -> list[BillingDay]:
    """Return one row per date for the billing of one account since its creation (section 5).

    The rows are sorted, oldest first. There are none if the account was created after ``through``.

    Args:
        row: The versions of the account in bronze_accounts.
        events: Its subscription events, in any order.
        through: The last date (inclusive).
        policy: The thresholds, by default those of the framework.
        ignored: A list to which the ids of events are added that change nothing because their
            subscription has lapsed.

    Raises:
        ValueError: If an event has a type that accounts cannot have.
    """
    policy = policy or OraclePolicy()
    ordered = in_order(events)
    for event in ordered:
        if event.event_type not in KNOWN_TYPES:
            raise ValueError(
                f"{event.event_id}: {event.event_type} is not a subscription event of an account"
            )
    names, first_name = subscriptions_of(ordered)
    subscriptions = {name: _Subscription() for name in (first_name, *names)}
    first = subscriptions[first_name]
    created = row.account_created_at.date()
    first_paid_at = row.first_paid_at
    days_with_facts = [event.timestamp.date() for event in ordered]
    if first_paid_at is not None:
        days_with_facts.append(first_paid_at.date())

    rows: list[BillingDay] = []
    was_dunning = False
    last_paid: tuple[str, int | None] | None = None
    day = min([created, *days_with_facts])
    while day <= through:
        # Start of the day: a subscription lapses if the day before was its last paid day.
        for subscription in subscriptions.values():
            subscription.lived_yesterday = subscription.status == "paid"
            if subscription.status == "paid" and subscription.end is not None:
                subscription.status = "lapsed"
                subscription.failures.clear()
                subscription.pauses.clear()

        # Also at the start of the day: a version with a later renewal date renews.
        if first.status != "never_paid" and _renews_by_version(first, row, day):
            _pay(first, day)
            first.cancellation = None
            first.failures.clear()

        # During the day: events are applied.
        closed_by = None
        terms = row.versions.on(day)
        paid_at = first_paid_at if first_paid_at and first_paid_at.date() == day else None
        for position, event in enumerate(ordered):
            if event.timestamp.date() != day:
                continue
            if paid_at is not None and paid_at <= event.timestamp:
                if first.status == "never_paid":
                    _pay(first, day)
                paid_at = None
            subscription = subscriptions[names[position]]
            if _is_ignored(subscription, event):
                if ignored is not None:
                    ignored.append(event.event_id)
                continue
            row_renewal = terms.contract_renewal_date if subscription is first else None
            if _apply(subscription, event, position, row_renewal, policy):
                closed_by = event.event_id
        if paid_at is not None and first.status == "never_paid":
            _pay(first, day)

        # End of the day: check which subscriptions end today, and which no longer count.
        for subscription in subscriptions.values():
            row_renewal = terms.contract_renewal_date if subscription is first else None
            renewal = _renewal_date(subscription, row_renewal)
            if subscription.status == "paid" and _has_ended(subscription, renewal, day, policy):
                subscription.end = day
        paid = [one for one in subscriptions.values() if one.status == "paid"]
        lives_on = [one for one in paid if one.end is None]
        if any(not one.lived_yesterday for one in lives_on):
            paid = lives_on
        if paid:
            last_paid = (_tier(paid, terms), _seats(paid, terms))
        if day >= created:
            described = _describe(
                row.account_id, list(subscriptions.values()), paid, first, terms, last_paid, day
            )
            is_dunning = described.open_failures > 0
            if is_dunning and not was_dunning:
                failures = [failure for one in paid for failure in one.failures]
                opened_by = min(failures, key=lambda failure: failure.position).event_id
                described = replace(described, dunning_event_id=opened_by)
            elif was_dunning and not is_dunning:
                described = replace(described, dunning_event_id=closed_by)
            rows.append(described)
            was_dunning = is_dunning
        day += ONE_DAY
    return rows


def _carried(subscriptions: Iterable[_Subscription], name: str) -> list[object]:
    return [one.carried[name] for one in subscriptions if one.carried.get(name) is not None]


def _tier(paid: Sequence[_Subscription], terms: Terms) -> str:
    """Return the highest tier, or the first by name if none has a rank."""
    tiers = sorted(str(tier) for tier in _carried(paid, "subscription_tier"))
    if not tiers:
        return terms.subscription_tier
    ranked = [tier for tier in tiers if tier in TIERS]
    return max(ranked, key=TIERS.index) if ranked else tiers[0]


def _seats(subscriptions: Iterable[_Subscription], terms: Terms) -> int | None:
    seats = _carried(subscriptions, "total_seats")
    return sum(int(float(str(number))) for number in seats) if seats else terms.total_seats


def _describe(
    account_id: str,
    subscriptions: Sequence[_Subscription],
    paid: Sequence[_Subscription],
    first: _Subscription,
    terms: Terms,
    last_paid: tuple[str, int | None] | None,
    day: date,
) -> BillingDay:
    """Return the row that describes the end of a day, without the event that changed dunning."""
    payments = [one.first_payment for one in subscriptions if one.first_payment is not None]
    status = "paid" if paid else "lapsed" if payments else "never_paid"
    end = None
    if status == "never_paid":
        tier, seats = "trial", _seats(subscriptions, terms)
    else:
        assert last_paid is not None
        tier, seats = last_paid
    if status == "lapsed":
        end = max(one.end for one in subscriptions if one.end is not None)
    amounts = _carried(paid, "monthly_recurring_revenue")
    if not amounts and paid:
        amounts = [terms.monthly_recurring_revenue]
    revenue = sum((Decimal(str(amount)) for amount in amounts), Decimal(0))

    dates = [
        _renewal_date(one, terms.contract_renewal_date if one is first else None) for one in paid
    ]
    renewals = [renewal for renewal in dates if renewal is not None]
    to_come = [renewal for renewal in renewals if renewal >= day]
    shown_renewal = min(to_come) if to_come else max(renewals, default=None)

    failures = sorted(
        (failure for one in paid for failure in one.failures), key=lambda one: one.position
    )
    pauses = sorted(pause for one in paid for pause in one.pauses)
    halted = [one for one in paid if one.is_halted]
    all_halted = bool(paid) and len(halted) == len(paid)

    dunning_type = None
    if failures:
        grace = failures[-1].grace_until
        if grace is not None and grace >= day:
            dunning_type = "grace_period"
        elif len(failures) == 1:
            dunning_type = "soft"
        else:
            dunning_type = "hard"
    return BillingDay(
        account_id=account_id,
        snapshot_date=day,
        status=status,
        lapsed_days=None if end is None else (day - end).days,
        subscription_tier=tier,
        total_seats=seats,
        monthly_recurring_revenue=revenue,
        contract_renewal_date=shown_renewal,
        days_to_renewal=None if shown_renewal is None else (shown_renewal - day).days,
        open_failures=len(failures),
        failure_open=all_halted and bool(failures),
        partly_halted=bool(halted) and not all_halted,
        dunning_since=failures[0].day if failures else None,
        latest_grace_until=failures[-1].grace_until if failures else None,
        dunning_type=dunning_type,
        dunning_event_id=None,
        is_paused=all_halted and bool(pauses),
        pause_reason=pauses[-1][1] if pauses else None,
        cancellation_pending=any(one.cancellation is not None for one in paid),
        end_date=end,
        first_payment_date=min(payments, default=None),
    )


def dunning_by_day(rows: Sequence[BillingDay]) -> dict[date, Dunning]:
    """Return the dunning of the account at the end of each date, for the histories of its users.

    Args:
        rows: The result of ``billing_history``.
    """
    return {
        row.snapshot_date: Dunning(
            is_dunning=row.open_failures > 0,
            dunning_type=row.dunning_type,
            dunning_since=row.dunning_since,
            changed_by=row.dunning_event_id,
        )
        for row in rows
    }
