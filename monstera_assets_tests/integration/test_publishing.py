"""Test what the published copy contains, and what readers see if publishing fails."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import pytest
from dagster_duckdb_pandas import DuckDBPandasIOManager

from monstera_assets.definitions import build_definitions, tables
from monstera_assets.operations.forget import forget_person
from monstera_assets.operations.publishing import KEY, PublishError, publish, published
from monstera_assets.settings import Settings, SettingsError, load_settings
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets_tests.helpers.command_line import SEEDS, snapshot
from monstera_assets_tests.helpers.forked_process import run_forked
from monstera_assets_tests.integration.example_runs import SeedsRun

TABLES = tables()
CURRENT_SILVER = {
    *("silver_account_churn_features", "silver_account_current_state"),
    *("silver_account_state_intervals", "silver_behavioral_segments"),
    *("silver_cross_product_analytics", "silver_product_adoption_sequences"),
    *("silver_product_affinity", "silver_user_current_state", "silver_user_product_adoptions"),
    *("silver_user_product_churn", "silver_user_product_state_intervals"),
    *("silver_user_product_states", "silver_user_state_intervals", "silver_workflow_funnel"),
    *("silver_user_churn_features", "silver_workflow_runs"),
}


@pytest.fixture
def settings(tmp_path: Path, seeds_run: SeedsRun) -> Settings:
    """A copy of the seeds' database and of the copy that their run published."""
    shutil.copytree(seeds_run.database.parent / "published", tmp_path / "published")
    database = tmp_path / seeds_run.database.name
    shutil.copy(seeds_run.database, database)
    return Settings(database=database, lock_timeout_seconds=0.2)


def change(settings: Settings) -> None:
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("UPDATE silver.silver_user_current_state SET days_since_signup = 9999")


def publish_now(settings: Settings) -> dict[str, int]:
    with connect(str(settings.database), {}) as connection:
        return publish(connection, settings.published, published(settings, TABLES))


def in_a_process(settings: Settings, before: str, after: str = "") -> tuple[int, str]:
    """Publish in a separate process, and return its exit code and error output."""
    program = f"""
import os, resource, sys
from pathlib import Path
from monstera_assets.definitions import tables
from monstera_assets.operations import publishing
from monstera_assets.settings import Settings
from monstera_assets.warehouse import files
from monstera_assets.warehouse.connection import connect
settings = Settings(database=Path(sys.argv[1]))
chosen = publishing.published(settings, tables())
with connect(str(settings.database), {{}}) as connection:
    {before}
    try:
        publishing.publish(connection, settings.published, chosen)
    finally:
        {after or "pass"}
"""
    done = run_forked(program, str(settings.database))
    return done.returncode, done.stderr


def test_a_run_publishes_gold_and_current_silver(seeds_run: SeedsRun) -> None:
    copy = seeds_run.database.parent / "published" / "monstera.duckdb"
    gold = {name for name in seeds_run.outcome.tables if name.startswith("gold.")}
    silver = {*CURRENT_SILVER, "silver_daily_user_activity"}
    expected = {*gold, *(f"silver.{name}" for name in silver)}
    found = dict(snapshot(copy))
    assert found.pop("gold.time_spine")
    assert found == {name: seeds_run.outcome.tables[name] for name in expected}
    with duckdb.connect(copy, read_only=True) as connection:
        schemas = connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()
        assert sorted(schemas) == [("gold",), ("silver",)]  # no hashes of erased people
        [(described,)] = connection.execute(
            "SELECT comment FROM duckdb_tables() WHERE table_name = 'silver_user_current_state'"
        ).fetchall()
        days = connection.execute("FROM gold.time_spine").fetchall()
        first = date(2024, 7, 1)
        assert days == [(first + timedelta(days=number),) for number in range(365)]
    [table] = [table for table in TABLES if table.name == "silver_user_current_state"]
    assert described == table.description
    assert stat.S_IMODE(copy.stat().st_mode) == 0o444
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_no_address_and_no_name_is_published(settings: Settings) -> None:
    """Publish everything that may be published, and examine each text and each byte."""
    allowed = [table.name for table in TABLES if table.name != "silver_events_enriched"]
    names = tuple(
        name
        for name in allowed
        if not name.startswith("bronze_") or name in ("bronze_users", "bronze_accounts")
    )
    publish_now(settings.model_copy(update={"published_tables": names}))
    with duckdb.connect(str(settings.database), read_only=True) as connection:
        private = [
            text
            for (text,) in connection.execute(
                "SELECT email FROM bronze.bronze_users"
                " UNION SELECT account_name FROM bronze.bronze_accounts"
            ).fetchall()
        ]
    assert len(private) == 30
    data = settings.published.read_bytes()
    assert not [text for text in private if text.encode() in data]
    with duckdb.connect(settings.published, read_only=True) as connection:
        columns = connection.execute(
            "SELECT schema_name || '.' || table_name, column_name FROM duckdb_columns()"
            " WHERE NOT internal AND data_type LIKE '%VARCHAR%'"
        ).fetchall()
        assert ("bronze.bronze_users", "user_id") in columns
        for table, column in columns:
            texts = connection.execute(f"SELECT DISTINCT {column}::VARCHAR FROM {table}").fetchall()
            found = [text for (text,) in texts if text and any(each in text for each in private)]
            assert not found, (table, column)


def test_tables_can_be_chosen(settings: Settings) -> None:
    chosen = ("gold_overall_metrics", "silver_user_state_history", "bronze_users")
    rows = publish_now(settings.model_copy(update={"published_tables": chosen}))
    assert rows == {
        "gold_overall_metrics": 365,
        "silver_user_state_history": 2461,
        "bronze_users": 20,
    }
    names = {name.split(".")[1] for name in snapshot(settings.published)}
    assert names == {*chosen, "time_spine"}
    publish_now(settings.model_copy(update={"published_tables": ("silver_workflow_runs",)}))
    assert {*snapshot(settings.published)} == {"silver.silver_workflow_runs"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bronze_events", "bronze_events contains raw data and cannot be published. Choose gold, "),
        ("silver_events_enriched", "silver_events_enriched contains raw data"),
        ("gold_rush", "published_tables: gold_rush does not exist. Choose gold, silver or "),
        ("bronze", "published_tables: bronze does not exist"),
    ],
)
def test_other_tables_are_refused(name: str, message: str) -> None:
    settings = Settings(source=SEEDS, published_tables=("gold", name))
    with pytest.raises(SettingsError, match=message):
        build_definitions(settings)


def test_nothing_is_published_if_no_table_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSTERA_PUBLISHED_TABLES", "")
    settings = load_settings(source=SEEDS)
    assert settings.published_tables == ()
    keys = build_definitions(settings).resolve_asset_graph().get_all_asset_keys()
    assert KEY not in keys
    assert dg.AssetKey(["dashboards", "static_site"]) in keys
    monkeypatch.setenv("MONSTERA_PUBLISHED_TABLES", "gold, silver_workflow_runs")
    assert load_settings().published_tables == ("gold", "silver_workflow_runs")


def test_a_failed_table_keeps_the_copy_from_being_published() -> None:
    graph = build_definitions(Settings(source=SEEDS)).resolve_asset_graph()
    assert graph.get(KEY).parent_keys == {asset_key(table.name) for table in TABLES}


def test_tables_that_were_never_materialized_are_left_out(settings: Settings) -> None:
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("DROP TABLE gold.gold_overall_metrics")
    rows = publish_now(settings)
    assert "gold_overall_metrics" not in rows
    found = snapshot(settings.published)
    assert not {"gold.gold_overall_metrics", "gold.time_spine"} & {*found}
    assert len(rows) == len(published(settings, TABLES)) - 1


def test_an_erased_person_is_in_no_byte_of_the_copy(settings: Settings) -> None:
    states = "FROM silver.silver_user_current_state WHERE user_id = ?"
    rows = "SELECT count(*) FROM silver.silver_user_current_state"
    assert b"usr_05" in settings.published.read_bytes()
    with duckdb.connect(settings.published, read_only=True) as connection:
        assert len(connection.execute(states, ["usr_05"]).fetchall()) == 1
        [(before,)] = connection.execute(rows).fetchall()
    done = forget_person(settings, "usr_05", TABLES)
    assert done.published == settings.published
    assert b"usr_05" not in settings.published.read_bytes()
    with duckdb.connect(settings.published, read_only=True) as connection:
        assert len(connection.execute(states, [done.tombstone]).fetchall()) == 1
        assert connection.execute(rows).fetchall() == [(before,)]


def test_an_open_reader_keeps_the_old_copy_and_no_one_waits(settings: Settings) -> None:
    state = "SELECT max(days_since_signup) FROM silver.silver_user_current_state"
    with duckdb.connect(settings.published, read_only=True) as reader:
        [(before,)] = reader.execute(state).fetchall()
        assert before < 9999
        change(settings)
        publish_now(settings)
        assert reader.execute(state).fetchall() == [(before,)]
        # Readers in other processes open the new copy while this one has the old copy open.
        program = f"import duckdb; c = duckdb.connect({str(settings.published)!r}, read_only=True)"
        seen = subprocess.run(
            [sys.executable, "-c", f"{program}; print(c.execute({state!r}).fetchall())"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert seen.stdout == "[(9999,)]\n"


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("publishing.writer.total_rows", marks=pytest.mark.faults),
        "files.synchronize",
    ],
)
def test_killed_publishing_leaves_the_old_copy(settings: Settings, where: str) -> None:
    before = snapshot(settings.published)
    change(settings)
    code, err = in_a_process(settings, f"{where} = lambda *_: os._exit(9)")
    assert code == 9, err
    assert snapshot(settings.published) == before
    assert len(list(settings.published.parent.iterdir())) > 1
    publish_now(settings)
    assert snapshot(settings.published) != before
    assert [path.name for path in settings.published.parent.iterdir()] == ["monstera.duckdb"]


def test_full_disk(settings: Settings) -> None:
    before, in_warehouse = snapshot(settings.published), snapshot(settings.database)
    change(settings)
    changed = snapshot(settings.database)
    assert changed != in_warehouse
    # A limit on the size of files simulates a full disk. The run can still use the warehouse.
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    alive = "print(connection.execute('FROM silver.silver_user_current_state').fetchall()[0])"
    code, err = in_a_process(settings, limit, alive)
    assert code == 1
    [said] = [line for line in err.splitlines() if "PublishError: " in line]
    assert f"Cannot write to {settings.published}: " in said
    assert "The previous copy is unchanged." in said
    assert snapshot(settings.published) == before
    assert snapshot(settings.database) == changed
    assert [path.name for path in settings.published.parent.iterdir()] == ["monstera.duckdb"]


def test_folder_that_cannot_be_written(settings: Settings) -> None:
    shutil.rmtree(settings.published.parent)
    settings.published.parent.write_text("a file")
    with pytest.raises(PublishError, match=r"Cannot write to .*: File exists"):
        publish_now(settings)


def test_a_log_of_the_old_copy_is_not_applied_to_the_new_copy(settings: Settings) -> None:
    """A superuser can write to the copy. If such a process is killed, it leaves a log."""
    program = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]);"
        "c.execute('CREATE TABLE own AS SELECT 1 AS n'); os._exit(9)"
    )
    settings.published.chmod(0o644)
    subprocess.run([sys.executable, "-c", program, str(settings.published)], check=False)
    assert settings.published.with_name("monstera.duckdb.wal").exists()
    publish_now(settings)
    with duckdb.connect(settings.published, read_only=True) as connection:
        assert not connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE table_name = 'own'"
        ).fetchall()
    assert [path.name for path in settings.published.parent.iterdir()] == ["monstera.duckdb"]


def test_another_dagster_project_reads_the_copy(settings: Settings) -> None:
    """The IO manager of dagster-duckdb-pandas loads its tables, as docs/how-to/bi_tools.md says."""
    seen: list[pd.DataFrame] = []

    @dg.asset(ins={"states": dg.AssetIn(key=["silver", "silver_user_current_state"])})
    def churned_users(states: pd.DataFrame) -> None:
        seen.append(states)

    reader = DuckDBPandasIOManager(
        database=str(settings.published), connection_config={"access_mode": "READ_ONLY"}
    )
    upstream = dg.AssetSpec(["silver", "silver_user_current_state"]).with_io_manager_key("monstera")
    run = dg.materialize(
        [upstream, churned_users],
        selection=[churned_users],
        resources={"monstera": reader, "io_manager": dg.mem_io_manager},
    )
    assert run.success
    with duckdb.connect(str(settings.published), read_only=True) as connection:
        [(users,)] = connection.execute(
            "SELECT count(*) FROM silver.silver_user_current_state"
        ).fetchall()
    assert len(seen[0]) == users > 0
