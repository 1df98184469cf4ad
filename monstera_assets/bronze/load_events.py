"""The load of events, by day: accepted rows, rejected rows and ledger in one transaction."""

from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetsDefinition,
    BackfillPolicy,
    DailyPartitionsDefinition,
    MaterializeResult,
    multi_asset,
)

from monstera_assets.bronze import (
    bronze_events,
    bronze_loads,
    bronze_product_catalog,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_users,
    event_rules,
)
from monstera_assets.bronze.loading import accepted, keep_classified, stage, with_files
from monstera_assets.bronze.validation import REASON
from monstera_assets.lifecycle.intervals import calendar
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.warehouse.batches import TableBatch, count_rows, temporary_relation
from monstera_assets.warehouse.table_asset import (
    POOL,
    asset_key,
    batch_outs,
    partition_window,
)
from monstera_assets.warehouse.windows import DateWindow

TABLES = (bronze_events.TABLE, bronze_rejected_events.TABLE, bronze_loads.TABLE)

ROWS_OUTSIDE = "rows_outside_the_run"
"""Metadata key: rows of a source that is not laid out by day which belong to other days."""


def build_load_events(
    source: Path, partitions: DailyPartitionsDefinition, first_partition: date, earliest: date
) -> AssetsDefinition:
    """The asset that loads event partitions from a source folder."""

    @multi_asset(
        name="load_events",
        outs=batch_outs(TABLES),
        ins={
            table.name: AssetIn(asset_key(table.name), dagster_type=Any)
            for table in (
                bronze_users.TABLE,
                bronze_product_catalog.TABLE,
                bronze_subscription_events.TABLE,
            )
        },
        partitions_def=partitions,
        backfill_policy=BackfillPolicy.single_run(),
        pool=POOL,
    )
    def load_events(
        context: AssetExecutionContext,
        bronze_users: ir.Table,
        bronze_product_catalog: ir.Table,
        bronze_subscription_events: ir.Table,
    ) -> Iterator[MaterializeResult[Any]]:
        window = partition_window(context)
        batch = event_batch(
            discover_source(source)["events"].within(window.first, window.last),
            bronze_users,
            bronze_product_catalog,
            bronze_subscription_events,
            window=window,
            first_partition=first_partition,
            earliest=earliest,
        )
        first, *others = TABLES
        yield MaterializeResult(asset_key=asset_key(first.name), value=batch)
        outside = batch.counts[ROWS_OUTSIDE]
        if outside:
            context.log.warning(
                f"{outside} rows of the source are dated outside {window} and not part of this run"
            )
        for table in others:
            yield MaterializeResult(
                asset_key=asset_key(table.name),
                metadata={"rows_written": batch.counts[table.name], ROWS_OUTSIDE: outside},
            )

    return load_events


def event_batch(
    source_input: SourceInput,
    users: ir.Table,
    catalog: ir.Table,
    subscription_events: ir.Table,
    *,
    window: DateWindow,
    first_partition: date,
    earliest: date,
) -> TableBatch:
    """The tables of a range of event partitions.

    Args:
        source_input: the files to read.
        users: bronze_users.
        catalog: bronze_product_catalog.
        subscription_events: bronze_subscription_events.
        window: the partitions to fill.
        first_partition: where rows without a readable date belong.
        earliest: no event is older.
    """
    counts: dict[str, int] = {}

    def accepted_rows(connection: duckdb.DuckDBPyConnection) -> ir.Table:
        rows, malformed = stage(
            connection, source_input, event_rules.REQUIRED, event_rules.OPTIONAL
        )
        stored = bronze_events.TABLE.relation
        classified = bronze_events.classify(
            rows,
            users,
            catalog,
            subscription_events,
            # A layout by day reads no other day's files, so duplicates of earlier days show only in
            # what is loaded already.
            stored.filter(stored.event_date < window.first) if source_input.by_day else None,
            earliest=earliest,
            first_partition=first_partition,
        )
        kept = keep_classified(
            connection,
            "events",
            bronze_events.TABLE,
            _within(classified, window),
            also=["partition_date"],
        )
        read = count_rows(connection, rows) + count_rows(connection, malformed)
        inside = count_rows(connection, kept) + count_rows(
            connection, _within(_dated(malformed, first_partition), window)
        )
        counts[ROWS_OUTSIDE] = read - inside
        return accepted(kept, bronze_events.TABLE)

    return TableBatch(
        {
            bronze_events.TABLE: accepted_rows,
            bronze_rejected_events.TABLE: partial(_rejected_rows, window, first_partition),
            bronze_loads.TABLE: partial(_ledger, source_input, window, first_partition),
        },
        counts,
    )


def _dated(malformed: ir.Table, first_partition: date) -> ir.Table:
    return malformed.mutate(partition_date=ibis.coalesce(malformed.folder_date, first_partition))


def _within(rows: ir.Table, window: DateWindow) -> ir.Table:
    return rows.filter(rows.partition_date >= window.first, rows.partition_date <= window.last)


def _rejected_rows(
    window: DateWindow, first_partition: date, connection: duckdb.DuckDBPyConnection
) -> ir.Table:
    classified = temporary_relation(connection, "events_classified")
    malformed = temporary_relation(connection, "events_malformed")
    malformed = _within(_dated(malformed, first_partition), window)
    return (
        classified.filter(classified[REASON].notnull())
        .select("partition_date", "event_date", REASON, "source_file", "raw_row")
        .union(
            malformed.select(
                partition_date=malformed.partition_date,
                event_date=ibis.null("date"),
                rejection_reason=malformed.reason,
                source_file=malformed.source_file,
                raw_row=malformed.raw_line,
            )
        )
    )


def _ledger(
    source_input: SourceInput,
    window: DateWindow,
    first_partition: date,
    connection: duckdb.DuckDBPyConnection,
) -> ir.Table:
    classified = temporary_relation(connection, "events_classified")
    malformed = temporary_relation(connection, "events_malformed")
    is_accepted = classified[REASON].isnull()
    read = classified.select(
        partition_date=classified.partition_date,
        rows_accepted=is_accepted.cast("int64"),
        rows_rejected=(~is_accepted).cast("int64"),
    ).union(
        _within(_dated(malformed, first_partition), window).select(
            partition_date=ibis._.partition_date,
            rows_accepted=ibis.literal(0, "int64"),
            rows_rejected=ibis.literal(1, "int64"),
        )
    )
    by_day = read.group_by("partition_date").aggregate(
        rows_read=read.count(),
        rows_accepted=read.rows_accepted.sum(),
        rows_rejected=read.rows_rejected.sum(),
    )
    days = calendar(window.first, window.last, "partition_date")
    entries = days.left_join(by_day, "partition_date")
    counted = entries.select(
        partition_date=entries.partition_date,
        rows_read=entries.rows_read.fill_null(0),
        rows_accepted=entries.rows_accepted.fill_null(0),
        rows_rejected=entries.rows_rejected.fill_null(0),
    )
    return with_files(connection, counted, source_input)
