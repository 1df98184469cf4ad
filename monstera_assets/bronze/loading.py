"""Turn the files of one input into accepted rows, rejected rows and a ledger entry.

Both loads (entities and events) stage the files, classify every row, and fill the tables from the
temporary result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.forgotten import forgetting
from monstera_assets.bronze.validation import REASON, raw_row
from monstera_assets.source.fingerprint import FileFingerprint, fingerprint
from monstera_assets.source.layout import SourceInput
from monstera_assets.source.reader import RawColumn, stage_rows
from monstera_assets.warehouse.batches import temporary_relation
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
    """Stage an input's files, and return the rows and the malformed records.

    Both contain tombstones instead of the ids of erased people. For `copy`, see `stage_rows`.

    Raises:
        ForgottenKeyError: If people were erased, and the key is missing, unusable or wrong.
        SourceError: If a file lacks a required column or cannot be read.
    """
    forgotten = forgetting(connection)
    columns = raw_columns(required, optional)
    copy = copy or forgotten is not None
    staged = stage_rows(connection, source_input, columns, source_input.name, copy=copy)
    if forgotten is not None:
        forgotten.staged(source_input.name)
    rows = temporary_relation(connection, staged.rows)
    return rows, temporary_relation(connection, staged.malformed)


def raw_columns(required: Sequence[str], optional: Sequence[str]) -> list[RawColumn]:
    """Return the columns to read from an input."""
    return [
        *(RawColumn(name, required=True) for name in required),
        *(RawColumn(name, required=False) for name in optional),
    ]


def kept_columns(table: Table, classified: ir.Table, also: Sequence[str] = ()) -> ir.Table:
    """Select the table's columns, `also`, reason, file and, for rejected rows, the raw row."""
    rejected = classified[REASON].notnull()
    return classified.select(
        *(column.name for column in table.columns),
        *also,
        REASON,
        "source_file",
        raw_row=ibis.ifelse(rejected, raw_row(classified), None),
    )


def forget_in_rejected(connection: duckdb.DuckDBPyConnection, classified: str) -> bool:
    """Pseudonymize the raw rows of a temporary table; return whether anyone was erased."""
    forgotten = forgetting(connection)
    if forgotten is None:
        return False
    forgotten.texts(classified, "raw_row", "raw_row IS NOT NULL")
    forgotten.drop_temporary()
    return True


def accepted(table: Table, classified: str) -> str:
    """Return the query for the accepted rows of a temporary table, in the table's columns."""
    columns = ", ".join(quote(column.name) for column in table.columns)
    return f"SELECT {columns} FROM {quote(classified)} WHERE {REASON} IS NULL"


def with_files(
    connection: duckdb.DuckDBPyConnection, entries: str, source_input: SourceInput
) -> str:
    """Return a query that adds `files`, with size and hash, to a query for ledger entries.

    In a layout by day, each entry gets the files of its `partition_date`; otherwise, all files.
    """
    prints = [fingerprint(file) for file in source_input.files]
    name = quote(f"{source_input.name}_files")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT unnest(?::DATE[]) AS folder_date,"
        " unnest(?::VARCHAR[]) AS path, unnest(?::BIGINT[]) AS size_bytes,"
        " unnest(?::VARCHAR[]) AS sha256",
        [
            [file.folder_date for file in source_input.files],
            *([getattr(each, field) for each in prints] for field in FileFingerprint._fields),
        ],
    )
    listed = (
        "list({'path': path, 'size_bytes': size_bytes, 'sha256': sha256} ORDER BY path) AS files"
    )
    files = (
        f"LEFT JOIN (SELECT folder_date, {listed} FROM {name} GROUP BY folder_date)"
        " ON partition_date = folder_date"
        if source_input.by_day
        else f"CROSS JOIN (SELECT {listed} FROM {name})"
    )
    return f"SELECT entries.*, coalesce(files, []) AS files FROM ({entries}) AS entries {files}"
