"""The Dagster resources through which the IO manager, checks and other steps open the warehouse."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import duckdb
import ibis.expr.types as ir
from dagster_duckdb import DuckDBResource
from pydantic import Field

from monstera_assets.warehouse.compiler import Query, compile_query
from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS, connect
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.engine import Engine


class Warehouse(DuckDBResource, ABC):
    """A place with tables, and a DuckDB file, which all steps open with the same configuration.

    With each engine, the file contains the bronze tables, the records of runs and loads, and the tables
    from which dashboards, exports and the published copy are made.
    """

    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        description="Seconds to wait for another process to release the database file.",
    )

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the tables are, as messages name it."""

    @property
    @abstractmethod
    def compile_query(self) -> Callable[[ir.Table], Query]:
        """The compiler of the engine."""

    @abstractmethod
    def open(self) -> AbstractContextManager[Engine]:
        """Open the warehouse."""

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection to the file (see `monstera_assets.warehouse.connection.connect`)."""
        with connect(
            self.database,
            self.connection_config,
            lock_timeout_seconds=self.lock_timeout_seconds,
        ) as connection:
            yield connection


class DuckDBWarehouse(Warehouse):
    """A DuckDB file, which contains all tables."""

    @property
    def place(self) -> str:
        """The path to the file."""
        return self.database

    @property
    def compile_query(self) -> Callable[[ir.Table], Query]:
        """The compiler for DuckDB."""
        return compile_query

    @contextmanager
    def open(self) -> Iterator[DuckDBEngine]:
        """Open the file."""
        with self.get_connection() as connection:
            yield DuckDBEngine(connection)
