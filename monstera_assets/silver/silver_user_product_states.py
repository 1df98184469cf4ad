"""silver_user_product_states: each user's state in each active product on the as-of date."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.products import KEYS, active_products
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_user_product_state_intervals import KEY_COLUMNS

TABLE = ma.declare_table(
    "silver_user_product_states",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user and active product",
    description="What is each user's current state in each active product, whether adopted or not?"
    " Values reflect the end of the as-of date, the latest day in the history.",
    key=KEYS,
    columns=(
        *KEY_COLUMNS,
        ma.Column(
            "current_state",
            "string",
            "User's state in the product at the end of the as-of date.",
            allowed=tuple(ma.ProductState),
        ),
        ma.Column(
            "state_since",
            "date",
            "First day of the uninterrupted period in this state, or the signup date if the state is"
            " never_adopted.",
        ),
        ma.nullable(
            "first_access_at",
            "timestamp",
            "Time of the first event of any kind in the product, in UTC, or null if there is none.",
        ),
        ma.nullable(
            "first_access_date",
            "date",
            "Date of the first event of any kind in the product, or null if there is none.",
        ),
        ma.LAST_QUALIFYING_EVENT_AT,
        ma.ACTIVATION_DATE,
        ma.TOTAL_QUALIFYING_EVENTS,
        ma.AS_OF_DATE,
        ma.STATE_UPDATED_AT,
    ),
)


@ma.table_asset(TABLE, previews=[ma.distribution("relationships", "current_state")])
def silver_user_product_states(
    silver_user_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    timezone: str = UTC,
) -> ir.Table:
    """Return every user who signed up by the as-of date, combined with every active product."""
    people = state_tables.current(silver_user_state_intervals, timezone)
    people = people.select("user_id", "signup_date", "as_of_date", "state_updated_at")
    grid = people.cross_join(active_products(bronze_product_catalog).select("product_id"))
    adopted = state_tables.current(silver_user_product_state_intervals, timezone)
    dense = ma.left_joined(grid, adopted.drop("as_of_date", "state_updated_at"), on=KEYS)
    return dense.mutate(
        current_state=dense.current_state.fill_null(ma.ProductState.NEVER_ADOPTED),
        state_since=dense.state_since.fill_null(dense.signup_date),
        total_qualifying_events=dense.total_qualifying_events.fill_null(0),
    ).select(ma.column_names(TABLE.columns))


agrees_with_history = state_tables.agrees_with_history(
    TABLE, "silver_user_product_state_history", but=ma.ProductState.NEVER_ADOPTED
)
