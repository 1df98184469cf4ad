"""Page parts (tiles, charts and tables in sections) as plain data, and the design rules.

The templates escape all text, except that this module escapes the rows of tables.
"""
# Over 400 lines: pages and templates share these parts, and each part is short.

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from monstera_assets.gold.metrics import Metric
from monstera_assets.gold.published_ids import TOTAL

DAY, TEXT, WORDS = "day", "", "words"
"""Formats of fields that contain days, text, and names in snake_case. All other formats are format
specifications for numbers, which have the same meaning in Python and in d3-format."""
_EPOCH = date(1970, 1, 1)


PRIMARY, SECONDARY, MUTED = "primary", "secondary", "muted"
"""Style sheet variables, which let charts work in light mode, dark mode and print."""
LINES = (PRIMARY, "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
"""Style sheet variables for series that have no color of their own. All later series are gray."""
PERIOD_DAYS = 548
"""Number of days in charts over time, ending on the as-of date."""
PERIOD = "Last 18 Months"
_FEW = 100
"""Maximum number of rows in the table that replaces a chart without scripts."""


def title(metric: Metric, by: str = "", *, what: str = "") -> str:
    """Return a chart's title, in which `what` replaces the name of one of several metrics."""
    entities, _, rest = metric.name.partition(" by ")[0].partition(" ")
    return ", ".join([entities, what or rest, PERIOD, *([f"by {by}"] if by else [])])


def words(name: str) -> str:
    """Format a value for display, such as `At risk` for `at_risk`."""
    text = name.replace("_", " ").strip()
    return "API" if text == "api" else text[:1].upper() + text[1:]


def lowered(sentence: str) -> str:
    """Return a sentence that starts in lower case."""
    return sentence[:1].lower() + sentence[1:]


def line_colors(names: Iterable[str]) -> dict[str, str]:
    """Return a style sheet variable for each series."""
    return {name: LINES[n] if n < len(LINES) else SECONDARY for n, name in enumerate(names)}


def state_color(state: str) -> str:
    """Return the CSS variable for a state's color. Equivalent states share a color."""
    return f"state-{state.partition('_')[0]}"


def state_colors(states: Iterable[str]) -> dict[str, str]:
    """Return the style sheet variables of states by their displayed names."""
    return {words(state): state_color(state) for state in states}


def count_text(value: Any) -> str:
    """Format a count for display."""
    return "not known" if value is None else f"{value:,}"


def day_text(day: date) -> str:
    """Format a day for display, such as 30 Jun 2025."""
    return f"{day.day} {day:%b %Y}"


def plural(count: int, thing: str) -> str:
    """Format a count with its noun, such as 1 day or 1,200 days."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


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
    """A table cell: the displayed text, the sort key (None to sort by the text), and a page's file."""

    text: str
    order: float | None = None
    link: str = ""


@dataclass(frozen=True)
class DataTable:
    """A table in which the first cell of each row is the row heading."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    omitted: int = 0

    def html(self, sortable: bool = False, root: str = "") -> Markup:
        """Return the rows as HTML. `root` is the path to the folder of all other pages."""
        made = []
        for row in self.rows:
            made.append("<tr>")
            for n, ((text, order, link), numeric) in enumerate(zip(row, self.numeric, strict=True)):
                shown = f'<a href="{root}{link}">{escape(text)}</a>' if link else escape(text)
                more = ' class="number"' if numeric else ""
                more += f' data-order="{order}"' if sortable and order is not None else ""
                made.append(
                    f"<td{more}>{shown}</td>" if n else f'<th scope="row"{more}>{shown}</th>'
                )
            made.append("</tr>\n")
        return Markup("".join(made))  # noqa: S704  # escaped


@dataclass(frozen=True)
class Change:
    """The change in a number compared with a week earlier: `up`, `down`, `flat` or `unknown`."""

    direction: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A big number with its change. `source` is the table that it comes from."""

    label: str
    value: str
    definition: Definition | None
    source: str
    change: Change | None = None
    note: str = ""
    short_name: str = ""


@dataclass(frozen=True)
class Field:
    """A column of a chart or table: its name in downloads, its heading and its format.

    Formats are `DAY`, `TEXT`, or that of a number, such as `,d`. Of a field with `options`, a chart
    shows one value that readers choose, at first the `default`. `missing` replaces unknown numbers.
    """

    name: str
    title: str
    format: str = TEXT
    missing: str = "not known"
    options: tuple[str, ...] = ()
    default: str = ""

    def text(self, value: Any) -> str:
        """Format a value for display."""
        if value is None:
            return self.missing if self.is_number else ""
        if self.format in (DAY, WORDS):
            return day_text(value) if self.format == DAY else words(value)
        # Browsers round the shortest decimal text of a number, not its binary value.
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        return format(exact, self.format) if self.format else str(value)

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.format not in (TEXT, WORDS, DAY)


def fields(*columns: str) -> tuple[Field, ...]:
    """Return fields from their names, titles, formats and texts for missing values: `mrr/MRR/,.2f`."""
    parts: Any = (column.split("/") for column in columns)
    return tuple(Field(*one) for one in parts)


def choice(name: str, title: str, options: Sequence[str], default: str = "") -> Field:
    """Return a field of which a chart shows one value. The first option is the default."""
    return Field(name, title, options=tuple(options), default=default or options[0])


ON_DAY = Field("day", "Day", DAY)
"""The field that the page's date range filters."""
SERIES = Field("series", "Series")
"""The field whose values readers can hide. The last field of the chart then contains the value."""
SEGMENT = Field("segment", "Segment")
"""The field that the page's segment filter applies to. The rows for everybody have the value `TOTAL`,
and others have values such as `country:US`."""


@dataclass(frozen=True)
class Chart:
    """A chart's data, from which the page's script draws it.

    Attributes:
        kind: the name of the function in `charts.js` that returns the specification.
        fields, rows: the columns, and the data in the order of the table.
        colors: the style sheet variable of each series, in display order.
        height: height in pixels, if the specification does not set it.
        options: arguments of the function in `charts.js`.
    """

    kind: str
    fields: tuple[Field, ...]
    rows: Sequence[Sequence[Any]]
    colors: Mapping[str, str] = field(default_factory=dict)
    height: int = 220
    options: Mapping[str, Any] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """Return what the page's script needs, with the rows by column and days since 1970-01-01."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.fields)
        return {
            "kind": self.kind,
            "fields": [
                [one.name, one.title, one.format, *([one.options, one.default] * bool(one.options))]
                for one in self.fields
            ],
            "columns": [
                _packed(one.format, list(values))
                for one, values in zip(self.fields, columns, strict=True)
            ],
            "colors": self.colors,
            "height": self.height,
            **self.options,
        }

    def table(self) -> DataTable:
        """Return the rows shown first, with a column per series, and at most `_FEW` of them.

        These are the last rows of a chart over time, and the first ones of all other charts.
        """
        fixed = {SEGMENT.name: TOTAL} | {
            one.name: one.default for one in self.fields if one.options
        }
        chosen = [fixed.get(one.name) for one in self.fields]
        rows = [
            row
            for row in self.rows
            if all(value in (None, cell) for value, cell in zip(chosen, row, strict=True))
        ]
        keys = [n for n, value in enumerate(chosen) if value is None]
        shown, body = [self.fields[n] for n in keys], [[row[n] for n in keys] for row in rows]
        if place := [n for n, one in enumerate(shown) if one.name == SERIES.name]:
            value, found = shown.pop(), dict[tuple[Any, ...], dict[str, Any]]()
            del shown[place[0]]
            for row in body:
                number, name = row.pop(), row.pop(place[0])
                found.setdefault(tuple(row), {})[name] = number
            present = {name for parts in found.values() for name in parts} or {*self.colors}
            names = [one for one in self.colors if one in present]
            body = [[*key, *map(parts.get, names)] for key, parts in found.items()]
            shown += [Field(one, one, value.format) for one in names]
        over_time = any(one.format == DAY for one in shown)
        few = body[-_FEW:] if over_time else body[:_FEW]
        return replace(table(shown, few), omitted=len(body) - len(few))


def day_number(day: date | None) -> int | None:
    """Return the number of days since 1970-01-01."""
    return None if day is None else day.toordinal() - _EPOCH.toordinal()


def _packed(form: str, values: list[Any]) -> Any:
    if form == DAY:
        return [day_number(value) for value in values]
    if form == TEXT:
        codes = {text: code for code, text in enumerate(dict.fromkeys(values))}
        return {"texts": [*codes], "codes": [codes[value] for value in values]}
    return [float(value) if isinstance(value, Decimal) else value for value in values]


@dataclass(frozen=True)
class Figure:
    """A chart with its finding, its definitions, its name and its title by the convention."""

    finding: str
    chart: Chart
    about: About
    wide: bool = False
    name: str = ""
    title: str = ""


@dataclass(frozen=True)
class Listing:
    """A table of values or cells shown in place of a chart.

    `links` contains the pages that a field's values link to, by the field's name. Readers can filter
    and sort the rows of a `searchable` table. `more` follows the footnote.
    """

    finding: str
    fields: Sequence[Field]
    rows: Sequence[Sequence[Any]]
    about: About | None
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    footnote: str = ""
    searchable: bool = True
    more: Link | None = None
    name: str = ""
    title: str = ""

    @property
    def table(self) -> DataTable:
        """The rows as displayed."""
        return table(self.fields, self.rows, self.links)


@dataclass(frozen=True)
class Unavailable:
    """A note shown in place of an unavailable item, with the reason and what to do."""

    reason: str
    name: str = ""
    title: str = ""


Item = Figure | Listing | Unavailable


@dataclass(frozen=True)
class Section:
    """Items under a heading."""

    heading: str
    items: Sequence[Item]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A page on the site.

    `tiles` are big numbers, `up` are breadcrumbs from below the home page to the parent, and `below`
    are links to lower-level pages. `news` are sentences about what changed, each with a link.
    """

    file: str
    title: str
    lead: str
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = ()
    up: Sequence[Link] = ()
    below: Sequence[Link] = ()
    below_heading: str = ""
    news: Sequence[Link] = ()

    def items(self) -> Iterator[Item]:
        """Return the items in all sections."""
        return (item for section in self.sections for item in section.items)

    def figures(self) -> list[Figure]:
        """Return the charts in all sections."""
        return [item for item in self.items() if isinstance(item, Figure)]


def table(
    fields: Sequence[Field], rows: Any, links: Mapping[str, Mapping[str, str]] | None = None
) -> DataTable:
    """Create a table with a column for each field."""
    linked = [(links or {}).get(one.name, {}) for one in fields]

    def cell(one: Field, value: Any, pages: Mapping[str, str]) -> Cell:
        if isinstance(value, Cell):
            return value
        order = value if one.is_number else day_number(value) if one.format == DAY else None
        return Cell(one.text(value), order, pages.get(value, "") if pages else "")

    body = tuple(tuple(map(cell, fields, row, linked)) for row in rows)
    return DataTable(
        tuple(one.title for one in fields), body, tuple(one.is_number for one in fields)
    )


def json_text(value: Any) -> Markup:
    """Return JSON that cannot end the element that contains it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # escaped
