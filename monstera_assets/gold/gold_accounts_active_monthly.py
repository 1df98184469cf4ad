"""gold_accounts_active_monthly: accounts with a qualifying event in the last 30 days."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.gold import authoring as ma
from monstera_assets.gold.segments import active_entities_differ, segments_add_up_in

DAYS = 30

ACCOUNTS_ACTIVE = ma.Metric(
    "Accounts Active Monthly",
    "Accounts with at least one user who had a qualifying event in the 30 days ending on the date.",
    "count(account_id) where active_seats > 0",
    caveats="An account in use is not necessarily in the active state, and vice versa.",
)

_DIMENSIONS = {
    "account_tier": ("subscription_tier", SUBSCRIPTION_TIERS),
    "account_state": ("current_state", tuple(map(str, ma.AccountState))),
}
"""Each dimension's history column and possible values."""

TABLE = ma.metric_table(
    f"gold_{ACCOUNTS_ACTIVE.column_name}",
    grain="one date, segment dimension and possible segment value",
    description="How many accounts were in use in the 30 days ending on each date, in total and by"
    f" tier and state? The total has `{ma.TOTAL}` in both segment columns. The tier and state are those"
    " at the end of the day.",
    dimensions=(ma.METRIC_DATE, *ma.segment_columns(tuple(_DIMENSIONS), "accounts")),
    metrics=(ACCOUNTS_ACTIVE,),
)


@ma.table_asset(TABLE, days={"silver_account_state_history": ma.SAME_DAYS})
def gold_accounts_active_monthly(
    silver_account_state_history: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Count the accounts with an active seat by date, tier and state."""
    accounts = silver_account_state_history
    used = accounts.filter(accounts.active_seats > 0)
    column = ACCOUNTS_ACTIVE.column_name
    values = {ma.TOTAL: ibis.literal(ma.TOTAL)} | {
        dimension: used[name] for dimension, (name, _) in _DIMENSIONS.items()
    }
    counted = ma.counted_by_dimension(
        used, values, {column: used.count()}, metric_date="snapshot_date"
    )
    segments = {ma.TOTAL: (ma.TOTAL,)} | {name: values for name, (_, values) in _DIMENSIONS.items()}
    rows = ma.segment_grid(segments, window).left_join(counted, ["metric_date", *ma.SEGMENT])
    return rows.select("metric_date", *ma.SEGMENT, **{column: rows[column].fill_null(0)})


@ma.rule(TABLE)
def recomputed_from_raw_events(
    gold_accounts_active_monthly: ir.Table,
    bronze_events: ir.Table,
    bronze_users: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """The total equals the number of distinct accounts in the raw events."""
    accounts = bronze_users.select(entity_id="user_id", account_id="account_id")
    events = bronze_events.inner_join(accounts, "entity_id")
    return active_entities_differ(
        TABLE, gold_accounts_active_monthly, events, "account_id", days=DAYS, window=window
    )


segments_add_up = segments_add_up_in(TABLE)
