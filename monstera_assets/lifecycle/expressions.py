"""Extend Ibis with query parameters, execution hints and shorthands.

Parameters and hints are nodes that an engine's compiler renders (for DuckDB, `warehouse.compiler`),
so expressions are independent of the engine. Only this module, `lifecycle.workflows` and the
compiler use Ibis internals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.datashape as ds
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.rules as rlz
import ibis.expr.types as ir
from ibis.common.annotations import attribute
from ibis.common.typing import VarTuple
from ibis.expr.operations.relations import Simple


class Parameter(ops.Value):  # type: ignore[misc]  # Ibis has no stubs
    """A value passed when a query runs, so that every run uses the same query text."""

    name: str
    dtype: dt.DataType

    shape = ds.scalar


class Fold(ops.Value):  # type: ignore[misc]
    """Fold an array: apply `body` to an accumulator and each item, in order.

    Ibis has no fold operation, so the compiler in `warehouse` renders the engine's own fold.
    """

    items: ops.Value[dt.Array]
    initial: ops.Value
    body: ops.Value
    value: ops.Argument
    item: ops.Argument

    shape = rlz.shape_like("items")

    @attribute  # type: ignore[untyped-decorator]  # Ibis has no stubs
    def dtype(self) -> dt.DataType:
        """Return the type of the value before the first item."""
        return self.initial.dtype


class KeyNumber(ops.Value):  # type: ignore[misc]
    """A number for each row of a table, from columns that identify the row.

    The numbers of a table are different, not negative, and not much larger than the number of rows.
    The compiler in `warehouse` chooses the engine's numbering: numbering all rows in order is one
    sort, which engines on several machines cannot share.
    """

    by: VarTuple[ops.Value]

    shape = ds.columnar
    dtype = dt.int64


GIVEN = "given_rows"
"""The name under which the SQL of an `ibis.expr.operations.SQLStringView` reads its parent."""


class PartitionedByKey(Simple):  # type: ignore[misc]
    """A table in which each fact has one key, for computations that treat keys independently."""

    key: str


def parameter(name: str, dtype: str) -> ir.Scalar:
    """Return a query parameter.

    Args:
        name: a lowercase identifier. Parameters with the same name have the same value.
        dtype: the Ibis type of the parameter, such as `date`.
    """
    return Parameter(name=name, dtype=dt.dtype(dtype)).to_expr()


def folded(
    items: ir.ArrayValue,
    initial: ir.Value,
    function: Callable[[ir.Value, ir.Value], ir.Value],
) -> ir.Value:
    """Return the value after applying a function to it and each item of an array, in order.

    The time per array is proportional to the number of items, as long as the value's size does not
    grow with each item.

    Args:
        items: the array.
        initial: the value before the first item.
        function: returns the value after an item, as an expression of the value before it and the
            item.
    """
    of_items = items.op()
    value, item = (
        ops.Argument(name=name, shape=of_items.shape, dtype=dtype)
        for name, dtype in (("value", initial.type()), ("item", items.type().value_type))
    )
    body = function(value.to_expr(), item.to_expr()).cast(initial.type())
    return Fold(of_items, initial.op(), body.op(), value, item).to_expr()


def key_number(*by: ir.Value) -> ir.IntegerColumn:
    """Return a number for each row of a table, which only its keys and the engine determine.

    Args:
        by: columns that identify each row.
    """
    return KeyNumber(tuple(column.op() for column in by)).to_expr()


def materialized(rows: ir.Table) -> ir.Table:
    """Mark an intermediate table that is read several times so that it is computed only once.

    Equal tables are one table, even if they are built and marked twice.
    """
    # `rows.view()` would number each reference, so that equal tables would differ.
    return ops.SelfReference(rows.op(), identifier=0).to_expr()


def left_joined(rows: ir.Table, *others: ir.Table, on: Sequence[str]) -> ir.Table:
    """Add columns from other tables with the same keys, or nulls if a table has no matching row."""
    for other in others:
        rows = rows.left_join(other, list(on)).drop(*(f"{name}_right" for name in on))
    return rows


def ratio(part: ir.NumericValue, whole: ir.NumericValue) -> ir.FloatingValue:
    """Return `part` divided by `whole`, or null if `whole` is 0."""
    return part.cast("float64") / whole.cast("float64").nullif(0.0)


def union_by_name(*tables: ir.Table) -> ir.Table:
    """Return the rows from several tables, with nulls for columns that are missing from a table."""
    types = {name: dtype for table in reversed(tables) for name, dtype in table.schema().items()}
    return ibis.union(
        *(
            table.select(
                **{
                    name: table[name] if name in table.columns else ibis.null(dtype)
                    for name, dtype in types.items()
                }
            )
            for table in tables
        )
    )


def by_key(facts: ir.Table, key: str) -> ir.Table:
    """Mark facts for a computation that treats each key independently.

    Use this function for inputs to computations whose intermediate results are many times larger
    than the final result, such as levels computed from changes. If there are many rows, the
    computation runs in batches of keys. The facts are computed only once.

    Args:
        facts: a table with the `key` column. Each result row must depend only on rows with the same
            key in each of the computation's marked tables.
        key: the name of the key column.
    """
    return PartitionedByKey(facts.op(), key=key).to_expr()


@dataclass(frozen=True)
class Window:
    """The first and last day that a run computes, both inclusive, as date expressions."""

    first: ir.DateValue
    last: ir.DateValue

    @classmethod
    def of(cls, first: date, last: date) -> Window:
        """Return a window from one known date through another."""
        return cls(ibis.literal(first), ibis.literal(last))

    @classmethod
    def parameters(cls, of: str = "window") -> Window:
        """Return a window bounded by the parameters `<of>_first_day` and `<of>_last_day`."""
        return cls(*(parameter(name, "date") for name in window_parameters(of)))


def window_parameters(of: str = "window") -> tuple[str, str]:
    """Return the names of the parameters that `Window.parameters` uses."""
    return f"{of}_first_day", f"{of}_last_day"
