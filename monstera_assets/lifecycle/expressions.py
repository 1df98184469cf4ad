"""What this project adds to Ibis: parameters, marks for how an expression is run, and short forms.

Parameters and marks are nodes that an engine's compiler renders (for DuckDB, `warehouse.compiler`), so
an expression names no function of any engine. The nodes use Ibis internals, which stand in this
module, in `lifecycle.workflows` and in the compiler only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.datashape as ds
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
from ibis.expr.operations.relations import Simple


class Parameter(ops.Value):  # type: ignore[misc]  # Ibis has no stubs
    """A value that is given when a query runs, so that its text is the same for every run."""

    name: str
    dtype: dt.DataType

    shape = ds.scalar


class PartitionedByKey(Simple):  # type: ignore[misc]
    """A table of facts, each about one key, in a computation that treats each key by itself."""

    key: str


def parameter(name: str, dtype: str) -> ir.Scalar:
    """A parameter of a query.

    Args:
        name: a lowercase identifier, the same in every query that means the same value.
        dtype: its Ibis type, such as `date`.
    """
    return Parameter(name=name, dtype=dt.dtype(dtype)).to_expr()


def materialized(rows: ir.Table) -> ir.Table:
    """Mark an intermediate table that several parts of an expression read: it is computed once."""
    return rows.view()


def left_joined(rows: ir.Table, *others: ir.Table, on: Sequence[str]) -> ir.Table:
    """A table with the columns of others whose keys are the same, null where they have no row."""
    for other in others:
        rows = rows.left_join(other, list(on)).drop(*(f"{name}_right" for name in on))
    return rows


def ratio(part: ir.NumericValue, whole: ir.NumericValue) -> ir.FloatingValue:
    """A quotient, null over nothing."""
    return part.cast("float64") / whole.cast("float64").nullif(0.0)


def union_by_name(*tables: ir.Table) -> ir.Table:
    """The rows of several tables; a column that a table does not have is null in its rows."""
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
    """Mark facts of keys that are computed by themselves; like `materialized`, they are computed once.

    A computation whose work area is many times its result, such as that of levels from changes, marks
    the facts that it starts from. Over many rows it is then run for one batch of keys after another.

    Args:
        facts: a table with the column `key`; every row of the result must depend only on rows of its
            own key in all tables that are marked in the computation.
        key: name of the column.
    """
    return PartitionedByKey(facts.op(), key=key).to_expr()


@dataclass(frozen=True)
class Window:
    """The days that a run computes, both ends included, as dates of an expression."""

    first: ir.DateValue
    last: ir.DateValue

    @classmethod
    def of(cls, first: date, last: date) -> Window:
        """A window between two known dates."""
        return cls(ibis.literal(first), ibis.literal(last))

    @classmethod
    def parameters(cls, of: str = "window") -> Window:
        """A window whose ends are the parameters `<of>_first_day` and `<of>_last_day`."""
        return cls(*(parameter(name, "date") for name in window_parameters(of)))


def window_parameters(of: str = "window") -> tuple[str, str]:
    """Names of the parameters that `Window.parameters` makes."""
    return f"{of}_first_day", f"{of}_last_day"
