"""The account tables agree with the oracle."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.bronze import bronze_accounts, bronze_subscription_events, bronze_users
from monstera_assets.lifecycle.expressions import window_parameters
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import ACCOUNT_TRANSITIONS
from monstera_assets.silver import silver_daily_user_activity
from monstera_assets.silver.silver_account_current_state import silver_account_current_state
from monstera_assets.silver.silver_account_state_history import silver_account_state_history
from monstera_assets.silver.silver_account_state_intervals import silver_account_state_intervals
from monstera_assets.silver.silver_account_state_transitions import silver_account_state_transitions
from monstera_assets.silver.states_recomputed import account_states_recomputed_from_facts
from monstera_assets.warehouse.compiler import bind, compile_duckdb
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse
from monstera_assets_tests.inputs.account_strategies import (
    POLICIES,
    SPAN,
    Accounts,
    ContractCase,
    batches,
)
from monstera_assets_tests.inputs.strategies import examples, known_versions, oracle_policy
from monstera_assets_tests.oracle.accounts import AccountDay, account_history, account_transitions
from monstera_assets_tests.oracle.billing import billing_history
from monstera_assets_tests.property.comparison import compare

ACCOUNTS = bronze_accounts.TABLE
SUBSCRIPTION_EVENTS = bronze_subscription_events.TABLE
USERS = bronze_users.TABLE
ACTIVITY = silver_daily_user_activity.TABLE
INTERVALS = silver_account_state_intervals
HISTORY = silver_account_state_history
CURRENT = silver_account_current_state
TRANSITIONS = silver_account_state_transitions

_COMPUTED = {asset.table.name: asset for asset in (INTERVALS, HISTORY, CURRENT, TRANSITIONS)}
_TABLES = {
    table.name: table
    for table in (
        *(ACCOUNTS, SUBSCRIPTION_EVENTS, USERS, ACTIVITY),
        *(asset.table for asset in _COMPUTED.values()),
    )
}

REASONS = {
    "trial": {"on trial"},
    "new_paid": {"first payment"},
    "active": {"steady"},
    "expanding": {"contract larger than 30 days ago", "first use of another product"},
    "contracting": {"contract smaller than 30 days ago"},
    "at_risk": {
        "subscription lapsed",
        "cancellation pending",
        "part of the subscriptions failed or paused",
        "low seat utilization",
        "renewal near with low seat utilization",
        "activity halved",
    },
    "churned": {"trial expired", "subscription lapsed for long"},
    "reactivated": {"paid again after having churned"},
    "frozen": {"payment failed", "subscription paused"},
}
"""The reasons that each state can have."""
EDGES = {
    (str(origin), str(target))
    for origin, targets in ACCOUNT_TRANSITIONS.items()
    for target in targets
}
EARLY = DateWindow(SPAN.first, SPAN.first + timedelta(days=140))

Row = Mapping[str, object]

scenarios = st.sampled_from((POLICIES[0], *POLICIES)).flatmap(
    lambda policy: st.tuples(st.just(policy), batches(policy, accounts=40))
)


@pytest.fixture(scope="module")
def warehouse() -> MemoryWarehouse:
    made = MemoryWarehouse(_TABLES.values())
    # No table is out of date.
    made.connection.execute(
        "CREATE SCHEMA operations; CREATE TABLE operations.materializations"
        " (table_name VARCHAR, partition_date DATE, materialized_at TIMESTAMP);"
        " CREATE TABLE operations.source_changes (affects_from DATE, changed_at TIMESTAMP)"
    )
    return made


@examples(4)
@given(scenario=scenarios)
def test_history_current_state_and_transitions_are_the_oracles(
    warehouse: MemoryWarehouse, scenario: tuple[LifecyclePolicy, Accounts]
) -> None:
    policy, accounts = scenario
    load(warehouse, accounts.cases)
    histories = [oracle_history(accounts, case, policy) for case in accounts.cases]

    compute(warehouse, INTERVALS, policy)
    history = compute(warehouse, HISTORY, policy)
    days = [
        history_row(day) for days in histories for day in days if day.snapshot_date >= SPAN.first
    ]
    compare_common(history, days, accounts)
    current = compute(warehouse, CURRENT, policy)
    compare_common(current, [current_row(days[-1]) for days in histories if days], accounts)
    transitions = compute(warehouse, TRANSITIONS, policy)
    compare_common(transitions, [row for days in histories for row in moves(days)], accounts)

    # The oracle does not compute reasons and triggering events.
    assert all(row["state_reason"] in REASONS[str(row["current_state"])] for row in history)
    reasons = {(row["account_id"], row["snapshot_date"]): row["state_reason"] for row in history}
    events = {
        (case.account.account_id, event.timestamp.date(), event.event_id)
        for case in accounts.cases
        for event in case.events
    }
    for move in transitions:
        day = (move["account_id"], move["transition_date"])
        assert (move["from_state"], move["to_state"]) in EDGES
        assert move["reason"] == reasons[day]
        event_id = move["triggering_event_id"]
        assert event_id is None or (*day, event_id) in events


@examples(3)
@given(scenario=scenarios)
def test_states_recomputed_from_facts_are_those_of_the_engine(
    warehouse: MemoryWarehouse, scenario: tuple[LifecyclePolicy, Accounts]
) -> None:
    policy, accounts = scenario
    load(warehouse, accounts.cases)
    compute(warehouse, INTERVALS, policy)
    compute(warehouse, HISTORY, policy)
    query = recomputed_sql(policy)
    for day in (SPAN.first, *(SPAN.first + timedelta(days=n) for n in range(29, len(SPAN), 30))):
        bind(warehouse.connection, dict.fromkeys(window_parameters(), day))
        differing = warehouse.rows(query)
        assert differing == [], accounts.facts_of_account(str(differing[0][0]))


@examples(3)
@given(accounts=batches(POLICIES[0]))
def test_later_facts_change_nothing_and_windows_agree(
    warehouse: MemoryWarehouse, accounts: Accounts
) -> None:
    policy = POLICIES[0]
    load(warehouse, accounts.cases)
    compute(warehouse, INTERVALS, policy)
    whole = [
        [row for row in compute(warehouse, asset, policy) if str(row[day]) <= str(EARLY.last)]
        for asset, day in ((HISTORY, "snapshot_date"), (TRANSITIONS, "transition_date"))
    ]
    load(warehouse, accounts.cases, through=EARLY.last)
    compute(warehouse, INTERVALS, policy, EARLY)
    assert [compute(warehouse, asset, policy, EARLY) for asset in (HISTORY, TRANSITIONS)] == whole


@cache
def recomputed_sql(policy: LifecyclePolicy) -> str:
    relations = [_TABLES[name].relation for name in account_states_recomputed_from_facts.inputs]
    return compile_duckdb(account_states_recomputed_from_facts.rows(relations, policy))


def oracle_history(
    accounts: Accounts, case: ContractCase, policy: LifecyclePolicy
) -> list[AccountDay]:
    """Return the oracle's rows for an account, from its creation to the end of the span."""
    thresholds = oracle_policy(policy)
    billing = billing_history(case.account, case.events, SPAN.last, thresholds)
    uses = accounts.uses_of(case.account.account_id)
    return account_history(billing, uses, thresholds, accounts.members)


def history_row(day: AccountDay) -> Row:
    return {field.name: getattr(day, field.name) for field in fields(day)}


def current_row(day: AccountDay) -> Row:
    return {
        **{name: value for name, value in history_row(day).items() if name != "snapshot_date"},
        "as_of_date": day.snapshot_date,
        "state_updated_at": datetime.combine(day.snapshot_date + timedelta(days=1), time.min),
    }


def moves(days: Sequence[AccountDay]) -> list[Row]:
    return [
        {
            "account_id": days[0].account_id,
            **{field.name: getattr(move, field.name) for field in fields(move)},
        }
        for move in account_transitions(days)
        if move.transition_date >= SPAN.first
    ]


def compare_common(rows: Sequence[Row], expected: Sequence[Row], accounts: Accounts) -> None:
    """Compare the columns that the oracle computes: all except reasons and triggering events."""
    unknown = {"state_reason", "reason", "triggering_event_id"}
    names = [name for name in next(iter(rows or expected), {}) if name not in unknown]
    assert all(row.keys() - unknown == set(names) for row in expected)
    found = [tuple(row[name] for name in names) for row in rows]
    compare(names, found, expected, accounts.facts_of_account)


def load(
    warehouse: MemoryWarehouse, cases: Sequence[ContractCase], *, through: date = date.max
) -> None:
    """Replace all facts, and keep only events, activity and versions up to `through`."""
    for table, key, versions in (
        (ACCOUNTS, "account_id", [row for case in cases for row in case.rows]),
        (USERS, "user_id", [row for case in cases for row in case.user_rows]),
    ):
        warehouse.load(table, known_versions(key, versions, through))
    for table, day, rows in (
        (
            SUBSCRIPTION_EVENTS,
            "event_date",
            [row for case in cases for row in (*case.event_rows, *case.deletion_rows)],
        ),
        (ACTIVITY, "activity_date", [row for case in cases for row in case.activity_rows]),
    ):
        warehouse.load(table, [row for row in rows if str(row[day]) <= str(through)])


def compute(
    warehouse: MemoryWarehouse,
    asset: TableAsset,
    policy: LifecyclePolicy,
    window: DateWindow = SPAN,
) -> list[Row]:
    """Compute a table from the stored tables and return its rows by column name."""
    warehouse.store(asset.table, _sql(asset.table.name, policy, window))
    names = [column.name for column in asset.table.columns]
    return [dict(zip(names, row, strict=True)) for row in warehouse.stored(asset.table)]


@cache
def _sql(name: str, policy: LifecyclePolicy, window: DateWindow) -> str:
    asset = _COMPUTED[name]
    relations = {table: _TABLES[table].relation for table in asset.inputs}
    # These are the days that the IO manager reads, up to the last existing day.
    if ACTIVITY.name in relations:
        activity = relations[ACTIVITY.name]
        relations[ACTIVITY.name] = activity.filter(activity.activity_date <= window.last)
    as_of = window.last
    accepts = inspect.signature(asset.function).parameters
    keywords = {
        name: value
        for name, value in (("policy", policy), ("window", window), ("as_of", as_of))
        if name in accepts
    }
    return compile_duckdb(asset(*relations.values(), **keywords))
