"""silver_user_product_adoptions: when and in what order each user adopted products."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.silver.silver_user_product_state_intervals import CURRENT_STATE, KEY_COLUMNS

TABLE = ma.declare_table(
    "silver_user_product_adoptions",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user and adopted active product",
    description="When and in what order did each user adopt products by the as-of date? A product"
    " is adopted when the user first accesses it. If a user adopts several products at the same"
    " time, the lower product id comes first.",
    key=("user_id", "product_id"),
    columns=(
        *KEY_COLUMNS,
        ma.Column(
            "adopted_at", "timestamp", "Time of the first event of any kind in the product, in UTC."
        ),
        ma.Column("adoption_date", "date", "Date of the first event of any kind in the product."),
        ma.Column(
            "sequence_number",
            "int64",
            "Position in the user's sequence of adoptions, starting at 1.",
        ),
        ma.Column("products_adopted", "int64", "Number of products that the user has adopted."),
        ma.Column("days_since_signup", "int64", "Days from signup to adoption."),
        ma.nullable(
            "days_since_previous_adoption",
            "int64",
            "Days from the user's previous adoption to this adoption, or null for the first adoption.",
        ),
        ma.ACTIVATION_DATE,
        CURRENT_STATE,
        ma.Column(
            "is_active",
            "boolean",
            "Whether current_state is active_in_product or reactivated_in_product.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE)
def silver_user_product_adoptions(
    silver_user_product_states: ir.Table, bronze_users: ir.Table
) -> ir.Table:
    """Number each user's adopted products in the order of first access."""
    states = silver_user_product_states
    adopted = states.filter(states.current_state != ma.ProductState.NEVER_ADOPTED)
    signups = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    adopted = adopted.inner_join(signups, "user_id").mutate(adoption_date=adopted.first_access_date)
    in_order = ibis.window(group_by="user_id", order_by=["first_access_at", "product_id"])
    of_user = ibis.window(group_by="user_id")
    adoption_day = ma.day_number(adopted.adoption_date)
    return adopted.mutate(
        adopted_at=adopted.first_access_at,
        sequence_number=ibis.row_number().over(in_order) + 1,
        products_adopted=adopted.count().over(of_user),
        days_since_signup=adoption_day - ma.day_number(adopted.signup_date),
        days_since_previous_adoption=adoption_day - adoption_day.lag().over(in_order),
        is_active=adopted.current_state.isin(IN_USE),
    ).select(ma.column_names(TABLE.columns))


@ma.rule(TABLE)
def agree_with_product_states(
    silver_user_product_adoptions: ir.Table, silver_user_product_states: ir.Table
) -> ir.Table:
    """The adoptions match all product states except never_adopted, and sequence_number has no gaps."""
    adoptions, states = silver_user_product_adoptions, silver_user_product_states
    states = states.filter(states.current_state != ma.ProductState.NEVER_ADOPTED)
    columns = ("user_id", "product_id", "current_state")
    differing = ma.differing_rows(adoptions.select(*columns), states.select(*columns))
    in_order = ibis.window(group_by="user_id", order_by="sequence_number")
    numbered = adoptions.mutate(
        expected=ibis.row_number().over(in_order) + 1,
        previous_at=adoptions.adopted_at.lag().over(in_order),
        last=adoptions.count().over(ibis.window(group_by="user_id")),
    )
    wrong = numbered.filter(
        (numbered.sequence_number != numbered.expected)
        | (numbered.products_adopted != numbered.last)
        | (numbered.previous_at > numbered.adopted_at).fill_null(False)
        | (numbered.days_since_signup < 0)
        | (numbered.days_since_previous_adoption < 0).fill_null(False)
    )
    return differing.union(wrong.select(*columns, found_in=ibis.literal("numbered incorrectly")))
