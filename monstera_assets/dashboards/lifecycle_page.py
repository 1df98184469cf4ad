"""The lifecycle page, and the accounts page, which shows the same for accounts and lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.revenue_page import at_risk, needing_attention
from monstera_assets.gold import gold_engagement_power_curve as power_curve
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold import gold_state_transition_metrics as moves
from monstera_assets.gold import gold_users_active_daily as daily_users
from monstera_assets.gold import gold_users_active_monthly as monthly_users
from monstera_assets.gold import gold_users_active_weekly as weekly_users
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_account_current_state import TABLE as CURRENT
from monstera_assets.silver.silver_user_current_state import TABLE as USERS

_GROWTH = {
    "New": (growth.USERS_NEW, "state-new"),
    "Retained": (growth.USERS_RETAINED, "state-active"),
    "Resurrected": (growth.USERS_RESURRECTED, "state-reactivated"),
    "Churned": (growth.USERS_CHURNED, "state-churned"),
}
_ACTIVE = {
    "Monthly": monthly_users.USERS_ACTIVE,
    "Weekly": weekly_users.USERS_ACTIVE,
    "Daily": daily_users.USERS_ACTIVE,
}
_SCOPES = {"Users": moves.PLATFORM, "Accounts": moves.ACCOUNT}
_IN_STATE: dict[str, Mapping[Any, Metric]] = {
    "Users": overall.USERS_IN_STATE,
    "Accounts": overall.ACCOUNTS_IN_STATE,
}

_HEALTH = {
    ma.HealthBand.EXCELLENT: "90 or more",
    ma.HealthBand.GOOD: "70 to 90",
    ma.HealthBand.FAIR: "50 to 70",
    ma.HealthBand.POOR: "30 to 50",
    ma.HealthBand.CRITICAL: "below 30",
}


def lifecycle_page(reader: ma.Reader) -> ma.Page:
    """Create the lifecycle page."""
    daily = reader.daily(overall.TABLE)
    rates = reader.daily(moves.TABLE, scope=moves.PLATFORM, from_state=ma.TOTAL, to_state=ma.TOTAL)
    by_month = reader.daily(growth.TABLE, window_days=30)
    ratio, activated = {growth.QUICK_RATIO: "Quick ratio"}, {overall.ACTIVATION.share: "Activated"}
    shares = {
        "Leaving": {moves.CHURN: "Churned", moves.DORMANCY: "Dormant"},
        "Coming back": {moves.WIN_BACK: "Won Back", moves.REACTIVATION: "Reactivated"},
        "Never activated": {moves.NEVER_ACTIVATED: "Never Activated"},
    }
    trends = [
        ma.trend(
            name,
            rates,
            {rate.share: label for rate, label in shown.items()},
            what=f"{' and '.join(shown.values())} Share Weekly",
        )
        for name, shown in shares.items()
    ]
    tiles = (overall.MONTHLY, overall.WEEKLY, overall.DAILY, overall.STICKINESS, overall.CREATED)
    return ma.Page(
        "lifecycle.html",
        "Lifecycle",
        "Who joins, stays, leaves and comes back.",
        ma.tiles(daily, *tiles),
        [
            ma.Section(
                "Growth",
                [
                    _growth_figure(reader),
                    active_users(reader),
                    ma.trend("Gained per lost user in 30 days", by_month, ratio, most=10),
                ],
            ),
            ma.Section("States", [states_over_time(reader, "Users")]),
            ma.Section("Moves", [moves_figure(reader, "Users")]),
            ma.Section("Rates and times", [*trends, _dwell_times(reader)]),
            ma.Section(
                "Engagement",
                [
                    ma.trend("Activated within 7 days", daily, activated),
                    ma.trend("Stickiness", daily, {overall.STICKINESS: "DAU / MAU"}),
                    _power(reader),
                ],
            ),
        ],
    )


@ma.item("Gained and lost users", "Users, New, Retained, Resurrected and Churned, Last 18 Months")
def _growth_figure(reader: ma.Reader) -> ma.Item:
    grains = {30: "Month", 7: "Week", 1: "Day"}
    metrics = [metric for metric, _ in _GROWTH.values()]
    found = reader.rows(
        f"SELECT metric_date, window_days, {', '.join(one.column_name for one in metrics)}"
        f" FROM gold_growth_accounting WHERE {ma.DAYS_SQL}"
        " AND ($last - metric_date) % window_days = 0 ORDER BY window_days DESC, metric_date"
    )
    known = any(value for row in found for value in row[2:])
    ma.require(known, "No users were gained or lost in this period.")
    rows = [
        (grains[days], day, label, -value if label == "Churned" and value else value)
        for day, days, *values in found
        if days in grains
        for label, value in zip(_GROWTH, values, strict=True)
    ]
    weeks = [row[2:] for row in found if row[1] == ma.WEEK and row[2] is not None]
    new, retained, resurrected, churned = weeks[-1] if weeks else (0, 0, 0, 0)
    grain = ma.choice("grain", "Windows", [*grains.values()], "Week")
    fields = (grain, ma.ON_DAY, ma.SERIES, *ma.fields("users/Users/,d"))
    colors = {label: color for label, (_, color) in _GROWTH.items()}
    return ma.Figure(
        f"In the latest 7 days, {ma.plural(new, 'user')} joined, {resurrected:,} came back and"
        f" {churned:,} of the week before were not active. {retained:,} were active in both weeks.",
        ma.Chart("columns", fields, rows, colors, 280),
        ma.about(growth.TABLE, *metrics),
        wide=True,
    )


@ma.item("Active users", "Users, Active Monthly, Weekly and Daily, Last 18 Months")
def active_users(reader: ma.Reader) -> ma.Item:
    """Plot monthly, weekly and daily active users, in total by day and by segment by week."""
    selects = (
        f"SELECT metric_date AS day, {ma.SEGMENT_SQL} AS segment, '{label}' AS series,"
        f" {metric.column_name} AS users FROM gold_users_active_{label.lower()} WHERE {ma.DAYS_SQL}"
        f" AND (segment_dimension = '{ma.TOTAL}' OR {ma.WEEKLY_SQL})"
        for label, metric in _ACTIVE.items()
    )
    rows = reader.rows(f"{' UNION ALL '.join(selects)} ORDER BY day, segment, series")
    monthly = [
        ma.Point(day, users)
        for day, segment, series, users in rows
        if (segment, series) == (ma.TOTAL, "Monthly")
    ]
    ma.require_any(_ACTIVE.values(), [monthly])
    fields = (ma.ON_DAY, ma.SEGMENT, ma.SERIES, *ma.fields("users/Users/,d"))
    return ma.Figure(
        reader.wording.trend_summary(_ACTIVE["Monthly"], monthly),
        ma.Chart("lines", fields, rows, ma.line_colors(_ACTIVE)),
        ma.about(monthly_users.TABLE, *_ACTIVE.values()),
        wide=True,
    )


@ma.item("States over time", "{entities}, in State Daily, Last 18 Months, by State")
def states_over_time(reader: ma.Reader, entities: str) -> ma.Item:
    """Plot users or accounts by state, in total and by segment, on the last day of each week."""
    found = reader.rows(
        f"SELECT metric_date, {ma.SEGMENT_SQL}, state, {distribution.MEMBERS.column_name}"
        f" FROM gold_state_distribution WHERE {ma.WEEKLY_SQL} AND scope = $scope ORDER BY ALL",
        scope=_SCOPES[entities],
    )
    ma.require(found, f"There are no {entities.lower()} to show.")
    return states_figure(reader, entities, (ma.ON_DAY, ma.SEGMENT), found, _IN_STATE[entities])


def states_figure(
    reader: ma.Reader,
    entities: str,
    fields: tuple[ma.Field, ...],
    found: ma.Rows,
    states: Iterable[str],
) -> ma.Figure:
    """Draw the members of states from rows of `fields`, state and number of members."""
    rows = [(*row, ma.words(state), members) for *row, state, members in found]
    latest = [
        (state, members)
        for day, *segment, state, members in rows
        if day == reader.last and segment in ([], [ma.TOTAL])
    ]
    whole, on = sum(members for _, members in latest), ma.day_text(reader.last)
    fields = (*fields, ma.SERIES, ma.Field("members", entities, ",d"))
    return ma.Figure(
        ma.ranking(entities.lower(), latest, whole=whole, when=f"on {on}"),
        ma.Chart("areas", fields, rows, ma.state_colors(states), 260),
        ma.about(distribution.TABLE, distribution.MEMBERS),
        wide=True,
    )


@ma.item("Transitions between states", "{entities}, Moves Daily, Last 18 Months, by Transition")
def moves_figure(reader: ma.Reader, entities: str) -> ma.Item:
    """Draw the sums of transitions over the chosen days as a Sankey diagram."""
    made = moves.MOVES.column_name
    found = reader.rows(
        f"SELECT metric_date, from_state, to_state, {made} FROM gold_state_transition_metrics"
        f" WHERE {ma.DAYS_SQL} AND scope = $scope AND from_state <> '{ma.TOTAL}' AND {made} > 0"
        " ORDER BY ALL",
        scope=_SCOPES[entities],
    )
    ma.require(found, f"No {entities.lower()} changed their state in this period.")
    rows = [(day, ma.words(left), ma.words(to), count) for day, left, to, count in found]
    sums: Counter[str] = Counter()
    for _, left, to, count in rows:
        sums[f"{left} to {to.lower()}"] += count
    fields = ma.fields("day/Day/day", "from_state/From", "to_state/To", "moves/Moves/,d")
    return ma.Figure(
        f"{ma.ranking('moves', sums.items(), whole=sums.total())} The widths are sums of daily moves,"
        " so somebody who moves twice counts twice.",
        ma.Chart("flows", fields, rows, ma.state_colors(_IN_STATE[entities]), 380),
        ma.about(moves.TABLE, moves.MOVES),
        wide=True,
    )


@ma.item("Days in a state before leaving it", "Users, Days in State Mean, Last 18 Months, by State")
def _dwell_times(reader: ma.Reader) -> ma.Item:
    made, days = moves.MOVES.column_name, moves.DAYS_IN_STATE.column_name
    found = reader.rows(
        f"SELECT from_state, sum({days} * {made}) / sum({made}), CAST(sum({made}) AS BIGINT)"
        f" FROM gold_state_transition_metrics WHERE {ma.DAYS_SQL} AND scope = $scope"
        f" AND from_state <> '{ma.TOTAL}' AND {days} IS NOT NULL GROUP BY ALL ORDER BY 2 DESC, 1",
        scope=moves.PLATFORM,
    )
    ma.require(found, "No users changed their state in this period.")
    rows = [(ma.words(state), mean, count) for state, mean, count in found]
    fields = ma.fields("state/State", "days/Mean days/,.1f", "moves/Moves/,d")
    return ma.Figure(
        f"Users who left a state had been in it longest in {rows[0][0].lower()}: {rows[0][1]:,.1f} days"
        " on average.",
        ma.Chart("bars", fields, rows),
        ma.about(moves.TABLE, moves.DAYS_IN_STATE, moves.MOVES),
    )


@ma.item("Days active", "Users, Active per Window, Last 28 Days, by Active Days")
def _power(reader: ma.Reader) -> ma.Item:
    metric = power_curve.USERS_BY_ACTIVE_DAYS
    rows = reader.rows(
        f"SELECT (active_days - 1) // 4 * 4 AS step, CAST(sum({metric.column_name}) AS BIGINT)"
        " FROM gold_engagement_power_curve WHERE metric_date = $last AND window_days = 28"
        " GROUP BY step ORDER BY step"
    )
    steps = [(f"{step + 1} to {step + 4} days", users) for step, users in rows]
    described = ma.about(power_curve.TABLE, metric)
    return ma.bars("users", steps, described, name="Active days")


def accounts_page(reader: ma.Reader) -> ma.Page:
    """Create the accounts page."""
    daily, money = reader.daily(overall.TABLE), reader.daily(revenue.TABLE)
    states = [
        states_over_time(reader, "Accounts"),
        _health(reader),
        ma.trend("Mean health of paying accounts", daily, {overall.HEALTH: "Health"}),
        moves_figure(reader, "Accounts"),
    ]
    return ma.Page(
        "accounts.html",
        "Accounts",
        "Who needs a call and why, and each account's state, health and revenue.",
        [
            *ma.tiles(daily, overall.ACCOUNTS_ACTIVE, overall.HEALTH),
            *ma.tiles(money, revenue.ACCOUNTS_PAYING, revenue.REVENUE_CLOSING),
            *at_risk(reader),
        ],
        [
            ma.Section("Needing attention", [needing_attention(reader, 200)]),
            ma.Section(
                "Find an account or a person", [_account_list(reader), _people_list(reader)]
            ),
            ma.Section("States and health", states),
        ],
    )


@ma.item("Paying accounts by health", "Accounts, Paying, Latest Day, by Health Band")
def _health(reader: ma.Reader) -> ma.Item:
    select = (
        "SELECT health_band, count(*) FROM silver_account_current_state WHERE is_paid GROUP BY 1"
    )
    found: dict[str, int] = dict(reader.rows(select))
    bands = [(f"{ma.words(band)}, {score}", found.get(band, 0)) for band, score in _HEALTH.items()]
    parts = ("seat_utilization", "product_breadth", "recent_activity", "contract_status")
    shown = ["health_band", "health_score", *(f"{part}_score" for part in parts)]
    return ma.bars("paying accounts", bands, ma.about(CURRENT, *shown), name="Health")


@ma.item("All accounts", "Accounts, State Health and MRR, Latest Day, by Account")
def _account_list(reader: ma.Reader) -> ma.Item:
    fields = ma.fields(
        *("account_id/Account", "current_state/State/words", "state_since/Since/day"),
        f"monthly_recurring_revenue/MRR ({reader.wording.currency})/,.2f",
        *("health_score/Health/,.0f", "contract_renewal_date/Renewal/day"),
    )
    rows = _with_page(reader, "account", reader.accounts, fields, "monthly_recurring_revenue DESC,")
    [(count,)] = reader.rows("SELECT count(*) FROM silver_account_current_state")
    return ma.Listing(
        f"{ma.plural(count, 'account')}. Each id opens the account's page.",
        *(fields, rows, ma.about(CURRENT, *(one.name for one in fields[1:]))),
        {"account_id": reader.accounts},
        f"{len(rows):,} have a page. The command monstera account ID opens the page of any other."
        if count > len(rows)
        else "",
    )


@ma.item("People", "Users, at High Risk, Latest Day, by User")
def _people_list(reader: ma.Reader) -> ma.Item:
    fields = ma.fields(
        *("user_id/Person", "platform_state/State/words", "platform_state_since/Since/day"),
        "account_id/Account",
    )
    rows = _with_page(reader, "user", reader.people, fields)
    has = "person has" if len(rows) == 1 else "people have"
    return ma.Listing(
        f"{len(rows):,} {has} a page, since they are at high risk and another page lists them.",
        *(fields, rows, ma.about(USERS, "platform_state")),
        {"user_id": reader.people, "account_id": reader.accounts},
        "The command monstera person ID opens the page of any other person.",
    )


def _with_page(
    reader: ma.Reader, kind: str, ids: Iterable[str], fields: Iterable[ma.Field], order: str = ""
) -> ma.Rows:
    """Return the current columns of the accounts or users that have a page."""
    rows = reader.ask(
        f"SELECT {', '.join(one.name for one in fields)} FROM silver_{kind}_current_state"
        f" WHERE {kind}_id IN (SELECT unnest($ids)) ORDER BY {order} {kind}_id",
        ids=[*ids],
    )
    ma.require(
        rows, f"No {kind} has a page. The commands monstera account ID and person ID open one."
    )
    return rows
