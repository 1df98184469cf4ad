"""From Ibis expressions over unbound tables to DuckDB's SQL."""

from __future__ import annotations

import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from ibis.common.graph import Graph

from monstera_assets.lifecycle.workflows import MatchedInOrder


class WarehouseCompiler(DuckDBCompiler):  # type: ignore[misc]  # Ibis has no stubs
    """Ibis's compiler for DuckDB, with the operations that the lifecycle adds to Ibis."""

    def visit_MatchedInOrder(  # noqa: N802  # the compiler finds a visitor by the operation's name
        self, op: MatchedInOrder, *, steps: sge.Expression, moments: sge.Expression
    ) -> sge.Expression:
        """Fold the pairs into the list of matched moments, whose length is the last step matched."""
        matched, pair = sg.to_identifier("matched"), sg.to_identifier("pair")
        number, moment = (self.f.struct_extract(pair, position) for position in (1, 2))
        next_one = self.if_(
            number.eq(self.f.len(matched) + 1), self.f.list_append(matched, moment), matched
        )
        fold: sge.Expression = self.f.list_reduce(
            self.f.list_zip(steps, moments),
            sge.Lambda(this=next_one, expressions=[matched, pair]),
            self.cast(self.f.array(), op.dtype),
        )
        return fold


_COMPILER = WarehouseCompiler()


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
    compiled = _COMPILER.to_sqlglot(node.to_expr())
    return str(compiled.sql(dialect=_COMPILER.dialect))
