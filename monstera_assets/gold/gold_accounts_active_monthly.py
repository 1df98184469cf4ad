"""gold_accounts_active_monthly: accounts in use, one of whose users was active in the last 30 days."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.checks.rules import rule
from monstera_assets.gold.metrics import METRIC_DATE, Metric, Unit, metric_table
from monstera_assets.gold.segments import (
    SEGMENT,
    TOTAL,
    active_entities_differ,
    segment_columns,
    segments_differ_from_total,
)
from monstera_assets.gold.series import dates
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.states import AccountState
from monstera_assets.warehouse.table_asset import SAME_DAYS, table_asset

DAYS = 30

ACCOUNTS_ACTIVE = Metric(
    "Accounts Active Monthly",
    "Accounts with a qualifying event of any of their users in the 30 days that end on the date.",
    "count(account_id) where active_seats > 0",
    Unit.ACCOUNTS,
    caveats="An account in use need not be in the state active, nor the other way round.",
)

_DIMENSIONS = {
    "account_tier": ("subscription_tier", SUBSCRIPTION_TIERS),
    "account_state": ("current_state", tuple(map(str, AccountState))),
}
"""Dimension to the column of the account's history and its values."""

TABLE = metric_table(
    f"gold_{ACCOUNTS_ACTIVE.column_name}",
    grain="one date, segment dimension and value that there can be",
    description=f"{ACCOUNTS_ACTIVE.name}, in total (`{TOTAL}` in both segment columns) and by the"
    " account's tier and state at the end of the date.",
    dimensions=(METRIC_DATE, *segment_columns(tuple(_DIMENSIONS), "accounts")),
    metrics=(ACCOUNTS_ACTIVE,),
)


@table_asset(TABLE, days={"silver_account_state_history": SAME_DAYS})
def gold_accounts_active_monthly(
    silver_account_state_history: ir.Table, *, window: Window
) -> ir.Table:
    """Account-days with an active seat, counted by what the account was that day."""
    accounts = silver_account_state_history
    used = accounts.filter(accounts.active_seats > 0)
    column = ACCOUNTS_ACTIVE.column_name
    by_values = {TOTAL: ibis.literal(TOTAL)} | {
        dimension: used[name] for dimension, (name, _) in _DIMENSIONS.items()
    }
    counted = ibis.union(
        *(
            used.group_by(
                metric_date=used.snapshot_date,
                segment_dimension=ibis.literal(dimension),
                segment_value=value,
            ).aggregate(**{column: used.count()})
            for dimension, value in by_values.items()
        )
    )
    segments = ibis.union(
        *(
            dates(window).select(
                "metric_date",
                segment_dimension=ibis.literal(dimension),
                segment_value=ibis.array(list(values)).unnest(),
            )
            for dimension, values in (
                (TOTAL, (TOTAL,)),
                *((dimension, values) for dimension, (_, values) in _DIMENSIONS.items()),
            )
        )
    )
    joined = segments.left_join(counted, ["metric_date", *SEGMENT])
    return joined.select("metric_date", *SEGMENT, **{column: joined[column].fill_null(0)})


@rule(TABLE, "The total equals a count of distinct accounts over the raw events.")
def recomputed_from_raw_events(
    gold_accounts_active_monthly: ir.Table,
    bronze_events: ir.Table,
    bronze_users: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Dates on which the metric and a plain count over bronze_events differ."""
    accounts = bronze_users.select(entity_id="user_id", account_id="account_id")
    events = bronze_events.inner_join(accounts, "entity_id")
    return active_entities_differ(
        gold_accounts_active_monthly,
        events,
        "account_id",
        ACCOUNTS_ACTIVE.column_name,
        days=DAYS,
        window=window,
    )


@rule(TABLE, "The segments of each dimension add up to the total.")
def segments_add_up(gold_accounts_active_monthly: ir.Table, *, window: Window) -> ir.Table:
    """Dates and dimensions whose segments do not add up."""
    return segments_differ_from_total(
        gold_accounts_active_monthly, ACCOUNTS_ACTIVE.column_name, window=window
    )
