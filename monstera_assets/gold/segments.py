"""Tall metric tables with one value per date and segment, including the total.

On each date, each user is in one segment per dimension, so user counts per segment add up to the total.
A segment value has a row for each date starting on the first date on which a user has the value, even
if the count is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.checks.bit_sets import bit_count, bit_of, word_of
from monstera_assets.gold.metrics import Metric, MetricTable, Slice, metric_table
from monstera_assets.gold.published_ids import TOTAL
from monstera_assets.gold.series import (
    active_days,
    dates,
    from_first_day,
    running_totals,
    totals_of_day,
)
from monstera_assets.lifecycle.intervals import ALWAYS, numbered, sliding_presence
from monstera_assets.lifecycle.versions import SEGMENT_DIMENSIONS

SEGMENT = ("segment_dimension", "segment_value")
"""Columns that identify a segment."""


def segmented_table(metric: Metric) -> MetricTable:
    """Declare a metric's tall table, keyed by date, segment dimension and segment value."""
    return metric_table(
        f"gold_{metric.column_name}",
        group=ma.AssetGroup.METRICS,
        grain="one date, segment dimension and segment value that a user has had by then",
        description=f"What was the value of {metric.name} on each date, in total and by"
        f" {', '.join(SEGMENT_DIMENSIONS[:-1])} and {SEGMENT_DIMENSIONS[-1]}? The total has"
        f" `{TOTAL}` in both segment columns. Segments are those of the date.",
        dimensions=(ma.METRIC_DATE, *segment_columns(SEGMENT_DIMENSIONS, "users")),
        metrics=(metric,),
        slices=segment_slices(SEGMENT_DIMENSIONS),
    )


def segment_slices(dimensions: Sequence[str]) -> list[Slice]:
    """Return the rows of a tall table that count everyone once: the total, and each dimension."""
    return [
        Slice("", dict.fromkeys(SEGMENT, TOTAL)),
        *(Slice(f"by_{name}", {"segment_dimension": name}) for name in dimensions),
    ]


def segment_columns(dimensions: Sequence[str], population: str) -> tuple[ma.Column, ma.Column]:
    """Return a tall table's segment columns for a `population`, such as "users"."""
    return (
        ma.Column(
            "segment_dimension",
            "string",
            f"Dimension by which {population} are segmented; `{TOTAL}` for the total.",
            allowed=(TOTAL, *dimensions),
        ),
        ma.Column("segment_value", "string", f"Value of the dimension; `{TOTAL}` for the total."),
    )


def user_dimensions(users: ir.Table, account_intervals: ir.Table) -> ir.Table:
    """Return the account and the segments of each user on each day (see `lifecycle.versions`).

    The arguments are bronze_users and silver_account_state_intervals.
    """
    tiers = account_intervals.select(
        "account_id",
        account_tier="subscription_tier",
        valid_from=ma.day_number(account_intervals.valid_from),
    )
    return ma.user_dimensions(users, tiers)


def user_segments(users: ir.Table, account_intervals: ir.Table) -> ir.Table:
    """Return the segments of each user on each day, including the total.

    The arguments are bronze_users and silver_account_state_intervals.

    Returns:
        Table by `user_id` and `SEGMENT` with `account_id`, and `valid_from` and `valid_to` as day
        numbers. Consecutive intervals can have the same segment.
    """
    people = user_dimensions(users, account_intervals)
    return ibis.union(
        *(
            people.select(
                *("user_id", "account_id", "valid_from", "valid_to"),
                segment_dimension=ibis.literal(dimension),
                segment_value=value,
            )
            for dimension, value in (
                (TOTAL, ibis.literal(TOTAL)),
                *((name, people[name]) for name in SEGMENT_DIMENSIONS),
            )
        )
    )


def segments_held(users: ir.Table, account_intervals: ir.Table) -> ir.Table:
    """Return each segment value and `held_from`, the number of the first day on which a user has it.

    The total has rows on all days.
    """
    segments = user_segments(users, account_intervals)
    segments = segments.filter(segments.segment_dimension != TOTAL)
    signups = ma.one_row_per_entity(users, ["user_id", "signup_date"])
    segments = segments.inner_join(signups, "user_id")
    first_day = ibis.greatest(segments.valid_from, ma.day_number(segments.signup_date))
    segments = segments.mutate(first_day=first_day)
    segments = segments.filter(segments.first_day <= segments.valid_to)
    held = segments.group_by(*SEGMENT).aggregate(held_from=segments.first_day.min())
    total = ibis.literal(TOTAL).name("segment_dimension").as_table()
    total = total.mutate(segment_value="segment_dimension", held_from=ibis.literal(ALWAYS, "int64"))
    return ma.materialized(held.union(total))


def users_active(
    activity: ir.Table,
    users: ir.Table,
    account_intervals: ir.Table,
    *,
    days: int,
    window: ma.Window,
    metric: str,
) -> ir.Table:
    """Count distinct users with a qualifying event in the `days` days ending on each date.

    A user counts for `days` days from each day with a qualifying event. The metric is a running total:
    users are added when they start to count and subtracted when they stop, so each day is read only
    once.

    `activity` is silver_daily_user_activity for the window and the preceding `days - 1` days.
    """
    presence = sliding_presence(active_days(activity), keys=["user_id"], days=days)
    in_order = ibis.window(group_by="user_id", order_by="day")
    spans = presence.mutate(until_day=presence.day.lead().over(in_order))
    spans = spans.filter(spans.change > 0)
    segments = user_segments(users, account_intervals)
    joined = spans.inner_join(
        segments,
        [
            "user_id",
            spans.day <= segments.valid_to,
            (spans.until_day > segments.valid_from).fill_null(True),
        ],
    )
    # A user leaves a segment when a version ends, and enters that of the next version.
    joined = joined.mutate(
        from_day=ibis.greatest(joined.day, joined.valid_from),
        to_day=ibis.least(joined.until_day, joined.valid_to + 1),
    )
    changes = joined.select(*SEGMENT, day="from_day", change=ibis.literal(1, "int64")).union(
        joined.select(*SEGMENT, day="to_day", change=ibis.literal(-1, "int64"))
    )
    changes = from_first_day(changes, window)
    changes = changes.group_by(*SEGMENT, "day").aggregate(change=changes.change.sum().cast("int64"))
    grid = _grid(users, account_intervals, window)
    return running_totals(changes, grid, keys=SEGMENT, values=["change"]).rename(
        **{metric: "change"}
    )


def created_by_segment(
    facts: ir.Table, users: ir.Table, account_intervals: ir.Table, window: ma.Window, metric: Metric
) -> ir.Table:
    """Count creations per date and user segment in a window.

    `facts` has one row per creation, with `user_id` and `created_on`.
    """
    by_day = facts.group_by("user_id", day=ma.day_number(facts.created_on))
    by_day = by_day.aggregate(change=facts.count())
    segments = user_segments(users, account_intervals)
    joined = ma.at_day(by_day, by_day.day, segments, "user_id")
    changes = joined.group_by(*SEGMENT, "day").aggregate(change=joined.change.sum().cast("int64"))
    grid = _grid(users, account_intervals, window)
    counted = totals_of_day(changes, grid, keys=SEGMENT, values=["change"])
    return counted.rename(**{metric.column_name: "change"})


def _grid(users: ir.Table, account_intervals: ir.Table, window: ma.Window) -> ir.Table:
    every, held = dates(window), segments_held(users, account_intervals)
    joined = every.inner_join(held, ma.day_number(every.metric_date) >= held.held_from)
    return joined.drop("held_from")


def counted_by_dimension(
    rows: ir.Table,
    values: Mapping[str, ir.Value | str],
    counts: Mapping[str, ir.Value],
    **by: ir.Value | str,
) -> ir.Table:
    """Aggregate rows by `by`, `segment_dimension` and `segment_value`.

    Args:
        rows: the rows to aggregate.
        values: for each dimension, the column with its segment values.
        counts: the aggregates.
        by: additional columns to group by.
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
    """Return every combination of a date in a window and a segment from the dimensions' `values`."""
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
    """Return dates on which the total differs from the count of distinct entities in the raw events.

    The entities in a sliding window of `days` days are the union of the entities on those days.
    `entity` is the name of the bronze_events column to count.
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
    """Return a rule that checks that each dimension's segments add up to the total."""
    [column] = (metric.column_name for metric in table.metrics)

    def segments_add_up(rows: ir.Table, *, window: ma.Window) -> ir.Table:
        """Each dimension's segments add up to the total."""
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
