"""The batched event log stores the same events as Dagster's own, but faster."""

import inspect
import json
import os
import queue
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster import EventLogEntry
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster_postgres import PostgresEventLogStorage

from monstera_assets.operations import event_log
from monstera_assets.operations.event_log import (
    DEFAULT_EVENT_BATCH_SIZE,
    BatchedPostgresEventLogStorage,
    BatchedSqliteEventLogStorage,
)
from monstera_assets_tests.helpers.postgres import new_database, postgres_server

if TYPE_CHECKING:
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

RUN, OTHER_RUN = "6c8a9b9e-0000-4000-8000-000000000001", "6c8a9b9e-0000-4000-8000-000000000002"
USERS, STATES = dg.AssetKey(["silver", "users"]), dg.AssetKey(["gold", "states"])
BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE"
DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")


@pytest.fixture(autouse=True)
def _no_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # monkeypatch restores a variable only if it was set before it is deleted.
    for name in (BATCH_SIZE, "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)


# ---------------------------------------------------------------- the same events, both ways


_clock = iter(range(1_000_000))


def entry(
    event_type: dg.DagsterEventType, data: Any = None, run_id: str = RUN, step_key: str = "step"
) -> EventLogEntry:
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=10,
        user_message="",
        run_id=run_id,
        timestamp=1_700_000_000.25 + next(_clock),
        step_key=step_key,
        job_name="job",
        dagster_event=DagsterEvent(
            event_type_value=event_type.value,
            job_name="job",
            event_specific_data=data,
            message="message",
            step_key=step_key,
        ),
    )


def materialization(
    key: dg.AssetKey, partition: str | None, run_id: str = RUN, **kwargs: Any
) -> EventLogEntry:
    asset_materialization = dg.AssetMaterialization(key, partition=partition, **kwargs)
    data = StepMaterializationData(asset_materialization, [])
    return entry(dg.DagsterEventType.ASSET_MATERIALIZATION, data, run_id)


def check_evaluation(
    *, passed: bool, run_id: str = RUN, check_name: str = "contract"
) -> EventLogEntry:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=USERS,
        check_name=check_name,
        passed=passed,
        metadata={},
        severity=dg.AssetCheckSeverity.ERROR,
    )
    return entry(dg.DagsterEventType.ASSET_CHECK_EVALUATION, evaluation, run_id)


def log_line(text: str) -> EventLogEntry:
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None, level=20, user_message=text, run_id=RUN, timestamp=1_700_000_000.5
    )


def all_sorts_of_events() -> list[EventLogEntry]:
    types = dg.DagsterEventType
    shared = {"rows": dg.MetadataValue.int(1), "note": dg.MetadataValue.text('"quoted" ü')}
    tags = {"dagster/data_version": "v1", "not/indexed": "x"}
    planned = AssetMaterializationPlannedData
    return [
        entry(types.PIPELINE_START, step_key=""),
        entry(types.ASSET_MATERIALIZATION_PLANNED, planned(STATES, "2024-01-01")),
        entry(types.ASSET_MATERIALIZATION_PLANNED, planned(USERS, "2024-01-01")),
        entry(
            types.ASSET_CHECK_EVALUATION_PLANNED,
            AssetCheckEvaluationPlanned(asset_key=USERS, check_name="contract"),
        ),
        entry(types.STEP_START),
        log_line("a line of the log"),
        *(
            materialization(USERS, f"2024-01-{day:02}", metadata=shared, tags=tags)
            for day in range(1, 6)
        ),
        # These values are equal in Python, but not in JSON.
        materialization(USERS, "2024-01-06", metadata={"rows": 1}, tags=tags),
        materialization(USERS, "2024-01-07", metadata={"rows": True}, tags=tags),
        materialization(USERS, "2024-01-08", metadata={"rows": 1.0}, tags=tags),
        materialization(USERS, "2024-01-09", metadata={"rows": 2}, tags={"other": "tag"}),
        materialization(USERS, 'odd "key" \\ ü', metadata=shared, tags=tags),
        materialization(
            USERS,
            dg.MultiPartitionKey({"day": "2024-01-10", "product": "a"}),
            tags={"dagster/partition/day": "2024-01-10", "dagster/partition/product": "a"},
        ),
        materialization(STATES, None, metadata=shared),
        entry(
            types.ASSET_OBSERVATION,
            AssetObservationData(dg.AssetObservation(STATES, tags={"dagster/data_version": "v2"})),
        ),
        check_evaluation(passed=False),
        materialization(STATES, "2024-01-01", OTHER_RUN, metadata=shared, tags=tags),
        materialization(USERS, "2024-01-01", OTHER_RUN, metadata=shared, tags=tags),
        materialization(STATES, "2024-01-02", RUN, metadata=shared, tags=tags),
        check_evaluation(passed=True, run_id=OTHER_RUN),
        entry(types.ASSET_MATERIALIZATION_PLANNED, planned(USERS, "2024-01-03"), OTHER_RUN),
        entry(types.STEP_SUCCESS, StepSuccessData(1.5)),  # type: ignore[no-untyped-call]
        entry(types.PIPELINE_FAILURE, run_id=OTHER_RUN, step_key=""),
        entry(types.PIPELINE_SUCCESS, step_key=""),
    ]


def tables(base_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of the event tables without their creation times."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for path in sorted(base_dir.glob("*.db")):
        with closing(sqlite3.connect(path)) as conn:
            for table in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"):
                info = conn.execute(f"PRAGMA table_info({table})").fetchall()
                columns = ", ".join(c[1] for c in info if c[1] != "create_timestamp")
                rows = conn.execute(f"SELECT {columns} FROM {table} ORDER BY id")
                found[f"{path.stem}.{table}"] = rows.fetchall()
    return found


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with make_instance(tmp_path / "home") as made:
        yield made


def make_instance(home: Path, config: str = "{}") -> dg.DagsterInstance:
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "event_log_storage:\n"
        "  module: monstera_assets.operations.event_log\n"
        "  class: BatchedSqliteEventLogStorage\n"
        f"  config: {config}\n"
    )
    return dg.DagsterInstance.from_config(str(home))


@pytest.mark.parametrize("batch_size", [0, 1, 3, 1000], ids=lambda size: str(size or "single"))
def test_batches_store_the_rows_of_single_events(tmp_path: Path, batch_size: int) -> None:
    events = all_sorts_of_events()
    stock = SqliteEventLogStorage(str(tmp_path / "stock"))
    batched = BatchedSqliteEventLogStorage(str(tmp_path / "batched"))
    for event in events:
        stock.store_event(event)
    for start in range(0, len(events), batch_size or 1):
        if batch_size:
            batched.store_event_batch(events[start : start + batch_size])
        else:
            batched.store_event(events[start])

    expected, actual = tables(tmp_path / "stock"), tables(tmp_path / "batched")
    assert {name: len(rows) for name, rows in actual.items()} == {
        name: len(rows) for name, rows in expected.items()
    }
    assert actual == expected
    assert len(expected["index.asset_event_tags"]) > 0


QUERIES: dict[str, Callable[[SqliteEventLogStorage], Any]] = {
    "materialized partitions": lambda s: s.get_materialized_partitions(USERS),
    "latest materialization": lambda s: s.get_latest_materialization_events([USERS, STATES]),
    "latest by partition": lambda s: s.get_latest_storage_id_by_partition(
        USERS, dg.DagsterEventType.ASSET_MATERIALIZATION
    ),
    "asset records": lambda s: [
        (r.storage_id, r.asset_entry) for r in s.get_asset_records([USERS, STATES])
    ],
    "all asset keys": lambda s: s.all_asset_keys(),  # type: ignore[no-untyped-call]
    "run stats": lambda s: [s.get_stats_for_run(RUN), s.get_stats_for_run(OTHER_RUN)],
    "step stats": lambda s: s.get_step_stats_for_run(RUN),
    "log": lambda s: s.get_records_for_run(RUN, limit=1000),
    "log from a cursor": lambda s: s.get_records_for_run(
        RUN, cursor=s.get_records_for_run(RUN, limit=5).cursor
    ),
    "materializations from a cursor": lambda s: s.fetch_materializations(
        USERS, limit=3, cursor=s.fetch_materializations(USERS, limit=3).cursor
    ),
    "observations": lambda s: s.fetch_observations(STATES, limit=10),
    "planned": lambda s: s.get_event_records(
        dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=USERS)
    ),
    "run status changes": lambda s: s.fetch_run_status_changes(
        dg.DagsterEventType.RUN_FAILURE, limit=10
    ),
    "tags": lambda s: s.get_event_tags_for_asset(USERS),
    "tags by value": lambda s: s.get_event_tags_for_asset(
        USERS, filter_tags={"dagster/data_version": "v1"}
    ),
    "check history": lambda s: without_time(
        s.get_asset_check_execution_history(dg.AssetCheckKey(USERS, "contract"), limit=10)
    ),
    "latest check": lambda s: without_time(
        s.get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(USERS, "contract")], PartitionKeyFilter(key=None)
        ).values()
    ),
}


def without_time(records: Any) -> list[tuple[Any, ...]]:
    check_records: list[AssetCheckExecutionRecord] = list(records)
    return [(r.id, r.run_id, r.status, r.event, r.partition) for r in check_records]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SqliteEventLogStorage]:
    """Dagster's own log and the batched one, with the same events."""
    events = all_sorts_of_events()
    stock = SqliteEventLogStorage(str(tmp_path_factory.mktemp("stock")))
    batched = BatchedSqliteEventLogStorage(str(tmp_path_factory.mktemp("batched")))
    for event in events:
        stock.store_event(event)
    batched.store_event_batch(events)
    return {"stock": stock, "batched": batched}


@pytest.mark.parametrize("query", QUERIES)
def test_queries_return_the_same_as_for_single_events(
    both: dict[str, SqliteEventLogStorage], query: str
) -> None:
    expected = QUERIES[query](both["stock"])
    assert expected
    assert QUERIES[query](both["batched"]) == expected


def test_events_of_a_step_are_buffered_until_it_ends_or_the_log_is_read(tmp_path: Path) -> None:
    writer = BatchedSqliteEventLogStorage(str(tmp_path))
    webserver = SqliteEventLogStorage(str(tmp_path))

    def seen(storage: SqliteEventLogStorage) -> list[str]:
        return [
            record.event_log_entry.get_dagster_event().event_type_value
            for record in storage.get_records_for_run(RUN).records
        ]

    types = dg.DagsterEventType
    writer.store_event(entry(types.STEP_START))
    for _ in range(2):
        writer.store_event(check_evaluation(passed=True))
    assert seen(webserver) == ["STEP_START"]
    writer.store_event(entry(types.STEP_SUCCESS, StepSuccessData(1.5)))  # type: ignore[no-untyped-call]
    all_of_it = ["STEP_START", *["ASSET_CHECK_EVALUATION"] * 2, "STEP_SUCCESS"]
    assert seen(webserver) == all_of_it
    writer.store_event(check_evaluation(passed=True))
    assert seen(webserver) == all_of_it
    assert seen(writer) == [*all_of_it, "ASSET_CHECK_EVALUATION"]
    assert seen(webserver) == seen(writer)
    writer.store_event(check_evaluation(passed=True))
    writer.dispose()
    assert seen(webserver) == [*all_of_it, *["ASSET_CHECK_EVALUATION"] * 2]


def test_a_failing_event_does_not_discard_buffered_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    original = storage._event_to_row

    def refuse(event: EventLogEntry) -> dict[str, Any]:
        if event.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            raise sqlite3.OperationalError("disk I/O error")
        return original(event)

    monkeypatch.setattr(storage, "_event_to_row", refuse)
    storage.store_event(check_evaluation(passed=True))
    with pytest.raises(sqlite3.OperationalError):
        storage.store_event(materialization(USERS, "2024-01-01"))
    storage.store_event(entry(dg.DagsterEventType.STEP_START))
    assert [
        record.event_log_entry.get_dagster_event().event_type_value
        for record in storage.get_records_for_run(RUN).records
    ] == ["ASSET_CHECK_EVALUATION", "STEP_START"]


def test_a_failing_buffered_event_does_not_discard_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    original_insert = storage.prepare_insert_event

    def refuse(event: EventLogEntry) -> Any:
        if event.is_dagster_event and (
            event.get_dagster_event().asset_check_evaluation_data.check_name == "bad"
        ):
            raise sqlite3.OperationalError("disk I/O error")
        return original_insert(event)

    monkeypatch.setattr(storage, "prepare_insert_event", refuse)
    for check_name in ("first", "bad", "last"):
        storage.store_event(check_evaluation(passed=True, check_name=check_name))
    with pytest.raises(sqlite3.OperationalError):
        storage.store_event(log_line("the end"))
    assert [
        record.event_log_entry.get_dagster_event().asset_check_evaluation_data.check_name
        for record in storage.get_records_for_run(RUN).records
    ] == ["first", "last"]


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    with postgres_server() as folder:
        yield folder


@pytest.mark.postgres
@pytest.mark.parametrize("batch_size", [0, 3, 1000], ids=lambda size: str(size or "single"))
def test_batches_store_the_rows_of_single_events_on_postgres(server: Path, batch_size: int) -> None:
    events = all_sorts_of_events()
    stock = PostgresEventLogStorage(new_database(server))
    batched = BatchedPostgresEventLogStorage(new_database(server))
    for event in events:
        stock.store_event(event)
    for start in range(0, len(events), batch_size or 1):
        if batch_size:
            batched.store_event_batch(events[start : start + batch_size])
        else:
            batched.store_event(events[start])
    expected, actual = postgres_tables(stock), postgres_tables(batched)
    assert {name: len(rows) for name, rows in actual.items()} == {
        name: len(rows) for name, rows in expected.items()
    }
    assert actual == expected
    assert len(expected["asset_event_tags"]) > 0
    batched.dispose()


@pytest.mark.postgres
def test_a_batch_on_postgres_is_stored_completely_or_not_at_all(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = BatchedPostgresEventLogStorage(new_database(server))
    events = [materialization(USERS, f"2024-01-0{day}") for day in (1, 2)]

    def refuse(*_: Any) -> None:
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_store_asset_event", refuse)
        with pytest.raises(RuntimeError):
            storage.store_event_batch(events)
    assert storage.get_logs_for_run(RUN) == []
    storage.store_event_batch(events)
    assert storage.get_logs_for_run(RUN) == events
    assert len(storage.get_materialized_partitions(USERS)) == 2
    storage.dispose()


def postgres_tables(storage: PostgresEventLogStorage) -> dict[str, list[Any]]:
    """Return all rows of the event tables without their creation times."""
    storage.get_logs_for_run(RUN)  # this stores buffered events
    found = {}
    with storage.index_connection() as connection:
        for name in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY id").mappings()
            found[name] = [
                {column: value for column, value in row.items() if column != "create_timestamp"}
                for row in rows
            ]
    return found


def test_an_empty_batch_stores_nothing(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    before = tables(tmp_path)
    storage.store_event_batch([])
    assert tables(tmp_path) == before


def test_a_batch_may_exceed_the_values_of_one_sqlite_statement(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    tags = {"dagster/data_version": "v1"}
    storage.store_event_batch(
        [materialization(USERS, str(number), tags=tags) for number in range(6_000)]
    )
    assert len(storage.get_materialized_partitions(USERS)) == 6_000
    assert len(storage.get_event_tags_for_asset(USERS)) == 6_000


# ---------------------------------------------------------------- open files


def test_a_commit_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event(entry(dg.DagsterEventType.STEP_START))
    with storage.run_connection(RUN) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
    # The connection is open, so SQLite has not copied the log to the file, which waits for the disk.
    assert (tmp_path / f"{RUN}.db-wal").stat().st_size > 0


def test_a_closed_log_leaves_only_database_files(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event_batch(all_sorts_of_events())
    storage.dispose()
    assert {path.suffix for path in tmp_path.iterdir()} == {".db"}


def test_a_watcher_in_another_process_sees_each_batch(tmp_path: Path) -> None:
    writer = BatchedSqliteEventLogStorage(str(tmp_path))
    writer.store_event(entry(dg.DagsterEventType.PIPELINE_START, step_key=""))
    webserver = SqliteEventLogStorage(str(tmp_path))
    seen = queue.Queue[str]()
    webserver.watch(
        RUN, None, lambda event, _cursor: seen.put(event.get_dagster_event().event_type_value)
    )
    writer.store_event(entry(dg.DagsterEventType.STEP_START))
    assert [seen.get(timeout=60) for _ in range(2)] == ["PIPELINE_START", "STEP_START"]
    writer.store_event(entry(dg.DagsterEventType.STEP_SUCCESS, StepSuccessData(1.5)))  # type: ignore[no-untyped-call]
    assert seen.get(timeout=60) == "STEP_SUCCESS"
    webserver.dispose()


def test_a_wiped_log_starts_anew(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event(entry(dg.DagsterEventType.STEP_START))
    storage.wipe()
    storage.store_event(entry(dg.DagsterEventType.STEP_SUCCESS, StepSuccessData(1.5)))  # type: ignore[no-untyped-call]
    webserver = SqliteEventLogStorage(str(tmp_path))
    [event] = webserver.get_logs_for_run(RUN)
    assert event.dagster_event_type == dg.DagsterEventType.STEP_SUCCESS


# ---------------------------------------------------------------- concurrent writers


def test_readers_see_a_batch_completely_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BatchedSqliteEventLogStorage(str(tmp_path))
    webserver = SqliteEventLogStorage(str(tmp_path))
    seen: list[int] = []
    original = writer._store_asset_event_tags

    def read_meanwhile(*args: Any) -> None:
        seen.append(len(webserver.get_materialized_partitions(USERS)))
        seen.append(len(webserver.get_logs_for_run(RUN)))
        original(*args)

    monkeypatch.setattr(writer, "_store_asset_event_tags", read_meanwhile)
    writer.store_event_batch([materialization(USERS, f"2024-01-0{day}") for day in range(1, 6)])
    assert seen == [0, 0]
    assert len(webserver.get_materialized_partitions(USERS)) == 5
    assert len(webserver.get_logs_for_run(RUN)) == 5


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    storages = [BatchedSqliteEventLogStorage(str(tmp_path)) for _ in range(2)]
    errors: list[BaseException] = []

    def write(storage: BatchedSqliteEventLogStorage, run_ids: Sequence[str], prefix: str) -> None:
        try:
            for number in range(10):
                storage.store_event_batch(
                    [materialization(USERS, f"{prefix}{number}", run_id) for run_id in run_ids]
                )
                storage.store_event(materialization(USERS, f"{prefix}{number}", run_ids[0]))
        except BaseException as error:
            errors.append(error)

    # Two threads share a storage. A third one has its own, like another process.
    jobs = [
        (storages[0], [RUN, OTHER_RUN], "a"),
        (storages[0], [OTHER_RUN, RUN], "b"),
        (storages[1], [OTHER_RUN, RUN], "c"),
    ]
    threads = [threading.Thread(target=write, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        # Less than SQLite's lock timeout of 30 seconds, which would resolve a deadlock.
        thread.join(timeout=15)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    assert len(storages[0].get_materialized_partitions(USERS)) == 30
    assert sum(len(storages[0].get_logs_for_run(run_id)) for run_id in (RUN, OTHER_RUN)) == 90


# ---------------------------------------------------------------- real runs


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def numbers() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 31})


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), deps=[numbers])
def doubles(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    for day in context.partition_keys:
        context.add_asset_metadata({"day": day}, asset_key="doubles", partition_key=day)
    return dg.MaterializeResult(metadata={"rows": 62})


@dg.asset_check(asset=numbers, blocking=True)
def are_there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def run_january(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = dg.define_asset_job("january", executor_def=dg.in_process_executor)
    defs = dg.Definitions(assets=[numbers, doubles], asset_checks=[are_there], jobs=[job])
    return defs.resolve_job_def("january").execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-31",
        },
    )


def counted(instance: dg.DagsterInstance, run_id: str) -> tuple[Counter[str], Counter[str]]:
    """Return the number of materializations per asset in the run's log and in the index."""
    home = Path(instance.root_directory) / "history" / "runs"
    found = []
    for name in (run_id, "index"):
        with closing(sqlite3.connect(home / f"{name}.db")) as conn:
            rows = conn.execute(
                "SELECT asset_key FROM event_logs"
                " WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND run_id = ?",
                [run_id],
            )
            found.append(Counter(json.loads(key)[0] for (key,) in rows))
    return found[0], found[1]


def test_a_range_run_records_every_partition(instance: dg.DagsterInstance) -> None:
    result = run_january(instance)
    assert result.success
    for asset in (numbers, doubles):
        assert instance.get_materialized_partitions(asset.key) == set(DAYS.get_partition_keys())
    once_each = {"numbers": 31, "doubles": 31}
    assert counted(instance, result.run_id) == (once_each, once_each)

    planned = instance.get_records_for_run(
        result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    assert len(planned.records) == 2
    stats = instance.get_run_stats(result.run_id)
    assert (stats.materializations, stats.steps_failed) == (62, 0)
    latest = instance.get_latest_materialization_event(doubles.key)
    assert latest
    assert latest.asset_materialization
    assert latest.asset_materialization.metadata == {
        "rows": dg.MetadataValue.int(62),
        "day": dg.MetadataValue.text("2024-01-31"),
    }
    (check,) = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(numbers.key, "are_there"), limit=100
    )
    assert (check.status.value, check.partition) == ("SUCCEEDED", None)


@pytest.mark.parametrize(
    ("keys", "planned_for"),
    [(["2024-01-05"], "2024-01-05"), (["2024-01-05", "2024-01-06"], None)],
)
def test_a_check_is_planned_for_its_partition_or_once_for_the_range(
    tmp_path: Path, keys: list[str], planned_for: str | None
) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    subset = DAYS.subset_with_partition_keys(keys).to_serializable_subset()
    planned = AssetCheckEvaluationPlanned(
        asset_key=USERS, check_name="contract", partitions_subset=subset
    )
    event = entry(dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned)
    storage.store_event_batch([event])
    (record,) = storage.get_asset_check_execution_history(
        dg.AssetCheckKey(USERS, "contract"), limit=10
    )
    assert record.partition == planned_for
    assert storage.get_logs_for_run(RUN) == [event]


@pytest.mark.parametrize(
    "step", ["_rows", "_store_asset_event_tags", "_store_asset_event", "get_asset_tags_to_index"]
)
def test_a_failed_batch_is_stored_exactly_once(
    instance: dg.DagsterInstance,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = instance.event_log_storage
    original = getattr(storage, step)
    in_batch = threading.Event()

    def store_batch(events: Sequence[EventLogEntry]) -> None:
        in_batch.set()
        try:
            BatchedSqliteEventLogStorage.store_event_batch(storage, events)  # type: ignore[arg-type]
        finally:
            in_batch.clear()

    def fail_in_batch(*args: Any) -> Any:
        result = original(*args)
        if in_batch.is_set():
            raise sqlite3.OperationalError("disk I/O error")
        return result

    monkeypatch.setattr(storage, "store_event_batch", store_batch)
    monkeypatch.setattr(storage, step, fail_in_batch)
    result = run_january(instance)

    assert (
        "Falling back to storing multiple single-event storage requests" in capsys.readouterr().err
    )
    once_each = {"numbers": 31, "doubles": 31}
    assert counted(instance, result.run_id) == (once_each, once_each)
    assert len(instance.get_materialized_partitions(doubles.key)) == 31


# ---------------------------------------------------------------- configuration


def test_batches_are_enabled_by_default(instance: dg.DagsterInstance) -> None:
    assert instance
    assert os.environ[BATCH_SIZE] == str(DEFAULT_EVENT_BATCH_SIZE)


def test_a_batch_size_that_the_user_set_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BATCH_SIZE, "10")
    with make_instance(tmp_path / "home") as instance:
        sizes: list[int] = []
        storage = instance.event_log_storage
        original = storage.store_event_batch

        def measure(events: Sequence[EventLogEntry]) -> None:
            sizes.append(len(events))
            original(events)

        monkeypatch.setattr(storage, "store_event_batch", measure)
        assert run_january(instance).success
        # Each asset has one batch for the plan, and for 31 days three batches of ten plus one event.
        assert sizes == [3, *[10] * 3, *[10] * 3]
        assert len(instance.get_materialized_partitions(numbers.key)) == 31


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("{}", "home/history/runs"),
        ("{base_dir: {env: LOG_DIR}}", "elsewhere"),
    ],
)
def test_the_log_is_in_the_home_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, expected: str
) -> None:
    monkeypatch.setenv("LOG_DIR", str(tmp_path / "elsewhere"))
    with make_instance(tmp_path / "home", config) as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
        assert (tmp_path / expected / "index.db").exists()
        # Run workers build their instance from this reference, not from dagster.yaml.
        with dg.DagsterInstance.from_ref(instance.get_ref()) as in_worker:
            assert isinstance(in_worker.event_log_storage, BatchedSqliteEventLogStorage)


def test_planned_events_can_still_be_one_per_partition(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "false")
    result = run_january(instance)
    planned = instance.get_records_for_run(
        result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    assert len(planned.records) == 62


# ---------------------------------------------------------------- Dagster's internals


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("store_event", "self event"),
        ("store_event_batch", "self events"),
        ("dispose", "self"),
        ("register_instance", "self instance"),
        ("from_config_value", "inst_data config_value"),
        ("run_connection", "self run_id"),
        ("index_connection", "self"),
        ("conn_string_for_shard", "self shard_name"),
        ("_connect", "self shard"),
        ("_initdb", "self engine for_index_shard"),
        ("_event_to_row", "self event"),
        ("_event_insert_timestamp", "self event"),
        ("_store_asset_event", "self conn event event_id"),
        ("_store_asset_event_tags", "self conn events event_ids"),
        ("_store_asset_check_evaluation_planned", "self event event_id"),
    ],
)
def test_methods_that_are_called_or_overridden_are_unchanged(method: str, parameters: str) -> None:
    """If this fails, a new version of Dagster changed its internals. Review the changes."""
    signature = inspect.signature(getattr(SqliteEventLogStorage, method))
    assert list(signature.parameters) == parameters.split()


def test_the_storage_of_dagster_has_the_attributes_that_are_used(tmp_path: Path) -> None:
    storage = SqliteEventLogStorage(str(tmp_path))
    assert {"_base_dir", "_initialized_dbs", "_db_lock", "_inst_data"} <= vars(storage).keys()
    assert [column.name for column in SqlEventLogStorageTable.columns] == [
        "id",
        "run_id",
        "event",
        "dagster_event_type",
        "timestamp",
        "step_key",
        "asset_key",
        "partition",
    ]
    assert SQLITE_BUSY_TIMEOUT_SECONDS == event_log._LOCK_TIMEOUT_SECONDS
