"""Find out which tables an engine can compute, by compiling their expressions for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count

import ibis.common.exceptions as com
import ibis.expr.operations as ops
import ibis.expr.types as ir
from ibis.backends.sql.compilers.base import SQLGlotCompiler

from monstera_assets.documentation.pages import render
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.dialects import COMPILERS
from monstera_assets.warehouse.portable import in_portable_stages
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Table, register

_UNDEFINED = re.compile(r"Compilation rule for '(\w+)' operation is not defined")


def render_dialects(assets: Sequence[TableAsset], tables: Sequence[Table]) -> Mapping[str, str]:
    """Return the content of the page about other engines, keyed by file name."""
    return {"dialects.md": render("dialects.md", lacking=lacking(assets, tables))}


def lacking(
    assets: Sequence[TableAsset], tables: Sequence[Table]
) -> Mapping[str, Mapping[str, str]]:
    """Return what each engine lacks to compute each table whose rows are a query.

    Returns:
        By table and engine: the missing operations, or an empty string if the expression compiles.
    """
    policy = LifecyclePolicy()
    for table in tables:
        register(table)
    declared = {table.name: table for table in tables}
    found = {}
    for asset in sorted(assets, key=lambda asset: asset.table.name):
        if asset.is_query:
            rows = asset.rows(declared, policy)
            found[asset.table.name] = {
                name: ", ".join(_missing(rows, compiler)) for name, compiler in COMPILERS.items()
            }
    return found


def _missing(rows: ir.Table, compiler: SQLGlotCompiler) -> Sequence[str]:
    """Return the operations for which a compiler raises an error, one for each stage at most."""
    missing = set()
    attempts = count(1)

    def attempt(node: ops.Node) -> str:
        try:
            compiler.to_sqlglot(node.to_expr())
        except (com.IbisError, NotImplementedError) as error:
            undefined = _UNDEFINED.match(str(error))
            missing.add(f"no {undefined[1]}" if undefined else str(error).splitlines()[0])
        return f"stage {next(attempts)}"  # writing the SQL would take longer than building it

    _, last = in_portable_stages(rows, attempt)
    attempt(last)
    return sorted(missing)
