"""From Ibis expressions over unbound tables to DuckDB's SQL."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler

from monstera_assets.lifecycle.expressions import (
    Parameter,
    PartitionedByKey,
    materialized,
    parameter,
)
from monstera_assets.lifecycle.workflows import MatchedInOrder
from monstera_assets.warehouse.tables import duckdb_type

FIRST_HASH, LAST_HASH = "first_hash_of_batch", "last_hash_of_batch"
"""Parameters of a query over a batch of keys: the range of their hashes."""
HASH = "hash_of_key"
"""Column of the temporary tables of facts that are computed by key."""


@dataclass(frozen=True)
class Query:
    """The SQL of an expression, the same for every run.

    Attributes:
        select: the query over all of its rows.
        columns: column name to DuckDB type, in order.
        parameters: names of the parameters in the texts; `bind` gives them values.
        facts: temporary table name to its query, where the expression marks facts with `by_key`.
        batch: the query over the facts of one range of hashes, from those temporary tables.
    """

    select: str
    columns: Mapping[str, str]
    parameters: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    batch: str = ""


class WarehouseCompiler(DuckDBCompiler):  # type: ignore[misc]  # Ibis has no stubs
    """Ibis's compiler for DuckDB, with the operations that this project adds to Ibis."""

    def visit_Parameter(  # noqa: N802  # the compiler finds a visitor by the operation's name
        self, op: Parameter, *, name: str, dtype: dt.DataType
    ) -> sge.Expression:
        """A variable of the connection, which DuckDB folds to a constant before it plans."""
        del op
        value: sge.Expression = self.cast(self.f.getvariable(sge.convert(name)), dtype)
        return value

    def visit_Hash(self, op: ops.Hash, *, arg: sge.Expression) -> sge.Expression:  # noqa: N802
        """63 of the 64 bits of DuckDB's hash, which is unsigned: Ibis goes through a bit string."""
        shifted = sge.BitwiseRightShift(this=self.f.hash(arg), expression=sge.convert(1))
        hashed: sge.Expression = self.cast(shifted, op.dtype)
        return hashed

    def visit_DropColumns(  # noqa: N802
        self, op: ops.DropColumns, *, parent: Any, columns_to_drop: frozenset[str]
    ) -> Any:
        """In a fixed order: Ibis keeps a set, so that texts would differ from process to process."""
        return super().visit_DropColumns(op, parent=parent, columns_to_drop=sorted(columns_to_drop))

    def visit_PartitionedByKey(  # noqa: N802
        self, op: PartitionedByKey, *, parent: Any, key: str
    ) -> Any:
        """The facts: the mark is for whoever runs them in batches."""
        del op, key
        return parent

    def visit_MatchedInOrder(  # noqa: N802
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
# DuckDB merges nested selections itself. To merge them in Python took a quarter of all compilation.
ibis.options.sql.fuse_selects = False
_MARKS = (ops.SelfReference, PartitionedByKey)


def compile_query(expression: ir.Table) -> Query:
    """The DuckDB SQL of an Ibis expression over unbound tables, with what must be known to run it."""
    root = expression.op()
    found = root.find((*_MARKS, Parameter))
    marked = [node for node in found if isinstance(node, PartitionedByKey)]
    names = {node: f"facts_by_key_{number}" for number, node in enumerate(marked, start=1)}
    facts = {name: compile_duckdb(_hashed(node)) for node, name in names.items()}
    in_batches = root.replace({node: _batch_of(name, node) for node, name in names.items()})
    select = _compile_in_stages(in_batches, in_batches.find(_MARKS) if names else found)
    return Query(
        select=_over_all_keys(select, facts) if names else select,
        columns={name: duckdb_type(dtype) for name, dtype in expression.schema().items()},
        parameters=tuple(sorted({node.name for node in found if isinstance(node, Parameter)})),
        facts=facts,
        batch=select if names else "",
    )


def formatted(query: Query) -> str:
    """The text of a query for people to read, with its parameters in a comment."""
    given = [f"-- Parameters, set for each run: {', '.join(query.parameters)}\n"]
    text = sg.parse_one(query.select, dialect="duckdb").sql(dialect="duckdb", pretty=True)
    return "".join(given if query.parameters else []) + text


def bind(connection: duckdb.DuckDBPyConnection, values: Mapping[str, object]) -> None:
    """Give parameters of queries their values for the connection.

    Args:
        connection: the connection that will run the queries.
        values: parameter name, an identifier of the code, to a date or a whole number.
    """
    if values:
        statements = "; ".join(f"SET VARIABLE {name} = {_literal(v)}" for name, v in values.items())
        connection.execute(statements)


def compile_duckdb(expression: ir.Table) -> str:
    """The DuckDB SQL of an Ibis expression over unbound tables.

    What the expression marks as `materialized` becomes a materialized common table expression: it is
    compiled, planned and run once, however many parts of the expression read it.
    """
    root = expression.op()
    with gc_disabled():
        return _compile_in_stages(root, root.find(_MARKS))


def _literal(value: object) -> str:
    return f"{value}::BIGINT" if isinstance(value, int) else f"DATE '{value}'"


def _hashed(facts: PartitionedByKey) -> ir.Table:
    rows = facts.parent.to_expr()
    return rows.mutate(**{HASH: rows[facts.key].hash()})


def _over_all_keys(batch: str, facts: Mapping[str, str]) -> str:
    """The query of a batch that holds every key, over facts that are computed on the way."""
    for name, bound in ((FIRST_HASH, 0), (LAST_HASH, 2**63 - 1)):
        batch = batch.replace(f"GETVARIABLE('{name}')", str(bound))
    named = ", ".join(f"{name} AS MATERIALIZED ({select})" for name, select in facts.items())
    return f"WITH {named} SELECT * FROM ({batch})"


def _batch_of(name: str, facts: PartitionedByKey) -> ops.Node:
    rows = ibis.table({**facts.schema, HASH: "int64"}, name=name)
    first, last = (parameter(end, "int64") for end in (FIRST_HASH, LAST_HASH))
    return materialized(rows.filter(rows[HASH] >= first, rows[HASH] <= last).drop(HASH)).op()


def _compile_in_stages(root: ops.Node, marks: Iterable[ops.Node]) -> str:
    stages: list[str] = []
    # What is marked as materialized or by key, if it is more than a table.
    shared = {
        mark.parent
        for mark in marks
        if isinstance(mark, _MARKS) and not isinstance(mark.parent, ops.PhysicalTable)
    }

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
def gc_disabled() -> Iterator[None]:
    """Without Python's search for cycles, which costs a tenth of the time to build and to compile.

    An expression is hundreds of thousands of small objects, which all live until its text is there.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _compile(node: ops.Node) -> str:
    compiled = _COMPILER.to_sqlglot(node.to_expr())
    return str(compiled.sql(dialect=_COMPILER.dialect, copy=False))
