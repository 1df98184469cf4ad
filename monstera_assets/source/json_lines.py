"""Split JSON lines and arrays into records, and query the values in JSON objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from monstera_assets.source.csv_records import (
    MAX_RECORD_CHARACTERS,
    Line,
    MalformedReason,
    Record,
    encoding_fault,
    read_lines,
    too_long,
)
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceFile
from monstera_assets.source.sql import identifier, literal
from monstera_assets.source.text_files import open_text

LINE = "_line"
IS_OBJECT = f"json_valid({LINE}) AND starts_with(ltrim({LINE}), '{{')"

_MAY_BE_ARRAY = re.compile(r"\.json(\.\w+)?$", re.IGNORECASE)
_SPACE = re.compile(r"\s*")


def json_records(file: SourceFile) -> Iterator[Record]:
    """Yield each nonblank line, or each array element if a `.json` file contains an array.

    A record without a malformed reason is not necessarily valid JSON.

    Raises:
        SourceError: If the file cannot be read or contains an invalid array.
    """
    with open_text(file) as text:
        if _MAY_BE_ARRAY.search(file.relative_path) and _first_character(text.read(1 << 16)) == "[":
            text.seek(0)
            yield from _elements(file, text.read())
            return
        text.seek(0)
        for line in read_lines(text):
            if body := line.text.strip():
                yield _record(line.number, body, too_long(line) or encoding_fault(body))


def _record(number: int, text: str, reason: MalformedReason | None) -> Record:
    """Return a record. If the record may be a row, its text is quoted as a CSV field."""
    quoted = text if reason is not None else '"' + text.replace('"', '""') + '"'
    return Record(number, quoted, reason)


def _first_character(text: str) -> str:
    return text.lstrip()[:1]


def _elements(file: SourceFile, content: str) -> Iterator[Record]:
    decode = json.JSONDecoder().raw_decode
    position, line = content.index("["), 1
    try:
        while content[position] != "]":
            start = _after_space(content, position + 1)
            if content[start] == "]" and content[position] == "[":
                position = start
                break
            line += content.count("\n", position, start)
            _, end = decode(content, start)
            element = content[start:end]
            cut = Line(line, element, is_cut=len(element) > MAX_RECORD_CHARACTERS)
            yield _record(line, element, too_long(cut) or encoding_fault(element))
            position = _after_space(content, end)
            line += content.count("\n", start, position)
            if content[position] not in ",]":
                raise ValueError(content[position])
        if _after_space(content, position + 1) < len(content):
            raise ValueError(content[-1])
    except (ValueError, IndexError, RecursionError):
        raise SourceError(
            f"{file.relative_path} contains an invalid JSON array (after line {line}). Correct the "
            "file, or save one object per line in a .jsonl file."
        ) from None


def _after_space(content: str, position: int) -> int:
    found = _SPACE.match(content, position)
    return position if found is None else found.end()


def json_values(columns: Sequence[str], keys: Sequence[str]) -> tuple[list[str], str]:
    """Return one expression per column, and the expression that extracts the values from `LINE`.

    Each column gets the value of the key with the same name, ignoring case. Lists of strings are joined
    with ``|``, which separates list items in sources. Other nested values become JSON text.

    Args:
        columns: lowercase column names.
        keys: the keys of all objects.
    """
    # If an object has several matching keys, the exact name takes precedence.
    paths = {
        name: sorted((key for key in keys if key.strip().lower() == name), key=lambda k: k != name)
        for name in columns
    }
    every = [key for found in paths.values() for key in found]
    places = {key: f"_values[{place}]" for place, key in enumerate(every, start=1)}
    expressions = [_value([places[key] for key in paths[name]]) for name in columns]
    listed = ", ".join(literal(f"$.{identifier(key)}") for key in every)
    extract = f"json_extract_string({LINE}, CAST([{listed}] AS VARCHAR[]))"
    return expressions, extract


def _value(values: Sequence[str]) -> str:
    if not values:
        return "CAST(NULL AS VARCHAR)"
    value = f"coalesce({', '.join(values)})"
    return (
        f"""nullif(CASE WHEN starts_with({value}, '["') AND json_valid({value}) """
        f"""THEN array_to_string(from_json({value}, '["VARCHAR"]'), '|') ELSE {value} END, '')"""
    )
