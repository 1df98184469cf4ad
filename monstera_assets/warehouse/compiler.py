"""From Ibis expressions over unbound tables to DuckDB's SQL."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler

from monstera_assets.lifecycle.shares import FactsByKey
from monstera_assets.lifecycle.workflows import MatchedInOrder


class WarehouseCompiler(DuckDBCompiler):  # type: ignore[misc]  # Ibis has no stubs
    """Ibis's compiler for DuckDB, with the operations that the lifecycle adds to Ibis."""

    def visit_Hash(self, op: ops.Hash, *, arg: sge.Expression) -> sge.Expression:  # noqa: N802
        """63 of the 64 bits of DuckDB's hash, which is unsigned: Ibis goes through a bit string."""
        shifted = sge.BitwiseRightShift(this=self.f.hash(arg), expression=sge.convert(1))
        hashed: sge.Expression = self.cast(shifted, op.dtype)
        return hashed

    def visit_FactsByKey(self, op: FactsByKey, *, parent: Any, key: str) -> Any:  # noqa: N802
        """The facts: the mark is for whoever runs them in shares."""
        del op, key
        return parent

    def visit_MatchedInOrder(  # noqa: N802  # the compiler finds a visitor by the operation's name
        self, op: MatchedInOrder, *, steps: sge.Expression
    ) -> sge.Expression:
        """Fold the steps into the list of matched moments, whose length is the last step matched."""
        matched, step = sg.to_identifier("matched"), sg.to_identifier("step")
        minus_number, moment = (
            self.f.struct_extract(step, name) for name in ("minus_number", "moment")
        )
        next_one = self.if_(
            minus_number.eq(-1 - self.f.len(matched)), self.f.list_append(matched, moment), matched
        )
        fold: sge.Expression = self.f.list_reduce(
            steps,
            sge.Lambda(this=next_one, expressions=[matched, step]),
            self.cast(self.f.array(), op.dtype),
        )
        return fold


_COMPILER = WarehouseCompiler()


def compile_duckdb(expression: ir.Table) -> str:
    """The DuckDB SQL of an Ibis expression over unbound tables.

    What the expression marks with `.view()` becomes a materialized common table expression: it is
    compiled, planned and run once, however many parts of the expression read it.
    """
    with _collector_at_rest():
        return _compile_in_stages(expression.op())


def _compile_in_stages(root: ops.Node) -> str:
    stages: list[str] = []
    shared = _shared(root)

    def rewrite(node: ops.Node, below: Mapping[str, Any] | None) -> ops.Node:
        """A node over what is below it; a shared one becomes a stage, whose table stands for it."""
        rewritten = node.__recreate__(below) if below else node
        if node not in shared:
            return rewritten
        name = f"stage_{len(stages) + 1}"
        stages.append(f"{name} AS MATERIALIZED ({_compile(rewritten)})")
        return ops.UnboundTable(name=name, schema=rewritten.schema)

    if not shared:
        return _compile(root)
    # One pass from the leaves up: what a stage reads is a stage before it.
    last = root.replace(rewrite)
    return f"WITH {', '.join(stages)} SELECT * FROM ({_compile(last)})"


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Without Python's search for cycles, which costs a third of the time to compile.

    A compilation makes hundreds of thousands of small objects, which all live until its end.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _shared(root: ops.Node) -> frozenset[ops.Node]:
    """What there are views of, and facts of keys, if it is more than a table."""
    return frozenset(
        view.parent
        for view in root.find((ops.SelfReference, FactsByKey))
        if not isinstance(view.parent, ops.PhysicalTable)
    )


def _compile(node: ops.Node) -> str:
    compiled = _COMPILER.to_sqlglot(node.to_expr())
    return str(compiled.sql(dialect=_COMPILER.dialect))
