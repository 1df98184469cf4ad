"""Stage CSV and JSON files as tables. DuckDB's parser is used if its result is provably correct.

DuckDB's strict CSV parser is fast but has three flaws. A single bad record makes the whole statement
fail, a row with extra empty fields is accepted, and an unterminated record at the end of a file can
disappear without an error. The `store_rejects` option does not fix the flaws. In parallel mode, lines
inside a quoted value become rows. An unterminated quote also discards the valid rows after the quote,
and mixed line endings still cause an error.

A file's parsed rows are therefore accepted only if they account for every delimiter and line feed in
the file. All other files are split according to the grammar in `csv_records`. DuckDB then reads each
file's rows from a rewritten copy, and all other records are listed with a reason. Small files are also
split and combined into a single copy, because DuckDB takes about a millisecond to open a file. JSON
files are also split, because DuckDB's JSON readers drop invalid lines.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb

from monstera_assets.source.columns import places
from monstera_assets.source.csv_records import (
    MAX_RECORD_CHARACTERS,
    Header,
    Record,
    read_header,
    split_records,
)
from monstera_assets.source.errors import SourceError
from monstera_assets.source.json_lines import IS_OBJECT, LINE, json_records, json_values
from monstera_assets.source.layout import Compression, InputFormat, SourceFile
from monstera_assets.source.sql import PATH_COLUMN, identifier, literal, path_list
from monstera_assets.source.staging import Staging
from monstera_assets.source.text_files import gone, open_bytes

# Values up to this size cannot come from a record that exceeds the grammar's limit.
_SURELY_SHORT_BYTES = MAX_RECORD_CHARACTERS * 2 // 5
_MAX_LINE_BYTES = 4 * MAX_RECORD_CHARACTERS + 64
MAX_RAW_LINE_CHARACTERS = 10_000
_BLOCK_BYTES = 1 << 20
# Below this size, splitting a file is faster than opening it in DuckDB.
_SMALL_BYTES = 1 << 16
_MANY_FILES = 16
_COMPRESSION_RATIO = 8
# DuckDB errors about a file's content, as opposed to interruptions or a lack of memory.
NOT_PARSED = (duckdb.InvalidInputException, duckdb.NotImplementedException)


@dataclass(frozen=True)
class CsvFile:
    """A CSV file and its header."""

    file: SourceFile
    header: Header


class _Census(NamedTuple):
    """Counts of the separators and newlines in a file's bytes."""

    separators: int
    newlines: int
    ends_with_newline: bool


class _Account(NamedTuple):
    """Counts of the rows parsed from a file."""

    rows: int = 0
    separators: int = 0
    newlines: int = 0
    longest: int = 0


def open_csv(file: SourceFile, known: frozenset[str]) -> CsvFile:
    """Read a CSV file's header. `known` contains the names of expected columns in lowercase.

    Raises:
        SourceError: If the file has no readable header, is missing, or has changed since discovery.
    """
    file.check_unchanged()
    return CsvFile(file, read_header(file, known))


def csv_scan(
    paths: Sequence[Path],
    field_count: int,
    delimiter: str,
    *,
    parallel: bool,
    compression: Compression = Compression.NONE,
) -> str:
    """Return the table function that reads files with `field_count` columns named c0, c1 and so on."""
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(field_count))
    return (
        f"read_csv({path_list(paths)}, columns = {{{columns}}}, auto_detect = false, "
        f"header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"', nullstr = '', "
        f"strict_mode = true, compression = {literal(compression)}, hive_partitioning = false, "
        f"filename = {literal(PATH_COLUMN)}, max_line_size = {_MAX_LINE_BYTES}, "
        f"parallel = {str(parallel).lower()})"
    )


class StagedTable(NamedTuple):
    """A relation with its files and row number. `PATH_COLUMN` contains a file's path or number."""

    relation: str
    files: Sequence[SourceFile]
    row_number: str


@dataclass
class TextStager:
    """Stage the rows in text files as tables, and all other records as files or queries.

    After `stage_csv` and `stage_json` run, every record is in exactly one of ``rows``, ``not_json`` and
    ``malformed``. The relations in ``rows`` have ``columns`` as VARCHAR, with nulls for columns that
    are missing from a file. The relations in ``not_json`` have the column `LINE`. The files in
    ``malformed`` are CSV files with the columns source_file, line_number, raw_line and reason.
    """

    staging: Staging
    columns: Sequence[str]
    every_file: InitVar[Sequence[SourceFile]]
    rows: list[StagedTable] = field(default_factory=list)
    not_json: list[StagedTable] = field(default_factory=list)
    malformed: list[Path] = field(default_factory=list)

    def __post_init__(self, every_file: Sequence[SourceFile]) -> None:
        self._numbers = {file.relative_path: str(at) for at, file in enumerate(every_file)}

    def stage_csv(self, files: Sequence[CsvFile]) -> None:
        """Stage CSV files, and group files with the same header where possible.

        Raises:
            SourceError: If a file is missing, has changed, contains a column name twice, or cannot be
                read without losing records.
        """
        batches: dict[tuple[Header, Compression], list[SourceFile]] = {}
        for item in files:
            batches.setdefault((item.header, item.file.compression), []).append(item.file)
        to_split: dict[Header, list[SourceFile]] = {}
        for (header, _), batch in batches.items():
            small = [file for file in batch if _is_small(file)]
            others = [file for file in batch if not _is_small(file)]
            if len(small) < _MANY_FILES:
                small, others = [], batch
            censuses = {file.path: _count(file, header.delimiter) for file in others}
            small += self._stage_batch(others, header, censuses)
            to_split.setdefault(header, []).extend(small)
        for header, batch in to_split.items():
            records = partial(split_records, header=header)
            self.rows += self._split(batch, header, self._selected(header, batch, 2), records)
        for item in files:
            item.file.check_unchanged()

    def stage_json(self, files: Sequence[SourceFile]) -> frozenset[str]:
        """Stage JSON files, and return the lowercase keys of all objects.

        Raises:
            SourceError: If a file is missing, has changed, or cannot be read without losing records.
        """
        header = Header((LINE,), ",", 0, 0)
        lines = self._split(files, header, [f"c2 AS {LINE}"], json_records)
        keys: set[str] = set()
        for table, origins, row_number in lines:
            objects = f"(FROM {table} WHERE {IS_OBJECT})"
            found = self.staging.connection.execute(
                f"SELECT DISTINCT unnest(json_keys({LINE})) FROM {objects}"
            ).fetchall()
            expressions, extract = json_values(self.columns, [key for (key,) in found])
            values = ", ".join(
                f"{value} AS {identifier(name)}"
                for name, value in zip(self.columns, expressions, strict=True)
            )
            query = (
                f"(SELECT {PATH_COLUMN}, {row_number} AS _row, {values} "
                f"FROM (SELECT *, {extract} AS _values FROM {objects}))"
            )
            self.rows.append(StagedTable(query, origins, "_row"))
            others = f"(FROM {table} WHERE NOT ({IS_OBJECT}))"
            self.not_json.append(StagedTable(others, origins, row_number))
            keys.update(key.strip().lower() for (key,) in found)
        for file in files:
            file.check_unchanged()
        return frozenset(keys)

    def _stage_batch(
        self, files: Sequence[SourceFile], header: Header, censuses: Mapping[Path, _Census]
    ) -> list[SourceFile]:
        """Stage the files that DuckDB reads correctly, and return the remaining files."""
        if not files or self._accept(files, header, censuses, parallel=True):
            return []
        if len(files) > 1:  # bisect to find the faulty files
            middle = len(files) // 2
            return [
                *self._stage_batch(files[:middle], header, censuses),
                *self._stage_batch(files[middle:], header, censuses),
            ]
        return [] if self._accept(files, header, censuses, parallel=False) else list(files)

    def _accept(
        self,
        files: Sequence[SourceFile],
        header: Header,
        censuses: Mapping[Path, _Census],
        *,
        parallel: bool,
    ) -> bool:
        """Stage all files, or stage no files if a result is not provably correct."""
        if len(header.names) == 1:
            return False  # with a single column, DuckDB reads an empty line as a row
        paths = {str(file.path): file for file in files}
        selected = [*self._selected(header, files), PATH_COLUMN]
        try:
            table = self._load(
                [file.path for file in files],
                header,
                selected,
                parallel=parallel,
                compression=files[0].compression,
            )
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
        self.rows.append(StagedTable(f"(SELECT *, rowid AS _row FROM {table})", files, "_row"))
        return True

    def _split(
        self,
        files: Sequence[SourceFile],
        header: Header,
        selected: Sequence[str],
        records: Callable[[SourceFile], Iterator[Record]],
    ) -> list[StagedTable]:
        """Stage records through one copy of all files, with the file as c0 and the position as c1."""
        if not files:
            return []
        origins = {self._numbers[file.relative_path]: file for file in files}
        good, bad = self.staging.new_path("rows.csv"), self.staging.new_path("malformed.csv")
        counts = _write_split(origins, header, records, good, bad)
        whole = Header(("", "", *header.names), header.delimiter, len(header.names) + 1, 0)
        position = "CAST(c1 AS BIGINT) AS _row"
        census = _count(SourceFile(good, good.name, InputFormat.CSV, None), header.delimiter)
        for parallel in (True, False):
            try:
                table = self._load(
                    [good],
                    whole,
                    [*selected, f"c0 AS {PATH_COLUMN}", position],
                    parallel=parallel,
                )
            except NOT_PARSED:
                continue
            accounts = self._accounts(table)
            total = _Account(*map(sum, zip(*accounts.values(), strict=True)))
            rows = {number: account.rows for number, account in accounts.items()}
            if rows == counts and _balances(census, whole, total):
                good.unlink()
                self.malformed.append(bad)
                return [StagedTable(table, files, "_row")]
            self.staging.drop_table(table)
        if len(files) == 1:
            raise SourceError(
                f"{files[0].relative_path} cannot be read without losing records. Save the file as "
                "UTF-8 CSV with double quotes, or as Parquet."
            )
        middle = len(files) // 2
        halves = (files[:middle], files[middle:])
        return [table for half in halves for table in self._split(half, header, selected, records)]

    def _selected(self, header: Header, files: Sequence[SourceFile], leading: int = 0) -> list[str]:
        found = places(header.names, self.columns, files[0].relative_path) if files else {}
        return [
            f"{f'c{found[name] + leading}' if name in found else 'CAST(NULL AS VARCHAR)'}"
            f" AS {identifier(name)}"
            for name in self.columns
        ]

    def _load(
        self,
        paths: Sequence[Path],
        header: Header,
        selected: Sequence[str],
        *,
        parallel: bool,
        compression: Compression = Compression.NONE,
    ) -> str:
        every = ", ".join(f"c{index}" for index in range(len(header.names)))
        scan = csv_scan(
            paths, len(header.names), header.delimiter, parallel=parallel, compression=compression
        )
        return self.staging.create_table(
            f"SELECT {', '.join(selected)}, strlen(_text) AS _bytes, "
            f"{_occurrences(header.delimiter)} AS _separators, "
            f"{_occurrences(chr(10))} AS _newlines "
            f"FROM (SELECT *, concat({every}) AS _text FROM {scan})"
        )

    def _accounts(self, table: str) -> dict[str, _Account]:
        rows = self.staging.connection.execute(
            f"SELECT {PATH_COLUMN}, count(*), sum(_separators)::BIGINT, sum(_newlines)::BIGINT, "
            f"max(_bytes) FROM {table} GROUP BY {PATH_COLUMN}"
        ).fetchall()
        return {path: _Account(*numbers) for path, *numbers in rows}


def _is_small(file: SourceFile) -> bool:
    ratio = 1 if file.compression is Compression.NONE else _COMPRESSION_RATIO
    return file.stamp is not None and file.stamp.size_bytes * ratio <= _SMALL_BYTES


def _occurrences(character: str) -> str:
    quoted = f"chr({ord(character)})"
    return (
        f"CASE WHEN contains(_text, {quoted}) "
        f"THEN strlen(_text) - strlen(replace(_text, {quoted}, '')) ELSE 0 END"
    )


def _count(file: SourceFile, delimiter: str) -> _Census:
    mark = delimiter.encode()
    separators, newlines, last = 0, 0, b""
    with open_bytes(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            separators += block.count(mark)
            newlines += block.count(b"\n")
            last = block
    return _Census(separators, newlines, last.endswith(b"\n"))


def _balances(census: _Census, header: Header, account: _Account) -> bool:
    """Return whether the rows, the header and the separators account for the whole file.

    The number of delimiters reveals extra fields, and the number of line feeds reveals missing records.
    Files with empty lines or unusual line endings fail this test and are split by the grammar instead.
    """
    between = len(header.names) - 1
    separators = header.separators + account.rows * between + account.separators
    ends = 1 + account.rows if census.ends_with_newline else account.rows
    newlines = header.newlines + ends + account.newlines
    return (census.separators, census.newlines) == (separators, newlines)


def _write_split(
    origins: Mapping[str, SourceFile],
    header: Header,
    records: Callable[[SourceFile], Iterator[Record]],
    good: Path,
    bad: Path,
) -> dict[str, int]:
    """Write rows to ``good`` and all other records to ``bad``, and return the row count per file."""
    counts: dict[str, int] = {}
    mark = header.delimiter
    with (
        good.open("w", encoding="utf-8", newline="") as good_stream,
        bad.open("w", encoding="utf-8", newline="") as bad_stream,
    ):
        malformed = csv.writer(bad_stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        malformed.writerow(("source_file", "line_number", "raw_line", "reason"))
        good_stream.write(mark.join(f"c{index}" for index in range(len(header.names) + 2)) + "\n")
        for number, file in origins.items():
            rows = 0
            for line_number, text, reason in records(file):
                if reason is None:
                    good_stream.write(f"{number}{mark}{line_number}{mark}{text}\n")
                    rows += 1
                else:
                    cut = text[:MAX_RAW_LINE_CHARACTERS]
                    # Show bytes that are not valid UTF-8 in the form \xff.
                    shown = cut.encode("utf-8", "surrogateescape").decode(
                        "utf-8", "backslashreplace"
                    )
                    malformed.writerow((file.relative_path, line_number, shown, reason))
            if rows:
                counts[number] = rows
    return counts
