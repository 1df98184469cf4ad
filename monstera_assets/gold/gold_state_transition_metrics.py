"""gold_state_transition_metrics: transitions between states, and rates derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.lifecycle.billing import ClosedBy, payment_failures
from monstera_assets.lifecycle.states import (
    ACCOUNT_TRANSITIONS,
    PRODUCT_TRANSITIONS,
    USER_TRANSITIONS,
    Transition,
)

RATE_DAYS = 7
RECOVERY_DAYS = 30

PLATFORM, PRODUCT, ACCOUNT = SCOPES = ("platform", "product", "account")
SCOPE = ma.Column(
    "scope",
    "string",
    "Entities that the states describe: users (platform), product relationships or accounts.",
    allowed=SCOPES,
)
_ALLOWED: Mapping[str, Mapping[Any, Mapping[Any, Transition]]] = {
    PLATFORM: USER_TRANSITIONS,
    PRODUCT: PRODUCT_TRANSITIONS,
    ACCOUNT: ACCOUNT_TRANSITIONS,
}
IN_USE = (
    ma.UserState.ACTIVE,
    ma.UserState.RETURNING,
    ma.UserState.REACTIVATED,
    ma.UserState.DUNNING,
)

MOVES = ma.Metric(
    "Moves Made Daily",
    "Transitions from the previous state to the new state on the date.",
    "count(*) by transition_date",
)
DAYS_IN_STATE = ma.Metric(
    "Moves Days in State Mean Daily",
    "Mean number of days spent in the previous state before transitions on the date; null if there are"
    " no transitions.",
    "avg(days_in_previous_state)",
    ma.Unit.DAYS,
    nullable=True,
)


def _rate(name: str, moved: str, then: str, caveats: str = "") -> ma.Metric:
    return ma.Metric(
        f"Users {name} Share Weekly",
        f"{moved} in the 7 days ending on the date / users who, 7 days earlier, were {then}; null"
        " if there are no such users or the row is not the platform total.",
        f"count(transitions in 7 days) / count(users who, 7 days earlier, were {then})",
        caveats=caveats,
    )


CHURN_RATE = _rate(
    "Churned",
    "Transitions to churned",
    "active, returning, reactivated, dunning or dormant",
    "The numerator includes users who churn from state new, but the denominator does not.",
)
DORMANCY_RATE = _rate(
    "Dormant", "Transitions to dormant", "active, returning, reactivated or dunning"
)
WIN_BACK_RATE = _rate("Won Back", "Transitions from dormant to returning", "dormant")
REACTIVATION_RATE = _rate(
    "Reactivated",
    "Transitions from churned to reactivated, excluding late activations,",
    "churned and had at least one qualifying event",
)
RECOVERY_RATE = ma.Metric(
    "Accounts Dunning Recovered Share Monthly",
    "Payment failures closed by recovery or renewal / payment failures closed, in the 30 days ending on"
    " the date; null if no failures were closed or the row is not the account total. A lapse closes"
    " open failures on its first day. A new subscription also closes open failures but does not count"
    " as a recovery.",
    "count(failures closed by recovery or renewal) / count(failures closed)",
)
FAILURES_CLOSED = ma.Metric(
    "Accounts Dunning Failures Closed Monthly",
    "Payment failures closed in the 30 days ending on the date; null in rows other than the account"
    " total.",
    "count(failures closed)",
    ma.Unit.FAILURES,
    nullable=True,
)
RATES = (CHURN_RATE, DORMANCY_RATE, WIN_BACK_RATE, REACTIVATION_RATE, RECOVERY_RATE)

TABLE = ma.metric_table(
    "gold_state_transition_metrics",
    grain="one date, scope and allowed transition, plus one total row per date and scope",
    description="How many users, product relationships (across all products) and accounts changed state"
    " on each date, and what are the churn, dormancy, win-back, reactivation and recovery"
    f" rates? Rows with `{ma.TOTAL}` in both state columns contain the totals and the rates.",
    dimensions=(
        ma.METRIC_DATE,
        SCOPE,
        ma.Column("from_state", "string", f"Previous state; `{ma.TOTAL}` for the total."),
        ma.Column("to_state", "string", f"New state; `{ma.TOTAL}` for the total."),
    ),
    metrics=(MOVES, DAYS_IN_STATE, *RATES, FAILURES_CLOSED),
)

_KEY = ("scope", "from_state", "to_state")


@ma.table_asset(
    TABLE,
    days={
        "silver_user_state_transitions": ma.last_days(RATE_DAYS),
        "silver_account_state_transitions": ma.last_days(1),
        "silver_user_state_history": ma.last_days(RATE_DAYS + 1),
    },
)
def gold_state_transition_metrics(
    silver_user_state_transitions: ir.Table,
    silver_account_state_transitions: ir.Table,
    silver_user_state_history: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Count transitions by date and type, and compute the rates."""
    users, accounts = silver_user_state_transitions, silver_account_state_transitions
    columns = ("transition_date", "from_state", "to_state", "days_in_previous_state")
    transitions = users.select("scope", *columns).union(
        accounts.select(scope=ibis.literal(ACCOUNT), **{name: accounts[name] for name in columns})
    )
    transitions = ma.within(transitions, "transition_date", window)
    in_all = transitions.mutate(from_state=ibis.literal(ma.TOTAL), to_state=ibis.literal(ma.TOTAL))
    every = transitions.union(in_all)
    counted = every.group_by(
        metric_date="transition_date", **{n: every[n] for n in _KEY}
    ).aggregate(moves=every.count(), days=every.days_in_previous_state.sum().cast("int64"))
    rows = ma.left_joined(_grid(window), counted, on=["metric_date", *_KEY])
    weekly = _weekly(users, silver_user_state_history, window)
    monthly = _closings(
        payment_failures(bronze_accounts, bronze_subscription_events, policy), window
    )
    rows = ma.left_joined(rows, weekly, monthly, on=["metric_date"])
    is_total = rows.from_state == ma.TOTAL

    def rate(scope: str, part: str, whole: str) -> ir.FloatingValue:
        applies = is_total & (rows.scope == scope)
        return ibis.ifelse(applies, ma.ratio(rows[part].fill_null(0), rows[whole]), None)

    return rows.select(
        "metric_date",
        *_KEY,
        **{
            MOVES.column_name: rows.moves.fill_null(0),
            DAYS_IN_STATE.column_name: ma.ratio(rows.days, rows.moves),
            CHURN_RATE.column_name: rate(PLATFORM, "into_churned", "could_churn"),
            DORMANCY_RATE.column_name: rate(PLATFORM, "into_dormant", "could_go_dormant"),
            WIN_BACK_RATE.column_name: rate(PLATFORM, "won_back", "was_dormant"),
            REACTIVATION_RATE.column_name: rate(PLATFORM, "came_back", "could_come_back"),
            RECOVERY_RATE.column_name: rate(ACCOUNT, "recovered", "closed"),
            FAILURES_CLOSED.column_name: ibis.ifelse(
                is_total & (rows.scope == ACCOUNT), rows.closed.fill_null(0), None
            ),
        },
    )


def _grid(window: ma.Window) -> ir.Table:
    kinds = [
        {"scope": scope, "from_state": str(left), "to_state": str(reached)}
        for scope, moves in _ALLOWED.items()
        for left, reached in [
            *((left, reached) for left, targets in moves.items() for reached in targets),
            (ma.TOTAL, ma.TOTAL),
        ]
    ]
    every = ibis.array([ibis.struct(kind) for kind in kinds])
    return ma.dates(window).mutate(kind=every.unnest()).unpack("kind")


def _weekly(transitions: ir.Table, history: ir.Table, window: ma.Window) -> ir.Table:
    """Count transitions in the 7 days ending on each date, and users by state 7 days earlier."""
    platform = transitions.filter(transitions.scope == PLATFORM)
    # A first qualifying event after churn is an activation, not a reactivation.
    first_ever = history.filter(
        history.activity_state == str(ma.UserState.REACTIVATED),
        history.total_qualifying_events == history.qualifying_events_count,
    ).select(late_user_id="user_id", late_on="snapshot_date")
    moved = platform.left_join(
        first_ever,
        [
            platform.user_id == first_ever.late_user_id,
            platform.transition_date == first_ever.late_on,
        ],
    )
    kinds = {
        "into_churned": moved.to_state == str(ma.UserState.CHURNED),
        "into_dormant": moved.to_state == str(ma.UserState.DORMANT),
        "won_back": (moved.from_state == str(ma.UserState.DORMANT))
        & (moved.to_state == str(ma.UserState.RETURNING)),
        "came_back": (moved.from_state == str(ma.UserState.CHURNED))
        & (moved.to_state == str(ma.UserState.REACTIVATED))
        & moved.late_on.isnull(),
    }
    by_day = moved.group_by(day=ma.day_number(moved.transition_date)).aggregate(
        **{name: moved.count(where=applies) for name, applies in kinds.items()}
    )
    last_week = ma.totals_of_last_days(by_day, window, RATE_DAYS)
    state, earlier = history.platform_state, history.total_qualifying_events > 0
    then = {
        "could_churn": state.isin([*map(str, IN_USE), str(ma.UserState.DORMANT)]),
        "could_go_dormant": state.isin(list(map(str, IN_USE))),
        "was_dormant": state == str(ma.UserState.DORMANT),
        "could_come_back": (state == str(ma.UserState.CHURNED)) & earlier,
    }
    a_week_on = ma.day_date(ma.day_number(history.snapshot_date) + RATE_DAYS)
    counts = history.group_by(metric_date=a_week_on).aggregate(
        **{name: history.count(where=applies) for name, applies in then.items()}
    )
    return ma.left_joined(last_week, counts, on=["metric_date"])


def _closings(failures: ir.Table, window: ma.Window) -> ir.Table:
    """Count payment failures that were closed and recovered in the 30 days ending on each date."""
    paid = failures.closed_by.isin([str(ClosedBy.RECOVERY), str(ClosedBy.RENEWAL)])
    by_day = failures.group_by(day="closed_day").aggregate(
        closed=failures.count(), recovered=failures.count(where=paid)
    )
    by_day = by_day.filter(by_day.day > ma.first_day(window) - RECOVERY_DAYS)
    return ma.totals_of_last_days(by_day, window, RECOVERY_DAYS)


@ma.rule(TABLE)
def agree_with_transitions(
    gold_state_transition_metrics: ir.Table,
    silver_user_state_transitions: ir.Table,
    silver_account_state_transitions: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Each scope's transitions add up to the scope's total and agree with the silver tables."""
    rows = ma.within(gold_state_transition_metrics, "metric_date", window)
    moves = rows[MOVES.column_name]
    published = rows.group_by("metric_date", "scope").aggregate(
        total=moves.sum(where=rows.from_state == ma.TOTAL).cast("int64"),
        parts=moves.sum(where=rows.from_state != ma.TOTAL).cast("int64"),
    )
    users, accounts = silver_user_state_transitions, silver_account_state_transitions
    transitions = users.select("scope", "transition_date").union(
        accounts.select(scope=ibis.literal(ACCOUNT), transition_date=accounts.transition_date)
    )
    counted = transitions.group_by("scope", metric_date="transition_date").aggregate(
        transitions=transitions.count()
    )
    both = ma.left_joined(published, counted, on=["metric_date", "scope"])
    transitions_made = both.transitions.fill_null(0)
    return both.filter((both.total != transitions_made) | (both.parts != transitions_made)).select(
        "metric_date", "scope", "total", "parts", "transitions"
    )


@ma.rule(TABLE)
def flows_equal_differences_of_counts(
    gold_state_transition_metrics: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    bronze_accounts: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Transitions explain the daily change in the number of entities per state.

    Entities without a row on the previous day count as entries, not transitions. The history's first
    day is not compared.
    """
    histories = with_entry(
        silver_user_state_history,
        silver_user_product_state_history,
        silver_account_state_history,
        bronze_accounts,
    )
    levels = ma.materialized(ibis.union(*(_levels(*item, window) for item in histories.items())))
    rows = gold_state_transition_metrics
    first_date = rows.aggregate(day=rows.metric_date.min()).day.as_scalar()
    rows = ma.within(rows, "metric_date", window).filter(ibis._.from_state != ma.TOTAL)
    moves = rows[MOVES.column_name]
    parts = ibis.union(
        rows.select("metric_date", "scope", state="to_state", expected=moves),
        rows.select("metric_date", "scope", state="from_state", expected=-moves),
        levels.select(
            "scope", "state", metric_date="day", expected=levels.entered - levels.entities
        ),
        levels.select(
            "scope",
            "state",
            metric_date=ma.day_date(ma.day_number(levels.day) + 1),
            expected="entities",
        ),
    )
    parts = ma.within(parts, "metric_date", window)
    parts = parts.filter(parts.metric_date > first_date)
    added_up = parts.group_by("metric_date", "scope", "state").aggregate(
        surplus=parts.expected.sum().cast("int64")
    )
    return added_up.filter(added_up.surplus != 0)


def _levels(scope: str, history: ir.Table, window: ma.Window) -> ir.Table:
    """Count entities and entries per state and day, starting one day before the window."""
    rows = history.filter(
        history.snapshot_date.between(ma.days_earlier(window.first, 1), window.last)
    )
    return rows.group_by("state", day="snapshot_date").aggregate(
        scope=ibis.literal(scope), entities=rows.count(), entered=rows.count(where=rows.enters)
    )


def with_entry(
    users: ir.Table, products: ir.Table, accounts: ir.Table, bronze_accounts: ir.Table
) -> dict[str, ir.Table]:
    """Return each scope's history with `state` and `enters`, which is true on an entity's first day."""
    created = ma.one_row_per_entity(bronze_accounts, ["account_id", "created_date"])
    created = created.rename(created_on="created_date")
    accounts = accounts.inner_join(created, "account_id")
    return {
        PLATFORM: users.mutate(state=users.platform_state, enters=users.days_since_signup == 0),
        PRODUCT: products.mutate(
            state=products.current_state,
            enters=products.first_access_date == products.snapshot_date,
        ),
        ACCOUNT: accounts.mutate(
            state=accounts.current_state, enters=accounts.created_on == accounts.snapshot_date
        ),
    }
