"""silver_cross_product_analytics: each user's product portfolio."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.products import IN_USE, active_products

TABLE = ma.declare_table(
    "silver_cross_product_analytics",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user",
    description="Which products has each user tried, activated and kept using by the as-of date?"
    " Only active products count. `diversity` measures how evenly the user's events are spread"
    " across these products.",
    key=("user_id",),
    columns=(
        ma.USER_ID,
        ma.Column("products_tried", "int64", "Number of products that the user has ever accessed."),
        ma.Column("products_activated", "int64", "Number of products with an activation event."),
        ma.Column(
            "products_active",
            "int64",
            "Number of products in which the user is active_in_product or reactivated_in_product.",
        ),
        ma.Column(
            "total_qualifying_events", "int64", "Number of qualifying events in active products."
        ),
        ma.product_column(
            "primary_product_id",
            "Product with the most qualifying events, or null if there are none. Ties are broken by the"
            " most recent use.",
            nullable=True,
        ),
        ma.nullable(
            "diversity",
            "float64",
            "Entropy of qualifying events across products, divided by the logarithm of the number"
            " of active products. The value is 0 if only one product is used, 1 if all products are"
            " used equally, and null if there are no qualifying events.",
        ),
        ma.product_column(
            "first_product_id", "First product adopted, or null if there is none.", nullable=True
        ),
        ma.nullable(
            "first_adoption_date", "date", "Date of the first adoption, or null if there is none."
        ),
        ma.product_column(
            "latest_product_id",
            "Most recently adopted product, or null if there is none.",
            nullable=True,
        ),
        ma.nullable(
            "latest_adoption_date", "date", "Date of the latest adoption, or null if there is none."
        ),
        ma.AS_OF_DATE,
    ),
)

_COUNTS = ("products_tried", "products_activated", "products_active", "total_qualifying_events")


@ma.table_asset(TABLE)
def silver_cross_product_analytics(
    silver_user_current_state: ir.Table,
    silver_user_product_states: ir.Table,
    bronze_product_catalog: ir.Table,
) -> ir.Table:
    """Aggregate each user's product states."""
    states = silver_user_product_states
    adopted = states.filter(states.current_state != ma.ProductState.NEVER_ADOPTED)
    events = adopted.total_qualifying_events
    events_of_user = events.sum().over(ibis.window(group_by="user_id")).cast("int64")
    adopted = adopted.mutate(share=ma.ratio(events, events_of_user))
    entropy = -adopted.share * adopted.share.ln()
    adopted = adopted.mutate(term=ibis.ifelse(adopted.share > 0, entropy, 0.0))
    used = adopted.total_qualifying_events > 0
    by_use = [
        adopted.total_qualifying_events.desc(),
        adopted.last_qualifying_event_at.desc(),
        adopted.product_id,
    ]
    in_order = [adopted.first_access_at, adopted.product_id]
    in_reverse = [adopted.first_access_at.desc(), adopted.product_id.desc()]
    portfolios = adopted.group_by("user_id").aggregate(
        products_tried=adopted.count(),
        products_activated=adopted.count(where=adopted.activation_date.notnull()),
        products_active=adopted.count(where=adopted.current_state.isin(IN_USE)),
        total_qualifying_events=adopted.total_qualifying_events.sum().cast("int64"),
        primary_product_id=adopted.product_id.first(where=used, order_by=by_use),
        # The order is fixed because it affects the last bits of a floating-point sum.
        entropy=adopted.term.collect(order_by=adopted.product_id).sums(),
        first_product_id=adopted.product_id.first(order_by=in_order),
        first_adoption_date=adopted.first_access_date.min(),
        latest_product_id=adopted.product_id.first(order_by=in_reverse),
        latest_adoption_date=adopted.first_access_date.max(),
    )
    products = active_products(bronze_product_catalog)
    people = silver_user_current_state.select("user_id", "as_of_date")
    joined = ma.left_joined(people, portfolios, on=["user_id"]).cross_join(
        products.aggregate(products=products.count())
    )
    largest = joined.products.cast("float64").ln()
    return joined.mutate(
        **{name: joined[name].fill_null(0) for name in _COUNTS},
        diversity=ibis.cases(
            (joined.total_qualifying_events.fill_null(0) == 0, ibis.null("float64")),
            (joined.products > 1, ibis.least(joined.entropy / largest, 1.0)),
            else_=0.0,
        ),
    ).drop("entropy", "products")


@ma.rule(TABLE)
def agrees_with_product_states(
    silver_cross_product_analytics: ir.Table,
    silver_user_product_states: ir.Table,
    silver_user_current_state: ir.Table,
) -> ir.Table:
    """Every user has a row that matches the user's product states."""
    states = silver_user_product_states
    tried = states.current_state != ma.ProductState.NEVER_ADOPTED
    counted = states.group_by(person_id="user_id").aggregate(
        products_tried=states.count(where=tried),
        products_activated=states.count(where=states.activation_date.notnull()),
        products_active=states.count(where=states.current_state.isin(IN_USE)),
        total_qualifying_events=states.total_qualifying_events.sum().cast("int64"),
        used=states.count(where=states.total_qualifying_events > 0),
    )
    portfolios = silver_cross_product_analytics
    people = silver_user_current_state.select(person_id="user_id")
    joined = people.outer_join(portfolios, people.person_id == portfolios.user_id)
    joined = ma.left_joined(joined, counted, on=["person_id"])
    used = joined.used.fill_null(0)
    return joined.filter(
        ibis.or_(
            joined.person_id.isnull(),
            joined.user_id.isnull(),
            *(joined[name] != joined[f"{name}_right"].fill_null(0) for name in _COUNTS),
            joined.diversity.isnull() != (used == 0),
            joined.primary_product_id.isnull() != (used == 0),
            (~joined.diversity.between(0, 1)).fill_null(False),
            ((joined.diversity == 0) != (used == 1)).fill_null(False),
            joined.products_activated > joined.products_tried,
        )
    ).select("person_id", "user_id", "products_tried", "products_active", "diversity")
