"""Alert rules that fail when a published figure for the last day crosses a threshold.

The thresholds are set in `AlertPolicy` (framework, section 9). The rules do not block downstream
tables, because the data itself is correct. A figure based on fewer than `min_alert_population`
people, events or rows passes with a note. A figure also passes if there is no history to compare it
with. Each violation shows the observed and expected figures.

A change in a rate fails only if it is also statistically significant: the two-proportion test of the
rate against the previous 4 weeks must have a p-value below `alert_significance`. The test assumes that
people act independently of each other, but the members of an account stop together, for example when
the account is paused. Therefore, the test limits an account's contribution to what chance can explain,
unless the account is half of the company.
"""
# Over 400 lines: the alert rules share the significance tests, and their thresholds are compared with
# each other.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import bronze_loads as loads
from monstera_assets.bronze.validation import REASON, SET_ASIDE
from monstera_assets.gold import authoring as ma
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_segment_metrics as segments
from monstera_assets.gold import gold_state_transition_metrics as transitions
from monstera_assets.lifecycle.intervals import FOREVER
from monstera_assets.lifecycle.policy import AlertPolicy

P0, P1, P2, P3 = ma.AlertLevel
WEEK = 7
BASELINE_DAYS = 28
INTERVALS = "silver_user_state_intervals"
ACCOUNT_LIMIT = 2.5
"""Standard deviations by which an account can differ from the baseline in the test of a rate's change.

With larger limits, more alerts are raised on ordinary days of synthetic companies. With smaller limits,
fewer planted changes are found (docs/how-to/alerts.md).
"""
LARGE_ACCOUNT = 0.5
"""Share of the population from which an account is not limited, since its change is the company's."""


def _alert(
    table: ma.Table,
    figure: str,
    population: str,
    counted: str = "",
    *,
    level: ma.AlertLevel = P2,
    reads: Sequence[str] = (),
    remedy: str,
) -> Callable[[Callable[..., ir.Table]], ma.Rule]:
    """Turn a function that computes figures into a rule that returns the failing figures.

    The function receives the tables, the thresholds and the window. It returns the observed and
    expected figures, the population, and `fails`, which is true if the rule fails.

    Args:
        table: the table to check.
        figure: the figure's name, or a collective name if the function returns a `metric` column.
        population: the column that contains the population size behind each figure.
        counted: plural noun for the population, by default the column name.
        level: the alert level.
        reads: names of the tables to pass to the function; defaults to `table` alone.
        remedy: what to do if the rule fails, in a sentence.
    """

    def decorate(figures: Callable[..., ir.Table]) -> ma.Rule:
        def failing(*tables: ir.Table, policy: ma.LifecyclePolicy, window: ma.Window) -> ir.Table:
            rows = figures(*tables, policy.alerts, window)
            least, size = policy.alerts.min_alert_population, rows[population].fill_null(0)
            number = size.cast("int64").cast("string")
            what = f" {counted or population} (minimum {least}) for {figure}"
            reason = ibis.literal("not evaluated: only ") + number + what
            rows = rows.select(
                metric=rows.metric if "metric" in rows.columns else ibis.literal(figure),
                metric_date=window.last,
                **{column: rows[column] for column in rows.columns if column != "metric"},
                **{ma.NOT_EVALUATED: ibis.ifelse(size < least, reason, None)},
            )
            fails = rows.fails.fill_null(False)
            return rows.filter(rows[ma.NOT_EVALUATED].notnull() | fails).drop("fails")

        declared = ma.rule(table, blocking=False, level=level, remedy=remedy)(figures)
        return replace(declared, function=failing, reads=tuple(reads) or (table.name,))

    return decorate


def _rounded(figure: ir.FloatingValue) -> ir.FloatingValue:
    """Round away floating-point noise so that a figure equal to its threshold does not exceed it."""
    return figure.round(9)


def _ago(rows: ir.Table, window: ma.Window) -> ir.IntegerValue:
    return ma.day_number(window.last) - ma.day_number(rows.metric_date)


def _beyond_chance(
    part: ir.NumericValue,
    population: ir.NumericValue,
    part_before: ir.NumericValue,
    population_before: ir.NumericValue,
    significance: float,
) -> ir.BooleanValue:
    """Return whether two shares differ with p < significance in the two-sided two-proportion test.

    With p1 = x1 / n1, p2 = x2 / n2 and the pooled share p = (x1 + x2) / (n1 + n2), the statistic is
    z = (p1 - p2) / sqrt(p (1 - p) (1 / n1 + 1 / n2)). If both shares are samples of one share, z has
    approximately a standard normal distribution, so p < significance if and only if z^2 exceeds the
    square of the distribution's quantile at 1 - significance / 2. Source: NIST/SEMATECH e-Handbook of
    Statistical Methods, section 7.3.3. The result is null if all or none of the members are in the
    parts.
    """
    pooled = ma.ratio(part + part_before, population + population_before)
    size = population.cast("float64"), population_before.cast("float64")
    variance = pooled * (1 - pooled) * (1 / size[0] + 1 / size[1])
    difference = ma.ratio(part, population) - ma.ratio(part_before, population_before)
    limit = NormalDist().inv_cdf(1 - significance / 2)
    return difference * difference / variance.nullif(0.0) > limit * limit


Members = Callable[[ir.Table, ma.Window], ir.Table]
"""A function that returns the members of a rate's population in each week.

The function receives the users' state intervals and the window. It returns one row per user and week
with `ago` (days from the week's end to the last day), `account_id` and `is_part`.
"""


def _each_week(rows: ir.Table) -> ir.Table:
    """Repeat the rows for the last week and each of the 4 weeks before."""
    weeks = ibis.array([WEEK * n for n in range(BASELINE_DAYS // WEEK + 1)])
    return rows.mutate(ago=weeks.unnest().cast("int64"))


def _of_states(
    states: Sequence[ma.UserState], is_part: Callable[[ir.Table], ir.BooleanValue]
) -> Members:
    """Return the members of a rate of users who were in some states 7 days before the week's end.

    Args:
        states: the states. Users without qualifying events do not count.
        is_part: a function of `state`, the state at the week's end, and `unused_days`, the number of
            days from the last qualifying event to the week's end.
    """

    def members(intervals: ir.Table, window: ma.Window) -> ir.Table:
        last = ma.day_number(window.last)
        rows = intervals.select(
            "user_id",
            "account_id",
            state=intervals.platform_state,
            last_use=ma.day_number(intervals.last_qualifying_date),
            begins=ma.day_number(intervals.valid_from),
            ends=ma.day_number(intervals.valid_to).fill_null(FOREVER),
        )
        rows = rows.filter(rows.ends > last - BASELINE_DAYS - WEEK, rows.begins <= last)

        def at(days_before: int) -> ir.Table:
            each = _each_week(rows)
            day = last - each.ago - days_before
            return each.filter(each.begins <= day, each.ends > day)

        then, now = at(WEEK), at(0)
        then = then.filter(then.state.isin(list(map(str, states))), then.last_use.notnull())
        now = now.filter(now.state != str(ma.UserState.DELETED))
        now = now.select("user_id", "ago", "state", unused_days=last - now.ago - now.last_use)
        both = then.select("user_id", "ago", "account_id").inner_join(now, ["user_id", "ago"])
        return both.select("ago", "account_id", is_part=is_part(both))

    return members


def _signed_up(intervals: ir.Table, window: ma.Window) -> ir.Table:
    """Return the members of the activation rate, in the account that they signed up to."""
    age = ma.day_number(window.last) - ma.day_number(intervals.signup_date)
    recent = intervals.filter(age >= WEEK, age < BASELINE_DAYS + 2 * WEEK)
    people = recent.group_by("user_id", "signup_date").aggregate(
        account_id=recent.account_id.argmin(recent.valid_from),
        first_use=recent.last_qualifying_date.min(),
    )
    signup = ma.day_number(people.signup_date)
    return people.select(
        "account_id",
        # Signups of 7 to 13 days before a week's end.
        ago=((ma.day_number(window.last) - signup - WEEK) // WEEK * WEEK).cast("int64"),
        is_part=(ma.day_number(people.first_use) - signup <= overall.ACTIVATION_DAYS).fill_null(
            False
        ),
    )


def _beyond_bounds(members: ir.Table, weeks: ir.Table, baseline: ir.Table) -> ir.Table:
    """Return, for each week, by how many members accounts exceed the bounds of chance.

    Of an account's n members, p n are expected in the part, where p is the share in the previous 4
    weeks, with the binomial standard deviation s = sqrt(n p (1 - p)). The bounds are
    p n + ACCOUNT_LIMIT s, rounded down but at least 1, and p n - ACCOUNT_LIMIT s, rounded up but at
    most n - 1 and at least 0. One member alone is therefore never out of bounds. An account with
    LARGE_ACCOUNT or more of the week's population has no bounds.
    """
    accounts = members.group_by("ago", "account_id").aggregate(
        part=members.is_part.sum(), size=members.count()
    )
    accounts = accounts.inner_join(weeks.select("ago", "people"), "ago")
    accounts = accounts.filter(accounts.size < LARGE_ACCOUNT * accounts.people)
    accounts = accounts.cross_join(baseline)
    mean = accounts.share * accounts.size
    spread = ACCOUNT_LIMIT * (mean * (1 - accounts.share)).sqrt()
    most = ibis.greatest((mean + spread).floor(), 1)
    least = ibis.greatest(ibis.least((mean - spread).ceil(), accounts.size - 1), 0)
    beyond = accounts.part - ibis.least(ibis.greatest(accounts.part, least), most)
    return accounts.group_by("ago").aggregate(beyond=beyond.cast("int64").sum())


def _weekly_rate(
    table: ma.MetricTable,
    rate: ma.Proportion,
    members: Members,
    threshold: str,
    level: ma.AlertLevel,
    remedy: str,
) -> ma.Rule:
    """Return a rule that limits the week-on-week change in a rate.

    A change fails the rule only if it is also statistically significant. The test compares the last
    week with the pooled previous 4 weeks, or with those that exist, since a single week is a small
    sample.

    Args:
        table: the table with the rate.
        rate: the rate, with its part and its population.
        members: returns the members of the population.
        threshold: the setting's name, either `max_<what>_increase` or `max_<what>_decrease`.
        level: the alert level.
        remedy: what to do if the rule fails, in a sentence.
    """
    _, what, direction = threshold.split("_")

    def figures(
        rows: ir.Table, intervals: ir.Table, alerts: AlertPolicy, window: ma.Window
    ) -> ir.Table:
        if table is transitions.TABLE:
            rows = rows.filter(rows.scope == transitions.PLATFORM, rows.from_state == ma.TOTAL)
        _, part, people = ma.metric_columns(rows, *rate.metrics)
        weeks = rows.select(ago=_ago(rows, window), part=part, people=people)
        weeks = weeks.filter(
            weeks.ago.isin([WEEK * n for n in range(BASELINE_DAYS // WEEK + 1)]),
            weeks.people.notnull(),
        )
        past = weeks.filter(weeks.ago > 0)
        baseline = past.aggregate(share=ma.ratio(past.part.sum(), past.people.sum()))
        beyond = _beyond_bounds(members(intervals, window), weeks, baseline)
        weeks = ma.left_joined(weeks, beyond, on=["ago"])
        within = weeks.part - weeks.beyond.fill_null(0)
        both = weeks.aggregate(
            part=weeks.part.max(where=weeks.ago == 0),
            people_now=weeks.people.max(where=weeks.ago == 0),
            part_before=weeks.part.max(where=weeks.ago == WEEK),
            people_before=weeks.people.max(where=weeks.ago == WEEK),
            tested=within.max(where=weeks.ago == 0),
            tested_past=within.sum(where=weeks.ago > 0),
            people_past=weeks.people.sum(where=weeks.ago > 0),
        )
        # Without this, the filter repeats the whole query.
        both = ma.materialized(both)
        both = both.filter(both.people_now.notnull(), both.people_before.notnull())
        observed = ma.ratio(both.part, both.people_now)
        expected = ma.ratio(both.part_before, both.people_before)
        change = _rounded(ma.ratio(observed - expected, expected))
        limit = getattr(alerts, threshold)
        is_beyond_limit = change > limit if direction == "increase" else change < -limit
        is_beyond_chance = _beyond_chance(
            *(both.tested, both.people_now, both.tested_past, both.people_past),
            significance=alerts.alert_significance,
        )
        return both.select(
            observed=observed,
            expected=expected,
            change=change,
            people=ibis.least(both.people_now, both.people_before),
            fails=is_beyond_limit & is_beyond_chance,
        )

    moved = "risen" if direction == "increase" else "fallen"
    figures.__name__ = f"{what}_rate_is_steady"
    figures.__doc__ = (
        f"The {what} rate has not {moved} by more than {threshold} within a week, or the change is not"
        " statistically significant."
    )
    reads = (table.name, INTERVALS)
    return _alert(table, rate.share.name, "people", level=level, reads=reads, remedy=remedy)(
        figures
    )


_IN_USE, _DORMANT, _CHURNED = transitions.USER_STATES
churn_rate_is_steady = _weekly_rate(
    transitions.TABLE,
    transitions.CHURN,
    _of_states((*_IN_USE, *_DORMANT), lambda users: users.state.isin(list(map(str, _CHURNED)))),
    "max_churn_increase",
    P1,
    "Find out which users churned and what changed for them when they stopped, 61 to 67 days ago.",
)
dormancy_rate_is_steady = _weekly_rate(
    transitions.TABLE,
    transitions.DORMANCY,
    _of_states(_IN_USE, lambda users: users.state.isin(list(map(str, _DORMANT)))),
    "max_dormancy_increase",
    P2,
    "Find out which users became dormant and what changed when they stopped, 31 to 37 days ago.",
)
reactivation_rate_is_steady = _weekly_rate(
    transitions.TABLE,
    transitions.REACTIVATION,
    _of_states(_CHURNED, lambda users: users.unused_days < WEEK),
    "max_reactivation_decrease",
    P1,
    "Check whether campaigns to former users have stopped, and whether these users can log in.",
)
activation_rate_is_steady = _weekly_rate(
    overall.TABLE,
    overall.ACTIVATION,
    _signed_up,
    "max_activation_decrease",
    P1,
    "Try the first steps after signup, and check whether last week's signups came from a new source.",
)


@_alert(
    transitions.TABLE,
    transitions.RECOVERY.share.name,
    "accounts",
    level=P1,
    remedy="Check whether failed payments are retried, and contact the accounts with open failures.",
)
def dunning_is_recovered(rows: ir.Table, alerts: AlertPolicy, window: ma.Window) -> ir.Table:
    """Of the accounts with failures closed in 30 days, at least min_dunning_recovery recovered."""
    recovered, _, closed = ma.metric_columns(rows, *transitions.RECOVERY.metrics)
    least = alerts.min_dunning_recovery
    return rows.filter(rows.metric_date == window.last, closed.notnull()).select(
        observed=recovered, expected=ibis.literal(least), accounts=closed, fails=recovered < least
    )


@_alert(
    loads.TABLE,
    "Share of rows accepted",
    "rows",
    level=P1,
    reads=("bronze_loads", "bronze_rejected_events"),
    remedy="Look up the remedies with monstera check, correct the source, and run the day again.",
)
def schema_is_complied_with(
    rows: ir.Table, rejected: ir.Table, alerts: AlertPolicy, window: ma.Window
) -> ir.Table:
    """The accepted share of the day's event rows is at least min_schema_compliance.

    Repeated and superseded rows and rows that are held back are not counted.
    """
    least = alerts.min_schema_compliance
    set_aside = rejected.filter(
        rejected.partition_date == window.last, rejected[REASON].isin(SET_ASIDE)
    ).count()
    rows = rows.filter(rows.partition_date == window.last)
    rows = rows.mutate(rows=rows.rows_accepted + rows.rows_rejected - set_aside.as_scalar())
    accepted = ma.ratio(rows.rows_accepted, rows.rows)
    return rows.select(
        observed=accepted,
        expected=ibis.literal(least),
        rows=rows.rows,
        fails=accepted < least,
    )


@_alert(
    transitions.TABLE,
    "Mean days in state new",
    "users",
    level=P3,
    remedy="Review this week whether the first steps after signup have become more difficult.",
)
def time_in_new_is_steady(rows: ir.Table, alerts: AlertPolicy, window: ma.Window) -> ir.Table:
    """The mean time in state new has not risen by more than max_time_in_new_increase in 28 days."""
    rows = rows.filter(rows.scope == transitions.PLATFORM, rows.from_state == str(ma.UserState.NEW))
    left = rows[transitions.MOVES.column_name]
    # Integer sums do not depend on row order.
    days = (left * rows[transitions.DAYS_IN_STATE.column_name].fill_null(0.0)).round()
    now = _ago(rows, window).between(0, BASELINE_DAYS - 1)
    before = _ago(rows, window).between(BASELINE_DAYS, 2 * BASELINE_DAYS - 1)
    sums = rows.aggregate(
        left_now=left.sum(where=now),
        left_before=left.sum(where=before),
        days_now=days.sum(where=now),
        days_before=days.sum(where=before),
    )
    observed = ma.ratio(sums.days_now, sums.left_now)
    expected = ma.ratio(sums.days_before, sums.left_before)
    return sums.select(
        observed=observed,
        expected=expected,
        users=ibis.least(sums.left_now.fill_null(0), sums.left_before.fill_null(0)),
        fails=_rounded(observed / expected - 1) > alerts.max_time_in_new_increase,
    )


@_alert(
    segments.TABLE,
    "State shares",
    "people",
    "users",
    remedy="Find out which transitions moved the share, and whether the source is complete.",
)
def state_shares_are_steady(rows: ir.Table, alerts: AlertPolicy, window: ma.Window) -> ir.Table:
    """Each state's share of users is within max_share_shift of its mean over the previous 28 days."""
    rows = rows.filter(rows.segment_dimension == "platform_state")
    shares = rows[segments.SEGMENT_SHARE.column_name]
    ago = _ago(rows, window)
    before = ago.between(1, BASELINE_DAYS)
    states = rows.group_by(state="segment_value").aggregate(
        observed=shares.max(where=ago == 0),
        expected=shares.mean(where=before),
        users=rows[segments.USERS_IN_SEGMENT.column_name].max(where=ago == 0),
        days=shares.count(where=before),
    )
    states = states.filter(states.days == BASELINE_DAYS)
    shift = _rounded((states.observed - states.expected).abs())
    return states.select(
        *("observed", "expected", "users"),
        metric="Share of users in state " + states.state,
        people=states.users.sum().over(ibis.window()),
        fails=shift > alerts.max_share_shift,
    )


def _volume(rows: ir.Table, window: ma.Window) -> ir.Table:
    """Return the last day's event count and its mean for the same weekday in the previous 4 weeks.

    The result is empty if any of those 4 days is missing.
    """
    rows = rows.filter(rows.product_id == ma.TOTAL)
    events = rows[activity.EVENTS.column_name]
    ago = _ago(rows, window)
    weekday = ago.isin([WEEK * n for n in range(1, 5)])
    sums = rows.aggregate(
        observed=events.max(where=ago == 0),
        expected=events.sum(where=weekday).cast("float64") / 4,
        weeks=events.count(where=weekday),
    )
    return sums.filter(sums.weeks == 4).drop("weeks")


@_alert(
    activity.TABLE,
    activity.EVENTS.name,
    "expected",
    "expected events",
    remedy="Check whether events are missing or doubled, or whether the day is a holiday.",
)
def volume_is_as_expected(rows: ir.Table, alerts: AlertPolicy, window: ma.Window) -> ir.Table:
    """The event count is within max_volume_deviation of its weekday mean over the previous 4 weeks."""
    day = _volume(rows, window)
    deviation = _rounded((ma.ratio(day.observed, day.expected) - 1).abs())
    return day.mutate(fails=(day.observed > 0) & (deviation > alerts.max_volume_deviation))


@_alert(
    activity.TABLE,
    activity.EVENTS.name,
    "expected",
    "expected events",
    level=P0,
    remedy="Check whether the last day's events were delivered. Then run the day again.",
)
def there_is_data(rows: ir.Table, _: AlertPolicy, window: ma.Window) -> ir.Table:
    """The last day has events if the same weekday had events in the previous 4 weeks."""
    day = _volume(rows, window)
    return day.mutate(fails=day.observed == 0)


@ma.rule(
    activity.TABLE,
    blocking=False,
    level=P1,
    remedy="Deliver the missing days' events, and run these days again.",
)
def days_have_events(
    gold_activity_metrics: ir.Table, *, policy: ma.LifecyclePolicy, window: ma.Window
) -> ir.Table:
    """Each day has events if the same weekday usually has at least min_alert_population events.

    The usual number is the median for the same weekday in the previous 4 weeks. The last day is not
    checked.
    """
    rows = gold_activity_metrics.filter(gold_activity_metrics.product_id == ma.TOTAL)
    rows = rows.select("metric_date", events=rows[activity.EVENTS.column_name])
    empty = rows.filter(
        rows.events == 0, rows.metric_date >= window.first, rows.metric_date < window.last
    )
    before = rows.select(day=ma.day_number(rows.metric_date), expected=rows.events)
    ago = ma.day_number(empty.metric_date) - before.day
    weeks = empty.inner_join(before, ago.isin([WEEK * n for n in range(1, 5)]))
    days = weeks.group_by("metric_date").aggregate(
        observed=weeks.events.max(), expected=weeks.expected.median(), weeks=weeks.count()
    )
    days = days.filter(days.weeks == 4, days.expected >= policy.alerts.min_alert_population)
    return days.select(
        "metric_date",
        metric=ibis.literal(activity.EVENTS.name),
        observed="observed",
        expected="expected",
    )


@ma.rule(
    activity.TABLE,
    blocking=False,
    level=P1,
    remedy="Look for rows with an incorrect date in the source, correct them, and run the days again.",
)
def last_day_follows_the_others(
    gold_activity_metrics: ir.Table,
    bronze_subscription_events: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """The last day with data is at most max_gap_days days after the previous day with data.

    Data includes events, subscription events, and created users and accounts. A longer gap indicates an
    incorrect date.
    """
    events = gold_activity_metrics
    events = events.filter(events[activity.EVENTS.column_name] > 0)
    days = ibis.union(
        events.select(day="metric_date"),
        bronze_subscription_events.select(day="event_date"),
        bronze_users.select(day="signup_date"),
        bronze_accounts.select(day="created_date"),
        distinct=True,
    )
    days = days.filter(days.day <= window.last)
    ends = days.aggregate(last_day=days.day.max()).cross_join(days)
    ends = ends.group_by("last_day").aggregate(
        day_before=ends.day.max(where=ends.day < ends.last_day)
    )
    gap = ma.day_number(ends.last_day) - ma.day_number(ends.day_before)
    return ends.mutate(gap_days=gap).filter(gap > policy.alerts.max_gap_days)


@_alert(
    overall.TABLE,
    overall.MONTHLY.name,
    "expected",
    "users 4 weeks earlier",
    level=P3,
    remedy="Review this week which segments lose users, and whether fewer users sign up.",
)
def users_do_not_decline_slowly(rows: ir.Table, alerts: AlertPolicy, window: ma.Window) -> ir.Table:
    """A decline in monthly active users over 4 consecutive weeks does not exceed max_slow_decline."""
    users, ago = rows[overall.MONTHLY.column_name], _ago(rows, window)
    weeks = rows.aggregate(**{f"ago_{n}": users.max(where=ago == n * WEEK) for n in range(5)})
    weeks = weeks.filter(weeks.ago_4.notnull())
    fell = ibis.and_(*(weeks[f"ago_{n}"] < weeks[f"ago_{n + 1}"] for n in range(4)))
    decline = _rounded(ma.ratio(weeks.ago_4 - weeks.ago_0, weeks.ago_4))
    return weeks.select(
        observed="ago_0",
        expected="ago_4",
        decline=decline,
        fails=fell & (decline > alerts.max_slow_decline),
    )
