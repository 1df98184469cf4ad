"""Compile expressions for engines other than DuckDB.

This module has what these engines have in common: they store the stages of a query as tables, and
read a query's parameters by name. An engine's own SQL is in a compiler of its own
(`warehouse.spark_compiler`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import ibis
import ibis.common.exceptions as com
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.common.patterns import replace

from monstera_assets.lifecycle.expressions import (
    Fold,
    KeyNumber,
    Parameter,
    PartitionedByKey,
    folded,
)
from monstera_assets.lifecycle.workflows import MatchedInOrder
from monstera_assets.warehouse.compiler import Query, numbered_in_order, reading_parent
from monstera_assets.warehouse.stages import MARKS, gc_disabled, in_stages
from monstera_assets.warehouse.tables import duckdb_type


@replace(MatchedInOrder)  # type: ignore[untyped-decorator]  # Ibis has no stubs
def matched_by_fold(_: MatchedInOrder, **__: object) -> ops.Value:
    """Fold the steps into an array of matched times, whose length is the number of matched steps."""
    none = ibis.literal([], type=_.dtype)
    return folded(
        _.steps.to_expr(),
        none,
        lambda matched, step: ibis.ifelse(
            step["minus_number"] == -1 - matched.length(),
            matched.concat(ibis.array([step["moment"]])),
            matched,
        ),
    ).op()


Function = Callable[..., sge.Expression]
"""Renders a call of a DuckDB function, given the compiler, the operation and the arguments."""


class SharedOperations:
    """This project's operations, for the compilers of engines other than DuckDB."""

    # Ibis would define these operations again in each subclass.
    SIMPLE_OPS: ClassVar[Mapping[type[ops.Node], str]] = {}
    UNSUPPORTED_OPS: ClassVar[tuple[type[ops.Node], ...]] = ()
    LOWERED_OPS: ClassVar[Mapping[type[ops.Node], Any]] = {
        KeyNumber: numbered_in_order,
        MatchedInOrder: matched_by_fold,
    }
    functions: ClassVar[Mapping[str, Function]] = {}
    """How the engine renders the DuckDB functions that expressions call by name."""

    f: Any
    cast: Callable[..., sge.Expression]

    def visit_Parameter(  # noqa: N802  # Ibis finds a visitor by the operation's name
        self, op: Parameter, *, name: str, dtype: dt.DataType
    ) -> sge.Expression:
        """Compile to a named parameter."""
        del op
        return self.cast(sge.Placeholder(this=name), dtype)

    def visit_DropColumns(  # noqa: N802
        self, op: ops.DropColumns, *, parent: Any, columns_to_drop: frozenset[str]
    ) -> Any:
        """Sort the columns, which Ibis stores in a set whose order differs between processes."""
        return super().visit_DropColumns(  # type: ignore[misc]  # of Ibis's compiler
            op, parent=parent, columns_to_drop=sorted(columns_to_drop)
        )

    def visit_PartitionedByKey(  # noqa: N802
        self, op: PartitionedByKey, *, parent: Any, key: str
    ) -> Any:
        """Compile to the facts themselves."""
        del op, key
        return parent

    def visit_Fold(self, op: Fold, **_: Any) -> sge.Expression:  # noqa: N802
        """Raise an error, since SQL has no standard fold over an array."""
        del op
        raise com.UnsupportedOperationError("no fold over an array")

    def visit_SQLQueryResult(  # noqa: N802
        self, op: ops.SQLQueryResult, *, query: str, schema: Any, source: Any
    ) -> sge.Expression:
        """Translate SQL, which expressions contain in DuckDB's dialect."""
        del op, schema, source
        rows: sge.Expression = self.translated(query).subquery(copy=False)
        return rows

    def visit_SQLStringView(  # noqa: N802
        self, op: ops.SQLStringView, *, query: str, parent: sge.Expression, schema: Any
    ) -> sge.Expression:
        """Translate SQL that reads its parent under the name `GIVEN`."""
        del op, schema
        return reading_parent(self.translated(query), parent)

    def translated(self, statement: str) -> Any:
        """Parse a query in DuckDB's dialect."""
        return sg.parse_one(statement, dialect="duckdb")

    def visit_ScalarUDF(self, op: ops.ScalarUDF, **arguments: Any) -> sge.Expression:  # noqa: N802
        """Render the engine's own function, which may have another name."""
        return self._called(op, *arguments.values())

    def visit_AggUDF(self, op: ops.AggUDF, *, where: Any, **arguments: Any) -> sge.Expression:  # noqa: N802
        """Render the engine's own function, which may have another name."""
        if where is not None:
            raise com.UnsupportedOperationError(f"no condition in {op.__func_name__}")
        return self._called(op, *arguments.values())

    def _called(self, op: Any, *arguments: sge.Expression) -> sge.Expression:
        name = op.__func_name__
        if name not in self.functions:
            raise com.UnsupportedOperationError(f"no function like DuckDB's {name}")
        return self.functions[name](self, op, *arguments)


def compile_staged(
    expression: ir.Table, compiler: SQLGlotCompiler, most_repeated: int | None = None
) -> Query:
    """Compile an Ibis expression over unbound tables for an engine other than DuckDB.

    Args:
        expression: the expression.
        compiler: the engine's compiler.
        most_repeated: the number of operations that the engine may plan more than once because
            their rows are read several times, or None for any number. Larger parts become stages.

    Raises:
        ibis.common.exceptions.IbisError: If the engine lacks an operation of the expression.
    """
    with gc_disabled():
        stages, last = in_portable_stages(
            expression, lambda node: _compile(node, compiler), most_repeated
        )
        parameters = {node.name for node in expression.op().find(Parameter)}
        return Query(
            _compile(last, compiler),
            {name: duckdb_type(dtype) for name, dtype in expression.schema().items()},
            tuple(sorted(parameters)),
            stages=stages,
        )


def in_portable_stages(
    expression: ir.Table, compile_it: Callable[[ops.Node], str], most_repeated: int | None = None
) -> tuple[dict[str, str], ops.Node]:
    """Compile the stages of an expression, without what only DuckDB has (see `in_stages`)."""
    root = expression.op()
    root = root.replace(_portable if root.find(ops.Limit) else _unsorted)
    if most_repeated is not None:
        root = _marked(root, most_repeated)
    return in_stages(root, root.find(MARKS), compile_it)


def _marked(root: ops.Node, most_repeated: int) -> ops.Node:
    """Mark what would be planned again with more than this number of operations."""
    readers = Counter(read for node in root.find(ops.Relation) for read in _relations_read(node))
    sizes: dict[ops.Node, int] = {}

    def mark(node: ops.Node, below: Mapping[str, Any] | None) -> ops.Node:
        rewritten = node.__recreate__(below) if below else node
        if not isinstance(node, ops.Relation):
            return rewritten
        size = sizes[node] = 1 + sum(sizes[read] for read in _relations_read(node))
        if isinstance(node, MARKS):
            sizes[node] = 1
        elif size * (readers[node] - 1) > most_repeated and not isinstance(node, ops.JoinReference):
            sizes[node] = 1
            return ops.SelfReference(rewritten, identifier=0)
        return rewritten

    return root.replace(mark)


def _relations_read(node: ops.Node) -> set[ops.Node]:
    """Return the relations that an operation itself reads, also in the values that it computes."""
    found: set[ops.Node] = set()
    seen: set[ops.Node] = set()
    pending = [*node.__children__]
    while pending:
        child = pending.pop()
        if isinstance(child, ops.Relation):
            found.add(child)
        elif child not in seen:
            seen.add(child)
            pending += child.__children__
    return found


def _unsorted(node: ops.Node, below: Mapping[str, Any] | None) -> ops.Node:
    """Remove sorts, since tables are sets of rows. Only DuckDB stores rows in the order of a query."""
    rewritten = _portable(node, below)
    return rewritten.parent if isinstance(rewritten, ops.Sort) else rewritten


def _portable(node: ops.Node, below: Mapping[str, Any] | None) -> ops.Node:
    """Replace what not all engines have."""
    rewritten = node.__recreate__(below) if below else node
    if isinstance(rewritten, ops.JoinChain):
        return _without_asof(rewritten)
    if isinstance(rewritten, ops.Filter):
        return _without_qualify(rewritten)
    return rewritten


def _without_qualify(rows: ops.Filter) -> ops.Node:
    """Compute the windows of a condition before the condition, instead of in QUALIFY."""
    windows = {
        window
        for condition in rows.predicates
        for window in condition.find(ops.WindowFunction, filter=ops.Value)
    }
    if not windows:
        return rows
    columns = {name: ops.Field(rows.parent, name) for name in rows.parent.schema}
    named = {f"window_{n}": window for n, window in enumerate(sorted(windows, key=repr))}
    computed = ops.Project(rows.parent, {**columns, **named})
    fields = {value: ops.Field(computed, name) for name, value in {**columns, **named}.items()}
    conditions = [each.replace(fields, filter=ops.Value) for each in rows.predicates]
    chosen = ops.Filter(computed, conditions)
    return ops.Project(chosen, {name: ops.Field(chosen, name) for name in columns})


def _without_asof(joins: ops.JoinChain) -> ops.JoinChain:
    """Join the latest row on or before a moment as the row that holds until the key's next one."""
    if all(link.how != "asof" for link in joins.rest):
        return joins
    replaced: dict[ops.Node, ops.Node] = {}
    links = []
    for link in joins.rest:
        if link.how == "asof":
            links.append(_held(link, replaced))
        else:
            links.append(link.replace(replaced))
    values = {name: value.replace(replaced) for name, value in joins.values.items()}
    return ops.JoinChain(joins.first, links, values)


def _held(link: ops.JoinLink, replaced: dict[ops.Node, ops.Node]) -> ops.JoinLink:
    """Return an ASOF join as a left join, and note the table that replaces the joined one."""
    keys, bounds = (
        [part for part in link.predicates if isinstance(part, kind)]
        for kind in (ops.Equals, ops.GreaterEqual)
    )
    if len(bounds) != 1 or len(keys) + 1 != len(link.predicates):
        raise com.UnsupportedOperationError("an ASOF join that is not on `>=` and equal keys")
    moment, since = bounds[0].left, bounds[0].right
    names = [side.name for key in keys for side in (key.left, key.right) if side.rel == link.table]
    rows = link.table.parent.to_expr()
    in_order = ibis.window(group_by=names, order_by=since.name)
    held = rows.mutate(held_before=rows[since.name].lead().over(in_order)).op()
    table = link.table.copy(parent=held)
    replaced[link.table] = table
    before = ops.Field(table, "held_before")
    holds = ops.Or(ops.IsNull(before), ops.Less(moment, before))
    return ops.JoinLink(
        "left", table, [*(part.replace(replaced) for part in link.predicates), holds]
    )


@lru_cache(maxsize=1024)
def _compile(node: ops.Node, compiler: SQLGlotCompiler) -> str:
    compiled = compiler.to_sqlglot(node.to_expr())
    return str(compiled.sql(dialect=compiler.dialect, copy=False))
