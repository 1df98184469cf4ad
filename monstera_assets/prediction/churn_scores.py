"""The published probabilities of churn as of the latest date, with what moves them most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.churn_evaluation import Predictor, as_of_of, foretell
from monstera_assets.prediction.churn_model import Learned, Model, probability
from monstera_assets.prediction.design import Floats
from monstera_assets.prediction.targets import Target

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
    features: pd.DataFrame,
    published: Predictor,
    target: Target,
    policy: ChurnPolicy,
    *,
    medium_from: float,
    high_from: float,
) -> pd.DataFrame:
    """Score the rows of the as-of date.

    Args:
        features: rows of all snapshots.
        published: what the evaluation found best.
        target: what is foretold.
        policy: from how much on it can be.
        medium_from: the probability from which the risk is medium.
        high_from: the probability from which it is high.

    Returns:
        The features of the rows, with `RISK_COLUMNS`. Where there is too little to learn from the
        probability is the base rate, or missing if no outcome at all is known, and no band is told.
    """
    as_of = as_of_of(features)
    if as_of is None:
        return features.assign(**dict.fromkeys(RISK_COLUMNS))
    foretold = foretell(features, as_of, target, policy)
    rows, learned = foretold.rows, foretold.learned
    source = published if published in foretold.chances else Predictor.BASE_RATE
    chances = foretold.chances.get(source, np.full(len(rows), np.nan))
    # One probability for all tells nobody's risk from anybody else's.
    is_told = source is not Predictor.BASE_RATE
    bands = np.select([chances >= high_from, chances >= medium_from], BANDS[:2], BANDS[2])
    return rows.assign(
        churn_probability=chances,
        risk_band=bands if is_told else None,
        **_reasons(rows, source, learned, target),
        score_source=str(source),
        model_version=target.model_version,
        training_first_date=learned.first_date,
        training_last_date=learned.last_date,
        training_rows=learned.rows,
    )


def _reasons(
    rows: pd.DataFrame, source: Predictor, learned: Learned, target: Target
) -> dict[str, Any]:
    """The reasons of each row, with what the probability would be less without each.

    A reason's effect is the probability less what it would be if that group of features were as on
    average.
    """
    columns: dict[str, Any] = {}
    for place in range(1, REASONS + 1):
        columns[f"reason_{place}"] = None
        columns[f"reason_{place}_effect"] = np.nan
    if source is Predictor.MODEL and learned.model is not None:
        columns |= _reasons_of_model(rows, learned.model, target)
    elif source is Predictor.BASELINE and learned.baseline is not None:
        columns["reason_1"] = _in_words(rows, target.baseline_words, "")
        columns["reason_1_effect"] = learned.baseline.predict(rows) - (learned.base_rate or 0.0)
    return columns


def _reasons_of_model(rows: pd.DataFrame, model: Model, target: Target) -> dict[str, Any]:
    parts = model.contributions(rows)
    logits = model.intercept + parts.sum(axis=1)
    # Of equal weight, the group named first.
    by_weight = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :REASONS]
    words = np.full(parts.shape, None, dtype=object)
    for number, group in enumerate(target.groups):
        is_told = (by_weight == number).any(axis=1)
        words[is_told, number] = _in_words(rows[is_told], group.words, group.words_if_unknown)
    columns: dict[str, Any] = {}
    for place in range(REASONS):
        chosen = by_weight[:, place]
        each = np.arange(len(rows))
        without: Floats = probability(logits - parts[each, chosen])
        columns[f"reason_{place + 1}"] = words[each, chosen]
        columns[f"reason_{place + 1}_effect"] = probability(logits) - without
    return columns


def _in_words(
    rows: pd.DataFrame, words: str, if_unknown: str
) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """A sentence about each row, with its values in place of the names in braces."""
    names = [name for name in rows.columns if "{" + name in words]
    known = rows[names].notna().all(axis=1).to_numpy()
    texts = [
        words.format_map(dict(zip(names, values, strict=True))) if is_known else if_unknown
        for is_known, values in zip(known, zip(*(rows[n] for n in names), strict=True), strict=True)
    ]
    return np.array(texts, dtype=object)
