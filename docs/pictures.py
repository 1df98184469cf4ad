"""Take the pictures in docs/images, each in the light and the dark color scheme.

    python -m docs.pictures FOLDER

FOLDER contains the warehouse of the synthetic company, its dashboards and Dagster's state, as
`make pictures` computes them. pictures.json records what each picture shows, so that a test finds
pictures of pages that have changed since. Requires Chromium and its driver.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from monstera_assets_tests.end_to_end.chromium import chromium
from monstera_assets_tests.end_to_end.test_ui import webserver

IMAGES = Path(__file__).parent / "images"
RECORD = IMAGES / "pictures.json"
SCHEMES = ("light", "dark")
HEADINGS = """
return [...document.querySelectorAll('h1, h2, h3')].map((one) => one.textContent.trim());
"""
ASSETS = r"""
return [...new Set(document.body.innerText.match(/\b(bronze|silver|gold)_\w+\b(?!…)/g))].sort();
"""
COMPLETE = "return document.body.dataset.drawn || /[0-9] Passed/.test(document.body.textContent)"
AS_IN_SYSTEM = """
localStorage.setItem('dagster-theme', '"System"');
localStorage.setItem('dagster-nav-collapsed', 'true');
"""
PATIENCE = 120
"""Seconds until a page that is not complete counts as broken."""


@dataclass(frozen=True)
class Picture:
    """A page of the dashboards, or a path of the Dagster UI, and the size of the window in pixels."""

    page: str
    width: int
    height: int

    @property
    def is_dashboard(self) -> bool:
        """Whether the page is a file of the dashboards."""
        return self.page.endswith(".html")


PICTURES: Mapping[str, Picture] = {
    "dashboard_home": Picture("index.html", 1280, 1000),
    "dashboard_lifecycle": Picture("lifecycle.html", 1280, 960),
    "dashboard_phone": Picture("revenue.html", 375, 812),
    "asset_graph": Picture("/asset-groups~group%3A%22accounts%22", 1280, 800),
}


def main() -> None:
    """Take all pictures and write the record of what they show."""
    [folder] = (Path(argument).resolve() for argument in sys.argv[1:])
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder / "dagster_home"),
        "MONSTERA_SOURCE": str(folder / "source"),
        "MONSTERA_DATABASE": str(folder / "monstera.duckdb"),
    }
    with (
        tempfile.TemporaryDirectory() as scratch,
        webserver(environment, Path(scratch)) as url,
        chromium(Path(scratch) / "profile") as driver,
    ):
        driver.get(url)
        driver.execute_script(AS_IN_SYSTEM)
        shown = {
            name: take(driver, name, picture, folder / "dashboards" / "current", url)
            for name, picture in PICTURES.items()
        }
    RECORD.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")


def take(driver: webdriver.Chrome, name: str, picture: Picture, site: Path, url: str) -> list[str]:
    """Write a picture in both color schemes, and return the headings or assets that it shows."""
    address = (site / picture.page).as_uri() if picture.is_dashboard else url + picture.page
    size = {"width": picture.width, "height": picture.height, "deviceScaleFactor": 1}
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {**size, "mobile": picture.width < 500}
    )
    for scheme in SCHEMES:
        preference = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
        driver.get(address)
        WebDriverWait(driver, PATIENCE, poll_frequency=0.5).until(is_complete, address)
        driver.save_screenshot(str(IMAGES / f"{name}_{scheme}.png"))
    script = HEADINGS if picture.is_dashboard else ASSETS
    return [str(text) for text in driver.execute_script(script)]


def is_complete(driver: webdriver.Chrome) -> bool:
    """Return whether a page has drawn its charts or its graph."""
    complete = bool(driver.execute_script(COMPLETE))
    time.sleep(2)  # the graph is animated
    return complete


if __name__ == "__main__":
    main()
