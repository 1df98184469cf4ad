"""silver_user_current_state: every user's state on the latest date of history."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule
from monstera_assets.lifecycle.billing import dunning_intervals
from monstera_assets.lifecycle.intervals import day_date, day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_state_history import STATE_COLUMNS
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import ALL_DAYS, LATEST_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_current_state",
    grain="one user",
    description="The state of every user at the end of the as-of date, the latest date for which"
    " history exists.",
    owners=OWNERS,
    key=("user_id",),
    columns=(
        Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
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
        Column("total_qualifying_events", "int64", "Qualifying events up to the as-of date."),
        Column("days_since_signup", "int64", "Days from signup to the as-of date."),
        Column(
            "days_since_last_qualifying_event",
            "int64",
            "Days from the last qualifying event to the as-of date; null if there was none.",
            nullable=True,
        ),
        Column("as_of_date", "date", "The latest date for which history exists."),
        Column("state_updated_at", "timestamp", "End of the as-of date, UTC."),
    ),
)


@table_asset(
    TABLE,
    days={"silver_user_state_history": LATEST_DAY, "silver_daily_user_activity": ALL_DAYS},
    previews=[distribution("users", "platform_state")],
)
def silver_user_current_state(
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
) -> ir.Table:
    """The latest day of history, with the last qualifying event and the begin of the dunning."""
    latest = silver_user_state_history.rename(as_of_date="snapshot_date").view()
    as_of = latest.aggregate(as_of_date=latest.as_of_date.max())
    activity = silver_daily_user_activity.cross_join(as_of)
    activity = activity.filter(activity.activity_date <= activity.as_of_date)
    last_events = activity.group_by("user_id").aggregate(
        last_qualifying_event_at=activity.last_qualifying_event_at.max()
    )
    dunning = dunning_intervals(bronze_accounts, bronze_subscription_events, policy)
    dunning = dunning.cross_join(as_of)
    today = day_number(dunning.as_of_date)
    dunning = dunning.filter(dunning.valid_from <= today, dunning.valid_to >= today)
    now = latest.inner_join(bronze_users.select("user_id", "account_id"), "user_id")
    now = now.left_join(dunning.select("account_id", "dunning_since"), "account_id")
    now = now.left_join(last_events, "user_id")
    return now.select(
        "user_id",
        "account_id",
        *(column.name for column in STATE_COLUMNS),
        dunning_since=day_date(now.dunning_since),
        last_qualifying_event_at=now.last_qualifying_event_at,
        total_qualifying_events=now.total_qualifying_events,
        days_since_signup=now.days_since_signup,
        days_since_last_qualifying_event=now.days_since_last_qualifying_event,
        as_of_date=now.as_of_date,
        state_updated_at=now.as_of_date.cast("timestamp") + ibis.interval(days=1),
    )


@rule(TABLE, "The current state is the latest row of history.")
def agrees_with_history(
    silver_user_current_state: ir.Table, silver_user_state_history: ir.Table
) -> ir.Table:
    """Users whose current state and latest history row differ, or who have only one of the two."""
    history = silver_user_state_history
    latest = history.filter(
        history.snapshot_date
        == history.aggregate(latest=history.snapshot_date.max()).latest.as_scalar()
    ).rename(as_of_date="snapshot_date")
    shared = [name for name in silver_user_current_state.columns if name in latest.columns]
    return differing_rows(silver_user_current_state.select(*shared), latest)
