"""Markdown: text that cannot break out of where it is put, and tables made of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*\[\]|~])|(?<!\w)(_)|(_)(?!\w)")


def text(value: str) -> str:
    """Text as it is: whatever Markdown would read as markup is escaped, and it is one line."""
    escaped = _SPECIAL.sub(lambda found: f"\\{found[0]}", " ".join(value.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def code(value: str) -> str:
    """Text as code, also within a table's cell; nothing for empty text."""
    value = " ".join(value.split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", value)), default=0)
    if not longest:
        return f"`{value}`" if value else ""
    fence = "`" * (longest + 1)
    return f"{fence} {value} {fence}"


def codes(values: Iterable[str]) -> str:
    """Several texts as code, separated by commas."""
    return ", ".join(code(value) for value in values)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown, made by the functions above."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def anchor(heading: str) -> str:
    """What a link to a heading of letters, digits and underscores on the same page looks like."""
    return f"[{code(heading)}](#{heading})"
