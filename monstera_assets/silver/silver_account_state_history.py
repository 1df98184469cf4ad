"""silver_account_state_history: every account's state and health on every day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.checks.rules import rule, within
from monstera_assets.lifecycle.accounts import COMPONENTS, account_intervals
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import calendar, day_date, day_number, on_each_day
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState, FrozenReason, HealthBand
from monstera_assets.silver import OWNERS
from monstera_assets.warehouse.table_asset import UP_TO_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

ACCOUNT_COLUMN = Column(
    "account_id",
    "string",
    "The account.",
    references=Reference("bronze_accounts", "account_id"),
)
STATE_COLUMNS = (
    Column(
        "current_state",
        "string",
        "State of the account at the end of the day.",
        allowed=tuple(AccountState),
    ),
    Column("state_since", "date", "First date of the unbroken run of this state."),
    Column("state_reason", "string", "The rule that led to the state."),
    Column(
        "subscription_tier",
        "string",
        "Tier in force; trial before the first payment.",
        allowed=SUBSCRIPTION_TIERS,
    ),
    Column("total_seats", "int64", "Seats bought."),
    Column(
        "active_seats",
        "int64",
        "Distinct users of the account with a qualifying event in the last 30 days.",
    ),
    Column(
        "seat_utilization_pct",
        "float64",
        "100 x active_seats / total_seats; 0 without seats, may exceed 100.",
    ),
    Column("health_score", "float64", "0 to 100: the mean of the four components."),
    Column("seat_utilization_score", "float64", "Component of health: utilisation, at most 100."),
    Column(
        "product_breadth_score",
        "float64",
        "Component of health: products in use against the policy's breadth_target, at most 100.",
    ),
    Column(
        "recent_activity_score",
        "float64",
        "Component of health: 100, 75, 50, 25 for a last qualifying event up to 7, 14, 30, 60 days"
        " ago, else 0.",
    ),
    Column(
        "contract_status_score",
        "float64",
        "Component of health: 0 churned, 25 frozen or lapsed, 50 trial or cancellation pending, 75"
        " renewal within 30 days, else 100.",
    ),
    Column(
        "health_band",
        "string",
        "excellent from 90, good from 70, fair from 50, poor from 30, critical below.",
        allowed=tuple(HealthBand),
    ),
    Column(
        "monthly_recurring_revenue",
        "decimal(18, 2)",
        "Recurring revenue a month, in the company's currency; 0 unless paid.",
    ),
    Column("contract_renewal_date", "date", "Renewal date; null if open-ended.", nullable=True),
    Column(
        "days_to_renewal",
        "int64",
        "Days to the renewal date, positive before it; null while never paid or lapsed.",
        nullable=True,
    ),
    Column(
        "frozen_reason",
        "string",
        "Why the account is frozen; null if it is not.",
        nullable=True,
        allowed=tuple(FrozenReason),
    ),
    Column("products_active", "int64", "Products with qualifying use in the last 30 days."),
)

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_account_state_history",
    grain="one account and date, from its creation on",
    description="The state and health of every account at the end of every day, from its"
    " subscription events over its row in bronze_accounts and from its users' activity.",
    owners=OWNERS,
    key=("account_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(
        ACCOUNT_COLUMN,
        Column("snapshot_date", "date", "The day whose end is described."),
        *STATE_COLUMNS,
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": UP_TO_DAY})
def silver_account_state_history(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """State intervals crossed with the days of the window."""
    intervals = account_intervals(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        bronze_subscription_events,
        policy,
    )
    days = on_each_day(
        intervals, window.first, window.last, day_column="snapshot_day", order_by=["account_id"]
    )
    return days.select(
        account_id=days.account_id,
        snapshot_date=day_date(days.snapshot_day),
        **state_columns(days),
    )


def state_columns(days: ir.Table) -> dict[str, ir.Value]:
    """The columns that history and current state share, of each `snapshot_day`."""
    renamed = {
        "subscription_tier": days.tier,
        "total_seats": days.seats,
        "monthly_recurring_revenue": days.revenue,
        "contract_renewal_date": day_date(days.renewal_day),
        "state_since": day_date(days.state_since),
        "days_to_renewal": ibis.ifelse(
            days.renewal_counts, days.renewal_day - days.snapshot_day, None
        ),
    }
    return {
        column.name: renamed[column.name] if column.name in renamed else days[column.name]
        for column in STATE_COLUMNS
    }


@rule(TABLE, "Each account has exactly one row for each day from its creation on.")
def one_row_per_account_and_day(
    silver_account_state_history: ir.Table, bronze_accounts: ir.Table, *, window: Window
) -> ir.Table:
    """Accounts whose days in the window are not all of them."""
    rows = within(silver_account_state_history, "snapshot_date", window)
    days = rows.group_by("account_id").aggregate(
        rows=rows.count(), first_day=rows.snapshot_date.min(), last_day=rows.snapshot_date.max()
    )
    created = bronze_accounts.account_created_at.date()
    expected = bronze_accounts.filter(created <= window.last).select(
        "account_id", expected_first_day=ibis.greatest(created, window.first)
    )
    both = expected.left_join(days, "account_id").drop("account_id_right")
    expected_rows = day_number(window.last) - day_number(both.expected_first_day) + 1
    return both.filter(
        both.rows.isnull()
        | (both.first_day != both.expected_first_day)
        | (both.last_day != window.last)
        | (both.rows != expected_rows)
    )


@rule(TABLE, "Health lies between 0 and 100 and is the mean of its four stored components.")
def health_is_sum_of_components(
    silver_account_state_history: ir.Table, *, window: Window
) -> ir.Table:
    """Rows whose health is out of bounds or not what its components say."""
    rows = within(silver_account_state_history, "snapshot_date", window)
    total = sum((rows[name] for name in COMPONENTS[1:]), rows[COMPONENTS[0]])
    out_of_bounds = ibis.or_(
        *(~rows[name].between(0, 100) for name in (*COMPONENTS, "health_score"))
    )
    return rows.filter(out_of_bounds | ((rows.health_score - total / 4).abs() > 1e-9)).select(
        "account_id", "snapshot_date", "health_score", *COMPONENTS
    )


@rule(TABLE, "Active seats equal a count of distinct users over the raw events.")
def seats_recomputed_from_raw_events(
    silver_account_state_history: ir.Table,
    bronze_events: ir.Table,
    bronze_users: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Account-days whose active seats or utilisation differ from a plain count.

    Looks at the last day of each month in the window and the window's last day: each day's own
    thirty days of events are counted out, which for every day would cost more than the table.
    """
    dates = calendar(window.first, window.last, "snapshot_date")
    next_day = dates.snapshot_date + ibis.interval(days=1)
    dates = dates.filter((next_day.day() == 1) | (dates.snapshot_date == window.last))
    events = bronze_events.filter(
        bronze_events.is_qualifying_event, bronze_events.entity_type == "user"
    )
    seen = events.inner_join(bronze_users, events.entity_id == bronze_users.user_id)
    seen = seen.select("account_id", "user_id", seen_on=seen.event_date).distinct()
    counted = dates.inner_join(
        seen,
        [
            seen.seen_on <= dates.snapshot_date,
            day_number(seen.seen_on) > day_number(dates.snapshot_date) - 30,
        ],
    )
    counted = counted.group_by("account_id", "snapshot_date").aggregate(
        counted_seats=counted.user_id.nunique()
    )
    rows = silver_account_state_history.semi_join(dates, "snapshot_date")
    both = rows.left_join(counted, ["account_id", "snapshot_date"])
    seats = both.counted_seats.fill_null(0)
    utilization = ibis.ifelse(
        both.total_seats > 0, seats.cast("float64") * 100 / both.total_seats.cast("float64"), 0.0
    )
    return both.filter(
        (both.active_seats != seats) | ((both.seat_utilization_pct - utilization).abs() > 1e-9)
    ).select("account_id", "snapshot_date", "active_seats", "counted_seats", "total_seats")


@rule(TABLE, "No account uses more seats than it bought.", blocking=False)
def seats_within_contract(silver_account_state_history: ir.Table, *, window: Window) -> ir.Table:
    """Accounts with more active seats than seats bought, and since when in the window."""
    rows = within(silver_account_state_history, "snapshot_date", window)
    rows = rows.filter(rows.active_seats > rows.total_seats)
    return rows.group_by("account_id").aggregate(
        days=rows.count(),
        first_day=rows.snapshot_date.min(),
        last_day=rows.snapshot_date.max(),
        most_active_seats=rows.active_seats.max(),
        fewest_seats=rows.total_seats.min(),
    )
