"""Compute digests of raw event rows to detect days whose rows have changed.

A digest contains the sum of a day's row hashes, so digests do not depend on row order. Unlike an
exclusive or, a sum detects a row that was added twice. Each hash includes the row's file, because
rejected rows record their file. Each hash also includes whether a later row has the same `event_id`,
because a row with the same id can be added on another day.

DuckDB's 63-bit hash is much faster than a cryptographic hash, and forgery is not a concern. If a DuckDB
upgrade changes the hash function, all days appear changed once.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

DIGEST = "rows_digest"
NO_ROWS = "0:0"
"""The digest for a day without rows."""

HASH = "row_hash"
"""The column that contains each row's hash."""


def row_hash(rows: ir.Table) -> ir.IntegerValue:
    """Return the hash of each row from `rank_events`."""
    raw = {name: rows[name].cast("string") for name in rows.columns if name.startswith("raw_")}
    return _hash(rows.source_file, rows.later_rows > 0, *raw.values())


def malformed_hash(malformed: ir.Table) -> ir.IntegerValue:
    """Return the hash of each malformed record."""
    return _hash(malformed.source_file, malformed.reason, malformed.raw_line)


def digests_by_day(hashed: ir.Table) -> ir.Table:
    """Return `rows_read` and `rows_digest` (row count and hash sum) for each `partition_date`."""
    counted = hashed.group_by("partition_date").aggregate(
        rows_read=hashed.count(), total=hashed[HASH].sum()
    )
    digest = counted.rows_read.cast("string") + ":" + counted.total.cast("string")
    return counted.select("partition_date", "rows_read", **{DIGEST: digest})


def _hash(*values: ir.Value) -> ir.IntegerValue:
    parts = {f"part_{number}": value for number, value in enumerate(values)}
    return ibis.struct(parts).hash()
