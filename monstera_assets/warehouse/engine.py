"""The operations of an engine, which stores tables and computes their rows.

The IO manager and the checks use an engine only through `Engine`. What all engines verify before they
write is also here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import duckdb
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd

from monstera_assets.warehouse.archive import Archive
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.errors import MissingPartitionsError, SchemaMismatchError
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow, windows_of

if TYPE_CHECKING:
    from monstera_assets.warehouse.batches import TableBatch

EXAMPLES = 5
"""The number of rows that an evaluation returns as examples."""


class Records(NamedTuple):
    """Rows as tuples, with the names of their columns."""

    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[Any, ...]] = ()


class Evaluation(NamedTuple):
    """The number of rows of a query, the first `EXAMPLES` in sorted order, and reasons."""

    violations: int
    examples: Records = Records()
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class DateBatches:
    """How to split a range of independent days into batches.

    Attributes:
        inputs: the tables from which each day's computation reads only rows for the same day.
        parameters: a function that returns the query parameters for the days in a batch.
    """

    inputs: Sequence[Table]
    parameters: Callable[[DateWindow], Mapping[str, date]]


class Engine(Protocol):
    """An open warehouse. Queries are compiled for its engine."""

    def require_table(self, table: Table) -> None:
        """Verify that the table exists and matches its declaration.

        Raises:
            SchemaMismatchError: If the stored table has different columns or types.
            MissingTableError: If the table does not exist.
        """

    def require_partitions(self, table: Table, window: DateWindow) -> None:
        """Verify that each day in `window` has been materialized.

        Without this check, a missing day would look like a day without activity, and states would be
        wrong.

        Raises:
            MissingPartitionsError: If days are missing. The message includes the command that
                materializes the missing days.
            ArchivedDaysError: If days are missing because their raw events were deleted.
        """

    def materialized_window(self, table: Table) -> DateWindow | None:
        """Return the window that spans a daily table's materialized days, or None if there are none."""

    def stored_columns(self, table: Table) -> Mapping[str, str]:
        """Return the stored columns and their types, or an empty mapping if the table is missing."""

    def total_rows(self, table: Table) -> int:
        """Return the table's number of rows."""

    def ends(self, table: Table, column: str) -> tuple[date | None, date | None]:
        """Return the first and last date in a column, or None and None if there are no dates."""

    def archive(self) -> Archive | None:
        """Return the retention cutoff, or None if no raw events have ever been deleted."""

    def records(self, query: Query | str) -> Records:
        """Return a query's rows. A query given as text is DuckDB SQL, which other engines translate."""

    def frame(self, table: Table, days: tuple[date, date] | None) -> pd.DataFrame:
        """Return the table's rows, or only the rows from the first through the last of `days`."""

    def replace(
        self,
        table: Table,
        rows: Query | ir.Table | pd.DataFrame,
        window: DateWindow | None,
        parameters: Mapping[str, date] | None = None,
        batches: DateBatches | None = None,
    ) -> int:
        """Replace the table, or its partitions in `window`, atomically, and record it.

        Missing values in a DataFrame (NaN, NaT, None) become null. By default, pandas does not have
        nullable integers or dates, so whole floats in integer columns and midnight timestamps in date
        columns are converted.

        Args:
            table: the table.
            rows: the rows, or what computes them.
            window: the days to replace, or None for the whole table.
            parameters: the values of query parameters, by name.
            batches: how to divide the days into batches, or None if the days depend on each other.

        Returns:
            The number of rows written.

        Raises:
            SchemaMismatchError: If the stored table or the rows' columns differ from the declaration.
            WarehouseError: If a row's partition date is outside `window`, a value cannot be cast, or a
                parameter has no value.
        """

    def write(self, batch: TableBatch, window: DateWindow | None) -> None:
        """Replace the slices of several tables.

        Raises:
            SchemaMismatchError: If a table's rows do not match its declaration.
            ConflictingWriteError: If another run replaced the same days in the meantime.
        """

    def evaluate(self, query: Query, window: DateWindow | None, reason: str) -> Evaluation:
        """Count a query's rows, except those that have a value in the column `reason`.

        Args:
            query: the query.
            window: the days that the run computed, which are query parameters.
            reason: a column, which the query need not have. Its values are the reasons.
        """

    def repeated_keys(self, table: Table, window: DateWindow | None) -> Evaluation:
        """Count the keys that several rows in a window, or in the whole table, share."""

    def clean_up(self, tables: Sequence[Table], before: datetime) -> Mapping[str, int]:
        """Delete raw events before the retention cutoff, and files that tables no longer need.

        Only what an engine stores outside of its DuckDB file is deleted.

        Args:
            tables: all declared tables.
            before: the time since when replaced files are kept for running jobs, with a time zone.

        Returns:
            The number of deleted rows by table.

        Raises:
            ConflictingWriteError: If another run commits at the same time.
        """

    def rewrite(
        self,
        tables: Sequence[Table],
        find: Callable[[duckdb.DuckDBPyConnection, Mapping[Table, str]], Collection[str]],
        change: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> None:
        """Change the rows that contain given texts, and delete the files with the old rows.

        Only what an engine stores outside of its DuckDB file is changed.

        Args:
            tables: all declared tables.
            find: returns the texts. It is given a connection, and the names of its views of the tables.
            change: changes the rows. It is given a connection to a copy of all unpartitioned tables,
                and of the days of daily tables on which a row contains one of the texts.

        Raises:
            ConflictingWriteError: If another run replaced the same days in the meantime.
        """

    def delete_all_days(self) -> None:
        """Delete all computed tables. Versions of entities are kept.

        Raises:
            ChangedSettingsError: If raw events were deleted after the retention period, since their
                days cannot be recomputed.
        """

    def settings(self) -> Mapping[str, str]:
        """Return the settings used for the stored days, which are none if no days are stored."""

    def record_settings(self, settings: Mapping[str, str]) -> None:
        """Record settings that are not yet recorded."""


def partitions_missing(table: Table, days: Iterable[date]) -> MissingPartitionsError:
    """Return the error for days that are required but were never materialized."""
    gaps = windows_of(days)
    named = ", ".join(map(str, gaps[:5])) + (" and more" if len(gaps) > 5 else "")
    return MissingPartitionsError(
        f"{table.qualified_name} has no partitions for {named} ({sum(map(len, gaps))} days)."
        f" Materialize the missing days first, for example with: monstera run --from"
        f" {gaps[0].first} --to {gaps[-1].last}"
    )


def verify_columns(table: Table, delivered: Sequence[str]) -> None:
    """Compare the returned columns with the declaration.

    Raises:
        SchemaMismatchError: If a column is missing, undeclared or returned twice.
    """
    expected = [column.name for column in table.data_columns]
    problems = [
        *(f"does not return {name}" for name in expected if name not in delivered),
        *(f"returns {name}, which is not declared" for name in delivered if name not in expected),
        *(f"returns {name} twice" for name in {n for n in delivered if delivered.count(n) > 1}),
    ]
    if problems:
        raise SchemaMismatchError(
            f"{table.qualified_name} was not written: the asset {'; '.join(sorted(problems))}."
            " Return the declared columns from the asset, or change the declaration."
        )


def verify_schema(table: Table, delivered: Mapping[str, dt.DataType]) -> None:
    """Compare column names and types with the declaration.

    Raises:
        SchemaMismatchError: If columns are missing, undeclared or of the wrong type. The message lists
            each of these columns.
    """
    verify_columns(table, list(delivered))
    declared = table.relation.schema()
    wrong = [
        f"{column.name} is {delivered[column.name]} but is declared as {declared[column.name]}"
        for column in table.data_columns
        if not delivered[column.name].castable(declared[column.name].copy(nullable=True))
    ]
    if wrong:
        raise SchemaMismatchError(
            f"{table.qualified_name} was not written: {'; '.join(wrong)}."
            " Return the declared types from the asset, or change the declaration."
        )
