"""Batches: several tables that must change together, in one transaction, from one read of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.sql.datatypes import DuckDBType

from monstera_assets.warehouse import writer
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

Rows = Callable[[duckdb.DuckDBPyConnection], ir.Table | str]
"""Gives the rows of a table as an expression or SQL; may create temporary tables first."""

Step = Callable[[duckdb.DuckDBPyConnection], None]


@dataclass(frozen=True)
class TableBatch:
    """What an asset returns when one read of a source fills several tables.

    `contents` says what each table holds, in the order of writing: later ones may read the earlier
    ones, which are written by then, in the same transaction. `counts` is filled with the number of
    rows written by table name, and with what the contents add.

    Args:
        only_days: name of a temporary table with the days to replace in its only column, `day`, made
            by the contents; None to replace all days of the window.
        before: is called before anything is computed or replaced.
        after: is called when everything is written, in the same transaction.
        explain: is called when the engine fails meanwhile, and raises an error that says more, if
            there is more to say.
    """

    contents: Mapping[Table, Rows]
    counts: dict[str, int] = field(default_factory=dict)
    only_days: str | None = None
    before: Step | None = None
    after: Step | None = None
    explain: Callable[[duckdb.DuckDBPyConnection, Exception], None] | None = None

    def __post_init__(self) -> None:
        if not self.contents:
            raise ValueError("a batch of no tables")

    def write(self, connection: duckdb.DuckDBPyConnection, window: DateWindow | None) -> None:
        """Replace each table's slice, inside the caller's transaction.

        Raises:
            SchemaMismatchError: a table's rows differ from its declaration.
        """
        try:
            self._write(connection, window)
        except (duckdb.Error, WarehouseError) as error:
            if self.explain is not None:
                self.explain(connection, error)
            raise

    def _write(self, connection: duckdb.DuckDBPyConnection, window: DateWindow | None) -> None:
        for table in self.contents:
            # Before any rows are computed: those of one may depend on what another holds so far.
            writer.prepare(connection, table)
        if self.before is not None:
            self.before(connection)
        for table, rows in self.contents.items():
            self.counts[table.name] = writer.replace(
                connection,
                table,
                rows(connection),
                window if table.partition_column else None,
                self.only_days if table.partition_column else None,
            )
        if self.after is not None:
            self.after(connection)


def temporary_table(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> ir.Table:
    """Run a query once and keep its rows under a name for as long as the connection lives."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {writer.quote(name)} AS {select}")
    return temporary_relation(connection, name)


def temporary_view(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> ir.Table:
    """Keep a query under a name, and compute its rows each time they are read."""
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {writer.quote(name)} AS {select}")
    return temporary_relation(connection, name)


def temporary_relation(connection: duckdb.DuckDBPyConnection, name: str) -> ir.Table:
    """A temporary table or view of the connection as an unbound Ibis table."""
    columns = connection.execute(f"DESCRIBE {writer.quote(name)}").fetchall()
    return ibis.table(
        {column: DuckDBType.from_string(dtype) for column, dtype, *_ in columns}, name=name
    )


def count_rows(connection: duckdb.DuckDBPyConnection, select: str) -> int:
    """The number of rows of a query."""
    return int(connection.execute(f"SELECT count(*) FROM ({select})").fetchall()[0][0])
