"""What the tables of churn scores share: columns, the scoring, and the checks of it."""

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
    *ma.columns("string", model_version="Version of features, model and calibration."),
    *ma.columns(
        "date",
        nullable=True,
        training_first_date="First snapshot of the training data; null without training data.",
        training_last_date="Last snapshot of the training data, whose outcome was known; null without"
        " training data.",
    ),
    *ma.columns("int64", training_rows="Rows of the training data."),
)


def risk_columns(target: Target, outcome: str) -> tuple[ma.Column, ...]:
    """The columns of a score, whose `churn_probability` is that of `outcome`."""
    probability = f"Probability of {outcome}; null if no outcome is known yet."
    band = (
        "Band of the probability, by the policy's thresholds; null for a base rate, which is the"
        f" same for every {target.entity}."
    )
    moves = "The group of features that moves the probability {}most; null if none."
    effect = "The probability minus what it would be if that group were average; null if none."
    return (
        *ma.columns("float64", nullable=True, churn_probability=probability),
        ma.Column("risk_band", "string", band, nullable=True, allowed=BANDS),
        *(
            ma.Column(f"reason_{number}{suffix}", kind, text, nullable=True)
            for number, ordinal in enumerate(("", "second ", "third "), start=1)
            for suffix, kind, text in (
                ("", "string", moves.format(ordinal)),
                ("_effect", "float64", effect),
            )
        ),
        ma.Column(
            "score_source",
            "string",
            "Source of the probability: the model; the baseline of one feature if the model was no"
            " better on later data; the base rate if there was too little data.",
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
    """The rows of a table of scores, by the published predictor."""
    scores = score(features, published_of(evaluation, target), target, policy.churn)
    return scores[[column.name for column in table.columns]]


def differing_scores(
    scores: ir.Table,
    expected: ir.Table,
    columns: Sequence[str],
    history: ir.Table,
    out_of_date: ir.Table,
) -> ir.Table:
    """Who has a score and should not, or has none and should.

    Not evaluated where the latest day of history, which features come from, is out of date.
    """
    differing = ma.differing_rows(scores.select(*columns), expected.select(*columns))
    return differing.mutate(**{ma.NOT_EVALUATED: why_not_evaluated(history, out_of_date)})


def scores_are_consistent_in(table: ma.Table, target: Target) -> ma.Rule:
    """The rule of a table of scores that they fit each other and the evaluation."""

    def scores_are_consistent(
        scores: ir.Table, evaluation: ir.Table, *, policy: ma.LifecyclePolicy
    ) -> ir.Table:
        """Scores are probabilities in the right band, from the published predictor."""
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
            (~chance.between(0, 1)).fill_null(False)
            | (chance.isnull() & ~is_base_rate)
            | ~rows.risk_band.identical_to(band)
            | ~(is_base_rate | (rows.score_source == rows.published))
            | ((rows.published == str(Predictor.BASE_RATE)) & ~is_base_rate)
            | (rows.reason_1.isnull() != is_base_rate)
        ).select(target.key, "churn_probability", "risk_band", "score_source", "published")

    declared: ma.Rule = ma.rule(table)(scores_are_consistent)
    return replace(declared, reads=(table.name, "gold_churn_model_evaluation"))
