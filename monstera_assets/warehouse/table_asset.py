"""Build a Dagster asset from a declared table and a pure function.

A silver or gold module declares its `Table` and decorates one function with `@table_asset`.
Each positional parameter is named after a table that the function reads and receives an Ibis table,
or a DataFrame if the parameter is annotated with `pd.DataFrame`. Keyword-only parameters are
optional: `policy` (the thresholds), `timezone` (which defines days), `window` (the days to compute
for a daily table) and `as_of` (the latest day in the input read with `ALL_DAYS`).

If the return annotation is an Ibis table, the function is called once per policy, time zone and code
version, and the SQL is cached with the days as parameters. Any other function is called in each run
with actual dates and returns a pandas DataFrame or an Ibis expression.
"""
# Over 400 lines: one class turns a declaration into an asset, and the rest are its parts.

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import ibis
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
    asset,
)

from monstera_assets.lifecycle.expressions import Window, window_parameters
from monstera_assets.lifecycle.intervals import days_earlier
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.engine import DateBatches, verify_schema
from monstera_assets.warehouse.errors import SchemaMismatchError
from monstera_assets.warehouse.extras import without_tables
from monstera_assets.warehouse.io_manager import DAYS_BACK, READS, Computed, InputRows, Reads
from monstera_assets.warehouse.previews import Preview
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import latest_day
from monstera_assets.warehouse.tables import Layer, Table, declared, register
from monstera_assets.warehouse.windows import DateWindow

# Ranges of days require this beta feature. The lock file pins the Dagster version.
warnings.filterwarnings("ignore", message=r"Parameter `backfill_policy`", category=BetaWarning)

IO_MANAGER_KEY = "io_manager"

_SINCE_THE_FIRST_DAY = 36_600
"""A hundred years in days. The IO manager limits the range to existing partitions."""


@dataclass(frozen=True)
class Days:
    """The days that an asset reads from a daily input. All of these days must be materialized.

    The days are not declared to Dagster as a partition mapping. A backfill would follow the mapping and
    also compute later days, which read the selected days.

    Attributes:
        reads: the kind of days.
        back: the number of days that are read before each computed day.
        before_first_partition: whether to compute days before the first partition, since those days
            are not stored.
    """

    reads: Reads
    back: int = 0
    before_first_partition: bool = False


def last_days(count: int, *, before_first_partition: bool = True) -> Days:
    """Read `count` days for each computed day: the day itself and the days before it.

    Args:
        count: the number of days.
        before_first_partition: whether to compute the input's days before its first partition.
    """
    return Days(Reads.COMPUTED_DAYS, count - 1, before_first_partition)


SAME_DAYS = Days(Reads.COMPUTED_DAYS)
"""The days that are computed."""
UP_TO_DAY = last_days(_SINCE_THE_FIRST_DAY, before_first_partition=False)
"""The days from the first partition through the last computed day."""
ALL_DAYS = Days(Reads.ALL_DAYS)
"""For unpartitioned tables: the days from the first partition through the latest materialized day."""
STORED_DAYS = Days(Reads.STORED_DAYS)
"""For unpartitioned tables: the stored days. Earlier days may have expired."""
LATEST_DAY = Days(Reads.LATEST_DAY)
"""For unpartitioned tables: the latest materialized day."""
UP_TO_AS_OF = Days(Reads.UP_TO_AS_OF)
"""For unpartitioned inputs: no computed day may be later than the input's `as_of_date`."""


@dataclass(frozen=True)
class TableAsset:
    """A table, its previews, the function that computes it, and the days that the function reads.

    Raises:
        ValueError: If `batch_by_date` is set but the days depend on each other.
    """

    table: Table
    function: Callable[..., Any]
    days: Mapping[str, Days] = field(default_factory=dict)
    previews: tuple[Preview, ...] = ()
    batch_by_date: bool = False

    def __post_init__(self) -> None:
        independent = self.is_query and set(self.days.values()) <= {SAME_DAYS, UP_TO_DAY}
        if self.batch_by_date and not (independent and SAME_DAYS in self.days.values()):
            raise ValueError(
                f"{self.table.name}: `batch_by_date` requires a query that reads at least one input"
                " with SAME_DAYS. All other daily inputs must use SAME_DAYS or UP_TO_DAY."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the tables that the function reads."""
        return tuple(
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        )

    def without(self, absent: Mapping[str, Table]) -> "TableAsset":
        """Return the asset, with an empty table for each absent table that its query reads."""
        return replace(self, function=without_tables(self.function, absent))

    @property
    def is_query(self) -> bool:
        """Whether the function returns an expression that is the same in every run."""
        returns = inspect.signature(self.function).return_annotation
        return returns in (ir.Table, "ir.Table") and not any(map(self._reads_frame, self.inputs))

    @property
    def reads_policy(self) -> bool:
        """Whether the function has a `policy` parameter."""
        return "policy" in inspect.signature(self.function).parameters

    def depends_on_policy(self, assets: Mapping[str, "TableAsset"]) -> bool:
        """Whether the query reads the policy, or may read it to compute earlier days of an input."""
        return self.reads_policy or any(
            self._computes_earlier_days_of(name, assets) for name in self.inputs
        )

    def query_name(self, timezone: str, *, opening: bool = False) -> str:
        """Return the name of the table's query, with the time zone if the query may depend on it.

        Args:
            timezone: the time zone that defines days.
            opening: whether the query computes input days before the first partition.
        """
        reads_timezone = opening or "timezone" in inspect.signature(self.function).parameters
        parts = (
            self.table.name,
            *(("opening",) if opening else ()),
            *((timezone.replace("/", "."),) if reads_timezone else ()),
        )
        return ".".join(parts)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pure function directly, as in unit tests. Convert a `DateWindow` to literals."""
        window = kwargs.get("window")
        if isinstance(window, DateWindow) and self.is_query:
            kwargs["window"] = Window.of(window.first, window.last)
        return self.function(*args, **kwargs)

    def rows(
        self,
        relations: Mapping[str, Table],
        policy: LifecyclePolicy,
        timezone: str = UTC,
        assets: Mapping[str, "TableAsset"] | None = None,
    ) -> ir.Table:
        """Return the table's rows, with the days to compute and read as query parameters.

        Args:
            relations: the input tables, by name.
            policy: the thresholds.
            timezone: the time zone that defines days.
            assets: all table assets by name, which are used to compute input days before the first
                partition, or None if the query reads only stored days.

        Raises:
            SchemaMismatchError: If columns or types differ from the declaration.
        """
        window = Window.parameters()

        def rows_of(name: str) -> ir.Table:
            stored = _days_of(relations[name])
            if assets is None or not self._computes_earlier_days_of(name, assets):
                return stored
            first = days_earlier(window.first, self.days[name].back)
            last = days_earlier(Window.parameters(name).first, 1)
            earlier = assets[name].on_days(Window(first, last), policy, timezone, assets)
            flags = dict.fromkeys(relations[name].trend_flags, ibis.literal(value=False))
            return stored.union(
                earlier.mutate(**flags).select(stored.columns).cast(stored.schema())
            )

        rows = self.function(
            *map(rows_of, self.inputs),
            **self._accepted(policy=policy, timezone=timezone, window=window, as_of=self._as_of),
        )
        verify_schema(self.table, rows.schema())
        return rows

    def on_days(
        self,
        window: Window,
        policy: LifecyclePolicy,
        timezone: str,
        assets: Mapping[str, "TableAsset"],
    ) -> ir.Table:
        """Return the table's rows for days before the first partition, computed from the facts.

        The arguments are the same as for `rows`. Facts from earlier days are stored in the first
        partition.
        """

        def rows_of(name: str) -> ir.Table:
            table = declared(".".join(asset_key(name).path))
            if table is None:
                raise SchemaMismatchError(f"{name} is not declared.")
            if table.partition_column is None:
                return table.relation
            first = days_earlier(window.first, self.days[name].back)
            if not table.takes_earlier_rows:
                earlier = Window(first, window.last)
                return assets[name].on_days(earlier, policy, timezone, assets)
            day = table.relation[table.partition_column]
            return table.relation.filter(day >= first, day <= window.last)

        keywords = self._accepted(policy=policy, timezone=timezone, window=window)
        return self.function(*map(rows_of, self.inputs), **keywords)

    def _computes_earlier_days_of(self, name: str, assets: Mapping[str, "TableAsset"]) -> bool:
        days = self.days.get(name)
        return (
            days is not None
            and days.back > 0
            and days.before_first_partition
            and name in assets
            and not assets[name].table.takes_earlier_rows
        )

    def build(
        self,
        partitions: DailyPartitionsDefinition,
        policy: LifecyclePolicy,
        queries: QueryCache | None = None,
        timezone: str = UTC,
        assets: Mapping[str, "TableAsset"] | None = None,
    ) -> AssetsDefinition:
        """Build the Dagster asset.

        Args:
            partitions: the available days.
            policy: the thresholds.
            queries: the cache of compiled queries. If the query depends on the policy, the cache must
                contain queries for that policy.
            timezone: the time zone that defines days.
            assets: all table assets by name, which are used to compute days before the first
                partition.
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
                    **self._accepted(policy=policy, timezone=timezone, window=window),
                )
                is_of_one_table = isinstance(rows, ir.Table | pd.DataFrame)
                return Computed(rows, previews=previews) if is_of_one_table else rows
            earlier = assets if self._reads_before_first_partition(tables, window) else None
            query = known.get(
                self.query_name(timezone, opening=earlier is not None),
                lambda: known.compile_query(
                    self.rows(
                        {name: tables[name].table for name in self.inputs},
                        policy,
                        timezone,
                        earlier,
                    )
                ),
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
        """Whether the cache fingerprint covers the function's code."""
        return self.function.__module__.split(".")[0] == __name__.split(".")[0]

    @property
    def _as_of(self) -> ir.DateScalar | None:
        """The latest day of the only input read with `ALL_DAYS`, or None if there is no such input."""
        read = [name for name, days in self.days.items() if days is ALL_DAYS]
        return latest_day(read[0]) if len(read) == 1 else None

    def _accepted(self, **keywords: Any) -> dict[str, Any]:
        accepts = inspect.signature(self.function).parameters
        return {name: value for name, value in keywords.items() if name in accepts}

    def _preview(self, preview: Preview, queries: QueryCache) -> Query:
        return queries.get(
            f"{self.table.name}.{preview.title}",
            lambda: queries.compile_query(preview.selected(self.table.relation)),
            keep=self._is_of_the_package,
        )

    def _reads_before_first_partition(
        self, inputs: Mapping[str, InputRows], window: DateWindow | None
    ) -> bool:
        return window is not None and any(
            rows.from_opening
            and rows.days is not None
            and (days := self.days[name]).before_first_partition
            and window.first - timedelta(days=days.back) < rows.days[0]
            for name, rows in inputs.items()
            if name in self.days
        )

    def _parameters(
        self,
        inputs: Mapping[str, InputRows],
        window: DateWindow | None,
        batch: DateWindow | None = None,
    ) -> dict[str, date]:
        """Return the query parameters: the first and last day of each input and of the window."""
        ends = []
        takes_earlier = window is not None and window.is_opening and self.table.takes_earlier_rows
        if window is not None:
            ends.append(("window", (date.min if takes_earlier else window.first, window.last)))
        for name, rows in inputs.items():
            if rows.days is not None:
                first, last = rows.days
                if batch is not None:
                    last = batch.last
                    first = batch.first if self.days[name] is SAME_DAYS else first
                if rows.table.takes_earlier_rows and rows.from_opening and window is not None:
                    earliest = window.first - timedelta(days=self.days[name].back)
                    first = date.min if takes_earlier else min(first, earliest)
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
            metadata={READS: days.reads.value, DAYS_BACK: days.back} if days else {},
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
    """Declare that the decorated function computes a table.

    Args:
        table: the declaration.
        days: for each partitioned input, the days that the function reads.
        previews: the previews to show in the Dagster UI.
        batch_by_date: whether to compute large ranges in batches of days. Set this option if groups
            or joins are as large as the inputs read with `SAME_DAYS`.
    """

    def decorate(function: Callable[..., Any]) -> TableAsset:
        return TableAsset(table, function, days or {}, tuple(previews), batch_by_date)

    return decorate


def _days_of(table: Table) -> ir.Table:
    """Return a table as an expression, restricted to the days specified by its query parameters."""
    if table.partition_column is None:
        return table.relation
    days, window = table.relation[table.partition_column], Window.parameters(table.name)
    return table.relation.filter(days >= window.first, days <= window.last)


def asset_key(table_name: str) -> AssetKey:
    """Return a table's asset key, which consists of the layer (the name's prefix) and the name."""
    return AssetKey([Layer(table_name.split("_", 1)[0]).value, table_name])


def batch_outs(tables: Sequence[Table]) -> dict[str, AssetOut]:
    """Return the outputs of a multi-asset that writes several tables from one `TableBatch`."""
    return {
        table.name: AssetOut(
            key=asset_key(table.name),
            dagster_type=Any,
            description=describe(table),
            metadata=table_metadata(table),
            owners=list(table.owners),
            kinds={"duckdb", str(table.layer)},
            group_name=str(table.group),
            io_manager_key=IO_MANAGER_KEY,
        )
        for table in tables
    }


def describe(table: Table) -> str:
    """Return the table's description and grain as the asset description for the Dagster UI."""
    return f"{table.description}\n\nGrain: {table.grain}."


def asset_attributes(table: Table, partitions: DailyPartitionsDefinition) -> dict[str, Any]:
    """Return the `@asset` arguments that the table's declaration determines."""
    return {
        "key": asset_key(table.name),
        "group_name": str(table.group),
        "description": describe(table),
        "owners": list(table.owners),
        "kinds": {"duckdb", str(table.layer)},
        "metadata": table_metadata(table),
        "partitions_def": partitions if table.partition_column else None,
    }


def table_metadata(table: Table) -> dict[str, Any]:
    """Return the asset metadata: the column schema and, for a daily table, the partition column."""
    register(table)
    metadata: dict[str, Any] = {"dagster/column_schema": table.to_dagster()}
    if table.partition_column:
        metadata["partition_expr"] = table.partition_column
    return metadata


def partition_window(context: AssetExecutionContext) -> DateWindow:
    """Return the days that a step computes."""
    keys = context.partition_key_range
    first = date.fromisoformat(keys.start)
    partitions = context.assets_def.partitions_def
    opens = isinstance(partitions, DailyPartitionsDefinition) and partitions.start.date() == first
    return DateWindow(first, date.fromisoformat(keys.end), is_opening=opens)
