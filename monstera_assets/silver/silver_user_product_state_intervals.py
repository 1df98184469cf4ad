"""silver_user_product_state_intervals: stretches of days without a change for a user in a product."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.intervals import as_stored, day_date
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.products import KEYS, product_intervals
from monstera_assets.lifecycle.states import ProductState
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_state_intervals import USER_COLUMN
from monstera_assets.silver.state_tables import (
    TRIGGERING_EVENT_ID,
    VALID_FROM,
    VALID_TO,
    days_not_covered,
)
from monstera_assets.warehouse.common_columns import AS_OF_DATE
from monstera_assets.warehouse.table_asset import ALL_DAYS, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

KEY_COLUMNS = (
    USER_COLUMN,
    Column(
        "product_id",
        "string",
        "An active product; features and sub-features count for it.",
        references=Reference("bronze_product_catalog", "product_id"),
    ),
)
ADOPTED_STATES = tuple(state for state in ProductState if state != ProductState.NEVER_ADOPTED)
STATE_COLUMNS = (
    Column(
        "current_state",
        "string",
        "State of the user in the product at the end of the day.",
        allowed=ADOPTED_STATES,
    ),
    Column("state_since", "date", "First date of the unbroken run of this state."),
    Column("first_access_at", "timestamp", "First event of any kind in the product, UTC."),
    Column(
        "last_qualifying_event_at",
        "timestamp",
        "Last qualifying event in the product, UTC; null if there was none.",
        nullable=True,
    ),
    Column(
        "activation_date",
        "date",
        "Date of the first activation event; null if there was none.",
        nullable=True,
    ),
    Column("total_qualifying_events", "int64", "Qualifying events up to that day."),
)

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_product_state_intervals",
    grain="one user, product and first day of a stretch in which neither the state changes nor a date"
    " that goes with it",
    description="The state of each user in each product from first access to the as-of date. Read it"
    " for questions about lengths of time and long ranges: it has a row a change, where history has"
    " one a day.",
    owners=OWNERS,
    key=("user_id", "product_id", "valid_from"),
    columns=(
        *KEY_COLUMNS,
        VALID_FROM,
        VALID_TO,
        *STATE_COLUMNS,
        TRIGGERING_EVENT_ID,
        AS_OF_DATE,
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": ALL_DAYS})
def silver_user_product_state_intervals(
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: LifecyclePolicy,
    as_of: ir.DateValue,
) -> ir.Table:
    """The rules of the lifecycle over all facts up to the as-of date."""
    intervals = product_intervals(silver_daily_user_activity, bronze_product_catalog, policy)
    stored = as_stored(intervals, as_of).mutate(
        state_since=day_date(intervals.state_since),
        activation_date=day_date(intervals.activation_day),
        total_qualifying_events=intervals.total_qualifying_events.fill_null(0),
    )
    return stored.select(column.name for column in TABLE.columns)


@rule(TABLE, "The intervals of a user in a product cover each day from first access on once.")
def cover_every_day(silver_user_product_state_intervals: ir.Table) -> ir.Table:
    """Users and products with days in no interval or in several, or not just one open interval."""
    return days_not_covered(silver_user_product_state_intervals, KEYS)
