"""Describe the transitions that contribute most to an anomaly."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.gold_state_distribution import SEGMENT_OF_SCOPE
from monstera_assets.prediction.expected_range import DAYS_OF

BASELINE_DAYS = 28
"""Number of days before a span that are used to compute each transition's usual count."""
_LISTED = 3
"""Maximum number of transitions described per row."""


def contributing_transitions(
    rows: ir.Table, transitions: ir.Table, keys: Sequence[str]
) -> ir.Table:
    """Describe the transitions whose counts differ most from their usual counts.

    Args:
        rows: the rows to describe.
        transitions: the result of `segment_transitions` for the spans and the preceding
            `BASELINE_DAYS` days.
        keys: columns that identify a row, including `metric_date`, `span` and `SEGMENT_OF_SCOPE`.

    Returns:
        A table with `keys` and `moves_behind`, which lists transitions in the segment during the span
        with their actual counts and the usual counts for a span of the same length. Rows in which all
        counts differ from the usual counts by less than 1 are omitted.
    """
    transitions = transitions.select(
        made_on="metric_date",
        transition=transitions.from_state + " → " + transitions.to_state,
        **{f"of_{name}": transitions[name] for name in SEGMENT_OF_SCOPE},
    )
    near = rows.select(*keys).inner_join(
        transitions, [rows[name] == transitions[f"of_{name}"] for name in SEGMENT_OF_SCOPE]
    )
    days = ibis.cases(*((near.span == str(span), days) for span, days in DAYS_OF.items()))
    ago = ma.day_number(near.metric_date) - ma.day_number(near.made_on)
    near = near.mutate(days=days, ago=ago)
    near = near.filter(near.ago >= 0, near.ago < near.days + BASELINE_DAYS)
    is_now = near.ago < near.days
    counted = near.group_by(*keys, "transition", "days").aggregate(
        now=near.count(where=is_now), before=near.count(where=~is_now)
    )
    usual = counted.before.cast("float64") * counted.days / BASELINE_DAYS
    counted = counted.mutate(usual=usual, differs=(counted.now - usual).abs())
    place = ibis.row_number().over(
        ibis.window(group_by=list(keys), order_by=[ibis.desc("differs"), "transition"])
    )
    most = counted.mutate(place=place)
    most = most.filter(most.place < _LISTED, most.differs >= 1)
    now, usual = most.now.cast("string"), most.usual.round().cast("int64").cast("string")
    words = most.transition + ": " + now + " (usual " + usual + ")"
    return most.group_by(*keys).aggregate(
        moves_behind=words.group_concat("; ", order_by=most.place)
    )
