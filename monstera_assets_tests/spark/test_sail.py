"""Sail, another server of Spark Connect, computes the tables of the seeds as DuckDB does.

It is tested in an environment of its own (`make test-sail`), because it needs an older client.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession

from monstera_assets.definitions import table_assets, tables
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.spark_compiler import compile_spark
from monstera_assets.warehouse.spark_session import prepare_session
from monstera_assets.warehouse.tables import register
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.spark.spark_tables import SparkTables, parameters_of_first_run

pytestmark = pytest.mark.sail

POLICY = LifecyclePolicy()
TABLES = {table.name: table for table in tables()}
ASSETS = {asset.table.name: asset for asset in table_assets() if asset.is_query}

_NULLABLE = (
    "Physical input schema should be the same as the one converted from logical input schema"
)
ERRORS = {
    "gold_recommendation_evaluation": "LambdaVariable field and schema field mismatch",
    "gold_revenue_by_tier": _NULLABLE,
    "gold_revenue_metrics": _NULLABLE,
}
"""The tables that Sail does not compute, each with the beginning of the error."""


@pytest.fixture(scope="module")
def seeds(seeds_run: SeedsRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkTables]:
    """The tables of the seeds in a Sail server of this process."""
    server = SparkConnectServer(ip="127.0.0.1", port=0)
    server.start(background=True)
    _, port = server.listening_address
    session = prepare_session(SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create())
    for table in TABLES.values():
        register(table)
    with duckdb.connect(str(seeds_run.outcome.database), read_only=True) as warehouse:
        loaded = SparkTables(session, warehouse, tmp_path_factory.mktemp("sail"))
        loaded.load(list(TABLES.values()))
        yield loaded
    session.stop()
    server.stop()


@pytest.mark.parametrize("name", ASSETS)
def test_a_table_is_the_same_or_has_a_known_error(name: str, seeds: SparkTables) -> None:
    """A listed table without its error fails this test, and so does any other that differs."""
    asset = ASSETS[name]
    query = compile_spark(asset.rows(TABLES, POLICY, assets=ASSETS))
    parameters = parameters_of_first_run(asset, TABLES, SEEDS_DAYS)
    if name in ERRORS:
        with pytest.raises(Exception, match=ERRORS[name]):
            seeds.differences(asset.table, query, parameters)
    else:
        assert seeds.differences(asset.table, query, parameters) == {}


def test_all_tables_with_errors_are_tables() -> None:
    assert ERRORS.keys() <= ASSETS.keys()
