"""Rates of users and accounts from hand-made histories, with figures counted by hand.

The history ends on D. Days are given as the number of days before D, so that the week is 6 to 0 and
the states 7 days earlier are those at the end of day 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any

import pytest

from monstera_assets.gold.gold_state_transition_metrics import (
    TABLE,
    gold_state_transition_metrics,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver.silver_account_state_transitions import TABLE as ACCOUNT_TRANSITIONS
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACCOUNTS,
    ACTIVITY,
    CATALOG_NODES,
    EVENTS,
    INTERVALS,
    PRODUCT_INTERVALS,
    SUBSCRIPTION_EVENTS,
    TRANSITIONS,
    USERS,
    LifecycleWarehouse,
)

D = date(2025, 6, 30)
LONG_AGO = 400
POLICY = LifecyclePolicy()
RATES = ("churned", "dormant", "won_back", "reactivated", "never_activated")

Counts = dict[str, tuple[int, int]]
"""For each rate with a population: the part and the population."""


def ago(days: int) -> date:
    return D - timedelta(days=days)


@dataclass(frozen=True)
class Person:
    """A user, with the days before D of signup, qualifying events, deletion and a failed payment."""

    uses: tuple[int, ...] = ()
    signup: int = LONG_AGO
    deleted: int | None = None
    fails: int | None = None
    opened: int | None = None
    """The day of an event that does not qualify, in the product."""


@pytest.fixture(scope="module")
def made() -> LifecycleWarehouse:
    warehouse = LifecycleWarehouse()
    DuckDBEngine(warehouse.connection).prepare(ACCOUNT_TRANSITIONS)
    DuckDBEngine(warehouse.connection).prepare(TABLE)
    nodes = [{"product_id": name, "tier": "product", "is_active": True} for name in ("a", "b")]
    warehouse.load(CATALOG_NODES, nodes)
    return warehouse


def load(
    made: LifecycleWarehouse, people: Iterable[Person], billing: Sequence[Mapping[str, Any]] = ()
) -> None:
    named = {f"user{number}": person for number, person in enumerate(people)}
    failing = [name for name, person in named.items() if person.fails is not None]
    accounts = [*named, *{row["entity_id"]: None for row in billing}]
    made.load(
        ACCOUNTS,
        [
            {
                "account_id": name,
                "account_created_at": ago(LONG_AGO),
                "first_paid_at": ago(LONG_AGO) if name in failing else None,
            }
            for name in accounts
        ],
    )
    made.load(
        USERS,
        [
            {"user_id": name, "account_id": name, "user_created_at": ago(person.signup)}
            for name, person in named.items()
        ],
    )
    happened = [
        *((name, day, True) for name, person in named.items() for day in person.uses),
        *((name, p.opened, False) for name, p in named.items() if p.opened is not None),
    ]
    made.load(
        EVENTS,
        [
            {
                "event_id": f"e{number}",
                "entity_id": name,
                "entity_type": "user",
                "event_type": "video_created",
                "event_timestamp": ago(day),
                "event_date": ago(day),
                "product_id": "a",
                "is_qualifying_event": qualifies,
                "is_activation_event": qualifies,
            }
            for number, (name, day, qualifies) in enumerate(happened)
        ],
    )
    deletions = [
        fact(name, "user_deleted", person.deleted, "user")
        for name, person in named.items()
        if person.deleted is not None
    ]
    failures = [fact(name, "payment_failed", named[name].fails) for name in failing]
    made.load(SUBSCRIPTION_EVENTS, [*deletions, *failures, *billing])


def fact(entity: str, kind: str, day: int | None, entity_type: str = "account") -> dict[str, Any]:
    assert day is not None
    return {
        "event_id": f"{entity} {kind} {day}",
        "entity_id": entity,
        "entity_type": entity_type,
        "event_type": kind,
        "event_timestamp": ago(day),
        "event_date": ago(day),
    }


@cache
def query_of(window: DateWindow, relations: tuple[Any, ...]) -> str:
    """Return the query of the metrics, compiled once per window."""
    return compile_duckdb(gold_state_transition_metrics(*relations, policy=POLICY, window=window))


def rows(
    made: LifecycleWarehouse, window: DateWindow | None = None
) -> dict[tuple[date, str], dict[str, Any]]:
    """Return the totals by date and scope."""
    window = window or DateWindow(D, D)
    made.compute(ACTIVITY)
    # Both tables of intervals are computed with the transitions.
    made.compute(TRANSITIONS, POLICY, window)
    asset = gold_state_transition_metrics
    tables = {
        table.name: table
        for table in (
            *(TRANSITIONS.table, INTERVALS.table, PRODUCT_INTERVALS.table),
            *(ACCOUNT_TRANSITIONS, ACCOUNTS, SUBSCRIPTION_EVENTS),
        )
    }
    relations = tuple(tables[name].relation for name in asset.inputs)
    select = query_of(window, relations)
    names = [column.name for column in TABLE.data_columns]
    cursor = made.connection.execute(f"SELECT {', '.join(names)} FROM ({select})")
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    every = [row for row in found if row["from_state"] != "all"]
    assert all(row[name] is None for row in every for name in names if "share" in name)
    return {(r["metric_date"], r["scope"]): r for r in found if r["from_state"] == "all"}


def counts(row: Mapping[str, Any]) -> Counts:
    found = {
        name: (row[f"users_{name}_weekly"], row[f"users_{name}_population_weekly"])
        for name in RATES
    }
    for name, (part, population) in found.items():
        share = row[f"users_{name}_share_weekly"]
        assert share == (part / population if population else None)
    return {name: count for name, count in found.items() if count[1]}


STAYS, MOVES = (0, 1), (1, 1)
PLATFORM: dict[str, tuple[Person, Counts]] = {
    # A gap of 0 then and 7 now.
    "in use": (Person((7,)), {"churned": STAYS, "dormant": STAYS}),
    # A gap of 30 then and 37 now.
    "goes dormant": (Person((37,)), {"churned": STAYS, "dormant": MOVES}),
    # A gap of 23 then and 30 now.
    "still in use": (Person((30,)), {"churned": STAYS, "dormant": STAYS}),
    # A gap of 31 then.
    "dormant then": (Person((38,)), {"churned": STAYS, "won_back": STAYS}),
    # A gap of 53 then and 60 now.
    "dormant now": (Person((60,)), {"churned": STAYS, "won_back": STAYS}),
    "churns": (Person((61,)), {"churned": MOVES, "won_back": STAYS}),
    # A gap of 60 then.
    "churns late": (Person((67,)), {"churned": MOVES, "won_back": STAYS}),
    "churned then": (Person((68,)), {"reactivated": STAYS}),
    "won back on the first day": (
        Person((45, 6)),
        {"churned": STAYS, "won_back": MOVES},
    ),
    "won back today": (Person((45, 0)), {"churned": STAYS, "won_back": MOVES}),
    "back before the week": (Person((45, 7)), {"churned": STAYS, "dormant": STAYS}),
    "won back in dunning": (Person((45, 3), fails=20), {"churned": STAYS, "won_back": MOVES}),
    "won back and deleted": (Person((45, 3), deleted=1), {}),
    "reactivated": (Person((100, 2)), {"reactivated": MOVES}),
    "reactivated twice": (Person((100, 5, 2)), {"reactivated": MOVES}),
    "reactivated in dunning": (Person((100, 2), fails=20), {"reactivated": MOVES}),
    "reactivated before the week": (Person((100, 7)), {"churned": STAYS, "dormant": STAYS}),
    "never used": (Person((), signup=60), {}),
    "first activated late": (Person((2,), signup=60), {}),
    "in dunning": (Person((30,), fails=20), {"churned": STAYS, "dormant": STAYS}),
    "in dunning since yesterday": (
        Person((10,), fails=1),
        {"churned": STAYS, "dormant": STAYS},
    ),
    "dormant out of dunning": (Person((37,), fails=20), {"churned": STAYS, "dormant": MOVES}),
    "deleted today": (Person((61,), deleted=0), {}),
    "deleted then": (Person((20,), deleted=7), {}),
    "new": (Person((), signup=29), {}),
    "never activated today": (Person((), signup=30), {"never_activated": MOVES}),
    "never activated first day": (Person((), signup=36), {"never_activated": MOVES}),
    "never activated before": (Person((), signup=37), {}),
    # In use 7 days earlier, because the first use is older than that.
    "activated": (
        Person((20,), signup=33),
        {"never_activated": STAYS, "churned": STAYS, "dormant": STAYS},
    ),
    # New 7 days earlier, and reactivated on the day of the first use, 35 days after signup.
    "activated after new_user_days": (Person((1,), signup=36), {"never_activated": STAYS}),
    "deleted without use": (Person((), signup=33, deleted=1), {"never_activated": MOVES}),
}


@pytest.mark.parametrize("name", PLATFORM)
def test_a_user_counts_by_the_state_seven_days_earlier(made: LifecycleWarehouse, name: str) -> None:
    person, expected = PLATFORM[name]
    load(made, [person])
    assert counts(rows(made)[D, "platform"]) == expected


def test_users_add_up(made: LifecycleWarehouse) -> None:
    load(made, [person for person, _ in PLATFORM.values()])
    total = {
        name: tuple(sum(case[1].get(name, (0, 0))[i] for case in PLATFORM.values()) for i in (0, 1))
        for name in RATES
    }
    assert counts(rows(made)[D, "platform"]) == total
    assert total["churned"] == (2, 16)
    assert total["never_activated"] == (3, 5)


PRODUCT: dict[str, tuple[Person, Counts]] = {
    "in use": (Person((7,)), {"churned": STAYS, "dormant": STAYS}),
    "goes dormant": (Person((37,)), {"churned": STAYS, "dormant": MOVES}),
    "churns": (Person((61,)), {"churned": MOVES, "won_back": STAYS}),
    "won back": (Person((45, 6)), {"churned": STAYS, "won_back": MOVES}),
    "reactivated": (Person((100, 0)), {"reactivated": MOVES}),
    "reactivated and deleted": (Person((100, 2), deleted=0), {}),
    "not dunning in a product": (Person((10,), fails=20), {"churned": STAYS, "dormant": STAYS}),
    # First access on the day of the first event of any kind, not on the day of signup.
    "never activated": (Person((), opened=33), {"never_activated": MOVES}),
    "activated": (
        Person((20,), opened=33),
        {"never_activated": STAYS, "churned": STAYS, "dormant": STAYS},
    ),
    "first used late": (Person((2,), opened=100), {}),
    "never adopted": (Person(()), {}),
}


@pytest.mark.parametrize("name", PRODUCT)
def test_a_relationship_counts_by_the_state_seven_days_earlier(
    made: LifecycleWarehouse, name: str
) -> None:
    person, expected = PRODUCT[name]
    load(made, [person])
    assert counts(rows(made)[D, "product"]) == expected


def test_each_day_counts_alike_in_a_longer_window(made: LifecycleWarehouse) -> None:
    load(made, [person for person, _ in PLATFORM.values()])
    days = DateWindow(ago(60), D)
    together = rows(made, days)
    for day in (ago(60), ago(30), ago(6), ago(1), D):
        alone = rows(made, DateWindow(day, day))
        for scope in ("platform", "product"):
            assert counts(together[day, scope]) == counts(alone[day, scope])


def test_the_states_before_the_window_count(made: LifecycleWarehouse) -> None:
    """The first day of a window compares with a day on which there is no partition."""
    load(made, [Person((61,)), Person((100, 2))])
    assert counts(rows(made, DateWindow(ago(1), D))[ago(1), "platform"]) == {
        # A gap of 60 on the day before D.
        "churned": (0, 1),
        "won_back": (0, 1),
        "reactivated": (1, 1),
    }


STARTS = "subscription_started"
FAILS = "payment_failed"
PAYS = "payment_recovered"
ACCOUNT: dict[str, tuple[list[tuple[str, int]], tuple[int, int]]] = {
    "still failing": ([(STARTS, 300), (FAILS, 10)], (0, 0)),
    "recovered": ([(STARTS, 300), (FAILS, 10), (PAYS, 5)], (1, 1)),
    "renewed": ([(STARTS, 300), (FAILS, 10), ("subscription_renewed", 0)], (1, 1)),
    "started": ([(STARTS, 300), (FAILS, 10), (STARTS, 0)], (1, 1)),
    "two failures": ([(STARTS, 300), (FAILS, 10), (FAILS, 8), (PAYS, 5)], (1, 1)),
    "recovered 29 days ago": ([(STARTS, 300), (FAILS, 40), (PAYS, 29)], (1, 1)),
    "recovered 30 days ago": ([(STARTS, 300), (FAILS, 40), (PAYS, 30)], (0, 0)),
    # The last paid day is 30 days after the failure, and the lapse is on the day after.
    "lapsed today": ([(STARTS, 300), (FAILS, 31)], (0, 1)),
    "lapses tomorrow": ([(STARTS, 300), (FAILS, 30)], (0, 0)),
    "lapsed, and paid on that day": ([(STARTS, 300), (FAILS, 41), (PAYS, 10)], (0, 1)),
    "recovered, then lapsed": (
        [(STARTS, 300), (FAILS, 25), (PAYS, 20), (FAILS, 12), ("subscription_cancelled", 10)],
        (0, 1),
    ),
    "lapsed, then recovered": (
        [(STARTS, 300), (FAILS, 55), (STARTS, 20), (FAILS, 15), (PAYS, 4)],
        (1, 1),
    ),
}


def billing(name: str) -> list[dict[str, Any]]:
    return [fact(name, kind, day) for kind, day in ACCOUNT[name][0]]


def recovery(row: Mapping[str, Any]) -> tuple[int, int]:
    part, population, share = (
        row[f"accounts_dunning_recovered_{name}monthly"] for name in ("", "population_", "share_")
    )
    assert share == (part / population if population else None)
    return part, population


@pytest.mark.parametrize("name", ACCOUNT)
def test_an_account_counts_by_its_last_closing(made: LifecycleWarehouse, name: str) -> None:
    load(made, [], billing(name))
    assert recovery(rows(made)[D, "account"]) == ACCOUNT[name][1]


def test_accounts_add_up(made: LifecycleWarehouse) -> None:
    load(made, [], [row for name in ACCOUNT for row in billing(name)])
    found = rows(made, DateWindow(ago(3), D))
    assert recovery(found[D, "account"]) == (6, 9)
    # Without the three closings on D, and with the recovery 30 days before D.
    assert recovery(found[ago(1), "account"]) == (5, 7)
