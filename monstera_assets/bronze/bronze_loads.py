"""bronze_loads: the ledger for event loads, with each partition's files and row counts."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.remedies import mostly_rejected
from monstera_assets.bronze.row_digests import DIGEST

FILES_TYPE = "array<struct<path: string, size_bytes: int64, sha256: string>>"

COUNTS = (
    ma.Column("rows_read", "int64", "Number of rows read from the source."),
    ma.Column(
        "rows_repeated",
        "int64",
        "Number of rows that were not stored because they repeat another row.",
    ),
    ma.Column("rows_accepted", "int64", "Number of rows accepted into the table."),
    ma.Column("rows_rejected", "int64", "Number of rejected rows."),
)


def counts_differ(rows: ir.Table) -> ir.BooleanValue:
    """Return whether a ledger entry's counts differ from the counts in the tables."""
    return (
        rows.rows_read.isnull()
        | (rows.rows_read != rows.in_table + rows.rows_repeated + rows.in_rejected)
        | (rows.rows_accepted != rows.in_table)
        | (rows.rows_rejected != rows.in_rejected)
    )


TABLE = ma.declare_table(
    "bronze_loads",
    group=ma.AssetGroup.LOADS,
    grain="one daily partition of events",
    description="Which files were each day's events loaded from, and how many rows were accepted?"
    " Days without events also have a row. To find changes, compare the ledger with a source.",
    key=("partition_date",),
    partition_column="partition_date",
    columns=(
        ma.Column("partition_date", "date", "Day that the partition covers."),
        ma.Column(
            "files",
            FILES_TYPE,
            "Files that were read, with each file's path in the source folder, size in bytes and"
            " SHA-256 hash. If the source is laid out by day, the list contains the day's files. In"
            " other layouts, the list contains all files as of the last run that found the day"
            " unchanged. If a source in another layout has several files, only the first day of a load"
            " lists all files, and each other day has a single entry with the number of files.",
        ),
        ma.Column(
            DIGEST,
            "string",
            "Digest of the day's raw rows in the form `row count:sum of row hashes`. Row order does not"
            " affect the digest.",
        ),
        *COUNTS,
    ),
)


@ma.rule(TABLE)
def digest_is_of_the_rows_read(bronze_loads: ir.Table, *, window: ma.Window) -> ir.Table:
    """The row count in the digest equals the number of rows read."""
    loads = ma.within(bronze_loads, "partition_date", window)
    number = loads.rows_digest.re_extract(r"^(\d+):\d+$", 1).try_cast("int64")
    return loads.filter(number.isnull() | (number != loads.rows_read))


@ma.rule(TABLE)
def most_rows_are_accepted(
    bronze_loads: ir.Table,
    bronze_rejected_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """In each run and on each day with enough rows, at most max_rejected_share of rows are rejected."""
    loads = ma.within(bronze_loads, "partition_date", window)
    rejected = ma.within(bronze_rejected_events, "partition_date", window)

    def every(rows: ir.Table) -> ir.Table:
        return rows.mutate(days=ibis.literal("all days"))

    def each_day(rows: ir.Table) -> ir.Table:
        return rows.mutate(days=rows.partition_date.cast("string"))

    share, population = policy.max_rejected_share, policy.alerts.min_alert_population
    days = mostly_rejected(
        each_day(loads), each_day(rejected), "days", max_share=share, min_rows=population
    )
    return mostly_rejected(every(loads), every(rejected), "days", max_share=share).union(days)


@ma.rule(TABLE)
def rows_add_up(
    bronze_loads: ir.Table,
    bronze_events: ir.Table,
    bronze_rejected_events: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """In the ledger and the tables, accepted, repeated and rejected rows add up to the rows read."""
    loads = ma.within(bronze_loads, "partition_date", window)
    # The first partition also contains earlier events.
    first = bronze_loads.aggregate(day=bronze_loads.partition_date.min()).day.as_scalar()
    events = bronze_events.mutate(accepted_date=ibis.greatest(bronze_events.event_date, first))
    events = ma.within(events, "accepted_date", window)
    accepted = events.group_by("accepted_date").aggregate(in_events=events.count())
    rejects = ma.within(bronze_rejected_events, "partition_date", window)
    rejected = rejects.group_by(rejected_date=rejects.partition_date).aggregate(
        in_rejected=rejects.count()
    )
    both = loads.outer_join(accepted, loads.partition_date == accepted.accepted_date)
    both = both.mutate(day=ibis.coalesce(both.partition_date, both.accepted_date))
    both = both.outer_join(rejected, both.day == rejected.rejected_date)
    both = both.select(
        *(column.name for column in COUNTS),
        partition_date=ibis.coalesce(both.day, both.rejected_date),
        in_table=both.in_events.fill_null(0),
        in_rejected=both.in_rejected.fill_null(0),
    )
    return both.filter(counts_differ(both))
