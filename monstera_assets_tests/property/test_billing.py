"""The billing intervals of the engine agree with the days that the oracle computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import ibis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.lifecycle.billing import (
    billing_intervals,
    dunning_intervals,
)
from monstera_assets.lifecycle.intervals import day_date, day_number, fill_gaps, on_each_day
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACCOUNTS,
    SUBSCRIPTION_EVENTS,
    LifecycleWarehouse,
)
from monstera_assets_tests.inputs.strategies import (
    POLICIES,
    SPAN,
    Population,
    account_batches,
    examples,
    oracle_policy,
)
from monstera_assets_tests.oracle.billing import BillingDay, billing_history
from monstera_assets_tests.property.comparison import compare

CONTRACT = (
    "account_id",
    "day",
    "phase",
    "ended_on",
    "tier",
    "seats",
    "revenue",
    "renewal_date",
    "failure_open",
    "partly_halted",
    "paused",
    "pause_reason",
    "cancellation_pending",
    "first_paid_on",
)
DUNNING = ("account_id", "day", "dunning_type", "dunning_since", "event_id")

scenarios = st.sampled_from(POLICIES).flatmap(
    lambda policy: st.tuples(st.just(policy), account_batches(policy, accounts=100))
)


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    return LifecycleWarehouse()


@examples(5)
@given(scenario=scenarios)
def test_contracts_dunning_and_ends_are_the_oracles(
    warehouse: LifecycleWarehouse, scenario: tuple[LifecyclePolicy, Population]
) -> None:
    policy, population = scenario
    warehouse.load_accounts(population.accounts)
    days = [
        day
        for case in population.accounts
        for day in billing_history(case.account, case.events, SPAN.last, oracle_policy(policy))
        if day.snapshot_date >= SPAN.first
    ]
    created = {
        c.account.account_id: c.account.account_created_at.date() for c in population.accounts
    }
    facts = population.facts_of_account

    compare(CONTRACT, warehouse.rows(contract_sql(policy)), map(contract_row, days), facts)

    # If dunning starts or ends before the creation of the account, its first day does not show it.
    dunning = [
        {**dunning_row(day), "event_id": None}
        if day.snapshot_date == created[day.account_id]
        else dunning_row(day)
        for day in days
    ]
    compare(
        DUNNING,
        warehouse.rows(dunning_sql(policy)),
        [row for row in dunning if row["dunning_type"] or row["event_id"]],
        facts,
    )


def contract_row(day: BillingDay) -> Mapping[str, object]:
    return {
        "account_id": day.account_id,
        "day": day.snapshot_date,
        "phase": day.status,
        "ended_on": day.end_date if day.status == "lapsed" else None,
        "tier": day.subscription_tier,
        "seats": day.total_seats,
        "revenue": day.monthly_recurring_revenue,
        "renewal_date": day.contract_renewal_date,
        "failure_open": day.failure_open,
        "partly_halted": day.partly_halted,
        "paused": day.is_paused,
        "pause_reason": day.pause_reason,
        "cancellation_pending": day.cancellation_pending,
        "first_paid_on": day.first_payment_date,
    }


def dunning_row(day: BillingDay) -> Mapping[str, object]:
    return {
        "account_id": day.account_id,
        "day": day.snapshot_date,
        "dunning_type": day.dunning_type,
        "dunning_since": day.dunning_since,
        "event_id": day.dunning_event_id,
    }


@cache
def contract_sql(policy: LifecyclePolicy) -> str:
    """Select the contract of each account on each day of the span since its creation."""
    contracts = billing_intervals(ACCOUNTS.relation, SUBSCRIPTION_EVENTS.relation, policy)
    days = on_each_day(contracts, SPAN.first, SPAN.last, day_column="number")
    return compile_duckdb(
        days.select(
            "account_id",
            day=day_date(days.number),
            phase=days.phase,
            ended_on=day_date(days.ended_on),
            tier=days.tier,
            seats=days.seats,
            revenue=days.revenue,
            renewal_date=day_date(days.renewal_day),
            failure_open=days.failure_open,
            partly_halted=days.partly_halted,
            paused=days.paused,
            pause_reason=days.pause_reason,
            cancellation_pending=days.cancellation_pending,
            first_paid_on=day_date(days.first_paid_day),
        )
    )


@cache
def dunning_sql(policy: LifecyclePolicy) -> str:
    """Select the days on which an account is in dunning or on which an event ended the dunning."""
    dunning = dunning_intervals(ACCOUNTS.relation, SUBSCRIPTION_EVENTS.relation, policy)
    accounts = ACCOUNTS.relation
    created = accounts.select(
        "account_id", created_day=day_number(accounts.account_created_at.date())
    ).distinct()
    covering = fill_gaps(dunning, keys=["account_id"])
    days = on_each_day(covering, SPAN.first, SPAN.last, day_column="number")
    days = days.inner_join(created, "account_id")
    days = days.filter(days.number >= days.created_day)
    changes_today = (days.number == days.valid_from) & (days.number > days.created_day)
    days = days.select(
        "account_id",
        day=day_date(days.number),
        dunning_type=days.dunning_type,
        dunning_since=day_date(days.dunning_since),
        event_id=ibis.ifelse(changes_today, days.begun_by_event_id, None),
    )
    return compile_duckdb(days.filter(days.dunning_type.notnull() | days.event_id.notnull()))
