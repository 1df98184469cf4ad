"""The site's pages and the links between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from monstera_assets.bronze.bronze_product_catalog import TABLE as CATALOG
from monstera_assets.dashboards.model import Link, Page, Section, Tile
from monstera_assets.dashboards.reading import Reader
from monstera_assets.gold.published_ids import NONE, own_id
from monstera_assets.warehouse.errors import MissingTableError

HOME = "index.html"
HOME_LINK = Link("Home", HOME)
OVERALL, SEGMENTS, ACTIVITY = "overall", "segments", "activity"
ACCOUNTS, CROSS_PRODUCT = "accounts.html", "cross_product.html"
VIEWS = {OVERALL: "Overall View", SEGMENTS: "Segment View", ACTIVITY: "Activity View"}
"""Titles of the platform and product views, keyed by the view's name in file names."""


@dataclass(frozen=True)
class Product:
    """An active product, which `slug` identifies in file names."""

    id: str
    name: str
    slug: str

    def file(self, view: str) -> str:
        """Return the file name of a view."""
        return f"product_{self.slug}_{view}.html"


@dataclass(frozen=True)
class Catalog:
    """The active products, and the unique names of all product catalog nodes by id."""

    products: tuple[Product, ...]
    names: dict[str, str]

    def name(self, node: str) -> str:
        """Return the name of a product, feature or sub-feature, or its id if the name is unknown."""
        return self.names.get(node, node)

    def published_name(self, node: str) -> str:
        """Return the name for a published id, which can be `none`."""
        return "None" if node == NONE else self.name(own_id(node))


def read_catalog(reader: Reader) -> Catalog:
    """Return the catalog, sorted by product name, or an empty catalog if it was never materialized.

    Nodes with the same name are shown with their ids.
    """
    try:
        nodes = reader.rows(
            [CATALOG],
            "SELECT product_id, product_name, tier = 'product' AND is_active"
            f" FROM {CATALOG.qualified_name} ORDER BY product_name, product_id",
        )
    except MissingTableError:
        return Catalog((), {})
    uses = Counter(name for _, name, _ in nodes)
    names = {node: name if uses[name] == 1 else f"{name} ({node})" for node, name, _ in nodes}
    active = [node for node, _, has_pages in nodes if has_pages]
    slugs = file_names(active)
    return Catalog(tuple(Product(node, names[node], slugs[node]) for node in active), names)


def file_names(ids: Sequence[str]) -> dict[str, str]:
    """Return a unique slug for each id, containing only characters that are safe in file names."""
    names: dict[str, str] = {}
    for node in ids:
        plain = re.sub(r"[^a-z0-9]+", "_", node.lower()).strip("_")[:60] or "product"
        name, number = plain, 2
        while name in names.values():
            name, number = f"{plain}_{number}", number + 1
        names[node] = name
    return names


def view_file(view: str, product: Product | None) -> str:
    """Return the file name of a product or platform view."""
    return product.file(view) if product else f"{view}.html"


def view_page(
    view: str,
    catalog: Catalog,
    product: Product | None,
    lead: str,
    sections: Sequence[Section],
    tiles: Sequence[Tile] = (),
) -> Page:
    """Create a product or platform view with links to related views."""
    others = (other for other in catalog.products if other is not product)
    return Page(
        file=view_file(view, product),
        title=f"{product.name}: {VIEWS[view]}" if product else VIEWS[view],
        lead=lead,
        up=(HOME_LINK, Link(VIEWS[view], view_file(view, None))) if product else (HOME_LINK,),
        siblings=tuple(
            Link(text.removesuffix(" View"), view_file(one, product), current=one == view)
            for one, text in VIEWS.items()
        ),
        below=tuple(Link(other.name, other.file(view)) for other in others),
        below_heading=f"This view for {'other products' if product else 'each product'}",
        tiles=tuple(tiles),
        sections=tuple(sections),
    )


def main_pages() -> tuple[Link, ...]:
    """Return the navigation bar's links."""
    return (
        *(Link(text, view_file(view, None)) for view, text in VIEWS.items()),
        Link("Accounts", ACCOUNTS),
        Link("Cross-Product", CROSS_PRODUCT),
    )
