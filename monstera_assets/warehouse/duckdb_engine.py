"""Store tables and compute their rows in DuckDB.

All writes to warehouse tables go through this module. A single transaction creates a missing table
from its declaration, deletes the old slice, inserts the new rows by column name with the declared
types, records the materialization and updates the trend flags.

Facts marked with `by_key` are computed once and written to temporary tables, sorted by the key's hash.
Each batch of keys covers a range of hashes and reads one contiguous part of each table.
"""
# Over 400 lines: all writes share the statements of one transaction.

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd
from ibis.backends.sql.datatypes import DuckDBType

from monstera_assets.lifecycle.expressions import window_parameters
from monstera_assets.warehouse.archive import (
    ARCHIVE,
    Archive,
    require_raw_events,
    require_recomputable,
)
from monstera_assets.warehouse.compiler import (
    FIRST_HASH,
    HASH,
    LAST_HASH,
    Query,
    bind,
    compile_query,
)
from monstera_assets.warehouse.engine import (
    EXAMPLES,
    DateBatches,
    Evaluation,
    Records,
    partitions_missing,
    verify_columns,
    verify_schema,
)
from monstera_assets.warehouse.errors import (
    MissingTableError,
    SchemaMismatchError,
    WarehouseError,
)
from monstera_assets.warehouse.extras import how_to_install
from monstera_assets.warehouse.layers import Layer
from monstera_assets.warehouse.recorded_settings import ChangedSettingsError
from monstera_assets.warehouse.tables import (
    OPERATIONS_SCHEMA,
    Column,
    Table,
    same_type,
)
from monstera_assets.warehouse.windows import DateWindow, split_window

if TYPE_CHECKING:
    from monstera_assets.warehouse.batches import TableBatch

ROWS_PER_DATE_BATCH = 25_000_000
"""Input rows per batch of days. Grouping uses up to 100 bytes of memory per row.

With a lot of data, computing days in batches is faster than computing all days at once, because the
hash tables for a few days fit in memory, while the hash tables for a year spill to disk.
"""
ROWS_PER_KEY_BATCH = 400_000
"""Facts per batch of keys. A year of activity levels uses up to 2 KB of memory per fact."""

_HASHES = 2**63
"""Number of hash values. The compiler's `visit_Hash` returns values from 0 through 2**63 - 1."""
_MATERIALIZATIONS = f"{OPERATIONS_SCHEMA}.materializations"
_SETTINGS = f"{OPERATIONS_SCHEMA}.settings"
_ENTITIES = (
    *("accounts", "product_catalog", "users", "subscription_events", "workflows"),
    "user_aliases",
)
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_FRACTIONS = ("FLOAT", "DOUBLE", "DECIMAL")
_FRAME = "delivered_frame"
_NO_TYPE = '"NULL"'  # DuckDB's type for a DataFrame column without values


@dataclass(frozen=True)
class DuckDBEngine:
    """The engine that stores the tables in the database of a connection (see `Engine`)."""

    connection: duckdb.DuckDBPyConnection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit on success, or roll back on any error."""
        self.connection.execute("BEGIN TRANSACTION")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            # A failed COMMIT or a fatal error may already have ended the transaction. A failing
            # ROLLBACK must not hide the original error.
            try:
                self.connection.execute("ROLLBACK")
            except duckdb.Error:
                self.connection.interrupt()
            raise

    def replace(
        self,
        table: Table,
        rows: Query | ir.Table | pd.DataFrame,
        window: DateWindow | None,
        parameters: Mapping[str, date] | None = None,
        batches: DateBatches | None = None,
    ) -> int:
        """Replace the table, or its partitions in `window`, in one transaction."""
        with self.transaction():
            self.prepare(table)
            if isinstance(rows, pd.DataFrame):
                inserted = self.replace_by_frame(table, rows, window)
            else:
                self.delete(table, window)
                query = rows if isinstance(rows, Query) else compile_verified(table, rows)
                if missing := set(query.parameters) - (parameters or {}).keys():
                    raise WarehouseError(
                        f"{table.qualified_name}: no value is set for the query parameters"
                        f" {', '.join(sorted(missing))}."
                    )
                bind(self.connection, parameters or {})
                inserted = self._insert_by_date(table, query, window, batches)
            self.record(table, window)
        return inserted

    def write(self, batch: TableBatch, window: DateWindow | None) -> None:
        """Replace the slices of several tables in one transaction."""
        with self.transaction():
            batch.write(self.connection, window)

    def replace_slice(
        self,
        table: Table,
        rows: Query | ir.Table | str,
        window: DateWindow | None,
        only_days: str | None = None,
    ) -> int:
        """Replace the table, or its partitions in `window`, in the caller's transaction.

        If `only_days` is the name of a temporary table, replace only the window's days that are in that
        table's `day` column. Return the number of inserted rows.

        Raises:
            SchemaMismatchError: If the stored table or the rows' columns differ from the declaration.
            WarehouseError: If a row's partition date is outside `window`, or a value cannot be cast.
        """
        self.prepare(table)
        self.delete(table, window, only_days)
        inserted = self.insert(table, rows, window)
        self.record(table, window)
        return inserted

    def records(self, query: Query | str) -> Records:
        """Return a query's rows."""
        cursor = self.connection.execute(query.select if isinstance(query, Query) else query)
        return Records(tuple(column[0] for column in cursor.description), cursor.fetchall())

    def frame(self, table: Table, days: tuple[date, date] | None) -> pd.DataFrame:
        """Return the table's rows, or only the rows from the first through the last of `days`."""
        where = f" WHERE {_partition_column(table)} BETWEEN ? AND ?" if days else ""
        return self.connection.execute(
            f"SELECT * FROM {_sql_name(table)}{where}", list(days or [])
        ).fetchdf()

    def ends(self, table: Table, column: str) -> tuple[date | None, date | None]:
        """Return the first and last date in a column, or None and None if there are no dates."""
        name = quote(column)
        first, last = self._one(f"SELECT min({name}), max({name}) FROM {_sql_name(table)}")
        return first, last

    def evaluate(self, query: Query, window: DateWindow | None, reason: str) -> Evaluation:
        """Count a query's rows, except those that have a value in the column `reason`."""
        if window is not None:
            bind(
                self.connection,
                dict(zip(window_parameters(), (window.first, window.last), strict=True)),
            )
        if reason not in query.columns:
            return self.violations(query.select)
        broken = f"SELECT * EXCLUDE ({reason}) FROM ({query.select}) WHERE {reason} IS NULL"
        reasons = self.connection.execute(
            f"SELECT DISTINCT {reason} FROM ({query.select}) WHERE {reason} IS NOT NULL"
            f" ORDER BY ALL LIMIT {EXAMPLES}"
        ).fetchall()
        return self.violations(broken)._replace(reasons=[str(given) for (given,) in reasons])

    def violations(self, select: str) -> Evaluation:
        """Return the number of rows that a query selects, and the first few rows in sorted order."""
        (count,) = self._one(f"SELECT count(*) FROM ({select})")
        if not count:
            return Evaluation(0)
        examples = self.records(f"SELECT * FROM ({select}) ORDER BY ALL LIMIT {EXAMPLES}")
        return Evaluation(int(count), examples)

    def repeated_keys(self, table: Table, window: DateWindow | None) -> Evaluation:
        """Count the keys that several rows in a window, or in the whole table, share."""
        return self.violations(_repeated_keys(table, window))

    def archive(self) -> Archive | None:
        """Return the retention cutoff, or None if no raw events have ever been deleted."""
        (exists,) = self._one(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
            " AND schema_name || '.' || table_name = ?",
            [ARCHIVE],
        )
        if not exists:
            return None
        before, open_from = self._one(f"SELECT max(removed_before), max(open_from) FROM {ARCHIVE}")
        return None if before is None else Archive(before, open_from)

    def settings(self) -> dict[str, str]:
        """Return the settings used for the stored days, which are none if no days are stored."""
        (stored_days,) = self._one(f"SELECT count(partition_date) FROM {_MATERIALIZATIONS}")
        if not stored_days:
            self.connection.execute(f"DELETE FROM {_SETTINGS}")
            return {}
        found = self.connection.execute(f"SELECT name, value FROM {_SETTINGS}").fetchall()
        # Earlier versions knew no other engine, and did not record it.
        return {"engine": "duckdb", **dict(found)}

    def record_settings(self, settings: Mapping[str, str]) -> None:
        """Record settings that are not yet recorded."""
        self.connection.executemany(
            f"INSERT INTO {_SETTINGS} VALUES (?, ?)", [list(item) for item in settings.items()]
        )

    def clean_up(self, tables: Sequence[Table], before: datetime) -> dict[str, int]:
        """Return nothing, since all tables are in the file."""
        del tables, before
        return {}

    def rewrite(
        self,
        tables: Sequence[Table],
        find: Callable[[duckdb.DuckDBPyConnection, Mapping[Table, str]], Collection[str]],
        change: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> None:
        """Do nothing, since all tables are in the file."""

    def delete_all_days(self) -> None:
        """Delete all computed tables. Entity tables are kept (see `delete_computed`)."""
        with self.transaction():
            self.delete_computed()

    def delete_computed(self) -> None:
        """Delete all computed tables in the caller's transaction. Entity tables are kept.

        Raises:
            ChangedSettingsError: If raw events were deleted after the retention period, since their
                days cannot be recomputed.
        """
        archived = self.archive()
        if archived is not None:
            raise ChangedSettingsError(
                f"Raw events before {archived.removed_before} were deleted after the retention period,"
                " so their days cannot be recomputed. Restore the earlier settings, or specify a new"
                " file with --database."
            )
        kept = [f"bronze_{name}" for name in _ENTITIES]
        computed = self.connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name ="
            " current_database() AND list_contains(?, schema_name)"
            " AND NOT list_contains(?, table_name)",
            [list(map(str, Layer)), kept],
        ).fetchall()
        for schema, name in computed:
            self.connection.execute(f"DROP TABLE {schema}.{quote(name)}")
        self.connection.execute(
            f"DELETE FROM {_MATERIALIZATIONS}; DELETE FROM {OPERATIONS_SCHEMA}.source_changes;"
            f" DELETE FROM {_SETTINGS}"
        )

    def prepare(self, table: Table) -> None:
        """Create the table from its declaration, or verify that the stored table matches it.

        Raises:
            SchemaMismatchError: If the stored table has different columns or types.
        """
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
        stored = self.stored_columns(table)
        if not stored:
            columns = ", ".join(
                f"{quote(column.name)} {column.stored_type}{'' if column.nullable else ' NOT NULL'}"
                for column in table.columns
            )
            self.connection.execute(f"CREATE TABLE {_sql_name(table)} ({columns})")
            return
        _verify_stored(table, stored)

    def require_table(self, table: Table, *, whole: bool = True) -> None:
        """Verify that the table exists and matches its declaration.

        If `whole` is false, the stored table can have other columns too.

        Raises:
            SchemaMismatchError: If the stored table has different columns or types.
            MissingTableError: If the table does not exist, or if it was stored by an installation with
                an extra that is not installed here, so that no run updates it.
        """
        if not table.is_available:
            raise MissingTableError(how_to_install(table))
        stored = self.stored_columns(table)
        if not stored:
            raise MissingTableError(
                f"{table.qualified_name} is required but was never materialized. Materialize the table"
                " first, for example with: monstera run"
            )
        declared = {column.name for column in table.columns}
        _verify_stored(
            table, {name: kind for name, kind in stored.items() if whole or name in declared}
        )

    def stored_columns(self, table: Table) -> dict[str, str]:
        """Return the stored columns and their types, or an empty mapping if the table is missing."""
        return dict(
            self.connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns()"
                " WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
                [table.schema, table.name],
            ).fetchall()
        )

    def total_rows(self, table: Table) -> int:
        """Return the table's number of rows, which DuckDB counts without reading them."""
        (rows,) = self._one(f"SELECT count(*) FROM {_sql_name(table)}")
        return int(rows)

    def delete(
        self,
        table: Table,
        window: DateWindow | None,
        only_days: str | None = None,
    ) -> None:
        """Delete the table's rows, or only the rows in the window's partitions (see `replace`).

        Raises:
            ArchivedDaysError: If the rows are raw events from days that cannot be recomputed.
        """
        require_recomputable(self, table.name, window)
        condition = ""
        if window is not None:
            column = _partition_column(table)
            condition = f" WHERE {in_window(table, window)}"
            if only_days is not None:
                partition = f"greatest({column}, {_literal(window.first)})"
                condition += f" AND {partition} IN (SELECT day FROM {quote(only_days)})"
        self.connection.execute(f"DELETE FROM {_sql_name(table)}{condition}")

    def insert(
        self,
        table: Table,
        rows: Query | ir.Table | str,
        window: DateWindow | None,
    ) -> int:
        """Insert rows from a query or expression by column name and return the row count.

        Values are cast to the declared types. An expression's types are verified when it is compiled. A
        SQL query's types are not verified.

        Raises:
            SchemaMismatchError: If a declared column is missing, or if a column is not declared.
            WarehouseError: If a row's partition date is outside `window`, a non-nullable column
                contains null, or a value cannot be cast without loss.
        """
        if isinstance(rows, ir.Table):
            rows = compile_verified(table, rows)
        if isinstance(rows, str):
            inserted = self._insert(table, rows, self._described(table, rows), window)
        elif rows.facts and window is not None and len(window) > 1:
            with self.key_batches(rows) as batches:
                inserted = sum(
                    self._insert(table, batch, rows.columns, window) for batch in batches
                )
        else:
            # Skip DESCRIBE, since DuckDB takes as long to plan a large expression as to run it.
            inserted = self._insert(table, rows.select, rows.columns, window)
        self._refresh_trend_flags(table)
        return inserted

    def _insert_by_date(
        self, table: Table, query: Query, window: DateWindow | None, batches: DateBatches | None
    ) -> int:
        """Insert the result, in batches of days if the result is large, and return the row count."""
        windows = self.date_batches(batches, window) if batches and window else []
        if len(windows) < 2 or batches is None:
            return self.insert(table, query, window)
        rows = 0
        for batch in windows:
            bind(self.connection, batches.parameters(batch))
            rows += self.insert(table, query, batch)
        return rows

    def date_batches(self, batches: DateBatches, window: DateWindow) -> Sequence[DateWindow]:
        """Split the range into batches of similar length with about `ROWS_PER_DATE_BATCH` rows each."""
        if len(window) == 1:
            return [window]
        rows = sum(self._rows_in(table, window) for table in batches.inputs)
        return split_window(window, max(1, -(-rows // ROWS_PER_DATE_BATCH)))

    def _rows_in(self, table: Table, window: DateWindow) -> int:
        (rows,) = self._one(
            f"SELECT count(*) FROM {_sql_name(table)}"
            f" WHERE {_partition_column(table)} BETWEEN ? AND ?",
            [window.first, window.last],
        )
        return int(rows)

    @contextmanager
    def key_batches(self, query: Query) -> Iterator[Iterator[str]]:
        """Yield an iterator over the queries, with one query per batch of keys.

        Run each query before requesting the next one, since the queries differ only in their bound
        parameters. The temporary fact tables exist until the context exits.
        """
        rows = 0
        for name, select in query.facts.items():
            self.connection.execute(
                f"CREATE TEMP TABLE {name} AS SELECT * FROM ({select}) ORDER BY {HASH}"
            )
            rows += self._one(f"SELECT count(*) FROM {name}")[0]
        yield self._each_batch(query.batch, max(1, -(-rows // ROWS_PER_KEY_BATCH)))
        for name in query.facts:
            self.connection.execute(f"DROP TABLE {name}")

    def _each_batch(self, select: str, batches: int) -> Iterator[str]:
        for batch in range(batches):
            first, end = batch * _HASHES // batches, (batch + 1) * _HASHES // batches
            bind(self.connection, {FIRST_HASH: first, LAST_HASH: end - 1})
            yield select

    def replace_by_frame(self, table: Table, frame: pd.DataFrame, window: DateWindow | None) -> int:
        """Replace the table's slice with a DataFrame's rows and return the row count."""
        verify_columns(table, [str(name) for name in frame.columns])
        self.connection.register(_FRAME, _without_types_of_empty_columns(frame))
        verify_schema(table, self._delivered_schema(table))
        self.delete(table, window)
        rows = self.insert(table, f"SELECT * FROM {_FRAME}", window)
        # Not in a `finally` block, since a failed transaction accepts no further statements.
        self.connection.unregister(_FRAME)
        return rows

    def _delivered_schema(self, table: Table) -> dict[str, dt.DataType]:
        """Return the DataFrame's types, treating floats in declared integer columns as integers."""
        declared = table.relation.schema()
        delivered: dict[str, dt.DataType] = {}
        for name, stored_type, *_ in self.connection.execute(f"DESCRIBE {_FRAME}").fetchall():
            dtype = dt.null if stored_type == _NO_TYPE else DuckDBType.from_string(stored_type)
            if dtype.is_timestamp():
                dtype = dtype.copy(scale=None)
            if name in declared and dtype.is_floating() and declared[name].is_integer():
                dtype = declared[name]  # the insertion rejects fractions
            delivered[name] = dtype
        return delivered

    def _insert(
        self,
        table: Table,
        select: str,
        types: Mapping[str, str],
        window: DateWindow | None,
    ) -> int:
        projection = ", ".join(
            f"CAST({_guarded(table, column, types[column.name], window)} AS {column.stored_type})"
            f" AS {quote(column.name)}"
            for column in table.data_columns
        )
        flags = "".join(f", FALSE AS {quote(flag)}" for flag in table.trend_flags)
        statement = (
            f"INSERT INTO {_sql_name(table)} BY NAME"
            f" SELECT {projection}{flags} FROM ({select}) AS rows_in{_order(table, window)}"
        )
        try:
            (inserted,) = self._one(statement)
        except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException) as error:
            raise WarehouseError(
                f"{table.qualified_name} was not written and is unchanged: {error}"
            ) from error
        return int(inserted)

    def _described(self, table: Table, select: str) -> dict[str, str]:
        described = self.connection.execute(f"DESCRIBE {select}").fetchall()
        verify_columns(table, [name for name, *_ in described])
        return {name: dtype for name, dtype, *_ in described}

    def record(self, table: Table, window: DateWindow | None) -> None:
        """Record that the table, or each partition in `window`, was materialized, even if empty."""
        key = [table.schema, table.name]
        where = "schema_name = ? AND table_name = ?"
        if window is None:
            self.connection.execute(f"DELETE FROM {_MATERIALIZATIONS} WHERE {where}", key)
            days = "SELECT CAST(NULL AS DATE) AS day"
        else:
            between = f"BETWEEN {_literal(window.first)} AND {_literal(window.last)}"
            self.connection.execute(
                f"DELETE FROM {_MATERIALIZATIONS} WHERE {where} AND partition_date {between}", key
            )
            days = (
                f"SELECT CAST(unnest(generate_series({_literal(window.first)}, {_literal(window.last)},"
                " INTERVAL 1 DAY)) AS DATE) AS day"
            )
        self.connection.execute(
            f"INSERT INTO {_MATERIALIZATIONS} SELECT ?, ?, day, ?::TIMESTAMP FROM ({days})",
            [*key, self.next_moment()],
        )

    def next_moment(self) -> datetime:
        """Return the time for a new record: now or just after the latest record, whichever is later.

        Bronze, silver and gold tables do not depend on this time.
        """
        (moment,) = self._one(
            "SELECT greatest(now()::TIMESTAMP, max(materialized_at) + INTERVAL 1 MICROSECOND) FROM"
            f" {_MATERIALIZATIONS}",
        )
        assert isinstance(moment, datetime)  # noqa: S101  # greatest ignores the null from an empty table
        return moment

    def materialized_window(self, table: Table) -> DateWindow | None:
        """Return the window that spans a daily table's materialized days, or None if there are none."""
        first, last = self._one(
            f"SELECT min(partition_date), max(partition_date) FROM {_MATERIALIZATIONS}"
            " WHERE schema_name = ? AND table_name = ?",
            [table.schema, table.name],
        )
        return (
            DateWindow(first, last) if isinstance(first, date) and isinstance(last, date) else None
        )

    def materialized_days(self, table: Table) -> frozenset[date]:
        """Return a daily table's materialized days."""
        rows = self.connection.execute(
            f"SELECT partition_date FROM {_MATERIALIZATIONS} WHERE schema_name = ? AND table_name = ?"
            " AND partition_date IS NOT NULL",
            [table.schema, table.name],
        ).fetchall()
        return frozenset(day for (day,) in rows)

    def require_partitions(self, table: Table, window: DateWindow) -> None:
        """Verify that each day in `window` has been materialized (see `Engine.require_partitions`)."""
        missing = self.connection.execute(
            "SELECT CAST(day AS DATE) FROM (SELECT unnest(generate_series("
            f"{_literal(window.first)}, {_literal(window.last)}, INTERVAL 1 DAY)) AS day)"
            " WHERE CAST(day AS DATE) NOT IN (SELECT partition_date FROM"
            f" {_MATERIALIZATIONS} WHERE schema_name = ? AND table_name = ?"
            " AND partition_date IS NOT NULL) ORDER BY ALL",
            [table.schema, table.name],
        ).fetchall()
        if not missing:
            return
        require_raw_events(self, table.name, missing[0][0])
        raise partitions_missing(table, (day for (day,) in missing))

    def _refresh_trend_flags(self, table: Table) -> None:
        if not table.trend_flags:
            return
        column = _partition_column(table)
        values = {
            quote(flag): f"{column} >= latest - {days}" for flag, days in table.trend_flags.items()
        }
        self.connection.execute(
            f"UPDATE {_sql_name(table)}"
            f" SET {', '.join(f'{flag} = ({value})' for flag, value in values.items())}"
            f" FROM (SELECT max({column}) AS latest FROM {_sql_name(table)})"
            f" WHERE {' OR '.join(f'{flag} <> ({value})' for flag, value in values.items())}"
        )

    def _one(self, statement: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
        row = self.connection.execute(statement, list(parameters)).fetchone()
        if row is None:
            raise WarehouseError(f"DuckDB returned no result for: {statement}")
        return tuple(row)


def _verify_stored(table: Table, stored: Mapping[str, str]) -> None:
    declared = {column.name: column.stored_type for column in table.columns}
    differences = [
        *(f"{name} is missing" for name in declared.keys() - stored.keys()),
        *(f"{name} is not declared" for name in stored.keys() - declared.keys()),
        *(
            f"{name} is {stored[name]} but is declared as {declared[name]}"
            for name in declared.keys() & stored.keys()
            if not same_type(stored[name], declared[name])
        ),
    ]
    if differences:
        raise SchemaMismatchError(
            f"{table.qualified_name} was written with a different declaration:"
            f" {'; '.join(sorted(differences))}. Drop the table or start a new database file, then"
            " materialize all of the table's partitions again."
        )


def _order(table: Table, window: DateWindow | None) -> str:
    """Return an ORDER BY clause for the key so that lookups by key skip most row groups.

    The rows for a range of days are not sorted, since sorting would take as long as writing.
    """
    is_day_of_keys = window is not None and len(window) == 1 and table.partition_column in table.key
    if table.key and (window is None or is_day_of_keys):
        return f" ORDER BY {', '.join(quote(name) for name in table.key)}"
    return ""


def compile_verified(table: Table, rows: ir.Table) -> Query:
    """Verify the schema of a table's rows and compile their query.

    Raises:
        SchemaMismatchError: If columns or types differ from the declaration.
    """
    verify_schema(table, rows.schema())
    return compile_query(rows)


def _without_types_of_empty_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the DataFrame with empty columns set to None, since their types are arbitrary."""
    frame = frame.copy(deep=False)
    for name in frame.columns[frame.isna().all()]:
        frame[name] = None
    return frame


def _repeated_keys(table: Table, window: DateWindow | None) -> str:
    name, day = table.qualified_name, table.partition_column
    where = (
        ""
        if day is None or window is None
        else (f" WHERE {quote(day)} BETWEEN {_literal(window.first)} AND {_literal(window.last)}")
    )
    if day is not None and day in table.key and window is not None:
        # Using one bit per day is as exact as grouping by day and takes a tenth of the time and
        # memory.
        others = [quote(column) for column in table.key if column != day] or ["'all rows'"]
        groups = ", ".join(others)
        return (
            f"SELECT {groups}, count(*) AS rows, count(*) - bit_count(bitstring_agg("
            f"{quote(day)} - DATE '{window.first}', 0, {len(window) - 1})) AS repeated"
            f" FROM {name}{where} GROUP BY {groups} HAVING repeated > 0"
        )
    keys = ", ".join(quote(column) for column in table.key)
    # A key without the day must be unique across all days, so look up the checked days' keys in all
    # rows.
    limited = f" WHERE hash({keys}) IN (SELECT hash({keys}) FROM {name}{where})" if where else ""
    # Keys are long and almost always unique. Comparing hashes first takes a third of the memory.
    # Only rows with equal hashes are then compared by key.
    return (
        f"SELECT {keys}, count(*) AS rows FROM {name} WHERE hash({keys}) IN"
        f" (SELECT hash({keys}) AS hashed FROM {name}{limited} GROUP BY hashed"
        f" HAVING count(*) > 1) GROUP BY {keys} HAVING count(*) > 1"
    )


def quote(identifier: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def _guarded(table: Table, column: Column, delivered: str, window: DateWindow | None) -> str:
    """Return the column's SQL, which raises an error for a day outside `window` or a lossy cast."""
    value = quote(column.name)
    faults = {}
    if window is not None and column.name == table.partition_column:
        faults[f"({in_window(table, window)}) IS NOT TRUE"] = f"a row for a day other than {window}"
    if column.stored_type in _INTEGERS and delivered.startswith(_FRACTIONS):
        faults[f"{value} <> trunc({value})"] = "a fraction instead of an integer"
    if column.stored_type == "DATE" and delivered.startswith("TIMESTAMP"):
        faults[f"{value} <> date_trunc('day', {value})"] = "a time of day instead of a date"
    if not faults:
        return value
    shown = f"coalesce(CAST({value} AS VARCHAR), 'null')"
    cases = " ".join(
        f"WHEN {fault} THEN error({text_literal(f'{what} in {table.name}.{column.name}: ')} || {shown})"
        for fault, what in faults.items()
    )
    return f"CASE {cases} ELSE {value} END"


def _partition_column(table: Table) -> str:
    if table.partition_column is None:
        raise SchemaMismatchError(f"{table.qualified_name} does not declare a partition column.")
    return quote(table.partition_column)


def in_window(table: Table, window: DateWindow) -> str:
    """Return the SQL condition for the rows in a window's partitions."""
    column = _partition_column(table)
    if window.is_opening and table.takes_earlier_rows:
        return f"{column} <= {_literal(window.last)}"
    return f"{column} BETWEEN {_literal(window.first)} AND {_literal(window.last)}"


def _sql_name(table: Table) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def _literal(day: date) -> str:
    return f"DATE '{day.isoformat()}'"


def text_literal(value: str) -> str:
    """Return a string as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"
