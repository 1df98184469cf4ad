"""bronze_rejected_events: rejected event rows with their rejection reasons."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_rejected_events",
    group=ma.AssetGroup.LOADS,
    grain="one rejected event row",
    description="Which event rows break a rule, and why? Each row is stored as delivered, with the"
    " first rejection reason that applies. Rejected, repeated and accepted rows add up to the rows"
    " read.",
    key=(),
    partition_column="partition_date",
    columns=(
        ma.Column(
            "partition_date",
            "date",
            "Partition that contains the row. If the source is laid out by day, the partition is the"
            " folder's date. In other layouts, the partition is the row's date, or the first partition"
            " if the row has no date.",
        ),
        ma.Column(
            "event_date",
            "date",
            "The event's local date, or null if the date is not readable.",
            nullable=True,
        ),
        *ma.REJECTED_ROW,
    ),
)


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Look up the remedies with monstera check, correct the source, and run the days again.",
)
def nothing_is_rejected(bronze_rejected_events: ir.Table, *, window: ma.Window) -> ir.Table:
    """No event row was rejected. Superseded rows are not counted."""
    rows = ma.within(bronze_rejected_events, "partition_date", window)
    rows = rows.filter(rows.rejection_reason != ma.SUPERSEDED)
    return rows.group_by("rejection_reason").aggregate(
        rows=rows.count(), example_file=rows.source_file.min()
    )
