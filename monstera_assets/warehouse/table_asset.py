"""From a declared table and a pure function to a software-defined asset.

A module of silver or gold declares its `Table` and decorates one function with `@table_asset`. The
function's positional parameters are named after the tables it reads and receive Ibis tables, or
DataFrames where they are annotated with `pd.DataFrame`; its keyword-only parameters, all optional,
are `policy` (the thresholds) and `window` (the days to compute, for a partitioned table). It returns
an Ibis expression, or a pandas DataFrame.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import ibis.expr.types as ir
import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetKey,
    AssetOut,
    AssetsDefinition,
    BackfillPolicy,
    BetaWarning,
    DailyPartitionsDefinition,
    TableColumnDep,
    TableColumnLineage,
    TimeWindowPartitionMapping,
    asset,
)

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.io_manager import READS, Reads
from monstera_assets.warehouse.lineage import column_lineage
from monstera_assets.warehouse.previews import Computed, Preview
from monstera_assets.warehouse.spans import DayByDay, narrowed
from monstera_assets.warehouse.tables import Layer, Table
from monstera_assets.warehouse.windows import DateWindow

# Both are marked beta and both are what makes ranges possible; the lock file pins what they mean.
warnings.filterwarnings(
    "ignore",
    message=r"Parameter `(backfill_policy|allow_nonexistent_upstream_partitions)`",
    category=BetaWarning,
)

IO_MANAGER_KEY = "io_manager"
POOL = "duckdb"
"""Pool of every step that opens the DuckDB file: one at a time, however many runs there are."""

_SINCE_THE_FIRST_DAY = 36_600
"""A hundred years of days: more than any history, clipped to the first partition by the mapping."""


@dataclass(frozen=True)
class Days:
    """Which days of a partitioned input an asset reads; all of them must have been materialized."""

    reads: Reads
    mapping: TimeWindowPartitionMapping | None = None


def last_days(count: int) -> Days:
    """The days that are computed and the ones before them, `count` days for each."""
    mapping = TimeWindowPartitionMapping(
        start_offset=1 - count, allow_nonexistent_upstream_partitions=True
    )
    return Days(Reads.MAPPED_DAYS, mapping)


SAME_DAYS = Days(Reads.MAPPED_DAYS, TimeWindowPartitionMapping())
"""The days that are computed."""
UP_TO_DAY = last_days(_SINCE_THE_FIRST_DAY)
"""From the first partition to the last of the days that are computed."""
ALL_DAYS = Days(Reads.ALL_DAYS)
"""For unpartitioned tables: from the first partition to the latest materialized day."""
LATEST_DAY = Days(Reads.LATEST_DAY)
"""For unpartitioned tables: the latest materialized day."""


@dataclass(frozen=True)
class TableAsset:
    """A table, the function that computes it, the days it reads of its inputs, and its pictures.

    Raises:
        ValueError: a table is to be computed in spans whose days are not computed from the same days.
    """

    table: Table
    function: Callable[..., Any]
    days: Mapping[str, Days] = field(default_factory=dict)
    pictures: tuple[Preview, ...] = ()
    in_spans: bool = False

    def __post_init__(self) -> None:
        read_up_to_the_day = all(
            days in (SAME_DAYS, UP_TO_DAY) and not self._reads_frame(name)
            for name, days in self.days.items()
        )
        if self.batch_by_date and not (read_up_to_the_day and SAME_DAYS in self.days.values()):
            raise ValueError(
                f"{self.table.name}: spans need an input of the same days, no input of other days than"
                " these and those before, and no DataFrames"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tables that the function reads."""
        return tuple(
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pure function, as unit tests do."""
        return self.function(*args, **kwargs)

    def build(
        self, partitions: DailyPartitionsDefinition, policy: LifecyclePolicy
    ) -> AssetsDefinition:
        """The software-defined asset for a partition calendar and a policy."""
        function, inputs, partitioned = (
            self.function,
            self.inputs,
            bool(self.table.partition_column),
        )
        accepts = inspect.signature(function).parameters

        @asset(  # type: ignore[untyped-decorator]  # its arguments are built as a mapping
            **asset_attributes(self.table, partitions),
            ins={name: self._input(name) for name in inputs},
            io_manager_key=IO_MANAGER_KEY,
            pool=POOL,
            backfill_policy=BackfillPolicy.single_run() if partitioned else None,
        )
        def compute(context: AssetExecutionContext, **tables: Any) -> Any:
            keywords: dict[str, Any] = {}
            if "policy" in accepts:
                keywords["policy"] = policy

            def rows_of(window: DateWindow | None, given: Mapping[str, Any]) -> Any:
                days = {"window": window} if "window" in accepts else {}
                return function(*(given[name] for name in inputs), **keywords, **days)

            window = partition_window(context) if partitioned else None
            rows = rows_of(window, tables)
            if isinstance(rows, pd.DataFrame):
                return Computed(rows, self.pictures)
            if not isinstance(rows, ir.Table):
                return rows
            # Of the last of a range's partitions only: it is what the UI shows, and thousands of
            # copies would be most of the log.
            last = context.partition_key_range.end if partitioned else None
            context.add_asset_metadata(self._lineage(rows), partition_key=last)
            if not self.batch_by_date:
                return Computed(rows, self.pictures)
            day_by_day = DayByDay(
                [tables[name] for name, days in self.days.items() if days is SAME_DAYS],
                lambda span: rows_of(span, {**tables, **self._narrowed(tables, span)}),
            )
            return Computed(rows, self.pictures, day_by_day)

        definition: AssetsDefinition = compute
        return definition

    def _narrowed(self, tables: Mapping[str, ir.Table], span: DateWindow) -> dict[str, ir.Table]:
        return {
            name: narrowed(tables[name], span, and_before=days is UP_TO_DAY)
            for name, days in self.days.items()
        }

    def _lineage(self, rows: ir.Table) -> dict[str, TableColumnLineage]:
        return {
            "dagster/column_lineage": TableColumnLineage(
                {
                    column: [TableColumnDep(asset_key(name), origin) for name, origin in origins]
                    for column, origins in column_lineage(rows, self.inputs).items()
                }
            )
        }

    def _input(self, name: str) -> AssetIn:
        days = self.days.get(name)
        return AssetIn(
            key=asset_key(name),
            partition_mapping=days.mapping if days else None,
            metadata={READS: days.reads.value} if days else {},
            dagster_type=pd.DataFrame if self._reads_frame(name) else Any,
        )

    def _reads_frame(self, name: str) -> bool:
        annotation = inspect.signature(self.function).parameters[name].annotation
        return annotation in (pd.DataFrame, "pd.DataFrame")


def table_asset(
    table: Table,
    days: Mapping[str, Days] | None = None,
    pictures: Sequence[Preview] = (),
    *,
    in_spans: bool = False,
) -> Callable[[Callable[..., Any]], TableAsset]:
    """Declare the decorated function as the computation of a table.

    Args:
        table: the declaration.
        days: for each partitioned input, the days that the function reads of it.
        pictures: what the Dagster UI shows of the table.
        in_spans: whether a range over many rows is computed some days after others; for tables that
            take groups or joins as large as the inputs of which they read the same days.
    """

    def decorate(function: Callable[..., Any]) -> TableAsset:
        return TableAsset(table, function, days or {}, tuple(pictures), in_spans)

    return decorate


def asset_key(table_name: str) -> AssetKey:
    """The asset key of a table: its layer, which its name begins with, and its name."""
    return AssetKey([Layer(table_name.split("_", 1)[0]).value, table_name])


def batch_outs(tables: Sequence[Table]) -> dict[str, AssetOut]:
    """The outputs of a multi-asset that fills several tables from one `TableBatch`."""
    return {
        table.name: AssetOut(
            key=asset_key(table.name),
            dagster_type=Any,
            description=describe(table),
            metadata=table_metadata(table),
            owners=list(table.owners),
            kinds={"duckdb", str(table.layer)},
            group_name=str(table.layer),
            io_manager_key=IO_MANAGER_KEY,
        )
        for table in tables
    }


def describe(table: Table) -> str:
    """What the Dagster UI says of a table: what it is and what one row is."""
    return f"{table.description}\n\nGrain: {table.grain}."


def asset_attributes(table: Table, partitions: DailyPartitionsDefinition) -> dict[str, Any]:
    """What an asset's definition takes over from the declaration of its table."""
    return {
        "key": asset_key(table.name),
        "group_name": str(table.layer),
        "description": describe(table),
        "owners": list(table.owners),
        "kinds": {"duckdb", str(table.layer)},
        "metadata": table_metadata(table),
        "partitions_def": partitions if table.partition_column else None,
    }


def table_metadata(table: Table) -> dict[str, Any]:
    """Column schema and, for a partitioned table, the column that holds the partition's date."""
    metadata: dict[str, Any] = {"dagster/column_schema": table.to_dagster()}
    if table.partition_column:
        metadata["partition_expr"] = table.partition_column
    return metadata


def partition_window(context: AssetExecutionContext) -> DateWindow:
    """The days of the partitions that a step computes."""
    keys = context.partition_key_range
    return DateWindow(date.fromisoformat(keys.start), date.fromisoformat(keys.end))
