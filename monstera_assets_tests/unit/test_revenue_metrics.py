"""Movements and retention of revenue, with amounts computed by hand.

The amounts are those of the accounts in `FACTS`, which are created on 1 January 2025.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from monstera_assets.bronze import bronze_accounts, bronze_subscription_events
from monstera_assets.gold.gold_revenue_metrics import MOVEMENTS, TABLE, gold_revenue_metrics
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

ACCOUNTS, FACTS_TABLE = bronze_accounts.TABLE, bronze_subscription_events.TABLE
STARTED, CANCELLED, CHANGED = "subscription_started", "subscription_cancelled", "tier_changed"
DAYS = DateWindow(date(2025, 1, 1), date(2025, 4, 30))

FACTS: dict[str, list[tuple[str, str, int | None]]] = {
    # Pays 100 from 10 January. The last paid day is 10 February. Pays again 120 from 20 February.
    "comes back": [
        ("2025-01-10", STARTED, 100),
        ("2025-02-10", CANCELLED, None),
        ("2025-02-20", STARTED, 120),
    ],
    # Pays for nothing from 10 January, 50 from 1 February and nothing again from 1 March.
    "free plan": [
        ("2025-01-10", STARTED, 0),
        ("2025-02-01", CHANGED, 50),
        ("2025-03-01", CHANGED, 0),
    ],
    # The last paid day of a free plan is 15 March. It pays again 30 from 1 April.
    "free plan ends": [
        ("2025-01-10", STARTED, 0),
        ("2025-03-15", CANCELLED, None),
        ("2025-04-01", STARTED, 30),
    ],
    # Pays 200 from 10 January, 260 from 20 January and 150 from 5 February.
    "changes": [
        ("2025-01-10", STARTED, 200),
        ("2025-01-20", CHANGED, 260),
        ("2025-02-05", CHANGED, 150),
    ],
    "never pays": [],
}

Days = dict[date, dict[str, Any]]


@pytest.fixture(scope="module")
def days() -> Days:
    """Return each day's row, by metric."""
    made = MemoryWarehouse((ACCOUNTS, FACTS_TABLE))
    made.load(
        ACCOUNTS,
        [{"account_id": name, "account_created_at": "2025-01-01 00:00:00"} for name in FACTS],
    )
    made.load(
        FACTS_TABLE,
        [
            {
                "event_id": f"{name} {day}",
                "entity_id": name,
                "entity_type": "account",
                "event_type": kind,
                "event_timestamp": day,
                "event_date": day,
                "effective_date": None,
                "monthly_recurring_revenue": revenue,
            }
            for name, facts in FACTS.items()
            for day, kind, revenue in facts
        ],
    )
    expression = gold_revenue_metrics(
        ACCOUNTS.relation, FACTS_TABLE.relation, policy=LifecyclePolicy(), window=DAYS
    )
    names = [column.name for column in TABLE.data_columns]
    select = f"SELECT {', '.join(names)} FROM ({compile_duckdb(expression)})"
    rows = made.connection.execute(select).fetchall()
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return {row["metric_date"]: row for row in found}


def test_movements_are_those_of_the_facts(days: Days) -> None:
    moved = {
        (day, kind): row[metric.column_name]
        for day, row in days.items()
        for kind, metric in MOVEMENTS.items()
        if row[metric.column_name]
    }
    assert moved == {
        # 100 and 200. The two free plans are new with nothing.
        (date(2025, 1, 10), "new"): 300,
        (date(2025, 1, 20), "expansion"): 60,
        # The free plan already paid, so that its first revenue is expansion.
        (date(2025, 2, 1), "expansion"): 50,
        (date(2025, 2, 5), "contraction"): -110,
        (date(2025, 2, 11), "churned"): -100,
        (date(2025, 2, 20), "reactivated"): 120,
        # The account still pays, for nothing.
        (date(2025, 3, 1), "contraction"): -50,
        (date(2025, 4, 1), "reactivated"): 30,
    }


def test_opening_movements_and_closing_add_up(days: Days) -> None:
    closed = Decimal(0)
    for row in days.values():
        moved = sum(row[metric.column_name] for metric in MOVEMENTS.values())
        assert row["revenue_opening_daily"] == closed
        closed = row["revenue_closing_daily"]
        assert row["revenue_opening_daily"] + moved == closed
    # 120 + 0 + 30 + 150.
    assert closed == 300


@pytest.mark.parametrize(
    ("day", "paying"),
    [
        *(("2025-01-09", 0), ("2025-01-10", 4), ("2025-02-11", 3), ("2025-02-20", 4)),
        *(("2025-03-15", 4), ("2025-03-16", 3), ("2025-04-01", 4)),
    ],
)
def test_accounts_pay_at_any_revenue(days: Days, day: str, paying: int) -> None:
    assert days[date.fromisoformat(day)]["accounts_paying_daily"] == paying


@pytest.mark.parametrize(
    ("day", "net", "gross"),
    [
        # Nobody paid 30 days earlier.
        ("2025-02-08", None, None),
        # Of 100 + 0 + 0 + 200 on 10 January, 100 + 50 + 0 + 150 are left, without the rise of 50.
        ("2025-02-09", 300 / 300, 250 / 300),
        # 0 + 50 + 0 + 150 of the same 300: one account has lapsed.
        ("2025-02-11", 200 / 300, 150 / 300),
        # 18 January: the account that lapsed pays 120 again.
        ("2025-02-17", 200 / 300, 150 / 300),
        # 21 January: 100 + 0 + 0 + 260 = 360; now 120 + 50 + 0 + 150, of which 20 and 50 are rises.
        ("2025-02-20", 320 / 360, 250 / 360),
        # 11 February, when the account had lapsed: 50 + 0 + 150 = 200; now 0 + 0 + 150.
        ("2025-03-13", 150 / 200, 150 / 200),
        # 2 March, 120 + 0 + 0 + 150 = 270; now also 30 of the account that lapsed in between.
        ("2025-04-01", 300 / 270, 270 / 270),
        # 16 March, when the last account had lapsed: its 30 are in neither sum.
        ("2025-04-15", 270 / 270, 270 / 270),
    ],
)
def test_retention_over_the_accounts_that_paid_then(
    days: Days, day: str, net: float | None, gross: float | None
) -> None:
    row = days[date.fromisoformat(day)]
    assert row["revenue_retained_net_monthly"] == net
    assert row["revenue_retained_gross_monthly"] == gross
