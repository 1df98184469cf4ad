"""Which products come next, by affinity with those that a user has and by popularity.

Affinity is the same for all users who have adopted the same products, so products are ranked once for
each set of adopted products, not for each user.
"""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import left_joined, materialized, ratio
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import UserState
from monstera_assets.prediction.adoption_affinity import (
    affinity,
    counted_adoptions,
    in_blocks,
    known_products,
    snapshot_dates,
)

VERSION = "1"
"""Changes with any change of the counts, the score or the order."""
RECOMMENDATIONS = 3
"""Maximum number of products recommended to a user."""
WITHOUT = (UserState.CHURNED, UserState.DELETED)
"""States of users to whom nothing is recommended."""


class RecommendationSource(StrEnum):
    """What a product is ranked by."""

    AFFINITY = "affinity"
    POPULARITY = "popularity"


def is_present(platform_state: ir.StringValue) -> ir.BooleanValue:
    """Whether anything is recommended to users in a state."""
    return ~platform_state.isin([str(state) for state in WITHOUT])


def in_order(patterns: ir.Table, products: ir.Table, pairs: ir.Table) -> ir.Table:
    """The products that are not adopted yet, ranked for each set of adopted products.

    By affinity: first the products with an affinity to some adopted product, by the highest one, then
    the others by popularity. By popularity: by the number of users who have adopted them. Ties are
    broken by popularity, then by id.

    Args:
        patterns: one row per `snapshot` and array `adopted` of the ids of adopted products.
        products: the result of `adoption_affinity.known_products`.
        pairs: the result of `adoption_affinity.affinity`.

    Returns:
        One row per pattern and product that is not in it: `users_adopted`, the pair with the highest
        affinity (null if there is none), `affinity_rank` and `popularity_rank` from 1, and
        `products_left`, the number of these products.
    """
    best = patterns.select(
        "snapshot", "adopted", first_product_id=patterns.adopted.unnest()
    ).inner_join(pairs, ["snapshot", "first_product_id"])
    key = ["snapshot", "adopted", "product_id"]
    best = best.rename(product_id="second_product_id", because_product_id="first_product_id")
    highest = ibis.window(group_by=key, order_by=[ibis.desc("affinity"), "because_product_id"])
    best = best.mutate(place=ibis.row_number().over(highest))
    left = patterns.inner_join(products, "snapshot")
    left = left.filter(~left.adopted.contains(left.product_id))
    rows = left_joined(left, best.filter(best.place == 0).drop("place"), on=key)
    of_pattern = ["snapshot", "adopted"]
    by_popularity = [ibis.desc("users_adopted"), "product_id"]
    by_affinity = [rows.affinity.isnull(), ibis.desc("affinity"), *by_popularity]
    ranks = {
        name: ibis.row_number().over(ibis.window(group_by=of_pattern, order_by=order)) + 1
        for name, order in (("affinity_rank", by_affinity), ("popularity_rank", by_popularity))
    }
    left_count = rows.count().over(ibis.window(group_by=of_pattern))
    return rows.mutate(**ranks, products_left=left_count)


def adopted_by(adoptions: ir.Table, keys: list[str]) -> ir.Table:
    """The products of each key as an array `adopted`, in the order of ids."""
    return adoptions.group_by(keys).aggregate(
        adopted=adoptions.product_id.collect(order_by=adoptions.product_id)
    )


def recommend(
    people: ir.Table,
    adoptions: ir.Table,
    catalog: ir.Table,
    published: ir.Table,
    policy: LifecyclePolicy,
) -> ir.Table:
    """The products to recommend to each user who is neither churned nor deleted.

    Args:
        people: `silver_user_current_state`.
        adoptions: `silver_user_product_adoptions`.
        catalog: `bronze_product_catalog`.
        published: one row, whose `published` is the `RecommendationSource` to rank by.
        policy: the thresholds.

    Returns:
        One row per user and `recommendation_rank`, from 1 to at most `RECOMMENDATIONS`: the product,
        its source, score and reason, and the range of adoptions that were counted.
    """
    as_of = people.aggregate(day=people.as_of_date.max()).day.as_scalar()
    adopted = in_blocks(adoptions, as_of, 0)
    products = known_products(adopted, catalog, snapshot_dates(as_of, 0, 0))
    present = people.filter(is_present(people.platform_state))
    users = left_joined(present, adopted_by(adopted, ["user_id"]), on=["user_id"])
    columns = ("user_id", "account_id", "platform_state", "as_of_date")
    nothing = ibis.literal([], "array<string>")
    users = materialized(users.select(*columns, adopted=users.adopted.fill_null(nothing)))
    patterns = users.select("adopted", snapshot=ibis.literal(0, "int64")).distinct()
    rows = in_order(patterns, products, affinity(adopted, products, policy))
    rows = rows.cross_join(published).cross_join(people.aggregate(users_eligible=people.count()))
    rows = _with_score(rows).filter(lambda each: each.recommendation_rank <= RECOMMENDATIONS)
    rows = rows.inner_join(counted_adoptions(products), "snapshot")
    rows = rows.drop("snapshot", "product_name", "first_product_name")
    return users.inner_join(rows, "adopted").drop("adopted")


def _with_score(rows: ir.Table) -> ir.Table:
    """Rank, source, score and reason, by the published order."""
    is_affinity = rows.published == str(RecommendationSource.AFFINITY)
    rank = ibis.ifelse(is_affinity, rows.affinity_rank, rows.popularity_rank)
    has_affinity = is_affinity & rows.affinity.notnull()
    by_affinity = _in_words(
        rows.users_in_order,
        rows.users_without,
        ("who had " + rows.first_product_name + " but not yet " + rows.product_name)
        + " took it up later",
    )
    by_popularity = _in_words(
        rows.users_adopted, rows.users_eligible, "took up " + rows.product_name
    )
    only_of_affinity = ("because_product_id", "users_without", "users_in_order")
    return rows.select(
        "snapshot",
        "adopted",
        "product_id",
        "product_name",
        "first_product_name",
        "users_adopted",
        recommendation_rank=rank,
        recommendation_source=ibis.ifelse(
            has_affinity, str(RecommendationSource.AFFINITY), str(RecommendationSource.POPULARITY)
        ),
        score=ibis.ifelse(
            has_affinity, rows.affinity, ratio(rows.users_adopted, rows.users_eligible)
        ),
        why=ibis.ifelse(has_affinity, by_affinity, by_popularity),
        **{name: ibis.ifelse(has_affinity, rows[name], None) for name in only_of_affinity},
    )


def _in_words(part: ir.IntegerValue, whole: ir.IntegerValue, did: ir.StringValue) -> ir.StringValue:
    percent = (part.cast("float64") * 100 / whole.cast("float64")).round().cast("int64")
    counts = part.cast("string") + " of " + whole.cast("string") + " users "
    return counts + did + " (" + percent.cast("string") + " %)"
