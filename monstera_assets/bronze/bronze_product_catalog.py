"""bronze_product_catalog: the taxonomy of families, products, features and sub-features."""

from __future__ import annotations

from itertools import pairwise

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

PRODUCT_TIERS = ("family", "product", "feature", "sub_feature")

TABLE = ma.declare_table(
    "bronze_product_catalog",
    group=ma.AssetGroup.CATALOG,
    grain="one node in the product taxonomy",
    description="Which product families, products, features and sub-features exist, and which event"
    " types are qualifying or activation events for each node?",
    key=("product_id",),
    columns=(
        ma.Column("product_id", "string", "The node's id."),
        ma.Column("product_name", "string", "The node's name."),
        ma.Column("product_family_id", "string", "Product family that contains the node."),
        ma.Column("tier", "string", "The node's level in the taxonomy.", allowed=PRODUCT_TIERS),
        ma.Column(
            "parent_product_id",
            "string",
            "Id of the parent node, or null if there is no parent.",
            nullable=True,
        ),
        ma.Column(
            "is_active", "boolean", "Whether the node is active. Retired nodes are inactive."
        ),
        ma.Column("created_at", "timestamp", "Launch time in UTC."),
        ma.Column("created_date", "date", "Local launch date."),
        ma.Column("product_owner", "string", "The product's owner."),
        ma.Column(
            "activation_event_types",
            "string",
            "Event types that activate a user in the product, separated by |, or an empty string if"
            " there are none.",
        ),
        ma.Column(
            "qualifying_event_types",
            "string",
            "Event types that are qualifying in the product, separated by |, or an empty string if"
            " there are none.",
        ),
        ma.Column(
            "active_days",
            "int64",
            "Maximum number of days since the last qualifying event for a user to be active, or null"
            " to use the policy's limit.",
            nullable=True,
        ),
        ma.Column(
            "dormant_days",
            "int64",
            "Maximum number of days since the last qualifying event for a user to be dormant, or null"
            " to use the policy's limit.",
            nullable=True,
        ),
        ma.FAULTS_COLUMN,
    ),
)

_LISTS = ("activation_event_types", "qualifying_event_types")
_LIMITS = ("active_days", "dormant_days")
REQUIRED = ("product_id",)
SOURCE_COLUMNS = (
    *(
        "product_id",
        "product_name",
        "product_family_id",
        "tier",
        "parent_product_id",
        "is_active",
        "created_at",
    ),
    *("product_owner", *_LISTS, *_LIMITS),
)

ONLY_PRODUCT = "product"
"""The product for a source that has no catalog and does not mention any products."""


def classify(rows: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return typed rows with a rejection reason, which is null for accepted rows.

    Nodes below a rejected node are also rejected, because their events would not belong to a product.
    """
    rows = ma.typed(rows, TABLE.columns, reading)
    active_days = ibis.ifelse(rows.active_days < 1, None, rows.active_days)
    rows = rows.mutate(
        tier=ibis.ifelse(rows.tier.isin(PRODUCT_TIERS), rows.tier, None),
        active_days=active_days,
        dormant_days=ibis.ifelse(
            rows.dormant_days < ibis.coalesce(active_days, 1), None, rows.dormant_days
        ),
    )
    unreadable = ma.unreadable(rows, ["tier", "is_active", "created_at", *_LIMITS])
    created_at = ibis.coalesce(rows.created_at, reading.first_moment)
    rows = rows.mutate(
        **{ma.FAULTS: ma.fault_names(unreadable)},
        product_name=ibis.coalesce(rows.product_name, rows.product_id),
        tier=rows.tier.fill_null("product"),
        is_active=rows.is_active.fill_null(True),
        created_at=created_at,
        created_date=reading.local_date(created_at),
        product_owner=rows.product_owner.fill_null("unknown"),
        **{name: rows[name].fill_null("") for name in _LISTS},
    )
    rows = ma.with_reason(rows, ma.missing(rows, REQUIRED))
    rows = ma.keep_last(rows, TABLE.key, SOURCE_COLUMNS)
    rows = _with_families(rows)
    rows, rules = _place(rows, rows.filter(rows[ma.REASON].isnull()))
    return rows.mutate(**{ma.REASON: ibis.coalesce(rows[ma.REASON], ma.first_reason(rules))})


def of_events(named: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return one product per id in `product_id`, or `ONLY_PRODUCT` if there are no ids."""
    ids = named.filter(named.product_id.notnull()).select("product_id").distinct()
    only = ids.aggregate(number=ids.count())
    only = only.filter(only.number == 0).select(product_id=ibis.literal(ONLY_PRODUCT))
    nodes = ids.union(only)
    created_at = reading.first_moment
    return nodes.select(
        "product_id",
        product_name=nodes.product_id,
        product_family_id=nodes.product_id,
        tier=ibis.literal("product"),
        parent_product_id=ibis.null("string"),
        is_active=ibis.literal(True),
        created_at=created_at,
        created_date=reading.local_date(created_at),
        product_owner=ibis.literal("unknown"),
        **{name: ibis.literal("") for name in _LISTS},
        **{name: ibis.null("int64") for name in _LIMITS},
        **{ma.FAULTS: ibis.null("string")},
    )


def _with_families(rows: ir.Table) -> ir.Table:
    """Set each missing family to the nearest ancestor's family or else to the topmost ancestor."""
    nodes = rows.filter(rows[ma.REASON].isnull()).select(
        id="product_id", parent_id="parent_product_id", family_id="product_family_id"
    )
    steps = range(1, len(PRODUCT_TIERS))
    joined, below = rows, rows.parent_product_id
    for step in steps:
        above = nodes.rename(f"{{name}}_{step}")
        joined = joined.left_join(above, below == above[f"id_{step}"])
        below = joined[f"parent_id_{step}"]
    family = ibis.coalesce(
        joined.product_family_id,
        *(joined[f"family_id_{step}"] for step in steps),
        *(joined[f"id_{step}"] for step in reversed(steps)),
        joined.product_id,
    )
    return joined.mutate(product_family_id=family).select(*rows.columns)


def _place(rows: ir.Table, nodes: ir.Table) -> tuple[ir.Table, list[ma.Rejection]]:
    """Check each row's place in the taxonomy of `nodes`. Each node on its own is already valid.

    Each node is compared with up to three of its ancestors. In a valid chain, each node is one tier
    below its parent, so more distant ancestors do not matter.
    """
    known = nodes.select(
        id=nodes.product_id,
        rank=ibis.cases(*((nodes.tier == tier, rank) for rank, tier in enumerate(PRODUCT_TIERS))),
        parent_id=nodes.parent_product_id,
        family_id=nodes.product_family_id,
    )
    chain = known.rename("{name}_0")
    steps = len(PRODUCT_TIERS) - 1
    for step in range(steps):
        above = known.rename(f"{{name}}_{step + 1}")
        chain = chain.left_join(above, chain[f"parent_id_{step}"] == above[f"id_{step + 1}"])

    def is_root(step: int) -> ir.BooleanValue:
        # A product does not need a family above it.
        return (chain[f"rank_{step}"] <= 1) & chain[f"parent_id_{step}"].isnull()

    def in_own_family(step: int) -> ir.BooleanValue:
        is_family = chain[f"rank_{step}"] == 0
        return ~is_family | (chain[f"family_id_{step}"] == chain[f"id_{step}"])

    def below_tier(step: int) -> ir.BooleanValue:
        return (chain[f"rank_{step}"] == chain[f"rank_{step + 1}"] + 1).fill_null(False)

    def in_family_above(step: int) -> ir.BooleanValue:
        return chain[f"family_id_{step}"] == chain[f"family_id_{step + 1}"]

    has_place = is_root(steps) & in_own_family(steps)
    for step in range(steps - 1, 0, -1):
        below = below_tier(step) & in_family_above(step) & has_place
        has_place = ((is_root(step) & in_own_family(step)) | below).fill_null(False)
    has_parent = chain.parent_id_0.notnull()
    places = chain.select(
        placed_id=chain.id_0,
        has_wrong_parent=~(is_root(0) | below_tier(0)) & (~has_parent | chain.id_1.notnull()),
        has_no_parent=has_parent & ~has_place,
        is_in_other_family=~ibis.ifelse(is_root(0), in_own_family(0), in_family_above(0)),
    )
    joined = rows.left_join(places, rows.product_id == places.placed_id).drop("placed_id")
    return joined, [
        ("parent_not_of_tier_above", joined.has_wrong_parent),
        ("unknown_parent_product", joined.has_no_parent),
        ("other_family_than_parent", joined.is_in_other_family),
    ]


def product_of_node(catalog: ir.Table) -> ir.Table:
    """Roll each node up to its product.

    Returns:
        One row per node, excluding families, with `node_id` and `product_id`. The product is the
        node's ancestor in the tier `product`, or the node itself. The taxonomy has at most four tiers,
        so two steps up are sufficient.
    """
    nodes = catalog.select(id="product_id", tier="tier", parent_id="parent_product_id")
    node, one_up, two_up = (nodes.rename(f"{{name}}_{step}") for step in range(3))
    joined = node.left_join(one_up, node.parent_id_0 == one_up.id_1)
    joined = joined.left_join(two_up, joined.parent_id_1 == two_up.id_2)
    products = [(joined[f"tier_{step}"] == "product", joined[f"id_{step}"]) for step in range(3)]
    rolled = joined.select(node_id=joined.id_0, product_id=ibis.cases(*products))
    return rolled.filter(rolled.product_id.notnull())


def feature_of_node(catalog: ir.Table) -> ir.Table:
    """Roll each feature and sub-feature in an active product up to an active feature.

    Returns:
        One row per node, with `node_id`, `feature_id` and `product_id`. The feature is a sub-feature's
        parent, or the node itself if the node is a feature.
    """
    features = catalog.filter(catalog.tier == "feature", catalog.is_active).select(
        feature_id=catalog.product_id
    )
    products = catalog.filter(catalog.tier == "product", catalog.is_active).select("product_id")
    nodes = catalog.select(
        node_id=catalog.product_id,
        above_id=ibis.ifelse(
            catalog.tier == "sub_feature", catalog.parent_product_id, catalog.product_id
        ),
    )
    nodes = nodes.inner_join(features, nodes.above_id == features.feature_id)
    rolled = product_of_node(catalog).semi_join(products, "product_id")
    return nodes.inner_join(rolled, "node_id").select("node_id", "feature_id", "product_id")


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Rename the products in the catalog.",
)
def names_follow_convention(bronze_product_catalog: ir.Table) -> ir.Table:
    """Product names are in Title Case, and product ids are in snake_case.

    The check ignores products that do not have a name in the source.
    """
    nodes = bronze_product_catalog.filter(
        bronze_product_catalog.product_name != bronze_product_catalog.product_id
    )
    title_case = nodes.product_name.re_search(
        r"^[A-Z0-9][^ ]*( ([A-Z0-9&+/-][^ ]*|a|an|and|at|by|for|in|of|on|or|the|to|with))*$"
    )
    snake_case = nodes.product_id.re_search(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
    return nodes.filter(~title_case | ~snake_case).select("product_id", "product_name")


@ma.rule(TABLE)
def taxonomy_is_a_tree(bronze_product_catalog: ir.Table) -> ir.Table:
    """Each node's parent is in the same family and one tier higher. A product may have no parent."""
    nodes = bronze_product_catalog
    parents = nodes.select(
        found_id=nodes.product_id, parent_tier=nodes.tier, parent_family_id=nodes.product_family_id
    )
    both = nodes.left_join(parents, nodes.parent_product_id == parents.found_id)
    is_root = both.parent_product_id.isnull()
    fits = ibis.cases(
        (both.tier == "family", is_root),
        ((both.tier == "product") & is_root, True),
        *(
            (both.tier == below, both.parent_tier == above)
            for above, below in pairwise(PRODUCT_TIERS)
        ),
    )
    same_family = ibis.cases(
        (both.tier == "family", both.product_family_id == both.product_id),
        (is_root, True),
        else_=both.product_family_id == both.parent_family_id,
    )
    return both.filter(~fits.fill_null(False) | ~same_family.fill_null(False)).select(
        "product_id", "tier", "parent_product_id", "parent_tier", "product_family_id"
    )
