"""Tests of the churn evaluation, by hand and against scikit-learn, and of the published predictor."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.churn_evaluation import (
    Figures,
    area_under_curve,
    best_of,
    evaluate,
    evaluation_dates,
    figures,
    published_of,
    top_lift,
)
from monstera_assets.prediction.churn_prediction import Predictor, training_rows
from monstera_assets.prediction.targets import ACCOUNTS, USERS, Target

POLICY = ChurnPolicy(evaluation_dates=2, training_dates=3)
LAST = pd.Timestamp("2025-06-30")


def outcomes(*churned: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(churned, dtype=np.float64)


def test_area_under_the_curve_counts_pairs_and_ties_half() -> None:
    # Of 2 x 3 pairs, 0.9 wins 3; 0.4 beats 0.2, ties with 0.4 and loses to 0.7.
    churned = outcomes(1, 0, 1, 0, 0)
    probabilities = np.array([0.9, 0.7, 0.4, 0.4, 0.2])
    assert area_under_curve(churned, probabilities) == pytest.approx((3 + 1 + 0.5) / 6)


def test_area_under_the_curve_takes_both_outcomes() -> None:
    assert area_under_curve(outcomes(1, 1), np.array([0.1, 0.2])) is None
    assert area_under_curve(outcomes(0, 0), np.array([0.1, 0.2])) is None


def test_brier_score_and_log_loss_by_hand() -> None:
    found = figures(outcomes(1, 0), np.array([0.8, 0.4]))
    assert found.brier_score == pytest.approx((0.2**2 + 0.4**2) / 2)
    assert found.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert (found.rows_scored, found.rows_churned) == (2, 1)
    assert found.predicted_share == pytest.approx(0.6)
    assert found.observed_share == pytest.approx(0.5)


def test_an_infinite_loss_is_left_out() -> None:
    assert figures(outcomes(1, 0), np.array([0.0, 0.0])).log_loss is None


def test_figures_without_rows_are_unknown() -> None:
    assert figures(np.empty(0), np.empty(0)) == Figures(0, 0, None, None)


def test_lift_of_the_top_tenth() -> None:
    """5 of 20 rows and 1 of the top 2 churned, so the lift is 1/2 divided by 1/4."""
    churned = outcomes(1, 0, 1, 1, 1, 1, *[0] * 14)
    assert top_lift(churned, np.linspace(0.9, 0.1, 20)) == pytest.approx(2.0)


def test_ties_on_the_border_of_the_top_tenth_count_in_part() -> None:
    """Four rows tie for second place, and one of them churned: (1 + 1/4) / 2 divided by 2/20."""
    churned = outcomes(1, 1, *[0] * 18)
    probabilities = np.array([0.9, *[0.5] * 4, *[0.1] * 15])
    assert top_lift(churned, probabilities) == pytest.approx((1.25 / 2) / (2 / 20))


def test_one_probability_for_all_has_no_lift() -> None:
    assert top_lift(outcomes(*[1] * 3, *[0] * 17), np.full(20, 0.15)) == pytest.approx(1.0)


def test_figures_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(3)
    probabilities = random.uniform(0.01, 0.99, 500).round(2)
    churned = (random.uniform(size=500) < probabilities).astype(np.float64)
    found = figures(churned, probabilities)
    assert found.auc == pytest.approx(metrics.roc_auc_score(churned, probabilities))
    assert found.brier_score == pytest.approx(metrics.brier_score_loss(churned, probabilities))
    assert found.log_loss == pytest.approx(metrics.log_loss(churned, probabilities))


@pytest.mark.parametrize(
    ("auc", "brier_score", "published"),
    [
        (0.81, 0.09, Predictor.MODEL),
        (0.81, 0.11, Predictor.BASELINE),
        (0.79, 0.09, Predictor.BASELINE),
        (0.80, 0.10, Predictor.BASELINE),  # equal
        (None, 0.09, Predictor.BASELINE),
    ],
)
def test_the_model_is_published_if_it_is_better_on_both(
    auc: float | None, brier_score: float, published: Predictor
) -> None:
    overall = {
        Predictor.MODEL: Figures(100, 20, 0.2, 0.2, auc=auc, brier_score=brier_score),
        Predictor.BASELINE: Figures(100, 20, 0.2, 0.2, auc=0.8, brier_score=0.1),
        Predictor.BASE_RATE: Figures(100, 20, 0.2, 0.2, auc=0.5, brier_score=0.16),
    }
    assert best_of(overall, is_enough=True) is published
    assert best_of(overall, is_enough=False) is Predictor.BASE_RATE


def snapshots(target: Target, days_before: list[int], each: int = 1) -> pd.DataFrame:
    """Return rows on dates before the last one. Only their dates and keys matter."""
    dates = [LAST - pd.Timedelta(days=days) for days in days_before for _ in range(each)]
    return pd.DataFrame(
        {
            **dict.fromkeys(target.features, 0),
            "account_id": "acc",
            target.key: [f"x{number}" for number in range(len(dates))],
            "snapshot_date": dates,
            "as_of_date": LAST,
            "churned": False,
        }
    )


@pytest.mark.parametrize(
    ("target", "dates", "trained_on"),
    [
        (USERS, [60, 30], [[150, 120, 90], [120, 90, 60]]),
        # Outcomes of accounts are known after 90 days.
        (ACCOUNTS, [120, 90], [[270, 240, 210], [240, 210, 180]]),
    ],
)
def test_a_model_is_trained_on_outcomes_that_were_known(
    target: Target, dates: list[int], trained_on: list[list[int]]
) -> None:
    rows = snapshots(target, list(range(0, 361, 30)))
    found = evaluation_dates(rows, target, POLICY)
    assert [(LAST - date).days for date in found] == dates
    for date, expected in zip(found, trained_on, strict=True):
        trained = training_rows(rows, date, target, POLICY)["snapshot_date"]
        assert sorted((LAST - day).days for day in trained) == sorted(expected)


def test_dates_without_rows_are_not_evaluated() -> None:
    assert evaluation_dates(snapshots(USERS, [0, 60]), USERS, POLICY) == [
        LAST - pd.Timedelta(days=60)
    ]
    assert evaluation_dates(snapshots(USERS, []), USERS, POLICY) == []


@pytest.mark.parametrize("days_before", [[], [0], [0, 30, 60, 90]])
def test_too_little_data_gives_base_rates(days_before: list[int]) -> None:
    found = evaluate(snapshots(USERS, days_before), USERS, POLICY)
    assert found[["predictor", "decile", "rows_scored", "is_published"]].to_dict("records") == [
        {"predictor": "base_rate", "decile": 0, "rows_scored": 0, "is_published": True}
    ]
    assert published_of(found, USERS) is Predictor.BASE_RATE
