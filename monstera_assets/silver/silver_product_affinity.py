"""silver_product_affinity: how often users adopt two products together."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma

MAU_GAP = 29
"""Maximum number of days since the last qualifying event for a user to count toward MAU."""

TABLE = ma.declare_table(
    "silver_product_affinity",
    group=ma.AssetGroup.PRODUCTS,
    grain="one ordered pair of active, launched products",
    description="How is adopting one product associated with adopting another? Adoptions are"
    " counted through the as-of date. A user adopts a product by accessing it for the first time."
    " Rates are computed over all users who have signed up. users_eligible, users_both, support,"
    " lift and jaccard are the same for both orders of a pair. The rates do not imply causation.",
    key=("first_product_id", "second_product_id"),
    columns=(
        ma.product_column("first_product_id", "First product in the pair."),
        ma.product_column("second_product_id", "Second product in the pair."),
        ma.Column("users_eligible", "int64", "n: number of users who could use both products."),
        ma.Column("users_first", "int64", "n_a: number of users who adopted the first product."),
        ma.Column("users_second", "int64", "n_b: number of users who adopted the second product."),
        ma.Column("users_both", "int64", "n_ab: number of users who adopted both products."),
        ma.Column(
            "is_low_support", "boolean", "Whether n_ab is below the min_affinity_support setting."
        ),
        ma.share("support", "n_ab / n, between 0 and 1, or null if there are no users."),
        ma.share("co_adoption_rate", "n_ab / n_a, between 0 and 1, or null if n_a is 0."),
        ma.nullable(
            "lift",
            "float64",
            "n x n_ab / (n_a x n_b), or null if n_a or n_b is 0. The value is 1 if the adoptions are"
            " independent.",
        ),
        ma.share(
            "jaccard",
            "n_ab / (n_a + n_b - n_ab), between 0 and 1, or null if no user adopted either product.",
        ),
        ma.Column(
            "users_in_order",
            "int64",
            "Number of users who adopted the first product before the second product.",
        ),
        ma.nullable(
            "median_days_between",
            "float64",
            "Median days between the two adoptions for users in users_in_order, or null if"
            " users_in_order is 0.",
        ),
        ma.share(
            "monthly_active_share_both",
            "Among users who adopted both products, the share who count toward MAU, between 0 and 1,"
            " or null if there are no such users.",
        ),
        ma.share(
            "monthly_active_share_first_only",
            "Among users who adopted the first product but not the second, the share who count toward"
            " MAU, between 0 and 1, or null if there are no such users.",
        ),
        ma.nullable(
            "retention_lift",
            "float64",
            "monthly_active_share_both / monthly_active_share_first_only, or null if either share is"
            " null or the divisor is 0.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE)
def silver_product_affinity(
    silver_user_product_adoptions: ir.Table,
    silver_user_current_state: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Count the adopters of each product and each product pair."""
    people = silver_user_current_state
    in_mau = (people.days_since_last_qualifying_event <= MAU_GAP).fill_null(False)
    adoptions = silver_user_product_adoptions.drop("as_of_date")
    adoptions = adoptions.inner_join(people.select("user_id", in_mau=in_mau), "user_id")
    alone = adoptions.group_by("product_id").aggregate(
        users=adoptions.count(), in_mau=adoptions.count(where=adoptions.in_mau)
    )
    as_of = people.aggregate(as_of_date=people.as_of_date.max(), users_eligible=people.count())
    rows = _pairs(bronze_product_catalog, as_of)
    for its_id, columns in (
        ("first_product_id", {"n_a": alone.users, "mau_a": alone.in_mau}),
        ("second_product_id", {"n_b": alone.users}),
    ):
        of_product = alone.select(**{its_id: alone.product_id}, **columns)
        rows = ma.left_joined(rows, of_product, on=[its_id])
    rows = ma.left_joined(rows, _together(adoptions), on=TABLE.key)
    n, (n_a, n_b, n_ab, mau_a, mau_ab, in_order) = (
        rows.users_eligible,
        (rows[name].fill_null(0) for name in ("n_a", "n_b", "n_ab", "mau_a", "mau_ab", "in_order")),
    )
    share_both, share_first_only = ma.ratio(mau_ab, n_ab), ma.ratio(mau_a - mau_ab, n_a - n_ab)
    return rows.select(
        *TABLE.key,
        "users_eligible",
        "as_of_date",
        "median_days_between",
        users_first=n_a,
        users_second=n_b,
        users_both=n_ab,
        is_low_support=n_ab < policy.min_affinity_support,
        support=ma.ratio(n_ab, n),
        co_adoption_rate=ma.ratio(n_ab, n_a),
        lift=ma.ratio(n * n_ab, n_a * n_b),
        jaccard=ma.ratio(n_ab, n_a + n_b - n_ab),
        users_in_order=in_order,
        monthly_active_share_both=share_both,
        monthly_active_share_first_only=share_first_only,
        retention_lift=share_both / share_first_only.nullif(0.0),
    )


def _pairs(catalog: ir.Table, as_of: ir.Table) -> ir.Table:
    """Return all ordered pairs of products available on the as-of date."""
    products = catalog.filter(catalog.tier == "product", catalog.is_active).cross_join(as_of)
    products = products.filter(products.created_date <= products.as_of_date)
    first = products.select("as_of_date", "users_eligible", first_product_id=products.product_id)
    second = products.select(second_product_id=products.product_id)
    return first.inner_join(second, first.first_product_id != second.second_product_id)


def _together(adoptions: ir.Table) -> ir.Table:
    """Count the users who adopted both products in each pair."""
    first, second = adoptions, ma.materialized(adoptions)
    both = first.inner_join(second, ["user_id", first.product_id != second.product_id]).select(
        "in_mau",
        first_product_id="product_id",
        second_product_id="product_id_right",
        in_order=ibis._.sequence_number < ibis._.sequence_number_right,
        days=ma.day_number(ibis._.adoption_date_right) - ma.day_number(ibis._.adoption_date),
    )
    return both.group_by(TABLE.key).aggregate(
        n_ab=both.count(),
        mau_ab=both.count(where=both.in_mau),
        in_order=both.count(where=both.in_order),
        median_days_between=both.days.median(where=both.in_order).cast("float64"),
    )


@ma.rule(TABLE)
def symmetric_where_it_must_be(silver_product_affinity: ir.Table) -> ir.Table:
    """users_both, support, lift and jaccard are the same for both orders of a pair."""
    same = ("users_eligible", "users_both", "support", "lift", "jaccard", "is_low_support")
    pairs = silver_product_affinity.select(*TABLE.key, "users_first", "users_second", *same)
    turned = pairs.rename(
        first_product_id="second_product_id",
        second_product_id="first_product_id",
        users_first="users_second",
        users_second="users_first",
    )
    return ma.differing_rows(pairs, turned)


@ma.rule(TABLE)
def within_bounds(
    silver_product_affinity: ir.Table, silver_user_product_adoptions: ir.Table
) -> ir.Table:
    """Counts and rates are within bounds and consistent with the adoptions."""
    adoptions = silver_user_product_adoptions
    adopters = adoptions.group_by(first_product_id="product_id").aggregate(
        adopters=adoptions.count()
    )
    pairs = ma.left_joined(silver_product_affinity, adopters, on=["first_product_id"])
    shares = (
        *("support", "co_adoption_rate", "jaccard"),
        *("monthly_active_share_both", "monthly_active_share_first_only"),
    )
    fewest = ibis.greatest(pairs.users_first + pairs.users_second - pairs.users_eligible, 0)
    most = ibis.least(pairs.users_first, pairs.users_second)
    return pairs.filter(
        ibis.or_(
            ~pairs.users_both.between(fewest, most),
            ~pairs.users_in_order.between(0, pairs.users_both),
            pairs.users_first != pairs.adopters.fill_null(0),
            (pairs.lift < 0).fill_null(False),
            (pairs.retention_lift < 0).fill_null(False),
            (pairs.median_days_between < 0).fill_null(False),
            *((~pairs[name].between(0, 1)).fill_null(False) for name in shares),
        )
    ).select(*TABLE.key, "users_both", *shares)
