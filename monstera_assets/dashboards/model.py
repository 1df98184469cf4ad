"""Page parts (tiles, figures and tables in sections) as plain data.

Text is not escaped here because the templates escape all text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from markupsafe import Markup

from monstera_assets.dashboards.design import MAX_CHARTS, day_text
from monstera_assets.gold.published_ids import TOTAL

DAY, TEXT = "day", ""
"""Formats of fields that contain days and text. All other formats are format specifications for
numbers, which have the same meaning in Python and in d3-format."""
_EPOCH = date(1970, 1, 1)


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
    """A link to a page on the site."""

    text: str
    href: str
    note: str = ""


class Cell(NamedTuple):
    """A table cell.

    Attributes:
        text: the displayed text.
        order: the sort key, or None to sort by the text.
        link: the page that the text links to.
    """

    text: str
    order: float | None = None
    link: str = ""


@dataclass(frozen=True)
class DataTable:
    """A table in which the first cell of each row is the row heading."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]


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
class Field:
    """A column of a chart's data.

    Attributes:
        name: the name that the chart's specification uses.
        title: the heading in tables, tooltips and downloads.
        format: `DAY`, `TEXT`, or the format of a number, such as `,d`.
        missing: the text for missing values.
    """

    name: str
    title: str
    format: str = TEXT
    missing: str = "not known"

    def text(self, value: Any) -> str:
        """Format a value for display."""
        if value is None:
            return self.missing
        if self.format == DAY:
            return day_text(value)
        # Browsers round the shortest decimal text of a number, not its binary value.
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        return format(exact, self.format) if self.format else str(value)


@dataclass(frozen=True)
class Choice:
    """A field of which a chart shows the rows with one value, which readers choose.

    Attributes:
        field: the field's name.
        title: the control's label.
        options: the values in display order.
        default: the value that is chosen first.
    """

    field: str
    title: str
    options: tuple[str, ...]
    default: str

    @classmethod
    def of(cls, chosen: Field, options: Iterable[str], default: str = "") -> Choice:
        """Return the choice of a field's value, with the first option as the default."""
        listed = tuple(options)
        return cls(chosen.name, chosen.title, listed, default or listed[0])


@dataclass(frozen=True)
class Chart:
    """A chart's data and its Vega-Lite or Vega specification without data.

    Attributes:
        fields: the columns of `rows`.
        rows: the data, ordered for display in a table.
        spec: the specification. It reads the data set `rows`, and colors can be style sheet variables,
            such as `var(--primary)`.
        day: the field that the page's date range filters, if any.
        series: the field whose values readers can hide, if any. The last field then contains the value.
        colors: the style sheet variable of each value of `series`, in display order.
        segment: the field that the page's segment filter applies to, if any. The rows for everybody
            have the value `TOTAL`, and others have values such as `country:US`.
        choices: the fields of which one value is shown.
        total: whether the chart adds up the last field over the days.
        height: height in pixels, or 0 if the specification sets it.
        below: whether the table shows the rows in the reverse order: the latest day first.
    """

    fields: tuple[Field, ...]
    rows: Sequence[Sequence[Any]]
    spec: Mapping[str, Any]
    day: str = ""
    series: str = ""
    colors: Mapping[str, str] = field(default_factory=dict)
    segment: str = ""
    choices: tuple[Choice, ...] = ()
    total: bool = False
    height: int = 220

    def payload(self) -> dict[str, Any]:
        """Return what the page's script needs, with the rows by column and days since 1970-01-01."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.fields)
        return {
            "fields": [[one.name, one.title, one.format] for one in self.fields],
            "columns": [
                _packed(one.format, list(values))
                for one, values in zip(self.fields, columns, strict=True)
            ],
            "spec": self.spec,
            "day": self.day,
            "series": self.series,
            "colors": self.colors,
            "segment": self.segment,
            "choices": [[one.field, one.title, one.options, one.default] for one in self.choices],
            "total": self.total,
            "height": self.height,
        }

    def table(self) -> DataTable:
        """Return the rows that the page shows first, with a column for each series."""
        names = [one.name for one in self.fields]
        fixed = {one.field: one.default for one in self.choices}
        if self.segment:
            fixed[self.segment] = TOTAL
        wanted = [(names.index(name), value) for name, value in fixed.items()]
        rows = [row for row in self.rows if all(row[n] == value for n, value in wanted)]
        keys = [n for n, name in enumerate(names) if name not in {*fixed, self.series}]
        if self.total:
            keys = [n for n in keys if names[n] != self.day]
            sums: dict[tuple[Any, ...], Any] = {}
            for row in rows:
                key = tuple(row[n] for n in keys[:-1])
                sums[key] = sums.get(key, 0) + row[-1]
            shown = [self.fields[n] for n in keys]
            body = [[*key, total] for key, total in sums.items()]
        elif not self.series:
            shown = [self.fields[n] for n in keys]
            body = [[row[n] for n in keys] for row in rows]
        else:
            series, value = names.index(self.series), self.fields[-1]
            found: dict[tuple[Any, ...], dict[str, Any]] = {}
            for row in rows:
                found.setdefault(tuple(row[n] for n in keys[:-1]), {})[row[series]] = row[-1]
            shown = [self.fields[n] for n in keys[:-1]]
            present = {one for row in found.values() for one in row} or {*self.colors}
            parts = [one for one in self.colors if one in present]
            shown += [Field(one, one, value.format) for one in parts]
            body = [[*key, *map(row.get, parts)] for key, row in found.items()]
        cells = (
            [
                Cell(one.text(value), _number(value, one.format))
                for one, value in zip(shown, row, strict=True)
            ]
            for row in body
        )
        return table(shown, cells)


def day_number(day: date | None) -> int | None:
    """Return the number of days since 1970-01-01."""
    return None if day is None else (day - _EPOCH).days


def _packed(form: str, values: list[Any]) -> Any:
    if form == DAY:
        return [day_number(value) for value in values]
    if form == TEXT:
        texts = list(dict.fromkeys(values))
        codes = {text: code for code, text in enumerate(texts)}
        return {"texts": texts, "codes": [codes[value] for value in values]}
    return [float(value) if isinstance(value, Decimal) else value for value in values]


def _number(value: Any, form: str) -> float | None:
    if value is None or form == TEXT:
        return None
    return float((value - _EPOCH).days if form == DAY else value)


@dataclass(frozen=True)
class Figure:
    """A chart with its name, its title by the convention, its finding and its definitions."""

    name: str
    title: str
    finding: str
    chart: Chart
    about: About
    wide: bool = False


@dataclass(frozen=True)
class Listing:
    """A table shown in place of a chart.

    Attributes:
        searchable: whether readers can filter the rows.
        footnote: text that explains marks or mentions omitted rows.
    """

    name: str
    title: str
    finding: str
    table: DataTable
    about: About
    searchable: bool = False
    footnote: str = ""


@dataclass(frozen=True)
class Unavailable:
    """A note shown in place of an unavailable item, with the reason and what to do."""

    name: str
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
        below: links to lower-level pages, shown under `below_heading`.
        news: sentences about what changed, each with the page that shows it.
        tiles: big numbers.
        sections: all content below the big numbers.

    Raises:
        ValueError: If the page has more than `MAX_CHARTS` charts.
    """

    file: str
    title: str
    lead: str
    up: tuple[Link, ...] = ()
    tiles: tuple[Tile, ...] = ()
    sections: tuple[Section, ...] = ()
    below: tuple[Link, ...] = ()
    below_heading: str = ""
    news: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        charts = len(self.figures())
        if charts > MAX_CHARTS:
            raise ValueError(f"{self.file} has {charts} charts. The limit is {MAX_CHARTS}.")

    def items(self) -> Iterator[Item]:
        """Return the items in all sections."""
        return (item for section in self.sections for item in section.items)

    def figures(self) -> list[Figure]:
        """Return the charts in all sections."""
        return [item for item in self.items() if isinstance(item, Figure)]


def section(heading: str, items: Iterable[Item | None], lead: str = "") -> Section:
    """Create a section from the items that are not None."""
    return Section(heading, tuple(item for item in items if item is not None), lead)


def table(fields: Sequence[Field], rows: Iterable[Sequence[Cell]]) -> DataTable:
    """Create a table with a column for each field."""
    numeric = tuple(one.format not in (TEXT, DAY) for one in fields)
    return DataTable(tuple(one.title for one in fields), tuple(map(tuple, rows)), numeric)


def json_text(value: Any) -> Markup:
    """Return JSON that cannot end the element that contains it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # escaped
