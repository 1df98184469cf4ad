"""gold_account_churn_scores: the probability that a subscription lapses in 90 days, and the reasons."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir
import pandas as pd

from monstera_assets.checks.rules import NOT_EVALUATED, differing_rows, rule
from monstera_assets.gold import OWNERS
from monstera_assets.gold.churn_risk import inconsistent, risk_columns
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.prediction.churn_evaluation import published_of
from monstera_assets.prediction.churn_scores import score
from monstera_assets.prediction.targets import ACCOUNTS
from monstera_assets.silver.silver_account_churn_features import TABLE as FEATURES
from monstera_assets.silver.silver_account_churn_features import under_contract
from monstera_assets.silver.silver_account_state_history import TABLE as HISTORY
from monstera_assets.silver.silver_account_state_intervals import ACCOUNT_COLUMN
from monstera_assets.silver.state_tables import why_not_evaluated
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import table_asset
from monstera_assets.warehouse.tables import Layer, Table

_SHOWN = ("current_state", "health_score", "health_change_30", "health_change_90")

TABLE = Table(
    layer=Layer.GOLD,
    name="gold_account_churn_scores",
    grain="one account under contract on the as-of date",
    description="The probability that an account's subscription lapses in the 90 days after the as-of"
    " date, from its health, the trend of its health and its contract, and the reasons."
    " gold_churn_model_evaluation says how accurate it was in the past.",
    owners=OWNERS,
    key=("account_id",),
    columns=(
        ACCOUNT_COLUMN,
        *(column for column in FEATURES.columns if column.name in _SHOWN),
        *risk_columns(ACCOUNTS, "a lapse in the 90 days after the as-of date"),
    ),
)


@table_asset(TABLE, previews=[distribution("accounts", "risk_band")])
def gold_account_churn_scores(
    silver_account_churn_features: pd.DataFrame,
    gold_churn_model_evaluation: pd.DataFrame,
    *,
    policy: LifecyclePolicy,
) -> pd.DataFrame:
    """The accounts of the as-of date, scored by the published predictor."""
    published = published_of(gold_churn_model_evaluation, ACCOUNTS)
    scores = score(silver_account_churn_features, published, ACCOUNTS, policy.churn)
    return scores[[column.name for column in TABLE.columns]]


@rule(TABLE, "Every account under contract has a score, and no other.")
def every_account_is_scored(
    gold_account_churn_scores: ir.Table,
    silver_account_current_state: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Accounts with a score that are not under contract, and accounts without one that are.

    Not evaluated where the latest day of history, which features come from, is out of date.
    """
    accounts = silver_account_current_state
    columns = ("account_id", "current_state", "health_score", "as_of_date")
    differing = differing_rows(
        gold_account_churn_scores.select(*columns),
        accounts.filter(under_contract(accounts)).select(*columns),
    )
    history = silver_account_state_history
    days = out_of_date(HISTORY.name)
    return differing.mutate(**{NOT_EVALUATED: why_not_evaluated(history, days)})


@rule(TABLE, "Scores are probabilities in the right band, from the published predictor.")
def scores_are_consistent(
    gold_account_churn_scores: ir.Table,
    gold_churn_model_evaluation: ir.Table,
    *,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Scores with an impossible probability, band, source or reason."""
    return inconsistent(gold_account_churn_scores, gold_churn_model_evaluation, ACCOUNTS, policy)
