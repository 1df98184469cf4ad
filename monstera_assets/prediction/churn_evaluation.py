"""Backtesting for churn predictions.

For each evaluation date, a model is trained on snapshots whose outcomes were known by then. The model,
the baseline and the base rate are compared on the same rows, and `best_of` chooses which to publish.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.churn_prediction import (
    Floats,
    Prediction,
    Predictor,
    as_of_date,
    has_both_outcomes,
    is_enough,
    predict,
    training_rows,
)
from monstera_assets.prediction.targets import STEP_DAYS, Target

DECILES = 10
_TOP_SHARE = 0.1


@dataclass(frozen=True)
class Figures:
    """Prediction accuracy for a set of rows.

    Figures that cannot be computed are None, such as the AUC when only one outcome occurs.
    """

    rows_scored: int
    rows_churned: int
    predicted_share: float | None
    observed_share: float | None
    auc: float | None = None
    brier_score: float | None = None
    log_loss: float | None = None
    top_tenth_lift: float | None = None

    @classmethod
    def shares(cls, churned: Floats, probabilities: Floats) -> Figures:
        """Return the row counts and the predicted and observed shares."""
        if not len(churned):
            return cls(0, 0, None, None)
        lost = int(churned.sum())
        return cls(len(churned), lost, float(probabilities.mean()), float(churned.mean()))


def evaluation_dates(
    features: pd.DataFrame, target: Target, policy: ChurnPolicy
) -> list[pd.Timestamp]:
    """Return the latest snapshot dates with known outcomes, in ascending order."""
    as_of = as_of_date(features)
    if as_of is None:
        return []
    steps = range(target.horizon_steps, target.horizon_steps + policy.evaluation_dates)
    dates = [as_of - pd.Timedelta(days=STEP_DAYS * step) for step in reversed(steps)]
    return [date for date in dates if (features["snapshot_date"] == date).any()]


def evaluate(features: pd.DataFrame, target: Target, policy: ChurnPolicy) -> pd.DataFrame:
    """Return the rows of `gold_churn_model_evaluation` for users or accounts.

    Dates with too little training data are excluded for all predictors.
    """
    predictions = _predictions(features, target, policy)
    outcomes = _pooled(each.churned for each in predictions)
    pooled = {
        predictor: _pooled(each.probabilities[predictor] for each in predictions)
        for predictor in Predictor
    }
    overall = {predictor: figures(outcomes, pooled[predictor]) for predictor in Predictor}
    published = best_of(overall, is_enough=has_both_outcomes(outcomes, policy))
    rows: list[dict[str, object]] = []
    for predictor in Predictor:
        if predictions or predictor is published:
            rows += _rows_of(predictor, None, outcomes, pooled[predictor], predictions)
        for each in predictions:
            probabilities = each.probabilities[predictor]
            rows += _rows_of(predictor, each.date, each.churned, probabilities, [each])
    found = pd.DataFrame(rows)
    return found.assign(
        entity=target.entity,
        is_published=found["predictor"] == str(published),
        model_version=target.model_version,
        as_of_date=as_of_date(features),
    )


def _predictions(features: pd.DataFrame, target: Target, policy: ChurnPolicy) -> list[Prediction]:
    dates = [
        date
        for date in evaluation_dates(features, target, policy)
        if is_enough(training_rows(features, date, target, policy), policy)
    ]
    if not dates:
        return []
    from monstera_assets.prediction.churn_model import one_thread

    # Each date runs on its own single thread, so the results are identical on every machine.
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(lambda date: predict(features, date, target, policy), dates))


def _pooled(parts: Iterable[Floats]) -> Floats:
    return np.concatenate([np.empty(0), *parts])


def best_of(overall: Mapping[Predictor, Figures], is_enough: bool) -> Predictor:
    """Return the predictor to publish.

    The model is published if it beats the baseline on both Brier score and AUC. Otherwise, the baseline
    is published. If there is not enough data to compare them, the base rate is published.
    """
    if not is_enough:
        return Predictor.BASE_RATE
    model, baseline = overall[Predictor.MODEL], overall[Predictor.BASELINE]
    return Predictor.MODEL if is_better(model, baseline) else Predictor.BASELINE


def published_of(evaluation: pd.DataFrame, target: Target) -> Predictor:
    """Return the predictor marked as published in an evaluation."""
    is_its = (evaluation["entity"] == target.entity) & evaluation["is_published"]
    return Predictor(evaluation.loc[is_its, "predictor"].iloc[0])


def is_better(model: Figures, baseline: Figures) -> bool:
    """Return whether the model beats the baseline on both Brier score and AUC."""
    if model.auc is None or baseline.auc is None:
        return False
    if model.brier_score is None or baseline.brier_score is None:
        return False
    return model.auc > baseline.auc and model.brier_score < baseline.brier_score


def figures(churned: Floats, probabilities: Floats) -> Figures:
    """Return the accuracy of predicted churn probabilities."""
    shares = Figures.shares(churned, probabilities)
    if not len(churned):
        return shares
    of_outcome = np.where(churned > 0, probabilities, 1.0 - probabilities)
    return replace(
        shares,
        auc=area_under_curve(churned, probabilities),
        brier_score=float(np.mean((probabilities - churned) ** 2)),
        # If the base rate is 0 or 1, the loss can be infinite.
        log_loss=float(-np.log(of_outcome).mean()) if of_outcome.min() > 0 else None,
        top_tenth_lift=top_lift(churned, probabilities),
    )


def area_under_curve(churned: Floats, probabilities: Floats) -> float | None:
    """Return the probability that a churned row scores higher than a retained row.

    Ties count as one half. The result is None unless both outcomes occur.
    """
    lost = float(churned.sum())
    kept = len(churned) - lost
    if not lost or not kept:
        return None
    ranks = pd.Series(probabilities).rank(method="average").to_numpy()
    return (float(ranks[churned > 0].sum()) - lost * (lost + 1) / 2) / (lost * kept)


def top_lift(churned: Floats, probabilities: Floats) -> float | None:
    """Return the churn rate of the top 10% of rows divided by the overall churn rate.

    Rows tied at the cutoff are weighted proportionally. The result is None if no row churned.
    """
    if not churned.any():
        return None
    size = len(churned) * _TOP_SHARE
    border = np.sort(probabilities)[::-1][int(np.ceil(size)) - 1]
    above, tied = probabilities > border, probabilities == border
    part = (size - above.sum()) / tied.sum()
    lost = churned[above].sum() + part * churned[tied].sum()
    return float(lost / size / churned.mean())


def _rows_of(
    predictor: Predictor,
    date: pd.Timestamp | None,
    churned: Floats,
    probabilities: Floats,
    predictions: list[Prediction],
) -> Iterator[dict[str, object]]:
    """Yield one row for decile 0 (all rows), then one row per decile.

    The training columns summarize the training data for all given predictions.
    """
    dates = [day for each in predictions for day in each.training["snapshot_date"].unique()]
    about = {
        "predictor": str(predictor),
        "evaluation_date": date,
        "training_first_date": min(dates, default=None),
        "training_last_date": max(dates, default=None),
        "training_rows": max((len(each.training) for each in predictions), default=0),
    }
    yield {**about, "decile": 0, **asdict(figures(churned, probabilities))}
    if predictor is Predictor.BASE_RATE or len(churned) < DECILES:
        return
    by_probability = np.argsort(probabilities, kind="stable")
    for number, rows in enumerate(np.array_split(by_probability, DECILES), start=1):
        part = Figures.shares(churned[rows], probabilities[rows])
        yield {**about, "decile": number, **asdict(part)}
