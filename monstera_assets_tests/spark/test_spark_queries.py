"""Every table and rule has the same rows on Spark as on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import duckdb
import pytest

from monstera_assets.definitions import rules, table_assets, tables
from monstera_assets.lifecycle.expressions import window_parameters
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_query
from monstera_assets.warehouse.spark_compiler import compile_spark
from monstera_assets.warehouse.tables import Layer, register
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.integration.example_runs import SeedsRun

pytest.importorskip("pyspark", reason="needs the extra spark")

from monstera_assets_tests.spark.spark_tables import (
    SparkTables,
    parameters_of_first_run,
)

pytestmark = pytest.mark.spark

POLICY = LifecyclePolicy()
TABLES = {table.name: table for table in tables()}
ASSETS = {asset.table.name: asset for asset in table_assets() if asset.is_query}
RULES = {f"{rule.table.name}.{rule.name}": rule for rule in rules()}


@pytest.fixture(scope="module")
def seeds(
    seeds_run: SeedsRun, spark: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SparkTables]:
    """The tables of the seeds in Spark."""
    folder = tmp_path_factory.mktemp("spark")
    for table in TABLES.values():
        register(table)
    database = str(seeds_run.outcome.database)
    with duckdb.connect(database, read_only=True) as warehouse:
        loaded = SparkTables(spark, warehouse, folder)
        loaded.load(list(TABLES.values()))
        yield loaded


@pytest.fixture(scope="module")
def damaged(seeds: SparkTables, tmp_path_factory: pytest.TempPathFactory) -> SparkTables:
    """The tables of the seeds without a seventh of the rows, so that many rules find something."""
    folder = tmp_path_factory.mktemp("damaged")
    warehouse = duckdb.connect(config={"threads": 1})
    for layer in (*Layer, "operations"):
        warehouse.execute(f"CREATE SCHEMA {layer}")
    for path in seeds.folder.glob("*.parquet"):
        if path.is_file():
            schema = "operations" if path.stem not in TABLES else TABLES[path.stem].schema
            kept = "true" if schema == "operations" else "file_row_number % 7 <> 3"
            warehouse.execute(
                f"CREATE TABLE {schema}.{path.stem} AS SELECT * EXCLUDE (file_row_number) FROM"
                f" read_parquet('{path}', file_row_number = true) WHERE {kept}"
            )
    loaded = SparkTables(seeds.spark, warehouse, folder)
    loaded.load(list(TABLES.values()))
    return loaded


@pytest.mark.parametrize("name", ASSETS)
def test_a_table_is_the_same(name: str, seeds: SparkTables) -> None:
    asset = ASSETS[name]
    # A first run computes the days before the first partition, so these are the longest queries.
    query = compile_spark(asset.rows(TABLES, POLICY, assets=ASSETS))
    parameters = parameters_of_first_run(asset, TABLES, SEEDS_DAYS)
    assert seeds.differences(asset.table, query, parameters) == {}


def test_a_difference_is_found(seeds: SparkTables) -> None:
    """Another threshold gives other states, so the comparison can fail."""
    asset = ASSETS["silver_user_state_intervals"]
    query = compile_spark(asset.rows(TABLES, LifecyclePolicy(active_days=29), assets=ASSETS))
    parameters = parameters_of_first_run(asset, TABLES, SEEDS_DAYS)
    assert seeds.differences(asset.table, query, parameters) != {}


def test_the_rules_find_the_same(damaged: SparkTables) -> None:
    found, differing = {}, {}
    for name, rule in RULES.items():
        rows = rule.rows([TABLES[table].relation for table in rule.inputs], POLICY)
        found[name], different = damaged.findings(
            name, compile_query(rows), compile_spark(rows), _all_days()
        )
        if different:
            differing[name] = different
    assert differing == {}
    assert sum(rows > 0 for rows in found.values()) > len(RULES) / 4


def _all_days() -> Mapping[str, date]:
    return dict(zip(window_parameters(), (SEEDS_DAYS.first, SEEDS_DAYS.last), strict=True))
