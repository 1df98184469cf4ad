"""Section 3 of the framework, day by day: the lifecycle of one user on the platform.

Assumptions where the framework leaves room for interpretation:

* A transition is "by activity" if it would not have happened without the qualifying events of that day.
  The loop therefore evaluates every day a second time, without these events.
* A subscription event causes a transition into dunning, or from dunning to active, only if the dunning
  of the account began or ended on that day. If the account is already in dunning when a user becomes
  active, activity causes the transition (from new), or the passage of time (on the day after a return).
* Only the passage of time causes transitions from dunning to dormant or churned.
* A user without an account history is never in dunning.
* A user whose account changes has the dunning of the account of the day. If only this change ends the
  dunning, no event causes the transition to active. If the user enters an account that is already in
  dunning, no event causes the transition either, unless the user becomes active on that day.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from monstera_assets_tests.oracle.policy import OraclePolicy

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class QualifyingDay:
    """The qualifying events of one user (or user and product) on one date.

    Attributes:
        day: The UTC date.
        events: The number of qualifying events, at least 1.
        first_event_id: The first of them by timestamp and event id, if the test needs ids.
    """

    day: date
    events: int = 1
    first_event_id: str | None = None


@dataclass(frozen=True)
class Dunning:
    """The dunning of an account at the end of one day (sections 3 and 5).

    Attributes:
        is_dunning: Whether a payment failure is open.
        dunning_type: grace_period, soft or hard; None if not in dunning.
        dunning_since: The date of the first open failure; None if not in dunning.
        changed_by: The event that opened or closed the dunning on this day; None if nothing changed or
            if the lapse of the subscription closed it.
    """

    is_dunning: bool = False
    dunning_type: str | None = None
    dunning_since: date | None = None
    changed_by: str | None = None


@dataclass(frozen=True)
class UserDay:
    """One user at the end of one day: a row of the user state history (section 3).

    Counts refer to qualifying events, and ``days_since_*`` are calendar days. ``is_first_activation``
    marks a reactivation that is a late first activation. ``triggering_event_id`` is the event that
    caused the transition to the state of the day, if any.
    """

    user_id: str
    snapshot_date: date
    activity_state: str
    platform_state: str
    platform_state_since: date
    is_dunning: bool
    dunning_type: str | None
    dunning_since: date | None
    qualifying_events_count: int
    total_qualifying_events: int
    days_since_signup: int
    days_since_last_qualifying_event: int | None
    is_first_activation: bool
    triggering_event_id: str | None


@dataclass(frozen=True)
class Transition:
    """A change of state between two consecutive days of a history (section 6).

    ``days_in_previous_state`` is the number of days from the start of the previous state to the
    transition.
    """

    from_state: str
    to_state: str
    transition_date: date
    days_in_previous_state: int
    triggering_event_id: str | None = None


def no_dunning(day: date) -> Dunning:
    """Return an absence of dunning, for users whose account has no billing."""
    del day
    return Dunning()


def activity_state(
    day: date,
    signup: date,
    qualifying: Sequence[QualifyingDay],
    yesterday: str | None,
    policy: OraclePolicy,
) -> str:
    """Return the activity state of a user at the end of a day (section 3, rules 1 to 7).

    Args:
        day: The day to evaluate.
        signup: The signup date of the user.
        qualifying: The user's days with qualifying events, up to ``day``.
        yesterday: The activity state of the day before; None on the signup date.
        policy: The thresholds.
    """
    so_far = sum(q.events for q in qualifying)
    within = (day - signup).days <= policy.new_user_days
    if within and so_far < policy.min_qualifying_events_to_activate:
        return "new"
    if so_far == 0:
        return "churned"
    last = max(q.day for q in qualifying)
    gap = (day - last).days
    if day == last and yesterday == "churned":
        return "reactivated"
    if day == last and yesterday == "dormant":
        return "returning"
    if gap <= policy.active_days:
        return "active"
    if gap <= policy.dormant_days:
        return "dormant"
    return "churned"


def user_history(
    user_id: str,
    signup: date,
    qualifying_days: Iterable[QualifyingDay],
    through: date,
    *,
    deleted_on: date | None = None,
    deletion_event_id: str | None = None,
    dunning: Callable[[date], Dunning] = no_dunning,
    policy: OraclePolicy | None = None,
) -> list[UserDay]:
    """Return one row per date for one user since signup, oldest first (section 3).

    Args:
        user_id: The user.
        signup: The signup date of the user in UTC, which is the date of the first row.
        qualifying_days: Dates with qualifying events in any product, in any order.
        through: The last date (inclusive).
        deleted_on: The date of the user's deletion, if any.
        deletion_event_id: The event that deleted the user.
        dunning: A function that returns the dunning of the user's account of a day at its end.
        policy: The thresholds, by default those of the framework.
    """
    policy = policy or OraclePolicy()
    facts = list(qualifying_days)
    rows: list[UserDay] = []
    day = signup
    while day <= through:
        before = rows[-1] if rows else None
        yesterday = before.activity_state if before else None
        qualifying = [q for q in facts if q.day <= day]
        earlier = [q for q in facts if q.day < day]
        today = [q for q in facts if q.day == day]

        activity = activity_state(day, signup, qualifying, yesterday, policy)
        without_today = activity_state(day, signup, earlier, yesterday, policy)
        debt = dunning(day)
        is_deleted = deleted_on is not None and day >= deleted_on
        if is_deleted:
            platform = "deleted"
        elif debt.is_dunning and activity == "active":
            platform = "dunning"
        else:
            platform = activity

        since, trigger = day, None
        if before is not None and before.platform_state == platform:
            since = before.platform_state_since
        elif before is not None:
            dunning_begins = platform == "dunning" and debt.changed_by is not None
            dunning_ends = before.platform_state == "dunning" and platform == "active"
            if platform == "deleted":
                trigger = deletion_event_id
            elif dunning_begins or dunning_ends:
                trigger = debt.changed_by
            elif activity != without_today:
                trigger = today[0].first_event_id

        rows.append(
            UserDay(
                user_id=user_id,
                snapshot_date=day,
                activity_state=activity,
                platform_state=platform,
                platform_state_since=since,
                is_dunning=debt.is_dunning,
                dunning_type=debt.dunning_type,
                dunning_since=debt.dunning_since,
                qualifying_events_count=sum(q.events for q in today),
                total_qualifying_events=sum(q.events for q in qualifying),
                days_since_signup=(day - signup).days,
                days_since_last_qualifying_event=(
                    (day - max(q.day for q in qualifying)).days if qualifying else None
                ),
                is_first_activation=activity == "reactivated" and not earlier,
                triggering_event_id=trigger,
            )
        )
        day += ONE_DAY
    return rows


def user_transitions(rows: Sequence[UserDay]) -> list[Transition]:
    """Return the transitions in the result of ``user_history`` (section 6, scope platform)."""
    return [
        Transition(
            from_state=before.platform_state,
            to_state=after.platform_state,
            transition_date=after.snapshot_date,
            days_in_previous_state=(after.snapshot_date - before.platform_state_since).days,
            triggering_event_id=after.triggering_event_id,
        )
        for before, after in pairwise(rows)
        if before.platform_state != after.platform_state
    ]
