"""silver_user_product_states: every user's state in every active product on the latest date."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.products import KEYS, active_products
from monstera_assets.lifecycle.states import ProductState
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_product_state_intervals import KEY_COLUMNS
from monstera_assets.silver.state_tables import differences_from_latest, state_updated_at
from monstera_assets.warehouse.common_columns import AS_OF_DATE, STATE_UPDATED_AT
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_product_states",
    grain="one user and active product, adopted or not",
    description="The state of every user in every active product at the end of the as-of date, the"
    " latest date for which history exists. Read it for questions about now.",
    owners=OWNERS,
    key=("user_id", "product_id"),
    columns=(
        *KEY_COLUMNS,
        Column(
            "current_state",
            "string",
            "State of the user in the product at the end of the as-of date.",
            allowed=tuple(ProductState),
        ),
        Column(
            "state_since",
            "date",
            "First date of the unbroken run of this state; for never_adopted the signup.",
        ),
        Column(
            "first_access_at",
            "timestamp",
            "First event of any kind in the product, UTC; null if there was none.",
            nullable=True,
        ),
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
        Column("total_qualifying_events", "int64", "Qualifying events up to the as-of date."),
        AS_OF_DATE,
        STATE_UPDATED_AT,
    ),
)


@table_asset(TABLE, previews=[distribution("relationships", "current_state")])
def silver_user_product_states(
    silver_user_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    bronze_product_catalog: ir.Table,
) -> ir.Table:
    """All users who had signed up by the as-of date, times all active products."""
    people = silver_user_state_intervals.filter(silver_user_state_intervals.valid_to.isnull())
    people = people.select("user_id", "signup_date", "as_of_date")
    grid = people.cross_join(active_products(bronze_product_catalog).select("product_id"))
    adopted = silver_user_product_state_intervals
    adopted = adopted.filter(adopted.valid_to.isnull()).drop("as_of_date")
    dense = grid.left_join(adopted, KEYS)
    return dense.select(
        *KEYS,
        "first_access_at",
        "last_qualifying_event_at",
        "activation_date",
        "as_of_date",
        current_state=dense.current_state.fill_null(str(ProductState.NEVER_ADOPTED)),
        state_since=dense.state_since.fill_null(dense.signup_date),
        total_qualifying_events=dense.total_qualifying_events.fill_null(0),
        state_updated_at=state_updated_at(dense),
    )


@rule(TABLE, "Adopted products agree with the latest day of history, and no other is adopted.")
def agrees_with_history(
    silver_user_product_states: ir.Table,
    silver_user_product_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Users and products whose state and latest history row differ, or that only one has."""
    states = silver_user_product_states
    return differences_from_latest(
        states.filter(states.current_state != str(ProductState.NEVER_ADOPTED)),
        silver_user_product_state_history,
        out_of_date("silver_user_product_state_history"),
    )
