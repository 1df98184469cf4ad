"""Parser of Markdown pages: sections, and their tables as rows of plain text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

Row = dict[str, str]

_HEADING = re.compile(r"^(#{1,6}) (.*)$")
_PIPE = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Section:
    """A heading and its text up to the next heading of any level."""

    heading: str
    body: str

    @property
    def tables(self) -> list[list[Row]]:
        return list(_tables(self.body))

    @property
    def rows(self) -> list[Row]:
        [rows] = self.tables
        return rows

    @property
    def mermaid(self) -> list[str]:
        """The lines of the section's only Mermaid chart, without indentation."""
        [chart] = re.findall(r"^```mermaid\n(.*?)^```$", self.body, re.DOTALL | re.MULTILINE)
        return [line.strip() for line in chart.splitlines()]


def sections(page: str) -> list[Section]:
    found: list[tuple[str, list[str]]] = []
    for line in page.splitlines():
        heading = _HEADING.match(line)
        if heading:
            found.append((plain(heading[2]), []))
        elif found:
            found[-1][1].append(line)
    return [Section(heading, "\n".join(lines) + "\n") for heading, lines in found]


def section(page: str, heading: str) -> Section:
    [found] = [each for each in sections(page) if each.heading == heading]
    return found


def plain(cell: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell.strip())
    text = re.sub(r"(?<!\\)`", "", text)
    return html.unescape(re.sub(r"\\(.)", r"\1", text))


def _tables(body: str) -> Iterator[list[Row]]:
    lines = body.splitlines()
    for start, line in enumerate(lines):
        if not line.startswith("|") or (start and lines[start - 1].startswith("|")):
            continue
        end = start
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        headings, _, *rows = (_cells(row) for row in lines[start:end])
        yield [dict(zip(headings, row, strict=True)) for row in rows]


def _cells(line: str) -> list[str]:
    return [plain(cell) for cell in _PIPE.split(line.strip())[1:-1]]
