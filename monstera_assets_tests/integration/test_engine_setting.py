"""Test the choice of the engine: the settings, and what the default installation imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monstera_assets.definitions import build_definitions
from monstera_assets.settings import SettingsError, load_settings
from monstera_assets.warehouse import extras
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.recorded_settings import ChangedSettingsError, require_same_settings
from monstera_assets_tests.helpers.command_line import monstera

SPARK = """
engine = "spark"
spark_remote = "sc://127.0.0.1:{port}"
warehouse = "{warehouse}"

[catalog]
type = "sql"
uri = "sqlite:///catalog.db"
"""


def configure(folder: Path, port: int = 1, warehouse: str = "file:///data") -> None:
    (folder / "monstera.toml").write_text(SPARK.format(port=port, warehouse=warehouse))


def test_the_default_engine_imports_nothing_of_spark(tmp_path: Path) -> None:
    names = ("pyspark", "pyiceberg", "grpc", "monstera_assets.warehouse.spark_compiler")
    code = (
        "import sys\n"
        "from monstera_assets.definitions import build_definitions\n"
        "from monstera_assets.settings import load_settings\n"
        "build_definitions(load_settings(start_date='2025-06-01'))\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spark_remote": None}, "spark_remote .* is required if engine is spark"),
        ({"warehouse": None}, "warehouse .* is required if engine is spark"),
        ({"catalog": None}, "catalog .* is required if engine is spark"),
        ({"engine": "sprak"}, "engine .* Input should be 'duckdb' or 'spark'"),
        (
            {"spark_remote": "http://host:1"},
            "spark_remote .* not the URL of a Spark Connect server",
        ),
        ({"spark_remote": "sc://"}, "spark_remote .* not the URL of a Spark Connect server"),
        (
            {"spark_remote": "sc://host:port"},
            "spark_remote .* not the URL of a Spark Connect server",
        ),
        ({"warehouse": "/data"}, "warehouse .* not the URL of a folder.*file:///data"),
        ({"warehouse": "s3://"}, "warehouse .* not the URL of a folder"),
        ({"warehouse": "hdfs://host/data"}, "warehouse .* file://, s3://, abfss://"),
        ({"warehouse": "file://data"}, "warehouse .* names a host"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, str | None], message: str) -> None:
    right = {
        "engine": "spark",
        "spark_remote": "sc://host:15002/;token=secret",
        "warehouse": "s3://bucket/monstera",
        "catalog": {"type": "sql"},
    }
    assert load_settings(**right).engine == "spark"
    given = {name: value for name, value in {**right, **changes}.items() if value is not None}
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(**given)
    assert "secret" not in str(error.value)


def test_secrets_are_not_shown() -> None:
    settings = load_settings(
        spark_remote="sc://host/;token=secret", catalog={"uri": "postgresql://user:secret@host/db"}
    )
    assert "secret" not in repr(settings)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(extras._MODULES, extras.SPARK, "a_module_that_does_not_exist")
    with pytest.raises(SettingsError, match=r"pip install 'monstera-assets\[spark\]'"):
        build_definitions(load_settings(start_date="2025-06-01"))


def test_an_engine_cannot_continue_the_tables_of_another(tmp_path: Path) -> None:
    """The database of an older version, in which no engine is recorded, is DuckDB's."""
    with connect(str(tmp_path / "m.duckdb"), connection_config(threads=1)) as connection:
        connection.execute(
            "INSERT INTO operations.materializations VALUES"
            " ('silver', 'silver_t', DATE '2025-06-01', TIMESTAMP '2025-06-02')"
        )
        require_same_settings(DuckDBEngine(connection), "m", {"timezone": "UTC"})
        with pytest.raises(
            ChangedSettingsError, match=r"engine was duckdb and is now spark.*--rebuild"
        ):
            require_same_settings(DuckDBEngine(connection), "m", {"engine": "spark"})


@pytest.mark.spark
def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    """Port 1 has no server. No file of the database or of a table is written."""
    configure(tmp_path, port=1, warehouse=f"file://{tmp_path}/iceberg")
    done = monstera(tmp_path, "run")
    assert done.code == 2
    assert "The Spark Connect server 127.0.0.1:1 cannot be reached: Connection refused." in done.err
    assert "Traceback" not in done.err
    assert not [*tmp_path.glob("iceberg/*")]
