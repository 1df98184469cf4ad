"""Read the source's product catalog, which decides products and flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.source.reader import RawColumn, stage_rows

CATALOG = "product_catalog"
_COLUMNS = (
    *("product_id", "tier", "parent_product_id"),
    *("activation_event_types", "qualifying_event_types", "url_prefixes"),
)


@dataclass(frozen=True)
class Catalog:
    """What the catalog decides. Without nodes or lists, the load decides."""

    has_nodes: bool
    has_lists: bool


def read_catalog(connection: duckdb.DuckDBPyConnection, source: Path) -> Catalog:
    """Create the tables that products and flags are looked up in.

    - `nodes`: the products' ids.
    - `type_products`: the product of each listed event type, which is the deepest node that lists it.
    - `listed_types`: node_id (empty: any node), event_type and activates, with the ancestors' lists.
    - `prefixes`: URL prefixes with their product, the longest first.

    Raises:
        SourceError: If the catalog cannot be read.
    """
    errors: dict[str, SourceError] = {}
    found = discover_source(source, errors) if source.is_dir() else {}
    if CATALOG in errors:
        raise errors[CATALOG]
    chosen = found.get(CATALOG) or SourceInput(CATALOG, (), by_day=False)
    columns = [RawColumn(name, required=False) for name in _COLUMNS]
    staged = stage_rows(connection, chosen, columns, "import_catalog")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE nodes AS
        WITH RECURSIVE
        rows AS (SELECT trim(product_id) AS id, lower(trim(coalesce(tier, 'product'))) AS tier,
            trim(parent_product_id) AS parent, activation_event_types AS activation,
            qualifying_event_types AS qualifying, url_prefixes
            FROM {staged.rows} WHERE trim(product_id) <> ''
            QUALIFY row_number() OVER (PARTITION BY trim(product_id) ORDER BY row_number DESC) = 1),
        above AS (
            SELECT id, id AS ancestor, 0 AS distance FROM rows
            UNION ALL
            SELECT above.id, rows.parent, distance + 1 FROM above JOIN rows ON above.ancestor = rows.id
            WHERE rows.parent IS NOT NULL AND distance < 10)
        SELECT rows.*, depth.depth, depth.ancestors FROM rows JOIN (
            SELECT id, max(distance) AS depth, list(DISTINCT ancestor) AS ancestors FROM above
            GROUP BY id) AS depth USING (id)""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE node_types AS
        SELECT id, trim(each) AS event_type, bool_or(activates) AS activates FROM (
            SELECT id, unnest(string_split(activation, '|')) AS each, true AS activates FROM nodes
            UNION ALL
            SELECT id, unnest(string_split(qualifying, '|')), false FROM nodes)
        WHERE trim(each) <> '' GROUP BY ALL""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE type_products AS
        SELECT event_type, id AS product_id FROM node_types JOIN nodes USING (id)
        WHERE tier <> 'family'
        QUALIFY row_number() OVER (PARTITION BY event_type ORDER BY depth DESC, id) = 1""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE listed_types AS
        SELECT nodes.id AS node_id, types.event_type, bool_or(types.activates) AS activates
        FROM nodes JOIN node_types AS types ON list_contains(nodes.ancestors, types.id)
        GROUP BY ALL
        UNION ALL
        SELECT '', event_type, bool_or(activates) FROM node_types GROUP BY event_type""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE prefixes AS
        SELECT trim(each) AS prefix, id AS product_id FROM (
            SELECT id, unnest(string_split(url_prefixes, '|')) AS each FROM nodes)
        WHERE trim(each) <> '' ORDER BY length(trim(each)) DESC, id""")
    [(nodes, lists)] = connection.execute(
        "SELECT (SELECT count(*) FROM nodes), (SELECT count(*) FROM node_types)"
    ).fetchall()
    return Catalog(nodes > 0, lists > 0)
