"""The site's pages and the links between them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from monstera_assets.dashboards.model import Link
from monstera_assets.dashboards.reading import Reader
from monstera_assets.gold.published_ids import NONE, own_id
from monstera_assets.warehouse.errors import MissingTableError

HOME = "index.html"
MAIN_PAGES = tuple(
    Link(name, f"{name.lower()}.html")
    for name in (
        *("Lifecycle", "Retention", "Revenue", "Products", "Activity", "Risk", "Accounts"),
    )
)
"""The links in the navigation bar."""


@dataclass(frozen=True)
class Product:
    """An active product. `file` is the file name of its page."""

    id: str
    name: str
    file: str


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
            "SELECT product_id, product_name, tier = 'product' AND is_active"
            " FROM bronze_product_catalog ORDER BY product_name, product_id"
        )
    except MissingTableError:
        return Catalog((), {})
    uses = Counter(name for _, name, _ in nodes)
    names = {node: name if uses[name] == 1 else f"{name} ({node})" for node, name, _ in nodes}
    slugs = file_names([node for node, _, has_page in nodes if has_page])
    made = (Product(node, names[node], f"product_{slug}.html") for node, slug in slugs.items())
    return Catalog(tuple(made), names)


def page_file(kind: str, entity: str) -> str:
    """Return the file name of an account's or a person's page, which depends on nothing but the id."""
    plain = re.sub(r"[^a-z0-9_]+", "_", entity.lower())[:60]
    digest = hashlib.sha256(entity.encode()).hexdigest()[:12]
    return f"{kind}_{plain if plain == entity else f'{plain}-{digest}'}.html"


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
