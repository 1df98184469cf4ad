"""Store tables in Iceberg, and compute their rows in Spark over Spark Connect.

Spark writes the rows and the stages of a query as Parquet files, and this process commits the files of
a table (see `warehouse.iceberg`). A table is loaded for writing before Spark reads its inputs. Spark
reads tables through temporary views of their data files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import duckdb
import ibis.expr.types as ir
import pandas as pd
import pyarrow.parquet as parquet
import sqlglot as sg
import sqlglot.expressions as sge
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from monstera_assets.lifecycle.expressions import window_parameters
from monstera_assets.warehouse.archive import Archive
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.engine import (
    EXAMPLES,
    DateBatches,
    Evaluation,
    Records,
    partitions_missing,
    verify_schema,
)
from monstera_assets.warehouse.errors import SchemaMismatchError, WarehouseError
from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog
from monstera_assets.warehouse.iceberg.replacement import replace_rows
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.spark_compiler import SparkTypes, compile_spark, view_name
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Table, all_declared
from monstera_assets.warehouse.windows import DateWindow

if TYPE_CHECKING:
    from monstera_assets.warehouse.batches import TableBatch

_DAY = "_day"
"""The column that names the folders of files, since Spark leaves that column out of the files."""
_MATERIALIZATIONS = view_name(OPERATIONS_SCHEMA, "materializations")
_SOURCE_CHANGES = view_name(OPERATIONS_SCHEMA, "source_changes")
_NAME = re.compile(r"[`'\"]([a-z][a-z_0-9]*)[`'\"]")


def connect_spark(remote: str) -> SparkSession:
    """Connect to a Spark Connect server.

    Args:
        remote: the server, such as `sc://host:15002`.
    """
    return prepare_session(SparkSession.builder.remote(remote).getOrCreate())


def prepare_session(spark: SparkSession) -> SparkSession:
    """Change the settings of a session to those that the compiled SQL assumes, and return it."""
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    # Iceberg does not accept files with INT96 timestamps, which are Spark's default.
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    return spark


@dataclass
class SparkEngine:
    """The engine that stores tables in an Iceberg catalog (see `Engine`)."""

    spark: SparkSession
    catalog: IcebergCatalog
    _viewed: dict[str, object] = field(default_factory=dict)

    def require_table(self, table: Table) -> None:
        """Verify that the table exists and matches its declaration."""
        self.catalog.stored(table)

    def require_partitions(self, table: Table, window: DateWindow) -> None:
        """Verify that each day in `window` has been materialized."""
        known = self._days(table)
        if missing := [day for day in window if day not in known]:
            raise partitions_missing(table, missing)

    def materialized_window(self, table: Table) -> DateWindow | None:
        """Return the window that spans a daily table's materialized days, or None without days."""
        days = self._days(table)
        return DateWindow(min(days), max(days)) if days else None

    def _days(self, table: Table) -> frozenset[date]:
        if not self.catalog.exists(table):
            return frozenset()
        return self.catalog.stored(table).materialized_days

    def stored_columns(self, table: Table) -> Mapping[str, str]:
        """Return the stored columns and their types, or an empty mapping if the table is missing."""
        if not self.catalog.exists(table):
            return {}
        try:
            self.catalog.stored(table)
        except SchemaMismatchError as error:
            return {column.name: str(error) for column in table.columns}
        return {column.name: column.stored_type for column in table.columns}

    def total_rows(self, table: Table) -> int:
        """Return the table's number of rows."""
        return self.catalog.stored(table).total_rows

    def ends(self, table: Table, column: str) -> tuple[date | None, date | None]:
        """Return the first and last date in a column, or None and None if there are no dates."""
        [row] = self._view(table).agg(f.min(column), f.max(column)).collect()
        return row[0], row[1]

    def archive(self) -> Archive | None:
        """Return None, since no raw events are deleted on Spark."""
        return None

    def records(self, query: Query | str) -> Records:
        """Return a query's rows. A query given as text is DuckDB SQL, which is translated."""
        if isinstance(query, str):
            query = Query(_translated(query), {})
        with self._rows(query, {}) as rows:
            return _records(rows)

    def frame(self, table: Table, days: tuple[date, date] | None) -> pd.DataFrame:
        """Return the table's rows, or only the rows from the first through the last of `days`."""
        where = f' WHERE "{table.partition_column}" BETWEEN ? AND ?' if days else ""
        with duckdb.connect() as connection:
            rows = self.catalog.stored(table).duckdb_rows()
            return connection.execute(f"SELECT * FROM ({rows}){where}", list(days or [])).fetchdf()

    def replace(
        self,
        table: Table,
        rows: Query | ir.Table | pd.DataFrame,
        window: DateWindow | None,
        parameters: Mapping[str, date] | None = None,
        batches: DateBatches | None = None,
    ) -> int:
        """Replace the table, or its partitions in `window`, in one commit."""
        del batches  # Spark divides the rows itself
        stored = self.catalog.opened(table)
        if isinstance(rows, pd.DataFrame):
            with duckdb.connect() as connection:
                engine = DuckDBEngine(connection)
                engine.prepare(table)
                engine.replace_by_frame(table, rows, window)
                files = write_files(connection, stored)
        else:
            if isinstance(rows, ir.Table):
                verify_schema(table, rows.schema())
                rows = compile_spark(rows)
            try:
                with self._rows(rows, parameters or {}) as found:
                    files = self._written(stored, found)
            except PySparkException as error:
                raise WarehouseError(
                    f"{table.qualified_name} was not written and is unchanged: {error}"
                ) from error
        windows = None if window is None else [window]
        return replace_rows(stored, files, windows).rows

    def write(self, batch: TableBatch, window: DateWindow | None) -> None:
        """Raise an error, since loads read their source with DuckDB."""
        del window
        names = ", ".join(table.name for table in batch.contents)
        raise WarehouseError(f"{names} cannot be loaded by Spark.")

    def evaluate(self, query: Query, window: DateWindow | None, reason: str) -> Evaluation:
        """Count a query's rows, except those that have a value in the column `reason`."""
        ends = (
            ()
            if window is None
            else zip(window_parameters(), (window.first, window.last), strict=True)
        )
        with self._rows(query, dict(ends)) as rows:
            if reason not in rows.columns:
                return _evaluation(rows)
            reasons = rows.where(f.col(reason).isNotNull()).select(reason).distinct()
            given = [str(value) for (value,) in reasons.orderBy(reason).limit(EXAMPLES).collect()]
            broken = rows.where(f.col(reason).isNull()).drop(reason)
            return _evaluation(broken)._replace(reasons=given)

    def repeated_keys(self, table: Table, window: DateWindow | None) -> Evaluation:
        """Count the keys that several rows in a window, or in the whole table, share."""
        rows, day = self._view(table), table.partition_column
        checked = f.lit(True)
        if day is not None and window is not None:
            checked = f.col(day).between(window.first, window.last)
        keys = rows.groupBy(*table.key).agg(f.count("*").alias("rows"), f.max(checked).alias("in"))
        return _evaluation(keys.where((f.col("rows") > 1) & f.col("in")).drop("in"))

    def settings(self) -> Mapping[str, str]:
        """Return the settings used for the stored days, which are none if no days are stored."""
        if not any(map(self._days, all_declared())):
            return {}
        return self.catalog.properties(OPERATIONS_SCHEMA)

    def record_settings(self, settings: Mapping[str, str]) -> None:
        """Record settings that are not yet recorded."""
        self.catalog.set_properties(OPERATIONS_SCHEMA, settings)

    @contextmanager
    def _rows(self, query: Query, values: Mapping[str, date]) -> Iterator[DataFrame]:
        """Write the stages of a query as files, and yield its rows."""
        if missing := set(query.parameters) - values.keys():
            raise WarehouseError(
                f"No value is set for the query parameters {', '.join(sorted(missing))}."
            )
        given: dict[str, Any] = {name: values[name] for name in query.parameters}
        self._view_inputs(" ".join((query.select, *query.stages.values())))
        folder = f"{self.catalog.warehouse}/stages/{uuid4().hex}"
        try:
            for name, select in query.stages.items():
                self.spark.sql(select, args=given).write.parquet(f"{folder}/{name}")
                self.spark.read.parquet(f"{folder}/{name}").createOrReplaceTempView(name)
            yield self.spark.sql(query.select, args=given)
        finally:
            for name in query.stages:
                self.spark.catalog.dropTempView(name)
            if query.stages:
                self.catalog.delete_folder(folder)

    def _written(self, stored: StoredTable, rows: DataFrame) -> Sequence[str]:
        """Write rows with the declared types, one day a file, and return the files' URLs."""
        table, folder = stored.declared, stored.new_folder()
        columns = []
        for column in table.data_columns:
            kind = SparkTypes.to_string(column.dtype.copy(nullable=True))
            value = f.col(column.name).cast(kind)
            if not column.nullable:
                fault = f"{table.qualified_name} was not written: null in {column.name}"
                value = f.coalesce(value, f.raise_error(f.lit(fault)).cast(kind))
            columns.append(value.alias(column.name))
        typed = rows.select(*columns)
        if table.partition_column is None:
            typed.write.parquet(folder)
        else:
            by_day = typed.withColumn(_DAY, f.col(table.partition_column)).repartition(_DAY)
            by_day.write.partitionBy(_DAY).parquet(folder)
        return stored.files_in(folder)

    def _view_inputs(self, text: str) -> None:
        """Make the views that SQL reads show the latest rows of their tables."""
        names = set(_NAME.findall(text))
        for table in all_declared():
            if view_name(table.schema, table.name) in names:
                self._view(table)
        if _MATERIALIZATIONS in names:
            self._local_view(
                _MATERIALIZATIONS,
                "table_name STRING, partition_date DATE, materialized_at TIMESTAMP_NTZ",
                [
                    (table.name, day, moment)
                    for table in all_declared()
                    if table.name in names and self.catalog.exists(table)
                    for day, moment in self.catalog.stored(table).materializations.times.items()
                ],
            )
        if _SOURCE_CHANGES in names:
            schema = "cause STRING, affects_from DATE, changed_at TIMESTAMP_NTZ"
            self._local_view(_SOURCE_CHANGES, schema, [])

    def _local_view(self, name: str, schema: str, rows: Sequence[tuple[object, ...]]) -> None:
        self.spark.createDataFrame(list(rows), schema).createOrReplaceTempView(name)

    def _view(self, table: Table) -> DataFrame:
        """Return the table's rows, and create or replace the view of them."""
        name, stored = view_name(table.schema, table.name), self.catalog.stored(table)
        if self._viewed.get(name) == stored.snapshot_id:
            return self.spark.table(name)
        schema = ", ".join(
            f"`{column.name}` {SparkTypes.to_string(column.dtype.copy(nullable=True))}"
            for column in table.data_columns
        )
        files = [file.url for file in stored.data_files()]
        rows = (
            self.spark.read.schema(schema).parquet(*files)
            if files
            else self.spark.createDataFrame([], schema)
        )
        for flag, days in table.trend_flags.items():
            latest = stored.latest_day or date.min
            first = latest - timedelta(days) if stored.latest_day else latest
            rows = rows.withColumn(flag, f.col(str(table.partition_column)) >= f.lit(first))
        rows = rows.select(*(column.name for column in table.columns))
        rows.createOrReplaceTempView(name)
        self._viewed[name] = stored.snapshot_id
        return rows


def write_files(connection: duckdb.DuckDBPyConnection, stored: StoredTable) -> Sequence[str]:
    """Write a DuckDB table's rows as Parquet files, one day a file, and return the files' URLs."""
    table, folder = stored.declared, stored.new_folder()
    columns = ", ".join(f'"{column.name}"' for column in table.data_columns)
    select = f"SELECT {columns} FROM {table.qualified_name}"
    day = table.partition_column
    conditions = [""]
    if day is not None:
        days = connection.execute(
            f'SELECT DISTINCT "{day}" FROM {table.qualified_name} ORDER BY ALL'
        ).fetchall()
        conditions = [f" WHERE \"{day}\" = DATE '{value}'" for (value,) in days]
    system, path, _ = stored.filesystem(folder)
    system.create_dir(path)
    for number, condition in enumerate(conditions):
        rows = connection.execute(select + condition).to_arrow_table()
        parquet.write_table(rows, f"{path}/{number}.parquet", filesystem=system)
    return stored.files_in(folder)


def _evaluation(rows: DataFrame) -> Evaluation:
    count = rows.count()
    if not count:
        return Evaluation(0)
    return Evaluation(count, _records(rows.orderBy(*rows.columns).limit(EXAMPLES)))


def _records(rows: DataFrame) -> Records:
    return Records(tuple(rows.columns), [tuple(row) for row in rows.collect()])


def _translated(statement: str) -> str:
    """Translate DuckDB SQL that reads tables by their schema and name."""
    tree = sg.parse_one(statement, dialect="duckdb")
    for found in tree.find_all(sge.Table):
        found.replace(
            sge.table_(
                view_name(found.db or None, found.name), quoted=True, alias=found.alias or None
            )
        )
    return tree.sql(dialect="spark")
