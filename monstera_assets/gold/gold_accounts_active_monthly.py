"""gold_accounts_active_monthly: accounts with a qualifying event in the last 30 days."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.segments import active_entities_differ, segments_add_up_in

DAYS = 30

ACCOUNTS_ACTIVE = ma.Metric(
    "Accounts Active Monthly",
    "Accounts with at least one user who had a qualifying event in the 30 days ending on the date.",
    "count(account_id) where active_seats > 0",
    caveats="An account in use is not necessarily in the active state, and vice versa.",
)

_TIER, _STATE = _DIMENSIONS = ("account_tier", "account_state")

TABLE = ma.metric_table(
    f"gold_{ACCOUNTS_ACTIVE.column_name}",
    group=ma.AssetGroup.ACCOUNTS,
    grain="one date, segment dimension and segment value, including values without accounts",
    description="How many accounts were in use in the 30 days ending on each date, in total and by"
    f" tier and state? The total has `{ma.TOTAL}` in both segment columns. The tier and state are as"
    " of the end of the day. A tier has rows from the first date on which an account has that tier.",
    dimensions=(ma.METRIC_DATE, *ma.segment_columns(_DIMENSIONS, "accounts")),
    metrics=(ACCOUNTS_ACTIVE,),
    slices=ma.segment_slices(_DIMENSIONS),
)


@ma.table_asset(
    TABLE,
    days={
        "silver_account_state_history": ma.SAME_DAYS,
        "silver_account_state_intervals": ma.UP_TO_AS_OF,
    },
)
def gold_accounts_active_monthly(
    silver_account_state_history: ir.Table,
    silver_account_state_intervals: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Count the accounts with an active seat by date, tier and state."""
    accounts = silver_account_state_history
    used = accounts.filter(accounts.active_seats > 0)
    column = ACCOUNTS_ACTIVE.column_name
    values = {
        ma.TOTAL: ibis.literal(ma.TOTAL),
        _TIER: used.subscription_tier,
        _STATE: used.current_state,
    }
    counted = ma.counted_by_dimension(
        used, values, {column: used.count()}, metric_date="snapshot_date"
    )
    grid = ma.segment_grid(
        {ma.TOTAL: (ma.TOTAL,), _STATE: tuple(map(str, ma.AccountState))}, window
    )
    intervals = silver_account_state_intervals
    tiers = intervals.group_by(segment_value="subscription_tier").aggregate(
        segment_dimension=ibis.literal(_TIER), held_from=intervals.valid_from.min()
    )
    every = ma.dates(window)
    of_tiers = every.inner_join(tiers, every.metric_date >= tiers.held_from)
    grid = grid.union(of_tiers.select(*grid.columns))
    rows = grid.left_join(counted, ["metric_date", *ma.SEGMENT])
    return rows.select("metric_date", *ma.SEGMENT, **{column: rows[column].fill_null(0)})


@ma.rule(TABLE)
def recomputed_from_raw_events(
    gold_accounts_active_monthly: ir.Table,
    bronze_events: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """The total equals the number of distinct accounts in the raw events after account creation."""
    users = ma.memberships(bronze_users).rename(entity_id="user_id")
    accounts = ma.one_row_per_entity(bronze_accounts, ["account_id", "created_date"])
    users = users.inner_join(accounts, "account_id")
    events = ma.at_day(bronze_events, ma.day_number(bronze_events.event_date), users, "entity_id")
    events = events.filter(events.event_date >= events.created_date)
    return active_entities_differ(
        TABLE, gold_accounts_active_monthly, events, "account_id", days=DAYS, window=window
    )


segments_add_up = segments_add_up_in(TABLE)
