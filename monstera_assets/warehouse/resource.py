"""The Dagster resources through which the IO manager, checks and other steps open the warehouse."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import duckdb
from dagster import ConfigurableResource
from dagster_duckdb import DuckDBResource
from pydantic import Field

from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS, connect
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.engine import Engine


class Warehouse(ConfigurableResource[Any], ABC):
    """A place with tables."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the tables are, as messages name it."""

    @abstractmethod
    def open(self) -> AbstractContextManager[Engine]:
        """Open the warehouse."""


class DuckDBWarehouse(DuckDBResource, Warehouse):
    """A DuckDB file, opened with the same configuration by all steps."""

    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        description="Seconds to wait for another process to release the database file.",
    )

    @property
    def place(self) -> str:
        """The path to the file."""
        return self.database

    @contextmanager
    def open(self) -> Iterator[DuckDBEngine]:
        """Open the file (see `connect`)."""
        with self.get_connection() as connection:
            yield DuckDBEngine(connection)

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection (see `monstera_assets.warehouse.connection.connect`)."""
        with connect(
            self.database,
            self.connection_config,
            lock_timeout_seconds=self.lock_timeout_seconds,
        ) as connection:
            yield connection
