"""Churn predictions as of a date, made by models trained on outcomes known by that date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.targets import ACCOUNT, STEP_DAYS, Target

if TYPE_CHECKING:
    from monstera_assets.prediction.churn_model import Model

Floats = npt.NDArray[np.float64]


class Predictor(StrEnum):
    """Source of a churn probability, listed from best to worst."""

    MODEL = "model"
    BASELINE = "baseline"
    BASE_RATE = "base_rate"


@dataclass(frozen=True)
class Prediction:
    """Predictions as of one date.

    Attributes:
        rows: features and outcomes of that date, sorted.
        training: the rows that the models are trained on.
        base_rate: the churn rate of the training rows, or NaN if there are none.
        model: the fitted model, or None if there is not enough training data.
        probabilities: one probability per row for each predictor that has enough training data.
    """

    date: pd.Timestamp
    rows: pd.DataFrame
    training: pd.DataFrame
    base_rate: float
    model: Model | None
    probabilities: Mapping[Predictor, Floats]

    @property
    def churned(self) -> Floats:
        """The outcome of each row: 1 if churned, otherwise 0."""
        return self.rows["churned"].to_numpy(dtype=np.float64)


def predict(
    features: pd.DataFrame, date: pd.Timestamp, target: Target, policy: ChurnPolicy
) -> Prediction:
    """Train on the outcomes known by a date and predict the outcomes of that date's rows."""
    training = training_rows(features, date, target, policy)
    rows = sort_rows(features[features["snapshot_date"] == date], target)
    model: Model | None = None
    probabilities: dict[Predictor, Floats] = {}
    if is_enough(training, policy):
        from monstera_assets.prediction.churn_model import fit_baseline, fit_model

        known = sort_rows(training, target, "churned")
        churned = known["churned"].to_numpy(dtype=np.float64)
        model = fit_model(known, churned, target)
        probabilities[Predictor.MODEL] = model.predict(rows)
        probabilities[Predictor.BASELINE] = fit_baseline(known, churned, target)(rows)
    base_rate = float(training["churned"].astype("float64").mean())
    if len(training):
        probabilities[Predictor.BASE_RATE] = np.full(len(rows), base_rate)
    return Prediction(date, rows, training, base_rate, model, probabilities)


def as_of_date(features: pd.DataFrame) -> pd.Timestamp | None:
    """Return the as-of date of the features, or None if there are no rows."""
    return None if features.empty else features["as_of_date"].max()


def training_rows(
    features: pd.DataFrame, date: pd.Timestamp, target: Target, policy: ChurnPolicy
) -> pd.DataFrame:
    """Return the rows to train on as of a date, whose outcomes are known by then."""
    last = date - pd.Timedelta(days=target.horizon_days)
    first = last - pd.Timedelta(days=STEP_DAYS * (policy.training_dates - 1))
    return features[features["snapshot_date"].between(first, last)]


def is_enough(training: pd.DataFrame, policy: ChurnPolicy) -> bool:
    """Return whether there is enough training data for a model and a baseline."""
    churned = training["churned"].to_numpy(dtype=np.float64)
    return len(training) >= policy.min_training_rows and has_both_outcomes(churned, policy)


def has_both_outcomes(churned: Floats, policy: ChurnPolicy) -> bool:
    """Return whether each outcome occurs at least `min_outcomes` times."""
    return bool(min(churned.sum(), (1 - churned).sum()) >= policy.min_outcomes)


def sort_rows(rows: pd.DataFrame, target: Target, *more: str) -> pd.DataFrame:
    """Sort query results, which have no defined order, by date, account, features and `more` columns.

    User or account IDs come last, so they only break ties between otherwise equal rows.
    """
    by = ["snapshot_date", ACCOUNT, *target.features, *more, target.key]
    return rows.sort_values(list(dict.fromkeys(by)), kind="stable", ignore_index=True)
