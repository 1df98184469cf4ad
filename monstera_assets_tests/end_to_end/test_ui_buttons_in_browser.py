"""Press each launch button of the Dagster UI once in headless Chromium, with the real daemon.

The tests have the mark `browser`, as those in test_ui.py, where SCREENSHOTS is described. What the
buttons compute is tested in more detail, without a browser, in test_ui_buttons.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from monstera_assets.definitions import build_definitions
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.end_to_end.chromium import chromium
from monstera_assets_tests.end_to_end.test_ui import BIN, HISTORY, PATIENCE, ROOT, Ui, webserver
from monstera_assets_tests.helpers.command_line import SEEDS, copy_of, environment
from monstera_assets_tests.helpers.dagster_ui import Materialized
from monstera_assets_tests.integration.example_runs import SeedsRun, computed_from

pytestmark = pytest.mark.browser

FIVE_DAYS = DateWindow(date(2025, 6, 3), date(2025, 6, 7))
ONE_DAY = DateWindow(date(2025, 6, 12), date(2025, 6, 12))
CURRENT = "silver_user_current_state"
PAGE = f"/assets/silver/{HISTORY}"
RUN_SECONDS = 600
"""Seconds until a run that has not finished counts as stuck."""
_LAYOUT_SECONDS = 3  # the graph is drawn again, and dialogs are animated


@dataclass(frozen=True)
class Buttons:
    """The UI of a warehouse with all days of the seeds, and what the runs record."""

    ui: Ui
    instance: dg.DagsterInstance

    def click(self, text: str) -> None:
        """Wait for an enabled button that begins with a text, and click the last one."""
        button = WebDriverWait(self.ui.driver, PATIENCE).until(
            lambda driver: driver.execute_script(
                "return [...document.querySelectorAll('button')].filter(each =>"
                " each.innerText.trim().startsWith(arguments[0]) && !each.disabled).pop()",
                text,
            ),
            f"no button {text}",
        )
        self.ui.driver.execute_script("arguments[0].click()", button)
        time.sleep(_LAYOUT_SECONDS)

    def choose(self, days: DateWindow) -> None:
        """Choose days in the dialog, which at first shows the last 90 days."""
        self.click("Show all partitions")
        [field] = self.ui.driver.find_elements(By.CSS_SELECTOR, 'input[placeholder^="ex: "]')
        field.send_keys(Keys.CONTROL, "a")
        text = f"[{days.first}...{days.last}]" if len(days) > 1 else f"{days.first}"
        field.send_keys(text, Keys.ENTER)
        time.sleep(_LAYOUT_SECONDS)

    def picture(self, name: str) -> None:
        """Take a screenshot."""
        self.ui.driver.save_screenshot(str(self.ui.screenshots / f"button_{name}.png"))

    def runs(self) -> Sequence[dg.DagsterRun]:
        """Return all runs, oldest first."""
        return list(self.instance.get_runs())[::-1]

    def finished(self, before: int, name: str) -> dg.DagsterRun:
        """Wait until the only new run has finished, and take a picture of its page."""
        give_up = time.monotonic() + RUN_SECONDS
        while not (new := self.runs()[before:]) or not all(run.is_finished for run in new):
            assert time.monotonic() < give_up, new
            time.sleep(1)
        time.sleep(2)  # a second run would have begun
        [run] = self.runs()[before:]
        self.ui.driver.get(f"{self.ui.url}/runs/{run.run_id}")
        time.sleep(2 * _LAYOUT_SECONDS)
        self.picture(f"{name}_run")
        assert run.status == dg.DagsterRunStatus.SUCCESS
        return run

    def materialized(self, run: dg.DagsterRun) -> Materialized:
        """Return the tables that a run computed, each with the day if it is partitioned."""
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        records = self.instance.get_records_for_run(run.run_id, of_type=kind).records
        made = [record.event_log_entry.asset_materialization for record in records]
        return {(one.asset_key.path[-1], one.partition) for one in made if one is not None}


@pytest.fixture(scope="module")
def buttons(tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun) -> Iterator[Buttons]:
    """The UI and the daemon after a run of the seeds."""
    folder = copy_of(seeds_run.outcome, tmp_path_factory.mktemp("buttons") / "house")
    screenshots = Path(os.environ.get("SCREENSHOTS") or folder / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    home = folder / "data" / "dagster_home"
    variables = environment(
        DAGSTER_HOME=str(home),
        MONSTERA_SOURCE=str(SEEDS),
        MONSTERA_DATABASE=str(folder / "data" / "monstera.duckdb"),
    )
    with (folder / "daemon.log").open("w") as log:
        daemon = subprocess.Popen(
            [str(BIN / "dagster-daemon"), "run", "-w", str(ROOT / "workspace.yaml")],
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with (
            webserver(variables, folder) as url,
            chromium(folder / "profile") as driver,
            dg.DagsterInstance.from_config(str(home)) as instance,
        ):
            driver.set_window_size(1600, 1100)
            yield Buttons(Ui(driver, url, screenshots), instance)
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait()


def expected(names: Collection[str], days: DateWindow) -> Materialized:
    """Return what a run materializes if it computes the selection and nothing else."""
    graph = build_definitions(Settings(source=SEEDS)).resolve_asset_graph()
    nodes = {key.path[-1]: graph.get(key) for key in graph.get_all_asset_keys()}
    daily = {name for name in names if nodes[name].is_partitioned}
    return {(name, str(day)) for name in daily for day in days} | {
        (name, None) for name in {*names} - daily
    }


@pytest.mark.parametrize(
    ("name", "page", "clicks", "days", "launch"),
    [
        ("all", "/asset-groups", ["Materialize all"], FIVE_DAYS, "Launch backfill"),
        (
            "with_upstreams",
            f"{PAGE}?view=lineage&lineageScope=upstream",
            # The loads also write tables that the history does not read, which the UI confirms.
            ["All", "Materialize all", "Confirm"],
            FIVE_DAYS,
            "Launch backfill",
        ),
        ("one_day", PAGE, ["Materialize"], ONE_DAY, "Launch 1 run"),
    ],
    ids=["a backfill of all assets", "one asset with its upstreams", "one partition"],
)
def test_materialize(
    buttons: Buttons,
    name: str,
    page: str,
    clicks: Sequence[str],
    days: DateWindow,
    launch: str,
) -> None:
    before = len(buttons.runs())
    selected: Collection[str] = [HISTORY]
    if name == "with_upstreams":
        selected = computed_from([HISTORY])
    elif name == "all":
        graph = build_definitions(Settings(source=SEEDS)).resolve_asset_graph()
        selected = {key.path[-1] for key in graph.get_all_asset_keys()}
    buttons.ui.show(page, ["Materialize"], f"button_{name}_page")
    for text in clicks:
        buttons.click(text)
    buttons.choose(days)
    buttons.picture(name)
    buttons.click(launch)
    run = buttons.finished(before, name)
    assert buttons.materialized(run) == expected(selected, days)


def test_materialize_an_unpartitioned_asset(buttons: Buttons) -> None:
    before = len(buttons.runs())
    buttons.ui.show(f"/assets/silver/{CURRENT}", [CURRENT, "Materialize"], "button_unpartitioned")
    buttons.click("Materialize")
    run = buttons.finished(before, "unpartitioned")
    assert buttons.materialized(run) == {(CURRENT, None)}


def test_execute_checks(buttons: Buttons) -> None:
    before = len(buttons.runs())
    buttons.ui.show(f"{PAGE}?view=checks", [HISTORY, "Execute all"], "button_checks")
    buttons.click("Execute all")
    run = buttons.finished(before, "checks")
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    records = buttons.instance.get_records_for_run(run.run_id, of_type=kind).records
    found = [
        record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in records
    ]
    assert len(found) == 8
    assert all(one.passed for one in found)
    assert buttons.materialized(run) == set()
