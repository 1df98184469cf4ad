"""Aliases of users: ids that are replaced, rows that are set aside, and aliases that change."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from monstera_assets.bronze.load_entities import entity_load
from monstera_assets.bronze.load_events import event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.definitions import table_assets, tables
from monstera_assets.operations.run_plan import run_tags
from monstera_assets.operations.runs import failures_of
from monstera_assets.operations.source_check import check_source
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.operations.source_findings import print_check
from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.helpers.source_files import Texts, write_rows, write_source
from monstera_assets_tests.integration.example_runs import Graph, assert_same
from monstera_assets_tests.integration.test_odd_sources import (
    ACCOUNT,
    EVENT,
    FACT,
    FAMILY,
    USER,
    VIDEO,
)

FIRST, LAST = date(2025, 6, 1), date(2025, 6, 9)
NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
READING = Reading(first_day=FIRST)
ADA = {**USER, "user_created_at": "2025-06-03 08:00:00"}
OLD = {**USER, "user_id": "old", "country": "DE", "user_created_at": "2025-06-02 08:00:00"}


def event(number: int, day: int, entity: str, **values: str) -> Texts:
    return {
        **EVENT,
        "event_id": f"e{number}",
        "entity_id": entity,
        "timestamp": f"2025-06-{day:02} 10:00:00",
        **values,
    }


def deletion(day: int, user: str) -> Texts:
    values = {"entity_type": "user", "event_type": "user_deleted", "metadata": ""}
    return {**FACT, "entity_id": user, "timestamp": f"2025-06-{day:02} 10:00:00", **values}


def aliases(*pairs: str) -> list[Texts]:
    """Return the rows of pairs such as "old=ada"."""
    split = [pair.split("=") for pair in pairs]
    return [{"alias_id": alias, "user_id": user} for alias, user in split]


@dataclass
class Loads:
    """A source and a warehouse into which it is loaded without Dagster."""

    source: Path
    database: Path

    def load(self, last: int = LAST.day, **inputs: Sequence[Texts]) -> Loads:
        """Write inputs and load them in a run up to a day of June 2025."""
        for name, rows in inputs.items():
            write_rows(self.source / f"{name}.csv", rows)
        found, window = discover_source(self.source), DateWindow(FIRST, date(2025, 6, last))
        queries = open_queries()
        entities = entity_load(found, READING, queries, window)
        events = event_batch(found, window=window, reading=READING, queries=queries)
        for batch, days in ((entities, None), (events, window)):
            with (
                connect(str(self.database), connection_config(threads=2)) as connection,
                DuckDBEngine(connection).transaction(),
            ):
                batch.write(connection, days)
        return self

    def compare(self, **inputs: Sequence[Texts]) -> SourceChanges:
        """Write inputs and compare them with the warehouse."""
        for name, rows in inputs.items():
            write_rows(self.source / f"{name}.csv", rows)
        return compare_source(self.settings, [])

    @property
    def settings(self) -> Settings:
        return Settings(source=self.source, database=self.database, start_date=FIRST, threads=2)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def users(self) -> list[tuple[object, ...]]:
        """Return the id, first day, country, alias and signup date of each version."""
        return self.rows(
            "SELECT user_id, day(valid_from), country, alias_id, day(signup_date)"
            " FROM bronze.bronze_users ORDER BY user_id, valid_from"
        )

    def entities(self) -> dict[object, object]:
        """Return the entity of each accepted event."""
        found = self.rows("SELECT event_id, entity_id FROM bronze.bronze_events ORDER BY ALL")
        return dict(found)  # type: ignore[arg-type]

    def rejected(self, name: str = "events") -> list[tuple[object, ...]]:
        """Return the id and reason of each rejected row."""
        table, key = (
            ("bronze_rejected_events", "event_id")
            if name == "events"
            else ("bronze_rejected_entities", "user_id" if name == "users" else "entity_id")
        )
        of_input = "" if name == "events" else f" WHERE input_name = '{name}'"
        return self.rows(
            f"SELECT raw_row ->> '$.{key}', rejection_reason FROM bronze.{table}{of_input}"
            " ORDER BY ALL"
        )


@pytest.fixture
def loads(tmp_path: Path) -> Loads:
    source = write_source(
        tmp_path / "source",
        {
            "accounts": [ACCOUNT],
            "users": [ADA],
            "product_catalog": [FAMILY, VIDEO],
            "events": [event(1, 4, "ada"), event(2, 5, "old")],
            "user_aliases": aliases("old=ada"),
        },
    )
    return Loads(source, tmp_path / "w.duckdb")


# ---------------------------------------------------------------- ids


def test_ids_of_users_are_replaced(loads: Loads) -> None:
    loads.load()
    assert loads.entities() == {"e1": "ada", "e2": "ada"}
    assert loads.rejected() == []


def test_targets_are_replaced_in_events_of_any_type(loads: Loads) -> None:
    given = [
        '{"target_user_id": "old", "n": 1.50, "x": null, "t": {"target_user_id": "old"}}',
        '{"target_user_id": "other"}',
        '{"target": "old", "note": "target_user_id old"}',
        "",
    ]
    types = ("admin", "system", "user", "user")
    loads.load(
        events=[
            event(number, 5, "ada" if kind == "user" else "old", entity_type=kind, metadata=text)
            for number, (kind, text) in enumerate(zip(types, given, strict=True))
        ]
    )
    found = loads.rows("SELECT entity_id, metadata FROM bronze.bronze_events ORDER BY event_id")
    assert [entity for entity, _ in found] == ["old", "old", "ada", "ada"]
    assert [text and json.loads(str(text)) for _, text in found] == [
        {"target_user_id": "ada", "n": 1.5, "x": None, "t": {"target_user_id": "old"}},
        {"target_user_id": "other"},
        {"target": "old", "note": "target_user_id old"},
        None,
    ]


def test_an_unreadable_target_does_not_stop_a_load(loads: Loads) -> None:
    texts = ('{"target_user_id": "old"', '["target_user_id"]', '{"target_user_id": ["old"]}')
    loads.load(events=[event(n, 5, "old", metadata=text) for n, text in enumerate(texts)])
    assert loads.rejected() == [("e0", "unreadable_metadata"), ("e1", "unreadable_metadata")]


def test_an_address_as_a_target_is_replaced_before_addresses_are_removed(loads: Loads) -> None:
    target = '{"target_user_id": "old@example.com"}'
    loads.load(
        events=[event(1, 5, "ada", metadata=target)], user_aliases=aliases("old@example.com=bob")
    )
    assert loads.rows("SELECT metadata, faults FROM bronze.bronze_events") == [
        ('{"target_user_id":"bob"}', None)
    ]


def test_targets_are_replaced_in_facts(loads: Loads) -> None:
    fact = {**FACT, "metadata": '{"total_seats": 7, "target_user_id": "old"}'}
    loads.load(subscription_events=[fact])
    assert loads.rows(
        "SELECT total_seats, metadata ->> '$.target_user_id' FROM bronze.bronze_subscription_events"
    ) == [(7, "ada")]


def test_chains_are_followed_to_their_end(loads: Loads) -> None:
    length = 40
    names = [*(f"id{number}" for number in range(length)), "ada"]
    pairs = [f"{one}={other}" for one, other in pairwise(names)]
    loads.load(
        events=[event(number, 5, name) for number, name in enumerate(names)],
        user_aliases=aliases(*pairs[::2], *pairs[1::2]),
    )
    assert set(loads.entities().values()) == {"ada"}
    assert loads.rows(
        "SELECT user_id, merged_user_id FROM bronze.bronze_user_aliases WHERE alias_id = 'id3'"
    ) == [("id4", "ada")]


def test_the_last_row_of_the_last_file_wins(loads: Loads) -> None:
    (loads.source / "user_aliases.csv").unlink()
    write_rows(loads.source / "user_aliases/b.csv", aliases("old=eve", "old=ada", "old=ada"))
    write_rows(loads.source / "user_aliases/a.csv", aliases("old=bob"))
    loads.load()
    assert loads.entities() == {"e1": "ada", "e2": "ada"}
    [ledger] = loads.rows(
        "SELECT rows_read, rows_accepted, rows_repeated, rows_rejected, rows_stored"
        " FROM bronze.bronze_entity_loads WHERE input_name = 'user_aliases'"
    )
    assert ledger == (4, 1, 1, 2, 1)
    reasons = loads.rows("SELECT rejection_reason FROM bronze.bronze_rejected_entities")
    assert reasons == [("superseded",)] * 2


def test_rows_without_an_id_are_rejected(loads: Loads) -> None:
    loads.load(user_aliases=aliases("=ada", "old=NULL", "other=ada"))
    reasons = loads.rows("SELECT rejection_reason FROM bronze.bronze_rejected_entities ORDER BY 1")
    assert reasons == [("missing_alias_id",), ("missing_user_id",)]
    assert loads.rejected() == [("e2", "unknown_user")]


def test_ids_in_a_cycle_or_leading_into_one_stay_and_are_named(loads: Loads) -> None:
    names = ("x", "y", "z", "w", "self")
    users = [{**USER, "user_id": name} for name in names]
    loads.load(
        users=[ADA, *users],
        events=[event(number, 5, name) for number, name in enumerate((*names, "old"))],
        user_aliases=aliases("x=y", "y=x", "z=w", "w=x", "self=self", "old=ada"),
    )
    assert list(loads.entities().values()) == [*names, "ada"]
    assert [user for user, *_ in loads.users()] == ["ada", *sorted(names)]
    assert loads.rows(
        "SELECT fault, rows FROM (SELECT faults AS fault, count(*) AS rows"
        " FROM bronze.bronze_user_aliases WHERE merged_user_id = alias_id GROUP BY ALL)"
    ) == [("alias_in_cycle", 5)]


def test_ids_and_digests_are_those_of_the_rows_as_read(loads: Loads) -> None:
    event_without_id = event(2, 5, "old", event_id="", metadata='{"target_user_id": "old"}')
    digests = []
    for pairs in (["old=ada"], ["other=ada"]):
        loads.load(users=[ADA, OLD], events=[event_without_id], user_aliases=aliases(*pairs))
        digests += loads.rows(
            "SELECT event_id, rows_digest FROM bronze.bronze_events JOIN bronze.bronze_loads"
            " ON partition_date = event_date"
        )
    assert digests[0] == digests[1]


# ---------------------------------------------------------------- users


def test_rows_under_an_alias_are_set_aside(loads: Loads) -> None:
    invalid = {**OLD, "user_created_at": "some day"}
    loads.load(users=[OLD, ADA, OLD, invalid, {**OLD, "account_id": "none"}])
    assert loads.users() == [("ada", 9, "US", None, 2)]
    assert loads.rejected("users") == [
        ("old", "merged"),
        ("old", "merged"),
        ("old", "unknown_account"),
        ("old", "unreadable_user_created_at"),
    ]
    [ledger] = loads.rows(
        "SELECT rows_read, rows_accepted, rows_repeated, rows_rejected, rows_stored"
        " FROM bronze.bronze_entity_loads WHERE input_name = 'users'"
    )
    assert ledger == (5, 1, 0, 4, 1)


def test_the_user_exists_from_the_earlier_creation(loads: Loads) -> None:
    events = [event(1, 1, "ada"), event(2, 2, "ada"), event(3, 2, "old"), event(4, 3, "old")]
    loads.load(users=[ADA, OLD], events=events)
    assert loads.rejected() == [("e1", "before_user_creation")]
    assert loads.rows("SELECT user_created_at::VARCHAR, stated_created_at::VARCHAR"
                      " FROM bronze.bronze_users") == [
        ("2025-06-02 08:00:00", "2025-06-03 08:00:00")
    ]  # fmt: skip
    # A later alias does not make the user younger.
    loads.load(users=[ADA, {**OLD, "user_id": "newer", "user_created_at": "2025-06-08 08:00"}, OLD],
               user_aliases=aliases("old=ada", "newer=ada"))  # fmt: skip
    assert loads.users() == [("ada", 9, "US", None, 2)]


def test_the_creation_of_an_alias_is_remembered(loads: Loads) -> None:
    loads.load(users=[ADA, OLD])
    loads.load(users=[ADA])
    assert loads.users() == [("ada", 9, "US", None, 2)]


def test_a_user_without_a_row_has_that_of_its_alias_until_it_has_its_own(loads: Loads) -> None:
    loads.load(2, users=[OLD])
    loads.load(4, users=[{**OLD, "country": "FR"}])
    assert loads.users() == [("ada", 2, "DE", "old", 2), ("ada", 4, "FR", "old", 2)]
    loads.load(6, users=[OLD, {**ADA, "country": "UK"}])
    assert loads.users() == [("ada", 6, "UK", None, 2)]
    assert loads.rejected("users") == [("old", "merged")]
    loads.load(7, users=[{**OLD, "country": "AU"}])
    assert loads.users() == [("ada", 6, "UK", None, 2)]
    assert loads.rejected() == []


def test_of_several_aliases_the_earliest_is_adopted(loads: Loads) -> None:
    later = {**OLD, "user_id": "a", "user_created_at": "2025-06-03 08:00:00"}
    equal = {**OLD, "user_id": "older", "country": "FR"}
    loads.load(users=[later, equal, OLD], user_aliases=aliases("a=old", "old=ada", "older=ada"))
    assert loads.users() == [("ada", 9, "DE", "old", 2)]
    assert loads.rejected("users") == [("a", "merged"), ("older", "merged")]


def test_versions_of_an_alias_that_is_merged_later_are_dropped(loads: Loads) -> None:
    loads.load(2, users=[ADA, OLD], user_aliases=aliases("other=ada"))
    loads.load(3, users=[ADA, {**OLD, "country": "FR"}])
    assert [user for user, *_ in loads.users()] == ["ada", "old", "old"]
    loads.load(4, users=[ADA], user_aliases=aliases("old=ada"))
    assert loads.users() == [("ada", 2, "US", None, 2)]
    assert loads.entities() == {"e1": "ada"}  # e2 is dated after the run's last day


def test_versions_of_an_alias_that_is_merged_later_become_those_of_the_user(loads: Loads) -> None:
    loads.load(2, users=[OLD], user_aliases=aliases("other=ada"))
    loads.load(3, users=[{**OLD, "country": "FR"}])
    loads.load(4, users=[{**USER, "user_id": "bob"}], user_aliases=aliases("old=ada"))
    assert loads.users() == [
        ("ada", 2, "DE", "old", 2),
        ("ada", 3, "FR", "old", 2),
        ("bob", 4, "US", None, 1),
    ]
    assert loads.rejected() == []


def test_a_withdrawn_alias_is_a_user_again(loads: Loads) -> None:
    loads.load(2, users=[ADA, OLD])
    loads.load(4, user_aliases=aliases("other=ada"))
    assert loads.users() == [("ada", 2, "US", None, 3), ("old", 4, "DE", None, 2)]
    loads.load(user_aliases=aliases("other=ada"))
    assert loads.entities() == {"e1": "ada", "e2": "old"}


def test_a_withdrawn_alias_takes_its_versions_back(loads: Loads) -> None:
    loads.load(2, users=[OLD])
    loads.load(4, users=[{**OLD, "country": "FR"}], user_aliases=aliases("old=bob"))
    assert loads.users() == [("bob", 2, "DE", "old", 2), ("bob", 4, "FR", "old", 2)]
    loads.load(5, user_aliases=aliases("other=ada"))
    assert loads.users() == [("old", 2, "DE", None, 2), ("old", 4, "FR", None, 2)]


def test_an_account_under_a_users_id_follows_the_user(loads: Loads) -> None:
    (loads.source / "accounts.csv").unlink()
    old = {**OLD, "account_id": ""}
    loads.load(2, users=[old], user_aliases=aliases("other=ada"))
    loads.load(4, user_aliases=aliases("old=ada"))
    assert loads.rows("SELECT user_id, account_id FROM bronze.bronze_users") == [("ada", "ada")]
    assert loads.rows("SELECT account_id FROM bronze.bronze_accounts") == [("ada",)]


def test_aliases_of_users_that_only_events_name(loads: Loads) -> None:
    (loads.source / "users.csv").unlink()
    loads.load(events=[event(1, 4, "ada"), event(2, 3, "old"), event(3, 3, "alone")])
    assert loads.users() == [("ada", 9, "unknown", None, 3), ("alone", 9, "unknown", None, 3)]
    assert loads.entities() == {"e1": "ada", "e2": "ada", "e3": "alone"}


def test_the_deletion_of_an_alias_changes_nothing(loads: Loads) -> None:
    facts = [deletion(4, "old"), {**deletion(6, "ada"), "event_id": "g"}]
    events = [event(1, 5, "ada"), event(2, 5, "old"), event(3, 7, "old")]
    loads.load(users=[ADA, OLD], events=events, subscription_events=facts)
    assert loads.rejected("subscription_events") == [("old", "merged")]
    assert loads.rejected() == [("e3", "after_user_deletion")]
    assert loads.rows("SELECT entity_id FROM bronze.bronze_subscription_events") == [("ada",)]


def test_a_rejected_user_is_named_for_events_of_its_alias(loads: Loads) -> None:
    loads.load(users=[{**ADA, "account_id": "none"}, {**USER, "user_id": "bob"}])
    assert (
        loads.rows("SELECT rejection_reason, rejection_detail FROM bronze.bronze_rejected_events")
        == [("user_rejected", "unknown_account")] * 2
    )


# ---------------------------------------------------------------- checks


def test_merged_rows_are_no_finding(loads: Loads) -> None:
    write_rows(loads.source / "users.csv", [OLD, ADA, OLD, OLD])
    write_rows(loads.source / "user_aliases.csv", aliases("old=ada", "x=x"))
    found = check_source(loads.settings, NOW)
    counts = {each.input: each for each in found.inputs}
    assert (counts["users"].rows_accepted, counts["users"].rows_merged) == (1, 3)
    assert counts["users"].rows_rejected == 0
    assert counts["user_aliases"].rows_accepted == 2
    with (console := Console(width=120)).capture() as printed:
        print_check(console, found)
    assert re.search("superseded +merged +rejected\n", printed.get())
    assert re.search("users +CSV .comma. +1 +4 +1 +0 +0 +3 +0\n", printed.get())
    assert [(each.input, each.reason, each.example) for each in found.findings] == [
        ("user_aliases", "alias_in_cycle", "x")
    ]


def test_the_range_includes_events_before_the_users_own_creation(loads: Loads) -> None:
    write_rows(loads.source / "users.csv", [ADA, OLD])
    write_rows(loads.source / "events.csv", [event(1, 2, "ada"), event(2, 5, "old")])
    assert source_range(loads.settings) == DateWindow(date(2025, 6, 2), date(2025, 6, 5))


# ---------------------------------------------------------------- aliases that change


def days(changes: SourceChanges) -> list[int]:
    return [day.day for day in changes.effect.event_days]


def test_a_changed_alias_affects_the_days_that_name_it(loads: Loads) -> None:
    target = '{"target_user_id": "old"}'
    loads.load(
        users=[ADA, {**USER, "user_id": "bob"}],
        events=[
            event(1, 3, "ada"),
            event(2, 4, "old"),  # rejected until the alias is known
            event(3, 5, "bob"),
            event(4, 6, "bob", metadata=target),
            event(5, 7, "old", entity_type="admin"),
            event(6, 8, "bob"),
        ],
        user_aliases=aliases("other=nobody"),
    )
    assert loads.rejected() == [("e2", "unknown_user")]
    changes = loads.compare(user_aliases=aliases("old=ada"))
    assert changes.inputs == ("user_aliases",)
    assert (days(changes), changes.effect.affects_from) == ([4, 6], date(2025, 6, 4))
    loads.load()
    assert loads.compare().effect.event_days == ()
    # A stored row does not show its alias, so all days of the former user count.
    assert days(loads.compare(user_aliases=aliases("old=bob"))) == [3, 4, 6]
    assert days(loads.compare(user_aliases=aliases("other=ada"))) == [3, 4, 6]


def test_a_merged_user_affects_the_days_from_its_signup_on(loads: Loads) -> None:
    loads.load(users=[ADA, OLD], user_aliases=aliases("other=nobody"))
    effect = loads.compare(user_aliases=aliases("old=ada")).effect
    assert effect.affects_from == date(2025, 6, 2)
    # The creation of ada changes, but no event of ada is dated before the former creation.
    assert [day.day for day in effect.event_days] == [5]


def test_an_added_user_affects_the_rejected_events_of_its_alias(loads: Loads) -> None:
    loads.load(users=[{**USER, "user_id": "bob"}])
    assert loads.rejected() == [("e1", "unknown_user"), ("e2", "unknown_user")]
    assert days(loads.compare(users=[{**USER, "user_id": "bob"}, ADA])) == [4, 5]


# ---------------------------------------------------------------- the whole graph


@pytest.mark.slow
def test_an_alias_added_on_a_morning_equals_a_run_from_scratch(tmp_path: Path) -> None:
    """A user's events, target and row are merged after 364 days have been computed."""
    source = shutil.copytree(SEEDS, tmp_path / "source")
    start, before, last = date(2024, 7, 1), date(2025, 6, 29), date(2025, 6, 30)
    graph = Graph(source, tmp_path / "w.duckdb", tmp_path / "home", start)
    computed = [table.name for table in tables() if table.layer != "bronze"]
    loaded = ["bronze_events", "bronze_rejected_events", "bronze_user_aliases"]
    with graph.instance:
        assert graph.run(DateWindow(start, before)).success
        # usr_18 is the target of an event, and usr_05 has none.
        write_rows(source / "user_aliases.csv", aliases("usr_18=usr_11", "usr_05=new"))
        changes = compare_source(graph.settings, table_assets(graph.settings))
        result = graph.run(tags=run_tags(changes))
        assert result.success, failures_of(result.all_events)
        failing = [
            check
            for check in result.get_asset_check_evaluations()
            if not check.passed and check.severity.value == "ERROR"
        ]
        assert not failing, failing
        after = compare_source(graph.settings, table_assets(graph.settings))
        assert after.rebuild is None
        morning = graph.contents_of([*computed, *loaded])
        assert graph.run(DateWindow(start, last)).success
        assert_same(graph.contents_of([*computed, *loaded]), morning)
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        found = connection.execute(
            "SELECT user_id, alias_id FROM bronze.bronze_users WHERE user_id IN ('usr_05', 'usr_18',"
            " 'usr_11', 'new') ORDER BY 1"
        ).fetchall()
        named = connection.execute(
            "SELECT count(*) FROM bronze.bronze_events WHERE entity_id IN ('usr_05', 'usr_18')"
            " OR metadata LIKE '%usr_18%'"
        ).fetchall()
    assert found == [("new", "usr_05"), ("usr_11", None)]
    assert named == [(0,)]
    scratch = Graph(source, tmp_path / "scratch.duckdb", tmp_path / "no home", start)
    with scratch.instance:
        assert scratch.run(DateWindow(start, last)).success
    assert_same(scratch.contents_of([*computed, *loaded]), morning)
