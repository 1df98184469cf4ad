"""silver_user_state_intervals: the stretches of days on which nothing changes of a user's state."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.intervals import as_stored, day_date
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import ACTIVITY_STATES, DunningType, UserState
from monstera_assets.lifecycle.users import platform_intervals
from monstera_assets.silver import OWNERS
from monstera_assets.silver.state_tables import (
    TRIGGERING_EVENT_ID,
    VALID_FROM,
    VALID_TO,
    days_not_covered,
    up_to,
)
from monstera_assets.warehouse.common_columns import AS_OF_DATE
from monstera_assets.warehouse.table_asset import ALL_DAYS, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

USER_COLUMN = Column(
    "user_id", "string", "The user.", references=Reference("bronze_users", "user_id")
)
STATE_COLUMNS = (
    Column(
        "platform_state",
        "string",
        "State of the user on the platform at the end of the day.",
        allowed=tuple(UserState),
    ),
    Column("platform_state_since", "date", "First date of the unbroken run of this state."),
    Column(
        "activity_state",
        "string",
        "State that follows from activity alone, before dunning and deletion.",
        allowed=ACTIVITY_STATES,
    ),
    Column("is_dunning", "boolean", "Whether the user's account is in dunning."),
    Column(
        "dunning_type",
        "string",
        "How far the account is into dunning; null if it is not.",
        nullable=True,
        allowed=tuple(DunningType),
    ),
)
CURRENT_COLUMNS = (
    Column(
        "account_id",
        "string",
        "The user's account.",
        references=Reference("bronze_accounts", "account_id"),
    ),
    *STATE_COLUMNS,
    Column(
        "dunning_since",
        "date",
        "Date of the account's first open payment failure; null without dunning.",
        nullable=True,
    ),
    Column(
        "last_qualifying_event_at",
        "timestamp",
        "Last qualifying event, UTC; null if there was none.",
        nullable=True,
    ),
)

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_state_intervals",
    grain="one user and first day of a stretch in which neither the state changes nor a date from"
    " which days are counted",
    description="The state of every user from signup to the as-of date. Read it for questions about"
    " lengths of time and long ranges: it has a row a change, where history has one a day.",
    owners=OWNERS,
    key=("user_id", "valid_from"),
    columns=(
        USER_COLUMN,
        VALID_FROM,
        VALID_TO,
        *CURRENT_COLUMNS,
        Column("signup_date", "date", "Date of signup."),
        Column(
            "last_qualifying_date",
            "date",
            "Date of the last qualifying event; null if there was none.",
            nullable=True,
        ),
        Column("qualifying_events_count", "int64", "Qualifying events on the last such date."),
        Column("total_qualifying_events", "int64", "Qualifying events up to the interval."),
        TRIGGERING_EVENT_ID,
        AS_OF_DATE,
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": ALL_DAYS})
def silver_user_state_intervals(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
    as_of: ir.DateValue,
) -> ir.Table:
    """The rules of the lifecycle over all facts up to the as-of date."""
    intervals = platform_intervals(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        up_to(as_of, bronze_subscription_events),
        policy,
    )
    stored = as_stored(intervals, as_of).mutate(
        platform_state_since=day_date(intervals.state_since),
        dunning_since=day_date(intervals.dunning_since),
        signup_date=day_date(intervals.start_day),
        last_qualifying_date=day_date(intervals.last_activity_day),
        qualifying_events_count=intervals.qualifying_events.fill_null(0),
        total_qualifying_events=intervals.total_qualifying_events.fill_null(0),
    )
    return stored.select(column.name for column in TABLE.columns)


@rule(TABLE, "The intervals of a user cover each day from signup to the as-of date once.")
def cover_every_day(silver_user_state_intervals: ir.Table) -> ir.Table:
    """Users with days in no interval or in several, or not just one open interval."""
    return days_not_covered(silver_user_state_intervals, ["user_id"])
