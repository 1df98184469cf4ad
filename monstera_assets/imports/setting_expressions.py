"""Check the SQL expressions in the settings, and find the raw columns that they use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from monstera_assets.settings import SettingsError
from monstera_assets.source.sql import identifier

if TYPE_CHECKING:
    import sqlglot.expressions as sge

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def checked_expression(text: str, setting: str) -> str:
    """Return an expression in parentheses if it is exactly one scalar expression.

    Raises:
        SettingsError: If the text is not one expression, or contains a query.
    """
    if _is_name(text):
        return identifier(text.strip())
    _parsed(text, setting)
    return f"({text}\n)"


def columns_of(text: str, setting: str) -> list[str]:
    """Return the names of the raw columns in an expression, in order of appearance.

    Raises:
        SettingsError: If the text is not one expression, or contains a query.
    """
    if _is_name(text):
        return [text.strip()]
    import sqlglot.expressions as sge

    found = _parsed(text, setting).find_all(sge.Column, bfs=False)
    return list(dict.fromkeys(column.parts[0].name for column in found))


def _is_name(text: str) -> bool:
    """Return whether a text is a column name, which may also be a word of SQL, such as `user`."""
    name = text.strip()
    return bool(_NAME.fullmatch(name)) and name.lower() not in {"true", "false", "null"}


def _parsed(text: str, setting: str) -> sge.Expression:
    # Slow to import, and not needed for an import without expressions.
    import sqlglot as sg
    import sqlglot.expressions as sge
    from sqlglot.errors import SqlglotError

    try:
        statements = sg.parse(f"SELECT ({text}\n)", dialect="duckdb")
    except SqlglotError as error:
        raise SettingsError(f"{setting} is not an SQL expression: {_first_line(error)}") from error
    select = statements[0] if len(statements) == 1 else None
    if (
        not isinstance(select, sge.Select)
        or len(select.expressions) != 1
        or not isinstance(select.expressions[0], sge.Paren)
        or any(value for key, value in select.args.items() if key not in ("expressions", "kind"))
    ):
        raise SettingsError(f"{setting} must be one SQL expression (given: {text!r}).")
    expression = select.expressions[0]
    refused = (sge.Query, sge.Command, sge.DDL, sge.Star, sge.AggFunc, sge.Window)
    if expression.find(*refused) is not None:
        raise SettingsError(
            f"{setting} must be a scalar expression without subqueries, aggregates or window functions"
            f" (given: {text!r})."
        )
    return expression


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
