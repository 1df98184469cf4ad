"""A message: a subject and a Markdown body that is readable as plain text.

Text from the data is placed in code spans and code blocks, where markup has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

BODY_LIMIT = 8000
"""Maximum message length in characters. Services with a lower limit get shorter messages."""

_SUBJECT_LIMIT = 150
_LINKS = 5
_E_MAIL = re.compile(r"[^\s\"'`<>()|,;:=@]+@[^\s\"'`<>()|,;:=@]+\.[^\s\"'`<>()|,;:=@]+")
_ESCAPED = re.compile(r"\\([\\`*\[\]|])")


class AlertEvent(StrEnum):
    """The reason for reporting an item."""

    NEW = "new"
    """The failure is new, or more urgent than before."""
    REMINDER = "reminder"
    """The failure has persisted for another week."""
    RECOVERED = "recovered"
    """The check or run passes again after a failure."""


@dataclass(frozen=True)
class Item:
    """What to report about a check, a run or late tables, with cleaned and shortened text.

    `subject` identifies the check, run or tables. `rows` contains a header and some of the rows that
    violate a check.
    """

    subject: str
    title: str
    news: AlertEvent
    level: str
    since: str
    owners: tuple[str, ...] = ()
    expected: str = ""
    seen: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    what_to_do: str = ""
    command: str = ""

    @property
    def failing(self) -> bool:
        """Whether the item is a failure."""
        return self.news is not AlertEvent.RECOVERED

    @property
    def head(self) -> str:
        """One line with the level, the title and what happened."""
        verb = {AlertEvent.NEW: "fails", AlertEvent.REMINDER: "still fails"}.get(
            self.news, "recovered"
        )
        owners = f" Owner: {', '.join(self.owners)}" if self.owners else ""
        return f"**{self.level}: {code(self.title)}** {verb}.{owners}"

    def recovered(self) -> Item:
        """Return the item as a recovery, which requires no action."""
        fine = replace(self, seen="It passes again.", what_to_do="Nothing.", command="", rows=())
        return replace(fine, news=AlertEvent.RECOVERED)

    def block(self) -> str:
        """Return the item in full."""
        lines = (
            ("Since", self.since),
            ("Expected", self.expected),
            ("Observed", self.seen),
            ("What to do", self.what_to_do),
            ("Command", code(self.command) if self.command else ""),
        )
        shown = "\n".join(f"- {name}: {value}" for name, value in lines if value)
        text = f"{self.head}\n\n{shown}"
        return f"{text}\n\n{grid(self.rows)}" if len(self.rows) > 1 else text


@dataclass(frozen=True)
class Message:
    """All items to report at once, the most urgent first and recoveries last, and the pages to open."""

    items: tuple[Item, ...]
    links: tuple[str, ...]

    @classmethod
    def of(cls, items: Iterable[Item], links: Iterable[str]) -> Message:
        """Create a message with sorted items."""
        ordered = sorted(items, key=lambda item: (not item.failing, item.level, item.title))
        return cls(tuple(ordered), tuple(links)[-_LINKS:])

    @property
    def failing(self) -> tuple[Item, ...]:
        """The items that are failures."""
        return tuple(item for item in self.items if item.failing)

    @property
    def worst_level(self) -> str:
        """The most urgent level among the failures, or among the recoveries if nothing failed."""
        return min(item.level for item in self.failing or self.items)

    def subject(self) -> str:
        """Return one line with the worst level and the affected checks or runs."""
        shown = self.failing or self.items
        others = len(shown) - 1
        what = shown[0].title + (
            f" and {others} other{'s' if others > 1 else ''}" if others else ""
        )
        verb = ("fail" if others else "fails") if self.failing else "recovered"
        mark = self.worst_level if self.failing else f"{self.worst_level} recovered"
        return shorten(f"[{mark}] Monstera: {what} {verb}", _SUBJECT_LIMIT)

    def body(self, limit: int = BODY_LIMIT) -> str:
        """Return the body in at most `limit` characters, including the number of omitted items."""
        end = "\n".join(self.links)
        shown: list[str] = []
        left = limit - len(end) - 80  # space for the line that counts the omitted items
        for number, item in enumerate(self.items):
            text = item.block() if len(item.block()) + 2 <= left else item.head
            if len(text) + 2 > left:
                shown.append(f"… and {len(self.items) - number:,} more. Open the run to see them.")
                break
            shown.append(text)
            left -= len(text) + 2
        return "\n\n".join([*shown, end])


def moment(seconds: float) -> str:
    """Return a UTC time as text."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def clean(text: str, limit: int) -> str:
    """Return the text as one line of at most `limit` characters, without email addresses.

    Control characters are removed. Addresses are replaced before the text is truncated, so no part
    of an address remains.
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    return shorten(_E_MAIL.sub("(e-mail)", " ".join(printable.split())), limit)


def shorten(text: str, limit: int) -> str:
    """Return the text, truncated with an ellipsis if it is too long."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def code(text: str) -> str:
    """Return the text as a code span, with backticks replaced."""
    return f"`{text.replace('`', chr(39)) or ' '}`"


def table(markdown: str, *, rows: int, width: int) -> tuple[tuple[str, ...], ...]:
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
