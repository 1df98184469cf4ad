"""Alerts on figures: rules that fail when a published figure of the last day is alarming.

The thresholds are those of `AlertPolicy`. None of these rules blocks: the tables are right, what they
say is bad. A figure of fewer than `min_alert_population` people, events or rows passes with a note that
says so; one whose comparison lies before the first partition passes. All rules return the figure seen
and the one expected.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import bronze_loads as loads
from monstera_assets.checks.rules import NOT_JUDGED, AlertLevel, rule
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_segment_metrics as segments
from monstera_assets.gold import gold_state_transition_metrics as transitions
from monstera_assets.gold.metrics import Metric
from monstera_assets.gold.segments import TOTAL
from monstera_assets.gold.series import share
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_number, days_earlier
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import UserState

WEEK = 7
BASELINE_DAYS = 28
_IN_USE = (UserState.ACTIVE, UserState.RETURNING, UserState.REACTIVATED, UserState.DUNNING)


def _at(rows: ir.Table, window: Window, days_before: int, *columns: str) -> ir.Table:
    """The row of the window's last day, or of some days before it, of a table with one row a date."""
    rows = rows.filter(rows.metric_date == days_earlier(window.last, days_before))
    suffix = f"_{days_before}" if days_before else ""
    return rows.select(**{f"{name}{suffix}": rows[name] for name in columns})


def _rate_moved(
    rates: ir.Table,
    populations: ir.Table,
    rate: Metric,
    window: Window,
    policy: LifecyclePolicy,
    is_alarming: Callable[[ir.FloatingValue], ir.BooleanValue],
) -> ir.Table:
    """The rate now and a week before, if its relative change is alarming.

    Args:
        rates: one row a date: `metric_date` and the rate.
        populations: one row a date: `metric_date` and `people`, on whom the rate of that date is.
        rate: the metric.
        window: its last day is judged.
        policy: the fewest people on whom a rate is judged, now and then.
        is_alarming: of the relative change.
    """
    rows = rates.select("metric_date", rate=rates[rate.column_name]).inner_join(
        populations.select("metric_date", "people"), "metric_date"
    )
    rows = rows.view()
    both = _at(rows, window, 0, "rate", "people").cross_join(
        _at(rows, window, WEEK, "rate", "people")
    )
    told = both.select(
        figure=ibis.literal(rate.name),
        metric_date=window.last,
        seen=both.rate,
        expected=both.rate_7,
        change=_rounded(share(both.rate - both.rate_7, both.rate_7)),
        people=ibis.least(both.people, both.people_7),
    )
    return _judged(told, "people", is_alarming(told.change), policy)


def _judged(
    told: ir.Table,
    population: str,
    is_alarming: ir.BooleanValue,
    policy: LifecyclePolicy,
    what: str | None = None,
    figure: str | None = None,
) -> ir.Table:
    """The rows that alarm, and those of too few to be judged with the reason.

    Args:
        told: what a rule looks at: `figure` and others.
        population: name of the column that says of how many the figure is.
        is_alarming: what a violation is; null counts as no.
        policy: `min_alert_population`.
        what: what the population counts, if not what its column is called.
        figure: what is not judged, if not each row's figure by itself.
    """
    least = policy.alerts.min_alert_population
    of = told[population].fill_null(0)
    reason = (
        "not judged: "
        + (figure or told.figure)
        + " of "
        + of.cast("int64").cast("string")
        + f" {what or population}, fewer than {least}"
    )
    judged = told.mutate(**{NOT_JUDGED: (of < least).ifelse(reason, ibis.null("string"))})
    return judged.filter(judged[NOT_JUDGED].notnull() | is_alarming.fill_null(False))


def _rounded(figure: ir.FloatingValue) -> ir.FloatingValue:
    """A figure without the last bits, so that one on its threshold is not beyond it."""
    return figure.round(9)


def _platform(rows: ir.Table) -> ir.Table:
    return rows.filter(rows.scope == transitions.PLATFORM, rows.from_state == TOTAL)


def _users_then(rows: ir.Table, *states: UserState) -> ir.Table:
    """By date, the users who were in some states 7 days before: those on whom weekly rates are."""
    names = [overall.USERS_IN_STATE[state].column_name for state in states]
    people = sum((rows[name] for name in names), ibis.literal(0, "int64"))
    return rows.select(metric_date=rows.metric_date + ibis.interval(days=WEEK), people=people).cast(
        {"metric_date": "date"}
    )


@rule(
    transitions.TABLE,
    "The churn rate has not risen by more than max_churn_increase in a week.",
    blocking=False,
    level=AlertLevel.P1,
)
def churn_rate_is_steady(
    gold_state_transition_metrics: ir.Table,
    gold_overall_metrics: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """The churn rate, if it rose too much."""
    return _rate_moved(
        _platform(gold_state_transition_metrics),
        _users_then(gold_overall_metrics, *_IN_USE, UserState.DORMANT),
        transitions.CHURN_RATE,
        window,
        policy,
        lambda change: change > policy.alerts.max_churn_increase,
    )


@rule(
    transitions.TABLE,
    "The dormancy rate has not risen by more than max_dormancy_increase in a week.",
    blocking=False,
)
def dormancy_rate_is_steady(
    gold_state_transition_metrics: ir.Table,
    gold_overall_metrics: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """The dormancy rate, if it rose too much."""
    return _rate_moved(
        _platform(gold_state_transition_metrics),
        _users_then(gold_overall_metrics, *_IN_USE),
        transitions.DORMANCY_RATE,
        window,
        policy,
        lambda change: change > policy.alerts.max_dormancy_increase,
    )


@rule(
    transitions.TABLE,
    "The reactivation rate has not fallen by more than max_reactivation_decrease in a week.",
    blocking=False,
    level=AlertLevel.P1,
)
def reactivation_rate_is_steady(
    gold_state_transition_metrics: ir.Table,
    gold_overall_metrics: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """The reactivation rate, if it fell too much."""
    return _rate_moved(
        _platform(gold_state_transition_metrics),
        _users_then(gold_overall_metrics, UserState.CHURNED),
        transitions.REACTIVATION_RATE,
        window,
        policy,
        lambda change: change < -policy.alerts.max_reactivation_decrease,
    )


@rule(
    overall.TABLE,
    "The activation rate has not fallen by more than max_activation_decrease in a week.",
    blocking=False,
    level=AlertLevel.P1,
)
def activation_rate_is_steady(
    gold_overall_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """The activation rate, if it fell too much."""
    rows = gold_overall_metrics
    created = rows[overall.CREATED.column_name]
    # The signups of D-13 to D-7, on whom the rate is.
    signups = created.sum().over(
        ibis.window(order_by="metric_date", preceding=13, following=0)
    ) - created.sum().over(ibis.window(order_by="metric_date", preceding=6, following=0))
    return _rate_moved(
        rows,
        rows.select("metric_date", people=signups.cast("int64")),
        overall.ACTIVATION_RATE,
        window,
        policy,
        lambda change: change < -policy.alerts.max_activation_decrease,
    )


@rule(
    transitions.TABLE,
    "At least min_dunning_recovery of the payment failures closed in 30 days were recovered.",
    blocking=False,
    level=AlertLevel.P1,
)
def dunning_is_recovered(
    gold_state_transition_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """The recovery rate, if it is too low."""
    rows = gold_state_transition_metrics
    closed = rows[transitions.FAILURES_CLOSED.column_name]
    recovered = rows[transitions.RECOVERY_RATE.column_name]
    told = rows.filter(rows.metric_date == window.last, closed.notnull()).select(
        "metric_date",
        figure=ibis.literal(transitions.RECOVERY_RATE.name),
        seen=recovered,
        expected=ibis.literal(policy.alerts.min_dunning_recovery),
        failures=closed,
    )
    return _judged(told, "failures", told.seen < told.expected, policy)


@rule(
    transitions.TABLE,
    "Users who leave the state new have not been in it longer than before, by more than"
    " max_time_in_new_increase from 28 days to the next.",
    blocking=False,
    level=AlertLevel.P3,
)
def time_in_new_is_steady(
    gold_state_transition_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """The mean days in the state new, if they rose too much."""
    rows = gold_state_transition_metrics
    rows = rows.filter(rows.scope == transitions.PLATFORM, rows.from_state == str(UserState.NEW))
    moves = rows[transitions.MOVES.column_name]
    days = moves.cast("float64") * rows[transitions.DAYS_IN_STATE.column_name].fill_null(0.0)
    ago = day_number(window.last) - day_number(rows.metric_date)
    now, before = (
        ago.between(0, BASELINE_DAYS - 1),
        ago.between(BASELINE_DAYS, 2 * BASELINE_DAYS - 1),
    )
    told = rows.aggregate(
        moves_now=moves.sum(where=now),
        moves_before=moves.sum(where=before),
        # Whole numbers, so that the order of the sum does not matter.
        days_now=days.round().sum(where=now),
        days_before=days.round().sum(where=before),
    )
    told = told.select(
        figure=ibis.literal("Mean days in the state new"),
        metric_date=window.last,
        seen=share(told.days_now, told.moves_now),
        expected=share(told.days_before, told.moves_before),
        users=ibis.least(told.moves_now.fill_null(0), told.moves_before.fill_null(0)),
    )
    increase = _rounded(told.seen / told.expected - 1)
    return _judged(told, "users", increase > policy.alerts.max_time_in_new_increase, policy)


@rule(
    segments.TABLE,
    "No state's share of users is further than max_share_shift from its mean over the 28 days before.",
    blocking=False,
)
def state_shares_are_steady(
    gold_segment_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """States whose share of users shifted too much."""
    rows = gold_segment_metrics
    rows = rows.filter(rows.segment_dimension == "platform_state")
    shares = rows[segments.SEGMENT_SHARE.column_name]
    users = rows[segments.USERS_IN_SEGMENT.column_name]
    ago = day_number(window.last) - day_number(rows.metric_date)
    told = rows.group_by(state="segment_value").aggregate(
        seen=shares.max(where=ago == 0),
        expected=shares.mean(where=ago.between(1, BASELINE_DAYS)),
        days=shares.count(where=ago.between(1, BASELINE_DAYS)),
        in_state=users.max(where=ago == 0),
    )
    people = told.in_state.sum().over(ibis.window())
    told = told.filter(told.days == BASELINE_DAYS).select(
        figure="Share of users in the state " + told.state,
        metric_date=window.last,
        seen=told.seen,
        expected=told.expected,
        users=told.in_state,
        people=people,
    )
    shift = _rounded((told.seen - told.expected).abs())
    return _judged(
        told, "people", shift > policy.alerts.max_share_shift, policy, "users", "State shares"
    )


@rule(
    activity.TABLE,
    "A day has as many events as its weekday in the 4 weeks before, give or take"
    " max_volume_deviation.",
    blocking=False,
)
def volume_is_as_expected(
    gold_activity_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """The events of the last day, if they are far from expected."""
    told = _volume(gold_activity_metrics, window)
    deviation = _rounded((share(told.seen, told.expected) - 1).abs())
    return _judged(
        told,
        "expected",
        (told.seen > 0) & (deviation > policy.alerts.max_volume_deviation),
        policy,
        "expected events",
    )


@rule(
    activity.TABLE,
    "A day whose weekday had events in the 4 weeks before has events.",
    blocking=False,
    level=AlertLevel.P0,
)
def there_is_data(
    gold_activity_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """The last day, if it has no event at all and should have."""
    told = _volume(gold_activity_metrics, window)
    return _judged(told, "expected", told.seen == 0, policy, "expected events")


def _volume(rows: ir.Table, window: Window) -> ir.Table:
    """The events of the last day beside the mean of its weekday, if there are 4 weeks before."""
    rows = rows.filter(rows.product_id == TOTAL)
    events = rows[activity.EVENTS.column_name]
    ago = day_number(window.last) - day_number(rows.metric_date)
    weekday = ago.isin([WEEK * n for n in range(1, 5)])
    told = rows.aggregate(
        figure=ibis.literal(activity.EVENTS.name),
        metric_date=window.last,
        seen=events.max(where=ago == 0),
        expected=events.sum(where=weekday).cast("float64") / 4,
        weeks=events.count(where=weekday),
    )
    return told.filter(told.weeks == 4).drop("weeks")


@rule(
    loads.TABLE,
    "At least min_schema_compliance of a day's rows follow the rules of events.",
    blocking=False,
    level=AlertLevel.P1,
)
def schema_is_complied_with(
    bronze_loads: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """The last day, if too many of its rows were rejected."""
    rows = bronze_loads.filter(bronze_loads.partition_date == window.last)
    told = rows.select(
        "partition_date",
        figure=ibis.literal("Share of rows accepted"),
        seen=share(rows.rows_accepted, rows.rows_read),
        expected=ibis.literal(policy.alerts.min_schema_compliance),
        rows_read=rows.rows_read,
    )
    return _judged(told, "rows_read", told.seen < told.expected, policy, "rows read")


@rule(
    overall.TABLE,
    "Monthly active users have not fallen in each of 4 weeks and by more than max_slow_decline in all.",
    blocking=False,
    level=AlertLevel.P3,
)
def users_do_not_decline_slowly(
    gold_overall_metrics: ir.Table, *, policy: LifecyclePolicy, window: Window
) -> ir.Table:
    """Monthly active users, if they decline week after week."""
    rows = gold_overall_metrics
    users = rows[overall.MONTHLY.column_name]
    ago = day_number(window.last) - day_number(rows.metric_date)
    weeks = [WEEK * n for n in range(5)]
    told = rows.aggregate(**{f"ago_{days}": users.max(where=ago == days) for days in weeks})
    values = [told[f"ago_{days}"] for days in weeks]
    fell = ibis.and_(*(now < then for now, then in pairwise(values)))
    seen, expected = values[0], values[-1]
    decline = _rounded(share(expected - seen, expected))
    told = told.filter(expected.notnull()).select(
        figure=ibis.literal(overall.MONTHLY.name),
        metric_date=window.last,
        seen=seen,
        expected=expected,
        decline=decline,
        fell=fell,
    )
    is_slow_decline = told.fell & (told.decline > policy.alerts.max_slow_decline)
    return _judged(told, "expected", is_slow_decline, policy, "users then").drop("fell")
