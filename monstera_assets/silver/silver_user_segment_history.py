"""silver_user_segment_history: each user's behavioral segments and their measures on each day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import feature_of_node
from monstera_assets.bronze.json_text import text_at
from monstera_assets.lifecycle import behavior
from monstera_assets.lifecycle.behavior import RECENT_DAYS
from monstera_assets.lifecycle.intervals import on_each_day, overlay
from monstera_assets.lifecycle.policy import SegmentPolicy
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.lifecycle.segments import (
    COMPOSITE,
    DIMENSIONS,
    disagreeing,
    segment_version,
    with_segments,
)

PRODUCT_DAYS = 31
"""Number of days of product states to read, starting 30 days before each day."""

SEGMENT_COLUMNS = (
    *(
        ma.Column(dimension.name, "string", dimension.description, allowed=dimension.values)
        for dimension in (*DIMENSIONS, COMPOSITE)
    ),
    ma.Column(
        "segment_version", "string", "Version of the rules and thresholds that define the segments."
    ),
)
MEASURE_COLUMNS = (
    ma.DAYS_SINCE_SIGNUP,
    ma.Column("events_28", "int64", "Number of qualifying events in the last 28 days."),
    ma.Column("events_30", "int64", "Number of qualifying events in the last 30 days."),
    ma.Column(
        "events_before_30",
        "int64",
        "Number of qualifying events in the 30 days before the last 30 days.",
    ),
    ma.Column(
        "active_days_28", "int64", "Number of days with a qualifying event in the last 28 days."
    ),
    ma.Column(
        "active_days_30", "int64", "Number of days with a qualifying event in the last 30 days."
    ),
    ma.Column(
        "weeks_active", "int64", "Number of weeks with a qualifying event, out of the last 4 weeks."
    ),
    ma.Column(
        "months_active",
        "int64",
        "Number of 30-day windows with a qualifying event, out of the last 3 windows.",
    ),
    ma.nullable(
        "days_quiet",
        "int64",
        "Days since the last qualifying event, or null if there is none in the last"
        f" {RECENT_DAYS} days.",
    ),
    ma.Column("is_engaged", "boolean", "Whether the user's activity state is active or returning."),
    ma.Column(
        "products_tried", "int64", "Number of active products that the user has ever accessed."
    ),
    ma.Column(
        "products_active",
        "int64",
        "Number of products in which the user is active_in_product or reactivated_in_product.",
    ),
    ma.Column("products_active_before", "int64", "Value of products_active 30 days earlier."),
    ma.Column(
        "products_used_30",
        "int64",
        "Number of products with a qualifying event in the last 30 days.",
    ),
    ma.Column(
        "features_used_30",
        "int64",
        "Number of features with a qualifying event in the last 30 days.",
    ),
    ma.Column(
        "features_available_30",
        "int64",
        "Number of launched features that belong to the products used in the last 30 days.",
    ),
    ma.Column("has_used_features", "boolean", "Whether the user has ever used a feature."),
    ma.Column(
        "people_reached",
        "int64",
        "Number of people reached by collaboration events in the last 90 days: the distinct targets,"
        " plus one per event without a target.",
    ),
    ma.Column("workflows_started", "int64", "Number of workflow runs started in the last 90 days."),
    ma.Column(
        "workflows_completed", "int64", "Number of runs in workflows_started that were completed."
    ),
    ma.nullable(
        "days_since_reactivation",
        "int64",
        "Days since the latest reactivation, or null if the user was not reactivated in the last"
        " reactivation_days days. A late first activation does not count as a reactivation.",
    ),
    ma.Column(
        "is_back_in_season",
        "boolean",
        "Whether the user was active about a year ago and then quiet for longer than"
        " seasonal_quiet_days.",
    ),
    ma.Column("acquisition_source", "string", "User's acquisition source."),
)

TABLE = ma.declare_table(
    "silver_user_segment_history",
    group=ma.AssetGroup.SEGMENTS,
    grain="one user and date",
    description="Which behavioral segments did each user belong to at the end of each day? The table"
    " includes the measures from which the segments are derived.",
    key=("user_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(ma.USER_ID, ma.SNAPSHOT_DATE, *SEGMENT_COLUMNS, *MEASURE_COLUMNS),
)


@ma.table_asset(
    TABLE,
    days={
        "silver_user_state_history": ma.last_days(behavior.STATE_DAYS),
        "silver_user_product_state_history": ma.last_days(PRODUCT_DAYS),
        "silver_daily_user_activity": ma.last_days(behavior.ACTIVITY_DAYS),
        "silver_daily_user_feature_activity": ma.UP_TO_DAY,
        "silver_events_enriched": ma.last_days(RECENT_DAYS),
        "silver_workflow_runs": ma.UP_TO_AS_OF,
    },
)
def silver_user_segment_history(
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    silver_daily_user_feature_activity: ir.Table,
    silver_events_enriched: ir.Table,
    silver_workflow_runs: ir.Table,
    bronze_users: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Compute intervals of constant behavior, expand them to days and assign the segments."""
    features = feature_of_node(bronze_product_catalog)
    features = features.filter(features.node_id == features.feature_id)
    launches = bronze_product_catalog.select(
        feature_id="product_id",
        # Earlier launch days have the same effect as this day, and are counted together.
        launched_day=ibis.greatest(
            ma.day_number(bronze_product_catalog.created_date),
            ma.day_number(window.first) - RECENT_DAYS,
        ),
    )
    features = features.inner_join(launches, "feature_id")
    users = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    facts = behavior.Facts.of(
        silver_daily_user_activity,
        silver_daily_user_feature_activity,
        silver_user_state_history,
        silver_user_product_state_history,
        window.first,
        reached=_reached(silver_events_enriched, policy.segments),
        runs=_recent_runs(silver_workflow_runs, window),
        users=users.select("user_id", signup_day=ma.day_number(users.signup_date)),
        features_of_product=features.group_by("product_id", "launched_day").aggregate(
            features=features.count()
        ),
    )
    intervals = behavior.behavior_intervals(facts, policy, window.first, window.last)
    sources = ma.version_intervals(bronze_users, "user_id", ["acquisition_source"])
    intervals = overlay(intervals, sources, keys=["user_id"], columns=["acquisition_source"])
    labelled = with_segments(_at(intervals, intervals.valid_from), policy)
    days = on_each_day(labelled, window.first, window.last, day_column="day")
    return _at(days, days.day).select(
        "user_id",
        *ma.column_names((*SEGMENT_COLUMNS, *MEASURE_COLUMNS)),
        snapshot_date=ma.day_date(days.day),
    )


def _at(intervals: ir.Table, day: ir.IntegerValue) -> ir.Table:
    """Add the measures that change daily: the days since signup, last activity and reactivation."""
    return intervals.mutate(
        days_since_signup=day - intervals.signup_day,
        days_quiet=day - intervals.last_day,
        days_since_reactivation=day - intervals.reactivated_on,
    )


def _reached(events: ir.Table, policy: SegmentPolicy) -> ir.Table:
    """Return the people reached by collaboration events.

    An event without a target counts as one person.
    """
    events = events.filter(
        events.entity_type == "user", events.event_type.isin(policy.collaboration_event_types)
    )
    target = text_at(events.metadata, "target_user_id")
    return events.select(
        user_id=events.entity_id,
        person=ibis.coalesce("user " + target, "event " + events.event_id),
        day=ma.day_number(events.event_date),
    ).distinct()


def _recent_runs(runs: ir.Table, window: ma.Window) -> ir.Table:
    """Return the workflow runs started in the window or in the 90 days before, as of the window's end.

    `runs` may have a later as-of date, because later steps change neither the start of a run nor an
    earlier completion.
    """
    first, last = ma.day_number(window.first), ma.day_number(window.last)
    days = runs.select(
        "user_id",
        started_day=ma.day_number(runs.started_date),
        completed_day=ibis.ifelse(
            runs.completed_at.notnull(), ma.day_number(runs.last_step_date), None
        ),
    )
    recent = days.filter(days.started_day > first - RECENT_DAYS, days.started_day <= last)
    return recent.mutate(
        completed_day=ibis.ifelse(recent.completed_day <= last, recent.completed_day, None)
    )


@ma.rule(TABLE)
def same_days_as_states(
    silver_user_segment_history: ir.Table, silver_user_state_history: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Every user has segments on exactly the days when the user has a state."""
    segments, states = (
        rows.group_by("user_id").aggregate(
            days=rows.count(), first_day=rows.snapshot_date.min(), last_day=rows.snapshot_date.max()
        )
        for rows in (
            ma.within(silver_user_segment_history, "snapshot_date", window),
            ma.within(silver_user_state_history, "snapshot_date", window),
        )
    )
    return ma.differing_rows(segments, states)


@ma.rule(TABLE)
def segments_follow_their_rules(
    silver_user_segment_history: ir.Table, *, policy: ma.LifecyclePolicy, window: ma.Window
) -> ir.Table:
    """Each dimension has the value of the rule that applies under the current policy."""
    rows = ma.within(silver_user_segment_history, "snapshot_date", window)
    return rows.filter(
        disagreeing(rows, policy, (*DIMENSIONS, COMPOSITE))
        | (rows.segment_version != segment_version(policy))
    )


@ma.rule(TABLE)
def measures_agree_with_sources(
    silver_user_segment_history: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    bronze_events: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """On the window's last day, the measures match their source tables.

    Checking every day would take longer than computing the table, because 30 days of events would have
    to be counted for each day.
    """
    last = ma.day_number(window.last)
    rows = silver_user_segment_history
    rows = rows.filter(rows.snapshot_date == window.last)
    events = bronze_events.filter(
        bronze_events.is_qualifying_event, bronze_events.entity_type == "user"
    )
    ago = last - ma.day_number(events.event_date)
    events = events.mutate(ago=ago).filter(ago.between(0, 59))
    counts = {
        **{f"events_{days}": events.count(where=events.ago < days) for days in (28, 30)},
        "events_before_30": events.count(where=events.ago >= 30),
        **{
            f"active_days_{days}": events.event_date.nunique(where=events.ago < days)
            for days in (28, 30)
        },
    }
    used = events.group_by(user_id=events.entity_id).aggregate(quiet=events.ago.min(), **counts)
    products = silver_user_product_state_history
    products = products.filter(products.snapshot_date == window.last)
    counted = products.group_by("user_id").aggregate(
        products_tried=products.count(),
        products_active=products.count(where=products.current_state.isin(IN_USE)),
    )
    states = silver_user_state_history
    states = states.filter(states.snapshot_date == window.last).select(
        "user_id", "days_since_signup", state="activity_state"
    )
    both = ma.left_joined(rows, used, counted, states, on=["user_id"])
    counted_measures = (*counts, "products_tried", "products_active")
    return both.filter(
        ibis.or_(
            *(both[name] != both[f"{name}_right"].fill_null(0) for name in counted_measures),
            ~both.days_since_signup.identical_to(both.days_since_signup_right),
            both.quiet.notnull() & ~both.days_quiet.identical_to(both.quiet),
            both.is_engaged != both.state.isin(["active", "returning"]),
        )
    ).select("user_id", "snapshot_date", *ma.column_names(MEASURE_COLUMNS))
