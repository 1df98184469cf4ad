"""The documentation site in headless Chromium, opened from disk, on a desktop and on a phone.

`make test-ui` runs it, as the module is marked `browser`. If the environment variable SCREENSHOTS names
a folder, it keeps pictures of the pages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from monstera_assets_tests.end_to_end.chromium import chromium

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
DIAGRAMS = {"generated/lineage.html": 1, "generated/states.html": 3}
PAGES = ("index.html", "how-to/operations.html", "reference/seeds.html", *DIAGRAMS)
# The theme draws diagrams in closed shadow roots.
OPEN_SHADOWS = (
    "const attach = Element.prototype.attachShadow;"
    "Element.prototype.attachShadow = function () { return attach.call(this, {mode: 'open'}); };"
)
WIDE = """
return [...document.querySelectorAll('.md-content *')]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 &&
    !e.closest('.md-typeset__scrollwrap, pre, .diagram, .headerlink'))
  .map((e) => e.tagName + ' ' + e.textContent.slice(0, 60));
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A Chromium browser without network access."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": OPEN_SHADOWS})
        yield driver


def console(browser: webdriver.Chrome) -> list[str]:
    """Return the console messages since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]


def drawn(browser: webdriver.Chrome) -> int:
    """Return the number of diagrams that have a size."""
    return int(
        browser.execute_script(
            "return [...document.querySelectorAll('.mermaid')].filter((e) => {"
            " const svg = e.shadowRoot && e.shadowRoot.querySelector('svg');"
            " return svg && svg.querySelectorAll('.node').length > 4 && svg.clientWidth > 0;}).length"
        )
    )


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_works_without_network(
    browser: webdriver.Chrome, site: Path, page: str, width: int
) -> None:
    console(browser)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get((site / page).as_uri())
    expected = DIAGRAMS.get(page, 0)
    WebDriverWait(browser, 60).until(lambda driver: drawn(driver) == expected, page)
    if kept := os.environ.get("SCREENSHOTS"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(kept) / f"docs_{Path(page).stem}_{width}.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    assert browser.execute_script(WIDE) == []
    assert console(browser) == []


def test_search_works_without_network(browser: webdriver.Chrome, site: Path) -> None:
    console(browser)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((site / "index.html").as_uri())
    field = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    browser.execute_script("arguments[0].focus()", field)
    field.send_keys("churn")
    results = WebDriverWait(browser, 60).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
    )
    links = [result.get_attribute("href") or "" for result in results]
    assert any(link.startswith((site / "explanation/churn.html").as_uri()) for link in links)
    assert console(browser) == []
