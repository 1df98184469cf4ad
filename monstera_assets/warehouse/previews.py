"""Show table previews in the Dagster UI.

A preview is a Markdown table with a few rows and optional bars. Each asset declares its previews,
which are queried from the whole table after each write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.types as ir

from monstera_assets.markdown import table, text
from monstera_assets.warehouse.engine import Records

_BAR = "█"
_PARTS = "▏▎▍▌▋▊▉"
_WIDTH = 24
_MAX_ROWS = 60


@dataclass(frozen=True)
class Preview:
    """A few rows of a table.

    Attributes:
        title: the preview's title.
        rows: a function that selects the rows to show from the whole table, in order.
        bar: the column whose non-negative numbers are shown as bars, or None for no bars.
        is_share: whether fractional numbers are shares, which are shown as percentages.
    """

    title: str
    rows: Callable[[ir.Table], ir.Table]
    bar: str | None = None
    is_share: bool = False

    def selected(self, relation: ir.Table) -> ir.Table:
        """Return the rows to fetch, which are one more than are shown."""
        return self.rows(relation).limit(_MAX_ROWS + 1)

    def render(self, records: Records) -> str:
        """Return the preview as Markdown with up to `_MAX_ROWS` rows and a note if more rows exist."""
        names, rows = records
        if not rows:
            return "No rows yet."
        shown = rows[:_MAX_ROWS]
        headings = [text(name.replace("_", " ")) for name in names]
        cells = [[self._cell(value) for value in row] for row in shown]
        if self.bar is not None:
            heights = [float(row[names.index(self.bar)] or 0) for row in shown]
            headings.append("")
            cells = [
                [*row, bar(height, max(heights))]
                for row, height in zip(cells, heights, strict=True)
            ]
        more = "" if len(rows) <= _MAX_ROWS else f"\n\nOnly the first {_MAX_ROWS} rows are shown."
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
    """Return a preview of entity counts by column value for a table with one row per entity."""

    def rows(relation: ir.Table) -> ir.Table:
        counted = relation.group_by(column).aggregate(**{entities: relation.count()})
        whole = counted[entities].sum().over(ibis.window())
        shares = counted.mutate(share=counted[entities].cast("float64") / whole)
        return shares.order_by(ibis.desc(entities), column)

    title = f"{entities} by {column}".replace("_", " ").capitalize()
    return Preview(title, rows, bar=entities, is_share=True)


def bar(value: float, maximum: float) -> str:
    """Return a bar of up to `_WIDTH` characters, accurate to an eighth of a character."""
    if maximum <= 0:
        return ""
    whole, part = divmod(round(8 * _WIDTH * value / maximum), 8)
    return _BAR * whole + (_PARTS[part - 1] if part else "")
