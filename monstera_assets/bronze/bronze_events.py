"""bronze_events: accepted product events, in daily partitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.bronze_subscription_events import deletions
from monstera_assets.bronze.event_rules import (
    EVENT_COLUMNS,
    event_rules,
    rank_events,
    read_events,
    trusted_date,
)
from monstera_assets.bronze.row_digests import HASH, row_hash

TABLE = ma.declare_table(
    "bronze_events",
    grain="one event",
    description="Which valid events does the source contain? Rows that break a rule are in"
    " bronze_rejected_events instead.",
    key=("event_id",),
    partition_column="event_date",
    columns=EVENT_COLUMNS,
)


def partition_dates(rows: ir.Table, earliest: date, first_partition: date) -> ir.DateColumn:
    """Return the partition of each staged row: its folder's date, otherwise its event's date."""
    moment = ma.read_as(rows.timestamp, TABLE.relation.event_timestamp.type())
    return partition_date(rows.folder_date, trusted_date(moment, earliest), first_partition)


@dataclass(frozen=True)
class Classification:
    """Classifies event rows by the rules for events.

    Args:
        users: bronze_users.
        catalog: bronze_product_catalog.
        subscription_events: bronze_subscription_events.
        other_days: `event_id` and `event_date` of the events on days without staged rows, if the
            source is laid out by day; None if all rows of the source are staged.
        earliest: first accepted event date.
        first_partition: partition of rows without a readable date.
    """

    users: ir.Table
    catalog: ir.Table
    subscription_events: ir.Table
    other_days: ir.Table | None
    earliest: date
    first_partition: date

    def repeated(self, rows: ir.Table) -> ir.Table:
        """Return the keys (`repeated_key`) of staged ids that may occur more than once.

        Almost all ids occur once; only rows with repeated ids need ordering. Keys are hashes, and a
        collision only adds rows to order.
        """
        keys = rows.select(repeated_key=event_key(rows))
        keys = keys.filter(keys.repeated_key.notnull())
        if self.other_days is not None:
            others = self.other_days.select(repeated_key=event_key(self.other_days))
            keys = keys.union(others.filter(others.repeated_key.isin(keys.repeated_key)))
        counted = keys.group_by("repeated_key").aggregate(times=keys.repeated_key.count())
        return counted.filter(counted.times > 1).select("repeated_key")

    def of_single(self, rows: ir.Table) -> ir.Table:
        """Classify staged rows whose id occurs once; return the same columns as `of_repeated`."""
        return self._placed(self._by_rules(self._read_single(rows)))

    def hashes_of_single(self, rows: ir.Table) -> ir.Table:
        """Return the partition and hash of the rows that `of_single` classifies, without the rules."""
        return self._placed(self._read_single(rows)).select("partition_date", HASH)

    def of_repeated(self, rows: ir.Table) -> ir.Table:
        """Return typed rows with partition, hash and rejection reason (null if accepted)."""
        read = read_events(rows, TABLE, self.earliest)
        classified = self._by_rules(rank_events(read, by_day=self.other_days is not None))
        if self.other_days is not None:
            classified = _without_repeats_of_earlier_days(classified, self.other_days)
        return self._placed(classified)

    def _read_single(self, rows: ir.Table) -> ir.Table:
        read = read_events(rows, TABLE, self.earliest)
        return read.mutate(duplicate_rank=ibis.literal(0, "int64"))

    def _by_rules(self, rows: ir.Table) -> ir.Table:
        rows, rules = event_rules(
            rows,
            TABLE,
            users=self.users,
            catalog=self.catalog,
            deletions=deletions(self.subscription_events),
        )
        return ma.with_reason(rows, rules)

    def _placed(self, rows: ir.Table) -> ir.Table:
        placed = partition_date(rows.folder_date, rows.event_date, self.first_partition)
        return rows.mutate(partition_date=placed, **{HASH: row_hash(rows)})


def event_key(rows: ir.Table) -> ir.IntegerValue:
    """Return the hash of `event_id`, or null if there is none."""
    key = rows.event_id.cast("string")
    return ibis.ifelse(key.notnull(), key.hash(), None)


def _without_repeats_of_earlier_days(classified: ir.Table, other_days: ir.Table) -> ir.Table:
    """Reject events whose id was already accepted on an earlier day.

    Each day has at most one unrejected row per id, and it does not matter which earlier day has the
    id. The outcome is therefore the same whether days are loaded in sequence or in one run.
    """
    rows = classified
    left = rows.filter(rows[ma.REASON].isnull())
    elsewhere = other_days.filter(other_days.event_id.isin(rows.event_id))
    firsts = left.select("event_id", event_date=left.folder_date).union(
        elsewhere.select("event_id", "event_date")
    )
    firsts = firsts.group_by(first_id=firsts.event_id).aggregate(first_day=firsts.event_date.min())
    joined = rows.left_join(firsts, rows.event_id == firsts.first_id)
    repeats = (joined.first_day < joined.folder_date).fill_null(False)
    # Missing fields rank before duplicates in the order of the rules; all other reasons follow.
    before = joined[ma.REASON].startswith("missing_").fill_null(False)
    return joined.mutate(
        **{ma.REASON: ibis.ifelse(repeats & ~before, "duplicate_event_id", joined[ma.REASON])}
    ).drop("first_id", "first_day")


def partition_date(
    folder_date: ir.DateColumn, event_date: ir.DateColumn, first_partition: date
) -> ir.DateColumn:
    """Return the first that is not null: the folder's date, the event's date or `first_partition`."""
    return ibis.coalesce(folder_date, event_date, first_partition)
