"""What the behavioural segments are told from: measures of use, sliding over days (framework, 7).

Every measure is a level that facts raise and lower: a qualifying event adds one to the events of
the last 28 days on its day and takes one away 28 days later. So measures come in as changes, a
running sum turns them into levels, and between two changes nothing happens: `behavior_intervals`
is the one computation, for a day as for sixteen years. What a day needs of the past is bounded: at
most `ACTIVITY_DAYS` of daily activity, of which all but what tells a season are the last 90.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import FOREVER, day_number, sliding_presence
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.lifecycle.states import UserState

RECENT_DAYS = 90
"""The longest window of use: three times thirty days."""
_YEAR = 365
ACTIVITY_DAYS = _YEAR + 30 + 1
"""Days of activity that tell a season: a year, the largest tolerance and the day itself."""
STATE_DAYS = 61
"""Days of states that are read: the largest `reactivation_days` and the day itself."""

_ENGAGED = (str(UserState.ACTIVE), str(UserState.RETURNING))

_SUMS = (
    "events_28",
    "events_30",
    "events_before_30",
    "active_days_28",
    "active_days_30",
    "weeks_active",
    "months_active",
    "products_used_30",
    "features_used_30",
    "features_available_30",
    "features_before",
    "products_tried",
    "products_active",
    "products_active_before",
    "people_reached",
    "workflows_started",
    "workflows_completed",
    "engaged",
    "last_year",
)
"""Measures that are a running sum of changes."""
_LATEST = ("last_day", "quiet_from", "reactivated_on")
"""Measures that are the latest of the days seen so far."""

MEASURES = (
    "events_28",
    "events_30",
    "events_before_30",
    "active_days_28",
    "active_days_30",
    "weeks_active",
    "months_active",
    "products_used_30",
    "features_used_30",
    "features_available_30",
    "has_used_features",
    "products_tried",
    "products_active",
    "products_active_before",
    "people_reached",
    "workflows_started",
    "workflows_completed",
    "is_engaged",
    "is_back_in_season",
    "acquisition_source",
)
"""What the rules of the segments read, besides the days since last use, reactivation and signup."""


@dataclass(frozen=True)
class Facts:
    """The facts that the measures are computed from.

    Attributes:
        activity: silver_daily_user_activity, the last `ACTIVITY_DAYS` for each day.
        features: silver_daily_user_feature_activity, from the first day on.
        states: silver_user_state_history, the last `STATE_DAYS` for each day.
        product_states: silver_user_product_state_history, the last 31 days for each day.
        reached: one row a user, person reached and day: `user_id`, `person`, `day`; the last 90.
        runs: workflow runs as of the end of the window: `user_id`, `started_day`, `completed_day`.
        users: bronze_users.
        features_of_product: number of features a product: `product_id`, `features`.
    """

    activity: ir.Table
    features: ir.Table
    states: ir.Table
    product_states: ir.Table
    reached: ir.Table
    runs: ir.Table
    users: ir.Table
    features_of_product: ir.Table


def behavior_intervals(
    facts: Facts, policy: LifecyclePolicy, first_day: date, last_day: date
) -> ir.Table:
    """The measures of each user from a first to a last day, from signup on.

    Returns:
        Interval table by `user_id`, days as numbers: `MEASURES`, `signup_day`, `last_day` (the last
        qualifying day, null if none in 90 days) and `reactivated_on` (the day of the latest
        reactivation, null if longer ago than the policy's `reactivation_days`).
    """
    first, last = (day_number(ibis.literal(day)) for day in (first_day, last_day))
    people = facts.users.select(
        "user_id",
        "acquisition_source",
        signup_day=day_number(facts.users.user_created_at.date()),
    )
    days = _changes(facts, people, policy, first).mutate(
        # What began before the window counts from its first day.
        day=ibis.greatest(ibis._.day, first)
    )
    days = days.filter(days.day <= last)
    by_day = days.group_by("user_id", "day").aggregate(
        **{name: days.change.sum(where=days.measure == code) for name, code in _codes(_SUMS)},
        **{name: days.latest.max(where=days.measure == code) for name, code in _codes(_LATEST)},
    )
    so_far = ibis.window(group_by="user_id", order_by="day", preceding=None, following=0)
    by_user = ibis.window(group_by="user_id", order_by="day")
    levels = by_day.select(
        "user_id",
        valid_from=by_day.day,
        valid_to=(by_day.day.lead().over(by_user) - 1).fill_null(FOREVER).cast("int64"),
        **{name: by_day[name].sum().over(so_far).fill_null(0).cast("int64") for name in _SUMS},
        **{name: by_day[name].max().over(so_far) for name in _LATEST},
    )
    levels = levels.inner_join(people, "user_id")
    segments = policy.segments
    return levels.mutate(
        has_used_features=levels.features_before > 0,
        is_engaged=levels.engaged > 0,
        is_back_in_season=(levels.last_year > 0)
        & (
            levels.valid_from - levels.quiet_from <= _YEAR + segments.seasonal_tolerance_days
        ).fill_null(False),
        last_day=_within(levels.last_day, levels.valid_from, RECENT_DAYS - 1),
        reactivated_on=_within(
            levels.reactivated_on, levels.valid_from, segments.reactivation_days
        ),
    ).drop("features_before", "engaged", "last_year", "quiet_from")


def _within(day: ir.IntegerValue, today: ir.IntegerValue, days: int) -> ir.IntegerValue:
    return ibis.ifelse(today - day <= days, day, None)


def _codes(names: tuple[str, ...]) -> list[tuple[str, int]]:
    every = (*_SUMS, *_LATEST)
    return [(name, every.index(name)) for name in names]


def _changes(
    facts: Facts, people: ir.Table, policy: LifecyclePolicy, first: ir.IntegerValue
) -> ir.Table:
    """All changes of all measures: `user_id`, `day`, `measure` (its code), `change`, `latest`."""
    return ibis.union(
        *_use(facts, policy, first),
        *_features(facts, first),
        *_products(facts, first),
        *_states(facts, policy, first),
        *_reach_and_runs(facts),
        *_stages(people, policy),
    )


def _use(facts: Facts, policy: LifecyclePolicy, first: ir.IntegerValue) -> list[ir.Table]:
    qualifying = facts.activity.filter(facts.activity.qualifying_events > 0)
    of_product = qualifying.select(
        "user_id",
        "product_id",
        day=day_number(qualifying.activity_date),
        events=qualifying.qualifying_events,
    ).view()
    seen = of_product.group_by("user_id", "day").aggregate(events=of_product.events.sum()).view()
    recent = seen.filter(seen.day > first - RECENT_DAYS).view()
    weeks = sliding_presence(recent, keys=["user_id"], days=7).view()
    months = sliding_presence(recent, keys=["user_id"], days=30).view()
    in_products = of_product.filter(
        of_product.product_id.notnull(), of_product.day > first - RECENT_DAYS
    )
    products = sliding_presence(in_products, keys=["user_id", "product_id"], days=30).view()
    available = products.inner_join(facts.features_of_product, "product_id")
    one = ibis.literal(1, "int64")
    quiet_from, quiet_until = (
        policy.segments.at_risk_quiet_days,
        policy.segments.at_risk_max_quiet_days,
    )
    return [
        *_while_in(recent, {"events_28": recent.events}, days=28),
        *_while_in(recent, {"events_30": recent.events}, days=30),
        *_while_in(recent, {"events_before_30": recent.events}, days=30, after=30),
        *_while_in(recent, {"active_days_28": one}, days=28),
        *_while_in(recent, {"active_days_30": one}, days=30),
        *(_change(weeks, "weeks_active", weeks.day + 7 * n, weeks.change) for n in range(4)),
        *(_change(months, "months_active", months.day + 30 * n, months.change) for n in range(3)),
        _change(products, "products_used_30", products.day, products.change),
        _change(
            available,
            "features_available_30",
            available.day,
            available.change * available.features,
        ),
        _latest(recent, "last_day", recent.day, recent.day),
        *(_tick(recent, recent.day + days) for days in (quiet_from, quiet_until + 1, RECENT_DAYS)),
        *_season(seen, policy),
    ]


def _season(seen: ir.Table, policy: LifecyclePolicy) -> list[ir.Table]:
    """Use about a year ago, and where the latest quiet spell began."""
    tolerance = policy.segments.seasonal_tolerance_days
    last_year = sliding_presence(
        seen.select("user_id", "day"), keys=["user_id"], days=2 * tolerance + 1
    )
    by_user = ibis.window(group_by="user_id", order_by="day")
    spells = seen.select("user_id", "day", previous_day=seen.day.lag().over(by_user))
    spells = spells.filter(
        spells.day - spells.previous_day - 1 > policy.segments.seasonal_quiet_days
    )
    return [
        _change(last_year, "last_year", last_year.day + _YEAR - tolerance, last_year.change),
        _latest(spells, "quiet_from", spells.day, spells.previous_day),
        _tick(spells, spells.previous_day + _YEAR + tolerance + 1),
    ]


def _features(facts: Facts, first: ir.IntegerValue) -> list[ir.Table]:
    used = facts.features.select(
        "user_id", "feature_id", day=day_number(facts.features.activity_date)
    )
    presence = sliding_presence(
        used.filter(used.day > first - 30), keys=["user_id", "feature_id"], days=30
    )
    before = used.group_by("user_id").aggregate(day=used.day.min())
    return [
        _change(presence, "features_used_30", presence.day, presence.change),
        _change(before, "features_before", before.day, ibis.literal(1, "int64")),
    ]


def _products(facts: Facts, first: ir.IntegerValue) -> list[ir.Table]:
    """Products by their states: runs of a state stand for the days that they consist of."""
    history = facts.product_states
    runs = history.group_by("user_id", "product_id", "current_state", "state_since").aggregate(
        first_day=day_number(history.snapshot_date.min()),
        last_day=day_number(history.snapshot_date.max()),
    )
    runs = runs.view()
    active = runs.filter(runs.current_state.isin(IN_USE)).view()
    tried = runs.group_by("user_id", "product_id").aggregate(day=runs.first_day.min())
    one = ibis.literal(1, "int64")
    now = active.filter(active.last_day >= first)
    return [
        _change(tried, "products_tried", tried.day, one),
        _change(now, "products_active", ibis.greatest(now.first_day, first), one),
        _change(now, "products_active", now.last_day + 1, -one),
        _change(active, "products_active_before", active.first_day + 30, one),
        _change(active, "products_active_before", active.last_day + 31, -one),
    ]


def _states(facts: Facts, policy: LifecyclePolicy, first: ir.IntegerValue) -> list[ir.Table]:
    """Whether the user is active or returning, and when it last came back from churn."""
    history = facts.states.mutate(day=day_number(facts.states.snapshot_date))
    now = history.filter(history.day >= first, history.activity_state.isin(_ENGAGED))
    runs = now.group_by("user_id", "platform_state", "platform_state_since").aggregate(
        first_day=now.day.min(), last_day=now.day.max()
    )
    runs = runs.view()
    # A first qualifying event that comes late is an activation: nobody came back.
    came_back = history.filter(
        history.activity_state == str(UserState.REACTIVATED),
        history.total_qualifying_events > history.qualifying_events_count,
    )
    one = ibis.literal(1, "int64")
    return [
        _change(runs, "engaged", runs.first_day, one),
        _change(runs, "engaged", runs.last_day + 1, -one),
        _latest(came_back, "reactivated_on", came_back.day, came_back.day),
        _tick(came_back, came_back.day + policy.segments.reactivation_days + 1),
    ]


def _reach_and_runs(facts: Facts) -> list[ir.Table]:
    reached = sliding_presence(facts.reached, keys=["user_id", "person"], days=RECENT_DAYS)
    runs = facts.runs
    completed = runs.filter(runs.completed_day.notnull())
    one = ibis.literal(1, "int64")
    return [
        _change(reached, "people_reached", reached.day, reached.change),
        _change(runs, "workflows_started", runs.started_day, one),
        _change(runs, "workflows_started", runs.started_day + RECENT_DAYS, -one),
        _change(completed, "workflows_completed", completed.completed_day, one),
        _change(completed, "workflows_completed", completed.started_day + RECENT_DAYS, -one),
    ]


def _stages(people: ir.Table, policy: LifecyclePolicy) -> list[ir.Table]:
    """The days on which a user's age leads on, the signup among them."""
    segments = policy.segments
    ages = (
        0,
        segments.struggling_days + 1,
        segments.onboarding_days + 1,
        segments.adoption_days + 1,
        segments.retention_days + 1,
    )
    return [_tick(people, people.signup_day + age) for age in sorted(set(ages))]


def _while_in(
    rows: ir.Table, amounts: Mapping[str, ir.IntegerValue], *, days: int, after: int = 0
) -> list[ir.Table]:
    """Amounts that count for some days from their day, or from some days later, on."""
    return [
        part
        for measure, amount in amounts.items()
        for part in (
            _change(rows, measure, rows.day + after, amount),
            _change(rows, measure, rows.day + after + days, -amount),
        )
    ]


def _change(
    rows: ir.Table, measure: str, day: ir.IntegerValue, change: ir.IntegerValue
) -> ir.Table:
    [(_, code)] = _codes((measure,))
    return _row(rows, day, measure=code, change=change)


def _latest(
    rows: ir.Table, measure: str, day: ir.IntegerValue, latest: ir.IntegerValue
) -> ir.Table:
    [(_, code)] = _codes((measure,))
    return _row(rows, day, measure=code, latest=latest)


def _tick(rows: ir.Table, day: ir.IntegerValue) -> ir.Table:
    """A day on which no measure changes, but what a rule says of one may."""
    return _row(rows, day)


def _row(
    rows: ir.Table,
    day: ir.IntegerValue,
    *,
    measure: int = -1,
    change: ir.IntegerValue | None = None,
    latest: ir.IntegerValue | None = None,
) -> ir.Table:
    nothing = ibis.null("int64")
    return rows.select(
        "user_id",
        day=day.cast("int64"),
        measure=ibis.literal(measure, "int8"),
        change=(nothing if change is None else change).cast("int64"),
        latest=(nothing if latest is None else latest).cast("int64"),
    )
