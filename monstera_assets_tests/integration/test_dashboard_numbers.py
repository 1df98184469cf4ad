"""Every number that the dashboard pages get equals the result of a query in `page_queries`.

The pages of three companies are compared as plain data, before they are rendered: big numbers, drawn
series, table cells, findings and footnotes. An item, a big number or a number in a text without a
query fails, and so does a query without an item. The rendered pages of the seeds are then compared with
the plain data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import duckdb
import pytest

from monstera_assets.dashboards import model
from monstera_assets.dashboards.asset import OTHER_TABLES
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.site import make_pages
from monstera_assets.definitions import metric_tables
from monstera_assets.settings import Settings
from monstera_assets.synthetic.company import Company as MadeUp
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests import page_queries, twin_company
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.integration.example_runs import Graph, SeedsRun, computed_from
from monstera_assets_tests.page_queries import Company, Entries, Expected
from monstera_assets_tests.shared import Shared
from monstera_assets_tests.site_page import cards, drawn_texts, read, shown_table, tiles

MADE_UP = MadeUp(users=300, days=570)
"""A generated company whose history is longer than 18 months."""
TWINS = DateWindow(twin_company.FIRST, twin_company.LAST)
CONSTANTS = {"90", "18", "8", "30"}
"""Numbers of days, months and segments in texts that do not depend on the data."""


@dataclass(frozen=True)
class Site:
    """A company's tables, the pages made from them, and the entries that they should have."""

    company: Company
    pages: dict[str, model.Page]
    entries: dict[str, Entries]
    tiles: dict[str, page_queries.Tiles]


def _run(source: Path, folder: Path, days: DateWindow) -> Path:
    """Compute the tables that the pages read, without checks."""
    graph = Graph(source, folder / "warehouse.duckdb", folder / "home", days.first)
    names = [table.name for table in (*metric_tables(), *OTHER_TABLES)]
    with graph.instance:
        assert graph.run(days, only=computed_from(names)).success
    return graph.database


def _twins(folder: Path) -> Path:
    return _run(twin_company.write_twin_company(folder / "source"), folder, TWINS)


def _made_up(folder: Path) -> Path:
    source = generate(MADE_UP, folder / "source").folder
    return _run(source, folder, DateWindow(MADE_UP.first, MADE_UP.end))


COMPANIES: dict[str, tuple[DateWindow, Callable[[Path], Path] | None]] = {
    "seeds": (SEEDS_DAYS, None),
    "twins": (TWINS, _twins),
    "made_up": (DateWindow(MADE_UP.first, MADE_UP.end), _made_up),
}


@pytest.fixture(
    scope="module",
    params=["seeds", "twins", pytest.param("made_up", marks=pytest.mark.slow)],
)
def site(request: pytest.FixtureRequest, shared: Shared, seeds_run: SeedsRun) -> Iterator[Site]:
    days, make = COMPANIES[request.param]
    database = shared.once(f"pages_{request.param}", make) if make else seeds_run.database
    with duckdb.connect(str(database), read_only=True) as connection:
        daily = [table for table in metric_tables() if table.partition_column]
        reader = Reader(connection, daily, Wording.of(Settings(database=database)))
        made = {page.file: page for page in make_pages(reader, metric_tables())}
        company = Company(connection, days.first, days.last)
        assert reader.days == (days.first, days.last)
        yield Site(company, made, page_queries.pages(company), page_queries.tiles(company))


def numbers_in(*texts: str) -> list[str]:
    """Return all numbers and dates in texts, with their signs and units."""
    return [
        found
        for text in texts
        for found in re.findall(r"\d{4}-\d\d-\d\d|[+-]?\d+(?:,\d{3})*(?:\.\d+)?%?", text)
    ]


def value_of(text: str) -> tuple[float, float] | None:
    """Return the number that a cell displays and the largest error from rounding, if it is one."""
    found = re.fullmatch(r"([+-]?[\d,]+(?:\.(\d+))?)(%| USD)?(?: \*)?", text)
    if not found:
        return None
    size = 0.01 if found[3] == "%" else 1.0
    return float(found[1].replace(",", "")) * size, 0.5001 * size / 10 ** len(found[2] or "")


def assert_says(text: str, parts: Sequence[str], where: str) -> None:
    """Check that a text has the given names and numbers in this order, and no other numbers."""
    place = 0
    for part in parts:
        found = text.find(part, place)
        assert found >= 0, f"{where}: {part} is missing or out of order in: {text}"
        place = found + len(part)
    assert numbers_in(text) == numbers_in(*parts), f"{where}: {text}"


def assert_table(table: model.DataTable, expected: Expected, where: str) -> None:
    assert [[cell.text for cell in row] for row in table.rows] == expected.texts, where
    assert not expected.dated or table.headings[0] == expected.dated, where
    if expected.headings is not None:
        assert [*table.headings[1:]] == [*expected.headings], where
    for row in table.rows:
        for cell in row[1:]:
            shown = value_of(cell.text)
            if shown is None or cell.order is None:
                # Sort keys of other texts are days.
                assert cell.order is None or date.fromordinal(int(cell.order)), where
            else:
                assert abs(cell.order - shown[0]) <= shown[1], f"{where}: {cell}"


def assert_drawing(drawing: model.Drawing, figure: model.Figure, expected: Expected) -> None:
    """Check that the drawn series are the columns of the figure's table, or those expected."""
    names, drawn = zip(*((name, list(values)) for name, values in drawing.values), strict=True)
    rows = figure.table.rows
    columns = [[row[n].order for row in reversed(rows)] for n in range(1, len(rows[0]))]
    assert [*drawn] == (expected.drawn or columns), figure.title
    if not drawing.plots:  # bars
        for name, row in zip(names, rows, strict=True):
            assert name.startswith(row[0].text), figure.title


def test_every_page_and_item_is_compared(site: Site) -> None:
    assert set(site.pages) == set(site.entries)
    for name, page in site.pages.items():
        titles = [item.title for item in page.items()]
        assert sorted(titles) == sorted(site.entries[name]), name


def test_items_show_the_results_of_queries(site: Site) -> None:
    unavailable = 0
    for name, page in site.pages.items():
        for item in page.items():
            where = f"{name}: {item.title}"
            site.company.queries.clear()
            expected = site.entries[name][item.title](site.company)
            if isinstance(item, model.Unavailable):
                # Shown only if all values are 0 or not known.
                values = {cell for row in expected.texts for cell in row[1:]}
                assert values <= {"0", "0.0%", "0.00 USD", "not known"}, where
                assert {*numbers_in(item.reason)} <= {"0", "0.00", "59", "119"}, where
                unavailable += 1
                continue
            assert any(item.about.source in query for query in site.company.queries), where
            assert_table(item.table, expected, where)
            assert_says(item.finding, expected.finding, where)
            if isinstance(item, model.Listing):
                assert_says(item.footnote, expected.footnote, where)
                continue
            for drawing in (item.drawing, item.wide):
                if drawing:
                    assert_drawing(drawing, item, expected)
    assert unavailable < sum(len(entries) for entries in site.entries.values()) / 2


def test_shares_add_up_to_one(site: Site) -> None:
    others = set()
    for name, page in site.pages.items():
        for item in page.items():
            if isinstance(item, model.Figure) and item.table.headings[-1] == "Share":
                shares = [row[-1].order for row in item.table.rows]
                assert abs(sum(share or 0.0 for share in shares) - 1) < 1e-9, (
                    f"{name}: {item.title}"
                )
                if item.table.rows[-1][0].text.startswith("Other ("):
                    others.add(item.title)
    assert ("Users, Started, to Date, by First Product" in others) == (
        len(site.company.products) > 14
    )


def test_big_numbers_show_the_results_of_queries(site: Site) -> None:
    for name, page in site.pages.items():
        shown = {}
        for tile in page.tiles:
            change = f"{tile.change.text} {tile.change.than}" if tile.change else tile.note
            shown[tile.label] = (tile.value, change)
            assert tile.source.startswith("gold."), tile
            assert not numbers_in(tile.label, tile.short_name), tile
        assert shown == site.tiles.get(name, {}), name


def test_other_texts_have_no_numbers(site: Site) -> None:
    names = sorted(site.company.names.values(), key=len, reverse=True)
    for page in site.pages.values():
        texts = [page.title, page.lead, page.below_heading]
        texts += [text for one in page.sections for text in (one.heading, one.lead)]
        texts += [text for link in (*page.up, *page.siblings, *page.below) for text in
                  (link.text, link.note)]  # fmt: skip
        for text in texts:
            for product in names:
                text = text.replace(product, "")
            assert {*numbers_in(text)} <= CONSTANTS, text


def test_no_part_of_a_page_is_left_out() -> None:
    """A new part of the model fails until the tests above compare its numbers."""
    assert {
        part.__name__: {field.name for field in fields(part)}
        for part in (model.Page, model.Section, model.Tile, model.Figure, model.Listing)
    } == {
        "Page": {
            *("file", "title", "lead", "up", "tiles", "sections", "siblings", "below"),
            "below_heading",
        },
        "Section": {"heading", "items", "lead"},
        "Tile": {"label", "value", "definition", "source", "change", "note", "short_name"},
        "Figure": {"title", "finding", "drawing", "table", "about", "wide"},
        "Listing": {"title", "finding", "table", "about", "searchable", "footnote"},
    }
    assert set(model.Item.__args__) == {
        *(model.Figure, model.Listing, model.Unavailable),
    }


def test_a_wrong_number_is_found(site: Site) -> None:
    """The comparison fails for each kind of wrong number."""
    [item] = [item for item in site.pages["index.html"].items() if item.title.endswith("by State")]
    assert isinstance(item, model.Figure)
    expected = site.entries["index.html"][item.title](site.company)
    assert_table(item.table, expected, "")
    first, *others = item.table.rows
    for wrong in (
        first[1]._replace(text="123,456"),
        first[1]._replace(order=123456.0),
    ):
        changed = model.table(item.table.headings, [[first[0], wrong, first[2]], *others])
        with pytest.raises(AssertionError):
            assert_table(changed, expected, "")
    with pytest.raises(AssertionError):
        assert_says(f"{item.finding} 1 more.", expected.finding, "")


# ---------------------------------------------------------------- rendered pages


@pytest.fixture(scope="module")
def rendered(seeds_run: SeedsRun) -> Path:
    """The site built by the run of the seeds."""
    return seeds_run.database.parent / "dashboards" / "current"


@pytest.mark.parametrize("site", ["seeds"], indirect=True)
def test_rendered_pages_show_what_they_get(site: Site, rendered: Path) -> None:
    assert {path.name for path in rendered.iterdir()} == set(site.pages)
    for name, page in site.pages.items():
        html = read(rendered / name)
        assert tiles(html) == site.tiles.get(name, {}), name
        found = cards(html)
        assert list(found) == [item.title for item in page.items()]
        for item in page.items():
            card = found[item.title]
            if isinstance(item, model.Unavailable):
                assert card.one("p", "finding").text == item.reason
                continue
            assert card.one("p", "finding").text == item.finding
            table = shown_table(card)
            assert tuple(table.headings) == item.table.headings
            assert table.rows == [
                [cell.text or " ".join(link.text for link in cell.links) for cell in row]
                for row in item.table.rows
            ]


@pytest.mark.parametrize("site", ["seeds"], indirect=True)
def test_drawings_say_what_their_tables_say(site: Site, rendered: Path) -> None:
    for name in site.pages:
        for title, card in cards(read(rendered / name)).items():
            for chart in card.all("div", "chart"):
                data, [texts] = shown_table(card), drawn_texts(chart)
                plots = json.loads(chart.attributes["data-plots"])
                columns = list(zip(*data.rows, strict=True))
                latest = [next((v for v in one if v != "not known"), "") for one in columns[1:]]
                if not plots:  # bars: names and values
                    assert [*columns[1]] == texts[len(data.rows) :], title
                    for shown, heading in zip(texts, columns[0], strict=False):
                        assert heading in (shown, shown.partition(" (")[0]) or shown.endswith("…")
                        assert heading.startswith(shown.rstrip("…")[:9]), title
                elif plots[0][3] < 50:  # sparklines: names, then latest values
                    assert len(plots) == len(latest)
                    assert texts[len(latest) : 2 * len(latest)] == [
                        one[0] for one in columns[1:]
                    ], title
                elif "data-bands" not in chart.attributes:  # lines: latest known value at the end
                    ends = texts[-len(latest) :]
                    for end, value in zip(ends, filter(None, latest), strict=False):
                        assert end.endswith(value), title
