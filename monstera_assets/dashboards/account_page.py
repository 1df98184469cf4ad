"""The page of accounts: health, risk, revenue and how it moved."""

from __future__ import annotations

from datetime import date

from monstera_assets.dashboards.charts import Series, column_chart
from monstera_assets.dashboards.design import (
    CARD_WIDTH,
    CHART_HEIGHT,
    LAST_18_MONTHS,
    LATEST_DAY,
    WIDE_HEIGHT,
    WIDE_WIDTH,
    headline,
    words,
)
from monstera_assets.dashboards.figures import (
    about,
    about_columns,
    attempt,
    bars,
    multiples_of,
    trend,
)
from monstera_assets.dashboards.model import (
    Cell,
    Drawing,
    Figure,
    Item,
    Listing,
    Page,
    Tile,
    Unavailable,
    section,
    table,
)
from monstera_assets.dashboards.platform_pages import account_states_now, tiles_of
from monstera_assets.dashboards.reading import WEEK, Frame, Reader
from monstera_assets.dashboards.structure import ACCOUNTS, home_link
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.lifecycle.states import AccountState, HealthBand
from monstera_assets.silver.silver_account_current_state import TABLE as CURRENT
from monstera_assets.warehouse.errors import MissingTableError

_LISTED = 200
_HEALTH = {
    HealthBand.EXCELLENT: "90 and more",
    HealthBand.GOOD: "70 to 90",
    HealthBand.FAIR: "50 to 70",
    HealthBand.POOR: "30 to 50",
    HealthBand.CRITICAL: "below 30",
}
_TILES = (
    revenue.REVENUE_CLOSING,
    overall.ACCOUNTS_ACTIVE,
    overall.HEALTH,
    revenue.REVENUE_RETAINED_NET,
    revenue.REVENUE_RETAINED_GROSS,
)


def accounts_page(reader: Reader) -> Page:
    """How accounts are, which of them are at risk, and how revenue moved over 18 months."""
    return Page(
        file=ACCOUNTS,
        title="Accounts",
        lead="How the accounts are, which of them are at risk and what is at stake, and how monthly"
        " recurring revenue moved.",
        up=(home_link(),),
        tiles=(*tiles_of(reader, _TILES), *_at_stake(reader)),
        sections=(
            section("At risk", [at_risk(reader)]),
            section(
                "Health and states",
                [health(reader), account_states_now(reader), states_over_time(reader)],
            ),
            section(
                "Revenue",
                [
                    movements(reader),
                    trend(
                        reader,
                        revenue.TABLE,
                        {revenue.REVENUE_CLOSING: "MRR"},
                        LAST_18_MONTHS,
                    ),
                    trend(
                        reader,
                        revenue.TABLE,
                        {revenue.ACCOUNTS_PAYING: "Paying"},
                        LAST_18_MONTHS,
                    ),
                    trend(
                        reader,
                        revenue.TABLE,
                        {
                            revenue.REVENUE_RETAINED_NET: "Net",
                            revenue.REVENUE_RETAINED_GROSS: "Gross",
                        },
                        LAST_18_MONTHS,
                        heading=headline(
                            "Revenue", "Retained Net and Gross Monthly", LAST_18_MONTHS.name
                        ),
                    ),
                    trend(reader, overall.TABLE, {overall.HEALTH: "Health"}, LAST_18_MONTHS),
                ],
            ),
        ),
    )


def health(reader: Reader) -> Item:
    """Accounts by band of their health score."""
    heading = headline("Accounts", "Health", LATEST_DAY.name, "Band")

    def build() -> Item:
        found = dict(
            reader.rows(
                [CURRENT],
                f"SELECT health_band, count(*) FROM {CURRENT.qualified_name} GROUP BY ALL",
            )
        )
        return bars(
            heading,
            "accounts",
            [
                (f"{words(band)}, {score}", found.get(str(band), 0), f"{found.get(str(band), 0):,}")
                for band, score in _HEALTH.items()
            ],
            about_columns(
                CURRENT,
                [
                    "health_band",
                    "health_score",
                    "seat_utilization_score",
                    "product_breadth_score",
                    "recent_activity_score",
                    "contract_status_score",
                ],
            ),
            name="Health",
            value="Accounts",
            share=True,
        )

    return attempt(heading, build)


def at_risk(reader: Reader) -> Item:
    """The accounts at risk with their revenue and the days to renewal, those with most first."""
    heading = headline("Accounts", "at Risk", LATEST_DAY.name, "Account")
    shown = revenue.REVENUE_CLOSING.format

    def build() -> Item:
        [(count, total)] = reader.rows(
            [CURRENT],
            "SELECT count(*), sum(monthly_recurring_revenue)"
            f" FROM {CURRENT.qualified_name} WHERE current_state = ?",
            [str(AccountState.AT_RISK)],
        )
        if not count:
            return Unavailable(heading, "No account is at risk.")
        rows = reader.rows(
            [CURRENT],
            "SELECT account_id, subscription_tier, monthly_recurring_revenue, days_to_renewal,"
            " health_score, seat_utilization_pct, state_since, state_reason"
            f" FROM {CURRENT.qualified_name} WHERE current_state = ?"
            " ORDER BY monthly_recurring_revenue DESC, days_to_renewal, account_id LIMIT ?",
            [str(AccountState.AT_RISK), _LISTED],
        )
        nearest = min((row[3] for row in rows if row[3] is not None), default=None)
        renewal = "" if nearest is None else f" The next renewal is in {nearest:,} days."
        return Listing(
            title=heading,
            finding=f"{count:,} account{'' if count == 1 else 's'} at risk, {shown(total)} of"
            f" monthly recurring revenue at stake.{renewal}",
            table=table(
                [
                    "Account",
                    "Tier",
                    "Revenue at stake",
                    "Days to renewal",
                    "Health",
                    "Seats used",
                    "Since",
                    "Reason",
                ],
                (
                    [
                        Cell(account),
                        Cell(words(tier)),
                        Cell(shown(mrr), float(mrr)),
                        Cell("none set" if days is None else f"{days:,}", days),
                        Cell(overall.HEALTH.format(score), score),
                        Cell(f"{used:.0f}%", used),
                        Cell(str(since), since.toordinal()),
                        Cell(reason),
                    ]
                    for account, tier, mrr, days, score, used, since, reason in rows
                ),
            ),
            about=about_columns(
                CURRENT,
                [
                    "current_state",
                    "monthly_recurring_revenue",
                    "days_to_renewal",
                    "health_score",
                    "seat_utilization_pct",
                    "state_reason",
                ],
            ),
            searchable=True,
            footnote=(f"The {_LISTED} with most revenue of {count:,}." if count > _LISTED else ""),
        )

    return attempt(heading, build)


def states_over_time(reader: Reader) -> Item:
    """Accounts by state, on the last day of each week."""
    metrics = overall.ACCOUNTS_IN_STATE
    heading = headline("Accounts", "in State Daily", LAST_18_MONTHS.name, "State")

    def build() -> Item:
        whole = reader.frame(LAST_18_MONTHS)
        frame = Frame(whole.first, whole.last, WEEK)
        values = reader.by_day(overall.TABLE, [*metrics.values()], frame)
        return multiples_of(
            heading,
            frame.days,
            "accounts",
            {words(state): values[metric] for state, metric in metrics.items()},
            about(metrics.values(), [overall.TABLE]),
            overall.ACCOUNTS_ACTIVE.format,
        )

    return attempt(heading, build)


def movements(reader: Reader) -> Item:
    """Revenue won and lost, month by month."""
    metrics = revenue.MOVEMENTS
    heading = headline("Revenue", "Won and Lost", LAST_18_MONTHS.name, "Month")
    shown = revenue.REVENUE_CLOSING.format

    def build() -> Item:
        frame = reader.frame(LAST_18_MONTHS)
        sums = ", ".join(f"sum({metric.column_name})" for metric in metrics.values())
        rows = reader.rows(
            [revenue.TABLE],
            "SELECT CAST(date_trunc('month', metric_date) AS DATE) AS month,"
            f" max(metric_date), {sums} FROM {revenue.TABLE.qualified_name}"
            " WHERE metric_date BETWEEN ? AND ? GROUP BY month ORDER BY month",
            [frame.first, frame.last],
        )
        if not any(value for row in rows for value in row[2:]):
            return Unavailable(heading, "Revenue did not move in these months.")
        months = [row[0] for row in rows]
        place = {kind: number + 2 for number, kind in enumerate(metrics)}
        won = [
            sum(row[place[kind]] for kind in ("new", "expansion", "reactivated")) for row in rows
        ]
        lost = [sum(row[place[kind]] for kind in ("contraction", "churned")) for row in rows]
        gains = Series("Won", [float(value) for value in won])
        losses = Series("Lost", [float(value) for value in lost])

        def draw(width: int = CARD_WIDTH, height: int = CHART_HEIGHT) -> Drawing:
            return column_chart(
                months,
                gains,
                losses,
                revenue.REVENUE_CLOSING.unit,
                columns=tuple(range(1, len(metrics) + 1)),
                width=width,
                height=height,
            )

        return Figure(
            title=heading,
            finding=f"In {len(months)} months {shown(sum(won))} won and {shown(-sum(lost))} lost;"
            f" in {months[-1]:%B %Y} {shown(won[-1])} and {shown(-lost[-1])}.",
            drawing=draw(),
            wide=draw(width=WIDE_WIDTH, height=WIDE_HEIGHT),
            table=table(
                ["Month", *(words(kind) for kind in metrics)],
                (
                    [Cell(_month(row[0], row[1])), *(Cell(shown(v), float(v)) for v in row[2:])]
                    for row in reversed(rows)
                ),
            ),
            about=about(metrics.values(), [revenue.TABLE]),
        )

    return attempt(heading, build)


def _at_stake(reader: Reader) -> tuple[Tile, ...]:
    try:
        [(total,)] = reader.rows(
            [CURRENT],
            "SELECT coalesce(sum(monthly_recurring_revenue), 0)"
            f" FROM {CURRENT.qualified_name} WHERE current_state = ?",
            [str(AccountState.AT_RISK)],
        )
    except MissingTableError:
        return ()
    described = about_columns(CURRENT, ["monthly_recurring_revenue"]).definitions[0]
    return (Tile("Revenue at Risk", revenue.REVENUE_CLOSING.format(total), described),)


def _month(first: date, last: date) -> str:
    """A month, with the day up to which it is known if that is not its last."""
    following = date(last.year + last.month // 12, last.month % 12 + 1, 1)
    whole = (following - last).days == 1
    return f"{first:%b %Y}" if whole else f"{first:%b %Y}, to {last.day} {last:%b}"
