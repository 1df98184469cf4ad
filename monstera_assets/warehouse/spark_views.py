"""Temporary views, through which Spark SQL reads tables, the driver's records and stages.

A session's views remain from one query to the next. A table's view is replaced when the table was
changed, and a stage is computed again only if its parameters or the rows that it reads are others.

Opening a file costs Spark milliseconds, so a small table with a file per day is copied into few files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from uuid import uuid4

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.engine import Records
from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.spark_compiler import SparkTypes, view_name
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Table, all_declared

_RECORDS = {
    "materializations": {
        "table_name": "STRING",
        "partition_date": "DATE",
        "materialized_at": "TIMESTAMP_NTZ",
    },
    "source_changes": {"affects_from": "DATE", "changed_at": "TIMESTAMP_NTZ"},
}
"""The columns of the driver's records that queries read."""
_NAME = re.compile(r"[`'\"]([a-z][a-z_0-9]*)[`'\"]")
_PARAMETER = re.compile(r":([a-z][a-z_0-9]*)")
_MANY_FILES = 16
_SMALL_BYTES = 32 * 1024 * 1024


class SparkViews:
    """The views of a session.

    Args:
        spark: the session.
        catalog: the catalog with the tables.
    """

    def __init__(self, spark: SparkSession, catalog: IcebergCatalog) -> None:
        self.spark = spark
        self.catalog = catalog
        self._versions: dict[str, object] = {}
        """What determines the rows of a view, by the view's name."""
        self._written: dict[str, str] = {}
        """The folder of the files that were written for a view, by the view's name."""
        self._folder = f"{self.stages_of(catalog)}/{uuid4().hex}"

    @staticmethod
    def stages_of(catalog: IcebergCatalog) -> str:
        """Return the URL of the folder with the stages of all sessions."""
        return f"{catalog.warehouse}/stages"

    def close(self) -> None:
        """Delete the files of stages and of copies. The views end with the session."""
        if self._written:
            self.catalog.delete_folder(self._folder)

    def table(self, table: Table) -> DataFrame:
        """Return the table's latest rows, and create or replace the view of them."""
        name, stored = view_name(table.schema, table.name), self.catalog.stored(table)
        version = (stored.snapshot_id,)
        if self._versions.get(name) == version:
            return self.spark.table(name)
        files = stored.data_files()
        rows = self._stored_rows(stored, [file.url for file in files])
        if len(files) > _MANY_FILES and sum(file.size for file in files) <= _SMALL_BYTES:
            self._write(name, rows, version)
            return self.spark.table(name)
        rows.createOrReplaceTempView(name)
        self._versions[name] = version
        return rows

    def _stored_rows(self, stored: StoredTable, files: list[str]) -> DataFrame:
        table = stored.declared
        schema = ", ".join(
            f"`{column.name}` {SparkTypes.to_string(column.dtype.copy(nullable=True))}"
            for column in table.data_columns
        )
        rows = (
            self.spark.read.schema(schema).parquet(*files)
            if files
            else self.spark.createDataFrame([], schema)
        )
        for flag, days in table.trend_flags.items():
            latest = stored.latest_day or date.min
            first = latest - timedelta(days) if stored.latest_day else latest
            rows = rows.withColumn(flag, f.col(str(table.partition_column)) >= f.lit(first))
        return rows.select(*(column.name for column in table.columns))

    def inputs(self, query: Query, records: Callable[[str], Records]) -> None:
        """Make the views that a query reads show the latest rows.

        Args:
            query: the query.
            records: returns the rows of a query on the driver's file.
        """
        names = set(_NAME.findall(" ".join((query.select, *query.stages.values()))))
        for table in all_declared():
            if view_name(table.schema, table.name) in names:
                self.table(table)
        for name, columns in _RECORDS.items():
            if (view := view_name(OPERATIONS_SCHEMA, name)) in names:
                rows = records(f"SELECT {', '.join(columns)} FROM {OPERATIONS_SCHEMA}.{name}").rows
                schema = ", ".join(f"{column} {kind}" for column, kind in columns.items())
                self.spark.createDataFrame(list(rows), schema).createOrReplaceTempView(view)
                self._versions[view] = object()  # a run adds records between any two queries

    def stages(self, query: Query, values: Mapping[str, date]) -> None:
        """Write the stages of a query as files, unless they exist, and make views of them."""
        for name, select in query.stages.items():
            read = set(_NAME.findall(select)) & self._versions.keys()
            given = set(_PARAMETER.findall(select)) & values.keys()
            version = (
                tuple(sorted((parameter, values[parameter]) for parameter in given)),
                tuple((view, self._versions[view]) for view in sorted(read)),
            )
            if self._versions.get(name) == version:
                continue
            self._write(name, self.spark.sql(select, args=dict(values)), version)

    def _write(self, name: str, rows: DataFrame, version: object) -> None:
        """Write rows as files, and make a view of the files."""
        folder = f"{self._folder}/{uuid4().hex}"
        replaced, self._written[name] = self._written.get(name), folder
        rows.write.parquet(folder)
        # Without the schema, Spark would start a job that reads it from a file.
        self.spark.read.schema(rows.schema).parquet(folder).createOrReplaceTempView(name)
        self._versions[name] = version
        if replaced:
            self.catalog.delete_folder(replaced)
