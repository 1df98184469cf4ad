"""A warehouse with an older layout is upgraded atomically."""

from __future__ import annotations

import lzma
from pathlib import Path

import duckdb
import pytest

from monstera_assets.definitions import tables
from monstera_assets.gold.gold_overall_metrics import TABLE as OVERALL
from monstera_assets.operations.recorded_settings import ensure_writable
from monstera_assets.settings import Settings
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.layout import STEPS, Step, bring_up_to_date, stored_version
from monstera_assets.warehouse.source_changes import days_out_of_date
from monstera_assets_tests.conftest import SEEDS_DAYS
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.integration.example_runs import Graph, SeedsRun, assert_same

LAYOUTS = Path(__file__).parents[1] / "layouts"
CURRENT = 1 + len(STEPS)


def rename(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE silver.people RENAME COLUMN old TO new")


def add(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE silver.people ADD COLUMN added INTEGER DEFAULT 7")


def fail(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE silver.no_such_table RENAME COLUMN old TO new")


def interrupt(connection: duckdb.DuckDBPyConnection) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def first_layout(tmp_path: Path) -> Path:
    """A file without a recorded version, with one table of one row."""
    database = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA operations; CREATE SCHEMA silver")
        connection.execute(
            "CREATE TABLE operations.materializations"
            " (table_name VARCHAR, partition_date DATE, materialized_at TIMESTAMP)"
        )
        connection.execute("CREATE TABLE silver.people AS SELECT 1 AS old")
    return database


def upgraded(
    database: Path, *steps: Step
) -> tuple[int | None, list[str], list[tuple[object, ...]]]:
    """Return the version, columns and rows after the steps, using a separate connection."""
    with duckdb.connect(str(database)) as connection:
        if steps:
            bring_up_to_date(connection, str(database), read_only=False, steps=steps)
        version = stored_version(connection)
        people = connection.execute("FROM silver.people")
        return version, [name for name, *_ in people.description or ()], people.fetchall()


# The oldest layout takes all upgrade steps, and the newest one has the most tables.
@pytest.mark.parametrize(
    "version",
    [1, *(pytest.param(v, marks=pytest.mark.slow) for v in range(2, CURRENT - 1)), CURRENT - 1],
)
def test_a_stored_layout_is_upgraded_without_a_difference(
    version: int, tmp_path: Path, seeds_run: SeedsRun
) -> None:
    """The file contains all days of the seeds except the last one (see layouts/README.md).

    The upgrade marks them as out of date, and the documented run over all days computes them again.
    """
    database = tmp_path / "warehouse.duckdb"
    packed = LAYOUTS / f"layout_{version}.duckdb.xz"
    database.write_bytes(lzma.decompress(packed.read_bytes()))
    with duckdb.connect(str(database), read_only=True) as connection:
        assert stored_version(connection) == version
    with connect(str(database), {}) as connection:
        assert stored_version(connection) == CURRENT
        late = compile_duckdb(days_out_of_date(OVERALL.name))
        assert len(connection.execute(late).fetchall()) == len(SEEDS_DAYS) - 1
    graph = Graph(SEEDS, database, tmp_path / "home", SEEDS_DAYS.first)
    with graph.instance:
        assert graph.run(SEEDS_DAYS, only=[table.name for table in tables()]).success
    fresh = Graph(SEEDS, seeds_run.database, tmp_path / "no home", SEEDS_DAYS.first)
    assert_same(graph.contents(), fresh.contents())


def test_a_new_file_has_the_current_version(tmp_path: Path) -> None:
    database = tmp_path / "new" / "warehouse.duckdb"
    ensure_writable(Settings(database=database))
    with duckdb.connect(str(database), read_only=True) as connection:
        assert stored_version(connection) == CURRENT


def test_an_older_file_is_upgraded_once(first_layout: Path) -> None:
    assert upgraded(first_layout, rename) == (2, ["new"], [(1,)])
    # The file needs only the second step. The first one, a renaming, would fail if repeated.
    assert upgraded(first_layout, rename, add) == (3, ["new", "added"], [(1, 7)])
    assert upgraded(first_layout, rename, add) == (3, ["new", "added"], [(1, 7)])


def test_a_failing_step_leaves_the_file_unchanged(first_layout: Path) -> None:
    with pytest.raises(WarehouseError, match=r"from layout 1 to 4 and is unchanged"):
        upgraded(first_layout, rename, add, fail)
    assert upgraded(first_layout) == (1, ["old"], [(1,)])


def test_an_interrupt_leaves_the_file_unchanged(first_layout: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        upgraded(first_layout, rename, interrupt)
    assert upgraded(first_layout) == (1, ["old"], [(1,)])
    assert upgraded(first_layout, rename) == (2, ["new"], [(1,)])


def test_a_reader_of_an_older_file_says_what_to_do(first_layout: Path) -> None:
    with (
        pytest.raises(WarehouseError, match=rf"layout 1, .* layout {CURRENT}\. .*: monstera run$"),
        connect(str(first_layout), {}, read_only=True),
    ):
        pass
    with connect(str(first_layout), {}), connect(str(first_layout), {}):
        pass
    with connect(str(first_layout), {}, read_only=True) as connection:
        assert stored_version(connection) == CURRENT


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_of_a_newer_version_is_refused(first_layout: Path, read_only: bool) -> None:
    with duckdb.connect(str(first_layout)) as connection:
        connection.execute(f"CREATE TABLE operations.layout AS SELECT {CURRENT + 1} AS version")
    with (
        pytest.raises(WarehouseError, match=rf"has layout {CURRENT + 1}, .* up to {CURRENT}\. "),
        connect(str(first_layout), {}, read_only=read_only),
    ):
        pass
    assert upgraded(first_layout) == (CURRENT + 1, ["old"], [(1,)])
