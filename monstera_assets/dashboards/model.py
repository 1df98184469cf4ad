"""What a page consists of: tiles, figures and tables in sections; plain data without any markup.

All texts are as they are; making them safe for HTML is the templates' business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from monstera_assets.dashboards.design import MAX_CHARTS


class Direction(StrEnum):
    """Where a number went."""

    UP = "up"
    DOWN = "down"
    FLAT = "flat"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Definition:
    """What a shown number means, as its declaration says it."""

    name: str
    text: str
    formula: str = ""
    caveats: str = ""


@dataclass(frozen=True)
class About:
    """Where numbers come from: definitions, a table, and who answers for it."""

    definitions: tuple[Definition, ...]
    source: str
    owner: str


@dataclass(frozen=True)
class Link:
    """A link to a page of the site."""

    text: str
    href: str
    note: str = ""
    current: bool = False


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what is shown.
        order: what it is ordered by; None where the text will do.
        shade: from 0 (none) to 9; None in a table without shades.
        quiet: whether the text is for screen readers only, and the cell looks empty.
        link: a page that the text leads to.
        links: pages, in place of a text.
    """

    text: str
    order: float | None = None
    shade: int | None = None
    quiet: bool = False
    link: str = ""
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class DataTable:
    """A table: the first cell of each row is its heading."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    shaded: tuple[bool, ...]


@dataclass(frozen=True)
class Change:
    """How a number compares with a week before."""

    direction: Direction
    text: str
    than: str = "a week before"


@dataclass(frozen=True)
class Tile:
    """A big number."""

    label: str
    value: str
    definition: Definition
    change: Change | None = None
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """Where in a drawing data are, for pointing at them.

    Attributes:
        left: of the first point or the first bar's left edge.
        width: to the last point, or the last bar's right edge.
        top: upper edge.
        height: to the lower edge.
        columns: of the figure's table, counted from 0, whose values are shown in it.
    """

    left: float
    width: float
    top: float
    height: float
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A chart as SVG markup, whose texts are escaped."""

    svg: str
    width: int
    height: int
    plots: tuple[Plot, ...] = ()
    bands: bool = False
    points: int = 0


@dataclass(frozen=True)
class Figure:
    """A chart with its finding, its data and what they mean."""

    title: str
    finding: str
    drawing: Drawing
    table: DataTable
    about: About
    wide: Drawing | None = None


@dataclass(frozen=True)
class Listing:
    """A table that is a finding by itself, shaded or not.

    Attributes:
        searchable: whether readers may want to filter its rows.
        footnote: what marks and shades mean, or which rows are left out.
    """

    title: str
    finding: str
    table: DataTable
    about: About
    searchable: bool = False
    footnote: str = ""


@dataclass(frozen=True)
class Unavailable:
    """In place of something that cannot be shown: why, and what to do."""

    title: str
    reason: str


Item = Figure | Listing | Unavailable


@dataclass(frozen=True)
class Section:
    """Items under a heading."""

    heading: str
    items: tuple[Item, ...]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Attributes:
        file: its name in the site's folder.
        title: its heading.
        lead: what it shows, in a sentence.
        up: the pages above it, from the home page on.
        beside: the pages of the same level; this one among them.
        below: a heading and links to pages below it.
        tiles: the big numbers.
        sections: what follows.

    Raises:
        ValueError: there are more charts than a page may have.
    """

    file: str
    title: str
    lead: str
    up: tuple[Link, ...]
    tiles: tuple[Tile, ...] = ()
    sections: tuple[Section, ...] = ()
    beside: tuple[Link, ...] = ()
    below: tuple[Link, ...] = ()
    below_heading: str = ""

    def __post_init__(self) -> None:
        charts = sum(isinstance(item, Figure) for item in self.items())
        if charts > MAX_CHARTS:
            raise ValueError(f"{self.file} has {charts} charts; {MAX_CHARTS} are allowed")

    def items(self) -> Iterator[Item]:
        """Everything in the sections."""
        return (item for section in self.sections for item in section.items)


def section(heading: str, items: Iterable[Item | None], lead: str = "") -> Section:
    """A section of what there is."""
    return Section(heading, tuple(item for item in items if item is not None), lead)


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> DataTable:
    """A table whose columns are numeric where a cell has an order."""
    body = tuple(tuple(row) for row in rows)
    columns = range(len(headings))
    return DataTable(
        tuple(headings),
        body,
        numeric=tuple(any(row[n].order is not None for row in body) for n in columns),
        shaded=tuple(any(row[n].shade is not None for row in body) for n in columns),
    )
