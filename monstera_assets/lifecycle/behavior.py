"""Compute the sliding-window measures for behavioral segments (framework, section 7).

Every measure is a level that facts increase or decrease. For example, a qualifying event adds one
to the number of events in the last 28 days, and subtracts one 28 days later. Running sums turn
these changes into levels, which stay constant between changes. `behavior_intervals` computes one
day or many years in the same way. A day's measures depend on at most `ACTIVITY_DAYS` days of
activity. All measures except the seasonal one need only the last 90 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import by_key, materialized
from monstera_assets.lifecycle.intervals import (
    FOREVER,
    day_number,
    neighbours,
    presence_of,
    sliding_presence,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.lifecycle.states import UserState

RECENT_DAYS = 90
"""Length in days of the longest activity window: three times 30 days."""
_YEAR = 365
ACTIVITY_DAYS = _YEAR + 30 + 1
"""Number of days needed for the seasonal pattern: a year, the maximum tolerance and the day itself."""
STATE_DAYS = 61
"""Number of days of states to read: the maximum `reactivation_days` plus the day itself."""

_ENGAGED = (UserState.ACTIVE, UserState.RETURNING)

_PACKS: tuple[Mapping[str, int], ...] = (
    {"events_28": 31, "events_30": 31},
    {"events_before_30": 31, "people_reached": 31},
    {"workflows_started": 31, "workflows_completed": 31},
    {"products_used_30": 20, "features_used_30": 20, "features_available_30": 20},
    {"products_tried": 20, "products_active": 20, "products_active_before": 20},
    {
        "active_days_28": 6,
        "active_days_30": 6,
        "weeks_active": 4,
        "months_active": 4,
        "engaged": 2,
        "features_before": 2,
        "last_year": 2,
    },
)
"""Measures that are running sums of changes, with the number of bits that each level needs.

The measures in a pack are summed as one integer in which each measure has its own bits. DuckDB can
then sum up to seven measures in the time it takes to sum one measure. A negative change borrows from
the next higher bits. A level is never negative, so the sum restores the borrowed bits. Twenty bits
are enough for a million products or features.
"""
_LATEST = ("last_day", "quiet_from", "reactivated_on")
"""Measures whose value is the latest day on which something happened."""

_PACK_NAMES = tuple(f"pack_{number}" for number, _ in enumerate(_PACKS, 1))

_ONE = ibis.literal(1, "int32")


@dataclass(frozen=True)
class Facts:
    """The facts from which the measures are computed, with days as numbers.

    Attributes:
        use: days with qualifying events, going back `ACTIVITY_DAYS` from each day: `user_id`,
            `product_id`, `day`, `events`.
        features: days on which a feature was used, since the first day: `user_id`, `feature_id`, `day`.
        engaged: series of consecutive days in the window in the activity state active or returning:
            `user_id`, `first_day`, `last_day`.
        returns: reactivation days, excluding late first activations, going back `STATE_DAYS` from
            each day: `user_id`, `day`.
        product_states: series of consecutive days in one product state, going back 31 days from each
            day: `user_id`, `product_id`, `current_state`, `first_day`, `last_day`.
        reached: one row per user, person reached and day, going back 90 days from each day: `user_id`,
            `person`, `day`.
        runs: workflow runs as of the end of the window: `user_id`, `started_day`, `completed_day`.
        users: one row per user: `user_id`, `signup_day`.
        features_of_product: number of features in each product by launch day: `product_id`,
            `launched_day`, `features`.
    """

    use: ir.Table
    features: ir.Table
    engaged: ir.Table
    returns: ir.Table
    product_states: ir.Table
    reached: ir.Table
    runs: ir.Table
    users: ir.Table
    features_of_product: ir.Table

    @classmethod
    def of(
        cls,
        activity: ir.Table,
        feature_activity: ir.Table,
        states: ir.Table,
        product_states: ir.Table,
        first_day: ir.DateValue,
        *,
        features_of_product: ir.Table,
        **others: ir.Table,
    ) -> Facts:
        """Collect facts from daily silver tables and mark them `by_key`, since users are independent.

        `others` contains the remaining facts: `reached`, `runs` and `users`.
        """
        used = activity.filter(activity.qualifying_events > 0)
        engaged = states.filter(
            states.snapshot_date >= first_day, states.activity_state.isin(_ENGAGED)
        )
        # A late first qualifying event is an activation, not a reactivation.
        came_back = states.filter(
            states.activity_state == UserState.REACTIVATED,
            states.total_qualifying_events > states.qualifying_events_count,
        )
        facts = {
            "use": used.select(
                *("user_id", "product_id"),
                day=day_number(used.activity_date),
                events=used.qualifying_events,
            ),
            "features": feature_activity.select(
                "user_id", "feature_id", day=day_number(feature_activity.activity_date)
            ),
            "engaged": _runs(engaged, "platform_state", "platform_state_since"),
            "returns": came_back.select("user_id", day=day_number(came_back.snapshot_date)),
            "product_states": _runs(product_states, "product_id", "current_state", "state_since"),
            **others,
        }
        marked = {name: by_key(rows, "user_id") for name, rows in facts.items()}
        return cls(**marked, features_of_product=features_of_product)


def _runs(states: ir.Table, *by: str) -> ir.Table:
    return states.group_by("user_id", *by).aggregate(
        first_day=day_number(states.snapshot_date.min()),
        last_day=day_number(states.snapshot_date.max()),
    )


def behavior_intervals(
    facts: Facts, policy: LifecyclePolicy, first_day: ir.DateValue, last_day: ir.DateValue
) -> ir.Table:
    """Return each user's measures from the later of signup and the first day through the last day.

    Returns:
        An interval table by `user_id`, with days as numbers: the measures that the segment rules read
        (columns of silver_user_segment_history), `signup_day`, `last_day` (the last qualifying day
        in the last 90 days, or null) and `reactivated_on` (the day of the latest reactivation within
        the policy's `reactivation_days`, or null).
    """
    first, last = day_number(first_day), day_number(last_day)
    days = _changes(facts, policy, first).mutate(
        # Changes before the window take effect on the window's first day.
        day=ibis.greatest(ibis._.day, first)
    )
    days = days.filter(days.day <= last)
    by_day = days.group_by("user_id", "day").aggregate(
        **{name: days[name].sum().cast("int64") for name in _PACK_NAMES},
        **{name: days[name].max() for name in _LATEST},
    )
    so_far = ibis.cumulative_window(group_by="user_id", order_by="day")
    by_user = ibis.window(group_by="user_id", order_by="day")
    levels = by_day.select(
        "user_id",
        valid_from=by_day.day,
        valid_to=(by_day.day.lead().over(by_user) - 1).fill_null(FOREVER).cast("int64"),
        **{name: by_day[name].sum().over(so_far).cast("int64") for name in _PACK_NAMES},
        **{name: by_day[name].max().over(so_far) for name in _LATEST},
    )
    levels = _unpacked(levels).inner_join(facts.users, "user_id")
    segments = policy.segments
    season = _YEAR + segments.seasonal_tolerance_days
    was_quiet = (levels.valid_from - levels.quiet_from <= season).fill_null(False)
    return levels.mutate(
        has_used_features=levels.features_before > 0,
        is_engaged=levels.engaged > 0,
        is_back_in_season=(levels.last_year > 0) & was_quiet,
        last_day=_within(levels.last_day, levels.valid_from, RECENT_DAYS - 1),
        reactivated_on=_within(
            levels.reactivated_on, levels.valid_from, segments.reactivation_days
        ),
    ).drop("features_before", "engaged", "last_year", "quiet_from")


def _within(day: ir.IntegerValue, today: ir.IntegerValue, days: int) -> ir.IntegerValue:
    return ibis.ifelse(today - day <= days, day, None)


def _changes(facts: Facts, policy: LifecyclePolicy, first: ir.IntegerValue) -> ir.Table:
    """Return all changes: `user_id`, `day`, the amounts to add to the sums, and the latest days."""
    return ibis.union(
        *_use(facts, policy, first),
        *_features(facts, first),
        *_products(facts, first),
        *_states(facts, policy),
        *_reach_and_runs(facts),
        *_stages(facts.users, policy),
    )


def _use(facts: Facts, policy: LifecyclePolicy, first: ir.IntegerValue) -> list[ir.Table]:
    of_product = materialized(facts.use)
    seen = of_product.group_by("user_id", "day").aggregate(events=of_product.events.sum())
    seen = materialized(seen.mutate(**neighbours(seen.day, keys=["user_id"])))
    before = ibis.ifelse(seen.previous_day > first - RECENT_DAYS, seen.previous_day, None)
    recent = materialized(seen.filter(seen.day > first - RECENT_DAYS).mutate(previous_day=before))
    weeks, months = (
        materialized(presence_of(recent, keys=["user_id"], days=days)) for days in (7, 30)
    )
    in_products = of_product.filter(
        of_product.product_id.notnull(), of_product.day > first - RECENT_DAYS
    )
    products = materialized(sliding_presence(in_products, keys=["user_id", "product_id"], days=30))
    available = products.inner_join(facts.features_of_product, "product_id")
    segments = policy.segments
    quiet = (segments.at_risk_quiet_days, segments.at_risk_max_quiet_days + 1, RECENT_DAYS)
    return [
        _row(
            recent,
            recent.day,
            **dict.fromkeys(("events_28", "events_30"), recent.events),
            **dict.fromkeys(("active_days_28", "active_days_30"), _ONE),
            last_day=recent.day,
        ),
        _row(recent, recent.day + 28, events_28=-recent.events, active_days_28=-_ONE),
        _row(
            recent,
            recent.day + 30,
            events_30=-recent.events,
            active_days_30=-_ONE,
            events_before_30=recent.events,
        ),
        _row(recent, recent.day + 60, events_before_30=-recent.events),
        *(_row(weeks, weeks.day + 7 * n, weeks_active=weeks.change) for n in range(4)),
        *(_row(months, months.day + 30 * n, months_active=months.change) for n in range(3)),
        _row(products, products.day, products_used_30=products.change),
        _row(
            available,
            ibis.greatest(available.day, available.launched_day),
            features_available_30=available.change * available.features,
        ),
        *(_tick_unless_active(recent, days) for days in quiet),
        *_season(seen, policy),
    ]


def _tick_unless_active(spans: ir.Table, days: int) -> ir.Table:
    """Return the days on which users have been quiet for `days` days."""
    quiet = spans.filter(spans.next_day.isnull() | (spans.next_day - spans.day > days))
    return _row(quiet, quiet.day + days)


def _season(seen: ir.Table, policy: LifecyclePolicy) -> list[ir.Table]:
    """Return changes in activity about a year ago and in the start of the latest quiet period."""
    tolerance = policy.segments.seasonal_tolerance_days
    last_year = presence_of(seen, keys=["user_id"], days=2 * tolerance + 1)
    spells = seen.filter(seen.day - seen.previous_day - 1 > policy.segments.seasonal_quiet_days)
    return [
        _row(last_year, last_year.day + _YEAR - tolerance, last_year=last_year.change),
        _row(spells, spells.day, quiet_from=spells.previous_day),
        _row(spells, spells.previous_day + _YEAR + tolerance + 1),
    ]


def _features(facts: Facts, first: ir.IntegerValue) -> list[ir.Table]:
    used = facts.features
    presence = sliding_presence(
        used.filter(used.day > first - 30), keys=["user_id", "feature_id"], days=30
    )
    before = used.group_by("user_id").aggregate(day=used.day.min())
    return [
        _row(presence, presence.day, features_used_30=presence.change),
        _row(before, before.day, features_before=_ONE),
    ]


def _products(facts: Facts, first: ir.IntegerValue) -> list[ir.Table]:
    """Return changes in the product counts, which are derived from the product states."""
    runs = facts.product_states
    active = runs.filter(runs.current_state.isin(IN_USE))
    tried = runs.group_by("user_id", "product_id").aggregate(day=runs.first_day.min())
    now = active.filter(active.last_day >= first)
    return [
        _row(tried, tried.day, products_tried=_ONE),
        _row(now, ibis.greatest(now.first_day, first), products_active=_ONE),
        _row(now, now.last_day + 1, products_active=-_ONE),
        _row(active, active.first_day + 30, products_active_before=_ONE),
        _row(active, active.last_day + 31, products_active_before=-_ONE),
    ]


def _states(facts: Facts, policy: LifecyclePolicy) -> list[ir.Table]:
    """Return changes in `engaged` and in the latest reactivation."""
    runs, came_back = facts.engaged, facts.returns
    return [
        _row(runs, runs.first_day, engaged=_ONE),
        _row(runs, runs.last_day + 1, engaged=-_ONE),
        _row(came_back, came_back.day, reactivated_on=came_back.day),
        _row(came_back, came_back.day + policy.segments.reactivation_days + 1),
    ]


def _reach_and_runs(facts: Facts) -> list[ir.Table]:
    reached = sliding_presence(facts.reached, keys=["user_id", "person"], days=RECENT_DAYS)
    runs = facts.runs
    completed = runs.filter(runs.completed_day.notnull())
    return [
        _row(reached, reached.day, people_reached=reached.change),
        _row(runs, runs.started_day, workflows_started=_ONE),
        _row(completed, completed.completed_day, workflows_completed=_ONE),
        _row(
            runs,
            runs.started_day + RECENT_DAYS,
            workflows_started=-_ONE,
            workflows_completed=-runs.completed_day.notnull().cast("int32"),
        ),
    ]


def _stages(people: ir.Table, policy: LifecyclePolicy) -> list[ir.Table]:
    """Return the signup day and the days on which the time since signup can change a segment."""
    segments = policy.segments
    last_days = {
        *(segments.struggling_days, segments.onboarding_days),
        *(segments.adoption_days, segments.retention_days),
    }
    ages = [0, *sorted(last + 1 for last in last_days)]
    return [_row(people, people.signup_day + age) for age in ages]


def _row(rows: ir.Table, day: ir.IntegerValue, **changes: ir.IntegerValue) -> ir.Table:
    """Return changes for one day. A row without changes marks a day on which a segment may change."""
    return rows.select(
        "user_id",
        day=day.cast("int64"),
        **{name: _packed(pack, changes) for name, pack in zip(_PACK_NAMES, _PACKS, strict=True)},
        **{name: changes.get(name, ibis.null("int64")).cast("int64") for name in _LATEST},
    )


def _packed(pack: Mapping[str, int], changes: Mapping[str, ir.IntegerValue]) -> ir.IntegerValue:
    """Return a pack's changes as one number, with the first measure in the lowest bits."""
    packed = ibis.literal(0, "int64")
    for name, first_bit in _first_bits(pack).items():
        if name in changes:
            packed = packed + changes[name].cast("int64") * 2**first_bit
    return packed.cast("int64")


def _unpacked(levels: ir.Table) -> ir.Table:
    """Replace each pack with its measures."""
    measures = {
        name: (levels[packed] >> first_bit) & (2 ** pack[name] - 1)
        for packed, pack in zip(_PACK_NAMES, _PACKS, strict=True)
        for name, first_bit in _first_bits(pack).items()
    }
    levels = levels.mutate(**{name: level.cast("int64") for name, level in measures.items()})
    return levels.drop(*_PACK_NAMES)


def _first_bits(pack: Mapping[str, int]) -> dict[str, int]:
    return dict(zip(pack, accumulate(pack.values(), initial=0), strict=False))
