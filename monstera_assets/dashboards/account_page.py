"""The accounts page: health, risk and revenue."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import partial

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.model import Definition
from monstera_assets.dashboards.platform_pages import retained_revenue, states_now
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.gold.gold_accounts_needing_attention import TABLE as ATTENTION
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
_money = revenue.REVENUE_CLOSING.format
_AT_RISK = Definition(
    "Revenue at Risk",
    "Monthly recurring revenue of the accounts needing attention: those that are at risk, contracting"
    " or frozen, or have a high churn risk.",
    f"sum(monthly_recurring_revenue) over {ATTENTION.name}",
    "The last revenue of lapsed accounts has churned already, so it is not included.",
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
        lead="Account health, accounts needing attention with their revenue, and changes in recurring"
        " revenue.",
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
    """List the accounts needing attention with their revenue and days to renewal, by rank."""
    count, total = _number_and_revenue(reader)
    if not count:
        return ma.Unavailable(heading, "No accounts need attention.")
    rows = reader.rows(
        [ATTENTION, CURRENT],
        "SELECT account_id, subscription_tier, listed.monthly_recurring_revenue,"
        " listed.days_to_renewal, listed.health_score, seat_utilization_pct, listed.state_since, why"
        f" FROM {ATTENTION.qualified_name} AS listed JOIN {CURRENT.qualified_name} USING (account_id)"
        " ORDER BY attention_rank LIMIT ?",
        [_LISTED],
    )
    nearest = min((row[3] for row in rows if row[3] is not None), default=None)
    renewal = "" if nearest is None else f" The next renewal is in {ma.plural(nearest, 'day')}."
    return ma.Listing(
        title=heading,
        finding=f"{ma.plural(count, 'account')} needing attention, with {_money(total)} in monthly"
        f" recurring revenue at risk.{renewal}",
        table=ma.table(
            [
                *("Account", "Tier", "Revenue at risk", "Days to renewal"),
                *("Health", "Seats used", "Since", "Reason"),
            ],
            (
                [
                    ma.Cell(account),
                    ma.Cell(ma.words(tier)),
                    ma.Cell(_money(mrr), float(mrr)),
                    ma.Cell("not set" if days is None else f"{days:,}", days),
                    ma.Cell(overall.HEALTH.format(score), score),
                    ma.Cell("not counted" if used is None else f"{used:.0f}%", used),
                    ma.Cell(str(since), since.toordinal()),
                    ma.Cell(reason),
                ]
                for account, tier, mrr, days, score, used, since, reason in rows
            ),
        ),
        about=ma.about_columns(
            ATTENTION,
            [
                *("attention_rank", "monthly_recurring_revenue", "days_to_renewal"),
                *("health_score", "why"),
            ],
        ),
        searchable=True,
        footnote=f"The table shows the {_LISTED} highest-ranked accounts out of {count:,}."
        if count > _LISTED
        else "",
    )


@ma.item(ma.headline("Accounts", "in State Daily", ma.LAST_18_MONTHS.name, "State"))
def states_over_time(heading: str, reader: ma.Reader) -> ma.Item:
    """Plot accounts by state on the last day of each week."""
    metrics = overall.ACCOUNTS_IN_STATE
    frame = reader.frame(ma.LAST_18_MONTHS, ma.WEEK)
    found = reader.daily(overall.TABLE).by_day(metrics.values(), frame)
    values = {ma.words(state): found[metric] for state, metric in metrics.items()}
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
        f" max(metric_date), {sums} FROM {revenue.TABLE.qualified_name}"
        " WHERE metric_date BETWEEN ? AND ? GROUP BY month ORDER BY month",
        [frame.first, frame.last],
    )
    if not any(value for row in rows for value in row[2:]):
        return ma.Unavailable(heading, "Revenue did not change in this period.")
    months = [row[0] for row in rows]
    moved = [dict(zip(metrics, row[2:], strict=True)) for row in rows]
    won = [sum(month[kind] for kind in ("new", "expansion", "reactivated")) for month in moved]
    lost = [sum(month[kind] for kind in ("contraction", "churned")) for month in moved]
    cells = (
        [ma.Cell(_month(month, last)), *(ma.Cell(_money(v), float(v)) for v in values)]
        for month, last, *values in reversed(rows)
    )
    return ma.charted(
        heading,
        f"{_money(sum(won))} was won and {_money(-sum(lost))} was lost over"
        f" {ma.plural(len(months), 'month')}. In {months[-1]:%B %Y}, {_money(won[-1])} was won and"
        f" {_money(-lost[-1])} was lost.",
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


def _number_and_revenue(reader: ma.Reader) -> tuple[int, Decimal]:
    """Return the number of accounts needing attention and MRR at risk."""
    [(count, total)] = reader.rows(
        [ATTENTION],
        "SELECT count(*), coalesce(sum(monthly_recurring_revenue), 0)"
        f" FROM {ATTENTION.qualified_name}",
    )
    return count, total


def _at_risk(reader: ma.Reader) -> tuple[ma.Tile, ...]:
    try:
        _, total = _number_and_revenue(reader)
    except MissingTableError:
        return ()
    return (ma.Tile(_AT_RISK.name, _money(total), _AT_RISK),)


def _month(first: date, last: date) -> str:
    """Return a month for display, with its last computed day if the month is incomplete."""
    following = date(last.year + last.month // 12, last.month % 12 + 1, 1)
    whole = (following - last).days == 1
    return f"{first:%b %Y}" if whole else f"{first:%b %Y}, through {last.day} {last:%b}"
