"""Computing a large range in batches, so that the work of each fits into memory.

By date: a table of which every day is computed from the same day of an input, and from nothing later,
may be computed for any of its days by themselves. Over much data that is faster than all days at once:
DuckDB keeps the hash tables of a few days in memory, where those of a year go to disk and back.

By key: facts that an expression marks with `by_key` are computed once, into temporary tables in the
order of their key's hash. A batch is a range of hashes: it reads one stretch of every table.
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
"""Rows of the inputs that are read together. Grouping takes up to 100 bytes of memory for each."""
ROWS_PER_KEY_BATCH = 400_000
"""Facts that are computed together. Levels of a year take up to 2 KB of memory for each."""

_HASHES = 2**63
"""What `visit_Hash` of the compiler gives: as many values, from 0 on."""


@dataclass(frozen=True)
class DateBatches:
    """How a range is computed whose days do not depend on each other.

    Attributes:
        inputs: the tables of which each day reads the same day.
        parameters: from the days of a batch to the parameters of the query for it.
    """

    inputs: Sequence[Table]
    parameters: Callable[[DateWindow], Mapping[str, date]]

    def windows(
        self, connection: duckdb.DuckDBPyConnection, window: DateWindow
    ) -> Sequence[DateWindow]:
        """The range in batches of equally many days, as many as the rows of the inputs require."""
        rows = sum(_count_rows(connection, table, window) for table in self.inputs)
        return split_window(window, max(1, -(-rows // ROWS_PER_DATE_BATCH)))


def split_window(window: DateWindow, parts: int) -> Sequence[DateWindow]:
    """A window in at most so many parts, of which none has two days more than another."""
    parts = min(parts, len(window))
    starts = [len(window) * part // parts for part in range(parts + 1)]
    return [
        DateWindow(window.first + timedelta(days=start), window.first + timedelta(days=end - 1))
        for start, end in pairwise(starts)
    ]


@contextmanager
def key_batches(connection: duckdb.DuckDBPyConnection, query: Query) -> Iterator[Iterator[str]]:
    """Yield the query of each batch of keys, to be run before the next is asked for.

    The rows of all batches are those of the query. Temporary tables exist meanwhile.
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
