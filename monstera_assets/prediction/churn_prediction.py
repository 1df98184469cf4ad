"""Churn predicted as of a date, from models that were trained on what was known by then."""

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
    """What a probability comes from, best first."""

    MODEL = "model"
    BASELINE = "baseline"
    BASE_RATE = "base_rate"


@dataclass(frozen=True)
class Prediction:
    """What was predicted as of one date.

    Attributes:
        date: the date.
        rows: features and outcomes of that date, sorted.
        training: the rows that the models were trained on.
        base_rate: the share of them that churned; NaN without any.
        model: None if the training data was not enough.
        probabilities: of each row, by each predictor for which the training data was enough.
    """

    date: pd.Timestamp
    rows: pd.DataFrame
    training: pd.DataFrame
    base_rate: float
    model: Model | None
    probabilities: Mapping[Predictor, Floats]

    @property
    def churned(self) -> Floats:
        """The outcomes: 1 for a row that churned, else 0."""
        return self.rows["churned"].to_numpy(dtype=np.float64)


def predict(
    features: pd.DataFrame, date: pd.Timestamp, target: Target, policy: ChurnPolicy
) -> Prediction:
    """Train on the outcomes that were known by a date, and predict those of its rows."""
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
    """The as-of date of features; None without rows."""
    return None if features.empty else features["as_of_date"].max()


def training_rows(
    features: pd.DataFrame, date: pd.Timestamp, target: Target, policy: ChurnPolicy
) -> pd.DataFrame:
    """The rows that a model as of a date is trained on: those with an outcome known by then."""
    last = date - pd.Timedelta(days=target.horizon_days)
    first = last - pd.Timedelta(days=STEP_DAYS * (policy.training_dates - 1))
    return features[features["snapshot_date"].between(first, last)]


def is_enough(training: pd.DataFrame, policy: ChurnPolicy) -> bool:
    """Whether training data is enough for a model and a baseline."""
    churned = training["churned"].to_numpy(dtype=np.float64)
    return len(training) >= policy.min_training_rows and has_both_outcomes(churned, policy)


def has_both_outcomes(churned: Floats, policy: ChurnPolicy) -> bool:
    """Whether enough rows churned, and enough did not."""
    return bool(min(churned.sum(), (1 - churned).sum()) >= policy.min_outcomes)


def sort_rows(rows: pd.DataFrame, target: Target, *more: str) -> pd.DataFrame:
    """Rows by date, account, features and more columns, since a database has no fixed order.

    The id of the user or account comes last: it decides only between rows that are equal.
    """
    by = ["snapshot_date", ACCOUNT, *target.features, *more, target.key]
    return rows.sort_values(list(dict.fromkeys(by)), kind="stable", ignore_index=True)
