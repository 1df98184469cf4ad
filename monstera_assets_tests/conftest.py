"""What many tests share: a database built once from the seeds."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import Graph, SeedsRun

SEEDS = Path(__file__).parents[1] / "seeds"
SEEDS_DAYS = DateWindow(date(2024, 7, 1), date(2025, 6, 30))


@pytest.fixture(scope="session")
def seeds_run(tmp_path_factory: pytest.TempPathFactory) -> SeedsRun:
    """All assets and checks over all days of the seeds, in one run; copy the database to change it."""
    folder = tmp_path_factory.mktemp("seeds_run")
    graph = Graph(SEEDS, folder / "warehouse.duckdb", folder / "home", SEEDS_DAYS.first)
    with graph.instance:
        result = graph.run(SEEDS_DAYS)
        materializations = tuple(
            event.step_materialization_data.materialization
            for event in result.get_asset_materialization_events()
        )
    return SeedsRun(
        graph.database,
        SEEDS_DAYS,
        result.success,
        tuple(result.get_asset_check_evaluations()),
        materializations,
    )
