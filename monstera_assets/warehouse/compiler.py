"""From Ibis expressions over unbound tables to DuckDB's SQL."""

from __future__ import annotations

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
from ibis.common.graph import Graph


def compile_duckdb(expression: ir.Table) -> str:
    """The DuckDB SQL of an Ibis expression over unbound tables.

    What the expression marks with `.view()` becomes a materialized common table expression: it is
    compiled, planned and run once, however many parts of the expression read it.
    """
    stages: list[str] = []
    node = expression.op()
    while (shared := _innermost_view(node)) is not None:
        name = f"stage_{len(stages) + 1}"
        stages.append(f"{name} AS MATERIALIZED ({_compile(shared)})")
        node = node.replace({shared: ops.UnboundTable(name=name, schema=shared.schema)})
    if not stages:
        return _compile(node)
    return f"WITH {', '.join(stages)} SELECT * FROM ({_compile(node)})"


def _innermost_view(node: ops.Node) -> ops.Relation | None:
    """What the first view in dependency order is a view of, if it is more than a table."""
    for candidate in Graph.from_bfs(node).toposort()[0]:
        if isinstance(candidate, ops.SelfReference) and not isinstance(
            candidate.parent, ops.PhysicalTable
        ):
            return candidate.parent
    return None


def _compile(node: ops.Node) -> str:
    return str(ibis.to_sql(node.to_expr(), dialect="duckdb", pretty=False))
