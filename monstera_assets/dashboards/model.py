"""Page parts (tiles, figures and tables in sections) as plain data.

Text is not escaped here because the templates escape all text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from monstera_assets.dashboards.design import MAX_CHARTS


class Direction(StrEnum):
    """Direction of a change."""

    UP = "up"
    DOWN = "down"
    FLAT = "flat"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Definition:
    """The declared definition of a number."""

    name: str
    text: str
    formula: str = ""
    caveats: str = ""


@dataclass(frozen=True)
class About:
    """The definitions, source table and owners for the numbers in an item."""

    definitions: tuple[Definition, ...]
    source: str
    owner: str


@dataclass(frozen=True)
class Link:
    """A link to a page on the site.

    `current` is true if the link points to the page being shown.
    """

    text: str
    href: str
    note: str = ""
    current: bool = False


class Cell(NamedTuple):
    """A table cell.

    Attributes:
        text: the displayed text.
        order: the sort key, or None to sort by the text.
        shade: the shade from 0 (none) to 9 (darkest), or None in a table without shading.
        quiet: whether the cell looks empty and only screen readers read its text.
        link: the page that the text links to.
        links: links to display instead of the text.
    """

    text: str
    order: float | None = None
    shade: int | None = None
    quiet: bool = False
    link: str = ""
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class DataTable:
    """A table in which the first cell of each row is the row heading."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    shaded: tuple[bool, ...]


@dataclass(frozen=True)
class Change:
    """The change in a number compared with a week earlier."""

    direction: Direction
    text: str
    than: str = "a week earlier"


@dataclass(frozen=True)
class Tile:
    """A big number with its change. `source` is the table that it comes from."""

    label: str
    value: str
    definition: Definition
    source: str
    change: Change | None = None
    note: str = ""
    short_name: str = ""


@dataclass(frozen=True)
class Plot:
    """A drawing's area that reacts to the pointer, with positions in pixels.

    Attributes:
        left: position of the first point, or of the first bar's left edge.
        width: distance to the last point, or to the last bar's right edge.
        top: upper edge.
        height: distance to the lower edge.
        columns: zero-based positions of the figure table's columns that the area shows.
    """

    left: float
    width: float
    top: float
    height: float
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A chart as SVG markup with escaped text.

    Attributes:
        values: the drawn series, each with its name and its values. A bar is a series of one value.
    """

    svg: str
    width: int
    height: int
    values: tuple[tuple[str, tuple[float | None, ...]], ...]
    plots: tuple[Plot, ...] = ()
    bands: bool = False

    @property
    def points(self) -> int:
        """The number of drawn values."""
        return sum(len(values) for _, values in self.values)


@dataclass(frozen=True)
class Figure:
    """A chart with its finding, its data and the definitions of its numbers."""

    title: str
    finding: str
    drawing: Drawing
    table: DataTable
    about: About
    wide: Drawing | None = None


@dataclass(frozen=True)
class Listing:
    """A table shown in place of a chart.

    Attributes:
        searchable: whether readers can filter the rows.
        footnote: text that explains marks and shades or mentions omitted rows.
    """

    title: str
    finding: str
    table: DataTable
    about: About
    searchable: bool = False
    footnote: str = ""


@dataclass(frozen=True)
class Unavailable:
    """A note shown in place of an unavailable item, with the reason and what to do."""

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
    """A page on the site.

    Attributes:
        file: file name in the site's folder.
        title: heading.
        lead: a sentence about the content.
        up: breadcrumbs, from the home page to the parent.
        siblings: links to the pages on the same level, including this page.
        below: links to lower-level pages, shown under `below_heading`.
        tiles: big numbers.
        sections: all content below the big numbers.

    Raises:
        ValueError: If the page has more than `MAX_CHARTS` charts.
    """

    file: str
    title: str
    lead: str
    up: tuple[Link, ...]
    tiles: tuple[Tile, ...] = ()
    sections: tuple[Section, ...] = ()
    siblings: tuple[Link, ...] = ()
    below: tuple[Link, ...] = ()
    below_heading: str = ""

    def __post_init__(self) -> None:
        charts = sum(isinstance(item, Figure) for item in self.items())
        if charts > MAX_CHARTS:
            raise ValueError(f"{self.file} has {charts} charts. The limit is {MAX_CHARTS}.")

    def items(self) -> Iterator[Item]:
        """Return the items in all sections."""
        return (item for section in self.sections for item in section.items)


def section(heading: str, items: Iterable[Item | None], lead: str = "") -> Section:
    """Create a section from the items that are not None."""
    return Section(heading, tuple(item for item in items if item is not None), lead)


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> DataTable:
    """Create a table in which a column is numeric if any of its cells has a sort key."""
    body = tuple(tuple(row) for row in rows)
    columns = range(len(headings))
    return DataTable(
        tuple(headings),
        body,
        numeric=tuple(any(row[n].order is not None for row in body) for n in columns),
        shaded=tuple(any(row[n].shade is not None for row in body) for n in columns),
    )
