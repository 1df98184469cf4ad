"""bronze_events: accepted product events, in daily partitions."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.bronze_subscription_events import deletions
from monstera_assets.bronze.event_rules import (
    EVENT_COLUMNS,
    classified,
    content,
    event_rules,
    known_entities,
    rank_events,
    read_events,
    rows_so_far,
    settle_repeated,
)
from monstera_assets.bronze.reading import Reading, first_partition
from monstera_assets.bronze.row_digests import HASH, row_hash

TABLE = ma.declare_table(
    "bronze_events",
    group=ma.AssetGroup.INTAKE,
    grain="one event",
    description="Which events in the source are valid? Rows that break a rule are stored in"
    " bronze_rejected_events.",
    key=("event_id",),
    partition_column="event_date",
    takes_earlier_rows=True,
    columns=(*EVENT_COLUMNS, ma.FAULTS_COLUMN),
)


@dataclass(frozen=True)
class Classification:
    """Classify event rows according to the event rules.

    Args:
        users: bronze_users, or None to accept any user.
        accounts: bronze_accounts.
        catalog: bronze_product_catalog.
        subscription_events: bronze_subscription_events.
        reading: rules for reading values.
        only_product: the product for all events, if no row in the source specifies a product.
        held_days: the days whose changes are held back (`day`), or None if there are none.
        aliases: the result of `merging_aliases`.
    """

    users: ir.Table | None
    accounts: ir.Table
    catalog: ir.Table
    subscription_events: ir.Table
    reading: Reading
    only_product: str | None = None
    held_days: ir.Table | None = None
    aliases: ir.Table | None = None

    def read(self, rows: ir.Table) -> ir.Table:
        """Convert staged rows to typed rows."""
        read = read_events(rows, TABLE, self.reading)
        if self.only_product is not None:
            read = read.mutate(product_id=read.product_id.fill_null(self.only_product))
        return read

    def of_single(self, rows: ir.Table) -> ir.Table:
        """Classify staged rows whose ids occur only once.

        The result has the same columns as the result of `of_repeated`.
        """
        return self._placed(self._by_rules(self._read_single(rows)))

    def hashes_of_single(self, rows: ir.Table) -> ir.Table:
        """Return the partition and hash of each row that `of_single` classifies."""
        return self._placed(self._read_single(rows)).select("partition_date", HASH)

    def of_repeated(self, rows: ir.Table) -> ir.Table:
        """Classify staged rows whose ids may be repeated.

        The result contains typed rows with a partition, a hash and a rejection reason, which is null
        for accepted rows.
        """
        read = self.read(rows)
        ranked = rank_events(rows_so_far(read.mutate(content_hash=content(read))))
        if self.held_days is not None:
            # Their stored rows stay, so the rows in the source do not supersede other rows yet.
            day = partition_date(ranked.folder_date, ranked.event_date)
            ranked = ranked.anti_join(self.held_days, day == self.held_days.day)
        return self._placed(settle_repeated(self._by_rules(ranked)))

    def all_rows(self, rows: ir.Table) -> ir.Table:
        """Classify all staged rows at once, without adding partitions or hashes."""
        read = self.read(rows)
        return settle_repeated(self._by_rules(read.mutate(content_hash=content(read))))

    def _read_single(self, rows: ir.Table) -> ir.Table:
        return self.read(rows).mutate(later_rows=ibis.literal(0, "int64"))

    def _by_rules(self, rows: ir.Table) -> ir.Table:
        entities = None
        if self.users is not None:
            deleted = deletions(self.subscription_events)
            entities = known_entities(self.users, self.accounts, deleted)
        rows, rules = event_rules(
            rows,
            self.reading,
            entities=entities,
            catalog=self.catalog,
            default_entity_type="user",
            aliases=self.aliases,
        )
        return classified(rows, rules)

    def _placed(self, rows: ir.Table) -> ir.Table:
        placed = partition_date(rows.folder_date, rows.event_date)
        return rows.mutate(partition_date=placed, **{HASH: row_hash(rows)})


def partition_date(folder_date: ir.DateColumn, event_date: ir.DateColumn) -> ir.DateColumn:
    """Return the partition, which is the folder date or, if the folder date is null, the event date.

    Rows dated before the first partition and rows without any date belong to the first partition.
    """
    return not_before(ibis.coalesce(folder_date, event_date))


def not_before(day: ir.DateValue) -> ir.DateValue:
    """Return the day, or the first partition if the day is earlier or null."""
    return ibis.greatest(day, first_partition())  # greatest() ignores nulls
