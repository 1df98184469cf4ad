"""gold_user_churn_scores: the probability that a user has no qualifying event for 30 days."""

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
from monstera_assets.prediction.targets import USERS
from monstera_assets.silver.silver_user_churn_features import SCORED_STATES

TABLE = ma.declare_table(
    "gold_user_churn_scores",
    group=ma.AssetGroup.PREDICTION,
    grain="one user who is active, returning or reactivated on the as-of date",
    description="How likely is each active user to have no qualifying event in the 30 days after the"
    " as-of date, and why? gold_churn_model_evaluation shows how accurate past predictions were.",
    key=("user_id",),
    extra=ma.PREDICT,
    columns=(
        *(ma.USER_ID, ma.ACCOUNT_OF_USER),
        ma.Column(
            "activity_state",
            "string",
            "The user's state based on activity alone, regardless of dunning.",
            allowed=tuple(SCORED_STATES),
        ),
        *risk_columns(USERS, "no qualifying event in the 30 days after the as-of date"),
    ),
)


@ma.table_asset(TABLE, previews=[ma.distribution("users", "risk_band")])
def gold_user_churn_scores(
    silver_user_churn_features: pd.DataFrame,
    gold_churn_model_evaluation: pd.DataFrame,
    *,
    policy: ma.LifecyclePolicy,
) -> pd.DataFrame:
    """Score users for the as-of date with the published predictor."""
    evaluation = gold_churn_model_evaluation
    return scored(TABLE, silver_user_churn_features, evaluation, USERS, policy)


@ma.rule(TABLE)
def everybody_is_scored(
    gold_user_churn_scores: ir.Table,
    silver_user_current_state: ir.Table,
    silver_user_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Every active, returning or reactivated user has a score, and no other user does."""
    users = silver_user_current_state
    return differing_scores(
        gold_user_churn_scores,
        users.filter(
            users.activity_state.isin([str(state) for state in SCORED_STATES]),
            users.platform_state != str(ma.UserState.DELETED),
        ),
        ("user_id", "account_id", "activity_state", "as_of_date"),
        silver_user_state_history,
        out_of_date("silver_user_state_history"),
    )


scores_are_consistent = scores_are_consistent_in(TABLE, USERS)
