"""How well churn was foretold: models of earlier dates, judged on what came later.

For each evaluation date a model learns from dates so much earlier that all outcomes that it saw were
known by then. Model, baseline and base rate are compared on the same rows; what is best by that is
published.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import pandas as pd

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.churn_model import (
    Learned,
    are_enough,
    has_both,
    in_order,
    learn,
    one_thread,
)
from monstera_assets.prediction.design import Floats
from monstera_assets.prediction.snapshots import STEP_DAYS
from monstera_assets.prediction.targets import Target

DECILES = 10
_TOP_SHARE = 0.1


class Predictor(StrEnum):
    """What a probability comes from, best first."""

    MODEL = "model"
    BASELINE = "baseline"
    BASE_RATE = "base_rate"


@dataclass(frozen=True)
class Foretold:
    """What was foretold as of one date.

    Attributes:
        date: the evaluation date.
        rows: features and outcomes of that date, in order.
        learned: what was learned from earlier dates.
        chances: the probability of each row, by each predictor that there was enough for.
    """

    date: pd.Timestamp
    rows: pd.DataFrame
    learned: Learned
    chances: Mapping[Predictor, Floats]

    @property
    def churned(self) -> Floats:
        """The outcomes: 1 of who churned, else 0."""
        return self.rows["churned"].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class Figures:
    """How well some rows were foretold; what takes both outcomes is None without them."""

    rows_scored: int
    rows_churned: int
    predicted_share: float | None
    observed_share: float | None
    auc: float | None = None
    brier_score: float | None = None
    log_loss: float | None = None
    top_tenth_lift: float | None = None


def as_of_of(features: pd.DataFrame) -> pd.Timestamp | None:
    """The as-of date of features; None without any."""
    return None if features.empty else features["as_of_date"].max()


def training_rows(
    features: pd.DataFrame, date: pd.Timestamp, target: Target, policy: ChurnPolicy
) -> pd.DataFrame:
    """The rows that a model as of a date learns from: of outcomes that were known by then."""
    last = date - pd.Timedelta(days=target.horizon_days)
    first = last - pd.Timedelta(days=STEP_DAYS * (policy.training_dates - 1))
    return features[features["snapshot_date"].between(first, last)]


def foretell(
    features: pd.DataFrame, date: pd.Timestamp, target: Target, policy: ChurnPolicy
) -> Foretold:
    """Learn from what was known by a date, and score the rows of that date."""
    learned = learn(training_rows(features, date, target, policy), target, policy)
    rows = in_order(features[features["snapshot_date"] == date], target)
    chances: dict[Predictor, Floats] = {}
    if learned.model is not None and learned.baseline is not None:
        chances[Predictor.MODEL] = learned.model.predict(rows)
        chances[Predictor.BASELINE] = learned.baseline.predict(rows)
    if learned.base_rate is not None:
        chances[Predictor.BASE_RATE] = np.full(len(rows), learned.base_rate)
    return Foretold(date, rows, learned, chances)


def evaluation_dates(
    features: pd.DataFrame, target: Target, policy: ChurnPolicy
) -> list[pd.Timestamp]:
    """The latest dates whose outcomes are known, in order."""
    as_of = as_of_of(features)
    if as_of is None:
        return []
    steps = range(target.horizon_steps, target.horizon_steps + policy.evaluation_dates)
    dates = [as_of - pd.Timedelta(days=STEP_DAYS * step) for step in reversed(steps)]
    return [date for date in dates if (features["snapshot_date"] == date).any()]


def evaluate(features: pd.DataFrame, target: Target, policy: ChurnPolicy) -> pd.DataFrame:
    """The rows of `gold_churn_model_evaluation` for users or accounts.

    Dates for which there was too little to learn from are left out: all predictors are compared on
    the same rows.
    """
    foretold = _of_dates(features, target, policy)
    pooled = {
        predictor: np.concatenate([each.chances[predictor] for each in foretold])
        for predictor in Predictor
        if foretold
    }
    outcomes = np.concatenate([each.churned for each in foretold]) if foretold else np.empty(0)
    overall = {
        predictor: judged(outcomes, pooled.get(predictor, np.empty(0))) for predictor in Predictor
    }
    published = best_of(overall, has_both(outcomes, policy))
    rows: list[dict[str, object]] = []
    for predictor in Predictor:
        if predictor in pooled or predictor is published:
            training = _training_of(foretold)
            rows += _rows_of(
                predictor, None, outcomes, pooled.get(predictor, np.empty(0)), training
            )
        for each in foretold:
            training = _training_of([each])
            rows += _rows_of(predictor, each.date, each.churned, each.chances[predictor], training)
    found = pd.DataFrame(rows)
    found["entity"] = target.entity
    found["is_published"] = found["predictor"] == str(published)
    found["model_version"] = target.model_version
    found["as_of_date"] = as_of_of(features)
    return found


def _of_dates(features: pd.DataFrame, target: Target, policy: ChurnPolicy) -> list[Foretold]:
    """What was foretold as of each evaluation date with enough to learn from, in order."""
    dates = [
        date
        for date in evaluation_dates(features, target, policy)
        if are_enough(training_rows(features, date, target, policy), policy)
    ]
    if not dates:
        return []
    # Dates share out the cores; each of them has its one thread, for the same bits on any machine.
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(lambda date: foretell(features, date, target, policy), dates))


def best_of(overall: Mapping[Predictor, Figures], is_enough: bool) -> Predictor:
    """The predictor to publish.

    The model if it is better than the baseline on both Brier score and AUC, else the baseline; the
    base rate where there is not enough to tell.
    """
    if not is_enough:
        return Predictor.BASE_RATE
    model, baseline = overall[Predictor.MODEL], overall[Predictor.BASELINE]
    return Predictor.MODEL if is_better(model, baseline) else Predictor.BASELINE


def published_of(evaluation: pd.DataFrame, target: Target) -> Predictor:
    """The predictor that an evaluation, of the rows of `evaluate`, says to publish."""
    is_its = (evaluation["entity"] == target.entity) & evaluation["is_published"]
    return Predictor(evaluation.loc[is_its, "predictor"].iloc[0])


def is_better(model: Figures, baseline: Figures) -> bool:
    """Whether figures are better on both Brier score and AUC."""
    if model.auc is None or baseline.auc is None:
        return False
    if model.brier_score is None or baseline.brier_score is None:
        return False
    return model.auc > baseline.auc and model.brier_score < baseline.brier_score


def judged(churned: Floats, chances: Floats) -> Figures:
    """How well outcomes were foretold."""
    number, lost = len(churned), int(churned.sum())
    if number == 0:
        return Figures(0, 0, None, None)
    known = np.where(churned > 0, chances, 1.0 - chances)
    return Figures(
        rows_scored=number,
        rows_churned=lost,
        predicted_share=float(chances.mean()),
        observed_share=float(churned.mean()),
        auc=area_under_curve(churned, chances),
        brier_score=float(np.mean((chances - churned) ** 2)),
        # No chance is 0 or 1, but a base rate may be: then the loss is not finite, and not told.
        log_loss=float(-np.log(known).mean()) if known.min() > 0 else None,
        top_tenth_lift=top_lift(churned, chances),
    )


def area_under_curve(churned: Floats, chances: Floats) -> float | None:
    """The chance that somebody who churned had the higher probability than somebody who did not.

    Ties count half. None unless there are both.
    """
    number, lost = len(churned), float(churned.sum())
    if lost in (0.0, float(number)):
        return None
    ranks = pd.Series(chances).rank(method="average").to_numpy()
    above = float(ranks[churned > 0].sum()) - lost * (lost + 1) / 2
    return above / (lost * (number - lost))


def top_lift(churned: Floats, chances: Floats) -> float | None:
    """The share that churned of the tenth with the highest probability, over that of all.

    Of those tied on its border each counts in part. None if nobody churned.
    """
    if not churned.any():
        return None
    size = len(churned) * _TOP_SHARE
    border = np.sort(chances)[::-1][int(np.ceil(size)) - 1]
    above, tied = chances > border, chances == border
    part = (size - above.sum()) / tied.sum()
    lost = churned[above].sum() + part * churned[tied].sum()
    return float(lost / size / churned.mean())


def _rows_of(
    predictor: Predictor,
    date: pd.Timestamp | None,
    churned: Floats,
    chances: Floats,
    training: Mapping[str, object],
) -> Iterator[dict[str, object]]:
    about = {"predictor": str(predictor), "evaluation_date": date, **training}
    yield {**about, "decile": 0, **_values(judged(churned, chances))}
    if predictor is Predictor.BASE_RATE or len(churned) < DECILES:
        return  # one probability for all has no tenths
    by_chance = np.argsort(chances, kind="stable")
    for place, rows in enumerate(np.array_split(by_chance, DECILES)):
        part = Figures(
            rows_scored=len(rows),
            rows_churned=int(churned[rows].sum()),
            predicted_share=float(chances[rows].mean()),
            observed_share=float(churned[rows].mean()),
        )
        yield {**about, "decile": place + 1, **_values(part)}


def _values(figures: Figures) -> dict[str, object]:
    return {field.name: getattr(figures, field.name) for field in fields(Figures)}


def _training_of(foretold: list[Foretold]) -> dict[str, object]:
    """What the models of some dates learned from: from the first date to the last, of any."""
    learned = [each.learned for each in foretold]
    first = [each.first_date for each in learned if each.first_date is not None]
    last = [each.last_date for each in learned if each.last_date is not None]
    return {
        "training_first_date": min(first, default=None),
        "training_last_date": max(last, default=None),
        "training_rows": max((each.rows for each in learned), default=0),
    }
