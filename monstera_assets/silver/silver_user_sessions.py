"""silver_user_sessions: activity per user, session and day."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.event_rules import LOCATIONS

TABLE = ma.declare_table(
    "silver_user_sessions",
    group=ma.AssetGroup.SEGMENTS,
    grain="one user, session and day",
    description="What did each user do in each session? Sessions are defined by the source. A"
    " session that crosses midnight has one row per day, so that each day can be computed"
    " without the next day's events.",
    key=("user_id", "session_id", "session_date"),
    partition_column="session_date",
    takes_earlier_rows=True,
    columns=(
        ma.USER_ID,
        ma.Column("session_id", "string", "Identifier of the session."),
        ma.Column("session_date", "date", "Date of the events in the row."),
        ma.Column("session_started_at", "timestamp", "Time of the row's first event in UTC."),
        ma.Column("session_ended_at", "timestamp", "Time of the row's last event in UTC."),
        ma.Column(
            "duration_seconds", "int64", "Whole seconds from the first event to the last event."
        ),
        ma.Column("location", "string", "Location of the first event.", allowed=LOCATIONS),
        ma.Column("events", "int64", "Number of events."),
        ma.QUALIFYING_EVENTS,
        ma.Column("products_used", "int64", "Number of distinct products with an event."),
    ),
)


@ma.table_asset(TABLE, days={"silver_events_enriched": ma.SAME_DAYS}, batch_by_date=True)
def silver_user_sessions(silver_events_enriched: ir.Table) -> ir.Table:
    """Aggregate user events per session and day."""
    events = silver_events_enriched
    events = events.filter(events.entity_type == "user", events.session_id.notnull())
    sessions = events.group_by(
        user_id=events.entity_id, session_id=events.session_id, session_date=events.event_date
    ).aggregate(
        session_started_at=events.event_timestamp.min(),
        session_ended_at=events.event_timestamp.max(),
        location=ma.first_of(events.location, order_by=[events.event_timestamp, events.event_id]),
        events=events.count(),
        qualifying_events=events.count(where=events.is_qualifying_event),
        products_used=events.product_id.nunique(),
    )
    return sessions.mutate(
        duration_seconds=sessions.session_ended_at.delta(
            sessions.session_started_at, unit="microsecond"
        ).cast("int64")
        // 1_000_000
    )
