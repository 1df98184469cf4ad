"""Optional dependencies of the package, and the tables that need them.

A table declares the extra that it needs. Without the extra, the graph contains neither the table nor
its checks, and expressions that also read the table read an empty table instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir

if TYPE_CHECKING:
    from monstera_assets.warehouse.tables import Table

PREDICT = "predict"
"""The extra for churn scores and recommendations."""

SPARK = "spark"
"""The extra for Spark as the engine."""

_MODULES: dict[str, str] = {PREDICT: "sklearn", SPARK: "pyspark"}
"""A module that each extra installs."""


def is_installed(extra: str) -> bool:
    """Return whether an extra is installed, without importing it."""
    return find_spec(_MODULES[extra]) is not None


def how_to_install(table: Table) -> str:
    """Return why a table is absent, and how to install the extra that the table needs."""
    return (
        f"{table.name} is not computed, because the extra `{table.extra}` is not installed. Install it"
        f" with: pip install 'monstera-assets[{table.extra}]'. Then run: monstera run"
    )


def without_tables(function: Callable[..., Any], absent: Mapping[str, Table]) -> Callable[..., Any]:
    """Return a function of Ibis tables with an empty table in place of each absent table.

    Args:
        function: the function, whose positional parameters are named after tables.
        absent: the absent tables by name.

    Returns:
        The function without the parameters of absent tables, or the same function if it has none.
    """
    signature = inspect.signature(function)
    positional = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    if not absent.keys() & {*positional}:
        return function

    @wraps(function)
    def on_present(*tables: Any, **keywords: Any) -> Any:
        given = iter(tables)
        every = [_empty(absent[name]) if name in absent else next(given) for name in positional]
        return function(*every, **keywords)

    present = [one for name, one in signature.parameters.items() if name not in absent]
    on_present.__signature__ = signature.replace(parameters=present)  # type: ignore[attr-defined]
    return on_present


def _empty(table: Table) -> ir.Table:
    """Return a query with a table's columns and no rows."""
    no_rows = ibis.range(0).unnest().name("row").as_table()
    return no_rows.select(
        **{name: ibis.null(dtype) for name, dtype in table.relation.schema().items()}
    )
