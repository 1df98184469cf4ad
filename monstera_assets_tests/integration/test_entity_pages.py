"""The pages of accounts and people show each day of the daily histories."""

from __future__ import annotations

import json
import re
import shutil
import webbrowser
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from monstera_assets import cli
from monstera_assets.dashboards.reading import page_file
from monstera_assets.dashboards.site import write_site
from monstera_assets.definitions import metric_tables
from monstera_assets.settings import Settings
from monstera_assets_tests.helpers.page_queries import day_text, label
from monstera_assets_tests.helpers.site_page import Element, cards, parse, read, shown_table
from monstera_assets_tests.integration.example_runs import SeedsRun

HIGH = ("usr_05", "usr_08", "usr_19")
"""Users whose risk the tests raise, because the seeds have too little history for a model."""
ODD = '<b>&"Acme"\' @@rows_facts@@'
LAST = date(2025, 6, 30)
DAYS_SHOWN = 548


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun) -> Settings:
    folder = tmp_path_factory.mktemp("entities")
    database = Path(shutil.copy(seeds_run.database, folder / "warehouse.duckdb"))
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            "UPDATE gold.gold_user_churn_scores SET risk_band = 'high' WHERE user_id IN ?",
            [[*HIGH]],
        )
        for table in (
            "silver.silver_account_current_state",
            "silver.silver_account_state_intervals",
            "silver.silver_account_state_history",
        ):
            connection.execute(
                f"UPDATE {table} SET account_id = ? WHERE account_id = 'acc_07'", [ODD]
            )
    made = Settings(database=database)
    write_site(made, made.dashboards, metric_tables())
    return made


@pytest.fixture(scope="module")
def pages(settings: Settings) -> dict[str, Element]:
    return {path.name: read(path) for path in (settings.dashboards / "current").glob("*.html")}


def query(settings: Settings, select: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(settings.database), read_only=True) as connection:
        return connection.execute(select, parameters).fetchall()


def charts(page: Element) -> dict[str, list[tuple[Any, ...]]]:
    """Return the embedded rows of each chart, by the chart's name."""
    found = {}
    for figure in page.all("figure"):
        [script] = [one for one in figure.all("script") if one.attributes["type"].endswith("json")]
        data = json.loads(script._raw())
        columns = [
            [date(1970, 1, 1) + timedelta(days=day) for day in column]
            if form == "day"
            else [column["texts"][code] for code in column["codes"]]
            if form == ""
            else column
            for (_, _, form, *_), column in zip(data["fields"], data["columns"], strict=True)
        ]
        found[figure.one("h3").text] = list(zip(*columns, strict=True))
    return found


def by_day(rows: list[tuple[Any, ...]], lane: str) -> dict[date, str]:
    """Return the value of each day in a lane of a timeline, which may not overlap."""
    days: dict[date, str] = {}
    for name, first, last, value in rows:
        if name == lane:
            for n in range((last - first).days + 1):
                assert first + timedelta(days=n) not in days
                days[first + timedelta(days=n)] = value
    return days


def shown(state: str) -> str:
    return re.sub(r"_(in|to|from)_product$", "", state).replace("_", " ").capitalize()


def test_each_account_has_a_page(settings: Settings, pages: dict[str, Element]) -> None:
    ids = [
        one
        for (one,) in query(settings, "SELECT account_id FROM silver.silver_account_current_state")
    ]
    assert len(ids) == 10
    files = {page_file("account", one) for one in ids}
    assert files == {name for name in pages if name.startswith("account_")}
    rows = cards(pages["accounts.html"])["All accounts"].all("tr")
    linked = {link.attributes["href"]: link.text for row in rows for link in row.all("a")}
    assert linked == {page_file("account", one): one for one in ids}
    odd = pages[page_file("account", ODD)]
    assert odd.one("h1").text == ODD
    assert not list(odd.all("b"))


def test_histories_of_accounts(settings: Settings, pages: dict[str, Element]) -> None:
    history = query(
        settings,
        "SELECT account_id, snapshot_date, current_state, subscription_tier, round(health_score, 1),"
        " CAST(monthly_recurring_revenue AS DOUBLE) FROM silver.silver_account_state_history",
    )
    for account in {row[0] for row in history}:
        days = {row[1]: row[2:] for row in history if row[0] == account}
        found = charts(pages[page_file("account", account)])
        timeline = found["State and tier"]
        for lane, place in (("State", 0), ("Tier", 1)):
            drawn = by_day(timeline, lane)
            assert {day: drawn[day] for day in days} == {
                day: shown(row[place]) for day, row in days.items()
            }
        points = {(name, day): value for name, day, _, value in found["Health and MRR"]}
        assert max(day for _, day in points) == LAST
        for (name, day), value in points.items():
            assert (LAST - day).days % 14 == 0
            assert value == days[day][2 if name == "Health" else 3]
        fewest = min(DAYS_SHOWN, len(days)) // 14
        assert len(points) >= 2 * fewest


def test_histories_of_people(settings: Settings, pages: dict[str, Element]) -> None:
    assert {page_file("person", one) for one in HIGH} == {
        name for name in pages if name.startswith("person_")
    }
    names = dict(
        query(settings, "SELECT product_id, product_name FROM bronze.bronze_product_catalog")
    )
    for person in HIGH:
        timeline = charts(pages[page_file("person", person)])["States and segment"]
        lanes = {
            "Platform": "'' AS product_id, platform_state FROM silver.silver_user_state_history",
            "Segment": "'', composite_segment FROM silver.silver_user_segment_history",
            "": "product_id, current_state FROM silver.silver_user_product_state_history",
        }
        for lane, source in lanes.items():
            expected: dict[str, dict[date, str]] = {}
            for day, product, value in query(
                settings, f"SELECT snapshot_date, {source} WHERE user_id = ?", person
            ):
                if value != "never_adopted":
                    expected.setdefault(lane or names[product], {})[day] = shown(value)
            for name, days in expected.items():
                assert by_day(timeline, name) == days


def rows_of(card: Element) -> list[list[str]]:
    """Return a table's rows, or an empty list for a table without rows, which is not displayed."""
    return shown_table(card).rows


def texts(row: tuple[Any, ...], *forms: str) -> list[str]:
    """Return values as displayed: a text, a day, or a number in a format."""
    return [
        "" if value is None else day_text(value) if isinstance(value, date) else format(value, form)
        for value, form in zip(row, forms, strict=True)
    ]


@pytest.mark.parametrize("account", ["acc_03", "acc_06"])
def test_facts_and_lists_of_accounts(
    settings: Settings, pages: dict[str, Element], account: str
) -> None:
    [(state, since, reason, tier, mrr, renewal, health, seats)] = query(
        settings,
        "SELECT current_state, state_since, state_reason, subscription_tier,"
        " monthly_recurring_revenue, contract_renewal_date, health_score, total_seats"
        " FROM silver.silver_account_state_history WHERE account_id = ? AND snapshot_date = ?",
        account,
        LAST,
    )
    [(active, products)] = query(
        settings,
        "SELECT count(DISTINCT entity_id), count(DISTINCT product_id)"
        " FROM silver.silver_events_enriched"
        " WHERE account_id = ? AND is_qualifying_event AND event_date BETWEEN ? AND ?",
        account,
        LAST - timedelta(days=29),
        LAST,
    )
    amount = f"{mrr:,.0f} USD" if mrr >= 100 else f"{mrr:,.2f} USD"
    days = "" if renewal is None else f", in {(renewal - LAST).days:,} days"
    lowest = {"excellent": 90, "good": 70, "fair": 50, "poor": 30, "critical": 0}
    band = next(name for name, least in lowest.items() if health >= least)
    expected = {
        "State": f"{label(state)} since {day_text(since)}: {reason}",
        "Tier": label(tier),
        "MRR": amount,
        "Renewal": f"{day_text(renewal) if renewal else 'not set'}{days}",
        "Health": f"{health:.0f} of 100, {band}",
        "Seats": f"{active} active of {seats}",
        "Products in use": f"{products}",
    }
    for chance, risk in query(
        settings,
        "SELECT churn_probability, risk_band FROM gold.gold_account_churn_scores WHERE account_id = ?",
        account,
    ):
        kind = f"{risk} risk" if risk else "the same for every account"
        known = (
            "not known"
            if chance is None
            else f"{chance:.0%} chance of a lapse within 90 days, {kind}"
        )
        expected["Churn risk"] = known
    if state in ("at_risk", "contracting", "frozen"):
        expected["Needs attention"] = f"{label(state).lower()}: {reason}"
    page = pages[page_file("account", account)]
    found = cards(page)
    assert {name: value for name, value in rows_of(found["Facts"]) if name != "Reasons"} == expected
    lead = f"Account, {label(state).lower()} since {day_text(since)}, {amount} of MRR."
    assert lead in page.text

    events = query(
        settings,
        "SELECT event_date, event_type, monthly_recurring_revenue,"
        " CASE WHEN monthly_recurring_revenue IS NOT NULL THEN coalesce(currency, 'USD') END,"
        " subscription_tier, total_seats FROM bronze.bronze_subscription_events"
        " WHERE entity_id = ? AND entity_type = 'account' ORDER BY event_timestamp DESC, event_id DESC",
        account,
    )
    assert rows_of(found["Billing events"]) == [
        texts(
            (on, label(kind), amount, unit, label(bought or ""), number),
            *["", "", ",.2f"],
            *[""] * 3,
        )
        for on, kind, amount, unit, bought, number in events[:8]
    ]
    most = " The latest 8 are shown." if len(events) > 8 else ""
    sentence = found["Billing events"].one("p", "finding").text
    assert sentence == f"{len(events)} billing event{'s' * (len(events) != 1)}.{most}"
    numeric = [one.text for one in found["Billing events"].all("th", "number")]
    assert numeric == ["MRR", "Seats"]

    people = query(
        settings,
        "SELECT user_id, churn_probability, reason_1 FROM gold.gold_user_churn_scores"
        " WHERE account_id = ? AND risk_band = 'high' ORDER BY churn_probability DESC, user_id",
        account,
    )
    assert bool(people) == (account == "acc_03")
    risk_rows = [texts(row, "", ".0%", "") for row in people]
    assert rows_of(found["Users at high risk"]) == risk_rows
    many = (
        f"{len(people)} user{' is' if len(people) == 1 else 's are'}" if people else "No users are"
    )
    assert found["Users at high risk"].one("p", "finding").text == f"{many} at high risk."


@pytest.mark.parametrize("person", ["usr_05", "usr_19"])
def test_facts_and_lists_of_people(
    settings: Settings, pages: dict[str, Element], person: str
) -> None:
    [(account, state, since, age)] = query(
        settings,
        "SELECT account_id, platform_state, platform_state_since, days_since_signup"
        " FROM silver.silver_user_state_history JOIN bronze.bronze_users_current USING (user_id)"
        " WHERE user_id = ? AND snapshot_date = ?",
        person,
        LAST,
    )
    [(last, events)] = query(
        settings,
        "SELECT max(event_date), count(*) FROM silver.silver_events_enriched"
        " WHERE entity_id = ? AND entity_type = 'user' AND is_qualifying_event",
        person,
    )
    names = (
        *("engagement_intensity", "value_realization", "product_breadth", "journey_stage"),
        *("feature_adoption", "collaboration_type", "temporal_pattern", "composite_segment"),
    )
    [segments] = query(
        settings,
        f"SELECT {', '.join(names)} FROM silver.silver_user_segment_history"
        " WHERE user_id = ? AND snapshot_date = ?",
        person,
        LAST,
    )
    used = query(
        settings,
        "SELECT product_name FROM silver.silver_user_product_states"
        " JOIN bronze.bronze_product_catalog USING (product_id) WHERE user_id = ?"
        " AND current_state IN ('active_in_product', 'reactivated_in_product') ORDER BY 1",
        person,
    )
    page = pages[page_file("person", person)]
    found = cards(page)
    assert rows_of(found["Facts"]) == [
        ["State", f"{label(state)} since {day_text(since)}"],
        ["Account", account],
        ["Last qualifying event", day_text(last) if last else "none"],
        ["Qualifying events", f"{events} in {age:,} days since signup"],
        ["Products in use", ", ".join(name for (name,) in used) or "none"],
        *([label(name), label(value)] for name, value in zip(names, segments, strict=True)),
    ]
    assert f"Person, {label(state).lower()} since {day_text(since)}." in page.text

    [(chance, *why)] = query(
        settings,
        "SELECT churn_probability, reason_1, reason_1_effect, reason_2, reason_2_effect, reason_3,"
        " reason_3_effect FROM gold.gold_user_churn_scores WHERE user_id = ?",
        person,
    )
    reasons = [pair for pair in zip(why[::2], why[1::2], strict=True) if pair[0]]
    assert rows_of(found["Churn risk"]) == [texts(pair, "", "+.0%") for pair in reasons]
    risk = f"{chance:.0%} chance of no qualifying event for 30 days, high risk."
    assert found["Churn risk"].one("p", "finding").text == risk
    offers = query(
        settings,
        "SELECT product_name, why FROM gold.gold_product_recommendations"
        " JOIN bronze.bronze_product_catalog USING (product_id) WHERE user_id = ?"
        " ORDER BY recommendation_rank",
        person,
    )
    assert rows_of(found["Products to recommend"]) == [[*offer] for offer in offers]
    count = f"{len(offers)} product{'s' * (len(offers) != 1)} to recommend."
    assert found["Products to recommend"].one("p", "finding").text == count


def test_pages_are_small_and_their_links_work(settings: Settings) -> None:
    current = settings.dashboards / "current"
    files = {path.name for path in current.iterdir()}
    emails = [one for (one,) in query(settings, "SELECT DISTINCT email FROM bronze.bronze_users")]
    entities = [path for path in current.glob("*_*.html") if path.name.startswith(("acc", "per"))]
    assert len(entities) == 10 + len(HIGH)
    for path in entities:
        text = path.read_text()
        assert len(text.encode()) <= 20_000
        targets = {link.attributes["href"] for link in parse(text).all("a")}
        entity_links = {one for one in targets if one.startswith(("account_", "person_"))}
        assert entity_links <= files
        assert "@@" not in text.replace("@@rows_facts@@", "", 3)
        assert not [email for email in emails if email in text]
    assert "Users at high risk" in (current / "account_acc_03.html").read_text()
    assert page_file("person", "usr_05") in (current / "account_acc_03.html").read_text()
    risk = (current / "risk.html").read_text()
    assert all(f'href="{page_file("person", one)}"' in risk for one in HIGH)


def test_the_accounts_that_pages_list_come_first(settings: Settings, tmp_path: Path) -> None:
    """acc_09, acc_06, acc_05 and acc_10 need attention, and acc_08 has the highest revenue."""
    few = settings.model_copy(update={"account_pages": 5})
    write_site(few, tmp_path / "site", metric_tables())
    found = {path.name for path in (tmp_path / "site" / "current").glob("account_*")}
    assert found == {f"account_acc_{n}.html" for n in ("09", "06", "05", "10", "08")}
    accounts = (tmp_path / "site" / "current" / "accounts.html").read_text()
    assert 'href="account_acc_09.html"' in accounts
    assert "account_acc_04" not in accounts


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    return found


def test_commands_open_the_page_of_anyone(
    settings: Settings, tmp_path: Path, opened: list[str]
) -> None:
    run = CliRunner()
    options = ["--database", str(settings.database), "--output", str(tmp_path / "site")]
    for command, entity in (("account", "acc_04"), ("person", "usr_01")):
        result = run.invoke(cli.main, [command, entity, *options])
        path = tmp_path / "site" / "opened" / page_file(command, entity)
        assert (result.exit_code, result.output) == (0, f"Page: {path}\n")
        assert opened.pop() == path.as_uri()
        page = read(path)
        assert page.one("h1").text == entity
        references = [*page.all("a"), *page.all("link"), *page.all("script")]
        for element in references:
            target = element.attributes.get("href") or element.attributes.get("src") or "#"
            if not target.startswith(("#", "data:")):
                assert (path.parent / target).exists() or "/current/" in target
                assert target.startswith("../current/")
    # The page is the one in the site, except that its links lead there.
    text = (tmp_path / "site" / "opened" / "account_acc_04.html").read_text()
    same = (tmp_path / "site" / "current" / "account_acc_04.html").read_text()
    assert text.replace("../current/", "") == same
    assert not (tmp_path / "site" / "current" / page_file("person", "usr_01")).exists()
    result = run.invoke(cli.main, ["person", "-", *options, "--no-open"], input="usr_02\n")
    assert result.output.endswith("opened/person_usr_02.html\n")
    assert not opened


@pytest.mark.parametrize("command", ["account", "person"])
def test_an_unknown_id(settings: Settings, tmp_path: Path, command: str) -> None:
    arguments = [command, "ACC_04", "--database", str(settings.database)]
    result = CliRunner().invoke(cli.main, [*arguments, "--output", str(tmp_path / "site")])
    assert result.exit_code == 2
    assert result.stderr == (
        f"monstera: The warehouse contains no {command} with the id ACC_04. Check the id, which is"
        " case-sensitive.\n"
    )
    assert not (tmp_path / "site" / "opened").exists()


def test_file_names() -> None:
    ids = [
        "acc_1",
        "ACC_1",
        "acc-1",
        "acc 1",
        "../acc_1",
        "acc_1.html",
        "é" * 99,
        "a" * 99,
        "a" * 98,
    ]
    files = [page_file("account", one) for one in ids]
    assert files[0] == "account_acc_1.html"
    assert len({*files}) == len(ids)
    assert all(re.fullmatch(r"account_[a-z0-9_-]{1,80}\.html", one) for one in files)
