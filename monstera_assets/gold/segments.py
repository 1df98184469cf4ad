"""Tall metric tables: one value a date and segment, in total and by what users are shared out by.

Every segment dimension shares out the users, so the values of its segments add up to the total for
counts of people. Each date has a row for every segment value that any user has, also when it is 0.
"""

from __future__ import annotations

from datetime import timedelta

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import OWNERS
from monstera_assets.lifecycle.intervals import calendar, day_date, day_number, sliding_presence
from monstera_assets.warehouse.tables import TREND_FLAGS, Column, Layer, Table
from monstera_assets.warehouse.windows import DateWindow

TOTAL = "all"
SEGMENT_DIMENSIONS = ("country", "plan_type", "acquisition_source", "account_tier")


def segmented_table(name: str, metric: Column, description: str) -> Table:
    """Declare a tall metric table: a metric by date, segment dimension and segment value."""
    return Table(
        layer=Layer.GOLD,
        name=name,
        grain="one date, segment dimension and segment value",
        description=f"{description} In total (`{TOTAL}` in both segment columns) and by"
        f" {', '.join(SEGMENT_DIMENSIONS)}, as the user's and account's latest row says.",
        owners=OWNERS,
        key=("metric_date", "segment_dimension", "segment_value"),
        partition_column="metric_date",
        columns=(
            Column("metric_date", "date", "The day whose end is described."),
            Column(
                "segment_dimension",
                "string",
                f"What the users are shared out by; `{TOTAL}` for the total.",
                allowed=(TOTAL, *SEGMENT_DIMENSIONS),
            ),
            Column("segment_value", "string", f"The segment; `{TOTAL}` for the total."),
            metric,
            *TREND_FLAGS,
        ),
    )


def user_segments(users: ir.Table, accounts: ir.Table) -> ir.Table:
    """The segments of each user: `user_id`, `segment_dimension`, `segment_value`, with the total."""
    people = users.inner_join(
        accounts.select("account_id", account_tier=accounts.subscription_tier), "account_id"
    )
    return ibis.union(
        *(
            people.select(
                user_id=people.user_id,
                segment_dimension=ibis.literal(dimension),
                segment_value=value,
            )
            for dimension, value in (
                (TOTAL, ibis.literal(TOTAL)),
                *((name, people[name]) for name in SEGMENT_DIMENSIONS),
            )
        )
    )


def users_active(
    activity: ir.Table,
    users: ir.Table,
    accounts: ir.Table,
    *,
    days: int,
    window: DateWindow,
    metric: str,
) -> ir.Table:
    """Distinct users with a qualifying event in the `days` days that end on each date of a window.

    Nobody is counted twice and no day's users are looked at twice: each qualifying day makes its
    user count from that day until `days` later or the next qualifying day, whichever is first; the
    metric is the running balance of those who begin and cease to count.

    Args:
        activity: silver_daily_user_activity of the window and the `days - 1` days before it.
        users: bronze_users.
        accounts: bronze_accounts.
        days: length of the sliding window.
        window: the dates to compute.
        metric: name of the metric's column.
    """
    qualifying = activity.filter(activity.qualifying_events > 0)
    active_days = qualifying.select(
        user_id=qualifying.user_id, day=day_number(qualifying.activity_date)
    ).distinct()
    first = day_number(ibis.literal(window.first))
    presence = sliding_presence(active_days, keys=["user_id"], days=days)
    # What began before the window counts from its first day.
    changes = presence.mutate(day=ibis.greatest(presence.day, first))
    return running_total(
        _by_segment(changes, users, accounts),
        users,
        accounts,
        window=window,
        metric=metric,
    )


def users_created(
    users: ir.Table, accounts: ir.Table, *, window: DateWindow, metric: str
) -> ir.Table:
    """Users who signed up on each date of a window."""
    created = users.select(
        user_id=users.user_id,
        day=day_number(users.user_created_at.date()),
        change=ibis.literal(1, "int64"),
    )
    return on_every_date(
        _by_segment(created, users, accounts), users, accounts, window=window
    ).select(
        metric_date=ibis._.metric_date,
        segment_dimension=ibis._.segment_dimension,
        segment_value=ibis._.segment_value,
        **{metric: ibis._.change},
    )


def running_total(
    changes: ir.Table, users: ir.Table, accounts: ir.Table, *, window: DateWindow, metric: str
) -> ir.Table:
    """Add up changes by segment over the dates of a window, from 0 before its first."""
    dense = on_every_date(changes, users, accounts, window=window)
    so_far = ibis.window(
        group_by=["segment_dimension", "segment_value"],
        order_by="metric_date",
        preceding=None,
        following=0,
    )
    return dense.select(
        "metric_date",
        "segment_dimension",
        "segment_value",
        **{metric: dense.change.sum().over(so_far).cast("int64")},
    )


def on_every_date(
    changes: ir.Table, users: ir.Table, accounts: ir.Table, *, window: DateWindow
) -> ir.Table:
    """Changes on every date of a window and for every segment that any user is in, 0 where none."""
    segments = user_segments(users, accounts).drop("user_id").distinct()
    dates = calendar(window.first, window.last, "metric_date")
    grid = dates.cross_join(segments)
    dated = changes.mutate(metric_date=day_date(changes.day)).drop("day")
    joined = grid.left_join(dated, ["metric_date", "segment_dimension", "segment_value"])
    return joined.select(
        "metric_date",
        "segment_dimension",
        "segment_value",
        change=joined.change.fill_null(0),
    )


def _by_segment(changes: ir.Table, users: ir.Table, accounts: ir.Table) -> ir.Table:
    joined = changes.inner_join(user_segments(users, accounts), "user_id")
    return joined.group_by("segment_dimension", "segment_value", "day").aggregate(
        change=joined.change.sum().cast("int64")
    )


def active_users_differ(
    metric: ir.Table, events: ir.Table, column: str, *, days: int, window: DateWindow
) -> ir.Table:
    """Dates on which the total differs from a plain count of distinct users over raw events.

    Looks at each date's own window of events, the slow and literal way.
    """
    qualifying = events.filter(
        events.is_qualifying_event,
        events.entity_type == "user",
        events.event_date.between(window.first - timedelta(days=days - 1), window.last),
    )
    seen = qualifying.select("entity_id", "event_date").distinct()
    dates = calendar(window.first, window.last, "metric_date")
    counted = dates.left_join(
        seen,
        [
            seen.event_date <= dates.metric_date,
            day_number(seen.event_date) > day_number(dates.metric_date) - days,
        ],
    )
    counted = counted.group_by("metric_date").aggregate(counted=counted.entity_id.nunique())
    published = metric.filter(metric.segment_dimension == TOTAL).select("metric_date", column)
    both = counted.left_join(published, "metric_date").drop("metric_date_right")
    return both.filter(both[column].isnull() | (both[column] != both.counted))


def segments_differ_from_total(metric: ir.Table, column: str, *, window: DateWindow) -> ir.Table:
    """Dates and dimensions whose segments do not add up to the total."""
    rows = metric.filter(metric.metric_date.between(window.first, window.last))
    total = rows.filter(rows.segment_dimension == TOTAL).select(
        total_date=rows.metric_date, total=rows[column]
    )
    parts = rows.filter(rows.segment_dimension != TOTAL)
    sums = parts.group_by("metric_date", "segment_dimension").aggregate(
        segments=parts[column].sum().cast("int64")
    )
    both = sums.left_join(total, sums.metric_date == total.total_date).drop("total_date")
    return both.filter(both.total.isnull() | (both.total != both.segments))
