"""silver_user_churn_features: what was known of users who could be lost, and who was."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState
from monstera_assets.prediction.snapshots import STEP_DAYS
from monstera_assets.prediction.user_features import SCORED_STATES, SEGMENT_MEASURES, user_features
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_segment_history import TABLE as SEGMENTS
from monstera_assets.warehouse.table_asset import ALL_DAYS, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

_OF_SEGMENTS = {column.name: column for column in SEGMENTS.columns}

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_churn_features",
    grain="one user who could be lost and snapshot: the as-of date and dates 30, 60, ... days before",
    description="What churn models learn from and score. A snapshot holds facts up to its date only; of"
    " the as-of date it has every user who is active, returning or reactivated, of earlier dates a"
    " sample of at most the policy's max_rows_per_date, and whether they then stayed away for 30 days.",
    owners=OWNERS,
    key=("user_id", "snapshot_date"),
    columns=(
        Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
        Column("snapshot_date", "date", "The day whose end is described."),
        Column(
            "account_id",
            "string",
            "The user's account.",
            references=Reference("bronze_accounts", "account_id"),
        ),
        Column(
            "activity_state",
            "string",
            "State that follows from activity alone.",
            allowed=tuple(SCORED_STATES),
        ),
        Column("is_dunning", "boolean", "Whether the account was in dunning."),
        Column("days_since_signup", "int64", "Days from signup to the day."),
        Column("days_quiet", "int64", "Days since the last qualifying event."),
        Column("total_qualifying_events", "int64", "Qualifying events up to the day."),
        Column("active_days_7", "int64", "Days with a qualifying event, of the last 7."),
        Column("active_days_90", "int64", "Days with a qualifying event, of the last 90."),
        Column(
            "active_days_missed",
            "float64",
            "Active days that the quiet days would have had at the user's share of active days in the"
            " last 90, or since signup.",
        ),
        *(_OF_SEGMENTS[name] for name in SEGMENT_MEASURES),
        Column("country", "string", "Country of the user, by the latest row."),
        Column(
            "account_state",
            "string",
            "State of the account at the end of the day.",
            allowed=tuple(AccountState),
            nullable=True,
        ),
        Column(
            "account_health", "float64", "Health score of the account, 0 to 100.", nullable=True
        ),
        Column(
            "account_contract",
            "float64",
            "Component contract_status of the account's health, 0 to 100.",
            nullable=True,
        ),
        Column(
            "account_utilization",
            "float64",
            "Seats of the account in use, in percent.",
            nullable=True,
        ),
        Column(
            "churned",
            "boolean",
            "Whether there was no qualifying event in the 30 days after the day; null on the as-of"
            " date, whose 30 days have not passed.",
            nullable=True,
        ),
        Column("as_of_date", "date", "The latest date for which history exists."),
    ),
)


@table_asset(
    TABLE,
    days={
        "silver_user_state_history": ALL_DAYS,
        "silver_user_segment_history": ALL_DAYS,
        "silver_account_state_history": ALL_DAYS,
        "silver_daily_user_activity": ALL_DAYS,
    },
)
def silver_user_churn_features(
    silver_user_state_history: ir.Table,
    silver_user_segment_history: ir.Table,
    silver_account_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    *,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Histories on the dates of the snapshots, put side by side."""
    return user_features(
        silver_user_state_history,
        silver_user_segment_history,
        silver_account_state_history,
        silver_daily_user_activity,
        bronze_users,
        policy,
    )


@rule(
    TABLE, "Who is said to have stayed away had no qualifying event in the 30 days, others had one."
)
def outcomes_recomputed_from_activity(
    silver_user_churn_features: ir.Table, silver_daily_user_activity: ir.Table
) -> ir.Table:
    """Rows whose outcome a search in the daily activity does not confirm, or that lies ahead."""
    rows = silver_user_churn_features.select("user_id", "snapshot_date", "churned", "as_of_date")
    activity = silver_daily_user_activity
    active = activity.filter(activity.qualifying_events > 0).select(
        "user_id", day=day_number(activity.activity_date)
    )
    since = day_number(rows.snapshot_date)
    later = rows.inner_join(
        active,
        [
            rows.user_id == active.user_id,
            active.day > since,
            active.day <= since + STEP_DAYS,
        ],
    )
    came = later.select("user_id", "snapshot_date").distinct().mutate(came=ibis.literal(value=True))
    both = rows.left_join(came, ["user_id", "snapshot_date"]).drop(
        "user_id_right", "snapshot_date_right"
    )
    is_known = day_number(both.as_of_date) - day_number(both.snapshot_date) >= STEP_DAYS
    expected = ibis.ifelse(is_known, both.came.isnull(), None)
    return both.filter(~both.churned.identical_to(expected))
