"""gold_product_recommendations: recommended products for each user, with reasons."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.gold_recommendation_evaluation import COUNTED_COLUMNS
from monstera_assets.prediction.recommendations import (
    EXCLUDED_STATES,
    RECOMMENDATIONS,
    VERSION,
    RecommendationSource,
    is_eligible,
    recommend,
)

_AFFINITY = str(RecommendationSource.AFFINITY)

_OF_PAIR = "{}, as in silver_product_affinity; null for popularity."

TABLE = ma.declare_table(
    "gold_product_recommendations",
    group=ma.AssetGroup.PREDICTION,
    grain="one user (neither churned nor deleted) and rank from 1 to 3",
    description="Which products should each user adopt next, and why? For each user, the table"
    " lists up to three active, launched products that the user has not adopted. Products are ranked by"
    " affinity with the user's products if affinity is the better predictor, and otherwise by"
    " popularity. gold_recommendation_evaluation shows how accurate past rankings were.",
    key=("user_id", "recommendation_rank"),
    extra=ma.PREDICT,
    columns=(
        *(ma.USER_ID, ma.ACCOUNT_OF_USER),
        ma.Column(
            "platform_state",
            "string",
            "The user's state at the end of the as-of date.",
            allowed=tuple(state for state in ma.UserState if state not in EXCLUDED_STATES),
        ),
        *ma.columns("int64", recommendation_rank="The product's rank, from 1 (best) to 3."),
        ma.PRODUCT_ID,
        ma.Column(
            "recommendation_source",
            "string",
            "Basis of the rank: affinity, or popularity if the product has no affinity with an"
            " adopted product. The basis is always popularity if affinity did not beat popularity in"
            " the evaluation or if there was not enough data.",
            allowed=tuple(RecommendationSource),
        ),
        ma.Column(
            "score",
            "float64",
            "Score between 0 and 1. For affinity, the share of users with because_product_id but"
            " not this product who later adopted this product, shrunk toward the product's average"
            " share. For popularity, the share of all users who have adopted the product. Affinity and"
            " popularity scores are not comparable.",
            is_share=True,
        ),
        ma.product_column(
            "because_product_id",
            "The adopted product with the highest affinity; null for popularity.",
            nullable=True,
        ),
        *ma.columns(
            "string", why="Reason for the recommendation, in words, with the underlying counts."
        ),
        *ma.columns("int64", users_adopted="Number of users who have adopted the product."),
        *ma.columns(
            "int64",
            nullable=True,
            users_without="Number of users who had not adopted the product when they adopted"
            " because_product_id; null for popularity.",
            users_in_order="Number of users counted in users_without who later adopted the product;"
            " null for popularity.",
            users_both=_OF_PAIR.format("Number of users who adopted both products in the pair"),
        ),
        ma.share("support", _OF_PAIR.format("users_both as a share of all users")),
        ma.share(
            "co_adoption_rate",
            _OF_PAIR.format("users_both as a share of the users who adopted because_product_id"),
        ),
        *ma.columns(
            "float64",
            nullable=True,
            lift=_OF_PAIR.format("The pair's lift (1 if the two products are independent)"),
        ),
        *COUNTED_COLUMNS,
        ma.AS_OF_DATE,
    ),
)
_OF_PAIRS = ("users_both", "support", "co_adoption_rate", "lift")


def _by_product(relation: ir.Table) -> ir.Table:
    counted = relation.group_by("product_id").aggregate(
        users=relation.count(),
        first_in_order=relation.count(where=relation.recommendation_rank == 1),
        by_affinity=relation.count(where=relation.recommendation_source == _AFFINITY),
    )
    return counted.order_by(ibis.desc("users"), "product_id")


@ma.table_asset(
    TABLE,
    previews=[
        ma.Preview("Users by recommended product", _by_product, bar="users"),
        ma.distribution("recommendations", "recommendation_source"),
    ],
)
def gold_product_recommendations(
    silver_user_current_state: ir.Table,
    silver_user_product_adoptions: ir.Table,
    silver_product_affinity: ir.Table,
    bronze_product_catalog: ir.Table,
    gold_recommendation_evaluation: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Recommend products to each user on the as-of date, in the published order."""
    evaluation = gold_recommendation_evaluation
    published = evaluation.filter(evaluation.evaluation_date.isnull(), evaluation.is_published)
    rows = recommend(
        silver_user_current_state,
        silver_user_product_adoptions,
        bronze_product_catalog,
        published.select(published="predictor"),
        policy,
    )
    pairs = silver_product_affinity.select("first_product_id", "second_product_id", *_OF_PAIRS)
    rows = rows.left_join(
        pairs,
        [
            rows.because_product_id == pairs.first_product_id,
            rows.product_id == pairs.second_product_id,
        ],
    ).mutate(recommendation_version=ibis.literal(VERSION))
    return rows.select(*(column.name for column in TABLE.columns))


@ma.rule(TABLE)
def everybody_has_what_is_left(
    gold_product_recommendations: ir.Table,
    silver_user_current_state: ir.Table,
    silver_user_product_states: ir.Table,
    bronze_product_catalog: ir.Table,
) -> ir.Table:
    """Each user has three recommendations ranked from 1, or fewer if fewer products are available."""
    people = silver_user_current_state
    people = people.filter(is_eligible(people.platform_state))
    states = silver_user_product_states
    left = states.filter(states.current_state == str(ma.ProductState.NEVER_ADOPTED))
    left = left.inner_join(
        bronze_product_catalog.select("product_id", launched_on=ibis._.created_date),
        "product_id",
    )
    left = left.filter(left.launched_on <= left.as_of_date).semi_join(people, "user_id")
    expected = left.group_by("user_id").aggregate(products_left=left.count())
    rows = gold_product_recommendations
    found = rows.group_by(recommended_id="user_id").aggregate(
        recommended=rows.count(),
        products=rows.product_id.nunique(),
        least=rows.recommendation_rank.min(),
        last=rows.recommendation_rank.max(),
    )
    both = expected.outer_join(found, expected.user_id == found.recommended_id)
    number = ibis.least(both.products_left, RECOMMENDATIONS)
    is_right = ibis.and_(
        both.recommended == number, both.products == number, both.least == 1, both["last"] == number
    )
    return both.filter(
        both.user_id.isnull() | both.recommended_id.isnull() | ~is_right.fill_null(False)
    )


@ma.rule(TABLE)
def nothing_adopted_is_recommended(
    gold_product_recommendations: ir.Table,
    silver_user_product_adoptions: ir.Table,
    bronze_product_catalog: ir.Table,
) -> ir.Table:
    """Recommended products are active, have been launched and have not been adopted by the user."""
    rows = gold_product_recommendations.select("user_id", "product_id", "as_of_date")
    catalog = bronze_product_catalog
    products = catalog.filter(catalog.tier == "product", catalog.is_active).select(
        of_product_id="product_id", launched_on=catalog.created_date
    )
    found = rows.left_join(products, rows.product_id == products.of_product_id)
    is_launched = (found.launched_on <= found.as_of_date).fill_null(False)
    unavailable = found.filter(~is_launched).select(*rows.columns)
    adopted = rows.semi_join(silver_user_product_adoptions, ["user_id", "product_id"])
    return adopted.union(unavailable)


@ma.rule(TABLE)
def reasons_are_those_of_affinity(
    gold_product_recommendations: ir.Table,
    silver_user_product_adoptions: ir.Table,
    silver_product_affinity: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Each user has adopted because_product_id, and the counts agree with silver_product_affinity."""
    rows = gold_product_recommendations
    by_affinity = rows.recommendation_source == _AFFINITY
    numbers = ("users_without", "users_in_order", *_OF_PAIRS)
    pairs, reverse = silver_product_affinity, ma.materialized(silver_product_affinity)
    pairs = pairs.inner_join(
        reverse,
        [
            pairs.first_product_id == reverse.second_product_id,
            pairs.second_product_id == reverse.first_product_id,
        ],
    ).select(
        because_product_id=pairs.first_product_id,
        product_id=pairs.second_product_id,
        pair_users_without=pairs.users_first - reverse.users_in_order,
        **{f"pair_{name}": pairs[name] for name in ("users_in_order", *_OF_PAIRS)},
    )
    by_popularity, rows = rows.filter(~by_affinity), rows.filter(by_affinity)
    both = rows.left_join(pairs, ["because_product_id", "product_id"])
    differs = ibis.or_(
        *(~both[name].identical_to(both[f"pair_{name}"]) for name in numbers),
        both.users_in_order < policy.min_affinity_support,
    )
    had = silver_user_product_adoptions.select("user_id", because_product_id="product_id")
    has_reason = (by_popularity[name].notnull() for name in ("because_product_id", *numbers))
    wrong = (
        both.filter(differs),
        rows.anti_join(had, ["user_id", "because_product_id"]),
        by_popularity.filter(ibis.or_(*has_reason)),
    )
    columns = ("user_id", "product_id", "because_product_id")
    return ibis.union(*(found.select(*columns) for found in wrong))


@ma.rule(TABLE)
def scores_are_consistent(
    gold_product_recommendations: ir.Table, gold_recommendation_evaluation: ir.Table
) -> ir.Table:
    """Scores never increase down the ranking, and affinity is used only if published."""
    evaluation = gold_recommendation_evaluation
    published = evaluation.filter(evaluation.is_published).aggregate(
        published=evaluation.predictor.max()
    )
    rows = gold_product_recommendations.cross_join(published)
    by_rank = ibis.window(group_by="user_id", order_by="recommendation_rank")
    rows = rows.mutate(
        score_before=rows.score.lag().over(by_rank),
        source_before=rows.recommendation_source.lag().over(by_rank),
    )
    by_affinity = rows.recommendation_source == _AFFINITY
    return rows.filter(
        (by_affinity & (rows.published != _AFFINITY))
        | ((rows.source_before == rows.recommendation_source) & (rows.score_before < rows.score))
        | (by_affinity & (rows.source_before != rows.recommendation_source))
    ).select("user_id", "recommendation_rank", "recommendation_source", "score", "published")
