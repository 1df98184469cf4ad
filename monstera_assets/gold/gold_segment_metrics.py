"""gold_segment_metrics: users and their activity by lifecycle state and behavioral segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.lifecycle.segments import COMPOSITE, DIMENSIONS
from monstera_assets.lifecycle.states import ACTIVITY_STATES

SEGMENT_VALUES: Mapping[str, Sequence[str]] = {
    "platform_state": tuple(map(str, ma.UserState)),
    "activity_state": tuple(map(str, ACTIVITY_STATES)),
    **{dimension.name: dimension.values for dimension in (*DIMENSIONS, COMPOSITE)},
}
"""Ordered values for each lifecycle and behavioral dimension."""

_IN = "in the segment at the end of the day"
USERS_IN_SEGMENT = ma.Metric("Users in Segment Daily", f"Users {_IN}.", "count(user_id)")
SEGMENT_SHARE = ma.Metric(
    "Users in Segment Share Daily",
    "Users in the segment / all users who have signed up; null if there are no users.",
    "in segment / count(user_id)",
    population="all users who have signed up",
)
SEGMENT_ACTIVE_DAILY = ma.Metric(
    "Users in Segment Active Daily",
    f"Users {_IN} who had a qualifying event on that day.",
    "count(user_id) where days_quiet = 0",
)
SEGMENT_ACTIVE_MONTHLY = ma.Metric(
    "Users in Segment Active Monthly",
    f"Users {_IN} who had a qualifying event in the 30 days ending on that day.",
    "count(user_id) where days_quiet <= 29",
)
SEGMENT_EVENTS = ma.Metric(
    "Events in Segment Qualifying Monthly",
    f"Qualifying events from users {_IN}, in the 30 days ending on that day.",
    "sum(events_30)",
)
_COUNTS = (USERS_IN_SEGMENT, SEGMENT_ACTIVE_DAILY, SEGMENT_ACTIVE_MONTHLY, SEGMENT_EVENTS)
_COUNT_COLUMNS = tuple(metric.column_name for metric in _COUNTS)

TABLE = ma.metric_table(
    "gold_segment_metrics",
    group=ma.AssetGroup.SEGMENTS,
    grain="one date, dimension and segment, including segments without users",
    description="How many users are in each lifecycle state and behavioral segment on each date, and"
    " how active are they? Each user is in one segment per dimension, so each dimension's segments"
    " add up to all users.",
    dimensions=(
        ma.METRIC_DATE,
        ma.Column(
            "segment_dimension",
            "string",
            "Dimension by which users are segmented.",
            allowed=tuple(SEGMENT_VALUES),
        ),
        ma.Column("segment_value", "string", "Value of the dimension."),
    ),
    metrics=(USERS_IN_SEGMENT, SEGMENT_SHARE, *_COUNTS[1:]),
    slices=[ma.Slice(f"by_{name}", {"segment_dimension": name}) for name in SEGMENT_VALUES],
)


@ma.table_asset(
    TABLE,
    days={"silver_user_segment_history": ma.SAME_DAYS, "silver_user_state_history": ma.SAME_DAYS},
    batch_by_date=True,
)
def gold_segment_metrics(
    silver_user_segment_history: ir.Table, silver_user_state_history: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Count users for every date, dimension and segment."""
    states = silver_user_state_history.select(
        "user_id", "snapshot_date", "platform_state", "activity_state"
    )
    segments = silver_user_segment_history
    users = ma.materialized(segments.inner_join(states, ["user_id", "snapshot_date"]))
    # Few combinations of dimension values occur, so the users are aggregated by combination first.
    combined = users.group_by("snapshot_date", *SEGMENT_VALUES).aggregate(
        **{
            USERS_IN_SEGMENT.column_name: users.count(),
            SEGMENT_ACTIVE_DAILY.column_name: users.count(where=users.days_quiet == 0),
            SEGMENT_ACTIVE_MONTHLY.column_name: users.count(where=users.days_quiet <= 29),
            SEGMENT_EVENTS.column_name: users.events_30.sum().cast("int64"),
        }
    )
    combined = ma.materialized(combined)
    by_segment = ma.counted_by_dimension(
        combined,
        {dimension: combined[dimension] for dimension in SEGMENT_VALUES},
        ma.sums(combined, *_COUNT_COLUMNS),
        metric_date="snapshot_date",
    )
    grid = ma.segment_grid(SEGMENT_VALUES, window)
    rows = grid.left_join(by_segment, ["metric_date", *ma.SEGMENT])
    rows = rows.select("metric_date", *ma.SEGMENT, **ma.zero_filled(rows, _COUNTS))
    of_dimension = ibis.window(group_by=["metric_date", "segment_dimension"])
    everybody = rows[USERS_IN_SEGMENT.column_name].sum().over(of_dimension)
    return rows.mutate(
        **{SEGMENT_SHARE.column_name: ma.ratio(rows[USERS_IN_SEGMENT.column_name], everybody)}
    )


@ma.rule(TABLE)
def segments_add_up(
    gold_segment_metrics: ir.Table,
    silver_user_state_history: ir.Table,
    gold_users_active_daily: ir.Table,
    gold_users_active_monthly: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Each dimension's segments add up to all users and to all active users."""
    rows = ma.within(gold_segment_metrics, "metric_date", window)
    sums = rows.group_by("metric_date", "segment_dimension").aggregate(
        **ma.sums(rows, *_COUNT_COLUMNS)
    )
    history = ma.within(silver_user_state_history, "snapshot_date", window)
    everybody = history.group_by(metric_date="snapshot_date").aggregate(everybody=history.count())
    daily, monthly = (
        table.filter(table.segment_dimension == ma.TOTAL).select("metric_date", column)
        for table, column in (
            (gold_users_active_daily, "users_active_daily"),
            (gold_users_active_monthly, "users_active_monthly"),
        )
    )
    both = ma.left_joined(sums, everybody, daily, monthly, on=["metric_date"])
    return both.filter(
        (both[USERS_IN_SEGMENT.column_name] != both.everybody.fill_null(0))
        | ~both[SEGMENT_ACTIVE_DAILY.column_name].identical_to(both.users_active_daily)
        | ~both[SEGMENT_ACTIVE_MONTHLY.column_name].identical_to(both.users_active_monthly)
    )
