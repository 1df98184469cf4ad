"""Stage one input as temporary tables: its raw rows, and the records that are not rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from monstera_assets.source.csv_files import CsvFile, CsvStager, open_csv
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceFile, SourceInput
from monstera_assets.source.parquet_files import (
    NOT_THE_FILE,
    TEXT,
    ParquetFile,
    check_parquet,
    open_parquet,
    parquet_scan,
    raw_type,
    raw_value,
)
from monstera_assets.source.sql import PATH_COLUMN, date_literal, identifier, literal, path_list
from monstera_assets.source.staging import staging_area

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class RawColumn:
    """A column to read, with its exact name in the source; optional columns are null where absent."""

    name: str
    required: bool


@dataclass(frozen=True)
class StagedInput:
    r"""The names of the two temporary tables of an input; ``rows`` may also be a view.

    ``rows`` has the declared columns, source_file (VARCHAR, relative path) and folder_date (DATE,
    null unless the input is laid out by day). ``malformed`` has one row per CSV record that is not
    a row: source_file, line_number (BIGINT, of its first line; the header is line 1), raw_line
    (VARCHAR, at most 10,000 characters, bytes that are not UTF-8 shown as ``\xff``), reason
    (VARCHAR, a `MalformedReason`) and folder_date.
    """

    rows: str
    malformed: str


def stage_rows(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    columns: Sequence[RawColumn],
    name: str,
    *,
    copy: bool = True,
) -> StagedInput:
    """Read an input into the temporary tables ``<name>_rows`` and ``<name>_malformed``.

    Each record is in exactly one of the two tables. Columns are VARCHAR, and empty values are null.
    If all files are Parquet and agree on a plain scalar type, a column keeps that type.

    Args:
        connection: may be inside a transaction, which faulty CSV files do not abort.
        source_input: the files to read.
        columns: the columns to read; others are ignored.
        name: lowercase letters, digits and underscores; tables of that name are replaced.
        copy: False to read Parquet-only inputs in place, through the view
            ``<name>_rows_in_place``. Then call `check_unchanged`, or `explain_failure` on errors.

    Raises:
        SourceError: If a file lacks a required column, cannot be read, is missing, or has changed.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} must consist of lowercase letters, digits and underscores.")
    in_place = not copy and all(file.format == "parquet" for file in source_input.files)
    staged = StagedInput(
        f"{name}_rows_in_place" if in_place else f"{name}_rows", f"{name}_malformed"
    )
    with staging_area(connection) as staging:
        csv_files = [open_csv(file) for file in source_input.files if file.format == "csv"]
        parquet_files = _open_parquet(staging.connection, source_input)
        _check_columns(csv_files, parquet_files, columns)
        stager = CsvStager(staging, [column.name for column in columns])
        stager.stage(csv_files)
        types = _common_types(columns, parquet_files, has_csv=bool(csv_files))
        queries = [_no_rows(types), *_csv_rows(stager), *_parquet_rows(parquet_files, types)]
        try:
            _create(connection, staged.rows, " UNION ALL ".join(queries), in_place=in_place)
        except NOT_THE_FILE:
            raise
        except duckdb.Error:
            check_parquet(staging.connection, parquet_files, types)
            raise
        _create(connection, staged.malformed, _malformed(stager, source_input.files))
        check_unchanged(source_input)
    return staged


def check_unchanged(source_input: SourceInput) -> None:
    """Verify that the files have not changed since discovery.

    Raises:
        SourceError: If a file is missing or has changed.
    """
    for file in source_input.files:
        file.check_unchanged()


def explain_failure(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    columns: Sequence[RawColumn],
    error: Exception,
) -> None:
    """Find the file that made reading in place fail, if any.

    Raises:
        SourceError: If a file cannot be read to its end, is missing, or has changed.
    """
    if isinstance(error.__cause__ or error, NOT_THE_FILE):
        return
    with connection.cursor() as cursor:
        check_parquet(
            cursor, _open_parquet(cursor, source_input), [column.name for column in columns]
        )


def _open_parquet(
    connection: duckdb.DuckDBPyConnection, source_input: SourceInput
) -> list[ParquetFile]:
    return [
        open_parquet(connection, file) for file in source_input.files if file.format == "parquet"
    ]


def _check_columns(
    csv_files: Iterable[CsvFile], parquet_files: Iterable[ParquetFile], columns: Sequence[RawColumn]
) -> None:
    present = [(item.file, item.header.names) for item in csv_files]
    present += [(item.file, tuple(item.types)) for item in parquet_files]
    for file, names in present:
        required = [column.name for column in columns if column.required]
        missing = [name for name in required if name not in names]
        if missing:
            raise SourceError(
                f"{file.relative_path} lacks the required columns {', '.join(missing)}. Add them "
                "with exactly these names."
            )


def _common_types(
    columns: Sequence[RawColumn], files: Sequence[ParquetFile], *, has_csv: bool
) -> Mapping[str, str]:
    """Return the type of each column: the type shared by all files, otherwise VARCHAR."""
    types: dict[str, str] = {}
    for column in columns:
        kinds = {raw_type(item.types[column.name]) for item in files if column.name in item.types}
        types[column.name] = kinds.pop() if len(kinds) == 1 and not has_csv else TEXT
    return types


def _no_rows(types: Mapping[str, str]) -> str:
    columns = "".join(
        f"CAST(NULL AS {kind}) AS {identifier(column)}, " for column, kind in types.items()
    )
    return (
        f"SELECT {columns}CAST(NULL AS VARCHAR) AS source_file, "
        f"{date_literal(None)} AS folder_date WHERE false"
    )


def _csv_rows(stager: CsvStager) -> list[str]:
    columns = [identifier(column) for column in stager.columns]
    return [_rows(columns, table, files) for table, files in stager.tables.items()]


def _parquet_rows(files: Iterable[ParquetFile], types: Mapping[str, str]) -> list[str]:
    batches: dict[tuple[tuple[str, str], ...], list[SourceFile]] = {}
    for item in files:
        batches.setdefault(item.schema, []).append(item.file)
    queries = []
    for schema, batch in batches.items():
        kinds = dict(schema)
        columns = [
            raw_value(column, kinds[column], kind) if column in kinds else f"CAST(NULL AS {kind})"
            for column, kind in types.items()
        ]
        by_path = {str(file.path): file for file in batch}
        queries.append(_rows(columns, parquet_scan([file.path for file in batch]), by_path))
    return queries


def _rows(columns: Iterable[str], relation: str, files: Mapping[str, SourceFile]) -> str:
    """Return the query for a relation's rows with the source file and day of each path."""
    selected = "".join(f"{column}, " for column in columns)
    if len(files) == 1:
        [file] = files.values()
        origin = f"{literal(file.relative_path)}, {date_literal(file.folder_date)}"
        return f"SELECT {selected}{origin} FROM {relation}"
    rows = ", ".join(
        f"({literal(path)}, {literal(file.relative_path)}, {date_literal(file.folder_date)})"
        for path, file in files.items()
    )
    return (
        f"SELECT {selected}_source_file, _folder_date FROM {relation} "
        f"JOIN (VALUES {rows}) AS origin({PATH_COLUMN}, _source_file, _folder_date) "
        f"USING ({PATH_COLUMN})"
    )


def _malformed(stager: CsvStager, files: Sequence[SourceFile]) -> str:
    columns = "source_file, line_number, raw_line, reason, folder_date"
    empty = (
        "SELECT '' AS source_file, CAST(0 AS BIGINT) AS line_number, '' AS raw_line, "
        f"'' AS reason, {date_literal(None)} AS folder_date WHERE false"
    )
    if not stager.malformed:
        return empty
    days = ", ".join(
        f"({literal(file.relative_path)}, {date_literal(file.folder_date)})" for file in files
    )
    scan = (
        f"read_csv({path_list(stager.malformed)}, columns = {{'source_file': 'VARCHAR', "
        "'line_number': 'BIGINT', 'raw_line': 'VARCHAR', 'reason': 'VARCHAR'}, header = true, "
        "auto_detect = false, quote = '\"', escape = '\"', parallel = false)"
    )
    return (
        f"{empty} UNION ALL SELECT {columns} FROM {scan} "
        f"JOIN (VALUES {days}) AS origin(source_file, folder_date) USING (source_file)"
    )


def _create(
    connection: duckdb.DuckDBPyConnection, name: str, query: str, *, in_place: bool = False
) -> None:
    kind = "VIEW" if in_place else "TABLE"
    connection.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {query}")
