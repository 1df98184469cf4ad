"""Recompute the states on one day from the rules in docs/explanation/framework.md.

Histories are derived from intervals, and computing the intervals relies on assumptions about when a
state can change. To detect errors in the intervals, the checks in this module evaluate every rule
for the last day of a run and compare the result with the history. The checks use only facts dated
through that day. Only the thresholds and the state names are imported from `lifecycle`.

A state's start date depends on the previous day. If the state has not changed, the start date is
carried over. Otherwise, the start date is the day itself. Start dates are compared only if the
history contains the previous day and that day is not out of date.
"""
# Over 400 lines: an independent implementation of the rules, which shares nothing with other
# modules.

from __future__ import annotations

from collections.abc import Callable, Sequence

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule
from monstera_assets.lifecycle.expressions import GIVEN, Window, left_joined, materialized
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import (
    AccountState,
    DunningType,
    FrozenReason,
    HealthBand,
    ProductState,
    UserState,
)
from monstera_assets.silver.silver_account_state_history import TABLE as ACCOUNT_HISTORY
from monstera_assets.silver.silver_user_product_state_history import TABLE as PRODUCT_HISTORY
from monstera_assets.silver.silver_user_state_history import TABLE as USER_HISTORY

_EVENTS_TO_HALVE = 10
_PLATFORM = (
    *(UserState.NEW, UserState.ACTIVE, UserState.DORMANT, UserState.CHURNED),
    *(UserState.RETURNING, UserState.REACTIVATED),
)
"""The states that depend on activity, ending with the states for returns from dormant and churned."""
_IN_PRODUCTS = (
    *(ProductState.NEW, ProductState.ACTIVE, ProductState.DORMANT, ProductState.CHURNED),
    *(ProductState.ACTIVE, ProductState.REACTIVATED),
)


@rule(USER_HISTORY)
def states_recomputed_from_facts(
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """On the run's last day, stored states match states computed directly from the framework rules."""
    day, events = window.last, bronze_subscription_events
    use = _use(silver_daily_user_activity, day, ["user_id"]).drop("start_date")
    users = _versions_on(bronze_users, "user_id", day)
    users = users.select("user_id", "account_id", start_date="signup_date")
    users = users.filter(users.start_date <= day)
    deletions = events.filter(
        events.event_type == "user_deleted", events.entity_type == "user", events.event_date <= day
    )
    deleted = deletions.select(user_id="entity_id", is_deleted=ibis.literal(value=True)).distinct()
    accounts = bronze_accounts.select("account_id", on_day=day).distinct()
    steps = _steps(bronze_accounts, events, policy)
    contracts = _contracts(steps, bronze_accounts, accounts, policy)
    users = left_joined(users, use, deleted, on=["user_id"])
    users = left_joined(
        users, contracts.select("account_id", "failures", "grace_until"), on=["account_id"]
    )
    enough = policy.min_qualifying_events_to_activate
    users = users.mutate(
        activated=(users.events_before + users.events_today >= enough).fill_null(False),
        was_activated=(users.events_before >= enough).fill_null(False),
        active_days=policy.active_days,
        dormant_days=policy.dormant_days,
    )
    activity_state = _state_of_use(users, day, policy, states=_PLATFORM)
    is_dunning = (users.failures > 0).fill_null(False)
    expected = users.select(
        "user_id",
        snapshot_date=day,
        state=ibis.cases(
            (users.is_deleted, UserState.DELETED),
            (is_dunning & (activity_state == UserState.ACTIVE), UserState.DUNNING),
            else_=activity_state,
        ),
        activity_state=activity_state,
        is_dunning=is_dunning,
        dunning_type=ibis.cases(
            (~is_dunning, None),
            (users.grace_until >= day, DunningType.GRACE_PERIOD),
            (users.failures == 1, DunningType.SOFT),
            else_=DunningType.HARD,
        ),
        qualifying_events_count=users.events_today.fill_null(0),
        total_qualifying_events=(users.events_before + users.events_today).fill_null(0),
        days_since_signup=day.delta(users.start_date, unit="day"),
        days_since_last_qualifying_event=ibis.ifelse(
            users.events_today > 0, 0, day.delta(users.last_before, unit="day")
        ),
    )
    history = silver_user_state_history.rename(state="platform_state", since="platform_state_since")
    return _differences(expected, history, window, out_of_date(USER_HISTORY.name))


def _state_of_use(
    use: ir.Table, day: ir.DateValue, policy: LifecyclePolicy, *, states: Sequence[str]
) -> ir.StringValue:
    """Return the state based on activity alone.

    The state depends on the number of inactive days or, on the day of a return, on the previous
    day's state.

    Args:
        use: the table that `_use` returns, with `start_date`, `activated` and `was_activated` (at
            the end of the day and the previous day), `active_days` and `dormant_days`.
        day: the day to evaluate.
        policy: the thresholds.
        states: the states, in the order of `_PLATFORM`.
    """
    new, active, dormant, churned, back_from_dormant, back_from_churned = map(str, states)
    age = day.delta(use.start_date, unit="day")
    gap = day.delta(use.last_before, unit="day")

    def by_gap(gap: ir.IntegerValue) -> ir.StringValue:
        return ibis.cases(
            (gap <= use.active_days, active), (gap <= use.dormant_days, dormant), else_=churned
        )

    was_new = ~use.was_activated & (age - 1 <= policy.new_user_days)
    yesterday = ibis.ifelse(was_new, new, by_gap(gap - 1))
    return ibis.cases(
        (~use.activated & (age <= policy.new_user_days), new),
        (~(use.events_today > 0).fill_null(False), by_gap(gap)),
        (age == 0, active),
        (yesterday == dormant, back_from_dormant),
        (yesterday == churned, back_from_churned),
        else_=active,
    )


def _use(activity: ir.Table, day: ir.DateValue, keys: Sequence[str]) -> ir.Table:
    """Count each key's qualifying events on and before a day, and find the previous active day."""
    is_before = activity.activity_date < day
    qualifies = activity.qualifying_events > 0
    known = activity.filter(activity.activity_date <= day)
    return known.group_by(*keys).aggregate(
        events_today=known.qualifying_events.sum(where=~is_before).fill_null(0).cast("int64"),
        events_before=known.qualifying_events.sum(where=is_before).fill_null(0).cast("int64"),
        last_before=known.activity_date.max(where=is_before & qualifies),
        last_qualifying_event_at=known.last_qualifying_event_at.max(),
        first_access_at=known.first_event_at.min(),
        start_date=known.activity_date.min(),
        activation_date=known.activity_date.min(where=known.activation_events > 0),
    )


def _differences(
    expected: ir.Table, history: ir.Table, window: Window, out_of_date: ir.Table
) -> ir.Table:
    """Return the rows found only in `expected` or only in `history`, with the expected columns.

    Args:
        expected: rows for the last day of the window, with the key, `snapshot_date`, `state` and
            other columns.
        history: the history, with columns `state` and `since`.
        window: the run's days.
        out_of_date: the days in the history that are affected by a later change.
    """
    keys = [name for name in ("user_id", "product_id", "account_id") if name in expected.columns]
    before = history.filter(history.snapshot_date == _days_before(window.last, 1))
    before = before.anti_join(out_of_date, before.snapshot_date == out_of_date.day)
    has_day_before = before.count().as_scalar() > 0
    rows = history.filter(history.snapshot_date == window.last)
    both = left_joined(
        expected,
        before.select(*keys, state_before=before.state, since_before=before.since),
        rows.select(*keys, stored_since=rows.since),
        on=keys,
    )
    since = ibis.cases(
        (~has_day_before, both.stored_since),
        ((both.state_before == both.state).fill_null(False), both.since_before),
        else_=both.snapshot_date,
    )
    return differing_rows(both.select(*expected.columns, since=since), rows)


@rule(PRODUCT_HISTORY)
def product_states_recomputed_from_facts(
    silver_user_product_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """On the run's last day, stored states match states computed directly from the framework rules."""
    day, products = window.last, bronze_product_catalog
    active_days = products.active_days.fill_null(policy.active_days)
    dormant_days = products.dormant_days.fill_null(policy.dormant_days)
    products = products.filter(products.tier == "product", products.is_active).select(
        "product_id", active_days=active_days, dormant_days=ibis.greatest(active_days, dormant_days)
    )
    use = _use(silver_daily_user_activity, day, ["user_id", "product_id"])
    use = use.inner_join(products, "product_id")
    use = use.mutate(
        activated=use.activation_date.notnull(),
        was_activated=(use.activation_date < day).fill_null(False),
    )
    expected = use.select(
        *("user_id", "product_id", "first_access_at"),
        *("last_qualifying_event_at", "activation_date"),
        first_access_date=use.start_date,
        snapshot_date=day,
        state=_state_of_use(use, day, policy, states=_IN_PRODUCTS),
        total_qualifying_events=use.events_before + use.events_today,
    )
    history = silver_user_product_state_history.rename(state="current_state", since="state_since")
    return _differences(expected, history, window, out_of_date(PRODUCT_HISTORY.name))


@rule(ACCOUNT_HISTORY)
def account_states_recomputed_from_facts(
    silver_account_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """On the run's last day, stored states match states computed directly from the framework rules.

    `state_reason` is not compared.
    """
    day = window.last
    accounts = bronze_accounts.select("account_id", "created_date").distinct()
    accounts = accounts.filter(accounts.created_date <= day)
    steps = _steps(bronze_accounts, bronze_subscription_events, policy)
    day_then = _days_before(day, 30)
    existed = accounts.filter(accounts.created_date <= day_then)
    existed = existed.select("account_id", on_day=day_then)
    then = _contracts(steps, bronze_accounts, existed, policy)
    then = then.filter(then.phase == "paid")
    then = then.select("account_id", revenue_then="revenue", tier_then="tier", seats_then="seats")
    seats = _seats(steps, bronze_accounts, bronze_users, bronze_subscription_events, day, policy)
    today = accounts.select("account_id", on_day=day)
    a = left_joined(
        accounts,
        _contracts(steps, bronze_accounts, today, policy).drop("on_day"),
        _returns(steps, accounts, day, policy),
        then,
        _use_of_accounts(silver_daily_user_activity, bronze_users, accounts, day),
        seats,
        on=["account_id"],
    )
    counts = ("active_seats", "products_active", "events_recent", "events_previous")
    # Each of these mutations keeps the SQL of a value from being repeated wherever it is used.
    a = a.mutate(
        {name: a[name].fill_null(0) for name in counts},
        rank=_rank(a.tier, policy),
        rank_then=_rank(a.tier_then, policy),
    )
    is_paid, is_lapsed = a.phase == "paid", a.phase == "lapsed"
    never_paid = a.phase == "never_paid"
    age, days_lapsed, days_paid, days_since_return, quiet = (
        day.delta(since, unit="day")
        for since in (a.created_date, a.ended_on, a.first_paid_on, a.returned_on, a.last_used_on)
    )
    to_renewal = a.renewal_date.delta(day, unit="day")
    pending = a.is_cancelled
    utilization = _percent(a.active_seats, a.lowest_seats).fill_null(100.0)
    renews_soon = (to_renewal <= 30).fill_null(False)
    halved = (a.events_previous >= _EVENTS_TO_HALVE) & (a.events_recent * 2 <= a.events_previous)
    # Contracts are compared by revenue, then by tier, then by seats. A value that is missing from
    # either contract counts as equal.
    rank, rank_then = a["rank"], a.rank_then
    ranked = rank.notnull() & rank_then.notnull()
    counted = (a.seats > 0).fill_null(False) & (a.seats_then > 0).fill_null(False)
    contract = ibis.struct(
        {
            "revenue": a.revenue,
            "rank": ibis.ifelse(ranked, rank, 0),
            "seats": ibis.ifelse(counted, a.seats, 0),
        }
    )
    contract_then = ibis.struct(
        {
            "revenue": a.revenue_then,
            "rank": ibis.ifelse(ranked, rank_then, 0),
            "seats": ibis.ifelse(counted, a.seats_then, 0),
        }
    )
    was_paid = a.revenue_then.notnull()
    a = a.mutate(
        state=ibis.cases(
            (is_paid & (a.halted == a.live), AccountState.FROZEN),
            (never_paid & (age <= policy.trial_days), AccountState.TRIAL),
            (never_paid, AccountState.CHURNED),
            (is_lapsed & (days_lapsed >= policy.churn_days), AccountState.CHURNED),
            (is_lapsed, AccountState.AT_RISK),
            (days_since_return <= policy.reactivated_days, AccountState.REACTIVATED),
            (days_paid <= policy.onboarding_days, AccountState.NEW_PAID),
            (pending | (a.halted > 0), AccountState.AT_RISK),
            (utilization < 30, AccountState.AT_RISK),
            (renews_soon & (utilization < 50), AccountState.AT_RISK),
            (halved, AccountState.AT_RISK),
            (was_paid & (contract < contract_then), AccountState.CONTRACTING),
            (was_paid & (contract > contract_then), AccountState.EXPANDING),
            ((days_paid > 90) & a.is_new_in_a_product, AccountState.EXPANDING),
            (days_paid <= policy.new_paid_days, AccountState.NEW_PAID),
            else_=AccountState.ACTIVE,
        )
    )
    recency = ((7, 100.0), (14, 75.0), (30, 50.0), (60, 25.0))
    a = a.mutate(
        seat_utilization_pct=_percent(a.active_seats, a.seats_today),
        product_breadth_score=100.0
        * ibis.least(1.0, a.products_active / ibis.literal(float(policy.breadth_target))),
        recent_activity_score=ibis.cases(
            *((quiet <= days, score) for days, score in recency), else_=0.0
        ),
        contract_status_score=ibis.cases(
            (a.state == AccountState.CHURNED, 0.0),
            ((a.state == AccountState.FROZEN) | is_lapsed, 25.0),
            ((a.state == AccountState.TRIAL) | pending, 50.0),
            (renews_soon, 75.0),
            else_=100.0,
        ),
    )
    a = a.mutate(seat_utilization_score=ibis.least(100.0, a.seat_utilization_pct.fill_null(100.0)))
    scores = (
        *("seat_utilization_score", "product_breadth_score"),
        *("recent_activity_score", "contract_status_score"),
    )
    a = a.mutate(health_score=sum((a[name] / 4 for name in scores), ibis.literal(0.0)))
    bands = zip(HealthBand, (90, 70, 50, 30, 0), strict=True)
    expected = a.select(
        *("account_id", "active_seats", "products_active"),
        snapshot_date=day,
        state=a.state,
        subscription_tier=a.tier,
        total_seats=a.seats_today,
        monthly_recurring_revenue=a.revenue,
        contract_renewal_date=a.renewal_date,
        days_to_renewal=to_renewal,
        is_paid=is_paid,
        frozen_reason=ibis.cases(
            (a.state != AccountState.FROZEN, None),
            (a.failures > 0, FrozenReason.PAYMENT_DUNNING),
            else_=a.pause_reason,
        ),
        seat_utilization_pct=a.seat_utilization_pct,
        health_score=a.health_score,
        health_band=ibis.cases(*((a.health_score >= least, str(band)) for band, least in bands)),
        **{name: a[name] for name in scores},
    )
    history = silver_account_state_history.rename(state="current_state", since="state_since")
    expected, history = (
        rows.mutate(ibis.selectors.across(ibis.selectors.of_type("float64"), lambda x: x.round(9)))
        for rows in (expected, history)
    )
    return _differences(expected, history, window, out_of_date(ACCOUNT_HISTORY.name))


def _percent(active_seats: ir.IntegerValue, seats: ir.IntegerValue) -> ir.FloatingValue:
    return ibis.ifelse(seats > 0, active_seats * 100.0 / seats, None)


def _rank(tier: ir.StringValue, policy: LifecyclePolicy) -> ir.IntegerValue:
    tiers = enumerate(policy.subscription_tiers)
    return ibis.cases(*((tier == name, rank) for rank, name in tiers))


def _use_of_accounts(
    activity: ir.Table, users: ir.Table, accounts: ir.Table, day: ir.DateValue
) -> ir.Table:
    """Return each account's qualifying activity from its creation through the end of the day."""
    used = activity.filter(activity.qualifying_events > 0, activity.activity_date <= day)
    members = _members(users)
    belongs = (used.activity_date >= members.joined_on) & (used.activity_date < members.left_on)
    used = used.inner_join(members, ["user_id", belongs]).drop("user_id_right")
    used = used.inner_join(accounts, "account_id")
    used = used.filter(used.activity_date >= used.created_date)
    days_ago = day.delta(used.activity_date, unit="day")
    is_recent = days_ago < 30
    use = used.group_by("account_id").aggregate(
        active_seats=used.user_id.nunique(where=is_recent),
        products_active=used.product_id.nunique(where=is_recent),
        events_recent=used.qualifying_events.sum(where=is_recent),
        events_previous=used.qualifying_events.sum(where=days_ago.between(30, 59)),
        last_used_on=used.activity_date.max(),
    )
    firsts = used.filter(used.product_id.notnull()).group_by("account_id", "product_id")
    firsts = firsts.aggregate(first_date=used.activity_date.min())
    both = firsts.group_by("account_id").aggregate(
        latest=firsts.first_date.max(), earliest=firsts.first_date.min()
    )
    both = both.select(
        "account_id",
        is_new_in_a_product=(both.latest > both.earliest)
        & (day.delta(both.latest, unit="day") < 30),
    )
    return left_joined(use, both, on=["account_id"])


# ---------------------------------------------------------------- contracts, step by step

_ON_ONE_INSTANT = (
    *("subscription_cancelled", "subscription_paused", "payment_failed", "payment_recovered"),
    *("subscription_resumed", "subscription_renewed", "subscription_started"),
)
_DATES = (
    *("day", "live_since", "first_paid_on", "ended_on", "failing_since", "grace_until"),
    *("pause_ended_on", "cancelled_on", "set_renewal_date", "table_renewal_date"),
    *("renewal_date", "ends_on"),
)
_CHANGE = {
    **dict.fromkeys(("account_id", "belongs_to", "kind", "event_pause_reason"), "string"),
    **dict.fromkeys(("event_number", "place", "total_seats"), "int64"),
    **dict.fromkeys(("event_day", "event_renewal_date", "effective_date"), "date"),
    "event_grace_until": "date",
    "starts": "boolean",
    "subscription_tier": "string",
    "amount": "decimal(18, 2)",
}
_STEP = {
    **dict.fromkeys(("account_id", "subscription_id", "phase", "pause_reason", "tier"), "string"),
    **dict.fromkeys(("n", "failures", "failed_at", "paused_at", "seats"), "int64"),
    **dict.fromkeys(_DATES, "date"),
    **dict.fromkeys(("is_paused", "has_set_date"), "boolean"),
    "revenue": "decimal(18, 2)",
}


def _steps(accounts: ir.Table, events: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return each subscription after each event, first payment and new version.

    Step 0 is the subscription before any event, as is the change with the number 0. A subscription can
    also end without an event: it ends on `ends_on` unless an event comes first. Later events apply to a
    lapsed subscription. The tier, seats and revenue are null until an event sets them.
    """
    on_one_instant = " ".join(
        f"WHEN '{kind}' THEN {rank}" for rank, kind in enumerate(_ON_ONE_INSTANT)
    )
    rates = " ".join(f"WHEN '{currency}' THEN {rate:f}" for currency, rate in policy.exchange_rates)
    amount = "monthly_recurring_revenue"
    if rates:
        amount = f"round(monthly_recurring_revenue * CASE currency {rates} ELSE 1.0 END, 2)"
    text = f"""
WITH facts AS (
    SELECT *, entity_id AS account_id, CASE event_type {on_one_instant} ELSE 7 END AS kind_rank
    FROM {_name(events)} WHERE entity_type = 'account'
), named AS (
    SELECT *, coalesce(subscription_id,
        last_value(CASE WHEN event_type IN ('subscription_started', 'subscription_renewed')
            THEN subscription_id END IGNORE NULLS) OVER so_far,
        first_value(subscription_id IGNORE NULLS) OVER every, '') AS belongs_to
    FROM facts
    WINDOW so_far AS (PARTITION BY account_id ORDER BY event_date, event_timestamp, kind_rank, event_id
            ROWS UNBOUNDED PRECEDING),
        every AS (PARTITION BY account_id ORDER BY event_date, event_timestamp, kind_rank, event_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), firsts AS (
    SELECT DISTINCT account_id, coalesce(name, '') AS belongs_to FROM {_name(accounts)} LEFT JOIN (
        SELECT account_id, arg_min(belongs_to,
            (event_date, event_timestamp, kind_rank, event_id)) FILTER (subscription_id IS NOT NULL)
            AS name
        FROM named GROUP BY account_id
    ) USING (account_id)
), changes AS (
    SELECT account_id, belongs_to, event_timestamp AS moment, event_date AS event_day, kind_rank,
        event_id, event_type AS kind, contract_renewal_date AS event_renewal_date, effective_date,
        grace_until AS event_grace_until, pause_reason AS event_pause_reason, subscription_tier,
        total_seats, TRY_CAST({amount} AS DECIMAL(18, 2)) AS amount
    FROM named
    UNION ALL
    SELECT DISTINCT account_id, belongs_to, first_paid_at, first_paid_date, -1, '', 'first_payment',
        NULL::DATE, NULL::DATE, NULL::DATE, NULL, NULL, NULL::BIGINT, NULL::DECIMAL(18, 2)
    FROM {_name(accounts)} JOIN firsts USING (account_id) WHERE first_paid_at IS NOT NULL
    UNION ALL
    SELECT account_id, belongs_to, NULL, valid_from, -2, '', 'new_version', contract_renewal_date,
        NULL, NULL, NULL, NULL, NULL, NULL
    FROM (
        SELECT *, row_number() OVER (PARTITION BY account_id ORDER BY valid_from) AS version
        FROM {_name(accounts)}
    ) JOIN firsts USING (account_id) WHERE version > 1
), events AS (
    SELECT *, kind IN ('subscription_started', 'subscription_renewed') AS starts,
        row_number() OVER (PARTITION BY account_id
            ORDER BY event_day, moment NULLS FIRST, kind_rank, event_id) AS place,
        row_number() OVER (PARTITION BY account_id, belongs_to
            ORDER BY event_day, moment NULLS FIRST, kind_rank, event_id) AS event_number
    FROM changes SEMI JOIN firsts USING (account_id)
)
SELECT account_id, belongs_to, event_number, place, event_day, kind, starts, event_renewal_date,
    effective_date, event_grace_until, event_pause_reason, subscription_tier, total_seats, amount
FROM events
UNION ALL
SELECT account_id, belongs_to, 0, 0, DATE '0001-01-01', 'none', false, contract_renewal_date,
    NULL::DATE, NULL::DATE, NULL, NULL, NULL::BIGINT, NULL::DECIMAL(18, 2)
FROM (
    SELECT DISTINCT account_id, belongs_to FROM events UNION FROM firsts
) LEFT JOIN (
    SELECT account_id, belongs_to, contract_renewal_date FROM (
        SELECT *, row_number() OVER (PARTITION BY account_id ORDER BY valid_from) AS version
        FROM {_name(accounts)}
    ) JOIN firsts USING (account_id) WHERE version = 1
) USING (account_id, belongs_to)
"""  # noqa: S608  # of numbers and codes of currencies
    changes = materialized(ops.SQLQueryResult(text, ibis.schema(_CHANGE), None).to_expr())
    text = f"""
SELECT * FROM (WITH RECURSIVE steps AS (
    SELECT account_id, belongs_to AS subscription_id, 0::BIGINT AS n, DATE '0001-01-01' AS day,
        'never_paid' AS phase, NULL::DATE AS live_since, NULL::DATE AS first_paid_on,
        NULL::DATE AS ended_on, 0::BIGINT AS failures, NULL::DATE AS failing_since,
        NULL::BIGINT AS failed_at, NULL::DATE AS grace_until, false AS is_paused,
        NULL::BIGINT AS paused_at, NULL::VARCHAR AS pause_reason, NULL::DATE AS pause_ended_on,
        NULL::DATE AS cancelled_on, NULL::VARCHAR AS tier, NULL::BIGINT AS seats,
        NULL::DECIMAL(18, 2) AS revenue, NULL::DATE AS set_renewal_date,
        event_renewal_date AS table_renewal_date, false AS has_set_date,
        NULL::DATE AS renewal_date, NULL::DATE AS ends_on
    FROM {GIVEN} WHERE event_number = 0
    UNION ALL
    SELECT *, CASE WHEN phase = 'paid' THEN least(
            CASE WHEN cancelled_on IS NOT NULL THEN greatest(day, cancelled_on) END,
            CASE WHEN failures = 0 AND NOT is_paused AND renewal_date IS NOT NULL
                THEN greatest(day, renewal_date + {policy.renewal_grace_days},
                    pause_ended_on + {policy.renewal_grace_days}) END,
            CASE WHEN failures > 0 THEN greatest(day, failing_since + {policy.dunning_days}) END
        ) END AS ends_on
    FROM (
        SELECT *, CASE WHEN has_set_date THEN set_renewal_date ELSE table_renewal_date END
            AS renewal_date
        FROM (
            SELECT account_id, subscription_id, event_number AS n, event_day AS day,
                CASE WHEN pays THEN 'paid' ELSE was END AS phase,
                CASE WHEN pays AND was <> 'paid' AND (was = 'never_paid' OR event_day > lapsed_on + 1)
                    THEN event_day ELSE live_since END AS live_since,
                CASE WHEN pays THEN coalesce(first_paid_on, event_day) ELSE first_paid_on END
                    AS first_paid_on,
                CASE WHEN NOT pays THEN lapsed_on END AS ended_on,
                CASE WHEN pays OR was <> 'paid' THEN 0 WHEN kind = 'payment_failed' THEN failures + 1
                    ELSE failures END AS failures,
                CASE WHEN kind = 'payment_failed' AND failures = 0 THEN event_day
                    ELSE failing_since END AS failing_since,
                CASE WHEN kind = 'payment_failed' THEN place ELSE failed_at END AS failed_at,
                CASE WHEN kind = 'payment_failed' THEN event_grace_until ELSE grace_until END
                    AS grace_until,
                CASE WHEN was <> 'paid' OR kind IN ('subscription_started', 'subscription_resumed')
                    THEN false ELSE is_paused OR kind = 'subscription_paused' END AS is_paused,
                CASE WHEN kind = 'subscription_paused' THEN place ELSE paused_at END AS paused_at,
                CASE WHEN kind = 'subscription_paused'
                    THEN coalesce(event_pause_reason, 'voluntary_pause') ELSE pause_reason END
                    AS pause_reason,
                CASE WHEN was = 'paid' AND is_paused
                    AND kind IN ('subscription_started', 'subscription_resumed')
                    THEN event_day ELSE pause_ended_on END AS pause_ended_on,
                CASE WHEN pays AND NOT recovers THEN NULL
                    WHEN was = 'paid' AND kind = 'subscription_cancelled'
                    THEN coalesce(effective_date, event_day) ELSE cancelled_on END AS cancelled_on,
                coalesce(CASE WHEN takes_effect THEN subscription_tier END, tier) AS tier,
                coalesce(CASE WHEN takes_effect THEN total_seats END, seats) AS seats,
                coalesce(CASE WHEN takes_effect THEN amount END, revenue) AS revenue,
                CASE WHEN sets_date THEN event_renewal_date ELSE set_renewal_date END
                    AS set_renewal_date,
                CASE WHEN kind = 'new_version' THEN event_renewal_date ELSE table_renewal_date END
                    AS table_renewal_date,
                has_set_date OR sets_date AS has_set_date
            FROM (
                SELECT *, pays OR was <> 'lapsed' AS takes_effect,
                    kind <> 'new_version' AND (pays OR was <> 'lapsed') AND (
                        starts OR event_renewal_date IS NOT NULL
                        OR coalesce(recovers AND renewal_date <= event_day, false)
                    ) AS sets_date
                FROM (
                    SELECT *, recovers OR starts OR (kind = 'first_payment' AND was = 'never_paid')
                        OR (kind = 'new_version' AND was <> 'never_paid' AND NOT has_set_date
                            AND coalesce(event_renewal_date > table_renewal_date, false)) AS pays
                    FROM (
                        SELECT *, kind = 'payment_recovered' AND (was = 'paid' OR (
                            was = 'lapsed' AND coalesce(cancelled_on >= event_day, true)
                        )) AS recovers
                        FROM (
                            SELECT steps.*, events.* EXCLUDE (account_id, belongs_to),
                                CASE WHEN ends_on < event_day THEN 'lapsed' ELSE phase END AS was,
                                CASE WHEN ends_on < event_day THEN ends_on ELSE ended_on END
                                    AS lapsed_on
                            FROM steps JOIN {GIVEN} AS events ON events.account_id = steps.account_id
                                AND belongs_to = subscription_id AND event_number = n + 1
                        ) AS met
                    ) AS recovering
                ) AS paying
            ) AS evaluated
        ) AS applied
    ) AS dated
)
SELECT * FROM steps) AS contracts
"""  # noqa: S608  # of numbers
    return materialized(ops.SQLStringView(changes.op(), text, ibis.schema(_STEP)).to_expr())


def _versions_on(versions: ir.Table, key: str, day: ir.DateValue) -> ir.Table:
    """Return each entity's version on a day: the latest by then or, if there is none, the first."""
    is_later = versions.valid_from > day
    age = day.delta(versions.valid_from, unit="day").abs()
    in_order = ibis.window(group_by=key, order_by=[is_later, age])
    ranked = versions.mutate(place=ibis.row_number().over(in_order))
    return ranked.filter(ranked.place == 0).drop("place")


def _members(users: ir.Table) -> ir.Table:
    """Return the days on which each user belongs to an account: from `joined_on` until `left_on`."""
    by_user = ibis.window(group_by="user_id", order_by="valid_from")
    is_first = ibis.row_number().over(by_user) == 0
    return users.select(
        *("user_id", "account_id", "signup_date"),
        joined_on=ibis.ifelse(is_first, ibis.date(1, 1, 1), users.valid_from),
        left_on=users.valid_from.lead().over(by_user).fill_null(ibis.date(9999, 12, 31)),
    )


def _contracts(
    steps: ir.Table, accounts: ir.Table, days: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return the contract at the end of each given day, over all subscriptions of the account.

    Args:
        steps: the table that `_steps` returns.
        accounts: bronze_accounts.
        days: accounts, each with a day, `on_day`.
        policy: the order of the tiers.
    """
    known = _contracts_if_paid(steps, accounts, days, policy)
    lapsed = known.filter(known.phase == "lapsed")
    # A lapsed account keeps the seats and the tier of its last paid day.
    last_days = lapsed.select("account_id", on_day="ended_on").distinct()
    last = _contracts_if_paid(steps, accounts, last_days, policy)
    last = last.select("account_id", last_tier="tier", last_seats="seats", ended_on="on_day")
    known = left_joined(known, last, on=["account_id", "ended_on"])
    is_lapsed = known.phase == "lapsed"
    return known.mutate(
        tier=ibis.cases(
            (is_lapsed, known.last_tier), (known.phase == "never_paid", "trial"), else_=known.tier
        ),
        seats=ibis.ifelse(is_lapsed, known.last_seats, known.seats),
    ).drop("last_tier", "last_seats")


def _contracts_if_paid(
    steps: ir.Table, accounts: ir.Table, days: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    next_day = steps.day.lead().over(group_by=["account_id", "subscription_id"], order_by="n")
    steps = steps.mutate(next_day=next_day.fill_null(ibis.date(9999, 12, 31)))
    in_force = (steps.day <= days.on_day) & (steps.next_day > days.on_day)
    s = days.inner_join(steps, ["account_id", in_force]).drop("account_id_right")
    is_live = (s.phase == "paid") & (s.ends_on >= s.on_day).fill_null(True)
    s = s.mutate(
        is_live=is_live,
        goes_on=is_live & (s.ends_on > s.on_day).fill_null(True),
        last_paid_on=ibis.ifelse(is_live, None, ibis.coalesce(s.ended_on, s.ends_on)),
        had_paid=s.phase != "never_paid",
    )
    newcomer = (s.goes_on & (s.live_since == s.on_day)).fill_null(False)
    s = s.mutate(is_replacing=newcomer.max().over(group_by=["account_id", "on_day"]))
    # What ends on a day on which another subscription replaces it does not count on that day.
    s = s.mutate(counts=ibis.ifelse(s.is_replacing, s.goes_on, s.is_live))
    s = s.mutate(rank=_rank(s.tier, policy), is_halted=(s.failures > 0) | s.is_paused)
    to_come = s.renewal_date >= s.on_day
    tiers = ibis.struct(
        {"no_rank": s["rank"].isnull(), "below": -s["rank"].fill_null(0), "tier": s.tier}
    )
    known = s.group_by("account_id", "on_day").aggregate(
        live=s.counts.cast("int64").sum(),
        had_paid=s.had_paid.max(),
        first_paid_on=s.first_paid_on.min(),
        ended_on=s.last_paid_on.max(),
        halted=(s.counts & s.is_halted).cast("int64").sum(),
        failures=s.failures.sum(where=s.counts).fill_null(0),
        grace_until=s.grace_until.fill_null(ibis.date(1, 1, 1)).argmax(
            s.failed_at, where=s.counts & (s.failures > 0)
        ),
        pause_reason=s.pause_reason.argmax(s.paused_at, where=s.counts & s.is_paused),
        is_cancelled=(s.counts & s.cancelled_on.notnull()).max(),
        set_tier=tiers.min(where=s.counts & s.tier.notnull())["tier"],
        set_seats=s.seats.sum(where=s.counts),
        set_seats_before=s.seats.sum(where=~s.had_paid),
        set_revenue=s.revenue.sum(where=s.counts),
        next_renewal=s.renewal_date.min(where=s.counts & to_come),
        past_renewal=s.renewal_date.max(where=s.counts & ~to_come),
    )
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    versions = accounts.select(
        *("account_id", "valid_from", "subscription_tier", "total_seats"),
        "monthly_recurring_revenue",
        is_first=ibis.row_number().over(by_account) == 0,
        until=accounts.valid_from.lead().over(by_account).fill_null(ibis.date(9999, 12, 31)),
    )
    applies = (versions.is_first | (versions.valid_from <= known.on_day)) & (
        versions.until > known.on_day
    )
    both = known.inner_join(versions, ["account_id", applies]).drop("account_id_right")
    is_paid = both.live > 0
    set_seats = ibis.ifelse(is_paid, both.set_seats, both.set_seats_before)
    revenue = ibis.coalesce(both.set_revenue, both.monthly_recurring_revenue)
    return both.select(
        *("account_id", "on_day", "live", "first_paid_on", "halted", "failures", "grace_until"),
        *("pause_reason", "is_cancelled"),
        phase=ibis.cases((is_paid, "paid"), (both.had_paid, "lapsed"), else_="never_paid"),
        ended_on=ibis.ifelse(is_paid, None, both.ended_on),
        tier=ibis.coalesce(both.set_tier, both.subscription_tier),
        seats=ibis.coalesce(set_seats, both.total_seats).cast("int64"),
        revenue=ibis.ifelse(is_paid, revenue, 0).cast("decimal(18, 2)"),
        renewal_date=ibis.coalesce(both.next_renewal, both.past_renewal),
    )


def _returns(
    steps: ir.Table, accounts: ir.Table, day: ir.DateValue, policy: LifecyclePolicy
) -> ir.Table:
    """Return the latest day on which each account paid again, having been churned the day before."""
    paid = steps.filter(steps.phase == "paid", steps.day <= day)
    paid = paid.group_by("account_id", "subscription_id", "live_since").aggregate(
        last_end=paid.ends_on.fill_null(ibis.date(9999, 12, 31)).argmax(paid.n),
    )
    earlier = ibis.window(group_by="account_id", order_by="live_since", preceding=(None, 1))
    paid = paid.mutate(ended_before=paid.last_end.max().over(earlier))
    paid = paid.inner_join(accounts, "account_id")
    days_lapsed = paid.live_since.delta(paid.ended_before, unit="day") - 1
    paid = paid.filter(
        days_lapsed >= policy.churn_days,
        paid.live_since > paid.created_date,
    )
    return paid.group_by("account_id").aggregate(returned_on=paid.live_since.max())


def _days_before(day: ir.DateValue, days: int) -> ir.DateValue:
    # Subtract via a timestamp. Ibis treats a date minus an interval as a date, but DuckDB does not.
    return (day.cast("timestamp") - ibis.interval(days=days)).cast("date")


def _seats(
    steps: ir.Table,
    accounts: ir.Table,
    users: ir.Table,
    events: ir.Table,
    day: ir.DateValue,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Return each account's seats at the end of the day and their minimum over the last 30 days.

    If the number of seats is not specified for a day, the account has one seat per user. Seats are
    counted on the first of the 30 days and on each day on which an event, a version or a user may have
    changed the number of seats.
    """
    versions, accounts = accounts, accounts.select("account_id", "created_date").distinct()
    deletions = events.filter(events.event_type == "user_deleted", events.entity_type == "user")
    deletions = deletions.group_by(user_id="entity_id").aggregate(
        deleted_on=deletions.event_date.min()
    )
    members = left_joined(_members(users), deletions, on=["user_id"])
    members = members.mutate(
        came_on=ibis.greatest(members.joined_on, members.signup_date),
        went_on=ibis.least(members.left_on, members.deleted_on),
    )
    members = members.filter(members.came_on < members.went_on)
    moves = members.select("account_id", moved_on="came_on", users=ibis.literal(1)).union(
        members.select("account_id", moved_on="went_on", users=ibis.literal(-1))
    )
    first_day = _days_before(day, 29)
    moves = moves.group_by("account_id", moved_on=ibis.greatest(moves.moved_on, first_day))
    moves = materialized(moves.aggregate(users=ibis._.users.sum()))
    days = ibis.union(
        accounts.select("account_id", seen_on=ibis.greatest(accounts.created_date, first_day)),
        accounts.select("account_id", seen_on=day),
        versions.select("account_id", seen_on="valid_from"),
        steps.select("account_id", seen_on="day"),
        # A subscription counts up to its end, or up to the day before.
        steps.select("account_id", seen_on="ends_on"),
        steps.select("account_id", seen_on=_days_before(steps.ends_on, -1)),
        moves.select("account_id", seen_on="moved_on"),
        distinct=True,
    )
    days = days.inner_join(accounts, "account_id").filter(
        ibis._.seen_on.between(ibis.greatest(first_day, ibis._.created_date), day)
    )
    days = _contracts(
        steps, versions, days.select("account_id", on_day="seen_on").distinct(), policy
    )
    days = days.select("account_id", "seats", seen_on="on_day")
    unstated = days.filter(days.seats.isnull())
    present = unstated.inner_join(moves, ["account_id", moves.moved_on <= unstated.seen_on])
    counts = present.group_by("account_id", "seen_on").aggregate(users=present.users.sum())
    days = left_joined(days, counts, on=["account_id", "seen_on"])
    seats = ibis.coalesce(days.seats, days.users, 0).cast("int64")
    return days.group_by("account_id").aggregate(
        seats_today=seats.max(where=days.seen_on == day), lowest_seats=seats.min()
    )


def _name(table: ir.Table) -> str:
    stored = table.op()
    return f"{stored.namespace.database}.{stored.name}"
