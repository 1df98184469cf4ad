"""Previews: what the Dagster UI shows of a table at a glance, beside the number of its rows.

A preview is a few rows, queried from the whole table after it was written, as a table in Markdown with
bars. It belongs to the declaration of the asset that makes the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.markdown import table, text
from monstera_assets.warehouse.compiler import Query, compile_query

_BAR = "█"
_PARTS = "▏▎▍▌▋▊▉"
_WIDTH = 24
_MOST_ROWS = 60


@dataclass(frozen=True)
class Preview:
    """A few rows of a table, in the order in which they are shown.

    Attributes:
        title: what it shows.
        rows: from the whole table to the rows to show, in order; columns are headed by their names.
        bar: the column of numbers, none below 0, that bars are drawn for; none without.
        is_share: whether numbers with a fraction are shares, shown in percent.
    """

    title: str
    rows: Callable[[ir.Table], ir.Table]
    bar: str | None = None
    is_share: bool = False

    def query(self, relation: ir.Table) -> Query:
        """The query of the rows, one more than are shown."""
        return compile_query(self.rows(relation).limit(_MOST_ROWS + 1))

    def render(self, connection: duckdb.DuckDBPyConnection, query: Query) -> str:
        """The preview as Markdown; at most `_MOST_ROWS` rows, and a note where there are more."""
        cursor = connection.execute(query.select)
        names = [column[0] for column in cursor.description]
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
        if not rows:
            return "Nothing yet."
        shown = rows[:_MOST_ROWS]
        headings = [text(name.replace("_", " ")) for name in names]
        cells = [[self._cell(value) for value in row] for row in shown]
        if self.bar is not None:
            heights = [float(row[names.index(self.bar)] or 0) for row in shown]
            headings.append("")
            cells = [
                [*row, bar(height, max(heights))]
                for row, height in zip(cells, heights, strict=True)
            ]
        more = "" if len(rows) <= _MOST_ROWS else f"\n\nThe first {_MOST_ROWS} rows."
        return table(headings, cells) + more

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str | date | bool):
            return text(str(value))
        if isinstance(value, int):
            return f"{value:,}"
        return f"{value:.1%}" if self.is_share else f"{value:,.1f}"


def distribution(entities: str, column: str) -> Preview:
    """How many of the entities that a table has a row of each have which value of a column."""

    def rows(relation: ir.Table) -> ir.Table:
        counted = relation.group_by(column).aggregate(**{entities: relation.count()})
        whole = counted[entities].sum().over(ibis.window())
        shares = counted.mutate(share=counted[entities].cast("float64") / whole)
        return shares.order_by(ibis.desc(entities), column)

    title = f"{entities} by {column}".replace("_", " ").capitalize()
    return Preview(title, rows, bar=entities, is_share=True)


def bar(value: float, most: float) -> str:
    """A bar of up to `_WIDTH` characters, of which the last is as wide as an eighth can tell."""
    if most <= 0:
        return ""
    whole, part = divmod(round(8 * _WIDTH * value / most), 8)
    return _BAR * whole + (_PARTS[part - 1] if part else "")
