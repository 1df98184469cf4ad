"""A source with aliases has the silver and gold tables of the source with the ids of its users."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from monstera_assets.definitions import tables
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.inputs.random_source import DAYS, FIRST, write_random_source
from monstera_assets_tests.integration.example_runs import Graph, assert_same, computed_from

WINDOW = DateWindow(FIRST, FIRST + timedelta(days=DAYS - 1))
COMPUTED = [table.name for table in tables() if not table.name.startswith("bronze_")]


@pytest.mark.slow
def test_silver_and_gold_are_those_of_the_users(tmp_path: Path) -> None:
    contents = []
    for aliases in (True, False):
        folder = tmp_path / ("with_aliases" if aliases else "without")
        write_random_source(folder / "source", seed=5, users=24, accounts=6, aliases=aliases)
        graph = Graph(folder / "source", folder / "warehouse.duckdb", folder / "home", FIRST)
        with graph.instance:
            assert graph.run(WINDOW, only=computed_from(COMPUTED)).success
        # Replacing an id in metadata also removes spaces.
        contents.append(graph.contents_of(COMPUTED, without=["metadata"]))
    assert_same(*contents)
