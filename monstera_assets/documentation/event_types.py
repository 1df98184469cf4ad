"""The pages of qualifying and activation events, product by product, made from the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monstera_assets.documentation.catalog import Catalog, Node
from monstera_assets.markdown import code, codes, page, table, text

_MADE_FROM = "the product catalog of the source"


def qualifying_events_page(catalog: Catalog) -> str:
    """What counts as use, for each product with its features and sub-features."""
    return page(
        "Qualifying events",
        _MADE_FROM,
        [
            "A qualifying event is intentional work that creates value. It makes a user active on"
            " the platform, and in the product to which the event rolls up. Logins, page views,"
            " session starts, changes of settings and notifications never qualify.",
            *_products(catalog, "qualifying event types", lambda node: node.qualifying),
        ],
    )


def activation_events_page(catalog: Catalog) -> str:
    """What activates a user, for each product with its features and sub-features."""
    return page(
        "Activation events",
        _MADE_FROM,
        [
            "The first activation event of a user in a product is the user's activation there: it"
            " ends the state `new_to_product`. Every activation event qualifies as well.",
            *_products(catalog, "activation event types", lambda node: node.activation),
        ],
    )


def _products(catalog: Catalog, heading: str, types: Callable[[Node], Sequence[str]]) -> list[str]:
    blocks: list[str] = []
    for family in catalog.families:
        blocks.append(f"## {text(family.name)}")
        for product in catalog.below(family):
            blocks += [
                f"### {text(product.name)}",
                " ".join(filter(None, (_retired(product), _windows(product)))),
                _nodes(catalog.branch(product), heading, types),
            ]
    if catalog.outside:
        blocks += [
            "## Outside of the taxonomy",
            "These nodes hang from no product of a family, and their events roll up to none.",
            _nodes(catalog.outside, heading, types),
        ]
    return blocks


def _nodes(nodes: Sequence[Node], heading: str, types: Callable[[Node], Sequence[str]]) -> str:
    return table(
        ("node", "name", "tier", heading),
        (
            (code(node.product_id), text(node.name), text(node.tier), codes(types(node)) or "none")
            for node in nodes
        ),
    )


def _retired(product: Node) -> str:
    return (
        ""
        if product.is_active
        else "Retired: it keeps its events, which still count on the platform, but has no states."
    )


def _windows(product: Node) -> str:
    own = [
        f"{limit} up to {days} days"
        for limit, days in (("active", product.active_days), ("dormant", product.dormant_days))
        if days is not None
    ]
    return f"Own windows: {', '.join(own)} after qualifying use." if own else ""
