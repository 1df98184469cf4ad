"""Write assets to the warehouse and read assets from it, as Dagster's steps require.

An asset returns a pandas DataFrame or a query that the engine runs. An input is loaded as a
DataFrame, or as a table and the days to read. Reading days that were never materialized raises an
error.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import ibis.expr.types as ir
import pandas as pd
from dagster import (
    AssetKey,
    ConfigurableIOManagerFactory,
    DailyPartitionsDefinition,
    InitResourceContext,
    InputContext,
    IOManager,
    MetadataValue,
    OutputContext,
    PartitionsDefinition,
    ResourceDependency,
)
from dagster._core.definitions.metadata import RawMetadataValue
from pydantic import Field

from monstera_assets.warehouse.batches import TableBatch
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.engine import DateBatches, Engine
from monstera_assets.warehouse.errors import MissingPartitionsError, SchemaMismatchError
from monstera_assets.warehouse.previews import Preview
from monstera_assets.warehouse.recorded_settings import require_same_settings
from monstera_assets.warehouse.resource import Warehouse
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

TABLE_NAME = "dagster/table_name"
"""The metadata key for the database and name of the table, which the Dagster UI shows."""


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


class WarehouseIOManager(ConfigurableIOManagerFactory[IOManager]):
    """Write assets to the warehouse and read assets from the warehouse.

    An asset key consists of a schema name and a table name, which identify the table's declaration.
    """

    warehouse: ResourceDependency[Warehouse]
    recorded_settings: dict[str, str] = Field(
        default={}, description="The settings on which the rows in daily tables depend."
    )

    def create_io_manager(self, context: InitResourceContext) -> IOManager:
        """Create the IO manager that Dagster calls."""
        return TableIOManager(self.warehouse)

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Generator[Any, None, None]:
        """Keep the warehouse open for the entire run.

        Opening and checkpointing a DuckDB file in each step would take longer than most steps, and
        other processes could write between steps.

        Raises:
            ChangedSettingsError: If the stored days were computed with different settings.
        """
        with self.warehouse.open() as engine, super().yield_for_execution(context) as manager:
            require_same_settings(engine, self.warehouse.place, self.recorded_settings)
            yield manager


class TableIOManager(IOManager):
    """Write each output as one table, and load inputs as rows or as days to read."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def handle_output(self, context: OutputContext, obj: object) -> None:
        """Write a query's rows, a DataFrame or a batch of tables, and render the previews.

        Raises:
            SchemaMismatchError: If columns or types differ from the declaration, or if the output is
                of another type.
        """
        table, window = declaration(context.asset_key), output_window(context)
        if isinstance(obj, ir.Table | pd.DataFrame):
            obj = Computed(obj)
        if not isinstance(obj, Computed | TableBatch):
            raise SchemaMismatchError(
                f"{table.qualified_name} was not written: the asset returns {type(obj).__name__}."
                " Return a DataFrame, an Ibis table or a table batch."
            )
        seen: dict[str, RawMetadataValue] = {}
        with self._warehouse.open() as engine:
            if isinstance(obj, TableBatch):
                engine.write(obj, window)
                rows = obj.counts[table.name]
            else:
                rows = engine.replace(table, obj.rows, window, obj.parameters, obj.batches)
                seen = {
                    preview.title: MetadataValue.md(preview.render(engine.records(query)))
                    for preview, query in obj.previews
                }
            counts = row_counts(engine, table, rows, window)
            if window is None:
                counts = {**counts, **_as_of(engine, table), **seen}
            elif seen:
                # A preview describes the whole table, so it is attached to the range's last partition.
                context.step_context.add_asset_metadata(seen, context.asset_key, str(window.last))
        context.add_output_metadata(
            {**counts, TABLE_NAME: f"{self._warehouse.place}.{table.qualified_name}"}
        )

    def load_input(self, context: InputContext) -> InputRows | pd.DataFrame:
        """Return the table and the days to read, or its rows for inputs of the type DataFrame.

        Raises:
            MissingTableError: If the table or a day to read was never materialized.
            SchemaMismatchError: If the table was written with a different declaration.
        """
        with self._warehouse.open() as engine:
            found = rows_to_read(context, engine)
            if context.dagster_type.typing_type is not pd.DataFrame:
                return found
            return engine.frame(found.table, found.days)


def rows_to_read(context: InputContext, engine: Engine) -> InputRows:
    """Return an input's table and the days that the asset reads from it.

    Raises:
        MissingTableError: If the table or a day to read was never materialized.
        MissingPartitionsError: If the table's as-of date is before the days to compute.
        SchemaMismatchError: If the table was written with a different declaration, or if no asset
            produces the table.
    """
    if context.upstream_output is None:
        name = context.asset_key.path[-1]
        raise SchemaMismatchError(f"{name} is an input, but no asset produces it.")
    table, reads = declaration(context.asset_key), _reads(context)
    window = None
    if table.partition_column is not None and reads != Reads.STORED_DAYS:
        window = _days_to_read(context, engine, table)
        if window is not None:
            engine.require_partitions(table, window)
    engine.require_table(table)
    if table.partition_column is None:
        if reads == Reads.UP_TO_AS_OF:
            _require_as_of(context, engine, table)
        return InputRows(table)
    if reads == Reads.STORED_DAYS:
        return InputRows(table, (date.min, date.max))
    if window is None:
        return InputRows(table, _NO_DAYS)
    opens = window.first == _first_partition(context.asset_partitions_def)
    if opens and table.takes_earlier_rows and reads == Reads.ALL_DAYS:
        return InputRows(table, (date.min, window.last), opens)
    return InputRows(table, (window.first, window.last), opens)


def declaration(key: AssetKey) -> Table:
    """Return the declaration of the table that an asset writes.

    Raises:
        SchemaMismatchError: If the table is not declared.
    """
    name = ".".join(key.path)
    table = declared(name)
    if table is None:
        raise SchemaMismatchError(f"{name} is not declared. Build its asset from a declared table.")
    return table


def days_of(context: InputContext | OutputContext) -> DateWindow | None:
    """Return the days of a step's input or output, or None without partitions."""
    if not (context.has_asset_partitions and context.asset_partition_keys):
        return None
    start, end = context.asset_partitions_time_window
    return DateWindow(start.date(), end.date() - timedelta(days=1))


def output_window(context: OutputContext) -> DateWindow | None:
    """Return the days that a step writes, or None for a whole table."""
    window = days_of(context)
    if window is None:
        return None
    first = _first_partition(context.asset_partitions_def)
    return replace(window, is_opening=window.first == first)


def _first_partition(partitions: PartitionsDefinition | None) -> date | None:
    return partitions.start.date() if isinstance(partitions, DailyPartitionsDefinition) else None


def row_counts(
    engine: Engine, table: Table, rows: int, window: DateWindow | None
) -> Mapping[str, RawMetadataValue]:
    """Return the table's row count and, for a daily table, the rows written, as metadata."""
    if window is None:
        return {ROW_COUNT: rows}
    total = {ROW_COUNT: engine.total_rows(table)}
    if len(window) == 1:
        return {**total, "dagster/partition_row_count": rows}
    # All partitions in a range share this metadata, so it must not look like a per-partition count.
    return {**total, "rows_written": rows, "days_written": str(window)}


def _as_of(engine: Engine, table: Table) -> Mapping[str, RawMetadataValue]:
    """Return a current table's as-of date as metadata, or an empty mapping for other tables."""
    if not any(column.name == AS_OF_DATE for column in table.columns):
        return {}
    _, latest = engine.ends(table, AS_OF_DATE)
    return {AS_OF_DATE: str(latest)} if latest else {}


def _reads(context: InputContext) -> str:
    return str((context.definition_metadata or {}).get(READS, Reads.COMPUTED_DAYS))


def _require_as_of(context: InputContext, engine: Engine, table: Table) -> None:
    last = context.step_context.partition_key_range.end
    _, as_of = engine.ends(table, AS_OF_DATE)
    if as_of is not None and str(as_of) < last:
        raise MissingPartitionsError(
            f"{table.qualified_name} describes days through {as_of}, but days through {last} are"
            " required. Materialize the table first, for example with: monstera run"
            f" --from {last} --to {last}"
        )


def _days_to_read(context: InputContext, engine: Engine, table: Table) -> DateWindow | None:
    # For an unpartitioned table, these are all days in the calendar.
    computed = days_of(context)
    if computed is None:
        return None
    reads = _reads(context)
    if reads == Reads.COMPUTED_DAYS:
        first = computed.first - timedelta((context.definition_metadata or {}).get(DAYS_BACK, 0))
        opening = _first_partition(context.asset_partitions_def) or first
        return DateWindow(max(first, opening), computed.last)
    stored = engine.materialized_window(table)
    if stored is None:
        return None
    if reads == Reads.LATEST_DAY:
        return DateWindow(stored.last, stored.last)
    return DateWindow(min(computed.first, stored.last), stored.last)
