"""Tables across products agree with examples computed by hand and with a published example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import permutations
from math import isclose, log
from typing import Any

import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACTIVITY,
    ADOPTIONS,
    AFFINITY,
    CATALOG_NODES,
    CURRENT,
    PORTFOLIOS,
    PRODUCT_STATES,
    SEQUENCES,
    USERS,
    LifecycleWarehouse,
    as_mappings,
)

AS_OF = date(2025, 6, 30)
POLICY = LifecyclePolicy()


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    return LifecycleWarehouse()


def load_products(made: LifecycleWarehouse, products: Iterable[str]) -> None:
    """Replace the catalog with active products, a retired one and one that is not launched yet."""
    rows: list[Mapping[str, object]] = [
        {"product_id": product, "tier": "product", "is_active": True} for product in products
    ]
    rows.append({"product_id": "retired", "tier": "product", "is_active": False})
    tomorrow = AS_OF + timedelta(days=1)
    future = {"product_id": "future", "tier": "product", "is_active": True, "created_at": tomorrow}
    feature = {"product_id": "feature", "tier": "feature", "is_active": True}
    made.load(CATALOG_NODES, [*rows, future, feature])


def load_people(made: LifecycleWarehouse, quiet: Mapping[str, int | None]) -> None:
    """Replace the users, given the number of days since each was last active."""
    made.load(
        CURRENT.table,
        [
            {"user_id": user, "as_of_date": AS_OF, "days_since_last_qualifying_event": days}
            for user, days in quiet.items()
        ],
    )


def load_adoptions(made: LifecycleWarehouse, orders: Mapping[str, Mapping[str, date]]) -> None:
    """Replace the adoptions, given each user's products in order, with the dates."""
    made.load(
        ADOPTIONS.table,
        [
            {
                "user_id": user,
                "product_id": product,
                "adoption_date": adopted,
                "sequence_number": number,
            }
            for user, adoptions in orders.items()
            for number, (product, adopted) in enumerate(adoptions.items(), start=1)
        ],
    )


def affinity(
    made: LifecycleWarehouse, policy: LifecyclePolicy = POLICY
) -> dict[tuple[str, str], dict[str, Any]]:
    rows = as_mappings(AFFINITY, made.compute(AFFINITY, policy))
    return {(row["first_product_id"], row["second_product_id"]): row for row in rows}


def test_affinity_of_ten_users(warehouse: LifecycleWarehouse) -> None:
    load_products(warehouse, ["a", "b", "c"])
    day = date(2025, 1, 1)
    # u1 to u6 adopt a, and u4 to u8 adopt b. u9 and u10 adopt nothing, and nobody adopts c.
    load_adoptions(
        warehouse,
        {
            **{user: {"a": day} for user in ("u1", "u2", "u3")},
            "u4": {"a": day, "b": day + timedelta(days=4)},
            "u5": {"a": day, "b": day + timedelta(days=10)},
            "u6": {"b": day, "a": day + timedelta(days=7)},
            **{user: {"b": day} for user in ("u7", "u8")},
        },
    )
    in_mau, not_in_mau = 29, 30
    load_people(
        warehouse,
        {
            "u1": in_mau,
            "u2": not_in_mau,
            "u3": not_in_mau,
            "u4": in_mau,
            "u5": in_mau,
            "u6": not_in_mau,
            "u7": in_mau,
            "u8": None,
            "u9": in_mau,
            "u10": None,
        },
    )
    pairs = affinity(warehouse)
    assert set(pairs) == set(permutations("abc", 2))
    same = {
        "users_eligible": 10,
        "users_both": 3,
        "is_low_support": True,  # 3 users, but 5 are needed
        "support": 3 / 10,
        "lift": 1.0,  # 10 x 3 / (6 x 5)
        "jaccard": 3 / 8,
        "monthly_active_share_both": 2 / 3,  # u4 and u5 of u4, u5, u6
        "as_of_date": AS_OF,
    }
    assert pairs["a", "b"] == {
        **same,
        "first_product_id": "a",
        "second_product_id": "b",
        "users_first": 6,
        "users_second": 5,
        "co_adoption_rate": 3 / 6,
        "users_in_order": 2,
        "median_days_between": 7.0,  # of 4 and 10
        "monthly_active_share_first_only": 1 / 3,  # u1 of u1, u2, u3
        "retention_lift": 2.0,
    }
    assert pairs["b", "a"] == {
        **same,
        "first_product_id": "b",
        "second_product_id": "a",
        "users_first": 5,
        "users_second": 6,
        "co_adoption_rate": 3 / 5,
        "users_in_order": 1,
        "median_days_between": 7.0,
        "monthly_active_share_first_only": 1 / 2,  # u7 of u7, u8
        "retention_lift": pytest.approx(4 / 3, rel=1e-15),
    }
    nothing = pairs["a", "c"]
    assert (nothing["users_both"], nothing["support"], nothing["jaccard"]) == (0, 0.0, 0.0)
    assert nothing["co_adoption_rate"] == 0.0
    for name in ("lift", "median_days_between", "monthly_active_share_both", "retention_lift"):
        assert nothing[name] is None
    assert pairs["c", "a"]["co_adoption_rate"] is None
    enough = POLICY.model_copy(update={"min_affinity_support": 3})
    assert affinity(warehouse, enough)["a", "b"]["is_low_support"] is False


def test_affinity_of_tea_and_coffee(warehouse: LifecycleWarehouse) -> None:
    """Table 6.8 of P.-N. Tan, M. Steinbach and V. Kumar, Introduction to Data Mining (2006).

    Of 1,000 people, 150 drink tea and coffee, 50 only tea, 650 only coffee and 150 neither. The
    interest factor in the book is the lift, 0.9375.
    """
    load_products(warehouse, ["tea", "coffee"])
    day = date(2025, 1, 1)
    drinks = [{"tea": day, "coffee": day}] * 150 + [{"tea": day}] * 50 + [{"coffee": day}] * 650
    load_adoptions(warehouse, {f"u{n}": adopted for n, adopted in enumerate(drinks)})
    load_people(warehouse, {f"u{n}": None for n in range(1000)})
    pairs = affinity(warehouse)
    assert pairs["tea", "coffee"]["lift"] == pytest.approx(0.9375, rel=1e-15)
    assert pairs["coffee", "tea"]["lift"] == pairs["tea", "coffee"]["lift"]
    assert pairs["tea", "coffee"]["support"] == 0.15
    assert pairs["tea", "coffee"]["co_adoption_rate"] == 0.75  # the confidence
    assert pairs["coffee", "tea"]["co_adoption_rate"] == 0.1875
    assert pairs["tea", "coffee"]["retention_lift"] is None  # nobody is in MAU


def test_affinity_without_users(warehouse: LifecycleWarehouse) -> None:
    load_products(warehouse, ["a", "b"])
    load_adoptions(warehouse, {})
    load_people(warehouse, {})
    for pair in affinity(warehouse).values():
        assert pair["users_eligible"] == 0
        assert (pair["support"], pair["lift"], pair["jaccard"]) == (None, None, None)


def test_adoptions_in_order(warehouse: LifecycleWarehouse) -> None:
    warehouse.load(USERS, [{"user_id": "u", "user_created_at": datetime(2025, 1, 1, 23, 0)}])  # noqa: DTZ001
    warehouse.load(
        PRODUCT_STATES.table,
        [
            {
                "user_id": "u",
                "product_id": product,
                "current_state": state,
                "first_access_at": accessed,
                "first_access_date": accessed and accessed[:10],
                "activation_date": activated,
                "as_of_date": AS_OF,
            }
            for product, state, accessed, activated in (
                ("b", "dormant_in_product", "2025-01-01 23:30:00", None),
                # Both are adopted at the same time, so the lower id comes first.
                ("d", "new_to_product", "2025-03-01 12:00:00", None),
                ("a", "reactivated_in_product", "2025-03-01 12:00:00", "2025-03-02"),
                ("e", "active_in_product", "2025-03-05 00:00:00", "2025-03-05"),
                ("c", "never_adopted", None, None),
            )
        ],
    )
    rows = as_mappings(ADOPTIONS, warehouse.compute(ADOPTIONS))
    names = (
        "product_id",
        "sequence_number",
        "products_adopted",
        "days_since_signup",
        "days_since_previous_adoption",
        "is_active",
    )
    found = sorted(tuple(row[name] for name in names) for row in rows)
    assert sorted(found, key=lambda row: row[1]) == [
        ("b", 1, 4, 0, None, False),
        ("a", 2, 4, 59, 59, True),  # 31 + 28 days
        ("d", 3, 4, 59, 0, False),
        ("e", 4, 4, 63, 4, True),
    ]
    activations = {row["product_id"]: row["activation_date"] for row in rows}
    assert activations == {"b": None, "a": date(2025, 3, 2), "d": None, "e": date(2025, 3, 5)}


def test_paths_of_seven_users(warehouse: LifecycleWarehouse) -> None:
    paths = {
        # by user, the adoption date of each product and the days since signup
        "u1": {"a": (date(2025, 1, 1), 0)},
        "u2": {"a": (date(2025, 1, 1), 2), "b": (date(2025, 1, 11), 12)},
        "u3": {"a": (date(2025, 2, 1), 4), "b": (date(2025, 2, 21), 24)},
        "u4": {
            "a": (date(2025, 2, 1), 6),
            "b": (date(2025, 3, 1), 34),
            "c": (date(2025, 3, 2), 35),
        },
        "u5": {"b": (date(2025, 6, 1), 0)},
        "u6": {"b": (date(2025, 6, 2), 1)},
    }
    warehouse.load(
        ADOPTIONS.table,
        [
            {
                "user_id": user,
                "product_id": product,
                "adoption_date": adopted,
                "sequence_number": number,
                "products_adopted": len(adoptions),
                "days_since_signup": days,
                "days_since_previous_adoption": (
                    (adopted - [day for day, _ in adoptions.values()][number - 2]).days
                    if number > 1
                    else None
                ),
                "as_of_date": AS_OF,
            }
            for user, adoptions in paths.items()
            for number, (product, (adopted, days)) in enumerate(adoptions.items(), start=1)
        ],
    )
    used = {
        "u1": [date(2025, 1, 31), date(2025, 5, 1)],  # days 30 and 120, only in the first period
        "u2": [date(2025, 3, 1)],  # days 59 after a and 49 after b
        "u3": [date(2025, 3, 2)],  # days 29 after a and 9 after b, too early for both
        "u4": [date(2025, 5, 31)],  # days 119 after a, 91 after b, 90 after c
        "u6": [date(2025, 6, 3)],
    }
    warehouse.load(
        ACTIVITY.table,
        [
            {"user_id": user, "activity_date": day, "product_id": "a", "qualifying_events": 1}
            for user, days in used.items()
            for day in days
        ]
        + [
            {
                "user_id": "u3",
                "activity_date": date(2025, 3, 10),
                "product_id": "a",
                "qualifying_events": 0,
            }
        ],
    )
    rows = as_mappings(SEQUENCES, warehouse.compute(SEQUENCES))
    found = {row["path"]: row for row in rows}
    names = (
        "path_length",
        "previous_path",
        "users",
        "users_ending",
        "share_of_adopters",
        "share_of_previous",
        "median_days_since_previous",
        "median_days_since_signup",
    )
    assert {path: tuple(row[name] for name in names) for path, row in found.items()} == {
        "a": (1, None, 4, 1, 4 / 6, None, None, 3.0),
        "a > b": (2, "a", 3, 2, 3 / 6, 3 / 4, 20.0, 24.0),
        "a > b > c": (3, "a > b", 1, 1, 1 / 6, 1 / 3, 1.0, 35.0),
        "b": (1, None, 2, 2, 2 / 6, None, None, 0.5),
    }
    later = ("users_mature_30", "retention_30", "users_mature_90", "retention_90")
    assert {path: tuple(row[name] for name in later) for path, row in found.items()} == {
        "a": (4, 2 / 4, 4, 1 / 4),  # u1 and u2; then u4
        "a > b": (3, 1 / 3, 3, 1 / 3),  # u2; then u4
        "a > b > c": (1, 0.0, 1, 1.0),  # nothing; then u4
        "b": (0, None, 0, None),  # not yet 60 days ago
    }
    assert (found["a > b > c"]["first_product_id"], found["a > b > c"]["last_product_id"]) == (
        "a",
        "c",
    )


@pytest.mark.parametrize(
    ("events", "diversity"),
    [
        ({"a": 8}, 0.0),
        ({"a": 5, "b": 5, "c": 5, "d": 5}, 1.0),
        ({"a": 7, "b": 7}, 0.5),  # ln 2 / ln 4
        # 1/2, 1/4, 1/8, 1/8: 1.75 bits of 2.
        ({"a": 4, "b": 2, "c": 1, "d": 1}, 0.875),
        ({"a": 1, "b": 2}, (log(3) - 2 / 3 * log(2)) / log(4)),
        ({"a": 0, "b": 3}, 0.0),
        ({"a": 0}, None),
        ({}, None),
    ],
)
def test_diversity_of_a_portfolio_of_four(
    warehouse: LifecycleWarehouse, events: Mapping[str, int], diversity: float | None
) -> None:
    portfolio = _portfolio(warehouse, "abcd", events)
    found = portfolio["diversity"]
    assert (found is None) == (diversity is None)
    if diversity is not None:
        assert isclose(found, diversity, rel_tol=1e-12, abs_tol=1e-12)
        assert 0 <= found <= 1
    assert portfolio["products_tried"] == len(events)
    assert portfolio["total_qualifying_events"] == sum(events.values())


def test_diversity_where_there_is_one_product(warehouse: LifecycleWarehouse) -> None:
    assert _portfolio(warehouse, "a", {"a": 3})["diversity"] == 0.0


def test_first_latest_and_primary_product(warehouse: LifecycleWarehouse) -> None:
    # b and c have the most events, and c was used later. Products are first accessed in the given
    # order.
    portfolio = _portfolio(warehouse, "abcd", {"d": 1, "b": 4, "c": 4})
    assert portfolio["primary_product_id"] == "c"
    assert (portfolio["first_product_id"], portfolio["first_adoption_date"]) == (
        "d",
        date(2025, 1, 1),
    )
    assert (portfolio["latest_product_id"], portfolio["latest_adoption_date"]) == (
        "c",
        date(2025, 1, 3),
    )
    assert (portfolio["products_activated"], portfolio["products_active"]) == (1, 2)


def _portfolio(
    made: LifecycleWarehouse, products: str, events: Mapping[str, int]
) -> dict[str, Any]:
    """Return the portfolio of a user with events in products that are first accessed a day apart."""
    made.load(
        CATALOG_NODES,
        [
            *({"product_id": p, "tier": "product", "is_active": True} for p in products),
            {"product_id": "retired", "tier": "product", "is_active": False},
        ],
    )
    load_people(made, {"u": None})
    states = ("new_to_product", "active_in_product", "reactivated_in_product", "dormant_in_product")
    made.load(
        PRODUCT_STATES.table,
        [
            {
                "user_id": "u",
                "product_id": product,
                "current_state": state,
                "total_qualifying_events": count,
                "first_access_at": date(2025, 1, 1) + timedelta(days=number),
                "first_access_date": date(2025, 1, 1) + timedelta(days=number),
                "last_qualifying_event_at": date(2025, 2, 1) + timedelta(days=number),
                "activation_date": date(2025, 1, 9) if number == 1 else None,
            }
            for number, ((product, count), state) in enumerate(
                zip(events.items(), states, strict=False)
            )
        ],
    )
    [row] = as_mappings(PORTFOLIOS, made.compute(PORTFOLIOS))
    return row
