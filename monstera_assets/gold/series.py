"""Daily series: sums of changes for every date in a window, including dates without changes."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.gold.metrics import Metric
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import calendar, day_date, day_number
from monstera_assets.warehouse.common_columns import METRIC_DATE
from monstera_assets.warehouse.previews import Preview


def dates(window: Window) -> ir.Table:
    """Return one row, with `metric_date`, for each date in a window."""
    return calendar(window.first, window.last, METRIC_DATE.name)


def first_day(window: Window) -> ir.IntegerValue:
    """Return the day number of a window's first day."""
    return day_number(window.first)


def range_first_day(
    history: ir.Table, activity: ir.Table, subscription_events: ir.Table
) -> ir.IntegerScalar:
    """Return the number of the range's first day, the first day with history or facts.

    Facts predate the history if the `start_date` setting is later than the date of the first fact.

    Args:
        history: silver_user_state_history.
        activity: silver_daily_user_activity.
        subscription_events: bronze_subscription_events.
    """
    days = ibis.union(
        history.aggregate(day=history.snapshot_date.min()),
        activity.aggregate(day=activity.activity_date.min()),
        subscription_events.aggregate(day=subscription_events.event_date.min()),
    )
    return days.aggregate(range_from=day_number(days.day.min())).as_scalar()


def active_days(activity: ir.Table) -> ir.Table:
    """Return one row per user and day with a qualifying event: `user_id` and `day` (day number)."""
    active = activity.filter(activity.qualifying_events > 0)
    return active.select("user_id", day=day_number(active.activity_date)).distinct()


def totals_of_day(
    changes: ir.Table, grid: ir.Table, *, keys: Sequence[str] = (), values: Sequence[str]
) -> ir.Table:
    """Return the changes for each row in a grid, or 0 for rows without changes.

    Args:
        changes: the changes, with the columns `keys`, `day` (day number) and `values`.
        grid: the rows to return, with the columns `metric_date` and `keys`.
        keys: names of the key columns other than the date.
        values: names of the integer or decimal columns.
    """
    dated = changes.mutate(metric_date=day_date(changes.day)).drop("day")
    joined = grid.left_join(dated, [METRIC_DATE.name, *keys])
    return joined.select(
        METRIC_DATE.name, *keys, **{name: joined[name].fill_null(0) for name in values}
    )


def running_totals(
    changes: ir.Table, grid: ir.Table, *, keys: Sequence[str] = (), values: Sequence[str]
) -> ir.Table:
    """Return running totals of changes for each row in a grid, starting at 0.

    Changes before the first date are included only if `from_first_day` has moved them to that date.
    """
    dense = totals_of_day(changes, grid, keys=keys, values=values)
    so_far = ibis.window(
        group_by=list(keys) or None, order_by=METRIC_DATE.name, preceding=None, following=0
    )
    totals = {name: dense[name].sum().over(so_far).cast(changes[name].type()) for name in values}
    return dense.select(METRIC_DATE.name, *keys, **totals)


def sums(rows: ir.Table, *names: str) -> dict[str, ir.Value]:
    """Return column sums, cast back to the column types because DuckDB widens sums."""
    return {name: rows[name].sum().cast(rows[name].type()) for name in names}


def totals_of_last_days(changes: ir.Table, window: Window, days: int) -> ir.Table:
    """For each date in a window, sum the changes over the `days` days ending on that date."""
    every = dates(window)
    today = day_number(every.metric_date)
    rows = every.left_join(changes, [changes.day <= today, changes.day > today - days])
    names = [name for name in changes.columns if name != "day"]
    rows = rows.mutate(**{name: rows[name].fill_null(0) for name in names})
    return rows.group_by(METRIC_DATE.name).aggregate(**sums(rows, *names))


def from_first_day(changes: ir.Table, window: Window) -> ir.Table:
    """Move changes that precede a window to the window's first day."""
    return changes.mutate(day=ibis.greatest(changes.day, first_day(window)))


def weekly_trend(title: str, metric: Metric, **row: str) -> Preview:
    """Return a preview of a metric on the latest date and the same weekday in the preceding 25 weeks.

    Args:
        title: the preview's title.
        metric: a metric from a table with one row per date and combination of dimensions.
        row: the value to select for each dimension.
    """

    def rows(relation: ir.Table) -> ir.Table:
        shown = relation
        for name, value in row.items():
            shown = shown.filter(shown[name] == value)
        latest = shown.metric_date.max().over(ibis.window())
        aged = shown.mutate(ago=day_number(latest) - day_number(shown.metric_date))
        weekly = aged.filter(aged.ago % 7 == 0, aged.ago <= 7 * 25)
        return weekly.select(METRIC_DATE.name, metric.column_name).order_by(METRIC_DATE.name)

    return Preview(title, rows, bar=metric.column_name)
