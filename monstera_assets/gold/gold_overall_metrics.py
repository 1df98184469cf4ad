"""gold_overall_metrics: the company's headline metrics per date."""

from __future__ import annotations

from collections.abc import Iterable

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold import gold_accounts_active_monthly as accounts_active
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.gold import gold_users_active_daily as active_daily
from monstera_assets.gold import gold_users_active_monthly as active_monthly
from monstera_assets.gold import gold_users_active_weekly as active_weekly
from monstera_assets.gold import gold_users_created_daily as created_daily

WEEK, MONTH = 7, 30
ACTIVATION_DAYS = 7
_SIGNUP_DAYS = 7

DAILY, WEEKLY, MONTHLY = (
    module.USERS_ACTIVE for module in (active_daily, active_weekly, active_monthly)
)
CREATED = created_daily.USERS_CREATED
ACCOUNTS_ACTIVE = accounts_active.ACCOUNTS_ACTIVE
STICKINESS = ma.Metric(
    "Users Active Stickiness Monthly",
    "Mean of users active daily over the 30 days ending on the date / users active monthly; null if"
    " no users are active, and before the range's 30th day.",
    "mean DAU of the 30 days / MAU",
    ma.Unit.SHARE,
    caveats="The mean covers 30 days, so that the metric hardly depends on the weekday.",
    population="users active monthly",
)
ACTIVATION = ma.proportion(
    "Users Activated",
    "Weekly",
    part="with a qualifying event within 7 days of signup",
    population="users who signed up 7 to 13 days before the date",
    caveats="The metric covers the latest week in which every signup is at least 7 days old.",
)
USERS_IN_STATE = {
    state: ma.Metric(
        f"Users in State {ma.title_case(state)} Daily",
        f"Users whose platform state is {state} at the end of the day.",
        f"count(user_id) where platform_state = '{state}'",
    )
    for state in ma.UserState
}
ACCOUNTS_IN_STATE = {
    state: ma.Metric(
        f"Accounts in State {ma.title_case(state)} Daily",
        f"Accounts whose state is {state} at the end of the day.",
        f"count(account_id) where current_state = '{state}'",
    )
    for state in ma.AccountState
}
HEALTH = ma.Metric(
    "Accounts Health Mean Daily",
    "Mean health score of the accounts that pay at the end of the day; null if no account pays.",
    "avg(health_score) where is_paid",
    ma.Unit.SCORE,
    nullable=True,
    population="accounts that pay at the end of the day",
)
HEADLINES = (DAILY, WEEKLY, MONTHLY, CREATED, ACCOUNTS_ACTIVE, revenue.REVENUE_CLOSING)
"""Metrics that are also published as weekly and monthly changes."""

BIG_NUMBERS = (
    *(DAILY, WEEKLY, MONTHLY, STICKINESS, CREATED, ACTIVATION.share, ACCOUNTS_ACTIVE, HEALTH),
    *revenue.HEADLINES,
)
"""The most important metrics, in display order."""

TABLE = ma.metric_table(
    "gold_overall_metrics",
    group=ma.AssetGroup.METRICS,
    grain="one date",
    description="What are the company's headline metrics on each date? The metrics cover active, new"
    " and activated users, accounts in use, users and accounts by state, revenue, revenue retention,"
    " health scores, and weekly and monthly changes.",
    dimensions=(ma.METRIC_DATE,),
    metrics=(
        *(DAILY, WEEKLY, MONTHLY, STICKINESS, CREATED, *ACTIVATION.metrics),
        *USERS_IN_STATE.values(),
        ACCOUNTS_ACTIVE,
        *ACCOUNTS_IN_STATE.values(),
        *revenue.HEADLINES,
        HEALTH,
        *(metric.change(days) for metric in HEADLINES for days in (WEEK, MONTH)),
    ),
)

_WITH_CHANGES = (
    *(f"gold_users_active_{period}" for period in ("daily", "weekly", "monthly")),
    *("gold_users_created_daily", "gold_accounts_active_monthly", "gold_revenue_metrics"),
)


@ma.table_asset(
    TABLE,
    days={
        **dict.fromkeys(_WITH_CHANGES, ma.last_days(MONTH + 1)),
        "silver_user_state_history": ma.UP_TO_DAY,
        "silver_account_state_history": ma.SAME_DAYS,
        "silver_daily_user_activity": ma.UP_TO_DAY,
    },
)
def gold_overall_metrics(
    gold_users_active_daily: ir.Table,
    gold_users_active_weekly: ir.Table,
    gold_users_active_monthly: ir.Table,
    gold_users_created_daily: ir.Table,
    gold_accounts_active_monthly: ir.Table,
    gold_revenue_metrics: ir.Table,
    silver_user_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Combine totals from the metric tables with counts by state and the activation rate."""
    begins = ma.range_first_day(
        silver_user_state_history, silver_daily_user_activity, bronze_subscription_events
    )
    created = _total(gold_users_created_daily, CREATED)
    of_revenue = [metric.column_name for metric in revenue.HEADLINES]
    headlines = ma.left_joined(
        _total(gold_users_active_daily, DAILY),
        _total(gold_users_active_weekly, WEEKLY),
        _total(gold_users_active_monthly, MONTHLY),
        created,
        _total(gold_accounts_active_monthly, ACCOUNTS_ACTIVE),
        gold_revenue_metrics.select("metric_date", *of_revenue),
        on=["metric_date"],
    )
    last_month = ibis.window(order_by="metric_date", preceding=MONTH - 1, following=0)
    active_days = headlines[DAILY.column_name].sum().over(last_month)
    headlines = ma.materialized(headlines.mutate(active_days=active_days))
    users = ma.within(silver_user_state_history, "snapshot_date", window)
    accounts = silver_account_state_history
    rows = ma.left_joined(
        ma.dates(window),
        headlines,
        *(_before(headlines, days) for days in (WEEK, MONTH)),
        users.group_by(metric_date="snapshot_date").aggregate(
            **ma.counted_by_state(users, users.platform_state, USERS_IN_STATE)
        ),
        accounts.group_by(metric_date="snapshot_date").aggregate(
            **ma.counted_by_state(accounts, accounts.current_state, ACCOUNTS_IN_STATE),
            # A fixed summation order keeps floating-point results reproducible.
            health=accounts.health_score.collect(
                where=accounts.is_paid, order_by=accounts.account_id
            ).sums(),
            paying=accounts.count(where=accounts.is_paid),
        ),
        _activation(bronze_users, silver_daily_user_activity, window),
        on=["metric_date"],
    )
    is_full_month = ma.day_number(rows.metric_date) >= begins + MONTH - 1
    return rows.select(
        "metric_date",
        *dict.fromkeys(metric.column_name for metric in (*HEADLINES, *revenue.HEADLINES)),
        **ma.zero_filled(rows, (*USERS_IN_STATE.values(), *ACCOUNTS_IN_STATE.values())),
        **{
            STICKINESS.column_name: ibis.ifelse(
                is_full_month, ma.ratio(rows.active_days, rows[MONTHLY.column_name] * MONTH), None
            ),
            **ACTIVATION.columns(rows.activated.fill_null(0), rows.signed_up.fill_null(0)),
            HEALTH.column_name: ma.ratio(rows.health, rows.paying),
        },
        **{
            metric.change(days).column_name: ma.ratio(
                rows[metric.column_name] - rows[f"{metric.column_name}_{days}"],
                rows[f"{metric.column_name}_{days}"],
            )
            for metric in HEADLINES
            for days in (WEEK, MONTH)
        },
    )


def _total(rows: ir.Table, metric: ma.Metric) -> ir.Table:
    return rows.filter(rows.segment_dimension == ma.TOTAL).select("metric_date", metric.column_name)


def _before(headlines: ir.Table, days: int) -> ir.Table:
    """Return the headline metrics from `days` days before each date, with the suffix `_{days}`."""
    return headlines.select(
        metric_date=ma.day_date(ma.day_number(headlines.metric_date) + days),
        **{f"{metric.column_name}_{days}": headlines[metric.column_name] for metric in HEADLINES},
    )


def _activation(users: ir.Table, activity: ir.Table, window: ma.Window) -> ir.Table:
    """Count signups 7 to 13 days before each date and their activations within 7 days."""
    earliest = ma.days_earlier(window.first, ACTIVATION_DAYS + _SIGNUP_DAYS - 1)
    signups = ma.one_row_per_entity(users, ["user_id", "signup_date"])
    signups = signups.filter(signups.signup_date >= earliest)
    signups = signups.select("user_id", signup=ma.day_number(signups.signup_date))
    used = ma.active_days(activity.filter(activity.activity_date >= earliest))
    followed = signups.left_join(
        used,
        [
            signups.user_id == used.user_id,
            used.day >= signups.signup,
            used.day <= signups.signup + ACTIVATION_DAYS,
        ],
    )
    people = followed.group_by("user_id", "signup").aggregate(
        is_activated=followed.day.notnull().any()
    )
    by_day = people.group_by("signup").aggregate(
        signed_up=people.count(), activated=people.count(where=people.is_activated)
    )
    every = ma.dates(window)
    ago = ma.day_number(every.metric_date) - by_day.signup
    joined = every.inner_join(
        by_day, [ago >= ACTIVATION_DAYS, ago < ACTIVATION_DAYS + _SIGNUP_DAYS]
    )
    return joined.group_by("metric_date").aggregate(
        signed_up=joined.signed_up.sum().cast("int64"),
        activated=joined.activated.sum().cast("int64"),
    )


@ma.rule(TABLE)
def states_add_up(
    gold_overall_metrics: ir.Table,
    silver_user_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Counts by state add up to the total numbers of users and accounts in the histories."""
    rows = ma.within(gold_overall_metrics, "metric_date", window)
    published = rows.select(
        "metric_date",
        users=_sum(rows, USERS_IN_STATE.values()),
        accounts=_sum(rows, ACCOUNTS_IN_STATE.values()),
    )
    counted = (
        ma.within(history, "snapshot_date", window)
        .group_by(metric_date="snapshot_date")
        .aggregate(**{f"{name}_counted": ibis._.count()})
        for name, history in (
            ("users", silver_user_state_history),
            ("accounts", silver_account_state_history),
        )
    )
    published = ma.left_joined(published, *counted, on=["metric_date"])
    return published.filter(
        (published.users != published.users_counted.fill_null(0))
        | (published.accounts != published.accounts_counted.fill_null(0))
    )


def _sum(rows: ir.Table, metrics: Iterable[ma.Metric]) -> ir.IntegerValue:
    return sum((rows[metric.column_name] for metric in metrics), ibis.literal(0, "int64"))


@ma.rule(TABLE)
def headlines_are_in_bounds(gold_overall_metrics: ir.Table, *, window: ma.Window) -> ir.Table:
    """Health scores are between 0 and 100, and DAU <= WAU <= MAU."""
    rows = ma.within(gold_overall_metrics, "metric_date", window)
    day, week, month = ma.metric_columns(rows, DAILY, WEEKLY, MONTHLY)
    return rows.filter(
        ibis.or_(
            day > week,
            week > month,
            (~rows[HEALTH.column_name].between(0, 100)).fill_null(False),
        )
    )


@ma.rule(TABLE)
def means_recomputed(
    gold_overall_metrics: ir.Table,
    gold_users_active_daily: ir.Table,
    silver_account_state_history: ir.Table,
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Stickiness agrees with DAU on the 30 days, and mean health with the accounts that pay.

    Stickiness is null before the range's 30th day. It is not compared on the first 29 stored dates,
    since DAU of earlier dates is not stored.
    """
    begins = ma.range_first_day(
        silver_user_state_history, silver_daily_user_activity, bronze_subscription_events
    )
    rows = ma.within(gold_overall_metrics, "metric_date", window)
    history = ma.within(silver_account_state_history, "snapshot_date", window)
    paying = history.filter(history.is_paid)
    health = paying.group_by(metric_date="snapshot_date").aggregate(
        health=paying.health_score.mean()
    )
    daily = _total(gold_users_active_daily, DAILY).rename(active_date="metric_date")
    dates = rows.select("metric_date")
    days_ago = ma.day_number(dates.metric_date) - ma.day_number(daily.active_date)
    month = dates.inner_join(daily, [days_ago >= 0, days_ago < MONTH])
    month = month.group_by("metric_date").aggregate(
        days=month.count(), active_days=month[DAILY.column_name].sum().cast("int64")
    )
    both = ma.left_joined(
        rows.select("metric_date", *(m.column_name for m in (MONTHLY, STICKINESS, HEALTH))),
        *(health, month),
        on=["metric_date"],
    )
    monthly, stickiness, mean_health = ma.metric_columns(both, MONTHLY, STICKINESS, HEALTH)
    expected = ma.ratio(both.active_days, monthly * MONTH)
    return both.filter(
        ibis.ifelse(
            ma.day_number(both.metric_date) >= begins + MONTH - 1,
            (both.days == MONTH) & ~stickiness.identical_to(expected),
            stickiness.notnull(),
        )
        | (mean_health.isnull() != both.health.isnull())
        | ((mean_health - both.health).abs() > 1e-9).fill_null(False)
    )
