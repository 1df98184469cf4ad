"""Build the `gold_<entity>_created_daily` tables from the `EntityCreated` settings."""

from __future__ import annotations

from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.entities_created import EntityCreated
from monstera_assets.gold.segments import created_by_segment, segmented_table, segments_add_up_in


def entity_created_daily(created: EntityCreated) -> tuple[ma.TableAsset, list[ma.Rule]]:
    """Return the `gold_<entity>_created_daily` asset and its rules."""
    metric = ma.Metric(
        created.metric_name,
        f"{created.entity} that users created on the date.",
        f"count(event_id) where event_type in ({', '.join(created.event_types)})",
        ma.Unit.EVENTS,
        additivity=ma.Additivity.ADDITIVE,
    )
    table = segmented_table(metric)

    def creations(events: ir.Table) -> ir.Table:
        is_creation = ibis.or_(*(events.event_type == name for name in created.event_types))
        of_users = events.filter(events.entity_type == "user", is_creation)
        return of_users.select(user_id="entity_id", created_on="event_date")

    @ma.table_asset(
        table,
        days={
            "silver_events_enriched": ma.SAME_DAYS,
            "silver_account_state_intervals": ma.UP_TO_AS_OF,
        },
    )
    def compute(
        silver_events_enriched: ir.Table,
        bronze_users: ir.Table,
        silver_account_state_intervals: ir.Table,
        *,
        window: ma.Window,
    ) -> ir.Table:
        facts = creations(silver_events_enriched)
        return created_by_segment(
            facts, bronze_users, silver_account_state_intervals, window, metric
        )

    def recomputed_from_raw_events(
        rows: ir.Table, bronze_events: ir.Table, *, window: ma.Window
    ) -> ir.Table:
        """The total equals the number of raw creation events."""
        return total_differs(table, rows, creations(bronze_events), window)

    recomputed = replace(
        ma.rule(table)(recomputed_from_raw_events), reads=(table.name, "bronze_events")
    )
    return compute, [recomputed, segments_add_up_in(table)]


def total_differs(
    table: ma.MetricTable, rows: ir.Table, facts: ir.Table, window: ma.Window
) -> ir.Table:
    """Return the dates on which a table's total differs from the number of facts."""
    [column] = (metric.column_name for metric in table.metrics)
    rows = ma.within(rows, ma.METRIC_DATE.name, window)
    published = rows.filter(rows.segment_dimension == ma.TOTAL, rows[column] > 0)
    facts = ma.within(facts, "created_on", window)
    counted = facts.group_by(metric_date="created_on").aggregate(**{column: facts.count()})
    return ma.differing_rows(published.select(ma.METRIC_DATE.name, column), counted)
