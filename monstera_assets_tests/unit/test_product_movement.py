"""Switches between products within a day, and churn from products, computed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    CATALOG_NODES,
    CROSS_ACTIVITY,
    CURRENT,
    ENRICHED,
    EVENTS,
    INTERVALS,
    PRODUCT_CHURN,
    PRODUCT_INTERVALS,
    STEPS,
    USERS,
    WORKFLOWS,
    LifecycleWarehouse,
    as_mappings,
)

POLICY = LifecyclePolicy()
DAY = date(2025, 6, 30)
BEGINNING = "2024-01-01"

Moment = tuple[str, str | None, str]
"""The time, node and event type. Types that start with "look" do not qualify."""
Move = tuple[str, str, str | None, str, str]
"""The date, scope, product, old state and new state."""


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    made = LifecycleWarehouse()
    made.load(USERS, [{"user_id": "u"}])
    nodes = [("a", None), ("b", None), ("c", None), ("a_feature", "a")]
    made.load(
        CATALOG_NODES,
        [
            {
                "product_id": node,
                "tier": "feature" if parent else "product",
                "parent_product_id": parent,
                "is_active": True,
            }
            for node, parent in nodes
        ],
    )
    steps = [("within", 1, "a", "make"), ("within", 2, "a_feature", "make")]
    steps += [("across", 1, "a", "make"), ("across", 2, "b", "send")]
    made.load(
        WORKFLOWS,
        [
            {"workflow_id": flow, "step_number": number, "product_id": node, "event_type": kind}
            for flow, number, node, kind in steps
        ],
    )
    return made


def days(
    made: LifecycleWarehouse, moments: Sequence[Moment], window: DateWindow
) -> dict[date, dict[str, Any]]:
    made.load(
        EVENTS,
        [
            {
                "event_id": f"e{number}",
                "entity_id": "u",
                "entity_type": "user",
                "event_type": kind,
                "event_timestamp": at,
                "event_date": at[:10],
                "product_id": node,
                "is_qualifying_event": not kind.startswith("look"),
                "metadata": json.dumps({"project_id": "p"}),
            }
            for number, (at, node, kind) in enumerate(moments, start=1)
        ],
    )
    for asset in (ENRICHED, STEPS):
        made.compute(asset)
    rows = as_mappings(CROSS_ACTIVITY, made.compute(CROSS_ACTIVITY, POLICY, window))
    inside = [row for row in rows if window.first <= row["activity_date"] <= window.last]
    return {row["activity_date"]: row for row in inside}


def test_a_day_between_products(warehouse: LifecycleWarehouse) -> None:
    row = days(
        warehouse,
        [
            ("2025-06-30 09:00:00", "a", "make"),
            ("2025-06-30 09:01:00", "a_feature", "edit"),  # still a
            ("2025-06-30 09:02:00", "b", "look"),  # switch
            ("2025-06-30 09:03:00", None, "make"),  # in no product
            ("2025-06-30 09:04:00", "b", "send"),
            ("2025-06-30 09:05:00", "a", "look"),  # switch
            ("2025-06-30 09:06:00", "c", "look"),  # switch
        ],
        DateWindow(DAY, DAY),
    )[DAY]
    assert row["products_visited"] == 3
    assert row["products_used"] == 2
    assert row["primary_product_id"] == "a"  # a has two qualifying events, and b has one
    assert row["product_switches"] == 3


def test_of_equal_products_the_busier_is_primary_then_the_lower(
    warehouse: LifecycleWarehouse,
) -> None:
    even: list[Moment] = [
        ("2025-06-30 09:00:00", "b", "make"),
        ("2025-06-30 09:01:00", "a", "make"),
    ]
    window = DateWindow(DAY, DAY)
    assert days(warehouse, even, window)[DAY]["primary_product_id"] == "a"
    busier: list[Moment] = [*even, ("2025-06-30 09:02:00", "b", "look")]
    assert days(warehouse, busier, window)[DAY]["primary_product_id"] == "b"


def test_workflows_count_on_the_day_that_completes_them(warehouse: LifecycleWarehouse) -> None:
    found = days(
        warehouse,
        [
            ("2025-06-28 09:00:00", "a", "make"),
            ("2025-06-29 09:00:00", "a_feature", "make"),  # "within" is complete
            ("2025-06-30 09:00:00", "b", "send"),  # "across" is complete
            ("2025-06-30 10:00:00", "b", "send"),
        ],
        DateWindow(date(2025, 6, 28), DAY),
    )
    completed = {
        day.day: (row["workflows_completed"], row["cross_product_workflows_completed"])
        for day, row in found.items()
    }
    assert completed == {28: (0, 0), 29: (1, 0), 30: (1, 1)}


def test_a_day_by_itself_knows_the_runs_begun_before(warehouse: LifecycleWarehouse) -> None:
    moments: list[Moment] = [
        ("2025-06-28 09:00:00", "a", "make"),
        ("2025-06-30 09:00:00", "b", "send"),
    ]
    row = days(warehouse, moments, DateWindow(DAY, DAY))[DAY]
    assert row["cross_product_workflows_completed"] == 1


def churns(made: LifecycleWarehouse, moves: Sequence[Move]) -> list[dict[str, Any]]:
    """Return the user's churns from products that follow from the transitions, in order.

    A user without a transition on the platform is always active.
    """
    on_the_platform = [move for move in moves if move[1] == "platform"]
    platform = intervals(on_the_platform) if on_the_platform else [("active", BEGINNING, None)]
    made.load(
        INTERVALS.table,
        [
            {"user_id": "u", "platform_state": state, "valid_from": first, "valid_to": end}
            for state, first, end in platform
        ],
    )
    products = sorted({product for _, _, product, _, _ in moves if product is not None})
    made.load(
        PRODUCT_INTERVALS.table,
        [
            {
                "user_id": "u",
                "product_id": product,
                "current_state": state,
                "valid_from": first,
                "valid_to": end,
            }
            for product in products
            for state, first, end in intervals([move for move in moves if move[2] == product])
        ],
    )
    now, _, _ = platform[-1]
    made.load(CURRENT.table, [{"user_id": "u", "as_of_date": DAY, "platform_state": now}])
    rows = as_mappings(PRODUCT_CHURN, made.compute(PRODUCT_CHURN))
    return sorted(rows, key=lambda row: row["churn_number"])


def intervals(moves: Sequence[Move]) -> list[tuple[str, str, str | None]]:
    """Return the state, first day and end of the intervals between transitions of one series."""
    moves = sorted(moves, key=lambda move: move[0])
    states = [moves[0][3], *(after for *_, after in moves)]
    assert states[:-1] == [before for _, _, _, before, _ in moves], "the transitions are a series"
    days = [day for day, *_ in moves]
    return list(zip(states, [BEGINNING, *days], [*days, None], strict=True))


def left(day: str, product: str) -> Move:
    return day, "product", product, "dormant_in_product", "churned_from_product"


def back(day: str, product: str) -> Move:
    return day, "product", product, "churned_from_product", "reactivated_in_product"


def in_product(day: str, product: str, before: str, after: str) -> Move:
    return day, "product", product, f"{before}_in_product", f"{after}_in_product"


def on_platform(day: str, before: str, after: str) -> Move:
    return day, "platform", None, before, after


def test_products_left_one_after_the_other_and_then_the_platform(
    warehouse: LifecycleWarehouse,
) -> None:
    found = churns(
        warehouse,
        [
            on_platform("2025-01-01", "new", "active"),
            left("2025-02-01", "b"),
            left("2025-03-01", "a"),
            left("2025-03-01", "c"),
            on_platform("2025-02-20", "active", "dormant"),
            on_platform("2025-03-02", "dormant", "churned"),
            # On 2025-02-01, the user is active in a, in c for the first day, and no longer in d.
            in_product("2025-02-03", "a", "active", "dormant"),
            in_product("2025-02-01", "c", "dormant", "reactivated"),
            in_product("2025-02-02", "c", "reactivated", "dormant"),
            in_product("2025-02-01", "d", "active", "dormant"),
        ],
    )
    names = ("product_id", "churn_number", "next_churned_product_id", "what_followed")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("b", 1, "a", "another_product_churn"),
        ("a", 2, "c", "another_product_churn"),  # on the same day, ordered by product id
        ("c", 3, None, "platform_churn"),
    ]
    assert [row["platform_state"] for row in found] == ["active", "dormant", "dormant"]
    assert [row["other_products_active"] for row in found] == [2, 0, 0]
    assert {row["platform_churned_on"] for row in found} == {date(2025, 3, 2)}


@pytest.mark.parametrize(
    ("moves", "followed"),
    [
        ([], "nothing_yet"),
        ([back("2025-03-01", "a")], "returned"),
        ([back("2025-03-01", "b")], "nothing_yet"),  # to another product
        ([left("2025-03-01", "b"), back("2025-03-02", "a")], "another_product_churn"),
        ([left("2025-03-02", "b"), back("2025-03-01", "a")], "returned"),
        # On the same day, churn from the platform comes first, then a return, then churn from another
        # product.
        ([left("2025-03-01", "b"), back("2025-03-01", "a")], "returned"),
        (
            [on_platform("2025-03-01", "dormant", "churned"), back("2025-03-01", "a")],
            "platform_churn",
        ),
        ([on_platform("2025-02-01", "dormant", "churned")], "platform_churn"),
        ([on_platform("2025-01-31", "dormant", "churned")], "already_off_the_platform"),
        ([on_platform("2025-01-31", "active", "deleted")], "already_off_the_platform"),
    ],
)
def test_what_follows_the_churn_from_a_product(
    warehouse: LifecycleWarehouse, moves: Sequence[Move], followed: str
) -> None:
    first, *_ = churns(warehouse, [left("2025-02-01", "a"), *moves])
    assert first["product_id"] == "a"
    assert first["what_followed"] == followed


def test_a_product_can_be_left_again(warehouse: LifecycleWarehouse) -> None:
    found = churns(
        warehouse,
        [
            left("2025-02-01", "a"),
            back("2025-03-01", "a"),
            in_product("2025-04-01", "a", "reactivated", "dormant"),
            left("2025-05-01", "a"),
        ],
    )
    assert [row["returned_on"] for row in found] == [date(2025, 3, 1), None]
    assert [row["next_churned_product_id"] for row in found] == ["a", None]
    assert [row["what_followed"] for row in found] == ["returned", "nothing_yet"]


def test_a_platform_state_that_the_user_began_in(warehouse: LifecycleWarehouse) -> None:
    """Without a transition before the churn, the state before the next transition applies."""
    [row] = churns(warehouse, [left("2025-02-01", "a"), on_platform("2025-03-01", "new", "active")])
    assert row["platform_state"] == "new"
    [row] = churns(warehouse, [left("2025-02-01", "a")])
    assert row["platform_state"] == "active"
    assert row["what_followed"] == "nothing_yet"
