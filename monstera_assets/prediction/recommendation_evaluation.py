"""Backtesting for product recommendations, based on the products that users adopted next.

At each snapshot, products are ranked by the adoptions known on that date. The evaluation covers
users who had adopted a product by then and adopted another within the next 30 days. The product to
predict is the first one adopted in those 30 days. The affinity, popularity and random orders are
compared for the same users.
"""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import left_joined, materialized
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.prediction import recommendations
from monstera_assets.prediction.recommendations import RECOMMENDATIONS, RecommendationSource

HORIZON_STEPS = 1
"""Number of 30-day steps after a snapshot in which adoptions count."""


class Order(StrEnum):
    """A method of ordering products."""

    AFFINITY = str(RecommendationSource.AFFINITY)
    POPULARITY = str(RecommendationSource.POPULARITY)
    CHANCE = "chance"


def evaluate(
    adoptions: ir.Table,
    history: ir.Table,
    catalog: ir.Table,
    people: ir.Table,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Evaluate each order at each snapshot and across all snapshots.

    Args:
        adoptions: `silver_user_product_adoptions`.
        history: `silver_user_state_history`.
        catalog: `bronze_product_catalog`.
        people: `silver_user_current_state`.
        policy: provides the settings.

    Returns:
        One row per order and `evaluation_date` (null for all dates combined): `users_judged`,
        `hit_rate_at_1`, `hit_rate_at_3` and `mean_reciprocal_rank` (null if there are no users), the
        date range of the counted adoptions, and `as_of_date`.
    """
    as_of = people.aggregate(day=people.as_of_date.max()).day.as_scalar()
    oldest = HORIZON_STEPS + policy.recommendations.evaluation_dates - 1
    snapshots = recommendations.snapshot_dates(as_of, HORIZON_STEPS, oldest)
    adopted = recommendations.in_blocks(adoptions, as_of, oldest)
    products = recommendations.known_products(adopted, catalog, snapshots)
    users = _evaluated_users(adopted, history, snapshots, oldest)
    patterns = users.select("snapshot", "adopted").distinct()
    ranked = recommendations.ranked_products(
        patterns, products, recommendations.affinity(adopted, products, policy)
    )
    outcomes = _outcomes(users, ranked)
    # Rows for all dates combined always exist, because they determine the published order.
    orders = ibis.array([str(order) for order in Order]).unnest().name("predictor").as_table()
    overall = left_joined(orders, _figures(outcomes, ["predictor"]), on=["predictor"])
    known = recommendations.counted_adoptions(products)
    known_at_last = known.aggregate(
        training_first_date=known.training_first_date.min(),
        training_last_date=known.training_last_date.max(),
        training_rows=known.training_rows.max(),
    )
    overall = overall.cross_join(known_at_last).mutate(evaluation_date=ibis.null("date"))
    by_date = _figures(outcomes, ["snapshot", "predictor"]).inner_join(known, "snapshot")
    dates = snapshots.rename(evaluation_date="snapshot_date")
    by_date = by_date.inner_join(dates, "snapshot").select(*overall.columns)
    rows = overall.union(by_date)
    return rows.mutate(
        users_judged=rows.users_judged.fill_null(0),
        training_rows=rows.training_rows.fill_null(0),
        as_of_date=as_of,
    )


def published_of(overall: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return one row with the order to publish (`published`), given the figures across all dates.

    Affinity is published if enough users were evaluated, its mean reciprocal rank is higher than
    popularity's, and its hit rate at 3 is not lower. Otherwise, popularity is published.
    """
    figures = compared(overall)
    is_enough = figures.users_judged >= policy.recommendations.min_judged_users
    return figures.select(
        published=ibis.ifelse(
            is_enough & is_better(figures),
            RecommendationSource.AFFINITY,
            RecommendationSource.POPULARITY,
        )
    )


def compared(overall: ir.Table) -> ir.Table:
    """Return one row with the figures for affinity and popularity across all dates."""
    values = {
        f"{order}_{name}": overall[name].max(where=overall.predictor == str(order))
        for order in (Order.AFFINITY, Order.POPULARITY)
        for name in ("mean_reciprocal_rank", "hit_rate_at_3")
    }
    return overall.aggregate(users_judged=overall.users_judged.max().fill_null(0), **values)


def is_better(figures: ir.Table) -> ir.BooleanValue:
    """Return whether affinity outperforms popularity, given the output of `compared`."""
    return (
        (figures.affinity_mean_reciprocal_rank > figures.popularity_mean_reciprocal_rank)
        & (figures.affinity_hit_rate_at_3 >= figures.popularity_hit_rate_at_3)
    ).fill_null(False)


def _evaluated_users(
    adoptions: ir.Table, history: ir.Table, snapshots: ir.Table, oldest: int
) -> ir.Table:
    """Count users by snapshot, products adopted by then and first product adopted afterward.

    Only users who were eligible at the snapshot and had already adopted a product are counted. For
    users without products, affinity and popularity give the same order.
    """
    new = adoptions.filter(adoptions.block < oldest)
    first = new.group_by("user_id", "block").aggregate(number=new.sequence_number.min())
    first = first.filter(first.number > 1).select(
        "user_id", "number", snapshot=first.block + HORIZON_STEPS
    )
    on_dates = history.select("user_id", "snapshot_date", "platform_state").inner_join(
        snapshots, "snapshot_date"
    )
    eligible = on_dates.filter(recommendations.is_eligible(on_dates.platform_state))
    first = materialized(first.semi_join(eligible, ["user_id", "snapshot"]))
    every = first.inner_join(adoptions, "user_id")
    before = every.filter(every.sequence_number < every.number)
    after = every.filter(every.sequence_number == every.number)
    both = recommendations.adopted_by(before, ["user_id", "snapshot"]).inner_join(
        after.select("user_id", "snapshot", "product_id"), ["user_id", "snapshot"]
    )
    return materialized(
        both.group_by("snapshot", "adopted", "product_id").aggregate(users=both.count())
    )


def _outcomes(users: ir.Table, ranked: ir.Table) -> ir.Table:
    """Count users by snapshot, order, rank of the adopted product and number of products left.

    A rank of 0 means that the product had not been launched yet, which counts as a miss for every
    order. The result for a random order depends only on the number of products, and the results for
    the other orders depend only on the rank.
    """
    key = ["snapshot", "adopted", "product_id"]
    rows = left_joined(users, ranked.drop("users_adopted"), on=key)
    nothing = ibis.literal(0, "int64")
    orders = (
        (Order.CHANCE, nothing, rows.products_left),
        (Order.AFFINITY, rows.affinity_rank, nothing),
        (Order.POPULARITY, rows.popularity_rank, nothing),
    )
    return ibis.union(
        *(
            rows.select(
                "snapshot",
                "users",
                predictor=ibis.literal(str(order)),
                rank=rank.fill_null(0),
                products_left=left.fill_null(0),
            )
            for order, rank, left in orders
        )
    )


def _figures(outcomes: ir.Table, keys: list[str]) -> ir.Table:
    rows = outcomes.group_by(*keys, "rank", "products_left").aggregate(
        users=outcomes.users.sum().cast("int64")
    )
    left, rank = rows.products_left, rows["rank"]
    nothing = ibis.literal(0.0)
    inverse = ibis.range(1, left + 1).map(lambda number: 1.0 / number).sums()
    values = {
        "hit_rate_at_1": ibis.cases((left > 0, 1 / left), (rank == 1, 1.0), else_=nothing),
        "hit_rate_at_3": ibis.cases(
            (left > 0, ibis.least(left, RECOMMENDATIONS) / left),
            (rank.between(1, RECOMMENDATIONS), 1.0),
            else_=nothing,
        ),
        "mean_reciprocal_rank": ibis.cases(
            (left > 0, inverse / left), (rank > 0, 1 / rank), else_=nothing
        ),
    }
    rows = rows.mutate(**{name: rows.users * value for name, value in values.items()})
    # A fixed summation order makes floating-point results reproducible.
    return rows.group_by(keys).aggregate(
        users_judged=rows.users.sum().cast("int64"),
        **{
            name: rows[name].collect(order_by=[rows["rank"], rows.products_left]).sums()
            / rows.users.sum().cast("float64")
            for name in values
        },
    )
