"""silver_account_state_transitions: transitions between account states."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.states import ACCOUNT_TRANSITIONS, is_allowed
from monstera_assets.silver import state_tables

_STATES = tuple(ma.AccountState)

TABLE = ma.declare_table(
    "silver_account_state_transitions",
    group=ma.AssetGroup.ACCOUNTS,
    grain="one account and date with a transition",
    description="When did accounts change state, and why? Each row shows the rule that determined"
    " the new state and the day's changes in revenue and seats.",
    key=("account_id", "transition_date"),
    partition_column="transition_date",
    columns=(
        ma.ACCOUNT_ID,
        ma.Column("from_state", "string", "State at the end of the previous day.", allowed=_STATES),
        ma.Column("to_state", "string", "State at the end of the day.", allowed=_STATES),
        state_tables.TRANSITION_DATE,
        ma.Column("reason", "string", "Rule that determined the new state."),
        ma.nullable(
            "triggering_event_id",
            "string",
            "Subscription event on the transition date, or null if user activity or the passage of"
            " time caused the transition.",
        ),
        state_tables.DAYS_IN_PREVIOUS_STATE,
        ma.Column(
            "mrr_change",
            "decimal(18, 2)",
            "Change in monthly recurring revenue since the previous day, in the reporting currency.",
        ),
        ma.Column("seat_change", "int64", "Change in the number of seats since the previous day."),
    ),
)


@ma.table_asset(TABLE, days={"silver_account_state_intervals": ma.UP_TO_AS_OF})
def silver_account_state_transitions(
    silver_account_state_intervals: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Return the intervals that start a new state in the window."""
    intervals = silver_account_state_intervals
    moves = state_tables.transitions_of(intervals, window, keys=["account_id"])
    return moves.mutate(
        reason=moves.state_reason,
        triggering_event_id=moves.subscription_event_id,
        mrr_change=moves.monthly_recurring_revenue - moves.previous_monthly_recurring_revenue,
        seat_change=moves.total_seats - moves.previous_total_seats,
    ).select(ma.column_names(TABLE.columns))


@ma.rule(TABLE)
def transitions_are_allowed(
    silver_account_state_transitions: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Only allowed transitions occur."""
    moves = ma.within(silver_account_state_transitions, "transition_date", window)
    return moves.filter(~is_allowed(moves.from_state, moves.to_state, ACCOUNT_TRANSITIONS))


@ma.rule(TABLE)
def equal_history_differences(
    silver_account_state_transitions: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """The transitions exactly match the differences between consecutive days in the history.

    A day is not compared if the previous day is missing from the history.
    """
    history = state_tables.with_day_before(silver_account_state_history, window)
    by_day = ibis.window(group_by="account_id", order_by="snapshot_date")
    revenue, seats = history.monthly_recurring_revenue, history.total_seats
    since = history.state_since.lag().over(by_day)
    days = history.select(
        "account_id",
        from_state=history.current_state.lag().over(by_day),
        to_state=history.current_state,
        transition_date=history.snapshot_date,
        days_in_previous_state=ma.day_number(history.snapshot_date) - ma.day_number(since),
        mrr_change=revenue - revenue.lag().over(by_day),
        seat_change=seats - seats.lag().over(by_day),
    )
    changes = days.filter(days.from_state != days.to_state)
    return state_tables.differing_transitions(
        silver_account_state_transitions, changes, history, window
    )
