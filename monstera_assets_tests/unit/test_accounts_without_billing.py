"""Accounts of a source without subscription events agree with cases computed by hand.

docs/explanation/decisions.md describes their states. Accounts are created on day 0, 1 January
2024, and have one user, who is active on the given days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import groupby

from monstera_assets.bronze import bronze_accounts, bronze_subscription_events, bronze_users
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver.silver_account_state_history import silver_account_state_history
from monstera_assets.silver.silver_account_state_intervals import silver_account_state_intervals
from monstera_assets.silver.silver_daily_user_activity import silver_daily_user_activity
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

DAY_0 = date(2024, 1, 1)
LAST = 300
HISTORY = silver_account_state_history.table
INPUTS = (
    silver_daily_user_activity.table,
    bronze_users.TABLE,
    bronze_accounts.TABLE,
    bronze_subscription_events.TABLE,
)

Run = tuple[str, int, int]


def on(day: int | None) -> date | None:
    return None if day is None else DAY_0 + timedelta(days=day)


def history(
    *,
    first_paid: int | None,
    renewal: int | None = None,
    seats: int = 1,
    work: Mapping[str, Iterable[int]] | None = None,
) -> list[dict[str, object]]:
    """Return the daily rows of an account that is known only from its row in bronze_accounts.

    Args:
        first_paid: the day of the first payment.
        renewal: the day of the renewal.
        seats: the number of seats bought.
        work: the days with one qualifying event, by product.
    """
    warehouse = MemoryWarehouse((*INPUTS, HISTORY))
    warehouse.load(
        bronze_accounts.TABLE,
        [
            {
                "account_id": "account",
                "subscription_tier": "professional",
                "total_seats": seats,
                "account_created_at": on(0),
                "first_paid_at": on(first_paid),
                "contract_renewal_date": on(renewal),
                "monthly_recurring_revenue": 100,
            }
        ],
    )
    warehouse.load(bronze_users.TABLE, [{"user_id": "user", "account_id": "account"}])
    warehouse.load(
        silver_daily_user_activity.table,
        [
            {
                "user_id": "user",
                "product_id": product,
                "activity_date": on(day),
                "events": 1,
                "qualifying_events": 1,
            }
            for product, days in (work or {}).items()
            for day in days
        ],
    )
    window = DateWindow(DAY_0, DAY_0 + timedelta(days=LAST))
    intervals = silver_account_state_intervals(
        *(table.relation for table in INPUTS),
        policy=LifecyclePolicy(),
        as_of=window.last,
    )
    expression = silver_account_state_history(intervals, window=window)
    rows = warehouse.rows(compile_duckdb(expression))
    names = list(expression.columns)
    days = [dict(zip(names, row, strict=True)) for row in rows]
    return sorted(days, key=lambda day: str(day["snapshot_date"]))


def runs(days: list[dict[str, object]]) -> list[Run]:
    """Return the state, first day and last day of each series of consecutive days in one state."""
    assert [day["snapshot_date"] for day in days] == [on(n) for n in range(LAST + 1)]
    numbered = groupby(enumerate(days), lambda pair: str(pair[1]["current_state"]))
    found = [(state, [n for n, _ in run]) for state, run in numbered]
    return [(state, numbers[0], numbers[-1]) for state, numbers in found]


def test_without_a_first_payment_it_is_on_trial_and_then_churned() -> None:
    days = history(first_paid=None, work={"product": range(0, LAST, 10)})
    assert runs(days) == [("trial", 0, 30), ("churned", 31, LAST)]
    assert {day["monthly_recurring_revenue"] for day in days} == {0}


def test_with_a_first_payment_it_pays_on_without_end() -> None:
    days = history(first_paid=0, work={"product": range(0, LAST + 1, 20)})
    assert runs(days) == [("new_paid", 0, 90), ("active", 91, LAST)]
    assert {day["monthly_recurring_revenue"] for day in days} == {100}
    assert {day["days_to_renewal"] for day in days} == {None}
    assert {day["subscription_tier"] for day in days} == {"professional"}


def test_a_first_payment_after_the_trial_is_new_paid_and_no_win_back() -> None:
    days = history(first_paid=40, work={"product": range(0, LAST + 1, 20)})
    assert runs(days) == [
        ("trial", 0, 30),
        ("churned", 31, 39),
        ("new_paid", 40, 130),
        ("active", 131, LAST),
    ]


def test_few_seats_in_use_are_a_risk_from_day_31_on() -> None:
    days = history(first_paid=0, seats=4, work={"product": range(0, LAST + 1, 20)})
    assert runs(days) == [("new_paid", 0, 30), ("at_risk", 31, LAST)]
    assert days[31]["state_reason"] == "low seat utilization"
    assert days[31]["seat_utilization_pct"] == 25


def test_halved_activity_is_a_risk() -> None:
    # There are ten events on days 91 to 110, and then one every ten days.
    work = [*range(0, 91, 10), *range(92, 111, 2), *range(120, LAST + 1, 10)]
    days = history(first_paid=0, work={"product": work})
    [at_risk] = [run for run in runs(days) if run[0] == "at_risk"]
    first = next(
        n
        for n in range(91, LAST)
        if (before := sum(n - 59 <= day <= n - 30 for day in work)) >= 10
        and 2 * sum(n - 29 <= day <= n for day in work) <= before
    )
    assert at_risk[1] == first
    assert days[first]["state_reason"] == "activity halved"
    assert runs(days)[-1][0] == "active"


def test_a_further_product_is_an_expansion_for_thirty_days() -> None:
    work = {"product": range(0, LAST + 1, 20), "other": range(120, LAST + 1, 20)}
    assert runs(history(first_paid=0, work=work)) == [
        ("new_paid", 0, 90),
        ("active", 91, 119),
        ("expanding", 120, 149),
        ("active", 150, LAST),
    ]


def test_an_account_pays_on_for_3_days_after_its_renewal_date() -> None:
    days = history(first_paid=0, renewal=97, work={"product": range(0, LAST + 1, 20)})
    assert runs(days) == [
        ("new_paid", 0, 90),
        ("active", 91, 100),
        ("at_risk", 101, 160),
        ("churned", 161, LAST),
    ]
    assert days[100]["monthly_recurring_revenue"] == 100
    assert days[101]["monthly_recurring_revenue"] == 0
    assert days[101]["state_reason"] == "subscription lapsed"
