"""gold_retention_cohorts: signup cohort retention by period after signup."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma

COHORT_TYPES = {"month": ("M", 30), "week": ("W", 7)}
"""For each cohort type, the Ibis unit for truncating signup dates and the number of days per period."""

_IMMATURE = (
    "null if the period started before the history's first day or if some members have not completed"
    " the period"
)


def _users(name: str, definition: str, formula: str, caveats: str = "") -> ma.Metric:
    return ma.Metric(
        f"Users {name} per Period",
        f"{definition}; {_IMMATURE}.",
        formula,
        nullable=True,
        caveats=caveats,
    )


def _share(name: str, of: str) -> ma.Metric:
    return ma.Metric(
        f"Users {name} Share per Period",
        f"{of} / users in the cohort; {_IMMATURE}.",
        f"{of} / cohort",
        population="users who signed up in the cohort's month or week",
    )


USERS_IN_COHORT = ma.Metric(
    "Users in Cohort per Period",
    "Users who signed up in the cohort's month or week. The number is the same in every period.",
    "count(user_id) by the month or week of user_created_at",
)
USERS_RETAINED = _users(
    "Retained",
    "Users with a qualifying event in the period, measured from each user's signup (bracket retention)",
    "count(distinct user_id) where days since signup are in the period",
)
RETENTION = _share("Retained", "Users retained")
USERS_RETAINED_UNBOUNDED = _users(
    "Retained Unbounded",
    "Users with a qualifying event in the period or later, through the as-of date",
    "count(distinct user_id) where days since signup are in the period or after it",
    "Users in older cohorts have had more time to come back.",
)
RETENTION_UNBOUNDED = _share("Retained Unbounded", "Users retained unbounded")
USERS_IN_STATE = {
    state: _users(
        f"in State {state.title()}",
        f"Users who are {state} at the end of the period's last day",
        f"count(user_id) where platform_state = '{state}'",
    )
    for state in ma.UserState
}

TABLE = ma.metric_table(
    "gold_retention_cohorts",
    grain="one cohort and period after signup",
    description="What share of each signup cohort came back in each period after signup? Periods are"
    " counted from each user's own signup and last 30 days for monthly cohorts and 7 days for weekly"
    " cohorts. Period 0 starts on the signup day. A period has a row once the cohort's first member"
    " has reached that period.",
    dimensions=(
        ma.Column(
            "cohort_type",
            "string",
            "Whether users are grouped by signup month or by signup week. Weeks start on Monday.",
            allowed=tuple(COHORT_TYPES),
        ),
        ma.Column("cohort_start", "date", "First day of the signup month or week."),
        ma.Column(
            "period_number",
            "int64",
            "Period n covers days n x length through (n + 1) x length - 1 after signup, where length is"
            " 30 or 7 days.",
        ),
        ma.AS_OF_DATE,
    ),
    key=("cohort_type", "cohort_start", "period_number"),
    metrics=(
        *(USERS_IN_COHORT, USERS_RETAINED, RETENTION),
        *(USERS_RETAINED_UNBOUNDED, RETENTION_UNBOUNDED),
        *USERS_IN_STATE.values(),
    ),
    is_daily=False,
)

_PERIODS_SHOWN = 12


def _monthly_table(cohorts: ir.Table) -> ir.Table:
    monthly = cohorts.filter(cohorts.cohort_type == "month")
    users, retained = monthly[USERS_IN_COHORT.column_name], monthly[RETENTION.column_name]
    wide = monthly.group_by("cohort_start").aggregate(
        users=users.max(),
        **{
            f"period {n}": retained.max(where=monthly.period_number == n)
            for n in range(_PERIODS_SHOWN)
        },
    )
    return wide.order_by("cohort_start")


_CELL = ("cohort_start", "period_number")


@ma.table_asset(
    TABLE,
    days={"silver_daily_user_activity": ma.ALL_DAYS, "silver_user_state_history": ma.ALL_DAYS},
    previews=[ma.Preview("Retention by signup month", _monthly_table, is_share=True)],
)
def gold_retention_cohorts(
    bronze_users: ir.Table,
    silver_user_current_state: ir.Table,
    silver_daily_user_activity: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_state_intervals: ir.Table,
    bronze_subscription_events: ir.Table,
) -> ir.Table:
    """Count users, retained users and users by state per cohort and period."""
    as_of = silver_user_current_state.aggregate(
        as_of_date=silver_user_current_state.as_of_date.max()
    )
    users = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    begins = first_day_of_facts(
        silver_user_state_history, silver_daily_user_activity, bronze_subscription_events
    )
    users = users.cross_join(as_of).cross_join(begins)
    users = ma.materialized(users.filter(users.signup_date <= users.as_of_date))
    used = users.inner_join(ma.active_days(silver_daily_user_activity), "user_id")
    used = used.filter(used.day <= ma.day_number(used.as_of_date))
    used = ma.materialized(used.mutate(age=used.day - ma.day_number(used.signup_date)))
    states = silver_user_state_intervals
    return ibis.union(*(_cells(users, used, states, name) for name in COHORT_TYPES))


def first_day_of_facts(
    history: ir.Table, activity: ir.Table, subscription_events: ir.Table
) -> ir.Table:
    """Return one row with `history_from`, the day number of the first day with history or facts.

    Facts predate the history if the `start_date` setting is later than the date of the first fact.
    """
    days = ibis.union(
        history.aggregate(day=history.snapshot_date.min()),
        activity.aggregate(day=activity.activity_date.min()),
        subscription_events.aggregate(day=subscription_events.event_date.min()),
    )
    return days.aggregate(history_from=ma.day_number(days.day.min()))


def _at_period_ends(intervals: ir.Table, days: int) -> ir.Table:
    """Return each user's state at the end of each period.

    Period n ends n * days + days - 1 days after signup.
    """
    signup = ma.day_number(intervals.signup_date)
    ended = ma.day_number(intervals.valid_to).fill_null(ma.day_number(intervals.as_of_date) + 1)
    first = (ma.day_number(intervals.valid_from) - signup) // days
    # A span of n days from signup contains n // days complete periods.
    periods = ibis.range(first, (ended - signup) // days)
    return intervals.select(
        "user_id",
        "signup_date",
        "platform_state",
        period_number=periods.unnest().cast("int64"),
    )


def _cells(users: ir.Table, used: ir.Table, intervals: ir.Table, cohort_type: str) -> ir.Table:
    unit, days = COHORT_TYPES[cohort_type]
    cohort_start = {"cohort_start": ibis._.signup_date.truncate(unit)}
    cohorts = users.group_by(**cohort_start).aggregate(
        members=ibis._.count(),
        first_signup=ma.day_number(ibis._.signup_date.min()),
        last_signup=ma.day_number(ibis._.signup_date.max()),
        as_of_date=ibis._.as_of_date.max(),
        history_from=ibis._.history_from.max(),
    )
    today = ma.day_number(cohorts.as_of_date)
    cells = cohorts.mutate(
        today=today,
        period_number=ibis.range((today - cohorts.first_signup) // days + 1).unnest().cast("int64"),
    )
    used = used.mutate(**cohort_start, period_number=used.age // days)
    periods = used.select("user_id", *_CELL).distinct()
    retained = periods.group_by(*_CELL).aggregate(retained=periods.count())
    latest = periods.group_by("user_id", "cohort_start").aggregate(
        latest=periods.period_number.max()
    )
    leaving = latest.group_by("cohort_start", period_number="latest").aggregate(
        leaving=latest.count()
    )
    at_end = _at_period_ends(intervals, days).mutate(**cohort_start)
    states = at_end.group_by(*_CELL).aggregate(
        **ma.counted_by_state(at_end, at_end.platform_state, USERS_IN_STATE)
    )
    cells = ma.left_joined(cells, retained, leaving, states, on=_CELL)
    from_here_on = ibis.window(
        group_by="cohort_start", order_by=cells.period_number.desc(), preceding=None, following=0
    )
    unbounded = cells.leaving.fill_null(0).sum().over(from_here_on).cast("int64")
    cells = cells.mutate(unbounded=unbounded)
    is_mature = cells.last_signup + (cells.period_number + 1) * days - 1 <= cells.today
    is_in_history = cells.first_signup + cells.period_number * days >= cells.history_from

    def if_known(value: ir.Value) -> ir.Value:
        return ibis.ifelse(is_mature & is_in_history, value, None)

    return cells.select(
        *_CELL,
        "as_of_date",
        cohort_type=ibis.literal(cohort_type),
        **{
            USERS_IN_COHORT.column_name: cells.members,
            USERS_RETAINED.column_name: if_known(cells.retained.fill_null(0)),
            RETENTION.column_name: if_known(ma.ratio(cells.retained.fill_null(0), cells.members)),
            USERS_RETAINED_UNBOUNDED.column_name: if_known(cells.unbounded),
            RETENTION_UNBOUNDED.column_name: if_known(ma.ratio(cells.unbounded, cells.members)),
            **{
                name: if_known(users)
                for name, users in ma.zero_filled(cells, USERS_IN_STATE.values()).items()
            },
        },
    )


@ma.rule(TABLE)
def cohorts_add_up_to_signups(gold_retention_cohorts: ir.Table, bronze_users: ir.Table) -> ir.Table:
    """Each user who has signed up is in exactly one cohort per cohort type."""
    rows = gold_retention_cohorts
    as_of = rows.aggregate(day=rows.as_of_date.max()).day.as_scalar()
    published = rows.group_by("cohort_type", "cohort_start").aggregate(
        fewest=rows[USERS_IN_COHORT.column_name].min(),
        most=rows[USERS_IN_COHORT.column_name].max(),
        periods=(rows.period_number == 0).sum().cast("int64"),
    )
    signups = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    signups = signups.filter(signups.signup_date <= as_of)
    counted = ibis.union(
        *(
            signups.group_by(
                cohort_type=ibis.literal(name), cohort_start=signups.signup_date.truncate(unit)
            ).aggregate(fewest=signups.count(), most=signups.count())
            for name, (unit, _) in COHORT_TYPES.items()
        )
    ).mutate(periods=ibis.literal(1, "int64"))
    return ma.differing_rows(published, counted)


@ma.rule(TABLE)
def retention_is_in_bounds(gold_retention_cohorts: ir.Table) -> ir.Table:
    """Bracket retention does not exceed unbounded retention, and neither exceeds the cohort size."""
    rows = gold_retention_cohorts
    members, retained, unbounded = ma.metric_columns(
        rows, USERS_IN_COHORT, USERS_RETAINED, USERS_RETAINED_UNBOUNDED
    )
    states = [rows[metric.column_name] for metric in USERS_IN_STATE.values()]
    in_states = sum(states, ibis.literal(0, "int64"))
    impossible = (
        (retained > unbounded)
        | (unbounded > members)
        | (retained < 0)
        | (in_states != members)
        | ~rows[RETENTION.column_name].identical_to(ma.ratio(retained, members))
        | ~rows[RETENTION_UNBOUNDED.column_name].identical_to(ma.ratio(unbounded, members))
    )
    some_missing = ibis.or_(
        *(rows[metric.column_name].isnull() != retained.isnull() for metric in TABLE.metrics[2:])
    )
    return rows.filter(impossible.fill_null(False) | some_missing)


@ma.rule(TABLE)
def immature_cells_are_null(
    gold_retention_cohorts: ir.Table,
    bronze_users: ir.Table,
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_subscription_events: ir.Table,
) -> ir.Table:
    """A period has values if and only if the history covers the whole period for every member."""
    rows = gold_retention_cohorts
    begins_on = first_day_of_facts(
        silver_user_state_history, silver_daily_user_activity, bronze_subscription_events
    )
    first_day = begins_on.history_from.as_scalar()
    wrong = []
    for name, (unit, days) in COHORT_TYPES.items():
        people = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
        people = people.mutate(cohort_start=people.signup_date.truncate(unit))
        both = rows.filter(rows.cohort_type == name).inner_join(people, "cohort_start")
        both = both.filter(both.signup_date <= both.as_of_date)
        signup_day = ma.day_number(both.signup_date)
        lived = ma.day_number(both.as_of_date) - signup_day + 1
        begins = signup_day + both.period_number * days
        is_known = (lived >= (both.period_number + 1) * days) & (begins >= first_day)
        through = both.group_by("cohort_type", *_CELL).aggregate(
            is_known=is_known.all(), has_numbers=both[USERS_RETAINED.column_name].notnull().any()
        )
        wrong.append(through.filter(through.is_known != through.has_numbers))
    return ibis.union(*wrong)
