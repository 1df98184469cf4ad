"""Columns, scoring and checks shared by the two churn score tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import ibis
import ibis.expr.types as ir
import pandas as pd

from monstera_assets.gold import authoring as ma
from monstera_assets.prediction.churn_evaluation import published_of
from monstera_assets.prediction.churn_prediction import Predictor
from monstera_assets.prediction.churn_scores import BANDS, score
from monstera_assets.prediction.targets import Target
from monstera_assets.silver.state_tables import why_not_evaluated

HIGH, MEDIUM, LOW = BANDS

TRAINING_COLUMNS = (
    *ma.columns("string", model_version="Version of the features, model and calibration."),
    *ma.columns(
        "date",
        nullable=True,
        training_first_date="Date of the first training snapshot; null if there is no training data.",
        training_last_date="Date of the last training snapshot; null if there is no training data.",
    ),
    *ma.columns("int64", training_rows="Number of rows in the training data."),
)


def risk_columns(target: Target, outcome: str) -> tuple[ma.Column, ...]:
    """Return the columns for a churn score, where `outcome` describes the predicted outcome."""
    probability = f"Probability of {outcome}, between 0 and 1; null if no outcome is known yet."
    band = (
        "Risk band for the probability, based on the policy's thresholds; null for a base"
        f" rate, which is the same for every {target.entity}."
    )
    moves = (
        "Feature group with the {}largest effect on the probability; null if no such group exists."
    )
    effect = (
        "Probability minus what the probability would be if the feature group had average values; null"
        " if no such group exists."
    )
    return (
        ma.share("churn_probability", probability),
        ma.Column("risk_band", "string", band, nullable=True, allowed=BANDS),
        *(
            ma.Column(f"reason_{number}{suffix}", kind, text, nullable=True)
            for number, ordinal in enumerate(("", "second-", "third-"), start=1)
            for suffix, kind, text in (
                ("", "string", moves.format(ordinal)),
                ("_effect", "float64", effect),
            )
        ),
        ma.Column(
            "score_source",
            "string",
            "Source of the probability: the model, the single-feature baseline if the model did not"
            " beat it in the evaluation, or the base rate if there is not enough data.",
            allowed=tuple(Predictor),
        ),
        *TRAINING_COLUMNS,
        ma.AS_OF_DATE,
    )


def scored(
    table: ma.Table,
    features: pd.DataFrame,
    evaluation: pd.DataFrame,
    target: Target,
    policy: ma.LifecyclePolicy,
) -> pd.DataFrame:
    """Compute the rows in a churn score table with the published predictor."""
    scores = score(features, published_of(evaluation, target), target, policy.churn)
    return scores[[column.name for column in table.columns]]


def differing_scores(
    scores: ir.Table,
    expected: ir.Table,
    columns: Sequence[str],
    history: ir.Table,
    out_of_date: ir.Table,
) -> ir.Table:
    """Return users or accounts whose score is missing or unexpected.

    The check is not evaluated if the underlying history's latest day is out of date.
    """
    differing = ma.differing_rows(scores.select(*columns), expected.select(*columns))
    return differing.mutate(**{ma.NOT_EVALUATED: why_not_evaluated(history, out_of_date)})


def scores_are_consistent_in(table: ma.Table, target: Target) -> ma.Rule:
    """Return a rule that checks each score against its band, its reasons and the evaluation."""

    def scores_are_consistent(
        scores: ir.Table, evaluation: ir.Table, *, policy: ma.LifecyclePolicy
    ) -> ir.Table:
        """Each score comes from the published predictor and matches its risk band."""
        medium_from, high_from = target.risk_thresholds(policy.churn)
        published = evaluation.filter(evaluation.entity == target.entity, evaluation.is_published)
        rows = scores.cross_join(published.aggregate(published=published.predictor.max()))
        chance = rows.churn_probability
        is_base_rate = rows.score_source == str(Predictor.BASE_RATE)
        band = ibis.cases(
            (is_base_rate, ibis.null("string")),
            (chance >= high_from, HIGH),
            (chance >= medium_from, MEDIUM),
            else_=LOW,
        )
        return rows.filter(
            (chance.isnull() & ~is_base_rate)
            | ~rows.risk_band.identical_to(band)
            | ~(is_base_rate | (rows.score_source == rows.published))
            | ((rows.published == str(Predictor.BASE_RATE)) & ~is_base_rate)
            | (rows.reason_1.isnull() != is_base_rate)
        ).select(target.key, "churn_probability", "risk_band", "score_source", "published")

    declared: ma.Rule = ma.rule(table)(scores_are_consistent)
    return replace(declared, reads=(table.name, "gold_churn_model_evaluation"))
