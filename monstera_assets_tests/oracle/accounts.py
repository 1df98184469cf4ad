"""Section 5 of the framework, "Use", "State" and "Health score", day by day for one account.

Billing comes from ``billing``. Assumptions where the framework leaves room for interpretation:

* Use includes every qualifying event of the account's users since the creation of the account: events
  with or without a product, in retired products, and of users who were deleted later. A product counts
  regardless of its windows.
* An account without stated seats has as many seats as users who belonged to it on the day, signed up by
  its end and were not deleted by then. This holds in every phase of the contract. Such seats are 0, and
  therefore not counted, as long as the account has no users.
* Activity belongs to the user's account on its day. A user who has left the account is therefore still
  among its active seats until the user's last activity in it is 30 days ago.
* The lowest seat count of D-29...D is that of the days on which the account existed, including trial
  and lapsed days. If seats are not counted on one of these days, no use is too low.
* "Renewal within 30 days" means a difference of at most 30. It therefore also holds on a paid day after
  the renewal date, the day on which a pause or failure that delayed the renewal is closed.
* "Paid again" means a paid day after a day in state churned, for an account that had paid before. For
  the next 90 days, rule 4 holds on every paid day that is not frozen, even after a short lapse.
* "More than 90 days after first payment" in rule 8 refers to D, not to the day of the first use.
  "Having used another before that" means that another product was first used on an earlier date.
* Rules 7 and 8 do not compare contracts if the account did not exist or was not paid at the end of
  D-30. Use of a new product still counts as expanding because it depends only on the first payment.
* Tiers are compared only if both are in the list of tiers, and seats only if both counts are stated
  and above 0. Otherwise, the comparison continues as if they were equal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from monstera_assets_tests.oracle.billing import TIERS, BillingDay
from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.versions import Versions


@dataclass(frozen=True)
class Use:
    """The qualifying events of one user in one product on one date.

    Attributes:
        user_id: A user of the account on the day.
        day: The UTC date.
        product_id: The product, to which features are already rolled up; None for events without a
            product.
        events: The number of qualifying events, at least 1.
    """

    user_id: str
    day: date
    product_id: str | None
    events: int = 1


@dataclass(frozen=True)
class Member:
    """A user, with the dates of signup and deletion and the user's accounts.

    The account is None if the user has never had any other than the one in question.
    """

    user_id: str
    joined: date
    deleted: date | None = None
    accounts: Versions[str] | None = None

    def belongs_to(self, account_id: str, day: date) -> bool:
        """Return whether the user belongs to an account on a day."""
        return self.accounts is None or self.accounts.on(day) == account_id


@dataclass(frozen=True)
class AccountDay:
    """One account at the end of one day: a row of the account state history (section 6).

    Revenue is per month. ``seat_utilization_pct`` is in percent of the seats, and None if seats are not
    counted. Scores are between 0 and 100 and are not rounded. ``days_to_renewal`` is positive before
    the renewal date.
    """

    account_id: str
    snapshot_date: date
    current_state: str
    state_since: date
    subscription_tier: str
    total_seats: int
    active_seats: int
    seat_utilization_pct: float | None
    health_score: float
    seat_utilization_score: float
    product_breadth_score: float
    recent_activity_score: float
    contract_status_score: float
    health_band: str
    monthly_recurring_revenue: Decimal
    contract_renewal_date: date | None
    days_to_renewal: int | None
    frozen_reason: str | None
    products_active: int
    is_paid: bool


@dataclass(frozen=True)
class AccountTransition:
    """A change of an account's state between two consecutive days (section 6).

    The changes in revenue (per month) and in seats are from the day before to the transition date.
    """

    from_state: str
    to_state: str
    transition_date: date
    days_in_previous_state: int
    mrr_change: Decimal
    seat_change: int


def in_days(uses: Sequence[Use], day: date, newest: int, oldest: int) -> list[Use]:
    """Return the uses from ``day`` minus ``oldest`` to ``day`` minus ``newest``, both included."""
    first, last = day - timedelta(days=oldest), day - timedelta(days=newest)
    return [use for use in uses if first <= use.day <= last]


def seats_on(billing: BillingDay, members: Iterable[Member]) -> int:
    """Return the stated seats of a day, or the number of users at its end (section 2)."""
    if billing.total_seats is not None:
        return billing.total_seats
    day = billing.snapshot_date
    return sum(
        member.joined <= day
        and (member.deleted is None or member.deleted > day)
        and member.belongs_to(billing.account_id, day)
        for member in members
    )


def utilization_pct(active_seats: int, seats: int) -> float | None:
    """Return 100 x active seats / seats, or None if seats are not counted (section 5, Use)."""
    return 100 * active_seats / seats if seats > 0 else None


def compare_contracts(now: BillingDay, then: BillingDay) -> int:
    """Compare revenue, then tier, then seats. The first difference decides (rules 7 and 8).

    Returns:
        -1 if the contract is smaller now, 1 if it is larger, 0 if it is equal.
    """
    if now.monthly_recurring_revenue != then.monthly_recurring_revenue:
        return 1 if now.monthly_recurring_revenue > then.monthly_recurring_revenue else -1
    if now.subscription_tier in TIERS and then.subscription_tier in TIERS:
        rank_now, rank_then = (TIERS.index(row.subscription_tier) for row in (now, then))
        if rank_now != rank_then:
            return 1 if rank_now > rank_then else -1
    if now.total_seats and then.total_seats and now.total_seats != then.total_seats:
        return 1 if now.total_seats > then.total_seats else -1
    return 0


def first_used_another_product(uses: Sequence[Use], day: date) -> bool:
    """Return whether a product was first used in D-29...D, after another product (rule 8)."""
    first_use: dict[str, date] = {}
    for use in uses:
        if use.product_id is not None and use.day <= day:
            earliest = first_use.get(use.product_id, use.day)
            first_use[use.product_id] = min(earliest, use.day)
    for product, first in first_use.items():
        if first < day - timedelta(days=29):
            continue
        for other, other_first in first_use.items():
            if other != product and other_first < first:
                return True
    return False


def is_at_risk(
    billing: Sequence[BillingDay], uses: Sequence[Use], members: Sequence[Member]
) -> bool:
    """Return whether any signal of rule 6 applies to a paid account.

    Args:
        billing: The days of the account, from its creation to the day to evaluate.
        uses: The qualifying events that belong to it up to that day.
        members: Users.
    """
    today = billing[-1]
    day = today.snapshot_date
    recent = in_days(uses, day, 0, 29)
    previous = in_days(uses, day, 30, 59)
    lowest_seats = min(seats_on(row, members) for row in billing[-30:])
    utilization = utilization_pct(len({use.user_id for use in recent}), lowest_seats)
    if utilization is None:
        utilization = 100.0
    recent_events = sum(use.events for use in recent)
    previous_events = sum(use.events for use in previous)

    if today.cancellation_pending or today.partly_halted:
        return True
    if utilization < 30:
        return True
    if today.days_to_renewal is not None and today.days_to_renewal <= 30 and utilization < 50:
        return True
    return previous_events >= 10 and recent_events <= previous_events / 2


def account_state(
    billing: Sequence[BillingDay],
    uses: Sequence[Use],
    members: Sequence[Member],
    created: date,
    returns: Sequence[date],
    policy: OraclePolicy,
) -> str:
    """Return the state of an account at the end of a day (section 5, rules 1 to 10).

    Args:
        billing: The days of the account, from its creation to the day to evaluate.
        uses: The qualifying events that belong to it up to that day.
        members: Users.
        created: The account's creation date.
        returns: The days up to that day on which the account paid again after it had churned.
        policy: The thresholds.
    """
    today = billing[-1]
    day = today.snapshot_date
    # 1
    if today.status == "paid" and (today.failure_open or today.is_paused):
        return "frozen"
    # 2
    if today.status == "never_paid":
        return "trial" if (day - created).days <= policy.trial_days else "churned"
    # 3
    if today.lapsed_days is not None:
        return "churned" if today.lapsed_days >= policy.churn_days else "at_risk"
    # 4
    if any((day - paid_again).days <= policy.reactivated_days for paid_again in returns):
        return "reactivated"
    # 5
    assert today.first_payment_date is not None
    days_since_first_payment = (day - today.first_payment_date).days
    if days_since_first_payment <= policy.onboarding_days:
        return "new_paid"
    # 6
    if is_at_risk(billing, uses, members):
        return "at_risk"
    # 7 and 8
    difference = 0
    if len(billing) > 30 and billing[-31].status == "paid":
        difference = compare_contracts(today, billing[-31])
    if difference < 0:
        return "contracting"
    if difference > 0:
        return "expanding"
    if days_since_first_payment > 90 and first_used_another_product(uses, day):
        return "expanding"
    # 9
    if days_since_first_payment <= policy.new_paid_days:
        return "new_paid"
    # 10
    return "active"


def recent_activity_score(days_since_last: int | None) -> float:
    """Return the score for the days since the account's last qualifying event; None means never."""
    if days_since_last is None:
        return 0.0
    if days_since_last <= 7:
        return 100.0
    if days_since_last <= 14:
        return 75.0
    if days_since_last <= 30:
        return 50.0
    if days_since_last <= 60:
        return 25.0
    return 0.0


def contract_status_score(state: str, today: BillingDay) -> float:
    """Return the contract score by the first rule that applies (section 5, Health score)."""
    if state == "churned":
        return 0.0
    if state == "frozen" or today.status == "lapsed":
        return 25.0
    if state == "trial" or today.cancellation_pending:
        return 50.0
    if today.days_to_renewal is not None and today.days_to_renewal <= 30:
        return 75.0
    return 100.0


def health_band(score: float) -> str:
    """Return the band of a health score from 0 to 100 (section 5, Health score)."""
    if score >= 90:
        return "excellent"
    if score >= 70:
        return "good"
    if score >= 50:
        return "fair"
    if score >= 30:
        return "poor"
    return "critical"


def account_history(
    billing_days: Sequence[BillingDay],
    uses: Iterable[Use],
    policy: OraclePolicy | None = None,
    members: Iterable[Member] = (),
) -> list[AccountDay]:
    """Return one row per billing day of an account, oldest first (section 5).

    Args:
        billing_days: The result of ``billing_history`` since the creation of the account.
        uses: The qualifying events that belong to the account, in any order.
        policy: The thresholds, by default those of the framework.
        members: Users, in any order. They matter only if the account has no stated seats.
    """
    policy = policy or OraclePolicy()
    created = billing_days[0].snapshot_date if billing_days else date.max
    facts = [use for use in uses if use.day >= created]
    people = list(members)
    returns: list[date] = []
    rows: list[AccountDay] = []
    for position, today in enumerate(billing_days):
        day = today.snapshot_date
        before = rows[-1] if rows else None
        known = [use for use in facts if use.day <= day]
        paid_before = today.first_payment_date is not None and today.first_payment_date < day
        was_churned = before is not None and before.current_state == "churned"
        if today.status == "paid" and paid_before and was_churned:
            returns.append(day)

        state = account_state(
            billing_days[: position + 1],
            known,
            people,
            created,
            returns,
            policy,
        )
        frozen_reason = None
        if state == "frozen":
            frozen_reason = "payment_dunning" if today.failure_open else today.pause_reason

        recent = in_days(known, day, 0, 29)
        active_seats = len({use.user_id for use in recent})
        products = len({use.product_id for use in recent if use.product_id is not None})
        seats = seats_on(today, people)
        utilization = utilization_pct(active_seats, seats)
        last_use = max((use.day for use in known), default=None)

        seat_score = 100.0 if utilization is None else min(100.0, utilization)
        breadth_score = 100 * min(1.0, products / policy.breadth_target)
        activity_score = recent_activity_score((day - last_use).days if last_use else None)
        contract_score = contract_status_score(state, today)
        health = (
            0.25 * seat_score + 0.25 * breadth_score + 0.25 * activity_score + 0.25 * contract_score
        )
        rows.append(
            AccountDay(
                account_id=today.account_id,
                snapshot_date=day,
                current_state=state,
                state_since=(
                    before.state_since if before and before.current_state == state else day
                ),
                subscription_tier=today.subscription_tier,
                total_seats=seats,
                active_seats=active_seats,
                seat_utilization_pct=utilization,
                health_score=health,
                seat_utilization_score=seat_score,
                product_breadth_score=breadth_score,
                recent_activity_score=activity_score,
                contract_status_score=contract_score,
                health_band=health_band(health),
                monthly_recurring_revenue=today.monthly_recurring_revenue,
                contract_renewal_date=today.contract_renewal_date,
                days_to_renewal=today.days_to_renewal,
                frozen_reason=frozen_reason,
                products_active=products,
                is_paid=today.status == "paid",
            )
        )
    return rows


def account_transitions(rows: Sequence[AccountDay]) -> list[AccountTransition]:
    """Return the transitions in the result of ``account_history`` (section 6)."""
    return [
        AccountTransition(
            from_state=before.current_state,
            to_state=after.current_state,
            transition_date=after.snapshot_date,
            days_in_previous_state=(after.snapshot_date - before.state_since).days,
            mrr_change=after.monthly_recurring_revenue - before.monthly_recurring_revenue,
            seat_change=after.total_seats - before.total_seats,
        )
        for before, after in pairwise(rows)
        if before.current_state != after.current_state
    ]
