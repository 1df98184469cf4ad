"""After late, corrected and withdrawn rows, a rebuild equals a build from scratch."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from monstera_assets.bronze.load_entities import entity_load
from monstera_assets.bronze.load_events import CHANGED_DAYS, event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.definitions import build_definitions, table_assets, tables
from monstera_assets.operations.run_plan import describe_changes, run_tags
from monstera_assets.operations.schedules import CHANGES_SENSOR
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.settings import Settings
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.source_changes import Cause, note_change, out_of_date
from monstera_assets.warehouse.windows import DateWindow, as_text, from_text
from monstera_assets_tests.inputs.changing_source import ChangingSource
from monstera_assets_tests.inputs.random_source import DAYS, FIRST
from monstera_assets_tests.integration.example_assets import (
    FACTS,
    NAMES,
    SEEN,
    SEEN_NOW,
    day,
    errors,
    process,
)
from monstera_assets_tests.integration.example_assets import Row as DatabaseRow
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    EVENTS,
    Graph,
    assert_same,
    rows_of,
    waves,
)

BRONZE = (*ENTITIES, *EVENTS)
EVERYTHING = tuple(name for wave in waves() for name in wave)
CALENDAR = DateWindow(FIRST, FIRST + timedelta(days=DAYS - 1))
READING = Reading(first_day=FIRST)
LAYOUTS = pytest.mark.parametrize(
    "by_day",
    [
        pytest.param(False, id="single_file"),
        pytest.param(True, id="by_day", marks=pytest.mark.slow),
    ],
)


def nth(number: int) -> date:
    """Return day n of the calendar, starting at 0."""
    return FIRST + timedelta(days=number)


class Bronze:
    """A source, and bronze tables that are updated from it without Dagster."""

    def __init__(self, folder: Path, source: ChangingSource) -> None:
        self.folder, self.source = folder, source
        self.numbers = itertools.count()
        self.database = self.load(self.new(), CALENDAR)

    def new(self) -> Path:
        return self.folder / f"warehouse{next(self.numbers)}.duckdb"

    def load(
        self,
        database: Path,
        window: DateWindow,
        changed: Sequence[DateWindow] | None = None,
        held: Sequence[DateWindow] = (),
        restate_from: date | None = None,
    ) -> Path:
        """Run the two loads of a run."""
        found, queries = discover_source(self.source.folder), open_queries()
        events = event_batch(
            found,
            window=window,
            reading=READING,
            changed=changed,
            held=held,
            queries=queries,
        )
        entities = entity_load(found, READING, queries, restate_from=restate_from)
        for batch, days in ((entities, None), (events, window)):
            with (
                connect(str(database), connection_config(threads=2)) as connection,
                DuckDBEngine(connection).transaction(),
            ):
                batch.write(connection, days)
        return database

    @property
    def settings(self) -> Settings:
        return Settings(
            source=self.source.folder, database=self.database, start_date=FIRST, threads=2
        )

    def compare(self) -> SourceChanges:
        return compare_source(self.settings, [])

    def rebuild(self) -> SourceChanges:
        """Load the changes, and verify that none remain."""
        changes = self.compare()
        if changes.rebuild is not None:
            self.load(self.database, changes.rebuild, changes.load)
        after = self.compare()
        assert (after.rebuild, after.load, after.inputs) == (None, (), ())
        return changes

    def contents(self, database: Path | None = None) -> dict[str, list[DatabaseRow]]:
        with duckdb.connect(str(database or self.database), read_only=True) as connection:
            return {table.name: rows_of(connection, table) for table in _BRONZE_TABLES}

    def outcomes(self) -> dict[str, list[tuple[str, str | None]]]:
        """Return the days of each event id and the reasons for its rejection."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
            rows = connection.execute(
                "SELECT event_id, event_date::VARCHAR, NULL FROM bronze.bronze_events UNION ALL"
                " SELECT raw_row ->> '$.event_id', partition_date::VARCHAR, rejection_reason"
                " FROM bronze.bronze_rejected_events ORDER BY ALL"
            ).fetchall()
        found: dict[str, list[tuple[str, str | None]]] = {}
        for event_id, of_day, reason in rows:
            found.setdefault(event_id, []).append((of_day, reason))
        return found

    def assert_as_from_scratch(self) -> None:
        assert_same(self.contents(), self.contents(self.load(self.new(), CALENDAR)))


_BRONZE_TABLES = [table for table in tables() if table.name in BRONZE]


# ---------------------------------------------------------------- equal to a build from scratch


@LAYOUTS
def test_bronze_equals_a_load_from_scratch(tmp_path: Path, by_day: bool) -> None:
    source = ChangingSource(tmp_path / "source", 11 + by_day, by_day=by_day)
    bronze = Bronze(tmp_path, source)
    for number in range(2):
        for _ in range(12):
            source.change()
        if number == 1:
            source.add_user(nth(100))
        source.write_events()
        changes = bronze.rebuild()
        assert 0 < sum(map(len, changes.load)) < DAYS / 2
        bronze.assert_as_from_scratch()


@pytest.mark.slow
def test_all_tables_equal_those_built_from_scratch(tmp_path: Path) -> None:
    """Events on some days, and entities that can affect only later days."""
    source = ChangingSource(tmp_path / "source", 21, by_day=True)
    source.change_from(nth(40))
    kept, scratch = (
        Graph(source.folder, tmp_path / name / "w.duckdb", tmp_path / name / "home", FIRST)
        for name in ("kept", "scratch")
    )
    with kept.instance, scratch.instance:
        kept.database.parent.mkdir(exist_ok=True)
        assert errors(kept.run(CALENDAR, only=EVERYTHING)) == {}
        assets = table_assets()
        assert compare_source(kept.settings, assets).rebuild is None
        for _ in range(6):
            source.change()
        source.add_user(nth(60))
        source.add_billing(nth(70))
        source.write_events()
        changes = compare_source(kept.settings, assets)
        assert changes.inputs == ("users", "subscription_events")
        assert changes.rebuild is not None
        assert changes.rebuild.first >= nth(40), (
            "Days before the first change must not be recomputed."
        )
        assert errors(kept.run(only=EVERYTHING, tags=run_tags(changes))) == {}
        assert compare_source(kept.settings, assets).rebuild is None
        assert errors(scratch.run(CALENDAR, only=EVERYTHING)) == {}
    assert_same(kept.contents(), scratch.contents())


# ---------------------------------------------------------------- detected changes


@LAYOUTS
def test_only_changed_days_are_found(tmp_path: Path, by_day: bool) -> None:
    source = ChangingSource(tmp_path / "source", 3, by_day=by_day, users=30)
    gone, edited, quiet = source.days[5], source.days[9], "2024-03-30"
    source.events = [row for row in source.events if row["timestamp"][:10] != quiet]
    source.write_events()
    bronze = Bronze(tmp_path, source)
    unchanged = bronze.compare()
    assert (unchanged.rebuild, unchanged.load, unchanged.events.every) == (None, (), frozenset())
    source.events = [row for row in source.events if row["timestamp"][:10] != gone]
    [row, *_] = [row for row in source.events if row["timestamp"][:10] == edited]
    row["location"] = "api" if row["location"] != "api" else "web_app"
    source.add_late_event(timestamp=f"{quiet} 10:00:00")
    source.write_events()
    changes = bronze.compare()
    assert changes.events.removed == (date.fromisoformat(gone),)
    assert changes.events.changed == (date.fromisoformat(edited),)
    assert changes.events.added == (date.fromisoformat(quiet),)
    assert changes.events.never_loaded == ()
    assert changes.rebuild == DateWindow(date.fromisoformat(gone), CALENDAR.last)
    assert {at for days in changes.load for at in days} == changes.events.every
    said = list(describe_changes(changes))
    assert f"Event days removed: {gone}" in said
    assert f"Event days changed: {edited}" in said
    assert f"Event days added: {quiet}" in said
    assert bronze.compare().key == changes.key, "The key of a change must not vary."
    row["location"] = "desktop_app"
    source.write_events()
    assert bronze.compare().key != changes.key


def test_each_of_many_files_is_stored_once_per_load(tmp_path: Path) -> None:
    source = ChangingSource(tmp_path / "source", 5, by_day=False)

    def split() -> None:
        """Write the events to a folder of 20 files."""
        source.write_events()
        whole = source.folder / "events.csv"
        header, *rows = whole.read_text(encoding="utf-8").splitlines(keepends=True)
        (source.folder / "events").mkdir(exist_ok=True)
        for number in range(20):
            part = "".join([header, *rows[number::20]])
            (source.folder / "events" / f"{number:02}.csv").write_text(part, encoding="utf-8")
        whole.unlink()

    split()
    bronze = Bronze(tmp_path, source)
    assert bronze.compare().rebuild is None
    for _ in range(2):
        source.change()
        split()
        assert bronze.rebuild().load
        bronze.assert_as_from_scratch()
        with duckdb.connect(str(bronze.database), read_only=True) as connection:
            days = connection.execute(
                "SELECT len(files), count(*) FROM bronze.bronze_loads GROUP BY ALL ORDER BY ALL"
            ).fetchall()
        assert days == [(1, DAYS - 1), (20, 1)]


def test_rows_in_another_order_change_nothing_but_a_second_copy_does(tmp_path: Path) -> None:
    source = ChangingSource(tmp_path / "source", 4, by_day=False)
    bronze = Bronze(tmp_path, source)
    source.events.reverse()
    source.write_events()
    assert bronze.compare().rebuild is None
    # An XOR of hashes would not detect two additional copies.
    for _ in range(2):
        source.events.append(dict(source.events[0]))
    source.write_events()
    of_day = date.fromisoformat(source.events[0]["timestamp"][:10])
    assert bronze.compare().events.changed == (of_day,)


@LAYOUTS
def test_days_after_the_last_one_are_also_loaded(tmp_path: Path, by_day: bool) -> None:
    source = ChangingSource(tmp_path / "source", 5, by_day=by_day)
    last = source.drop_days_after(nth(100))
    bronze = Bronze(tmp_path, source)
    with duckdb.connect(str(bronze.database)) as connection:
        for table in ("bronze_events", "bronze_rejected_events", "bronze_loads"):
            column = "event_date" if table == "bronze_events" else "partition_date"
            connection.execute(f"DELETE FROM bronze.{table} WHERE {column} > '{last}'")
        connection.execute(
            f"DELETE FROM operations.materializations WHERE partition_date > '{last}'"
        )
    source.add_late_event(timestamp=f"{nth(103)} 10:00:00")
    source.write_events()
    changes = bronze.compare()
    # Users and billing have dates up to the end of the calendar.
    new = DateWindow(last + timedelta(days=1), changes.days.last)
    assert changes.events.added == (nth(103),)
    assert changes.events.never_loaded == tuple(new)
    assert (changes.rebuild, changes.load) == (new, (new,))


def test_a_day_without_a_ledger_row_is_loaded_again(tmp_path: Path) -> None:
    bronze = Bronze(tmp_path, ChangingSource(tmp_path / "source", 6, by_day=False))
    before = bronze.contents()
    with duckdb.connect(str(bronze.database)) as connection:
        connection.execute(f"DELETE FROM bronze.bronze_loads WHERE partition_date = '{nth(50)}'")
    changes = bronze.rebuild()
    assert changes.load == (DateWindow(nth(50), nth(50)),)
    assert changes.rebuild == DateWindow(nth(50), CALENDAR.last)
    assert_same(bronze.contents(), before)


# ---------------------------------------------------------------- superseded events


@LAYOUTS
def test_an_event_follows_the_row_that_supersedes_it(tmp_path: Path, by_day: bool) -> None:
    source = ChangingSource(tmp_path / "source", 7, by_day=by_day)
    [_, late] = (
        source.add_late_event(event_id="twice", timestamp=f"{nth(number)} 10:00:00", **KNOWN)
        for number in (80, 120)
    )
    source.write_events()
    bronze = Bronze(tmp_path, source)
    superseded = (str(nth(80)), "superseded")
    assert bronze.outcomes()["twice"] == [superseded, (str(nth(120)), None)]

    source.events.remove(late)
    source.write_events()
    bronze.rebuild()
    assert bronze.outcomes()["twice"] == [(str(nth(80)), None)]
    bronze.assert_as_from_scratch()

    source.add_late_event(event_id="twice", timestamp=f"{nth(90)} 10:00:00", **KNOWN)
    source.write_events()
    bronze.rebuild()
    assert bronze.outcomes()["twice"] == [superseded, (str(nth(90)), None)]
    bronze.assert_as_from_scratch()


@LAYOUTS
def test_only_accepted_rows_supersede(tmp_path: Path, by_day: bool) -> None:
    source = ChangingSource(tmp_path / "source", 8, by_day=by_day)
    source.add_late_event(event_id="twice", timestamp=f"{nth(80)} 10:00:00", **KNOWN)
    source.add_late_event(
        event_id="twice", timestamp=f"{nth(120)} 10:00:00", **{**KNOWN, "location": "the moon"}
    )
    source.write_events()
    in_one_run = Bronze(tmp_path, source)
    expected = [(str(nth(80)), None), (str(nth(120)), "unknown_location")]
    assert in_one_run.outcomes()["twice"] == expected
    (tmp_path / "parts").mkdir()
    in_parts = Bronze(tmp_path / "parts", source)
    in_parts.database = in_parts.new()
    in_parts.load(in_parts.database, DateWindow(FIRST, nth(99)))
    in_parts.load(in_parts.database, DateWindow(nth(100), CALENDAR.last))
    assert_same(in_parts.contents(), in_one_run.contents())


KNOWN: Mapping[str, str] = {
    "entity_id": "acc_00",
    "entity_type": "account",
    "event_type": "user_logged_in",
    "location": "web_app",
    "product_id": "",
    "is_qualifying_event": "false",
    "is_activation_event": "false",
    "metadata": "",
}
"""Values of a valid event."""


# ---------------------------------------------------------------- entities


@pytest.mark.slow
def test_days_affected_by_changed_entities(tmp_path: Path) -> None:
    source = ChangingSource(tmp_path / "source", 9, by_day=False)
    bronze = Bronze(tmp_path, source)

    source.add_billing(nth(110))
    effect = bronze.rebuild().effect
    assert (effect.every_day, effect.affects_from, effect.event_days) == (False, nth(110), ())

    source.add_late_event(entity_id="newcomer", timestamp=f"{nth(20)} 10:00:00")
    source.write_events()
    bronze.rebuild()
    source.add_user(nth(130), user_id="newcomer")
    changes = bronze.rebuild()
    assert changes.effect.event_days == (nth(20),), "Its event is now rejected for another reason."
    assert changes.rebuild == DateWindow(nth(20), CALENDAR.last)
    assert changes.load == tuple(DateWindow(nth(n), nth(n)) for n in (20, 130))
    bronze.assert_as_from_scratch()

    source.add_user(nth(130), country="a country of its own")
    assert bronze.rebuild().effect.every_day

    for name, column in (
        ("users", "country"),
        ("accounts", "account_name"),
        ("product_catalog", "product_name"),
        ("workflows", "workflow_name"),
    ):
        rows = source.rows(name)
        rows[0][column] += " and more"
        source.write(name, rows)
        changes = bronze.compare()
        assert changes.inputs == (name,)
        assert changes.effect.every_day
        assert (changes.rebuild, changes.load) == (CALENDAR, (CALENDAR,))
        bronze.rebuild()


def test_entities_rewritten_without_a_change_affect_no_day(tmp_path: Path) -> None:
    source = ChangingSource(tmp_path / "source", 10, by_day=False)
    bronze = Bronze(tmp_path, source)
    source.write("users", source.rows("users")[::-1])
    changes = bronze.rebuild()
    assert changes.inputs == ("users",)
    assert (changes.effect.every_day, changes.effect.affects_from) == (False, None)
    assert changes.rebuild == DateWindow(CALENDAR.last, CALENDAR.last)
    assert changes.load == ()


# ---------------------------------------------------------------- after a killed run


def test_tables_older_than_their_inputs_reveal_a_killed_run(tmp_path: Path) -> None:
    some = (FACTS, SEEN, SEEN_NOW, NAMES)
    inputs = {"gold_seen": ["silver_facts"], "gold_seen_now": ["silver_facts"]}
    causes = {
        "silver_names": [Cause.ENTITIES],
        **dict.fromkeys(("silver_facts", "gold_seen", "gold_seen_now"), tuple(Cause)),
    }
    window = DateWindow(day(1), day(10))
    with connect(str(tmp_path / "w.duckdb"), connection_config()) as connection:

        def stale() -> tuple[tuple[date, ...], tuple[str, ...]]:
            found = out_of_date(connection, some, inputs, causes, window)
            return found.days, found.whole_tables

        def materialize(*names: str, days: DateWindow = window) -> None:
            for table in some:
                if table.name in names:
                    of = days if table.partition_column else None
                    DuckDBEngine(connection).record(table, of)

        assert stale() == (tuple(window), ("gold_seen_now", "silver_names"))
        materialize("silver_facts", "gold_seen", "gold_seen_now", "silver_names")
        assert stale() == ((), ())

        note_change(connection, Cause.EVENTS, day(8))
        assert stale() == ((day(8), day(9), day(10)), ("gold_seen_now",))
        late = DateWindow(day(8), day(10))
        materialize("silver_facts", days=late)  # the run is killed here
        assert stale() == (tuple(late), ("gold_seen_now",))
        materialize("gold_seen", days=late)
        materialize("gold_seen_now")
        assert stale() == ((), ())

        note_change(connection, Cause.ENTITIES, date.min)
        assert stale() == (tuple(window), ("gold_seen_now", "silver_names"))
        materialize("silver_names", "silver_facts", "gold_seen", "gold_seen_now")
        assert stale() == ((), ())
        # Recomputing a single day does not make later days out of date.
        materialize("silver_facts", "gold_seen", days=DateWindow(day(3), day(3)))
        materialize("gold_seen_now")
        assert stale() == ((), ())
        materialize("silver_facts", days=DateWindow(day(3), day(3)))
        assert stale() == ((day(3),), ("gold_seen_now",))


def test_events_are_loaded_again_if_a_run_ended_after_the_entities(tmp_path: Path) -> None:
    source = ChangingSource(tmp_path / "source", 12, by_day=False)
    bronze = Bronze(tmp_path, source)
    source.add_late_event(entity_id="newcomer", timestamp=f"{nth(140)} 10:00:00")
    source.write_events()
    bronze.rebuild()
    source.add_user(nth(139), user_id="newcomer")
    found = discover_source(source.folder)
    with connect(str(bronze.database), connection_config()) as connection:
        entity_load(found, READING, open_queries()).write(connection, None)
    changes = bronze.compare()
    assert changes.inputs == ()
    assert changes.load == (DateWindow(nth(139), CALENDAR.last),)
    bronze.load(bronze.database, DateWindow(nth(139), CALENDAR.last), changes.load)
    bronze.assert_as_from_scratch()


# ---------------------------------------------------------------- the sensor


@pytest.fixture
def sensed(tmp_path: Path) -> Iterator[tuple[Bronze, dg.SensorDefinition, dg.DagsterInstance]]:
    bronze = Bronze(tmp_path, ChangingSource(tmp_path / "source", 13, by_day=True))
    definitions = build_definitions(bronze.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        yield bronze, definitions.get_sensor_def(CHANGES_SENSOR), instance


def _look(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> Any:
    return sensor(dg.build_sensor_context(instance=instance))


def test_sensor_requests_the_run_of_the_command_line_once(
    sensed: tuple[Bronze, dg.SensorDefinition, dg.DagsterInstance],
) -> None:
    bronze, sensor, instance = sensed
    expected = compare_source(bronze.settings, table_assets())
    request = _look(sensor, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == expected.key == _look(sensor, instance).run_key
    assert run_tags(expected).items() <= dict(request.tags).items()
    assert from_text(request.tags[CHANGED_DAYS]) == list(expected.load)
    bronze.source.add_late_event()
    bronze.source.write_events()
    assert _look(sensor, instance).run_key != request.run_key


_HOLDING = """
import duckdb, sys
held = duckdb.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_sensor_reports_errors_and_continues(
    sensed: tuple[Bronze, dg.SensorDefinition, dg.DagsterInstance], tmp_path: Path
) -> None:
    bronze, sensor, instance = sensed
    shutil.move(bronze.source.folder, tmp_path / "away")
    skipped = _look(sensor, instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "does not exist or cannot be reached" in (skipped.skip_message or "")
    shutil.move(tmp_path / "away", bronze.source.folder)
    with process(_HOLDING, bronze.database):
        skipped = _look(sensor, instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "A run is writing" in (skipped.skip_message or "")
    assert isinstance(_look(sensor, instance), dg.RunRequest)


def test_windows_as_text_round_trip() -> None:
    windows = [DateWindow(nth(1), nth(3)), DateWindow(nth(7), nth(7))]
    assert from_text(as_text(windows)) == windows
    assert as_text(windows) == "2024-01-02/2024-01-04,2024-01-08/2024-01-08"
    assert from_text(as_text([])) == []
