"""The data dictionary, made from the declarations of tables and rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monstera_assets.checks.contract import DESCRIPTIONS, contract_rules
from monstera_assets.checks.rules import Rule
from monstera_assets.markdown import anchor, code, codes, page, table, text
from monstera_assets.warehouse.tables import Column, Layer, Table, duckdb_type


def data_dictionary_page(tables: Sequence[Table], rules: Sequence[Rule]) -> str:
    """Every table by layer: what it is, its columns and its checks."""
    blocks = [
        "Tables lie in the schema of their layer, as in `silver.silver_user_current_state`. Types are"
        " DuckDB's, timestamps UTC. A blocking check that fails stops what comes after the table."
    ]
    for layer in Layer:
        of_layer = sorted(
            (declared for declared in tables if declared.layer == layer),
            key=lambda declared: declared.name,
        )
        blocks += [f"## {layer.title()}", _contents(of_layer)]
        for declared in of_layer:
            blocks += _section(
                declared,
                sorted(
                    (rule for rule in rules if rule.table.name == declared.name),
                    key=lambda rule: rule.name,
                ),
            )
    return page("Data dictionary", "the declarations of the tables and their rules", blocks)


def _contents(tables: Iterable[Table]) -> str:
    return table(
        ("table", "one row is"),
        ((anchor(declared.name), text(declared.grain)) for declared in tables),
    )


def _section(declared: Table, rules: Sequence[Rule]) -> list[str]:
    facts = [
        f"- Grain: {text(declared.grain)}",
        f"- Key: {codes(declared.key) or 'none'}",
        f"- Partition column: {code(declared.partition_column or '') or 'none, kept whole'}",
        f"- Owner: {', '.join(text(owner) for owner in declared.owners)}",
    ]
    return [
        f"### {declared.name}",
        text(declared.description),
        "\n".join(facts),
        table(
            ("column", "type", "nullable", "description", "allowed values", "refers to"),
            (_column(column) for column in declared.columns),
        ),
        table(
            ("check", "kind", "if it fails", "what holds"),
            (
                *(
                    (code(name), "contract", "blocking", text(DESCRIPTIONS[name]))
                    for name in contract_rules(declared)
                ),
                *(
                    (
                        code(rule.name),
                        "rule",
                        "blocking" if rule.blocking else "warning",
                        text(rule.description),
                    )
                    for rule in rules
                ),
            ),
        ),
    ]


def _column(column: Column) -> tuple[str, ...]:
    reference = column.references
    return (
        code(column.name),
        code(duckdb_type(column.dtype)),
        "yes" if column.nullable else "no",
        text(column.description),
        codes(column.allowed or ()),
        f"[{code(f'{reference.table}.{reference.column}')}](#{reference.table})"
        if reference
        else "",
    )
