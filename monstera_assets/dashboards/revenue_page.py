"""The revenue page: MRR, what changed it, and the accounts whose revenue is at stake."""

from __future__ import annotations

from datetime import date
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_revenue_by_tier as by_tier
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.warehouse.errors import MissingTableError

_PERIOD = ma.LAST_18_MONTHS
_KINDS = {
    "New": ("new", "rising"),
    "Reactivated": ("reactivated", "state-reactivated"),
    "Expansion": ("expansion", "state-expanding"),
    "Contraction": ("contraction", "state-contracting"),
    "Churned": ("churned", "declining"),
}
_MOVED = {label: revenue.MOVEMENTS[kind] for label, (kind, _) in _KINDS.items()}
_LISTED = 200


def revenue_page(reader: ma.Reader) -> ma.Page:
    """Create the revenue page."""
    daily = reader.daily(revenue.TABLE)
    tiles = (
        *(revenue.REVENUE_CLOSING, revenue.REVENUE_ANNUALIZED, revenue.REVENUE_RETAINED_NET),
        *(revenue.REVENUE_RETAINED_GROSS, revenue.ACCOUNTS_PAYING),
    )
    retained = {revenue.REVENUE_RETAINED_NET: "Net", revenue.REVENUE_RETAINED_GROSS: "Gross"}
    return ma.Page(
        file=ma.REVENUE,
        title="Revenue",
        lead="Monthly recurring revenue (MRR), what it gained and lost, and the accounts at risk.",
        up=(ma.HOME_LINK,),
        tiles=(*ma.tiles(daily, tiles), *at_risk(reader)),
        sections=(
            ma.section("Changes", [waterfall(reader), movements(reader)]),
            ma.section(
                "Level",
                [
                    ma.trend("MRR", daily, {revenue.REVENUE_CLOSING: "MRR"}, _PERIOD, wide=True),
                    ma.trend("ARR", daily, {revenue.REVENUE_ANNUALIZED: "ARR"}, _PERIOD),
                    tiers(reader),
                    ma.trend(
                        "Retained revenue",
                        daily,
                        retained,
                        _PERIOD,
                        what="Retained Net and Gross Monthly",
                        most=2,
                    ),
                    ma.trend(
                        "Paying accounts", daily, {revenue.ACCOUNTS_PAYING: "Paying"}, _PERIOD
                    ),
                ],
            ),
            ma.section("Needing attention", [needing_attention(reader, _LISTED)]),
        ),
    )


@ma.item(ma.head("MRR in one month", "Revenue", "Opening to Closing", _PERIOD.name, by="Movement"))
def waterfall(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Draw how a month's movements lead from the opening to the closing MRR."""
    months = _months(reader)
    if not months:
        return ma.Unavailable(*heading, ma.nothing_known([revenue.REVENUE_CLOSING]))
    month, step = ma.Field("month", "Month"), ma.Field("step", "Movement")
    amount = ma.Field("amount", reader.wording.currency, ",.2f")
    rows = [
        (name, label, value)
        for name, opening, moved, closing in months
        for label, value in [
            ("Opening", opening),
            *zip(_MOVED, moved, strict=True),
            ("Closing", closing),
        ]
    ]
    chart = ma.Chart(
        (month, step, amount),
        rows,
        ma.charts.waterfall(step, amount, ("Opening", "Closing")),
        choices=(ma.Choice.of(month, [name for name, *_ in reversed(months)]),),
        height=280,
    )
    name, opening, moved, closing = months[-1]
    money = reader.wording.money
    largest = max(zip(_MOVED, moved, strict=True), key=lambda one: abs(one[1]))
    finding = f"{name}: MRR went from {money(opening)} to {money(closing)}."
    if largest[1]:
        finding += f" The largest movement was {largest[0].lower()} ({money(largest[1])})."
    described = ma.about(
        (revenue.REVENUE_OPENING, *_MOVED.values(), revenue.REVENUE_CLOSING), revenue.TABLE
    )
    return ma.Figure(*heading, finding, chart, described, wide=True)


@ma.item(ma.head("MRR won and lost", "Revenue", "Won and Lost", _PERIOD.name, by="Movement"))
def movements(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart MRR movements by month, week and day, losses below zero."""
    frame = reader.frame(_PERIOD)
    grains = {"Month": "month", "Week": "week", "Day": "day"}
    sums = ", ".join(f"sum({metric.column_name})" for metric in _MOVED.values())
    # Weeks end on the weekday of the as-of date, as on all pages.
    start = {
        "month": "CAST(date_trunc('month', metric_date) AS DATE)",
        "week": f"metric_date + CAST(($last - metric_date) % {ma.WEEK} AS INTEGER)",
        "day": "metric_date",
    }
    found = reader.rows(
        [revenue.TABLE],
        " UNION ALL ".join(
            f"(SELECT '{name}' AS grain, {start[unit]} AS day, {sums}"
            f" FROM {revenue.TABLE.qualified_name} WHERE metric_date BETWEEN $first AND $last"
            " GROUP BY ALL ORDER BY day)"
            for name, unit in grains.items()
        ),
        {"first": frame.first, "last": frame.last},
    )
    if not any(value for row in found for value in row[2:]):
        return ma.Unavailable(*heading, "Revenue did not change in this period.")
    grain = ma.Field("grain", "Grain")
    amount = ma.Field("amount", reader.wording.currency, ",.2f")
    colors = {label: color for label, (_, color) in _KINDS.items()}
    rows = [
        (name, day, label, value)
        for name, day, *values in found
        for label, value in zip(_MOVED, values, strict=True)
    ]
    chart = ma.Chart(
        (grain, ma.ON_DAY, ma.SERIES, amount),
        rows,
        ma.charts.columns(ma.ON_DAY, amount, colors),
        day=ma.ON_DAY.name,
        series=ma.SERIES.name,
        colors=colors,
        choices=(ma.Choice.of(grain, grains),),
        height=280,
    )
    won = sum(row[3] for row in rows if row[0] == "Day" and row[3] > 0)
    lost = sum(row[3] for row in rows if row[0] == "Day" and row[3] < 0)
    money = reader.wording.money
    finding = (
        f"From {ma.day_text(frame.first)} to {ma.day_text(frame.last)}, {money(won)} was won and"
        f" {money(-lost)} was lost."
    )
    return ma.Figure(*heading, finding, chart, ma.about(_MOVED.values(), revenue.TABLE), wide=True)


@ma.item(ma.head("MRR by tier", "Revenue", "Closing Daily", _PERIOD.name, by="Tier"))
def tiers(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Draw MRR by tier on the last day of each week."""
    frame = reader.frame(_PERIOD)
    closing = revenue.REVENUE_CLOSING.column_name
    rows = reader.rows(
        [by_tier.TABLE],
        f"SELECT metric_date, account_tier, {closing} FROM {by_tier.TABLE.qualified_name}"
        f" WHERE metric_date BETWEEN ? AND ? AND (? - metric_date) % {ma.WEEK} = 0 ORDER BY ALL",
        [frame.first, frame.last, frame.last],
    )
    amount = ma.metric_field(revenue.REVENUE_CLOSING, reader.wording.currency)
    latest = [
        (tier, float(mrr), reader.wording.money(mrr))
        for day, tier, mrr in rows
        if day == frame.last
    ]
    names = [tier for tier, _, _ in sorted(latest, key=lambda one: (-one[1], one[0]))]
    names += sorted({tier for _, tier, _ in rows} - {*names})
    finding = ma.ranking("MRR", latest, when=f"on {ma.day_text(frame.last)}")
    described = ma.about([revenue.REVENUE_CLOSING], by_tier.TABLE)
    colors = ma.line_colors(names)
    return ma.stacked_areas(
        heading, rows, amount, names, finding, described, colors=colors, wide=False
    )


@ma.item(
    ma.head(
        "Accounts needing attention",
        "Accounts",
        "Needing Attention",
        ma.LATEST_DAY.name,
        by="Account",
    )
)
def needing_attention(heading: ma.Head, reader: ma.Reader, most: int) -> ma.Item:
    """List the accounts that need attention, highest revenue first."""
    count, total, nearest = _attention(reader)
    if not count:
        return ma.Unavailable(*heading, "No accounts need attention.")
    money = reader.wording.currency
    fields = {
        "account_id": ma.Field("account_id", "Account"),
        "why": ma.Field("why", "Why"),
        "monthly_recurring_revenue": ma.Field("mrr", f"MRR ({money})", ",.2f"),
        "churn_probability": ma.Field("risk", "Churn risk", ".0%"),
        "days_to_renewal": ma.Field("renewal", "Renewal in days", ",d", "not set"),
        "health_score": ma.Field("health", "Health", ",.0f"),
        "health_change_30": ma.Field("change", "in 30 days", "+,.0f"),
        "active_seats": ma.Field("active", "Active", ",d"),
        "total_seats": ma.Field("seats", "of seats", ",d"),
        "state_since": ma.Field("since", "State since", ma.DAY),
    }
    rows = reader.rows(
        [attention.TABLE],
        f"SELECT {', '.join(fields)} FROM {attention.TABLE.qualified_name}"
        " ORDER BY attention_rank LIMIT ?",
        [most],
    )
    renewal = "" if nearest is None else f" The next renewal is in {ma.plural(nearest, 'day')}."
    needs = "account needs" if count == 1 else "accounts need"
    return ma.Listing(
        *heading,
        f"{count:,} {needs} attention, with {reader.wording.money(total)} of MRR at risk.{renewal}",
        ma.table(
            [*fields.values()],
            (
                [
                    ma.cell(row[0], fields["account_id"], reader.accounts.get(row[0], "")),
                    *(
                        ma.cell(value, one)
                        for value, one in zip(row[1:], [*fields.values()][1:], strict=True)
                    ),
                ]
                for row in rows
            ),
        ),
        ma.about_columns(attention.TABLE, [*fields][1:]),
        searchable=True,
        footnote=f"The table shows the {most} accounts with the highest revenue out of {count:,}."
        if count > most
        else "",
    )


def at_risk(reader: ma.Reader) -> tuple[ma.Tile, ...]:
    """Return the tile with the MRR of the accounts that need attention, if they are known."""
    try:
        count, total, _ = _attention(reader)
    except MissingTableError:
        return ()
    described = ma.Definition(
        "MRR at Risk",
        "Monthly recurring revenue of the accounts that need attention: those that are at risk,"
        " contracting or frozen, or have a high churn risk.",
        f"sum(monthly_recurring_revenue) over {attention.TABLE.name}",
        "The last revenue of lapsed accounts has churned already, so it is not included.",
    )
    money, source = reader.wording.money, attention.TABLE.qualified_name
    return (
        ma.Tile(described.name, money(total), described, source, note=ma.plural(count, "account")),
    )


def _attention(reader: ma.Reader) -> tuple[int, Any, int | None]:
    """Return the number of accounts that need attention, their revenue and the days to a renewal."""
    [(count, total, nearest)] = reader.rows(
        [attention.TABLE],
        "SELECT count(*), coalesce(sum(monthly_recurring_revenue), 0),"
        " min(days_to_renewal) FILTER (days_to_renewal >= 0)"
        f" FROM {attention.TABLE.qualified_name}",
    )
    return count, total, nearest


def _months(reader: ma.Reader) -> list[tuple[str, Any, list[Any], Any]]:
    """Return each month's name, opening MRR, movements and closing MRR."""
    frame = reader.frame(_PERIOD)
    sums = ", ".join(f"sum({metric.column_name})" for metric in _MOVED.values())
    rows = reader.rows(
        [revenue.TABLE],
        "SELECT CAST(date_trunc('month', metric_date) AS DATE) AS month, min(metric_date),"
        f" max(metric_date), arg_min({revenue.REVENUE_OPENING.column_name}, metric_date),"
        f" arg_max({revenue.REVENUE_CLOSING.column_name}, metric_date), {sums}"
        f" FROM {revenue.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ?"
        " GROUP BY month ORDER BY month",
        [frame.first, frame.last],
    )
    return [
        (_month(month, first, last), opening, moved, closing)
        for month, first, last, opening, closing, *moved in rows
    ]


def _month(month: date, first: date, last: date) -> str:
    """Return a month for display, with its first and last shown days if the month is incomplete."""
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    begins = "" if first == month else f", from {first.day} {first:%b}"
    ends = "" if (following - last).days == 1 else f", through {last.day} {last:%b}"
    return f"{month:%b %Y}{begins}{ends}"
