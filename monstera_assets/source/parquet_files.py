"""Open Parquet files and database tables, and query their columns as raw values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.source.columns import places
from monstera_assets.source.databases import attached
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceFile
from monstera_assets.source.sql import PATH_COLUMN, identifier, literal, path_list
from monstera_assets.source.staging import Staging

TEXT = "VARCHAR"
# DuckDB has no specific error for damaged files, so all errors except these indicate a damaged file.
NOT_THE_FILE = (duckdb.InterruptException, duckdb.OutOfMemoryException)

_SAME = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)|DATE|TIMESTAMP"
)
_ZONED = "TIMESTAMP WITH TIME ZONE"
_OTHER_TIMESTAMPS = (_ZONED, "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_QUOTED_VALUE = re.compile(r'value ".*"', re.DOTALL)
_OPTIONS = "binary_as_string = true, hive_partitioning = false"


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file with its column names and DuckDB types, in file order.

    ``copy`` is the staged copy of a database table, which also has the column ``_row``.
    """

    file: SourceFile
    schema: tuple[tuple[str, str], ...]
    copy: str | None = None

    def found(self, wanted: Iterable[str]) -> Mapping[str, tuple[str, str]]:
        """Return the exact name and the type of each wanted column that exists in the file."""
        names = [name for name, _ in self.schema]
        found = places(names, wanted, self.file.relative_path)
        return {name: self.schema[place] for name, place in found.items()}


def open_parquet(connection: duckdb.DuckDBPyConnection, file: SourceFile) -> ParquetFile:
    """Read a Parquet file's footer.

    Raises:
        SourceError: If the file is missing, truncated or not a Parquet file, or has changed.
    """
    file.check_unchanged()
    try:
        columns = connection.execute(
            f"DESCRIBE FROM read_parquet({path_list([file.path])}, {_OPTIONS})"
        ).fetchall()
    except NOT_THE_FILE:
        raise
    except duckdb.Error as error:
        raise _broken(file, error) from None
    return ParquetFile(file, tuple((name, kind) for name, kind, *_ in columns))


def copy_table(staging: Staging, file: SourceFile, wanted: Iterable[str]) -> ParquetFile:
    """Copy the wanted columns of a database table to the staging area.

    Raises:
        SourceError: If an extension is missing, the table cannot be read, or the table has changed.
    """
    assert file.table is not None  # noqa: S101 - only tables are copied
    file.check_unchanged()
    with attached(staging.connection, file.table.place) as database:
        relation = file.table.relation(database)
        described = staging.connection.execute(f"DESCRIBE FROM {relation}").fetchall()
        every = tuple((name, kind) for name, kind, *_ in described)
        schema = tuple(ParquetFile(file, every).found(wanted).values())
        columns = "".join(f"{identifier(name)}, " for name, _ in schema)
        copy = staging.create_table(f"SELECT {columns}row_number() OVER () AS _row FROM {relation}")
    return ParquetFile(file, schema, copy)


def raw_type(kind: str) -> str:
    """Return the type for a column's raw values, which is a plain scalar type or VARCHAR."""
    if _SAME.fullmatch(kind):
        return kind
    return "TIMESTAMP" if kind in _OTHER_TIMESTAMPS else TEXT


def raw_value(name: str, kind: str, target: str) -> str:
    """Return the expression that reads a column as raw values of the type ``target``.

    Instants become UTC timestamps without a time zone. Lists of strings are joined with ``|``, which
    separates list items in sources. Other nested values become JSON. Empty strings become null, as in
    CSV files.
    """
    value = identifier(name)
    if kind == _ZONED:
        value = f"timezone('UTC', {value})"
    elif kind == "TIMESTAMP_NS":
        # A cast rounds, which could move the last instant in a day to the next day.
        value = f"make_timestamp(epoch_ns({value}) // 1000)"
    elif kind == f"{TEXT}[]":
        value = f"array_to_string({value}, '|')"
    elif kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        value = f"to_json({value})"
    value = f"CAST({value} AS {raw_type(kind)})"
    if target == TEXT:
        return f"nullif(CAST({value} AS {TEXT}), '')"
    return value


def parquet_scan(paths: Sequence[Path]) -> str:
    """Return the table function that reads files with the same schema."""
    return f"read_parquet({path_list(paths)}, {_OPTIONS}, filename = {literal(PATH_COLUMN)})"


def _broken(file: SourceFile, error: duckdb.Error) -> SourceError:
    """Return the error for a file that cannot be read as Parquet.

    Raise the error from None, because DuckDB's original message may quote a value, which would be
    stored with the error.
    """
    file.check_unchanged()
    reason = _QUOTED_VALUE.sub("a value", str(error)).strip().partition("\n")[0]
    return SourceError(
        f"{file.relative_path} cannot be read as Parquet ({reason}). Regenerate the file."
    )


def check_parquet(
    connection: duckdb.DuckDBPyConnection, files: Iterable[ParquetFile], columns: Iterable[str]
) -> None:
    """Read the given columns of each file separately to find an unreadable file.

    Raises:
        SourceError: If a file cannot be read completely.
    """
    for item in files:
        if item.copy is not None:
            continue
        values = ["1", *(identifier(name) for name, _ in item.found(columns).values())]
        scan = parquet_scan([item.file.path])
        try:
            connection.execute(f"SELECT max(hash({', '.join(values)})) FROM {scan}")
        except NOT_THE_FILE:
            raise
        except duckdb.Error as error:
            raise _broken(item.file, error) from None
