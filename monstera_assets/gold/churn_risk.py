"""What the tables of churn scores share: columns and the check of their consistency."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.prediction.churn_prediction import Predictor
from monstera_assets.prediction.churn_scores import BANDS
from monstera_assets.prediction.targets import Target
from monstera_assets.warehouse.tables import Column

HIGH, MEDIUM, LOW = BANDS

TRAINING_COLUMNS = (
    Column("model_version", "string", "Version of features, model and calibration."),
    Column(
        "training_first_date",
        "date",
        "First snapshot of the training data; null without training data.",
        nullable=True,
    ),
    Column(
        "training_last_date",
        "date",
        "Last snapshot of the training data, whose outcome was known; null without training data.",
        nullable=True,
    ),
    Column("training_rows", "int64", "Rows of the training data."),
)


def risk_columns(target: Target, outcome: str) -> tuple[Column, ...]:
    """The columns of a score, whose `churn_probability` is that of `outcome`."""
    return (
        Column(
            "churn_probability",
            "float64",
            f"Probability of {outcome}; null if no outcome is known yet.",
            nullable=True,
        ),
        Column(
            "risk_band",
            "string",
            "Band of the probability, by the policy's thresholds; null for a base rate, which is the"
            f" same for every {target.entity}.",
            nullable=True,
            allowed=BANDS,
        ),
        *(
            column
            for number, ordinal in enumerate(("", "second ", "third "), start=1)
            for column in (
                Column(
                    f"reason_{number}",
                    "string",
                    f"The group of features that moves the probability {ordinal}most; null if none.",
                    nullable=True,
                ),
                Column(
                    f"reason_{number}_effect",
                    "float64",
                    "The probability minus what it would be if that group were average; null if none.",
                    nullable=True,
                ),
            )
        ),
        Column(
            "score_source",
            "string",
            "Source of the probability: the model; the baseline of one feature if the model was no"
            " better on later data; the base rate if there was too little data.",
            allowed=tuple(Predictor),
        ),
        *TRAINING_COLUMNS,
        Column("as_of_date", "date", "The latest date for which history exists."),
    )


def inconsistent(
    scores: ir.Table, evaluation: ir.Table, target: Target, policy: LifecyclePolicy
) -> ir.Table:
    """Scores out of bounds, or with the wrong band or source, or without a reason."""
    medium_from, high_from = target.risk_thresholds(policy.churn)
    published = evaluation.filter(evaluation.entity == target.entity, evaluation.is_published)
    published = published.aggregate(published=published.predictor.max())
    rows = scores.cross_join(published)
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
