"""Integration tests of churn predictions: literal counts, no use of later data, and true hazards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from monstera_assets.definitions import tables
from monstera_assets.lifecycle.policy import ChurnPolicy, LifecyclePolicy
from monstera_assets.prediction.churn_prediction import Predictor, predict
from monstera_assets.prediction.targets import USERS
from monstera_assets.silver.silver_user_churn_features import silver_user_churn_features
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import Graph

COMPANY = Company(users=300, days=240)
POLICY = LifecyclePolicy(
    churn=ChurnPolicy(evaluation_dates=2, training_dates=3, min_training_rows=60, min_outcomes=10)
)
EARLIER = COMPANY.end - timedelta(days=30)
CHURN = (
    "silver_user_churn_features",
    "silver_account_churn_features",
    "gold_churn_model_evaluation",
    "gold_user_churn_scores",
    "gold_account_churn_scores",
    "gold_accounts_needing_attention",
)
TABLES = {table.name: table for table in tables()}


def _run(folder: Path, source: Path, last: date) -> Graph:
    graph = Graph(source, folder / "w.duckdb", folder / "home", COMPANY.first, POLICY)
    return graph.compute(CHURN, last)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(COMPANY, tmp_path_factory.mktemp("churn") / "source").folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Graph:
    return _run(tmp_path_factory.mktemp("churn_run"), source, COMPANY.end)


@pytest.fixture
def connection(graph: Graph) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(graph.database)) as connection:
        connection.execute("BEGIN TRANSACTION")
        yield connection
        connection.execute("ROLLBACK")


def features(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    asset = silver_user_churn_features
    rows = asset(*(TABLES[name].relation for name in asset.inputs), policy=POLICY)
    return connection.execute(compile_duckdb(rows)).fetchdf()


def test_features_are_what_a_literal_count_says(graph: Graph) -> None:
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        stored = connection.execute(
            "SELECT user_id, snapshot_date, days_since_signup, days_quiet, active_days_7,"
            " active_days_90, active_days_missed, churned FROM silver.silver_user_churn_features"
        ).fetchall()
        active: dict[str, set[date]] = {}
        for user, day in connection.execute(
            "SELECT DISTINCT entity_id, event_date FROM bronze.bronze_events"
            " WHERE is_qualifying_event AND entity_type = 'user'"
        ).fetchall():
            active.setdefault(user, set()).add(day)
    assert len({day for _, day, *_ in stored}) == 1 + 2 + 3
    for user, day, age, quiet, last_7, last_90, missed, churned in stored:
        before = sorted(used for used in active[user] if used <= day)
        assert quiet == (day - before[-1]).days <= 30
        assert last_7 == sum((day - used).days < 7 for used in before)
        assert last_90 == sum((day - used).days < 90 for used in before)
        assert missed == pytest.approx(quiet * last_90 / min(90, age + 1))
        later = [used for used in active[user] if 0 < (used - day).days <= 30]
        assert churned == (None if day == COMPANY.end else not later)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM {table} WHERE {day} > '{earlier}' AND user_id LIKE '%7'",
        "UPDATE silver.silver_user_state_history SET days_since_last_qualifying_event = 0,"
        " activity_state = 'active' WHERE snapshot_date > '{earlier}'",
        "UPDATE silver.silver_user_segment_history SET events_30 = 1000, active_days_30 = 30"
        " WHERE snapshot_date > '{earlier}'",
        "UPDATE silver.silver_account_state_history SET health_score = 0"
        " WHERE snapshot_date > '{earlier}'",
        "UPDATE silver.silver_daily_user_activity SET qualifying_events = 0"
        " WHERE activity_date > '{earlier}'",
    ],
)
def test_another_future_moves_no_score(connection: duckdb.DuckDBPyConnection, change: str) -> None:
    """Changes to later data leave the predictions as of a day bit-for-bit identical."""
    day = pd.Timestamp(EARLIER)
    before = features(connection)
    predicted = predict(before, day, USERS, POLICY.churn)
    connection.execute(
        change.format(
            table="silver.silver_daily_user_activity", day="activity_date", earlier=EARLIER
        )
    )
    after = features(connection)
    predicted_after = predict(after, day, USERS, POLICY.churn)
    assert set(predicted.probabilities) == set(Predictor)
    assert predicted.rows.user_id.tolist() == predicted_after.rows.user_id.tolist()
    for predictor, chances in predicted.probabilities.items():
        assert chances.tobytes() == predicted_after.probabilities[predictor].tobytes()
    by = ["snapshot_date", "user_id"]
    changed = before.sort_values(by).to_csv() != after.sort_values(by).to_csv()
    assert changed, "The change does not affect the input."


def test_a_run_that_ends_earlier_publishes_what_the_later_one_evaluates(
    graph: Graph, source: Path, tmp_path: Path
) -> None:
    """Compare a run that never loaded later events with a run that ends 30 days later."""
    earlier = _run(tmp_path, source, EARLIER)
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        predicted = predict(features(connection), pd.Timestamp(EARLIER), USERS, POLICY.churn)
    with duckdb.connect(str(earlier.database), read_only=True) as connection:
        published = connection.execute(
            "SELECT user_id, churn_probability, score_source FROM gold.gold_user_churn_scores"
            " ORDER BY user_id"
        ).fetchall()
    [source_of_all] = {source for *_, source in published}
    chances = predicted.probabilities[Predictor(source_of_all)]
    assert [(user, chance) for user, chance, _ in published] == sorted(
        zip(predicted.rows.user_id, chances.tolist(), strict=True)
    )


def test_computed_again_the_tables_are_the_same_bit_for_bit(graph: Graph) -> None:
    first = graph.contents_of(CHURN)
    assert all(first.values())
    with graph.instance:
        assert graph.run(only=CHURN).success
    again = graph.contents_of(CHURN)
    assert {name: repr(rows) for name, rows in again.items()} == {
        name: repr(rows) for name, rows in first.items()
    }


def test_all_predictors_were_evaluated(graph: Graph) -> None:
    """The tests above cover more than base rates."""
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        found = connection.execute(
            "SELECT DISTINCT predictor FROM gold.gold_churn_model_evaluation WHERE entity = 'user'"
        ).fetchall()
    assert {predictor for (predictor,) in found} == set(map(str, Predictor))


@pytest.mark.slow
def test_scores_rank_and_calibrate_as_the_true_hazards_do(tmp_path: Path) -> None:
    """The company of docs/explanation/churn.md: 3,000 users over 78 weeks with known hazards."""
    company = Company(users=3000, days=546)
    made = generate(company, tmp_path / "source", with_truth=True)
    graph = Graph(made.folder, tmp_path / "w.duckdb", tmp_path / "home", company.first)
    with graph.instance:
        assert graph.run(DateWindow(company.first, company.end)).success
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        rows = connection.execute(
            "SELECT scores.user_id, churn_probability AS chance, days_quiet,"
            " no_use_30_days_probability AS truth"
            " FROM gold.gold_user_churn_scores AS scores"
            f" JOIN '{made.folder}/truth/user_hazards.parquet' AS truth"
            " ON truth.user_id = scores.user_id AND truth.date = scores.as_of_date"
            " JOIN silver.silver_user_churn_features AS features"
            " ON features.user_id = scores.user_id AND features.snapshot_date = scores.as_of_date"
            " ORDER BY scores.user_id"
        ).fetchdf()
        predicted = connection.execute("FROM silver.silver_user_churn_features").fetchdf()
        overall = connection.execute(
            "SELECT predictor, auc, brier_score FROM gold.gold_churn_model_evaluation"
            " WHERE entity = 'user' AND evaluation_date IS NULL AND decile = 0"
        ).fetchall()
    now = predict(predicted, pd.Timestamp(company.end), USERS, ChurnPolicy())
    by_user = dict(zip(now.rows.user_id, now.probabilities[Predictor.BASELINE], strict=True))
    rows["baseline"] = rows.user_id.map(by_user)
    assert len(rows) > 1000
    rank = rows.chance.corr(rows.truth, method="spearman")
    assert rank > 0.75
    assert rank > rows.days_quiet.corr(rows.truth, method="spearman")
    assert rows.chance.mean() == pytest.approx(rows.truth.mean(), abs=0.02)
    for tenth in np.array_split(np.argsort(rows.chance.to_numpy(), kind="stable"), 10):
        assert rows.chance[tenth].mean() == pytest.approx(rows.truth[tenth].mean(), abs=0.07)
    # The expected Brier score is lowest for the true probability.
    expected = {name: _expected_brier(rows[name], rows.truth) for name in ("chance", "baseline")}
    assert _expected_brier(rows.truth, rows.truth) < expected["chance"] < expected["baseline"]
    figures = {predictor: (auc, brier) for predictor, auc, brier in overall}
    assert figures["model"][0] > figures["baseline"][0] + 0.02
    assert figures["model"][1] < figures["baseline"][1] < figures["base_rate"][1]


def _expected_brier(chance: pd.Series[float], truth: pd.Series[float]) -> float:
    return float(((chance - truth) ** 2 + truth * (1 - truth)).mean())
