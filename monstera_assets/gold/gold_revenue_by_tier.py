"""gold_revenue_by_tier: monthly recurring revenue and its movements by account tier."""

from __future__ import annotations

from collections.abc import Callable

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.gold_revenue_metrics import (
    MOVEMENTS,
    REVENUE_CLOSING,
    REVENUE_OPENING,
    movements_of,
)
from monstera_assets.lifecycle.billing import billing_intervals
from monstera_assets.lifecycle.intervals import FOREVER

_TIER = ma.Column("account_tier", "string", "Account tier at the end of the date.")
_METRICS = (REVENUE_OPENING, *MOVEMENTS.values(), REVENUE_CLOSING)
_KEY = ("metric_date", _TIER.name)

TABLE = ma.metric_table(
    "gold_revenue_by_tier",
    group=ma.AssetGroup.REVENUE,
    grain="one date and account tier, including tiers without accounts",
    description="How did monthly recurring revenue change on each date in each account tier? Opening"
    " revenue and movements count under the account's tier at the end of the date, and churned revenue"
    " under the last tier. If an account changes its tier, its revenue is therefore in the new tier's"
    " opening revenue. A tier has rows from the first date on which an account has that tier.",
    dimensions=(ma.METRIC_DATE, _TIER),
    metrics=_METRICS,
    slices=[ma.Slice("by_account_tier")],
)


@ma.table_asset(TABLE)
def gold_revenue_by_tier(
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Sum revenue and its movements by date and tier."""
    contracts = billing_intervals(bronze_accounts, bronze_subscription_events, policy)
    revenue = ma.materialized(
        contracts.select(
            *("account_id", "valid_from", "valid_to", "phase", "revenue"),
            account_tier=contracts.tier,
        )
    )
    tiers = revenue.group_by(_TIER.name).aggregate(held_from=revenue.valid_from.min())
    every = ma.dates(window)
    grid = every.inner_join(tiers, ma.day_number(every.metric_date) >= tiers.held_from)
    grid = ma.materialized(grid.select(*_KEY))
    begins = revenue.select(_TIER.name, day="valid_from", closing="revenue")
    ceases = revenue.filter(revenue.valid_to < FOREVER).select(
        _TIER.name, day=revenue.valid_to + 1, closing=-revenue.revenue
    )
    changes = ma.from_first_day(begins.union(ceases.select(*begins.columns)), window)
    changes = changes.group_by(_TIER.name, "day").aggregate(**ma.sums(changes, "closing"))
    levels = ma.running_totals(changes, grid, keys=[_TIER.name], values=("closing",))
    movements = movements_of(revenue)
    movements = movements.filter(movements.valid_from >= ma.first_day(window))
    movements = movements.group_by(_TIER.name, day=movements.valid_from).aggregate(
        **ma.sums(movements, *MOVEMENTS)
    )
    moved = ma.totals_of_day(movements, grid, keys=[_TIER.name], values=tuple(MOVEMENTS))
    rows = levels.inner_join(moved, _KEY)
    moves = {metric.column_name: rows[kind] for kind, metric in MOVEMENTS.items()}
    return rows.select(
        *_KEY,
        **moves,
        **{
            REVENUE_OPENING.column_name: rows.closing - sum(moves.values(), ibis.literal(0)),
            REVENUE_CLOSING.column_name: rows.closing,
        },
    )


@ma.rule(TABLE)
def movements_agree_with_account_history(
    gold_revenue_by_tier: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    window: ma.Window,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Opening and closing revenue agree with silver_account_state_history, and movements add up.

    Opening revenue is not compared if the previous day is missing from the history or out of date.
    """
    history = silver_account_state_history
    before = history.select(
        "account_id",
        snapshot_date=ma.day_date(ma.day_number(history.snapshot_date) + 1),
        revenue_before=history.monthly_recurring_revenue,
    )
    before = ma.within(before, "snapshot_date", window)
    stale = out_of_date("silver_account_state_history")
    stale = stale.select(snapshot_date=ma.day_date(ma.day_number(stale.day) + 1))
    before = before.anti_join(stale, "snapshot_date")
    has_day_before = before.select("snapshot_date").distinct()
    days = ma.left_joined(
        ma.within(history, "snapshot_date", window), before, on=["account_id", "snapshot_date"]
    )
    totals = days.group_by(metric_date="snapshot_date", account_tier="subscription_tier").aggregate(
        opening=days.revenue_before.sum(), closing=days.monthly_recurring_revenue.sum()
    )
    rows = ma.within(gold_revenue_by_tier, "metric_date", window)
    both = ma.left_joined(
        rows,
        totals,
        on=_KEY,
    )
    both = ma.left_joined(
        both,
        has_day_before.select(metric_date="snapshot_date", is_compared=ibis.literal(value=True)),
        on=["metric_date"],
    )
    opening, closing = ma.metric_columns(both, REVENUE_OPENING, REVENUE_CLOSING)
    moved = sum(
        (both[metric.column_name] for metric in MOVEMENTS.values()), ibis.literal(0, "int64")
    )
    return both.filter(
        (closing != both.closing.fill_null(0))
        | ((opening != both.opening.fill_null(0)) & both.is_compared.fill_null(False))
        | (opening + moved != closing)
    )


@ma.rule(TABLE)
def tiers_add_up(
    gold_revenue_by_tier: ir.Table, gold_revenue_metrics: ir.Table, *, window: ma.Window
) -> ir.Table:
    """For each date, the sums over the tiers equal the figures in gold_revenue_metrics."""
    rows = ma.within(gold_revenue_by_tier, "metric_date", window)
    names = [metric.column_name for metric in _METRICS]
    sums = rows.group_by("metric_date").aggregate(
        **{f"sum_{name}": rows[name].sum() for name in names}
    )
    totals = ma.within(gold_revenue_metrics, "metric_date", window).select("metric_date", *names)
    both = ma.left_joined(totals, sums, on=["metric_date"])
    return both.filter(
        ibis.or_(*(both[name] != both[f"sum_{name}"].fill_null(0) for name in names))
    )
