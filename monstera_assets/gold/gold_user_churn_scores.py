"""gold_user_churn_scores: the probability that a user has no event for 30 days, and the reasons."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir
import pandas as pd

from monstera_assets.checks.rules import NOT_EVALUATED, differing_rows, rule
from monstera_assets.gold import OWNERS
from monstera_assets.gold.churn_risk import inconsistent, risk_columns
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import UserState
from monstera_assets.prediction.churn_evaluation import published_of
from monstera_assets.prediction.churn_scores import score
from monstera_assets.prediction.targets import USERS
from monstera_assets.silver.silver_user_churn_features import SCORED_STATES
from monstera_assets.silver.silver_user_state_history import TABLE as HISTORY
from monstera_assets.silver.state_tables import why_not_evaluated
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

TABLE = Table(
    layer=Layer.GOLD,
    name="gold_user_churn_scores",
    grain="one user who is active, returning or reactivated on the as-of date",
    description="The probability that a user has no qualifying event in the 30 days after the as-of"
    " date, and the reasons. gold_churn_model_evaluation says how accurate it was in the past.",
    owners=OWNERS,
    key=("user_id",),
    columns=(
        Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
        Column(
            "account_id",
            "string",
            "The user's account.",
            references=Reference("bronze_accounts", "account_id"),
        ),
        Column(
            "activity_state",
            "string",
            "State by activity alone, so that users in dunning are included.",
            allowed=tuple(SCORED_STATES),
        ),
        *risk_columns(USERS, "no qualifying event in the 30 days after the as-of date"),
    ),
)


@table_asset(TABLE, previews=[distribution("users", "risk_band")])
def gold_user_churn_scores(
    silver_user_churn_features: pd.DataFrame,
    gold_churn_model_evaluation: pd.DataFrame,
    *,
    policy: LifecyclePolicy,
) -> pd.DataFrame:
    """The users of the as-of date, scored by the published predictor."""
    published = published_of(gold_churn_model_evaluation, USERS)
    scores = score(silver_user_churn_features, published, USERS, policy.churn)
    return scores[[column.name for column in TABLE.columns]]


@rule(TABLE, "Every user who can still churn has a score, and no other.")
def everybody_is_scored(
    gold_user_churn_scores: ir.Table,
    silver_user_current_state: ir.Table,
    silver_user_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Users with a score who cannot churn, and users without one who can.

    Not evaluated where the latest day of history, which features come from, is out of date.
    """
    users = silver_user_current_state
    users = users.filter(
        users.activity_state.isin([str(state) for state in SCORED_STATES]),
        users.platform_state != str(UserState.DELETED),
    )
    columns = ("user_id", "account_id", "activity_state", "as_of_date")
    differing = differing_rows(gold_user_churn_scores.select(*columns), users.select(*columns))
    history = silver_user_state_history
    days = out_of_date(HISTORY.name)
    return differing.mutate(**{NOT_EVALUATED: why_not_evaluated(history, days)})


@rule(TABLE, "Scores are probabilities in the right band, from the published predictor.")
def scores_are_consistent(
    gold_user_churn_scores: ir.Table,
    gold_churn_model_evaluation: ir.Table,
    *,
    policy: LifecyclePolicy,
) -> ir.Table:
    """Scores with an impossible probability, band, source or reason."""
    return inconsistent(gold_user_churn_scores, gold_churn_model_evaluation, USERS, policy)
