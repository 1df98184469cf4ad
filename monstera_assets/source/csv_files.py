"""Stage CSV files as tables, using DuckDB's parser where its result is provably correct.

DuckDB's strict parser is fast but has three flaws: one bad record makes the whole statement fail, a row
with extra empty fields is accepted, and an unterminated record at the end of a file can vanish without
an error. `store_rejects` does not help: in parallel it turns lines inside a quoted value into rows, an
unterminated quote also discards the valid rows after it, and mixed line ends still cause an error.

The parsed rows are therefore accepted only if they account for every comma and every line feed in
the file. Any other file is split by the grammar in `csv_records`: DuckDB reads the file's rows from
a rewritten copy, and all other records are listed with a reason.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import duckdb

from monstera_assets.source.csv_records import (
    MAX_RECORD_CHARACTERS,
    Header,
    read_header,
    split_records,
)
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceFile
from monstera_assets.source.sql import PATH_COLUMN, identifier, literal, path_list
from monstera_assets.source.staging import Staging

# Values up to this size cannot come from a record that exceeds the grammar's limit.
_SURELY_SHORT_BYTES = MAX_RECORD_CHARACTERS * 2 // 5
_MAX_LINE_BYTES = 4 * MAX_RECORD_CHARACTERS + 64
_MAX_RAW_LINE_CHARACTERS = 10_000
_BLOCK_BYTES = 1 << 20
# DuckDB's errors about the content of a file, as opposed to interruptions or lack of memory.
NOT_PARSED = (duckdb.InvalidInputException, duckdb.NotImplementedException)


@dataclass(frozen=True)
class CsvFile:
    """A CSV file with its header."""

    file: SourceFile
    header: Header


class _Census(NamedTuple):
    """Counts of a file's bytes."""

    commas: int
    newlines: int
    ends_with_newline: bool


class _Account(NamedTuple):
    """Counts of the rows parsed from a file."""

    rows: int = 0
    commas: int = 0
    newlines: int = 0
    longest: int = 0


def open_csv(file: SourceFile) -> CsvFile:
    """Read the header of a CSV file.

    Raises:
        SourceError: If the file has no readable header, is missing, or has changed since discovery.
    """
    file.check_unchanged()
    try:
        return CsvFile(file, read_header(file.path, file.relative_path))
    except OSError as error:
        raise gone(file) from error


def csv_scan(paths: Sequence[Path], field_count: int, *, parallel: bool) -> str:
    """Return the table function that reads files of `field_count` columns, named c0, c1, and so on."""
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(field_count))
    return (
        f"read_csv({path_list(paths)}, columns = {{{columns}}}, auto_detect = false, "
        "header = true, delim = ',', quote = '\"', escape = '\"', nullstr = '', "
        "strict_mode = true, compression = 'none', hive_partitioning = false, "
        f"filename = {literal(PATH_COLUMN)}, max_line_size = {_MAX_LINE_BYTES}, "
        f"parallel = {str(parallel).lower()})"
    )


@dataclass
class CsvStager:
    """Stages the rows of CSV files as tables and their other records as files.

    After `stage`, every record is in exactly one table of ``tables`` or one file of ``malformed``.
    The tables have ``columns`` as VARCHAR (null where a file lacks a column) and `PATH_COLUMN`;
    ``tables`` maps each table to its source files by path. The files in ``malformed`` are CSV files
    with the columns source_file, line_number, raw_line and reason.
    """

    staging: Staging
    columns: Sequence[str]
    tables: dict[str, Mapping[str, SourceFile]] = field(default_factory=dict)
    malformed: list[Path] = field(default_factory=list)

    def stage(self, files: Sequence[CsvFile]) -> None:
        """Stage files, grouping those with the same header where possible.

        Raises:
            SourceError: If a file is missing, has changed, or cannot be accounted for.
        """
        batches: dict[Header, list[SourceFile]] = {}
        for item in files:
            batches.setdefault(item.header, []).append(item.file)
        for header, batch in batches.items():
            censuses = {file.path: _count(file, file.path) for file in batch}
            self._stage_batch(batch, header, censuses)
        for item in files:
            item.file.check_unchanged()

    def _stage_batch(
        self, files: Sequence[SourceFile], header: Header, censuses: dict[Path, _Census]
    ) -> None:
        if self._accept(files, header, censuses, parallel=True):
            return
        if len(files) > 1:  # bisect to find the faulty files
            middle = len(files) // 2
            self._stage_batch(files[:middle], header, censuses)
            self._stage_batch(files[middle:], header, censuses)
        elif not self._accept(files, header, censuses, parallel=False):
            self._split(files[0], header)

    def _accept(
        self,
        files: Sequence[SourceFile],
        header: Header,
        censuses: dict[Path, _Census],
        *,
        parallel: bool,
    ) -> bool:
        """Stage all of these files, or none if a result is not provably correct."""
        if len(header.names) == 1:
            return False  # with a single column, DuckDB reads an empty line as a row
        paths = {str(file.path): file for file in files}
        try:
            table = self._load([file.path for file in files], header, parallel=parallel)
        except NOT_PARSED:
            return False
        except duckdb.IOException as error:
            raise gone(*files) from error
        accounts = self._accounts(table)
        for text, file in paths.items():
            account = accounts.get(text, _Account())
            is_short = account.longest + 3 * len(header.names) <= _SURELY_SHORT_BYTES
            if not is_short or not _balances(censuses[file.path], header, account):
                self.staging.drop_table(table)
                return False
        self.tables[table] = paths
        return True

    def _split(self, file: SourceFile, header: Header) -> None:
        """Stage one file with the grammar of `csv_records`."""
        good, bad = self.staging.new_path("rows.csv"), self.staging.new_path("malformed.csv")
        try:
            rows = _write_split(file, len(header.names), good, bad)
        except OSError as error:
            raise gone(file) from error
        plain = Header(header.names, len(header.names) - 1, 0)
        try:
            table = self._load([good], plain, parallel=False)
        except NOT_PARSED as error:
            raise _unaccounted(file) from error
        account = self._accounts(table).get(str(good), _Account())
        if account.rows != rows or not _balances(_count(file, good), plain, account):
            raise _unaccounted(file)
        good.unlink()
        self.tables[table] = {str(good): file}
        self.malformed.append(bad)

    def _load(self, paths: Sequence[Path], header: Header, *, parallel: bool) -> str:
        places = {name: f"c{index}" for index, name in enumerate(header.names)}
        every = ", ".join(f"c{index}" for index in range(len(header.names)))
        wanted = ", ".join(
            f"{places.get(name, 'CAST(NULL AS VARCHAR)')} AS {identifier(name)}"
            for name in self.columns
        )
        scan = csv_scan(paths, len(header.names), parallel=parallel)
        return self.staging.create_table(
            f"SELECT {wanted}, {PATH_COLUMN}, strlen(_text) AS _bytes, "
            f"{_occurrences(',')} AS _commas, {_occurrences(chr(10))} AS _newlines "
            f"FROM (SELECT *, concat({every}) AS _text FROM {scan})"
        )

    def _accounts(self, table: str) -> dict[str, _Account]:
        rows = self.staging.connection.execute(
            f"SELECT {PATH_COLUMN}, count(*), sum(_commas)::BIGINT, sum(_newlines)::BIGINT, "
            f"max(_bytes) FROM {table} GROUP BY {PATH_COLUMN}"
        ).fetchall()
        return {path: _Account(*numbers) for path, *numbers in rows}


def _occurrences(character: str) -> str:
    quoted = f"chr({ord(character)})"
    return (
        f"CASE WHEN contains(_text, {quoted}) "
        f"THEN strlen(_text) - strlen(replace(_text, {quoted}, '')) ELSE 0 END"
    )


def _count(file: SourceFile, path: Path) -> _Census:
    commas, newlines, last = 0, 0, b""
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                commas += block.count(b",")
                newlines += block.count(b"\n")
                last = block
    except OSError as error:
        raise gone(file) from error
    return _Census(commas, newlines, last.endswith(b"\n"))


def _balances(census: _Census, header: Header, account: _Account) -> bool:
    """Return whether rows, header and separators account for the whole file.

    The number of commas reveals extra fields; the number of line feeds reveals missing records.
    Files with empty lines or unusual line ends fail this test; the grammar handles them.
    """
    commas = header.commas + account.rows * (len(header.names) - 1) + account.commas
    ends = 1 + account.rows if census.ends_with_newline else account.rows
    return (census.commas, census.newlines) == (commas, header.newlines + ends + account.newlines)


def _write_split(file: SourceFile, field_count: int, good: Path, bad: Path) -> int:
    """Write a file's rows to ``good`` and its other records to ``bad``; return the row count."""
    rows = 0
    with (
        good.open("w", encoding="utf-8", newline="") as good_stream,
        bad.open("w", encoding="utf-8", newline="") as bad_stream,
    ):
        malformed = csv.writer(bad_stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        malformed.writerow(("source_file", "line_number", "raw_line", "reason"))
        good_stream.write(",".join(f"c{index}" for index in range(field_count)) + "\n")
        for record in split_records(file.path, field_count):
            if record.reason is None:
                good_stream.write(record.text + "\n")
                rows += 1
            else:
                text = record.text[:_MAX_RAW_LINE_CHARACTERS]
                # Show bytes that are not UTF-8 as \xff.
                shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                malformed.writerow((file.relative_path, record.line_number, shown, record.reason))
    return rows


def gone(*files: SourceFile) -> SourceError:
    """Return the error for files that can no longer be opened or have changed."""
    for file in files:
        file.check_unchanged()
    names = ", ".join(file.relative_path for file in files)
    return SourceError(f"{names} cannot be read. Check that it still exists and is readable.")


def _unaccounted(file: SourceFile) -> SourceError:
    return SourceError(
        f"{file.relative_path} cannot be read as CSV without losing records. Save it again as CSV "
        "in UTF-8 with commas and double quotes, or as Parquet."
    )
