"""The documentation site builds without warnings, links resolve, and code on the pages works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import types
from datetime import date, datetime
from pathlib import Path

import duckdb
import pytest

from monstera_assets.bronze import bronze_users
from monstera_assets.bronze.load_events import TABLES as EVENT_TABLES
from monstera_assets.checks.rules import Rule
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.model import Figure
from monstera_assets.dashboards.reading import Reader
from monstera_assets.definitions import metric_tables, tables
from monstera_assets.gold import authoring
from monstera_assets.gold.metrics import Metric
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.settings import Settings, variables
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse
from monstera_assets_tests.helpers.site_page import read
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("seeds/*.md"), *DOCS.rglob("*.md")]


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_site_builds_without_warnings_and_links_to_every_page(tmp_path: Path) -> None:
    built = subprocess.run(
        [BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]
    assert [str(page) for page in pages if f'href="{page}"' not in home] == []
    assert home.count('<li class="md-tabs__item') <= 7
    scripts = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', home)
    assert [script for script in scripts if "://" in script] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_to_files(page: Path) -> None:
    """MkDocs checks anchors between pages of the site. This test checks links from other pages."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"', text)
    for link in ("".join(link) for link in links):
        target, _, anchor = link.partition("#")
        if ":" not in link:
            file = page.parent / target if target else page
            assert file.exists(), link
            if anchor and DOCS not in page.parents:
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                assert anchor in [heading.lower().replace(" ", "-") for heading in headings], link
    if page.name == "CHANGELOG.md":  # names files of older versions
        return
    for path in re.findall(r"`((?:monstera_assets\w*|benchmarks|docs|seeds)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 700


def test_pictures_show_the_current_pages(seeds_run: SeedsRun) -> None:
    """A picture records the headings of its page, or the assets of its group in the Dagster UI."""
    images = DOCS / "images"
    shown = json.loads((images / "pictures.json").read_text())
    names = {f"{name}_{scheme}.png" for name in shown for scheme in ("light", "dark")}
    assert {path.name for path in images.iterdir()} == {*names, "pictures.json"}
    pages = "".join(page.read_text() for page in PAGES)
    assert [name for name in names if f"images/{name}" not in pages] == []
    for name, page in (
        ("dashboard_home", "index"),
        ("dashboard_lifecycle", "lifecycle"),
        ("dashboard_phone", "revenue"),
    ):
        site = seeds_run.database.parent / "dashboards" / "current"
        root = read(site / f"{page}.html")
        headings = [each.text for each in root.all() if each.tag in ("h1", "h2", "h3")]
        assert shown.pop(name) == headings, f"{name} is out of date. Run `make pictures`."
    [assets] = shown.values()
    group = {table.name for table in tables() if table.group == "accounts"}
    assert set(assets) == group, "asset_graph is out of date. Run `make pictures`."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_on_the_pages_exist(page: Path) -> None:
    for name in re.findall(r"\bMONSTERA_[A-Z_]+", page.read_text()):
        assert any(variable.startswith(name) for variable in variables()), name


def test_the_example_of_a_table_works() -> None:
    """Three events of two users. One user was seen before signup. Results are worked out by hand."""
    module = types.ModuleType("silver_user_first_events")
    exec(blocks("tutorials/add_a_table.md", "python")[0], vars(module))  # noqa: S102
    asset, rule = module.silver_user_first_events, module.seen_after_signup
    assert isinstance(asset, TableAsset)
    assert isinstance(rule, Rule)
    [events] = [table for table in EVENT_TABLES if table.name == "bronze_events"]
    made = MemoryWarehouse([events, bronze_users.TABLE, asset.table])

    def event(user: str, day: int, kind: str = "user") -> dict[str, object]:
        return {
            "event_id": f"{user}-{day}",
            "entity_id": user,
            "entity_type": kind,
            "event_timestamp": datetime(2025, 1, day, 12),  # noqa: DTZ001  # naive is UTC
            "event_date": date(2025, 1, day),
        }

    made.load(events, [event("a", 3), event("a", 2), event("b", 5), event("c", 1, "admin")])
    first = made.rows(compile_duckdb(asset(events.relation)))
    assert sorted((user, seen.day) for user, seen in first) == [("a", 2), ("b", 5)]
    made.load(asset.table, [{"user_id": user, "first_event_date": seen} for user, seen in first])
    made.load(
        bronze_users.TABLE,
        [
            {"user_id": "a", "signup_date": date(2025, 1, 3)},
            {"user_id": "b", "signup_date": date(2025, 1, 5)},
        ],
    )
    broken = rule.violations(
        [asset.table.relation, bronze_users.TABLE.relation], policy=LifecyclePolicy(), window=None
    )
    [row] = made.rows(compile_duckdb(broken))
    assert row[0] == "a"


def test_the_example_of_a_metric_is_one() -> None:
    made: dict[str, object] = {"ma": authoring}
    exec(blocks("how-to/extending.md", "python")[0], made)  # noqa: S102
    metric = made["POWER_USERS"]
    assert isinstance(metric, Metric)
    assert metric.column_name == "users_power_daily"


@pytest.mark.parametrize("page", ["how-to/extending.md", "how-to/own_data.md"])
def test_examples_of_settings_are_settings(page: str) -> None:
    for block in blocks(page, "toml"):
        Settings(**tomllib.loads(block))


def test_the_example_of_a_chart_is_a_figure(seeds_run: SeedsRun) -> None:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        *imports, call = blocks("how-to/dashboards.md", "python")[0].strip().splitlines()
        reader = Reader(connection, metric_tables(), Wording("USD", 30))
        made: dict[str, object] = {"reader": reader}
        exec("\n".join(imports), made)  # noqa: S102
        assert isinstance(eval(call, made), Figure)  # noqa: S307
