"""Test that each gold table equals the result of a plain query on bronze tables.

The queries, one file per table in `recomputed/`, are slow and literal. They join dates with events and
count distinct users, without intervals, sliding sums or partitions. They were written from the
definitions, not from the code that they check. For state metrics, they read the state histories, which
other tests compare with oracles. `dates` has one row per partition date: `metric_date`. The tables in
`recomputed/common/segments.sql` contain each user's account and segments on each date.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest
from dagster import AssetCheckSeverity

from monstera_assets.definitions import tables
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.warehouse.tables import Table, duckdb_type
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.metric_bounds import out_of_bounds
from monstera_assets_tests.inputs.random_source import DAYS, FIRST, write_random_source
from monstera_assets_tests.integration.example_runs import Graph, SeedsRun, computed_from

HERE = Path(__file__).parents[1]
QUERIES = {path.stem: path for path in sorted((HERE / "recomputed").glob("*.sql"))}
SEGMENTS = (HERE / "recomputed" / "common" / "segments.sql").read_text(encoding="utf-8")
OPENSTACK = HERE / "sources" / "openstack_2012"
OPENSTACK_DAYS = DateWindow(date(2012, 1, 1), date(2012, 5, 28))
RANDOM_DAYS = DateWindow(FIRST, date.fromordinal(FIRST.toordinal() + DAYS - 1))
GOLD = [table for table in tables() if isinstance(table, MetricTable)]


@pytest.fixture(
    scope="module",
    params=["seeds", "random", pytest.param("openstack", marks=pytest.mark.slow)],
)
def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse after a run over all days of a source, with `dates`."""
    if request.param == "seeds":
        database, days = seeds_run.database, seeds_run.days
    else:
        folder = tmp_path_factory.mktemp(request.param)
        source, days = OPENSTACK, OPENSTACK_DAYS
        if request.param == "random":
            source, days = folder / "source", RANDOM_DAYS
            write_random_source(source, seed=1, users=88, accounts=48)
        database = folder / "warehouse.duckdb"
        graph = Graph(source, database, folder / "home", days.first)
        with graph.instance:
            # Checks of the random source are run by the last test of this module.
            only = computed_from(QUERIES) if request.param == "random" else None
            assert graph.run(days, only).success
    with duckdb.connect(str(database), read_only=True) as made:
        made.execute("SET threads = 2")
        made.execute(
            "CREATE TEMP TABLE dates AS SELECT unnest(generate_series(?::DATE, ?::DATE,"
            " INTERVAL 1 DAY))::DATE AS metric_date",
            [days.first, days.last],
        )
        made.execute(SEGMENTS)
        yield made


def test_every_metric_table_has_a_query() -> None:
    assert set(QUERIES) == {table.name for table in GOLD}


@pytest.mark.parametrize("table", GOLD, ids=[table.name for table in GOLD])
def test_metrics_are_within_their_bounds(
    connection: duckdb.DuckDBPyConnection, table: MetricTable
) -> None:
    assert out_of_bounds(connection, table) == {}


@pytest.mark.parametrize("table", GOLD, ids=[table.name for table in GOLD])
def test_table_equals_the_plain_query(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = [column for column in table.columns if column.days_before_latest is None]
    names = ", ".join(column.name for column in columns)
    types = ", ".join(f"{column.name} {duckdb_type(column.dtype)}" for column in columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE expected ({types})")
    query = QUERIES[table.name].read_text(encoding="utf-8")
    connection.execute(f"INSERT INTO expected BY NAME {query}")
    published = f"SELECT {names} FROM {table.qualified_name}"
    for one, other in ((published, "FROM expected"), ("FROM expected", published)):
        difference = f"({one}) EXCEPT ALL ({other})"
        rows = connection.execute(f"{difference} ORDER BY ALL LIMIT 3").fetchall()
        assert rows == [], f"({names}) only in {'gold' if one == published else 'the query'}"
    [(count,)] = connection.execute("SELECT count(*) FROM expected").fetchall()
    assert count > 0


@pytest.mark.parametrize(
    "table", [t for t in GOLD if t.partition_column], ids=lambda table: str(table.name)
)
def test_trend_flags_follow_the_latest_date(
    connection: duckdb.DuckDBPyConnection, table: Table
) -> None:
    wrong = connection.execute(
        f"SELECT count(*) FROM {table.qualified_name}, (SELECT max(metric_date) AS latest FROM dates)"
        " WHERE is_current_day <> (metric_date = latest)"
        " OR is_last_90_days <> (metric_date > latest - 90)"
    ).fetchall()
    assert wrong == [(0,)]


@pytest.mark.slow
def test_users_and_accounts_older_than_the_first_partition(tmp_path: Path) -> None:
    """Earlier facts count, so that the cohorts of earlier days are complete."""
    write_random_source(tmp_path / "source", seed=1)
    days = DateWindow(date(2024, 3, 1), RANDOM_DAYS.last)
    graph = Graph(tmp_path / "source", tmp_path / "db.duckdb", tmp_path / "home", days.first)
    with graph.instance:
        result = graph.run(days)
    assert result.success
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert [e.check_name for e in failed if e.severity == AssetCheckSeverity.ERROR] == []
    with duckdb.connect(str(graph.database), read_only=True) as made:
        cells = made.execute(
            "SELECT cohort_start, period_number, users_retained_per_period IS NULL"
            " FROM gold.gold_retention_cohorts"
            " WHERE cohort_type = 'month' AND segment_dimension = 'all'"
            " AND cohort_start <= '2024-03-01' AND period_number <= 1 ORDER BY ALL"
        ).fetchall()
    january, february, march = (date(2024, month, 1) for month in (1, 2, 3))
    for month in (january, february, march):
        assert [is_null for start, n, is_null in cells if (start, n) == (month, 0)] == [False]
