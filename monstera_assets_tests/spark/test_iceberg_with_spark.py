"""Test Iceberg tables whose files Spark writes and reads, over Spark Connect."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from monstera_assets.warehouse.errors import SchemaMismatchError
from monstera_assets.warehouse.iceberg.replacement import replace_rows
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.tables import Column
from monstera_assets_tests.spark.iceberg_tables import catalog_in, fetched, table, window

pytestmark = pytest.mark.spark

COLUMNS = (
    Column("amount", "decimal(18, 2)", "."),
    Column("ratio", "float64", "."),
    Column("at", "timestamp", "."),
    Column("properties", "json", "."),
    Column("steps", "array<struct<step: int64, name: string>>", "."),
)
TABLE = table("written", *COLUMNS)
ROWS = """
    SELECT d AS day, n AS number, CAST({version} AS BIGINT) AS version,
      CAST(n + 0.25 AS DECIMAL(18, 2)) AS amount, n / 8D AS ratio,
      TIMESTAMP_NTZ '2025-06-01 12:34:56.123456' AS at,
      '{{"a": 1}}' AS properties,
      array(named_struct('step', n, 'name', 'first')) AS steps
    FROM (SELECT explode(sequence(DATE '{first}', DATE '{last}')) AS d)
    CROSS JOIN (SELECT explode(sequence(1L, 2L)) AS n)
"""


def write(spark: Any, stored: StoredTable, query: str) -> list[str]:
    """Write one file for each day. `partitionBy` removes its column from the files."""
    folder = stored.new_folder()
    rows = spark.sql(query)
    rows.withColumn("_day", rows["day"]).repartition("_day").write.partitionBy("_day").parquet(
        folder
    )
    return stored.files_in(folder)


def test_days_that_spark_writes_are_replaced_and_read(spark: Any, tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    stored = catalog.opened(TABLE)
    files = write(spark, stored, ROWS.format(version=1, first="2025-06-01", last="2025-06-04"))
    assert len(files) == 4
    replace_rows(stored, files, [window(1, 4)])
    stored = catalog.opened(TABLE)
    files = write(spark, stored, ROWS.format(version=2, first="2025-06-02", last="2025-06-02"))
    replace_rows(stored, files, [window(2, 3)])

    stored = catalog.stored(TABLE)
    of_a_day = [
        (
            *(Decimal(f"{n}.25"), n / 8, datetime(2025, 6, 1, 12, 34, 56, 123456)),  # noqa: DTZ001
            *('{"a": 1}', [{"step": n, "name": "first"}]),
        )
        for n in (1, 2)
    ]
    expected = [
        (date(2025, 6, day), n, version, *of_a_day[n - 1])
        for day, version in ((1, 1), (2, 2), (4, 1))
        for n in (1, 2)
    ]
    assert fetched(f"FROM ({stored.duckdb_rows()}) ORDER BY day, number") == expected
    read = spark.read.parquet(*(file.url for file in stored.data_files())).orderBy("day", "number")
    assert [
        (*row[:7], [step.asDict() for step in row.steps])
        for row in read.select(*(column.name for column in TABLE.columns)).collect()
    ] == expected


def test_timestamps_of_96_bits_are_refused(spark: Any, tmp_path: Path) -> None:
    """Spark's default for timestamps with a time zone, which Iceberg does not know."""
    zoned = table("zoned", Column("at", "timestamp('UTC')", "."))
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    query = (
        "SELECT DATE '2025-06-01' AS day, 1L AS number, 1L AS version,"
        " TIMESTAMP '2025-06-01 12:34:56.123456' AS at"
    )
    stored = catalog.opened(zoned)
    spark.conf.set("spark.sql.parquet.outputTimestampType", "INT96")
    with pytest.raises(SchemaMismatchError, match=r"silver_zoned .* was not written"):
        replace_rows(stored, write(spark, stored, query), [window(1)])
    stored = catalog.opened(zoned)
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    replace_rows(stored, write(spark, stored, query), [window(1)])
    rows = catalog.stored(zoned).duckdb_rows()
    assert fetched(f'SELECT epoch_us("at") FROM ({rows})') == [(1748781296123456,)]
