"""Fixtures for tests of Iceberg tables and Spark, which need the extra `spark` (`make test-spark`)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from monstera_assets_tests.helpers.postgres import new_database, postgres_server

if TYPE_CHECKING:
    from monstera_assets_tests.spark.cluster import Cluster

collect_ignore_glob = [
    *([] if find_spec("pyiceberg") else ["test_[!s]*.py", "test_spark*.py"]),
    *([] if find_spec("pysail") else ["test_sail.py"]),
]


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


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Spark standalone cluster."""
    from monstera_assets_tests.spark.cluster import standalone_cluster

    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="session")
def spark(cluster: Cluster) -> Iterator[Any]:
    """A session on the cluster."""
    from monstera_assets.warehouse.spark_session import connect_spark

    session = connect_spark(cluster.remote)
    yield session
    session.stop()
