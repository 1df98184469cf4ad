"""Test a warehouse in an S3 bucket, which an emulator serves.

The files are written by pyarrow. How an engine writes to S3 is not tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from monstera_assets.warehouse.errors import ConflictingWriteError, WarehouseError
from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog, open_catalog
from monstera_assets.warehouse.iceberg.cleanup import clean_up
from monstera_assets.warehouse.iceberg.replacement import replace_rows
from monstera_assets.warehouse.iceberg.stored_table import StoredTable, typed_rows
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.spark.iceberg_tables import FLAGGED, JUNE, ROWS, of_versions, window

pytestmark = pytest.mark.spark

ACCESS = {
    "s3.access-key-id": "testing",
    "s3.secret-access-key": "testing",
    "s3.region": "us-east-1",
}


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of an S3 emulator with the bucket `company`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        client(address).create_bucket(Bucket="company")
        yield address
    finally:
        server.stop()


def client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # noqa: S106
    )


def keys(endpoint: str) -> set[str]:
    pages = client(endpoint).get_paginator("list_objects_v2").paginate(Bucket="company")
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def opened(endpoint: str, folder: Path, kind: str) -> IcebergCatalog:
    properties = {"s3.endpoint": endpoint, **ACCESS}
    if kind == "glue":
        glue = {
            "glue.endpoint": endpoint,
            "glue.region": "us-east-1",
            "glue.access-key-id": "testing",
            "glue.secret-access-key": "testing",
        }
        return open_catalog("s3://company/warehouse", {"type": "glue", **properties, **glue})
    return open_catalog(
        "s3://company/warehouse",
        {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", **properties},
    )


def write_days(stored: StoredTable, days: DateWindow, version: int) -> list[str]:
    """Write one file for each day."""
    folder = stored.new_folder()
    system, path, _ = stored.filesystem(folder)
    for day in days:
        rows = pa.table(
            {
                "day": pa.array([day] * ROWS, pa.date32()),
                "number": pa.array(range(ROWS), pa.int64()),
                "version": pa.array([version] * ROWS, pa.int64()),
            }
        )
        parquet.write_table(rows, f"{path}/{day}.parquet", filesystem=system)
    return stored.files_in(folder)


def content(stored: StoredTable) -> list[tuple[date, int, int]]:
    """Return the number of rows by day and version, in order."""
    with duckdb.connect() as connection:
        connection.register("stored", stored.dataset())
        rows = typed_rows(FLAGGED, "SELECT * FROM stored", stored.latest_day)
        return connection.execute(
            f"SELECT day, version, count(*) FROM ({rows}) GROUP BY ALL ORDER BY ALL"
        ).fetchall()


@pytest.mark.parametrize("kind", ["sql", "glue"])
def test_commits_reads_conflicts_and_clean_up_on_s3(
    endpoint: str, tmp_path: Path, kind: str
) -> None:
    catalog = opened(endpoint, tmp_path, kind)
    late = catalog.opened(FLAGGED)
    assert content(late) == []
    stored = catalog.opened(FLAGGED)
    files = write_days(stored, window(1, 4), 1)
    assert [file.rpartition("/")[2] for file in files] == [f"{day}.parquet" for day in JUNE[:4]]
    assert all(
        file.startswith("s3://company/warehouse/silver/silver_flagged/data/") for file in files
    )
    replace_rows(stored, files, [window(1, 4)])

    other = catalog.opened(FLAGGED)
    stored = catalog.opened(FLAGGED)
    replace_rows(stored, write_days(stored, window(2, 3), 2), [window(2, 3)])
    replace_rows(other, write_days(other, window(6), 3), [window(6)])
    with pytest.raises(ConflictingWriteError, match="another run replaced"):
        replace_rows(late, write_days(late, window(3), 4), [window(3)])

    expected = of_versions((window(1), 1), (window(2, 3), 2), (window(4), 1), (window(6), 3))
    stored = opened(endpoint, tmp_path, kind).stored(FLAGGED)
    assert content(stored) == expected
    assert stored.materialized_days == {*JUNE[:4], JUNE[5]}

    clean_up(catalog.opened(FLAGGED), datetime.now(UTC) + timedelta(hours=1))
    stored = catalog.stored(FLAGGED)
    assert content(stored) == expected
    assert {key for key in keys(endpoint) if key.endswith(".parquet")} == {
        file.url.removeprefix("s3://company/") for file in stored.data_files()
    }


def test_storage_that_cannot_be_reached_is_an_error(endpoint: str, tmp_path: Path) -> None:
    catalog = opened(endpoint, tmp_path, "sql")
    stored = catalog.opened(FLAGGED)
    files = write_days(stored, window(1), 1)
    client(endpoint).delete_object(Bucket="company", Key=files[0].removeprefix("s3://company/"))
    with pytest.raises(WarehouseError, match=r"silver_flagged \(2025-06-01\) was not written"):
        replace_rows(stored, files, [window(1)])
    assert catalog.stored(FLAGGED).materialized_days == set()
