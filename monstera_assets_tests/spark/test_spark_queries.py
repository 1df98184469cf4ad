"""Every table and rule has the same rows on Spark as on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb
import pytest

from monstera_assets.definitions import rules, table_assets, tables
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_query
from monstera_assets.warehouse.spark_compiler import compile_spark
from monstera_assets.warehouse.tables import Layer, register
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.spark.spark_tables import (
    SparkTables,
    local_spark,
    parameters_of_first_run,
)

pytestmark = pytest.mark.spark

POLICY = LifecyclePolicy()
TABLES = {table.name: table for table in tables()}
ASSETS = {asset.table.name: asset for asset in table_assets()}
RULES = {f"{rule.table.name}.{rule.name}": rule for rule in rules()}
