"""Tests of recommendations and their evaluation by hand, and of the documented settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from monstera_assets.bronze.bronze_product_catalog import TABLE as CATALOG
from monstera_assets.gold.gold_product_recommendations import (
    gold_product_recommendations,
)
from monstera_assets.gold.gold_recommendation_evaluation import (
    affinity_beats_popularity,
    gold_recommendation_evaluation,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy, RecommendationPolicy
from monstera_assets.silver.silver_product_affinity import silver_product_affinity
from monstera_assets.silver.silver_user_current_state import TABLE as CURRENT
from monstera_assets.silver.silver_user_product_adoptions import TABLE as ADOPTIONS
from monstera_assets.silver.silver_user_state_history import TABLE as HISTORY
from monstera_assets.warehouse.compiler import compile_duckdb, compile_query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets_tests.helpers.lifecycle_warehouse import as_mappings
from monstera_assets_tests.helpers.markdown_page import plain, section
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

RECOMMENDATIONS = gold_product_recommendations
EVALUATION = gold_recommendation_evaluation
AFFINITY = silver_product_affinity
AS_OF = date(2025, 6, 30)
LONG_AGO = 400
"""A number of days before the as-of date that precedes all evaluation dates."""
STORED = (CATALOG, ADOPTIONS, CURRENT, HISTORY)
RELATIONS = {
    table.name: table.relation
    for table in (*STORED, AFFINITY.table, EVALUATION.table, RECOMMENDATIONS.table)
}


class Made:
    """A warehouse with products, users and adoptions."""

    def __init__(self) -> None:
        self.warehouse = MemoryWarehouse(
            (*STORED, AFFINITY.table, EVALUATION.table, RECOMMENDATIONS.table)
        )

    def products(self, names: Sequence[str], launched: Mapping[str, int] | None = None) -> None:
        """Load active products with their launch in days ago, an inactive product and a feature."""
        rows: list[dict[str, object]] = [
            {
                "product_id": name,
                "product_name": name.upper(),
                "tier": "product",
                "is_active": True,
                "created_at": AS_OF - timedelta(days=(launched or {}).get(name, 2 * LONG_AGO)),
            }
            for name in names
        ]
        rows.append({"product_id": "retired", "tier": "product", "is_active": False})
        rows.append({"product_id": "feature", "tier": "feature", "is_active": True})
        self.warehouse.load(CATALOG, rows)

    def people(
        self,
        adopted: Mapping[str, Mapping[str, int]],
        states: Mapping[str, str] | None = None,
        states_before: Mapping[str, str] | None = None,
    ) -> None:
        """Load users, who are active by default, with the days since each of their adoptions."""
        self.warehouse.load(
            CURRENT,
            [
                {
                    "user_id": user,
                    "account_id": f"{user}s",
                    "platform_state": (states or {}).get(user, "active"),
                    "as_of_date": AS_OF,
                }
                for user in adopted
            ],
        )
        self.warehouse.load(
            HISTORY,
            [
                {
                    "user_id": user,
                    "snapshot_date": AS_OF - timedelta(days=30 * step),
                    "platform_state": (states_before or {}).get(user, "active"),
                }
                for user in adopted
                for step in range(3)
            ],
        )
        self.warehouse.load(
            ADOPTIONS,
            [
                {
                    "user_id": user,
                    "product_id": product,
                    "adoption_date": AS_OF - timedelta(days=days),
                    "sequence_number": number,
                    "as_of_date": AS_OF,
                }
                for user, products in adopted.items()
                for number, (product, days) in enumerate(products.items(), start=1)
            ],
        )

    def compute(self, asset: TableAsset, policy: LifecyclePolicy) -> list[dict[str, Any]]:
        relations = [RELATIONS[name] for name in asset.inputs]
        self.warehouse.store(asset.table, compile_duckdb(asset(*relations, policy=policy)))
        return as_mappings(asset, self.warehouse.stored(asset.table))

    def evaluate(self, policy: LifecyclePolicy) -> dict[tuple[Any, str], dict[str, Any]]:
        """Return the evaluation by order and date, as a number of days before the as-of date."""
        rows = self.compute(EVALUATION, policy)
        return {
            (
                row["evaluation_date"] and (AS_OF - row["evaluation_date"]).days,
                row["predictor"],
            ): row
            for row in rows
        }

    def recommend(self, policy: LifecyclePolicy) -> dict[str, list[dict[str, Any]]]:
        """Return the recommendations per user, in order of rank."""
        self.evaluate(policy)
        self.compute(AFFINITY, policy)
        found: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(
            self.compute(RECOMMENDATIONS, policy), key=lambda row: row["recommendation_rank"]
        ):
            found.setdefault(row["user_id"], []).append(row)
        return found


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def policy(support: int = 1, **values: int) -> LifecyclePolicy:
    """Return a policy that publishes affinity from one evaluated user."""
    return LifecyclePolicy(
        min_affinity_support=support,
        recommendations=RecommendationPolicy(**{"min_judged_users": 1, **values}),
    )


# u1 to u4 adopted a, then b; u5 only a; u6 b, then a; u7 to u12 only c. u1 and u2 are evaluated.
SIX = {f"u{n}": {"c": LONG_AGO} for n in range(7, 13)}
COMPANY: Mapping[str, Mapping[str, int]] = {
    "u1": {"a": LONG_AGO, "b": 10},
    "u2": {"a": LONG_AGO, "b": 29},
    "u3": {"a": LONG_AGO, "b": 300},
    "u4": {"a": LONG_AGO, "b": 300},
    "u5": {"a": LONG_AGO},
    "u6": {"b": LONG_AGO, "a": 350},
    "none": {},
    **SIX,
}


def test_affinity_is_the_share_that_went_on(made: Made) -> None:
    made.products("abc")
    made.people(COMPANY)
    rows = made.recommend(policy(prior_users=10))
    # 4 of u1 to u5 (a without b) adopted b. Average for b: 4 of these 5 and the 6 with c. With ten
    # more users at that rate: (4 + 10 x 4/11) / (5 + 10).
    first, second = rows["u5"]
    assert first["product_id"] == "b"
    assert first["recommendation_source"] == "affinity"
    assert first["because_product_id"] == "a"
    assert (first["users_without"], first["users_in_order"], first["users_both"]) == (5, 4, 5)
    assert first["score"] == pytest.approx((4 + 10 * 4 / 11) / 15, rel=1e-15)
    assert first["why"] == "4 of 5 users who had A but not yet B adopted it later (80%)"
    assert first["co_adoption_rate"] == 5 / 6
    assert first["lift"] == pytest.approx(13 * 5 / (6 * 5), rel=1e-15)
    assert first["support"] == 5 / 13
    # No user adopted c after a, so c is ranked by popularity: 6 of 13 users.
    assert second["product_id"] == "c"
    assert second["recommendation_source"] == "popularity"
    assert second["score"] == 6 / 13
    assert second["why"] == "6 of 13 users adopted C (46%)"
    for name in ("because_product_id", "users_without", "users_in_order", "users_both", "lift"):
        assert second[name] is None
    for row in (first, second):
        assert (row["training_rows"], row["training_last_date"]) == (
            17,
            AS_OF - timedelta(days=10),
        )
        assert row["training_first_date"] == AS_OF - timedelta(days=LONG_AGO)
        assert row["account_id"] == "u5s"


def test_without_prior_users_it_is_the_plain_share(made: Made) -> None:
    made.products("abc")
    made.people(COMPANY)
    rows = made.recommend(policy(prior_users=0))
    assert rows["u5"][0]["score"] == 4 / 5
    # u6 has a and b, so only c is left.
    assert made.warehouse.rows(
        "SELECT DISTINCT product_id FROM gold.gold_product_recommendations WHERE user_id = 'u6'"
    ) == [("c",)]


def test_users_without_products_get_popular_ones(made: Made) -> None:
    made.products("abc")
    made.people(COMPANY)
    rows = made.recommend(policy())
    # a and c have six users each, b has five; ties are broken by ID.
    assert [(row["product_id"], row["score"]) for row in rows["none"]] == [
        ("a", 6 / 13),
        ("c", 6 / 13),
        ("b", 5 / 13),
    ]
    assert {row["recommendation_source"] for row in rows["none"]} == {"popularity"}


def test_pairs_with_too_few_users_are_ignored(made: Made) -> None:
    made.products("abcd")
    made.people(
        {
            **{f"v{n}": {"a": LONG_AGO, "b": 300} for n in range(4)},
            "evaluated": {"a": LONG_AGO, "b": 10},
            "y1": {"c": LONG_AGO, "d": 300},
            "y2": {"c": LONG_AGO, "d": 300},
            "has_a": {"a": LONG_AGO},
            **SIX,
        }
    )
    by_two = made.recommend(policy(support=2))
    by_three = made.recommend(policy(support=3))
    for rows in (by_two, by_three):
        assert (rows["has_a"][0]["product_id"], rows["has_a"][0]["because_product_id"]) == (
            "b",
            "a",
        )
    # Two users adopted d after c. Without this pair: six have a, five b, two d.
    assert [row["product_id"] for row in by_two["u7"]] == ["d", "a", "b"]
    assert [row["product_id"] for row in by_three["u7"]] == ["a", "b", "d"]
    assert {row["recommendation_source"] for row in by_three["u7"]} == {"popularity"}


def test_the_product_with_the_highest_affinity_is_named(made: Made) -> None:
    made.products("abc")
    made.people(
        {
            "u1": {"a": LONG_AGO, "c": 20},
            "u2": {"a": LONG_AGO},
            "u3": {"b": LONG_AGO, "c": 20},
            "u4": {"b": LONG_AGO, "c": 300},
            "u5": {"b": LONG_AGO},
            "both": {"a": LONG_AGO, "b": LONG_AGO},
        }
    )
    [row] = made.recommend(policy(prior_users=0))["both"]
    # 1 of 3 with a, 2 of 4 with b.
    assert (row["because_product_id"], row["score"]) == ("b", 2 / 4)
    made.people(
        {
            "u1": {"a": LONG_AGO, "c": 20},
            "u2": {"a": LONG_AGO, "c": 300},
            "u3": {"b": LONG_AGO, "c": 20},
            "u4": {"b": LONG_AGO, "c": 300},
            "u5": {"b": LONG_AGO},
            "u6": {"a": LONG_AGO},
            "both": {"b": LONG_AGO, "a": LONG_AGO},
        }
    )
    [row] = made.recommend(policy(prior_users=0))["both"]
    assert (row["because_product_id"], row["score"]) == ("a", 2 / 4)  # tie: lower ID


@pytest.mark.parametrize("state", ["churned", "deleted"])
def test_churned_and_deleted_users_get_no_recommendations(made: Made, state: str) -> None:
    made.products("abc")
    made.people(COMPANY, states={"u5": state})
    rows = made.recommend(policy())
    assert "u5" not in rows
    # Their adoptions still count.
    assert rows["u8"][0]["users_adopted"] == 6


@pytest.mark.parametrize("state", ["new", "returning", "dormant", "reactivated", "dunning"])
def test_users_in_other_states_get_recommendations(made: Made, state: str) -> None:
    made.products("abc")
    made.people(COMPANY, states={"u5": state})
    assert [row["platform_state"] for row in made.recommend(policy())["u5"]] == [state] * 2


def test_three_at_most_and_none_before_its_launch(made: Made) -> None:
    made.products("abcdef", launched={"d": 0, "e": -1})
    made.people({"u": {"a": 5}, "v": dict.fromkeys("abcdf", 5)})
    rows = made.recommend(policy())
    assert [row["product_id"] for row in rows["u"]] == ["b", "c", "d"]
    assert "v" not in rows


def test_one_product_alone(made: Made) -> None:
    made.products("a")
    made.people({"u": {}, "v": {"a": 1}})
    rows = made.recommend(policy())
    assert [(row["product_id"], row["score"]) for row in rows.pop("u")] == [("a", 1 / 2)]
    assert rows == {}


def test_without_users(made: Made) -> None:
    made.products("ab")
    made.people({})
    assert made.recommend(policy()) == {}
    found = made.evaluate(policy())
    assert {key: row["users_judged"] for key, row in found.items()} == {
        (None, order): 0 for order in ("affinity", "popularity", "chance")
    }
    assert found[None, "popularity"]["is_published"]


def test_evaluation_of_two_dates(made: Made) -> None:
    """u1 and u2 adopt b in the last 30 days, u3 adopts c in the 30 days before.

    By 60 days ago, u4 and u5 had adopted b after a, and c had the most users. By 30 days ago, u3 had
    also adopted c.
    """
    made.products("abc")
    made.people(
        {
            "u1": {"a": LONG_AGO, "b": 0},
            "u2": {"a": LONG_AGO, "b": 29},
            "u3": {"a": LONG_AGO, "c": 30},
            "u4": {"a": LONG_AGO, "b": 61},
            "u5": {"a": LONG_AGO, "b": 300},
            "begins": {"a": 15, "b": 14},  # had nothing 30 days ago
            **SIX,
        }
    )
    found = made.evaluate(policy(evaluation_dates=2))
    assert set(found) == {
        (days, order) for days in (None, 30, 60) for order in ("affinity", "popularity", "chance")
    }
    names = ("users_judged", "hit_rate_at_1", "hit_rate_at_3", "mean_reciprocal_rank")
    figures = {key: tuple(row[name] for name in names) for key, row in found.items()}
    # b ranks first by affinity on both dates: 2 of 5 users with a adopted b, 1 of 5 c.
    assert figures[30, "affinity"] == (2, 1.0, 1.0, 1.0)
    # c (7 users) ranks before b (2) by popularity.
    assert figures[30, "popularity"] == (2, 0.0, 1.0, 0.5)
    # Of two products left: 1/2, both, (1 + 1/2) / 2.
    assert figures[30, "chance"] == (2, 0.5, 1.0, 0.75)
    # 60 days ago: b first by affinity, c first by popularity; u3 adopted c.
    assert figures[60, "affinity"] == (1, 0.0, 1.0, 0.5)
    assert figures[60, "popularity"] == (1, 1.0, 1.0, 1.0)
    assert figures[60, "chance"] == (1, 0.5, 1.0, 0.75)
    assert figures[None, "affinity"] == pytest.approx((3, 2 / 3, 1.0, 2.5 / 3), rel=1e-15)
    assert figures[None, "popularity"] == pytest.approx((3, 1 / 3, 1.0, 2 / 3), rel=1e-15)
    assert figures[None, "chance"] == pytest.approx((3, 0.5, 1.0, 0.75), rel=1e-15)
    assert [order for (_, order), row in found.items() if row["is_published"]] == ["affinity"] * 3
    # Adoptions 60 days ago: five a, two b, six c; 30 days ago also c of u3, on that date.
    assert found[60, "affinity"]["training_rows"] == 13
    assert found[60, "affinity"]["training_last_date"] == AS_OF - timedelta(days=61)
    assert found[30, "affinity"]["training_rows"] == 14
    assert found[30, "affinity"]["training_last_date"] == AS_OF - timedelta(days=30)


def test_chance_among_five_and_a_product_not_launched_then(made: Made) -> None:
    made.products("abcdefg", launched={"g": 29})
    made.people({"u": {"a": LONG_AGO, "d": 3}, "v": {"a": LONG_AGO, "g": 3}})
    found = made.evaluate(policy(evaluation_dates=1))
    # u has five products left. The product that v adopted had not been launched, so it is a miss.
    chance = found[30, "chance"]
    assert chance["users_judged"] == 2
    assert chance["hit_rate_at_1"] == pytest.approx(1 / 5 / 2, rel=1e-15)
    assert chance["hit_rate_at_3"] == pytest.approx(3 / 5 / 2, rel=1e-15)
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5
    assert chance["mean_reciprocal_rank"] == pytest.approx(harmonic / 5 / 2, rel=1e-15)
    # b to f have no users and are ranked by ID, so d is third.
    popular = found[30, "popularity"]
    assert (popular["hit_rate_at_1"], popular["hit_rate_at_3"]) == (0.0, 1 / 2)
    assert popular["mean_reciprocal_rank"] == pytest.approx(1 / 3 / 2, rel=1e-15)


def test_only_the_first_adoption_of_eligible_users_counts(made: Made) -> None:
    made.products("abc")
    adopted = {"u": {"a": LONG_AGO, "c": 9, "b": 9}, "gone": {"a": LONG_AGO, "b": 9}, **SIX}
    made.people(adopted, states_before={"gone": "churned"})
    found = made.evaluate(policy(evaluation_dates=1))
    popular = found[None, "popularity"]
    assert (popular["users_judged"], popular["hit_rate_at_1"]) == (1, 1.0)


def _finding(made: Made, chosen: LifecyclePolicy) -> tuple[bool, str]:
    query = compile_query(affinity_beats_popularity.rows([EVALUATION.table.relation], chosen))
    finding = affinity_beats_popularity.evaluate(
        DuckDBEngine(made.warehouse.connection), query, None
    )
    return finding.passed, finding.note


def test_affinity_that_is_not_better_is_not_published(made: Made) -> None:
    made.products("abc")
    # b was adopted after a, and c was popular. Then all users adopted c.
    made.people(
        {
            "u1": {"a": LONG_AGO, "b": 300},
            **{f"v{n}": {"a": LONG_AGO, "c": 3} for n in range(3)},
            **SIX,
        }
    )
    chosen = policy(evaluation_dates=1, min_judged_users=3)
    found = made.evaluate(chosen)
    assert (
        found[None, "affinity"]["mean_reciprocal_rank"],
        found[None, "popularity"]["mean_reciprocal_rank"],
    ) == (0.5, 1.0)
    assert [order for (_, order), row in found.items() if row["is_published"]] == ["popularity"] * 2
    assert _finding(made, chosen) == (False, "")
    assert {row["recommendation_source"] for row in made.recommend(chosen)["u1"]} == {"popularity"}
    # If one more user is required, there is no evaluation.
    more = policy(evaluation_dates=1, min_judged_users=4)
    assert made.evaluate(more)[None, "popularity"]["is_published"]
    assert _finding(made, more) == (
        True,
        "not evaluated: only 3 adoptions (minimum 4), so the most popular products are recommended",
    )


def test_equal_affinity_is_not_better(made: Made) -> None:
    made.products("ab")
    made.people({"u": {"a": LONG_AGO, "b": 3}})
    found = made.evaluate(policy(evaluation_dates=1))
    assert found[None, "affinity"]["mean_reciprocal_rank"] == 1.0
    assert found[None, "popularity"]["is_published"]


PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "recommendations.md"


def test_the_page_lists_all_settings() -> None:
    listed = [
        (plain(row["setting"]), row["default"], row["meaning"])
        for row in section(PAGE.read_text(encoding="utf-8"), "Settings").rows
    ]
    assert listed == [
        (name, f"{field.default:g}", field.description)
        for name, field in RecommendationPolicy.model_fields.items()
    ]
