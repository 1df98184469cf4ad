"""The dashboards in headless Chromium: all pages at three widths in light and dark mode, and controls.

Requires Chromium, its driver and npm (for axe-core, pinned in axe/package.json). The tests are marked
`browser` and run in `make test-ui`, not in `make test`. Set the environment variable SCREENSHOTS to a
folder to save a screenshot of every page.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from monstera_assets.dashboards.site import write_site
from monstera_assets.definitions import metric_tables
from monstera_assets.settings import Settings
from monstera_assets_tests.end_to_end.chromium import chromium
from monstera_assets_tests.helpers.site_page import Element, cards, payloads, read, shown_table

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
WIDTHS = {"desk": 1280, "tablet": 800, "phone": 375}
SCHEMES = ("light", "dark")
ENTITIES = ("account_", "person_")

OVERLAPS = """
const faults = [];
for (const svg of document.querySelectorAll('.chart svg')) {
  const outer = svg.getBoundingClientRect();
  if (!outer.width) continue;
  const title = svg.closest('figure').querySelector('h3').textContent;
  const texts = [...svg.querySelectorAll('text')]
    // Vega hides labels that would overlap.
    .filter((text) => text.textContent && getComputedStyle(text).opacity > 0);
  const boxes = texts.map((text) => text.getBoundingClientRect());
  boxes.forEach((box, i) => {
    if (box.left < outer.left - 1 || box.right > outer.right + 1 ||
        box.top < outer.top - 1 || box.bottom > outer.bottom + 1)
      faults.push(`${title}: ${texts[i].textContent} is cut off`);
    for (let j = i + 1; j < boxes.length; j++) {
      const other = boxes[j];
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      // Text boxes include space above and below the letters, or on both sides in turned text.
      const turned = (texts[i].getAttribute('transform') ?? '').includes('rotate');
      if (across > (turned ? box.width * 0.3 : 0) && down > (turned ? 0 : box.height * 0.3))
        faults.push(`${title}: ${texts[i].textContent} overlaps ${texts[j].textContent}`);
    }
  });
}
return faults;
"""
CUT = """
return [...document.querySelectorAll('h1,h2,h3,p,summary,a,.tile,.tile p')]
  .filter((e) => e.offsetParent && !e.closest('.scroll') && e.scrollWidth > e.clientWidth + 1 &&
    getComputedStyle(e).display !== 'inline' && !e.classList.contains('skip'))
  .map((e) => e.className + ' ' + e.textContent.slice(0, 60));
"""


@dataclass(frozen=True)
class Browser:
    """A Chromium browser that opens the pages made from a database from disk."""

    driver: webdriver.Chrome
    site: Path
    database: Path

    def show(self, page: str, width: str = "desk", scheme: str = "light", link: str = "") -> None:
        """Open a page at a width and in a color scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": WIDTHS[width],
                "height": 900,
                "deviceScaleFactor": 1,
                "mobile": width == "phone",
            },
        )
        self.command(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        # An address that differs only after the # does not load the page again.
        self.driver.get("about:blank")
        self.driver.get((self.site / page).as_uri() + link)
        self.wait("return document.body.dataset.drawn")

    def wait(self, script: str) -> Any:
        """Wait until a script returns a value that is true."""
        return WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(script))

    def command(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, dict(arguments))

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def requests(self) -> list[str]:
        """Return URLs requested since the last call, except by the browser's own first page."""
        messages = [
            json.loads(entry["message"])["message"]
            for entry in self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
            and not message["params"]["documentURL"].startswith("chrome://")
        ]

    def console_messages(self) -> list[str]:
        """Return console messages since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def screenshot(self, path: Path) -> None:
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.command(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        path.write_bytes(base64.b64decode(taken["data"]))


@pytest.fixture(scope="module")
def browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """A browser with the site of the seeds, or of the database in DASHBOARD_DATABASE."""
    chosen = os.environ.get("DASHBOARD_DATABASE")
    database = Path(chosen or request.getfixturevalue("seeds_run").database)
    output = tmp_path_factory.mktemp("dashboards")
    write_site(Settings(database=database), output, metric_tables())
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield Browser(driver, (output / "current").resolve(), database)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    npm = shutil.which("npm")
    assert npm, "npm is not on the path. Install it to run these tests."
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "axe" / name, folder)
    subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True
    )
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def test_no_page_sends_requests_or_logs_messages(browser: Browser) -> None:
    browser.requests()
    browser.console_messages()
    files = {path.as_uri() for path in browser.site.iterdir()}
    for page in pages(browser):
        browser.show(page)
        # Chromium's first tab requests internal pages.
        own_pages = ("data:", "about:", "chrome-untrusted://new-tab-page")
        assert {url for url in browser.requests() if not url.startswith(own_pages)} <= files, page
        assert browser.console_messages() == [], page


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_is_cut_off_or_overlaps(browser: Browser, width: str, scheme: str) -> None:
    kept = os.environ.get("SCREENSHOTS")
    faults: dict[str, list[str]] = {}
    for page in pages(browser):
        browser.show(page, width, scheme)
        if browser.run("return document.documentElement.scrollWidth") != WIDTHS[width]:
            faults[page] = ["the page is wider than the window"]
        faults[page] = [*faults.get(page, []), *browser.run(OVERLAPS), *browser.run(CUT)]
        if kept:
            Path(kept).mkdir(parents=True, exist_ok=True)
            browser.screenshot(Path(kept) / f"{Path(page).stem}_{width}_{scheme}.png")
    assert {page: found for page, found in faults.items() if found} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", ["desk", "phone"])
def test_axe_finds_no_violation(browser: Browser, axe: str, width: str, scheme: str) -> None:
    faults: dict[str, list[str]] = {}
    for page in pages(browser):
        browser.show(page, width, scheme)
        # Also check folded content.
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        browser.run(axe)
        found = browser.driver.execute_async_script(
            # Further rows of a table are like the first ones, and checking thousands takes minutes.
            "const done = arguments[0], exclude = ['tbody tr:nth-child(n + 20)'];"
            "axe.run({include: [document], exclude}, {resultTypes: ['violations']})"
            ".then((result) => done(result.violations.map((one) =>"
            " `${one.id}: ${one.nodes.length} times, ${one.nodes[0].html}`)));"
        )
        faults[page] = found
    assert {page: found for page, found in faults.items() if found} == {}


def test_every_chart_is_drawn(browser: Browser) -> None:
    """Each chart has marks for its rows, and none is left without a size."""
    kinds = set()
    for page in pages(browser):
        browser.show(page)
        drawn = browser.run(
            "return Object.fromEntries([...document.querySelectorAll('figure[id]')].map((one) =>"
            " [one.id, [...one.querySelectorAll('.chart svg [class*=mark-] path')].filter((path) =>"
            " path.getBoundingClientRect().width + path.getBoundingClientRect().height > 0).length]))"
        )
        for id_, data in payloads(browser.site / page).items():
            assert drawn[id_] > 0, (page, id_)
            kinds.add(data["kind"])
    assert kinds >= {"lines", "columns", "areas", "bars", "grouped", "heatmap", "flows", "timeline"}


def test_flows_are_as_wide_as_their_sums(browser: Browser) -> None:
    browser.show("lifecycle.html")
    [id_] = [
        one
        for one, data in payloads(browser.site / "lifecycle.html").items()
        if data["kind"] == "flows"
    ]
    sums: Counter[tuple[str, str]] = Counter()
    for row in data(browser)[id_]:
        sums[row["from_state"], row["to_state"]] += int(row["moves"])
    widths = browser.run(
        f"return [...document.querySelectorAll('#{id_} svg path[stroke-opacity]')]"
        ".map((path) => Number(path.getAttribute('stroke-width')))"
    )
    # Narrow flows are at least one pixel wide.
    scale = max(widths) / max(sums.values())
    expected = sorted(max(count * scale, 1) for count in sums.values())
    assert sorted(widths) == pytest.approx(expected, rel=1e-4)


def test_tables_show_the_numbers_of_the_file(browser: Browser) -> None:
    """The script fills the same table that readers without scripts see."""
    for page in pages(browser):
        browser.show(page)
        for card in cards(read(browser.site / page)).values():
            if card.tag == "figure":
                expected = shown_table(card)
                headings, *rows = table(browser, card.attributes["id"])
                assert headings == expected.headings, page
                # With scripts, the latest day is first. Without, long timelines show the latest rows.
                assert len(rows) >= len(expected.rows), page
                assert all(row in rows for row in expected.rows), page
                if not page.startswith(ENTITIES):
                    data = payload(browser, page, card)
                    by_day = day_field(data) and not data.get("total")
                    # Without scripts, a table has at most 100 rows.
                    assert len(rows) == len(expected.rows) or len(expected.rows) == 100, page
                    first = rows[: len(expected.rows)]
                    assert first == (expected.rows[::-1] if by_day else expected.rows), page


def test_pages_without_scripts_show_tables(browser: Browser) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get((browser.site / "lifecycle.html").as_uri())
        cells = browser.driver.find_elements(By.CSS_SELECTOR, "#f1 td")
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", {"value": False})
    file = read(browser.site / "lifecycle.html")
    [card, *_] = cards(file).values()
    assert [cell.text for cell in cells] == [
        text for row in shown_table(card).rows for text in row[1:]
    ]


def test_a_date_range_limits_all_charts_of_days_and_nothing_else(browser: Browser) -> None:
    browser.show("lifecycle.html")
    before = data(browser)
    set_value(browser, "from", "2025-06-10")
    set_value(browser, "to", "2025-06-20")
    after = data(browser)
    limited = 0
    for id_, day in fields(browser, "lifecycle.html").items():
        if day:
            inside = [row for row in before[id_] if "2025-06-10" <= row[day] <= "2025-06-20"]
            assert after[id_] == inside, id_
            assert "10 Jun 2025 to 20 Jun 2025" in note(browser, id_)
            limited += after[id_] != before[id_]
        else:
            assert after[id_] == before[id_], id_
            assert "Not limited" in note(browser, id_)
    assert limited > 5


def test_a_segment_limits_the_charts_that_have_it(browser: Browser) -> None:
    browser.show("lifecycle.html")
    before = data(browser)
    Select(browser.driver.find_element(By.NAME, "segment")).select_by_value("country:US")
    after = data(browser)
    changed = {id_ for id_ in before if after[id_] != before[id_]}
    assert len(changed) == 2  # active users, and states over time
    for id_ in before:
        segments = {row.get("segment") for row in after[id_]}
        assert segments == ({"country:US"} if id_ in changed else {None}), id_
        assert ("Shows all segments." in note(browser, id_)) == (id_ not in changed)


def test_a_grain_and_a_hidden_series_change_their_own_chart_only(browser: Browser) -> None:
    browser.show("lifecycle.html")
    before = data(browser)
    Select(browser.driver.find_element(By.CSS_SELECTOR, "#f1 select")).select_by_value("Day")
    browser.driver.find_element(By.XPATH, "//*[@id='f1']//button[text()='Churned']").click()
    after = data(browser)
    assert {id_ for id_ in before if after[id_] != before[id_]} == {"f1"}
    assert {row["grain"] for row in after["f1"]} == {"Day"}
    assert {row["series"] for row in after["f1"]} == {"New", "Retained", "Resurrected"}
    head, *_ = table(browser, "f1")
    assert head == ["Day", "New", "Retained", "Resurrected"]


def test_a_link_restores_the_view(browser: Browser) -> None:
    browser.show("lifecycle.html")
    set_value(browser, "from", "2025-06-10")
    Select(browser.driver.find_element(By.NAME, "segment")).select_by_value("country:US")
    Select(browser.driver.find_element(By.CSS_SELECTOR, "#f1 select")).select_by_value("Day")
    browser.driver.find_element(By.XPATH, "//*[@id='f1']//button[text()='New']").click()
    chosen, link = data(browser), browser.run("return location.hash")
    browser.show("lifecycle.html", link=link)
    assert data(browser) == chosen
    assert browser.run("return document.querySelector('[name=from]').value") == "2025-06-10"
    browser.driver.find_element(By.CSS_SELECTOR, "#filters button").click()
    browser.wait("return !location.hash && document.body.dataset.drawn")
    assert data(browser) != chosen


def test_dragging_over_days_sets_the_date_range(browser: Browser) -> None:
    browser.show("lifecycle.html")
    chart = browser.driver.find_element(By.CSS_SELECTOR, "#f2 .chart svg")
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    actions = webdriver.ActionChains(browser.driver)
    actions.move_to_element_with_offset(chart, -40, 0).click_and_hold()
    actions.move_by_offset(40, 5).move_by_offset(30, 0).release().perform()
    browser.wait("return location.hash.includes('from=') && location.hash.includes('to=')")
    first, last = browser.run(
        "return [...document.querySelectorAll('[type=date]')].map((d) => d.value)"
    )
    assert first < last
    assert all(first <= row["day"] <= last for row in data(browser)["f2"])


def test_downloads_contain_the_rows_shown(browser: Browser) -> None:
    browser.show("lifecycle.html", link="#from=2025-06-10&to=2025-06-20&segment=country:US")
    rows = [[*row.values()] for row in data(browser)["f2"]]
    with duckdb.connect(str(browser.database), read_only=True) as connection:
        expected = connection.execute(
            " UNION ALL ".join(
                f"SELECT metric_date AS day, 'country:US' AS segment, '{name}' AS series,"
                f" users_active_{name.lower()} AS users FROM gold.gold_users_active_{name.lower()}"
                " WHERE segment_dimension = 'country' AND segment_value = 'US'"
                " AND metric_date BETWEEN '2025-06-10' AND '2025-06-20'"
                " AND (DATE '2025-06-30' - metric_date) % 7 = 0"
                for name in ("Monthly", "Weekly", "Daily")
            )
        ).fetchall()
    assert sorted(rows) == sorted([*map(str, row)] for row in expected)
    assert len(rows) > 0
    browser.run(
        "HTMLAnchorElement.prototype.click = function () {"
        " window.saved = [this.download, this.href]; };"
    )
    browser.driver.find_element(By.XPATH, "//*[@id='f2']//button[text()='PNG']").click()
    name, image = browser.wait("return window.saved")
    assert name == "users_active_monthly_weekly_and_daily_last_18_months.png"
    assert base64.b64decode(image.partition(",")[2]).startswith(b"\x89PNG")


def test_pointing_at_a_line_shows_its_value(browser: Browser) -> None:
    browser.command("Emulation.setTimezoneOverride", {"timezoneId": "America/Los_Angeles"})
    browser.show("lifecycle.html")
    chart = browser.driver.find_element(By.CSS_SELECTOR, "#f2 .chart svg")
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    webdriver.ActionChains(browser.driver).move_to_element(chart).move_by_offset(3, 3).perform()
    shown = browser.wait("return document.querySelector('#vg-tooltip-element.visible')?.innerText")
    day, line, users = re.findall(r"Day\s+(.+)\s+Line\s+(.+)\s+Users\s+(.+)", shown)[0]
    head, *rows = table(browser, "f2")
    browser.command("Emulation.setTimezoneOverride", {"timezoneId": ""})
    [row] = [row for row in rows if row[0] == day]
    assert row[head.index(line)] == users


def test_a_table_can_be_ordered_and_filtered(browser: Browser) -> None:
    browser.show("products.html")
    head = browser.driver.find_element(By.XPATH, "//th[button[text()='Users']]")
    button = head.find_element(By.TAG_NAME, "button")
    column = (
        "return [...arguments[0].closest('table').tBodies[0].rows]"
        ".map((row) => row.cells[arguments[0].cellIndex].textContent)"
    )
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    up = browser.driver.execute_script(column, head)
    assert [int(text) for text in up] == sorted(int(text) for text in up)
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    down = browser.driver.execute_script(column, head)
    assert [int(text) for text in down] == sorted((int(text) for text in up), reverse=True)
    field = browser.driver.find_element(By.CSS_SELECTOR, ".search input")
    field.send_keys("team spaces")
    left = browser.run(
        "return [...document.querySelector('.search').nextElementSibling.querySelectorAll('tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.textContent)"
    )
    assert left
    assert all("team spaces" in text.lower() for text in left)


def test_the_keyboard_reaches_controls_data_and_definitions(browser: Browser) -> None:
    browser.show("lifecycle.html")
    reached = set()
    body = browser.driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    for _ in range(300):
        active = browser.driver.switch_to.active_element
        if active.tag_name == "body":
            break
        reached.add(active.get_attribute("name") or active.text)
        active.send_keys(Keys.TAB)
    assert {
        *("Skip to content", "Revenue", "from", "to", "segment", "Churned", "Data", "About", "CSV"),
        "What the big numbers mean",
    } <= reached


# ---------------------------------------------------------------- what the browser shows


def pages(browser: Browser) -> list[str]:
    """Return all pages, but of accounts and of people only the three smallest and largest ones."""
    files = sorted(browser.site.glob("*.html"), key=lambda path: (path.stat().st_size, path.name))
    of_kind = [[one for one in files if one.name.startswith(kind)] for kind in ENTITIES]
    left_out = {one for found in of_kind for one in found[3:-3]}
    return sorted(one.name for one in files if one not in left_out)


def payload(browser: Browser, page: str, card: Element) -> dict[str, Any]:
    return payloads(browser.site / page)[card.attributes["id"]]


def data(browser: Browser) -> dict[str, list[dict[str, str]]]:
    """Return the rows that each chart shows, as its CSV file contains them."""
    texts = browser.driver.execute_async_script(
        "const done = arguments[0], make = URL.createObjectURL;"
        "const click = HTMLAnchorElement.prototype.click, blobs = [];"
        "URL.createObjectURL = (blob) => { blobs.push(blob); return make(blob); };"
        "HTMLAnchorElement.prototype.click = () => {};"
        "const figures = [...document.querySelectorAll('figure[id]')];"
        "for (const one of figures) one.querySelector('.save').click();"
        "URL.createObjectURL = make; HTMLAnchorElement.prototype.click = click;"
        "Promise.all(blobs.map((blob) => blob.text())).then((texts) =>"
        " done(texts.map((text, n) => [figures[n].id, text])));"
    )
    return {id_: [*csv.DictReader(text.splitlines())] for id_, text in texts}


def table(browser: Browser, id_: str) -> list[list[str]]:
    """Return the texts of a chart's table, with the headings first."""
    browser.run(f"document.querySelector('#{id_} details.data').open = true")
    browser.wait(f"return document.querySelector('#{id_} details.data table')")
    rows: list[list[str]] = browser.run(
        f"return [...document.querySelectorAll('#{id_} details.data tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return rows


def note(browser: Browser, id_: str) -> str:
    return browser.driver.find_element(By.CSS_SELECTOR, f"#{id_} .note").text


def set_value(browser: Browser, name: str, value: str) -> None:
    browser.run(
        f"const input = document.querySelector('[name={name}]'); input.value = '{value}';"
        "input.dispatchEvent(new Event('change'))"
    )


def fields(browser: Browser, page: str) -> dict[str, str]:
    """Return the field with the day of each chart, by the chart's id."""
    return {id_: day_field(found) for id_, found in payloads(browser.site / page).items()}


def day_field(payload: Mapping[str, Any]) -> str:
    return "day" if "day" in [name for name, *_ in payload["fields"]] else ""
