"""Compute the tables of a DuckDB warehouse on Spark, and compare them with DuckDB's.

Each query reads DuckDB's tables, copied as Parquet files, and not the tables that Spark computed, so
that a difference shows in the table whose query differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import DataFrame, SparkSession

from monstera_assets.definitions import table_assets, tables
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.spark_compiler import view_name
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

_OPERATIONS = (("operations", "materializations"), ("operations", "source_changes"))


@contextmanager
def local_spark(folder: Path) -> Iterator[SparkSession]:
    """Start Spark in this process, with two threads and 2 GB."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", str(folder / "local"))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


@dataclass(frozen=True)
class SparkTables:
    """The tables of a DuckDB warehouse in Spark.

    Args:
        spark: the session.
        warehouse: a connection to the DuckDB warehouse.
        folder: an empty folder for the Parquet files.
    """

    spark: SparkSession
    warehouse: duckdb.DuckDBPyConnection
    folder: Path

    def load(self, all_tables: Sequence[Table]) -> None:
        """Copy tables from DuckDB, and the records that expressions read."""
        named = [*((table.schema, table.name) for table in all_tables), *_OPERATIONS]
        for schema, name in named:
            path = self.folder / f"{name}.parquet"
            self.warehouse.execute(f"COPY {schema}.{name} TO '{path}' (FORMAT parquet)")
            self._view(view_name(schema, name), self.spark.read.parquet(str(path)))

    def rows(self, query: Query, parameters: Mapping[str, date]) -> DataFrame:
        """Return a query's rows, with its stages stored as Parquet files."""
        values = {name: parameters[name] for name in query.parameters}
        for name, select in query.stages.items():
            path = self.folder / f"{name}.parquet"
            if not path.exists():
                self._run(select, values).write.parquet(str(path))
            self._view(name, self.spark.read.parquet(str(path)))
        return self._run(query.select, values)

    def differences(
        self, table: Table, query: Query, parameters: Mapping[str, date]
    ) -> dict[str, int]:
        """Return the number of rows that differ from DuckDB's, by column, and of missing rows.

        Floats may differ by a billionth of their size.
        """
        path = self.folder / f"computed_{table.name}.parquet"
        self.rows(query, parameters).write.parquet(str(path))
        columns = ", ".join(
            f'CAST("{column.name}" AS {column.stored_type}) AS "{column.name}"'
            for column in table.data_columns
        )
        same_key = " AND ".join(
            f'ours."{name}" IS NOT DISTINCT FROM theirs."{name}"' for name in table.key
        )
        differ = ", ".join(
            f'count(*) FILTER (WHERE NOT missing AND {_differs(column.name, column.stored_type)}) AS'
            f' "{column.name}"'
            for column in table.data_columns
        )
        found = self.warehouse.execute(
            f"SELECT count(*) FILTER (WHERE missing) AS missing_rows, {differ},"
            f" count(*) - (SELECT count(*) FROM {table.qualified_name}) AS added_rows FROM"
            f" (SELECT ours, theirs, ours IS NULL OR theirs IS NULL AS missing"
            f" FROM {table.qualified_name} AS ours FULL JOIN (SELECT {columns}"
            f" FROM read_parquet('{path}/*.parquet')) AS theirs ON {same_key})"
        )
        names = [column[0] for column in found.description]
        return {name: rows for name, rows in zip(names, found.fetchall()[0], strict=True) if rows}

    def _run(self, select: str, values: Mapping[str, date]) -> DataFrame:
        # As text, since a date before the Gregorian calendar would not be converted.
        return self.spark.sql(select, args={name: str(value) for name, value in values.items()})

    def _view(self, name: str, rows: DataFrame) -> None:
        rows.createOrReplaceTempView(name)


def _differs(name: str, stored_type: str) -> str:
    ours, theirs = f'ours."{name}"', f'theirs."{name}"'
    if stored_type != "DOUBLE":
        return f"{ours} IS DISTINCT FROM {theirs}"
    near = f"abs({ours} - {theirs}) <= 1e-9 * greatest(abs({ours}), abs({theirs}))"
    return f"NOT coalesce({near}, {ours} IS NOT DISTINCT FROM {theirs})"
