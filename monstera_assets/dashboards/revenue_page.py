"""The revenue page: MRR and what changed it. The list of accounts that need attention is shared."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_revenue_by_tier as by_tier
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.warehouse.errors import MissingTableError

_COLORS = {
    "New": "rising",
    "Reactivated": "state-reactivated",
    "Expansion": "state-expanding",
    "Contraction": "state-contracting",
    "Churned": "declining",
}
_MOVED = [revenue.MOVEMENTS[kind.lower()] for kind in _COLORS]
_SUMS = ", ".join(f"sum({metric.column_name})" for metric in _MOVED)
_OPENING, _CLOSING = (
    metric.column_name for metric in (revenue.REVENUE_OPENING, revenue.REVENUE_CLOSING)
)


def revenue_page(reader: ma.Reader) -> ma.Page:
    """Create the revenue page."""
    daily = reader.daily(revenue.TABLE)
    net, gross = revenue.REVENUE_RETAINED_NET, revenue.REVENUE_RETAINED_GROSS
    tiles = ma.tiles(
        *(daily, revenue.REVENUE_CLOSING, revenue.REVENUE_ANNUALIZED, net, gross),
        revenue.ACCOUNTS_PAYING,
    )
    retained, what = {net: "Net", gross: "Gross"}, "Retained Net and Gross Monthly"
    level = [
        ma.trend("MRR", daily, {revenue.REVENUE_CLOSING: "MRR"}, wide=True),
        _tiers(reader),
        ma.trend("Retained revenue", daily, retained, what=what, most=2),
        ma.trend("Paying accounts", daily, {revenue.ACCOUNTS_PAYING: "Paying"}),
    ]
    return ma.Page(
        "revenue.html",
        "Revenue",
        "Monthly recurring revenue (MRR), what it gained and lost, and how much of it is at risk.",
        [*tiles, *at_risk(reader)],
        [
            ma.Section("Changes", [_waterfall(reader), _movements(reader)]),
            ma.Section("Level", level),
        ],
        below=[ma.Link("Accounts needing attention", "accounts.html")],
        below_heading="MRR at risk",
    )


@ma.item("MRR in one month", "Revenue, Opening to Closing, Last 18 Months, by Movement")
def _waterfall(reader: ma.Reader) -> ma.Item:
    months = {
        _month(*days): values
        for *days, values in reader.rows(
            "SELECT CAST(date_trunc('month', metric_date) AS DATE) AS month, min(metric_date),"
            f" max(metric_date), [arg_min({_OPENING}, metric_date), {_SUMS},"
            f" arg_max({_CLOSING}, metric_date)] FROM gold_revenue_metrics WHERE {ma.DAYS_SQL}"
            " GROUP BY month ORDER BY month"
        )
    }
    ma.require_any([revenue.REVENUE_CLOSING], [months])
    steps = ("Opening", *_COLORS, "Closing")
    rows = [
        (name, step, value)
        for name, values in months.items()
        for step, value in zip(steps, values, strict=True)
    ]
    (name, (opening, *moved, closing)), money = [*months.items()][-1], reader.wording.money
    by = reader.wording.difference(revenue.REVENUE_CLOSING, opening, closing, "")
    change = ", ".join(filter(None, (f"{'+' * (closing > opening)}{money(closing - opening)}", by)))
    finding = f"{name}: MRR went from {money(opening)} to {money(closing)} ({change})."
    kind, largest = max(zip(_COLORS, moved, strict=True), key=lambda one: abs(one[1]))
    if largest:
        finding += f" The largest movement was {kind.lower()} ({money(largest)})."
    fields = (
        ma.choice("month", "Month", [*reversed(months)]),
        *ma.fields("step/Movement", f"amount/{reader.wording.currency}/,.2f"),
    )
    metrics = (revenue.REVENUE_OPENING, *_MOVED, revenue.REVENUE_CLOSING)
    chart = ma.Chart("waterfall", fields, rows, _COLORS, 280)
    return ma.Figure(finding, chart, ma.about(revenue.TABLE, *metrics), wide=True)


@ma.item("MRR won and lost", "Revenue, Won and Lost, Last 18 Months, by Movement")
def _movements(reader: ma.Reader) -> ma.Item:
    grains = {
        "Month": "CAST(date_trunc('month', metric_date) AS DATE)",
        "Week": ma.WEEK_SQL,
        "Day": "metric_date",
    }
    found = reader.rows(
        " UNION ALL ".join(
            f"(SELECT '{name}' AS grain, {day} AS day, {_SUMS} FROM gold_revenue_metrics"
            f" WHERE {ma.DAYS_SQL} GROUP BY ALL ORDER BY day)"
            for name, day in grains.items()
        )
    )
    known = any(value for row in found for value in row[2:])
    ma.require(known, "Revenue did not change in this period.")
    rows = [
        (grain, day, kind, value)
        for grain, day, *values in found
        for kind, value in zip(_COLORS, values, strict=True)
    ]
    amounts = [row[3] for row in rows if row[0] == "Day"]
    won, lost = sum(one for one in amounts if one > 0), sum(one for one in amounts if one < 0)
    money, amount = reader.wording.money, ma.Field("amount", reader.wording.currency, ",.2f")
    fields = (ma.choice("grain", "Grain", [*grains]), ma.ON_DAY, ma.SERIES, amount)
    return ma.Figure(
        f"From {ma.day_text(reader.first)} to {ma.day_text(reader.last)}, {money(won)} was won and"
        f" {money(-lost)} was lost.",
        ma.Chart("columns", fields, rows, _COLORS, 280),
        ma.about(revenue.TABLE, *_MOVED),
        wide=True,
    )


@ma.item("MRR by tier", "Revenue, Closing Daily, Last 18 Months, by Tier")
def _tiers(reader: ma.Reader) -> ma.Item:
    rows = reader.rows(
        f"SELECT metric_date, account_tier, {_CLOSING} FROM gold_revenue_by_tier"
        f" WHERE {ma.WEEKLY_SQL} ORDER BY ALL"
    )
    amount = ma.metric_field(revenue.REVENUE_CLOSING, reader.wording.currency)
    ma.require(rows, f"There are no {amount.title.lower()} to show.")
    # Tiers whose names would read the same, such as starter and Starter, are shown as they are.
    texts = [ma.words(tier) for tier in {tier for _, tier, _ in rows}]
    shown = [ma.words(tier) if texts.count(ma.words(tier)) == 1 else tier for _, tier, _ in rows]
    rows = [(day, text, mrr) for (day, _, mrr), text in zip(rows, shown, strict=True)]
    latest = [(tier, mrr) for day, tier, mrr in rows if day == reader.last]
    names = [tier for tier, _ in sorted(latest, key=lambda one: (-one[1], one[0]))]
    names += sorted({tier for _, tier, _ in rows} - {*names})
    return ma.Figure(
        ma.ranking("MRR", latest, when=f"on {ma.day_text(reader.last)}", text=reader.wording.money),
        ma.Chart("areas", (ma.ON_DAY, ma.SERIES, amount), rows, ma.line_colors(names), 260),
        ma.about(by_tier.TABLE, revenue.REVENUE_CLOSING),
    )


@ma.item("Accounts needing attention", "Accounts, Needing Attention, Latest Day, by Account")
def needing_attention(reader: ma.Reader, most: int, page: str = "") -> ma.Item:
    """List the accounts that need attention, highest revenue first. `page` lists all of them."""
    count, total, nearest, risks = _attention(reader)
    ma.require(count, "No accounts need attention.")
    fields = ma.fields(
        *("account_id/Account", "why/Why"),
        f"monthly_recurring_revenue/MRR ({reader.wording.currency})/,.2f",
        *(["churn_probability/Churn risk/.0%"] if risks > 1 else []),
        "days_to_renewal/Renewal in days/,d/not set",
        *(
            "health_score/Health/,.0f",
            "health_change_30/in 30 days/+,.0f",
            "active_seats/Active/,d",
        ),
        *("total_seats/of seats/,d", "state_since/State since/day"),
    )
    columns = [one.name for one in fields]
    rows = reader.rows(
        f"SELECT {', '.join(columns)} FROM gold_accounts_needing_attention"
        f" ORDER BY attention_rank LIMIT {most}"
    )
    renewal = "" if nearest is None else f" The first one renews in {ma.plural(nearest, 'day')}."
    needs = "account needs" if count == 1 else "accounts need"
    return ma.Listing(
        f"{count:,} {needs} attention, with {reader.wording.money(total)} of MRR at risk.{renewal}",
        fields,
        rows,
        ma.about(attention.TABLE, *columns[1:]),
        {"account_id": reader.accounts},
        f"The table shows the {most} accounts with the highest revenue out of {count:,}."
        if count > most
        else "",
        more=ma.Link(f"All {ma.plural(count, 'account')}", page) if page else None,
    )


def at_risk(reader: ma.Reader) -> list[ma.Tile]:
    """Return the tile with the MRR of the accounts that need attention, if they are known."""
    try:
        count, total, *_ = _attention(reader)
    except MissingTableError:
        return []
    described = ma.Definition(
        "MRR at Risk",
        "Monthly recurring revenue of the accounts that need attention: those that are at risk,"
        " contracting or frozen, or have a high churn risk.",
        f"sum(monthly_recurring_revenue) over {attention.TABLE.name}",
        "The last revenue of lapsed accounts has churned already, so it is not included.",
    )
    money, source = reader.wording.money(total), attention.TABLE.qualified_name
    note = ma.plural(count, "account")
    return [ma.Tile(described.name, money, described, source, note=note)]


def _attention(reader: ma.Reader) -> tuple[Any, ...]:
    """Return the number, revenue, days to a renewal and different risks of these accounts."""
    [found] = reader.rows(
        "SELECT count(*), coalesce(sum(monthly_recurring_revenue), 0), min(days_to_renewal)"
        " FILTER (days_to_renewal >= 0), count(DISTINCT churn_probability)"
        " FROM gold_accounts_needing_attention"
    )
    return found


def _month(month: date, first: date, last: date) -> str:
    """Return a month for display, with its first and last shown days if the month is incomplete."""
    begins = "" if first == month else f", from {first.day} {first:%b}"
    ends = "" if (last + timedelta(days=1)).day == 1 else f", through {last.day} {last:%b}"
    return f"{month:%b %Y}{begins}{ends}"
