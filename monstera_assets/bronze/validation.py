"""Validate source rows with Ibis. The first rule that a row breaks is the rejection reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.reading import Reading
from monstera_assets.warehouse.tables import Column

Rejection = tuple[str, ir.BooleanValue]
"""A rejection reason and its condition. The reason does not apply if the condition is null."""

REASON = "rejection_reason"
DETAIL = "rejection_detail"

SUPERSEDED = "superseded"
"""The reason for rejecting a valid row that is replaced by another row with the same id."""
REPEATED = "repeated"
"""The reason for a row that a later row repeats. Repeated rows are counted but not stored."""
HELD_BACK = "held_back"
"""The reason for a valid row that affects days before the earliest day that the run recomputes."""
MERGED = "merged"
"""The reason for setting a valid row aside because its id is an alias of a user."""

UNDER_ALIAS = "under_alias"
"""The column that is true for rows whose id is an alias of a user."""

SET_ASIDE = (SUPERSEDED, MERGED, HELD_BACK)
"""The reasons for rejecting valid rows. These rows do not count as rejected in shares of rows."""

FAULTS = "faults"
FAULTS_COLUMN = Column(
    FAULTS,
    "string",
    "Faults that were corrected when the row was loaded, separated by commas, or null if none.",
    nullable=True,
)


def typed(
    rows: ir.Table,
    columns: Iterable[Column],
    reading: Reading,
    source_names: Mapping[str, str] | None = None,
) -> ir.Table:
    """Convert a source's raw columns to the declared types. Unreadable values become null.

    Each raw column is kept with the prefix `raw_`. A text version, in which null words are null, has
    the prefix `text_`. Table columns that are missing from the source are omitted. `source_names` maps
    table columns to source columns with different names.
    """
    names = source_names or {}
    renamed = rows.select(**{f"raw_{name}": rows[name] for name in rows.columns})
    read = {
        column: source
        for column in columns
        if (source := names.get(column.name, column.name)) in rows.columns
    }
    # Values are computed from columns, because DuckDB would evaluate a nested expression repeatedly.
    texts = renamed.mutate(
        **{f"text_{source}": reading.text(renamed[f"raw_{source}"]) for source in read.values()}
    )
    given = {
        column: f"{'text' if rows[source].type().is_string() else 'raw'}_{source}"
        for column, source in read.items()
    }
    values = with_values(texts, given, reading)
    return values.rename(
        source_file="raw_source_file", folder_date="raw_folder_date", row_number="raw_row_number"
    )


def with_values(rows: ir.Table, given: Mapping[Column, str], reading: Reading) -> ir.Table:
    """Add columns with the declared types, converted from other columns. Strings come from `text`."""
    of_column = {
        column: reading.steps(rows[name].type(), column.dtype) for column, name in given.items()
    }
    for number in range(max(map(len, of_column.values()), default=0)):
        rows = rows.mutate(
            **{
                column.name: steps[number](
                    rows[column.name if number else given[column]], rows[given[column]]
                )
                for column, steps in of_column.items()
                if number < len(steps)
            }
        )
    return rows


def missing(rows: ir.Table, columns: Iterable[str]) -> list[Rejection]:
    """Return rules that reject missing values in required columns. Column names are source names."""
    return [(f"missing_{name}", rows[f"text_{name}"].isnull()) for name in columns]


def unreadable(
    rows: ir.Table,
    columns: Iterable[str],
    source_names: Mapping[str, str] | None = None,
) -> list[Rejection]:
    """Return conditions that are true for unreadable values. For `source_names`, see `typed`."""
    named = [(name, (source_names or {}).get(name, name)) for name in columns]
    return [
        (
            f"unreadable_{source}",
            rows[name].isnull() & rows[f"text_{source}"].notnull(),
        )
        for name, source in named
    ]


def unknown_values(rows: ir.Table, columns: Iterable[Column]) -> list[Rejection]:
    """Return rules that reject values that are not allowed in their columns."""
    return [(f"unknown_{each.name}", rows[each.name].notin(each.allowed)) for each in columns]


def unknown_reference(
    rows: ir.Table, column: str, reference: ir.Table, reason: str
) -> tuple[ir.Table, Rejection]:
    """Look up a column in another table, and return the rows and a rule that rejects unknown values."""
    known = reference.select(
        **{f"known_{column}": reference[column], f"is_known_{column}": True}
    ).distinct()
    joined = rows.left_join(known, rows[column] == known[f"known_{column}"]).drop(f"known_{column}")
    return joined, (reason, joined[column].notnull() & joined[f"is_known_{column}"].isnull())


def keep_last(rows: ir.Table, key: Sequence[str], content: Sequence[str]) -> ir.Table:
    """Set the rejection reason for each accepted row that is not the last row with its key.

    Among accepted rows with the same key, the last row in the last file is kept. Each earlier row is
    `repeated` if a later row has the same content, and `superseded` otherwise.
    """
    accepted = rows[REASON].isnull()
    place = [rows.source_file.desc(), rows.row_number.desc()]
    of_key = ibis.window(group_by=[*key, accepted], order_by=place)
    of_content = ibis.window(group_by=[*key, *content, accepted], order_by=place)
    is_last = ibis.row_number().over(of_key) == 0
    is_last_of_content = ibis.row_number().over(of_content) == 0
    reason = ibis.cases(
        (~accepted, rows[REASON]),
        (is_last, None),
        (is_last_of_content, SUPERSEDED),
        else_=REPEATED,
    )
    return rows.mutate(**{REASON: reason})


def fault_names(conditions: Sequence[Rejection]) -> ir.StringValue:
    """Return the names of all true conditions, separated by commas, or null if no condition is true."""
    holds = [condition.fill_null(False) for _, condition in conditions]
    names = [
        ibis.ifelse(condition, name, None)
        for (name, _), condition in zip(conditions, holds, strict=True)
    ]
    # Names are joined only if a condition is true, which is rare.
    return ibis.ifelse(ibis.or_(*holds), ibis.literal(",").join(names), None)


def first_reason(rules: Sequence[Rejection]) -> ir.StringValue:
    """Return the first reason that applies to a row, or null if no reason applies."""
    return ibis.cases(*((condition, reason) for reason, condition in rules))


def with_reason(rows: ir.Table, rules: Sequence[Rejection]) -> ir.Table:
    """Add the first rejection reason that applies to each row, or null if the row is accepted."""
    return rows.mutate(**{REASON: first_reason(rules)})


def raw_row(rows: ir.Table) -> ir.StringValue:
    """Return the delivered row as JSON text."""
    raw = {
        name.removeprefix("raw_"): rows[name].cast("string")
        for name in rows.columns
        if name.startswith("raw_")
    }
    return ibis.struct(raw).cast("json").cast("string")
