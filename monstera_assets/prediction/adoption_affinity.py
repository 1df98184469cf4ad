"""How products were adopted, alone and one after another, as known at the end of some days.

The days are snapshots: the as-of date and dates 30, 60, 90, ... days before it. Adoptions are counted
once, by the block of days in which they became known, and added up for each snapshot, so that more
snapshots cost little.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import materialized, ratio
from monstera_assets.lifecycle.intervals import day_date, day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.prediction.feature_snapshots import block_of
from monstera_assets.prediction.targets import STEP_DAYS


def snapshot_dates(as_of: ir.DateScalar, first: int, last: int) -> ir.Table:
    """The snapshots from number `first` to number `last`: `snapshot`, `snapshot_date`."""
    numbers = ibis.range(first, last + 1).unnest().name("number").as_table()
    return numbers.select(
        snapshot=numbers.number.cast("int64"),
        snapshot_date=day_date(day_number(as_of) - numbers.number * STEP_DAYS),
    )


def in_blocks(adoptions: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """Adoptions with the block in which they became known.

    Args:
        adoptions: `silver_user_product_adoptions`.
        as_of: the as-of date.
        oldest: number of the oldest snapshot; earlier blocks are merged into it.

    Returns:
        One row per user and product: `user_id`, `product_id`, `sequence_number`, `adoption_date`,
        `block`. A snapshot knows the adoptions whose block is not below its number.
    """
    block = ibis.least(block_of(adoptions.adoption_date, as_of), oldest).cast("int64")
    columns = ("user_id", "product_id", "sequence_number", "adoption_date")
    return materialized(adoptions.select(*columns, block=block))


def known_products(adoptions: ir.Table, catalog: ir.Table, snapshots: ir.Table) -> ir.Table:
    """The products that could be recommended at each snapshot, and who had adopted them.

    Args:
        adoptions: the result of `in_blocks`.
        catalog: `bronze_product_catalog`.
        snapshots: the result of `snapshot_dates`.

    Returns:
        One row per snapshot and product that is active today and was launched by then: `users_adopted`,
        and the dates of the first and last of these adoptions, null without any.
    """
    counted = adoptions.group_by("product_id", "block").aggregate(
        users=adoptions.count(),
        first_date=adoptions.adoption_date.min(),
        last_date=adoptions.adoption_date.max(),
    )
    products = catalog.filter(catalog.tier == "product", catalog.is_active).select(
        "product_id", "product_name", launched_on=catalog.created_at.date()
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
    """The affinity of one product to another, at each snapshot.

    The share of the users who adopted the first product before the second, or without it, that adopted
    the second later. To each pair `prior_users` are added who did so at the usual rate of the second
    product after any other. Users who had the second product before are left out.

    Args:
        adoptions: the result of `in_blocks`.
        products: the result of `known_products`.
        policy: the thresholds.

    Returns:
        One row per snapshot and ordered pair that at least `min_affinity_support` users adopted in this
        order: `first_product_id`, `first_product_name`, `second_product_id`, `users_without` (who
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
    turned = pairs.select(
        "snapshot",
        first_product_id="second_product_id",
        second_product_id="first_product_id",
        users_turned="users_in_order",
    )
    both = pairs.inner_join(turned, ["snapshot", *pair])
    both = both.mutate(users_without=both.users_first - both.users_turned)
    of_second = ibis.window(group_by=["snapshot", "second_product_id"])
    usual = ratio(
        both.users_in_order.sum().over(of_second), both.users_without.sum().over(of_second)
    )
    prior = policy.recommendations.prior_users
    rates = both.mutate(
        affinity=(both.users_in_order + usual * prior) / (both.users_without + prior)
    ).drop("users_first", "users_turned")
    return materialized(rates.filter(rates.users_in_order >= policy.min_affinity_support))


def counted_adoptions(products: ir.Table) -> ir.Table:
    """The range and number of the adoptions in `known_products`, at each snapshot."""
    return products.group_by("snapshot").aggregate(
        training_first_date=products.first_adoption_date.min(),
        training_last_date=products.last_adoption_date.max(),
        training_rows=products.users_adopted.sum().cast("int64"),
    )
