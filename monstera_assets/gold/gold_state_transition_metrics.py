"""gold_state_transition_metrics: transitions between states, and rates derived from them."""
# Over 400 lines: one table per module, and this table's columns and rules come from the same
# transitions.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.local_time import local_date
from monstera_assets.gold import authoring as ma
from monstera_assets.lifecycle.billing import ClosedBy, payment_failures
from monstera_assets.lifecycle.intervals import FOREVER
from monstera_assets.lifecycle.products import IN_USE, KEYS
from monstera_assets.lifecycle.states import (
    ACCOUNT_TRANSITIONS,
    PRODUCT_TRANSITIONS,
    USER_TRANSITIONS,
    Transition,
)
from monstera_assets.lifecycle.timezone import UTC

RATE_DAYS = 7
RECOVERY_DAYS = 30

PLATFORM, PRODUCT, ACCOUNT = SCOPES = ("platform", "product", "account")
SCOPE = ma.Column(
    "scope",
    "string",
    "Entities that the states describe: users (platform), product relationships or accounts.",
    allowed=SCOPES,
)
_ALLOWED: Mapping[str, Mapping[Any, Mapping[Any, Transition]]] = {
    PLATFORM: USER_TRANSITIONS,
    PRODUCT: PRODUCT_TRANSITIONS,
    ACCOUNT: ACCOUNT_TRANSITIONS,
}
_STATES: Mapping[str, tuple[Sequence[Any], Sequence[Any], Sequence[Any]]] = {
    PLATFORM: (
        (
            *(ma.UserState.ACTIVE, ma.UserState.RETURNING),
            *(ma.UserState.REACTIVATED, ma.UserState.DUNNING),
        ),
        (ma.UserState.DORMANT,),
        (ma.UserState.CHURNED,),
    ),
    PRODUCT: (IN_USE, (ma.ProductState.DORMANT,), (ma.ProductState.CHURNED,)),
}
"""The states in use, dormant and churned, by scope."""
USER_STATES = _STATES[PLATFORM]
_IN_USE, _DORMANT, _CHURNED = "in_use", "dormant", "churned"

MOVES = ma.Metric(
    "Moves Made Daily",
    "Transitions from the previous state to the new state on the date.",
    "count(*) by transition_date",
    additivity=ma.Additivity.ADDITIVE,
)
DAYS_IN_STATE = ma.Metric(
    "Moves Days in State Mean Daily",
    "Mean number of days spent in the previous state before transitions on the date; null if there are"
    " no transitions.",
    "avg(days_in_previous_state)",
    ma.Unit.DAYS,
    nullable=True,
    population="transitions from the previous state to the new state on the date",
)


def _rate(name: str, moved: str, then: str, caveats: str = "") -> ma.Proportion:
    return ma.proportion(
        f"Users {name}",
        "Weekly",
        part=moved,
        population=then,
        only=_TOTALS,
        caveats=f"{caveats}In scope product, product relationships are counted by the matching product"
        " states.",
    )


def _of_state(name: str, moved: str, states: str) -> ma.Proportion:
    then = f"users who were {states} at the end of the day 7 days earlier"
    return _rate(name, moved, then, "Users deleted by the end of the date are not counted. ")


_TOTALS = "the totals of platform and product"
_CAME_BACK = "with a qualifying event in the 7 days ending on the date"
CHURN = _of_state(
    "Churned",
    "who are churned at the end of the date",
    "active, returning, reactivated, dunning or dormant",
)
DORMANCY = _of_state(
    "Dormant",
    "who are dormant at the end of the date",
    "active, returning, reactivated or dunning",
)
WIN_BACK = _of_state("Won Back", _CAME_BACK, "dormant")
REACTIVATION = _of_state("Reactivated", _CAME_BACK, "churned after earlier qualifying events")
NEVER_ACTIVATED = _rate(
    "Never Activated",
    "without a qualifying event by the end of the date",
    "users whose last day of new_user_days (30 days) after signup is in the 7 days ending on the date",
    "In scope product, the days are counted from first access. Deleted users are counted. ",
)
RECOVERY = ma.proportion(
    "Accounts Dunning Recovered",
    "Monthly",
    part="whose last closing in these days was a recovery, renewal or start",
    population="accounts with a payment failure that was closed in the 30 days ending on the date",
    only="the total of account",
    caveats="A lapse closes the account's open failures on its first day.",
)
RATES = (CHURN, DORMANCY, WIN_BACK, REACTIVATION, NEVER_ACTIVATED)
_OF_RATES = tuple(metric for rate in (*RATES, RECOVERY) for metric in rate.metrics)
_NULL_IN_TOTALS = {
    **dict.fromkeys((PLATFORM, PRODUCT), RECOVERY.metrics),
    ACCOUNT: _OF_RATES[: -len(RECOVERY.metrics)],
}
_MOVE = ("from_state", "to_state")

TABLE = ma.metric_table(
    "gold_state_transition_metrics",
    group=ma.AssetGroup.LIFECYCLE,
    grain="one date, scope and allowed transition, plus one total row per date and scope",
    description="How many users, product relationships (across all products) and accounts changed state"
    " on each date, and what are the churn, dormancy, win-back, reactivation, never-activated and"
    " recovery rates? Each rate is a share, published with its part and its population. Rows with"
    f" `{ma.TOTAL}` in both state columns contain the totals and the rates.",
    dimensions=(
        ma.METRIC_DATE,
        SCOPE,
        ma.Column("from_state", "string", f"Previous state; `{ma.TOTAL}` for the total."),
        ma.Column("to_state", "string", f"New state; `{ma.TOTAL}` for the total."),
    ),
    metrics=(MOVES, DAYS_IN_STATE, *_OF_RATES),
    slices=[
        *(
            ma.Slice(scope, {"scope": scope, **dict.fromkeys(_MOVE, ma.TOTAL)}, without=without)
            for scope, without in _NULL_IN_TOTALS.items()
        ),
        *(
            ma.Slice(f"{scope}_by_move", {"scope": scope}, parts=_MOVE, without=_OF_RATES)
            for scope in SCOPES
        ),
    ],
)

_KEY = ("scope", *_MOVE)


@ma.table_asset(
    TABLE,
    days={
        "silver_user_state_transitions": ma.SAME_DAYS,
        "silver_account_state_transitions": ma.SAME_DAYS,
        "silver_user_state_intervals": ma.UP_TO_AS_OF,
        "silver_user_product_state_intervals": ma.UP_TO_AS_OF,
    },
)
def gold_state_transition_metrics(
    silver_user_state_transitions: ir.Table,
    silver_account_state_transitions: ir.Table,
    silver_user_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
    timezone: str = UTC,
) -> ir.Table:
    """Count transitions by date and type, and compute the rates."""
    users, accounts = silver_user_state_transitions, silver_account_state_transitions
    columns = ("transition_date", "from_state", "to_state", "days_in_previous_state")
    transitions = users.select("scope", *columns).union(
        accounts.select(scope=ibis.literal(ACCOUNT), **{name: accounts[name] for name in columns})
    )
    transitions = ma.within(transitions, "transition_date", window)
    in_all = transitions.mutate(from_state=ibis.literal(ma.TOTAL), to_state=ibis.literal(ma.TOTAL))
    every = transitions.union(in_all)
    counted = every.group_by(
        metric_date="transition_date", **{n: every[n] for n in _KEY}
    ).aggregate(moves=every.count(), days=every.days_in_previous_state.sum().cast("int64"))
    rows = ma.left_joined(_grid(window), counted, on=["metric_date", *_KEY])
    states = silver_user_state_intervals
    deletions = states.filter(states.platform_state == str(ma.UserState.DELETED))
    deletions = deletions.group_by("user_id").aggregate(
        deleted_day=ma.day_number(deletions.valid_from.min())
    )
    rates = ibis.union(
        *(
            _user_rates(scope, ma.left_joined(spans, deletions, on=["user_id"]), policy, window)
            for scope, spans in (
                (PLATFORM, _of_users(states)),
                (PRODUCT, _of_products(silver_user_product_state_intervals, timezone)),
            )
        )
    )
    failures = payment_failures(bronze_accounts, bronze_subscription_events, policy)
    rows = ma.left_joined(rows, rates, on=["metric_date", "scope"])
    rows = ma.left_joined(rows, _recoveries(failures, window), on=["metric_date"])
    is_total = rows.from_state == ma.TOTAL
    of_users = is_total & rows.scope.isin([PLATFORM, PRODUCT])
    names = {rate: [metric.column_name for metric in rate.metrics[1:]] for rate in RATES}
    return rows.select(
        "metric_date",
        *_KEY,
        **{
            MOVES.column_name: rows.moves.fill_null(0),
            DAYS_IN_STATE.column_name: ma.ratio(rows.days, rows.moves),
        },
        **{
            name: value
            for rate, (part, population) in names.items()
            for name, value in rate.columns(rows[part], rows[population], of_users).items()
        },
        **RECOVERY.columns(rows.recovered, rows.closed, is_total & (rows.scope == ACCOUNT)),
    )


def _grid(window: ma.Window) -> ir.Table:
    kinds = [
        {"scope": scope, "from_state": str(left), "to_state": str(reached)}
        for scope, moves in _ALLOWED.items()
        for left, reached in [
            *((left, reached) for left, targets in moves.items() for reached in targets),
            (ma.TOTAL, ma.TOTAL),
        ]
    ]
    every = ibis.array([ibis.struct(kind) for kind in kinds])
    return ma.dates(window).mutate(kind=every.unnest()).unpack("kind")


def _of_users(intervals: ir.Table) -> ir.Table:
    """Return the intervals with numeric days and inclusive ends.

    Both scopes use the same column names.
    """
    return intervals.select(
        "user_id",
        product_id=ibis.literal(""),
        state=intervals.platform_state,
        since=intervals.platform_state_since,
        used=intervals.total_qualifying_events > 0,
        last_use=ma.day_number(intervals.last_qualifying_date),
        start=ma.day_number(intervals.signup_date),
        **_ends(intervals),
    )


def _of_products(intervals: ir.Table, timezone: str) -> ir.Table:
    return intervals.select(
        "user_id",
        "product_id",
        state=intervals.current_state,
        since=intervals.state_since,
        used=intervals.total_qualifying_events > 0,
        last_use=ma.day_number(local_date(intervals.last_qualifying_event_at, timezone)),
        start=ma.day_number(intervals.first_access_date),
        **_ends(intervals),
    )


def _ends(intervals: ir.Table) -> dict[str, ir.IntegerValue]:
    return {
        "valid_from": ma.day_number(intervals.valid_from),
        "valid_to": (ma.day_number(intervals.valid_to) - 1).fill_null(FOREVER).cast("int64"),
    }


def _user_rates(
    scope: str, intervals: ir.Table, policy: ma.LifecyclePolicy, window: ma.Window
) -> ir.Table:
    """Return the part and the population of each rate of users on each date, by their column names."""
    changes = _state_changes(scope, intervals, window).union(
        _activation_changes(intervals, policy, window)
    )
    names = [name for name in changes.columns if name != "day"]
    by_day = changes.group_by("day").aggregate(**ma.sums(changes, *names))
    totals = ma.running_totals(by_day, ma.dates(window), values=names)
    return totals.mutate(scope=ibis.literal(scope))


def _state_changes(scope: str, intervals: ir.Table, window: ma.Window) -> ir.Table:
    """Return when people enter and leave the count, by their states 7 days before and on the date.

    Each stretch of days in one state is moved by 7 days and joined with the later intervals. Their
    common days have the same state 7 days earlier, the same state on the date and the same last
    qualifying day.
    """
    first, last = ma.first_day(window), ma.day_number(window.last)
    in_use, dormant, churned = (list(map(str, states)) for states in _STATES[scope])
    spells = intervals.filter(
        intervals.state.isin([*in_use, *dormant, *churned]),
        intervals.valid_from <= last - RATE_DAYS,
        intervals.valid_to >= first - RATE_DAYS,
    )
    spells = spells.group_by(*KEYS, "state", "since").aggregate(
        valid_from=spells.valid_from.min(),
        valid_to=spells.valid_to.max(),
        # Nobody uses the platform or the product while churned.
        used=spells.used.any(),
    )
    spells = spells.select(
        *KEYS,
        was=ibis.cases(
            (spells.state.isin(in_use), _IN_USE),
            (spells.state.isin(dormant), _DORMANT),
            (spells.used, _CHURNED),
        ),
        then_from=spells.valid_from + RATE_DAYS,
        then_to=ibis.ifelse(spells.valid_to == FOREVER, FOREVER, spells.valid_to + RATE_DAYS),
    )
    now = intervals.filter(intervals.valid_from <= last, intervals.valid_to >= first)
    now = now.filter(now.deleted_day.isnull() | (now.valid_from < now.deleted_day))
    spells = spells.filter(spells.was.notnull())
    both = spells.inner_join(
        now, [*KEYS, spells.then_from <= now.valid_to, spells.then_to >= now.valid_from]
    )
    both = both.select(
        "was",
        is_churned=both.state.isin(churned),
        is_dormant=both.state.isin(dormant),
        begins=ibis.greatest(both.then_from, both.valid_from, first),
        # least() ignores nulls, so users who are not deleted and users without use are not limited.
        ends=ibis.least(both.then_to, both.valid_to, both.deleted_day - 1, last) + 1,
        unused=both.last_use + RATE_DAYS,
    )
    both = ma.materialized(both.filter(both.begins < both.ends))
    in_use_then, dormant_then, churned_then = (
        both.was == kind for kind in (_IN_USE, _DORMANT, _CHURNED)
    )
    by_state = {
        CHURN.population: in_use_then | dormant_then,
        CHURN.part: (in_use_then | dormant_then) & both.is_churned,
        DORMANCY.population: in_use_then,
        DORMANCY.part: in_use_then & both.is_dormant,
        WIN_BACK.population: dormant_then,
        REACTIVATION.population: churned_then,
    }
    by_use = {WIN_BACK.part: dormant_then, REACTIVATION.part: churned_then}
    used_until = ibis.greatest(both.begins, ibis.least(both.ends, both.unused.fill_null(0)))
    return _spans(both, both.begins, both.ends, by_state).union(
        _spans(both, both.begins, used_until, by_use)
    )


def _activation_changes(
    intervals: ir.Table, policy: ma.LifecyclePolicy, window: ma.Window
) -> ir.Table:
    """Return when people whose time as new users ended in the last 7 days start and stop counting."""
    first, last = ma.first_day(window), ma.day_number(window.last)
    due = intervals.start + policy.new_user_days
    recent = intervals.filter(due > first - RATE_DAYS, due <= last)
    people = recent.group_by(*KEYS, "start").aggregate(first_use=recent.last_use.min())
    begins = (people.start + policy.new_user_days).cast("int64")
    ends = begins + RATE_DAYS
    unused_until = ibis.greatest(begins, ibis.least(ends, people.first_use))
    always = ibis.literal(value=True)
    changes = _spans(people, begins, ends, {NEVER_ACTIVATED.population: always}).union(
        _spans(people, begins, unused_until, {NEVER_ACTIVATED.part: always})
    )
    return ma.from_first_day(changes, window)


def _spans(
    rows: ir.Table,
    begins: ir.IntegerValue,
    ends: ir.IntegerValue,
    counts: Mapping[ma.Metric, ir.BooleanValue],
) -> ir.Table:
    """Return changes that count each row in the given metrics from `begins` until before `ends`."""
    one = {
        metric.column_name: counts[metric].cast("int64")
        if metric in counts
        else ibis.literal(0, "int64")
        for rate in RATES
        for metric in rate.metrics[1:]
    }
    return rows.select(day=begins, **one).union(
        rows.select(day=ends, **{name: -value for name, value in one.items()})
    )


def _recoveries(failures: ir.Table, window: ma.Window) -> ir.Table:
    """Count accounts with a failure closed in the 30 days ending on each date, by the last closing."""
    closings = failures.filter(failures.closed_day > ma.first_day(window) - RECOVERY_DAYS)
    # A lapse closes failures at the start of its day, before that day's payments.
    closings = closings.group_by("account_id", day=closings.closed_day).aggregate(
        is_paid=(closings.closed_by != str(ClosedBy.LAPSE)).any()
    )
    by_account = ibis.window(group_by="account_id", order_by="day")
    closings = closings.mutate(
        ends=ibis.least(closings.day + RECOVERY_DAYS, closings.day.lead().over(by_account)),
        closed=ibis.literal(1, "int64"),
        recovered=closings.is_paid.cast("int64"),
    )
    changes = closings.select("day", "closed", "recovered").union(
        closings.select(day="ends", closed=-closings.closed, recovered=-closings.recovered)
    )
    changes = ma.from_first_day(changes, window)
    by_day = changes.group_by("day").aggregate(**ma.sums(changes, "closed", "recovered"))
    return ma.running_totals(by_day, ma.dates(window), values=["closed", "recovered"])


@ma.rule(TABLE)
def agree_with_transitions(
    gold_state_transition_metrics: ir.Table,
    silver_user_state_transitions: ir.Table,
    silver_account_state_transitions: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Each scope's transitions add up to the scope's total and agree with the silver tables."""
    rows = ma.within(gold_state_transition_metrics, "metric_date", window)
    moves = rows[MOVES.column_name]
    published = rows.group_by("metric_date", "scope").aggregate(
        total=moves.sum(where=rows.from_state == ma.TOTAL).cast("int64"),
        parts=moves.sum(where=rows.from_state != ma.TOTAL).cast("int64"),
    )
    users, accounts = silver_user_state_transitions, silver_account_state_transitions
    transitions = users.select("scope", "transition_date").union(
        accounts.select(scope=ibis.literal(ACCOUNT), transition_date=accounts.transition_date)
    )
    counted = transitions.group_by("scope", metric_date="transition_date").aggregate(
        transitions=transitions.count()
    )
    both = ma.left_joined(published, counted, on=["metric_date", "scope"])
    transitions_made = both.transitions.fill_null(0)
    return both.filter((both.total != transitions_made) | (both.parts != transitions_made)).select(
        "metric_date", "scope", "total", "parts", "transitions"
    )


@ma.rule(TABLE)
def flows_equal_differences_of_counts(
    gold_state_transition_metrics: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    bronze_accounts: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Transitions explain the daily change in the number of entities per state.

    Entities without a row on the previous day count as entries, not transitions. The history's first
    day is not compared.
    """
    histories = with_entry(
        silver_user_state_history,
        silver_user_product_state_history,
        silver_account_state_history,
        bronze_accounts,
    )
    levels = ma.materialized(ibis.union(*(_levels(*item, window) for item in histories.items())))
    rows = gold_state_transition_metrics
    first_date = rows.aggregate(day=rows.metric_date.min()).day.as_scalar()
    rows = ma.within(rows, "metric_date", window).filter(ibis._.from_state != ma.TOTAL)
    moves = rows[MOVES.column_name]
    parts = ibis.union(
        rows.select("metric_date", "scope", state="to_state", expected=moves),
        rows.select("metric_date", "scope", state="from_state", expected=-moves),
        levels.select(
            "scope", "state", metric_date="day", expected=levels.entered - levels.entities
        ),
        levels.select(
            "scope",
            "state",
            metric_date=ma.day_date(ma.day_number(levels.day) + 1),
            expected="entities",
        ),
    )
    parts = ma.within(parts, "metric_date", window)
    parts = parts.filter(parts.metric_date > first_date)
    added_up = parts.group_by("metric_date", "scope", "state").aggregate(
        surplus=parts.expected.sum().cast("int64")
    )
    return added_up.filter(added_up.surplus != 0)


def _levels(scope: str, history: ir.Table, window: ma.Window) -> ir.Table:
    """Count entities and entries per state and day, starting one day before the window."""
    rows = history.filter(
        history.snapshot_date.between(ma.days_earlier(window.first, 1), window.last)
    )
    return rows.group_by("state", day="snapshot_date").aggregate(
        scope=ibis.literal(scope), entities=rows.count(), entered=rows.count(where=rows.enters)
    )


def with_entry(
    users: ir.Table, products: ir.Table, accounts: ir.Table, bronze_accounts: ir.Table
) -> dict[str, ir.Table]:
    """Return each scope's history with `state` and `enters`, which is true on an entity's first day."""
    created = ma.one_row_per_entity(bronze_accounts, ["account_id", "created_date"])
    created = created.rename(created_on="created_date")
    accounts = accounts.inner_join(created, "account_id")
    return {
        PLATFORM: users.mutate(state=users.platform_state, enters=users.days_since_signup == 0),
        PRODUCT: products.mutate(
            state=products.current_state,
            enters=products.first_access_date == products.snapshot_date,
        ),
        ACCOUNT: accounts.mutate(
            state=accounts.current_state, enters=accounts.created_on == accounts.snapshot_date
        ),
    }
