"""silver_account_state_intervals: the stretches of days on which nothing changes of an account."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.lifecycle.accounts import account_intervals
from monstera_assets.lifecycle.states import FrozenReason, HealthBand
from monstera_assets.silver import state_tables

ACCOUNT_COLUMN = ma.ACCOUNT_ID
STATE_COLUMNS = (
    ma.Column(
        "current_state",
        "string",
        "State of the account at the end of the day.",
        allowed=tuple(ma.AccountState),
    ),
    ma.STATE_SINCE,
    ma.Column("state_reason", "string", "The rule that led to the state."),
    ma.Column(
        "subscription_tier",
        "string",
        "Tier in force; trial before the first payment.",
        allowed=SUBSCRIPTION_TIERS,
    ),
    ma.Column("total_seats", "int64", "Seats bought."),
    ma.Column(
        "active_seats",
        "int64",
        "Distinct users of the account with a qualifying event in the last 30 days.",
    ),
    ma.Column(
        "seat_utilization_pct",
        "float64",
        "100 x active_seats / total_seats; 0 without seats, may exceed 100.",
    ),
    ma.Column("health_score", "float64", "0 to 100: the mean of the four components."),
    ma.Column(
        "seat_utilization_score", "float64", "Component of health: utilisation, at most 100."
    ),
    ma.Column(
        "product_breadth_score",
        "float64",
        "Component of health: products in use against the policy's breadth_target, at most 100.",
    ),
    ma.Column(
        "recent_activity_score",
        "float64",
        "Component of health: 100, 75, 50, 25 for a last qualifying event up to 7, 14, 30, 60 days"
        " ago, else 0.",
    ),
    ma.Column(
        "contract_status_score",
        "float64",
        "Component of health: 0 churned, 25 frozen or lapsed, 50 trial or cancellation pending, 75"
        " renewal within 30 days, else 100.",
    ),
    ma.Column(
        "health_band",
        "string",
        "excellent from 90, good from 70, fair from 50, poor from 30, critical below.",
        allowed=tuple(HealthBand),
    ),
    ma.Column(
        "monthly_recurring_revenue",
        "decimal(18, 2)",
        "Recurring revenue a month, in the company's currency; 0 unless paid.",
    ),
    ma.nullable("contract_renewal_date", "date", "Renewal date; null if open-ended."),
    ma.nullable(
        "days_to_renewal",
        "int64",
        "Days to the renewal date, positive before it; null while never paid or lapsed.",
    ),
    ma.Column(
        "frozen_reason",
        "string",
        "Why the account is frozen; null if it is not.",
        nullable=True,
        allowed=tuple(FrozenReason),
    ),
    ma.Column("products_active", "int64", "Products with qualifying use in the last 30 days."),
)


TABLE = ma.declare_table(
    "silver_account_state_intervals",
    grain="one account and first day of a stretch in which neither the state or health changes nor a"
    " date from which days are counted",
    description="The state and health of every account from its creation to the as-of date. Read it for"
    " questions about lengths of time and long ranges: it has a row a change, where history has one a"
    " day.",
    key=("account_id", "valid_from"),
    columns=(
        ma.ACCOUNT_ID,
        state_tables.VALID_FROM,
        state_tables.VALID_TO,
        *(column for column in STATE_COLUMNS if column.name != "days_to_renewal"),
        ma.Column(
            "is_paid", "boolean", "Whether it is paid for, so that days to renewal are counted."
        ),
        ma.nullable(
            "subscription_event_id",
            "string",
            "The subscription event of the first day that changed the contract; null if none did.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE, days={"silver_daily_user_activity": ma.ALL_DAYS})
def silver_account_state_intervals(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    as_of: ir.DateValue,
) -> ir.Table:
    """The rules of the lifecycle over all facts up to the as-of date."""
    intervals = account_intervals(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        state_tables.up_to(as_of, bronze_subscription_events),
        policy,
    )
    return state_tables.stored_intervals(
        TABLE,
        intervals,
        as_of,
        state_since=ma.day_date(intervals.state_since),
        subscription_tier=intervals.tier,
        total_seats=intervals.seats,
        monthly_recurring_revenue=intervals.revenue,
        contract_renewal_date=ma.day_date(intervals.renewal_day),
        subscription_event_id=intervals.event_id,
    )


def states_on(days: ir.Table, day: ir.IntegerValue) -> dict[str, ir.Value]:
    """The columns that history and current state share, of rows of intervals on a day."""
    to_renewal = ma.day_number(days.contract_renewal_date) - day
    renewal = {"days_to_renewal": ibis.ifelse(days.is_paid, to_renewal, None)}
    names = ma.column_names(STATE_COLUMNS)
    return {name: renewal[name] if name in renewal else days[name] for name in names}


cover_every_day = state_tables.cover_every_day(TABLE)
