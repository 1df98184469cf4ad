"""From what a company says that its users create to the table of it, its computation and rules."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import Rule, differing_rows, within
from monstera_assets.gold.entities_created import EntityCreated
from monstera_assets.gold.metrics import Metric, Unit
from monstera_assets.gold.segments import (
    TOTAL,
    counted_by_segment,
    segmented_table,
    segments_differ_from_total,
)
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.warehouse.table_asset import SAME_DAYS, TableAsset


def entity_created_daily(created: EntityCreated) -> tuple[TableAsset, list[Rule]]:
    """The table `gold_<entity>_created_daily` and its rules."""
    metric = Metric(
        created.metric_name,
        f"{created.entity} that users created on the date.",
        f"count(event_id) of {', '.join(created.event_types)} on the date",
        Unit.EVENTS,
    )
    table = segmented_table(metric)
    column = metric.column_name

    def compute(
        silver_events_enriched: ir.Table,
        bronze_users: ir.Table,
        bronze_accounts: ir.Table,
        *,
        window: Window,
    ) -> ir.Table:
        events = _creations(silver_events_enriched, created)
        by_day = events.group_by(
            user_id=events.entity_id, day=day_number(events.event_date)
        ).aggregate(change=events.count())
        return counted_by_segment(
            by_day, bronze_users, bronze_accounts, window=window, metric=column
        )

    def recomputed_from_raw_events(
        metric_rows: ir.Table, bronze_events: ir.Table, *, window: Window
    ) -> ir.Table:
        rows = within(metric_rows, "metric_date", window)
        published = rows.filter(rows.segment_dimension == TOTAL, rows[column] > 0)
        events = _creations(within(bronze_events, "event_date", window), created)
        counted = events.group_by(metric_date="event_date").aggregate(**{column: events.count()})
        return differing_rows(published.select("metric_date", column), counted)

    def segments_add_up(metric_rows: ir.Table, *, window: Window) -> ir.Table:
        return segments_differ_from_total(metric_rows, column, window=window)

    rules = [
        Rule(
            table,
            "recomputed_from_raw_events",
            "The total equals a count of the raw events.",
            recomputed_from_raw_events,
            reads=(table.name, "bronze_events"),
        ),
        Rule(
            table,
            "segments_add_up",
            "The segments of each dimension add up to the total.",
            segments_add_up,
            reads=(table.name,),
        ),
    ]
    return TableAsset(table, compute, {"silver_events_enriched": SAME_DAYS}), rules


def _creations(events: ir.Table, created: EntityCreated) -> ir.Table:
    return events.filter(
        events.entity_type == "user",
        ibis.or_(*(events.event_type == t for t in created.event_types)),
    )
