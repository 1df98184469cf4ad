"""gold_account_churn_scores: the probability that a subscription lapses within 90 days."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir
import pandas as pd

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.churn_risk import (
    differing_scores,
    risk_columns,
    scored,
    scores_are_consistent_in,
)
from monstera_assets.prediction.targets import ACCOUNTS
from monstera_assets.silver.silver_account_churn_features import TABLE as FEATURES
from monstera_assets.silver.silver_account_churn_features import under_contract
from monstera_assets.silver.silver_account_state_intervals import ACCOUNT_COLUMN

_SHOWN = ("current_state", "health_score", "health_change_30", "health_change_90")

TABLE = ma.declare_table(
    "gold_account_churn_scores",
    group=ma.AssetGroup.PREDICTION,
    grain="one account under contract on the as-of date",
    description="How likely is each account's subscription to lapse in the 90 days after the as-of"
    " date, and why? gold_churn_model_evaluation shows how accurate past predictions were.",
    key=("account_id",),
    extra=ma.PREDICT,
    columns=(
        ACCOUNT_COLUMN,
        *(column for column in FEATURES.columns if column.name in _SHOWN),
        *risk_columns(ACCOUNTS, "a lapse in the 90 days after the as-of date"),
    ),
)


@ma.table_asset(TABLE, previews=[ma.distribution("accounts", "risk_band")])
def gold_account_churn_scores(
    silver_account_churn_features: pd.DataFrame,
    gold_churn_model_evaluation: pd.DataFrame,
    *,
    policy: ma.LifecyclePolicy,
) -> pd.DataFrame:
    """Score accounts for the as-of date with the published predictor."""
    evaluation = gold_churn_model_evaluation
    return scored(TABLE, silver_account_churn_features, evaluation, ACCOUNTS, policy)


@ma.rule(TABLE)
def every_account_is_scored(
    gold_account_churn_scores: ir.Table,
    silver_account_current_state: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Every account under contract has a score, and no other account does."""
    accounts = silver_account_current_state
    return differing_scores(
        gold_account_churn_scores,
        accounts.filter(under_contract(accounts)),
        ("account_id", "current_state", "health_score", "as_of_date"),
        silver_account_state_history,
        out_of_date("silver_account_state_history"),
    )


scores_are_consistent = scores_are_consistent_in(TABLE, ACCOUNTS)
