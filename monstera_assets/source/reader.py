"""Stage an input as two temporary tables, which contain the raw rows and the malformed records."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

import duckdb

from monstera_assets.source.columns import places
from monstera_assets.source.csv_files import (
    MAX_RAW_LINE_CHARACTERS,
    CsvFile,
    StagedTable,
    TextStager,
    open_csv,
)
from monstera_assets.source.csv_records import MalformedReason
from monstera_assets.source.errors import SourceError
from monstera_assets.source.json_lines import LINE
from monstera_assets.source.layout import Compression, InputFormat, SourceFile, SourceInput
from monstera_assets.source.parquet_files import (
    NOT_THE_FILE,
    TEXT,
    ParquetFile,
    check_parquet,
    copy_table,
    open_parquet,
    parquet_scan,
    raw_type,
    raw_value,
)
from monstera_assets.source.sql import PATH_COLUMN, date_literal, identifier, literal, path_list
from monstera_assets.source.staging import staging_area

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FORMATS = {
    InputFormat.CSV: "CSV",
    InputFormat.JSON: "JSON lines",
    InputFormat.PARQUET: "Parquet",
    InputFormat.TABLE: "table",
}
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}


@dataclass(frozen=True)
class RawColumn:
    """A column to read. An optional column is null if the column is missing from a file.

    ``name`` is in lowercase. In the source, the name can have any case and surrounding spaces.
    """

    name: str
    required: bool


@dataclass(frozen=True)
class StagedInput:
    r"""The names of an input's two temporary tables. ``rows`` can also be a view.

    ``rows`` has the declared columns, source_file (VARCHAR, relative path), folder_date (DATE, null
    unless the input is laid out by day) and row_number (BIGINT, ascending in file order).

    ``malformed`` has one row per malformed record in a text file. The columns are source_file,
    line_number (BIGINT, the number of the record's first line, where the header is line 1), raw_line
    (VARCHAR, at most 10,000 characters, with bytes that are not valid UTF-8 in the form ``\xff``),
    reason (VARCHAR, a `MalformedReason`) and folder_date.
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

    Each record is in exactly one of the two tables. Columns are VARCHAR, and empty values are null. If
    all files are Parquet files with the same plain scalar type for a column, the column keeps the type.

    Args:
        connection: the connection, which may have an open transaction. Faulty CSV files do not abort
            the transaction.
        source_input: the files to read.
        columns: the columns to read. All other columns are ignored.
        name: the start of the table names, which consists of lowercase letters, digits and
            underscores. Existing tables with the same names are replaced.
        copy: whether to copy rows. If False, an input with only Parquet files is read in place through
            the view ``<name>_rows_in_place``. After reading in place, call `check_unchanged` or, if an
            error occurs, `explain_failure`.

    Raises:
        SourceError: If a file is missing, cannot be read, is missing a required column, or has changed.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} must consist of lowercase letters, digits and underscores.")
    in_place = not copy and all(file.format == "parquet" for file in source_input.files)
    staged = StagedInput(
        f"{name}_rows_in_place" if in_place else f"{name}_rows", f"{name}_malformed"
    )
    with staging_area(connection) as staging:
        names = [column.name for column in columns]
        known = frozenset(names)
        csv_files = [open_csv(file, known) for file in source_input.files if file.format == "csv"]
        json_files = [file for file in source_input.files if file.format == "json"]
        parquet_files = _open_parquet(staging.connection, source_input)
        parquet_files += [
            copy_table(staging, file, names) for file in source_input.files if file.table
        ]
        _check_columns(csv_files, parquet_files, columns)
        origins = _keep_origins(connection, source_input.files, name)
        stager = TextStager(staging, names, source_input.files)
        stager.stage_csv(csv_files)
        _check_keys(json_files, stager, columns)
        types = _common_types(columns, parquet_files, has_text=bool(csv_files or json_files))
        queries = [
            _no_rows(types),
            *_text_rows(stager, origins),
            *_parquet_rows(parquet_files, types, origins),
        ]
        try:
            _create(connection, staged.rows, " UNION ALL ".join(queries), in_place=in_place)
        except NOT_THE_FILE:
            raise
        except duckdb.Error:
            check_parquet(staging.connection, parquet_files, types)
            raise
        _create(connection, staged.malformed, _malformed(stager, origins))
        check_unchanged(source_input)
    return staged


class FileDescription(NamedTuple):
    """A file's path, its format as text, and the column names in its header.

    JSON files and database tables do not have a header, so their descriptions do not contain names.
    """

    path: str
    format: str
    names: tuple[str, ...] = ()


def describe_files(
    connection: duckdb.DuckDBPyConnection, source_input: SourceInput, columns: Iterable[str]
) -> Iterator[FileDescription]:
    """Yield a description of each file. The names in `columns` are used to detect the delimiter.

    Raises:
        SourceError: If a file cannot be read, is missing, or has changed.
    """
    known = frozenset(columns)
    for file in source_input.files:
        names: tuple[str, ...] = ()
        shown = _FORMATS[file.format]
        if file.format == InputFormat.CSV:
            header = open_csv(file, known).header
            names, shown = header.names, f"{shown} ({_DELIMITERS[header.delimiter]})"
        elif file.format == InputFormat.PARQUET:
            names = tuple(name for name, _ in open_parquet(connection, file).schema)
        if file.compression != Compression.NONE:
            shown += f", {file.compression}"
        yield FileDescription(file.relative_path, shown, names)


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
    """Find the file that caused an in-place read to fail, if any.

    Raises:
        SourceError: If a file is missing, cannot be read completely, or has changed.
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
    headers = {item.header: item.file for item in csv_files}
    present = [(file, header.names) for header, file in headers.items()]
    present += [(item.file, tuple(name for name, _ in item.schema)) for item in parquet_files]
    for file, names in present:
        found = places(names, [column.name for column in columns], file.relative_path)
        _check_required(file, found, columns, names)


def _check_keys(
    files: Sequence[SourceFile], stager: TextStager, columns: Sequence[RawColumn]
) -> None:
    """Stage JSON files, and check that each required column occurs in at least one object."""
    keys = stager.stage_json(files)
    if keys:
        _check_required(files[0], keys, columns)


def _check_required(
    file: SourceFile,
    present: Container[str],
    columns: Sequence[RawColumn],
    names: Iterable[str] = (),
) -> None:
    missing = [each.name for each in columns if each.required and each.name not in present]
    if missing:
        raise SourceError(
            f"{file.relative_path} is missing required columns: {', '.join(missing)}. Add columns "
            f"with these names.{_similar(missing, names)}"
        )


def _similar(missing: Iterable[str], present: Iterable[str]) -> str:
    """Return a sentence that lists the most similar existing column for each missing column, if any."""
    # If a file has no header, its first row is read as the header and may contain email addresses.
    lower = {name.lower(): name for name in present if "@" not in name}
    found = ((name, get_close_matches(name, lower, n=1, cutoff=0.5)) for name in missing)
    pairs = [f"{lower[match[0]]} for {name}" for name, match in found if match]
    return f" Similar columns: {', '.join(pairs)}." if pairs else ""


def _common_types(
    columns: Sequence[RawColumn], files: Sequence[ParquetFile], *, has_text: bool
) -> Mapping[str, str]:
    """Return each column's type, which is VARCHAR unless all files have the same plain type."""
    types: dict[str, str] = {}
    names = [column.name for column in columns]
    found = [item.found(names) for item in files]
    for name in names:
        kinds = {raw_type(each[name][1]) for each in found if name in each}
        types[name] = kinds.pop() if len(kinds) == 1 and not has_text else TEXT
    return types


def _no_rows(types: Mapping[str, str]) -> str:
    columns = "".join(
        f"CAST(NULL AS {kind}) AS {identifier(column)}, " for column, kind in types.items()
    )
    return (
        f"SELECT {columns}CAST(NULL AS VARCHAR) AS source_file, "
        f"{date_literal(None)} AS folder_date, CAST(NULL AS BIGINT) AS row_number WHERE false"
    )


def _text_rows(stager: TextStager, origins: str) -> list[str]:
    columns = [identifier(column) for column in stager.columns]
    return [_rows(columns, table, origins) for table in stager.rows]


def _parquet_rows(
    files: Iterable[ParquetFile], types: Mapping[str, str], origins: str
) -> list[str]:
    batches: dict[tuple[tuple[tuple[str, str], ...], str | None], list[SourceFile]] = {}
    for item in files:
        batches.setdefault((item.schema, item.copy), []).append(item.file)
    queries = []
    for (schema, copy), batch in batches.items():
        found = ParquetFile(batch[0], schema).found(types)
        columns = [
            raw_value(*found[column], kind) if column in found else f"CAST(NULL AS {kind})"
            for column, kind in types.items()
        ]
        scan = parquet_scan([file.path for file in batch])
        # A column with this name would hide DuckDB's file_row_number column.
        is_hidden = any(name.lower() == "file_row_number" for name, _ in schema)
        position = "row_number() OVER ()" if is_hidden else "file_row_number"
        table = StagedTable(copy or scan, batch, "_row" if copy else position)
        queries.append(_rows(columns, table, origins))
    return queries


def _rows(columns: Iterable[str], table: StagedTable, origins: str) -> str:
    """Return the query for a relation's rows, with each row's source file, day and position."""
    relation, files, row_number = table
    selected = "".join(f"{column}, " for column in columns)
    if len(files) == 1:
        [file] = files
        return (
            f"SELECT {selected}{literal(file.relative_path)} AS source_file, "
            f"{date_literal(file.folder_date)} AS folder_date, {row_number} AS row_number "
            f"FROM {relation}"
        )
    return (
        f"SELECT {selected}_source_file AS source_file, _folder_date AS folder_date, "
        f"{row_number} AS row_number FROM {relation} JOIN {origins} USING ({PATH_COLUMN})"
    )


def _malformed(stager: TextStager, origins: str) -> str:
    columns = "source_file, line_number, raw_line, reason, folder_date"
    empty = (
        "SELECT '' AS source_file, CAST(0 AS BIGINT) AS line_number, '' AS raw_line, "
        f"'' AS reason, {date_literal(None)} AS folder_date WHERE false"
    )
    for table in stager.not_json:
        rows = _rows([f"left({LINE}, {MAX_RAW_LINE_CHARACTERS}) AS raw_line"], table, origins)
        empty += (
            f" UNION ALL SELECT source_file, row_number, raw_line, '{MalformedReason.JSON}', "
            f"folder_date FROM ({rows})"
        )
    if not stager.malformed:
        return empty
    scan = (
        f"read_csv({path_list(stager.malformed)}, columns = {{'source_file': 'VARCHAR', "
        "'line_number': 'BIGINT', 'raw_line': 'VARCHAR', 'reason': 'VARCHAR'}, header = true, "
        "auto_detect = false, quote = '\"', escape = '\"', parallel = false)"
    )
    return (
        f"{empty} UNION ALL SELECT {columns} FROM {scan} "
        f"JOIN (SELECT DISTINCT _source_file AS source_file, _folder_date AS folder_date "
        f"FROM {origins}) USING (source_file)"
    )


def _keep_origins(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], name: str
) -> str:
    """Create a table that maps paths and file numbers to files and days, and return its name."""
    origins = f"{name}_origins"
    # For a year of hourly files, a list of values in the query would take DuckDB one second.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {origins} AS SELECT unnest(?::VARCHAR[]) AS {PATH_COLUMN}, "
        "unnest(?::VARCHAR[]) AS _source_file, unnest(?::DATE[]) AS _folder_date",
        [
            [*(str(file.path) for file in files), *map(str, range(len(files)))],
            [file.relative_path for file in files] * 2,
            [file.folder_date for file in files] * 2,
        ],
    )
    return origins


def _create(
    connection: duckdb.DuckDBPyConnection, name: str, query: str, *, in_place: bool = False
) -> None:
    kind = "VIEW" if in_place else "TABLE"
    connection.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {query}")
