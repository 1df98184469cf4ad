"""From a declared table and a pure function to a software-defined asset.

A module of silver or gold declares its `Table` and decorates one function with `@table_asset`. The
function's positional parameters are named after the tables it reads and receive Ibis tables, or
DataFrames where they are annotated with `pd.DataFrame`; its keyword-only parameters, all optional,
are `policy` (the thresholds), `window` (the days to compute, for a partitioned table) and `as_of`
(the latest day of the input of which it reads `ALL_DAYS`).

A function annotated to return an Ibis table is called once for a policy and a version of the code: the
days are parameters of its query, whose text is kept. Any other function is called in every run, with
the dates as they are, and returns a pandas DataFrame or an Ibis expression.
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
    TimeWindowPartitionMapping,
    asset,
)

from monstera_assets.lifecycle.expressions import Window, window_parameters
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.batching import DateBatches
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.io_manager import READS, Computed, InputRows, Reads
from monstera_assets.warehouse.previews import Preview
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import latest_day
from monstera_assets.warehouse.tables import Layer, Table, register
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets.warehouse.writer import compile_verified

# Both are marked beta and both are what makes ranges possible; the lock file pins what they mean.
warnings.filterwarnings(
    "ignore",
    message=r"Parameter `(backfill_policy|allow_nonexistent_upstream_partitions)`",
    category=BetaWarning,
)

IO_MANAGER_KEY = "io_manager"

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
UP_TO_AS_OF = Days(Reads.UP_TO_AS_OF)
"""For unpartitioned inputs: the days that are computed, none of which lies after its `as_of_date`."""


@dataclass(frozen=True)
class TableAsset:
    """A table, the function that computes it, the days it reads of its inputs, and its previews.

    Raises:
        ValueError: a table is to be computed in batches of days that do not stand alone.
    """

    table: Table
    function: Callable[..., Any]
    days: Mapping[str, Days] = field(default_factory=dict)
    previews: tuple[Preview, ...] = ()
    batch_by_date: bool = False

    def __post_init__(self) -> None:
        days_stand_alone = self.is_query and set(self.days.values()) <= {SAME_DAYS, UP_TO_DAY}
        if self.batch_by_date and not (days_stand_alone and SAME_DAYS in self.days.values()):
            raise ValueError(
                f"{self.table.name}: batches by date need an input of the same days, no input of"
                " other days than these and those before, and no DataFrames"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tables that the function reads."""
        return tuple(
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        )

    @property
    def is_query(self) -> bool:
        """Whether the function makes an expression out of expressions, the same for every run."""
        returns = inspect.signature(self.function).return_annotation
        return returns in (ir.Table, "ir.Table") and not any(map(self._reads_frame, self.inputs))

    @property
    def reads_policy(self) -> bool:
        """Return whether the function takes the thresholds."""
        return "policy" in inspect.signature(self.function).parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pure function, as unit tests do: a window of dates may stand for one of literals."""
        window = kwargs.get("window")
        if isinstance(window, DateWindow) and self.is_query:
            kwargs["window"] = Window.of(window.first, window.last)
        return self.function(*args, **kwargs)

    def query(self, relations: Mapping[str, Table], policy: LifecyclePolicy) -> Query:
        """The query of the table, with its days and those of its inputs as parameters.

        Args:
            relations: the tables that it reads, by name.
            policy: the thresholds.

        Raises:
            SchemaMismatchError: its columns or types differ from the declaration.
        """
        rows = self.function(
            *(_days_of(relations[name]) for name in self.inputs),
            **self._accepted(policy=policy, window=Window.parameters(), as_of=self._as_of),
        )
        return compile_verified(self.table, rows)

    def build(
        self,
        partitions: DailyPartitionsDefinition,
        policy: LifecyclePolicy,
        queries: QueryCache | None = None,
    ) -> AssetsDefinition:
        """The software-defined asset for a partition calendar and a policy.

        Args:
            partitions: the days that there are.
            policy: the thresholds.
            queries: where compiled queries are kept: of this policy, if the function reads it.
        """
        partitioned = bool(self.table.partition_column)
        known = queries or QueryCache()

        @asset(  # type: ignore[untyped-decorator]  # its arguments are built as a mapping
            **asset_attributes(self.table, partitions),
            ins={name: self._input(name) for name in self.inputs},
            io_manager_key=IO_MANAGER_KEY,
            backfill_policy=BackfillPolicy.single_run() if partitioned else None,
        )
        def compute(context: AssetExecutionContext, **tables: Any) -> Any:
            window = partition_window(context) if partitioned else None
            previews = [(preview, self._preview(preview, known)) for preview in self.previews]
            if not self.is_query:
                rows = self.function(
                    *(tables[name] for name in self.inputs),
                    **self._accepted(policy=policy, window=window),
                )
                is_of_one_table = isinstance(rows, ir.Table | pd.DataFrame)
                return Computed(rows, previews=previews) if is_of_one_table else rows
            query = known.get(
                self.table.name,
                lambda: self.query({name: tables[name].table for name in self.inputs}, policy),
                keep=self._is_of_the_package,
            )
            batches = DateBatches(
                [tables[name].table for name, days in self.days.items() if days is SAME_DAYS],
                lambda batch: self._parameters(tables, batch, batch),
            )
            return Computed(
                query,
                self._parameters(tables, window),
                previews,
                batches if self.batch_by_date else None,
            )

        definition: AssetsDefinition = compute
        return definition

    @property
    def _is_of_the_package(self) -> bool:
        """Whether the fingerprint of the cache covers the function's code."""
        return self.function.__module__.split(".")[0] == __name__.split(".")[0]

    @property
    def _as_of(self) -> ir.DateScalar | None:
        """The latest day of the input of which all days are read; None if there is not just one."""
        read = [name for name, days in self.days.items() if days is ALL_DAYS]
        return latest_day(read[0]) if len(read) == 1 else None

    def _accepted(self, **keywords: Any) -> dict[str, Any]:
        accepts = inspect.signature(self.function).parameters
        return {name: value for name, value in keywords.items() if name in accepts}

    def _preview(self, preview: Preview, queries: QueryCache) -> Query:
        return queries.get(
            f"{self.table.name}.{preview.title}",
            lambda: preview.query(self.table.relation),
            keep=self._is_of_the_package,
        )

    def _parameters(
        self,
        inputs: Mapping[str, InputRows],
        window: DateWindow | None,
        batch: DateWindow | None = None,
    ) -> dict[str, date]:
        """The ends of the window and of the days to read of each input; of a batch, its own days."""
        ends = [("window", (window.first, window.last))] if window else []
        for name, rows in inputs.items():
            if rows.days is not None:
                first, last = rows.days
                if batch is not None:
                    last = batch.last
                    first = batch.first if self.days[name] is SAME_DAYS else first
                ends.append((name, (first, last)))
        return {
            parameter: day
            for name, days in ends
            for parameter, day in zip(window_parameters(name), days, strict=True)
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
    previews: Sequence[Preview] = (),
    *,
    batch_by_date: bool = False,
) -> Callable[[Callable[..., Any]], TableAsset]:
    """Declare the decorated function as the computation of a table.

    Args:
        table: the declaration.
        days: for each partitioned input, the days that the function reads of it.
        previews: what the Dagster UI shows of the table.
        batch_by_date: whether a range over many rows is computed in batches of days; for tables that
            take groups or joins as large as the inputs of which they read the same days.
    """

    def decorate(function: Callable[..., Any]) -> TableAsset:
        return TableAsset(table, function, days or {}, tuple(previews), batch_by_date)

    return decorate


def _days_of(table: Table) -> ir.Table:
    """A table as an expression; of a partitioned one the days between its parameters."""
    if table.partition_column is None:
        return table.relation
    days, window = table.relation[table.partition_column], Window.parameters(table.name)
    return table.relation.filter(days >= window.first, days <= window.last)


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
    register(table)
    metadata: dict[str, Any] = {"dagster/column_schema": table.to_dagster()}
    if table.partition_column:
        metadata["partition_expr"] = table.partition_column
    return metadata


def partition_window(context: AssetExecutionContext) -> DateWindow:
    """The days of the partitions that a step computes."""
    keys = context.partition_key_range
    return DateWindow(date.fromisoformat(keys.start), date.fromisoformat(keys.end))
