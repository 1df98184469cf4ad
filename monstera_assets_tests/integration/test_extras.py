"""Without the extra `predict`, predictions are absent by declaration, and the rest is unchanged."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import duckdb
import pytest

from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.model import Unavailable
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.risk_page import risk_page
from monstera_assets.definitions import (
    build_definitions,
    metric_tables,
    rules,
    table_query,
    tables,
)
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.warehouse.extras import is_installed
from monstera_assets_tests.helpers.command_line import SEEDS, in_this_process
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOT = Path(__file__).parents[2]
PREDICTIONS = {
    "silver_user_churn_features",
    "silver_account_churn_features",
    "gold_churn_model_evaluation",
    "gold_user_churn_scores",
    "gold_account_churn_scores",
    "gold_product_recommendations",
    "gold_recommendation_evaluation",
}
INSTALL = "pip install 'monstera-assets[predict]'"


@pytest.fixture
def without_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Python treat scikit-learn as not installed, although other tests may have imported it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError):
        import sklearn  # noqa: F401


def names_in_the_graph(settings: Settings) -> tuple[set[str], dict[str, set[str]]]:
    """Return the names of the graph's assets, and the names of each asset's checks."""
    graph = build_definitions(settings).resolve_asset_graph()
    # An asset that only others depend on is not materializable.
    assert graph.get_all_asset_keys() == graph.materializable_asset_keys
    checks: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        checks.setdefault(key.asset_key.path[-1], set()).add(key.name)
    return {key.path[-1] for key in graph.get_all_asset_keys()}, checks


def test_predictions_and_their_checks_are_absent(request: pytest.FixtureRequest) -> None:
    settings = Settings(source=SEEDS)
    names, checks = names_in_the_graph(settings)
    declared = {table.name for table in tables(settings)}
    assert names > PREDICTIONS
    assert {*checks} >= PREDICTIONS
    request.getfixturevalue("without_predict")
    fewer, checks_left = names_in_the_graph(settings)
    assert names - fewer == PREDICTIONS
    assert not fewer - names
    assert declared - {table.name for table in tables(settings)} == PREDICTIONS
    # Every other table keeps all of its checks.
    assert checks_left == {name: found for name, found in checks.items() if name in fewer}
    read = {name for rule in rules(settings) for name in rule.inputs}
    assert not read & PREDICTIONS


@pytest.mark.usefixtures("without_predict")
def test_accounts_needing_attention_have_no_risk(seeds_run: SeedsRun) -> None:
    query = table_query("gold_accounts_needing_attention", Settings(source=SEEDS)).select
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        shown = "account_id, why, churn_probability, risk_band, health_change_30, users_scored"
        found = connection.execute(f"SELECT {shown} FROM ({query}) ORDER BY ALL").fetchall()
        # The stored table also lists accounts because of their risk.
        expected = connection.execute(
            "SELECT account_id, replace(current_state, '_', ' ') || ': ' || state_reason, NULL, NULL,"
            " NULL, 0 FROM silver.silver_account_current_state"
            " WHERE current_state IN ('at_risk', 'contracting', 'frozen') ORDER BY ALL"
        ).fetchall()
    assert expected
    assert found == expected


@pytest.mark.usefixtures("without_predict")
def test_the_risk_page_says_how_to_install_the_extra(seeds_run: SeedsRun) -> None:
    # The warehouse still has the tables of a run with the extra, which no run updates any more.
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        page = risk_page(Reader(connection, metric_tables(), Wording("USD", 30)))
    reasons = {
        section.heading: [
            isinstance(item, Unavailable) and INSTALL in item.reason for item in section.items
        ]
        for section in page.sections
    }
    predicted = {"Churn risk", "At high risk", "Accuracy on past dates"}
    assert {heading for heading, found in reasons.items() if found and all(found)} == predicted
    assert not any(reasons["Anomalies"])


@pytest.mark.usefixtures("without_predict")
def test_commands_that_need_a_prediction_say_how_to_install_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=re.escape(INSTALL)):
        table_query("gold_user_churn_scores", Settings(source=SEEDS))
    (tmp_path / "data").mkdir()
    duckdb.connect(tmp_path / "data" / "monstera.duckdb").close()
    for table in PREDICTIONS:
        done = in_this_process(monkeypatch, tmp_path, "export", "--table", table)
        assert done.code == 2
        assert table in done.err
        assert INSTALL in done.err


def test_the_extra_is_declared_apart_from_what_every_installation_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert [re.split("[<>=]", one)[0] for one in extras["predict"]] == ["scikit-learn"]
    assert not any(one.startswith("scikit") for one in project["dependencies"])
    # The lock file and `make setup` contain what `dev` lists.
    assert {*extras["predict"], *extras["postgres"]} <= {*extras["dev"]}
    assert is_installed("predict")
