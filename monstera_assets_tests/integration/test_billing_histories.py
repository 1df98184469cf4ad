"""The account and revenue tables agree with the billing histories on every day.

All histories are accounts of one source. The history without rows of `accounts` is a source of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.bronze import bronze_accounts, bronze_subscription_events
from monstera_assets.lifecycle.billing import facts_on_lapsed
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.helpers.source_files import Texts, write_source
from monstera_assets_tests.inputs.billing_histories import EXCHANGE_RATES, HISTORIES, History
from monstera_assets_tests.integration.example_runs import Graph

POLICY = LifecyclePolicy.model_validate({"exchange_rates": EXCHANGE_RATES})
COMPARED = (
    *("current_state", "phase", "monthly_recurring_revenue", "subscription_tier"),
    *("total_seats", "contract_renewal_date", "frozen_reason"),
)
_DAYS = """
SELECT account_id, snapshot_date, current_state,
    CASE WHEN is_paid THEN 'paying' WHEN state_reason LIKE '%lapsed%' THEN 'lapsed'
        ELSE 'never_paid' END,
    monthly_recurring_revenue, subscription_tier, total_seats, contract_renewal_date, frozen_reason
FROM silver.silver_account_state_intervals
JOIN (SELECT unnest(generate_series(DATE '2024-01-01', DATE '2025-12-31', INTERVAL 1 DAY))::DATE
    AS snapshot_date) ON snapshot_date BETWEEN valid_from AND coalesce(valid_to - 1, as_of_date)
"""
_MOVEMENTS = ("new", "reactivated", "expansion", "contraction", "churned")
_REVENUE = ", ".join(f"revenue_{name}_daily" for name in ("opening", *_MOVEMENTS, "closing"))
Day = tuple[Any, ...]
Days = dict[tuple[str, date], Day]


def texts(**values: object) -> Texts:
    return {name: "" if value is None else str(value) for name, value in values.items()}


def source_of(histories: Iterable[History], folder: Path) -> Path:
    """Write the histories as one source."""
    histories = list(histories)
    versions = [
        texts(account_id=history.account_id, account_name=history.account_id, **vars(version))
        for history in histories
        for version in history.versions
    ]
    facts = [
        texts(
            event_id=fact.event_id,
            entity_id=history.account_id,
            event_type=fact.event_type,
            timestamp=fact.timestamp,
            metadata=json.dumps(fact.metadata),
        )
        for history in histories
        for fact in history.facts
    ]
    facts += [
        texts(
            event_id=f"{user.user_id}_deleted",
            entity_id=user.user_id,
            event_type="user_deleted",
            timestamp=user.deleted_at,
            metadata="",
        )
        for history in histories
        for user in history.users
        if user.deleted_at is not None
    ]
    files = {
        "users": [
            texts(
                user_id=user.user_id,
                account_id=history.account_id,
                user_created_at=user.created_at,
            )
            for history in histories
            for user in history.users
        ],
        "events": [
            texts(
                event_id=f"{user_id}_{day}",
                entity_id=user_id,
                event_type="video_created",
                timestamp=f"{day} 12:00:00",
                product_id="video",
            )
            for history in histories
            for user_id, day in history.use()
        ],
        "accounts": versions,
        "subscription_events": facts,
    }
    return write_source(folder, {name: rows for name, rows in files.items() if rows})


def computed(source: Path, folder: Path) -> Graph:
    """Compute the account tables up to the last day of the histories."""
    last = max(history.stretches[-1].last for history in HISTORIES)
    first = min(day for history in HISTORIES for _, day in history.use())
    graph = Graph(source, folder / "warehouse.duckdb", folder / "home", first, POLICY)
    tables = ("silver_account_state_intervals", "gold_revenue_metrics", "gold_revenue_by_tier")
    return graph.compute(tables, last)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder = tmp_path_factory.mktemp("billing_histories")
    with_accounts = [history for history in HISTORIES if history.versions]
    graph = computed(source_of(with_accounts, folder / "source"), folder)
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def days(warehouse: duckdb.DuckDBPyConnection) -> Days:
    return days_in(warehouse)


def days_in(connection: duckdb.DuckDBPyConnection) -> Days:
    return {(row[0], row[1]): row[2:] for row in connection.execute(_DAYS).fetchall()}


def differences(history: History, days: Days) -> list[str]:
    """Return the first day of each stretch of days that differ from the expectation."""
    found: list[str] = []
    for day, stretch in history.days():
        wanted = (
            *(stretch.state, stretch.billing, stretch.revenue, stretch.tier, stretch.seats),
            *(stretch.renewal, stretch.frozen_reason),
        )
        stored = days.get((history.account_id, day))
        if stored != wanted:
            names = [
                f"{name} {stored_value} instead of {wanted_value}"
                for name, stored_value, wanted_value in zip(
                    COMPARED, stored or (), wanted, strict=False
                )
                if stored_value != wanted_value
            ]
            found.append(f"{day}: {', '.join(names) or 'no row'}")
    return found


@pytest.mark.parametrize(
    "history", [h for h in HISTORIES if h.versions], ids=lambda history: history.account_id
)
def test_every_day_is_as_expected(history: History, days: Days) -> None:
    assert differences(history, days) == []
    before_creation = history.created_at - timedelta(days=1)
    assert (history.account_id, before_creation) not in days


def test_a_source_without_billing(tmp_path: Path) -> None:
    [history] = [history for history in HISTORIES if not history.versions]
    graph = computed(source_of([history], tmp_path / "source"), tmp_path)
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        stored = days_in(connection)
    # The source does not name accounts, so that the id of the account is not known to the history.
    [account_id] = {account_id for account_id, _ in stored}
    named = {(history.account_id, day): row for (_, day), row in stored.items()}
    assert account_id
    assert differences(history, named) == []


def test_facts_on_lapsed_subscriptions_are_listed(warehouse: duckdb.DuckDBPyConnection) -> None:
    facts = facts_on_lapsed(
        bronze_accounts.TABLE.relation, bronze_subscription_events.TABLE.relation, POLICY
    )
    listed = warehouse.execute(f"SELECT event_id FROM ({compile_duckdb(facts)})").fetchall()
    expected = [fact for history in HISTORIES for fact in history.facts_on_lapsed_subscriptions]
    assert sorted(event_id for (event_id,) in listed) == sorted(expected)


Movement = tuple[date, str, Decimal, str]
"""A day, the kind of movement, the amount (negative for lost revenue) and the tier of the day."""


def movements_of(account_id: str, days: Days) -> list[Movement]:
    """Return the movements of an account by the rules of section 8, from its days."""
    found: list[Movement] = []
    phase, revenue = "never_paid", Decimal(0)
    for day in sorted(day for name, day in days if name == account_id):
        _, phase_now, revenue_now, tier, *_ = days[account_id, day]
        change = revenue_now - revenue
        if phase_now == "paying" and phase == "never_paid":
            kind = "new"
        elif phase_now == "paying" and phase == "lapsed":
            kind = "reactivated"
        elif phase == "paying" and phase_now == "lapsed":
            kind = "churned"
        else:
            kind = "expansion" if change > 0 else "contraction"
        if change:
            found.append((day, kind, change, tier))
        phase, revenue = phase_now, revenue_now
    return found


@pytest.fixture(scope="module")
def movements(days: Days) -> dict[str, list[Movement]]:
    return {name: movements_of(name, days) for name in sorted({name for name, _ in days})}


def test_movements_of_each_account_are_as_expected(movements: dict[str, list[Movement]]) -> None:
    for history in HISTORIES:
        first, last = history.stretches[0].first, history.stretches[-1].last
        expected: list[Movement] = [
            (one.date, one.kind, Decimal(one.amount), one.tier)
            for one in sorted(history.movements, key=lambda one: one.date)
        ]
        found = [
            (day, kind, abs(amount), tier)
            for day, kind, amount, tier in movements.get(history.account_id, [])
            if first <= day <= last
        ]
        assert found == expected, history.account_id


def test_movements_reconcile_by_account(days: Days, movements: dict[str, list[Movement]]) -> None:
    for history in HISTORIES:
        if not history.versions:
            continue
        first, last = history.stretches[0].first, history.stretches[-1].last
        before = days.get((history.account_id, first - timedelta(days=1)))
        moved = [
            amount for day, _, amount, _ in movements[history.account_id] if first <= day <= last
        ]
        opening = before[2] if before else 0
        assert opening == history.opening
        assert opening + sum(moved) == days[history.account_id, last][2], history.account_id


@pytest.mark.parametrize("by_tier", [True, False], ids=["by tier", "in total"])
def test_movements_reconcile_on_each_day(
    by_tier: bool,
    warehouse: duckdb.DuckDBPyConnection,
    days: Days,
    movements: dict[str, list[Movement]],
) -> None:
    """The stored figures are the sums over the accounts, and opening + movements = closing."""
    rows = warehouse.execute(
        f"SELECT metric_date, account_tier, {_REVENUE} FROM gold.gold_revenue_by_tier"
        if by_tier
        else f"SELECT metric_date, '', {_REVENUE} FROM gold.gold_revenue_metrics"
    ).fetchall()
    expected: Counter[tuple[date, str, str]] = Counter()
    for (account_id, day), (_, _, revenue, tier, *_) in days.items():
        before = days.get((account_id, day - timedelta(days=1)))
        tier = tier if by_tier else ""
        expected[day, tier, "closing"] += revenue
        expected[day, tier, "opening"] += before[2] if before else 0
    for of_account in movements.values():
        for day, kind, amount, tier in of_account:
            expected[day, tier if by_tier else "", kind] += amount  # type: ignore[assignment]
    assert len(rows) > 500
    for day, tier, *amounts in rows:
        opening, *moved, closing = amounts
        assert opening + sum(moved) == closing, (day, tier)
        names = ("opening", *_MOVEMENTS, "closing")
        assert amounts == [expected[day, tier, name] for name in names], (day, tier)
    shown = {(day, tier) for day, tier, *_ in rows}
    first = min(day for day, _ in shown)
    missing = [key for key, amount in expected.items() if amount and key[:2] not in shown]
    assert [key for key in missing if key[0] >= first] == []
