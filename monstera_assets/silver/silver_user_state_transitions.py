"""silver_user_state_transitions: every move of a user from one state to another."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule, within
from monstera_assets.lifecycle import users
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_date, day_number, days_earlier
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.products import product_intervals, triggering_event_id
from monstera_assets.lifecycle.states import (
    PRODUCT_MOVES,
    USER_MOVES,
    ProductState,
    UserState,
    is_allowed,
)
from monstera_assets.lifecycle.users import platform_intervals
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_state_history import state_runs
from monstera_assets.warehouse.table_asset import UP_TO_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

_STATES = (*UserState, *(state for state in ProductState if state != ProductState.NEVER_ADOPTED))

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_state_transitions",
    grain="one user, scope and date on which the state differs from the day before",
    description="Moves between states: the differences between consecutive history rows.",
    owners=OWNERS,
    key=("user_id", "scope", "product_id", "transition_date"),
    partition_column="transition_date",
    columns=(
        Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
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
        Column("transition_date", "date", "First day of the new state."),
        Column(
            "triggering_event_id",
            "string",
            "The event that caused the move; null if it was the passing of time.",
            nullable=True,
        ),
        Column("days_in_previous_state", "int64", "Days that the previous state lasted."),
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": UP_TO_DAY})
def silver_user_state_transitions(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """Where one state interval ends and the next one begins within the window."""
    platform = _moves(
        platform_intervals(
            silver_daily_user_activity,
            bronze_users,
            bronze_accounts,
            bronze_subscription_events,
            policy,
        ),
        "platform_state",
        window,
    )
    products = _moves(
        product_intervals(silver_daily_user_activity, bronze_product_catalog, policy),
        "product_state",
        window,
    )
    return _as_transitions(
        platform,
        "platform",
        platform.platform_state,
        ibis.null("string"),
        users.triggering_event_id(platform),
    ).union(
        _as_transitions(
            products,
            "product",
            products.product_state,
            products.product_id,
            triggering_event_id(products),
        )
    )


def _moves(intervals: ir.Table, state: str, window: Window) -> ir.Table:
    first, last = (day_number(day) for day in (window.first, window.last))
    return intervals.filter(
        intervals.valid_from >= first,
        intervals.valid_from <= last,
        intervals.previous_state != intervals[state],
    )


def _as_transitions(
    moves: ir.Table,
    scope: str,
    state: ir.StringValue,
    product_id: ir.StringValue,
    event_id: ir.StringValue,
) -> ir.Table:
    return moves.select(
        user_id=moves.user_id,
        scope=ibis.literal(scope),
        product_id=product_id,
        from_state=moves.previous_state,
        to_state=state,
        transition_date=day_date(moves.valid_from),
        triggering_event_id=event_id,
        days_in_previous_state=moves.valid_from - moves.previous_since,
    )


@rule(TABLE, "Every move is an edge of the allowed matrix.")
def moves_are_allowed(silver_user_state_transitions: ir.Table, *, window: Window) -> ir.Table:
    """Moves that the matrix does not have."""
    moves = within(silver_user_state_transitions, "transition_date", window)
    by_scope = ibis.cases(
        (
            moves.scope == "platform",
            is_allowed(moves.from_state, moves.to_state, USER_MOVES),
        ),
        else_=is_allowed(moves.from_state, moves.to_state, PRODUCT_MOVES),
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
