"""gold_retention_cohorts: signup cohort retention by period after signup."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma

COHORT_TYPES = {"month": ("M", 30), "week": ("W", 7)}
"""For each cohort type, the Ibis unit for truncating signup dates and the number of days per period."""

_IMMATURE = "null if some members have not completed the period"


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
    "Users of the segment who signed up in the cohort's month or week. The number is the same in every"
    " period.",
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

_COUNTS = (USERS_IN_COHORT, USERS_RETAINED, USERS_RETAINED_UNBOUNDED, *USERS_IN_STATE.values())

TABLE = ma.metric_table(
    "gold_retention_cohorts",
    group=ma.AssetGroup.RETENTION,
    grain="one cohort, segment and period after signup",
    description="What share of each signup cohort came back in each period after signup? Cohorts"
    " contain the users who signed up on the range's first day or later, in total and by"
    f" {', '.join(ma.USER_DIMENSIONS[:-1])} and {ma.USER_DIMENSIONS[-1]} on the signup day. The"
    f" total has `{ma.TOTAL}` in both segment columns. Periods are counted from each user's own"
    " signup and last 30 days for monthly cohorts and 7 days for weekly cohorts. Period 0 starts on"
    " the signup day. A period has a row once the segment's first member has reached that period.",
    dimensions=(
        ma.Column(
            "cohort_type",
            "string",
            "Whether users are grouped by signup month or by signup week. Weeks start on Monday.",
            allowed=tuple(COHORT_TYPES),
        ),
        ma.Column("cohort_start", "date", "First day of the signup month or week."),
        *ma.segment_columns(ma.USER_DIMENSIONS, "users"),
        ma.Column(
            "period_number",
            "int64",
            "Period n covers days n x length through (n + 1) x length - 1 after signup, where length is"
            " 30 or 7 days.",
        ),
        ma.AS_OF_DATE,
    ),
    key=("cohort_type", "cohort_start", *ma.SEGMENT, "period_number"),
    metrics=(
        *(USERS_IN_COHORT, USERS_RETAINED, RETENTION),
        *(USERS_RETAINED_UNBOUNDED, RETENTION_UNBOUNDED),
        *USERS_IN_STATE.values(),
    ),
    is_daily=False,
    slices=(),  # each user counts once per period
)

_PERIODS_SHOWN = 12


def _monthly_table(cohorts: ir.Table) -> ir.Table:
    monthly = cohorts.filter(cohorts.cohort_type == "month", cohorts.segment_dimension == ma.TOTAL)
    users, retained = monthly[USERS_IN_COHORT.column_name], monthly[RETENTION.column_name]
    wide = monthly.group_by("cohort_start").aggregate(
        users=users.max(),
        **{
            f"period {n}": retained.max(where=monthly.period_number == n)
            for n in range(_PERIODS_SHOWN)
        },
    )
    return wide.order_by("cohort_start")


_COHORT = ("cohort_start", *ma.SEGMENT)
_CELL = (*_COHORT, "period_number")


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
    """Count users, retained users and users by state per cohort, segment and period."""
    members = ma.materialized(
        _members(
            bronze_users,
            ma.range_first_day(
                silver_user_state_history, silver_daily_user_activity, bronze_subscription_events
            ),
            silver_user_current_state.aggregate(
                as_of_date=silver_user_current_state.as_of_date.max()
            ),
        )
    )
    used = members.inner_join(ma.active_days(silver_daily_user_activity), "user_id")
    used = used.filter(used.day <= ma.day_number(used.as_of_date))
    used = used.select("user_id", age=used.day - ma.day_number(used.signup_date))
    used, states = ma.materialized(used), silver_user_state_intervals
    return ibis.union(*(_cells(members, used, states, name) for name in COHORT_TYPES))


def _members(users: ir.Table, first_day: ir.IntegerScalar, as_of: ir.Table) -> ir.Table:
    """Return the users who signed up in the range, with their segments on the signup day."""
    signups = ma.one_row_per_entity(users, ["user_id", "signup_date"]).cross_join(as_of)
    signup_day = ma.day_number(signups.signup_date)
    signups = signups.filter(signups.signup_date <= signups.as_of_date, signup_day >= first_day)
    versions = ma.version_intervals(users, "user_id", ma.USER_DIMENSIONS)
    return ma.at_day(signups, ma.day_number(signups.signup_date), versions, "user_id")


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
        "user_id", "platform_state", period_number=periods.unnest().cast("int64")
    )


def _cells(members: ir.Table, used: ir.Table, intervals: ir.Table, cohort_type: str) -> ir.Table:
    unit, days = COHORT_TYPES[cohort_type]
    members = members.mutate(cohort_start=members.signup_date.truncate(unit))
    cohorts = _by_segment(
        members,
        {
            "members": members.count(),
            "first_signup": ma.day_number(members.signup_date.min()),
            "last_signup": ma.day_number(members.signup_date.max()),
            "as_of_date": members.as_of_date.max(),
        },
    )
    today = ma.day_number(cohorts.as_of_date)
    cells = cohorts.mutate(
        today=today,
        period_number=ibis.range((today - cohorts.first_signup) // days + 1).unnest().cast("int64"),
    )
    of_members = members.select("user_id", "cohort_start", *ma.USER_DIMENSIONS)
    periods = used.select("user_id", period_number=used.age // days).distinct()
    latest = periods.group_by("user_id").aggregate(period_number=periods.period_number.max())
    of_states = ma.counted_by_state(ibis._, ibis._.platform_state, USERS_IN_STATE)
    retained, leaving, states = (
        _counted(rows.inner_join(of_members, "user_id"), counts)
        for rows, counts in (
            (periods, {"retained": ibis._.count()}),
            (latest, {"leaving": ibis._.count()}),
            (_at_period_ends(intervals, days), of_states),
        )
    )
    cells = ma.left_joined(cells, retained, leaving, states, on=_CELL)
    from_here_on = ibis.window(
        group_by=_COHORT, order_by=cells.period_number.desc(), preceding=None, following=0
    )
    unbounded = cells.leaving.fill_null(0).sum().over(from_here_on).cast("int64")
    cells = cells.mutate(unbounded=unbounded)
    is_mature = cells.last_signup + (cells.period_number + 1) * days - 1 <= cells.today

    def if_mature(value: ir.Value) -> ir.Value:
        return ibis.ifelse(is_mature, value, None)

    return cells.select(
        *_CELL,
        "as_of_date",
        cohort_type=ibis.literal(cohort_type),
        **{
            USERS_IN_COHORT.column_name: cells.members,
            USERS_RETAINED.column_name: if_mature(cells.retained.fill_null(0)),
            RETENTION.column_name: if_mature(ma.ratio(cells.retained.fill_null(0), cells.members)),
            USERS_RETAINED_UNBOUNDED.column_name: if_mature(cells.unbounded),
            RETENTION_UNBOUNDED.column_name: if_mature(ma.ratio(cells.unbounded, cells.members)),
            **{
                name: if_mature(users)
                for name, users in ma.zero_filled(cells, USERS_IN_STATE.values()).items()
            },
        },
    )


def _counted(rows: ir.Table, counts: Mapping[str, ir.Value | ibis.Deferred]) -> ir.Table:
    """Count rows by cell."""
    # Few combinations of dimension values occur, so the users are aggregated by combination first.
    combined = ma.materialized(
        rows.group_by("cohort_start", "period_number", *ma.USER_DIMENSIONS).aggregate(**counts)
    )
    return _by_segment(combined, ma.sums(combined, *counts), period_number=combined.period_number)


def _by_segment(rows: ir.Table, counts: Mapping[str, ir.Value], **by: ir.Value) -> ir.Table:
    """Aggregate rows by cohort start, `by` and segment, including the total."""
    values = {ma.TOTAL: ibis.literal(ma.TOTAL), **{name: rows[name] for name in ma.USER_DIMENSIONS}}
    return ma.counted_by_dimension(rows, values, counts, cohort_start="cohort_start", **by)


@ma.rule(TABLE)
def cohorts_add_up_to_signups(
    gold_retention_cohorts: ir.Table,
    bronze_users: ir.Table,
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_subscription_events: ir.Table,
) -> ir.Table:
    """Each user who signed up in the range is in exactly one cohort per cohort type."""
    rows = gold_retention_cohorts
    as_of = rows.aggregate(day=rows.as_of_date.max()).day.as_scalar()
    first_day = ma.range_first_day(
        silver_user_state_history, silver_daily_user_activity, bronze_subscription_events
    )
    rows = rows.filter(rows.segment_dimension == ma.TOTAL)
    published = rows.group_by("cohort_type", "cohort_start").aggregate(
        fewest=rows[USERS_IN_COHORT.column_name].min(),
        most=rows[USERS_IN_COHORT.column_name].max(),
        periods=(rows.period_number == 0).sum().cast("int64"),
    )
    signups = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    signups = signups.filter(
        signups.signup_date <= as_of, ma.day_number(signups.signup_date) >= first_day
    )
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
def segments_add_up(gold_retention_cohorts: ir.Table) -> ir.Table:
    """In each period that all members have completed, each dimension's segments add up to the total."""
    rows = gold_retention_cohorts
    cell = ("cohort_type", "cohort_start", "period_number")
    counts = [metric.column_name for metric in _COUNTS]
    total = rows.filter(rows.segment_dimension == ma.TOTAL, rows[counts[1]].notnull())
    parts = rows.filter(rows.segment_dimension != ma.TOTAL)
    sums = parts.group_by(*cell, "segment_dimension").aggregate(
        **{f"{name}_added_up": parts[name].sum().cast("int64") for name in counts}
    )
    dimensions = ibis.array(list(ma.USER_DIMENSIONS)).unnest().name("segment_dimension").as_table()
    both = total.drop("segment_dimension").cross_join(dimensions)
    both = ma.left_joined(both, sums, on=[*cell, "segment_dimension"])
    differs = (~both[name].identical_to(both[f"{name}_added_up"]) for name in counts)
    return both.filter(ibis.or_(*differs)).select(
        *cell, "segment_dimension", counts[0], f"{counts[0]}_added_up"
    )


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
def immature_cells_are_null(gold_retention_cohorts: ir.Table, bronze_users: ir.Table) -> ir.Table:
    """A period has values if and only if the segment's last member to sign up has completed it."""
    rows = gold_retention_cohorts
    signups = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    versions = ma.version_intervals(bronze_users, "user_id", ma.USER_DIMENSIONS)
    people = ma.at_day(signups, ma.day_number(signups.signup_date), versions, "user_id")
    as_of = rows.aggregate(day=rows.as_of_date.max()).day.as_scalar()
    people = people.filter(people.signup_date <= as_of)
    wrong = []
    for name, (unit, days) in COHORT_TYPES.items():
        dated = people.mutate(cohort_start=people.signup_date.truncate(unit))
        last = _by_segment(dated, {"last_signup": dated.signup_date.max()})
        both = ma.left_joined(rows.filter(rows.cohort_type == name), last, on=_COHORT)
        lived = ma.day_number(both.as_of_date) - ma.day_number(both.last_signup) + 1
        both = both.mutate(
            is_known=lived >= (both.period_number + 1) * days,
            has_values=both[USERS_RETAINED.column_name].notnull(),
        )
        differs = ~both.is_known.identical_to(both.has_values)
        wrong.append(both.filter(differs).select("cohort_type", *_CELL))
    return ibis.union(*wrong)
