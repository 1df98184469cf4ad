"""silver_account_state_intervals: the stretches of days on which nothing changes of an account."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.accounts import account_intervals
from monstera_assets.lifecycle.intervals import as_stored, day_date, day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState, FrozenReason, HealthBand
from monstera_assets.silver import OWNERS
from monstera_assets.silver.state_tables import VALID_FROM, VALID_TO, days_not_covered, up_to
from monstera_assets.warehouse.common_columns import AS_OF_DATE
from monstera_assets.warehouse.table_asset import ALL_DAYS, table_asset
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
    name="silver_account_state_intervals",
    grain="one account and first day of a stretch in which neither the state or health changes nor a"
    " date from which days are counted",
    description="The state and health of every account from its creation to the as-of date. Read it for"
    " questions about lengths of time and long ranges: it has a row a change, where history has one a"
    " day.",
    owners=OWNERS,
    key=("account_id", "valid_from"),
    columns=(
        ACCOUNT_COLUMN,
        VALID_FROM,
        VALID_TO,
        *(column for column in STATE_COLUMNS if column.name != "days_to_renewal"),
        Column(
            "is_paid", "boolean", "Whether it is paid for, so that days to renewal are counted."
        ),
        Column(
            "subscription_event_id",
            "string",
            "The subscription event of the first day that changed the contract; null if none did.",
            nullable=True,
        ),
        AS_OF_DATE,
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": ALL_DAYS})
def silver_account_state_intervals(
    silver_daily_user_activity: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: LifecyclePolicy,
    as_of: ir.DateValue,
) -> ir.Table:
    """The rules of the lifecycle over all facts up to the as-of date."""
    intervals = account_intervals(
        silver_daily_user_activity,
        bronze_users,
        bronze_accounts,
        up_to(as_of, bronze_subscription_events),
        policy,
    )
    stored = as_stored(intervals, as_of).mutate(
        state_since=day_date(intervals.state_since),
        subscription_tier=intervals.tier,
        total_seats=intervals.seats,
        monthly_recurring_revenue=intervals.revenue,
        contract_renewal_date=day_date(intervals.renewal_day),
        subscription_event_id=intervals.event_id,
    )
    return stored.select(column.name for column in TABLE.columns)


def states_on(days: ir.Table, day: ir.IntegerValue) -> dict[str, ir.Value]:
    """The columns that history and current state share, of rows of intervals on a day."""
    to_renewal = day_number(days.contract_renewal_date) - day
    renewal = {"days_to_renewal": ibis.ifelse(days.is_paid, to_renewal, None)}
    names = (column.name for column in STATE_COLUMNS)
    return {name: renewal[name] if name in renewal else days[name] for name in names}


@rule(TABLE, "The intervals of an account cover each day from its creation to the as-of date once.")
def cover_every_day(silver_account_state_intervals: ir.Table) -> ir.Table:
    """Accounts with days in no interval or in several, or not just one open interval."""
    return days_not_covered(silver_account_state_intervals, ["account_id"])
