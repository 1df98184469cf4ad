"""Stickiness and mean health, computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from monstera_assets.bronze import bronze_subscription_events, bronze_users
from monstera_assets.gold import (
    gold_accounts_active_monthly,
    gold_revenue_metrics,
    gold_users_active_daily,
    gold_users_active_monthly,
    gold_users_active_weekly,
    gold_users_created_daily,
)
from monstera_assets.gold.gold_overall_metrics import gold_overall_metrics
from monstera_assets.silver import (
    silver_account_state_history,
    silver_daily_user_activity,
    silver_user_state_history,
)
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

ACTIVE_DAILY = gold_users_active_daily.TABLE
ACTIVE_MONTHLY = gold_users_active_monthly.TABLE
ACCOUNT_HISTORY = silver_account_state_history.TABLE
ACTIVITY = silver_daily_user_activity.TABLE
FACTS = bronze_subscription_events.TABLE
TABLES = {
    table.name: table
    for table in (
        *(ACTIVE_DAILY, gold_users_active_weekly.TABLE, ACTIVE_MONTHLY),
        *(gold_users_created_daily.TABLE, gold_accounts_active_monthly.TABLE),
        *(gold_revenue_metrics.TABLE, silver_user_state_history.TABLE, ACCOUNT_HISTORY),
        *(ACTIVITY, bronze_users.TABLE, FACTS),
    )
}
JUNE_1 = date(2025, 6, 1)
DAYS = [JUNE_1 + timedelta(days=n) for n in range(-2, 31)]
DAILY = {day: 0 if day < JUNE_1 else 2 if day.day <= 15 else 1 for day in DAYS[:-1]}
"""The users active on each day: 2 on each of 15 days, then 1 on each of 15 days."""
JULY_1 = DAYS[-1]


@pytest.fixture
def made() -> MemoryWarehouse:
    """A warehouse with the users active from 1 June to 1 July, when there are 4, and 3 in a month."""
    warehouse = MemoryWarehouse(TABLES.values())
    total = {"segment_dimension": "all", "segment_value": "all"}
    daily = {**DAILY, JULY_1: 4}
    monthly = {**dict.fromkeys(DAILY, 3), JULY_1: 4}
    for table, counts in ((ACTIVE_DAILY, daily), (ACTIVE_MONTHLY, monthly)):
        metric = table.name.removeprefix("gold_")
        warehouse.load(
            table, [{"metric_date": day, **total, metric: n} for day, n in counts.items()]
        )
    warehouse.load(ACTIVITY, [{"user_id": "ann", "activity_date": JUNE_1}])
    return warehouse


def shown(made: MemoryWarehouse, metric: str, days: Sequence[date]) -> list[float | None]:
    window = DateWindow(days[0], days[-1])
    relations = [TABLES[name].relation for name in gold_overall_metrics.inputs]
    select = compile_duckdb(gold_overall_metrics(*relations, window=window))
    rows = made.rows(f"SELECT metric_date, {metric} FROM ({select})")
    assert [day for day, _ in rows] == list(days)
    return [value for _, value in rows]


def test_stickiness_is_the_mean_of_30_days_and_null_before_the_30th(made: MemoryWarehouse) -> None:
    # 30 June is the 30th day, with 15 x 2 + 15 x 1 = 45 user days: 45 / 30 / 3. On 1 July, the 2 of
    # 1 June leave and 4 come: 47 / 30 / 4.
    days = DAYS[-3:]
    assert shown(made, "users_active_stickiness_monthly", days) == [None, 45 / 90, 47 / 120]


def test_a_subscription_event_starts_the_range(made: MemoryWarehouse) -> None:
    made.load(FACTS, [{"entity_type": "account", "event_date": date(2025, 5, 31)}])
    # The 30 days from 31 May to 29 June have 0 + 15 x 2 + 14 x 1 = 44 user days.
    days = DAYS[-4:-1]
    assert shown(made, "users_active_stickiness_monthly", days) == [None, 44 / 90, 45 / 90]


def test_stickiness_without_active_users_is_null(made: MemoryWarehouse) -> None:
    for table in (ACTIVE_DAILY, ACTIVE_MONTHLY):
        made.connection.execute(
            f"UPDATE {table.qualified_name} SET {table.name.removeprefix('gold_')} = 0"
        )
    assert shown(made, "users_active_stickiness_monthly", [JULY_1]) == [None]


def test_mean_health_is_of_the_accounts_that_pay(made: MemoryWarehouse) -> None:
    made.load(
        ACCOUNT_HISTORY,
        [
            {
                "account_id": name,
                "snapshot_date": JULY_1 - timedelta(days=ago),
                "current_state": state,
                "health_score": health,
                "monthly_recurring_revenue": revenue,
                "is_paid": is_paid,
            }
            for name, ago, state, health, revenue, is_paid in (
                ("pays", 0, "active", 80, 100, True),
                ("pays nothing", 0, "active", 40, 0, True),
                ("is frozen", 0, "frozen", 30, 100, True),
                ("has lapsed", 0, "at_risk", 10, 0, False),
                ("on trial", 0, "trial", 100, 0, False),
                # The day before, no account pays.
                ("on trial", 1, "trial", 100, 0, False),
            )
        ],
    )
    # The mean of 80, 40 and 30.
    assert shown(made, "accounts_health_mean_daily", DAYS[-2:]) == [None, 50]
