"""Text that may stand safely inside a DuckDB statement."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from monstera_assets.source.errors import SourceError

# The column that a scan adds to say which file a row is from; no source has a column of that name.
PATH_COLUMN = "_source_path"

_GLOB = re.compile(r"[*?\[]")


def literal(text: str) -> str:
    """Return ``text`` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return ``name``, which comes from a declaration and never from data, as a quoted name."""
    return '"' + name.replace('"', '""') + '"'


def date_literal(value: date | None) -> str:
    """Return a DATE literal, or a null of that type."""
    return "CAST(NULL AS DATE)" if value is None else f"DATE '{value.isoformat()}'"


def path_literal(path: Path) -> str:
    """Return a literal that makes DuckDB open exactly this file, whatever is in its name.

    Raises:
        SourceError: the path has both a backslash and a character that DuckDB expands.
    """
    text = str(path)
    if _GLOB.search(text):
        # DuckDB expands these characters in every path, and then takes a backslash for a slash.
        if "\\" in text:
            raise SourceError(
                f"The path {text} has a backslash as well as one of * ? [, and cannot be opened: "
                "rename the file or folder."
            )
        text = _GLOB.sub(lambda match: f"[{match.group()}]", text)
    return literal(text)


def path_list(paths: Iterable[Path]) -> str:
    """Return a list literal of paths, each opened as exactly that file."""
    return "[" + ", ".join(path_literal(path) for path in paths) + "]"
