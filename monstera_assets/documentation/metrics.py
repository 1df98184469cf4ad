"""The page of the metric catalog, made from the declarations of the gold tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monstera_assets.gold.gold_metric_catalog import catalog_rows
from monstera_assets.markdown import code, page, table, text
from monstera_assets.warehouse.table_asset import TableAsset


def metric_catalog_page(assets: Sequence[TableAsset]) -> str:
    """Every metric by table: what it is, how it is computed, in which unit, with its caveats."""
    rows = catalog_rows(assets)
    names = list(dict.fromkeys(str(row["table_name"]) for row in rows))
    blocks = [
        "Names follow [Entity] [Action or State] [Time Period] [by Segment]; columns are their"
        " snake_case. Weekly and Monthly mean the 7 and 30 days that end on the date. The same is in"
        " `gold.gold_metric_catalog`.",
        table(
            ("table", "metrics", "one row is", "refresh"),
            (
                (
                    f"[{code(name)}](#{name})",
                    str(len(of_table)),
                    text(str(of_table[0]["grain"])),
                    text(str(of_table[0]["refresh"])),
                )
                for name in names
                for of_table in [_of(rows, name)]
            ),
        ),
    ]
    for name in names:
        blocks += _section(name, _of(rows, name))
    return page("Metric catalog", "the declarations of the gold tables", blocks)


def _of(rows: Iterable[dict[str, object]], name: str) -> list[dict[str, object]]:
    return [row for row in rows if row["table_name"] == name]


def _section(name: str, rows: Sequence[dict[str, object]]) -> list[str]:
    first = rows[0]
    facts = [
        f"- Told by: {text(str(first['dimensions']))}",
        f"- Made from: {text(str(first['source_tables']))}",
        f"- Business owner: {text(str(first['business_owner']))}; technical owner:"
        f" {text(str(first['technical_owner']))}; dashboard owner:"
        f" {text(str(first['dashboard_owner']))}",
    ]
    return [
        f"## {name}",
        "\n".join(facts),
        table(
            ("metric", "column", "what it is", "formula", "unit", "caveats"),
            (
                (
                    text(str(row["metric_name"])),
                    code(str(row["column_name"])),
                    text(str(row["description"])),
                    text(str(row["formula"])),
                    text(str(row["unit"])),
                    text(str(row["caveats"])),
                )
                for row in rows
            ),
        ),
    ]
