"""Parser of dashboard pages: big numbers, figures and tables from the HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_VOID = {"meta", "link", "br", "input", "img", "hr"}


@dataclass
class Element:
    """An HTML element with its attributes and content."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        """All text, with normalized spaces."""
        return " ".join(self._raw().split())

    def _raw(self) -> str:
        return "".join(child if isinstance(child, str) else child._raw() for child in self.children)

    def all(self, tag: str = "", css_class: str = "") -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and (not css_class or css_class in child.classes):
                    yield child
                yield from child.all(tag, css_class)

    def one(self, tag: str = "", css_class: str = "") -> Element:
        found = list(self.all(tag, css_class))
        assert len(found) == 1, f"{len(found)} elements {tag}.{css_class}"
        return found[0]


@dataclass(frozen=True)
class Shown:
    """A table; the first text of each row is the row heading."""

    headings: list[str]
    rows: list[list[str]]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(text: str) -> Element:
    """Parse a page and check that every element is closed by its own tag."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    assert builder._open == [builder.root]
    return builder.root


def read(path: Path) -> Element:
    return parse(path.read_text(encoding="utf-8"))


def tiles(page: Element) -> dict[str, tuple[str, str]]:
    return {
        tile.one("p", "label").text: (tile.one("p", "value").text, tile.one("p", "change").text)
        for tile in page.all("li", "tile")
    }


def cards(page: Element) -> dict[str, Element]:
    found = list(page.all(css_class="card"))
    titles = [card.one("h3").text for card in found]
    assert len(titles) == len(set(titles)), "the page has two items with one name"
    return dict(zip(titles, found, strict=True))


def shown_table(card: Element) -> Shown:
    table = card.one("table")
    head, *rows = table.all("tr")
    return Shown(
        [cell.text for cell in head.all("th")],
        [[cell.text for cell in row.children if isinstance(cell, Element)] for row in rows],
    )


def payloads(path: Path) -> dict[str, dict[str, Any]]:
    """Return the data of each chart by the id of its figure."""
    return {
        figure.attributes["id"]: json.loads(figure.one("script")._raw())
        for figure in read(path).all("figure")
    }
