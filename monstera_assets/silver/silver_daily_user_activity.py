"""silver_daily_user_activity: activity per user, product and day, on which all histories are based."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import product_of_node

TABLE = ma.declare_table(
    "silver_daily_user_activity",
    group=ma.AssetGroup.METRICS,
    grain="one user, product and day with at least one event",
    description="What did each user do in each product each day? Events in features and"
    " sub-features count toward their product. Events without a product are counted in a separate"
    " row with a null product.",
    key=("user_id", "product_id", "activity_date"),
    partition_column="activity_date",
    takes_earlier_rows=True,
    columns=(
        ma.USER_ID,
        ma.ACTIVITY_DATE,
        ma.product_column(
            "product_id",
            "Product to which the events roll up, or null for events without a product.",
            nullable=True,
        ),
        ma.Column("events", "int64", "Number of events."),
        ma.QUALIFYING_EVENTS,
        ma.Column("activation_events", "int64", "Number of activation events."),
        ma.Column("sessions", "int64", "Number of distinct sessions."),
        ma.Column("first_event_at", "timestamp", "Time of the day's first event in UTC."),
        ma.Column("last_event_at", "timestamp", "Time of the day's last event in UTC."),
        ma.nullable(
            "first_qualifying_event_at",
            "timestamp",
            "Time of the day's first qualifying event in UTC, or null if there is none.",
        ),
        ma.nullable(
            "last_qualifying_event_at",
            "timestamp",
            "Time of the day's last qualifying event in UTC, or null if there is none.",
        ),
        ma.nullable(
            "first_qualifying_event_id",
            "string",
            "Id of the day's first qualifying event, ordered by time and event id, or null if there"
            " is none.",
        ),
    ),
)


@ma.table_asset(TABLE, days={"bronze_events": ma.SAME_DAYS}, batch_by_date=True)
def silver_daily_user_activity(
    bronze_events: ir.Table, bronze_product_catalog: ir.Table
) -> ir.Table:
    """Aggregate user events per user, product and day."""
    nodes = product_of_node(bronze_product_catalog).rename(rolled_up_product_id="product_id")
    events = bronze_events.filter(bronze_events.entity_type == "user")
    events = events.left_join(nodes, events.product_id == nodes.node_id)
    qualifying = events.is_qualifying_event
    # Grouping by session first avoids counting distinct sessions.
    parts = events.group_by(
        user_id=events.entity_id,
        activity_date=events.event_date,
        product_id=events.rolled_up_product_id,
        session_id=events.session_id,
    ).aggregate(
        events=events.count(),
        qualifying_events=events.count(where=qualifying),
        activation_events=events.count(where=events.is_activation_event),
        first_event_at=events.event_timestamp.min(),
        last_event_at=events.event_timestamp.max(),
        first_qualifying_event_at=events.event_timestamp.min(where=qualifying),
        last_qualifying_event_at=events.event_timestamp.max(where=qualifying),
        first_qualifying_event_id=ma.first_of(
            events.event_id, order_by=[events.event_timestamp], where=qualifying
        ),
    )
    return parts.group_by("user_id", "activity_date", "product_id").aggregate(
        **{
            name: parts[name].sum().cast("int64")
            for name in ("events", "qualifying_events", "activation_events")
        },
        sessions=parts.session_id.count(),
        first_event_at=parts.first_event_at.min(),
        last_event_at=parts.last_event_at.max(),
        first_qualifying_event_at=parts.first_qualifying_event_at.min(),
        last_qualifying_event_at=parts.last_qualifying_event_at.max(),
        first_qualifying_event_id=ma.first_of(
            parts.first_qualifying_event_id,
            order_by=[parts.first_qualifying_event_at],
            where=parts.qualifying_events > 0,
        ),
    )
