"""Changes that affect days before the earliest day that a run recomputes are held back whole."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from monstera_assets.bronze.load_entities import entity_load
from monstera_assets.bronze.load_events import event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.definitions import tables
from monstera_assets.operations.forget import forget_person
from monstera_assets.operations.run_plan import RunPlan, describe_changes, plan_changes, plan_day
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.settings import Settings
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.source_files import Texts, write_rows, write_source
from monstera_assets_tests.inputs.changing_source import ChangingSource
from monstera_assets_tests.integration.example_runs import ENTITIES, assert_same
from monstera_assets_tests.integration.test_late_data import CALENDAR, Bronze, nth
from monstera_assets_tests.integration.test_odd_sources import (
    ACCOUNT,
    EVENT,
    FAMILY,
    USER,
    VIDEO,
    events_of,
)

FIRST = date(2025, 6, 1)
BOUND = 20
"""The first day of June that the daily run of 30 June recomputes."""
SEATS = {
    **EVENT,
    "event_id": "fact",
    "entity_id": "acc",
    "entity_type": "account",
    "event_type": "seats_changed",
    "product_id": "",
}


def june(number: int) -> date:
    return date(2025, 6, number)


class Company:
    """A source, and bronze tables that the daily run loads on each day."""

    def __init__(self, folder: Path) -> None:
        self.source, self.database = folder / "source", folder / "warehouse.duckdb"

    @classmethod
    def loaded(cls, folder: Path, **inputs: Sequence[Texts]) -> Company:
        """Return a company with these inputs that is loaded through 29 June."""
        company = cls(folder)
        write_source(
            company.source,
            {
                "accounts": [ACCOUNT],
                "users": [{**USER, "user_created_at": "2025-06-01 08:00:00"}],
                "product_catalog": [FAMILY, VIDEO],
                "events": events_of(FIRST, 29),
                **inputs,
            },
        )
        company.run(29)
        return company

    def deliver(self, **inputs: Sequence[Texts]) -> None:
        for name, rows in inputs.items():
            write_rows(self.source / f"{name}.csv", rows)

    @property
    def settings(self) -> Settings:
        return Settings(
            source=self.source, database=self.database, start_date=FIRST, restate_days=10
        )

    def run(self, day: int, *, is_limited: bool = True) -> SourceChanges:
        """Load what the daily run of a day, or a run without a limit, loads."""
        limits = {"restate_days": 10, "last": june(day)} if is_limited else {}
        changes = compare_source(self.settings, [], **limits)  # type: ignore[arg-type]
        found, reading = discover_source(self.source), Reading(first_day=FIRST)
        if changes.rebuild is None:
            return changes
        queries = open_queries()
        entities = entity_load(
            found, reading, queries, changes.rebuild, restate_from=changes.restate_from
        )
        events = event_batch(
            found,
            window=changes.rebuild,
            reading=reading,
            changed=changes.load,
            held=[DateWindow(day, day) for day in changes.held.event_days],
            queries=queries,
        )
        for batch, days in ((entities, None), (events, changes.rebuild)):
            with (
                connect(str(self.database), connection_config(threads=1)) as connection,
                DuckDBEngine(connection).transaction(),
            ):
                batch.write(connection, days)
        return changes

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def held(self) -> list[tuple[object, ...]]:
        return self.rows(
            "SELECT input_name, count(*) FROM bronze.bronze_rejected_entities"
            " WHERE rejection_reason = 'held_back' GROUP BY ALL ORDER BY ALL"
        )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    Company.loaded(folder)
    return folder


@pytest.fixture
def company(example: Path, tmp_path: Path) -> Company:
    return Company(shutil.copytree(example, tmp_path, dirs_exist_ok=True))


def said(changes: SourceChanges) -> str:
    return " ".join(describe_changes(changes))


# ---------------------------------------------------------------- events


def test_a_late_event_of_an_old_day_waits_and_one_of_a_recent_day_does_not(
    company: Company,
) -> None:
    late = [
        {**EVENT, "event_id": f"late{number}", "timestamp": f"{june(number)} 12:00"}
        for number in (BOUND - 1, BOUND)
    ]
    company.deliver(events=[*events_of(FIRST, 30), *late])
    changes = company.run(30)
    assert (changes.restate_from, changes.rebuild) == (june(20), DateWindow(june(20), june(30)))
    assert changes.held.event_days == (june(19),)
    assert changes.restated == 10
    assert (
        "Held back, because days before 2025-06-20 are not recomputed: the events of 2025-06-19."
        " To update all days, run: monstera run --changed" in said(changes)
    )
    stored = "SELECT event_id FROM bronze.bronze_events WHERE event_id LIKE 'late%' ORDER BY ALL"
    assert company.rows(stored) == [("late20",)]
    everything = company.run(30, is_limited=False)
    assert everything.rebuild == DateWindow(june(19), june(30))
    assert company.rows(stored) == [("late19",), ("late20",)]
    assert not company.run(30).held


@pytest.mark.parametrize("is_removed", [False, True], ids=["kept", "removed"])
def test_an_event_that_moves_from_an_old_day_is_not_counted_twice(
    company: Company, is_removed: bool
) -> None:
    events = events_of(FIRST, 30)
    moved = {**events[4], "timestamp": f"{june(25)} 12:00", "received_at": f"{june(30)} 12:00"}
    company.deliver(events=[*(row for row in events if row != events[4] or not is_removed), moved])
    company.run(30)
    days = f"SELECT event_date FROM bronze.bronze_events WHERE event_id = '{moved['event_id']}'"
    assert company.rows(days) == [(june(5),)]
    reasons = "SELECT rejection_reason, partition_date FROM bronze.bronze_rejected_events"
    assert company.rows(reasons) == [("held_back", june(25))]
    company.run(30, is_limited=False)
    assert company.rows(days) == [(june(25),)]
    assert company.rows(reasons) == ([] if is_removed else [("superseded", june(5))])


def test_an_event_that_moves_to_an_old_day_stays_where_it_was(company: Company) -> None:
    events = events_of(FIRST, 30)
    moved = {**events[24], "timestamp": f"{june(5)} 12:00", "received_at": f"{june(30)} 12:00"}
    company.deliver(events=[*events, moved])
    company.run(30)
    days = f"SELECT event_date FROM bronze.bronze_events WHERE event_id = '{moved['event_id']}'"
    assert company.rows(days) == [(june(25),)]
    company.run(30, is_limited=False)
    assert company.rows(days) == [(june(5),)]


@pytest.mark.parametrize(
    ("seed", "by_day"),
    [
        pytest.param(1, True, id="by_day", marks=pytest.mark.slow),
        pytest.param(2, False, id="single_file"),
    ],
)
def test_random_changes_are_held_back_whole_until_a_run_without_a_limit(
    tmp_path: Path, seed: int, by_day: bool
) -> None:
    source = ChangingSource(tmp_path / "source", seed, by_day=by_day, users=30)
    bronze = Bronze(tmp_path, source)
    first = nth(60)
    limit = CALENDAR.last - first + timedelta(days=1)
    for _ in range(2):
        before = bronze.outcomes()
        rows_before = _rows_by_id(source)
        for _ in range(8):
            source.change()
        source.write_events()
        changes = compare_source(bronze.settings, [], restate_days=limit.days, last=CALENDAR.last)
        assert changes.rebuild is not None
        assert changes.rebuild.first >= first
        held = [DateWindow(day, day) for day in changes.held.event_days]
        bronze.load(bronze.database, changes.rebuild, changes.load, held, changes.restate_from)
        after, rows_after = bronze.outcomes(), _rows_by_id(source)
        assert _accepted_on(after, before=first) == _accepted_on(before, before=first)
        accepted = Counter(
            event_id for event_id, found in after.items() for _, reason in found if reason is None
        )
        assert set(accepted.values()) == {1}, "An event must not be accepted twice."
        for event_id in rows_before.keys() | rows_after.keys():
            if (rows := rows_after.get(event_id)) == rows_before.get(event_id):
                continue
            days = {day for day, _ in (*rows_before.get(event_id, ()), *(rows or ()))}
            if any(day < str(first) for day in days) and before.get(event_id):
                was, now = (
                    [day for day, reason in found.get(event_id, ()) if reason is None]
                    for found in (before, after)
                )
                if was and was[0] < str(first):
                    assert now == was, "A change must not be processed in part."
        again = compare_source(bronze.settings, [], restate_days=limit.days, last=CALENDAR.last)
        assert again.rebuild is None
    bronze.rebuild()
    bronze.assert_as_from_scratch()


def _rows_by_id(source: ChangingSource) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in source.events:
        found.setdefault(row["event_id"], []).append((row["timestamp"][:10], str(row)))
    return found


def _accepted_on(
    outcomes: Mapping[str, Sequence[tuple[str, str | None]]], *, before: date
) -> set[tuple[str, str]]:
    return {
        (event_id, day)
        for event_id, found in outcomes.items()
        for day, reason in found
        if reason is None and day < str(before)
    }


# ---------------------------------------------------------------- users and accounts


def test_a_changed_row_without_a_date_applies_from_the_new_day(company: Company) -> None:
    company.deliver(users=[{**USER, "country": "DE"}], events=events_of(FIRST, 30))
    changes = company.run(30)
    assert changes.rebuild == DateWindow(june(30), june(30))
    assert not changes.held
    versions = "SELECT valid_from, country FROM bronze.bronze_users ORDER BY ALL"
    assert company.rows(versions) == [(june(29), "US"), (june(30), "DE")]


@pytest.mark.parametrize(
    "day", [15, pytest.param(25, marks=pytest.mark.slow), pytest.param(29, marks=pytest.mark.slow)]
)
def test_a_new_first_version_waits_because_it_applies_to_all_earlier_days(
    company: Company, day: int
) -> None:
    before = company.rows("FROM bronze.bronze_users")
    row = {**USER, "valid_from": f"{june(day)}", "country": "DE"}
    company.deliver(users=[row], events=events_of(FIRST, 30))
    changes = company.run(30)
    assert changes.held.rows == {"users": 1}
    assert "1 row of users" in said(changes)
    assert company.rows("FROM bronze.bronze_users") == before
    assert company.held() == [("users", 1)]
    everything = company.run(30, is_limited=False)
    assert everything.rebuild == DateWindow(june(1), june(30))
    assert company.held() == []
    assert ("DE",) in company.rows("SELECT country FROM bronze.bronze_users")


def test_a_version_of_earlier_days_waits_whole(tmp_path: Path) -> None:
    first = {**USER, "valid_from": "2025-06-01"}
    company = Company.loaded(tmp_path, users=[first])
    second = {**USER, "valid_from": "2025-06-15", "country": "DE"}
    third = {**USER, "valid_from": "2025-06-30", "country": "FR"}
    company.deliver(users=[first, second, third], events=events_of(FIRST, 30))
    changes = company.run(30)
    assert changes.held.rows == {"users": 1}
    versions = "SELECT valid_from, country FROM bronze.bronze_users ORDER BY ALL"
    assert company.rows(versions) == [(june(1), "US"), (june(30), "FR")]
    assert company.run(30, is_limited=False).rebuild == DateWindow(june(15), june(30))
    assert company.rows(versions) == [(june(1), "US"), (june(15), "DE"), (june(30), "FR")]


def test_a_version_of_recent_days_does_not_wait(company: Company) -> None:
    both = [
        {**USER, "valid_from": "2025-06-29"},
        {**USER, "valid_from": "2025-06-30", "country": "DE"},
    ]
    company.deliver(users=both, events=events_of(FIRST, 30))
    assert company.run(30).rebuild == DateWindow(june(30), june(30))
    both[1]["country"] = "FR"
    company.deliver(users=both)
    changes = company.run(30)
    assert (changes.rebuild, changes.held.rows) == (DateWindow(june(30), june(30)), {})


def test_a_first_payment_of_long_ago_waits_with_its_row(company: Company) -> None:
    row = {**ACCOUNT, "first_paid_at": "2025-06-05", "total_seats": "9"}
    company.deliver(accounts=[row], events=events_of(FIRST, 30))
    changes = company.run(30)
    assert changes.held.rows == {"accounts": 1}
    accounts = "SELECT total_seats, first_paid_date FROM bronze.bronze_accounts ORDER BY valid_from"
    assert company.rows(accounts) == [(5, date(2025, 1, 2))]
    company.run(30, is_limited=False)
    # The row is seen for the first time by the run that accepts it.
    assert company.rows(accounts) == [(5, june(5)), (9, june(5))]


def test_a_new_user_of_long_ago_does_not_wait(company: Company) -> None:
    company.deliver(
        users=[USER, {**USER, "user_id": "bob", "user_created_at": "2025-06-03 08:00"}],
        events=[
            *events_of(FIRST, 30),
            {**EVENT, "event_id": "bobs", "entity_id": "bob", "timestamp": f"{june(4)} 12:00"},
        ],
    )
    changes = company.run(30)
    assert changes.held.rows == {}
    # The user's earlier days and events wait, since the number of recomputed days is limited.
    assert changes.rebuild == DateWindow(june(20), june(30))
    assert changes.held.event_days == (june(4),)
    assert company.rows("SELECT count(*) FROM bronze.bronze_users") == [(2,)]
    assert company.run(30, is_limited=False).rebuild == DateWindow(june(3), june(30))
    assert company.rows("SELECT 1 FROM bronze.bronze_events WHERE event_id = 'bobs'") == [(1,)]


def test_a_derived_user_keeps_the_creation_date_while_an_old_event_waits(
    company: Company,
) -> None:
    (company.source / "users.csv").unlink()
    company.database.unlink()
    company.deliver(events=events_of(june(3), 27))
    company.run(29)
    created = "SELECT signup_date FROM bronze.bronze_users"
    assert company.rows(created) == [(june(3),)]
    early = {**EVENT, "event_id": "early", "timestamp": f"{june(2)} 12:00"}
    company.deliver(events=[*events_of(june(3), 28), early])
    changes = company.run(30)
    assert changes.held.event_days == (june(2),)
    assert company.rows(created) == [(june(3),)]
    company.run(30, is_limited=False)
    assert company.rows(created) == [(june(2),)]


# ---------------------------------------------------------------- facts, catalog and workflows


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("added", marks=pytest.mark.slow),
        "changed",
        pytest.param("removed", marks=pytest.mark.slow),
    ],
)
def test_an_old_fact_waits_and_a_recent_fact_does_not(tmp_path: Path, change: str) -> None:
    old = {**SEATS, "timestamp": f"{june(5)} 12:00", "metadata": '{"total_seats": 7}'}
    stored = [] if change == "added" else [old]
    company = Company.loaded(tmp_path, subscription_events=[*stored, {**old, "event_id": "other"}])
    recent = {**old, "event_id": "recent", "timestamp": f"{june(30)} 12:00"}
    changed = {
        "added": [old],
        "changed": [{**old, "timestamp": f"{june(25)} 12:00"}],
        "removed": [],
    }[change]
    company.deliver(
        subscription_events=[*changed, {**old, "event_id": "other"}, recent],
        events=events_of(FIRST, 30),
    )
    changes = company.run(30)
    assert changes.held.rows == {"subscription_events": 1}
    facts = "SELECT event_id, event_date FROM bronze.bronze_subscription_events ORDER BY ALL"
    others = [("other", june(5)), ("recent", june(30))]
    assert company.rows(facts) == [*(("fact", june(5)) for _ in stored), *others]
    company.run(30, is_limited=False)
    days = {"added": [june(5)], "changed": [june(25)], "removed": []}[change]
    assert company.rows(facts) == [*(("fact", at) for at in days), *others]


def test_a_fact_of_a_new_account_does_not_wait(company: Company) -> None:
    company.deliver(
        accounts=[ACCOUNT, {**ACCOUNT, "account_id": "new"}],
        subscription_events=[{**SEATS, "entity_id": "new", "timestamp": f"{june(5)} 12:00"}],
        events=events_of(FIRST, 30),
    )
    assert company.run(30).held.rows == {}
    assert company.rows("SELECT count(*) FROM bronze.bronze_subscription_events") == [(1,)]


FEATURE = {
    **VIDEO,
    "product_id": "captions",
    "tier": "feature",
    "parent_product_id": "video",
    "created_at": "2025-06-30",
}


def test_an_added_node_restates_only_the_days_that_name_it(company: Company) -> None:
    events = events_of(FIRST, 30)
    events[26] = {**events[26], "product_id": "captions"}
    company.deliver(events=events)
    company.run(30)
    assert company.rows("SELECT count(*) FROM bronze.bronze_rejected_events") == [(1,)]
    company.deliver(product_catalog=[FAMILY, VIDEO, FEATURE], events=events_of(FIRST, 30))
    events_named = [
        {**row, "product_id": "captions"} if row == events[26] else row for row in events
    ]
    company.deliver(events=events_named)
    changes = company.run(30)
    assert (changes.rebuild, changes.held.rows) == (DateWindow(june(27), june(30)), {})
    assert company.rows("SELECT count(*) FROM bronze.bronze_rejected_events") == [(0,)]


def test_an_added_node_restates_days_with_events_of_its_types_without_a_node(
    company: Company,
) -> None:
    events = events_of(FIRST, 30)
    events[26] = {**events[26], "product_id": "", "event_type": "caption_added"}
    company.deliver(events=events)
    company.run(30)
    qualifies = "SELECT is_qualifying_event FROM bronze.bronze_events WHERE event_id = 'e_26'"
    listed = {**FEATURE, "qualifying_event_types": "caption_added"}
    assert company.rows(qualifies) == [(True,)]
    events[26] = {**events[26], "is_qualifying_event": "false", "is_activation_event": "false"}
    company.deliver(events=events)
    company.run(30)
    assert company.rows(qualifies) == [(False,)]
    company.deliver(product_catalog=[FAMILY, VIDEO, listed])
    changes = company.run(30)
    assert (changes.rebuild, changes.held.rows) == (DateWindow(june(27), june(30)), {})
    assert company.rows(qualifies) == [(True,)]


def test_another_name_or_owner_restates_nothing(company: Company) -> None:
    named = {**VIDEO, "product_name": "Video Maker", "product_owner": "others"}
    company.deliver(product_catalog=[FAMILY, named], events=events_of(FIRST, 30))
    changes = company.run(30)
    assert changes.rebuild == DateWindow(june(30), june(30))
    names = "SELECT product_name, product_owner FROM bronze.bronze_product_catalog ORDER BY ALL"
    assert ("Video Maker", "others") in company.rows(names)


@pytest.mark.parametrize(
    "catalog",
    [
        pytest.param([FAMILY, {**VIDEO, "active_days": "5"}], id="window", marks=pytest.mark.slow),
        pytest.param([FAMILY, {**VIDEO, "qualifying_event_types": "video_created"}], id="list"),
        pytest.param([FAMILY], id="removed", marks=pytest.mark.slow),
    ],
)
def test_other_changes_of_the_catalog_wait_and_the_former_node_holds(
    company: Company, catalog: Sequence[Texts]
) -> None:
    before = company.rows("FROM bronze.bronze_product_catalog ORDER BY ALL")
    added = {
        **FAMILY,
        "product_id": "more",
        "product_family_id": "more",
        "created_at": "2025-06-30",
    }
    company.deliver(product_catalog=[*catalog, added], events=events_of(FIRST, 30))
    changes = company.run(30)
    assert changes.held.rows == {"product_catalog": 1}
    assert changes.rebuild == DateWindow(june(30), june(30))
    nodes = company.rows(
        "FROM bronze.bronze_product_catalog WHERE product_id <> 'more' ORDER BY ALL"
    )
    assert nodes == before
    assert company.rows("SELECT count(*) FROM bronze.bronze_rejected_events") == [(0,)]
    everything = company.run(30, is_limited=False)
    assert everything.rebuild == DateWindow(FIRST, june(30))
    assert company.rows("SELECT count(*) FROM bronze.bronze_product_catalog") == [
        (len(catalog) + 1,)
    ]


def test_any_change_of_workflows_waits(tmp_path: Path) -> None:
    step = {
        "workflow_id": "flow",
        "workflow_name": "Flow",
        "product_id": "video",
        "step_number": "1",
        "event_type": "video_created",
    }
    company = Company.loaded(tmp_path, workflows=[step])
    company.deliver(
        workflows=[step, {**step, "step_number": "2", "event_type": "video_edited"}],
        events=events_of(FIRST, 30),
    )
    changes = company.run(30)
    assert changes.held.rows == {"workflows": 2}
    assert company.rows("SELECT count(*) FROM bronze.bronze_workflows") == [(1,)]
    company.run(30, is_limited=False)
    assert company.rows("SELECT count(*) FROM bronze.bronze_workflows") == [(2,)]


def test_nothing_waits_while_the_history_is_short(company: Company) -> None:
    company.deliver(product_catalog=[FAMILY, {**VIDEO, "active_days": "5"}])
    changes = compare_source(company.settings, [], restate_days=29, last=june(29))
    assert changes.restate_from is None
    assert changes.rebuild == DateWindow(FIRST, june(29))


def test_an_erased_user_is_not_compared_as_a_new_user(company: Company) -> None:
    forget_person(company.settings, "ada", tables())
    company.deliver(users=[USER, {**USER, "user_id": "bob", "user_created_at": "2025-06-30"}])
    changes = company.run(30)
    assert (changes.effect.affects_from, changes.held.rows) == (june(30), {})


# ---------------------------------------------------------------- deliveries


def plan(company: Company, day: int) -> RunPlan:
    return plan_day(company.settings, [], june(day))


def test_a_day_without_a_delivery_is_not_computed(company: Company) -> None:
    skipped = plan(company, 30)
    assert skipped.days is None
    assert skipped.description == (
        "No file is new or has changed since the last run. 2025-06-30 is not computed.",
    )


def test_a_delivery_without_events_of_the_day_is_a_day_without_events(company: Company) -> None:
    company.deliver(users=[{**USER, "country": "DE"}])
    assert plan(company, 30).days == DateWindow(june(30), june(30))


def test_the_day_after_a_day_without_a_delivery_catches_up(company: Company) -> None:
    company.deliver(events=events_of(FIRST, 31))
    assert plan_day(company.settings, [], date(2025, 7, 1)).days == DateWindow(
        june(30), date(2025, 7, 1)
    )


def test_days_that_an_earlier_run_left_out_need_no_delivery(company: Company) -> None:
    company.database.unlink()
    company.run(20)
    assert plan(company, 29).days == DateWindow(june(21), june(29))


def test_a_change_that_is_held_back_is_no_delivery(company: Company) -> None:
    late = {**EVENT, "event_id": "late", "timestamp": f"{june(3)} 12:00"}
    company.deliver(events=[*events_of(FIRST, 29), late])
    company.run(29)
    skipped = plan(company, 29)
    assert skipped.days is None
    company.deliver(events=[*events_of(FIRST, 30), late])
    company.run(30)
    assert plan(company, 30).days is None
    assert plan_changes(company.settings, []).days == DateWindow(june(3), june(30))


def test_held_back_rows_keep_their_tables_equal(company: Company) -> None:
    """Loading twice with a limit changes nothing."""
    company.deliver(
        users=[{**USER, "valid_from": "2025-06-15", "country": "DE"}],
        product_catalog=[FAMILY, {**VIDEO, "active_days": "5"}],
        events=events_of(FIRST, 30),
    )
    company.run(30)

    def contents() -> dict[str, list[tuple[object, ...]]]:
        return {name: company.rows(f"FROM bronze.{name} ORDER BY ALL") for name in ENTITIES}

    before = contents()
    company.deliver(accounts=[{**ACCOUNT, "total_seats": "6"}])
    company.deliver(accounts=[ACCOUNT], events=[*events_of(FIRST, 30), {**EVENT, "event_id": "x"}])
    company.run(30)
    for table in ("bronze_users", "bronze_product_catalog", "bronze_rejected_entities"):
        assert_same({table: contents()[table]}, {table: before[table]})
