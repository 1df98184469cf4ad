"""Write rows from DuckDB as files of Iceberg tables, and change stored rows with DuckDB."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from pyarrow import parquet

from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, in_window, quote
from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog
from monstera_assets.warehouse.iceberg.cleanup import clean_up
from monstera_assets.warehouse.iceberg.replacement import rewrite_files
from monstera_assets.warehouse.iceberg.stored_table import StoredTable, typed_rows
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow, windows_of

_VIEW = "rows_to_change"


def write_files(
    connection: duckdb.DuckDBPyConnection,
    stored: StoredTable,
    windows: Sequence[DateWindow] | None = None,
) -> Sequence[str]:
    """Write a DuckDB table's rows as Parquet files, one per day, and return the files' URLs.

    Args:
        connection: the connection.
        stored: the table, loaded for writing.
        windows: the days to write of a daily table, or None for all rows.
    """
    table, folder = stored.declared, stored.new_folder()
    columns = ", ".join(quote(column.name) for column in table.data_columns)
    select = f"SELECT {columns} FROM {table.qualified_name}"
    conditions = [""]
    if (day := table.partition_column) is not None:
        chosen = " OR ".join(in_window(table, window) for window in windows or ())
        days = connection.execute(
            f"SELECT DISTINCT {quote(day)} FROM {table.qualified_name} WHERE {chosen or 'true'}"
            " ORDER BY ALL"
        ).fetchall()
        conditions = [f" WHERE {quote(day)} = DATE '{value}'" for (value,) in days]
    system, path, _ = stored.filesystem(folder)
    system.create_dir(path)
    for number, condition in enumerate(conditions):
        batches: Any = connection.sql(select + condition).to_arrow_reader()
        name = f"{path}/{number}.parquet"
        with parquet.ParquetWriter(name, batches.schema, filesystem=system) as writer:
            for batch in batches:
                writer.write_batch(batch)
    return stored.files_in(folder)


def rewrite(
    catalog: IcebergCatalog,
    tables: Sequence[Table],
    folder: Path,
    find: Callable[[duckdb.DuckDBPyConnection, Mapping[Table, str]], Collection[str]],
    change: Callable[[duckdb.DuckDBPyConnection], None],
) -> None:
    """Change the rows that contain given texts, and delete the files with the old rows.

    Args:
        catalog: the catalog.
        tables: the tables, which need not exist.
        folder: the folder for a temporary DuckDB file with the rows of the changed days.
        find: returns the texts (see `Engine.rewrite`).
        change: changes the rows.

    Raises:
        ConflictingWriteError: If another run replaced the same days in the meantime.
    """
    opened = {table: catalog.opened(table) for table in filter(catalog.exists, tables)}
    with (
        TemporaryDirectory(prefix="rewrite-", dir=folder) as temporary,
        connect(f"{temporary}/rows.duckdb", connection_config()) as copy,
    ):
        views = {table: f"{_VIEW}_{table.name}" for table in opened}
        for table, stored in opened.items():
            copy.register(views[table], stored.dataset())
        if texts := find(copy, views):
            _change(copy, opened, views, texts, change)
    # Also after an interrupted change, whose old files may be left.
    for table in opened:
        clean_up(catalog.opened(table), datetime.now(UTC) + timedelta(seconds=1))


def _change(
    copy: duckdb.DuckDBPyConnection,
    opened: Mapping[Table, StoredTable],
    views: Mapping[Table, str],
    texts: Collection[str],
    change: Callable[[duckdb.DuckDBPyConnection], None],
) -> None:
    """Copy the rows that contain the texts, change the copy, and replace the rows."""
    days = {
        table: _days_with(copy, table, view, texts)
        for table, view in views.items()
        if table.partition_column is not None
    }
    for table, stored in opened.items():
        DuckDBEngine(copy).prepare(table)
        rows = typed_rows(table, f"FROM {views[table]}", stored.latest_day)
        copy.execute(
            f"INSERT INTO {table.qualified_name} BY NAME SELECT * FROM ({rows})"
            + (
                f" WHERE list_contains(?, {quote(str(table.partition_column))})"
                if table in days
                else ""
            ),
            [days[table]] if table in days else [],
        )
    change(copy)
    for table, stored in opened.items():
        windows = windows_of(days[table]) if table in days else None
        if windows is None or windows:
            rewrite_files(stored, write_files(copy, stored, windows), windows)


def _days_with(
    connection: duckdb.DuckDBPyConnection, table: Table, view: str, texts: Collection[str]
) -> list[date]:
    """Return the days on which a text column contains one of the texts, in any case."""
    sought = {form.lower() for text in texts for form in (text, json.dumps(text)[1:-1])}
    names = [
        quote(column.name)
        for column in table.data_columns
        if column.dtype.is_string() or column.dtype.is_json()
    ]
    if not names:
        return []
    found = connection.execute(
        f"SELECT DISTINCT {quote(str(table.partition_column))} FROM {view} WHERE list_bool_or("
        f"list_transform(?::VARCHAR[], lambda text: {' OR '.join(_contains(n) for n in names)}))",
        [sorted(sought)],
    ).fetchall()
    return sorted(day for (day,) in found)


def _contains(name: str) -> str:
    return f"contains(lower(coalesce({name}, '')), text)"
