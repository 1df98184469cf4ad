"""Test that a small synthetic company causes no rejected rows and no failed checks."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from monstera_assets.definitions import metric_tables, rules
from monstera_assets.gold import alerting
from monstera_assets.lifecycle.states import AccountState, ProductState, UserState
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import Generated, generate
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.metric_bounds import out_of_bounds
from monstera_assets_tests.integration.example_runs import Graph

COMPANY = Company(users=60, days=120)


@pytest.fixture(scope="module")
def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Generated, Graph, dg.ExecuteInProcessResult]:
    folder = tmp_path_factory.mktemp("synthetic")
    source = generate(COMPANY, folder / "source")
    graph = Graph(source.folder, folder / "w.duckdb", folder / "home", COMPANY.first)
    with graph.instance:
        return source, graph, graph.run(DateWindow(COMPANY.first, COMPANY.end))


def test_no_row_is_rejected(
    loaded: tuple[Generated, Graph, dg.ExecuteInProcessResult],
) -> None:
    source, graph, _ = loaded
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        for name, rows in source.rows.items():
            count = connection.execute(f"SELECT count(*) FROM bronze.bronze_{name}").fetchall()
            assert count == [(rows,)], name
        for name in ("bronze_rejected_events", "bronze_rejected_entities"):
            assert connection.execute(f"SELECT * FROM bronze.{name}").fetchall() == []


def test_every_check_passes(
    loaded: tuple[Generated, Graph, dg.ExecuteInProcessResult],
) -> None:
    """Alerts on changes are excluded, because they can fail by chance with few people."""
    _, _, result = loaded
    assert result.success
    alerts = {rule.name for rule in rules() if rule.function.__module__ == alerting.__name__}
    evaluations = result.get_asset_check_evaluations()
    assert {each.check_name for each in evaluations if not each.passed} <= alerts
    assert len(evaluations) - len(alerts) > 200


def test_metrics_are_within_their_bounds(
    loaded: tuple[Generated, Graph, dg.ExecuteInProcessResult],
) -> None:
    _, graph, _ = loaded
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        found = {table.name: out_of_bounds(connection, table) for table in metric_tables()}
    assert {name: columns for name, columns in found.items() if columns} == {}


@pytest.mark.slow
def test_the_default_company_has_every_state_on_its_last_day_and_no_alert(tmp_path: Path) -> None:
    """The claims about the default seed in docs/reference/synthetic.md hold."""
    company = Company()
    source = generate(company, tmp_path / "source")
    graph = Graph(source.folder, tmp_path / "w.duckdb", tmp_path / "home", company.first)
    with graph.instance:
        result = graph.run(DateWindow(company.first, company.end))
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert [each.check_name for each in evaluations if not each.passed] == []
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        for table, column, states in (
            ("silver_user_current_state", "platform_state", UserState),
            ("silver_user_product_states", "current_state", ProductState),
            ("silver_account_current_state", "current_state", AccountState),
        ):
            found = connection.execute(f"SELECT DISTINCT {column} FROM silver.{table}").fetchall()
            assert {state for (state,) in found} == set(map(str, states)), table
        [(monthly, stickiness, signed_up)] = connection.execute(
            "SELECT users_active_monthly, users_active_stickiness_monthly,"
            " (SELECT count(*) FROM bronze.bronze_users)"
            " FROM gold.gold_overall_metrics WHERE is_current_day"
        ).fetchall()
    assert signed_up == company.users
    assert 0.35 <= monthly / signed_up <= 0.60
    assert 0.15 <= stickiness <= 0.30
