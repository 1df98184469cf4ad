"""gold_recommendation_evaluation: how accurately the next adopted products were predicted."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.prediction.recommendation_evaluation import (
    Order,
    compared,
    evaluate,
    is_better,
    published_of,
)
from monstera_assets.prediction.recommendations import VERSION

COUNTED_COLUMNS = (
    *ma.columns("string", recommendation_version="Version of the ranking method."),
    *ma.columns(
        "date",
        nullable=True,
        training_first_date="Date of the first counted adoption; null if no adoptions were counted.",
        training_last_date="Date of the last counted adoption; null if no adoptions were counted.",
    ),
    *ma.columns("int64", training_rows="Number of counted adoptions."),
)

TABLE = ma.declare_table(
    "gold_recommendation_evaluation",
    group=ma.AssetGroup.PREDICTION,
    grain="one evaluation date (or all dates combined) and product order",
    description="How accurately was the next adopted product predicted in the past? The evaluation"
    " covers users who had adopted a product by the evaluation date and adopted another within 30"
    " days. The product to predict is the first one adopted in those 30 days. Affinity, popularity"
    " and a random order are compared on the same users. A product that had not been launched by"
    " the evaluation date counts as a miss.",
    key=("evaluation_date", "predictor"),
    extra=ma.PREDICT,
    columns=(
        *ma.columns(
            "date",
            nullable=True,
            evaluation_date="Date as of which products are ranked; null for rows that cover all dates.",
        ),
        ma.Column(
            "predictor",
            "string",
            "How the products were ranked; `chance` is the expected result of a random order.",
            allowed=tuple(Order),
        ),
        *ma.columns(
            "int64",
            users_judged="Number of users who adopted another product, counted once per date.",
        ),
        ma.share(
            "hit_rate_at_1",
            "Share of users who adopted the product ranked first; null if there are no users.",
        ),
        ma.share(
            "hit_rate_at_3",
            "Share of users who adopted one of the three top-ranked products; null if there are no"
            " users.",
        ),
        *ma.columns(
            "float64",
            nullable=True,
            mean_reciprocal_rank="Mean of 1 / rank of the adopted product (0 if it was not"
            " ranked); null if there are no users.",
        ),
        *ma.columns(
            "boolean",
            is_published="Whether recommendations follow this order. Affinity is published if,"
            " over all dates, its mean reciprocal rank is higher than popularity's and its hit rate"
            " at 3 is not lower. Otherwise, popularity is published.",
        ),
        *COUNTED_COLUMNS,
        *ma.columns(
            "date",
            nullable=True,
            as_of_date="Latest date for which history exists; null if there are no users.",
        ),
    ),
)
_RATES = ("hit_rate_at_1", "hit_rate_at_3", "mean_reciprocal_rank")


def overall(relation: ir.Table) -> ir.Table:
    """Return the rows that cover all dates."""
    return relation.filter(relation.evaluation_date.isnull())


def _comparison(relation: ir.Table) -> ir.Table:
    rows = overall(relation)
    return rows.order_by(ibis.desc("mean_reciprocal_rank"), "predictor").select(
        "predictor",
        "is_published",
        "users_judged",
        **{name: rows[name].round(4).cast("string") for name in _RATES},
    )


def _by_date(relation: ir.Table) -> ir.Table:
    rows = relation.filter(relation.evaluation_date.notnull(), relation.is_published)
    return rows.order_by("evaluation_date").select(
        "evaluation_date", "predictor", "users_judged", *_RATES
    )


@ma.table_asset(
    TABLE,
    days={"silver_user_state_history": ma.ALL_DAYS},
    previews=[
        ma.Preview("All evaluation dates combined", _comparison),
        ma.Preview("By date", _by_date, bar="mean_reciprocal_rank", is_share=True),
    ],
)
def gold_recommendation_evaluation(
    silver_user_product_adoptions: ir.Table,
    silver_user_state_history: ir.Table,
    bronze_product_catalog: ir.Table,
    silver_user_current_state: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Evaluate the product orders as of past dates and mark the published order."""
    rows = ma.materialized(
        evaluate(
            silver_user_product_adoptions,
            silver_user_state_history,
            bronze_product_catalog,
            silver_user_current_state,
            policy,
        )
    )
    rows = rows.cross_join(published_of(overall(rows), policy))
    return rows.select(
        *(
            rows[column.name]
            for column in TABLE.columns
            if column.name not in {"is_published", "recommendation_version"}
        ),
        is_published=rows.predictor == rows.published,
        recommendation_version=ibis.literal(VERSION),
    )


@ma.rule(TABLE)
def the_better_one_is_published(
    gold_recommendation_evaluation: ir.Table, *, policy: ma.LifecyclePolicy
) -> ir.Table:
    """The published order follows from the evaluation results."""
    rows = gold_recommendation_evaluation
    found = rows.cross_join(published_of(overall(rows), policy))
    return found.filter(found.is_published != (found.predictor == found.published)).select(
        "evaluation_date", "predictor", "is_published", "published"
    )


@ma.rule(TABLE)
def nothing_is_learned_from_the_future(gold_recommendation_evaluation: ir.Table) -> ir.Table:
    """No counted adoption is later than the evaluation date."""
    rows = gold_recommendation_evaluation
    return rows.filter(rows.training_last_date > rows.evaluation_date).select(
        "evaluation_date", "predictor", "training_last_date"
    )


@ma.rule(TABLE)
def within_bounds(gold_recommendation_evaluation: ir.Table) -> ir.Table:
    """Rates are within their bounds, and all orders are evaluated on the same users."""
    rows = gold_recommendation_evaluation
    at_1, at_3, mean = (rows[name] for name in _RATES)
    is_possible = ibis.and_(
        at_1.between(0, 1), at_3.between(0, 1), mean.between(0, 1), at_1 <= at_3, at_1 <= mean
    )
    without = ibis.and_(*(rows[name].isnull() for name in _RATES))
    wrong = rows.filter(
        ~ibis.ifelse(rows.users_judged > 0, is_possible.fill_null(False), without)
    ).select("evaluation_date", "predictor", "users_judged")
    of_date = rows.group_by("evaluation_date").aggregate(
        orders=rows.count(), fewest=rows.users_judged.min(), most=rows.users_judged.max()
    )
    apart = of_date.filter((of_date.orders != len(Order)) | (of_date.fewest != of_date.most))
    is_date = rows.evaluation_date.notnull()
    of_order = rows.group_by("predictor").aggregate(
        on_dates=rows.users_judged.sum(where=is_date).fill_null(0).cast("int64"),
        in_all=rows.users_judged.sum(where=~is_date).fill_null(0).cast("int64"),
    )
    unequal = of_order.filter(of_order.on_dates != of_order.in_all)
    return wrong.union(
        apart.select("evaluation_date", predictor=ibis.null("string"), users_judged="most"),
        unequal.select(
            evaluation_date=ibis.null("date"), predictor="predictor", users_judged="in_all"
        ),
    )


@ma.rule(
    TABLE,
    blocking=False,
    level=ma.AlertLevel.P3,
    remedy="Recommend the most popular products until affinity predicts adoption better.",
)
def affinity_beats_popularity(
    gold_recommendation_evaluation: ir.Table, *, policy: ma.LifecyclePolicy
) -> ir.Table:
    """Affinity predicts the next adoption more accurately than popularity does."""
    figures = compared(overall(gold_recommendation_evaluation))
    is_enough = figures.users_judged >= policy.recommendations.min_judged_users
    reason = (
        ibis.literal("not evaluated: only ")
        + figures.users_judged.cast("string")
        + ibis.literal(
            f" adoptions (minimum {policy.recommendations.min_judged_users}), so the most popular"
            " products are recommended"
        )
    )
    return figures.mutate(**{ma.NOT_EVALUATED: ibis.ifelse(is_enough, None, reason)}).filter(
        ~is_enough | ~is_better(figures)
    )
