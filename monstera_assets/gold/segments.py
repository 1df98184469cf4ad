"""Tall metric tables: one value a date and segment, in total and by what users are segmented by.

Every dimension puts each user into one segment, so for counts of people its segments add up to the
total. Each date has a row for every segment value that any user has, also when it is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.checks.bit_sets import bit_count, bit_of, word_of
from monstera_assets.gold.metrics import Metric, MetricTable, metric_table
from monstera_assets.gold.series import (
    active_days,
    dates,
    from_first_day,
    running_totals,
    totals_of_day,
)
from monstera_assets.lifecycle.intervals import numbered, sliding_presence

TOTAL = "all"
SEGMENT = ("segment_dimension", "segment_value")
"""The columns that name a segment."""
SEGMENT_DIMENSIONS = ("country", "plan_type", "acquisition_source", "account_tier")


def segmented_table(metric: Metric) -> MetricTable:
    """Declare the tall table of a metric: by date, segment dimension and segment value."""
    return metric_table(
        f"gold_{metric.column_name}",
        grain="one date, segment dimension and segment value that any user has",
        description=f"{metric.name}, in total (`{TOTAL}` in both segment columns) and by"
        f" {', '.join(SEGMENT_DIMENSIONS)}, as the user's and account's latest row says.",
        dimensions=(ma.METRIC_DATE, *segment_columns(SEGMENT_DIMENSIONS, "the users")),
        metrics=(metric,),
    )


def segment_columns(dimensions: Sequence[str], population: str) -> tuple[ma.Column, ma.Column]:
    """The columns of a tall table that name the segment: of `population`, such as the users."""
    return (
        ma.Column(
            "segment_dimension",
            "string",
            f"What {population} are segmented by; `{TOTAL}` for the total.",
            allowed=(TOTAL, *dimensions),
        ),
        ma.Column("segment_value", "string", f"The segment; `{TOTAL}` for the total."),
    )


def user_dimensions(users: ir.Table, accounts: ir.Table) -> ir.Table:
    """What users are segmented by: `user_id`, `account_id`, `SEGMENT_DIMENSIONS`; one row a user."""
    people = users.inner_join(
        accounts.select("account_id", account_tier=accounts.subscription_tier), "account_id"
    )
    return people.select("user_id", "account_id", *SEGMENT_DIMENSIONS)


def user_segments(users: ir.Table, accounts: ir.Table) -> ir.Table:
    """The segments of each user: `user_id`, `segment_dimension`, `segment_value`, with the total."""
    people = user_dimensions(users, accounts)
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
    window: ma.Window,
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
    presence = sliding_presence(active_days(activity), keys=["user_id"], days=days)
    changes = _by_segment(from_first_day(presence, window), users, accounts)
    grid = _grid(users, accounts, window)
    return running_totals(changes, grid, keys=SEGMENT, values=["change"]).rename(
        **{metric: "change"}
    )


def created_by_segment(
    facts: ir.Table, users: ir.Table, accounts: ir.Table, window: ma.Window, metric: Metric
) -> ir.Table:
    """What users created, counted on each date of a window and in each segment of the users.

    Args:
        facts: one row a creation: `user_id` and `created_on`.
        users: bronze_users.
        accounts: bronze_accounts.
        window: the dates to compute.
        metric: the metric of the table.
    """
    by_day = facts.group_by("user_id", day=ma.day_number(facts.created_on))
    changes = _by_segment(by_day.aggregate(change=facts.count()), users, accounts)
    grid = _grid(users, accounts, window)
    counted = totals_of_day(changes, grid, keys=SEGMENT, values=["change"])
    return counted.rename(**{metric.column_name: "change"})


def _grid(users: ir.Table, accounts: ir.Table, window: ma.Window) -> ir.Table:
    """Every date of a window with every segment that any user is in."""
    return dates(window).cross_join(user_segments(users, accounts).drop("user_id").distinct())


def _by_segment(changes: ir.Table, users: ir.Table, accounts: ir.Table) -> ir.Table:
    joined = changes.inner_join(user_segments(users, accounts), "user_id")
    return joined.group_by("segment_dimension", "segment_value", "day").aggregate(
        change=joined.change.sum().cast("int64")
    )


def counted_by_dimension(
    rows: ir.Table,
    values: Mapping[str, ir.Value | str],
    counts: Mapping[str, ir.Value],
    **by: ir.Value | str,
) -> ir.Table:
    """Counts by `by`, `segment_dimension` and `segment_value`.

    Args:
        rows: what is counted.
        values: for each dimension, the column of its segments.
        counts: the columns to count, as aggregates of the rows.
        by: the other columns to group by.
    """
    return ibis.union(
        *(
            rows.group_by(
                **by, segment_dimension=ibis.literal(dimension), segment_value=value
            ).aggregate(**counts)
            for dimension, value in values.items()
        )
    )


def segment_grid(values: Mapping[str, Sequence[str]], window: ma.Window) -> ir.Table:
    """Every date of a window with every segment: for each dimension, its values."""
    segments = [
        dict(zip(SEGMENT, pair, strict=True))
        for dimension, of_dimension in values.items()
        for pair in ((dimension, value) for value in of_dimension)
    ]
    every = ibis.array([ibis.struct(segment) for segment in segments])
    return dates(window).mutate(segment=every.unnest()).unpack("segment")


def active_entities_differ(
    metric: MetricTable,
    rows: ir.Table,
    events: ir.Table,
    entity: str,
    *,
    days: int,
    window: ma.Window,
) -> ir.Table:
    """Dates on which the total differs from a count of distinct entities over raw events.

    Looks at each date's own window of events: the entities in it are the union of those of its days.

    Args:
        metric: the table's declaration.
        rows: the table.
        events: bronze_events, with the column that is counted.
        entity: name of that column.
        days: length of the sliding window.
        window: the dates to compare.
    """
    [column] = (each.column_name for each in metric.metrics)
    all_days = ma.Window(ma.days_earlier(window.first, days - 1), window.last)
    qualifying = events.filter(
        events.is_qualifying_event,
        events.entity_type == "user",
        events.event_date.between(all_days.first, all_days.last),
    )
    seen = ma.materialized(
        qualifying.select(metric_date=qualifying.event_date, seen=qualifying[entity])
    )
    seen = seen.inner_join(
        numbered(seen.select("seen").distinct(), by=["seen"], number="number"), "seen"
    )
    sets = seen.group_by("metric_date", word=word_of(seen.number)).aggregate(
        bits=bit_of(seen.number).bit_or()
    )
    sets = ma.materialized(sets)
    every = dates(all_days).cross_join(sets.select("word").distinct())
    every = every.left_join(sets, ["metric_date", "word"])
    up_to_date = ibis.window(
        group_by="word", order_by="metric_date", preceding=days - 1, following=0
    )
    united = every.select("metric_date", bits=every.bits.bit_or().over(up_to_date))
    counted = united.group_by("metric_date").aggregate(
        counted=bit_count(united.bits).sum().cast("int64")
    )
    published = rows.filter(rows.segment_dimension == TOTAL).select("metric_date", column)
    both = ma.left_joined(dates(window), counted, published, on=["metric_date"])
    return both.filter(both[column].isnull() | (both[column] != both.counted.fill_null(0)))


def segments_add_up_in(table: MetricTable) -> ma.Rule:
    """The rule of a tall table that the segments of each dimension add up to the total."""
    [column] = (metric.column_name for metric in table.metrics)

    def segments_add_up(rows: ir.Table, *, window: ma.Window) -> ir.Table:
        """The segments of each dimension add up to the total."""
        rows = ma.within(rows, ma.METRIC_DATE.name, window)
        total = rows.filter(rows.segment_dimension == TOTAL)
        total = total.select("metric_date", total=column)
        parts = rows.filter(rows.segment_dimension != TOTAL)
        sums = parts.group_by("metric_date", "segment_dimension").aggregate(
            segments=parts[column].sum().cast("int64")
        )
        both = ma.left_joined(sums, total, on=["metric_date"])
        return both.filter(both.total.isnull() | (both.total != both.segments))

    return replace(ma.rule(table)(segments_add_up), reads=(table.name,))
