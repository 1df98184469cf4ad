"""The churn model and the baseline that it must beat, built with scikit-learn.

The model is a logistic regression on linear-spline features. Cross-validation selects the
regularization strength and provides the out-of-fold logits for Platt scaling. If possible, all of a
user's rows are in the same fold. The model is additive, so each feature group's contribution to a logit
is exact.

Results are bit-for-bit reproducible: folds are seeded and linear algebra runs on one thread.

Import this module only where a model is fitted, because importing scikit-learn takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer, StandardScaler, TargetEncoder
from threadpoolctl import threadpool_limits

from monstera_assets.prediction.churn_prediction import Floats
from monstera_assets.prediction.targets import ACCOUNT, Target

FOLDS = 3
C_GRID = (0.001, 0.01, 0.1)
"""Candidate inverse regularization strengths."""
_SOLVER = "newton-cholesky"
_KNOTS = 5
"""Number of knots per spline. Knots are at quantiles, so the slope can change at the quartiles."""
_MIN_FREQUENCY = 0.01
"""Minimum share of rows for a category. Rarer categories are pooled."""
_PRIOR_ROWS = 20.0
"""Number of pseudo-rows at the base rate to add to each baseline bin."""
_CLIP = 1e-4
"""Minimum distance of probabilities from 0 and 1. No sample supports more extreme values."""


@dataclass(frozen=True)
class Model:
    """A fitted and calibrated model.

    Attributes:
        target: the prediction target.
        preprocessor: pipeline that turns features into standardized columns.
        column_groups: index of each column's feature group.
        weights: change in the logit per unit of each column.
        intercept: logit of an average row.
    """

    target: Target
    preprocessor: Pipeline
    column_groups: npt.NDArray[np.int64]
    weights: Floats
    intercept: float

    def contributions(self, rows: pd.DataFrame) -> Floats:
        """Return the contributions to the logits, with one column per feature group."""
        parts = self.preprocessor.transform(_features(rows, self.target)) * self.weights
        groups = range(len(self.target.groups))
        return np.column_stack([parts[:, self.column_groups == g].sum(axis=1) for g in groups])

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Return the churn probability for each row."""
        return probability(self.intercept + self.contributions(rows).sum(axis=1))


def fit_model(rows: pd.DataFrame, churned: Floats, target: Target) -> Model:
    """Fit the model to rows with known outcomes, which must include both outcomes."""
    preprocessor = _preprocessor(rows, target)
    folds = _folds(rows, churned, target)
    with one_thread():
        matrix = preprocessor.fit_transform(_features(rows, target))
        search = LogisticRegressionCV(
            Cs=C_GRID,
            l1_ratios=(0.0,),
            cv=folds,
            scoring="neg_log_loss",
            solver=_SOLVER,
            use_legacy_attributes=False,
        ).fit(matrix, churned)
        out_of_fold_logits = np.empty(len(rows))
        for (_, test), paths in zip(folds, search.coefs_paths_, strict=True):
            fold = paths[0, C_GRID.index(search.C_), 0]
            out_of_fold_logits[test] = matrix[test] @ fold[:-1] + fold[-1]
        platt = LogisticRegression(C=np.inf, solver=_SOLVER)
        platt.fit(out_of_fold_logits.reshape(-1, 1), churned)
    platt_slope, platt_intercept = platt.coef_[0, 0], platt.intercept_[0]
    # Each column name starts with the index of its feature group.
    names = preprocessor.get_feature_names_out()
    return Model(
        target,
        preprocessor,
        column_groups=np.array([int(name.split("_")[0]) for name in names], dtype=np.int64),
        weights=search.coef_[0] * platt_slope,
        intercept=float(search.intercept_[0] * platt_slope + platt_intercept),
    )


def fit_baseline(
    rows: pd.DataFrame, churned: Floats, target: Target
) -> Callable[[pd.DataFrame], Floats]:
    """Return a predictor that bins rows by one feature and returns each bin's churn rate.

    Churn rates are shrunk toward the base rate.
    """

    def bins(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
        values = rows[[target.baseline]].to_numpy(dtype=np.float64)
        numbers: npt.NDArray[np.int64] = np.digitize(values, target.baseline_edges[1:])
        return numbers

    shares = TargetEncoder(target_type="binary", smooth=_PRIOR_ROWS).fit(bins(rows), churned)
    return lambda rows: shares.transform(bins(rows))[:, 0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run linear algebra on one thread so that sums do not depend on the number of cores.

    The limit applies to the whole process. If several threads fit models, wrap all of them in an outer
    `one_thread()`. Otherwise, the first thread to finish lifts the limit for the others.
    """
    with threadpool_limits(limits=1):
        yield


def probability(logits: Floats) -> Floats:
    """Convert logits to probabilities, clipped to between 0.0001 and 0.9999."""
    return np.clip(1.0 / (1.0 + np.exp(-logits)), _CLIP, 1.0 - _CLIP)


def _preprocessor(rows: pd.DataFrame, target: Target) -> Pipeline:
    """Return a preprocessor with linear splines for numbers and indicators for categories."""
    # For missing numbers, all basis functions are 0, so missing numbers form a separate level.
    splines = SplineTransformer(_KNOTS, degree=1, knots="quantile", handle_missing="zeros")
    indicators = OneHotEncoder(
        min_frequency=_MIN_FREQUENCY, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    columns = []
    for number, group in enumerate(target.groups):
        known = [name for name in group.numbers if rows[name].notna().any()]
        columns.append((f"{number}_numbers", splines, known))
        columns.append((f"{number}_categories", indicators, list(group.categories)))
    return make_pipeline(ColumnTransformer(columns), StandardScaler())


def _features(rows: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Convert numbers to floats and categories to strings, with NaN or `""` for missing values."""
    categories = {name for group in target.groups for name in group.categories}
    return pd.DataFrame(
        {
            name: rows[name].fillna("").astype(str)
            if name in categories
            else rows[name].astype("float64")
            for name in target.features
        }
    )


def _folds(rows: pd.DataFrame, churned: Floats, target: Target) -> list[tuple[Floats, Floats]]:
    """Return the training and test rows of each fold. No user is in both, if possible.

    Users are identified by account and signup date, because these do not change when a user is erased.
    """
    since = rows["snapshot_date"] - pd.to_timedelta(rows[target.age], unit="D")
    groups = rows.groupby([rows[ACCOUNT], since]).ngroup().to_numpy()
    if groups.max() + 1 >= FOLDS:
        splitter = GroupKFold(FOLDS, shuffle=True, random_state=0)
        folds = list(splitter.split(rows, groups=groups))
        if all(np.ptp(churned[part]) > 0 for fold in folds for part in fold):
            return folds
    # Too few users for grouped folds.
    return list(StratifiedKFold(FOLDS).split(rows, churned))
