"""Product recommendations based on popularity and on affinity with a user's products.

Snapshots are taken on the as-of date and 30, 60, 90, ... days before it. Adoptions are counted once
per 30-day block and summed per snapshot, so additional snapshots are cheap.

Products are ranked once per set of adopted products, not once per user, because users with the same
products have the same affinities.
"""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import left_joined, materialized, ratio
from monstera_assets.lifecycle.intervals import day_date, day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import UserState
from monstera_assets.prediction.feature_snapshots import block_of
from monstera_assets.prediction.targets import STEP_DAYS

VERSION = "1"
"""Method version, which changes whenever the counts, score or order changes."""
RECOMMENDATIONS = 3
"""Maximum number of products recommended to a user."""
EXCLUDED_STATES = (UserState.CHURNED, UserState.DELETED)
"""States of users who receive no recommendations."""


class RecommendationSource(StrEnum):
    """Basis for a recommendation."""

    AFFINITY = "affinity"
    POPULARITY = "popularity"


def snapshot_dates(as_of: ir.DateScalar, first: int, last: int) -> ir.Table:
    """Return the number and date of snapshots `first` through `last`."""
    numbers = ibis.range(first, last + 1).unnest().name("number").as_table()
    return numbers.select(
        snapshot=numbers.number.cast("int64"),
        snapshot_date=day_date(day_number(as_of) - numbers.number * STEP_DAYS),
    )


def in_blocks(adoptions: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """Return the adoptions with the number of the 30-day block that contains each one.

    Args:
        adoptions: `silver_user_product_adoptions`.
        as_of: the as-of date.
        oldest: number of the oldest snapshot. Earlier blocks are merged into its block.

    Returns:
        One row per user and product: `user_id`, `product_id`, `sequence_number`, `adoption_date`,
        `block`. The adoptions known at snapshot n are in block n or higher.
    """
    block = ibis.least(block_of(adoptions.adoption_date, as_of), oldest).cast("int64")
    columns = ("user_id", "product_id", "sequence_number", "adoption_date")
    return materialized(adoptions.select(*columns, block=block))


def known_products(adoptions: ir.Table, catalog: ir.Table, snapshots: ir.Table) -> ir.Table:
    """Return the products that could be recommended at each snapshot, with their adoption counts.

    `adoptions` is the output of `in_blocks`, and `snapshots` is the output of `snapshot_dates`.

    Returns:
        One row per snapshot and currently active product that was launched by then: `users_adopted` and
        the dates of the first and last adoptions, which are null if there are none.
    """
    counted = adoptions.group_by("product_id", "block").aggregate(
        users=adoptions.count(),
        first_date=adoptions.adoption_date.min(),
        last_date=adoptions.adoption_date.max(),
    )
    products = catalog.filter(catalog.tier == "product", catalog.is_active).select(
        "product_id", "product_name", launched_on=catalog.created_date
    )
    launched = products.cross_join(snapshots)
    launched = launched.filter(launched.launched_on <= launched.snapshot_date)
    known = launched.left_join(counted, ["product_id", launched.snapshot <= counted.block])
    by_product = known.group_by("snapshot", "product_id", "product_name")
    return materialized(
        by_product.aggregate(
            users_adopted=known.users.sum().fill_null(0).cast("int64"),
            first_adoption_date=known.first_date.min(),
            last_adoption_date=known.last_date.max(),
        )
    )


def affinity(adoptions: ir.Table, products: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return the affinity of each ordered pair of products at each snapshot.

    Of the users who adopted the first product without having the second, affinity is the share who
    later adopted the second. The share is shrunk by adding `prior_users` users who adopt the
    second product at its average rate.

    `adoptions` is the output of `in_blocks`, and `products` is the output of `known_products`.

    Returns:
        One row per snapshot and ordered pair that at least `min_affinity_support` users adopted in that
        order: `first_product_id`, `first_product_name`, `second_product_id`, `users_without` (users who
        adopted the first without having the second), `users_in_order` and `affinity`, from 0 to 1.
    """
    earlier = adoptions.select(
        "user_id", first_product_id="product_id", first_number="sequence_number"
    )
    later = adoptions.select(
        "user_id", "block", second_product_id="product_id", second_number="sequence_number"
    )
    in_order = earlier.inner_join(later, ["user_id", earlier.first_number < later.second_number])
    pair = ["first_product_id", "second_product_id"]
    counted = in_order.group_by(*pair, "block").aggregate(users=in_order.count())
    firsts = products.select(
        "snapshot",
        first_product_id="product_id",
        first_product_name="product_name",
        users_first="users_adopted",
    )
    seconds = products.select("snapshot", second_product_id="product_id")
    pairs = firsts.inner_join(seconds, "snapshot")
    pairs = pairs.filter(pairs.first_product_id != pairs.second_product_id)
    known = pairs.left_join(counted, [*pair, pairs.snapshot <= counted.block])
    pairs = materialized(
        known.group_by(pairs.columns).aggregate(
            users_in_order=known.users.sum().fill_null(0).cast("int64")
        )
    )
    reverse = pairs.select(
        "snapshot",
        first_product_id="second_product_id",
        second_product_id="first_product_id",
        users_reverse="users_in_order",
    )
    both = pairs.inner_join(reverse, ["snapshot", *pair])
    both = both.mutate(users_without=both.users_first - both.users_reverse)
    of_second = ibis.window(group_by=["snapshot", "second_product_id"])
    usual = ratio(
        both.users_in_order.sum().over(of_second), both.users_without.sum().over(of_second)
    )
    prior = policy.recommendations.prior_users
    rates = both.mutate(
        affinity=(both.users_in_order + usual * prior) / (both.users_without + prior)
    ).drop("users_first", "users_reverse")
    return materialized(rates.filter(rates.users_in_order >= policy.min_affinity_support))


def counted_adoptions(products: ir.Table) -> ir.Table:
    """Return the date range and number of adoptions for each snapshot in `known_products`."""
    return products.group_by("snapshot").aggregate(
        training_first_date=products.first_adoption_date.min(),
        training_last_date=products.last_adoption_date.max(),
        training_rows=products.users_adopted.sum().cast("int64"),
    )


def is_eligible(platform_state: ir.StringValue) -> ir.BooleanValue:
    """Return whether users in the given state receive recommendations."""
    return ~platform_state.isin([str(state) for state in EXCLUDED_STATES])


def ranked_products(patterns: ir.Table, products: ir.Table, pairs: ir.Table) -> ir.Table:
    """Rank the remaining products for each set of adopted products.

    The affinity rank orders products by their highest affinity with an adopted product. Products
    without any affinity come last. The popularity rank orders products by the number of users who
    adopted them. Ties are broken by popularity and then by ID.

    Args:
        patterns: one row per `snapshot` and `adopted`, an array of adopted product IDs.
        products: the output of `known_products`.
        pairs: the output of `affinity`.

    Returns:
        One row per pattern and product not in it: `users_adopted`, the pair with the highest affinity
        (null if there is none), `affinity_rank` and `popularity_rank` from 1, and `products_left`, the
        number of products not in the pattern.
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
    """Return the adopted product IDs for each key as a sorted array, `adopted`."""
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
    """Return the products recommended to each user who is neither churned nor deleted.

    Args:
        people: `silver_user_current_state`.
        adoptions: `silver_user_product_adoptions`.
        catalog: `bronze_product_catalog`.
        published: one row with the `RecommendationSource` to rank products by.
        policy: provides the thresholds.

    Returns:
        One row per user and `recommendation_rank`, from 1 to at most `RECOMMENDATIONS`: the product,
        its source, score and reason, and the date range of the counted adoptions.
    """
    as_of = people.aggregate(day=people.as_of_date.max()).day.as_scalar()
    adopted = in_blocks(adoptions, as_of, 0)
    products = known_products(adopted, catalog, snapshot_dates(as_of, 0, 0))
    eligible = people.filter(is_eligible(people.platform_state))
    users = left_joined(eligible, adopted_by(adopted, ["user_id"]), on=["user_id"])
    columns = ("user_id", "account_id", "platform_state", "as_of_date")
    nothing = ibis.literal([], "array<string>")
    users = materialized(users.select(*columns, adopted=users.adopted.fill_null(nothing)))
    patterns = users.select("adopted", snapshot=ibis.literal(0, "int64")).distinct()
    rows = ranked_products(patterns, products, affinity(adopted, products, policy))
    rows = rows.cross_join(published).cross_join(people.aggregate(users_eligible=people.count()))
    rows = _with_score(rows).filter(lambda each: each.recommendation_rank <= RECOMMENDATIONS)
    rows = rows.inner_join(counted_adoptions(products), "snapshot")
    rows = rows.drop("snapshot", "product_name", "first_product_name")
    return users.inner_join(rows, "adopted").drop("adopted")


def _with_score(rows: ir.Table) -> ir.Table:
    is_affinity = rows.published == RecommendationSource.AFFINITY
    rank = ibis.ifelse(is_affinity, rows.affinity_rank, rows.popularity_rank)
    has_affinity = is_affinity & rows.affinity.notnull()
    by_affinity = _reason(
        rows.users_in_order,
        rows.users_without,
        ("who had " + rows.first_product_name + " but not yet " + rows.product_name)
        + " adopted it later",
    )
    by_popularity = _reason(rows.users_adopted, rows.users_eligible, "adopted " + rows.product_name)
    only_of_affinity = ("because_product_id", "users_without", "users_in_order")
    return rows.select(
        *("snapshot", "adopted", "product_id"),
        *("product_name", "first_product_name", "users_adopted"),
        recommendation_rank=rank,
        recommendation_source=ibis.ifelse(
            has_affinity, RecommendationSource.AFFINITY, RecommendationSource.POPULARITY
        ),
        score=ibis.ifelse(
            has_affinity, rows.affinity, ratio(rows.users_adopted, rows.users_eligible)
        ),
        why=ibis.ifelse(has_affinity, by_affinity, by_popularity),
        **{name: ibis.ifelse(has_affinity, rows[name], None) for name in only_of_affinity},
    )


def _reason(part: ir.IntegerValue, whole: ir.IntegerValue, did: ir.StringValue) -> ir.StringValue:
    percent = (part.cast("float64") * 100 / whole.cast("float64")).round().cast("int64")
    counts = part.cast("string") + " of " + whole.cast("string") + " users "
    return counts + did + " (" + percent.cast("string") + "%)"
