"""The page of lineage, made from the asset graph of the definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dagster import AssetKey
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from monstera_assets.markdown import code, codes, mermaid, page, table
from monstera_assets.warehouse.tables import Layer

Reads = Mapping[str, frozenset[str]]


def lineage_page(graph: AssetGraph) -> str:
    """The asset graph as a flowchart by layer, then table by table."""
    layers = {
        layer: _names(
            key for key in graph.get_all_asset_keys() if graph.get(key).group_name == layer
        )
        for layer in Layer
    }
    reads = {
        key.path[-1]: frozenset(_names(graph.get(key).parent_keys))
        for key in graph.get_all_asset_keys()
    }
    blocks = [
        "An arrow leads from a table to one that is computed from it. The tables of bronze are"
        " loaded from the source; an arrow between two of them means that the rows of one are"
        " checked against the other.",
        flowchart(layers, reads),
    ]
    after = sorted(key.path[-1] for key in graph.get_all_asset_keys() if key.path[0] not in layers)
    for layer, names in layers.items():
        blocks += [
            f"## {layer.title()}",
            table(
                ("table", "computed from", "read by"),
                (
                    (
                        code(name),
                        _origin(layer, sorted(reads[name])),
                        codes(sorted(other for other in reads if name in reads[other])) or "none",
                    )
                    for name in names
                ),
            ),
        ]
    blocks += [
        "## After the tables",
        table(
            ("asset", "made from"),
            ((code(name), codes(sorted(reads[name]))) for name in after),
        ),
    ]
    return page("Lineage", "the asset graph that Dagster loads", blocks)


def flowchart(layers: Mapping[Layer, list[str]], reads: Reads) -> str:
    """The graph from left to right, a box a layer."""
    lines = ["flowchart LR"]
    for layer, names in layers.items():
        lines += [f"    subgraph {layer}", *(f"        {name}" for name in names), "    end"]
    lines += [
        f"    {read} --> {name}"
        for names in layers.values()
        for name in names
        for read in sorted(reads[name])
    ]
    return mermaid(lines)


def _origin(layer: Layer, reads: list[str]) -> str:
    if layer is not Layer.BRONZE:
        return codes(reads)
    return f"the source, checked against {codes(reads)}" if reads else "the source"


def _names(keys: Iterable[AssetKey]) -> list[str]:
    return sorted(key.path[-1] for key in keys)
