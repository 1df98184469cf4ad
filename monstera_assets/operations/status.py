"""What the warehouse holds: rows, ranges, last materializations, failing checks, headline figures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
from dagster import AssetCheckKey, DagsterInstance
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
)

from monstera_assets.gold.gold_overall_metrics import BIG_NUMBERS
from monstera_assets.gold.gold_overall_metrics import TABLE as OVERALL
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets.warehouse.writer import stored_columns


@dataclass(frozen=True)
class TableStatus:
    """What is stored of a table; `rows` is None if it does not exist."""

    table: Table
    rows: int | None
    window: DateWindow | None
    missing_days: int
    materialized_at: datetime | None


@dataclass(frozen=True)
class Headline:
    """Figures of the as-of date: users by state, and the big numbers by name, as people read them."""

    as_of_date: date
    users_by_state: tuple[tuple[str, int], ...]
    big_numbers: tuple[tuple[str, str], ...]


def table_statuses(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[Table]
) -> list[TableStatus]:
    """The status of each table, in the given order."""
    written = {
        (schema, name): values
        for schema, name, *values in (
            connection.execute(
                "SELECT schema_name, table_name, min(partition_date), max(partition_date),"
                " count(partition_date), max(materialized_at)"
                " FROM operations.materializations GROUP BY ALL"
            ).fetchall()
            if _exists(connection, "operations", "materializations")
            else []
        )
    }
    statuses = []
    for table in tables:
        first, last, days, at = written.get((str(table.layer), table.name), (None, None, 0, None))
        window = DateWindow(first, last) if first and last else None
        statuses.append(
            TableStatus(
                table=table,
                rows=_rows(connection, table),
                window=window,
                missing_days=len(window) - days if window else 0,
                materialized_at=at,
            )
        )
    return statuses


def headline(connection: duckdb.DuckDBPyConnection) -> Headline | None:
    """The headline figures; None before anything is materialized."""
    if not _exists(connection, "silver", "silver_user_current_state"):
        return None
    states = connection.execute(
        "SELECT platform_state, count(*), max(as_of_date) FROM silver.silver_user_current_state"
        " GROUP BY platform_state ORDER BY platform_state"
    ).fetchall()
    if not states:
        return None
    shown: list[tuple[str, str]] = []
    if _exists(connection, *OVERALL.asset_path):
        columns = ", ".join(metric.column_name for metric in BIG_NUMBERS)
        rows = connection.execute(
            f"SELECT {columns} FROM {OVERALL.qualified_name} WHERE is_current_day"
        ).fetchall()
        shown = [
            (metric.name, metric.shown(value))
            for row in rows
            for metric, value in zip(BIG_NUMBERS, row, strict=True)
        ]
    return Headline(
        as_of_date=states[0][2],
        users_by_state=tuple((state, int(count)) for state, count, _ in states),
        big_numbers=tuple(shown),
    )


def latest_checks(
    instance: DagsterInstance, keys: Collection[AssetCheckKey]
) -> tuple[list[AssetCheckKey], list[AssetCheckKey]]:
    """The checks that failed when last evaluated, and those that their last run did not reach."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    having = {
        status: [key for key in keys if key in latest and latest[key].status == status]
        for status in AssetCheckExecutionRecordStatus
    }
    return (
        having[AssetCheckExecutionRecordStatus.FAILED],
        having[AssetCheckExecutionRecordStatus.PLANNED],
    )


def ensure_writable(settings: Settings) -> None:
    """Open the database for writing and close it again, so that a run need not begin in vain.

    Raises:
        WarehouseError: another process holds the database, or it cannot be opened.
    """
    with connect(
        str(settings.database),
        connection_config(settings.memory_limit, settings.threads, settings.temp_directory),
        lock_timeout_seconds=settings.lock_timeout_seconds,
    ):
        pass


def _rows(connection: duckdb.DuckDBPyConnection, table: Table) -> int | None:
    if not stored_columns(connection, table.stored):
        return None
    counted = connection.execute(f"SELECT count(*) FROM {table.qualified_name}").fetchall()
    return int(counted[0][0])


def _exists(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ?",
        [schema, name],
    ).fetchall()
    return bool(found[0][0])
