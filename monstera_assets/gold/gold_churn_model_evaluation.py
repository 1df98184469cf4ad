"""gold_churn_model_evaluation: how accurately churn was predicted on past dates."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import pandas as pd

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.churn_risk import TRAINING_COLUMNS
from monstera_assets.prediction.churn_evaluation import DECILES, evaluate
from monstera_assets.prediction.churn_prediction import Predictor
from monstera_assets.prediction.targets import ACCOUNTS, USERS

TABLE = ma.declare_table(
    "gold_churn_model_evaluation",
    group=ma.AssetGroup.PREDICTION,
    grain="one entity type, evaluation date (or all dates combined), predictor and decile (or all"
    " deciles combined)",
    description="How accurately was churn predicted in the past? For each evaluation date, a model is"
    " trained on the outcomes known by that date. The model, the baseline and the base rate are"
    " evaluated against later outcomes. The baseline uses a single feature: days since the last"
    " qualifying event for users, and the health score for accounts.",
    key=("entity", "evaluation_date", "predictor", "decile"),
    extra=ma.PREDICT,
    columns=(
        ma.Column("entity", "string", "Entity type.", allowed=(USERS.entity, ACCOUNTS.entity)),
        *ma.columns(
            "date",
            nullable=True,
            evaluation_date="Date as of which churn is predicted; null for rows that cover all dates.",
        ),
        ma.Column(
            "predictor",
            "string",
            "Source of the predicted probabilities.",
            allowed=tuple(Predictor),
        ),
        *ma.columns(
            "int64",
            decile="Probability decile, from 1 (lowest) to 10 (highest); 0 for all deciles combined.",
            rows_scored="Number of users or accounts with a prediction.",
            rows_churned="Number of users or accounts that had a prediction and churned.",
        ),
        ma.share(
            "predicted_share",
            "Mean predicted probability, between 0 and 1; null if there are no rows.",
        ),
        ma.share(
            "observed_share",
            "Share of rows that churned, between 0 and 1; null if there are no rows.",
        ),
        *ma.columns(
            "float64",
            nullable=True,
            auc="Area under the ROC curve: the probability that a churned row scores higher than a"
            " retained row, with ties counted as one half; null for deciles or if only one of the"
            " two outcomes occurs.",
            brier_score="Mean squared difference between probability and outcome (0 is best); null"
            " for deciles or if there are no rows.",
            log_loss="Mean negative log probability of the actual outcome (0 is best);"
            " null for deciles, if there are no rows, or if the value is infinite because a"
            " probability was 0 or 1.",
            top_tenth_lift="Churn rate among the 10% of rows with the highest probabilities,"
            " divided by the churn rate among all rows; null for deciles or if no row churned.",
        ),
        *ma.columns(
            "boolean",
            is_published="Whether the published scores come from this predictor. The model is"
            " published if it beats the baseline on both AUC and Brier score over all dates."
            " Otherwise, the baseline is published, or the base rate if there is not enough data.",
        ),
        *TRAINING_COLUMNS,
        *ma.columns(
            "date",
            nullable=True,
            as_of_date="Latest date for which history exists; null if there are no rows to score.",
        ),
    ),
)


def _overall(relation: ir.Table) -> ir.Table:
    return relation.filter(relation.evaluation_date.isnull(), relation.decile == 0)


def _calibration(relation: ir.Table) -> ir.Table:
    rows = relation.filter(
        relation.entity == USERS.entity,
        relation.evaluation_date.isnull(),
        relation.decile > 0,
        relation.is_published,
    )
    return rows.order_by("decile").select(
        tenth_by_probability="decile",
        users="rows_scored",
        predicted="predicted_share",
        churned="observed_share",
    )


def _comparison(relation: ir.Table) -> ir.Table:
    rows = _overall(relation)
    figures = {
        name: rows[name].round(4).cast("string")
        for name in ("auc", "brier_score", "log_loss", "top_tenth_lift")
    }
    return rows.order_by(ibis.desc("entity"), ibis.desc("predictor")).select(
        "entity", "predictor", "is_published", "rows_scored", "rows_churned", **figures
    )


@ma.table_asset(
    TABLE,
    previews=[
        ma.Preview("Users by probability decile", _calibration, bar="churned", is_share=True),
        ma.Preview("All evaluation dates combined", _comparison),
    ],
)
def gold_churn_model_evaluation(
    silver_user_churn_features: pd.DataFrame,
    silver_account_churn_features: pd.DataFrame,
    *,
    policy: ma.LifecyclePolicy,
) -> pd.DataFrame:
    """Evaluate the churn predictions for users and accounts."""
    found = [
        evaluate(silver_user_churn_features, USERS, policy.churn),
        evaluate(silver_account_churn_features, ACCOUNTS, policy.churn),
    ]
    # Concatenating the frames would mix dtypes, because a column without values has an arbitrary dtype.
    records = [record for frame in found for record in frame.to_dict("records")]
    return pd.DataFrame(records, columns=[column.name for column in TABLE.columns])


@ma.rule(TABLE)
def one_predictor_is_published(gold_churn_model_evaluation: ir.Table) -> ir.Table:
    """Exactly one predictor is published for users, and exactly one for accounts."""
    rows = gold_churn_model_evaluation
    overall = _overall(rows)
    published = overall.group_by("entity").aggregate(
        predictors=overall.count(where=overall.is_published),
        best=overall.predictor.max(where=overall.is_published),
    )
    both = rows.inner_join(published, "entity")
    return both.filter(
        (both.predictors != 1) | (both.is_published != (both.predictor == both.best))
    ).select("entity", "evaluation_date", "predictor", "decile", "is_published", "predictors")


@ma.rule(TABLE)
def nothing_is_learned_from_the_future(gold_churn_model_evaluation: ir.Table) -> ir.Table:
    """Each model was trained only on outcomes known by its evaluation date."""
    rows = gold_churn_model_evaluation
    horizon = ibis.ifelse(rows.entity == USERS.entity, USERS.horizon_days, ACCOUNTS.horizon_days)
    known = ma.day_number(rows.training_last_date) + horizon
    return rows.filter(known > ma.day_number(rows.evaluation_date)).select(
        "entity", "evaluation_date", "predictor", "training_last_date"
    )


@ma.rule(TABLE)
def tenths_add_up(gold_churn_model_evaluation: ir.Table) -> ir.Table:
    """The rows for deciles 1 through 10 add up to the row for all deciles."""
    rows = gold_churn_model_evaluation.filter(
        gold_churn_model_evaluation.predictor != str(Predictor.BASE_RATE)
    )
    tenths = rows.decile > 0
    added = rows.group_by("entity", "evaluation_date", "predictor").aggregate(
        tenths=rows.count(where=tenths),
        **{
            f"{name}in_{which}": rows[column].sum(where=applies).fill_null(0).cast("int64")
            for name, column in (("", "rows_scored"), ("churned_", "rows_churned"))
            for which, applies in (("tenths", tenths), ("all", ~tenths))
        },
    )
    return added.filter(
        (added.in_all >= DECILES)
        & (
            (added.tenths != DECILES)
            | (added.in_tenths != added.in_all)
            | (added.churned_in_tenths != added.churned_in_all)
        )
    )


@ma.rule(
    TABLE,
    blocking=False,
    level=ma.AlertLevel.P3,
    remedy="Use the days since last use instead of the churn scores until the model is better.",
)
def model_beats_baseline(gold_churn_model_evaluation: ir.Table) -> ir.Table:
    """The model predicts churn more accurately than the baseline does."""
    overall = _overall(gold_churn_model_evaluation)
    comes_from = {str(one): overall.predictor == str(one) for one in Predictor}
    figures = overall.group_by("entity").aggregate(
        **{
            f"{one}_{name}": overall[name].max(where=comes_from[one])
            for name in ("auc", "brier_score")
            for one in ("model", "baseline")
        },
        is_evaluated=~(overall.is_published & comes_from["base_rate"]).any(),
    )
    is_better = (figures.model_auc > figures.baseline_auc) & (
        figures.model_brier_score < figures.baseline_brier_score
    )
    reason = (
        ibis.literal("not evaluated: not enough data to predict ")
        + figures.entity
        + " churn, so base rates are published"
    )
    return (
        figures.filter(~figures.is_evaluated | ~is_better.fill_null(False))
        .mutate(**{ma.NOT_EVALUATED: ibis.ifelse(figures.is_evaluated, None, reason)})
        .drop("is_evaluated")
    )
