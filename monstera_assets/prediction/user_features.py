"""What is known of a user at the end of a day, and whether the user then stayed away."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import UserState
from monstera_assets.prediction.snapshots import (
    STEP_DAYS,
    USER_HORIZON_STEPS,
    block_of,
    oldest_snapshot,
    sampled,
    with_snapshot,
)

SCORED_STATES = (UserState.ACTIVE, UserState.RETURNING, UserState.REACTIVATED)
"""Activity states of those who can still be lost."""

SEGMENT_MEASURES = (
    "events_30",
    "events_before_30",
    "active_days_30",
    "weeks_active",
    "months_active",
    "products_used_30",
    "products_active_before",
    "features_used_30",
    "people_reached",
    "workflows_started",
    "workflows_completed",
    "temporal_pattern",
    "engagement_intensity",
    "acquisition_source",
)
_SAMPLED_BY = ("account_id", "days_since_signup", "total_qualifying_events", "days_quiet")
"""What tells people apart without their ids, so that forgetting one leaves the samples as they are."""
_LONG_BLOCKS = 3
_WEEK = 7


def user_features(
    states: ir.Table,
    segments: ir.Table,
    account_history: ir.Table,
    activity: ir.Table,
    users: ir.Table,
    policy: LifecyclePolicy,
) -> ir.Table:
    """The users that could be lost at each snapshot, what was known of them, and what came of it.

    Args:
        states: `silver_user_state_history`.
        segments: `silver_user_segment_history`.
        account_history: `silver_account_state_history`.
        activity: `silver_daily_user_activity`.
        users: `bronze_users`.
        policy: the thresholds.

    Returns:
        One row a user and snapshot; `churned` is null where its 30 days have not passed.
    """
    as_of = states.aggregate(day=states.snapshot_date.max()).day.as_scalar()
    oldest = oldest_snapshot(policy.churn, USER_HORIZON_STEPS)
    states = with_snapshot(states, as_of, oldest).view()
    outcome = states.select(
        "user_id",
        snapshot=states.snapshot + USER_HORIZON_STEPS,
        # Who had nothing in the 30 days up to then had nothing since the snapshot.
        churned=states.days_since_last_qualifying_event >= STEP_DAYS * USER_HORIZON_STEPS,
    )
    people = states.filter(
        states.activity_state.isin([str(state) for state in SCORED_STATES]),
        states.platform_state != str(UserState.DELETED),
    ).select(
        "user_id",
        "snapshot_date",
        "snapshot",
        "activity_state",
        "is_dunning",
        "days_since_signup",
        "total_qualifying_events",
        days_quiet="days_since_last_qualifying_event",
    )
    people = people.inner_join(users.select("user_id", "account_id", "country"), "user_id")
    people = sampled(people, _SAMPLED_BY, "user_id", policy.churn)
    people = people.left_join(outcome, ["user_id", "snapshot"]).drop(
        "user_id_right", "snapshot_right"
    )
    measured = with_snapshot(segments, as_of, oldest).select(
        "user_id", "snapshot_date", *SEGMENT_MEASURES
    )
    people = people.inner_join(measured, ["user_id", "snapshot_date"])
    use = _use(activity, as_of, oldest)
    people = people.left_join(use, ["user_id", "snapshot"]).drop("user_id_right", "snapshot_right")
    accounts = with_snapshot(account_history, as_of, oldest).select(
        "account_id",
        "snapshot_date",
        account_state="current_state",
        account_health="health_score",
        account_contract="contract_status_score",
        account_utilization="seat_utilization_pct",
    )
    people = people.left_join(accounts, ["account_id", "snapshot_date"]).drop(
        "account_id_right", "snapshot_date_right"
    )
    lived = ibis.least(people.days_since_signup + 1, STEP_DAYS * _LONG_BLOCKS)
    long_run = people.active_days_90.fill_null(0)
    share = long_run.cast("float64") / lived.cast("float64")
    return people.drop("snapshot").mutate(
        active_days_7=people.active_days_7.fill_null(0),
        active_days_90=long_run,
        active_days_missed=people.days_quiet.cast("float64") * share,
        as_of_date=as_of,
    )


def _use(activity: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """Active days of the 7 and 90 days up to each snapshot, by user."""
    active = activity.filter(activity.qualifying_events > 0, activity.activity_date <= as_of)
    days = active.select("user_id", "activity_date").distinct()
    days = days.mutate(
        block=block_of(days.activity_date, as_of),
        is_last_week=day_in_block(days.activity_date, as_of) < _WEEK,
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


def day_in_block(day: ir.DateValue, as_of: ir.DateScalar) -> ir.IntegerValue:
    """Days from a day to the end of its block, from 0 to 29."""
    ago = as_of.delta(day, unit="day")
    return ago % STEP_DAYS
