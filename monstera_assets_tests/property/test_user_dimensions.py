"""The account and the segments of users on each day agree with the oracle."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given

from monstera_assets.bronze import bronze_accounts, bronze_subscription_events, bronze_users
from monstera_assets.lifecycle.billing import billing_intervals
from monstera_assets.lifecycle.intervals import day_date, on_each_day
from monstera_assets.lifecycle.versions import user_dimensions
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse
from monstera_assets_tests.inputs.account_strategies import POLICIES, SPAN, Accounts, batches
from monstera_assets_tests.inputs.strategies import examples
from monstera_assets_tests.oracle.billing import billing_history
from monstera_assets_tests.oracle.versions import account_tier
from monstera_assets_tests.property.comparison import compare

ACCOUNTS, USERS = bronze_accounts.TABLE, bronze_users.TABLE
FACTS = bronze_subscription_events.TABLE
COLUMNS = ("user_id", "day", "account_id", "account_tier")


@pytest.fixture(scope="module")
def warehouse() -> MemoryWarehouse:
    return MemoryWarehouse((ACCOUNTS, FACTS, USERS))


@examples(5)
@given(accounts=batches(POLICIES[0]))
def test_accounts_and_tiers_of_users_are_the_oracles(
    warehouse: MemoryWarehouse, accounts: Accounts
) -> None:
    warehouse.load(ACCOUNTS, [row for case in accounts.cases for row in case.rows])
    warehouse.load(FACTS, [row for case in accounts.cases for row in case.event_rows])
    warehouse.load(USERS, [row for case in accounts.cases for row in case.user_rows])
    tiers = {
        case.account.account_id: {
            day.snapshot_date: day.subscription_tier
            for day in billing_history(case.account, case.events, SPAN.last)
        }
        for case in accounts.cases
    }
    expected: list[dict[str, object]] = []
    for member in accounts.members:
        assert member.accounts is not None
        for day in SPAN:
            account_id = member.accounts.on(day)
            tier = account_tier(tiers[account_id], day)
            values = (member.user_id, day, account_id, tier)
            expected.append(dict(zip(COLUMNS, values, strict=True)))
    compare(COLUMNS, warehouse.rows(sql()), expected, lambda user: user)


@cache
def sql() -> str:
    """Select the account and the tier of each user on each day of the span."""
    contracts = billing_intervals(ACCOUNTS.relation, FACTS.relation, POLICIES[0])
    tiers = contracts.select("account_id", "valid_from", account_tier="tier")
    people = user_dimensions(USERS.relation, tiers)
    days = on_each_day(people, SPAN.first, SPAN.last, day_column="number")
    days = days.mutate(day=day_date(days.number))
    return compile_duckdb(days.select(*COLUMNS))
