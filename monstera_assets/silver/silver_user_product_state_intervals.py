"""silver_user_product_state_intervals: intervals of constant state per user and product."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.products import product_intervals
from monstera_assets.silver import state_tables

KEY_COLUMNS = (
    ma.USER_ID,
    ma.product_column("product_id", "Active product, including its features and sub-features."),
)
ADOPTED_STATES = tuple(state for state in ma.ProductState if state != ma.ProductState.NEVER_ADOPTED)
CURRENT_STATE = ma.Column(
    "current_state",
    "string",
    "User's state in the product at the end of the day.",
    allowed=ADOPTED_STATES,
)
STATE_COLUMNS = (
    CURRENT_STATE,
    ma.STATE_SINCE,
    ma.Column(
        "first_access_at",
        "timestamp",
        "Time of the first event of any kind in the product, in UTC.",
    ),
    ma.Column("first_access_date", "date", "Date of the first event of any kind in the product."),
    ma.LAST_QUALIFYING_EVENT_AT,
    ma.ACTIVATION_DATE,
    ma.TOTAL_QUALIFYING_EVENTS,
)

TABLE = ma.declare_table(
    "silver_user_product_state_intervals",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user, product and interval",
    description="How did each user's state in each product change over time? Each interval is a"
    " series of consecutive days without a change. Intervals cover the period from first access"
    " through the as-of date. To query durations or long periods, use this table instead of the"
    " history.",
    key=("user_id", "product_id", "valid_from"),
    columns=(
        *KEY_COLUMNS,
        state_tables.VALID_FROM,
        state_tables.VALID_TO,
        *STATE_COLUMNS,
        state_tables.TRIGGERING_EVENT_ID,
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE, days={"silver_daily_user_activity": ma.ALL_DAYS})
def silver_user_product_state_intervals(
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    as_of: ir.DateValue,
) -> ir.Table:
    """Apply the lifecycle rules to all facts dated on or before the as-of date."""
    intervals = product_intervals(silver_daily_user_activity, bronze_product_catalog, policy)
    return state_tables.stored_intervals(
        TABLE,
        intervals,
        as_of,
        state_since=ma.day_date(intervals.state_since),
        first_access_date=ma.day_date(intervals.start_day),
        activation_date=ma.day_date(intervals.activation_day),
        total_qualifying_events=intervals.total_qualifying_events.fill_null(0),
    )


cover_every_day = state_tables.cover_every_day(TABLE)
