"""The churn model and the baseline that it must beat, built from scikit-learn.

The model is a logistic regression on piecewise-linear (linear-spline) features. Cross-validation, which
keeps all rows of a user in one fold, chooses the strength of regularisation and calibrates the model
(Platt scaling). The model is additive: what a group of features adds to a logit is exact.

The same rows give the same bits: folds are seeded and linear algebra runs on one thread.

Import this module only where a model is fitted: importing scikit-learn takes a second.
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
"""Inverse strengths of regularisation to choose from."""
_SOLVER = "newton-cholesky"
_KNOTS = 5
"""Knots of each spline, at quantiles: the effect of a number bends at its quartiles."""
_MIN_FREQUENCY = 0.01
"""Share of the rows below which categories are pooled."""
_PRIOR_ROWS = 20.0
"""Rows at the base rate that are added to each bin of the baseline."""
_CLIP = 1e-4
"""No probability is nearer to 0 or 1: there are never enough rows to support it."""


@dataclass(frozen=True)
class Model:
    """A fitted and calibrated model.

    Attributes:
        target: what it predicts.
        preprocessor: makes standardised columns of features.
        column_groups: the number of the group of features of each column.
        weights: what a unit of each column adds to the logit.
        intercept: the logit of the average row.
    """

    target: Target
    preprocessor: Pipeline
    column_groups: npt.NDArray[np.int64]
    weights: Floats
    intercept: float

    def contributions(self, rows: pd.DataFrame) -> Floats:
        """What each group of features adds to the logit of each row: rows x groups."""
        parts = self.preprocessor.transform(_features(rows, self.target)) * self.weights
        groups = range(len(self.target.groups))
        return np.column_stack([parts[:, self.column_groups == g].sum(axis=1) for g in groups])

    def predict(self, rows: pd.DataFrame) -> Floats:
        """The probability of each row."""
        return probability(self.intercept + self.contributions(rows).sum(axis=1))


def fit_model(rows: pd.DataFrame, churned: Floats, target: Target) -> Model:
    """The model of rows with known outcomes, of which both must be there."""
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
    # The name of a column begins with the number of its group.
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
    """What gives each row the share that churned of its bin of one feature.

    The shares are shrunk towards the base rate.
    """

    def bins(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
        values = rows[[target.baseline]].to_numpy(dtype=np.float64)
        numbers: npt.NDArray[np.int64] = np.digitize(values, target.baseline_edges[1:])
        return numbers

    shares = TargetEncoder(target_type="binary", smooth=_PRIOR_ROWS).fit(bins(rows), churned)
    return lambda rows: shares.transform(bins(rows))[:, 0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread, so that sums do not depend on the number of cores.

    The limit applies to the process. Where several threads fit models, one around all of them keeps
    the first that ends from lifting the limit for the others.
    """
    with threadpool_limits(limits=1):
        yield


def probability(logits: Floats) -> Floats:
    """The probabilities of logits, none nearer to 0 or 1 than 0.0001."""
    return np.clip(1.0 / (1.0 + np.exp(-logits)), _CLIP, 1.0 - _CLIP)


def _preprocessor(rows: pd.DataFrame, target: Target) -> Pipeline:
    """Standardised columns: linear splines of numbers, indicators of categories."""
    # All basis functions of a missing number are 0, which makes it a level of its own.
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
    """The features as floats and strings; missing ones are NaN and an empty string."""
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
    """Rows to train and to test on, by fold; no user is in both.

    A user is known by account and day of signup, which do not change when the id is erased.
    """
    since = rows["snapshot_date"] - pd.to_timedelta(rows[target.age], unit="D")
    groups = rows.groupby([rows[ACCOUNT], since]).ngroup().to_numpy()
    if groups.max() + 1 >= FOLDS:
        splitter = GroupKFold(FOLDS, shuffle=True, random_state=0)
        folds = list(splitter.split(rows, groups=groups))
        if all(np.ptp(churned[part]) > 0 for fold in folds for part in fold):
            return folds
    # Too few users to keep apart.
    return list(StratifiedKFold(FOLDS).split(rows, churned))
