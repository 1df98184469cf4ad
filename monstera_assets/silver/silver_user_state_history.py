"""silver_user_state_history: every user's state on every day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import rule, within
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_date, day_number, on_each_day
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import ACTIVITY_STATES, DunningType, UserState
from monstera_assets.lifecycle.users import platform_intervals
from monstera_assets.silver import OWNERS
from monstera_assets.warehouse.table_asset import UP_TO_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

STATE_COLUMNS = (
    Column(
        "platform_state",
        "string",
        "State of the user on the platform at the end of the day.",
        allowed=tuple(UserState),
    ),
    Column("platform_state_since", "date", "First date of the unbroken run of this state."),
    Column(
        "activity_state",
        "string",
        "State that follows from activity alone, before dunning and deletion.",
        allowed=ACTIVITY_STATES,
    ),
    Column("is_dunning", "boolean", "Whether the user's account is in dunning."),
    Column(
        "dunning_type",
        "string",
        "How far the account is into dunning; null if it is not.",
        nullable=True,
        allowed=tuple(DunningType),
    ),
)

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_state_history",
    grain="one user and date, from signup on",
    description="The state of every user at the end of every day. A pure function of the facts dated"
    " up to that day and of the entity tables.",
    owners=OWNERS,
    key=("user_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(
        Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
        Column("snapshot_date", "date", "The day whose end is described."),
        *STATE_COLUMNS,
        Column("qualifying_events_count", "int64", "Qualifying events on that day."),
        Column("total_qualifying_events", "int64", "Qualifying events up to that day."),
        Column("days_since_signup", "int64", "Days from signup to that day."),
        Column(
            "days_since_last_qualifying_event",
            "int64",
            "Days from the last qualifying event to that day; null if there was none.",
            nullable=True,
        ),
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": UP_TO_DAY})
def silver_user_state_history(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """State intervals crossed with the days of the window."""
    intervals = platform_intervals(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        bronze_subscription_events,
        policy,
    )
    days = on_each_day(intervals, window.first, window.last, day_column="day", order_by=["user_id"])
    return days.select(
        user_id=days.user_id,
        snapshot_date=day_date(days.day),
        platform_state=days.platform_state,
        platform_state_since=day_date(days.state_since),
        activity_state=days.activity_state,
        is_dunning=days.is_dunning,
        dunning_type=days.dunning_type,
        qualifying_events_count=ibis.ifelse(
            days.day == days.last_activity_day, days.qualifying_events, 0
        ),
        total_qualifying_events=days.total_qualifying_events.fill_null(0),
        days_since_signup=days.day - days.start_day,
        days_since_last_qualifying_event=days.day - days.last_activity_day,
    )


@rule(TABLE, "Each user has exactly one row for each day from signup on: no gap, no day before.")
def one_row_per_user_and_day(
    silver_user_state_history: ir.Table, bronze_users: ir.Table, *, window: Window
) -> ir.Table:
    """Users whose days in the window are not all of them, or not once."""
    rows = within(silver_user_state_history, "snapshot_date", window)
    days = rows.group_by("user_id").aggregate(
        rows=rows.count(), first_day=rows.snapshot_date.min(), last_day=rows.snapshot_date.max()
    )
    signup = bronze_users.user_created_at.date()
    expected = bronze_users.filter(signup <= window.last).select(
        "user_id", expected_first_day=ibis.greatest(signup, window.first)
    )
    both = expected.left_join(days, "user_id").drop("user_id_right")
    missing_or_extra = (
        both.rows.isnull()
        | (both.first_day != both.expected_first_day)
        | (both.last_day != window.last)
        | (both.rows != _days_between(both.expected_first_day, window) + 1)
    )
    return both.filter(missing_or_extra)


@rule(TABLE, "platform_state_since is the first day of an unbroken run of the state.")
def runs_are_unbroken(silver_user_state_history: ir.Table, *, window: Window) -> ir.Table:
    """Runs that have a gap, begin on another day than they say, or follow one of the same state."""
    runs = state_runs(within(silver_user_state_history, "snapshot_date", window))
    begins = ibis.greatest(runs.platform_state_since, window.first)
    has_gap = runs.rows != day_number(runs.last_day) - day_number(runs.first_day) + 1
    return runs.filter(
        has_gap
        | (runs.first_day != begins)
        | (runs.previous_state == runs.platform_state).fill_null(False)
    )


def state_runs(history: ir.Table, by: tuple[str, ...] = ("user_id",)) -> ir.Table:
    """Runs of a state as history labels them, for each value of the columns `by`.

    Returns:
        One row a key, `platform_state` and `platform_state_since`: `rows`, `first_day`, `last_day`,
        `previous_state` and `previous_since` (of the run before, null for a key's first).
    """
    runs = history.group_by(*by, "platform_state", "platform_state_since").aggregate(
        rows=history.count(),
        first_day=history.snapshot_date.min(),
        last_day=history.snapshot_date.max(),
    )
    by_key = ibis.window(group_by=by, order_by="first_day")
    return runs.mutate(
        previous_state=runs.platform_state.lag().over(by_key),
        previous_since=runs.platform_state_since.lag().over(by_key),
    )


def _days_between(first: ir.DateValue, window: Window) -> ir.IntegerValue:
    return day_number(window.last) - day_number(first)
