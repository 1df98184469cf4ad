"""silver_daily_user_feature_activity: qualifying events per user, feature and day."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import feature_of_node

TABLE = ma.declare_table(
    "silver_daily_user_feature_activity",
    group=ma.AssetGroup.SEGMENTS,
    grain="one user, feature and day with at least one qualifying event",
    description="Which features did each user use each day? Events in sub-features count toward their"
    " feature. Retired features and features in retired products are excluded.",
    key=("user_id", "feature_id", "activity_date"),
    partition_column="activity_date",
    takes_earlier_rows=True,
    columns=(
        ma.USER_ID,
        ma.ACTIVITY_DATE,
        ma.product_column("feature_id", "Feature to which the events roll up."),
        ma.QUALIFYING_EVENTS,
    ),
)


@ma.table_asset(TABLE, days={"silver_events_enriched": ma.SAME_DAYS})
def silver_daily_user_feature_activity(
    silver_events_enriched: ir.Table, bronze_product_catalog: ir.Table
) -> ir.Table:
    """Aggregate qualifying user events per user, feature and day."""
    events = silver_events_enriched
    events = events.filter(events.entity_type == "user", events.is_qualifying_event)
    nodes = feature_of_node(bronze_product_catalog).select(
        "node_id", rolled_up_feature_id="feature_id"
    )
    used = events.inner_join(nodes, events.feature_id == nodes.node_id)
    return used.group_by(
        user_id=used.entity_id, activity_date=used.event_date, feature_id=used.rolled_up_feature_id
    ).aggregate(qualifying_events=used.count())
