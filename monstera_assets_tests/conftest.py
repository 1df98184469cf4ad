"""Fixtures shared by many tests: a database built once from the seeds."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from datetime import date
from pathlib import Path

import pytest

from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import monstera
from monstera_assets_tests.helpers.shared import Shared
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOM = 8 * 2**30
"""Bytes, several times what the tests were seen to use at a time."""

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


def pytest_configure() -> None:
    """Keep temporary files in memory, if there is room and the user has not chosen a folder.

    The tests wait for many small writes. On a disk that needs 5 ms for one, the tests of alerts took 90
    seconds instead of 40.
    """
    memory = Path("/dev/shm")  # noqa: S108  # pytest creates a private folder in it
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


def pytest_collection_finish() -> None:
    """Exclude imported and collected objects from garbage collection, because they all stay."""
    gc.collect()
    gc.freeze()
