"""Fixtures shared by many tests: a database built once from the seeds."""

from __future__ import annotations

import gc
import os
from datetime import date

import pytest

from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.command_line import monstera
from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.shared import Shared

SEEDS_DAYS = DateWindow(date(2024, 7, 1), date(2025, 6, 30))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Return the folder shared by all workers of the session."""
    folder = tmp_path_factory.getbasetemp()
    return Shared((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shared")


@pytest.fixture(scope="session", autouse=True)
def _queries_compiled_once(shared: Shared) -> None:
    """Cache compiled queries in the session's folder, for all workers and their processes."""
    os.environ["XDG_CACHE_HOME"] = str(shared.folder / "cache")


@pytest.fixture(scope="session")
def seeds_run(shared: Shared) -> SeedsRun:
    """Return one run of all assets, checks and days of the seeds; copy the database to change it."""
    return shared.once("seeds_run", lambda folder: SeedsRun.of(monstera(folder, "run"), SEEDS_DAYS))


def pytest_collection_finish() -> None:
    """Exclude imported and collected objects from garbage collection, because they all stay."""
    gc.collect()
    gc.freeze()
