"""From the files of one input to accepted rows, rejected rows and a ledger entry.

Both loads, of entities and of events, go this way: stage the files, classify every row once, keep
the result in a temporary table, and fill the tables from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_loads import FILES_TYPE
from monstera_assets.bronze.forgotten import forgetting
from monstera_assets.bronze.validation import REASON, raw_row
from monstera_assets.source.fingerprint import fingerprint
from monstera_assets.source.layout import SourceInput
from monstera_assets.source.reader import RawColumn, stage_rows
from monstera_assets.warehouse.batches import temporary_relation, temporary_table
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.writer import quote

Classify = Callable[[ir.Table], ir.Table]


def stage(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    copy: bool = True,
) -> tuple[ir.Table, ir.Table]:
    """Stage an input's files; the rows that can be read and the records that cannot.

    In both, people who were forgotten have their tombstone instead of their id.

    Args:
        connection: where the rows are staged.
        source_input: the files to read.
        required: columns that every file must have.
        optional: further columns to read.
        copy: False to read rows where they are, if nothing stands against it; see `stage_rows`.

    Raises:
        ForgottenKeyError: people were forgotten, and the key to know them by is not there.
        SourceError: a file lacks a required column, or cannot be read at all.
    """
    forgotten = forgetting(connection)
    columns = raw_columns(required, optional)
    copy = copy or forgotten is not None
    staged = stage_rows(connection, source_input, columns, source_input.name, copy=copy)
    if forgotten is not None:
        forgotten.staged(source_input.name)
    return (
        temporary_relation(connection, staged.rows),
        temporary_relation(connection, staged.malformed),
    )


def raw_columns(required: Sequence[str], optional: Sequence[str]) -> list[RawColumn]:
    """The columns to read of an input."""
    return [
        *(RawColumn(name, required=True) for name in required),
        *(RawColumn(name, required=False) for name in optional),
    ]


def keep_classified(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, classified: ir.Table
) -> ir.Table:
    """Compute the classification once, as `what_is_kept` of it.

    Args:
        connection: where the temporary table `<name>_classified` is made.
        name: the input's name.
        table: the declaration whose columns are kept.
        classified: rows with `rejection_reason`, `source_file` and raw columns.
    """
    rows = temporary_table(connection, f"{name}_classified", what_is_kept(table, classified))
    forget_in_rejected(connection, f"{name}_classified")
    return rows


def what_is_kept(table: Table, classified: ir.Table, also: Sequence[str] = ()) -> ir.Table:
    """The table's columns, reason, file and, if rejected, raw row of classified rows.

    Args:
        table: the declaration whose columns are kept.
        classified: rows with `rejection_reason`, `source_file` and raw columns.
        also: further columns to keep.
    """
    rejected = classified[REASON].notnull()
    return classified.select(
        *(column.name for column in table.columns),
        *also,
        REASON,
        "source_file",
        raw_row=ibis.ifelse(rejected, raw_row(classified), None),
    )


def forget_in_rejected(connection: duckdb.DuckDBPyConnection, classified: str) -> bool:
    """Make the raw rows of a temporary table nameless; whether anybody is forgotten."""
    forgotten = forgetting(connection)
    if forgotten is None:
        return False
    forgotten.texts(classified, "raw_row", "raw_row IS NOT NULL")
    forgotten.drop_temporary()
    return True


def accepted(classified: ir.Table, table: Table) -> ir.Table:
    """The accepted rows, in the table's columns."""
    rows = classified.filter(classified[REASON].isnull())
    return rows.select(*(column.name for column in table.columns))


def with_files(
    connection: duckdb.DuckDBPyConnection, entries: ir.Table, source_input: SourceInput
) -> ir.Table:
    """Add to ledger entries the `files` they were read from, with size and hash.

    Entries of an input laid out by day have a `partition_date` and get the files of their folder;
    all others get all files.
    """
    prints = [fingerprint(file) for file in source_input.files]
    name = f"{source_input.name}_files"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {quote(name)} AS SELECT unnest(?::DATE[]) AS folder_date,"
        " unnest(?::VARCHAR[]) AS path, unnest(?::BIGINT[]) AS size_bytes,"
        " unnest(?::VARCHAR[]) AS sha256",
        [
            [file.folder_date for file in source_input.files],
            [print_.relative_path for print_ in prints],
            [print_.size_bytes for print_ in prints],
            [print_.sha256 for print_ in prints],
        ],
    )
    files = temporary_relation(connection, name)
    entry = ibis.struct(
        {"path": files.path, "size_bytes": files.size_bytes, "sha256": files.sha256}
    )
    none: ir.Value = ibis.literal([], type=FILES_TYPE)
    if source_input.by_day:
        of_day = files.group_by("folder_date").aggregate(files=entry.collect(order_by=files.path))
        joined = entries.left_join(of_day, entries.partition_date == of_day.folder_date)
        return joined.drop("folder_date").mutate(files=ibis.coalesce(joined.files, none))
    listed = files.aggregate(files=entry.collect(order_by=files.path))
    return entries.cross_join(listed).mutate(files=ibis.coalesce(ibis._.files, none))
