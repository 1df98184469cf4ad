"""Turn an input's files into accepted rows, rejected rows and a ledger entry.

The entity load and the event load both stage the files, classify every row, and fill the tables from
the classified rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import bronze_events, event_rules
from monstera_assets.bronze.aliases import MERGING
from monstera_assets.bronze.forgotten import forgetting
from monstera_assets.bronze.reading import Reading
from monstera_assets.bronze.validation import (
    DETAIL,
    MERGED,
    REASON,
    REPEATED,
    SUPERSEDED,
    raw_row,
)
from monstera_assets.source.fingerprint import FileFingerprint, fingerprint, summary
from monstera_assets.source.layout import SourceInput
from monstera_assets.source.reader import RawColumn, stage_rows
from monstera_assets.warehouse.batches import (
    count_rows,
    temporary_relation,
    temporary_table,
    temporary_view,
)
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.duckdb_engine import quote
from monstera_assets.warehouse.query_cache import QueryCache, open_cache
from monstera_assets.warehouse.tables import Table

_KNOWN = {
    "user": "bronze.bronze_users",
    "account": "bronze.bronze_accounts",
    "product": "bronze.bronze_product_catalog",
}
_SIMILAR = "regexp_replace(lower(trim({})), '[.]0+$', '')"


def open_queries() -> QueryCache:
    """Open the cache of queries on sources. A query's name covers the settings that it depends on."""
    return open_cache("source")


Classify = Callable[..., ir.Table]
"""A function that classifies staged rows."""


def stage(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    columns: Sequence[str],
    required: Sequence[str],
    *,
    copy: bool = True,
) -> tuple[ir.Table, ir.Table]:
    """Stage an input's files, and return the rows and the malformed records.

    In both results, tombstones replace the ids of erased people. For `copy`, see `stage_rows`.

    Raises:
        ForgottenKeyError: If people were erased and the key is missing, unusable or wrong.
        SourceError: If a required column is missing from a file, or a file cannot be read.
    """
    forgotten = forgetting(connection)
    raw = raw_columns(columns, required)
    copy = copy or forgotten is not None
    staged = stage_rows(connection, source_input, raw, source_input.name, copy=copy)
    if forgotten is not None:
        forgotten.staged(source_input.name)
    rows = temporary_relation(connection, staged.rows)
    return rows, temporary_relation(connection, staged.malformed)


class StagedEvents(NamedTuple):
    """The rows of events, each with an id, the malformed records, and the keys of repeated ids."""

    rows: ir.Table
    malformed: ir.Table
    keys: ir.Table


def staged_events(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    reading: Reading,
    queries: QueryCache,
    *,
    copy: bool = True,
) -> StagedEvents:
    """Stage events, and fill in missing ids. For `copy`, see `stage_rows`."""
    name = source_input.name
    rows, malformed = stage(
        connection, source_input, event_rules.SOURCE_COLUMNS, event_rules.REQUIRED, copy=copy
    )

    def keys_of(rows: ir.Table) -> ir.Table:
        select = queries.select(
            "repeated_keys",
            lambda: event_rules.repeated_keys(rows, reading),
            rows.get_name(),
            rows.schema(),
            reading,
        )
        return temporary_table(connection, f"{name}_repeated_keys", select)

    keys = keys_of(rows)
    if count_rows(connection, compile_duckdb(keys.filter(keys.repeated_key == event_rules.NO_ID))):
        filled = event_rules.with_ids(rows, bronze_events.TABLE, reading)
        rows = temporary_view(connection, f"{name}_with_ids", compile_duckdb(filled))
        keys = keys_of(rows)
    return StagedEvents(rows, malformed, keys)


def raw_columns(columns: Sequence[str], required: Sequence[str]) -> list[RawColumn]:
    """Return the columns to read from an input."""
    return [RawColumn(name, required=name in required) for name in columns]


def kept_columns(
    table: Table,
    classified: ir.Table,
    also: Sequence[str] = (),
    *,
    raw_if: ir.BooleanValue | None = None,
) -> ir.Table:
    """Select the table's columns, `also`, the reason, the file and, for rejected rows, the raw row.

    `raw_if` is true for other rows whose raw row is also selected.
    """
    rejected = classified[REASON].notnull()
    if raw_if is not None:
        rejected |= raw_if
    return classified.select(
        *(column.name for column in table.columns),
        *also,
        REASON,
        "source_file",
        raw_row=ibis.ifelse(rejected, raw_row(classified), None),
    )


def forget_in_rejected(connection: duckdb.DuckDBPyConnection, classified: str) -> bool:
    """Pseudonymize the raw rows in a temporary table, and return whether anyone was erased."""
    forgotten = forgetting(connection)
    if forgotten is None:
        return False
    forgotten.texts(classified, "raw_row", "raw_row IS NOT NULL")
    forgotten.drop_temporary()
    return True


def accepted(table: Table, classified: str) -> str:
    """Return the query that selects the columns of `table` from a temporary table's accepted rows."""
    columns = ", ".join(quote(column.name) for column in table.columns)
    return f"SELECT {columns} FROM {quote(classified)} WHERE {REASON} IS NULL"


def with_details(rejected: str, refusals: str) -> str:
    """Return a query that adds `rejection_detail` to rejected rows.

    If a row's user or account was rejected, the row's reason becomes `user_rejected` or
    `account_rejected`, and the detail is the user's or account's rejection reason. If a row contains an
    unknown id, the detail is a known id that differs only in case, surrounding spaces or a trailing .0.
    Aliases are replaced with their users.

    Args:
        rejected: a query that returns `rejection_reason` and `raw_row` for rejected rows.
        refusals: a table or a parenthesized query that contains `input_name`, `rejection_reason` and
            `raw_row` for rejected users and accounts.
    """
    known = " UNION ALL ".join(
        f"SELECT '{kind}' AS kind, {kind}_id AS id FROM {table}" for kind, table in _KNOWN.items()
    )
    return f"""
        WITH rejected AS ({rejected}), merging AS (
            SELECT 'user' AS kind, alias_id AS named_id, merged_user_id AS end_id FROM {MERGING}
        ), found AS (
            SELECT *, regexp_extract({REASON}, '^unknown_(user|account|product)$', 1) AS kind,
                CASE WHEN kind <> '' AND json_valid(raw_row) THEN
                    coalesce(raw_row ->> ('$.' || kind || '_id'), raw_row ->> '$.entity_id')
                END AS named_id
            FROM rejected
        ), named AS (
            SELECT * EXCLUDE (named_id, end_id), coalesce(end_id, named_id) AS id
            FROM found LEFT JOIN merging USING (kind, named_id)
        ), refused AS (
            SELECT kind, coalesce(end_id, named_id) AS id, min(reason) AS reason FROM (
                SELECT left(input_name, -1) AS kind, {REASON} AS reason, CASE WHEN
                    json_valid(raw_row) THEN raw_row ->> ('$.' || kind || '_id') END AS named_id
                FROM {refusals} AS refusals
                WHERE input_name IN ('users', 'accounts')
                    AND {REASON} NOT IN ('{SUPERSEDED}', '{REPEATED}', '{MERGED}')
            ) LEFT JOIN merging USING (kind, named_id)
            GROUP BY ALL
        ), known AS (
            SELECT kind, {_SIMILAR.format("id")} AS similar_id, min(id) AS known_id
            FROM ({known}) GROUP BY ALL
        )
        SELECT named.* EXCLUDE (kind, id)
            REPLACE (if(refused.reason IS NULL, {REASON}, named.kind || '_rejected') AS {REASON}),
            coalesce(refused.reason, known_id) AS {DETAIL}
        FROM named
        LEFT JOIN refused ON refused.kind = named.kind AND refused.id = named.id
        LEFT JOIN known ON known.kind = named.kind
            AND similar_id = {_SIMILAR.format("named.id")}
    """


def with_files(
    connection: duckdb.DuckDBPyConnection, entries: str, source_input: SourceInput
) -> str:
    """Return a query that adds each file's path, size and hash to an input's ledger entry."""
    return _with_files(connection, entries, source_input, date.min, is_listed="true")


def with_daily_files(
    connection: duckdb.DuckDBPyConnection,
    entries: str,
    source_input: SourceInput,
    first_partition: date,
    listed_on: str,
) -> str:
    """Return a query that adds each file's path, size and hash to daily ledger entries.

    If the source is laid out by day, each entry lists the files for its `partition_date`, and the first
    partition's entry also lists the files for earlier days. In other layouts, the entry for the day in
    the SQL expression `listed_on` lists all files, and all other entries contain a summary. Each file
    is therefore stored only once per load.
    """
    return _with_files(
        connection,
        entries,
        source_input,
        first_partition,
        is_listed=f"partition_date = {listed_on}",
    )


def _with_files(
    connection: duckdb.DuckDBPyConnection,
    entries: str,
    source_input: SourceInput,
    first_partition: date,
    *,
    is_listed: str,
) -> str:
    prints = [fingerprint(file) for file in source_input.files]
    name = quote(f"{source_input.name}_files")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT unnest(?::DATE[]) AS folder_date,"
        " unnest(?::VARCHAR[]) AS path, unnest(?::BIGINT[]) AS size_bytes,"
        " unnest(?::VARCHAR[]) AS sha256",
        [
            [
                file.folder_date and max(file.folder_date, first_partition)
                for file in source_input.files
            ],
            *([getattr(each, field) for each in prints] for field in FileFingerprint._fields),
        ],
    )
    listed = (
        "list({'path': path, 'size_bytes': size_bytes, 'sha256': sha256} ORDER BY path) AS files"
    )
    if source_input.by_day:
        return (
            f"SELECT entries.*, coalesce(files, []) AS files FROM ({entries}) AS entries LEFT JOIN"
            f" (SELECT folder_date, {listed} FROM {name} GROUP BY folder_date)"
            " ON partition_date = folder_date"
        )
    lists = quote(f"{source_input.name}_file_lists")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {lists} AS SELECT coalesce(files, []) AS every, CASE WHEN"
        " len(every) > 1 THEN [{'path': ?, 'size_bytes': ?::BIGINT, 'sha256': ?}] ELSE every END"
        f" AS summary FROM (SELECT {listed} FROM {name})",
        list(summary(prints)),
    )
    return (
        f"SELECT entries.*, CASE WHEN {is_listed} THEN every ELSE summary END AS files"
        f" FROM ({entries}) AS entries CROSS JOIN {lists}"
    )
