"""Compiled queries have the same SQL in each run, and are cached on disk."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import duckdb
import ibis
import pytest

from monstera_assets.bronze.load_entities import entity_batch
from monstera_assets.bronze.load_events import event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.definitions import query_caches, table_assets, tables
from monstera_assets.lifecycle.expressions import Window, materialized, parameter
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.settings import Settings
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse import query_cache
from monstera_assets.warehouse.compiler import Query, bind, compile_duckdb, compile_query
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.layout import create_bookkeeping
from monstera_assets.warehouse.query_cache import QueryCache, fingerprint, open_cache
from monstera_assets.warehouse.tables import register
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS

QUERY = Query("SELECT 1 AS one", {"one": "INTEGER"}, ("window_last_day",), {"f": "SELECT 2"}, "b")


def never() -> Query:
    raise AssertionError("A cached query was compiled again.")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate cache for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_a_second_process_compiles_nothing() -> None:
    assert open_cache("policy").get("silver_table", lambda: QUERY) == QUERY
    assert open_cache("policy").get("silver_table", never) == QUERY


def test_another_policy_has_separate_queries() -> None:
    other = Query("SELECT 2 AS one", {"one": "INTEGER"})
    open_cache("policy").get("silver_table", lambda: QUERY)
    assert open_cache("other policy").get("silver_table", lambda: other) == other
    assert open_cache("policy").get("silver_table", never) == QUERY


def test_code_libraries_and_settings_each_change_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache, "_PACKAGE", tmp_path)
    source = tmp_path / "table.py"
    source.write_text("a = 1", encoding="utf-8")
    first = fingerprint([source], ["policy"])
    assert fingerprint([source], ["policy"]) == first
    assert fingerprint([source], ["policy", ""]) != first
    assert fingerprint([source], ["polic", "y"]) != first
    source.write_text("a = 2", encoding="utf-8")
    assert fingerprint([source], ["policy"]) != first
    source.write_text("a = 1", encoding="utf-8")
    monkeypatch.setattr(query_cache, "version", lambda name: "0.1 of " + name)
    assert fingerprint([source], ["policy"]) != first


def test_folders_are_private(home: Path) -> None:
    open_cache().get("silver_table", lambda: QUERY)
    [file] = files(home)
    for folder in (file.parent, file.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("which", ["file", "folder", "root"])
def test_files_that_others_may_write_are_ignored(home: Path, which: str) -> None:
    open_cache().get("silver_table", lambda: QUERY)
    [file] = files(home)
    path = {"file": file, "folder": file.parent, "root": file.parent.parent}[which]
    other = Query("SELECT 2 AS one", {"one": "INTEGER"})
    path.chmod(0o777)
    assert open_cache().get("silver_table", lambda: other) == other


def test_files_of_another_user_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    open_cache().get("silver_table", lambda: QUERY)
    other = Query("SELECT 2 AS one", {"one": "INTEGER"})
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert open_cache().get("silver_table", lambda: other) == other


def test_a_link_is_ignored(home: Path, tmp_path: Path) -> None:
    open_cache().get("silver_table", lambda: QUERY)
    [file] = files(home)
    elsewhere = file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(elsewhere)
    other = Query("SELECT 2 AS one", {"one": "INTEGER"})
    assert open_cache().get("silver_table", lambda: other) == other


@pytest.mark.parametrize("text", ["", "{", "[]", '{"select": "SELECT 1"}', '{"unknown": 1}'])
def test_a_damaged_file_is_replaced(home: Path, text: str) -> None:
    open_cache().get("silver_table", lambda: QUERY)
    [file] = files(home)
    file.write_text(text, encoding="utf-8")
    assert open_cache().get("silver_table", lambda: QUERY) == QUERY
    assert json.loads(file.read_text(encoding="utf-8"))["select"] == QUERY.select


def test_queries_work_without_a_writable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "a file"
    in_the_way.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    assert open_cache().get("silver_table", lambda: QUERY) == QUERY


def test_queries_not_to_be_kept_stay_in_memory(home: Path) -> None:
    cache = open_cache()
    assert cache.get("silver_table", lambda: QUERY, keep=False) == QUERY
    assert cache.get("silver_table", never, keep=False) == QUERY
    assert files(home) == []
    assert QueryCache().get("silver_table", lambda: QUERY) == QUERY


def test_processes_can_write_concurrently(home: Path) -> None:
    large = Query("SELECT 1 -- " + "x" * 1_000_000, {"one": "INTEGER"})

    def one(_: int) -> Query:
        return open_cache().get("silver_table", lambda: large)

    with ThreadPoolExecutor(8) as pool:
        assert set(map(str, pool.map(one, range(40)))) == {str(large)}
    assert [file.name for file in files(home)] == ["silver_table.json"]


def test_queries_of_old_code_are_deleted(home: Path) -> None:
    for number in range(40):
        open_cache(f"policy {number}").get("silver_table", lambda: QUERY)
    assert len(files(home)) == 32
    assert open_cache("policy 39").get("silver_table", never) == QUERY


def test_queries_in_use_are_kept() -> None:
    open_cache("used").get("silver_table", lambda: QUERY)
    for number in range(40):
        open_cache("used")
        open_cache(f"policy {number}")
    assert open_cache("used").get("silver_table", never) == QUERY


def test_another_policy_concerns_the_queries_that_read_it() -> None:
    one, other = (
        query_caches(Settings(policy=LifecyclePolicy(active_days=days))) for days in (30, 29)
    )
    for reads_policy in (True, False):
        one[reads_policy].get("silver_table", lambda: QUERY)
    changed = Query("SELECT 2 AS one", {"one": "INTEGER"})
    assert other[True].get("silver_table", lambda: changed) == changed
    assert other[False].get("silver_table", never) == QUERY


def test_queries_that_compute_earlier_days_depend_on_the_policy() -> None:
    """Revenue before the first partition depends on the policy, but the table's function does not."""
    for table in tables():
        register(table)
    assets = {asset.table.name: asset for asset in table_assets()}
    overall = assets["gold_overall_metrics"]
    relations = {table.name: table for table in tables()}
    texts = {
        compile_duckdb(overall.rows(relations, LifecyclePolicy(dunning_days=days), assets=assets))
        for days in (20, 21)
    }
    assert len(texts) == 2
    assert not overall.reads_policy
    assert overall.depends_on_policy(assets)
    names = {overall.query_name(zone, opening=True) for zone in ("UTC", "Asia/Tokyo")}
    assert len(names) == 2


def test_a_time_zone_concerns_the_queries_that_read_it() -> None:
    assets = {asset.table.name: asset for asset in table_assets()}
    names = {
        zone: {name: asset.query_name(zone) for name, asset in assets.items()}
        for zone in ("UTC", "Asia/Tokyo")
    }
    differing = {name for name in assets if names["UTC"][name] != names["Asia/Tokyo"][name]}
    assert differing == {
        "silver_account_current_state",
        "silver_user_current_state",
        "silver_user_product_states",
        "gold_state_transition_metrics",
    }
    assert names["Asia/Tokyo"]["silver_user_current_state"].endswith(".Asia.Tokyo")


def test_a_text_is_the_same_in_every_process() -> None:
    code = (
        "from monstera_assets.definitions import table_assets, tables\n"
        "from monstera_assets.lifecycle.policy import LifecyclePolicy\n"
        "from monstera_assets.warehouse.compiler import compile_query\n"
        "known = {table.name: table for table in tables()}\n"
        "for asset in table_assets():\n"
        "    if asset.table.name in ('silver_user_segment_history', 'gold_growth_accounting'):\n"
        "        print(compile_query(asset.rows(known, LifecyclePolicy())))\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    [text] = texts
    assert "window_last_day" in text


def test_parameters_give_what_literals_give() -> None:
    """By hand, days 3 to 5 have 3 rows with the sum 12. The extra parameter is 7."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE facts AS SELECT DATE '2025-01-01' + i::INTEGER - 1 AS day, i AS n"
        " FROM range(1, 11) AS r(i)"
    )
    facts = ibis.table({"day": "date", "n": "int64"}, name="facts")

    def between(window: Window) -> ibis.Table:
        return facts.filter(facts.day >= window.first, facts.day <= window.last)

    first, last = date(2025, 1, 3), date(2025, 1, 5)
    query = compile_query(between(Window.parameters()).mutate(extra=parameter("extra", "int64")))
    assert query.parameters == ("extra", "window_first_day", "window_last_day")
    bind(connection, {"window_first_day": first, "window_last_day": last, "extra": 7})
    found = connection.execute(f"SELECT sum(n), min(extra), count(*) FROM ({query.select})")
    assert found.fetchall() == [(12, 7, 3)]
    literal = compile_duckdb(between(Window.of(first, last)))
    assert connection.execute(f"SELECT sum(n) FROM ({literal})").fetchall() == [(12,)]
    # Parameters are replaced before planning, so the filter reaches the scan, as with literals.
    [(_, plan)] = connection.execute(f"EXPLAIN {query.select}").fetchall()
    assert "2025-01-03" in plan


def test_equal_intermediate_tables_are_computed_once() -> None:
    facts = ibis.table({"user_id": "string", "day": "int64"}, name="facts")

    def latest() -> ibis.Table:
        early = materialized(facts.filter(facts.day < 3))
        return materialized(early.group_by("user_id").aggregate(latest=early.day.max()))

    query = compile_duckdb(latest().inner_join(latest().rename(again="latest"), "user_id"))
    assert query.count(" AS MATERIALIZED ") == 2
    connection = duckdb.connect()
    connection.execute("CREATE TABLE facts AS SELECT 'ada' AS user_id, range AS day FROM range(9)")
    assert connection.execute(query).fetchall() == [("ada", 2, 2)]


def test_sources_with_other_first_days_have_the_same_queries(home: Path) -> None:
    """The seeds have 40 events. Those before the first day belong to its partition."""
    inputs, last = discover_source(SEEDS), date(2025, 6, 30)
    compiled = []
    for first, days in ((date(2024, 7, 1), 365), (date(2025, 6, 1), 30)):
        window = DateWindow(first, last, is_opening=True)
        reading = Reading(first_day=first)
        with duckdb.connect(config={**connection_config(threads=1)}) as connection:
            create_bookkeeping(connection)
            entity_batch(inputs, reading, open_queries()).write(connection, None)
            events = event_batch(inputs, window=window, reading=reading, queries=open_queries())
            events.write(connection, window)
            counts = "SELECT count(*), sum(rows_read) FROM bronze.bronze_loads"
            assert connection.execute(counts).fetchall() == [(days, 40)]
        compiled.append({path.name for path in files(home)})
    assert compiled[0] == compiled[1] != set()
