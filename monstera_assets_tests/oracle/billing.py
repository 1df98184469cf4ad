"""Section 5 of the framework, "Billing facts": the subscription of one account, event by event.

Within a day, the facts are applied in order of timestamp and event id, and then the end of the day is
evaluated. Use and states are in ``accounts``.

Assumptions where the framework leaves room for interpretation:

* The first payment is an instant, not a day. If ``first_paid_at`` precedes every start and renewal,
  it takes effect at that time, before events with the same timestamp. Otherwise it changes nothing.
* Before the first payment, nothing can fail, pause or be canceled. The values of all events are kept
  and apply once the account pays ("from the last event that carried them"). Until then, the tier is
  trial, the revenue is 0 and there is no renewal date. The seats follow the events from the start.
* The seats are None as long as neither the account row nor an event states them.
* Any subscription event may contain any of the four values. On a lapsed subscription, only a start or a
  renewal takes effect, and the metadata of other events is never used.
* A recovery, renewal, start or lapse closes all open failures. A resumption, start or lapse closes all
  open pauses. A renewal or start voids all pending cancellations, regardless of their dates.
* If several cancellations are pending, the earliest effective date ends the subscription. A
  cancellation without an effective date, or with a past one, ends it on the day of the event.
* A cancellation is still pending on the day on which it takes effect, which is the last paid day.
* Events of the last paid day are applied before the end of that day is evaluated. The lapse takes place
  at the start of the next day, before the events of that day. It closes an open failure, without an
  event, even if a renewal follows on the same day. In that case, no day is lapsed.
* A renewal date in the past or on the day itself has been "reached". A renewal with such a date
  therefore ends the subscription on the same day.
* If several pauses are open, the latest determines the reason. Any reason except seasonal becomes
  voluntary_pause.
* Lapsed accounts keep their last tier, seats and renewal date. Only the revenue becomes 0.
* A value that no event has carried comes from the account's version of the day or, on a lapsed day,
  from the version of the last paid day.
* A version with a later renewal date than the version before renews only a subscription that has been
  paid for. It is no first payment, and no event closes the failures that it closes.
* Events dated before the creation of the account are applied, but rows start on the creation date.
* The first open failure of a day opened the dunning of that day, and the last event of the day that
  closed a failure closed it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

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
        contract_renewal_date: The renewal date; None before the first payment or if open-ended.
        days_to_renewal: Days until the renewal date, negative after it; None if never paid or lapsed.
        open_failures: The number of open payment failures.
        dunning_since: The date of the first open failure.
        latest_grace_until: The end of the grace period in the latest open failure, if any.
        dunning_type: grace_period, soft or hard; None if no failure is open.
        dunning_event_id: The event that opened or closed the dunning on this day, if any.
        is_paused: Whether a pause is open.
        pause_reason: seasonal or voluntary_pause; None if no pause is open.
        cancellation_pending: Whether a cancellation is pending.
        end_date: The last paid day once it is reached; None again after the subscription resumes.
        first_payment_date: The date of the first payment; None before it.
    """

    account_id: str
    snapshot_date: date
    status: str
    lapsed_days: int | None
    subscription_tier: str
    total_seats: int | None
    monthly_recurring_revenue: float
    contract_renewal_date: date | None
    days_to_renewal: int | None
    open_failures: int
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
    event_id: str
    day: date
    grace_until: date | None


@dataclass
class _Subscription:
    """The facts about one subscription, updated as events are applied."""

    status: str = "never_paid"
    first_payment: date | None = None
    end: date | None = None
    failures: list[_Failure] = field(default_factory=list)
    pauses: list[str] = field(default_factory=list)
    cancellations: list[date] = field(default_factory=list)
    carried: dict[str, object] = field(default_factory=dict)
    closed_by: str | None = None


def read_date(value: object) -> date | None:
    """Return the date of an ISO date or timestamp in the metadata, or None if there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    return date.fromisoformat(str(value)[:10])


def _pay(subscription: _Subscription, day: date) -> None:
    if subscription.status == "never_paid":
        subscription.first_payment = day
    subscription.status = "paid"
    subscription.end = None


def _apply(subscription: _Subscription, event: SubscriptionEvent) -> None:
    """Apply one event to the subscription (section 5, Values to End)."""
    kind, day, metadata = event.event_type, event.timestamp.date(), event.metadata
    if kind not in KNOWN_TYPES:
        raise ValueError(f"{event.event_id}: {kind} is not a subscription event of an account")
    if subscription.status == "lapsed" and kind not in STARTS:
        return

    for name in VALUES:
        if metadata.get(name) is not None:
            subscription.carried[name] = metadata[name]
    if kind in STARTS and metadata.get("contract_renewal_date") is None:
        subscription.carried["contract_renewal_date"] = None

    if kind in STARTS:
        _pay(subscription, day)
        subscription.cancellations.clear()
        if subscription.failures:
            subscription.failures.clear()
            subscription.closed_by = event.event_id
        if kind == "subscription_started":
            subscription.pauses.clear()
    elif subscription.status != "paid":
        return
    elif kind == "payment_failed":
        grace_until = read_date(metadata.get("grace_until"))
        subscription.failures.append(_Failure(event.event_id, day, grace_until))
    elif kind == "payment_recovered":
        if subscription.failures:
            subscription.failures.clear()
            subscription.closed_by = event.event_id
    elif kind == "subscription_paused":
        reason = metadata.get("reason")
        subscription.pauses.append("seasonal" if reason == "seasonal" else "voluntary_pause")
    elif kind == "subscription_resumed":
        subscription.pauses.clear()
    elif kind == "subscription_cancelled":
        subscription.cancellations.append(read_date(metadata.get("effective_date")) or day)


def _renewal_date(subscription: _Subscription, terms: Terms) -> date | None:
    if "contract_renewal_date" in subscription.carried:
        return read_date(subscription.carried["contract_renewal_date"])
    return terms.contract_renewal_date


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
    cancelled = any(effective <= day for effective in subscription.cancellations)
    held_open = bool(subscription.failures or subscription.pauses)
    not_renewed = renewal is not None and renewal <= day and not held_open
    unpaid_too_long = (
        bool(subscription.failures)
        and (day - subscription.failures[0].day).days >= policy.dunning_days
    )
    return cancelled or not_renewed or unpaid_too_long


def billing_history(
    row: AccountRow,
    events: Iterable[SubscriptionEvent],
    through: date,
    policy: OraclePolicy | None = None,
) -> list[BillingDay]:
    """Return one row per date for the billing of one account since its creation (section 5).

    The rows are sorted, oldest first. There are none if the account was created after ``through``.

    Args:
        row: The versions of the account in bronze_accounts.
        events: Its subscription events, in any order.
        through: The last date (inclusive).
        policy: The thresholds, by default those of the framework.

    Raises:
        ValueError: If an event has a type that accounts cannot have.
    """
    policy = policy or OraclePolicy()
    ordered = sorted(events, key=lambda event: (event.timestamp, event.event_id))
    created = row.account_created_at.date()
    first_paid_at = row.first_paid_at
    days_with_facts = [event.timestamp.date() for event in ordered]
    if first_paid_at is not None:
        days_with_facts.append(first_paid_at.date())

    subscription = _Subscription()
    rows: list[BillingDay] = []
    was_dunning = False
    day = min([created, *days_with_facts])
    while day <= through:
        # Start of the day: the subscription lapses if the day before was the last paid day.
        if subscription.status == "paid" and subscription.end is not None:
            subscription.status = "lapsed"
            subscription.failures.clear()
            subscription.pauses.clear()
            subscription.cancellations.clear()

        # Also at the start of the day: a version with a later renewal date renews.
        subscription.closed_by = None
        if subscription.status != "never_paid" and _renews_by_version(subscription, row, day):
            _pay(subscription, day)
            subscription.cancellations.clear()
            subscription.failures.clear()

        # During the day: events are applied.
        paid_at = first_paid_at if first_paid_at and first_paid_at.date() == day else None
        for event in ordered:
            if event.timestamp.date() != day:
                continue
            if paid_at is not None and paid_at <= event.timestamp:
                if subscription.status == "never_paid":
                    _pay(subscription, day)
                paid_at = None
            _apply(subscription, event)
        if paid_at is not None and subscription.status == "never_paid":
            _pay(subscription, day)

        # End of the day: check whether the subscription ends today.
        terms = row.versions.on(day)
        if subscription.status == "lapsed" and subscription.end is not None:
            terms = row.versions.on(subscription.end)
        renewal = _renewal_date(subscription, terms)
        if subscription.status == "paid" and _has_ended(subscription, renewal, day, policy):
            subscription.end = day
        if day >= created:
            rows.append(_describe(row.account_id, subscription, terms, renewal, day, was_dunning))
            was_dunning = bool(subscription.failures)
        day += ONE_DAY
    return rows


def _describe(
    account_id: str,
    subscription: _Subscription,
    terms: Terms,
    renewal: date | None,
    day: date,
    was_dunning: bool,
) -> BillingDay:
    """Return the row that describes the end of a day."""
    paid = subscription.status == "paid"
    never_paid = subscription.status == "never_paid"
    failures = subscription.failures
    carried = subscription.carried

    if never_paid:
        tier, shown_renewal = "trial", None
    else:
        tier = str(carried.get("subscription_tier", terms.subscription_tier))
        shown_renewal = renewal
    seats = carried.get("total_seats", terms.total_seats)
    total_seats = None if seats is None else int(float(str(seats)))
    revenue = 0.0
    if paid:
        revenue = float(
            str(carried.get("monthly_recurring_revenue", terms.monthly_recurring_revenue))
        )

    dunning_type = None
    if failures:
        grace = failures[-1].grace_until
        if grace is not None and grace >= day:
            dunning_type = "grace_period"
        elif len(failures) == 1:
            dunning_type = "soft"
        else:
            dunning_type = "hard"

    dunning_event_id = None
    if failures and not was_dunning:
        dunning_event_id = failures[0].event_id
    if was_dunning and not failures:
        dunning_event_id = subscription.closed_by

    lapsed_days = None
    if subscription.status == "lapsed" and subscription.end is not None:
        lapsed_days = (day - subscription.end).days
    return BillingDay(
        account_id=account_id,
        snapshot_date=day,
        status=subscription.status,
        lapsed_days=lapsed_days,
        subscription_tier=tier,
        total_seats=total_seats,
        monthly_recurring_revenue=revenue,
        contract_renewal_date=shown_renewal,
        days_to_renewal=(
            (shown_renewal - day).days if paid and shown_renewal is not None else None
        ),
        open_failures=len(failures),
        dunning_since=failures[0].day if failures else None,
        latest_grace_until=failures[-1].grace_until if failures else None,
        dunning_type=dunning_type,
        dunning_event_id=dunning_event_id,
        is_paused=bool(subscription.pauses),
        pause_reason=subscription.pauses[-1] if subscription.pauses else None,
        cancellation_pending=paid and bool(subscription.cancellations),
        end_date=subscription.end,
        first_payment_date=subscription.first_payment,
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
