"""Replace a table or a range of partitions atomically.

All writes to warehouse tables go through this module. A single transaction creates a missing table
from its declaration, deletes the old slice, inserts the new rows by column name with the declared
types, records the materialization and updates the trend flags.
"""
# Over 400 lines: all writes share the statements of one transaction.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import duckdb
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from monstera_assets.warehouse.archive import require_raw_events, require_recomputable
from monstera_assets.warehouse.batching import key_batches
from monstera_assets.warehouse.compiler import Query, compile_query
from monstera_assets.warehouse.errors import (
    MissingPartitionsError,
    MissingTableError,
    SchemaMismatchError,
    WarehouseError,
)
from monstera_assets.warehouse.extras import how_to_install
from monstera_assets.warehouse.tables import (
    OPERATIONS_SCHEMA,
    Column,
    Table,
    same_type,
)
from monstera_assets.warehouse.windows import DateWindow, windows_of

_MATERIALIZATIONS = f"{OPERATIONS_SCHEMA}.materializations"
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_FRACTIONS = ("FLOAT", "DOUBLE", "DECIMAL")


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit on success, or roll back on any error."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT or a fatal error may already have ended the transaction. A failing ROLLBACK
        # must not hide the original error.
        try:
            connection.execute("ROLLBACK")
        except duckdb.Error:
            connection.interrupt()
        raise


def replace(
    connection: duckdb.DuckDBPyConnection,
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
    prepare(connection, table)
    delete(connection, table, window, only_days)
    inserted = insert(connection, table, rows, window)
    record(connection, table, window)
    return inserted


def prepare(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Create the table from its declaration, or verify that the stored table matches it.

    Raises:
        SchemaMismatchError: If the stored table has different columns or types.
    """
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
    stored = stored_columns(connection, table)
    if not stored:
        columns = ", ".join(
            f"{quote(column.name)} {column.stored_type}{'' if column.nullable else ' NOT NULL'}"
            for column in table.columns
        )
        connection.execute(f"CREATE TABLE {_sql_name(table)} ({columns})")
        return
    _verify_stored(table, stored)


def require_table(
    connection: duckdb.DuckDBPyConnection, table: Table, *, whole: bool = True
) -> None:
    """Verify that the table exists and matches its declaration.

    If `whole` is false, the stored table can have other columns too.

    Raises:
        SchemaMismatchError: If the stored table has different columns or types.
        MissingTableError: If the table does not exist, or if it was stored by an installation with an
            extra that is not installed here, so that no run updates it.
    """
    if not table.is_available:
        raise MissingTableError(how_to_install(table))
    stored = stored_columns(connection, table)
    if not stored:
        raise MissingTableError(
            f"{table.qualified_name} is required but was never materialized. Materialize the table"
            " first, for example with: monstera run"
        )
    declared = {column.name for column in table.columns}
    _verify_stored(
        table, {name: kind for name, kind in stored.items() if whole or name in declared}
    )


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


def stored_columns(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, str]:
    """Return the stored columns and their DuckDB types, or an empty dict if the table is missing."""
    return dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns()"
            " WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
            [table.schema, table.name],
        ).fetchall()
    )


def total_rows(connection: duckdb.DuckDBPyConnection, table: Table) -> int:
    """Return the table's number of rows, which DuckDB counts without reading them."""
    (rows,) = _one(connection, f"SELECT count(*) FROM {_sql_name(table)}")
    return int(rows)


def delete(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    window: DateWindow | None,
    only_days: str | None = None,
) -> None:
    """Delete the table's rows, or only the rows in the window's partitions (see `replace`).

    Raises:
        ArchivedDaysError: If the rows are raw events from days that cannot be recomputed.
    """
    require_recomputable(connection, table.name, window)
    condition = ""
    if window is not None:
        column = _partition_column(table)
        condition = f" WHERE {_in_window(table, window)}"
        if only_days is not None:
            partition = f"greatest({column}, {_literal(window.first)})"
            condition += f" AND {partition} IN (SELECT day FROM {quote(only_days)})"
    connection.execute(f"DELETE FROM {_sql_name(table)}{condition}")


def insert(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    rows: Query | ir.Table | str,
    window: DateWindow | None,
) -> int:
    """Insert rows from a query or expression by column name and return the row count.

    Values are cast to the declared types. An expression's types are verified when it is compiled. A
    SQL query's types are not verified.

    Raises:
        SchemaMismatchError: If a declared column is missing, or if a column is not declared.
        WarehouseError: If a row's partition date is outside `window`, a non-nullable column contains
            null, or a value cannot be cast without loss.
    """
    if isinstance(rows, ir.Table):
        rows = compile_verified(table, rows)
    if isinstance(rows, str):
        inserted = _insert(connection, table, rows, _described(connection, table, rows), window)
    elif rows.facts and window is not None and len(window) > 1:
        with key_batches(connection, rows) as batches:
            inserted = sum(
                _insert(connection, table, batch, rows.columns, window) for batch in batches
            )
    else:
        # Skip DESCRIBE, since DuckDB takes as long to plan a large expression as to run it.
        inserted = _insert(connection, table, rows.select, rows.columns, window)
    _refresh_trend_flags(connection, table)
    return inserted


def _insert(
    connection: duckdb.DuckDBPyConnection,
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
        (inserted,) = _one(connection, statement)
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException) as error:
        raise WarehouseError(
            f"{table.qualified_name} was not written and is unchanged: {error}"
        ) from error
    return int(inserted)


def _order(table: Table, window: DateWindow | None) -> str:
    """Return an ORDER BY clause for the key so that lookups by key skip most row groups.

    The rows for a range of days are not sorted, since sorting would take as long as writing.
    """
    is_day_of_keys = window is not None and len(window) == 1 and table.partition_column in table.key
    if table.key and (window is None or is_day_of_keys):
        return f" ORDER BY {', '.join(quote(name) for name in table.key)}"
    return ""


def _described(connection: duckdb.DuckDBPyConnection, table: Table, select: str) -> dict[str, str]:
    described = connection.execute(f"DESCRIBE {select}").fetchall()
    verify_columns(table, [name for name, *_ in described])
    return {name: dtype for name, dtype, *_ in described}


def verify_columns(table: Table, delivered: list[str]) -> None:
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


def compile_verified(table: Table, rows: ir.Table) -> Query:
    """Verify the schema of a table's rows and compile their query.

    Raises:
        SchemaMismatchError: If columns or types differ from the declaration.
    """
    verify_schema(table, rows.schema())
    return compile_query(rows)


def record(connection: duckdb.DuckDBPyConnection, table: Table, window: DateWindow | None) -> None:
    """Record that the table, or each partition in `window`, was materialized, even if it is empty."""
    key = [table.schema, table.name]
    where = "schema_name = ? AND table_name = ?"
    if window is None:
        connection.execute(f"DELETE FROM {_MATERIALIZATIONS} WHERE {where}", key)
        days = "SELECT CAST(NULL AS DATE) AS day"
    else:
        between = f"BETWEEN {_literal(window.first)} AND {_literal(window.last)}"
        connection.execute(
            f"DELETE FROM {_MATERIALIZATIONS} WHERE {where} AND partition_date {between}", key
        )
        days = (
            f"SELECT CAST(unnest(generate_series({_literal(window.first)}, {_literal(window.last)},"
            " INTERVAL 1 DAY)) AS DATE) AS day"
        )
    connection.execute(
        f"INSERT INTO {_MATERIALIZATIONS} SELECT ?, ?, day, ?::TIMESTAMP FROM ({days})",
        [*key, next_moment(connection)],
    )


def next_moment(connection: duckdb.DuckDBPyConnection) -> datetime:
    """Return the time for a new record: now or just after the latest record, whichever is later.

    Bronze, silver and gold tables do not depend on this time.
    """
    (moment,) = _one(
        connection,
        "SELECT greatest(now()::TIMESTAMP, max(materialized_at) + INTERVAL 1 MICROSECOND) FROM"
        f" {_MATERIALIZATIONS}",
    )
    assert isinstance(moment, datetime)  # noqa: S101  # greatest ignores the null from an empty table
    return moment


def materialized_window(connection: duckdb.DuckDBPyConnection, table: Table) -> DateWindow | None:
    """Return the window that spans a daily table's materialized days, or None if there are none."""
    first, last = _one(
        connection,
        f"SELECT min(partition_date), max(partition_date) FROM {_MATERIALIZATIONS}"
        " WHERE schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    )
    return DateWindow(first, last) if isinstance(first, date) and isinstance(last, date) else None


def materialized_days(connection: duckdb.DuckDBPyConnection, table: Table) -> frozenset[date]:
    """Return a daily table's materialized days."""
    rows = connection.execute(
        f"SELECT partition_date FROM {_MATERIALIZATIONS} WHERE schema_name = ? AND table_name = ?"
        " AND partition_date IS NOT NULL",
        [table.schema, table.name],
    ).fetchall()
    return frozenset(day for (day,) in rows)


def require_partitions(
    connection: duckdb.DuckDBPyConnection, table: Table, window: DateWindow
) -> None:
    """Verify that each day in `window` has been materialized.

    Without this check, a missing day would look like a day without activity, and states would be
    wrong.

    Raises:
        MissingPartitionsError: If days are missing. The message includes the command that
            materializes the missing days.
        ArchivedDaysError: If days are missing because their raw events were deleted.
    """
    missing = connection.execute(
        "SELECT CAST(day AS DATE) FROM (SELECT unnest(generate_series("
        f"{_literal(window.first)}, {_literal(window.last)}, INTERVAL 1 DAY)) AS day)"
        " WHERE CAST(day AS DATE) NOT IN (SELECT partition_date FROM"
        f" {_MATERIALIZATIONS} WHERE schema_name = ? AND table_name = ?"
        " AND partition_date IS NOT NULL) ORDER BY ALL",
        [table.schema, table.name],
    ).fetchall()
    if not missing:
        return
    require_raw_events(connection, table.name, missing[0][0])
    gaps = windows_of(row[0] for row in missing)
    named = ", ".join(map(str, gaps[:5])) + (" and more" if len(gaps) > 5 else "")
    raise MissingPartitionsError(
        f"{table.qualified_name} has no partitions for {named} ({len(missing)} days)."
        f" Materialize the missing days first, for example with: monstera run --from"
        f" {gaps[0].first} --to {gaps[-1].last}"
    )


def quote(identifier: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def _refresh_trend_flags(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    if not table.trend_flags:
        return
    column = _partition_column(table)
    values = {
        quote(flag): f"{column} >= latest - {days}" for flag, days in table.trend_flags.items()
    }
    connection.execute(
        f"UPDATE {_sql_name(table)}"
        f" SET {', '.join(f'{flag} = ({value})' for flag, value in values.items())}"
        f" FROM (SELECT max({column}) AS latest FROM {_sql_name(table)})"
        f" WHERE {' OR '.join(f'{flag} <> ({value})' for flag, value in values.items())}"
    )


def _guarded(table: Table, column: Column, delivered: str, window: DateWindow | None) -> str:
    """Return the column's SQL, which raises an error for a day outside `window` or a lossy cast."""
    value = quote(column.name)
    faults = {}
    if window is not None and column.name == table.partition_column:
        faults[f"({_in_window(table, window)}) IS NOT TRUE"] = (
            f"a row for a day other than {window}"
        )
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


def _in_window(table: Table, window: DateWindow) -> str:
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


def _one(
    connection: duckdb.DuckDBPyConnection, statement: str, parameters: list[str] | None = None
) -> tuple[Any, ...]:
    row = connection.execute(statement, parameters or []).fetchone()
    if row is None:
        raise WarehouseError(f"DuckDB returned no result for: {statement}")
    return tuple(row)
