"""Publish a copy of the database for people and BI tools after each successful run.

The copy is one DuckDB file, `published/monstera.duckdb` next to the database. A new file replaces the
old file in one step, so readers never wait for a run, never delay a run and never see a mixture of
two runs. A reader that has the old file open continues to read the old file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
from dagster import AssetKey, AssetsDefinition, MaterializeResult, MetadataValue, asset

from monstera_assets.gold import OWNERS
from monstera_assets.operations.exports import exportable, public_columns
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.sql import literal
from monstera_assets.warehouse.archive import RAW_TABLES
from monstera_assets.warehouse.common_columns import METRIC_DATE
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.files import attached, replacing_file
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.tables import AssetGroup, Layer, Table

KEY = AssetKey(["published", "copy"])

STORAGE = "READ_WRITE, STORAGE_VERSION 'v1.0.0'"
"""The options for attaching a new copy, which BI tools with any DuckDB version from 1.0 can read."""

TIME_SPINE, TIME_SPINE_COLUMN = "time_spine", "date_day"
"""The gold table of all computed days and its column. Only the copy contains this table. Semantic
layers such as MetricFlow join it to show days without activity and to compare days."""

_DAYS_OF = "gold_overall_metrics"
_SUFFIX = ".publishing"
_COPY = "copy_of_tables"
_READ_ONLY = 0o444


class PublishError(WarehouseError):
    """The copy could not be published. The previous copy is unchanged."""


def published(settings: Settings, tables: Sequence[Table]) -> list[Table]:
    """Return the tables that `published_tables` chooses.

    Raw events cannot be published, since they expire. Versions of users and accounts are published
    without email addresses and names.

    Raises:
        SettingsError: If a table does not exist or cannot be published.
    """
    current = exportable(tables)
    allowed = {
        table.name: table
        for table in tables
        if table in current or (table.layer is Layer.SILVER and table.name not in RAW_TABLES)
    }
    chosen: dict[str, Table] = {}
    for name in settings.published_tables:
        if name in (Layer.GOLD, Layer.SILVER):
            chosen |= {table.name: table for table in current if table.layer == name}
        elif name in allowed:
            chosen[name] = allowed[name]
        else:
            exists = any(table.name == name for table in tables)
            raise SettingsError(
                f"published_tables: {name} "
                + ("contains raw data and cannot be published." if exists else "does not exist.")
                + f" Choose gold, silver or tables from {', '.join(sorted(allowed))}."
            )
    return list(chosen.values())


def publish(
    connection: duckdb.DuckDBPyConnection, path: Path, tables: Sequence[Table]
) -> dict[str, int]:
    """Replace the copy and return the row count of each table. Missing tables are left out.

    Raises:
        PublishError: If the copy cannot be written.
        SchemaMismatchError: If a stored table differs from its declaration.
    """
    rows = {}
    with (
        replacing_copy(path) as incoming,
        attached(connection, incoming, _COPY, STORAGE),
        DuckDBEngine(connection).transaction(),
    ):
        for table in tables:
            if DuckDBEngine(connection).stored_columns(table):
                DuckDBEngine(connection).require_table(table)
                rows[table.name] = DuckDBEngine(connection).total_rows(table)
                for statement in _copying(table):
                    connection.execute(statement)
        if _DAYS_OF in rows:
            for statement in _time_spine():
                connection.execute(statement)
    return rows


@contextmanager
def replacing_copy(path: Path) -> Iterator[Path]:
    """Yield the path of a new copy to fill, which replaces the published copy on exit.

    Raises:
        PublishError: If the copy cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path, _SUFFIX) as incoming:
            yield incoming
            # A reader that opens the file for writing would lock out other readers.
            incoming.chmod(incoming.stat().st_mode & _READ_ONLY)
    except (OSError, duckdb.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PublishError(
            f"Cannot write to {path}: {reason}. The previous copy is unchanged. Check the folder's"
            " permissions and the disk space, then run the last day again."
        ) from error


def build_published_copy(settings: Settings, tables: Sequence[Table]) -> list[AssetsDefinition]:
    """Return the asset that publishes the copy, or an empty list if nothing is published.

    The asset depends on all tables. A failed step or blocking check therefore leaves the old copy.

    Raises:
        SettingsError: If a published table does not exist or cannot be published.
    """
    chosen = published(settings, tables)
    path = settings.published

    @asset(
        key=KEY,
        deps=[asset_key(table.name) for table in tables],
        group_name=str(AssetGroup.DASHBOARDS),
        owners=list(OWNERS),
        kinds={"duckdb"},
        description="Which figures did the last successful run compute? This copy of the gold and"
        " current silver tables is one DuckDB file for people and BI tools, which never wait for a run."
        " Each run replaces the file in one step."
        "\n\nGrain: one table per published table.",
    )
    def copy(warehouse: Warehouse) -> MaterializeResult[None]:
        with warehouse.get_connection() as connection:
            rows = publish(connection, path, chosen)
        return MaterializeResult(
            metadata={
                "path": MetadataValue.path(path.absolute()),
                "tables": len(rows),
                "bytes": path.stat().st_size,
            }
        )

    definition: AssetsDefinition = copy
    return [definition] if chosen else []


def _copying(table: Table) -> Iterator[str]:
    """Yield the statements that copy a table with its description."""
    target = f"{_COPY}.{table.qualified_name}"
    names = ", ".join(quote(column.name) for column in public_columns(table))
    yield f"CREATE SCHEMA IF NOT EXISTS {_COPY}.{table.schema}"
    yield f"CREATE TABLE {target} AS SELECT {names} FROM {table.qualified_name}"
    yield f"COMMENT ON TABLE {target} IS {literal(table.description)}"


def _time_spine() -> Iterator[str]:
    """Yield the statements that add the days of a daily table to the copy."""
    target = f"{_COPY}.{Layer.GOLD}.{TIME_SPINE}"
    yield (
        f"CREATE TABLE {target} AS SELECT {METRIC_DATE.name} AS {TIME_SPINE_COLUMN}"
        f" FROM {Layer.GOLD}.{_DAYS_OF} ORDER BY ALL"
    )
    yield f"COMMENT ON TABLE {target} IS 'All computed days. One row is one day.'"
