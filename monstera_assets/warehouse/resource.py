"""The Dagster resource that checks use to read warehouse tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from dagster import ConfigurableResource
from pydantic import Field

from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS, connect


class Warehouse(ConfigurableResource[Any]):
    """Connect to the DuckDB file with the same configuration as the IO manager."""

    database: str = Field(description="Path to the DuckDB database.")
    connection_config: dict[str, Any] = Field(default={}, description="DuckDB settings.")
    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        description="Seconds to wait for another process to release the database file.",
    )

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection (see `monstera_assets.warehouse.connection.connect`)."""
        with connect(
            self.database,
            self.connection_config,
            lock_timeout_seconds=self.lock_timeout_seconds,
        ) as connection:
            yield connection
