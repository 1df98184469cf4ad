"""The moves between states behind what is out of its range, in words."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.gold.gold_state_distribution import SEGMENT_OF_SCOPE
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.prediction.expected_range import DAYS_OF

USUAL_DAYS = 28
"""Days before a span whose mean is what is usual of a move."""
_MOST = 3
"""Moves that are named."""


def moves_behind(rows: ir.Table, moves: ir.Table, keys: Sequence[str]) -> ir.Table:
    """The moves that differ most from what is usual of them.

    Args:
        rows: one row a `keys`, among them `metric_date`, `span` and `SEGMENT_OF_SCOPE`.
        moves: what `segment_moves` gives, of the spans and the `USUAL_DAYS` before them.
        keys: what identifies a row.

    Returns:
        `keys` and `moves_behind`: the moves of the span in the segment, with how many there were and
        how many are usual in as many days; rows without any that differ by one at least are left out.
    """
    moves = moves.select(
        moved_on="metric_date",
        move=moves.from_state + " → " + moves.to_state,
        **{f"moved_{name}": moves[name] for name in SEGMENT_OF_SCOPE},
    )
    near = rows.select(*keys).inner_join(
        moves, [rows[name] == moves[f"moved_{name}"] for name in SEGMENT_OF_SCOPE]
    )
    days = ibis.cases(*((near.span == str(span), days) for span, days in DAYS_OF.items()))
    ago = day_number(near.metric_date) - day_number(near.moved_on)
    near = near.mutate(days=days, ago=ago)
    near = near.filter(near.ago >= 0, near.ago < near.days + USUAL_DAYS)
    is_now = near.ago < near.days
    counted = near.group_by(*keys, "move", "days").aggregate(
        now=near.count(where=is_now), before=near.count(where=~is_now)
    )
    usual = counted.before.cast("float64") * counted.days / USUAL_DAYS
    counted = counted.mutate(usual=usual, differs=(counted.now - usual).abs())
    place = ibis.row_number().over(
        ibis.window(group_by=list(keys), order_by=[ibis.desc("differs"), "move"])
    )
    most = counted.mutate(place=place)
    most = most.filter(most.place < _MOST, most.differs >= 1)
    now, usual = most.now.cast("string"), most.usual.round().cast("int64").cast("string")
    words = most.move + ": " + now + " (usual " + usual + ")"
    return most.group_by(*keys).aggregate(
        moves_behind=words.group_concat("; ", order_by=most.place)
    )
