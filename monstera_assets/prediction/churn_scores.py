"""Published churn probabilities as of the latest date, with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.churn_prediction import Floats, Predictor, as_of_date, predict
from monstera_assets.prediction.targets import Target

if TYPE_CHECKING:
    from monstera_assets.prediction.churn_model import Model

REASONS = 3
BANDS = ("high", "medium", "low")

RISK_COLUMNS = (
    "churn_probability",
    "risk_band",
    *(f"reason_{n}{part}" for n in range(1, REASONS + 1) for part in ("", "_effect")),
    "score_source",
    "model_version",
    "training_first_date",
    "training_last_date",
    "training_rows",
    "as_of_date",
)


def score(
    features: pd.DataFrame, published: Predictor, target: Target, policy: ChurnPolicy
) -> pd.DataFrame:
    """Score the rows on the as-of date.

    Args:
        features: the rows from all snapshots.
        published: the predictor to use. With too little training data, the base rate is used instead.
        target: the prediction target.
        policy: provides the thresholds.

    Returns:
        The features plus `RISK_COLUMNS`. Scores from the base rate have no risk band or reasons. If no
        outcome is known, they have no probability either.
    """
    as_of = as_of_date(features)
    if as_of is None:
        return features.assign(**dict.fromkeys(RISK_COLUMNS))
    prediction = predict(features, as_of, target, policy)
    rows, training = prediction.rows, prediction.training
    source = published if published in prediction.probabilities else Predictor.BASE_RATE
    probabilities = prediction.probabilities.get(source, np.full(len(rows), np.nan))
    columns: dict[str, Any] = {
        name: np.nan if name.endswith("_effect") else None for name in RISK_COLUMNS
    }
    if source is Predictor.MODEL and prediction.model is not None:
        columns |= _reasons(rows, prediction.model)
    elif source is Predictor.BASELINE:
        columns["reason_1"] = _sentences(rows, target.baseline_reason, "")
        columns["reason_1_effect"] = probabilities - prediction.base_rate
    # The base rate is the same for every row, so it cannot rank them.
    if source is not Predictor.BASE_RATE:
        medium, high = target.risk_thresholds(policy)
        bands = [probabilities >= high, probabilities >= medium]
        columns["risk_band"] = np.select(bands, BANDS[:2], BANDS[2])
    columns |= {
        "churn_probability": probabilities,
        "score_source": str(source),
        "model_version": target.model_version,
        "training_first_date": training["snapshot_date"].min(),
        "training_last_date": training["snapshot_date"].max(),
        "training_rows": len(training),
        "as_of_date": as_of,
    }
    return rows.assign(**columns)


def _reasons(rows: pd.DataFrame, model: Model) -> dict[str, Any]:
    """Return the feature groups that contribute most to each logit, in descending order.

    A reason's effect is the probability minus what it would be if the feature group were average.
    """
    from monstera_assets.prediction.churn_model import probability

    parts = model.contributions(rows)
    logits = model.intercept + parts.sum(axis=1)
    # The stable sort keeps tied groups in the target's order.
    by_size = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :REASONS]
    sentences = np.full(parts.shape, None, dtype=object)
    for number, group in enumerate(model.target.groups):
        chosen = (by_size == number).any(axis=1)
        sentences[chosen, number] = _sentences(rows[chosen], group.reason, group.reason_if_unknown)
    columns: dict[str, Any] = {}
    for place in range(REASONS):
        chosen = (np.arange(len(rows)), by_size[:, place])
        without: Floats = probability(logits - parts[chosen])
        columns[f"reason_{place + 1}"] = sentences[chosen]
        columns[f"reason_{place + 1}_effect"] = probability(logits) - without
    return columns


def _sentences(rows: pd.DataFrame, reason: str, if_unknown: str) -> list[str]:
    """Return one sentence per row, with the names in braces replaced by column values."""
    names = [name for name in rows.columns if "{" + name in reason]
    known = rows[names].notna().all(axis=1)
    values = zip(*(rows[name] for name in names), strict=True)
    return [
        reason.format_map(dict(zip(names, row, strict=True))) if is_known else if_unknown
        for is_known, row in zip(known, values, strict=True)
    ]
