"""Split CSV files into records according to a grammar, which also defines which records are rows.

DuckDB parses a file if the result provably follows the grammar. `split_records` parses all other files.

A record is a line of fields that ends with LF, CR LF or CR. Fields are separated by a comma, semicolon,
tab or pipe. This delimiter is detected from the header unless a setting specifies the delimiter. A
quoted field starts with a double quote, optionally after one space, and ends at the next quote that is
not doubled, optionally followed by spaces. A quoted field may contain delimiters, doubled quotes and
line endings. Any other field is read literally, including any quotes. An empty line is not a record.

If a record's quoting is invalid, only the record's first line is rejected, and reading continues with
the next line. An unclosed quote therefore affects only one line, not the rest of the file.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from itertools import islice
from typing import NamedTuple, TextIO

from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceFile
from monstera_assets.source.text_files import open_text

# DuckDB's planning time for a scan grows with the number of columns, including unused columns.
MAX_COLUMNS = 10_000
# Real rows are much shorter. A longer row is missing a line ending or is not CSV.
MAX_RECORD_CHARACTERS = 500_000

DELIMITERS = (",", ";", "\t", "|")
_VERIFIED_RECORDS = 100

_QUOTED = r' ?"[^"]*+(?:""[^"]*+)*+" *+'
_WITHIN = r'[^"]*+(?:""[^"]*+)*+'
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class MalformedReason(StrEnum):
    """Reason why a record is not a row."""

    FIELD_COUNT = "malformed_row_field_count"
    QUOTING = "malformed_row_quoting"
    ENCODING = "malformed_row_encoding"
    TOO_LONG = "malformed_row_too_long"
    JSON = "malformed_row_json"


@dataclass(frozen=True)
class Header:
    """The first record in a file.

    ``names`` contains the trimmed column names in file order. An unnamed column has an empty name.
    ``separators`` and ``newlines`` are the numbers of delimiters and line feeds in the header's text,
    excluding the line ending.
    """

    names: tuple[str, ...]
    delimiter: str
    separators: int
    newlines: int


class Record(NamedTuple):
    """One record, which is a row if ``reason`` is None.

    ``line_number`` is the number of the record's first line. The header is line 1. ``text`` excludes
    the line ending and is truncated if the text is too long.
    """

    line_number: int
    text: str
    reason: MalformedReason | None


class Line(NamedTuple):
    """One line, including its line ending. ``is_cut`` is true if the line is too long for a record."""

    number: int
    text: str
    is_cut: bool


class _Grammar(NamedTuple):
    field: str
    fields: re.Pattern[str]
    complete: re.Pattern[str]
    open: re.Pattern[str]
    closed_after: re.Pattern[str]
    open_after: re.Pattern[str]


@cache
def _grammar(delimiter: str) -> _Grammar:
    mark = re.escape(delimiter)
    field = rf'(?:{_QUOTED}|(?! ?")[^{mark}\r\n]*+)'
    opening = rf'(?:{field}{mark})* ?"{_WITHIN}'
    return _Grammar(
        field,
        re.compile(rf"(?:^|{mark})({field})"),
        re.compile(rf"{field}(?:{mark}{field})*"),
        re.compile(opening),
        re.compile(rf'{_WITHIN}" *+(?:{mark}{field})*'),
        re.compile(rf'{_WITHIN}(?:" *+{mark}{opening})?'),
    )


@cache
def _row(delimiter: str, field_count: int) -> re.Pattern[str]:
    field, mark = _grammar(delimiter).field, re.escape(delimiter)
    return re.compile(rf"{field}(?:{mark}{field}){{{field_count - 1}}}")


def read_header(file: SourceFile, known: frozenset[str]) -> Header:
    """Read a file's header, and detect the delimiter unless the delimiter is set.

    The delimiter that yields the most `known` names is used. Ties are resolved by the most rows among
    the first 100 records, and then by the most columns.

    Raises:
        SourceError: If the header is missing, is not CSV text in UTF-8, or has more than
            `MAX_COLUMNS` columns.
    """
    shown = file.relative_path
    allowed = (file.delimiter,) if file.delimiter else DELIMITERS
    with open_text(file) as text:
        lines = read_lines(text)
        first = next(lines, None)
        if first is None or not first.text.rstrip("\r\n"):
            raise SourceError(
                f"{shown} does not have a header. List the column names, separated by commas, on "
                "the first line."
            )
        header = None if first.is_cut else _plain_header(first.text.rstrip("\r\n"), known, allowed)
        if header is None:
            header = _best_header(
                [first, *islice(lines, 3 * _VERIFIED_RECORDS)], known, allowed, shown
            )
    if len(header.names) > MAX_COLUMNS:
        raise SourceError(
            f"The header of {shown} contains {len(header.names):,} columns, which exceeds the limit "
            f"of {MAX_COLUMNS:,}. Remove the columns that are not needed."
        )
    return header


@lru_cache
def _plain_header(text: str, known: frozenset[str], allowed: tuple[str, ...]) -> Header | None:
    """Return the header from a line without quotes, or None if several delimiters fit equally well."""
    if '"' in text or "\0" in text or encoding_fault(text):
        return None
    headers = [_header(text, delimiter) for delimiter in _delimiters(text, allowed)]
    matches = [_matches(header, known) for header in headers]
    return headers[matches.index(max(matches))] if matches.count(max(matches)) == 1 else None


def _best_header(
    lines: Sequence[Line], known: frozenset[str], allowed: tuple[str, ...], shown: str
) -> Header:
    ranked = []
    for delimiter in _delimiters(lines[0].text, allowed):
        records = _records(iter(lines), _grammar(delimiter).complete, delimiter)
        first = next(records)
        header = _header(first.text, delimiter)
        count = min(len(header.names), MAX_COLUMNS)
        row = _row(delimiter, count)
        rows = sum(bool(row.fullmatch(each.text)) for each in islice(records, _VERIFIED_RECORDS))
        ranked.append(((first.reason is None, _matches(header, known), rows, count), first, header))
    _, record, header = max(ranked, key=lambda each: each[0])
    if "\0" in record.text or record.reason is MalformedReason.ENCODING:
        raise SourceError(
            f"The header of {shown} is not UTF-8 text. Save the file as CSV in UTF-8."
        )
    if record.reason is not None:
        raise SourceError(
            f"The header of {shown} cannot be read ({record.reason}). List the column names, separated "
            "by commas, on the first line."
        )
    return header


def _delimiters(text: str, allowed: Sequence[str]) -> Sequence[str]:
    return [delimiter for delimiter in allowed if delimiter in text] or allowed[:1]


def _header(text: str, delimiter: str) -> Header:
    names = tuple(_value(field).strip() for field in _grammar(delimiter).fields.findall(text))
    return Header(names, delimiter, text.count(delimiter), text.count("\n"))


def _matches(header: Header, known: frozenset[str]) -> int:
    return len(known.intersection(name.lower() for name in header.names))


def split_records(file: SourceFile, header: Header) -> Iterator[Record]:
    """Yield every record after the header in file order, including records that are not rows."""
    grammar = _grammar(header.delimiter)
    with open_text(file) as text:
        lines = read_lines(text)
        next(_records(lines, grammar.complete, header.delimiter), None)
        yield from _records(lines, _row(header.delimiter, len(header.names)), header.delimiter)


def read_lines(stream: TextIO) -> Iterator[Line]:
    """Yield the lines in a stream."""
    number = 0
    while text := stream.readline(MAX_RECORD_CHARACTERS + 1):
        number += 1
        is_cut = len(text) > MAX_RECORD_CHARACTERS
        rest = text
        while is_cut and rest and not rest.endswith(("\n", "\r")):
            rest = stream.readline(MAX_RECORD_CHARACTERS)
        yield Line(number, text, is_cut)


def _records(lines: Iterator[Line], row: re.Pattern[str], delimiter: str) -> Iterator[Record]:
    grammar = _grammar(delimiter)
    ahead: deque[Line] = deque()
    while line := ahead.popleft() if ahead else next(lines, None):
        text = line.text.rstrip("\r\n")
        if not text:
            continue
        if line.is_cut:
            reason: MalformedReason | None = MalformedReason.TOO_LONG
        elif row.fullmatch(text):
            reason = encoding_fault(text)
        elif grammar.complete.fullmatch(text):
            reason = MalformedReason.FIELD_COUNT
        elif grammar.open.fullmatch(text) and (whole := _close(line, ahead, lines, grammar)):
            text = whole
            is_row = row.fullmatch(text)
            reason = encoding_fault(text) if is_row else MalformedReason.FIELD_COUNT
        else:
            reason = MalformedReason.QUOTING
        yield Record(line.number, text, reason)


def too_long(line: Line) -> MalformedReason | None:
    """Return `TOO_LONG` if a line is too long to be a row, or None otherwise."""
    return MalformedReason.TOO_LONG if line.is_cut else None


def encoding_fault(text: str) -> MalformedReason | None:
    """Return `ENCODING` if the text contains lone surrogates, or None otherwise."""
    if not text.isascii() and _ESCAPED_BYTE.search(text):
        return MalformedReason.ENCODING
    return None


def _close(first: Line, ahead: deque[Line], lines: Iterator[Line], grammar: _Grammar) -> str | None:
    """Read through the line that closes an open quote, and return the record's text.

    If no line closes the quote properly, return None and put the lines that were read into ``ahead``.
    """
    texts = [first.text]
    size = len(first.text)
    taken: list[Line] = []
    while line := ahead.popleft() if ahead else next(lines, None):
        taken.append(line)
        size += len(line.text)
        if size > MAX_RECORD_CHARACTERS:
            break
        text = line.text.rstrip("\r\n")
        if grammar.closed_after.fullmatch(text):
            return "".join([*texts, text])
        if not grammar.open_after.fullmatch(text):
            break
        texts.append(line.text)
    ahead.extendleft(reversed(taken))
    return None


def _value(field: str) -> str:
    if re.fullmatch(_QUOTED, field):
        return field.strip(" ")[1:-1].replace('""', '"')
    return field
