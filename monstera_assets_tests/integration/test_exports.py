"""Test the content of exports, and what a consumer reads if the writer fails."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from pathlib import Path

import duckdb
import pytest

from monstera_assets.definitions import tables
from monstera_assets.operations.exports import (
    ExportError,
    choose_tables,
    export_again,
    exportable,
    read_manifest,
    registered,
    write_export,
)
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.layout import FileFormat
from monstera_assets.warehouse.errors import MissingTableError, WarehouseLockedError
from monstera_assets_tests.helpers.command_line import held
from monstera_assets_tests.helpers.forked_process import run_forked
from monstera_assets_tests.integration.example_runs import SeedsRun

TABLES = tables()
CSV, PARQUET = FileFormat.CSV, FileFormat.PARQUET
BOTH = dict.fromkeys(exportable(TABLES), (PARQUET, CSV))
STATES = {
    table: (CSV,)
    for table in TABLES
    if table.name in ("silver_user_current_state", "gold_overall_metrics")
}


@pytest.fixture
def settings(tmp_path: Path, seeds_run: SeedsRun) -> Settings:
    """A copy of the seeds' database."""
    database = tmp_path / "warehouse.duckdb"
    shutil.copy(seeds_run.database, database)
    return Settings(database=database, lock_timeout_seconds=0.2)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "exports"


def content(output: Path) -> dict[str, bytes]:
    """Return all files of the current export except the one that contains the time."""
    return {
        path.name: path.read_bytes()
        for path in (output / "current").iterdir()
        if path.name != "exported_at.json"
    }


def change(settings: Settings) -> None:
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("UPDATE silver.silver_user_current_state SET days_since_signup = 9999")


def in_a_process(settings: Settings, output: Path, before: str) -> subprocess.CompletedProcess[str]:
    """Export in a separate process, after running some statements."""
    program = f"""
import os, resource, sys
from pathlib import Path
from monstera_assets.definitions import tables
from monstera_assets.operations import exports, snapshots
from monstera_assets.settings import Settings
{before}
settings = Settings(database=Path(sys.argv[1]))
chosen = dict.fromkeys(exports.exportable(tables()), tuple(exports.FileFormat))
exports.write_export(settings, Path(sys.argv[2]), chosen, every_table=True)
"""
    return run_forked(program, str(settings.database), str(output))


def test_files_contain_the_tables(settings: Settings, output: Path) -> None:
    report = write_export(settings, output, BOTH, every_table=True)
    assert not report.missing
    entries = {entry["table"]: entry for entry in read_manifest(output)["tables"]}
    assert set(entries) == {table.name for table in exportable(TABLES)} == set(report.rows)
    with duckdb.connect(str(settings.database), read_only=True) as connection:
        for table in exportable(TABLES):
            entry = entries[table.name]
            exported = [
                column.name
                for column in table.columns
                if column.name not in {"email", "account_name"}
            ]
            stored = connection.execute(
                f"SELECT {', '.join(exported)} FROM {table.qualified_name}"
                f" ORDER BY {', '.join(table.key)}"
            ).fetchall()
            assert entry["rows"] == len(stored)
            assert [column["name"] for column in entry["columns"]] == exported
            as_parquet, as_csv = (output / "current" / file["path"] for file in entry["files"])
            assert connection.execute(f"FROM read_parquet('{as_parquet}')").fetchall() == stored
            types = {column["name"]: column["type"] for column in entry["columns"]}
            options = "header = true, allow_quoted_nulls = false"  # "" is not null
            as_read = f"FROM read_csv('{as_csv}', columns = {types}, {options})"
            assert connection.execute(as_read).fetchall() == stored
            for file in entry["files"]:
                data = (output / "current" / file["path"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == file["sha256"]
    assert entries["gold_overall_metrics"]["as_of_date"] == "2025-06-30"
    assert entries["silver_user_current_state"]["as_of_date"] == "2025-06-30"
    assert entries["gold_metric_catalog"]["as_of_date"] is None
    assert set(json.loads((output / "current" / "exported_at.json").read_text())) == {"exported_at"}


def test_same_tables_give_the_same_bytes(settings: Settings, output: Path, tmp_path: Path) -> None:
    write_export(settings, output, BOTH, every_table=True)
    first = content(output)
    with duckdb.connect(str(settings.database)) as connection:
        # The same rows, stored in another order.
        for table in exportable(TABLES):
            connection.execute(
                f"CREATE TABLE shuffled AS FROM {table.qualified_name} ORDER BY random()"
            )
            connection.execute(f"DELETE FROM {table.qualified_name}")
            connection.execute(f"INSERT INTO {table.qualified_name} FROM shuffled")
            connection.execute("DROP TABLE shuffled")
    write_export(settings, tmp_path / "another", BOTH, every_table=True)
    assert content(tmp_path / "another") == first


def test_only_gold_and_current_tables_may_be_exported() -> None:
    allowed = {table.name for table in exportable(TABLES)}
    assert {
        "gold_overall_metrics",
        "silver_user_current_state",
        "silver_behavioral_segments",
    } <= allowed
    assert {name for name in allowed if name.startswith("bronze_")} == {
        "bronze_users",
        "bronze_accounts",
    }
    assert "silver_events_enriched" not in allowed
    with pytest.raises(SettingsError, match="--table bronze_events cannot be exported"):
        choose_tables(TABLES, ["bronze_events"])
    with pytest.raises(SettingsError, match="--table gold_rush does not exist"):
        choose_tables(TABLES, ["gold_rush"])


def test_named_tables_are_replaced_and_others_kept(settings: Settings, output: Path) -> None:
    write_export(settings, output, BOTH, every_table=True)
    before = content(output)
    change(settings)
    chosen = dict.fromkeys(choose_tables(TABLES, ["silver_user_current_state"]), (CSV,))
    write_export(settings, output, chosen, every_table=False)
    after = content(output)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {
        "manifest.json",
        "silver_user_current_state.csv",
        "silver_user_current_state.parquet",
    }
    assert "silver_user_current_state.parquet" not in after  # it would be older than the CSV
    assert b"9999" in after["silver_user_current_state.csv"]


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("exports._write_manifest", marks=pytest.mark.faults),
        "snapshots.Snapshots._publish",
    ],
)
def test_killed_export_leaves_the_old_one(settings: Settings, output: Path, where: str) -> None:
    write_export(settings, output, BOTH, every_table=True)
    before = content(output)
    change(settings)
    killed = in_a_process(settings, output, f"{where} = lambda *_: os._exit(9)")
    assert killed.returncode == 9, killed.stderr
    assert content(output) == before
    assert len(list((output / "snapshots").iterdir())) == 2
    write_export(settings, output, STATES, every_table=True)
    write_export(settings, output, STATES, every_table=True)
    # The current snapshot, and the previous one for consumers that still read it.
    assert len(list((output / "snapshots").iterdir())) == 2
    assert b"9999" in content(output)["silver_user_current_state.csv"]


def test_full_disk(settings: Settings, output: Path) -> None:
    write_export(settings, output, BOTH, every_table=True)
    before = content(output)
    change(settings)
    # A limit on the size of files simulates a full disk.
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    full = in_a_process(settings, output, limit)
    assert full.returncode == 1
    assert "ExportError" in full.stderr
    assert "The previous export is unchanged" in full.stderr
    assert content(output) == before
    assert len(list((output / "snapshots").iterdir())) == 1


def test_folder_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"Cannot write to .*: Not a directory"):
        write_export(settings, tmp_path / "file" / "exports", STATES, every_table=True)
    (tmp_path / "taken" / "current").mkdir(parents=True)
    with pytest.raises(ExportError, match="is not a link created by an earlier export"):
        write_export(settings, tmp_path / "taken", STATES, every_table=True)


def test_locked_database(settings: Settings, output: Path) -> None:
    write_export(settings, output, STATES, every_table=True)
    before = content(output)
    with (
        held(settings.database),
        pytest.raises(WarehouseLockedError, match=r"locked by another process for 0\.2 s"),
    ):
        write_export(settings, output, STATES, every_table=True)
    assert content(output) == before


def test_missing_tables(settings: Settings, output: Path) -> None:
    with duckdb.connect(str(settings.database)) as connection:
        connection.execute("DROP TABLE gold.gold_overall_metrics")
    report = write_export(settings, output, BOTH, every_table=True)
    assert report.missing == ("gold_overall_metrics",)
    with pytest.raises(MissingTableError, match="gold_overall_metrics"):
        write_export(settings, output, STATES, every_table=False)
    empty = settings.database.with_name("empty.duckdb")
    duckdb.connect(str(empty)).close()
    with pytest.raises(MissingTableError, match="No tables can be exported"):
        write_export(Settings(database=empty), output, BOTH, every_table=True)


def test_reader_sees_either_the_old_or_the_new_export(settings: Settings, output: Path) -> None:
    write_export(settings, output, STATES, every_table=True)
    done = threading.Event()
    seen: set[str] = set()
    faults: list[str] = []

    def read() -> None:
        while not done.is_set():
            folder = (output / "current").resolve()
            for entry in json.loads((folder / "manifest.json").read_text())["tables"]:
                for file in entry["files"]:
                    data = (folder / file["path"]).read_bytes()
                    if hashlib.sha256(data).hexdigest() != file["sha256"]:
                        faults.append(file["path"])
                    seen.add(file["sha256"])

    def reader() -> None:
        try:
            read()
        except OSError as error:
            faults.append(str(error))

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        while len(seen) < len(STATES):  # the reader has started
            assert thread.is_alive()
        change(settings)
        write_export(settings, output, STATES, every_table=True)
        while len(seen) < len(STATES) + 1:  # and has seen the new file
            assert thread.is_alive()
    finally:
        done.set()
        thread.join()
    assert not faults
    assert len(seen) == len(STATES) + 1


def test_exporting_again_deletes_older_files(settings: Settings, output: Path) -> None:
    write_export(settings, output, STATES, every_table=True)
    change(settings)
    assert registered(settings.database) == [output]
    assert export_again(settings, TABLES) == [output]
    assert set(content(output)) == {
        "manifest.json",
        "silver_user_current_state.csv",
        "gold_overall_metrics.csv",
    }
    [snapshot] = (output / "snapshots").iterdir()
    assert "9999" in (snapshot / "silver_user_current_state.csv").read_text()
    shutil.rmtree(output)
    assert registered(settings.database) == []


def test_no_address_is_in_silver_gold_or_exports(settings: Settings, output: Path) -> None:
    """The test examines each text column of each table, and each exported byte."""
    write_export(settings, output, BOTH, every_table=True)
    with duckdb.connect(str(settings.database)) as connection:
        addresses = [
            email
            for (email,) in connection.execute(
                "SELECT DISTINCT email FROM bronze.bronze_users"
            ).fetchall()
        ]
        assert len(addresses) == 20
        connection.execute(
            "CREATE TEMP TABLE addresses AS SELECT DISTINCT lower(email) AS address"
            " FROM bronze.bronze_users"
        )
        columns = connection.execute(
            "SELECT schema_name || '.' || table_name, column_name FROM duckdb_columns()"
            " WHERE schema_name IN ('silver', 'gold') AND data_type LIKE '%VARCHAR%'"
        ).fetchall()
        assert len(columns) > 100
        for table, column in columns:
            found = connection.execute(
                f"SELECT DISTINCT t.{column} FROM {table} AS t, addresses"
                f" WHERE contains(lower(CAST(t.{column} AS VARCHAR)), address)"
            ).fetchall()
            assert not found, (table, column)
    for data in content(output).values():
        assert not [address for address in addresses if address.encode() in data]
