"""Small tables and files for tests of Iceberg tables.

The files are written by DuckDB. The rows of a version of a day are the numbers below `ROWS`, each
with the version, so that a mixture of two versions can be recognized.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog, open_catalog
from monstera_assets.warehouse.iceberg.replacement import Committed, replace_rows
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.layers import AssetGroup
from monstera_assets.warehouse.tables import TREND_FLAGS, Column, Layer, Table
from monstera_assets.warehouse.windows import DateWindow

ROWS = 3

JUNE = tuple(date(2025, 6, day) for day in range(1, 31))


def table(
    name: str, *columns: Column, daily: bool = True, takes_earlier_rows: bool = False
) -> Table:
    """Declare a table with a version and a number, and other columns."""
    day = (Column("day", "date", "Day."),) if daily else ()
    return Table(
        layer=Layer.SILVER,
        name=f"silver_{name}",
        grain="one row per number",
        description="A table for tests.",
        columns=(
            *day,
            Column("number", "int64", "Number."),
            Column("version", "int64", "Version of the rows."),
            *columns,
        ),
        key=(*(column.name for column in day), "number"),
        owners=("team:tests",),
        group=AssetGroup.INTAKE,
        partition_column="day" if daily else None,
        takes_earlier_rows=takes_earlier_rows,
    )


HISTORY = table("history")
CURRENT = table("current", daily=False)
ACCEPTED, REJECTED, LEDGER = (table(name) for name in ("accepted", "rejected", "ledger"))
FLAGGED = table("flagged", *TREND_FLAGS)


def catalog_in(folder: Path, uri: str) -> IcebergCatalog:
    """Open a catalog with an SQL database, and a warehouse in a folder."""
    return open_catalog(f"file://{folder}/warehouse", {"type": "sql", "uri": uri})


def window(first: int, last: int | None = None, *, is_opening: bool = False) -> DateWindow:
    """Return days in June 2025."""
    return DateWindow(JUNE[first - 1], JUNE[(last or first) - 1], is_opening)


def write_query(stored: StoredTable, query: str, name: str = "part") -> str:
    """Write a query's rows into a file in a new folder of the table, and return its URL."""
    folder = Path(stored.new_folder().removeprefix("file://"))
    folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{folder}/{name}.parquet' (FORMAT parquet)")
    [url] = stored.files_in(f"file://{folder}")
    return url


def write_days(stored: StoredTable, days: Iterable[date], version: int) -> list[str]:
    """Write one file for each day."""
    return [
        write_query(
            stored,
            f"SELECT DATE '{day}' AS day, i AS number, {version}::BIGINT AS version"
            f" FROM range({ROWS}) AS t(i)",
        )
        for day in days
    ]


def replace_days(stored: StoredTable, days: DateWindow, version: int) -> Committed:
    """Replace days by a version."""
    return replace_rows(stored, write_days(stored, days, version), [days])


def content(
    stored: StoredTable, windows: Sequence[DateWindow] | None = None
) -> list[tuple[date, int, int]]:
    """Return the number of rows by day and version, in order."""
    return fetched(
        f"SELECT day, version, count(*) FROM ({stored.duckdb_rows(windows)})"
        " GROUP BY ALL ORDER BY ALL"
    )


def fetched(query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query in a DuckDB connection of its own."""
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def of_versions(*versions: tuple[DateWindow, int]) -> list[tuple[date, int, int]]:
    """Return the expected content of windows, each with a version."""
    return [(day, version, ROWS) for days, version in versions for day in days]
