"""The seeds' database has every state on its last day, and its history is the oracle's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import date
from functools import cache

import duckdb
import pytest

from monstera_assets.lifecycle.states import AccountState, ProductState, UserState
from monstera_assets.silver.silver_account_state_history import TABLE as ACCOUNT_HISTORY
from monstera_assets.silver.silver_account_state_transitions import TABLE as ACCOUNT_TRANSITIONS
from monstera_assets.silver.silver_user_product_state_history import TABLE as PRODUCT_HISTORY
from monstera_assets.silver.silver_user_product_states import TABLE as PRODUCT_STATES
from monstera_assets.silver.silver_user_state_transitions import TABLE as USER_TRANSITIONS
from monstera_assets.warehouse.tables import Table
from monstera_assets_tests.integration.example_runs import SeedsRun, rows_of
from monstera_assets_tests.oracle.accounts import (
    AccountDay,
    Use,
    account_history,
    account_transitions,
)
from monstera_assets_tests.oracle.products import (
    ProductDay,
    product_history,
    product_transitions,
)
from monstera_assets_tests.property.comparison import compare
from monstera_assets_tests.unit.test_seeds import (
    FIRST,
    LAST,
    Row,
    billing,
    day_of,
    events_of,
    moment,
    qualifying_days,
    read,
    roll_up,
)

NOT_THE_ORACLES = ("state_reason", "reason", "triggering_event_id")
"""Columns of the account tables that the oracle lacks."""


@pytest.fixture(scope="module")
def connection(seeds_run: SeedsRun) -> Iterator[duckdb.DuckDBPyConnection]:
    assert (seeds_run.days.first, seeds_run.days.last) == (FIRST, LAST)
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        yield connection


@pytest.mark.parametrize(
    ("table", "column", "states"),
    [
        ("silver_user_state_history", "platform_state", UserState),
        ("silver_account_state_history", "current_state", AccountState),
        (
            "silver_user_product_state_history",
            "current_state",
            set(ProductState) - {ProductState.NEVER_ADOPTED},
        ),
    ],
)
def test_every_state_is_in_history_on_the_last_day(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, states: set[str]
) -> None:
    found = connection.execute(
        f"SELECT DISTINCT {column} FROM silver.{table} WHERE snapshot_date = ?", [LAST]
    ).fetchall()
    assert {state for (state,) in found} == {str(state) for state in states}


@pytest.mark.parametrize(
    ("table", "column", "states"),
    [
        ("silver_user_current_state", "platform_state", UserState),
        ("silver_account_current_state", "current_state", AccountState),
        ("silver_user_product_states", "current_state", ProductState),
    ],
)
def test_every_state_is_somebodys_current_one(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, states: set[str]
) -> None:
    found = connection.execute(
        f"SELECT {column}, min(as_of_date), max(as_of_date) FROM silver.{table} GROUP BY 1"
    ).fetchall()
    assert {row[0] for row in found} == {str(state) for state in states}
    assert {day for row in found for day in row[1:]} == {LAST}


def test_the_history_of_accounts_is_the_oracles(connection: duckdb.DuckDBPyConnection) -> None:
    histories = [account_days(row["account_id"]) for row in read("accounts")]
    compare_with(
        connection,
        ACCOUNT_HISTORY,
        [
            {field.name: getattr(day, field.name) for field in fields(day)}
            for days in histories
            for day in days
        ],
    )
    compare_with(
        connection,
        ACCOUNT_TRANSITIONS,
        [
            {
                "account_id": days[0].account_id,
                **{field.name: getattr(move, field.name) for field in fields(move)},
            }
            for days in histories
            for move in account_transitions(days)
        ],
    )


def test_the_history_of_users_in_products_is_the_oracles(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    keys = [(user["user_id"], product) for user in read("users") for product in active_products()]
    compare_with(
        connection,
        PRODUCT_HISTORY,
        [
            {**product_row(day), "snapshot_date": day.snapshot_date}
            for user_id, product in keys
            for day in product_days(user_id, product)
            if day.is_stored
        ],
    )
    last_days = [product_row(product_days(user_id, product)[-1]) for user_id, product in keys]
    compare_with(connection, PRODUCT_STATES, last_days, without=("as_of_date", "state_updated_at"))
    moves = [
        {
            "user_id": user_id,
            "scope": "product",
            "product_id": product,
            **{field.name: getattr(move, field.name) for field in fields(move)},
        }
        for user_id, product in keys
        for move in product_transitions(product_days(user_id, product))
    ]
    names = [column.name for column in USER_TRANSITIONS.columns]
    stored = [row for row in rows_of(connection, USER_TRANSITIONS) if row[1] == "product"]
    compare(names, stored, moves, facts)


def compare_with(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    expected: list[dict[str, object]],
    without: tuple[str, ...] = NOT_THE_ORACLES,
) -> None:
    """Compare all rows of a table in all columns but those in `without`."""
    names = [column.name for column in table.columns if column.name not in without]
    compare(names, rows_of(connection, table, without), expected, facts)


def facts(entity_id: str) -> str:
    """Return the events of a user, or the subscription events of an account."""
    rows = events_of(entity_id)
    rows += [event for event in read("subscription_events") if event["entity_id"] == entity_id]
    return "\n".join(str(row) for row in rows)


def account_days(account_id: str) -> list[AccountDay]:
    uses = [
        Use(user["user_id"], day_of(event["timestamp"]), roll_up(event["product_id"]))
        for user in read("users")
        if user["account_id"] == account_id
        for event in events_of(user["user_id"])
        if event["is_qualifying_event"] == "true"
    ]
    return account_history(billing(account_id), uses)


def active_products() -> Mapping[str, Row]:
    return {
        node["product_id"]: node
        for node in read("product_catalog")
        if node["tier"] == "product" and node["is_active"] == "true"
    }


@cache
def events_in(user_id: str, product_id: str) -> tuple[Row, ...]:
    return tuple(e for e in events_of(user_id) if roll_up(e["product_id"]) == product_id)


@cache
def product_days(user_id: str, product_id: str) -> tuple[ProductDay, ...]:
    node = active_products()[product_id]
    events = events_in(user_id, product_id)
    [user] = [user for user in read("users") if user["user_id"] == user_id]
    activations = [e for e in events if e["is_activation_event"] == "true"]
    return tuple(
        product_history(
            user_id,
            product_id,
            day_of(user["user_created_at"]),
            LAST,
            first_access=first_day(events),
            activation=first_day(activations),
            qualifying_days=qualifying_days(list(events)),
            active_days=int(node["active_days"]) if node["active_days"] else None,
            dormant_days=int(node["dormant_days"]) if node["dormant_days"] else None,
        )
    )


def first_day(events: list[Row] | tuple[Row, ...]) -> date | None:
    return min((day_of(event["timestamp"]) for event in events), default=None)


def product_row(day: ProductDay) -> dict[str, object]:
    events = [
        event
        for event in events_in(day.user_id, day.product_id)
        if day_of(event["timestamp"]) <= day.snapshot_date
    ]
    qualifying = [e for e in events if e["is_qualifying_event"] == "true"]
    return {
        "user_id": day.user_id,
        "product_id": day.product_id,
        "current_state": day.current_state,
        "state_since": day.state_since,
        "first_access_at": min((moment(e["timestamp"]) for e in events), default=None),
        "first_access_date": first_day(events),
        "last_qualifying_event_at": max((moment(e["timestamp"]) for e in qualifying), default=None),
        "activation_date": day.activation_date,
        "total_qualifying_events": day.total_qualifying_events,
    }
