"""Generate Markdown: escaped text, code, tables and links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*\[\]|~])|(?<!\w)(_)|(_)(?!\w)")


def text(value: str) -> str:
    """Return text as a single line, with all Markdown and HTML markup escaped."""
    escaped = _SPECIAL.sub(lambda found: f"\\{found[0]}", " ".join(value.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def code(value: str) -> str:
    """Return text as inline code that is safe in table cells. Return empty text unchanged."""
    value = " ".join(value.split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", value)), default=0)
    if not longest:
        return f"`{value}`" if value else ""
    fence = "`" * (longest + 1)
    return f"{fence} {value} {fence}"


def codes(values: Iterable[str]) -> str:
    """Return multiple strings as inline code, separated by commas."""
    return ", ".join(code(value) for value in values)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table from cells that already contain Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def anchor(heading: str) -> str:
    """Return a same-page link to a heading that contains only letters, digits and underscores."""
    return f"[{code(heading)}](#{heading})"
