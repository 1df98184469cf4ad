"""gold_product_adoption: adoption, activation and user states per product."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.lifecycle.products import IN_USE, active_products

USERS_ELIGIBLE = ma.Metric(
    "Users Eligible to Date",
    "Users who could have adopted the product: everyone who signed up, including deleted users.",
    "count(user_id)",
)
USERS_TRIED = ma.Metric(
    "Users Tried to Date",
    "Users who have ever accessed the product.",
    "count(user_id) where current_state <> 'never_adopted'",
)
USERS_ACTIVATED = ma.Metric(
    "Users Activated to Date",
    "Users with an activation event in the product.",
    "count(user_id) where activation_date is not null",
)
USERS_IN_USE = ma.Metric(
    "Users in Use to Date",
    "Users who are active_in_product or reactivated_in_product at the end of the as-of date.",
    f"count(user_id) where current_state in ({', '.join(IN_USE)})",
)
ADOPTION_RATE = ma.Metric(
    "Users Tried Share to Date",
    "Users who tried the product / eligible users; null if no users are eligible.",
    "tried / eligible",
    population="users who could have adopted the product: everyone who signed up",
)
ACTIVATION_RATE = ma.Metric(
    "Users Activated Share to Date",
    "Users activated in the product / users who tried it; null if no users tried it.",
    "activated / tried",
    population="users who tried the product",
)
DAYS_TO_ACTIVATION = ma.Metric(
    "Users Days to Activation Median to Date",
    "Median days from a user's first access to their first activation event; null if there are no"
    " activations.",
    "median(activation_date - date of first access)",
    ma.Unit.DAYS,
    nullable=True,
    population="users with an activation event in the product",
    caveats="The metric includes only users with an activation event.",
)
USERS_STARTED = ma.Metric(
    "Users Started to Date",
    "Users who adopted this product before any other currently active product.",
    "count(user_id) where sequence_number = 1",
)
SEQUENCE_POSITION = ma.Metric(
    "Users Sequence Position Mean to Date",
    "Mean position of the product in the order in which its users adopted currently active products;"
    " null if no users adopted the product.",
    "avg(sequence_number)",
    ma.Unit.POSITION,
    nullable=True,
    population="users who adopted the product",
)
USERS_IN_STATE = {
    state: ma.Metric(
        f"Users in State {ma.title_case(state)} to Date",
        f"Users who are {state} at the end of the as-of date.",
        f"count(user_id) where current_state = '{state}'",
    )
    for state in ma.ProductState
}
FUNNEL = (USERS_ELIGIBLE, USERS_TRIED, USERS_ACTIVATED, USERS_IN_USE)

TABLE = ma.metric_table(
    "gold_product_adoption",
    group=ma.AssetGroup.PRODUCTS,
    grain="one active product",
    description="How widely has each active product been adopted by the as-of date? Users are counted"
    " by funnel step (tried, activated, in use) and by state. Using a feature counts as using its"
    " product.",
    dimensions=(ma.PRODUCT_ID, ma.AS_OF_DATE),
    key=("product_id",),
    metrics=(
        *FUNNEL,
        *(ADOPTION_RATE, ACTIVATION_RATE, DAYS_TO_ACTIVATION, USERS_STARTED, SEQUENCE_POSITION),
        *USERS_IN_STATE.values(),
    ),
    is_daily=False,
    slices=(),  # each user counts once per product
)


@ma.table_asset(TABLE)
def gold_product_adoption(
    silver_user_product_states: ir.Table,
    silver_user_product_adoptions: ir.Table,
    silver_user_current_state: ir.Table,
    bronze_product_catalog: ir.Table,
) -> ir.Table:
    """Count user states and adoptions per product."""
    people = silver_user_current_state
    eligible = people.aggregate(as_of_date=people.as_of_date.max(), eligible=people.count())
    states = silver_user_product_states
    tried = states.current_state != str(ma.ProductState.NEVER_ADOPTED)
    days = ma.day_number(states.activation_date) - ma.day_number(states.first_access_date)
    counted = states.group_by("product_id").aggregate(
        tried=states.count(where=tried),
        activated=states.count(where=states.activation_date.notnull()),
        in_use=states.count(where=states.current_state.isin(IN_USE)),
        days=days.median().cast("float64"),
        **ma.counted_by_state(states, states.current_state, USERS_IN_STATE),
    )
    adoptions = silver_user_product_adoptions
    placed = adoptions.group_by("product_id").aggregate(
        started=adoptions.count(where=adoptions.sequence_number == 1),
        position_sum=adoptions.sequence_number.sum().cast("int64"),
        adopters=adoptions.count(),
    )
    products = active_products(bronze_product_catalog).select("product_id")
    rows = ma.left_joined(products.cross_join(eligible), counted, placed, on=["product_id"])
    count = {name: rows[name].fill_null(0) for name in ("tried", "activated", "in_use", "started")}
    return rows.select(
        "product_id",
        "as_of_date",
        **{
            USERS_ELIGIBLE.column_name: rows.eligible,
            USERS_TRIED.column_name: count["tried"],
            USERS_ACTIVATED.column_name: count["activated"],
            USERS_IN_USE.column_name: count["in_use"],
            ADOPTION_RATE.column_name: ma.ratio(count["tried"], rows.eligible),
            ACTIVATION_RATE.column_name: ma.ratio(count["activated"], count["tried"]),
            DAYS_TO_ACTIVATION.column_name: rows.days,
            USERS_STARTED.column_name: count["started"],
            SEQUENCE_POSITION.column_name: ma.ratio(rows.position_sum, rows.adopters),
            **ma.zero_filled(rows, USERS_IN_STATE.values()),
        },
    )


@ma.rule(TABLE)
def counts_fit_together(gold_product_adoption: ir.Table) -> ir.Table:
    """Each user has one state per product, and no more users were activated than tried the product."""
    rows = gold_product_adoption
    eligible, tried, activated, in_use = ma.metric_columns(rows, *FUNNEL)
    started = rows[USERS_STARTED.column_name]
    by_state = {state: rows[metric.column_name] for state, metric in USERS_IN_STATE.items()}
    in_all = sum(by_state.values(), ibis.literal(0, "int64"))
    adopted = in_all - by_state[ma.ProductState.NEVER_ADOPTED]
    return rows.filter(
        (in_all != eligible)
        | (adopted != tried)
        | (in_use != by_state[ma.ProductState.ACTIVE] + by_state[ma.ProductState.REACTIVATED])
        | (activated > tried)
        | (started > tried)
    )


@ma.rule(TABLE)
def agrees_with_raw_events(
    gold_product_adoption: ir.Table,
    silver_user_product_adoptions: ir.Table,
    silver_daily_user_activity: ir.Table,
) -> ir.Table:
    """Each adopter has one first product, and Users Tried to Date agrees with daily activity."""
    rows = gold_product_adoption
    adopters = silver_user_product_adoptions.aggregate(
        adopters=silver_user_product_adoptions.user_id.nunique()
    )
    started = rows.aggregate(started=rows[USERS_STARTED.column_name].sum().cast("int64"))
    activity = silver_daily_user_activity.cross_join(rows.aggregate(day=rows.as_of_date.max()))
    activity = activity.filter(activity.activity_date <= activity.day)
    seen = activity.group_by(seen_product_id="product_id").aggregate(
        seen=activity.user_id.nunique()
    )
    both = rows.left_join(seen, rows.product_id == seen.seen_product_id)
    both = both.cross_join(adopters).cross_join(started)
    return both.filter(
        (both[USERS_TRIED.column_name] != both.seen.fill_null(0)) | (both.started != both.adopters)
    ).select("product_id", USERS_TRIED.column_name, "seen", "started", "adopters")
