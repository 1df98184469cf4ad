"""A small made-up company through the whole graph: no row rejected, no rule broken."""

from __future__ import annotations

import dagster as dg
import duckdb
import pytest

from monstera_assets.definitions import rules
from monstera_assets.gold import alerting
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import Generated, generate
from monstera_assets.warehouse.windows import DateWindow
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
    """But for alarms on change, which chance alone sets off among so few people."""
    _, _, result = loaded
    assert result.success
    alarms = {rule.name for rule in rules() if rule.function.__module__ == alerting.__name__}
    evaluations = result.get_asset_check_evaluations()
    assert {each.check_name for each in evaluations if not each.passed} <= alarms
    assert len(evaluations) - len(alarms) > 200
