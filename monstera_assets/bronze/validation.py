"""Rules for accepting source rows, in Ibis; the first broken rule is the rejection reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from monstera_assets.warehouse.tables import Column, Table

Rejection = tuple[str, ir.BooleanValue]
"""A rejection reason and its condition; it does not apply where the condition is null."""

REASON = "rejection_reason"


def typed(rows: ir.Table, table: Table, source_names: Mapping[str, str] | None = None) -> ir.Table:
    """Read the raw columns of a source as the declared types; unreadable values become null.

    The raw columns are kept with the prefix `raw_`. Table columns missing from the source are omitted;
    `source_names` maps columns to their names in the source, if different.
    """
    names = source_names or {}
    raw = {name: f"raw_{name}" for name in rows.columns}
    renamed = rows.select(**{new: rows[old] for old, new in raw.items()})
    read = {
        column.name: read_as(renamed[f"raw_{names.get(column.name, column.name)}"], column.dtype)
        for column in table.columns
        if f"raw_{names.get(column.name, column.name)}" in renamed.columns
    }
    return renamed.mutate(**read).rename(
        source_file="raw_source_file", folder_date="raw_folder_date"
    )


def read_as(raw: ir.Value, dtype: dt.DataType) -> ir.Value:
    """Read a raw value as a type; empty and invalid values become null, even if a cast accepts them."""
    dtype = dtype.copy(nullable=True)
    if dtype.is_string():
        return raw.cast("string").nullif("")
    if dtype.is_timestamp() and raw.type().is_string():
        # Cast to a zoned timestamp first, which respects an offset in the text; the connection's
        # time zone is UTC.
        return _finite(raw.try_cast("timestamp('UTC')").cast("timestamp"))
    if dtype.is_temporal():
        return _finite(raw.try_cast(dtype))
    if dtype.is_integer() and not raw.type().is_integer():
        # DuckDB would round 3.7 seats to 4. NaN and infinity have no remainder.
        is_whole = raw.try_cast("float64") % 1 == 0
        return ibis.ifelse(is_whole, raw.try_cast(dtype), None)
    return raw.try_cast(dtype)


def _finite(value: ir.Value) -> ir.Value:
    # DuckDB accepts 'infinity' and years far outside the calendar.
    return ibis.ifelse(value.year().between(1, 9999), value, None)


def required_columns(table: Table) -> tuple[str, ...]:
    """Return the names of the columns that are not nullable."""
    return tuple(column.name for column in table.columns if not column.nullable)


def column_rules(
    rows: ir.Table, table: Table, duplicate: str, required: Sequence[str] | None = None
) -> list[Rejection]:
    """Return the rules common to entity tables, for rows from `rank_duplicates`.

    `duplicate` is the reason for rows with a repeated key; `required` lists the columns that must
    not be empty, by default all non-nullable columns.
    """
    return [
        *missing(rows, required_columns(table) if required is None else required),
        (duplicate, rows.duplicate_rank > 0),
        *unreadable(rows, [c.name for c in table.columns if not c.dtype.is_string()]),
        *unknown_values(rows, [column for column in table.columns if column.allowed]),
    ]


def missing(rows: ir.Table, columns: Iterable[str]) -> list[Rejection]:
    """Return rules that reject empty values of required columns."""
    return [(f"missing_{name}", _is_blank(rows[f"raw_{name}"])) for name in columns]


def unreadable(
    rows: ir.Table, columns: Iterable[str], source_names: Mapping[str, str] | None = None
) -> list[Rejection]:
    """Return rules that reject values of the wrong type; for `source_names`, see `typed`."""
    named = [(name, (source_names or {}).get(name, name)) for name in columns]
    return [
        (f"unreadable_{source}", rows[name].isnull() & ~_is_blank(rows[f"raw_{source}"]))
        for name, source in named
    ]


def unknown_values(rows: ir.Table, columns: Iterable[Column]) -> list[Rejection]:
    """Return rules that reject values not allowed for their column."""
    return [(f"unknown_{each.name}", rows[each.name].notin(each.allowed)) for each in columns]


def unknown_reference(
    rows: ir.Table, column: str, reference: ir.Table, reason: str
) -> tuple[ir.Table, Rejection]:
    """Look up a column in another table; return joined rows and a rule that rejects unknown values."""
    known = reference.select(
        **{f"known_{column}": reference[column], f"is_known_{column}": True}
    ).distinct()
    joined = rows.left_join(known, rows[column] == known[f"known_{column}"]).drop(f"known_{column}")
    return joined, (reason, joined[column].notnull() & joined[f"is_known_{column}"].isnull())


def rank_duplicates(rows: ir.Table, key: Sequence[str], order_by: Sequence[ir.Value]) -> ir.Table:
    """Add `duplicate_rank`, which is 0 for the kept row of each key and higher for the others.

    Almost all keys are unique, so only rows whose key hash repeats are ordered; keys with the same
    hash are ordered separately.
    """
    is_whole = ibis.and_(*(rows[name].notnull() for name in key))
    key_hash = ibis.struct({name: rows[name] for name in key}).hash()
    hashed = rows.mutate(key_hash=ibis.ifelse(is_whole, key_hash, None))
    counted = hashed.group_by("key_hash").aggregate(times=hashed.count())
    repeated = counted.filter(counted.times > 1, counted.key_hash.notnull())
    single = hashed.anti_join(repeated, "key_hash").drop("key_hash")
    single = single.mutate(duplicate_rank=ibis.literal(0, "int64"))
    several = hashed.semi_join(repeated, "key_hash").drop("key_hash")
    ranked = several.mutate(
        duplicate_rank=ibis.row_number()
        .over(ibis.window(group_by=list(key), order_by=list(order_by)))
        .cast("int64")
    )
    return single.union(ranked.select(*single.columns))


def first_reason(rules: Sequence[Rejection]) -> ir.StringValue:
    """Return the first reason that applies to a row, or null if none does."""
    return ibis.cases(*((condition, reason) for reason, condition in rules))


def with_reason(rows: ir.Table, rules: Sequence[Rejection]) -> ir.Table:
    """Add the first reason that applies to each row, or null if it is accepted."""
    return rows.mutate(**{REASON: first_reason(rules)})


def raw_row(rows: ir.Table) -> ir.StringValue:
    """Return the delivered row as JSON text."""
    raw = {
        name.removeprefix("raw_"): rows[name].cast("string")
        for name in rows.columns
        if name.startswith("raw_")
    }
    return ibis.struct(raw).cast("json").cast("string")


def _is_blank(raw: ir.Value) -> ir.BooleanValue:
    return raw.isnull() | (raw.cast("string") == "")
