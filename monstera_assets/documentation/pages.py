"""Render the generated pages. Each page uses the template with the same name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import AssetKey
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from jinja2 import Environment, PackageLoader, StrictUndefined

from monstera_assets.checks.contract import DESCRIPTIONS, contract_rules
from monstera_assets.checks.rules import Rule
from monstera_assets.documentation.catalog import Catalog
from monstera_assets.documentation.metric_examples import EXAMPLES
from monstera_assets.gold.gold_metric_catalog import catalog_rows
from monstera_assets.lifecycle import segments, states
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.markdown import anchor, code, codes, text
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Layer, Table, duckdb_type


def render_pages(
    graph: AssetGraph,
    assets: Sequence[TableAsset],
    tables: Sequence[Table],
    rules: Sequence[Rule],
    catalog: Catalog,
) -> Mapping[str, str]:
    """Return the content of each page, keyed by file name.

    `graph` is the asset graph that Dagster loads. `assets` contains the silver and gold table assets.
    """
    policy = LifecyclePolicy()
    return {
        "activation_events.md": render("activation_events.md", catalog=catalog),
        "alerts.md": render("alerts.md", rules=rules, policy=policy),
        "data_dictionary.md": render(
            "data_dictionary.md",
            layers=list(Layer),
            tables=sorted(tables, key=lambda table: table.name),
            rules=rules,
            contract_rules=contract_rules,
            contract_descriptions=DESCRIPTIONS,
        ),
        "lineage.md": render("lineage.md", **_lineage(graph)),
        "metric_catalog.md": render(
            "metric_catalog.md", metrics=catalog_rows(assets, policy), examples=EXAMPLES
        ),
        "qualifying_events.md": render("qualifying_events.md", catalog=catalog),
        "segments.md": render("segments.md", segments=segments, policy=policy),
        "states.md": render("states.md", states=states, policy=policy),
    }


def render(name: str, **content: Any) -> str:
    """Render a page. Templates escape values with `text` or `code`. Other values must be Markdown."""
    environment = Environment(  # noqa: S701  # not HTML
        loader=PackageLoader("monstera_assets.documentation"),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    for function in (anchor, code, codes, text):
        environment.filters[function.__name__] = function
    environment.globals.update(codes=codes, duckdb_type=duckdb_type)
    return environment.get_template(name).render(content).rstrip() + "\n"


def write_pages(pages: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the pages to a folder, replacing existing files, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in pages.items():
        path = folder / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written


def _lineage(graph: AssetGraph) -> dict[str, Any]:
    """Return tables by layer, each asset's parents and children, and the assets that are not tables."""
    keys = graph.get_all_asset_keys()
    layers = {layer: _names(key for key in keys if key.path[0] == layer) for layer in Layer}
    return {
        "layers": layers,
        "reads": {key.path[-1]: _names(graph.get(key).parent_keys) for key in keys},
        "read_by": {key.path[-1]: _names(graph.get(key).child_keys) for key in keys},
        "after": _names(key for key in keys if key.path[0] not in layers),
    }


def _names(keys: Iterable[AssetKey]) -> list[str]:
    return sorted(key.path[-1] for key in keys)
