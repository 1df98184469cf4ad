"""The DuckDB IO manager: dagster-duckdb's, made atomic, typed by declaration, and safe to range over.

An asset returns a query (run inside DuckDB, no row passes through Python) or, where the work is truly
Python's, a pandas DataFrame. An input arrives as its table and the days to read of it, or as a
DataFrame; an input with days that were never materialized is an error, not an absence of rows.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import duckdb
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd
from dagster import (
    InitResourceContext,
    InputContext,
    MetadataValue,
    OutputContext,
    TimeWindow,
)
from dagster._core.definitions.metadata import RawMetadataValue
from dagster._core.storage.db_io_manager import (
    DbIOManager,
    DbTypeHandler,
    TableSlice,
)
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient
from dagster_duckdb_pandas import DuckDBPandasTypeHandler
from ibis.backends.sql.datatypes import DuckDBType
from pydantic import Field

from monstera_assets.warehouse import writer
from monstera_assets.warehouse.batches import TableBatch
from monstera_assets.warehouse.batching import DateBatches
from monstera_assets.warehouse.compiler import Query, bind
from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS, connect
from monstera_assets.warehouse.errors import (
    MissingPartitionsError,
    SchemaMismatchError,
    WarehouseError,
)
from monstera_assets.warehouse.previews import Preview
from monstera_assets.warehouse.tables import Table, declared
from monstera_assets.warehouse.windows import DateWindow

READS = "monstera/reads"
"""Metadata key of an asset's input: which days of a partitioned table it reads."""

AS_OF_DATE = "as_of_date"
"""Column of the tables that describe the latest date of history, and its metadata key."""

_FRAME = "delivered_frame"
_NO_TYPE = '"NULL"'  # what DuckDB calls the type of a DataFrame's column without any value


class Reads(StrEnum):
    """Which days of a partitioned input an asset reads; all of them must have been materialized."""

    MAPPED_DAYS = "the days that the partition mapping names"
    ALL_DAYS = "from the first partition to the latest materialized day"
    LATEST_DAY = "the latest materialized day"
    UP_TO_AS_OF = (
        "a table without partitions, of which the days computed must not lie after its date"
    )


_NO_DAYS = (date.max, date.min)


@dataclass(frozen=True)
class InputRows:
    """What an asset reads of an upstream table.

    Attributes:
        table: the table.
        days: first and last day to read of a partitioned table, the last before the first for none.
    """

    table: Table
    days: tuple[date, date] | None = None


@dataclass(frozen=True)
class Computed:
    """What an asset returns.

    Attributes:
        rows: the query of its rows, or the rows.
        parameters: the parameters of the query, by name.
        previews: what is shown of the table, with the query of each.
        batches: how some of the days are computed by themselves; None where they cannot be.
    """

    rows: Query | ir.Table | pd.DataFrame
    parameters: Mapping[str, date] = field(default_factory=dict)
    previews: Sequence[tuple[Preview, Query]] = ()
    batches: DateBatches | None = None


class WarehouseIOManager(DuckDBIOManager):
    """Writes assets to, and reads them from, the warehouse's DuckDB file.

    Schema and table are the two parts of the asset key, by which the table's declaration is found.
    """

    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        description="How long to wait for another process to release the database file.",
    )

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        """Ibis expressions, batches of tables, and pandas DataFrames."""
        return [IbisTypeHandler(), BatchTypeHandler(), DeclaredPandasTypeHandler()]

    @staticmethod
    def default_load_type() -> type | None:
        """Inputs without a type annotation arrive as Ibis tables."""
        handler: type = ir.Table
        return handler

    def create_io_manager(self, context: InitResourceContext) -> DbIOManager:
        """The IO manager proper."""
        return DbIOManager(
            db_client=WarehouseClient(),
            database=self.database,
            schema=self.schema_,
            type_handlers=self.type_handlers(),
            default_load_type=self.default_load_type(),
            io_manager_name=type(self).__name__,
        )

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Generator[Any, None, None]:
        """Keep the file open, and so its lock, for as long as the run uses it.

        Opening and checkpointing the file at every step would cost more than most steps do, and
        between two steps another process could slip in.
        """
        with (
            connect(
                self.database,
                self.connection_config,
                lock_timeout_seconds=self.lock_timeout_seconds,
            ),
            super().yield_for_execution(context) as manager,
        ):
            yield manager


class WarehouseClient(DuckDbClient):
    """One transaction an output; existence tested rather than an error caught and swallowed."""

    @staticmethod
    @contextmanager
    def connect(
        context: OutputContext | InputContext, table_slice: TableSlice
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection, for an output inside a transaction that also records the materialization."""
        config: Mapping[str, Any] = context.resource_config or {}
        with connect(
            config["database"],
            config["connection_config"],
            lock_timeout_seconds=config["lock_timeout_seconds"],
        ) as connection:
            if isinstance(context, InputContext):
                yield connection
                return
            table, window = declaration(table_slice), slice_window(table_slice)
            with writer.transaction(connection):
                yield connection
                writer.record(connection, table, window)

    @staticmethod
    def ensure_schema_exists(
        context: OutputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
    ) -> None:
        """Create schema and table from the declaration, or verify them."""
        writer.prepare(connection, declaration(table_slice))

    @staticmethod
    def delete_table_slice(
        context: OutputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
    ) -> None:
        """Delete nothing yet: the handlers do, since a batch may read, or keep, what is there."""


class IbisTypeHandler(DbTypeHandler[ir.Table | Computed]):
    """Runs queries inside DuckDB."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: ir.Table | Computed,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        """Insert the rows of a query or a DataFrame, and render the previews.

        Raises:
            SchemaMismatchError: columns or types differ from the declaration.
        """
        computed = obj if isinstance(obj, Computed) else Computed(obj)
        window = slice_window(table_slice)
        table = declaration(table_slice)
        if isinstance(computed.rows, pd.DataFrame):
            rows = _replace_by_frame(connection, table, computed.rows, window)
        else:
            writer.delete(connection, table, window)
            rows = _insert(connection, table, computed, window)
        seen = {
            preview.title: MetadataValue.md(preview.render(connection, query))
            for preview, query in computed.previews
        }
        if window is None:
            return {**row_count_metadata(rows, window), **_as_of(connection, table), **seen}
        if seen:
            # A preview is of the whole table: the last partition has it for all of the range.
            context.step_context.add_asset_metadata(seen, context.asset_key, str(window.last))
        return row_count_metadata(rows, window)

    def load_input(
        self,
        context: InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> InputRows:
        """The upstream table and the days to read of it, each of which exists.

        Raises:
            MissingTableError: the table, or a mapped partition, was never materialized.
            SchemaMismatchError: the table was written with another declaration.
        """
        return rows_to_read(context, table_slice, connection)

    @property
    def supported_types(self) -> Sequence[type[object]]:
        """Ibis tables, and queries or DataFrames with what is shown of the table."""
        return [ir.Table, Computed]


class BatchTypeHandler(DbTypeHandler[TableBatch]):
    """Writes several tables in the one transaction: rows, rejections and ledger of a load."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: TableBatch,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        """Stage the source rows, then replace each table's slice."""
        window = slice_window(table_slice)
        obj.write(connection, window)
        return row_count_metadata(obj.counts[table_slice.table], window)

    def load_input(
        self,
        context: InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> TableBatch:
        """Batches are written, never read."""
        raise SchemaMismatchError("a batch of tables cannot be an input; name one of its tables")

    @property
    def supported_types(self) -> Sequence[type[object]]:
        """Batches of tables."""
        return [TableBatch]


class DeclaredPandasTypeHandler(DuckDBPandasTypeHandler):
    """dagster-duckdb-pandas, writing by name, by declaration, and also when there are no rows."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: pd.DataFrame,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        """Insert the DataFrame's rows.

        Missing values (NaN, NaT, None) become null. Integers that pandas holds as floats, for want of
        an integer that may be missing, and dates that it holds as midnights are taken as what they
        are declared to be.

        Raises:
            SchemaMismatchError: columns or types differ from the declaration.
        """
        window = slice_window(table_slice)
        table = declaration(table_slice)
        rows = _replace_by_frame(connection, table, obj, window)
        return row_count_metadata(rows, window)

    def load_input(
        self,
        context: InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> pd.DataFrame:
        """The rows of the mapped partitions, each of which exists.

        Raises:
            MissingTableError: the table, or a mapped partition, was never materialized.
            SchemaMismatchError: the table was written with another declaration.
        """
        rows = rows_to_read(context, table_slice, connection)
        where = f" WHERE {rows.table.partition_column} BETWEEN ? AND ?" if rows.days else ""
        return connection.execute(
            f"SELECT * FROM {rows.table.qualified_name}{where}", list(rows.days or [])
        ).fetchdf()


def rows_to_read(
    context: InputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
) -> InputRows:
    """An input's table, and the days that the asset reads of it.

    Raises:
        MissingTableError: the table, or a day to read, was never materialized.
        MissingPartitionsError: the table does not describe the days to compute.
        SchemaMismatchError: the table was written with another declaration, or nothing produces it.
    """
    upstream = context.upstream_output
    if upstream is None:
        raise SchemaMismatchError(f"{table_slice.table} has no producing asset to read from")
    table = declaration(table_slice)
    if table.partition_column is None:
        writer.require_table(connection, table)
        if _reads(context) == Reads.UP_TO_AS_OF:
            _require_as_of(context, connection, table)
        return InputRows(table)
    window = _days_to_read(context, table_slice, connection, table)
    if window is not None:
        writer.require_partitions(connection, table, window)
    writer.require_table(connection, table)
    return InputRows(table, (window.first, window.last) if window else _NO_DAYS)


def _insert(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    computed: Computed,
    window: DateWindow | None,
) -> int:
    """Insert what was computed, in batches of days if they are many rows; how many rows they are."""
    if isinstance(computed.rows, Query):
        query = computed.rows
    else:
        query = writer.compile_verified(table, computed.rows)
    if missing := set(query.parameters) - computed.parameters.keys():
        raise WarehouseError(f"{table.qualified_name}: no value for {', '.join(sorted(missing))}")
    bind(connection, computed.parameters)
    if computed.batches is None or window is None or len(window) == 1:
        return writer.insert(connection, table, query, window)
    batches = computed.batches.windows(connection, window)
    if len(batches) == 1:
        return writer.insert(connection, table, query, window)
    rows = 0
    for batch in batches:
        bind(connection, computed.batches.parameters(batch))
        rows += writer.insert(connection, table, query, batch)
    return rows


def _replace_by_frame(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    frame: pd.DataFrame,
    window: DateWindow | None,
) -> int:
    """Replace the table's slice by a DataFrame's rows; how many they are."""
    writer.verify_columns(table, [str(name) for name in frame.columns])
    connection.register(_FRAME, _without_types_of_nothing(frame))
    writer.verify_schema(table, _delivered_schema(connection, table))
    writer.delete(connection, table, window)
    rows = writer.insert(connection, table, f"SELECT * FROM {_FRAME}", window)
    # After an error the transaction admits no further statement, and the connection is closed.
    connection.unregister(_FRAME)
    return rows


def _without_types_of_nothing(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with None in columns without any value, whose type in pandas is an accident."""
    frame = frame.copy(deep=False)
    for name in frame.columns[frame.isna().all()]:
        frame[name] = None
    return frame


def _delivered_schema(
    connection: duckdb.DuckDBPyConnection, table: Table
) -> dict[str, dt.DataType]:
    """The types of a DataFrame, as far as pandas can tell the declared ones apart."""
    declared = table.relation.schema()
    delivered: dict[str, dt.DataType] = {}
    for name, stored_type, *_ in connection.execute(f"DESCRIBE {_FRAME}").fetchall():
        dtype = dt.null if stored_type == _NO_TYPE else DuckDBType.from_string(stored_type)
        if dtype.is_timestamp():
            dtype = dtype.copy(scale=None)
        if name in declared and dtype.is_floating() and declared[name].is_integer():
            dtype = declared[name]  # the writer refuses fractions
        delivered[name] = dtype
    return delivered


def declaration(table_slice: TableSlice) -> Table:
    """The declaration of the table that an asset fills.

    Raises:
        SchemaMismatchError: there is none.
    """
    table = declared(f"{table_slice.schema}.{table_slice.table}")
    if table is None:
        raise SchemaMismatchError(
            f"{table_slice.schema}.{table_slice.table} is not declared; make its asset from a"
            " declared table"
        )
    return table


def slice_window(table_slice: TableSlice) -> DateWindow | None:
    """The days of a table slice; None for a whole table, and for a slice of no partitions."""
    for dimension in table_slice.partition_dimensions or []:
        if isinstance(dimension.partitions, TimeWindow):
            start, end = dimension.partitions
            return DateWindow(start.date(), end.date() - timedelta(days=1))
    return None


def row_count_metadata(rows: int, window: DateWindow | None) -> Mapping[str, RawMetadataValue]:
    """The row count under Dagster's name for it, where it is the count of one partition or table."""
    if window is None:
        return {"dagster/row_count": rows}
    if len(window) == 1:
        return {"dagster/partition_row_count": rows}
    # Every partition of the range shares this metadata, so it must not pass for one partition's.
    return {"rows_written": rows, "days_written": str(window)}


def _as_of(connection: duckdb.DuckDBPyConnection, table: Table) -> Mapping[str, RawMetadataValue]:
    """The date that a table of the present describes; nothing for others."""
    if not any(column.name == AS_OF_DATE for column in table.columns):
        return {}
    [(latest,)] = connection.execute(
        f"SELECT max({AS_OF_DATE}) FROM {table.qualified_name}"
    ).fetchall()
    return {AS_OF_DATE: str(latest)} if latest else {}


def _reads(context: InputContext) -> str:
    return str((context.definition_metadata or {}).get(READS, Reads.MAPPED_DAYS))


def _require_as_of(
    context: InputContext, connection: duckdb.DuckDBPyConnection, table: Table
) -> None:
    last = context.step_context.partition_key_range.end
    [(as_of,)] = connection.execute(
        f"SELECT max({AS_OF_DATE}) FROM {table.qualified_name}"
    ).fetchall()
    if as_of is not None and str(as_of) < last:
        raise MissingPartitionsError(
            f"{table.qualified_name} describes the days up to {as_of}, and this result is of days up"
            f" to {last}. Materialize it first, for example with: monstera run --from {last}"
            f" --to {last}"
        )


def _days_to_read(
    context: InputContext,
    table_slice: TableSlice,
    connection: duckdb.DuckDBPyConnection,
    table: Table,
) -> DateWindow | None:
    mapped = slice_window(table_slice)
    reads = _reads(context)
    if mapped is None or reads == Reads.MAPPED_DAYS:
        return mapped
    stored = writer.materialized_window(connection, table)
    if stored is None:
        return None
    if reads == Reads.LATEST_DAY:
        return DateWindow(stored.last, stored.last)
    return DateWindow(min(mapped.first, stored.last), stored.last)
