"""Text of data made fit for a message: no markup, no control characters, no e-mail, bounded."""

from __future__ import annotations

import re

_E_MAIL = re.compile(r"[^\s\"'`<>()|,;:=@]+@[^\s\"'`<>()|,;:=@]+\.[^\s\"'`<>()|,;:=@]+")
_E_MAIL_HIDDEN = "(e-mail)"
_ESCAPED = re.compile(r"\\([\\`*\[\]|])")


def clean(text: str, limit: int) -> str:
    """One line without control characters and e-mail addresses, at most `limit` characters.

    An address is replaced before the text is cut, so that no half of one is left.
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    return shorten(_E_MAIL.sub(_E_MAIL_HIDDEN, " ".join(printable.split())), limit)


def shorten(text: str, limit: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def code(text: str) -> str:
    """A span of code, in which nothing but a backtick has a meaning."""
    return f"`{text.replace('`', chr(39)) or ' '}`"


def rows_of(markdown: str, *, rows: int, width: int) -> tuple[tuple[str, ...], ...]:
    """The header and some rows of a Markdown table as `Finding.as_markdown` writes it.

    Args:
        markdown: the table; its cells are unescaped and cleaned.
        rows: the number of rows to keep, the header not counted.
        width: characters to keep of a cell.
    """
    lines = [_cells(line, width) for line in markdown.splitlines() if line.strip()]
    return tuple(line for number, line in enumerate(lines) if number != 1)[: rows + 1]


def _cells(line: str, width: int) -> tuple[str, ...]:
    # A bar within a cell has a backslash before it, so one between spaces is a border.
    cells = line.strip().removeprefix("| ").removesuffix(" |").split(" | ")
    return tuple(clean(_unescaped(cell), width) for cell in cells)


def _unescaped(cell: str) -> str:
    return _ESCAPED.sub(r"\1", cell.replace("&lt;", "<").replace("&amp;", "&"))


def grid(lines: tuple[tuple[str, ...], ...]) -> str:
    """A block of code with the lines' cells in columns; the first line is the header."""
    columns = max(len(line) for line in lines)
    padded = [line + ("",) * (columns - len(line)) for line in lines]
    widths = [max(len(line[column]) for line in padded) for column in range(columns)]
    text = [
        "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in padded
    ]
    return "\n".join(["```", *(line.replace("`", "'") for line in text), "```"])
