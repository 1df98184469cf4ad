"""Compute the user lifecycle on the platform (framework, section 3).

The history, current and transition tables are derived from `platform_intervals`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.billing import dunning_intervals
from monstera_assets.lifecycle.intervals import (
    FOREVER,
    ActivityLabels,
    activity_intervals,
    day_number,
    fill_gaps,
    first_of,
    neighbours,
    numbered,
    overlay,
    with_state_since,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import UserState
from monstera_assets.lifecycle.versions import memberships, one_row_per_entity

PLATFORM_LABELS = ActivityLabels(
    *(UserState.NEW, UserState.ACTIVE, UserState.DORMANT, UserState.CHURNED),
    *(UserState.REACTIVATED, UserState.RETURNING),
)


def platform_intervals(
    activity: ir.Table,
    users: ir.Table,
    accounts: ir.Table,
    subscription_events: ir.Table,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Return each user's platform state for every day since signup.

    The inputs are bronze tables and all days in silver_daily_user_activity.

    Returns:
        An interval table by `user_id`, with days as numbers: `platform_state`, `state_since`,
        `activity_state`, `is_dunning`, `dunning_type`, `dunning_since`, `account_id`, `start_day`
        (signup), `last_activity_day`, `last_qualifying_event_at`, `qualifying_events` (on the last
        activity day), `total_qualifying_events` and `triggering_event_id` (on the interval's
        first day, or null if the state did not change or changed only because time passed).
    """
    people = one_row_per_entity(users, ["user_id", "signup_date"])
    people = numbered(people, by=["user_id"], number="user_number")
    accounts_of_users = memberships(users).inner_join(people, "user_id")
    days = _qualifying_days(activity, people, policy)
    starts = _starts(people, policy)
    states = activity_intervals(starts, days, keys=["user_number"], labels=PLATFORM_LABELS)
    states = overlay(states, accounts_of_users, keys=["user_number"], columns=["account_id"])
    dunning = fill_gaps(
        dunning_intervals(accounts, subscription_events, policy), keys=["account_id"]
    )
    states = overlay(
        states,
        dunning.mutate(dunning_from=dunning.valid_from),
        keys=["account_id"],
        columns=["dunning_type", "dunning_since", "dunning_from", "begun_by_event_id"],
    )
    # An event of the new account does not explain a change on the day on which a user joins it.
    states = states.mutate(
        dunning_event_id=ibis.ifelse(
            states.dunning_from == states.valid_from, states.begun_by_event_id, None
        )
    ).drop("dunning_from", "begun_by_event_id")
    states = overlay(
        states,
        fill_gaps(_deletions(subscription_events, people), keys=["user_number"]),
        keys=["user_number"],
        columns=["deleted", "begun_by_event_id"],
    ).rename(deletion_event_id="begun_by_event_id")
    is_dunning = states.dunning_type.notnull()
    states = states.mutate(
        is_dunning=is_dunning,
        platform_state=ibis.cases(
            (states.deleted.notnull(), UserState.DELETED),
            (is_dunning & (states.activity_state == UserState.ACTIVE), UserState.DUNNING),
            else_=states.activity_state,
        ),
    ).drop("deleted")
    states = with_state_since(states, keys=["user_number"], state="platform_state")
    states = states.mutate(triggering_event_id=_triggering_event_id(states))
    return states.inner_join(people.select("user_number", "user_id"), "user_number")


def _triggering_event_id(states: ir.Table) -> ir.StringValue:
    """Return the event that caused a transition, or null if only the passage of time caused it.

    `dunning_event_id` is the subscription event that started the current dunning period or ended
    the previous period. The value is null if one period directly followed another.
    """
    by_activity = (states.valid_from == states.last_activity_day) & states.activity_decides
    dunning_begins = (states.dunning_since == states.valid_from) & states.dunning_event_id.notnull()
    into_dunning = states.platform_state == UserState.DUNNING
    out_of_dunning = (states.previous_state == UserState.DUNNING) & (
        states.platform_state == UserState.ACTIVE
    )
    event_id = ibis.cases(
        (states.platform_state == UserState.DELETED, states.deletion_event_id),
        (into_dunning & dunning_begins, states.dunning_event_id),
        (out_of_dunning, states.dunning_event_id),
        (by_activity, states.first_qualifying_event_id),
    )
    return ibis.ifelse(states.previous_state != states.platform_state, event_id, None)


def _starts(people: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    signup = day_number(people.signup_date)
    return people.select(
        user_number=people.user_number,
        start_day=signup,
        new_until=(signup + policy.new_user_days).cast("int64"),
        active_days=ibis.literal(policy.active_days, "int64"),
        dormant_days=ibis.literal(policy.dormant_days, "int64"),
    )


def _qualifying_days(activity: ir.Table, people: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return one row per user and day with a qualifying event, with or without a product."""
    qualifying = activity.filter(activity.qualifying_events > 0)
    qualifying = qualifying.inner_join(people.select("user_id", "user_number"), "user_id")
    days = qualifying.group_by("user_number", "activity_date").aggregate(
        qualifying_events=qualifying.qualifying_events.sum().cast("int64"),
        last_qualifying_event_at=qualifying.last_qualifying_event_at.max(),
        first_qualifying_event_id=first_of(
            qualifying.first_qualifying_event_id, order_by=[qualifying.first_qualifying_event_at]
        ),
    )
    days = days.mutate(activity_day=day_number(days.activity_date)).drop("activity_date")
    so_far = ibis.cumulative_window(group_by="user_number", order_by="activity_day")
    days = days.mutate(
        **neighbours(days.activity_day, keys=["user_number"]),
        total_qualifying_events=days.qualifying_events.sum().over(so_far).cast("int64"),
    )
    before = days.total_qualifying_events - days.qualifying_events
    enough = policy.min_qualifying_events_to_activate
    return days.mutate(
        activated=days.total_qualifying_events >= enough, activated_before=before >= enough
    )


def _deletions(subscription_events: ir.Table, people: ir.Table) -> ir.Table:
    """Return one interval per deleted user, starting on the day of the first deletion."""
    deletions = subscription_events.filter(
        subscription_events.event_type == "user_deleted", subscription_events.entity_type == "user"
    )
    first = deletions.group_by(user_id=deletions.entity_id).aggregate(
        valid_from=day_number(deletions.event_date.min()),
        begun_by_event_id=first_of(deletions.event_id, order_by=[deletions.event_timestamp]),
    )
    first = first.inner_join(people.select("user_id", "user_number"), "user_id").drop("user_id")
    return first.mutate(
        valid_to=ibis.literal(FOREVER, "int64"),
        deleted=ibis.literal(value=True),
        ended_by_event_id=ibis.null("string"),
    )
