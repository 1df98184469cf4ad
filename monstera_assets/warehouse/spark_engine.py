"""Store tables in Iceberg, and compute their rows in Spark over Spark Connect.

Spark writes the rows and the stages of a query as Parquet files, and this process, the driver, commits
the files of a table (see `warehouse.iceberg`). A table is loaded for writing before Spark reads its
inputs. Spark reads tables through temporary views of their data files.

The driver has a DuckDB file. It reads the source with DuckDB into bronze tables in this file, which it
then also commits to Iceberg. The file also contains the records of runs, and copies of the published
tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import ibis.expr.types as ir
import pandas as pd
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from monstera_assets.lifecycle.expressions import window_parameters
from monstera_assets.warehouse.archive import (
    RAW_TABLES,
    Archive,
    require_raw_events,
    require_recomputable,
)
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
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
from monstera_assets.warehouse.iceberg.cleanup import clean_up
from monstera_assets.warehouse.iceberg.loads import Load
from monstera_assets.warehouse.iceberg.replacement import (
    remove_days,
    replace_rows,
)
from monstera_assets.warehouse.iceberg.rewriting import rewrite, write_files
from monstera_assets.warehouse.iceberg.stored_table import StoredTable, typed_rows
from monstera_assets.warehouse.spark_compiler import SparkTypes, compile_spark, translate_duckdb
from monstera_assets.warehouse.spark_views import SparkViews
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow, windows_of

if TYPE_CHECKING:
    from monstera_assets.warehouse.batches import TableBatch

_DAY = "_day"
"""The column that names the folders of files, since Spark leaves that column out of the files."""
_ROWS = "rows_in_iceberg"


@dataclass
class SparkEngine:
    """The engine that stores tables in an Iceberg catalog (see `Engine`).

    Attributes:
        views: the session, its views and the catalog.
        driver: the driver's DuckDB file.
        published: the names of the tables to copy into the file.
    """

    views: SparkViews
    driver: DuckDBEngine
    published: frozenset[str] = frozenset()

    @property
    def catalog(self) -> IcebergCatalog:
        """The catalog."""
        return self.views.catalog

    def require_table(self, table: Table) -> None:
        """Verify that the table exists and matches its declaration."""
        self.catalog.stored(table)

    def require_partitions(self, table: Table, window: DateWindow) -> None:
        """Verify that each day in `window` has been materialized."""
        known = self._days(table)
        if missing := [day for day in window if day not in known]:
            require_raw_events(self, table.name, missing[0])
            raise partitions_missing(table, missing)

    def materialized_window(self, table: Table) -> DateWindow | None:
        """Return the window that spans a daily table's materialized days, or None if there are none."""
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
        [row] = self.views.table(table).agg(f.min(column), f.max(column)).collect()
        return row[0], row[1]

    def archive(self) -> Archive | None:
        """Return the retention cutoff, or None if no raw events have ever been deleted."""
        return self.driver.archive()

    def records(self, query: Query | str) -> Records:
        """Return a query's rows. A query given as text is DuckDB SQL, which is translated."""
        if isinstance(query, str):
            query = Query(translate_duckdb(query), {})
        return _records(self._rows(query, {}))

    def frame(self, table: Table, days: tuple[date, date] | None) -> pd.DataFrame:
        """Return the table's rows, or only the rows from the first through the last of `days`."""
        where = f' WHERE "{table.partition_column}" BETWEEN ? AND ?' if days else ""
        stored = self.catalog.stored(table)
        windows = [DateWindow(*days)] if days and days[0] <= days[1] else None
        with duckdb.connect() as connection:
            connection.register(_ROWS, stored.dataset(windows))
            rows = typed_rows(table, f"FROM {_ROWS}", stored.latest_day)
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
        require_recomputable(self, table.name, window)
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
                files = self._written(stored, self._rows(rows, parameters or {}))
            except PySparkException as error:
                raise WarehouseError(
                    f"{table.qualified_name} was not written and is unchanged: {_reason(error)}"
                ) from error
        windows = None if window is None else [window]
        written = replace_rows(stored, files, windows).rows
        with self.driver.transaction():
            if table.name in self.published:
                self._publish(table, window)
            self.driver.record(table, window)
        return written

    def write(self, batch: TableBatch, window: DateWindow | None) -> None:
        """Replace the slices of several tables in the driver's file, and commit them to Iceberg.

        The tables are committed in the order in which the batch writes them, within the transaction
        of the driver's file. If this process is killed in between, the file does not contain the load,
        and the next run loads the same days again.
        """
        load = Load.open(self.catalog, list(batch.contents))
        connection = self.driver.connection
        with self.driver.transaction():
            batch.write(connection, window)
            windows = None
            if window is not None:
                windows = [
                    replace(days, is_opening=window.is_opening and days.first == window.first)
                    for days in windows_of(batch.replaced)
                ]
            if windows != []:
                load.replace(
                    {
                        name: write_files(connection, stored, windows)
                        for name, stored in load.tables.items()
                    },
                    windows,
                )

    def _publish(self, table: Table, window: DateWindow | None) -> None:
        """Replace the slice of a table's copy in the caller's transaction of the driver's file."""
        if not self.driver.stored_columns(table):
            window = None  # a new copy contains all days
        self.driver.prepare(table)
        rows = self.catalog.stored(table).dataset(None if window is None else [window])
        self.driver.connection.register(_ROWS, rows)
        self.driver.delete(table, window)
        names = ", ".join(quote(column.name) for column in table.data_columns)
        self.driver.insert(table, f"SELECT {names} FROM {_ROWS}", window)
        self.driver.connection.unregister(_ROWS)

    def clean_up(self, tables: Sequence[Table], before: datetime) -> dict[str, int]:
        """Delete raw events before the retention cutoff, and files that tables no longer need."""
        deleted: dict[str, int] = {}
        archived = self.archive()
        for table in filter(self.catalog.exists, tables):
            stored = self.catalog.opened(table)
            earlier = [
                day
                for day in stored.materialized_days
                if archived is not None and day < archived.removed_before
            ]
            if table.name in RAW_TABLES and earlier:
                windows = [DateWindow(min(earlier), max(earlier), is_opening=True)]
                deleted[table.name] = stored.total_rows - remove_days(stored, windows).total_rows
            clean_up(self.catalog.opened(table), before)
        self.catalog.delete_older_folders(self.views.stages_of(self.catalog), before)
        return deleted

    def rewrite(
        self,
        tables: Sequence[Table],
        find: Callable[[duckdb.DuckDBPyConnection, Mapping[Table, str]], Collection[str]],
        change: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> None:
        """Change rows in a temporary DuckDB file next to the driver's file (see `rewrite`)."""
        [(file,)] = self.driver.connection.execute(
            "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ).fetchall()
        rewrite(self.catalog, tables, Path(file).parent, find, change)

    def delete_all_days(self) -> None:
        """Delete all tables in the catalog, and all computed tables in the driver's file."""
        with self.driver.transaction():
            self.driver.delete_computed()
            self.catalog.drop_all()

    def evaluate(self, query: Query, window: DateWindow | None, reason: str) -> Evaluation:
        """Count a query's rows, except those that have a value in the column `reason`."""
        ends = (
            ()
            if window is None
            else zip(window_parameters(), (window.first, window.last), strict=True)
        )
        rows = self._rows(query, dict(ends))
        if reason not in query.columns:
            return _evaluation(rows)
        # One query, since computing the rows of a rule can take most of the time.
        is_given = f.col(reason).isNotNull()
        [found] = rows.agg(
            f.count_if(~is_given).alias("violations"),
            f.slice(f.array_sort(f.collect_set(reason)), 1, EXAMPLES).alias("reasons"),
        ).collect()
        broken = rows.where(~is_given).drop(reason)
        examples = _examples(broken) if found.violations else Records()
        return Evaluation(found.violations, examples, [str(value) for value in found.reasons])

    def repeated_keys(self, table: Table, window: DateWindow | None) -> Evaluation:
        """Count the keys that several rows in a window, or in the whole table, share."""
        rows, day = self.views.table(table), table.partition_column
        checked = f.lit(True)
        if day is not None and window is not None:
            checked = f.col(day).between(window.first, window.last)
        keys = rows.groupBy(*table.key).agg(f.count("*").alias("rows"), f.max(checked).alias("in"))
        return _evaluation(keys.where((f.col("rows") > 1) & f.col("in")).drop("in"))

    def settings(self) -> Mapping[str, str]:
        """Return the settings used for the stored days, which are none if no days are stored."""
        return self.driver.settings()

    def record_settings(self, settings: Mapping[str, str]) -> None:
        """Record settings that are not yet recorded."""
        self.driver.record_settings(settings)

    def _rows(self, query: Query, values: Mapping[str, date]) -> DataFrame:
        """Write the stages of a query as files, and return its rows, which are not yet computed."""
        if missing := set(query.parameters) - values.keys():
            raise WarehouseError(
                f"No value is set for the query parameters {', '.join(sorted(missing))}."
            )
        given: dict[str, Any] = {name: values[name] for name in query.parameters}
        self.views.inputs(query, self.driver.records)
        self.views.stages(query, given)
        return self.views.spark.sql(query.select, args=given)

    def _written(self, stored: StoredTable, rows: DataFrame) -> Sequence[str]:
        """Write rows with the declared types, one file per day, and return the files' URLs."""
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


def _reason(error: PySparkException) -> str:
    """Return the error without the stack traces of Java, and what to do if a disk is full."""
    reason = str(error).partition("\n\tat ")[0].strip()
    if "No space left on device" not in reason:
        return reason
    return (
        f"{reason}. The disk with the temporary files of a worker (spark.local.dir), or the disk with"
        " the warehouse, is full. Make room and run the same command again."
    )


def _evaluation(rows: DataFrame) -> Evaluation:
    count = rows.count()
    return Evaluation(count, _examples(rows) if count else Records())


def _examples(rows: DataFrame) -> Records:
    return _records(rows.orderBy(*rows.columns).limit(EXAMPLES))


def _records(rows: DataFrame) -> Records:
    return Records(tuple(rows.columns), [tuple(row) for row in rows.collect()])
