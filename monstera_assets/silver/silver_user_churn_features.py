"""silver_user_churn_features: features and outcomes for user churn models."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.prediction import feature_snapshots
from monstera_assets.prediction.targets import STEP_DAYS, USERS
from monstera_assets.silver.silver_user_segment_history import TABLE as SEGMENTS

SCORED_STATES = (ma.UserState.ACTIVE, ma.UserState.RETURNING, ma.UserState.REACTIVATED)
"""Activity states from which a user can churn."""
_SEGMENT_MEASURES = (
    *("events_30", "events_before_30", "active_days_30", "weeks_active"),
    *("months_active", "products_used_30", "products_active_before", "features_used_30"),
    *("people_reached", "workflows_started", "workflows_completed", "temporal_pattern"),
    *("engagement_intensity", "acquisition_source"),
)
_SAMPLED_BY = ("account_id", "days_since_signup", "total_qualifying_events", "days_quiet")
"""Columns other than ids that distinguish users, so that erasing a user does not change samples."""
_LONG_BLOCKS = 3
_WEEK = 7
_SEGMENT_COLUMNS = {column.name: column for column in SEGMENTS.columns}

TABLE = ma.declare_table(
    "silver_user_churn_features",
    group=ma.AssetGroup.PREDICTION,
    grain="one snapshot of a user who could churn",
    description="What was known about each user who could churn, and did the user churn in the next"
    " 30 days? User churn models use these rows for training and scoring. Snapshots are taken on"
    " the as-of date and every 30 days before that date. The features use only facts dated on or"
    " before the snapshot date. The latest snapshot contains every active, returning or reactivated"
    " user. Earlier snapshots have known outcomes and contain a sample of at most max_rows_per_date"
    " users.",
    key=("user_id", "snapshot_date"),
    extra=ma.PREDICT,
    columns=(
        ma.USER_ID,
        ma.SNAPSHOT_DATE,
        ma.ACCOUNT_OF_USER,
        ma.Column(
            "activity_state",
            "string",
            "User state based on activity alone.",
            allowed=tuple(SCORED_STATES),
        ),
        ma.Column("is_dunning", "boolean", "Whether the user's account was in dunning."),
        ma.DAYS_SINCE_SIGNUP,
        ma.Column("days_quiet", "int64", "Days since the last qualifying event."),
        ma.TOTAL_QUALIFYING_EVENTS,
        ma.Column(
            "active_days_7", "int64", "Number of days with a qualifying event in the last 7 days."
        ),
        ma.Column(
            "active_days_90", "int64", "Number of days with a qualifying event in the last 90 days."
        ),
        ma.Column(
            "active_days_missed",
            "float64",
            "Expected number of active days during the quiet period: days_quiet x the share of"
            " active days in the last 90 days, or since signup if signup is more recent.",
        ),
        *(_SEGMENT_COLUMNS[name] for name in _SEGMENT_MEASURES),
        ma.Column("country", "string", "User's country on the snapshot date."),
        ma.Column(
            "account_state",
            "string",
            "Account state at the end of the day.",
            allowed=tuple(ma.AccountState),
            nullable=True,
        ),
        ma.nullable(
            "account_health",
            "float64",
            "Account's health score, between 0 and 100, or null if unknown.",
        ),
        ma.nullable(
            "account_contract",
            "float64",
            "Account's contract_status_score, between 0 and 100, or null if unknown.",
        ),
        ma.nullable(
            "account_utilization",
            "float64",
            "Account's seat utilization as a percentage, or null if unknown.",
        ),
        ma.nullable(
            "churned",
            "boolean",
            "Whether the user had no qualifying events in the 30 days after the snapshot, or null until"
            " those 30 days have passed.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(
    TABLE,
    days={
        "silver_user_state_history": ma.ALL_DAYS,
        "silver_user_segment_history": ma.ALL_DAYS,
        "silver_account_state_history": ma.ALL_DAYS,
        "silver_daily_user_activity": ma.ALL_DAYS,
    },
)
def silver_user_churn_features(
    silver_user_state_history: ir.Table,
    silver_user_segment_history: ir.Table,
    silver_account_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Join the histories on the snapshot dates."""
    history = silver_user_state_history
    as_of = history.aggregate(day=history.snapshot_date.max()).day.as_scalar()
    oldest = feature_snapshots.oldest_snapshot(policy.churn, USERS.horizon_steps)
    states = ma.materialized(feature_snapshots.with_snapshot(history, as_of, oldest))
    outcome = states.select(
        "user_id",
        snapshot=states.snapshot + USERS.horizon_steps,
        # No event in the 30 days before the next snapshot means no event since this snapshot.
        churned=states.days_since_last_qualifying_event >= USERS.horizon_days,
    )
    users = states.filter(
        states.activity_state.isin([str(state) for state in SCORED_STATES]),
        states.platform_state != ma.UserState.DELETED,
    ).select(
        *("user_id", "snapshot_date", "snapshot", "activity_state"),
        *("is_dunning", "days_since_signup", "total_qualifying_events"),
        days_quiet="days_since_last_qualifying_event",
    )
    users = ma.at_day(
        users,
        ma.day_number(users.snapshot_date),
        ma.version_intervals(bronze_users, "user_id", ["account_id", "country"]),
        "user_id",
    )
    users = feature_snapshots.sampled(users, _SAMPLED_BY, "user_id", policy.churn)
    active_days = _active_days(silver_daily_user_activity, as_of, oldest)
    users = ma.left_joined(users, outcome, active_days, on=["user_id", "snapshot"])
    segments = feature_snapshots.with_snapshot(silver_user_segment_history, as_of, oldest)
    users = users.inner_join(
        segments.select("user_id", "snapshot_date", *_SEGMENT_MEASURES),
        ["user_id", "snapshot_date"],
    )
    accounts = feature_snapshots.with_snapshot(silver_account_state_history, as_of, oldest).select(
        "account_id",
        "snapshot_date",
        account_state="current_state",
        account_health="health_score",
        account_contract="contract_status_score",
        account_utilization="seat_utilization_pct",
    )
    users = ma.left_joined(users, accounts, on=["account_id", "snapshot_date"])
    days_on_record = ibis.least(users.days_since_signup + 1, STEP_DAYS * _LONG_BLOCKS)
    active_days_90 = users.active_days_90.fill_null(0)
    share = ma.ratio(active_days_90, days_on_record)
    return users.drop("snapshot").mutate(
        active_days_7=users.active_days_7.fill_null(0),
        active_days_90=active_days_90,
        active_days_missed=users.days_quiet.cast("float64") * share,
        as_of_date=as_of,
    )


def _active_days(activity: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """Count each user's active days in the 7 and 90 days through each snapshot date."""
    active = activity.filter(activity.qualifying_events > 0, activity.activity_date <= as_of)
    days = active.select("user_id", "activity_date").distinct()
    days = days.mutate(
        block=feature_snapshots.block_of(days.activity_date, as_of),
        is_last_week=as_of.delta(days.activity_date, unit="day") % STEP_DAYS < _WEEK,
    )
    days = days.filter(days.block < oldest + _LONG_BLOCKS)
    blocks = days.group_by("user_id", "block").aggregate(
        active_days=days.count(), last_week=days.count(where=days.is_last_week)
    )
    ages = ibis.range(_LONG_BLOCKS).unnest().name("age").as_table()
    parts = blocks.cross_join(ages)
    parts = parts.mutate(snapshot=(parts.block - parts.age).cast("int64"))
    return parts.group_by("user_id", "snapshot").aggregate(
        active_days_90=parts.active_days.sum().cast("int64"),
        active_days_7=parts.last_week.sum(where=parts.age == 0).fill_null(0).cast("int64"),
    )


@ma.rule(TABLE)
def outcomes_recomputed_from_activity(
    silver_user_churn_features: ir.Table, silver_daily_user_activity: ir.Table
) -> ir.Table:
    """A user is marked as churned if and only if no qualifying event follows within 30 days."""
    activity = silver_daily_user_activity
    active = activity.filter(activity.qualifying_events > 0)
    return feature_snapshots.wrong_outcomes(
        silver_user_churn_features,
        active.select("user_id", day=ma.day_number(active.activity_date)),
        USERS,
        churned_if_any=False,
    )
