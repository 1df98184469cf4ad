"""gold_engagement_power_curve: users by number of active days in a window (L7 and L28)."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma

WINDOWS = (7, 28)
"""Window lengths in days."""

USERS_BY_ACTIVE_DAYS = ma.Metric(
    "Users Active per Window by Active Days",
    "Users with qualifying events on exactly `active_days` days in the window ending on the date.",
    "count(user_id) having count(distinct activity_date) = active_days",
)

TABLE = ma.metric_table(
    "gold_engagement_power_curve",
    group=ma.AssetGroup.RETENTION,
    grain="one date, window length and number of active days",
    description="On how many of the last 7 days (L7) and 28 days (L28) were users active? This"
    " distribution is known as the power user curve.",
    dimensions=(
        ma.METRIC_DATE,
        ma.Column(
            "window_days",
            "int64",
            f"Number of days in the window: {' or '.join(map(str, WINDOWS))}.",
        ),
        ma.Column(
            "active_days",
            "int64",
            "Number of days with a qualifying event, from 1 through `window_days`.",
        ),
    ),
    metrics=(USERS_BY_ACTIVE_DAYS,),
    slices=[ma.Slice(f"of_{days}_days", {"window_days": days}) for days in WINDOWS],
)


@ma.table_asset(TABLE, days={"silver_daily_user_activity": ma.last_days(max(WINDOWS))})
def gold_engagement_power_curve(
    silver_daily_user_activity: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Compute running totals of users who reach or leave each number of active days."""
    active = ma.materialized(ma.active_days(silver_daily_user_activity))
    changes = ibis.union(*(_changes(active, days, window) for days in WINDOWS))
    grid = ibis.union(
        *(
            ma.dates(window).select(
                "metric_date",
                window_days=ibis.literal(days, "int64"),
                active_days=ibis.range(1, days + 1).unnest().cast("int64"),
            )
            for days in WINDOWS
        )
    )
    return ma.running_totals(
        changes, grid, keys=["window_days", "active_days"], values=["change"]
    ).rename(**{USERS_BY_ACTIVE_DAYS.column_name: "change"})


def _changes(active: ir.Table, days: int, window: ma.Window) -> ir.Table:
    """Return the net change in the number of users per day and number of active days."""
    recent = active.filter(active.day > ma.first_day(window) - days)
    one = ibis.literal(1, "int64")
    moves = recent.select("user_id", day=recent.day, change=one).union(
        recent.select("user_id", day=recent.day + days, change=-one)
    )
    moves = ma.from_first_day(moves, window)
    by_user = moves.group_by("user_id", "day").aggregate(change=moves.change.sum().cast("int64"))
    so_far = ibis.window(group_by="user_id", order_by="day", preceding=None, following=0)
    levels = by_user.mutate(level=by_user.change.sum().over(so_far).cast("int64"))
    reached = levels.select("day", active_days=levels.level, change=one)
    left = levels.select("day", active_days=levels.level - levels.change, change=-one)
    both = reached.union(left)
    both = both.filter(both.active_days > 0)
    return (
        both.group_by("day", "active_days")
        .aggregate(change=both.change.sum().cast("int64"))
        .mutate(window_days=ibis.literal(days, "int64"))
    )


@ma.rule(TABLE)
def days_add_up_to_users_active_daily(
    gold_engagement_power_curve: ir.Table,
    gold_users_active_daily: ir.Table,
    silver_daily_user_activity: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """In each window, the total number of active days equals the sum of daily active users."""
    rows = ma.within(gold_engagement_power_curve, "metric_date", window)
    users = rows[USERS_BY_ACTIVE_DAYS.column_name]
    published = rows.group_by("metric_date", "window_days").aggregate(
        user_days=(users * rows.active_days).sum().cast("int64"), fewest=users.min()
    )
    daily = gold_users_active_daily
    first = daily.aggregate(day=daily.metric_date.min()).day.as_scalar()
    daily = daily.filter(daily.segment_dimension == ma.TOTAL)
    # Days before the first partition exist only in the facts.
    earlier = ma.active_days(silver_daily_user_activity)
    earlier = earlier.filter(earlier.day < ma.day_number(first))
    earlier = earlier.group_by(active_date=ma.day_date(earlier.day)).aggregate(
        active=earlier.count()
    )
    daily = daily.select(active_date="metric_date", active="users_active_daily").union(earlier)
    daily = daily.filter(
        daily.active_date.between(ma.days_earlier(window.first, max(WINDOWS)), window.last)
    )
    counted = published.left_join(
        daily,
        [
            daily.active_date <= published.metric_date,
            ma.day_number(daily.active_date)
            > ma.day_number(published.metric_date) - published.window_days,
        ],
    )
    counted = counted.group_by("metric_date", "window_days", "user_days", "fewest").aggregate(
        active=counted.active.sum().fill_null(0).cast("int64")
    )
    return counted.filter((counted.user_days != counted.active) | (counted.fewest < 0))
