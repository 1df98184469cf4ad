"""Computing some days of a range after others, so that the work on each fits into memory.

A table of which every day is computed from the same day of an input, and from nothing later, may be
computed for any of its days apart. Over much data that is faster than all days at once: DuckDB keeps
the hash tables of a span of days in memory, where those of a year go to disk and back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import duckdb
import ibis.expr.operations as ops
import ibis.expr.types as ir

from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.windows import DateWindow

ROWS_OF_A_SPAN = 25_000_000
"""Rows of the inputs that are worked on together. Grouping takes up to 100 bytes of memory for each."""


@dataclass(frozen=True)
class DayByDay:
    """How a range is computed whose days do not depend on each other.

    Attributes:
        inputs: the rows of the inputs that are read day by day, of all days of the range.
        compute: from some of its days to their rows.
    """

    inputs: Sequence[ir.Table]
    compute: Callable[[DateWindow], ir.Table]

    def spans(
        self, connection: duckdb.DuckDBPyConnection, window: DateWindow
    ) -> Sequence[DateWindow]:
        """The range in spans of equally many days, as many as the number of rows asks for."""
        rows = sum(_count(connection, table) for table in self.inputs)
        return parted(window, max(1, -(-rows // ROWS_OF_A_SPAN)))


def of_days(relation: ir.Table, column: str, window: DateWindow) -> ir.Table:
    """The rows of some days."""
    days = relation[column]
    return relation.filter(days >= window.first, days <= window.last)


def narrowed(rows: ir.Table, window: DateWindow, *, and_before: bool = False) -> ir.Table:
    """What `of_days` gave for a range, for some days of the range, or for these and those before.

    Raises:
        WarehouseError: the rows are not what `of_days` gave.
    """
    match rows.op():
        case ops.Filter(
            parent=parent, predicates=(ops.GreaterEqual(left=ops.Field(name=column)) as since, _)
        ):
            if not and_before:
                return of_days(parent.to_expr(), column, window)
            relation = parent.to_expr()
            return relation.filter(since.to_expr(), relation[column] <= window.last)
    raise WarehouseError(f"rows of a range of days are expected, not {type(rows.op()).__name__}")


def parted(window: DateWindow, parts: int) -> Sequence[DateWindow]:
    """A window in at most so many parts, of which none has two days more than another."""
    parts = min(parts, len(window))
    starts = [len(window) * part // parts for part in range(parts + 1)]
    return [
        DateWindow(window.first + timedelta(days=start), window.first + timedelta(days=end - 1))
        for start, end in pairwise(starts)
    ]


def _count(connection: duckdb.DuckDBPyConnection, rows: ir.Table) -> int:
    query = compile_duckdb(rows.aggregate(rows=rows.count()))
    [(count,)] = connection.execute(query).fetchall()
    return int(count)
