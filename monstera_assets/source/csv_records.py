"""The grammar of CSV files: where records begin and end, and which of them are rows.

DuckDB parses files where its result provably follows this grammar; `split_records` parses the rest.

A record is one line of comma-separated fields, ended by LF, CR LF or CR. A field that begins
with a double quote (after at most one space) ends at the next quote that is not doubled, optionally
followed by spaces; it may contain commas, doubled quotes and line ends. Any other field is taken
literally, including quotes inside it. An empty line is not a record.

If the quoting of a record is broken, only its first line is rejected and reading continues with the
next line. An unclosed quote thus costs one line, not the rest of the file.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TextIO

from monstera_assets.source.errors import SourceError

# DuckDB's planning time for a scan grows with the number of columns, even of unused ones.
MAX_COLUMNS = 10_000
# Far above any real row: a longer one has lost a line end or is not CSV.
MAX_RECORD_CHARACTERS = 500_000

_QUOTED = r' ?"[^"]*+(?:""[^"]*+)*+" *+'
_FIELD = rf'(?:{_QUOTED}|(?! ?")[^,\r\n]*+)'
_WITHIN = r'[^"]*+(?:""[^"]*+)*+'
_OPENING = rf'(?:{_FIELD},)* ?"{_WITHIN}'
_FIELDS = re.compile(rf"(?:^|,)({_FIELD})")
_COMPLETE = re.compile(rf"{_FIELD}(?:,{_FIELD})*")
_OPEN = re.compile(_OPENING)
_CLOSED_AFTER = re.compile(rf'{_WITHIN}" *+(?:,{_FIELD})*')
_OPEN_AFTER = re.compile(rf'{_WITHIN}(?:" *+,{_OPENING})?')
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class MalformedReason(StrEnum):
    """Reason why a record is not a row."""

    FIELD_COUNT = "malformed_row_field_count"
    QUOTING = "malformed_row_quoting"
    ENCODING = "malformed_row_encoding"
    TOO_LONG = "malformed_row_too_long"


@dataclass(frozen=True)
class Header:
    """The first record of a file.

    ``names`` are trimmed and in file order; an empty name means an unnamed column. ``commas`` and
    ``newlines`` are counts in its text, excluding the line end.
    """

    names: tuple[str, ...]
    commas: int
    newlines: int


class Record(NamedTuple):
    """One record; it is a row if ``reason`` is None.

    ``line_number`` is that of its first line; the header is line 1. ``text`` excludes the line end
    and is truncated if too long.
    """

    line_number: int
    text: str
    reason: MalformedReason | None


class _Line(NamedTuple):
    number: int
    text: str
    is_cut: bool


def read_header(path: Path, shown: str) -> Header:
    """Read the header of a file.

    Raises:
        SourceError: If the header is missing, is not CSV text in UTF-8, repeats a column name, or
            has more than `MAX_COLUMNS` columns.
    """
    with path.open("rb") as stream:
        if stream.read(2) in _UTF_16_MARKS:
            raise SourceError(f"{shown} is encoded in UTF-16. Save it as CSV in UTF-8.")
    with _open_text(path) as text:
        record = next(_records(_lines(text), _COMPLETE), None)
    if record is None or record.line_number != 1:
        raise SourceError(
            f"{shown} has no header. Name the columns, separated by commas, in the first line."
        )
    if "\0" in record.text or record.reason is MalformedReason.ENCODING:
        raise SourceError(f"The header of {shown} is not UTF-8 text. Save it as CSV in UTF-8.")
    if record.reason is not None:
        raise SourceError(
            f"The header of {shown} cannot be read ({record.reason}). Name the columns, separated "
            "by commas, in the first line."
        )
    names = tuple(_value(field).strip() for field in _FIELDS.findall(record.text))
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"The header of {shown} names {len(names):,} columns; the limit is {MAX_COLUMNS:,}. "
            "Remove the columns that are not needed."
        )
    twice = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if twice:
        raise SourceError(
            f"The header of {shown} names {', '.join(twice)} more than once. Rename or remove one."
        )
    return Header(names, record.text.count(","), record.text.count("\n"))


def split_records(path: Path, field_count: int) -> Iterator[Record]:
    """Yield every record after the header, whether or not it is a row, in file order."""
    row = re.compile(rf"{_FIELD}(?:,{_FIELD}){{{field_count - 1}}}")
    with _open_text(path) as text:
        lines = _lines(text)
        next(_records(lines, _COMPLETE), None)
        yield from _records(lines, row)


def _open_text(path: Path) -> TextIO:
    # Bytes that are not UTF-8 become lone surrogates, which `_encoding_fault` detects.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(stream: TextIO) -> Iterator[_Line]:
    number = 0
    while text := stream.readline(MAX_RECORD_CHARACTERS + 1):
        number += 1
        is_cut = len(text) > MAX_RECORD_CHARACTERS
        rest = text
        while is_cut and rest and not rest.endswith(("\n", "\r")):
            rest = stream.readline(MAX_RECORD_CHARACTERS)
        yield _Line(number, text, is_cut)


def _records(lines: Iterator[_Line], row: re.Pattern[str]) -> Iterator[Record]:
    ahead: deque[_Line] = deque()
    while line := ahead.popleft() if ahead else next(lines, None):
        text = line.text.rstrip("\r\n")
        if not text:
            continue
        if line.is_cut:
            reason: MalformedReason | None = MalformedReason.TOO_LONG
        elif row.fullmatch(text):
            reason = _encoding_fault(text)
        elif _COMPLETE.fullmatch(text):
            reason = MalformedReason.FIELD_COUNT
        elif _OPEN.fullmatch(text) and (whole := _close(line, ahead, lines)):
            text = whole
            is_row = row.fullmatch(text)
            reason = _encoding_fault(text) if is_row else MalformedReason.FIELD_COUNT
        else:
            reason = MalformedReason.QUOTING
        yield Record(line.number, text, reason)


def _encoding_fault(text: str) -> MalformedReason | None:
    if not text.isascii() and _ESCAPED_BYTE.search(text):
        return MalformedReason.ENCODING
    return None


def _close(first: _Line, ahead: deque[_Line], lines: Iterator[_Line]) -> str | None:
    """Read up to the line that closes an open quote and return the record's text.

    If no line closes it properly, return None and put the lines that were read into ``ahead``.
    """
    texts = [first.text]
    size = len(first.text)
    taken: list[_Line] = []
    while line := ahead.popleft() if ahead else next(lines, None):
        taken.append(line)
        size += len(line.text)
        if size > MAX_RECORD_CHARACTERS:
            break
        text = line.text.rstrip("\r\n")
        if _CLOSED_AFTER.fullmatch(text):
            return "".join([*texts, text])
        if not _OPEN_AFTER.fullmatch(text):
            break
        texts.append(line.text)
    ahead.extendleft(reversed(taken))
    return None


def _value(field: str) -> str:
    if re.fullmatch(_QUOTED, field):
        return field.strip(" ")[1:-1].replace('""', '"')
    return field
