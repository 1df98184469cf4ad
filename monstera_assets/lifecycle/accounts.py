"""Determine account states and health (framework, section 5).

An account's state depends on its current contract, its contract 30 days earlier and its activity in
sliding windows of days. Because these inputs stay the same for many days, `account_intervals`
evaluates the state only on days when an input changes. The history, current and transition tables
are derived from the resulting intervals.

Activity is computed from changes: a day with a qualifying event adds one active seat, which is
removed 30 days later unless the user is active again in the meantime. Running sums turn the changes
into levels, so windows do not need to be scanned.
"""
# Over 400 lines: the steps from facts to an account's state form one query, which is read from top
# to bottom.

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.billing import Phase, billing_intervals
from monstera_assets.lifecycle.expressions import left_joined, materialized, union_by_name
from monstera_assets.lifecycle.intervals import (
    ALWAYS,
    FOREVER,
    day_number,
    numbered,
    overlay,
    sliding_presence,
    with_state_since,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState, FrozenReason, HealthBand
from monstera_assets.lifecycle.versions import at_day, memberships, one_row_per_entity

_NUMBER = "account_number"

_WINDOW = 30
_RENEWAL_NEAR = 30
_SETTLED_AFTER = 90
_LOW_UTILIZATION, _LOW_UTILIZATION_AT_RENEWAL = 30, 50
_MIN_EVENTS_BEFORE = 10

_RECENCY_SCORES = ((7, 100.0), (14, 75.0), (30, 50.0), (60, 25.0))
"""Maximum number of days since the last qualifying event for each recent_activity_score."""

_BANDS = dict(zip(HealthBand, (90, 70, 50, 30, 0), strict=True))
"""Minimum health score for each band, from best to worst."""

COMPONENTS = (
    *("seat_utilization_score", "product_breadth_score"),
    *("recent_activity_score", "contract_status_score"),
)
"""Components of the health score, each with a weight of one quarter."""
_RESULTS = (
    *("current_state", "state_reason", "frozen_reason", "is_paid", "tier", "seats", "revenue"),
    *("renewal_day", "active_seats", "products_active", "seat_utilization_pct"),
    *(*COMPONENTS, "health_score", "health_band"),
)
"""Interval columns other than the days. A change in any of these columns starts a new interval."""


def account_intervals(
    activity: ir.Table,
    users: ir.Table,
    accounts: ir.Table,
    subscription_events: ir.Table,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Return each account's state and health for every day since its creation.

    The inputs are bronze tables and all days in silver_daily_user_activity.

    Returns:
        An interval table by `account_id`, with days as numbers. The table has the columns of
        silver_account_state_history, except for `days_to_renewal`, which changes daily. The additional
        columns are `is_paid`, `tier`, `seats`, `revenue`, `renewal_day`, `state_since` and `event_id`
        (the subscription event on the first day, if any).
    """
    created = one_row_per_entity(accounts, ["account_id", "created_date"])
    created = numbered(
        created.select("account_id", created_day=day_number(created.created_date)),
        by=["account_id"],
        number=_NUMBER,
    )
    numbers = created.select("account_id", _NUMBER)
    contract = billing_intervals(accounts, subscription_events, policy)
    contract = contract.inner_join(numbers, "account_id").drop("account_id")
    contract = _with_all_seats(contract, users, subscription_events, created, policy)
    changes = _changes_of_use(activity, users, created)
    days = _days_of_change(contract, changes, created, policy)
    days = _with_contract(days, contract)
    days = materialized(_with_use(days, changes))
    days = materialized(_with_state(days, policy))
    days = _with_health(days, policy)
    by_account = ibis.window(group_by=_NUMBER, order_by="day")
    results = ibis.struct({name: days[name] for name in _RESULTS})
    days = days.select(
        _NUMBER, "day", "event_id", *_RESULTS, repeats=results == results.lag().over(by_account)
    )
    days = days.filter(~days.repeats.fill_null(False))
    intervals = days.mutate(
        valid_from=days.day, valid_to=(days.day.lead().over(by_account) - 1).fill_null(FOREVER)
    )
    intervals = with_state_since(intervals, keys=[_NUMBER], state="current_state")
    return intervals.inner_join(numbers, _NUMBER)


def _with_all_seats(
    contract: ir.Table,
    users: ir.Table,
    subscription_events: ir.Table,
    created: ir.Table,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Use the account's number of users as seats if a contract does not specify seats.

    Also add the columns used to compare contracts: `rank` (null if the tier is unranked) and
    `compared_seats` (null if the seats are filled in or not counted).
    """
    deletions = subscription_events.filter(
        subscription_events.event_type == "user_deleted", subscription_events.entity_type == "user"
    )
    deletions = deletions.group_by(user_id=deletions.entity_id).aggregate(
        deleted_day=day_number(deletions.event_date.min())
    )
    signups = one_row_per_entity(users, ["user_id", "signup_date"])
    people = left_joined(
        memberships(users).inner_join(signups, "user_id"), deletions, on=["user_id"]
    )
    people = people.inner_join(created, "account_id").mutate(
        from_day=ibis.greatest(ibis._.valid_from, day_number(ibis._.signup_date)),
        until_day=ibis.least(ibis._.valid_to + 1, ibis._.deleted_day),
    )
    people = people.filter(people.from_day < people.until_day)
    changes = ibis.union(
        created.select(_NUMBER, day=ibis.literal(ALWAYS, "int64"), users=ibis.literal(0, "int64")),
        people.select(_NUMBER, day="from_day", users=ibis.literal(1, "int64")),
        people.select(_NUMBER, day="until_day", users=ibis.literal(-1, "int64")),
    )
    is_stated = contract.seats.notnull()
    unstated = materialized(contract.filter(~is_stated).mutate(contract_from=ibis._.valid_from))
    changes = changes.semi_join(unstated, _NUMBER)
    changes = changes.group_by(_NUMBER, "day").aggregate(users=changes.users.sum().cast("int64"))
    changes = changes.filter((changes.users != 0) | (changes.day == ALWAYS))
    by_account = ibis.window(group_by=_NUMBER, order_by="day")
    so_far = ibis.cumulative_window(group_by=_NUMBER, order_by="day")
    counts = changes.select(
        _NUMBER,
        valid_from=changes.day,
        valid_to=(changes.day.lead().over(by_account) - 1).fill_null(FOREVER),
        users=changes.users.sum().over(so_far).cast("int64"),
    )
    filled = overlay(unstated, materialized(counts), keys=[_NUMBER], columns=["users"])
    # The event belongs to the contract's first day, not to days on which users join or leave.
    event_id = ibis.ifelse(filled.valid_from == filled.contract_from, filled.event_id, None)
    filled = filled.mutate(
        seats=filled.users, event_id=event_id, compared_seats=ibis.null("int64")
    ).drop("users", "contract_from")
    stated = contract.filter(is_stated).mutate(compared_seats=ibis._.seats.nullif(0))
    every = stated.union(filled.select(*stated.columns))
    return materialized(every.mutate(rank=_tier_rank(every.tier, policy)))


def _days_of_change(
    contract: ir.Table, changes: ir.Table, created: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return one row per account and day on which a rule's result may change."""
    candidates = [
        (contract, contract.valid_from),
        # The 30-day minimum number of seats or the contract from 30 days ago may change.
        (contract, contract.valid_from + _WINDOW - 1),
        (contract, contract.valid_from + _WINDOW),
        (contract, contract.first_paid_day + policy.onboarding_days + 1),
        (contract, contract.first_paid_day + policy.new_paid_days + 1),
        (contract, contract.first_paid_day + _SETTLED_AFTER + 1),
        (contract, contract.ended_on + policy.churn_days),
        (contract, contract.returned_on + policy.reactivated_days + 1),
        (contract, contract.renewal_day - _RENEWAL_NEAR),
        (created, created.created_day + policy.trial_days + 1),
        (changes, changes.day),
        (changes, changes.expanded_on + _WINDOW),
        *((changes, changes.used_on + limit + 1) for limit, _ in _RECENCY_SCORES),
    ]
    days = ibis.union(
        *(table.select(_NUMBER, day=day.cast("int64")) for table, day in candidates), distinct=True
    )
    days = days.inner_join(created.drop("account_id"), _NUMBER)
    return materialized(days.filter(days.day >= days.created_day))


def _with_contract(days: ir.Table, contract: ir.Table) -> ir.Table:
    """Add the current contract, the contract from 30 days ago and the lowest seats in 30 days."""
    in_force = contract.rename(contract_from="valid_from", contract_to="valid_to")
    at_day = days.asof_join(
        in_force, on=days.day >= in_force.contract_from, predicates=_NUMBER
    ).drop(f"{_NUMBER}_right", "contract_to")
    # Keep the event only on the day on which it changed the contract.
    at_day = at_day.mutate(
        event_id=ibis.ifelse(at_day.contract_from == at_day.day, at_day.event_id, None)
    ).drop("contract_from")

    spans = contract.select(
        _NUMBER, "seats", span_from=contract.valid_from, span_to=contract.valid_to
    )
    overlaps = (spans.span_from <= days.day) & (spans.span_to > days.day - _WINDOW)
    overlapping = days.inner_join(spans, [_NUMBER, overlaps])
    lowest = overlapping.group_by(_NUMBER, "day").aggregate(lowest_seats=overlapping.seats.min())
    at_day = at_day.inner_join(lowest, [_NUMBER, "day"])

    then = contract.filter(contract.phase == Phase.PAID).select(
        _NUMBER,
        then_from=contract.valid_from + _WINDOW,
        then_to=contract.valid_to + _WINDOW,
        revenue_then=contract.revenue,
        rank_then=contract["rank"],
        seats_then=contract.compared_seats,
    )
    was_then = (then.then_from <= at_day.day) & (then.then_to >= at_day.day)
    return at_day.left_join(then, [_NUMBER, was_then]).drop(
        f"{_NUMBER}_right", "then_from", "then_to"
    )


def _changes_of_use(activity: ir.Table, users: ir.Table, created: ir.Table) -> ir.Table:
    """Return the daily changes in each account's activity.

    Activity belongs to the user's account on that day. User activity before an account's creation is
    excluded.

    Returns:
        One row per account and `day`, with the changes `seats_in_use`, `products_in_use`,
        `events_recent` and `events_before` (null if unchanged). `used_on` is the day itself if the
        account had a qualifying event. `expanded_on` is the day itself if the account first used
        another product.
    """
    people = numbered(one_row_per_entity(users, ["user_id"]), by=["user_id"], number="user_number")
    people = people.inner_join(memberships(users), "user_id").inner_join(created, "account_id")
    people = people.select(
        *("user_id", "user_number", _NUMBER, "valid_to"),
        valid_from=ibis.greatest(people.valid_from, people.created_day),
    )
    used = activity.filter(activity.qualifying_events > 0)
    used = at_day(used, day_number(used.activity_date), people, "user_id")
    used = used.select(
        _NUMBER,
        "user_number",
        "product_id",
        day=day_number(used.activity_date),
        events=used.qualifying_events,
    )
    seats = sliding_presence(
        used.select(_NUMBER, "user_number", "day").distinct(),
        keys=[_NUMBER, "user_number"],
        days=_WINDOW,
    )
    by_product = used.group_by(_NUMBER, "product_id", "day").aggregate(events=used.events.sum())
    by_product = materialized(by_product)
    use = materialized(
        by_product.group_by(_NUMBER, "day").aggregate(events=by_product.events.sum())
    )
    in_products = by_product.filter(by_product.product_id.notnull()).drop("events")
    products = sliding_presence(in_products, keys=[_NUMBER, "product_id"], days=_WINDOW)
    firsts = in_products.group_by(_NUMBER, "product_id").aggregate(first_day=in_products.day.min())
    earliest = firsts.group_by(_NUMBER).aggregate(earliest_day=firsts.first_day.min())
    expansions = firsts.inner_join(earliest, _NUMBER)
    expansions = expansions.filter(expansions.first_day > expansions.earliest_day)
    changes = union_by_name(
        seats.select(_NUMBER, "day", seats_in_use="change"),
        products.select(_NUMBER, "day", products_in_use="change"),
        use.select(_NUMBER, "day", events_recent="events", used_on="day"),
        use.select(
            _NUMBER, day=use.day + _WINDOW, events_recent=-use.events, events_before=use.events
        ),
        use.select(_NUMBER, day=use.day + 2 * _WINDOW, events_before=-use.events),
        expansions.select(_NUMBER, day="first_day", expanded_on="first_day"),
    )
    return materialized(
        changes.group_by(_NUMBER, "day").aggregate(
            **{
                name: changes[name].sum().cast("int64")
                for name in ("seats_in_use", "products_in_use", "events_recent", "events_before")
            },
            **{name: changes[name].max() for name in ("used_on", "expanded_on")},
        )
    )


def _with_use(days: ir.Table, changes: ir.Table) -> ir.Table:
    """Add running sums of the changes, and the latest days with activity and with a new product."""
    so_far = ibis.cumulative_window(group_by=_NUMBER, order_by="day")
    sums = {
        "active_seats": changes.seats_in_use,
        "products_active": changes.products_in_use,
        "events_last_30": changes.events_recent,
        "events_prior_30": changes.events_before,
    }
    levels = changes.select(
        _NUMBER,
        use_day=changes.day,
        **{name: change.sum().over(so_far) for name, change in sums.items()},
        last_used_day=changes.used_on.max().over(so_far),
        last_expanded_day=changes.expanded_on.max().over(so_far),
    )
    at_day = days.asof_join(levels, on=days.day >= levels.use_day, predicates=_NUMBER).drop(
        f"{_NUMBER}_right", "use_day"
    )
    return at_day.mutate(**{name: at_day[name].fill_null(0).cast("int64") for name in sums})


def _with_state(days: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Apply the state rules in the framework's order. `state_reason` is the first rule that applies."""
    is_paid, lapsed, never_paid = (
        days.phase == str(phase) for phase in (Phase.PAID, Phase.LAPSED, Phase.NEVER_PAID)
    )
    days_lapsed = days.day - days.ended_on
    age = days.day - days.created_day
    paid_for = days.day - days.first_paid_day
    days_back = days.day - days.returned_on
    utilization = utilization_pct(days.active_seats, days.lowest_seats)
    renews_soon = is_paid & (days.renewal_day - days.day <= _RENEWAL_NEAR)
    underused = renews_soon & (utilization < _LOW_UTILIZATION_AT_RENEWAL)
    halved = (days.events_prior_30 >= _MIN_EVENTS_BEFORE) & (
        2 * days.events_last_30 <= days.events_prior_30
    )
    compared = ibis.cases(
        *(
            (days[now] != days[then], _sign(days[now] > days[then]))
            for now, then in (
                ("revenue", "revenue_then"),
                ("rank", "rank_then"),
                ("compared_seats", "seats_then"),
            )
        )
    )
    new_product = (paid_for > _SETTLED_AFTER) & (days.day - days.last_expanded_day < _WINDOW)
    state = AccountState
    cascade = (
        (is_paid & days.failure_open, state.FROZEN, "payment failed"),
        (is_paid & days.paused, state.FROZEN, "subscription paused"),
        (never_paid & (age <= policy.trial_days), state.TRIAL, "on trial"),
        (never_paid, state.CHURNED, "trial expired"),
        (
            lapsed & (days_lapsed >= policy.churn_days),
            state.CHURNED,
            "subscription lapsed for long",
        ),
        (lapsed, state.AT_RISK, "subscription lapsed"),
        (
            days_back <= policy.reactivated_days,
            state.REACTIVATED,
            "paid again after having churned",
        ),
        (paid_for <= policy.onboarding_days, state.NEW_PAID, "first payment"),
        (days.cancellation_pending, state.AT_RISK, "cancellation pending"),
        (days.partly_halted, state.AT_RISK, "part of the subscriptions failed or paused"),
        (utilization < _LOW_UTILIZATION, state.AT_RISK, "low seat utilization"),
        (underused, state.AT_RISK, "renewal near with low seat utilization"),
        (halved, state.AT_RISK, "activity halved"),
        (compared < 0, state.CONTRACTING, "contract smaller than 30 days ago"),
        (compared > 0, state.EXPANDING, "contract larger than 30 days ago"),
        (new_product, state.EXPANDING, "first use of another product"),
        (paid_for <= policy.new_paid_days, state.NEW_PAID, "first payment"),
    )
    return days.mutate(
        current_state=ibis.cases(
            *((condition, str(result)) for condition, result, _ in cascade), else_=str(state.ACTIVE)
        ),
        state_reason=ibis.cases(
            *((condition, reason) for condition, _, reason in cascade), else_="steady"
        ),
        frozen_reason=ibis.cases(
            (is_paid & days.failure_open, FrozenReason.PAYMENT_DUNNING),
            (is_paid & days.paused, days.pause_reason),
        ),
        is_paid=is_paid,
        renews_soon=renews_soon.fill_null(False),
    )


def _with_health(days: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    quiet = days.day - days.last_used_day
    utilization = utilization_pct(days.active_seats, days.seats)
    is_state = {state: days.current_state == str(state) for state in AccountState}
    days = days.mutate(
        seat_utilization_pct=utilization,
        seat_utilization_score=ibis.least(100.0, utilization.fill_null(100.0)),
        product_breadth_score=100.0
        * ibis.least(1.0, days.products_active / ibis.literal(float(policy.breadth_target))),
        recent_activity_score=ibis.cases(
            *((quiet <= limit, score) for limit, score in _RECENCY_SCORES), else_=0.0
        ),
        contract_status_score=ibis.cases(
            (is_state[AccountState.CHURNED], 0.0),
            (is_state[AccountState.FROZEN] | (days.phase == Phase.LAPSED), 25.0),
            (is_state[AccountState.TRIAL] | days.cancellation_pending, 50.0),
            (days.renews_soon, 75.0),
            else_=100.0,
        ),
    )
    score = sum((days[name] for name in COMPONENTS[1:]), days[COMPONENTS[0]]) * 0.25
    return days.mutate(
        health_score=score,
        health_band=ibis.cases(*((score >= least, str(band)) for band, least in _BANDS.items())),
    )


def utilization_pct(active_seats: ir.IntegerValue, seats: ir.IntegerValue) -> ir.FloatingValue:
    """Return 100 x active seats / seats, or null if seats are not counted. The value can exceed 100."""
    return 100.0 * active_seats.cast("float64") / seats.nullif(0).cast("float64")


def _tier_rank(tier: ir.StringValue, policy: LifecyclePolicy) -> ir.IntegerValue:
    """Return the tier's position in the list of tiers, or null if the tier is not listed."""
    ranks = ((tier == name, rank) for rank, name in enumerate(policy.subscription_tiers))
    return ibis.cases(*ranks, else_=ibis.null("int64"))


def _sign(is_higher: ir.BooleanValue) -> ir.IntegerValue:
    return ibis.ifelse(is_higher, 1, -1)
