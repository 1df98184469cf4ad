"""silver_user_state_intervals: intervals of constant state per user."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.states import ACTIVITY_STATES, DunningType
from monstera_assets.lifecycle.users import platform_intervals
from monstera_assets.silver import state_tables

STATE_COLUMNS = (
    ma.Column(
        "platform_state",
        "string",
        "User's platform state at the end of the day.",
        allowed=tuple(ma.UserState),
    ),
    ma.Column(
        "platform_state_since", "date", "First day of the uninterrupted period in this state."
    ),
    ma.Column(
        "activity_state",
        "string",
        "User state based on activity alone, before dunning and deletion are applied.",
        allowed=ACTIVITY_STATES,
    ),
    ma.Column("is_dunning", "boolean", "Whether the user's account is in dunning."),
    ma.Column(
        "dunning_type",
        "string",
        "Type of dunning, or null if the account is not in dunning.",
        nullable=True,
        allowed=tuple(DunningType),
    ),
)
CURRENT_COLUMNS = (
    ma.ACCOUNT_OF_USER,
    *STATE_COLUMNS,
    ma.nullable(
        "dunning_since",
        "date",
        "Date of the account's first open payment failure, or null if the account is not in dunning.",
    ),
    ma.LAST_QUALIFYING_EVENT_AT,
)

TABLE = ma.declare_table(
    "silver_user_state_intervals",
    group=ma.AssetGroup.LIFECYCLE,
    grain="one user and interval",
    description="How did each user's state change over time? Each interval is a series of"
    " consecutive days without a change. Intervals cover the period from signup through the as-of"
    " date. To query durations or long periods, use this table instead of the history.",
    key=("user_id", "valid_from"),
    columns=(
        ma.USER_ID,
        state_tables.VALID_FROM,
        state_tables.VALID_TO,
        *CURRENT_COLUMNS,
        ma.Column("signup_date", "date", "Date on which the user signed up."),
        ma.nullable(
            "last_qualifying_date",
            "date",
            "Date of the last qualifying event, or null if there is none.",
        ),
        ma.Column(
            "qualifying_events_count",
            "int64",
            "Number of qualifying events on last_qualifying_date.",
        ),
        ma.TOTAL_QUALIFYING_EVENTS,
        state_tables.TRIGGERING_EVENT_ID,
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE, days={"silver_daily_user_activity": ma.ALL_DAYS})
def silver_user_state_intervals(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    as_of: ir.DateValue,
) -> ir.Table:
    """Apply the lifecycle rules to all facts dated on or before the as-of date."""
    intervals = platform_intervals(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        state_tables.up_to(as_of, bronze_subscription_events),
        policy,
    )
    return state_tables.stored_intervals(
        TABLE,
        intervals,
        as_of,
        platform_state_since=ma.day_date(intervals.state_since),
        dunning_since=ma.day_date(intervals.dunning_since),
        signup_date=ma.day_date(intervals.start_day),
        last_qualifying_date=ma.day_date(intervals.last_activity_day),
        qualifying_events_count=intervals.qualifying_events.fill_null(0),
        total_qualifying_events=intervals.total_qualifying_events.fill_null(0),
    )


cover_every_day = state_tables.cover_every_day(TABLE)
