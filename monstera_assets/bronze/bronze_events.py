"""bronze_events: every accepted product event, in daily partitions."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import OWNERS
from monstera_assets.bronze.bronze_subscription_events import deletions
from monstera_assets.bronze.event_rules import EVENT_COLUMNS, event_rules, read_events
from monstera_assets.bronze.validation import with_reason
from monstera_assets.warehouse.tables import Layer, Table

TABLE = Table(
    layer=Layer.BRONZE,
    name="bronze_events",
    grain="one event",
    description="Accepted events. A row that breaks a rule is in bronze_rejected_events instead.",
    owners=OWNERS,
    key=("event_id",),
    partition_column="event_date",
    columns=EVENT_COLUMNS,
)


def classify(
    rows: ir.Table,
    users: ir.Table,
    catalog: ir.Table,
    subscription_events: ir.Table,
    earlier_events: ir.Table | None,
    *,
    earliest: date,
    first_partition: date,
) -> ir.Table:
    """Typed rows with partition and rejection reason (null if accepted).

    Args:
        rows: staged source rows.
        users: bronze_users.
        catalog: bronze_product_catalog.
        subscription_events: bronze_subscription_events.
        earlier_events: `event_id` of events already loaded for days before those that are read;
            None where every row of the source is read, so that duplicates show in `rows`.
        earliest: no event is older.
        first_partition: where rows without a readable date belong.

    Returns:
        The rows with `partition_date`: the folder's date in a layout by day, else the event's, else
        the first partition.
    """
    rows = read_events(rows, TABLE, earliest)
    if earlier_events is not None:
        loaded = earlier_events.select(loaded_id=earlier_events.event_id).distinct()
        joined = rows.left_join(loaded, rows.event_id == loaded.loaded_id)
        rows = joined.mutate(
            duplicate_rank=joined.duplicate_rank + joined.loaded_id.notnull().cast("int64")
        ).drop("loaded_id")
    rows, rules = event_rules(
        rows, TABLE, users=users, catalog=catalog, deletions=deletions(subscription_events)
    )
    return with_reason(rows, rules).mutate(
        partition_date=ibis.coalesce(rows.folder_date, rows.event_date, first_partition)
    )
