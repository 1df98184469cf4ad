"""Compute the tables of a DuckDB warehouse on Spark, and compare them with DuckDB's.

Each query reads DuckDB's tables, copied as Parquet files, and not the tables that Spark computed, so
that a difference shows in the table whose query differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import ibis
from pyspark.sql import DataFrame, SparkSession

from monstera_assets.lifecycle.expressions import window_parameters
from monstera_assets.warehouse.compiler import Query, bind
from monstera_assets.warehouse.io_manager import Reads
from monstera_assets.warehouse.spark_compiler import SparkTypes, view_name
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

_RECORDS = {
    "materializations": {
        "table_name": "string",
        "partition_date": "date",
        "materialized_at": "timestamp",
    },
    "source_changes": {"affects_from": "date", "changed_at": "timestamp"},
}
"""The columns of the records that expressions read."""


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
        relations = [
            *((table.schema, table.name, table.relation.schema()) for table in all_tables),
            *(("operations", name, ibis.schema(columns)) for name, columns in _RECORDS.items()),
        ]
        for schema, name, columns in relations:
            path = self.folder / f"{name}.parquet"
            if not path.exists():
                rows = f"SELECT {', '.join(columns)} FROM {schema}.{name}"
                self.warehouse.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
            types = ", ".join(f"`{c}` {SparkTypes.to_string(t)}" for c, t in columns.items())
            stored = self.spark.read.schema(types).parquet(str(path))
            stored.createOrReplaceTempView(view_name(schema, name))

    def rows(self, query: Query, parameters: Mapping[str, date]) -> DataFrame:
        """Return a query's rows, with its stages stored as Parquet files."""
        values = {name: parameters[name] for name in query.parameters}
        # Queries share a stage, but with other days it has other rows.
        days = sha256(repr(values).encode()).hexdigest()[:8]
        for name, select in query.stages.items():
            path = self.folder / f"{name}_{days}.parquet"
            rows = self._run(select, values)
            if not path.exists():
                rows.write.parquet(str(path))
            self.spark.read.schema(rows.schema).parquet(str(path)).createOrReplaceTempView(name)
        return self._run(query.select, values)

    def differences(
        self, table: Table, query: Query, parameters: Mapping[str, date]
    ) -> dict[str, int]:
        """Return the number of rows that differ from DuckDB's, by column, and of missing rows.

        Floats may differ by a billionth of their size.
        """
        computed = self._store(f"computed_{table.name}", self.rows(query, parameters))
        columns = table.data_columns
        cast = ", ".join(f'CAST("{c.name}" AS {c.stored_type}) AS "{c.name}"' for c in columns)
        on = " AND ".join(f'ours."{key}" IS NOT DISTINCT FROM theirs."{key}"' for key in table.key)
        differ = ", ".join(
            f'count(*) FILTER (WHERE {_differs(c.name, c.stored_type)}) AS "{c.name}"'
            for c in columns
        )
        found = self.warehouse.execute(
            f"WITH theirs AS (SELECT {cast} FROM {computed}) SELECT {differ}, (SELECT count(*) FROM"
            f" {table.qualified_name}) - count(*) AS missing, (SELECT count(*) FROM theirs) -"
            f" count(*) AS added FROM {table.qualified_name} AS ours JOIN theirs ON {on}"
        )
        names = [column[0] for column in found.description]
        return {name: rows for name, rows in zip(names, found.fetchall()[0], strict=True) if rows}

    def findings(
        self, name: str, expected: Query, query: Query, parameters: Mapping[str, date]
    ) -> tuple[int, int]:
        """Return the number of rows that DuckDB finds, and of rows that only one engine finds.

        Args:
            name: the name of the rule.
            expected: the rule's query for DuckDB.
            query: the rule's query for Spark.
            parameters: the values of query parameters, by name.
        """
        found = self._store(f"found_by_{name}", self.rows(query, parameters))
        bind(self.warehouse, {key: parameters[key] for key in expected.parameters})
        columns = ", ".join(
            f'round("{column}", 6) AS "{column}"'
            if kind == "DOUBLE"
            else f'CAST("{column}" AS {kind})'
            for column, kind in expected.columns.items()
        )
        ours = f"SELECT {columns} FROM ({expected.select})"
        theirs = f"SELECT {columns} FROM {found}"
        self.warehouse.execute(f"CREATE OR REPLACE TEMP TABLE ours AS {ours}")
        self.warehouse.execute(f"CREATE OR REPLACE TEMP TABLE theirs AS {theirs}")
        [counted] = self.warehouse.execute(
            "SELECT (SELECT count(*) FROM ours), (SELECT count(*) FROM (FROM ours EXCEPT ALL FROM"
            " theirs)) + (SELECT count(*) FROM (FROM theirs EXCEPT ALL FROM ours))"
        ).fetchall()
        return counted[0], counted[1]

    def _store(self, name: str, rows: DataFrame) -> str:
        path = self.folder / f"{name}.parquet"
        rows.write.mode("overwrite").parquet(str(path))
        if not any(path.glob("*.parquet")):  # Sail writes no file if there are no rows
            columns = ", ".join(f'NULL AS "{name}"' for name in rows.columns)
            return f"(SELECT {columns} WHERE false)"
        return f"read_parquet('{path}/*.parquet')"

    def _run(self, select: str, values: Mapping[str, date]) -> DataFrame:
        # As text, since a date before the Gregorian calendar would not be converted.
        return self.spark.sql(select, args={name: str(value) for name, value in values.items()})


def parameters_of_first_run(
    asset: TableAsset, tables: Mapping[str, Table], window: DateWindow
) -> dict[str, date]:
    """Return the query parameters of a run that computes all days of a table.

    Args:
        asset: the table's asset.
        tables: all tables, by name.
        window: the days.
    """
    takes_earlier = asset.table.takes_earlier_rows
    ends = {"window": (date.min if takes_earlier else window.first, window.last)}
    for name, days in asset.days.items():
        first, last = window.first, window.last
        if days.reads == Reads.STORED_DAYS:
            first, last = date.min, date.max
        elif days.reads == Reads.LATEST_DAY:
            first = last
        elif tables[name].takes_earlier_rows:
            is_whole = takes_earlier or days.reads == Reads.ALL_DAYS
            first = date.min if is_whole else first - timedelta(days=days.back)
        ends[name] = (first, last)
    return {
        parameter: day
        for name, bounds in ends.items()
        for parameter, day in zip(window_parameters(name), bounds, strict=True)
    }


def _differs(name: str, stored_type: str) -> str:
    ours, theirs = f'ours."{name}"', f'theirs."{name}"'
    if stored_type != "DOUBLE":
        return f"{ours} IS DISTINCT FROM {theirs}"
    near = f"abs({ours} - {theirs}) <= 1e-9 * greatest(abs({ours}), abs({theirs}))"
    return f"NOT coalesce({near}, {ours} IS NOT DISTINCT FROM {theirs})"
