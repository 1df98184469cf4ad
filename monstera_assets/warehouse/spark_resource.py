"""The Dagster resource that opens a warehouse on Spark. It needs the extra `spark`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ibis.expr.types as ir
from pydantic import Field

from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.iceberg.catalog import open_catalog
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.spark_compiler import compile_spark
from monstera_assets.warehouse.spark_engine import SparkEngine
from monstera_assets.warehouse.spark_session import connect_spark
from monstera_assets.warehouse.spark_views import SparkViews


class SparkWarehouse(Warehouse):
    """Iceberg tables, the Spark Connect server that computes them, and the driver's DuckDB file."""

    spark_remote: str = Field(description="The Spark Connect server, such as sc://host:15002.")
    warehouse: str = Field(description="The URL of the folder with the tables' files.")
    catalog: dict[str, str] = Field(description="The properties of the pyiceberg catalog.")
    published: list[str] = Field(description="The names of the tables to copy into the file.")

    @property
    def place(self) -> str:
        """The URL of the folder."""
        return self.warehouse

    @property
    def compile_query(self) -> Callable[[ir.Table], Query]:
        """The compiler for Spark."""
        return compile_spark

    @contextmanager
    def open(self) -> Iterator[SparkEngine]:
        """Open the file and the catalog, and connect to the server.

        A process has one session, which ends when nothing in the process has the warehouse open.
        """
        with self.get_connection() as connection, self._session() as session:
            yield SparkEngine(session.views, DuckDBEngine(connection), frozenset(self.published))

    @contextmanager
    def _session(self) -> Iterator["_Session"]:
        key = (self.spark_remote, self.warehouse, *sorted(self.catalog.items()))
        session = _sessions.get(key)
        if session is None:
            # The catalog first, since connecting to a server takes longer.
            catalog = open_catalog(self.warehouse, self.catalog)
            session = _sessions[key] = _Session(
                SparkViews(connect_spark(self.spark_remote), catalog)
            )
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            if not session.users:
                del _sessions[key]
                session.views.close()
                session.views.spark.stop()
                session.views.catalog.close()


@dataclass
class _Session:
    views: SparkViews
    users: int = 0


_sessions: dict[tuple[object, ...], _Session] = {}
"""The open sessions of this process."""
