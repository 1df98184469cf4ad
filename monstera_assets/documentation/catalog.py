"""Read a source's product catalog with the same rules as a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import duckdb

from monstera_assets.bronze import bronze_product_catalog
from monstera_assets.bronze.load_entities import entity_batch
from monstera_assets.bronze.reading import Reading
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine


@dataclass(frozen=True)
class Node:
    """One taxonomy node, with columns from bronze_product_catalog."""

    product_id: str
    product_name: str
    tier: str
    parent_product_id: str | None
    is_active: bool
    qualifying_event_types: str
    activation_event_types: str
    active_days: int | None
    dormant_days: int | None


@dataclass(frozen=True)
class Catalog:
    """All taxonomy nodes, ordered by id."""

    nodes: Sequence[Node]

    @property
    def families(self) -> list[Node]:
        """The family nodes."""
        return [node for node in self.nodes if node.tier == "family"]

    def below(self, node: Node) -> list[Node]:
        """Return a node's children."""
        return [other for other in self.nodes if other.parent_product_id == node.product_id]

    def branch(self, node: Node, above: tuple[Node, ...] = ()) -> list[Node]:
        """Return a node and its descendants, with parents listed first and cycles broken."""
        path = (*above, node)
        below = [self.branch(other, path) for other in self.below(node) if other not in path]
        return [node, *(found for branch in below for found in branch)]

    @property
    def outside(self) -> list[Node]:
        """The nodes that do not belong to any family's branch."""
        placed = [node for family in self.families for node in self.branch(family)]
        return [node for node in self.nodes if node not in placed]


def read_catalog(source: Path) -> Catalog:
    """Return the accepted rows of a source's product catalog.

    Raises:
        SourceError: If the source cannot be read.
    """
    batch = entity_batch(discover_source(source), Reading(earliest=date.min))
    columns = ", ".join(field.name for field in fields(Node))
    with duckdb.connect(config=dict(connection_config())) as connection:
        for table in batch.contents:
            DuckDBEngine(connection).prepare(table)
        rows = batch.contents[bronze_product_catalog.TABLE](connection)
        found = connection.sql(str(rows)).project(columns).order("product_id")
        return Catalog([Node(*row) for row in found.fetchall()])
