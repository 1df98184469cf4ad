"""What the tables of churn scores share: columns, thresholds of the bands, and rules."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.prediction.churn_evaluation import Predictor
from monstera_assets.prediction.churn_scores import BANDS, REASONS
from monstera_assets.warehouse.tables import Column

HIGH, MEDIUM, LOW = BANDS

TRAINING_COLUMNS = (
    Column("model_version", "string", "Version of features, model and calibration."),
    Column(
        "training_first_date",
        "date",
        "First snapshot that was learned from; null if there was none.",
        nullable=True,
    ),
    Column(
        "training_last_date",
        "date",
        "Last snapshot that was learned from, whose outcome was known; null if there was none.",
        nullable=True,
    ),
    Column("training_rows", "int64", "Rows that were learned from."),
)


def risk_columns(whom: str, meaning: str) -> tuple[Column, ...]:
    """The columns of a score.

    Args:
        whom: user or account.
        meaning: what the probability is of.
    """
    return (
        Column(
            "churn_probability",
            "float64",
            f"Probability of {meaning}; null if no outcome is known to tell it from.",
            nullable=True,
        ),
        Column(
            "risk_band",
            "string",
            "Band of the probability, by the policy's thresholds; null if it is a base rate, which"
            f" tells no {whom} from another.",
            nullable=True,
            allowed=BANDS,
        ),
        *(
            column
            for place in range(1, REASONS + 1)
            for column in (
                Column(
                    f"reason_{place}",
                    "string",
                    f"What moves the probability {_ORDINALS[place - 1]}; null without.",
                    nullable=True,
                ),
                Column(
                    f"reason_{place}_effect",
                    "float64",
                    "The probability less what it would be if that were as on average; null without.",
                    nullable=True,
                ),
            )
        ),
        Column(
            "score_source",
            "string",
            "Where the probability comes from: the model, the baseline of one feature where the model"
            " was no better on later data, or the base rate where there was too little data.",
            allowed=tuple(Predictor),
        ),
        *TRAINING_COLUMNS,
        Column("as_of_date", "date", "The latest date for which history exists."),
    )


_ORDINALS = ("most", "second most", "third most")


def inconsistent(
    scores: ir.Table, evaluation: ir.Table, entity: str, medium_from: float, high_from: float
) -> ir.Table:
    """Scores that are no probabilities, or whose band or source is not what it must be."""
    published = evaluation.filter(evaluation.entity == entity, evaluation.is_published)
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
    ).select(f"{entity}_id", "churn_probability", "risk_band", "score_source", "published")
