"""Extend the dagster-duckdb IO manager with atomic writes, declared types and ranges of days.

An asset returns a pandas DataFrame or a query that runs inside DuckDB. An input is loaded as a
DataFrame, or as a table and the days to read. Reading days that were never materialized raises an
error.
"""
# Over 400 lines: the handlers of the three kinds of results share how days and columns are found.

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import duckdb
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd
from dagster import (
    DailyPartitionsDefinition,
    InitResourceContext,
    InputContext,
    MetadataValue,
    OutputContext,
    PartitionsDefinition,
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
from monstera_assets.warehouse.recorded_settings import require_same_settings
from monstera_assets.warehouse.tables import Table, declared
from monstera_assets.warehouse.windows import DateWindow

READS = "monstera/reads"
"""Input metadata key for the days that an asset reads from a daily table."""

DAYS_BACK = "monstera/days_back"
"""Input metadata key for the number of days that an asset reads before the computed days."""

AS_OF_DATE = "as_of_date"
"""The column with the date that a current table describes, which is also a metadata key."""

ROW_COUNT = "dagster/row_count"
"""The metadata key for the number of rows in the whole table, which `monstera status` shows."""

_FRAME = "delivered_frame"
_NO_TYPE = '"NULL"'  # DuckDB's type for a DataFrame column without values


class Reads(StrEnum):
    """The days that an asset reads from an input. All of these days must be materialized."""

    COMPUTED_DAYS = "the computed days and the days before them"
    ALL_DAYS = "the days from the first partition through the latest materialized day"
    STORED_DAYS = "the stored days, even if earlier days have expired"
    LATEST_DAY = "the latest materialized day"
    UP_TO_AS_OF = "an unpartitioned table whose as-of date is on or after the computed days"


_NO_DAYS = (date.max, date.min)


@dataclass(frozen=True)
class InputRows:
    """The rows that an asset reads from an upstream table.

    Attributes:
        table: the table.
        days: the first and last day to read from a daily table. If there are no days to read, the
            last day is before the first day.
        from_opening: whether the first day to read is the first partition.
    """

    table: Table
    days: tuple[date, date] | None = None
    from_opening: bool = False


@dataclass(frozen=True)
class Computed:
    """The result of computing an asset.

    Attributes:
        rows: a query, an expression or the rows themselves.
        parameters: query parameter values by name.
        previews: the previews, each with its query.
        batches: how to divide the days into batches, or None if the days depend on each other.
    """

    rows: Query | ir.Table | pd.DataFrame
    parameters: Mapping[str, date] = field(default_factory=dict)
    previews: Sequence[tuple[Preview, Query]] = ()
    batches: DateBatches | None = None


class WarehouseIOManager(DuckDBIOManager):
    """Write assets to the warehouse and read assets from the warehouse.

    An asset key consists of a schema name and a table name, which identify the table's declaration.
    """

    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        description="Seconds to wait for another process to release the database file.",
    )
    recorded_settings: dict[str, str] = Field(
        default={}, description="The settings on which the rows in daily tables depend."
    )

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        """Return handlers for queries, table batches and pandas DataFrames."""
        return [IbisTypeHandler(), BatchTypeHandler(), DeclaredPandasTypeHandler()]

    @staticmethod
    def default_load_type() -> type | None:
        """Return the Ibis table type, which is used for inputs without a type annotation."""
        handler: type = ir.Table
        return handler

    def create_io_manager(self, context: InitResourceContext) -> DbIOManager:
        """Create the IO manager that Dagster calls."""
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
        """Keep the file open and locked for the entire run.

        Opening and checkpointing the file in each step would take longer than most steps, and other
        processes could write between steps.

        Raises:
            ChangedSettingsError: If the stored days were computed with different settings.
        """
        with (
            connect(
                self.database,
                self.connection_config,
                lock_timeout_seconds=self.lock_timeout_seconds,
            ) as connection,
            super().yield_for_execution(context) as manager,
        ):
            require_same_settings(connection, self.database, self.recorded_settings)
            yield manager


class WarehouseClient(DuckDbClient):
    """Write each output in one transaction and create tables from their declarations."""

    @staticmethod
    @contextmanager
    def connect(
        context: OutputContext | InputContext, table_slice: TableSlice
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect to the database and, for an output, record the materialization in a transaction."""
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
        """Create the schema and table from the declaration, or verify the existing table."""
        writer.prepare(connection, declaration(table_slice))

    @staticmethod
    def delete_table_slice(
        context: OutputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
    ) -> None:
        """Do nothing, since the handlers delete rows. A batch may read or keep stored rows."""


class IbisTypeHandler(DbTypeHandler[ir.Table | Computed]):
    """Run queries inside DuckDB."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: ir.Table | Computed,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        """Insert the rows from a query or DataFrame and render the previews.

        Raises:
            SchemaMismatchError: If columns or types differ from the declaration.
        """
        computed = obj if isinstance(obj, Computed) else Computed(obj)
        window = output_window(context, table_slice)
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
        counts = row_counts(connection, table, rows, window)
        if window is None:
            return {**counts, **_as_of(connection, table), **seen}
        if seen:
            # A preview describes the whole table, so it is attached to the range's last partition.
            context.step_context.add_asset_metadata(seen, context.asset_key, str(window.last))
        return counts

    def load_input(
        self,
        context: InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> InputRows:
        """Return the upstream table and the days to read, after verifying that both exist.

        Raises:
            MissingTableError: If the table or a day to read was never materialized.
            SchemaMismatchError: If the table was written with a different declaration.
        """
        return rows_to_read(context, table_slice, connection)

    @property
    def supported_types(self) -> Sequence[type[object]]:
        """Return the supported types: Ibis tables and `Computed`."""
        return [ir.Table, Computed]


class BatchTypeHandler(DbTypeHandler[TableBatch]):
    """Write several tables in one transaction, such as the accepted and rejected rows from a load."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: TableBatch,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        """Replace each table's slice."""
        window = output_window(context, table_slice)
        obj.write(connection, window)
        table = declaration(table_slice)
        return row_counts(connection, table, obj.counts[table.name], window)

    def load_input(
        self,
        context: InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> TableBatch:
        """Raise an error, since batches can only be written."""
        raise SchemaMismatchError("A table batch cannot be an input. Specify one of its tables.")

    @property
    def supported_types(self) -> Sequence[type[object]]:
        """Return the supported type: table batches."""
        return [TableBatch]


class DeclaredPandasTypeHandler(DuckDBPandasTypeHandler):
    """Write DataFrames by column name and declared type, even if they are empty."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: pd.DataFrame,
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        """Insert the DataFrame's rows.

        Missing values (NaN, NaT, None) become null. By default, pandas does not have nullable integers
        or dates, so whole floats in integer columns and midnight timestamps in date columns are
        converted.

        Raises:
            SchemaMismatchError: If columns or types differ from the declaration.
        """
        window = output_window(context, table_slice)
        table = declaration(table_slice)
        rows = _replace_by_frame(connection, table, obj, window)
        return row_counts(connection, table, rows, window)

    def load_input(
        self,
        context: InputContext,
        table_slice: TableSlice,
        connection: duckdb.DuckDBPyConnection,
    ) -> pd.DataFrame:
        """Return the rows from the days to read after verifying that the days exist.

        Raises:
            MissingTableError: If the table or a day to read was never materialized.
            SchemaMismatchError: If the table was written with a different declaration.
        """
        rows = rows_to_read(context, table_slice, connection)
        where = f" WHERE {rows.table.partition_column} BETWEEN ? AND ?" if rows.days else ""
        return connection.execute(
            f"SELECT * FROM {rows.table.qualified_name}{where}", list(rows.days or [])
        ).fetchdf()


def rows_to_read(
    context: InputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
) -> InputRows:
    """Return an input's table and the days that the asset reads from it.

    Raises:
        MissingTableError: If the table or a day to read was never materialized.
        MissingPartitionsError: If the table's as-of date is before the days to compute.
        SchemaMismatchError: If the table was written with a different declaration, or if no asset
            produces the table.
    """
    upstream = context.upstream_output
    if upstream is None:
        raise SchemaMismatchError(f"{table_slice.table} is an input, but no asset produces it.")
    table = declaration(table_slice)
    if table.partition_column is None:
        writer.require_table(connection, table)
        if _reads(context) == Reads.UP_TO_AS_OF:
            _require_as_of(context, connection, table)
        return InputRows(table)
    if _reads(context) == Reads.STORED_DAYS:
        writer.require_table(connection, table)
        return InputRows(table, (date.min, date.max))
    window = _days_to_read(context, table_slice, connection, table)
    if window is not None:
        writer.require_partitions(connection, table, window)
    writer.require_table(connection, table)
    if window is None:
        return InputRows(table, _NO_DAYS)
    opens = window.first == _first_partition(context.asset_partitions_def)
    if opens and table.takes_earlier_rows and _reads(context) == Reads.ALL_DAYS:
        return InputRows(table, (date.min, window.last), opens)
    return InputRows(table, (window.first, window.last), opens)


def _insert(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    computed: Computed,
    window: DateWindow | None,
) -> int:
    """Insert the result, in batches of days if the result is large, and return the row count."""
    if isinstance(computed.rows, Query):
        query = computed.rows
    else:
        query = writer.compile_verified(table, computed.rows)
    if missing := set(query.parameters) - computed.parameters.keys():
        raise WarehouseError(
            f"{table.qualified_name}: no value is set for the query parameters"
            f" {', '.join(sorted(missing))}."
        )
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
    """Replace the table's slice with a DataFrame's rows and return the row count."""
    writer.verify_columns(table, [str(name) for name in frame.columns])
    connection.register(_FRAME, _without_types_of_empty_columns(frame))
    writer.verify_schema(table, _delivered_schema(connection, table))
    writer.delete(connection, table, window)
    rows = writer.insert(connection, table, f"SELECT * FROM {_FRAME}", window)
    # This call is not in a `finally` block, since a failed transaction accepts no further statements.
    connection.unregister(_FRAME)
    return rows


def _without_types_of_empty_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the DataFrame with empty columns set to None, since their types are arbitrary."""
    frame = frame.copy(deep=False)
    for name in frame.columns[frame.isna().all()]:
        frame[name] = None
    return frame


def _delivered_schema(
    connection: duckdb.DuckDBPyConnection, table: Table
) -> dict[str, dt.DataType]:
    """Return the DataFrame's types, treating floats in declared integer columns as integers."""
    declared = table.relation.schema()
    delivered: dict[str, dt.DataType] = {}
    for name, stored_type, *_ in connection.execute(f"DESCRIBE {_FRAME}").fetchall():
        dtype = dt.null if stored_type == _NO_TYPE else DuckDBType.from_string(stored_type)
        if dtype.is_timestamp():
            dtype = dtype.copy(scale=None)
        if name in declared and dtype.is_floating() and declared[name].is_integer():
            dtype = declared[name]  # the writer rejects fractions
        delivered[name] = dtype
    return delivered


def declaration(table_slice: TableSlice) -> Table:
    """Return the declaration of the table that an asset writes.

    Raises:
        SchemaMismatchError: If the table is not declared.
    """
    table = declared(f"{table_slice.schema}.{table_slice.table}")
    if table is None:
        raise SchemaMismatchError(
            f"{table_slice.schema}.{table_slice.table} is not declared. Build its asset from a"
            " declared table."
        )
    return table


def slice_window(table_slice: TableSlice) -> DateWindow | None:
    """Return the days in a table slice, or None for a whole table or a slice without partitions."""
    for dimension in table_slice.partition_dimensions or []:
        if isinstance(dimension.partitions, TimeWindow):
            start, end = dimension.partitions
            return DateWindow(start.date(), end.date() - timedelta(days=1))
    return None


def output_window(context: OutputContext, table_slice: TableSlice) -> DateWindow | None:
    """Return the days that a step writes, or None for a whole table."""
    window = slice_window(table_slice)
    if window is None:
        return None
    first = _first_partition(context.asset_partitions_def)
    return replace(window, is_opening=window.first == first)


def _first_partition(partitions: PartitionsDefinition | None) -> date | None:
    return partitions.start.date() if isinstance(partitions, DailyPartitionsDefinition) else None


def row_counts(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: int, window: DateWindow | None
) -> Mapping[str, RawMetadataValue]:
    """Return the table's row count and, for a daily table, the rows written, as metadata."""
    if window is None:
        return {ROW_COUNT: rows}
    total = {ROW_COUNT: writer.total_rows(connection, table)}
    if len(window) == 1:
        return {**total, "dagster/partition_row_count": rows}
    # All partitions in a range share this metadata, so it must not look like a per-partition count.
    return {**total, "rows_written": rows, "days_written": str(window)}


def _as_of(connection: duckdb.DuckDBPyConnection, table: Table) -> Mapping[str, RawMetadataValue]:
    """Return a current table's as-of date as metadata, or an empty mapping for other tables."""
    if not any(column.name == AS_OF_DATE for column in table.columns):
        return {}
    [(latest,)] = connection.execute(
        f"SELECT max({AS_OF_DATE}) FROM {table.qualified_name}"
    ).fetchall()
    return {AS_OF_DATE: str(latest)} if latest else {}


def _reads(context: InputContext) -> str:
    return str((context.definition_metadata or {}).get(READS, Reads.COMPUTED_DAYS))


def _require_as_of(
    context: InputContext, connection: duckdb.DuckDBPyConnection, table: Table
) -> None:
    last = context.step_context.partition_key_range.end
    [(as_of,)] = connection.execute(
        f"SELECT max({AS_OF_DATE}) FROM {table.qualified_name}"
    ).fetchall()
    if as_of is not None and str(as_of) < last:
        raise MissingPartitionsError(
            f"{table.qualified_name} describes days through {as_of}, but days through {last} are"
            " required. Materialize the table first, for example with: monstera run"
            f" --from {last} --to {last}"
        )


def _days_to_read(
    context: InputContext,
    table_slice: TableSlice,
    connection: duckdb.DuckDBPyConnection,
    table: Table,
) -> DateWindow | None:
    # For an unpartitioned table, these are all days in the calendar.
    computed = slice_window(table_slice)
    if computed is None:
        return None
    reads = _reads(context)
    if reads == Reads.COMPUTED_DAYS:
        first = computed.first - timedelta((context.definition_metadata or {}).get(DAYS_BACK, 0))
        opening = _first_partition(context.asset_partitions_def) or first
        return DateWindow(max(first, opening), computed.last)
    stored = writer.materialized_window(connection, table)
    if stored is None:
        return None
    if reads == Reads.LATEST_DAY:
        return DateWindow(stored.last, stored.last)
    return DateWindow(min(computed.first, stored.last), stored.last)
