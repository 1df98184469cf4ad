"""Export tables as Parquet and CSV files for tools that must not wait for the database lock.

The `snapshots` module replaces the files atomically. An export folder contains:

    current/manifest.json     tables, columns, row counts, as-of dates and SHA-256 file hashes
    current/exported_at.json  export time (all other files are reproducible)
    current/TABLE.parquet, current/TABLE.csv
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets.bronze.load_entities import VERSIONED
from monstera_assets.operations import registered_folders
from monstera_assets.operations.snapshots import CURRENT, Snapshots
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.layout import FileFormat
from monstera_assets.source.sql import literal
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.errors import MissingTableError, WarehouseError
from monstera_assets.warehouse.tables import Column, Layer, Table

MANIFEST = "manifest.json"
EXPORTED_AT = "exported_at.json"
_REGISTER_SUFFIX = ".exports"
_PRIVATE = ("email", "account_name")
"""Columns that never leave the bronze layer."""


class ExportError(WarehouseError):
    """An export could not be written. The previous export is unchanged."""


_OPTIONS = {
    FileFormat.PARQUET: "FORMAT parquet, COMPRESSION zstd",
    FileFormat.CSV: "FORMAT csv, HEADER true",
}


@dataclass(frozen=True)
class ExportReport:
    """The result of an export: row counts by table, and the tables that were never materialized."""

    folder: Path
    rows: Mapping[str, int]
    missing: tuple[str, ...]


def exportable(tables: Sequence[Table]) -> list[Table]:
    """Return the tables that can be exported: gold tables, unpartitioned silver tables and versions.

    The versions of users and accounts cannot all be loaded from the source again. They are exported
    without email addresses and names, which never leave the bronze layer. Daily silver tables either
    contain raw event metadata or are aggregated in gold tables.
    """
    return [
        table
        for table in tables
        if table.layer is Layer.GOLD
        or (table.layer is Layer.SILVER and table.partition_column is None)
        or table in VERSIONED
    ]


def public_columns(table: Table) -> list[Column]:
    """Return a table's columns in their declared order, without email addresses and names."""
    return [column for column in table.columns if column.name not in _PRIVATE]


def choose_tables(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    """Return the named tables, or all exportable tables if `names` is empty.

    Raises:
        SettingsError: If a table does not exist or cannot be exported.
    """
    allowed = {table.name: table for table in exportable(tables)}
    for name in names:
        if name not in allowed:
            reason = "does not exist"
            if any(table.name == name for table in tables):
                reason = (
                    "cannot be exported. Only gold tables, unpartitioned silver tables, bronze_users"
                    " and bronze_accounts can be exported"
                )
            raise SettingsError(
                f"--table {name} {reason}. Choose from {', '.join(sorted(allowed))}."
            )
    return [allowed[name] for name in dict.fromkeys(names)] if names else list(allowed.values())


def write_export(
    settings: Settings,
    output: Path,
    tables: Mapping[Table, Sequence[FileFormat]],
    *,
    every_table: bool,
) -> ExportReport:
    """Export tables to a folder atomically, with one file per table and format.

    Unless `every_table` is set, the previous export's other tables are kept, and every table in
    `tables` must have been materialized.

    Raises:
        WarehouseLockedError: If the database remains locked.
        MissingTableError: If no tables have been materialized, or a required table is missing.
        ExportError: If the folder cannot be written to or the disk is full.
    """
    # Register the export before writing it so that an erasure cannot miss it.
    register(settings.database, output)
    database, timeout = str(settings.database), settings.lock_timeout_seconds
    with (
        connect(database, {}, lock_timeout_seconds=timeout, read_only=True) as connection,
        _snapshots(output).replacing() as snapshot,
    ):
        with DuckDBEngine(connection).transaction():
            missing = [
                table
                for table in tables
                if every_table and not DuckDBEngine(connection).stored_columns(table)
            ]
            entries = {
                table.name: _write_table(connection, snapshot, table, formats)
                for table, formats in tables.items()
                if table not in missing
            }
        if not entries:
            raise MissingTableError(
                "No tables can be exported because no tables have been materialized. Materialize the"
                " tables first, for example with `monstera run`."
            )
        kept = {} if every_table else _keep_others(output, snapshot, entries.keys())
        _write_manifest(snapshot, {**kept, **entries})
    rows = {name: entry["rows"] for name, entry in entries.items()}
    return ExportReport(output, rows, tuple(table.name for table in missing))


def export_all(settings: Settings, tables: Sequence[Table]) -> ExportReport:
    """Export all exportable tables to the configured folder in both formats."""
    if settings.export_directory is None:
        raise SettingsError(
            "export_directory is not set. Set export_directory to the export folder."
        )
    chosen = dict.fromkeys(exportable(tables), tuple(FileFormat))
    return write_export(settings, settings.export_directory, chosen, every_table=True)


def export_again(settings: Settings, tables: Sequence[Table]) -> list[Path]:
    """Rewrite this warehouse's existing exports and delete older files.

    Raises:
        ExportError: If a folder cannot be written to. Other folders may already have been
            rewritten.
    """
    allowed = {table.name: table for table in exportable(tables)}
    folders = registered(settings.database)
    for output in folders:
        chosen = {
            allowed[entry["table"]]: [FileFormat(file["format"]) for file in entry["files"]]
            for entry in read_manifest(output)["tables"]
            if entry["table"] in allowed
        }
        write_export(settings, output, chosen, every_table=True)
        _snapshots(output).clean()
    return folders


def read_manifest(output: Path) -> dict[str, Any]:
    """Return the manifest of a folder's current export."""
    content: dict[str, Any] = json.loads((output / CURRENT / MANIFEST).read_text(encoding="utf-8"))
    return content


def register(database: Path, output: Path) -> None:
    """Record an export folder next to the database so that later erasures can find it.

    Raises:
        ExportError: If the register cannot be written to.
    """
    try:
        registered_folders.register(database, _REGISTER_SUFFIX, output)
    except OSError as error:
        raise ExportError(
            f"Cannot write to {database}{_REGISTER_SUFFIX}: {error.strerror}. This file lists the"
            " exports for `monstera forget`, so nothing was exported. Check the file's permissions,"
            " then export again."
        ) from error


def registered(database: Path) -> list[Path]:
    """Return the folders that contain a warehouse's exports."""
    folders = registered_folders.registered(database, _REGISTER_SUFFIX)
    return [folder for folder in folders if (folder / CURRENT / MANIFEST).exists()]


def _write_table(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Path,
    table: Table,
    formats: Sequence[FileFormat],
) -> dict[str, Any]:
    """Write a table's files and return its manifest entry."""
    DuckDBEngine(connection).require_table(table)
    # List the columns in their declared order, which may differ from the stored order in an altered
    # table.
    exported = public_columns(table)
    columns = ", ".join(quote(column.name) for column in exported)
    order = ", ".join(map(quote, table.key)) or "ALL"
    files = []
    for kind in formats:
        path = snapshot / f"{table.name}.{kind}"
        connection.execute(
            f"COPY (SELECT {columns} FROM {table.qualified_name} ORDER BY {order})"
            f" TO {literal(str(path))} ({_OPTIONS[kind]})"
        )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append({"format": str(kind), "path": path.name, "sha256": digest})
    names = [column.name for column in exported]
    day = table.partition_column or ("as_of_date" if "as_of_date" in names else None)
    as_of = f"max({quote(day)})" if day else "NULL"
    [(rows, latest)] = connection.execute(
        f"SELECT count(*), {as_of} FROM {table.qualified_name}"
    ).fetchall()
    return {
        "table": table.name,
        "rows": rows,
        "as_of_date": latest.isoformat() if isinstance(latest, date) else None,
        "columns": [{"name": column.name, "type": column.stored_type} for column in exported],
        "files": files,
    }


def _keep_others(
    output: Path, snapshot: Path, written: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Hard-link the files for tables not in `written` from the current export into the new export."""
    if not (output / CURRENT / MANIFEST).exists():
        return {}
    kept = {}
    for entry in read_manifest(output)["tables"]:
        if entry["table"] not in written:
            for file in entry["files"]:
                os.link(output / CURRENT / file["path"], snapshot / file["path"])
            kept[entry["table"]] = entry
    return kept


def _write_manifest(snapshot: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    manifest = {"tables": [entries[name] for name in sorted(entries)]}
    (snapshot / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    at = {"exported_at": datetime.now(UTC).isoformat(timespec="seconds")}
    (snapshot / EXPORTED_AT).write_text(json.dumps(at) + "\n", encoding="utf-8")


def _snapshots(output: Path) -> Snapshots:
    return Snapshots(output, what="export", command="monstera export", error=ExportError)
