"""silver_user_current_state: every user's state on the latest date of history."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_state_intervals import CURRENT_COLUMNS, USER_COLUMN
from monstera_assets.silver.state_tables import differences_from_latest, state_updated_at
from monstera_assets.warehouse.common_columns import AS_OF_DATE, STATE_UPDATED_AT
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_current_state",
    grain="one user",
    description="The state of every user at the end of the as-of date, the latest date for which"
    " history exists. Read it for questions about now.",
    owners=OWNERS,
    key=("user_id",),
    columns=(
        USER_COLUMN,
        *CURRENT_COLUMNS,
        Column("total_qualifying_events", "int64", "Qualifying events up to the as-of date."),
        Column("days_since_signup", "int64", "Days from signup to the as-of date."),
        Column(
            "days_since_last_qualifying_event",
            "int64",
            "Days from the last qualifying event to the as-of date; null if there was none.",
            nullable=True,
        ),
        AS_OF_DATE,
        STATE_UPDATED_AT,
    ),
)


@table_asset(TABLE, previews=[distribution("users", "platform_state")])
def silver_user_current_state(silver_user_state_intervals: ir.Table) -> ir.Table:
    """The open intervals."""
    now = silver_user_state_intervals.filter(silver_user_state_intervals.valid_to.isnull())
    today = day_number(now.as_of_date)
    return now.select(
        "user_id",
        *(column.name for column in CURRENT_COLUMNS),
        "total_qualifying_events",
        "as_of_date",
        days_since_signup=today - day_number(now.signup_date),
        days_since_last_qualifying_event=today - day_number(now.last_qualifying_date),
        state_updated_at=state_updated_at(now),
    )


@rule(TABLE, "The current state is the latest row of history.")
def agrees_with_history(
    silver_user_current_state: ir.Table,
    silver_user_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Users whose current state and latest history row differ, or who have only one of the two."""
    return differences_from_latest(
        silver_user_current_state,
        silver_user_state_history,
        out_of_date("silver_user_state_history"),
    )
