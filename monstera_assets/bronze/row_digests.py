"""Digests of raw event rows: what tells whether a day's rows have changed.

A day's digest depends on the rows and not on their order: each row's text is hashed by MD5, and the
two halves of the hashes are added up. A sum, unlike an exclusive or, also sees a row that is there
twice more. Whether a row repeats an `event_id` is part of its text, because that can change with the
rows of other days; so is its file, which the table of rejected rows names.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.validation import raw_row

DIGEST = "rows_digest"
NO_ROWS = "0:0:0"
"""The digest of a day without rows."""

HASH = ("digest_lower", "digest_upper")
"""The columns of a row's hash."""


@ibis.udf.scalar.builtin(name="md5_number_lower", signature=(("string",), "uint64"))  # type: ignore[untyped-decorator]  # Ibis has no stubs
def _lower(text: str) -> int: ...  # type: ignore[empty-body]  # DuckDB's


@ibis.udf.scalar.builtin(name="md5_number_upper", signature=(("string",), "uint64"))  # type: ignore[untyped-decorator]  # Ibis has no stubs
def _upper(text: str) -> int: ...  # type: ignore[empty-body]  # DuckDB's


def row_hashes(rows: ir.Table) -> dict[str, ir.Value]:
    """The hash of each row, in two columns, for rows as `read_events` gives them."""
    repeats = ibis.ifelse(rows.duplicate_rank > 0, "repeated", "first")
    return _hashes(rows.source_file, repeats, raw_row(rows))


def malformed_hashes(malformed: ir.Table) -> dict[str, ir.Value]:
    """The same for records that are no rows."""
    return _hashes(malformed.source_file, malformed.reason, malformed.raw_line)


def digests_by_day(hashed: ir.Table) -> ir.Table:
    """The digest of each day.

    Args:
        hashed: one row a source row: `partition_date` and its hash.

    Returns:
        `partition_date`, `rows_read` and `rows_digest`, as rows:sum:sum.
    """
    counted = hashed.group_by("partition_date").aggregate(
        rows_read=hashed.count(),
        # As decimals: sums of 64 bit numbers exceed 64 bits.
        **{name: hashed[name].cast("decimal(38, 0)").sum() for name in HASH},
    )
    parts = [counted[name].cast("string") for name in ("rows_read", *HASH)]
    return counted.select(
        "partition_date", "rows_read", **{DIGEST: parts[0] + ":" + parts[1] + ":" + parts[2]}
    )


def _hashes(*texts: ir.Value) -> dict[str, ir.Value]:
    # As JSON, so that no two rows have the same text.
    names = (f"part_{number}" for number in range(len(texts)))
    text = ibis.struct(dict(zip(names, texts, strict=True))).cast("json").cast("string")
    return {HASH[0]: _lower(text), HASH[1]: _upper(text)}
