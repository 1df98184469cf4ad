"""silver_user_product_states: every user's state in every active product on the latest date."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule
from monstera_assets.lifecycle.products import KEYS, active_products
from monstera_assets.lifecycle.states import ProductState
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_product_state_history import KEY_COLUMNS
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import LATEST_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_product_states",
    grain="one user and active product, adopted or not",
    description="The state of every user in every active product at the end of the as-of date, the"
    " latest date for which history exists.",
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
        Column("as_of_date", "date", "The latest date for which history exists."),
        Column("state_updated_at", "timestamp", "End of the as-of date, UTC."),
    ),
)


@table_asset(
    TABLE,
    days={
        "silver_user_state_history": LATEST_DAY,
        "silver_user_product_state_history": LATEST_DAY,
    },
    previews=[distribution("relationships", "current_state")],
)
def silver_user_product_states(
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    bronze_users: ir.Table,
    bronze_product_catalog: ir.Table,
) -> ir.Table:
    """All users who had signed up by the as-of date, times all active products."""
    history = silver_user_product_state_history
    as_of = silver_user_state_history.aggregate(
        as_of_date=silver_user_state_history.snapshot_date.max()
    )
    signup = bronze_users.user_created_at.date()
    people = bronze_users.select("user_id", signup_date=signup).cross_join(as_of)
    people = people.filter(people.signup_date <= people.as_of_date)
    grid = people.cross_join(active_products(bronze_product_catalog).select("product_id"))
    dense = grid.left_join(
        history,
        [
            *(grid[key] == history[key] for key in KEYS),
            grid.as_of_date == history.snapshot_date,
        ],
    )
    return dense.select(
        user_id=dense.user_id,
        product_id=dense.product_id,
        current_state=dense.current_state.fill_null(str(ProductState.NEVER_ADOPTED)),
        state_since=dense.state_since.fill_null(dense.signup_date),
        first_access_at=dense.first_access_at,
        last_qualifying_event_at=dense.last_qualifying_event_at,
        activation_date=dense.activation_date,
        total_qualifying_events=dense.total_qualifying_events.fill_null(0),
        as_of_date=dense.as_of_date,
        state_updated_at=dense.as_of_date.cast("timestamp") + ibis.interval(days=1),
    )


@rule(TABLE, "Adopted products agree with the latest day of history, and no other is adopted.")
def agrees_with_history(
    silver_user_product_states: ir.Table, silver_user_product_state_history: ir.Table
) -> ir.Table:
    """Users and products whose state and latest history row differ, or that only one has."""
    current = silver_user_product_states
    adopted = current.filter(current.current_state != str(ProductState.NEVER_ADOPTED))
    history = silver_user_product_state_history.rename(as_of_date="snapshot_date")
    latest = history.filter(
        history.as_of_date == history.aggregate(day=history.as_of_date.max()).day.as_scalar()
    )
    return differing_rows(adopted.select(*latest.columns), latest)
