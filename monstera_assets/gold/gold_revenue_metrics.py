"""gold_revenue_metrics: monthly recurring revenue, its movements and its retention."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.lifecycle.billing import Phase, billing_intervals
from monstera_assets.lifecycle.intervals import FOREVER, overlay

RETENTION_DAYS = 30


def _money(name: str, definition: str, formula: str, **details: Any) -> ma.Metric:
    details = {"short_name": f"{name} MRR", **details}
    return ma.Metric(f"Revenue {name} Daily", definition, formula, **details)


def _moved(name: str, definition: str, formula: str, **details: Any) -> ma.Metric:
    return _money(name, definition, formula, additivity=ma.Additivity.ADDITIVE, **details)


def _lost(name: str, definition: str, formula: str, caveats: str = "") -> ma.Metric:
    caveats = f"Lost revenue is negative so that the movements add up.{caveats}"
    return _moved(name, definition, formula, caveats=caveats, is_loss=True)


REVENUE_OPENING = _money(
    "Opening",
    "Monthly recurring revenue at the end of the previous day.",
    "sum(monthly_recurring_revenue) on the previous day",
    additivity=ma.Additivity.OPENING,
)
REVENUE_CLOSING = _money(
    "Closing",
    "Monthly recurring revenue (MRR) at the end of the day.",
    "sum(monthly_recurring_revenue) over paying accounts",
    short_name="MRR",
)
REVENUE_ANNUALIZED = _money(
    "Annualized",
    "Annual recurring revenue (ARR): 12 times the monthly recurring revenue at the end of the day.",
    "12 x revenue_closing_daily",
    unit=ma.Unit.YEARLY_MONEY,
    short_name="ARR",
)
MOVEMENTS = {
    "new": _moved(
        "New",
        "Revenue from accounts that pay for the first time.",
        "sum(now) where paid now and never before",
    ),
    "expansion": _moved(
        "Expansion",
        "Revenue increase since the previous day from accounts that paid on both days.",
        "sum(now - then) where paid on both days and now > then",
    ),
    "contraction": _lost(
        "Contraction",
        "Revenue decrease since the previous day from accounts that paid on both days, as a negative"
        " amount.",
        "sum(now - then) where paid on both days and now < then",
    ),
    "churned": _lost(
        "Churned",
        "Revenue lost from accounts whose subscription lapsed, on their first lapsed day, as a negative"
        " amount.",
        "sum(- then) where paid then and not now",
        " Revenue churns on the day a subscription lapses, but the account's state"
        " changes only after churn_days.",
    ),
    "reactivated": _moved(
        "Reactivated",
        "Revenue from accounts that paid earlier but not on the previous day, even after a short gap.",
        "sum(now) where paid now, not then, and earlier",
    ),
}
"""Revenue movements by type: day-over-day differences in an account's revenue."""
ACCOUNTS_PAYING = ma.Metric(
    "Accounts Paying Daily",
    "Accounts with a paid subscription, at any revenue, at the end of the day.",
    "count(account_id) where is_paid",
)
_RETAINED = "for accounts that paid 30 days earlier; null if there are no such accounts"
_POPULATION = "revenue 30 days earlier of the accounts that paid then"
REVENUE_RETAINED_NET = ma.Metric(
    "Revenue Retained Net Monthly",
    f"Revenue on the date / revenue 30 days earlier, {_RETAINED}.",
    "sum(now) / sum(then)",
    ma.Unit.RETENTION,
    short_name="NRR",
    population=_POPULATION,
    caveats="Neither sum includes accounts that did not pay 30 days earlier. Expansion can raise"
    " the share above 100%.",
)
REVENUE_RETAINED_GROSS = ma.Metric(
    "Revenue Retained Gross Monthly",
    f"Revenue on the date excluding expansion / revenue 30 days earlier, {_RETAINED}.",
    "sum(least(now, then)) / sum(then)",
    ma.Unit.SHARE,
    short_name="GRR",
    population=_POPULATION,
)

HEADLINES = (REVENUE_CLOSING, REVENUE_RETAINED_NET, REVENUE_RETAINED_GROSS)

TABLE = ma.metric_table(
    "gold_revenue_metrics",
    group=ma.AssetGroup.REVENUE,
    grain="one date",
    description="How did monthly recurring revenue change on each date, and how much revenue was"
    " retained? The figures come from billing facts and do not depend on user activity.",
    dimensions=(ma.METRIC_DATE,),
    metrics=(
        REVENUE_OPENING,
        *MOVEMENTS.values(),
        *(
            REVENUE_CLOSING,
            REVENUE_ANNUALIZED,
            ACCOUNTS_PAYING,
            REVENUE_RETAINED_NET,
            REVENUE_RETAINED_GROSS,
        ),
    ),
)


@ma.table_asset(TABLE, previews=[ma.weekly_trend("MRR over 26 weeks", REVENUE_CLOSING)])
def gold_revenue_metrics(
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Sum the changes in revenue and retained revenue by date."""
    contracts = billing_intervals(bronze_accounts, bronze_subscription_events, policy)
    revenue = ma.materialized(
        contracts.select("account_id", "valid_from", "valid_to", "phase", "revenue")
    )
    changes = _changes(revenue, window)
    every = ma.dates(window)
    levels = ma.running_totals(changes, every, values=("closing", "paying"))
    levels = levels.inner_join(
        ma.totals_of_day(changes, every, values=tuple(MOVEMENTS)), "metric_date"
    )
    retained = ma.running_totals(_retained(revenue, window), every, values=("now", "then", "kept"))
    levels = levels.inner_join(retained, "metric_date")
    moves = {metric.column_name: levels[kind] for kind, metric in MOVEMENTS.items()}
    moved = sum(moves.values(), ibis.literal(0, "int64"))
    return levels.select(
        "metric_date",
        **moves,
        **{
            REVENUE_OPENING.column_name: levels.closing - moved,
            REVENUE_CLOSING.column_name: levels.closing,
            REVENUE_ANNUALIZED.column_name: 12 * levels.closing,
            ACCOUNTS_PAYING.column_name: levels.paying,
            REVENUE_RETAINED_NET.column_name: ma.ratio(levels.now, levels.then),
            REVENUE_RETAINED_GROSS.column_name: ma.ratio(levels.kept, levels.then),
        },
    )


def movements_of(revenue: ir.Table) -> ir.Table:
    """Add `change`, `pays`, `paid` (on the previous day) and the movements to intervals of revenue.

    The values are those of each interval's first day. `revenue` has `account_id`, `valid_from`, `phase`
    and `revenue`.
    """
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    changes = revenue.mutate(
        then=revenue.revenue.lag().over(by_account).fill_null(0),
        # An account that does not exist yet has never paid.
        phase_then=revenue.phase.lag().over(by_account).fill_null(str(Phase.NEVER_PAID)),
    )
    change = changes.revenue - changes.then
    pays, paid = (phase == str(Phase.PAID) for phase in (changes.phase, changes.phase_then))
    kinds = {
        "new": pays & (changes.phase_then == str(Phase.NEVER_PAID)),
        "expansion": pays & paid & (change > 0),
        "contraction": pays & paid & (change < 0),
        "churned": paid & ~pays,
        "reactivated": pays & (changes.phase_then == str(Phase.LAPSED)),
    }
    return changes.mutate(
        change=change,
        pays=pays,
        paid=paid,
        **{
            kind: ibis.ifelse(applies, change, 0).cast(change.type())
            for kind, applies in kinds.items()
        },
    )


def _changes(revenue: ir.Table, window: ma.Window) -> ir.Table:
    """Return the daily changes in revenue and paying accounts, and the movements within the window."""
    changes = movements_of(revenue)
    in_window = changes.valid_from >= ma.first_day(window)
    dated = changes.select(
        day=changes.valid_from,
        closing=changes.change,
        paying=changes.pays.cast("int64") - changes.paid.cast("int64"),
        **{
            kind: ibis.ifelse(in_window, changes[kind], 0).cast(changes[kind].type())
            for kind in MOVEMENTS
        },
    )
    return _by_day(ma.from_first_day(dated, window))


def _retained(revenue: ir.Table, window: ma.Window) -> ir.Table:
    """Return changes in `now`, `then` and `kept` revenue for accounts that paid 30 days earlier."""
    shifted = revenue.select(
        "account_id",
        valid_from=revenue.valid_from + RETENTION_DAYS,
        valid_to=revenue.valid_to + RETENTION_DAYS,
        then=revenue.revenue,
        phase_then="phase",
    )
    both = overlay(revenue, shifted, keys=["account_id"], columns=["then", "phase_then"])
    both = both.filter(both.phase_then == str(Phase.PAID), both.valid_to >= ma.first_day(window))
    values = {"now": both.revenue, "then": both.then, "kept": ibis.least(both.revenue, both.then)}
    begins = both.select(day=both.valid_from, **values)
    ceases = both.filter(both.valid_to < FOREVER).select(
        day=both.valid_to + 1, **{name: -value for name, value in values.items()}
    )
    return _by_day(ma.from_first_day(begins.union(ceases.select(*begins.columns)), window))


def _by_day(changes: ir.Table) -> ir.Table:
    values = [name for name in changes.columns if name != "day"]
    return changes.group_by("day").aggregate(**ma.sums(changes, *values))


@ma.rule(TABLE)
def movements_add_up(gold_revenue_metrics: ir.Table, *, window: ma.Window) -> ir.Table:
    """Opening revenue plus movements equals closing revenue and the next day's opening revenue."""
    rows = gold_revenue_metrics
    before = rows.select(
        metric_date=ma.day_date(ma.day_number(rows.metric_date) + 1),
        closed=rows[REVENUE_CLOSING.column_name],
    )
    rows = ma.within(rows, "metric_date", window)
    both = ma.left_joined(rows, before, on=["metric_date"])
    moved = sum(
        (both[metric.column_name] for metric in MOVEMENTS.values()), ibis.literal(0, "int64")
    )
    opening, closing = both[REVENUE_OPENING.column_name], both[REVENUE_CLOSING.column_name]
    return both.filter((opening + moved != closing) | (both.closed != opening).fill_null(False))


@ma.rule(TABLE)
def agrees_with_account_history(
    gold_revenue_metrics: ir.Table, silver_account_state_history: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Closing revenue and the number of paying accounts agree with silver_account_state_history."""
    history = ma.within(silver_account_state_history, "snapshot_date", window)
    added_up = history.group_by(metric_date="snapshot_date").aggregate(
        revenue=history.monthly_recurring_revenue.sum(),
        paying=history.count(where=history.is_paid),
    )
    rows = ma.within(gold_revenue_metrics, "metric_date", window)
    both = ma.left_joined(rows, added_up, on=["metric_date"])
    return both.filter(
        (both[REVENUE_CLOSING.column_name] != both.revenue.fill_null(0))
        | (both[ACCOUNTS_PAYING.column_name] != both.paying.fill_null(0))
    ).select(
        "metric_date", REVENUE_CLOSING.column_name, ACCOUNTS_PAYING.column_name, "revenue", "paying"
    )


@ma.rule(TABLE)
def retention_is_in_bounds(gold_revenue_metrics: ir.Table, *, window: ma.Window) -> ir.Table:
    """Retention is never negative, and gross retention exceeds neither 1 nor net retention."""
    rows = ma.within(gold_revenue_metrics, "metric_date", window)
    net, gross = ma.metric_columns(rows, REVENUE_RETAINED_NET, REVENUE_RETAINED_GROSS)
    impossible = (gross > 1) | (gross > net) | (gross < 0)
    return rows.filter(impossible.fill_null(False) | (net.isnull() != gross.isnull()))
