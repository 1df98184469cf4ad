"""The states of accounts and their health, day by day (framework, section 5).

An account's state depends on sliding windows of use and on what the contract was thirty days ago,
so it is evaluated for every day of the account's life: `account_days` is the one computation from
which history, current state and transitions all follow.

Use comes in as changes: a user who did something that counts adds one to the account's active seats
on that day and takes one away thirty days later, or on the next such day. Running sums over the days
turn changes into levels, so that no window is ever counted out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.billing import Phase, billing_intervals
from monstera_assets.lifecycle.intervals import (
    day_number,
    on_each_day,
    sliding_presence,
    with_state_since,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState, FrozenReason, HealthBand

_WINDOW = 30
_RENEWAL_NEAR = 30
_LOW_UTILIZATION, _LOW_UTILIZATION_AT_RENEWAL = 30, 50
_MIN_EVENTS_BEFORE = 10

COMPONENTS = (
    "seat_utilization_score",
    "product_breadth_score",
    "recent_activity_score",
    "contract_status_score",
)
"""The four components of the health score, of a quarter each."""


def account_days(
    activity: ir.Table,
    users: ir.Table,
    accounts: ir.Table,
    subscription_events: ir.Table,
    policy: LifecyclePolicy,
    *,
    last: date,
) -> ir.Table:
    """Every account on every day from its creation to `last`.

    Args:
        activity: silver_daily_user_activity, from the first day of the data up to `last`.
        users: bronze_users.
        accounts: bronze_accounts.
        subscription_events: bronze_subscription_events.
        policy: the thresholds.
        last: the last day.

    Returns:
        One row an account and `day` (number): the columns of silver_account_state_history, days as
        numbers, and `state_reason`, `previous_state`, `previous_since`, `revenue_before` and
        `seats_before` (of the day before), `event_id` (the subscription event of the day, if any).
    """
    contract = on_each_day(
        billing_intervals(accounts, subscription_events, policy),
        date.min,
        last,
        day_column="day",
    ).drop("valid_from", "valid_to")
    days = contract.left_join(
        _changes_of_use(activity, users, accounts), ["account_id", "day"]
    ).drop("account_id_right", "day_right")
    days = _with_use(days)
    days = _with_past(days)
    days = _with_state(days, policy)
    days = _with_health(days, policy)
    runs = with_state_since(
        days.mutate(valid_from=days.day, valid_to=days.day),
        keys=["account_id"],
        state="current_state",
    )
    return runs.drop("valid_from", "valid_to")


def _changes_of_use(activity: ir.Table, users: ir.Table, accounts: ir.Table) -> ir.Table:
    """What each day adds to and takes from an account's use; none before the account's creation.

    Returns:
        One row an account and `day`: changes `seats_in_use`, `products_in_use`, `events_recent`,
        `events_before` (all null where nothing changes), and `used_on`, `expanded_on` (the day
        itself if the account did something that qualifies, or first used another product).
    """
    people = users.select("user_id", "account_id")
    created = accounts.select(
        "account_id", created_day=day_number(accounts.account_created_at.date())
    )
    used = activity.filter(activity.qualifying_events > 0).inner_join(people, "user_id")
    used = used.select(
        "account_id",
        "user_id",
        "product_id",
        day=day_number(used.activity_date),
        events=used.qualifying_events,
    )
    seats = sliding_presence(
        used.select("account_id", "user_id", "day").distinct(),
        keys=["account_id", "user_id"],
        days=_WINDOW,
    )
    in_products = used.filter(used.product_id.notnull())
    products = sliding_presence(
        in_products.select("account_id", "product_id", "day").distinct(),
        keys=["account_id", "product_id"],
        days=_WINDOW,
    )
    firsts = in_products.group_by("account_id", "product_id").aggregate(
        first_day=in_products.day.min()
    )
    earliest = firsts.group_by("account_id").aggregate(earliest_day=firsts.first_day.min())
    expansions = firsts.inner_join(earliest, "account_id")
    expansions = expansions.filter(expansions.first_day > expansions.earliest_day)
    parts = [
        _part(seats, day=seats.day, seats_in_use=seats.change),
        _part(products, day=products.day, products_in_use=products.change),
        _part(used, day=used.day, events_recent=used.events, used_on=used.day),
        _part(used, day=used.day + _WINDOW, events_recent=-used.events, events_before=used.events),
        _part(used, day=used.day + 2 * _WINDOW, events_before=-used.events),
        _part(expansions, day=expansions.first_day, expanded_on=expansions.first_day),
    ]
    changes = ibis.union(*parts).inner_join(created, "account_id")
    changes = changes.mutate(day=ibis.greatest(changes.day, changes.created_day))
    return changes.group_by("account_id", "day").aggregate(
        **{
            name: changes[name].sum().cast("int64")
            for name in ("seats_in_use", "products_in_use", "events_recent", "events_before")
        },
        **{name: changes[name].max() for name in ("used_on", "expanded_on")},
    )


def _part(rows: ir.Table, *, day: ir.IntegerValue, **columns: ir.IntegerValue) -> ir.Table:
    names = (
        "seats_in_use",
        "products_in_use",
        "events_recent",
        "events_before",
        "used_on",
        "expanded_on",
    )
    return rows.select(
        "account_id",
        day=day.cast("int64"),
        **{name: columns.get(name, ibis.null("int64")).cast("int64") for name in names},
    )


def _over(days: Sequence[int | None]) -> object:
    preceding, following = days
    return ibis.window(
        group_by="account_id", order_by="day", preceding=preceding, following=following
    )


def _with_use(days: ir.Table) -> ir.Table:
    so_far = _over((None, 0))
    return days.mutate(
        active_seats=days.seats_in_use.sum().over(so_far).fill_null(0).cast("int64"),
        products_active=days.products_in_use.sum().over(so_far).fill_null(0).cast("int64"),
        events_last_30=days.events_recent.sum().over(so_far).fill_null(0).cast("int64"),
        events_prior_30=days.events_before.sum().over(so_far).fill_null(0).cast("int64"),
        last_used_day=days.used_on.max().over(so_far),
        last_expanded_day=days.expanded_on.max().over(so_far),
        lowest_seats=days.seats.min().over(_over((_WINDOW - 1, 0))),
    ).drop(
        "seats_in_use",
        "products_in_use",
        "events_recent",
        "events_before",
        "used_on",
        "expanded_on",
    )


def _with_past(days: ir.Table) -> ir.Table:
    """Add the contract of thirty days ago, if it was paid then, and that of the day before."""
    by_day = ibis.window(group_by="account_id", order_by="day")
    then = {
        name: days[name].lag(_WINDOW).over(by_day) for name in ("phase", "revenue", "tier", "seats")
    }
    was_paid = then["phase"] == str(Phase.PAID)
    return days.mutate(
        revenue_then=ibis.ifelse(was_paid, then["revenue"], None),
        rank_then=ibis.ifelse(was_paid, _tier_rank(then["tier"]), None),
        seats_then=ibis.ifelse(was_paid, then["seats"], None),
        revenue_before=days.revenue.lag().over(by_day),
        seats_before=days.seats.lag().over(by_day),
    )


def _with_state(days: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """The state rules in the framework's order; `state_reason` says which one applied."""
    is_paid = days.phase == str(Phase.PAID)
    lapsed = days.phase == str(Phase.LAPSED)
    days_lapsed = days.day - days.ended_on
    created_day = days.day.min().over(ibis.window(group_by="account_id"))
    age = days.day - created_day
    paid_for = days.day - days.first_paid_day
    lowest_utilization = utilization_pct(days.active_seats, days.lowest_seats)
    renews_soon = is_paid & (days.renewal_day - days.day <= _RENEWAL_NEAR)
    halved = (days.events_prior_30 >= _MIN_EVENTS_BEFORE) & (
        2 * days.events_last_30 <= days.events_prior_30
    )
    rank = _tier_rank(days.tier)
    compared = ibis.cases(
        (days.revenue != days.revenue_then, _sign(days.revenue > days.revenue_then)),
        (rank != days.rank_then, _sign(rank > days.rank_then)),
        (days.seats != days.seats_then, _sign(days.seats > days.seats_then)),
    )
    new_product = (paid_for > policy.new_paid_days) & (days.day - days.last_expanded_day < _WINDOW)
    state = AccountState
    cascade = (
        (is_paid & days.failure_open, state.FROZEN, "payment failed"),
        (is_paid & days.paused, state.FROZEN, "subscription paused"),
        (
            (days.phase == str(Phase.NEVER_PAID)) & (age <= policy.trial_days),
            state.TRIAL,
            "on trial",
        ),
        (days.phase == str(Phase.NEVER_PAID), state.CHURNED, "trial expired"),
        (
            lapsed & (days_lapsed >= policy.churn_days),
            state.CHURNED,
            "subscription lapsed for long",
        ),
        (lapsed, state.AT_RISK, "subscription lapsed"),
        (
            days.day - days.returned_on <= policy.reactivated_days,
            state.REACTIVATED,
            "paid again after having churned",
        ),
        (paid_for <= policy.onboarding_days, state.NEW_PAID, "first payment"),
        (days.cancellation_pending, state.AT_RISK, "cancellation pending"),
        (lowest_utilization < _LOW_UTILIZATION, state.AT_RISK, "low seat utilization"),
        (
            renews_soon & (lowest_utilization < _LOW_UTILIZATION_AT_RENEWAL),
            state.AT_RISK,
            "renewal near with low seat utilization",
        ),
        (halved, state.AT_RISK, "activity halved"),
        (compared < 0, state.CONTRACTING, "contract smaller than 30 days ago"),
        (compared > 0, state.EXPANDING, "contract larger than 30 days ago"),
        (new_product, state.EXPANDING, "first use of another product"),
        (paid_for <= policy.new_paid_days, state.NEW_PAID, "first payment"),
    )
    return days.mutate(
        current_state=ibis.cases(
            *((condition, str(result)) for condition, result, _ in cascade),
            else_=str(state.ACTIVE),
        ),
        state_reason=ibis.cases(
            *((condition, reason) for condition, _, reason in cascade), else_="steady"
        ),
        frozen_reason=ibis.cases(
            (is_paid & days.failure_open, str(FrozenReason.PAYMENT_DUNNING)),
            (is_paid & days.paused, days.pause_reason),
        ),
        days_to_renewal=ibis.ifelse(is_paid, days.renewal_day - days.day, None),
        renews_soon=renews_soon.fill_null(False),
    )


def _with_health(days: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    quiet = days.day - days.last_used_day
    utilization = utilization_pct(days.active_seats, days.seats)
    days = days.mutate(
        seat_utilization_pct=utilization,
        seat_utilization_score=ibis.least(100.0, utilization),
        product_breadth_score=100.0
        * ibis.least(1.0, days.products_active / ibis.literal(float(policy.breadth_target))),
        recent_activity_score=ibis.cases(
            (quiet <= 7, 100.0),
            (quiet <= 14, 75.0),
            (quiet <= 30, 50.0),
            (quiet <= 60, 25.0),
            else_=0.0,
        ),
        contract_status_score=ibis.cases(
            (days.current_state == str(AccountState.CHURNED), 0.0),
            (
                (days.current_state == str(AccountState.FROZEN))
                | (days.phase == str(Phase.LAPSED)),
                25.0,
            ),
            (
                (days.current_state == str(AccountState.TRIAL)) | days.cancellation_pending,
                50.0,
            ),
            (days.renews_soon, 75.0),
            else_=100.0,
        ),
    )
    score = sum((days[name] for name in COMPONENTS[1:]), days[COMPONENTS[0]]) * 0.25
    return days.mutate(
        health_score=score,
        health_band=ibis.cases(
            (score >= 90, str(HealthBand.EXCELLENT)),
            (score >= 70, str(HealthBand.GOOD)),
            (score >= 50, str(HealthBand.FAIR)),
            (score >= 30, str(HealthBand.POOR)),
            else_=str(HealthBand.CRITICAL),
        ),
    )


def utilization_pct(active_seats: ir.IntegerValue, seats: ir.IntegerValue) -> ir.FloatingValue:
    """100 x active seats / seats; 0 without seats, and it may exceed 100."""
    return ibis.ifelse(seats > 0, 100.0 * active_seats.cast("float64") / seats.cast("float64"), 0.0)


def _tier_rank(tier: ir.StringValue) -> ir.IntegerValue:
    return ibis.cases(
        (tier == "trial", 0), (tier == "starter", 1), (tier == "professional", 2), else_=3
    )


def _sign(is_higher: ir.BooleanValue) -> ir.IntegerValue:
    return ibis.ifelse(is_higher, 1, -1)
