"""Parquet files as queries over raw columns: which there are, and how a type becomes a raw value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceFile
from monstera_assets.source.sql import PATH_COLUMN, identifier, literal, path_list

TEXT = "VARCHAR"
# DuckDB has no error of its own for a damaged file, so what is none of these is taken for one.
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
    """A Parquet file with its columns and their DuckDB types, in the file's order."""

    file: SourceFile
    schema: tuple[tuple[str, str], ...]

    @property
    def types(self) -> Mapping[str, str]:
        """The type of each column by its exact name."""
        return dict(self.schema)


def open_parquet(connection: duckdb.DuckDBPyConnection, file: SourceFile) -> ParquetFile:
    """Read the footer of a Parquet file.

    Raises:
        SourceError: the file is not Parquet, is cut short, or has gone or changed meanwhile.
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


def raw_type(kind: str) -> str:
    """Return the type that a column of this type has as a raw value: a plain scalar, or VARCHAR."""
    if _SAME.fullmatch(kind):
        return kind
    return "TIMESTAMP" if kind in _OTHER_TIMESTAMPS else TEXT


def raw_value(name: str, kind: str, target: str) -> str:
    """Return the expression of a column as a raw value of the type ``target``.

    Instants become naive timestamps in UTC; a list of texts is joined by ``|``, the notation for
    lists in a source; other nested values become JSON. An empty text is null, as in CSV.
    """
    value = identifier(name)
    if kind == _ZONED:
        value = f"timezone('UTC', {value})"
    elif kind == "TIMESTAMP_NS":
        # A cast would round, and so could move the last instant of a day to the next day.
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
    """Return the table function that reads files of one schema."""
    return f"read_parquet({path_list(paths)}, {_OPTIONS}, filename = {literal(PATH_COLUMN)})"


def _broken(file: SourceFile, error: duckdb.Error) -> SourceError:
    """Return the error that names a file which cannot be read as Parquet.

    To be raised from None: what DuckDB says may quote a value, and errors are kept.
    """
    file.check_unchanged()
    reason = _QUOTED_VALUE.sub("a value", str(error)).strip().partition("\n")[0]
    return SourceError(
        f"{file.relative_path} cannot be read as Parquet ({reason}): write the file again."
    )


def check_parquet(
    connection: duckdb.DuckDBPyConnection, files: Iterable[ParquetFile], columns: Iterable[str]
) -> None:
    """Read these columns of each file alone, to find the one that cannot be read.

    Raises:
        SourceError: a file cannot be read to its end.
    """
    for item in files:
        values = ["1", *(identifier(name) for name in columns if name in item.types)]
        scan = parquet_scan([item.file.path])
        try:
            connection.execute(f"SELECT max(hash({', '.join(values)})) FROM {scan}")
        except NOT_THE_FILE:
            raise
        except duckdb.Error as error:
            raise _broken(item.file, error) from None
