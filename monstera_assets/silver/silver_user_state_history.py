"""silver_user_state_history: each user's state on each day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_user_state_intervals import STATE_COLUMNS

TABLE = ma.declare_table(
    "silver_user_state_history",
    group=ma.AssetGroup.LIFECYCLE,
    grain="one user and date",
    description="In which state was each user at the end of each day? The state depends only on the"
    " entity tables and on facts dated through that day. For durations, query"
    " silver_user_state_intervals.",
    key=("user_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(
        ma.USER_ID,
        ma.SNAPSHOT_DATE,
        *STATE_COLUMNS,
        ma.Column("qualifying_events_count", "int64", "Number of qualifying events on the day."),
        ma.TOTAL_QUALIFYING_EVENTS,
        ma.DAYS_SINCE_SIGNUP,
        ma.DAYS_SINCE_LAST_QUALIFYING_EVENT,
    ),
)


@ma.table_asset(TABLE, days={"silver_user_state_intervals": ma.UP_TO_AS_OF})
def silver_user_state_history(
    silver_user_state_intervals: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Expand the intervals to one row per user and day in the window."""
    days = state_tables.days_of(silver_user_state_intervals, window, keys=["user_id"])
    last_day = ma.day_number(days.last_qualifying_date)
    return days.mutate(
        snapshot_date=ma.day_date(days.day),
        qualifying_events_count=ibis.ifelse(days.day == last_day, days.qualifying_events_count, 0),
        days_since_signup=days.day - ma.day_number(days.signup_date),
        days_since_last_qualifying_event=days.day - last_day,
    ).select(ma.column_names(TABLE.columns))


@ma.rule(TABLE)
def one_row_per_user_and_day(
    silver_user_state_history: ir.Table, bronze_users: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Each user has exactly one row per day since signup and no earlier rows."""
    starts = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    starts = starts.rename(start_date="signup_date")
    return state_tables.days_not_in_history(silver_user_state_history, starts, ["user_id"], window)


@ma.rule(TABLE)
def runs_are_unbroken(silver_user_state_history: ir.Table, *, window: ma.Window) -> ir.Table:
    """platform_state_since is the first day of the uninterrupted period in the state."""
    runs = state_runs(ma.within(silver_user_state_history, "snapshot_date", window))
    begins = ibis.greatest(runs.platform_state_since, window.first)
    has_gap = runs.rows != ma.day_number(runs.last_day) - ma.day_number(runs.first_day) + 1
    return runs.filter(
        has_gap
        | (runs.first_day != begins)
        | (runs.previous_state == runs.platform_state).fill_null(False)
    )


def state_runs(history: ir.Table, by: tuple[str, ...] = ("user_id",)) -> ir.Table:
    """Return each series of consecutive days in one state, grouped by the `by` columns.

    Returns:
        One row per key, `platform_state` and `platform_state_since`: `rows`, `first_day`,
        `last_day`, `previous_state` and `previous_since` (from the preceding series, or null
        for a key's first series).
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
