"""The product catalog of a source, read as the load reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import duckdb

from monstera_assets.bronze import bronze_product_catalog
from monstera_assets.bronze.load_entities import entity_batch
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.connection import connection_config

_COLUMNS = (
    "product_id",
    "product_name",
    "tier",
    "parent_product_id",
    "is_active",
    "qualifying_event_types",
    "activation_event_types",
    "active_days",
    "dormant_days",
)


@dataclass(frozen=True)
class Node:
    """One node of the taxonomy."""

    product_id: str
    name: str
    tier: str
    parent_id: str | None
    is_active: bool
    qualifying: tuple[str, ...]
    activation: tuple[str, ...]
    active_days: int | None
    dormant_days: int | None


@dataclass(frozen=True)
class Catalog:
    """The taxonomy, in the order of its ids."""

    nodes: Sequence[Node]

    @property
    def families(self) -> list[Node]:
        """The nodes at the top."""
        return [node for node in self.nodes if node.tier == "family"]

    def below(self, node: Node) -> Iterator[Node]:
        """The nodes right below one."""
        return (other for other in self.nodes if other.parent_id == node.product_id)

    def branch(self, node: Node) -> list[Node]:
        """A node and all below it, each before its own."""
        found = [node]
        for seen in found:
            found += [other for other in self.below(seen) if other not in found]
        return sorted(found, key=self._path)

    @cached_property
    def outside(self) -> list[Node]:
        """The nodes that hang from no product of a family."""
        placed = {
            node.product_id
            for family in self.families
            for product in self.below(family)
            for node in (family, *self.branch(product))
        }
        return [
            node
            for node in self.nodes
            if node.product_id not in placed and node not in self.families
        ]

    def _path(self, node: Node) -> tuple[str, ...]:
        by_id = {other.product_id: other for other in self.nodes}
        path: list[str] = []
        here: Node | None = node
        while here is not None and here.product_id not in path:
            path.insert(0, here.product_id)
            here = by_id.get(here.parent_id or "")
        return tuple(path)


def read_catalog(source: Path) -> Catalog:
    """The accepted rows of a source's product catalog.

    Raises:
        SourceError: the source cannot be read.
    """
    batch = entity_batch(discover_source(source), earliest=date.min)
    with duckdb.connect(config=dict(connection_config())) as connection:
        rows = batch.contents[bronze_product_catalog.TABLE](connection)
        query = compile_duckdb(rows.select(*_COLUMNS).order_by("product_id"))
        return Catalog([_node(*row) for row in connection.execute(query).fetchall()])


def _node(
    product_id: str,
    name: str,
    tier: str,
    parent_id: str | None,
    is_active: bool,  # the columns in their order
    qualifying: str,
    activation: str,
    active_days: int | None,
    dormant_days: int | None,
) -> Node:
    return Node(
        product_id,
        name,
        tier,
        parent_id,
        is_active,
        tuple(filter(None, qualifying.split("|"))),
        tuple(filter(None, activation.split("|"))),
        active_days,
        dormant_days,
    )
