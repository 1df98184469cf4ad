"""silver_user_state_transitions: every move of a user from one state to another."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule, within
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_number, days_earlier, transitions_of
from monstera_assets.lifecycle.products import KEYS
from monstera_assets.lifecycle.states import (
    PRODUCT_TRANSITIONS,
    USER_TRANSITIONS,
    ProductState,
    UserState,
    is_allowed,
)
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_state_history import state_runs
from monstera_assets.silver.silver_user_state_intervals import USER_COLUMN
from monstera_assets.silver.state_tables import DAYS_IN_PREVIOUS_STATE, TRANSITION_DATE
from monstera_assets.warehouse.table_asset import UP_TO_AS_OF, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

_STATES = (*UserState, *(state for state in ProductState if state != ProductState.NEVER_ADOPTED))

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_state_transitions",
    grain="one user, scope and date on which the state differs from the day before",
    description="Transitions between states: the differences between consecutive history rows. Read"
    " it for what happened, and what caused it.",
    owners=OWNERS,
    key=("user_id", "scope", "product_id", "transition_date"),
    partition_column="transition_date",
    columns=(
        USER_COLUMN,
        Column("scope", "string", "Where the state holds.", allowed=("platform", "product")),
        Column(
            "product_id",
            "string",
            "The product in product scope; null for the platform.",
            nullable=True,
        ),
        Column(
            "from_state",
            "string",
            "State at the end of the day before.",
            allowed=_STATES,
        ),
        Column("to_state", "string", "State at the end of the day.", allowed=_STATES),
        TRANSITION_DATE,
        Column(
            "triggering_event_id",
            "string",
            "The event that caused the move; null if it was the passing of time.",
            nullable=True,
        ),
        DAYS_IN_PREVIOUS_STATE,
    ),
)


@table_asset(
    TABLE,
    days={
        "silver_user_state_intervals": UP_TO_AS_OF,
        "silver_user_product_state_intervals": UP_TO_AS_OF,
    },
)
def silver_user_state_transitions(
    silver_user_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Where an interval meets the next one within the window, and the state is another one."""
    platform = silver_user_state_intervals.rename(
        current_state="platform_state", state_since="platform_state_since"
    ).mutate(scope=ibis.literal("platform"), product_id=ibis.null("string"))
    products = silver_user_product_state_intervals.mutate(scope=ibis.literal("product"))
    scopes = ((platform, ("user_id",)), (products, KEYS))
    return ibis.union(
        *(
            transitions_of(intervals, window, keys=keys, state="current_state").select(
                "user_id",
                "scope",
                "product_id",
                "triggering_event_id",
                from_state=ibis._.previous_current_state,
                to_state=ibis._.current_state,
                transition_date=ibis._.valid_from,
                days_in_previous_state=day_number(ibis._.valid_from)
                - day_number(ibis._.previous_state_since),
            )
            for intervals, keys in scopes
        )
    )


@rule(TABLE, "Every move is an edge of the allowed matrix.")
def transitions_are_allowed(silver_user_state_transitions: ir.Table, *, window: Window) -> ir.Table:
    """Moves that the matrix does not have."""
    moves = within(silver_user_state_transitions, "transition_date", window)
    by_scope = ibis.cases(
        (
            moves.scope == "platform",
            is_allowed(moves.from_state, moves.to_state, USER_TRANSITIONS),
        ),
        else_=is_allowed(moves.from_state, moves.to_state, PRODUCT_TRANSITIONS),
    )
    return moves.filter(~by_scope)


@rule(TABLE, "Moves are the differences between consecutive rows of history, no more and no less.")
def equal_history_differences(
    silver_user_state_transitions: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Moves that history does not show, and differences in history without a move.

    Compared from the first day on whose day before is in history too. Runs of a state stand for the
    days that they consist of; that they are unbroken is a rule of history.
    """
    platform = silver_user_state_history.mutate(product_id=ibis.null("string"))
    products = silver_user_product_state_history.rename(
        platform_state="current_state", platform_state_since="state_since"
    )
    moves = within(silver_user_state_transitions, "transition_date", window)
    return ibis.union(
        *(
            differences_from_history(
                moves.filter(moves.scope == scope), history, window, by=("user_id", "product_id")
            )
            for scope, history in (("platform", platform), ("product", products))
        )
    )


def differences_from_history(
    moves: ir.Table, history: ir.Table, window: Window, *, by: tuple[str, ...]
) -> ir.Table:
    """Moves and history compared, for one scope."""
    day_before = days_earlier(window.first, 1)
    history = history.filter(history.snapshot_date.between(day_before, window.last))
    runs = state_runs(history, by=by)
    begins = history.aggregate(first_day=history.snapshot_date.min())
    changed = runs.filter(runs.previous_state.notnull()).select(
        *by,
        from_state=ibis._.previous_state,
        to_state=ibis._.platform_state,
        transition_date=ibis._.first_day,
        days_in_previous_state=day_number(ibis._.first_day) - day_number(ibis._.previous_since),
    )
    moves = moves.filter(moves.transition_date > begins.first_day.as_scalar())
    return differing_rows(moves.select(*changed.columns), changed)
