"""Measure how many rows and bytes each table has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from monstera_assets.warehouse.duckdb_engine import quote, text_literal

MEASURED_ROWS = 10_000
"""The minimum number of rows for a table's bytes to be measured.

A block of the file has 256 KiB and contains several small tables. Reading the block list takes two
milliseconds per table, which would add up in runs over small companies.
"""


@dataclass(frozen=True)
class TableSize:
    """The size of a table.

    Attributes:
        rows: the number of rows.
        bytes: the size of the table's blocks in the file, or None if the table has fewer rows than
            `MEASURED_ROWS`. A block that contains several tables is divided by the number of segments
            per table. Deleted rows count until DuckDB frees their blocks.
    """

    rows: int
    bytes: int | None


def measure_tables(
    connection: duckdb.DuckDBPyConnection, schemas: Sequence[str]
) -> Mapping[str, TableSize]:
    """Write all changes to the file, and return the size of each table in the schemas, by name.

    No row is read.
    """
    connection.execute("CHECKPOINT")
    names = {
        name: f"{quote(schema)}.{quote(name)}"
        for schema, name in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables()"
            " WHERE database_name = current_database() AND NOT temporary"
            " AND list_contains(?, schema_name) ORDER BY ALL",
            [list(schemas)],
        ).fetchall()
    }
    if not names:
        return {}
    counts = " UNION ALL ".join(
        f"SELECT {text_literal(name)}, count(*) FROM {table}" for name, table in names.items()
    )
    rows = dict(connection.execute(counts).fetchall())
    large = {name: names[name] for name in names if rows[name] >= MEASURED_ROWS}
    blocks = _blocks(connection, large) if large else {}
    return {
        name: TableSize(rows[name], blocks.get(name, 0) if name in large else None)
        for name in names
    }


def _blocks(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, str]) -> Mapping[str, int]:
    """Return the bytes in the blocks of each table."""
    [(block_size,)] = connection.execute(
        "SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()"
    ).fetchall()
    segments = " UNION ALL ".join(
        f"SELECT {text_literal(name)} AS name,"
        " unnest(list_append(additional_block_ids, block_id)) AS block"
        f" FROM pragma_storage_info({text_literal(table)}) WHERE persistent"
        for name, table in tables.items()
    )
    return dict(
        connection.execute(
            f"WITH counted AS (SELECT name, block, count(*) AS n FROM ({segments}) GROUP BY ALL),"
            " shared AS (SELECT name, n / sum(n) OVER (PARTITION BY block) AS part FROM counted)"
            f" SELECT name, round(sum(part) * {int(block_size)})::BIGINT FROM shared GROUP BY name"
        ).fetchall()
    )
