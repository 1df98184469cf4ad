"""All generated pages: by file name, and written to a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from monstera_assets.checks.rules import Rule
from monstera_assets.documentation.alerts import alerts_page
from monstera_assets.documentation.catalog import Catalog
from monstera_assets.documentation.dictionary import data_dictionary_page
from monstera_assets.documentation.event_types import (
    activation_events_page,
    qualifying_events_page,
)
from monstera_assets.documentation.lineage import lineage_page
from monstera_assets.documentation.metrics import metric_catalog_page
from monstera_assets.documentation.segments import segments_page
from monstera_assets.documentation.states import states_page
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Table


def render_pages(
    graph: AssetGraph,
    assets: Sequence[TableAsset],
    tables: Sequence[Table],
    rules: Sequence[Rule],
    catalog: Catalog,
) -> Mapping[str, str]:
    """File name to content.

    Args:
        graph: the assets as Dagster loads them.
        assets: the table assets of silver and gold.
        tables: all declared tables.
        rules: all rules of tables.
        catalog: the source's product catalog.
    """
    return {
        "activation_events.md": activation_events_page(catalog),
        "alerts.md": alerts_page(rules),
        "data_dictionary.md": data_dictionary_page(tables, rules),
        "lineage.md": lineage_page(graph),
        "metric_catalog.md": metric_catalog_page(assets),
        "qualifying_events.md": qualifying_events_page(catalog),
        "segments.md": segments_page(),
        "states.md": states_page(),
    }


def write_pages(pages: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the pages, replacing those of the same name; where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in pages.items():
        path = folder / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written
