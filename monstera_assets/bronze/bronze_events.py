"""bronze_events: every accepted product event, in daily partitions."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import OWNERS
from monstera_assets.bronze.bronze_subscription_events import deletions
from monstera_assets.bronze.event_rules import (
    EVENT_COLUMNS,
    event_rules,
    read_events,
    trusted_date,
)
from monstera_assets.bronze.row_digests import row_hashes
from monstera_assets.bronze.validation import REASON, read_as, with_reason
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


def partition_dates(rows: ir.Table, earliest: date, first_partition: date) -> ir.DateColumn:
    """The partition that each staged row belongs to: its folder's date, else the event's."""
    moment = read_as(rows.timestamp, TABLE.relation.event_timestamp.type())
    return partition_date(rows.folder_date, trusted_date(moment, earliest), first_partition)


def classify(
    rows: ir.Table,
    users: ir.Table,
    catalog: ir.Table,
    subscription_events: ir.Table,
    other_days: ir.Table | None,
    *,
    earliest: date,
    first_partition: date,
) -> ir.Table:
    """Typed rows with partition, hash and rejection reason (null if accepted).

    Args:
        rows: staged source rows.
        users: bronze_users.
        catalog: bronze_product_catalog.
        subscription_events: bronze_subscription_events.
        other_days: `event_id` and `event_date` of the events of days that `rows` has no row of;
            None where every row of the source is read, so that duplicates show in `rows`.
        earliest: no event is older.
        first_partition: where rows without a readable date belong.

    Returns:
        The rows with `partition_date`: the folder's date in a layout by day, else the event's, else
        the first partition; and with the hash of `row_hashes`.
    """
    by_day = other_days is not None
    rows = read_events(rows, TABLE, earliest, by_day=by_day)
    rows, rules = event_rules(
        rows, TABLE, users=users, catalog=catalog, deletions=deletions(subscription_events)
    )
    classified = with_reason(rows, rules)
    if other_days is not None:
        classified = _without_repeats_of_earlier_days(classified, other_days)
    return classified.mutate(
        partition_date=partition_date(
            classified.folder_date, classified.event_date, first_partition
        ),
        **row_hashes(classified),
    )


def _without_repeats_of_earlier_days(classified: ir.Table, other_days: ir.Table) -> ir.Table:
    """Reject the events that an earlier day has; only accepted events make others duplicates.

    Of a day's own rows at most one of an id is left, and whether an earlier day has the id does not
    depend on which of several earlier days it is: so the outcome is the same whether days are loaded
    one by one, in order, or in one run.
    """
    rows = classified.view()  # computed once, though read twice
    left = rows.filter(rows[REASON].isnull()).select("event_id", event_date=rows.folder_date)
    firsts = left.union(other_days.select("event_id", "event_date"))
    firsts = firsts.group_by(first_id=firsts.event_id).aggregate(first_day=firsts.event_date.min())
    joined = rows.left_join(firsts, rows.event_id == firsts.first_id)
    repeats = (joined.first_day < joined.folder_date).fill_null(False)
    # The order of the rules: fields that are missing come before duplicates, all others after.
    before = joined[REASON].startswith("missing_").fill_null(False)
    return joined.mutate(
        **{REASON: ibis.ifelse(repeats & ~before, "duplicate_event_id", joined[REASON])}
    ).drop("first_id", "first_day")


def partition_date(
    folder_date: ir.DateColumn, event_date: ir.DateColumn, first_partition: date
) -> ir.DateColumn:
    """The partition of a row: its folder's date in a layout by day, else its own, else the first."""
    return ibis.coalesce(folder_date, event_date, first_partition)
