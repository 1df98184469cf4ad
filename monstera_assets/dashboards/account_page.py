"""The accounts page: health, risk and revenue."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.platform_pages import retained_revenue, states_now
from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.silver.silver_account_current_state import TABLE as CURRENT
from monstera_assets.warehouse.errors import MissingTableError

_LISTED = 200
_HEALTH = {
    ma.HealthBand.EXCELLENT: "90 or more",
    ma.HealthBand.GOOD: "70 to 90",
    ma.HealthBand.FAIR: "50 to 70",
    ma.HealthBand.POOR: "30 to 50",
    ma.HealthBand.CRITICAL: "below 30",
}
_TILES = (
    *(revenue.REVENUE_CLOSING, overall.ACCOUNTS_ACTIVE, overall.HEALTH),
    *(revenue.REVENUE_RETAINED_NET, revenue.REVENUE_RETAINED_GROSS),
)


def accounts_page(reader: ma.Reader) -> ma.Page:
    """Create the accounts page, which covers 18 months."""
    period, headlines = ma.LAST_18_MONTHS, reader.daily(overall.TABLE)
    daily = reader.daily(revenue.TABLE)
    states = [health(reader), states_now(reader, "Accounts"), states_over_time(reader)]
    money = [
        movements(reader),
        ma.trend(daily, {revenue.REVENUE_CLOSING: "MRR"}, period),
        ma.trend(daily, {revenue.ACCOUNTS_PAYING: "Paying"}, period),
        retained_revenue(daily, period),
        ma.trend(headlines, {overall.HEALTH: "Health"}, period),
    ]
    return ma.Page(
        file=ma.ACCOUNTS,
        title="Accounts",
        lead="Accounts that need attention with their revenue, account health, and changes in monthly"
        " recurring revenue.",
        up=(ma.HOME_LINK,),
        tiles=(*ma.tiles(headlines, _TILES), *_at_risk(reader)),
        sections=(
            ma.section("Needing attention", [needing_attention(reader)]),
            ma.section("Health and states", states),
            ma.section("Revenue", money),
        ),
    )


@ma.item(ma.headline("Accounts", "Health", ma.LATEST_DAY.name, "Band"))
def health(heading: str, reader: ma.Reader) -> ma.Item:
    """Chart accounts by health band."""
    select = f"SELECT health_band, count(*) FROM {CURRENT.qualified_name} GROUP BY ALL"
    found = dict(reader.rows([CURRENT], select))
    bands = [(f"{ma.words(b)}, {score}", found.get(str(b), 0)) for b, score in _HEALTH.items()]
    parts = ("seat_utilization", "product_breadth", "recent_activity", "contract_status")
    described = ma.about_columns(
        CURRENT, ["health_band", "health_score", *(f"{part}_score" for part in parts)]
    )
    return ma.bars(heading, "accounts", bands, described, name="Health", share=True)


@ma.item(ma.headline("Accounts", "Needing Attention", ma.LATEST_DAY.name, "Account"))
def needing_attention(heading: str, reader: ma.Reader) -> ma.Item:
    """List the accounts that need attention, highest revenue first."""
    count, total, nearest = _attention(reader)
    if not count:
        return ma.Unavailable(heading, "No accounts need attention.")
    money = reader.wording.money
    columns = (
        *("account_id", "current_state", "monthly_recurring_revenue", "revenue_before_lapse"),
        *("days_to_renewal", "health_score", "active_seats", "total_seats", "churn_probability"),
        *("state_since", "why"),
    )
    rows = reader.rows(
        [attention.TABLE],
        f"SELECT {', '.join(columns)} FROM {attention.TABLE.qualified_name}"
        " ORDER BY attention_rank LIMIT ?",
        [_LISTED],
    )
    renewal = "" if nearest is None else f" The next renewal is in {ma.plural(nearest, 'day')}."
    needs = "account needs" if count == 1 else "accounts need"
    return ma.Listing(
        title=heading,
        finding=f"{count:,} {needs} attention, with {money(total)} of MRR at risk.{renewal}",
        table=ma.table(
            [
                *("Account", "State", "MRR at risk", "MRR before lapse", "Days to renewal"),
                *("Health", "Active seats", "Total seats", "Churn probability", "Since", "Why"),
            ],
            (
                [
                    ma.Cell(account),
                    ma.Cell(ma.words(state)),
                    ma.Cell(money(mrr), float(mrr)),
                    ma.Cell("not lapsed") if past is None else ma.Cell(money(past), float(past)),
                    ma.Cell("not set" if days is None else f"{days:,}", days),
                    ma.Cell(reader.wording.text(overall.HEALTH, score), score),
                    ma.Cell(f"{used:,}", used),
                    ma.Cell(f"{seats:,}" if seats else "not counted", seats or None),
                    ma.Cell(ma.share_text(churn), churn),
                    ma.Cell(str(since), since.toordinal()),
                    ma.Cell(why),
                ]
                for account, state, mrr, past, days, score, used, seats, churn, since, why in rows
            ),
        ),
        about=ma.about_columns(attention.TABLE, columns[1:]),
        searchable=True,
        footnote=f"The table shows the {_LISTED} accounts with the highest revenue out of {count:,}."
        if count > _LISTED
        else "",
    )


@ma.item(ma.headline("Accounts", "in State Daily", ma.LAST_18_MONTHS.name, "State"))
def states_over_time(heading: str, reader: ma.Reader) -> ma.Item:
    """Plot accounts by state on the last day of each week."""
    metrics = overall.ACCOUNTS_IN_STATE
    frame = reader.frame(ma.LAST_18_MONTHS, ma.WEEK)
    found = reader.daily(overall.TABLE).by_day(metrics.values(), frame)
    values = [(ma.words(state), found[metric]) for state, metric in metrics.items()]
    described = ma.about(metrics.values(), overall.TABLE)
    return ma.small_lines(heading, frame.days, "accounts", values, described)


@ma.item(ma.headline("Revenue", "Won and Lost", ma.LAST_18_MONTHS.name, "Month"))
def movements(heading: str, reader: ma.Reader) -> ma.Item:
    """Chart revenue won and lost per month."""
    metrics = revenue.MOVEMENTS
    frame = reader.frame(ma.LAST_18_MONTHS)
    sums = ", ".join(f"sum({metric.column_name})" for metric in metrics.values())
    rows = reader.rows(
        [revenue.TABLE],
        "SELECT CAST(date_trunc('month', metric_date) AS DATE) AS month,"
        f" min(metric_date), max(metric_date), {sums} FROM {revenue.TABLE.qualified_name}"
        " WHERE metric_date BETWEEN ? AND ? GROUP BY month ORDER BY month",
        [frame.first, frame.last],
    )
    if not any(value for row in rows for value in row[3:]):
        return ma.Unavailable(heading, "Revenue did not change in this period.")
    months = [row[0] for row in rows]
    moved = [dict(zip(metrics, row[3:], strict=True)) for row in rows]
    won = [sum(month[kind] for kind in ("new", "expansion", "reactivated")) for month in moved]
    lost = [sum(month[kind] for kind in ("contraction", "churned")) for month in moved]
    money = reader.wording.money
    cells = (
        [ma.Cell(_month(month, first, last)), *(ma.Cell(money(v), float(v)) for v in values)]
        for month, first, last, *values in reversed(rows)
    )
    return ma.charted(
        heading,
        f"{money(sum(won))} was won and {money(-sum(lost))} was lost over"
        f" {ma.plural(len(months), 'month')}. In {months[-1]:%B %Y}, {money(won[-1])} was won and"
        f" {money(-lost[-1])} was lost.",
        partial(
            ma.column_chart,
            months,
            ma.Series("Won", ma.numbers(won)),
            ma.Series("Lost", ma.numbers(lost)),
            revenue.REVENUE_CLOSING.unit,
            columns=range(1, len(metrics) + 1),
        ),
        ma.table(["Month", *map(ma.words, metrics)], cells),
        ma.about(metrics.values(), revenue.TABLE),
        wide=True,
    )


def _at_risk(reader: ma.Reader) -> tuple[ma.Tile, ...]:
    try:
        _, total, _ = _attention(reader)
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
    return (ma.Tile(described.name, money(total), described, source, note="latest day"),)


def _attention(reader: ma.Reader) -> tuple[int, Any, int | None]:
    """Return the number of accounts that need attention, their revenue and the days to a renewal."""
    [(count, total, nearest)] = reader.rows(
        [attention.TABLE],
        "SELECT count(*), coalesce(sum(monthly_recurring_revenue), 0),"
        " min(days_to_renewal) FILTER (days_to_renewal >= 0)"
        f" FROM {attention.TABLE.qualified_name}",
    )
    return count, total, nearest


def _month(month: date, first: date, last: date) -> str:
    """Return a month for display, with its first and last shown days if the month is incomplete."""
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    begins = "" if first == month else f", from {first.day} {first:%b}"
    ends = "" if (following - last).days == 1 else f", through {last.day} {last:%b}"
    return f"{month:%b %Y}{begins}{ends}"
