"""The Dagster resource that opens a warehouse on Spark. It needs the extra `spark`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from pydantic import Field

from monstera_assets.warehouse.iceberg.catalog import open_catalog
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.spark_engine import SparkEngine, connect_spark


class SparkWarehouse(Warehouse):
    """Iceberg tables, and the Spark Connect server that computes them."""

    spark_remote: str = Field(description="The Spark Connect server, such as sc://host:15002.")
    warehouse: str = Field(description="The URL of the folder with the tables' files.")
    catalog: dict[str, str] = Field(description="The properties of the pyiceberg catalog.")

    @property
    def place(self) -> str:
        """The URL of the folder."""
        return self.warehouse

    @contextmanager
    def open(self) -> Iterator[SparkEngine]:
        """Open the catalog and connect to the server, once for each process."""
        yield _engine(self.spark_remote, self.warehouse, tuple(sorted(self.catalog.items())))


@cache
def _engine(spark_remote: str, warehouse: str, catalog: tuple[tuple[str, str], ...]) -> SparkEngine:
    return SparkEngine(connect_spark(spark_remote), open_catalog(warehouse, dict(catalog)))
