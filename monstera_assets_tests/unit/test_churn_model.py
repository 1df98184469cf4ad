"""Tests of the churn models on synthetic users whose true hazard is known."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.churn_evaluation import area_under_curve, evaluate, published_of
from monstera_assets.prediction.churn_model import Model, fit_baseline, fit_model
from monstera_assets.prediction.churn_prediction import Predictor, is_enough, predict
from monstera_assets.prediction.churn_scores import REASONS, RISK_COLUMNS, score
from monstera_assets.prediction.targets import USERS, Group, Target

POLICY = ChurnPolicy(evaluation_dates=2, training_dates=4)
LAST = pd.Timestamp("2025-06-30")
TOY = Target(
    entity="user",
    model_version="toy-1",
    horizon_steps=1,
    age="days_old",
    baseline="days_quiet",
    baseline_edges=(0, 10, 20),
    baseline_reason="quiet for {days_quiet} days",
    risk_settings=("medium_risk_from", "high_risk_from"),
    groups=(
        Group("quiet for {days_quiet} days", numbers=("days_quiet",)),
        Group("{events} events", numbers=("events",), reason_if_unknown="events not known"),
        Group("in {country}", categories=("country",)),
    ),
)


@cache
def people(is_only_quiet: bool = False, dates: int = 7, each: int = 600) -> pd.DataFrame:
    """Return synthetic users with a known hazard.

    Args:
        is_only_quiet: whether the hazard depends only on the quiet days, like the baseline.
        dates: number of snapshots.
        each: users per snapshot.
    """
    random = np.random.default_rng(11)
    number = dates * each
    rows = pd.DataFrame(
        {
            "user_id": [f"u{n % each:05}" for n in range(number)],
            "account_id": [f"a{n % each // 3:05}" for n in range(number)],
            "snapshot_date": [LAST - pd.Timedelta(days=30 * (n // each)) for n in range(number)],
            "as_of_date": LAST,
            "days_old": [500 - 30 * (n // each) + n % 7 for n in range(number)],
            "days_quiet": random.integers(0, 31, number),
            "events": random.integers(0, 200, number),
            "country": random.choice(["DE", "FR", "UK"], number),
        }
    )
    if is_only_quiet:
        rows["hazard"] = np.select([rows.days_quiet >= 20, rows.days_quiet >= 10], [0.7, 0.3], 0.05)
    else:
        logit = (
            -1
            + 0.1 * (rows.days_quiet - 15)
            - 0.8 * (np.log1p(rows.events) - 4)
            + np.where(rows.country == "FR", 1.0, 0.0)
        )
        rows["hazard"] = 1 / (1 + np.exp(-logit))
    churned = random.uniform(size=number) < rows.hazard.to_numpy()
    rows["churned"] = pd.Series(churned, dtype="boolean").mask(rows.snapshot_date >= LAST)
    return rows


def model_of(rows: pd.DataFrame) -> Model:
    model = predict(rows, LAST, TOY, POLICY).model
    assert model is not None
    return model


def scored(rows: pd.DataFrame, published: Predictor = Predictor.MODEL) -> pd.DataFrame:
    return score(rows, published, TOY, POLICY)


def test_scores_rank_and_calibrate_as_the_true_hazard_does() -> None:
    now = scored(people())
    truth = now.hazard.to_numpy()
    assert now.churn_probability.corr(now.hazard, method="spearman") > 0.98
    by_chance = np.argsort(now.churn_probability.to_numpy())
    for tenth in np.array_split(by_chance, 10):
        predicted = now.churn_probability.to_numpy()[tenth].mean()
        assert predicted == pytest.approx(truth[tenth].mean(), abs=0.04)


def test_the_model_is_better_where_more_than_one_feature_decides() -> None:
    found = evaluate(people(), TOY, POLICY)
    assert published_of(found, TOY) is Predictor.MODEL
    overall = found[found.evaluation_date.isna() & (found.decile == 0)].set_index("predictor")
    assert overall.auc["model"] > overall.auc["baseline"] + 0.05
    assert overall.brier_score["model"] < overall.brier_score["baseline"]
    assert overall.brier_score["baseline"] < overall.brier_score["base_rate"]
    assert overall.rows_scored.tolist() == [1200] * 3


def test_the_baseline_is_published_where_nothing_beats_it() -> None:
    rows = people(is_only_quiet=True, each=2000)
    found = evaluate(rows, TOY, POLICY)
    assert published_of(found, TOY) is Predictor.BASELINE
    now = scored(rows, published_of(found, TOY))
    assert set(now.score_source) == {"baseline"}
    assert now.churn_probability.nunique() == 3
    assert now.reason_1.str.fullmatch(r"quiet for \d+ days").all()
    assert now.reason_2.isna().all()


def test_tenths_hold_all_rows_in_order_of_probability() -> None:
    found = evaluate(people(), TOY, POLICY)
    tenths = found[(found.predictor == "model") & found.evaluation_date.isna() & (found.decile > 0)]
    assert tenths.decile.tolist() == list(range(1, 11))
    assert tenths.rows_scored.tolist() == [120] * 10
    assert tenths.predicted_share.is_monotonic_increasing


def test_contributions_add_up_to_the_logit() -> None:
    model = model_of(people())
    rows = people().head(50)
    logits = model.intercept + model.contributions(rows).sum(axis=1)
    np.testing.assert_allclose(model.predict(rows), 1 / (1 + np.exp(-logits)), rtol=1e-12)


def test_the_effect_of_a_reason_is_the_difference_to_the_probability_without_it() -> None:
    now = scored(people())
    model = model_of(people())
    row = now.iloc[[0]]
    parts = model.contributions(row)[0]
    heaviest = int(np.abs(parts).argmax())
    words = [
        f"quiet for {row.days_quiet.iloc[0]} days",
        f"{row.events.iloc[0]} events",
        f"in {row.country.iloc[0]}",
    ]
    assert row.reason_1.iloc[0] == words[heaviest]
    logit = math.log(row.churn_probability.iloc[0] / (1 - row.churn_probability.iloc[0]))
    without = 1 / (1 + math.exp(-(logit - parts[heaviest])))
    assert row.reason_1_effect.iloc[0] == pytest.approx(row.churn_probability.iloc[0] - without)
    assert len({row[f"reason_{n}"].iloc[0] for n in range(1, REASONS + 1)}) == REASONS


def test_reasons_are_about_the_row_whichever_groups_weigh_most() -> None:
    more = (
        Group("{days_old} days old", numbers=("days_old",)),
        Group("{days_quiet} and {events}", numbers=("days_quiet", "events")),
    )
    target = replace(TOY, groups=(*TOY.groups, *more))
    now = score(people(), Predictor.MODEL, target, POLICY)
    named: set[str] = set()
    for row in now.to_dict("records"):
        reasons = {row[f"reason_{n}"] for n in range(1, REASONS + 1)}
        possible = {group.reason: group.reason.format_map(row) for group in target.groups}
        assert len(reasons) == REASONS
        assert reasons <= set(possible.values())
        named |= {reason for reason, text in possible.items() if text in reasons}
    # Different rows have different feature groups as their reasons.
    assert len(named) > REASONS


def test_being_french_is_a_reason_that_raises_the_probability() -> None:
    now = scored(people())
    french = now[now.country == "FR"]
    effects = pd.concat(
        french.loc[french[f"reason_{n}"] == "in FR", f"reason_{n}_effect"]
        for n in range(1, REASONS + 1)
    )
    assert len(effects) == len(french)
    assert (effects > 0).all()


def test_the_same_rows_in_any_order_give_the_same_bits() -> None:
    rows = people()
    shuffled = rows.sample(frac=1, random_state=5)
    columns = ["user_id", *RISK_COLUMNS]
    pd.testing.assert_frame_equal(
        scored(rows)[columns], scored(shuffled)[columns], check_exact=True
    )
    pd.testing.assert_frame_equal(
        evaluate(rows, TOY, POLICY), evaluate(shuffled, TOY, POLICY), check_exact=True
    )


def test_the_ids_of_people_move_no_score() -> None:
    """Erasing users replaces their IDs but changes no score or figure."""
    rows = people()
    other = rows.assign(user_id=["x" + user[::-1] for user in rows.user_id])
    before, after = scored(rows), scored(other)
    before["user_id"] = ["x" + user[::-1] for user in before.user_id]
    by = ["user_id"]
    pd.testing.assert_frame_equal(
        before.sort_values(by, ignore_index=True),
        after.sort_values(by, ignore_index=True),
        check_exact=True,
    )
    pd.testing.assert_frame_equal(
        evaluate(rows, TOY, POLICY), evaluate(other, TOY, POLICY), check_exact=True
    )


_DIGEST = """
from monstera_assets_tests.unit.test_churn_model import POLICY, TOY, evaluate, people, scored
print(scored(people()).churn_probability.to_numpy().tobytes().hex()[:4000])
print(evaluate(people(), TOY, POLICY).brier_score.to_numpy().tobytes().hex())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(said) == 1


def test_dates_evaluated_side_by_side_are_as_each_alone() -> None:
    policy = ChurnPolicy(evaluation_dates=3, training_dates=3)
    found = evaluate(people(), TOY, policy)
    for date in (LAST - pd.Timedelta(days=30 * step) for step in (3, 2, 1)):
        alone = predict(people(), date, TOY, policy)
        for predictor in Predictor:
            [figures] = found[
                (found.predictor == predictor)
                & (found.evaluation_date == date)
                & (found.decile == 0)
            ].to_dict("records")
            probabilities = alone.probabilities[predictor]
            assert figures["predicted_share"] == float(probabilities.mean())
            assert figures["brier_score"] == float(np.mean((probabilities - alone.churned) ** 2))


def test_what_comes_later_moves_no_score() -> None:
    """Changes to later outcomes and rows do not change predictions."""
    rows = people()
    date = LAST - pd.Timedelta(days=30)
    before = predict(rows, date, TOY, POLICY)
    changed = rows.copy()
    later = changed.snapshot_date >= date
    changed.loc[later, "churned"] = [churned is not True for churned in changed.churned[later]]
    changed.loc[changed.snapshot_date > date, "days_quiet"] = 0
    after = predict(changed, date, TOY, POLICY)
    for predictor in Predictor:
        assert before.probabilities[predictor].tobytes() == after.probabilities[predictor].tobytes()
    # The figures of the evaluation did change.
    assert area_under_curve(
        after.churned, after.probabilities[Predictor.MODEL]
    ) != area_under_curve(before.churned, before.probabilities[Predictor.MODEL])


def test_the_baseline_is_the_share_of_each_bin_drawn_to_the_base_rate() -> None:
    rows = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(600)],
            "account_id": "acc",
            "days_old": 300,
            "snapshot_date": LAST - pd.Timedelta(days=30),
            "days_quiet": [5] * 300 + [15] * 300,
            "events": 1,
            "country": "DE",
            "churned": [True] * 30 + [False] * 270 + [True] * 150 + [False] * 150,
        }
    )
    baseline = fit_baseline(rows, rows.churned.to_numpy(dtype=np.float64), TOY)
    # 180 of 600 rows churned. Each bin gets 20 pseudo-rows at that rate.
    asked = pd.DataFrame({"days_quiet": [0, 9, 10, 19, 20, 400]})
    assert baseline(asked).tolist() == pytest.approx([36 / 320] * 2 + [156 / 320] * 2 + [0.3] * 2)


@pytest.mark.parametrize(
    ("rows", "lost", "expected"), [(500, 50, True), (499, 50, False), (500, 49, False)]
)
def test_a_model_requires_enough_training_data(rows: int, lost: int, expected: bool) -> None:
    given = people()
    known = given[given.snapshot_date < LAST].head(rows).copy()
    known["churned"] = [True] * lost + [False] * (rows - lost)
    assert is_enough(known, POLICY) is expected
    found = predict(pd.concat([known, given[given.snapshot_date == LAST]]), LAST, TOY, POLICY)
    assert (found.model is not None) is expected
    assert (Predictor.BASELINE in found.probabilities) is expected
    assert found.base_rate == pytest.approx(lost / rows)
    assert len(found.training) == rows


def test_a_model_of_one_user_is_calibrated_on_rows() -> None:
    """Grouped folds are impossible with fewer users than folds or all churn in one account."""
    rows = people()
    known = rows[rows.snapshot_date < LAST].assign(account_id="acc", days_old=300)
    churned = known.churned.to_numpy(dtype=np.float64)
    alone = fit_model(
        known[known.snapshot_date == LAST - pd.Timedelta(days=30)], churned[:600], TOY
    )
    assert 0 < alone.predict(known.head(1))[0] < 1
    in_one_account = known.assign(account_id=np.where(churned > 0, "a", "b"))
    assert 0 < fit_model(in_one_account, churned, TOY).predict(known.head(1))[0] < 1


def test_base_rates_have_neither_band_nor_reasons() -> None:
    few = people(each=20)
    now = scored(few, Predictor.BASE_RATE)
    known = few[few.snapshot_date.between(LAST - pd.Timedelta(days=120), LAST, inclusive="left")]
    assert set(now.churn_probability) == {known.churned.astype(float).mean()}
    assert set(now.score_source) == {"base_rate"}
    for column in ("risk_band", "reason_1", "reason_2", "reason_3"):
        assert now[column].isna().all()


def test_without_any_outcome_there_is_no_probability() -> None:
    rows = people()
    now = scored(rows[rows.snapshot_date == LAST], Predictor.BASE_RATE)
    assert len(now) == 600
    assert now.churn_probability.isna().all()
    assert set(now.score_source) == {"base_rate"}
    assert set(now.training_rows) == {0}


def test_scoring_no_rows_returns_no_rows() -> None:
    none = scored(people().head(0), Predictor.BASE_RATE)
    assert len(none) == 0
    assert set(RISK_COLUMNS) <= set(none.columns)


def test_bands_begin_at_their_thresholds() -> None:
    now = scored(people())
    for band, least, most in (("low", 0, 0.25), ("medium", 0.25, 0.5), ("high", 0.5, 1)):
        chances = now.churn_probability[now.risk_band == band]
        assert len(chances)
        assert chances.between(least, most, inclusive="left").all()


def test_missing_and_unseen_values_have_a_place() -> None:
    rows = people().copy()
    rows["events"] = rows.events.astype("float64").where(rows.index % 10 > 0)
    now = scored(rows)
    assert now.churn_probability.notna().all()
    unknown = now[now.events.isna()]
    assert (unknown[["reason_1", "reason_2", "reason_3"]] == "events not known").any(axis=1).all()
    model = model_of(rows)
    odd = rows.head(1).assign(country="XX", events=1e9, days_quiet=10_000)
    most = rows.head(1).assign(country="XX", events=199, days_quiet=30)
    assert model.predict(odd) == pytest.approx(model.predict(most))


def test_features_that_never_vary_add_nothing() -> None:
    rows = people().assign(country="DE", events=np.nan)
    model = model_of(rows)
    parts = model.contributions(rows.head(50))
    assert (np.abs(parts[:, 0]) > 0).all()
    assert parts[:, 1:].tolist() == [[0.0, 0.0]] * 50


def test_every_feature_of_users_is_in_a_group() -> None:
    from monstera_assets.silver.silver_user_churn_features import TABLE

    about = {"user_id", "account_id", "snapshot_date", "as_of_date", "churned"}
    assert set(USERS.features) == {column.name for column in TABLE.columns} - about
