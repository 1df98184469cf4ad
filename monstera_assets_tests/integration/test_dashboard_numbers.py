"""Every number on the dashboard pages equals the result of a query in `page_queries`.

The pages of three companies are compared as plain data, before they are rendered: big numbers, the rows
of charts, table cells, findings and footnotes. An item, a big number or a number in a text without a
query fails, and so does a query without an item. The rendered pages of the seeds are then compared with
the plain data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.dashboards import model
from monstera_assets.dashboards.entity_pages import name_entities
from monstera_assets.dashboards.extract import extract
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.site import make_pages
from monstera_assets.definitions import metric_tables
from monstera_assets.settings import Settings
from monstera_assets.synthetic.company import Company as MadeUp
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.helpers import page_queries
from monstera_assets_tests.helpers.page_queries import Company, Entries, Expected
from monstera_assets_tests.helpers.shared import Shared
from monstera_assets_tests.helpers.site_page import cards, payloads, read, shown_table, tiles
from monstera_assets_tests.inputs import twin_company
from monstera_assets_tests.integration.example_runs import Graph, SeedsRun, computed_from

MADE_UP = MadeUp(users=300, days=570)
"""A generated company whose history is longer than 18 months."""
TWINS = DateWindow(twin_company.FIRST, twin_company.LAST)
CONSTANTS = {"90", "18", "8", "30", "0", "1"}
"""Numbers of days, months and segments, and a lift, in texts that do not depend on the data."""


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
    names = [*extract(metric_tables())]
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
        settings = Settings(database=database)
        reader = Reader(connection, metric_tables(), Wording.of(settings))
        name_entities(reader, settings.account_pages)
        made = {page.file: page for page in make_pages(reader, metric_tables())}
        company = Company(connection, days.first, days.last)
        assert reader.days == (days.first, days.last)
        yield Site(company, made, page_queries.pages(company), page_queries.tiles(company))


def numbers_in(*texts: str) -> list[str]:
    """Return all numbers and days in texts, with their signs and units."""
    pattern = r"\d{1,2} [A-Z][a-z]{2} \d{4}|[+-]?\d+(?:,\d{3})*(?:\.\d+)?%?"
    return [found for text in texts for found in re.findall(pattern, text)]


def comparable(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return rows in an order of their own, with numbers that can be compared."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal):
            return float(value)
        return round(value, 12) if isinstance(value, float) else value

    return sorted((tuple(map(plain, row)) for row in rows), key=repr)


def assert_says(text: str, parts: Sequence[str], where: str) -> None:
    """Check that a text has the given names and numbers in this order, and no other numbers."""
    place = 0
    for part in parts:
        found = text.find(part, place)
        assert found >= 0, f"{where}: {part} is missing or out of order in: {text}"
        place = found + len(part)
    assert numbers_in(text) == numbers_in(*parts), f"{where}: {text}"


def assert_rows(item: model.Figure | model.Listing, expected: Expected, where: str) -> None:
    """Check the rows of a chart in any order, or the cells of a table in their order."""
    if isinstance(item, model.Figure):
        assert comparable(item.chart.rows) == comparable(expected.rows), where
        assert len(item.chart.rows) > 0, where
        return
    assert len(item.table.rows) == len(expected.rows), where
    for shown, row in zip(item.table.rows, expected.rows, strict=True):
        for cell, value in zip(shown, row, strict=True):
            if isinstance(value, str):
                assert cell.text == value, where
            elif isinstance(value, date):
                assert cell.text == page_queries.day_text(value), where
            elif value is None:
                assert cell.order is None, where
                assert not numbers_in(cell.text), where
            else:
                assert cell.order == pytest.approx(float(value)), where
                # The text is the number, rounded.
                [text] = numbers_in(cell.text)
                size = 0.01 if text.endswith("%") else 1.0
                digits = len(text.rstrip("%").partition(".")[2])
                number = float(text.rstrip("%").replace(",", "")) * size
                assert abs(number - float(value)) <= 0.5001 * size / 10**digits, f"{where}: {cell}"


def test_every_page_and_item_is_compared(site: Site) -> None:
    assert set(site.pages) == set(site.entries)
    for name, page in site.pages.items():
        names = [item.name for item in page.items()]
        assert sorted(names) == sorted(site.entries[name]), name


def test_items_show_the_results_of_queries(site: Site) -> None:
    unavailable = 0
    for name, page in site.pages.items():
        for item in page.items():
            where = f"{name}: {item.name}"
            site.company.queries.clear()
            expected = site.entries[name][item.name](site.company)
            if isinstance(item, model.Unavailable):
                # Shown only if all values are 0 or not known.
                values = {v for row in expected.rows for v in row if not isinstance(v, str | date)}
                assert values <= {0, None}, where
                assert not numbers_in(item.reason), where
                unavailable += 1
                continue
            assert item.about
            assert any(item.about.source in query for query in site.company.queries), where
            assert_rows(item, expected, where)
            assert_says(item.finding, expected.finding, where)
            if isinstance(item, model.Listing):
                assert_says(item.footnote, expected.footnote, where)
                if item.more:
                    assert_says(item.more.text, expected.finding[:1], where)
    assert unavailable < sum(len(entries) for entries in site.entries.values()) / 2


def test_shares_add_up_to_one(site: Site) -> None:
    for name, page in site.pages.items():
        for figure in page.figures():
            fields = [one.name for one in figure.chart.fields]
            if fields == ["name", "count", "share"]:
                shares = [row[-1] for row in figure.chart.rows]
                assert sum(shares) == pytest.approx(1), f"{name}: {figure.name}"


def test_big_numbers_show_the_results_of_queries(site: Site) -> None:
    for name, page in site.pages.items():
        shown = {}
        for tile in page.tiles:
            change = f"{tile.change.text} in a week" if tile.change else tile.note
            shown[tile.label] = (tile.value, change)
            assert tile.source.startswith("gold."), tile
            assert {*numbers_in(tile.label, tile.short_name)} <= CONSTANTS, tile
        assert shown == site.tiles.get(name, {}), name


def test_other_texts_have_no_numbers(site: Site) -> None:
    names = sorted(site.company.names.values(), key=len, reverse=True)
    for page in site.pages.values():
        texts = [page.title, page.lead, page.below_heading]
        texts += [text for one in page.sections for text in (one.heading, one.lead)]
        texts += [text for link in (*page.up, *page.below) for text in
                  (link.text, link.note)]  # fmt: skip
        for text in texts:
            for product in names:
                text = text.replace(product, "")
            assert {*numbers_in(text)} <= CONSTANTS, text


def test_news_show_the_results_of_queries(site: Site) -> None:
    shown = [(news.note, news.text) for news in site.pages["index.html"].news]
    expected = page_queries.news(site.company)
    assert len(shown) == len(expected)
    for (verdict, text), parts in zip(shown, expected, strict=True):
        assert_says(f"{verdict} {text}", parts, verdict)


def test_no_part_of_a_page_is_left_out() -> None:
    """A new part of the model fails until the tests above compare its numbers."""
    assert {
        part.__name__: {field.name for field in fields(part)}
        for part in (model.Page, model.Section, model.Tile, model.Figure, model.Listing)
    } == {
        "Page": {
            *("file", "title", "lead", "up", "tiles", "sections", "below", "below_heading", "news"),
        },
        "Section": {"heading", "items", "lead"},
        "Tile": {"label", "value", "definition", "source", "change", "note", "short_name"},
        "Figure": {"name", "title", "finding", "chart", "about", "wide"},
        "Listing": {
            *("name", "title", "finding", "fields", "rows", "about", "links", "searchable"),
            *("footnote", "more"),
        },
    }
    assert set(model.Item.__args__) == {
        *(model.Figure, model.Listing, model.Unavailable),
    }


def test_a_wrong_number_is_found(site: Site) -> None:
    """The comparison fails for each kind of wrong number."""
    items = {item.name: item for item in site.pages["lifecycle.html"].items()}
    item = items["Days active"]
    assert isinstance(item, model.Figure)
    expected = site.entries["lifecycle.html"][item.name](site.company)
    (name, users, share), *others = item.chart.rows
    for wrong in ((name, users + 1, share), (name, users, share + 0.001)):
        changed = replace(item, chart=replace(item.chart, rows=[wrong, *others]))
        with pytest.raises(AssertionError):
            assert_rows(changed, expected, "")
    with pytest.raises(AssertionError):
        assert_says(f"{item.finding} 1 more.", expected.finding, "")


# ---------------------------------------------------------------- rendered pages


@pytest.mark.parametrize("site", ["seeds"], indirect=True)
def test_rendered_pages_show_what_they_get(site: Site, seeds_run: SeedsRun) -> None:
    rendered = seeds_run.database.parent / "dashboards" / "current"
    found = {path.name for path in rendered.glob("*.html")}
    assert {name for name in found if not name.startswith(("account_", "person_"))} == {*site.pages}
    for name, page in site.pages.items():
        html = read(rendered / name)
        assert tiles(html) == site.tiles.get(name, {}), name
        shown_cards, data = cards(html), payloads(rendered / name)
        assert list(shown_cards) == [item.name for item in page.items()]
        for item in page.items():
            card = shown_cards[item.name]
            assert card.one("p", "title").text == item.title
            if isinstance(item, model.Unavailable):
                assert card.one("p", "finding").text == item.reason
                continue
            assert card.one("p", "finding").text == item.finding
            table = item.chart.table() if isinstance(item, model.Figure) else item.table
            shown = shown_table(card)
            assert tuple(shown.headings) == table.headings
            assert shown.rows == [[cell.text for cell in row] for row in table.rows]
            if isinstance(item, model.Figure):
                assert decoded(data[card.attributes["id"]]) == comparable(item.chart.rows)


def decoded(payload: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a chart from the data in its page."""
    columns = []
    for (_, _, form, *_), column in zip(payload["fields"], payload["columns"], strict=True):
        if form == "day":
            columns.append([None if n is None else date(1970, 1, 1) + timedelta(n) for n in column])
        elif form == "":
            columns.append([column["texts"][code] for code in column["codes"]])
        else:
            columns.append(column)
    return comparable(zip(*columns, strict=True))
