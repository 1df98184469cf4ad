"""Remove markup, control characters and email addresses from text for use in messages."""

from __future__ import annotations

import re

_E_MAIL = re.compile(r"[^\s\"'`<>()|,;:=@]+@[^\s\"'`<>()|,;:=@]+\.[^\s\"'`<>()|,;:=@]+")
_E_MAIL_HIDDEN = "(e-mail)"
_ESCAPED = re.compile(r"\\([\\`*\[\]|])")


def clean(text: str, limit: int) -> str:
    """Return the text as one line of at most `limit` characters, without email addresses.

    Control characters are removed. Addresses are replaced before the text is truncated, so no part
    of an address remains.
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    return shorten(_E_MAIL.sub(_E_MAIL_HIDDEN, " ".join(printable.split())), limit)


def shorten(text: str, limit: int) -> str:
    """Return the text, truncated with an ellipsis if it is too long."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def code(text: str) -> str:
    """Return the text as a code span, with backticks replaced."""
    return f"`{text.replace('`', chr(39)) or ' '}`"


def rows_of(markdown: str, *, rows: int, width: int) -> tuple[tuple[str, ...], ...]:
    """Return the header and first rows of a Markdown table written by `Finding.as_markdown`.

    Cells are unescaped, cleaned and truncated to `width` characters.
    """
    lines = [_cells(line, width) for line in markdown.splitlines() if line.strip()]
    return tuple(line for number, line in enumerate(lines) if number != 1)[: rows + 1]


def _cells(line: str, width: int) -> tuple[str, ...]:
    # A bar inside a cell is escaped, so an unescaped bar between spaces is a border.
    cells = line.strip().removeprefix("| ").removesuffix(" |").split(" | ")
    return tuple(clean(_unescaped(cell), width) for cell in cells)


def _unescaped(cell: str) -> str:
    return _ESCAPED.sub(r"\1", cell.replace("&lt;", "<").replace("&amp;", "&"))


def grid(lines: tuple[tuple[str, ...], ...]) -> str:
    """Return a code block with the cells aligned in columns. The first line is the header."""
    columns = max(len(line) for line in lines)
    padded = [line + ("",) * (columns - len(line)) for line in lines]
    widths = [max(len(line[column]) for line in padded) for column in range(columns)]
    text = [
        "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in padded
    ]
    return "\n".join(["```", *(line.replace("`", "'") for line in text), "```"])
