"""The Dagster UI in headless Chromium: the graph by group, a history's partitions, its checks.

Needs Chromium and its driver on the path (Debian's packages chromium and chromium-driver), so it is
marked as `browser` and not part of `make test`; `make test-ui` runs it. Where the environment variable
SCREENSHOTS names a folder, the screenshots are kept there.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from monstera_assets.definitions import rules, tables

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HISTORY = "silver_user_state_history"
DAYS = 365  # of the seeds, 2024-07-01 to 2025-06-30
PATIENCE = 120
"""Seconds after which a server or page that has not come up counts as broken."""

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1800,1100"]


@dataclass(frozen=True)
class Ui:
    """A browser that looks at a running UI."""

    driver: webdriver.Chrome
    url: str
    screenshots: Path

    def show(self, path: str, words: Sequence[str], name: str) -> str:
        """Open a page, wait until all words are there and nothing loads, and take a screenshot.

        Returns:
            The text of the page.
        """
        self.driver.get(self.url + path)

        def text(driver: webdriver.Chrome) -> str:
            return driver.find_element(By.TAG_NAME, "body").text

        def is_ready(driver: webdriver.Chrome) -> bool:
            page = text(driver)
            return all(word in page for word in words) and "Loading" not in page

        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.5).until(
            is_ready, f"{words} not on {path}"
        )
        time.sleep(1)  # the graph slides into place
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))
        return text(self.driver)


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The UI over a run of the seeds."""
    folder = tmp_path_factory.mktemp("ui")
    screenshots = Path(os.environ.get("SCREENSHOTS") or folder / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MONSTERA_")
    } | {
        "DAGSTER_HOME": str(folder / "home"),
        "MONSTERA_SOURCE": str(ROOT / "seeds"),
        "MONSTERA_DATABASE": str(folder / "monstera.duckdb"),
    }
    subprocess.run([str(BIN / "monstera"), "run"], cwd=ROOT, env=environment, check=True)
    with (
        webserver(environment, folder / "webserver.log") as url,
        browser(folder / "profile") as driver,
    ):
        yield Ui(driver, url, screenshots)


def test_the_graph_shows_the_tables_by_group(ui: Ui) -> None:
    names = {
        layer: [table.name for table in tables() if table.layer == layer]
        for layer in ("bronze", "silver", "gold")
    }
    opened = ("bronze", "gold")
    shown = [name for layer in opened for name in names[layer]]
    expanded = ",".join(f"global@global:{layer}" for layer in opened)
    page = ui.show(f"/asset-groups?expanded={expanded}", [*names, *shown], "asset_graph")
    assert f"{len(names['silver'])} assets" in page  # of the group that is not open
    assert not re.search(r"\bfailed\b", page, re.IGNORECASE)
    assert "Never materialized" not in page


def test_a_history_has_a_partition_for_each_day(ui: Ui) -> None:
    page = ui.show(
        f"/assets/silver/{HISTORY}?view=partitions",
        [HISTORY, "Materialized ("],
        "history_partitions",
    )
    assert f"Materialized ({DAYS:,})" in page
    assert "Failed (0)" in page
    assert "2025-06-30" in page


def test_the_checks_of_a_history_have_passed(ui: Ui) -> None:
    page = ui.show(f"/assets/silver/{HISTORY}?view=checks", [HISTORY, "Checks ("], "history_checks")
    own = {rule.name for rule in rules() if rule.table.name == HISTORY}
    names = {*own, "types_as_declared", "no_nulls", "key_is_unique", "values_allowed"}
    names.add("references_exist")
    assert own
    assert f"{len(names)} / {len(names)} Passed" in page
    assert all(name in page for name in names)


@contextmanager
def webserver(environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """The UI's server on a free port; gives its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(BIN / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "-w", "workspace.yaml"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + PATIENCE
        while not answers(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its code server too
        server.wait()


def answers(port: int) -> bool:
    """Whether the UI's server answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Chromium with an empty profile, which fetches nothing but what a page asks for."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    assert chromium, "these tests need Chromium on the path"
    assert driver, "these tests need Chromium's driver, chromedriver, on the path"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        yield chrome
