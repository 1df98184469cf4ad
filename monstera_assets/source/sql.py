"""Quote values for DuckDB statements."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from monstera_assets.source.errors import SourceError

# Scans add this column, which contains each row's file. Sources do not have a column with this name.
PATH_COLUMN = "_source_path"

_GLOB = re.compile(r"[*?\[]")


def literal(text: str) -> str:
    """Return ``text`` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return ``name`` in quotes. The name must come from a declaration, never from data."""
    return '"' + name.replace('"', '""') + '"'


def date_literal(value: date | None) -> str:
    """Return a DATE literal, or a null of type DATE for None."""
    return "CAST(NULL AS DATE)" if value is None else f"DATE '{value.isoformat()}'"


def path_literal(path: Path) -> str:
    """Return a literal that makes DuckDB open exactly one file, even if the path contains wildcards.

    Raises:
        SourceError: If the path contains both a backslash and a wildcard.
    """
    text = str(path)
    if _GLOB.search(text):
        # If a path contains wildcards, DuckDB expands them and treats backslashes as slashes.
        if "\\" in text:
            raise SourceError(
                f"The path {text} cannot be opened, because it contains both a backslash and a "
                "wildcard (*, ? or [). Rename the file or folder."
            )
        text = _GLOB.sub(lambda match: f"[{match.group()}]", text)
    return literal(text)


def path_list(paths: Iterable[Path]) -> str:
    """Return a list literal that contains the `path_literal` for each path."""
    return "[" + ", ".join(path_literal(path) for path in paths) + "]"
