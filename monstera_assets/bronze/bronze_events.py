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
from monstera_assets.bronze.row_digests import HASH, row_hash
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

    def by_rules(some: ir.Table) -> ir.Table:
        typed = read_events(some, TABLE, earliest, by_day=other_days is not None)
        typed, rules = event_rules(
            typed, TABLE, users=users, catalog=catalog, deletions=deletions(subscription_events)
        )
        return with_reason(typed, rules)

    classified = by_rules(rows)
    if other_days is not None:
        # The rules are asked of these rows once more, by themselves: keeping all rows to look at
        # some of them twice would cost more than everything else.
        repeated = by_rules(_of_several_days(rows, other_days))
        classified = _without_repeats_of_earlier_days(classified, repeated, other_days)
    return classified.mutate(
        partition_date=partition_date(
            classified.folder_date, classified.event_date, first_partition
        ),
        **{HASH: row_hash(classified)},
    )


def _of_several_days(rows: ir.Table, other_days: ir.Table) -> ir.Table:
    """The staged rows whose event_id occurs on more than one day, told by its hash.

    Two ids of one hash are taken for one, which only makes more rows to look at.
    """
    rows = rows.mutate(key=rows.event_id.cast("string").hash())
    days = rows.select("key", day=rows.folder_date)
    others = other_days.select(key=other_days.event_id.hash(), day=other_days.event_date)
    days = days.union(others.filter(others.key.isin(days.key)))
    spread = days.group_by("key").aggregate(first_day=days.day.min(), last_day=days.day.max())
    spread = spread.filter(spread.first_day < spread.last_day)
    return rows.semi_join(spread, "key").drop("key")


def _without_repeats_of_earlier_days(
    classified: ir.Table, repeated: ir.Table, other_days: ir.Table
) -> ir.Table:
    """Reject the events that an earlier day has; only accepted events make others duplicates.

    Of a day's own rows at most one of an id is left, and whether an earlier day has the id does not
    depend on which of several earlier days it is: so the outcome is the same whether days are loaded
    one by one, in order, or in one run.

    Args:
        classified: all rows, by the rules of a day.
        repeated: among them at least those whose id occurs on several days, other days included.
        other_days: `event_id` and `event_date` of the other days' events.
    """
    rows = classified
    suspects = repeated.view()  # few, and read twice
    left = suspects.filter(suspects[REASON].isnull())
    elsewhere = other_days.filter(other_days.event_id.isin(suspects.event_id))
    firsts = left.select("event_id", event_date=left.folder_date).union(
        elsewhere.select("event_id", "event_date")
    )
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
