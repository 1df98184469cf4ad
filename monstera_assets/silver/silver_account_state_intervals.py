"""silver_account_state_intervals: intervals of constant state and health per account."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.accounts import account_intervals
from monstera_assets.lifecycle.states import FrozenReason, HealthBand
from monstera_assets.silver import state_tables

ACCOUNT_COLUMN = ma.ACCOUNT_ID
STATE_COLUMNS = (
    ma.Column(
        "current_state",
        "string",
        "Account state at the end of the day.",
        allowed=tuple(ma.AccountState),
    ),
    ma.STATE_SINCE,
    ma.Column("state_reason", "string", "Rule that determined the state."),
    ma.Column(
        "subscription_tier",
        "string",
        "Subscription tier. The value is trial before the first payment, and unknown if the source does"
        " not specify a tier.",
    ),
    ma.Column(
        "total_seats",
        "int64",
        "Number of seats purchased or, if the source does not specify seats, number of the account's"
        " users who are not deleted. If the value is 0, seats are not counted.",
    ),
    ma.Column(
        "active_seats", "int64", "Number of users with a qualifying event in the last 30 days."
    ),
    ma.nullable(
        "seat_utilization_pct",
        "float64",
        "100 x active_seats / total_seats, or null if total_seats is 0. The value can exceed 100.",
    ),
    ma.Column("health_score", "float64", "Mean of the four health components, between 0 and 100."),
    ma.Column(
        "seat_utilization_score",
        "float64",
        "Health component: seat_utilization_pct, capped at 100, or 100 if seats are not counted.",
    ),
    ma.Column(
        "product_breadth_score",
        "float64",
        "Health component: 100 x products_active / the breadth_target setting, capped at 100.",
    ),
    ma.Column(
        "recent_activity_score",
        "float64",
        "Health component: 100, 75, 50 or 25 if the last qualifying event was at most 7, 14, 30 or"
        " 60 days ago, respectively, and 0 otherwise.",
    ),
    ma.Column(
        "contract_status_score",
        "float64",
        "Health component: 0 if churned, 25 if frozen or lapsed, 50 if on trial or if a cancellation"
        " is pending, 75 if due for renewal within 30 days, and 100 otherwise.",
    ),
    ma.Column(
        "health_band",
        "string",
        "Health score band: excellent from 90, good from 70, fair from 50, poor from 30, and critical"
        " below 30.",
        allowed=tuple(HealthBand),
    ),
    ma.Column(
        "monthly_recurring_revenue",
        "decimal(18, 2)",
        "Monthly recurring revenue of all subscriptions in the reporting currency, or 0 if the account"
        " does not have a paid subscription.",
    ),
    ma.nullable(
        "contract_renewal_date",
        "date",
        "Next renewal date of the account's subscriptions, or the latest one if all have passed. The"
        " value is null if the contract is open-ended and unless the account pays.",
    ),
    ma.nullable(
        "days_to_renewal",
        "int64",
        "Number of days until the renewal date, negative after that date. The value is null if the"
        " account does not have a renewal date, has never paid or has lapsed.",
    ),
    ma.Column(
        "frozen_reason",
        "string",
        "Reason that the account is frozen, or null if the account is not frozen.",
        nullable=True,
        allowed=tuple(FrozenReason),
    ),
    ma.Column(
        "products_active",
        "int64",
        "Number of products with a qualifying event in the last 30 days.",
    ),
    ma.Column(
        "is_paid",
        "boolean",
        "Whether the account has a paid subscription, at any revenue. If false, days_to_renewal is"
        " null.",
    ),
)


TABLE = ma.declare_table(
    "silver_account_state_intervals",
    group=ma.AssetGroup.ACCOUNTS,
    grain="one account and interval",
    description="How did each account's state and health change over time? Each interval is a"
    " series of consecutive days without a change. Intervals cover the period from account creation"
    " through the as-of date. To query durations or long periods, use this table instead of the"
    " history.",
    key=("account_id", "valid_from"),
    columns=(
        ma.ACCOUNT_ID,
        state_tables.VALID_FROM,
        state_tables.VALID_TO,
        *(column for column in STATE_COLUMNS if column.name != "days_to_renewal"),
        ma.nullable(
            "subscription_event_id",
            "string",
            "Subscription event that changed the contract on the interval's first day, or null if"
            " there is none.",
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
    """Apply the lifecycle rules to all facts dated on or before the as-of date."""
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
    """Return the state columns for the history and current tables, computed for a given day."""
    to_renewal = ma.day_number(days.contract_renewal_date) - day
    renewal = {"days_to_renewal": ibis.ifelse(days.is_paid, to_renewal, None)}
    names = ma.column_names(STATE_COLUMNS)
    return {name: renewal[name] if name in renewal else days[name] for name in names}


cover_every_day = state_tables.cover_every_day(TABLE)
