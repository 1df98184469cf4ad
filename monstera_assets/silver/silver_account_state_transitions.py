"""silver_account_state_transitions: every move of an account from one state to another."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule, within
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_number, days_earlier, transitions_of
from monstera_assets.lifecycle.states import ACCOUNT_TRANSITIONS, AccountState, is_allowed
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_account_state_intervals import ACCOUNT_COLUMN
from monstera_assets.silver.state_tables import DAYS_IN_PREVIOUS_STATE, TRANSITION_DATE
from monstera_assets.warehouse.table_asset import UP_TO_AS_OF, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_account_state_transitions",
    grain="one account and date on which the state differs from the day before",
    description="Transitions between account states, with the rule that led to the new state and what"
    " changed in revenue and seats that day. Read it for what happened, and what caused it.",
    owners=OWNERS,
    key=("account_id", "transition_date"),
    partition_column="transition_date",
    columns=(
        ACCOUNT_COLUMN,
        Column("from_state", "string", "State the day before.", allowed=tuple(AccountState)),
        Column("to_state", "string", "State at the end of the day.", allowed=tuple(AccountState)),
        TRANSITION_DATE,
        Column("reason", "string", "The rule that led to the new state."),
        Column(
            "triggering_event_id",
            "string",
            "The subscription event of that day, if there was one; null if it was time or use.",
            nullable=True,
        ),
        DAYS_IN_PREVIOUS_STATE,
        Column(
            "mrr_change",
            "decimal(18, 2)",
            "Monthly recurring revenue against the day before.",
        ),
        Column("seat_change", "int64", "Seats bought against the day before."),
    ),
)


@table_asset(TABLE, days={"silver_account_state_intervals": UP_TO_AS_OF})
def silver_account_state_transitions(
    silver_account_state_intervals: ir.Table, *, window: Window
) -> ir.Table:
    """Where an interval meets the next one within the window, and the state is another one."""
    begun = transitions_of(
        silver_account_state_intervals,
        window,
        keys=["account_id"],
        state="current_state",
    )
    return begun.select(
        "account_id",
        from_state=begun.previous_current_state,
        to_state=begun.current_state,
        transition_date=begun.valid_from,
        reason=begun.state_reason,
        triggering_event_id=begun.subscription_event_id,
        days_in_previous_state=day_number(begun.valid_from)
        - day_number(begun.previous_state_since),
        mrr_change=begun.monthly_recurring_revenue - begun.previous_monthly_recurring_revenue,
        seat_change=begun.total_seats - begun.previous_total_seats,
    )


@rule(TABLE, "Every move is an edge of the allowed matrix.")
def transitions_are_allowed(
    silver_account_state_transitions: ir.Table, *, window: Window
) -> ir.Table:
    """Moves that the matrix does not have."""
    moves = within(silver_account_state_transitions, "transition_date", window)
    return moves.filter(~is_allowed(moves.from_state, moves.to_state, ACCOUNT_TRANSITIONS))


@rule(TABLE, "Moves are the differences between consecutive rows of history, no more and no less.")
def equal_history_differences(
    silver_account_state_transitions: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Moves that history does not show, and differences in history without a move.

    Compared from the first day on whose day before is in history too.
    """
    history = silver_account_state_history.filter(
        silver_account_state_history.snapshot_date.between(
            days_earlier(window.first, 1), window.last
        )
    )
    begins = history.aggregate(first_day=history.snapshot_date.min())
    by_day = ibis.window(group_by="account_id", order_by="snapshot_date")
    pairs = history.select(
        "account_id",
        from_state=history.current_state.lag().over(by_day),
        to_state=history.current_state,
        transition_date=history.snapshot_date,
        days_in_previous_state=day_number(history.snapshot_date)
        - day_number(history.state_since.lag().over(by_day)),
        mrr_change=history.monthly_recurring_revenue
        - history.monthly_recurring_revenue.lag().over(by_day),
        seat_change=history.total_seats - history.total_seats.lag().over(by_day),
    )
    changed = pairs.filter(pairs.from_state != pairs.to_state)
    moves = within(silver_account_state_transitions, "transition_date", window)
    moves = moves.filter(moves.transition_date > begins.first_day.as_scalar())
    return differing_rows(moves.select(*changed.columns), changed)
