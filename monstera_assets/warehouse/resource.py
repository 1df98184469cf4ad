"""The Dagster resource through which the IO manager and checks open the warehouse."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from dagster import ConfigurableResource
from pydantic import Field

from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS, connect
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.engine import Engine


class Warehouse(ConfigurableResource[Any]):
    """Open the DuckDB file."""

    database: str = Field(description="Path to the DuckDB database.")
    connection_config: dict[str, Any] = Field(default={}, description="DuckDB settings.")
    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        description="Seconds to wait for another process to release the database file.",
    )

    @property
    def place(self) -> str:
        """Where the warehouse is stored, which messages name."""
        return self.database

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection (see `monstera_assets.warehouse.connection.connect`)."""
        with connect(
            self.database,
            self.connection_config,
            lock_timeout_seconds=self.lock_timeout_seconds,
        ) as connection:
            yield connection

    @contextmanager
    def open(self) -> Iterator[Engine]:
        """Open the warehouse as its engine."""
        with self.connect() as connection:
            yield DuckDBEngine(connection)
