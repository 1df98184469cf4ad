"""silver_user_state_transitions: transitions between user states."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.products import KEYS
from monstera_assets.lifecycle.states import PRODUCT_TRANSITIONS, USER_TRANSITIONS, is_allowed
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES
from monstera_assets.silver.silver_user_state_history import state_runs

_STATES = (*ma.UserState, *ADOPTED_STATES)

TABLE = ma.declare_table(
    "silver_user_state_transitions",
    group=ma.AssetGroup.LIFECYCLE,
    grain="one user, scope and date with a transition",
    description="When did users change state on the platform or in a product, and why? The"
    " transitions exactly match the differences between consecutive days in the histories.",
    key=("user_id", "scope", "product_id", "transition_date"),
    partition_column="transition_date",
    columns=(
        ma.USER_ID,
        ma.Column(
            "scope",
            "string",
            "Whether the state changed on the platform or in a product.",
            allowed=("platform", "product"),
        ),
        ma.nullable(
            "product_id", "string", "Product in which the state changed, or null for the platform."
        ),
        ma.Column("from_state", "string", "State at the end of the previous day.", allowed=_STATES),
        ma.Column("to_state", "string", "State at the end of the day.", allowed=_STATES),
        state_tables.TRANSITION_DATE,
        ma.nullable(
            "triggering_event_id",
            "string",
            "Event that caused the transition, or null if only the passage of time caused it.",
        ),
        state_tables.DAYS_IN_PREVIOUS_STATE,
    ),
)


@ma.table_asset(
    TABLE,
    days={
        "silver_user_state_intervals": ma.UP_TO_AS_OF,
        "silver_user_product_state_intervals": ma.UP_TO_AS_OF,
    },
)
def silver_user_state_transitions(
    silver_user_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Return the intervals that start a new state in the window."""
    return transitions_in(window, silver_user_state_intervals, silver_user_product_state_intervals)


def transitions_in(window: ma.Window, of_users: ir.Table, of_products: ir.Table) -> ir.Table:
    """Return users' transitions in a window, computed from the intervals of both scopes."""
    platform = of_users.rename(
        current_state="platform_state", state_since="platform_state_since"
    ).mutate(scope=ibis.literal("platform"), product_id=ibis.null("string"))
    products = of_products.mutate(scope=ibis.literal("product"))
    return ibis.union(
        *(
            state_tables.transitions_of(intervals, window, keys=keys).select(
                ma.column_names(TABLE.columns)
            )
            for intervals, keys in ((platform, ("user_id",)), (products, KEYS))
        )
    )


@ma.rule(TABLE)
def transitions_are_allowed(
    silver_user_state_transitions: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Only allowed transitions occur."""
    moves = ma.within(silver_user_state_transitions, "transition_date", window)
    by_scope = ibis.ifelse(
        moves.scope == "platform",
        is_allowed(moves.from_state, moves.to_state, USER_TRANSITIONS),
        is_allowed(moves.from_state, moves.to_state, PRODUCT_TRANSITIONS),
    )
    return moves.filter(~by_scope)


@ma.rule(TABLE)
def equal_history_differences(
    silver_user_state_transitions: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """The transitions exactly match the differences between consecutive days in the history.

    A day is not compared if the previous day is missing from the history. Consecutive days in the same
    state are compared as one series. The check runs_are_unbroken ensures that the series has no gaps.
    """
    moves = silver_user_state_transitions
    platform = silver_user_state_history.mutate(product_id=ibis.null("string"))
    products = silver_user_product_state_history.rename(
        platform_state="current_state", platform_state_since="state_since"
    )
    return ibis.union(
        *(
            _differences(moves.filter(moves.scope == scope), history, window)
            for scope, history in (("platform", platform), ("product", products))
        )
    )


def _differences(moves: ir.Table, history: ir.Table, window: ma.Window) -> ir.Table:
    history = state_tables.with_day_before(history, window)
    runs = state_runs(history, by=KEYS)
    days_in_state = ma.day_number(runs.first_day) - ma.day_number(runs.previous_since)
    changes = runs.filter(runs.previous_state.notnull()).select(
        *KEYS,
        from_state=runs.previous_state,
        to_state=runs.platform_state,
        transition_date=runs.first_day,
        days_in_previous_state=days_in_state,
    )
    return state_tables.differing_transitions(moves, changes, history, window)
