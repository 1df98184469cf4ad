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
        "SELECT account_id, snapshot_date, current_state, health_score, subscription_tier"
        " FROM silver.silver_account_state_history",
    )
    for account in {row[0] for row in history}:
        timeline = charts(pages[page_file("account", account)])["State, health and tier"]
        expected: dict[str, dict[date, str]] = {}
        for name, day, state, health, tier in history:
            if name == account:
                for lane, value in (("State", state), ("Health", band_of(health)), ("Tier", tier)):
                    expected.setdefault(lane, {})[day] = shown(value)
        # The latest 40 intervals are shown.
        assert len(timeline) <= 40
        for lane, days in expected.items():
            drawn = by_day(timeline, lane)
            assert LAST in drawn
            assert drawn == {day: days[day] for day in drawn}
            assert len(timeline) == 40 or drawn == days


def band_of(health: float) -> str:
    lowest = {"excellent": 90, "good": 70, "fair": 50, "poor": 30, "critical": 0}
    return next(name for name, least in lowest.items() if health >= least)


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
    [(chance, risk)] = query(
        settings,
        "SELECT churn_probability, risk_band FROM gold.gold_account_churn_scores WHERE account_id = ?",
        account,
    )
    expected = {
        "State": label(state),
        "Since": day_text(since),
        "Reason": reason,
        "Tier": label(tier),
        "MRR": amount,
        "Renewal": day_text(renewal) if renewal else "none",
        "Days to renewal": "not known" if renewal is None else f"{(renewal - LAST).days:,}",
        "Health of 100": f"{health:.0f}",
        "Health band": label(band_of(health)),
        "Active seats": f"{active}",
        "Seats": f"{seats}",
        "Products in use": f"{products}",
    } | {
        name: text
        for name, value, text in (
            ("Risk band", risk, label(risk or "")),
            ("Churn risk", risk and chance, f"{chance or 0:.0%}"),
        )
        if value is not None
    }
    if state in ("at_risk", "contracting", "frozen"):
        expected["Needs attention"] = f"{label(state).lower()}: {reason}"
    page = pages[page_file("account", account)]
    found = cards(page)
    facts = {name: value for name, value in rows_of(found["Facts"]) if "Reason " not in name}
    assert facts == expected
    assert f"Account, {label(state).lower()} since {day_text(since)}." in page.text

    events = query(
        settings,
        "SELECT event_date, event_type, monthly_recurring_revenue,"
        " currency, subscription_tier, total_seats FROM bronze.bronze_subscription_events"
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
    most = " The first 8 are shown." if len(events) > 8 else ""
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
    many = f"{len(people)} user{'s' * (len(people) != 1)}."
    assert found["Users at high risk"].one("p", "finding").text == many


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
    page = pages[page_file("person", person)]
    found = cards(page)
    [(band, chance, *why)] = query(
        settings,
        "SELECT risk_band, churn_probability, reason_1, reason_1_effect, reason_2, reason_2_effect,"
        " reason_3, reason_3_effect FROM gold.gold_user_churn_scores WHERE user_id = ?",
        person,
    )
    assert rows_of(found["Facts"]) == [
        ["State", label(state)],
        ["Since", day_text(since)],
        ["Account", account],
        ["Last qualifying event", day_text(last) if last else "none"],
        ["Qualifying events", f"{events}"],
        ["Days since signup", f"{age:,}"],
        *([label(name), label(value)] for name, value in zip(names, segments, strict=True)),
        ["Risk band", label(band)],
        ["Churn risk", f"{chance:.0%}"],
    ]
    assert f"Person, {label(state).lower()} since {day_text(since)}." in page.text
    reasons = [pair for pair in zip(why[::2], why[1::2], strict=True) if pair[0]]
    shown_reasons = found["Reasons for the churn risk"]
    assert rows_of(shown_reasons) == [texts(pair, "", "+.0%") for pair in reasons]
    many = f"{len(reasons)} reason{'s' * (len(reasons) != 1)}."
    assert shown_reasons.one("p", "finding").text == many
    offers = query(
        settings,
        "SELECT product_name, why FROM gold.gold_product_recommendations"
        " JOIN bronze.bronze_product_catalog USING (product_id) WHERE user_id = ?"
        " ORDER BY recommendation_rank",
        person,
    )
    assert rows_of(found["Products to recommend"]) == [[*offer] for offer in offers]
    count = f"{len(offers)} product{'s' * (len(offers) != 1)}."
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
