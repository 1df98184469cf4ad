"""silver_behavioral_segments: who every user is, by behaviour, on the latest date of history."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import differing_rows, rule
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_user_segment_history import MEASURE_COLUMNS, SEGMENT_COLUMNS
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import LATEST_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_behavioral_segments",
    grain="one user",
    description="The behavioural segments of every user at the end of the as-of date, the latest"
    " date for which history exists, and the measures that they are told from.",
    owners=OWNERS,
    key=("user_id",),
    columns=(
        Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
        *SEGMENT_COLUMNS,
        *MEASURE_COLUMNS,
        Column("as_of_date", "date", "The latest date for which history exists."),
        Column("segments_updated_at", "timestamp", "End of the as-of date, UTC."),
    ),
)


@table_asset(
    TABLE,
    days={"silver_user_segment_history": LATEST_DAY},
    previews=[
        distribution("users", name) for name in ("engagement_intensity", "composite_segment")
    ],
)
def silver_behavioral_segments(silver_user_segment_history: ir.Table) -> ir.Table:
    """The latest day of history."""
    latest = silver_user_segment_history.rename(as_of_date="snapshot_date")
    return latest.mutate(
        segments_updated_at=latest.as_of_date.cast("timestamp") + ibis.interval(days=1)
    )


@rule(TABLE, "The segments are those of the latest day of history, for every user of that day.")
def agrees_with_history(
    silver_behavioral_segments: ir.Table,
    silver_user_segment_history: ir.Table,
    silver_user_current_state: ir.Table,
) -> ir.Table:
    """Users whose segments differ from the latest history, and users without segments."""
    history = silver_user_segment_history
    latest = history.filter(
        history.snapshot_date
        == silver_user_current_state.aggregate(
            day=silver_user_current_state.as_of_date.max()
        ).day.as_scalar()
    ).rename(as_of_date="snapshot_date")
    differing = differing_rows(silver_behavioral_segments.select(*latest.columns), latest)
    without = silver_user_current_state.anti_join(silver_behavioral_segments, "user_id")
    return differing.select("user_id", "as_of_date", "found_in").union(
        without.select("user_id", "as_of_date", found_in=ibis.literal("current state"))
    )
