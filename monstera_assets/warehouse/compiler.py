"""Compile Ibis expressions over unbound tables to DuckDB SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from ibis.common.patterns import replace

from monstera_assets.lifecycle.expressions import (
    GIVEN,
    Fold,
    KeyNumber,
    Parameter,
    PartitionedByKey,
    materialized,
    parameter,
)
from monstera_assets.lifecycle.workflows import MatchedInOrder
from monstera_assets.warehouse.stages import MARKS, gc_disabled, in_stages
from monstera_assets.warehouse.tables import duckdb_type

FIRST_HASH, LAST_HASH = "first_hash_of_batch", "last_hash_of_batch"
"""Query parameters for the range of hashes in a batch of keys."""
HASH = "hash_of_key"
"""The column that contains the key's hash in the temporary fact tables."""


@dataclass(frozen=True)
class Query:
    """An expression's SQL, which is the same in every run.

    Attributes:
        select: the query over all rows.
        columns: the DuckDB type of each column, in order.
        parameters: the names of the parameters in the SQL. `bind` sets their values.
        facts: the query for each temporary table of facts marked with `by_key`, by table name.
        batch: the query over one range of hashes in the temporary fact tables.
        stages: for engines other than DuckDB, the query for each intermediate table that `select`
            reads, by a name that depends only on the SQL: with other parameters, a table of that
            name has other rows. A stage reads only tables and earlier stages.
    """

    select: str
    columns: Mapping[str, str]
    parameters: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    batch: str = ""
    stages: Mapping[str, str] = field(default_factory=dict)


@replace(KeyNumber)  # type: ignore[untyped-decorator]
def numbered_in_order(_: KeyNumber, **__: object) -> ops.Value:
    """Number the rows 0, 1, ... in the order of their keys."""
    return ibis.row_number().over(order_by=[key.to_expr() for key in _.by]).op()


class WarehouseCompiler(DuckDBCompiler):  # type: ignore[misc]  # Ibis has no stubs
    """Ibis's DuckDB compiler, extended with this project's operations."""

    LOWERED_OPS: ClassVar = {KeyNumber: numbered_in_order}

    def visit_Parameter(  # noqa: N802  # Ibis finds a visitor by the operation's name
        self, op: Parameter, *, name: str, dtype: dt.DataType
    ) -> sge.Expression:
        """Compile to a connection variable, which DuckDB replaces with a constant before planning."""
        del op
        value: sge.Expression = self.cast(self.f.getvariable(sge.convert(name)), dtype)
        return value

    def visit_Hash(self, op: ops.Hash, *, arg: sge.Expression) -> sge.Expression:  # noqa: N802
        """Use 63 bits of DuckDB's unsigned 64-bit hash, without Ibis's cast to a bit string."""
        shifted = sge.BitwiseRightShift(this=self.f.hash(arg), expression=sge.convert(1))
        hashed: sge.Expression = self.cast(shifted, op.dtype)
        return hashed

    def visit_DropColumns(  # noqa: N802
        self, op: ops.DropColumns, *, parent: Any, columns_to_drop: frozenset[str]
    ) -> Any:
        """Sort the columns, which Ibis stores in a set whose order differs between processes."""
        return super().visit_DropColumns(op, parent=parent, columns_to_drop=sorted(columns_to_drop))

    def visit_PartitionedByKey(  # noqa: N802
        self, op: PartitionedByKey, *, parent: Any, key: str
    ) -> Any:
        """Compile to the facts themselves. The mark is used only for execution in batches."""
        del op, key
        return parent

    def visit_SQLStringView(  # noqa: N802
        self, op: ops.SQLStringView, *, query: str, parent: sge.Expression, schema: Any
    ) -> sge.Expression:
        """Let the SQL read its parent under the name `GIVEN`."""
        del op, schema
        return reading_parent(sg.parse_one(query, dialect="duckdb"), parent)

    def visit_MatchedInOrder(  # noqa: N802
        self, op: MatchedInOrder, *, steps: sge.Expression
    ) -> sge.Expression:
        """Fold the steps into a list of matched times, whose length is the number of matched steps."""
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

    def visit_Fold(  # noqa: N802
        self,
        op: Fold,
        *,
        items: sge.Expression,
        initial: sge.Expression,
        body: sge.Expression,
        value: sge.Expression,
        item: sge.Expression,
    ) -> sge.Expression:
        """Compile to DuckDB's own fold over a list."""
        fold: sge.Expression = self.f.list_reduce(
            items,
            sge.Lambda(this=body, expressions=[value, item]),
            self.cast(initial, op.dtype),
        )
        return fold


def reading_parent(query: Any, parent: sge.Expression) -> sge.Expression:
    """Return a query that reads `parent` under the name `GIVEN`."""
    given = {"this": parent.args["this"].copy()}
    for found in query.find_all(sge.Table):
        if found.name == GIVEN:
            found.replace(sge.Table(**given, alias=found.args.get("alias")))
    rows: sge.Expression = query.subquery(copy=False)
    return rows


_COMPILER = WarehouseCompiler()
# DuckDB merges nested selections itself. Merging selections in Python took a quarter of the compile
# time.
ibis.options.sql.fuse_selects = False


def compile_query(expression: ir.Table) -> Query:
    """Compile an Ibis expression over unbound tables to a `Query`."""
    root = expression.op()
    found = root.find((*MARKS, Parameter))
    marked = [node for node in found if isinstance(node, PartitionedByKey)]
    names = {node: f"facts_by_key_{number}" for number, node in enumerate(marked, start=1)}
    facts = {name: compile_duckdb(_hashed(node)) for node, name in names.items()}
    in_batches = root.replace({node: _batch_of(name, node) for node, name in names.items()})
    select = _compile_in_stages(in_batches, in_batches.find(MARKS) if names else found)
    return Query(
        select=_over_all_keys(select, facts) if names else select,
        columns={name: duckdb_type(dtype) for name, dtype in expression.schema().items()},
        parameters=tuple(sorted({node.name for node in found if isinstance(node, Parameter)})),
        facts=facts,
        batch=select if names else "",
    )


def formatted(query: Query) -> str:
    """Return a query's pretty-printed SQL, with its parameters listed in a comment."""
    given = [f"-- Parameters, set for each run: {', '.join(query.parameters)}\n"]
    text = sg.parse_one(query.select, dialect="duckdb").sql(dialect="duckdb", pretty=True)
    return "".join(given if query.parameters else []) + text


def bind(connection: duckdb.DuckDBPyConnection, values: Mapping[str, object]) -> None:
    """Set query parameters on the connection that runs the queries.

    Args:
        connection: the connection.
        values: the date or integer for each parameter. The names must be identifiers defined in
            code.
    """
    if values:
        statements = "; ".join(f"SET VARIABLE {name} = {_literal(v)}" for name, v in values.items())
        connection.execute(statements)


def compile_duckdb(expression: ir.Table) -> str:
    """Compile an Ibis expression over unbound tables to DuckDB SQL.

    Parts marked as `materialized` become materialized common table expressions, which DuckDB plans
    and runs once, no matter how often they are read.
    """
    root = expression.op()
    with gc_disabled():
        return _compile_in_stages(root, root.find(MARKS))


def _literal(value: object) -> str:
    return f"{value}::BIGINT" if isinstance(value, int) else f"DATE '{value}'"


def _hashed(facts: PartitionedByKey) -> ir.Table:
    rows = facts.parent.to_expr()
    return rows.mutate(**{HASH: rows[facts.key].hash()})


def _over_all_keys(batch: str, facts: Mapping[str, str]) -> str:
    """Return a query that covers all keys in a single batch and computes the facts in CTEs."""
    for name, bound in ((FIRST_HASH, 0), (LAST_HASH, 2**63 - 1)):
        batch = batch.replace(f"GETVARIABLE('{name}')", str(bound))
    named = ", ".join(f"{name} AS MATERIALIZED ({select})" for name, select in facts.items())
    return f"WITH {named} SELECT * FROM ({batch})"


def _batch_of(name: str, facts: PartitionedByKey) -> ops.Node:
    rows = ibis.table({**facts.schema, HASH: "int64"}, name=name)
    first, last = (parameter(end, "int64") for end in (FIRST_HASH, LAST_HASH))
    return materialized(rows.filter(rows[HASH] >= first, rows[HASH] <= last).drop(HASH)).op()


def _compile_in_stages(root: ops.Node, marks: Iterable[ops.Node]) -> str:
    stages, last = in_stages(root, marks, _compile_stage)
    if not stages:
        return _compile(last)
    named = ", ".join(f"{name} AS MATERIALIZED ({select})" for name, select in stages.items())
    query = f"WITH {named} SELECT * FROM ({_compile(last)})"
    for number, name in enumerate(stages, start=1):
        query = query.replace(name, f"stage_{number}")
    return query


@lru_cache(maxsize=256)
def _compile_stage(node: ops.Node) -> str:
    return _compile(node)


def _compile(node: ops.Node) -> str:
    compiled = _COMPILER.to_sqlglot(node.to_expr())
    return str(compiled.sql(dialect=_COMPILER.dialect, copy=False))
