"""A worker's disk that is too small for the temporary files of a query."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest

from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.iceberg.cleanup import clean_up
from monstera_assets.warehouse.spark_engine import SparkEngine
from monstera_assets.warehouse.spark_session import connect_spark
from monstera_assets.warehouse.spark_views import SparkViews
from monstera_assets.warehouse.tables import register
from monstera_assets_tests.spark.cluster import standalone_cluster
from monstera_assets_tests.spark.iceberg_tables import (
    HISTORY,
    JUNE,
    ROWS,
    catalog_in,
    content,
    fetched,
    of_versions,
    window,
)
from monstera_assets_tests.spark.test_iceberg_faults import small_disk
from monstera_assets_tests.spark.test_iceberg_loads import files_below, in_hours

pytestmark = pytest.mark.spark

MIB = 1024 * 1024
SMALL, LARGE = 16 * MIB, 1024 * MIB
COPIES = 150_000
"""Of each row. A row takes more than 16 bytes on the disk, since its hashes cannot be compressed."""

FIRST_ROWS = pd.DataFrame(
    [(day, number, 1) for day in JUNE[:3] for number in range(ROWS)],
    columns=["day", "number", "version"],
)


@dataclass(frozen=True)
class WorkerDisk:
    """The disk with the temporary files of all workers of a cluster."""

    remote: str
    folder: Path

    def resize(self, size: int) -> None:
        options = f"remount,size={size}"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerDisk]:
    folder = tmp_path_factory.mktemp("cluster")
    place = folder / "disk"
    with ExitStack() as stack:
        try:
            stack.enter_context(small_disk(place, SMALL))
        except subprocess.CalledProcessError:
            pytest.skip("may not mount a file system, which needs root")
        cluster = stack.enter_context(standalone_cluster(folder, worker_disk=place))
        yield WorkerDisk(cluster.remote, place)


@pytest.fixture
def spark(disk: WorkerDisk) -> Iterator[Any]:
    session = connect_spark(disk.remote)
    yield session
    session.stop()


def many_rows() -> ir.Table:
    """Return the stored rows many times, with hashes as numbers."""
    rows = HISTORY.relation.mutate(copy=ibis.range(0, COPIES).unnest())
    number = rows.number * COPIES + rows.copy
    return rows.select("day", number=number.hash(), version=rows.copy.hash())


def test_a_full_disk_of_a_worker_leaves_the_table_whole(
    tmp_path: Path, uri: str, disk: WorkerDisk, spark: Any
) -> None:
    """The next write with more room succeeds, and no file of the failed one remains."""
    register(HISTORY)
    with (
        closing(catalog_in(tmp_path, uri)) as catalog,
        connect(str(tmp_path / "w.duckdb"), connection_config(threads=1)) as connection,
    ):
        engine = SparkEngine(SparkViews(spark, catalog), DuckDBEngine(connection))
        assert engine.replace(HISTORY, FIRST_ROWS, window(1, 3)) == 3 * ROWS
        before, files = of_versions((window(1, 3), 1)), files_below(catalog.stored(HISTORY))
        assert 3 * ROWS * COPIES * 16 > SMALL

        with pytest.raises(WarehouseError) as failed:
            engine.replace(HISTORY, many_rows(), window(1, 3))
        message = str(failed.value)
        assert message.startswith("silver.silver_history was not written and is unchanged: ")
        assert "No space left on device. The disk with the temporary files of a worker" in message
        assert "\n" not in message
        assert content(catalog.stored(HISTORY)) == before
        clean_up(catalog.opened(HISTORY), in_hours(1))
        assert files_below(catalog.stored(HISTORY)) == files

        disk.resize(LARGE)
        assert engine.replace(HISTORY, many_rows(), window(1, 3)) == 3 * ROWS * COPIES
        rows = catalog.stored(HISTORY).duckdb_rows()
        counts = fetched(
            f"SELECT day, count(DISTINCT number) FROM ({rows}) GROUP BY ALL ORDER BY ALL"
        )
        assert counts == [(day, ROWS * COPIES) for day in JUNE[:3]]
