"""The grammar of a CSV file: where its records begin and end, and which of them are rows.

The reader lets DuckDB parse whatever it provably parses by this same grammar; `split_records` is for
the files that hold something else.

A record is one line, ended by LF, CR LF or CR, of fields separated by commas. A field that begins
with a double quote (one space before it is skipped) ends at the next one that is not doubled, after
which only spaces may follow; it may hold commas, doubled quotes and line ends. Any other field is
taken as it stands, quotes inside of it included. A line without any character is not a record.

Of a record whose quoting is broken only its first line is given up: reading goes on with the next
line, so that a quote that is never closed costs a line and not the rest of the file.
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

# DuckDB's time to plan a scan grows with the number of columns, whether they are wanted or not.
MAX_COLUMNS = 10_000
# Far above any honest row; what is longer is a lost line end or not a CSV file.
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
    """Why a record is not a row."""

    FIELD_COUNT = "malformed_row_field_count"
    QUOTING = "malformed_row_quoting"
    ENCODING = "malformed_row_encoding"
    TOO_LONG = "malformed_row_too_long"


@dataclass(frozen=True)
class Header:
    """The first record of a file.

    ``names`` are trimmed and in the order of the file; an empty one is a column without a name.
    ``commas`` and ``newlines`` count those of its text, without the line end.
    """

    names: tuple[str, ...]
    commas: int
    newlines: int


class Record(NamedTuple):
    """One record, a row if it has no reason not to be one.

    ``line_number`` is that of its first line, the header's being 1. ``text`` is without the line
    end, and cut if it is too long.
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
        SourceError: there is no header, it is not CSV text in UTF-8, two columns have one name, or
            there are more than `MAX_COLUMNS`.
    """
    with path.open("rb") as stream:
        if stream.read(2) in _UTF_16_MARKS:
            raise SourceError(f"{shown} is in UTF-16: save it as CSV in UTF-8.")
    with _open_text(path) as text:
        record = next(_records(_lines(text), _COMPLETE), None)
    if record is None or record.line_number != 1:
        raise SourceError(
            f"{shown} has no header: its first line has to name the columns, separated by commas."
        )
    if "\0" in record.text or record.reason is MalformedReason.ENCODING:
        raise SourceError(f"The header of {shown} is not UTF-8 text: save it as CSV in UTF-8.")
    if record.reason is not None:
        raise SourceError(
            f"The header of {shown} cannot be read ({record.reason}): its first line has to name "
            "the columns, separated by commas."
        )
    names = tuple(_value(field).strip() for field in _FIELDS.findall(record.text))
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"The header of {shown} names {len(names):,} columns, more than {MAX_COLUMNS:,}: leave "
            "out those that are not needed."
        )
    twice = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if twice:
        raise SourceError(
            f"The header of {shown} names {', '.join(twice)} more than once: rename or remove one."
        )
    return Header(names, record.text.count(","), record.text.count("\n"))


def split_records(path: Path, field_count: int) -> Iterator[Record]:
    """Yield every record after the header, whether it is a row or not, in the file's order."""
    row = re.compile(rf"{_FIELD}(?:,{_FIELD}){{{field_count - 1}}}")
    with _open_text(path) as text:
        lines = _lines(text)
        next(_records(lines, _COMPLETE), None)
        yield from _records(lines, row)


def _open_text(path: Path) -> TextIO:
    # Bytes that are not UTF-8 become lone surrogates, which are found again in the record.
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
    """Read on to the line that closes an open quote and return the record's text.

    Nothing closes it properly: return None, with every line after the first one back in ``ahead``.
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
