"""silver_account_state_history: each account's state and health on each day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.accounts import COMPONENTS
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_account_state_intervals import STATE_COLUMNS, states_on

TABLE = ma.declare_table(
    "silver_account_state_history",
    group=ma.AssetGroup.ACCOUNTS,
    grain="one account and date",
    description="What were each account's state and health at the end of each day? Contract values"
    " come from subscription events or, before the first event, from bronze_accounts. Activity is"
    " measured across all of the account's users. For durations, query"
    " silver_account_state_intervals.",
    key=("account_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(ma.ACCOUNT_ID, ma.SNAPSHOT_DATE, *STATE_COLUMNS),
)


@ma.table_asset(TABLE, days={"silver_account_state_intervals": ma.UP_TO_AS_OF})
def silver_account_state_history(
    silver_account_state_intervals: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Expand the intervals to one row per account and day in the window."""
    days = state_tables.days_of(silver_account_state_intervals, window, keys=["account_id"])
    return days.select(
        "account_id", snapshot_date=ma.day_date(days.day), **states_on(days, days.day)
    )


@ma.rule(TABLE)
def one_row_per_account_and_day(
    silver_account_state_history: ir.Table, bronze_accounts: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Each account has exactly one row per day since its creation."""
    created = ma.one_row_per_entity(bronze_accounts, ["account_id", "created_date"])
    starts = created.rename(start_date="created_date")
    return state_tables.days_not_in_history(
        silver_account_state_history, starts, ["account_id"], window
    )


@ma.rule(TABLE)
def health_is_sum_of_components(
    silver_account_state_history: ir.Table, *, window: ma.Window
) -> ir.Table:
    """The health score is between 0 and 100 and equals the mean of its four stored components."""
    rows = ma.within(silver_account_state_history, "snapshot_date", window)
    total = sum((rows[name] for name in COMPONENTS[1:]), rows[COMPONENTS[0]])
    out_of_bounds = ibis.or_(
        *(~rows[name].between(0, 100) for name in (*COMPONENTS, "health_score"))
    )
    return rows.filter(out_of_bounds | ((rows.health_score - total / 4).abs() > 1e-9)).select(
        "account_id", "snapshot_date", "health_score", *COMPONENTS
    )


@ma.rule(TABLE)
def seats_recomputed_from_raw_events(
    silver_account_state_history: ir.Table,
    bronze_events: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Active seats match the number of users with a qualifying raw event in the last 30 days.

    The check covers only the window's last day and the last day of each month in the window. Counting
    30 days of events for every day would take longer than computing the table.
    """
    dates = ma.calendar(window.first, window.last, "snapshot_date")
    next_day = dates.snapshot_date + ibis.interval(days=1)
    dates = dates.filter((next_day.day() == 1) | (dates.snapshot_date == window.last))
    events = bronze_events.filter(
        bronze_events.is_qualifying_event, bronze_events.entity_type == "user"
    )
    created = ma.one_row_per_entity(bronze_accounts, ["account_id", "created_date"])
    people = ma.memberships(bronze_users).inner_join(created, "account_id")
    seen = events.select(user_id="entity_id", seen_on="event_date").distinct()
    seen = ma.at_day(seen, ma.day_number(seen.seen_on), people, "user_id")
    seen = seen.filter(seen.seen_on >= seen.created_date)
    days_ago = ma.day_number(dates.snapshot_date) - ma.day_number(seen.seen_on)
    counted = dates.inner_join(seen, days_ago.between(0, 29))
    counted = counted.group_by("account_id", "snapshot_date").aggregate(
        counted_seats=counted.user_id.nunique()
    )
    rows = silver_account_state_history.semi_join(dates, "snapshot_date")
    both = rows.left_join(counted, ["account_id", "snapshot_date"])
    seats = both.counted_seats.fill_null(0)
    utilization = ma.ratio(seats * 100, both.total_seats)
    agrees = (both.seat_utilization_pct - utilization).abs() <= 1e-9
    neither = both.seat_utilization_pct.isnull() & utilization.isnull()
    return both.filter((both.active_seats != seats) | ~(agrees.fill_null(False) | neither)).select(
        "account_id", "snapshot_date", "active_seats", "counted_seats", "total_seats"
    )


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Check whether a seats_changed event is missing, or offer the account more seats.",
)
def seats_within_contract(silver_account_state_history: ir.Table, *, window: ma.Window) -> ir.Table:
    """If seats are counted, no account uses more seats than it has purchased."""
    rows = ma.within(silver_account_state_history, "snapshot_date", window)
    rows = rows.filter(rows.seat_utilization_pct > 100)
    return rows.group_by("account_id").aggregate(
        days=rows.count(),
        first_day=rows.snapshot_date.min(),
        last_day=rows.snapshot_date.max(),
        most_active_seats=rows.active_seats.max(),
        fewest_seats=rows.total_seats.min(),
    )
