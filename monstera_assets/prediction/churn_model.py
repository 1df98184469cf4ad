"""The model of churn, the baseline that it must beat, and the base rate below both.

The model is a logistic regression on bent features, regularised as much as serves people it was not
learned from, and calibrated on them: its logits are stretched and moved (Platt) so that those of
people left out agree with what they did. All is additive, so what a group of features adds to a logit
is exact.

The same rows give the same bits: rows are put in order, folds follow from accounts and signups, sums
run on one thread. Nothing depends on the id of a person, so that forgetting one changes nobody's score.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.design import Design, Floats, learn_design
from monstera_assets.prediction.targets import ACCOUNT, Target

_FOLDS = 3
_STRENGTHS = (0.001, 0.01, 0.1)
"""Inverse strengths of regularisation that are tried, strongest first."""
_PRIOR_ROWS = 20.0
"""Rows at the base rate that each bin of the baseline is given beside its own."""
_CLIP = 1e-4
"""No probability is nearer to 0 or 1: there never are rows enough to say more."""
_OUTCOMES = (0, 1)
_FREE = 1e6
"""As good as no regularisation, for the two numbers of the calibration."""


@dataclass(frozen=True)
class Baseline:
    """The share that churned of each bin of one feature, drawn towards the base rate."""

    column: str
    edges: Floats
    rates: Floats

    def predict(self, rows: pd.DataFrame) -> Floats:
        """The probability of each row."""
        return self.rates[_bins(rows, self.column, self.edges)]


@dataclass(frozen=True)
class Model:
    """A fitted and calibrated model."""

    design: Design
    weights: Floats
    intercept: float

    def contributions(self, rows: pd.DataFrame) -> Floats:
        """What each group of features adds to the logit of each row, beside the average row."""
        parts = self.design.matrix(rows) * self.weights
        groups = self.design.groups
        number = int(self.design.owners.max()) + 1
        return np.column_stack([parts[:, groups == g].sum(axis=1) for g in range(number)])

    def predict(self, rows: pd.DataFrame) -> Floats:
        """The probability of each row."""
        return probability(self.intercept + self.contributions(rows).sum(axis=1))


@dataclass(frozen=True)
class Learned:
    """All that was learned from the rows of some dates.

    Attributes:
        base_rate: the share that churned; None if there are no rows.
        baseline: None if there was too little to learn from.
        model: likewise.
        first_date: the first date of the rows, None without any.
        last_date: the last one; the outcomes that were seen end `horizon_days` after it.
        rows: how many there were.
    """

    base_rate: float | None
    baseline: Baseline | None
    model: Model | None
    first_date: pd.Timestamp | None
    last_date: pd.Timestamp | None
    rows: int


def learn(rows: pd.DataFrame, target: Target, policy: ChurnPolicy) -> Learned:
    """Learn from rows whose outcome is known.

    Args:
        rows: the features, `snapshot_date` and `churned`, in any order.
        target: what is foretold.
        policy: from how much on it can be.
    """
    if not len(rows):
        return Learned(None, None, None, None, None, 0)
    rows = in_order(rows, target, "churned")
    churned = rows["churned"].to_numpy(dtype=np.float64)
    enough = are_enough(rows, policy)
    return Learned(
        base_rate=float(churned.mean()),
        baseline=_learn_baseline(rows, churned, target) if enough else None,
        model=_learn_model(rows, churned, target) if enough else None,
        first_date=rows["snapshot_date"].min(),
        last_date=rows["snapshot_date"].max(),
        rows=len(rows),
    )


def are_enough(rows: pd.DataFrame, policy: ChurnPolicy) -> bool:
    """Whether rows whose outcome is known are enough for a model and a baseline."""
    churned = rows["churned"].to_numpy(dtype=np.float64)
    return len(rows) >= policy.min_training_rows and has_both(churned, policy)


def has_both(churned: Floats, policy: ChurnPolicy) -> bool:
    """Whether enough rows churned, and enough did not."""
    lost = churned.sum()
    return bool(min(lost, len(churned) - lost) >= policy.min_outcomes)


def in_order(rows: pd.DataFrame, target: Target, *more: str) -> pd.DataFrame:
    """Rows by date, account, features and more; the order of a database is not fixed.

    The id of whom a row is about comes last: it decides only between rows that are the same.
    """
    by = ["snapshot_date", ACCOUNT, *target.features, *more, target.key]
    return rows.sort_values(list(dict.fromkeys(by)), kind="stable", ignore_index=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread: how sums are cut up must not depend on the machine's cores.

    The limit is the process's. Where several threads learn, one that is around all of them keeps the
    first that ends from lifting it for the others.
    """
    import sklearn.linear_model  # noqa: F401  # first: only libraries that are loaded are limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def probability(logits: Floats) -> Floats:
    """The probabilities of logits, none nearer to 0 or 1 than `_CLIP`."""
    return np.clip(1.0 / (1.0 + np.exp(-logits)), _CLIP, 1.0 - _CLIP)


def _learn_baseline(rows: pd.DataFrame, churned: Floats, target: Target) -> Baseline:
    edges = np.array(target.baseline_edges, dtype=np.float64)
    place = _bins(rows, target.baseline, edges)
    count = np.bincount(place, minlength=len(edges)).astype(np.float64)
    lost = np.bincount(place, weights=churned, minlength=len(edges))
    rates = (lost + _PRIOR_ROWS * churned.mean()) / (count + _PRIOR_ROWS)
    return Baseline(target.baseline, edges, rates)


def _bins(rows: pd.DataFrame, column: str, edges: Floats) -> npt.NDArray[np.int64]:
    values = rows[column].to_numpy(dtype=np.float64)
    place = np.searchsorted(edges, values, side="right") - 1
    return np.clip(place, 0, len(edges) - 1).astype(np.int64)


def _learn_model(rows: pd.DataFrame, churned: Floats, target: Target) -> Model:
    fold = _folds(rows, target)
    design = learn_design(rows, target.groups)
    matrix = design.matrix(rows)
    with one_thread():
        left_out = _left_out(matrix, churned, fold)
        best = min(_STRENGTHS, key=lambda c: _log_loss(churned, left_out[c]))
        weights, intercept = _fit(matrix, churned, best)
        stretch, shift = _fit(left_out[best].reshape(-1, 1), churned, _FREE)
    return Model(
        design,
        weights=weights * stretch[0],
        intercept=float(intercept * stretch[0] + shift),
    )


def _folds(rows: pd.DataFrame, target: Target) -> npt.NDArray[np.int64]:
    """The fold of each row, the same for all rows of a person, who is not tried on what it taught.

    By account and day of signup, which stay with a person whatever the id.
    """
    since = rows["snapshot_date"] - pd.to_timedelta(rows[target.age], unit="D")
    days = np.datetime_as_string(since.to_numpy(), unit="D")
    texts = (f"{account}/{day}" for account, day in zip(rows[ACCOUNT], days, strict=True))
    return np.array([zlib.crc32(text.encode()) % _FOLDS for text in texts], dtype=np.int64)


def _left_out(matrix: Floats, churned: Floats, fold: npt.NDArray[np.int64]) -> dict[float, Floats]:
    """By strength: the logit of each row by a model that has not learned from its fold."""
    logits = {strength: np.zeros(len(churned)) for strength in _STRENGTHS}
    for number in range(_FOLDS):
        others = fold != number
        if len(np.unique(churned[others])) < len(_OUTCOMES):
            continue  # nothing to tell them apart by
        taught, tried, fitted = matrix[others], matrix[~others], None
        for strength in _STRENGTHS:
            # From where the stronger regularisation came to, it is not far.
            weights, intercept = fitted = _fit(taught, churned[others], strength, fitted)
            logits[strength][~others] = (tried * weights).sum(axis=1) + intercept
    return logits


def _fit(
    matrix: Floats, churned: Floats, strength: float, start: tuple[Floats, float] | None = None
) -> tuple[Floats, float]:
    # Imported late: it takes seconds, which only those wait for who have enough to learn from.
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(
        C=strength, solver="newton-cholesky", max_iter=200, tol=1e-6, warm_start=True
    )
    if start is not None:
        fitted.coef_, fitted.intercept_ = start[0].reshape(1, -1), np.array([start[1]])
    fitted.fit(matrix, churned)
    return fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0])


def _log_loss(churned: Floats, logits: Floats) -> float:
    chance = probability(logits)
    return float(-np.mean(np.where(churned > 0, np.log(chance), np.log(1 - chance))))
