"""Compute a large range of days in batches that each fit in memory.

Batches by date: If each day depends only on the same day in its inputs, the days can be computed
separately. With a lot of data, computing days in batches is faster than computing all days at once,
because the hash tables for a few days fit in memory, while the hash tables for a year spill to disk.

Batches by key: Facts marked with `by_key` are computed once and written to temporary tables, sorted
by the key's hash. Each batch covers a range of hashes and reads one contiguous part of each table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import duckdb

from monstera_assets.warehouse.compiler import FIRST_HASH, HASH, LAST_HASH, Query, bind
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

ROWS_PER_DATE_BATCH = 25_000_000
"""Input rows per batch. Grouping uses up to 100 bytes of memory per row."""
ROWS_PER_KEY_BATCH = 400_000
"""Facts per batch. A year of activity levels uses up to 2 KB of memory per fact."""

_HASHES = 2**63
"""Number of hash values. The compiler's `visit_Hash` returns values from 0 through 2**63 - 1."""


@dataclass(frozen=True)
class DateBatches:
    """How to split a range of independent days into batches.

    Attributes:
        inputs: the tables from which each day's computation reads only rows for the same day.
        parameters: a function that returns the query parameters for the days in a batch.
    """

    inputs: Sequence[Table]
    parameters: Callable[[DateWindow], Mapping[str, date]]

    def windows(
        self, connection: duckdb.DuckDBPyConnection, window: DateWindow
    ) -> Sequence[DateWindow]:
        """Split the range into batches of similar length with about `ROWS_PER_DATE_BATCH` rows each."""
        rows = sum(_count_rows(connection, table, window) for table in self.inputs)
        return split_window(window, max(1, -(-rows // ROWS_PER_DATE_BATCH)))


def split_window(window: DateWindow, parts: int) -> Sequence[DateWindow]:
    """Split a window into at most `parts` windows whose lengths differ by at most one day."""
    parts = min(parts, len(window))
    starts = [len(window) * part // parts for part in range(parts + 1)]
    return [
        DateWindow(
            window.first + timedelta(days=start),
            window.first + timedelta(days=end - 1),
            is_opening=window.is_opening and start == 0,
        )
        for start, end in pairwise(starts)
    ]


@contextmanager
def key_batches(connection: duckdb.DuckDBPyConnection, query: Query) -> Iterator[Iterator[str]]:
    """Yield an iterator over the queries, with one query per batch of keys.

    Run each query before requesting the next one, since the queries differ only in their bound
    parameters. The temporary fact tables exist until the context exits.
    """
    rows = 0
    for name, select in query.facts.items():
        connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM ({select}) ORDER BY {HASH}")
        rows += connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
    yield _each_batch(connection, query.batch, max(1, -(-rows // ROWS_PER_KEY_BATCH)))
    for name in query.facts:
        connection.execute(f"DROP TABLE {name}")


def _each_batch(connection: duckdb.DuckDBPyConnection, select: str, batches: int) -> Iterator[str]:
    for batch in range(batches):
        first, end = batch * _HASHES // batches, (batch + 1) * _HASHES // batches
        bind(connection, {FIRST_HASH: first, LAST_HASH: end - 1})
        yield select


def _count_rows(connection: duckdb.DuckDBPyConnection, table: Table, window: DateWindow) -> int:
    [(count,)] = connection.execute(
        f"SELECT count(*) FROM {table.qualified_name} WHERE {table.partition_column} BETWEEN ? AND ?",
        [window.first, window.last],
    ).fetchall()
    return int(count)
