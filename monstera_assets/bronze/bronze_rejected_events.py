"""bronze_rejected_events: the event rows that were not accepted, each with its reason."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_rejected_events",
    grain="one rejected row of the input events",
    description="Event rows that break a rule, as they stood in the source, with the first reason"
    " that applies. With bronze_events they add up to the rows read.",
    key=(),
    partition_column="partition_date",
    columns=(
        ma.Column(
            "partition_date",
            "date",
            "The partition that the row belongs to: its date, the date of its folder, or the first"
            " partition if neither can be read.",
        ),
        ma.Column("event_date", "date", "UTC date of the event, if it can be read.", nullable=True),
        *ma.REJECTED_ROW,
    ),
)


@ma.rule(TABLE, blocking=False)
def nothing_is_rejected(bronze_rejected_events: ir.Table, *, window: ma.Window) -> ir.Table:
    """No row of the source was rejected; the reasons say why."""
    rows = ma.within(bronze_rejected_events, "partition_date", window)
    return rows.group_by("rejection_reason").aggregate(
        rows=rows.count(), example_file=rows.source_file.min()
    )
