"""Test that the simulated companies are what the tests of mornings need."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pytest

from monstera_assets_tests.mornings.company import (
    COLUMNS,
    MAX_DAYS_LATE,
    NOTE_CREATED,
    NOTES,
    Arrival,
    Company,
    Plan,
    Row,
)
from monstera_assets_tests.mornings.plans import (
    FIVE_OF_SEATS,
    FIVE_OF_SEATS_SEED,
    FIVE_OF_SIXTY,
    FIVE_OF_SIXTY_SEED,
    SEATS,
    SEATS_SEED,
    SIXTY,
    SIXTY_SEED,
)

PLANS = {
    "sixty": (SIXTY, SIXTY_SEED),
    "seats": (SEATS, SEATS_SEED),
    "five_of_sixty": (FIVE_OF_SIXTY, FIVE_OF_SIXTY_SEED),
    "five_of_seats": (FIVE_OF_SEATS, FIVE_OF_SEATS_SEED),
}


@cache
def made(name: str) -> Company:
    return Company(*PLANS[name])


@pytest.fixture(params=PLANS)
def company(request: pytest.FixtureRequest) -> Company:
    return made(request.param)


def by_id(rows: list[Row], column: str) -> dict[str, Row]:
    return {row[column]: row for row in rows}


def day_of(text: str) -> date:
    return date.fromisoformat(text[:10])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---------------------------------------------------------------- the exporter


def test_the_same_seed_delivers_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        company = Company(FIVE_OF_SIXTY, FIVE_OF_SIXTY_SEED)
        for morning in range(1, 6):
            company.deliver(morning, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_an_outage_writes_nothing_and_the_next_morning_delivers_both_days(tmp_path: Path) -> None:
    company = made("five_of_sixty")
    company.deliver(2, tmp_path)
    before = contents(tmp_path)
    assert company.deliver(3, tmp_path) is None
    assert contents(tmp_path) == before
    delivery = company.deliver(4, tmp_path)
    assert delivery is not None
    assert list(delivery.arrival_days) == [31, 32]
    new = sorted(set(contents(tmp_path)) - set(before))
    assert new == [f"events/arrived_2025-03-0{day}.csv" for day in (6, 7)]


def test_one_file_is_delivered_twice(tmp_path: Path) -> None:
    made("five_of_sixty").deliver(2, tmp_path)
    events = tmp_path / "events"
    [again] = events.glob("*_again.csv")
    assert again.read_bytes() == (events / again.name.replace("_again", "")).read_bytes()
    assert len(again.read_text().splitlines()) > 10


def test_rows_overwrite_the_former_ones() -> None:
    """The dumps have one row an entity, and some rows change from one morning to the next."""
    company = made("sixty")
    for name, key in (("users", "user_id"), ("accounts", "account_id")):
        changed: Counter[str] = Counter()
        before = by_id(company.rows(name, 1), key)
        for morning in range(2, 61):
            rows = company.rows(name, morning)
            now = by_id(rows, key)
            assert len(now) == len(rows)
            for entity in set(now) & set(before):
                changed.update(c for c in COLUMNS[name] if now[entity][c] != before[entity][c])
            before = now
        expected = {
            "users": {"account_id", "country", "plan_type"},
            "accounts": {
                *("subscription_tier", "total_seats", "monthly_recurring_revenue"),
                *("first_paid_at", "contract_renewal_date", "is_trial"),
            },
        }[name]
        assert set(changed) == expected
        least = 3 if name == "accounts" else 10
        assert min(changed.values()) >= least, changed


def test_trials_convert_with_fewer_seats() -> None:
    company = made("sixty")
    converted = []
    before = by_id(company.rows("accounts", 1), "account_id")
    for morning in range(2, 61):
        now = by_id(company.rows("accounts", morning), "account_id")
        for account in set(now) & set(before):
            if before[account]["is_trial"] == "true" and now[account]["is_trial"] == "false":
                converted.append(account)
                assert int(now[account]["total_seats"]) < int(before[account]["total_seats"])
        before = now
    with_facts = {fact.row["entity_id"] for fact in company.facts}
    assert set(converted) & with_facts
    assert set(converted) - with_facts, "One trial converts by its row alone."


def test_some_users_are_in_the_dump_of_their_first_morning() -> None:
    """The exporter runs at 04:00, so its dumps contain users of the day that has just begun."""
    company = made("sixty")
    early = [
        row["user_id"]
        for morning in range(1, 61)
        for row in company.rows("users", morning)
        if day_of(row["user_created_at"]) == company.morning_date(morning)
    ]
    assert early


# ---------------------------------------------------------------- events


def test_three_percent_of_events_are_late() -> None:
    company = made("sixty")
    first_copies: dict[str, Arrival] = {}
    for event in company.events:
        first_copies.setdefault(event.row["event_id"], event)
    lags = [event.arrived - event.day for event in first_copies.values()]
    assert 0.025 < sum(lag > 0 for lag in lags) / len(lags) < 0.035
    assert {*lags} == {*range(MAX_DAYS_LATE + 1)}


def test_two_of_a_thousand_events_are_corrected() -> None:
    company = made("sixty")
    copies: dict[str, list[Row]] = {}
    for event in company.events:
        copies.setdefault(event.row["event_id"], []).append(event.row)
    corrected = [rows for rows in copies.values() if len(rows) == 2]
    assert 0.001 < len(corrected) / len(copies) < 0.003
    assert max(map(len, copies.values())) == 2
    moved = 0
    for first, second in corrected:
        assert second["received_at"] > first["received_at"]
        assert second["location"] != first["location"]
        moved += day_of(second["timestamp"]) != day_of(first["timestamp"])
    assert 0 < moved < len(corrected)


def test_no_event_is_outside_its_users_time(company: Company) -> None:
    """Otherwise, runs would reject rows, and the test would no longer be about mornings."""
    last = company.plan.mornings
    created: dict[str, date] = {}
    for morning in range(1, last + 1):
        merged = company.merged(last)
        for row in company.rows("users", morning):
            user = merged.get(row["user_id"], row["user_id"])
            created[user] = min(created.get(user, date.max), day_of(row["user_created_at"]))
    deleted = {
        fact.row["entity_id"]: day_of(fact.row["timestamp"])
        for fact in company.facts
        if fact.row["event_type"] == "user_deleted"
    }
    assert len(deleted) == len(company.plan.deletions)
    for row in company.accepted_events(last).values():
        day = day_of(row["timestamp"])
        assert created[row["entity_id"]] <= day <= deleted.get(row["entity_id"], date.max), row


def test_arrivals_after_the_history_include_late_and_corrected_events(company: Company) -> None:
    plan = company.plan
    shown = range(plan.history, plan.last_day + 1)
    arrived = [event for event in company.events if event.arrived in shown]
    assert any(event.day < event.arrived for event in arrived)
    times = Counter(event.row["event_id"] for event in company.events)
    assert any(
        times[event.row["event_id"]] == 2 and event.day < event.arrived - 1 for event in arrived
    )


def test_enough_events_and_users_for_alerts() -> None:
    """Working days have more than `min_alert_population` events, and weekends have fewer."""
    company = made("sixty")
    assert 150 <= len(company.users) <= 300
    assert 30 <= len(company.accounts) - company.plan.trials <= 40
    days = Counter(event.day for event in company.events)
    for day in range(company.plan.last_day + 1):
        if company.date_of(day).weekday() < 5:
            assert days[day] >= 30, company.date_of(day)
    weekends = [days[d] for d in days if company.date_of(d).weekday() >= 5]
    assert min(weekends) < 30


def test_a_day_without_events_is_delivered_as_a_file_without_rows(tmp_path: Path) -> None:
    company = made("five_of_seats")
    company.deliver(5, tmp_path)
    path = tmp_path / "events" / f"arrived_{company.morning_date(5) - timedelta(days=1)}.csv"
    on_the_day = [
        row
        for row in company.accepted_events(5).values()
        if day_of(row["timestamp"]) == company.morning_date(5) - timedelta(days=1)
    ]
    assert path.exists()
    assert on_the_day == []


# ---------------------------------------------------------------- aliases and the catalog


def test_merged_users_come_in_every_way() -> None:
    company, ways = made("sixty"), Counter(SIXTY.merges.values())
    assert set(ways) == {"into_known", "into_new", "without_row", "chain", "corrected"}
    last = by_id(company.rows("users", 60), "user_id")
    aliases = company.rows("user_aliases", 60)
    named = Counter(row["alias_id"] for row in aliases)
    assert max(named.values()) == 2, "One alias is corrected."
    assert any(row["user_id"] in named for row in aliases), "One alias leads to another."
    assert {*named} & set(last), "Some rows under an alias stay."
    assert {*named} - set(last), "Some rows under an alias are removed."
    without_row = [
        row["user_id"]
        for morning in range(1, 61)
        for row in company.rows("user_aliases", morning)
        if row["user_id"] not in by_id(company.rows("users", morning), "user_id")
    ]
    assert {*without_row} & set(last), "One user has an alias before it has a row."
    used = {event.row["entity_id"] for event in company.events}
    assert {*named} <= used


def test_the_added_node_is_named_on_its_first_day_and_listed_earlier(company: Company) -> None:
    plan = company.plan
    assert plan.node_added is not None
    shown = [
        NOTES in by_id(company.rows("product_catalog", m), "product_id")
        for m in range(1, plan.mornings + 1)
    ]
    assert shown == [m >= plan.node_added for m in range(1, plan.mornings + 1)]
    notes = [event for event in company.events if event.row["event_type"] == NOTE_CREATED]
    named = [event.day for event in notes if event.row["product_id"] == NOTES]
    assert min(event.day for event in notes) < min(named) == plan.delivers(plan.node_added)


@pytest.mark.parametrize("name", PLANS)
def test_no_catalog_change_comes_while_another_one_waits(name: str) -> None:
    plan: Plan = PLANS[name][0]
    if plan.windows_changed is None or plan.command is None:
        return
    waiting = range(plan.windows_changed, plan.command + 1)
    assert not {plan.node_added, plan.node_renamed, plan.node_owned} & set(waiting)
