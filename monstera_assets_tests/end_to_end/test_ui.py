"""Test the Dagster UI in headless Chromium: groups in the graph, partitions and checks.

The tests need Chromium and its driver (Debian packages chromium and chromium-driver), so they have the
mark `browser` and only `make test-ui` runs them. To keep the screenshots, set the environment variable
SCREENSHOTS to a folder.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from monstera_assets.definitions import rules, tables
from monstera_assets.warehouse.layers import AssetGroup
from monstera_assets_tests.end_to_end.chromium import chromium

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HISTORY = "silver_user_state_history"
SCREEN = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
WIDEST_GRAPH = "localStorage.setItem('dagster-nav-collapsed', 'true')"
"""Collapses the navigation, so that the graph is drawn as large as possible."""
NODES = """
return [...document.querySelectorAll('[data-svg-viewport] foreignObject')].map((node) => {
    const {left, top, right, bottom} =
        node.querySelector('[class*="ssetNodeBox__"]').getBoundingClientRect()
    const [x, y] = [(left + right) / 2, (top + bottom) / 2]
    const edges = [[x, top + 2], [x, bottom - 2], [left + 2, y], [right - 2, y]]
    const seen = edges.every((edge) => node.contains(document.elementFromPoint(...edge)))
    return {left, top, right, bottom, seen}
})
"""
"""Returns each node of a graph, and whether nothing covers the middle of its edges."""
PATIENCE = 120
"""Seconds until a server or page that does not respond counts as broken."""


@dataclass(frozen=True)
class Ui:
    """A browser for a running UI."""

    driver: webdriver.Chrome
    url: str
    screenshots: Path

    def show(self, path: str, words: Sequence[str], screenshot: str) -> str:
        """Open a page, wait until it contains all words, and take a screenshot.

        Args:
            path: the path of the page.
            words: the words that must occur in the page.
            screenshot: the name of the screenshot.

        Returns:
            The text of the page.
        """
        self.driver.set_window_size(1900, 1100)
        self.driver.get(self.url + path)
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.5).until(
            lambda _: all(word in self.text() for word in words) and "Loading" not in self.text(),
            f"{words} not on {path}",
        )
        time.sleep(1)  # the graph is animated
        self.driver.save_screenshot(str(self.screenshots / f"{screenshot}.png"))
        return self.text()

    def text(self) -> str:
        """The visible text of the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The UI after a run of the seeds."""
    folder = tmp_path_factory.mktemp("ui")
    screenshots = Path(os.environ.get("SCREENSHOTS") or folder / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MONSTERA_")
    } | {"DAGSTER_HOME": str(folder / "home"), "MONSTERA_SOURCE": str(ROOT / "seeds")}
    subprocess.run([str(BIN / "monstera"), "run"], cwd=folder, env=environment, check=True)
    with webserver(environment, folder) as url, chromium(folder / "profile") as driver:
        yield Ui(driver, url, screenshots)


def test_each_group_shows_its_tables(ui: Ui) -> None:
    ui.show("/asset-groups", list(AssetGroup), "groups")
    for group in AssetGroup:
        page = ui.show(f"/asset-groups~group%3A%22{group}%22", assets_of(group), f"group_{group}")
        assert "Failed" not in page
        assert "Never materialized" not in page


@pytest.mark.parametrize("group", AssetGroup)
def test_the_graph_of_a_group_fits_on_a_screen(ui: Ui, group: AssetGroup) -> None:
    """The UI draws the nodes within the window only, so there must also be a node for each asset."""
    driver = ui.driver
    driver.get(ui.url)
    driver.execute_script(WIDEST_GRAPH)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
    try:
        driver.get(f"{ui.url}/asset-groups~group%3A%22{group}%22")
        nodes = still_nodes(driver)
        driver.save_screenshot(str(ui.screenshots / f"screen_{group}.png"))
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(nodes) == len(assets_of(group))
    assert [node for node in nodes if not node["seen"]] == []


def test_an_open_group_shows_its_tables_and_their_checks(ui: Ui) -> None:
    page = ui.show(
        "/asset-groups~group%3A%22accounts%22",
        ["silver_account_state_history", "Passed"],
        "asset_graph",
    )
    checks = re.findall(r"(\d+) / (\d+) Passed", page)
    assert len(checks) > 5
    assert all(passed == of for passed, of in checks)
    assert "Failed" not in page


def test_a_history_has_a_partition_for_each_day(ui: Ui) -> None:
    days = "%5B2024-07-01...2025-06-30%5D"
    page = ui.show(
        f"/assets/silver/{HISTORY}?view=partitions&default_range={days}&partition=2025-06-30",
        [HISTORY, "Materialized (", "rows_written"],
        "history_partitions",
    )
    assert "365 Partitions Selected" in page
    assert "Materialized (365)" in page
    assert "Failed (0)" in page
    assert "Missing (0)" in page
    assert "2025-06-30\nMaterialized" in page


def test_the_checks_of_a_history_are_green(ui: Ui) -> None:
    contract = {
        "types_as_declared",
        "no_nulls",
        "key_is_unique",
        "values_allowed",
        "references_exist",
    }
    own = {rule.name for rule in rules() if rule.table.name == HISTORY}
    assert own
    page = ui.show(
        f"/assets/silver/{HISTORY}?view=checks",
        [HISTORY, f"Checks ({len(contract | own)})", "Succeeded"],
        "history_checks",
    )
    for name in contract | own:
        assert f"{name}\nSucceeded" in page


def assets_of(group: AssetGroup) -> Sequence[str]:
    """Return the names of a group's assets."""
    others = ["static_site", "copy"] if group is AssetGroup.DASHBOARDS else []
    return [*(table.name for table in tables() if table.group == group), *others]


def still_nodes(driver: webdriver.Chrome) -> Sequence[Mapping[str, Any]]:
    """Return the nodes of a graph when they have stopped moving."""
    before: Sequence[Mapping[str, Any]] = []
    give_up = time.monotonic() + PATIENCE
    while not (nodes := driver.execute_script(NODES)) or nodes != before:
        assert time.monotonic() < give_up, nodes
        before = nodes
        time.sleep(1)
    return list(nodes)


@contextmanager
def webserver(environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Start the UI's server on a free port, and yield its address when it responds."""
    log = folder / "webserver.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(BIN / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "-w", str(ROOT / "workspace.yaml")],
            cwd=folder,
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
    """Return whether the UI's server responds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
