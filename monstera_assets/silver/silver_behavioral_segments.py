"""silver_behavioral_segments: each user's behavioral segments on the as-of date."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.silver.silver_user_segment_history import MEASURE_COLUMNS, SEGMENT_COLUMNS

TABLE = ma.declare_table(
    "silver_behavioral_segments",
    group=ma.AssetGroup.SEGMENTS,
    grain="one user",
    description="Which behavioral segments does each user currently belong to? Values reflect the"
    " end of the as-of date, the latest day in the history. The table includes the measures from"
    " which the segments are derived.",
    key=("user_id",),
    columns=(
        ma.USER_ID,
        *SEGMENT_COLUMNS,
        *MEASURE_COLUMNS,
        ma.AS_OF_DATE,
        ma.Column("segments_updated_at", "timestamp", "End of the as-of date in UTC."),
    ),
)


@ma.table_asset(
    TABLE,
    days={"silver_user_segment_history": ma.LATEST_DAY},
    previews=[
        ma.distribution("users", name) for name in ("engagement_intensity", "composite_segment")
    ],
)
def silver_behavioral_segments(silver_user_segment_history: ir.Table) -> ir.Table:
    """Return the latest day in the history."""
    latest = silver_user_segment_history.rename(as_of_date="snapshot_date")
    return latest.mutate(
        segments_updated_at=latest.as_of_date.cast("timestamp") + ibis.interval(days=1)
    )


@ma.rule(TABLE)
def agrees_with_history(
    silver_behavioral_segments: ir.Table,
    silver_user_segment_history: ir.Table,
    silver_user_current_state: ir.Table,
) -> ir.Table:
    """Every user's segments match the user's segments on the latest day in the history."""
    history = silver_user_segment_history
    latest = history.filter(
        history.snapshot_date
        == silver_user_current_state.aggregate(
            day=silver_user_current_state.as_of_date.max()
        ).day.as_scalar()
    ).rename(as_of_date="snapshot_date")
    differing = ma.differing_rows(silver_behavioral_segments.select(*latest.columns), latest)
    without = silver_user_current_state.anti_join(silver_behavioral_segments, "user_id")
    return differing.select("user_id", "as_of_date", "found_in").union(
        without.select("user_id", "as_of_date", found_in=ibis.literal("current state"))
    )
