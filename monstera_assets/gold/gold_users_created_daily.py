"""gold_users_created_daily: users who signed up on the date."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule, within
from monstera_assets.gold.metrics import Metric, Unit
from monstera_assets.gold.segments import (
    TOTAL,
    counted_by_segment,
    segmented_table,
    segments_differ_from_total,
)
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.warehouse.table_asset import table_asset

USERS_CREATED = Metric(
    "Users Created Daily",
    "Users who signed up on the date.",
    "count(user_id) by the date of user_created_at",
    Unit.USERS,
)

TABLE = segmented_table(USERS_CREATED)


@table_asset(TABLE)
def gold_users_created_daily(
    bronze_users: ir.Table, bronze_accounts: ir.Table, *, window: Window
) -> ir.Table:
    """Signups by date and segment."""
    signups = bronze_users.select(
        user_id=bronze_users.user_id,
        day=day_number(bronze_users.user_created_at.date()),
        change=ibis.literal(1, "int64"),
    )
    return counted_by_segment(
        signups, bronze_users, bronze_accounts, window=window, metric=USERS_CREATED.column_name
    )


@rule(TABLE, "The total equals a count of signups.")
def recomputed_from_users(
    gold_users_created_daily: ir.Table, bronze_users: ir.Table, *, window: Window
) -> ir.Table:
    """Dates on which the metric and a plain count over bronze_users differ."""
    metric = within(gold_users_created_daily, "metric_date", window)
    published = metric.filter(
        metric.segment_dimension == TOTAL, metric.users_created_daily > 0
    ).select("metric_date", "users_created_daily")
    users = bronze_users.mutate(metric_date=bronze_users.user_created_at.date())
    counted = users.group_by("metric_date").aggregate(users_created_daily=users.count())
    return differing_rows(published, within(counted, "metric_date", window))


@rule(TABLE, "The segments of each dimension add up to the total.")
def segments_add_up(gold_users_created_daily: ir.Table, *, window: Window) -> ir.Table:
    """Dates and dimensions whose segments do not add up."""
    return segments_differ_from_total(
        gold_users_created_daily, "users_created_daily", window=window
    )
