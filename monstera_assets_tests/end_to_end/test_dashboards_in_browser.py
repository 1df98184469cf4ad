"""The dashboards in headless Chromium: every page, at three widths, in light and dark mode.

Requires Chromium, its driver and npm (for axe-core, pinned in axe/package.json). The tests are marked
`browser` and run in `make test-ui`, not in `make test`. Set the environment variable SCREENSHOTS to a
folder to save a screenshot of every page.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from monstera_assets.dashboards.site import write_site
from monstera_assets.definitions import metric_tables
from monstera_assets.settings import Settings
from monstera_assets_tests.end_to_end.chromium import chromium
from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.site_page import cards, read, shown_table, tiles

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
WIDTHS = {"desk": 1280, "tablet": 800, "phone": 375}
SCHEMES = ("light", "dark")

OVERLAPS = """
const faults = [];
for (const svg of document.querySelectorAll('.chart svg')) {
  const outer = svg.getBoundingClientRect();
  if (!outer.width) continue;
  const title = svg.closest('figure').querySelector('h3').textContent;
  const texts = [...svg.querySelectorAll('text')].filter((text) => text.textContent);
  const boxes = texts.map((text) => text.getBoundingClientRect());
  boxes.forEach((box, i) => {
    if (box.left < outer.left - 1 || box.right > outer.right + 1 ||
        box.top < outer.top - 1 || box.bottom > outer.bottom + 1)
      faults.push(`${title}: ${texts[i].textContent} is cut off`);
    for (let j = i + 1; j < boxes.length; j++) {
      const other = boxes[j];
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      // Text boxes include space above and below the letters.
      if (across > 0 && down > box.height * 0.3)
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
    """A Chromium browser that opens the pages from disk."""

    driver: webdriver.Chrome
    site: Path

    def show(self, page: str, width: str, scheme: str) -> None:
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
        self.driver.get((self.site / page).as_uri())

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
def browser(seeds_run: SeedsRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with the site of the seeds, or of the database in DASHBOARD_DATABASE."""
    database = Path(os.environ.get("DASHBOARD_DATABASE") or seeds_run.database)
    output = tmp_path_factory.mktemp("dashboards")
    write_site(Settings(database=database), output, metric_tables())
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield Browser(driver, (output / "current").resolve())


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


def test_no_page_sends_requests_or_logs_errors(browser: Browser) -> None:
    browser.requests()
    browser.console_messages()
    for page in pages(browser):
        browser.show(page, "desk", "light")
        own = (browser.site / page).as_uri()
        # Chromium's first tab requests internal pages.
        own_pages = ("data:", "chrome-untrusted://new-tab-page")
        assert {url for url in browser.requests() if not url.startswith(own_pages)} <= {own}, page
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
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then((result) => done(result.violations.map((one) =>"
            " `${one.id}: ${one.nodes.length} times, ${one.nodes[0].html}`)));"
        )
        faults[page] = found
    assert {page: found for page, found in faults.items() if found} == {}


def test_numbers_equal_those_of_the_html(browser: Browser) -> None:
    """After the script has run, a page still shows the numbers of its file."""
    for page in pages(browser):
        browser.show(page, "desk", "light")
        file = read(browser.site / page)
        shown = browser.run(
            "return [...document.querySelectorAll('.tile')].map((tile) =>"
            " [tile.querySelector('.label').textContent, tile.querySelector('.value').textContent]);"
        )
        assert dict(shown) == {label: value for label, (value, _) in tiles(file).items()}
        for number, (title, card) in enumerate(cards(file).items(), start=1):
            if not list(card.all("table")):
                continue
            rows = browser.run(
                f"return [...document.querySelector('#f{number} table').tBodies[0].rows].map((row) =>"
                " [...row.cells].map((cell) => cell.textContent.trim().replace(/\\s+/g, ' ')));"
            )
            assert rows == shown_table(card).rows, title


def test_a_table_can_be_ordered_and_filtered(browser: Browser) -> None:
    browser.show("cross_product.html", "desk", "light")
    head = browser.driver.find_element(By.XPATH, "//th[button[text()='Users']]")
    button = head.find_element(By.TAG_NAME, "button")
    column = (
        "return [...arguments[0].closest('table').tBodies[0].rows]"
        ".map((row) => row.cells[1].textContent)"
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
        "return [...document.querySelector('[data-searchable]').querySelectorAll('tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    )
    assert left
    assert all("Team Spaces" in text for text in left)


def test_pointing_at_a_line_shows_its_row(browser: Browser) -> None:
    browser.show("overall.html", "desk", "light")
    browser.run(
        "const svg = document.querySelector('#f1 .broad svg'); svg.scrollIntoView();"
        "const box = svg.getBoundingClientRect(), chart = svg.closest('.chart');"
        "const [left, width] = JSON.parse(chart.dataset.plots)[0];"
        "const scale = box.width / Number(chart.dataset.size.split(' ')[0]);"
        "chart.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,"
        " clientX: box.left + (left + width) * scale, clientY: box.top + 60}))"
    )
    tip = browser.driver.find_element(By.CSS_SELECTOR, "#f1 .broad .tip").text.splitlines()
    latest = shown_table(next(iter(cards(read(browser.site / "overall.html")).values())))
    assert tip == [
        latest.rows[0][0],
        *(
            f"{name}: {value}"
            for name, value in zip(latest.headings[1:], latest.rows[0][1:], strict=True)
        ),
    ]


def test_the_keyboard_reaches_data_and_definitions(browser: Browser) -> None:
    browser.show("overall.html", "desk", "light")
    reached = set()
    body = browser.driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    for _ in range(200):
        active = browser.driver.switch_to.active_element
        if active.tag_name == "body":
            break
        reached.add(active.text)
        active.send_keys(Keys.TAB)
    assert {
        "Skip to content",
        "Segment View",
        "Data",
        "About",
        "What the big numbers mean",
    } <= reached


def pages(browser: Browser) -> list[str]:
    return sorted(path.name for path in browser.site.iterdir())
