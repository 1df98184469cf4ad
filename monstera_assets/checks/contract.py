"""Evaluate a table's contract: types, nulls, key, allowed values, references and shares.

Each rule is one SQL statement that reads only the columns it needs. A single statement for all
rules would carry all columns through the reference joins. If the key includes the day, the rules
read only the days that the run wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

from monstera_assets.checks.rules import Finding, as_finding
from monstera_assets.warehouse.engine import Engine
from monstera_assets.warehouse.tables import Table, same_type
from monstera_assets.warehouse.windows import DateWindow

TYPES = "types_as_declared"
NOT_NULL = "no_nulls"
UNIQUE = "key_is_unique"
ALLOWED = "values_allowed"
REFERENCES = "references_exist"
SHARES = "shares_in_range"

DESCRIPTIONS = {
    TYPES: "The stored columns and their types match the declaration.",
    NOT_NULL: "Non-nullable columns contain no nulls.",
    UNIQUE: "No two rows have the same key.",
    ALLOWED: "Columns with a list of allowed values contain no other values.",
    REFERENCES: "Every referenced row exists in the referenced table.",
    SHARES: "Every share is between 0 and 1.",
}


@dataclass(frozen=True)
class _Part:
    """The part of a rule's statement that counts violations in one column."""

    rule: str
    label: str
    count: str


def contract_rules(table: Table) -> tuple[str, ...]:
    """Return the names of the contract rules that apply to a table."""
    return tuple(
        name
        for name, applies in (
            (TYPES, True),
            (NOT_NULL, any(not column.nullable for column in table.columns)),
            (UNIQUE, bool(table.key)),
            (ALLOWED, any(column.allowed for column in table.columns)),
            (REFERENCES, any(column.references for column in table.columns)),
            (SHARES, any(column.is_share for column in table.columns)),
        )
        if applies
    )


def evaluate_contract(
    engine: Engine, table: Table, window: DateWindow | None
) -> dict[str, Finding]:
    """Evaluate a table's contract for the days in a window or for all rows.

    Returns:
        Findings by rule name.
    """
    findings = {TYPES: _types(engine, table)}
    if not findings[TYPES].passed:
        # The other rules can be evaluated only if the declared columns exist.
        unknown = "not evaluated: the columns do not match the declaration"
        return {
            name: findings.get(name, Finding(name, 1, note=unknown))
            for name in contract_rules(table)
        }
    for parts in (
        *(_null_parts(table), _allowed_parts(table)),
        *(_reference_parts(table, window), _share_parts(table)),
    ):
        if parts:
            finding = _count(engine, table, parts, window)
            findings[finding.rule] = finding
    if table.key:
        findings[UNIQUE] = as_finding(UNIQUE, engine.repeated_keys(table, window))
    return {name: findings[name] for name in contract_rules(table)}


def _types(engine: Engine, table: Table) -> Finding:
    stored = engine.stored_columns(table)
    declared = {column.name: column.stored_type for column in table.columns}
    differences = tuple(
        (name, declared.get(name, "not declared"), stored.get(name, "missing"))
        for name in sorted(declared.keys() | stored.keys())
        if name not in declared or name not in stored or not same_type(declared[name], stored[name])
    )
    return Finding(TYPES, len(differences), ("column", "declared", "stored"), differences)


def _null_parts(table: Table) -> list[_Part]:
    return [
        # If a column has no nulls, DuckDB can answer from statistics.
        _Part(NOT_NULL, column.name, f"count(*) - count({_column(column.name)})")
        for column in table.columns
        if not column.nullable
    ]


def _allowed_parts(table: Table) -> list[_Part]:
    return [
        _Part(
            ALLOWED,
            column.name,
            _rows_where(f"{_column(column.name)} NOT IN ({', '.join(map(_text, column.allowed))})"),
        )
        for column in table.columns
        if column.allowed
    ]


def _reference_parts(table: Table, window: DateWindow | None) -> list[_Part]:
    # Subqueries of their own, since some engines allow NOT IN only in the condition of a query.
    where = _where(table, window) or " WHERE true"
    return [
        _Part(
            REFERENCES,
            column.name,
            f"(SELECT count(*) FROM {table.qualified_name} AS checked{where} AND"
            f" {_column(column.name)} IS NOT NULL AND {_column(column.name)} NOT IN (SELECT"
            f" {_quoted(column.references.column)} FROM"
            f" {column.references.layer}.{_quoted(column.references.table)}))",
        )
        for column in table.columns
        if column.references
    ]


def _share_parts(table: Table) -> list[_Part]:
    return [
        # NaN is greater than all other numbers, so it is not between 0 and 1.
        _Part(SHARES, column.name, _rows_where(f"{_column(column.name)} NOT BETWEEN 0 AND 1"))
        for column in table.columns
        if column.is_share
    ]


def _rows_where(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _count(engine: Engine, table: Table, parts: list[_Part], window: DateWindow | None) -> Finding:
    counts = ", ".join(part.count for part in parts)
    of_rows = f" FROM {table.qualified_name} AS checked{_where(table, window)}"
    _, [row] = engine.records(f"SELECT {counts}{'' if parts[0].rule == REFERENCES else of_rows}")
    broken = tuple((part.label, int(rows)) for part, rows in zip(parts, row, strict=True) if rows)
    return Finding(parts[0].rule, sum(rows for _, rows in broken), ("column", "rows"), broken)


def _where(table: Table, window: DateWindow | None) -> str:
    if table.partition_column is None or window is None:
        return ""
    return (
        f" WHERE {_quoted(table.partition_column)} BETWEEN DATE '{window.first}'"
        f" AND DATE '{window.last}'"
    )


def _column(name: str) -> str:
    return f"checked.{_quoted(name)}"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
