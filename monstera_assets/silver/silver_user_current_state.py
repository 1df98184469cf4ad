"""silver_user_current_state: each user's state on the as-of date."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_user_state_intervals import CURRENT_COLUMNS

TABLE = ma.declare_table(
    "silver_user_current_state",
    group=ma.AssetGroup.LIFECYCLE,
    grain="one user",
    description="What is each user's current state? Values reflect the end of the as-of date, the"
    " latest day in the history.",
    key=("user_id",),
    columns=(
        ma.USER_ID,
        *CURRENT_COLUMNS,
        ma.TOTAL_QUALIFYING_EVENTS,
        ma.DAYS_SINCE_SIGNUP,
        ma.DAYS_SINCE_LAST_QUALIFYING_EVENT,
        ma.AS_OF_DATE,
        ma.STATE_UPDATED_AT,
    ),
)


@ma.table_asset(TABLE, previews=[ma.distribution("users", "platform_state")])
def silver_user_current_state(
    silver_user_state_intervals: ir.Table, *, timezone: str = UTC
) -> ir.Table:
    """Return the intervals that contain the as-of date."""
    now = state_tables.current(silver_user_state_intervals, timezone)
    today = ma.day_number(now.as_of_date)
    return now.mutate(
        days_since_signup=today - ma.day_number(now.signup_date),
        days_since_last_qualifying_event=today - ma.day_number(now.last_qualifying_date),
    ).select(ma.column_names(TABLE.columns))


agrees_with_history = state_tables.agrees_with_history(TABLE, "silver_user_state_history")
