"""Write several tables from a single read of a source in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.sql.datatypes import DuckDBType

from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

Rows = Callable[[duckdb.DuckDBPyConnection], ir.Table | str]
"""A function that may create temporary tables and returns a table's rows as an expression or SQL."""

Step = Callable[[duckdb.DuckDBPyConnection], None]


@dataclass(frozen=True)
class TableBatch:
    """The result of an asset that writes several tables from a single read of a source.

    Args:
        contents: each table's rows, in the order in which the tables are written. Later tables may
            read earlier tables.
        counts: the number of rows written, by table name. The functions in `contents` may add entries.
        totals: the number of rows in each table, by table name.
        replaced: the days that were replaced in daily tables. A function may write further batches,
            which then share this set.
        only_days: the name of a temporary table with a single column, `day`, that lists the days to
            replace. A function in `contents` creates the temporary table. If None, all days in the
            window are replaced.
        before: a function to call before any rows are computed or replaced.
        after: a function to call in the same transaction after all tables are written.
        explain: a function to call if DuckDB raises an error or a write fails. The function may raise a
            more specific error.
    """

    contents: Mapping[Table, Rows]
    counts: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    replaced: set[date] = field(default_factory=set)
    only_days: str | None = None
    before: Step | None = None
    after: Step | None = None
    explain: Callable[[duckdb.DuckDBPyConnection, Exception], None] | None = None

    def __post_init__(self) -> None:
        if not self.contents:
            raise ValueError("A batch needs at least one table.")

    def write(self, connection: duckdb.DuckDBPyConnection, window: DateWindow | None) -> None:
        """Replace each table's slice in the caller's transaction.

        Raises:
            SchemaMismatchError: If a table's rows do not match its declaration.
        """
        try:
            self._write(connection, window)
        except (duckdb.Error, WarehouseError) as error:
            if self.explain is not None:
                self.explain(connection, error)
            raise

    def _write(self, connection: duckdb.DuckDBPyConnection, window: DateWindow | None) -> None:
        engine = DuckDBEngine(connection)
        for table in self.contents:
            # Create all tables first, since one table's rows may depend on another table's stored rows.
            engine.prepare(table)
        if self.before is not None:
            self.before(connection)
        for table, rows in self.contents.items():
            self.counts[table.name] = engine.replace_slice(
                table,
                rows(connection),
                window if table.partition_column else None,
                self.only_days if table.partition_column else None,
            )
            self.totals[table.name] = engine.total_rows(table)
        if window is not None:
            self.replaced.update(self._days(connection, window))
        if self.after is not None:
            self.after(connection)

    def _days(self, connection: duckdb.DuckDBPyConnection, window: DateWindow) -> Iterable[date]:
        """Return the replaced days."""
        if self.only_days is None:
            return window
        chosen = connection.execute(f"SELECT day FROM {quote(self.only_days)}").fetchall()
        return {day for (day,) in chosen} & {*window}


def temporary_table(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> ir.Table:
    """Create a temporary table from a query. The table exists until the connection is closed."""
    _drop_other(connection, name, "VIEW")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {quote(name)} AS {select}")
    return temporary_relation(connection, name)


def temporary_view(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> ir.Table:
    """Create a temporary view from a query. The view's rows are computed on each read."""
    _drop_other(connection, name, "TABLE")
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {select}")
    return temporary_relation(connection, name)


def _drop_other(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> None:
    """Drop the temporary relation with this name and kind, if any.

    DuckDB cannot replace a view with a table or a table with a view.
    """
    catalog = f"duckdb_{kind.lower()}s()"
    query = f"SELECT 1 FROM {catalog} WHERE temporary AND {kind.lower()}_name = ?"
    if connection.execute(query, [name]).fetchall():
        connection.execute(f"DROP {kind} temp.{quote(name)}")


def temporary_relation(connection: duckdb.DuckDBPyConnection, name: str) -> ir.Table:
    """Return a temporary table or view as an unbound Ibis table."""
    columns = connection.execute(f"DESCRIBE {quote(name)}").fetchall()
    return ibis.table({column: _type(dtype) for column, dtype, *_ in columns}, name=name)


@cache
def _type(dtype: str) -> Any:
    return DuckDBType.from_string(dtype)  # parses the type, which takes as long as the query


def count_rows(connection: duckdb.DuckDBPyConnection, select: str) -> int:
    """Return the number of rows that a query returns."""
    return int(connection.execute(f"SELECT count(*) FROM ({select})").fetchall()[0][0])
