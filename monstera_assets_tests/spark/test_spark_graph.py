"""The graph on a Spark standalone cluster gives the tables and findings of the graph on DuckDB."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from monstera_assets.checks.contract import ALLOWED, REFERENCES, UNIQUE
from monstera_assets.definitions import table_assets, tables
from monstera_assets.operations import retention
from monstera_assets.operations.exports import export_all
from monstera_assets.operations.forget import forget_person
from monstera_assets.operations.run_plan import plan_changes
from monstera_assets.operations.runs import range_tags
from monstera_assets.synthetic import DEFAULT_END
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.helpers.command_line import SEEDS, monstera
from monstera_assets_tests.inputs.changing_source import ChangingSource
from monstera_assets_tests.inputs.random_source import DAYS, FIRST
from monstera_assets_tests.integration.example_assets import QUIET
from monstera_assets_tests.integration.example_runs import Graph
from monstera_assets_tests.spark.cluster import Cluster
from monstera_assets_tests.spark.spark_graph import (
    SparkGraph,
    differences,
    evaluations,
    failures,
)

pytestmark = pytest.mark.spark

DAYS_ONE_BY_ONE = 5
RESTATED = 30


@dataclass
class Pair:
    """The same source on both engines."""

    spark: SparkGraph
    duckdb: Graph

    @classmethod
    def of(cls, source: Path, folder: Path, start: date, cluster: Cluster) -> Pair:
        """Return the graphs, with their databases in folders of their own."""
        for name in ("spark", "duckdb"):
            (folder / name).mkdir(parents=True)

        def places(name: str) -> tuple[Path, Path, Path, date]:
            return source, folder / name / "m.duckdb", folder / name / "home", start

        return cls(SparkGraph(*places("spark"), remote=cluster.remote), Graph(*places("duckdb")))

    def run(self, tags: Mapping[str, str]) -> None:
        """Run both, and compare all tables and all findings of checks."""
        done = [graph.run(tags=tags) for graph in (self.spark, self.duckdb)]
        assert not [*failures(done[0]), *failures(done[1])]
        assert differences(self.spark, str(self.duckdb.database)) == {}
        found, expected = (
            evaluations(graph.instance, run.run_id)
            for graph, run in zip((self.spark, self.duckdb), done, strict=True)
        )
        assert found == expected
        assert len(found) > len(tables())


@pytest.fixture(scope="module")
def seeds(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The seeds on both engines, without runs."""
    return Pair.of(SEEDS, tmp_path_factory.mktemp("seeds"), SEEDS_DAYS.first, cluster)


def test_a_range_run_gives_the_same(seeds: Pair) -> None:
    last = SEEDS_DAYS.last - timedelta(days=DAYS_ONE_BY_ONE)
    seeds.run(range_tags(DateWindow(SEEDS_DAYS.first, last)))


def test_days_one_by_one_give_the_same(seeds: Pair) -> None:
    for days_left in reversed(range(DAYS_ONE_BY_ONE)):
        day = SEEDS_DAYS.last - timedelta(days=days_left)
        seeds.run(range_tags(DateWindow(day, day)))


def test_what_the_driver_publishes_is_the_same(seeds: Pair, tmp_path: Path) -> None:
    """The published copy, exports and dashboards, which are made from the driver's file."""
    spark, expected = seeds.spark.settings, seeds.duckdb.settings
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{spark.published}' AS copy (READ_ONLY)")
        connection.execute(f"ATTACH '{expected.published}' AS expected (READ_ONLY)")
        listed = "SELECT schema_name, table_name, estimated_size FROM duckdb_tables() WHERE"
        rows = [
            connection.execute(f"{listed} database_name = ? ORDER BY ALL", [name]).fetchall()
            for name in ("copy", "expected")
        ]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 40
    exported = [
        export_all(
            settings.model_copy(update={"export_directory": tmp_path / settings.engine}), tables()
        ).rows
        for settings in (spark, expected)
    ]
    assert exported[0] == exported[1]
    assert (spark.dashboards / "current" / "index.html").exists()


def test_expired_days_and_replaced_files_are_deleted(
    seeds: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LONGEST_RUN", timedelta(0))

    def expire(graph: Graph) -> Mapping[str, int]:
        settings = graph.settings.model_copy(update={"raw_event_retention_days": 200})
        return retention.expire_raw_events(settings, tables(), SEEDS_DAYS.last).rows

    rows = expire(seeds.spark)
    assert rows == expire(seeds.duckdb)
    assert rows["bronze_events"] > 0
    # The files of the deleted events were replaced after the first clean-up began.
    assert not any(expire(seeds.spark).values())
    assert differences(seeds.spark, str(seeds.duckdb.database)) == {}
    assert_no_unreferenced_files(seeds.spark)


def assert_no_unreferenced_files(graph: SparkGraph) -> None:
    """Compare the Parquet files on disk, except those without rows, with the current snapshots."""
    root = Path(str(graph.settings.warehouse).removeprefix("file://"))
    with closing(graph.open_catalog()) as catalog:
        referenced = {
            file.url.removeprefix("file://")
            for table in tables(graph.settings)
            for file in catalog.stored(table).data_files()
        }
    found = [path for path in root.rglob("*.parquet") if pq.read_metadata(path).num_rows]
    assert {str(path) for path in found} == referenced


def test_planted_faults_are_found_on_both(seeds: Pair) -> None:
    """A missing row, a repeated row, an unknown state and an account that does not exist."""
    name, day = "silver_account_state_history", SEEDS_DAYS.last
    [table] = [table for table in tables() if table.name == name]
    with duckdb.connect(str(seeds.duckdb.database), read_only=True) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(column.name for column in table.data_columns)} FROM"
            f" {table.qualified_name} WHERE {table.partition_column} = ? ORDER BY account_id",
            [day],
        ).fetchdf()
    faulty = pd.concat([rows.iloc[1:], rows.iloc[[1]]], ignore_index=True)
    faulty.loc[0, "current_state"] = "asleep"
    faulty.loc[2, "account_id"] = "nobody"
    found = []
    for graph in (seeds.spark, seeds.duckdb):
        warehouse = (graph.definitions.resources or {})["warehouse"]
        assert isinstance(warehouse, Warehouse)
        with warehouse.open() as engine:
            engine.replace(table, faulty, DateWindow(day, day))
        checks = dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks())
        definitions = dg.Definitions.merge(graph.definitions, dg.Definitions(jobs=[checks]))
        done = definitions.resolve_job_def("checks").execute_in_process(
            instance=graph.instance,
            run_config=QUIET,
            raise_on_error=False,
            tags=range_tags(DateWindow(day, day)),
        )
        found.append(evaluations(graph.instance, done.run_id))
    assert found[0] == found[1]
    failed = {check for (checked, check), (passed, *_) in found[0].items() if not passed}
    assert failed >= {UNIQUE, ALLOWED, REFERENCES}


def test_a_made_up_company_gives_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """2,000 users over 120 days, in one run."""
    source, days = tmp_path / "source", 120
    done = monstera(
        tmp_path,
        *("generate", "--users", "2000", "--days", str(days), "--output", str(source)),
        source=None,
    )
    assert done.code == 0, done.err
    window = DateWindow(DEFAULT_END - timedelta(days=days - 1), DEFAULT_END)
    Pair.of(source, tmp_path, window.first, cluster).run(range_tags(window))


def test_a_restatement_and_an_erasure_give_the_same(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random source with late data, versions, aliases and broken rows, which then changes."""
    source = ChangingSource(tmp_path / "source", 28, by_day=True)
    pair = Pair.of(source.folder, tmp_path, FIRST, cluster)
    last = FIRST + timedelta(days=DAYS - 1)
    pair.run(range_tags(DateWindow(FIRST, last)))
    source.change_from(last - timedelta(days=RESTATED))
    for _ in range(6):
        source.change()
    source.write_events()
    source.add_user(last - timedelta(days=3))
    source.add_billing(last - timedelta(days=20))
    plans = [
        plan_changes(graph.settings, table_assets(graph.settings))
        for graph in (pair.spark, pair.duckdb)
    ]
    assert plans[0].tags == plans[1].tags
    assert plans[0].days is not None
    assert plans[0].days.last == last
    pair.run(plans[0].tags)
    forget_someone(pair, monkeypatch)
    assert differences(pair.spark, str(pair.duckdb.database)) == {}
    assert_no_unreferenced_files(pair.spark)


def forget_someone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erase the user with the most events on both engines, with the same key and tombstone."""
    with duckdb.connect(str(pair.duckdb.database), read_only=True) as connection:
        [(user_id, rows)] = connection.execute(
            "SELECT user_id, count(*) FROM silver.silver_user_state_history WHERE user_id IN (SELECT"
            " entity_id FROM bronze.bronze_events) GROUP BY ALL ORDER BY ALL DESC LIMIT 1"
        ).fetchall()
    assert rows > 0
    for graph in (pair.spark, pair.duckdb):
        numbers = count(1)
        monkeypatch.setattr(secrets, "token_hex", lambda size: f"{next(numbers):0{2 * size}x}")  # noqa: B023
        forget_person(graph.settings, user_id, tables(graph.settings))
    with duckdb.connect(str(pair.spark.database), read_only=True) as connection:
        left = connection.execute(
            "SELECT count(*) FROM bronze.bronze_users WHERE user_id = ?", [user_id]
        ).fetchall()
    assert left == [(0,)]
