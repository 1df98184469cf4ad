"""Erasure in a real database leaves no trace of the people, and all totals are unchanged.

A random source is extended with rows in which the people to erase are easily missed: rejected rows,
lines that cannot be parsed, and the metadata of other people's events.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from monstera_assets.bronze.forgotten import ForgottenKeyError, key_path
from monstera_assets.dashboards.site import rebuild_sites, write_entity, write_site
from monstera_assets.definitions import metric_tables, tables
from monstera_assets.operations.exports import exportable, write_export
from monstera_assets.operations.forget import ForgetError, forget_person
from monstera_assets.operations.logs import LogError
from monstera_assets.settings import Settings
from monstera_assets.source.layout import FileFormat
from monstera_assets.warehouse.errors import WarehouseLockedError
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import held
from monstera_assets_tests.helpers.forked_process import run_forked
from monstera_assets_tests.helpers.postgres import postgres_instance, postgres_server
from monstera_assets_tests.inputs.random_source import DAYS, FIRST, write_random_source
from monstera_assets_tests.integration.example_assets import Row
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    Graph,
    SeedsRun,
    assert_same,
    compared_columns,
)
from monstera_assets_tests.integration.test_aliases import OLD, Loads, aliases, event, loads

__all__ = ["loads"]  # a fixture

TABLES = tables()
ALL = [table.name for table in TABLES]
WINDOW = DateWindow(FIRST, FIRST + timedelta(days=DAYS - 1))
LAST = WINDOW.last.isoformat()
FORGOTTEN = ("u001", "u002", "u003")
"""Two of them have each other as targets, and are erased in an order that matters."""
ALIASES = {"legacy1": "u001", "legacy2": "u002", "legacy3": "u003"}
ASKED_FOR = {"u003": "legacy3"}
"""The user who is erased under an alias."""
GONE = (
    *(*FORGOTTEN, *ALIASES, *(f"{user}@example.invalid" for user in (*FORGOTTEN, "legacy1"))),
    "other.one@example.invalid",
)

PRIVATE = {
    "silver_user_sessions": {"session_id"},
    "silver_workflow_steps": {"instance_id"},
    "silver_workflow_runs": {"instance_id"},
}
"""Silver columns in which a keyed hash replaces a value of the person."""


def _event(number: int, user: str, **values: Any) -> dict[str, Any]:
    return {
        "event_id": f"x{number:03}",
        "entity_id": user,
        "entity_type": "user",
        "event_type": "video_edited",
        "timestamp": f"{LAST} 12:00:00",
        "location": "web_app",
        "session_id": f"s-{number}",
        "product_id": "video",
        "is_qualifying_event": "true",
        "is_activation_event": "false",
        "metadata": "{}",
        **values,
    }


def _append(path: Path, rows: list[dict[str, Any]], lines: str = "") -> None:
    with path.open(newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file))
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns).writerows(rows)
        file.write(lines)


def _shift(source: Path) -> None:
    """Move all signups to the first day, so that all users have events."""
    write_random_source(source, seed=3, aliases=False)
    _append(
        source / "users.csv",
        [
            {
                "user_id": user,
                "email": email,
                "account_id": "acc_00",
                "user_created_at": created,
                "country": "DE",
                "plan_type": "free",
                "acquisition_source": "organic",
            }
            for user, email, created in (
                # A second, rejected row of a user, with another address, and the row of an alias.
                ("u001", "other.one@example.invalid", "some day"),
                ("legacy1", "legacy1@example.invalid", f"{FIRST} 00:00:00"),
            )
        ],
        "u002,u002@example.invalid,one field too many,a,b,c,d,e,f\n",
    )
    metadata = [
        {"target_user_id": "u001"},
        {"note": "ask u001@example.invalid. Or U002@EXAMPLE.INVALID!", "project_id": "u001"},
        {"watchers": ["u001", "u004", "u002"], "u003": 1},
    ]
    _append(
        source / "events.csv",
        [
            *(
                _event(
                    n,
                    "u004",
                    metadata=json.dumps(value),
                    event_type="member_invited",
                    product_id="spaces",
                )
                for n, value in enumerate(metadata)
            ),
            # The person's own workflow steps, distinguished by project, session or day.
            _event(10, "u001", event_type="video_created", metadata='{"project_id": "mine"}'),
            _event(11, "u001", metadata='{"project_id": "mine"}'),
            _event(12, "u001", event_type="video_published", metadata='{"project_id": "mine"}'),
            _event(13, "u001", event_type="video_created", session_id="u001-s"),
            _event(14, "u001", event_type="video_created", session_id=""),
            _event(
                15,
                "u001",
                event_type="project_shared",
                product_id="spaces",
                metadata='{"target_user_id": "u002", "email": "u002@example.invalid"}',
            ),
            _event(
                16,
                "u001",
                event_type="project_shared",
                product_id="spaces",
                metadata='{"target_user_id": "u004"}',
            ),
            _event(
                17,
                "u002",
                event_type="project_shared",
                product_id="spaces",
                metadata='{"target_user_id": "u001"}',
            ),
            # Rejected events of these people, and those of other people that name them.
            _event(20, "u001", product_id="nothing", metadata='{"a": "u001@example.invalid"}'),
            _event(21, "u002", metadata="u002 is no JSON"),
            _event(22, "u004", product_id="nothing", metadata='{"target_user_id": "u003"}'),
            _event(23, "u003", entity_type="somebody"),
            # Events of aliases, and events that name them.
            _event(30, "legacy1", session_id="s-10", metadata='{"target_user_id": "legacy2"}'),
            _event(
                31, "u004", event_type="member_invited", metadata='{"target_user_id": "legacy1"}'
            ),
            _event(32, "legacy3", product_id="nothing", metadata='{"target_user_id": "legacy2"}'),
            _event(33, "u004", product_id="nothing", metadata='{"target_user_id": "legacy3"}'),
        ],
        f"x900,u001,user,short {LAST}\nx901,u004,user,mail u003@example.invalid\n",
    )


def _write_aliases(source: Path) -> None:
    # The last row of legacy2 wins.
    rows = [("legacy2", "u001"), *ALIASES.items(), ("u004", "u004")]
    lines = [f"{alias},{user}\n" for alias, user in rows]
    (source / "user_aliases.csv").write_text("".join(["alias_id,user_id\n", *lines]))


@dataclass(frozen=True)
class Erased:
    """A warehouse before and after erasure, and after loading the same source again."""

    graph: Graph
    settings: Settings
    tombstones: Mapping[str, str]
    bytes_before: Counter[str]
    before: dict[str, list[Row]]
    after: dict[str, list[Row]]
    again: dict[str, list[Row]]
    output: Path


def occurrences(*paths: Path) -> Counter[str]:
    """Return how often each name occurs in the bytes of files."""
    data = [path.read_bytes() for path in paths if path.is_file()]
    return Counter({name: sum(each.count(name.encode()) for each in data) for name in GONE})


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Erased]:
    folder = tmp_path_factory.mktemp("forget")
    _shift(folder / "source")
    _write_aliases(folder / "source")
    graph = Graph(folder / "source", folder / "warehouse.duckdb", folder / "home", FIRST)
    output = folder / "exports"
    settings = Settings(source=graph.source, database=graph.database)
    with pytest.MonkeyPatch.context() as patch, graph.instance:
        patch.setenv("DAGSTER_HOME", str(graph.home))
        assert graph.run(WINDOW, only=ALL).success
        chosen = dict.fromkeys(exportable(TABLES), tuple(FileFormat))
        write_export(settings, output, chosen, every_table=True)
        write_export(settings, output, chosen, every_table=True)  # leaves an older snapshot
        before = graph.contents()
        bytes_before = occurrences(graph.database, *output.rglob("*.csv"))
        for user in FORGOTTEN:
            assert not forget_person(settings, ASKED_FOR.get(user, user), TABLES).already
        erased = {user: forget_person(settings, user, TABLES) for user in FORGOTTEN}
        assert all(each.already for each in erased.values())
        tombstones = {user: each.tombstone for user, each in erased.items()}
        after = graph.contents()
        assert graph.run(WINDOW, only=ALL).success
        yield Erased(
            graph, settings, tombstones, bytes_before, before, after, graph.contents(), output
        )


def _rows(erased: Erased, contents: dict[str, list[Row]], name: str) -> list[dict[str, Any]]:
    [table] = [table for table in TABLES if table.name == name]
    return [dict(zip(compared_columns(table), row, strict=True)) for row in contents[name]]


def test_totals_are_unchanged(erased: Erased) -> None:
    """Gold is identical to the last digit; silver and per-user gold tables except for the ids."""
    for table in TABLES:
        names_people = any(column.name == "user_id" for column in table.columns)
        if table.layer == "gold" and not names_people:
            assert erased.after[table.name] == erased.before[table.name], table.name
        elif table.layer != "bronze" and table.name != "silver_events_enriched":
            left_out = PRIVATE.get(table.name, set())
            rows = [
                Counter(
                    tuple(
                        (
                            name,
                            erased.tombstones.get(value, value)
                            if isinstance(value, str)
                            else repr(value),
                        )
                        for name, value in row.items()
                        if name not in left_out
                    )
                    for row in _rows(erased, contents, table.name)
                )
                for contents in (erased.before, erased.after)
            ]
            assert rows[0] == rows[1], table.name


def test_row_counts_are_unchanged(erased: Erased) -> None:
    for name in ALL:
        # The addresses in the metadata of erased people are gone, and so are these faults.
        if name != "bronze_source_faults":
            assert len(erased.after[name]) == len(erased.before[name]), name
    for name in ("bronze_rejected_events", "bronze_rejected_entities"):
        reasons = [
            Counter(row["rejection_reason"] for row in _rows(erased, contents, name))
            for contents in (erased.before, erased.after)
        ]
        assert reasons[0] == reasons[1]
        assert sum(reasons[0].values()) >= 2


def test_loading_the_same_source_gives_the_same_tables(erased: Erased) -> None:
    after, again = (dict(contents) for contents in (erased.after, erased.again))
    # The ledger's digest covers the rows as loaded, which contain tombstones only after the erasure.
    ledgers = [
        [(*row[:2], *row[3:]) for row in each.pop("bronze_loads")] for each in (after, again)
    ]
    assert ledgers[0] == ledgers[1]
    assert_same(after, again)


def test_distinct_values_stay_distinct(erased: Erased) -> None:
    """Each session and project of a person has its own replacement."""
    for name, columns in PRIVATE.items():
        for column in columns:
            old = _rows(erased, erased.before, name)
            new = _rows(erased, erased.after, name)
            for user, tombstone in erased.tombstones.items():
                before = Counter(row[column] for row in old if row["user_id"] == user)
                after = Counter(row[column] for row in new if row["user_id"] == tombstone)
                assert sorted(before.values()) == sorted(after.values())
                kept = set(before) & set(after)
                assert all(value.startswith("2024-") for value in kept)  # runs distinguished by day


def test_no_name_is_in_the_bytes(erased: Erased) -> None:
    # Before the erasure, all names occur, and ids occur in many places.
    assert all(erased.bytes_before[name] for name in GONE)
    files = list(erased.graph.database.parent.glob("warehouse.duckdb*"))
    assert len(files) == 3  # database, key and register of exports: no log, no partial file
    found = occurrences(
        *files,
        *(path for path in erased.output.rglob("*") if path.is_file()),
        *(path for path in erased.graph.home.rglob("*") if path.is_file()),
    )
    assert not {name: count for name, count in found.items() if count}
    assert len(list((erased.output / "snapshots").iterdir())) == 1


def test_no_value_of_the_database_names_them(erased: Erased) -> None:
    """This test examines each text in each table, so it does not depend on compression."""
    with duckdb.connect(str(erased.graph.database), read_only=True) as connection:
        columns = connection.execute(
            "SELECT schema_name || '.' || table_name, column_name FROM duckdb_columns()"
            " WHERE NOT internal AND data_type LIKE '%VARCHAR%'"
        ).fetchall()
        assert len(columns) > 150
        for table, column in columns:
            found = connection.execute(
                f"SELECT DISTINCT CAST({column} AS VARCHAR) FROM {table} WHERE"
                f" regexp_matches(lower(CAST({column} AS VARCHAR)),"
                " '\\bu00[123]\\b|legacy|other.one@')"
            ).fetchall()
            assert not found, (table, column, found)


def test_metadata_of_others_and_rejected_rows(erased: Erased) -> None:
    one, two, three = (erased.tombstones[user] for user in FORGOTTEN)
    events = {row["event_id"]: row for row in _rows(erased, erased.after, "bronze_events")}
    assert [json.loads(events[f"x00{n}"]["metadata"]) for n in range(3)] == [
        {"target_user_id": one},
        {"note": "ask [email]. Or [email]!", "project_id": one},
        {"watchers": [one, "u004", two], three: 1},
    ]
    own = json.loads(events["x010"]["metadata"])
    assert list(own) == ["project_id"]
    assert own == json.loads(events["x011"]["metadata"])
    assert events["x014"]["session_id"] is None
    assert json.loads(events["x013"]["metadata"]) == {}
    targets = [json.loads(events[f"x0{n}"]["metadata"]) for n in (15, 16)]
    assert [list(target) for target in targets] == [["target_user_id"]] * 2
    assert targets[0] != targets[1]
    rejected = _rows(erased, erased.after, "bronze_rejected_events")
    raw = {
        row["event_id"]: row
        for row in (json.loads(r["raw_row"]) for r in rejected if r["raw_row"].startswith("{"))
    }
    assert raw["x020"]["entity_id"] == one
    assert raw["x020"]["metadata"] == "{}"
    assert (raw["x021"]["entity_id"], raw["x021"]["metadata"]) == (two, "removed")
    assert json.loads(raw["x022"]["metadata"]) == {"target_user_id": three}
    assert raw["x023"]["entity_id"] == three
    lines = sorted(r["raw_row"] for r in rejected if not r["raw_row"].startswith("{"))
    assert lines == sorted(f"[a line about {who}, removed]" for who in (one, three))
    assert [events[f"x03{n}"]["entity_id"] for n in (0, 1)] == [one, "u004"]
    # An alias of a target has the hash of the target.
    assert json.loads(events["x030"]["metadata"]) == targets[0]
    assert json.loads(events["x031"]["metadata"]) == {"target_user_id": one}
    assert raw["x032"]["entity_id"] not in (three, "legacy3")
    aliases = _rows(erased, erased.after, "bronze_user_aliases")
    merged = {row["alias_id"]: row["merged_user_id"] for row in aliases}
    assert sorted(merged.values()) == sorted((one, two, three, "u004"))
    assert merged[raw["x032"]["entity_id"]] == three
    [target] = json.loads(raw["x033"]["metadata"]).values()
    assert target == raw["x032"]["entity_id"]
    users = {row["user_id"]: row for row in _rows(erased, erased.after, "bronze_users")}
    # other.one@ is the first of two addresses in the alphabet; its row was rejected.
    assert users[one]["email"] == f"{one}.0002@forgotten.invalid"
    assert users[two]["email"] == f"{two}.0001@forgotten.invalid"


def test_only_a_keyed_hash_is_kept(erased: Erased) -> None:
    path = key_path(erased.graph.database)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text().strip()
    files = [p for p in erased.graph.database.parent.rglob("*") if p.is_file() and p != path]
    assert not [
        p for p in files if key.encode() in p.read_bytes() or bytes.fromhex(key) in p.read_bytes()
    ]
    with duckdb.connect(str(erased.graph.database), read_only=True) as connection:
        kept = connection.execute(
            "SELECT kind, count(*) FROM operations.forgotten GROUP BY 1"
        ).fetchall()
    assert sorted(kept) == [("email", 5), ("key", 1), ("user_id", 6)]


def test_forgetting_again_and_wrong_ids(erased: Erased, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(erased.graph.home))
    again = forget_person(erased.settings, "u001", TABLES)
    assert (again.tombstone, again.already) == (erased.tombstones["u001"], True)
    for user, message in (
        ("nobody", "contains no user with this id"),
        (" ", "The user id is empty"),
        (erased.tombstones["u001"], "is a tombstone"),
        ("acc_00", "contains no user with this id"),
    ):
        with pytest.raises(ForgetError, match=message):
            forget_person(erased.settings, user, TABLES)


def test_load_without_the_key_is_refused(erased: Erased, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    shutil.copy(erased.graph.database, database)
    graph = Graph(erased.graph.source, database, tmp_path / "home", FIRST)
    with graph.instance:
        result = graph.run(only=ENTITIES)
        assert not result.success
        assert "is missing. Without the key that identifies erased people" in str(
            result.failure_data_for_node("load_entities")
        )
        wrong = key_path(database)
        wrong.write_text("00" * 32)
        wrong.chmod(0o644)
        with pytest.raises(ForgottenKeyError, match="is readable by other users"):
            forget_person(Settings(database=database), "u005", TABLES)
        wrong.chmod(0o600)
        with pytest.raises(ForgottenKeyError, match="belongs to another warehouse"):
            forget_person(Settings(database=database), "u005", TABLES)
    assert graph.contents_of(["bronze_users"]) == {"bronze_users": erased.again["bronze_users"]}


def test_an_alias_that_is_added_after_the_erasure_is_erased_too(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    loads.load(users=[OLD])
    forgotten = forget_person(loads.settings, "old", TABLES)
    [(user, alias)] = loads.rows("SELECT user_id, alias_id FROM bronze.bronze_users")
    assert (alias, {*loads.entities().values()}) == (forgotten.tombstone, {user})
    email = loads.rows("SELECT email FROM bronze.bronze_users")
    assert email == [(f"{alias}.0001@forgotten.invalid",)]
    loads.load(events=[event(1, 4, "ada"), event(2, 5, "old"), event(3, 6, "newcomer")],
               user_aliases=aliases("old=ada", "newcomer=ada"))  # fmt: skip
    assert loads.rows("SELECT user_id, alias_id FROM bronze.bronze_users") == [(user, alias)]
    assert loads.rows("SELECT email FROM bronze.bronze_users") == email
    assert loads.entities() == {"e1": user, "e2": user, "e3": user}
    again = forget_person(loads.settings, "ada", TABLES)
    assert (again.tombstone, again.already) == (user, False)
    assert b"newcomer" not in loads.database.read_bytes()
    assert forget_person(loads.settings, "newcomer", TABLES).already


# The following tests need no second load and use copies of the seeds' database.


@pytest.fixture
def seeds(tmp_path: Path, seeds_run: SeedsRun, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    database = tmp_path / "warehouse.duckdb"
    shutil.copy(seeds_run.database, database)
    return Settings(database=database, lock_timeout_seconds=0.2)


def forget_in_a_process(settings: Settings, before: str) -> subprocess.CompletedProcess[str]:
    program = f"""
import os, resource, sys
from pathlib import Path
from monstera_assets.dashboards.site import write_entity, write_site
from monstera_assets.definitions import metric_tables, tables
from monstera_assets.operations import forget
from monstera_assets.warehouse import files
from monstera_assets.settings import Settings
{before}
forget.forget_person(Settings(database=Path(sys.argv[1])), "usr_05", tables())
"""
    return run_forked(program, str(settings.database))


def test_dashboards(seeds: Settings, tmp_path: Path) -> None:
    """The sites name the person, who is at high risk, and so does a page opened for them."""
    with duckdb.connect(str(seeds.database)) as connection:
        connection.execute(
            "UPDATE gold.gold_user_churn_scores SET risk_band = 'high' WHERE user_id = 'usr_05'"
        )
    sites = [seeds.dashboards, tmp_path / "elsewhere"]
    for site in sites:
        write_site(seeds, site, metric_tables())
        write_site(seeds, site, metric_tables())  # leaves an older snapshot
        write_entity(seeds, site, metric_tables(), "person", "usr_05")
        write_entity(seeds, site, metric_tables(), "account", "acc_03")

    def naming(site: Path) -> list[str]:
        files = [path for path in site.rglob("*") if path.is_file()]
        found = [path for path in files if b"usr_05" in path.read_bytes()]
        return sorted(
            {path.name for path in [*found, *files] if "usr_05" in path.name or path in found}
        )

    named = {"account_acc_03.html", "accounts.html", "person_usr_05.html", "risk.html"}
    assert [{*naming(site)} for site in sites] == [named, named]
    done = forget_person(seeds, "usr_05", TABLES, partial(rebuild_sites, seeds, TABLES))
    assert [*done.sites] == [site.absolute() for site in sites]
    for site in sites:
        assert naming(site) == []
        assert f"person_{done.tombstone}.html" in {
            path.name for path in (site / "current").iterdir()
        }
        assert len([*(site / "snapshots").iterdir()]) == 1
        assert not (site / "opened").exists()


@pytest.mark.faults
def test_killed_before_the_tables_are_written(seeds: Settings) -> None:
    before = _hash(seeds.database)
    killed = forget_in_a_process(seeds, "forget._erase_runs = lambda *_: os._exit(9)")
    assert killed.returncode == 9, killed.stderr
    assert _hash(seeds.database) == before
    assert not forget_person(seeds, "usr_05", TABLES).already
    assert b"usr_05" not in seeds.database.read_bytes()


def test_killed_before_the_file_is_rewritten(seeds: Settings) -> None:
    killed = forget_in_a_process(seeds, "files.synchronize = lambda *_: os._exit(9)")
    assert killed.returncode == 9, killed.stderr
    assert b"usr_05" in seeds.database.read_bytes()  # in free pages
    assert forget_person(seeds, "usr_05", TABLES).already
    assert b"usr_05" not in seeds.database.read_bytes()
    assert not list(seeds.database.parent.glob("*.rewriting*"))


@pytest.mark.faults
def test_disk_without_room_for_a_second_file(seeds: Settings) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))"
    full = forget_in_a_process(
        seeds,
        f"real = forget.compact_file\ndef rewrite(*a):\n    {limit}\n    return real(*a)\n"
        "forget.compact_file = rewrite",
    )
    assert full.returncode == 1
    assert "could not be rewritten" in full.stderr
    assert "usr_05" not in full.stderr
    assert forget_person(seeds, "usr_05", TABLES).already
    assert b"usr_05" not in seeds.database.read_bytes()


def test_locked_database(seeds: Settings) -> None:
    with held(seeds.database), pytest.raises(WarehouseLockedError):
        forget_person(seeds, "usr_05", TABLES)


def test_logs(seeds: Settings, tmp_path: Path) -> None:
    home = tmp_path / "dagster_home"
    (home / "storage").mkdir(parents=True)
    (home / "storage" / "step.err").write_text("usr_05 and usr_055, usr_05.\n")
    email = (
        duckdb.connect(str(seeds.database), read_only=True)
        .execute("SELECT email FROM bronze.bronze_users WHERE user_id = 'usr_05'")
        .fetchall()[0][0]
    )
    path = home / "index.db"
    with sqlite3.connect(path) as log:
        log.execute("CREATE TABLE event_logs (id INTEGER PRIMARY KEY, event TEXT)")
        log.execute(
            "INSERT INTO event_logs (event) VALUES (?)",
            [json.dumps({"examples": f"| usr_05 | {email} |\n| usr_15 | x |"})],
        )
    log.close()
    done = forget_person(seeds, "usr_05", TABLES)
    assert set(done.logs) == {path, home / "storage" / "step.err"}
    assert (home / "storage" / "step.err").read_text() == (
        f"{done.tombstone} and usr_055, {done.tombstone}.\n"
    )
    with sqlite3.connect(path) as log:
        [(event,)] = log.execute("SELECT event FROM event_logs").fetchall()
    log.close()
    assert json.loads(event) == {
        "examples": f"| {done.tombstone} | {done.tombstone} |\n| usr_15 | x |"
    }
    assert b"usr_05" not in path.read_bytes()
    assert email.encode() not in path.read_bytes()


@pytest.mark.postgres
def test_logs_in_postgresql(
    seeds: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset
    def noted() -> dg.MaterializeResult[None]:
        row = dg.MetadataValue.md("| usr_05 | usr_055 |\n")
        return dg.MaterializeResult(metadata={"examples": row})

    home = tmp_path / "home"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with postgres_server() as server, postgres_instance(server, home) as instance:
        done = dg.materialize([noted], instance=instance, tags={"asked_for": "usr_05"})
        assert done.success
        [changed] = forget_person(seeds, "usr_05", TABLES).logs
        assert str(changed).startswith("postgresql+psycopg2://postgres@/dagster_")
        [run] = instance.get_runs()
        [tombstone] = [run.tags["asked_for"]]
        assert tombstone.startswith("forgotten_")
        made = instance.get_latest_materialization_event(noted.key)
        assert made is not None
        assert made.asset_materialization is not None
        examples = made.asset_materialization.metadata["examples"].value
        assert examples == f"| {tombstone} | usr_055 |\n"
        subprocess.run(["psql", "-U", "postgres", "-h", server, "-c", "CHECKPOINT"], check=True)
        stored = [
            path.read_bytes() for path in (server / "data" / "base").rglob("*") if path.is_file()
        ]
        assert any(b"usr_055" in data for data in stored)
        assert not any(re.search(rb"usr_05(?!5)", data) for data in stored)


@pytest.mark.postgres
def test_a_person_is_not_erased_without_the_postgresql_server(
    seeds: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with postgres_server() as server, postgres_instance(server, home):
        pass
    before = _hash(seeds.database)
    with pytest.raises(
        LogError, match="Dagster's PostgreSQL database cannot be rewritten"
    ) as error:
        forget_person(seeds, "usr_05", TABLES)
    assert "usr_05" not in str(error.value)
    assert _hash(seeds.database) == before


def _hash(database: Path) -> list[tuple[str, Any]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return [
            (
                table.name,
                connection.execute(
                    f"SELECT sum(hash(t)) FROM {table.qualified_name} AS t"
                ).fetchall(),
            )
            for table in TABLES
        ]
