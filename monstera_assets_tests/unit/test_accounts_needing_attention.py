"""Tests of gold_accounts_needing_attention, with expected rows computed by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import duckdb
import pandas as pd

from monstera_assets.gold.gold_account_churn_scores import TABLE as SCORES
from monstera_assets.gold.gold_accounts_needing_attention import (
    gold_accounts_needing_attention,
)
from monstera_assets.gold.gold_user_churn_scores import TABLE as USERS
from monstera_assets.silver.silver_account_current_state import TABLE as CURRENT
from monstera_assets.silver.silver_account_state_intervals import TABLE as INTERVALS
from monstera_assets.warehouse.compiler import compile_duckdb

TODAY = date(2025, 6, 30)


def listed(*, predicted: bool = True) -> pd.DataFrame:
    """Return the rows for six accounts, with or without the tables of predictions.

    They are steady, at high risk, lapsed, frozen, contracting, and at risk with a free plan.
    """
    connection = duckdb.connect()
    for schema in ("silver", "gold"):
        connection.execute(f"CREATE SCHEMA {schema}")
    for table in (CURRENT, INTERVALS, *((SCORES, USERS) if predicted else ())):
        columns = ", ".join(f"{c.name} {c.stored_type}" for c in table.columns)
        connection.execute(f"CREATE TABLE {table.qualified_name} ({columns})")

    def add(table: str, **values: object) -> None:
        connection.execute(
            f"INSERT INTO {table} BY NAME SELECT {', '.join(f'? AS {name}' for name in values)}",
            list(values.values()),
        )

    for account, state, reason, revenue in (
        ("steady", "active", "steady", 900),
        ("quiet", "active", "steady", 300),
        ("lapsed", "at_risk", "subscription lapsed", 0),
        ("frozen", "frozen", "payment failed", 50),
        ("shrunk", "contracting", "contract smaller than 30 days ago", 50),
        ("free", "at_risk", "low seat utilization", 0),
    ):
        add(
            "silver.silver_account_current_state",
            account_id=account,
            current_state=state,
            state_reason=reason,
            monthly_recurring_revenue=revenue,
            is_paid=account != "lapsed",
            as_of_date=TODAY,
        )
    # The last revenue above 0 of an account that pays does not matter.
    for account, day, revenue in (
        *(("lapsed", 1, 700), ("lapsed", 2, 400), ("lapsed", 3, 0)),
        *(("free", 1, 900), ("free", 2, 0)),
    ):
        add(
            "silver.silver_account_state_intervals",
            account_id=account,
            valid_from=date(2025, 6, day),
            valid_to=date(2025, 6, day + 1) if revenue else None,
            monthly_recurring_revenue=revenue,
        )
    if not predicted:
        asset = gold_accounts_needing_attention.without({SCORES.name: SCORES, USERS.name: USERS})
        assert asset.inputs == (CURRENT.name, INTERVALS.name)
        rows = compile_duckdb(asset(CURRENT.relation, INTERVALS.relation))
        return connection.execute(f"SELECT * FROM ({rows}) ORDER BY attention_rank").fetchdf()
    for account, band, chance in (
        ("steady", "low", 0.01),
        ("quiet", "high", 0.6),
        ("frozen", "high", 0.5),
        ("shrunk", "low", 0.02),
    ):
        add(
            "gold.gold_account_churn_scores",
            account_id=account,
            risk_band=band,
            churn_probability=chance,
            reason_1="health 40",
            reason_1_effect=0.2,
            reason_2="9 of 10 seats in use",
            reason_2_effect=-0.1,
            reason_3="3 days to renewal",
            reason_3_effect=0.1 if account == "quiet" else -0.1,
        )
    for user, band in (("a", "high"), ("b", "low"), ("c", "high")):
        add("gold.gold_user_churn_scores", user_id=user, account_id="quiet", risk_band=band)
    relations = [table.relation for table in (CURRENT, INTERVALS, SCORES, USERS)]
    rows = compile_duckdb(gold_accounts_needing_attention(*relations))
    return connection.execute(f"SELECT * FROM ({rows}) ORDER BY attention_rank").fetchdf()


def test_who_is_listed_why_and_with_what_revenue() -> None:
    found = listed()
    assert found.account_id.tolist() == ["lapsed", "quiet", "frozen", "shrunk", "free"]
    assert found.attention_rank.tolist() == [1, 2, 3, 4, 5]
    # MRR at risk is 400. The 400 of the lapsed account have churned already.
    revenue = [Decimal(str(each)) for each in found.monthly_recurring_revenue]
    assert revenue == [0, 300, 50, 50, 0]
    assert found.revenue_before_lapse.isna().tolist() == [False, True, True, True, True]
    assert found.revenue_before_lapse[0] == 400
    # Only reasons that raise the risk are listed.
    assert found.why.tolist() == [
        "at risk: subscription lapsed",
        "high churn risk: health 40; 3 days to renewal",
        "frozen: payment failed; high churn risk: health 40",
        "contracting: contract smaller than 30 days ago",
        "at risk: low seat utilization",
    ]
    assert found.users_scored.tolist() == [0, 3, 0, 0, 0]
    assert found.users_at_high_risk.tolist() == [0, 2, 0, 0, 0]
    assert found.churn_probability.isna().tolist() == [True, False, False, False, True]


def test_risk_is_null_without_predictions() -> None:
    found = listed(predicted=False)
    # All accounts but the one whose only reason is its risk.
    assert found.account_id.tolist() == ["lapsed", "frozen", "shrunk", "free"]
    assert found.attention_rank.tolist() == [1, 2, 3, 4]
    assert found.why.tolist() == [
        "at risk: subscription lapsed",
        "frozen: payment failed",
        "contracting: contract smaller than 30 days ago",
        "at risk: low seat utilization",
    ]
    for name in ("churn_probability", "risk_band", "health_change_30"):
        assert found[name].isna().all()
    assert found.users_scored.tolist() == [0, 0, 0, 0]
