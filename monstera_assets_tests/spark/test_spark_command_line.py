"""Commands on a Spark standalone cluster, with the settings in a file."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from monstera_assets.synthetic import DEFAULT_END
from monstera_assets_tests.helpers.command_line import monstera
from monstera_assets_tests.spark.cluster import Cluster
from monstera_assets_tests.spark.spark_graph import SparkGraph, differences

pytestmark = pytest.mark.spark

DAYS = 14
SETTINGS = """
engine = "spark"
spark_remote = "{remote}"
warehouse = "file://{folder}/iceberg"

[catalog]
type = "sql"
uri = "sqlite:///{folder}/catalog.db"
"""


def test_a_warehouse_moves_to_spark_and_back(cluster: Cluster, tmp_path: Path) -> None:
    source, folder, expected = (tmp_path / name for name in ("source", "home", "expected.duckdb"))
    generated = ("generate", "--users", "60", "--days", str(DAYS), "--output", str(source))
    assert monstera(tmp_path, *generated, source=None).code == 0
    on_duckdb = monstera(folder, "run", source=source)
    assert on_duckdb.code == 0, on_duckdb.err
    shutil.copy(on_duckdb.database, expected)

    settings = folder / "monstera.toml"
    settings.write_text(SETTINGS.format(remote=cluster.remote, folder=on_duckdb.database.parent))
    refused = monstera(folder, "run", source=source)
    assert refused.code == 2
    assert "engine was duckdb and is now spark" in refused.err
    assert refused.tables == on_duckdb.tables

    moved = monstera(folder, "run", "--rebuild", source=source)
    assert moved.code == 0, moved.out + moved.err
    first = DEFAULT_END - timedelta(days=DAYS - 1)
    graph = SparkGraph(source, moved.database, tmp_path / "log", first, remote=cluster.remote)
    assert differences(graph, str(expected)) == {}

    settings.unlink()
    back = monstera(folder, "run", "--rebuild", source=source)
    assert back.code == 0, back.err
    assert back.tables == on_duckdb.tables
