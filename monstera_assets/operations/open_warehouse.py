"""Open the warehouse that the settings name. No other module depends on the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monstera_assets.settings import Settings, SettingsError
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.extras import SPARK, is_installed
from monstera_assets.warehouse.resource import DuckDBWarehouse, Warehouse


def open_warehouse(settings: Settings, copied: Sequence[str] = ()) -> Warehouse:
    """Return the warehouse's Dagster resource.

    Args:
        settings: the configuration.
        copied: the tables to copy into the DuckDB file when they are written.

    Raises:
        SettingsError: If the engine needs an extra that is not installed.
    """
    file: dict[str, Any] = {
        "database": str(settings.database),
        "connection_config": connection_config(
            settings.memory_limit, settings.threads, settings.temp_directory
        ),
        "lock_timeout_seconds": settings.lock_timeout_seconds,
    }
    if settings.engine == "duckdb":
        return DuckDBWarehouse(**file)
    if not is_installed(SPARK):
        raise SettingsError(
            f"engine = {settings.engine} needs the extra `{SPARK}`, which is not installed. Install it"
            f" with: pip install 'monstera-assets[{SPARK}]'"
        )
    # Imported here, because the default installation does not contain Spark.
    from monstera_assets.warehouse.spark_resource import SparkWarehouse

    # The settings require both.
    assert settings.spark_remote is not None and settings.warehouse is not None  # noqa: S101, PT018
    return SparkWarehouse(
        **file,
        spark_remote=settings.spark_remote.get_secret_value(),
        warehouse=settings.warehouse,
        catalog={name: value.get_secret_value() for name, value in settings.catalog.items()},
        published=list(copied),
    )
