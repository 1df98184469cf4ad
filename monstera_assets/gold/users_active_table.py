"""Build the tables that count daily, weekly and monthly active users."""

from __future__ import annotations

from dataclasses import replace

import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.segments import (
    active_entities_differ,
    segmented_table,
    segments_add_up_in,
    users_active,
)


def users_active_table(
    period: str, *, days: int, caveats: str = "", trend: str = ""
) -> tuple[ma.MetricTable, ma.TableAsset, ma.Rule, ma.Rule]:
    """Return the table that counts users active in a sliding window, with the table's asset and rules.

    Args:
        period: time period in the metric's name.
        days: length of the sliding window in days.
        caveats: the metric's caveats.
        trend: title for a preview of the total over 26 weeks, or an empty string for no preview.
    """
    when = "on the date" if days == 1 else f"in the {days} days ending on the date"
    metric = ma.Metric(
        f"Users Active {period}",
        f"Distinct users with a qualifying event {when}.",
        f"count(distinct user_id) over the qualifying events {when}",
        caveats=caveats,
        short_name=f"{period[0]}AU",  # DAU, WAU or MAU
        distinct=ma.DistinctUsers(days=days),
    )
    table = segmented_table(metric)
    previews = (
        [ma.weekly_trend(trend, metric, **dict.fromkeys(ma.SEGMENT, ma.TOTAL))] if trend else []
    )

    @ma.table_asset(
        table,
        days={
            "silver_daily_user_activity": ma.last_days(days),
            "silver_account_state_intervals": ma.UP_TO_AS_OF,
        },
        previews=previews,
    )
    def compute(
        silver_daily_user_activity: ir.Table,
        bronze_users: ir.Table,
        silver_account_state_intervals: ir.Table,
        *,
        window: ma.Window,
    ) -> ir.Table:
        return users_active(
            silver_daily_user_activity,
            bronze_users,
            silver_account_state_intervals,
            days=days,
            window=window,
            metric=metric.column_name,
        )

    def recomputed_from_raw_events(
        rows: ir.Table, bronze_events: ir.Table, *, window: ma.Window
    ) -> ir.Table:
        """The total equals the number of distinct users in the raw events."""
        return active_entities_differ(
            table, rows, bronze_events, "entity_id", days=days, window=window
        )

    recomputed = ma.rule(table)(recomputed_from_raw_events)
    recomputed = replace(recomputed, reads=(table.name, "bronze_events"))
    return table, compute, recomputed, segments_add_up_in(table)
