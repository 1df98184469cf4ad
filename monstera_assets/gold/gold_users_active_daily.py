"""gold_users_active_daily: users with a qualifying event in the day."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.gold.metrics import Metric, Unit
from monstera_assets.gold.segments import (
    active_entities_differ,
    segmented_table,
    segments_differ_from_total,
    users_active,
)
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.warehouse.table_asset import last_days, table_asset

DAYS = 1

USERS_ACTIVE = Metric(
    "Users Active Daily",
    "Distinct users with a qualifying event on the date.",
    "count(distinct user_id) over the qualifying events of the date",
    Unit.USERS,
)

TABLE = segmented_table(USERS_ACTIVE)


@table_asset(TABLE, days={"silver_daily_user_activity": last_days(DAYS)})
def gold_users_active_daily(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Sliding distinct counts of users."""
    return users_active(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        days=DAYS,
        window=window,
        metric=USERS_ACTIVE.column_name,
    )


@rule(TABLE, "The total equals a count of distinct users over the raw events.")
def recomputed_from_raw_events(
    gold_users_active_daily: ir.Table, bronze_events: ir.Table, *, window: Window
) -> ir.Table:
    """Dates on which the metric and a plain count over bronze_events differ."""
    return active_entities_differ(
        gold_users_active_daily,
        bronze_events,
        "entity_id",
        USERS_ACTIVE.column_name,
        days=DAYS,
        window=window,
    )


@rule(TABLE, "The segments of each dimension add up to the total.")
def segments_add_up(gold_users_active_daily: ir.Table, *, window: Window) -> ir.Table:
    """Dates and dimensions whose segments do not add up."""
    return segments_differ_from_total(
        gold_users_active_daily, USERS_ACTIVE.column_name, window=window
    )
