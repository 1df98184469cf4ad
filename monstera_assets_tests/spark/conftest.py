"""Fixtures for tests of Iceberg tables, which need the extra `spark` (`make test-spark`)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from monstera_assets_tests.helpers.postgres import new_database, postgres_server

collect_ignore_glob = [] if find_spec("pyiceberg") else ["test_*.py"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """A PostgreSQL server."""
    with postgres_server() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty catalog database, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    return new_database(request.getfixturevalue("postgres"))
