"""Digests of raw event rows: what tells whether a day's rows have changed.

A day's digest depends on the rows and not on their order: the hashes of all rows are added up. A sum,
unlike an exclusive or, also sees a row that is there twice more. Whether a row repeats an `event_id` is
part of its hash, because that can change with the rows of other days; so is its file, which the table
of rejected rows names.

The hash is DuckDB's, of 63 bits: many times faster than a cryptographic one, and nobody forges events
here. Another version of DuckDB may hash otherwise; all days then look changed once.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

DIGEST = "rows_digest"
NO_ROWS = "0:0"
"""The digest of a day without rows."""

HASH = "row_hash"
"""The column of a row's hash."""


def row_hash(rows: ir.Table) -> ir.IntegerValue:
    """The hash of each row, for rows as `rank_events` gives them."""
    raw = {name: rows[name].cast("string") for name in rows.columns if name.startswith("raw_")}
    return _hash(rows.source_file, rows.duplicate_rank > 0, *raw.values())


def malformed_hash(malformed: ir.Table) -> ir.IntegerValue:
    """The same for records that are no rows."""
    return _hash(malformed.source_file, malformed.reason, malformed.raw_line)


def digests_by_day(hashed: ir.Table) -> ir.Table:
    """The `rows_read` and `rows_digest`, as rows:sum, of each `partition_date`, from a hash a row."""
    counted = hashed.group_by("partition_date").aggregate(
        rows_read=hashed.count(), total=hashed[HASH].sum()
    )
    digest = counted.rows_read.cast("string") + ":" + counted.total.cast("string")
    return counted.select("partition_date", "rows_read", **{DIGEST: digest})


def _hash(*values: ir.Value) -> ir.IntegerValue:
    parts = {f"part_{number}": value for number, value in enumerate(values)}
    return ibis.struct(parts).hash()
