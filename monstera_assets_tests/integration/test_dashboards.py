"""The dashboards: design rules, empty and unusual data, and replacement of the site."""

from __future__ import annotations

import re
import shutil
import webbrowser
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from monstera_assets import cli
from monstera_assets.dashboards import site
from monstera_assets.dashboards.asset import KEY
from monstera_assets.dashboards.extract import extract
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.home_page import home_page
from monstera_assets.dashboards.library import SiteError
from monstera_assets.dashboards.model import Figure, Listing
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.site import SiteReport, make_pages, write_site
from monstera_assets.definitions import build_definitions, metric_tables, tables
from monstera_assets.operations.jobs import Due
from monstera_assets.operations.snapshots import Snapshots
from monstera_assets.operations.status import Status, TableStatus
from monstera_assets.settings import Settings
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.site_page import (
    Element,
    cards,
    payloads,
    read,
    shown_table,
    tiles,
)
from monstera_assets_tests.integration.example_runs import Graph, SeedsRun

TITLE = re.compile(
    r"[A-Z]\w+(, [\w -]+)+?, (Last \d+ (Days|Months)|Latest Day|to Date|Days \d+ to \d+ after Adoption)"
    r"(, by [A-Z0-9][\w ]*)?"
)
MAIN_PAGES = {
    "index.html", "lifecycle.html", "retention.html", "revenue.html", "products.html",
    "activity.html", "risk.html", "accounts.html",
}  # fmt: skip
FILES = {"style.css", "site.js", "charts.js", "vega.js"}


@pytest.fixture
def database(tmp_path: Path, seeds_run: SeedsRun) -> Path:
    return Path(shutil.copy(seeds_run.database, tmp_path / "warehouse.duckdb"))


def build(database: Path, output: Path) -> SiteReport:
    return write_site(Settings(database=database), output, metric_tables())


def change(database: Path, *statements: str) -> None:
    with duckdb.connect(str(database)) as connection:
        for statement in statements:
            connection.execute(statement)


def pages(output: Path) -> dict[str, Element]:
    return {path.name: read(path) for path in (output / "current").glob("*.html")}


def test_a_run_of_the_graph_builds_the_site(seeds_run: SeedsRun) -> None:
    current = seeds_run.database.parent / "dashboards" / "current"
    assert {path.name for path in current.iterdir()} > MAIN_PAGES
    assert tiles(read(current / "lifecycle.html"))["Users Active Monthly"][0] == "12"


def test_tiles_show_short_names(seeds_run: SeedsRun) -> None:
    page = read(seeds_run.database.parent / "dashboards" / "current" / "index.html")
    shown = {
        tile.one("p", "label").text: [name.text for name in tile.all("p", "short-name")]
        for tile in page.all("li", "tile")
    }
    assert shown["Users Active Monthly"] == ["MAU"]
    assert shown["Revenue Retained Net Monthly"] == ["NRR in 30 days"]
    assert shown["Accounts Active Monthly"] == []


def test_the_asset_depends_on_every_table_it_reads(tmp_path: Path) -> None:
    settings = Settings(database=tmp_path / "monstera.duckdb", start_date=date(2025, 6, 1))
    definitions = build_definitions(settings)
    node = definitions.resolve_asset_graph().get(KEY)
    assert node.parent_keys == {asset_key(name) for name in extract(metric_tables())}
    assert node.group_name == "dashboards"
    for job in ("whole_graph", "daily", "gold_only"):
        assert KEY in definitions.resolve_job_def(job).asset_layer.executable_asset_keys


def test_design_rules(database: Path) -> None:
    with duckdb.connect(str(database), read_only=True) as connection:
        reader = Reader(connection, metric_tables(), Wording("USD", 30))
        made = list(make_pages(reader, metric_tables()))
    assert len({page.file for page in made}) == len(made) > len(MAIN_PAGES)
    for page in made:
        assert len(page.figures()) <= 20
        for item in page.items():
            assert TITLE.fullmatch(item.title), item.title
            assert item.name, item.title
            if isinstance(item, Figure | Listing):
                assert item.finding.endswith("."), item.title
                assert item.about
                assert item.about.definitions, item.title
                assert item.about.source, item.title
                assert item.about.owner.startswith("team:"), item.title
            if isinstance(item, Figure):
                # Colors are variables in the style sheet.
                assert all(re.fullmatch(r"[a-z-]+", color) for color in item.chart.colors.values())


def test_pages_load_only_files_of_the_site_and_link_to_each_other(seeds_run: SeedsRun) -> None:
    output = seeds_run.database.parent / "dashboards"
    made = pages(output)
    reached = set()
    for name, page in made.items():
        text = (output / "current" / name).read_text(encoding="utf-8")
        assert not re.findall(r"\w+://[^\"' <>]+", text)
        [policy] = [
            meta.attributes["content"]
            for meta in page.all("meta")
            if meta.attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
        assert "unsafe" not in policy
        scripts = [one.attributes for one in page.all("script")]
        loaded = {one["src"] for one in scripts if one.get("type") != "application/json"}
        assert "site.js" in loaded <= FILES
        assert not list(page.all("style"))
        assert not any("style" in element.attributes for element in page.all())
        assert not any(key.startswith("on") for e in page.all() for key in e.attributes)
        targets = {link.attributes["href"] for link in page.all("a")} - {"#content"}
        assert targets <= set(made), name
        reached |= targets
        assert "index.html" in targets
        ids = {element.attributes.get("id"): element for element in page.all()}
        for chart in page.all("div", "chart"):
            assert chart.attributes["role"] == "img"
            assert all(ids[one].text for one in chart.attributes["aria-labelledby"].split())
    assert reached == set(made)


def test_the_site_needs_only_the_extract(
    database: Path, seeds_run: SeedsRun, tmp_path: Path
) -> None:
    """A database that contains only the extract's tables and columns gives the same pages."""
    published = tmp_path / "extract.duckdb"
    with duckdb.connect(str(published)) as connection:
        connection.execute(f"ATTACH '{database}' AS warehouse (READ_ONLY)")
        for table in extract(metric_tables()).values():
            schema, name = table.qualified_name.split(".")
            columns = ", ".join(column.name for column in table.columns)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.execute(
                f"CREATE TABLE {schema}.{name} AS"
                f" SELECT {columns} FROM warehouse.{table.qualified_name}"
            )
    build(published, tmp_path / "site")
    build(database, tmp_path / "expected")
    for path in (tmp_path / "expected" / "current").iterdir():
        made = tmp_path / "site" / "current" / path.name
        assert made.read_bytes() == path.read_bytes(), path.name


def test_same_tables_give_the_same_bytes(database: Path, tmp_path: Path) -> None:
    build(database, tmp_path / "first")
    with duckdb.connect(str(database)) as connection:
        # The same rows in another order.
        for table in extract(metric_tables()).values():
            connection.execute(
                f"CREATE TABLE shuffled AS FROM {table.qualified_name} ORDER BY random()"
            )
            connection.execute(f"DELETE FROM {table.qualified_name}")
            connection.execute(f"INSERT INTO {table.qualified_name} FROM shuffled")
            connection.execute("DROP TABLE shuffled")
    build(database, tmp_path / "second")
    first, second = (tmp_path / name / "current" for name in ("first", "second"))
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in second.iterdir()}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_failed_build_leaves_the_old_site(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "site"
    texts = {"index.html": "old", "risk.html": "old"}
    monkeypatch.setattr(site, "render_site", lambda *_: iter(texts.items()))
    build(database, output)
    before = (output / "current").resolve()
    texts = dict.fromkeys(texts, "new")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "risk.html":
            raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(SiteError, match=r"No space left on device\. The previous site is"):
            build(database, output)
    with monkeypatch.context() as patched:
        patched.setattr(Snapshots, "_publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(database, output)
    assert (output / "current").resolve() == before
    assert list((output / "snapshots").iterdir()) == [before]
    assert {path.read_text() for path in before.iterdir()} == {"old"}
    build(database, output)
    assert {path.read_text() for path in (output / "current").iterdir()} == {"new"}


def test_a_folder_that_cannot_be_written_to(database: Path, tmp_path: Path) -> None:
    """The path is inside a file, so that creating it fails for every user, including root."""
    (tmp_path / "file").touch()
    with pytest.raises(SiteError, match=r"Cannot write to .*: Not a directory"):
        build(database, tmp_path / "file" / "site")


def test_an_empty_database(tmp_path: Path) -> None:
    database = tmp_path / "empty.duckdb"
    duckdb.connect(str(database)).close()
    report = build(database, tmp_path / "site")
    assert report.as_of is None
    made = pages(tmp_path / "site")
    assert set(made) == MAIN_PAGES
    for name, page in made.items():
        assert "No data yet" in page.one("p", "fresh").text
        assert tiles(page) == {}
        for card in cards(page).values():
            assert "unavailable" in card.classes, name
            assert "monstera run" in card.text or "no active product" in card.text, card.text


def test_missing_and_unknown_values_are_not_shown_as_zero(database: Path, tmp_path: Path) -> None:
    change(
        database,
        "UPDATE gold.gold_overall_metrics SET users_active_stickiness_monthly = NULL"
        " WHERE metric_date > '2025-06-20'",
        "UPDATE gold.gold_overall_metrics SET users_activated_share_weekly = NULL",
        "DELETE FROM gold.gold_revenue_metrics WHERE metric_date > '2025-06-20'",
        "DROP TABLE gold.gold_growth_accounting",
    )
    build(database, tmp_path / "site")
    page = pages(tmp_path / "site")["lifecycle.html"]
    assert tiles(page)["Users Active Stickiness Monthly"] == (
        "not known",
        "change not known in a week",
    )
    found = cards(page)
    assert shown_table(found["Stickiness"]).rows[-1] == ["30 Jun 2025", "not known"]
    finding = found["Stickiness"].one("p", "finding").text
    assert "No value is known after 20 Jun 2025." in finding
    assert "unavailable" in found["Activated within 7 days"].classes
    closing = cards(pages(tmp_path / "site")["revenue.html"])["MRR"]
    assert shown_table(closing).rows[-1] == ["30 Jun 2025", "not known"]
    missing = found["Gained and lost users"]
    assert "gold.gold_growth_accounting" in missing.text
    assert "was never materialized" in missing.text
    assert "monstera run" in missing.text


def test_names_with_markup_are_text(database: Path, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    change(
        database,
        f"UPDATE bronze.bronze_product_catalog SET product_name = '{evil}'"
        " WHERE product_id IN ('video_studio', 'caption_translation')",
        f"UPDATE gold.gold_activity_metrics SET event_type = '{evil}'"
        " WHERE event_type = 'video_edited'",
        f"UPDATE gold.gold_users_active_monthly SET segment_value = '{evil}'"
        " WHERE segment_value = 'US'",
        f"UPDATE gold.gold_accounts_needing_attention SET account_id = '{evil}'"
        " WHERE attention_rank = 1",
    )
    build(database, tmp_path / "site")
    made = pages(tmp_path / "site")
    for name, page in made.items():
        scripts = [one.attributes for one in page.all("script")]
        assert all(one.get("src") in FILES or one["type"] == "application/json" for one in scripts)
        assert not list(page.all("img")), name
        assert not any(key.startswith("on") for e in page.all() for key in e.attributes), name
    studio = made["product_video_studio.html"]
    # Two products have this name, so that the pages also show their ids.
    assert studio.one("h1").text == f"{evil} (video_studio)"
    listed = cards(made["accounts.html"])["Accounts needing attention"]
    assert shown_table(listed).rows[0][0] == evil
    data = payloads(tmp_path / "site" / "current" / "lifecycle.html")
    assert any(f"country:{evil}" in str(one["columns"]) for one in data.values())
    by_type = cards(made["activity.html"])["Event types"]
    assert evil in shown_table(by_type).headings


def test_one_user_on_one_day(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, lines in {
        "product_catalog": (
            "product_id,product_name,product_family_id,tier,parent_product_id,is_active,created_at,"
            "product_owner,activation_event_types,qualifying_event_types,active_days,dormant_days",
            "work,Work,work,family,,true,2025-01-01 00:00:00,team,,,,",
            "notes,Notes,work,product,work,true,2025-01-01 00:00:00,team,note_written,note_written,,",
        ),
        "accounts": (
            "account_id,account_name,subscription_tier,total_seats,account_created_at,first_paid_at,"
            "contract_renewal_date,monthly_recurring_revenue,is_trial",
            "a1,One,trial,1,2025-06-01 08:00:00,,,0,true",
        ),
        "users": (
            "user_id,email,account_id,user_created_at,country,plan_type,acquisition_source",
            "u1,u1@example.invalid,a1,2025-06-01 09:00:00,DE,free,organic",
        ),
        "events": (
            "event_id,entity_id,entity_type,event_type,timestamp,location,session_id,product_id,"
            "is_qualifying_event,is_activation_event,metadata",
            "e1,u1,user,note_written,2025-06-01 10:00:00,web_app,,notes,true,true,",
        ),
    }.items():
        (source / f"{name}.csv").write_text("\n".join(lines) + "\n")
    day = date(2025, 6, 1)
    graph = Graph(source, tmp_path / "one.duckdb", tmp_path / "home", day)
    with graph.instance:
        names = [table.name for table in tables()]
        assert graph.run(DateWindow(day, day), only=names).success
    build(graph.database, tmp_path / "site")
    made = pages(tmp_path / "site")
    assert tiles(made["lifecycle.html"])["Users Active Daily"] == (
        "1",
        "change not known in a week",
    )
    active = cards(made["lifecycle.html"])["Active users"]
    assert shown_table(active).headings == ["Day", "Monthly", "Weekly", "Daily"]
    assert shown_table(active).rows == [["1 Jun 2025", "1", "1", "1"]]
    assert "was 1 on 1 Jun 2025, the only day with a value" in active.one("p", "finding").text
    assert tiles(made["product_notes.html"])["Users in Use to Date"][0] == "1"


def test_the_home_page_shows_failing_checks_and_lateness(seeds_run: SeedsRun) -> None:
    now = datetime(2025, 7, 2, 12, tzinfo=UTC)
    settings = Settings(database=seeds_run.database)
    failing = TableStatus(table="silver_users", last_day=date(2025, 6, 30), failing_checks={
        "one": "P1", "two": "P1", "three": "P2", "four": "P2",
    }, first_day=date(2024, 7, 1))  # fmt: skip
    status = Status(due=Due.at(now, settings), last_run=None, tables=[failing])
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        reader = Reader(connection, metric_tables(), Wording.of(settings))
        late, checks, *_ = home_page(reader, status).news
        # Data that ends long ago is an example, and not late.
        status = Status(
            due=Due.at(now + timedelta(days=365), settings), last_run=None, tables=[failing]
        )
        old, *_ = home_page(reader, status).news
    assert (late.note, late.text.partition(" by ")[0]) == (
        "The data is late.",
        "1 Jul 2025 was due",
    )
    assert old == checks
    assert checks.note == "Checks fail: 2 of level P1, 2 of level P2."
    assert checks.text.startswith(
        "silver_users.one, silver_users.two, silver_users.three and 1 more."
    )


def test_the_command_builds_and_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "empty.duckdb"
    duckdb.connect(str(database)).close()
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "my site"
    arguments = ["dashboard", "--database", str(database), "--output", str(output)]
    quiet = CliRunner().invoke(cli.main, [*arguments, "--no-open"])
    assert quiet.exit_code == 0, quiet.output
    assert opened == []
    index = output / "current" / "index.html"
    assert f"Dashboards: {index}\n" in quiet.output
    assert "8 pages" in quiet.output
    assert "no data (start with `monstera run`)" in quiet.output
    assert CliRunner().invoke(cli.main, arguments).exit_code == 0
    assert opened == [index.as_uri()]
    missing = CliRunner().invoke(cli.main, ["dashboard", "--database", str(tmp_path / "no.duckdb")])
    assert missing.exit_code == cli.EXIT_USAGE
    assert "does not exist" in missing.output
