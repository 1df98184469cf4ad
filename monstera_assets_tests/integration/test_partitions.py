"""Partitions can be computed alone, repeatedly and in any order, with the same result."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_assets import errors
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    EVENTS,
    Graph,
    assert_same,
    is_partitioned,
    waves,
)

SEEDS = Path(__file__).parents[2] / "seeds"
START = date(2025, 1, 1)
DAYS = DateWindow(START, date(2025, 4, 10))
LATE = DateWindow(date(2025, 3, 27), DAYS.last)
"""The last days, by which users have been in each state."""
LENGTHS = (1, 5, 1, 6, 2)
"""Number of late days that are computed together."""
USERS = 63
POLICY = LifecyclePolicy(new_user_days=5, active_days=6, dormant_days=12)
"""Short enough for users to pass through all states several times."""

EVENT_HEADER = [
    *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
    *("session_id", "product_id", "is_qualifying_event", "is_activation_event", "metadata"),
]


def _write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _moment(chance: random.Random, day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(
        seconds=chance.randrange(86_400)
    )


def write_source(folder: Path) -> Path:
    """A hundred days of users with changing activity, some deleted, some accounts in dunning."""
    chance = random.Random(20250410)  # noqa: S311
    shutil.copy(SEEDS / "seed_product_catalog.csv", folder / "product_catalog.csv")
    shutil.copy(SEEDS / "seed_workflows.csv", folder / "workflows.csv")
    with (folder / "product_catalog.csv").open(encoding="utf-8") as file:
        nodes = [
            (node["product_id"], node["qualifying_event_types"].split("|"))
            for node in csv.DictReader(file)
            if node["qualifying_event_types"]
        ]
    _write(
        folder / "accounts.csv",
        [
            *("account_id", "account_name", "subscription_tier", "total_seats"),
            *("account_created_at", "first_paid_at", "contract_renewal_date"),
            *("monthly_recurring_revenue", "is_trial"),
        ],
        [
            [f"a{n}", f"Account {n}", "starter", 9, "2024-12-01", "2024-12-05", "", 90, "false"]
            for n in range(10)
        ],
    )
    users: list[list[object]] = []
    events: list[list[object]] = []
    billing: list[tuple[object, ...]] = []
    for n in range(USERS):
        late = n - (USERS - 3)
        created = START + timedelta(days=chance.randrange(-10, 80) if late < 0 else 85 + 3 * late)
        users.append(
            [
                *(f"u{n}", f"u{n}@example.com", f"a{n % 10}", _moment(chance, created).isoformat()),
                *(chance.choice(["US", "DE"]), "paid", chance.choice(["organic", "referral"])),
            ]
        )
        day = created + timedelta(days=chance.choice([1, 1, 4, 9]) if late < 0 else 4)
        last = DAYS.last if n % 6 else DAYS.last - timedelta(days=n // 5 + 1)
        while day <= last:
            for _ in range(chance.choice([1, 1, 2, 3])):
                product, types = chance.choice(nodes)
                qualifies = chance.random() < 0.7
                events.append(
                    [
                        *(f"e{len(events)}", f"u{n}", "user"),
                        chance.choice(types) if qualifies else "page_viewed",
                        *(_moment(chance, day).replace(tzinfo=None), "web_app", f"s{n}-{day}"),
                        chance.choice([product, product, ""]),
                        *(qualifies, qualifies and chance.random() < 0.2, ""),
                    ]
                )
            day += timedelta(days=chance.choice([1, 2, 3, 6, 7, 8, 12, 13, 14, 20]))
        if n % 6 == 0:
            deleted = _moment(chance, last).replace(hour=23, minute=59)
            billing.append((f"u{n}", "user", "user_deleted", deleted, ""))
    for n, (failed, recovered) in enumerate([(-14, -9), (-5, 9), (-30, -20)]):
        for kind, offset in (("payment_failed", failed), ("payment_recovered", recovered)):
            moment = _moment(chance, DAYS.last + timedelta(days=offset))
            billing.append((f"a{n}", "account", kind, moment, ""))
    _write(
        folder / "users.csv",
        [
            *("user_id", "email", "account_id", "user_created_at"),
            *("country", "plan_type", "acquisition_source"),
        ],
        users,
    )
    _write(
        folder / "subscription_events.csv",
        EVENT_HEADER,
        [
            [f"b{n}", entity, kind, event, moment, "api", "", "", "false", "false", metadata]
            for n, (entity, kind, event, moment, metadata) in enumerate(billing)
        ],
    )
    chance.shuffle(events)
    known = events[0]
    events += [
        [*known[:4], "2025-04-09 10:00:00", *known[5:]],  # the same event_id on another day
        ["r1", "nobody", "user", "video_created", "2025-04-02", "web_app", *known[6:]],
        ["r2", "u1", "user", "video_created", "2025-04-03", "the moon", *known[6:]],
    ]
    _write(folder / "events.csv", EVENT_HEADER, events)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def source_by_day(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """The same source with the events in Parquet files by day."""
    by_day = tmp_path_factory.mktemp("by_day")
    shutil.copytree(source, by_day, dirs_exist_ok=True, ignore=shutil.ignore_patterns("events.csv"))
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT *, CAST(CAST(timestamp AS TIMESTAMP) AS DATE) AS event_date"
            f" FROM read_csv('{source / 'events.csv'}', all_varchar = true))"
            f" TO '{by_day / 'events'}' (FORMAT parquet, PARTITION_BY event_date)"
        )
    return by_day


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Graph]]:
    """Close the instances of all graphs after the tests in this module."""
    made: list[Graph] = []
    yield made
    for graph in made:
        graph.instance.dispose()


@pytest.fixture
def graph(tmp_path: Path, source: Path, graphs: list[Graph]) -> Graph:
    """The assets for the source, with an empty database."""
    return _graph(source, tmp_path, graphs)


def _graph(source: Path, folder: Path, graphs: list[Graph]) -> Graph:
    graph = Graph(source, folder / "warehouse.duckdb", folder / "home", START, POLICY)
    graphs.append(graph)
    return graph


@pytest.fixture(scope="module")
def in_one_run(
    tmp_path_factory: pytest.TempPathFactory, source: Path, graphs: list[Graph]
) -> Graph:
    """All days, computed in one run."""
    graph = _graph(source, tmp_path_factory.mktemp("in_one_run"), graphs)
    assert errors(graph.run(DAYS, only=[name for wave in waves() for name in wave])) == {}
    return graph


def test_the_source_exercises_the_late_days(in_one_run: Graph) -> None:
    with duckdb.connect(str(in_one_run.database), read_only=True) as connection:
        moves = connection.execute(
            "SELECT count(*), count(DISTINCT from_state || to_state) FROM"
            f" silver.silver_user_state_transitions WHERE transition_date >= '{LATE.first}'"
        ).fetchall()
        states = connection.execute(
            "SELECT count(DISTINCT platform_state) FROM silver.silver_user_state_history"
            f" WHERE snapshot_date >= '{LATE.first}'"
        ).fetchall()
        [(rejected,)] = connection.execute(
            "SELECT list_sort(list(rejection_reason)) FROM bronze.bronze_rejected_events"
        ).fetchall()
    assert moves[0] > (40, 10)
    assert states == [(8,)]
    assert {"superseded", "unknown_location", "unknown_user"} <= set(rejected)


def _alone(day: date) -> DateWindow:
    return DateWindow(day, day)


def _parts(*lengths: int) -> list[DateWindow | None]:
    """Return the last days in groups of this size and the earlier days, in random order."""
    parts: list[DateWindow | None] = []
    first = DAYS.last - timedelta(days=sum(lengths) - 1)
    parts.append(DateWindow(START, first - timedelta(days=1)))
    for length in lengths:
        parts.append(DateWindow(first, first + timedelta(days=length - 1)))
        first += timedelta(days=length)
    random.Random(len(parts)).shuffle(parts)  # noqa: S311
    return parts


def test_day_by_day_in_any_order_equals_one_run(graph: Graph, in_one_run: Graph) -> None:
    assert sum(LENGTHS) == len(LATE)
    for wave in waves():
        parts: list[DateWindow | None] = [None]
        if is_partitioned(wave[0]):
            parts = _parts(*LENGTHS) if EVENTS[0] in wave else _parts(1, 1)
        for part in parts:
            assert errors(graph.run(part, only=wave)) == {}, (wave, part)
    expected = in_one_run.contents()
    assert_same(graph.contents(), expected)

    # Recomputing early and late days changes no row.
    again = [name for wave in waves() for name in wave if is_partitioned(name)]
    for day, names in (
        (date(2025, 2, 3), again),
        (LATE.first, [name for name in waves()[1] if is_partitioned(name)]),
    ):
        assert errors(graph.run(_alone(day), only=names)) == {}
    assert_same(graph.contents(), expected)


def test_entities_loaded_again_change_nothing(tmp_path: Path, in_one_run: Graph) -> None:
    graph = _graph(in_one_run.source, tmp_path, [])
    shutil.copy(in_one_run.database, graph.database)
    with graph.instance:
        unpartitioned = [name for wave in waves() for name in wave if not is_partitioned(name)]
        assert errors(graph.run(only=unpartitioned)) == {}
    assert_same(graph.contents(), in_one_run.contents())


def test_intervals_need_every_day_of_activity(graph: Graph) -> None:
    assert errors(graph.run(only=ENTITIES)) == {}
    assert errors(graph.run(DateWindow(START, date(2025, 1, 9)), only=EVENTS)) == {}
    for first, last in ((1, 3), (6, 6), (8, 9)):
        days = DateWindow(date(2025, 1, first), date(2025, 1, last))
        assert errors(graph.run(days, only=["silver_daily_user_activity"])) == {}
    for table in ("silver_user_state_intervals", "silver_account_state_intervals"):
        message = errors(graph.run(only=[table]))["MissingPartitionsError"]
        assert (
            "silver.silver_daily_user_activity has no partitions for 2025-01-04 to 2025-01-05,"
            " 2025-01-07 (3 days)" in message
        )
        assert "monstera run --from 2025-01-04 --to 2025-01-07" in message


def test_history_needs_intervals_that_reach_its_days(graph: Graph) -> None:
    days = DateWindow(START, date(2025, 1, 9))
    assert errors(graph.run(only=ENTITIES)) == {}
    assert errors(graph.run(days, only=[*EVENTS, "silver_daily_user_activity"])) == {}
    of_users = ("silver_user_state_history", "silver_user_state_transitions")
    assert "MissingTableError" in errors(graph.run(_alone(days.last), only=of_users[:1]))
    intervals = ["silver_user_state_intervals", "silver_user_product_state_intervals"]
    assert errors(graph.run(only=intervals)) == {}
    assert errors(graph.run(_alone(days.last), only=of_users)) == {}
    for table in of_users:
        message = errors(graph.run(_alone(date(2025, 1, 10)), only=[table]))[
            "MissingPartitionsError"
        ]
        assert (
            "state_intervals describes days through 2025-01-09, but days through 2025-01-10"
            in message
        )


ABOUT_FILES = ("source_file", "files", "raw_row", "rows_digest")


def test_source_by_day_gives_the_same_tables(
    tmp_path: Path, source_by_day: Path, in_one_run: Graph, graphs: list[Graph]
) -> None:
    # All other tables are computed from these tables.
    bronze_and_same_day = [name for wave in waves()[:2] for name in wave]
    graph = _graph(source_by_day, tmp_path, graphs)
    assert errors(graph.run(DAYS, only=bronze_and_same_day)) == {}
    assert_same(
        graph.contents_of(bronze_and_same_day, ABOUT_FILES),
        in_one_run.contents_of(bronze_and_same_day, ABOUT_FILES),
    )


def test_partition_of_a_source_by_day_opens_only_its_own_files(
    tmp_path: Path, source_by_day: Path, in_one_run: Graph, graphs: list[Graph]
) -> None:
    folder = tmp_path / "source"
    shutil.copytree(source_by_day, folder)
    day = date(2025, 4, 2)
    own = folder / "events" / f"event_date={day}"
    for file in (folder / "events").rglob("*.parquet"):
        if file.parent != own:
            file.write_bytes(b"not a Parquet file")
    graph = _graph(folder, tmp_path, graphs)
    assert errors(graph.run(only=ENTITIES)) == {}
    assert errors(graph.run(_alone(day), only=EVENTS)) == {}
    expected = in_one_run.contents(ABOUT_FILES)
    loaded = graph.contents_of(EVENTS, ABOUT_FILES)
    assert loaded["bronze_events"]
    assert loaded["bronze_rejected_events"]
    assert loaded["bronze_events"] == [row for row in expected["bronze_events"] if day in row]
    for name in ("bronze_rejected_events", "bronze_loads"):
        assert loaded[name] == [row for row in expected[name] if row[0] == day]

    assert "SourceError" in errors(graph.run(_alone(day + timedelta(days=1)), only=EVENTS))
    assert graph.contents_of(EVENTS, ABOUT_FILES) == loaded
