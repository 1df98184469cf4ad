"""gold_segment_metrics: users and their use by lifecycle state and behavioural segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import rule, within
from monstera_assets.gold.metrics import METRIC_DATE, Metric, Unit, metric_table
from monstera_assets.gold.segments import SEGMENT
from monstera_assets.gold.series import dates, share
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.segments import COMPOSITE, DIMENSIONS
from monstera_assets.lifecycle.states import ACTIVITY_STATES, UserState
from monstera_assets.warehouse.table_asset import SAME_DAYS, table_asset
from monstera_assets.warehouse.tables import Column

SEGMENT_VALUES: Mapping[str, Sequence[str]] = {
    "platform_state": tuple(map(str, UserState)),
    "activity_state": tuple(map(str, ACTIVITY_STATES)),
    **{dimension.name: dimension.values for dimension in (*DIMENSIONS, COMPOSITE)},
}
"""Dimension to its values, in their order: the lifecycle's and the behavioural ones."""

_IN = "in the segment at the end of the date"
USERS_IN_SEGMENT = Metric("Users in Segment Daily", f"Users {_IN}.", "count(user_id)", Unit.USERS)
SEGMENT_SHARE = Metric(
    "Users in Segment Share Daily",
    "Users in the segment / all users who have signed up; null without users.",
    "in segment / count(user_id)",
    Unit.SHARE,
    nullable=True,
)
SEGMENT_ACTIVE_DAILY = Metric(
    "Users in Segment Active Daily",
    f"Users {_IN} with a qualifying event on it.",
    "count(user_id) where days_quiet = 0",
    Unit.USERS,
)
SEGMENT_ACTIVE_MONTHLY = Metric(
    "Users in Segment Active Monthly",
    f"Users {_IN} with a qualifying event in the 30 days that end on it.",
    "count(user_id) where days_quiet <= 29",
    Unit.USERS,
)
SEGMENT_EVENTS = Metric(
    "Events in Segment Qualifying Monthly",
    f"Qualifying events, in the 30 days that end on the date, of the users {_IN}.",
    "sum(events_30)",
    Unit.EVENTS,
)
_COUNTS = (USERS_IN_SEGMENT, SEGMENT_ACTIVE_DAILY, SEGMENT_ACTIVE_MONTHLY, SEGMENT_EVENTS)

TABLE = metric_table(
    "gold_segment_metrics",
    grain="one date, dimension and segment, with users or without",
    description="Users and their use by lifecycle state and by behavioural segment, as of each date."
    " Each dimension shares out the users, so its segments add up to all of them.",
    dimensions=(
        METRIC_DATE,
        Column(
            "segment_dimension",
            "string",
            "What the users are shared out by.",
            allowed=tuple(SEGMENT_VALUES),
        ),
        Column("segment_value", "string", "The segment."),
    ),
    metrics=(
        USERS_IN_SEGMENT,
        SEGMENT_SHARE,
        SEGMENT_ACTIVE_DAILY,
        SEGMENT_ACTIVE_MONTHLY,
        SEGMENT_EVENTS,
    ),
)


@table_asset(
    TABLE,
    days={"silver_user_segment_history": SAME_DAYS, "silver_user_state_history": SAME_DAYS},
    batch_by_date=True,
)
def gold_segment_metrics(
    silver_user_segment_history: ir.Table,
    silver_user_state_history: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Users counted by each dimension, on every date and for every segment that there is."""
    states = silver_user_state_history.select(
        "user_id", "snapshot_date", "platform_state", "activity_state"
    )
    segments = silver_user_segment_history
    users = segments.inner_join(states, ["user_id", "snapshot_date"]).view()
    # Few combinations of all dimensions occur, so that the users are gone through once.
    combined = users.group_by("snapshot_date", *SEGMENT_VALUES).aggregate(
        **{
            USERS_IN_SEGMENT.column_name: users.count(),
            SEGMENT_ACTIVE_DAILY.column_name: users.count(where=users.days_quiet == 0),
            SEGMENT_ACTIVE_MONTHLY.column_name: users.count(where=users.days_quiet <= 29),
            SEGMENT_EVENTS.column_name: users.events_30.sum().cast("int64"),
        }
    )
    combined = combined.view()
    by_segment = ibis.union(
        *(
            combined.group_by(
                metric_date="snapshot_date",
                segment_dimension=ibis.literal(dimension),
                segment_value=combined[dimension],
            ).aggregate(
                **{
                    metric.column_name: combined[metric.column_name].sum().cast("int64")
                    for metric in _COUNTS
                }
            )
            for dimension in SEGMENT_VALUES
        )
    )
    grid = ibis.union(
        *(
            dates(window).select(
                "metric_date",
                segment_dimension=ibis.literal(dimension),
                segment_value=ibis.array(list(values)).unnest(),
            )
            for dimension, values in SEGMENT_VALUES.items()
        )
    )
    rows = grid.left_join(by_segment, ["metric_date", *SEGMENT])
    counts = {metric.column_name: rows[metric.column_name].fill_null(0) for metric in _COUNTS}
    rows = rows.select("metric_date", *SEGMENT, **counts)
    of_dimension = ibis.window(group_by=["metric_date", "segment_dimension"])
    everybody = rows[USERS_IN_SEGMENT.column_name].sum().over(of_dimension)
    return rows.mutate(
        **{SEGMENT_SHARE.column_name: share(rows[USERS_IN_SEGMENT.column_name], everybody)}
    )


@rule(TABLE, "The segments of each dimension add up to all users, and their use to all use.")
def segments_add_up(
    gold_segment_metrics: ir.Table,
    silver_user_state_history: ir.Table,
    gold_users_active_daily: ir.Table,
    gold_users_active_monthly: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Dates and dimensions whose segments do not add up."""
    rows = within(gold_segment_metrics, "metric_date", window)
    sums = rows.group_by("metric_date", "segment_dimension").aggregate(
        **{metric.column_name: rows[metric.column_name].sum().cast("int64") for metric in _COUNTS}
    )
    history = within(silver_user_state_history, "snapshot_date", window)
    everybody = history.group_by(day="snapshot_date").aggregate(everybody=history.count())
    both = sums.left_join(everybody, sums.metric_date == everybody.day).drop("day")
    for table, column in (
        (gold_users_active_daily, "users_active_daily"),
        (gold_users_active_monthly, "users_active_monthly"),
    ):
        total = table.filter(table.segment_dimension == "all").select(
            **{f"{column}_on": table.metric_date, column: table[column]}
        )
        both = both.left_join(total, both.metric_date == total[f"{column}_on"])
        both = both.drop(f"{column}_on")
    return both.filter(
        (both[USERS_IN_SEGMENT.column_name] != both.everybody.fill_null(0))
        | ~both[SEGMENT_ACTIVE_DAILY.column_name].identical_to(both.users_active_daily)
        | ~both[SEGMENT_ACTIVE_MONTHLY.column_name].identical_to(both.users_active_monthly)
    )
