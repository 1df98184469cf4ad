"""Event logs for SQLite and PostgreSQL that record thousands of partitions per run in seconds.

Dagster's own storages open a connection and commit several times per event, so recording many
partitions takes far longer than computing them. The classes in this module store the same events in
the same tables, but in one transaction per batch. Queries return the same results, except for planned
checks (see `_store_asset_check_evaluation_planned`). No event is added, dropped or changed.

Events about a step's inputs, outputs and checks are buffered until a different kind of event
arrives or this process reads the log. Dozens of these events occur within milliseconds, and one
transaction per event would take longer than the step itself. If the process is killed, the current
step's buffered events are lost, but that step must be rerun anyway.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from dagster import DagsterEventType, Field, StringSource
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    StepMaterializationData,
)
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster_shared.record import replace
from sqlalchemy import create_engine, func, select
from sqlalchemy.event import listen

try:
    from dagster_postgres import PostgresEventLogStorage
    from dagster_postgres import utils as pg
except ImportError:  # PostgreSQL is optional
    PostgresEventLogStorage = SqlEventLogStorage  # type: ignore[misc,assignment]

if TYPE_CHECKING:
    from dagster import DagsterInstance, EventLogEntry
    from dagster._config import UserConfigSchema
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy.engine import Connection, Engine

    Events = Sequence[EventLogEntry]
    Rows = list[dict[str, Any]]

DEFAULT_EVENT_BATCH_SIZE = 1000
"""Larger batches save little time, since Dagster's own per-event work dominates."""

_OF_STEP = {
    DagsterEventType.STEP_INPUT,
    DagsterEventType.LOADED_INPUT,
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.HANDLED_OUTPUT,
    DagsterEventType.ASSET_CHECK_EVALUATION,
}
"""Event types that are buffered."""

_IN_INDEX = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}
"""Event types that SQLite also stores in the index, which covers all runs."""

_LOCK_TIMEOUT_SECONDS = 30
"""The timeout that Dagster's own SQLite connections use."""

_MAX_ENGINES = 8
"""A webserver reads the shards of thousands of runs over time."""

_NO_PARTITION, _NO_TIME = uuid.uuid4().hex, -(uuid.uuid4().int % 10**15) / 10**6
"""Placeholders, which occur in no event because they are random."""


class _BatchedEventLog(SqlEventLogStorage):
    """The part that both storages share: the buffer, and one transaction per batch.

    A storage's `_begin` returns connections in a transaction, `_new_connection` connects for a single
    statement, and `_insert` inserts rows into the event table and returns their ids.
    """

    _begin: Callable[[ExitStack, Events], dict[str, Connection]]
    _new_connection: Callable[[str], AbstractContextManager[Connection]]
    _insert: Callable[[Rows], Sequence[int]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        self._buffer: list[EventLogEntry] = []
        # Dagster calls this method for every check event.
        self.has_table = cache(self.has_table)  # type: ignore[method-assign]
        self._batch = threading.local()
        """The connections of the batch that this thread is writing, by shard."""
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Build the storage from dagster.yaml.

        dagster.yaml cannot set the variables that make Dagster send batches, and one planned event
        per asset and run. Variables that are already set keep their values.
        """
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(DEFAULT_EVENT_BATCH_SIZE))
        os.environ.setdefault("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "true")
        return cls(inst_data=inst_data, **cls._arguments(config_value))

    @staticmethod
    def _arguments(config: Any) -> dict[str, Any]:
        return dict(config)

    def store_event(self, event: EventLogEntry) -> None:
        """Buffer an event, or store it after the buffered events."""
        if _is_one_of(event, _OF_STEP) and len(self._buffer) < DEFAULT_EVENT_BATCH_SIZE:
            with self._lock:
                self._buffer.append(event)
        else:
            self._store([event])

    def store_event_batch(self, events: Events) -> None:
        """Store either all events or none. After an error, Dagster retries the events one by one."""
        self._store(events)

    def dispose(self) -> None:
        """Store the buffered events and close the connections."""
        self._store([])
        super().dispose()

    def _store(self, events: Events) -> None:
        """Store the buffered events, followed by the given events."""
        if not self._buffer and not events:  # the usual case when reading, which needs no lock
            return
        with self._lock:
            buffered, self._buffer = self._buffer, []
            try:
                self._store_at_once([*buffered, *events])
            except Exception:
                if not buffered:
                    raise
                # If an event cannot be stored, no other event may be lost.
                self._buffer = buffered
                while self._buffer:
                    self._store_at_once([self._buffer.pop(0)])
                self._store_at_once(events)

    def _store_at_once(self, events: Events) -> None:
        with ExitStack() as stack:
            connections = self._begin(stack, events)
            self._batch.connections = connections
            try:
                for is_asset_event, group in groupby(events, lambda e: _is_one_of(e, ASSET_EVENTS)):
                    if is_asset_event:
                        self._store_asset_events(list(group))
                    else:
                        for event in group:
                            super().store_event(event)
            finally:
                self._batch.connections = {}
            # Only a disk failure between these commits can leave the files of SQLite inconsistent.
            for connection in connections.values():
                connection.commit()
        self._notify(connections)

    def _notify(self, shards: Iterable[str]) -> None:
        """Notify other processes that the shards have new events, if the database does not."""

    @contextmanager
    def _connect(self, shard: str = INDEX_SHARD_NAME) -> Iterator[Connection]:
        """Connect to a shard. Within a batch, reuse the batch's connection."""
        connections = getattr(self._batch, "connections", {})
        if shard in connections:
            yield connections[shard]
            return
        if not connections:
            self._store([])
        with self._new_connection(shard) as connection:
            yield connection

    def _store_asset_check_evaluation_planned(
        self, event: EventLogEntry, event_id: int | None
    ) -> None:
        """Record a planned check once per range instead of once per partition.

        In a run over a range, check evaluations have no partition, so they would never complete the
        planned rows per partition, which take seconds and megabytes per check. The range is kept in the
        run's log.
        """
        dagster_event = event.get_dagster_event()
        planned = dagster_event.asset_check_planned_data
        if planned.partitions_subset is not None and len(planned.partitions_subset) > 1:
            event = event._replace(
                dagster_event=dagster_event._replace(
                    event_specific_data=replace(planned, partitions_subset=None)
                )
            )
        super()._store_asset_check_evaluation_planned(event, event_id)

    def _store_asset_events(self, events: Events) -> None:
        """Store asset events like `store_event`, but table by table instead of event by event."""
        rows = self._rows(events)
        ids = self._insert(rows)
        with self.index_connection() as connection:
            self._store_asset_event_tags(connection, events, ids)
            # Each event type always sets the same columns in the asset's row, so only the last event
            # per type matters.
            last = {
                (row["asset_key"], row["dagster_event_type"]): (event_id, event)
                for event_id, event, row in zip(ids, events, rows, strict=True)
            }
            for event_id, event in sorted(last.values(), key=itemgetter(0)):
                self._store_asset_event(connection, event, event_id)

    def _rows(self, events: Events) -> Rows:
        """Return one row per event, serializing data shared by consecutive events only once.

        Serialization is expensive, and materializations in a range differ only in partition and time.
        """
        rows: Rows = []
        template, shared = None, {}
        for event in events:
            dagster_event = event.get_dagster_event()
            data, partition = dagster_event.event_specific_data, dagster_event.partition
            if not isinstance(data, StepMaterializationData) or not partition:
                rows.append(self._event_to_row(event))
                continue
            made = data.materialization
            blank = data._replace(materialization=made._replace(partition=_NO_PARTITION))
            blank_event = event._replace(
                timestamp=_NO_TIME, dagster_event=dagster_event._replace(event_specific_data=blank)
            )
            # Values with different JSON can be equal, such as 1 and True, so compare their identity.
            like = (blank_event, [(name, id(value)) for name, value in made.metadata.items()])
            if like != template:
                template, shared = like, self._event_to_row(blank_event)
            text = shared["event"].replace(json.dumps(_NO_TIME), json.dumps(event.timestamp))
            text = text.replace(_NO_PARTITION, json.dumps(partition)[1:-1])
            time = self._event_insert_timestamp(event)  # type: ignore[no-untyped-call]
            rows.append(shared | {"event": text, "timestamp": time, "partition": partition})
        return rows


class BatchedSqliteEventLogStorage(_BatchedEventLog, SqliteEventLogStorage):
    """A SQLite event log that writes each batch of events in one transaction per file.

    `base_dir` defaults to the directory of Dagster's own event log: `history/runs` in the
    instance's home, including the temporary home that `dagster dev` creates.
    """

    def __init__(
        self, base_dir: str | None = None, inst_data: ConfigurableClassData | None = None
    ) -> None:
        self._inst_data = inst_data
        self._engines: dict[str, Engine] = {}
        """The engines by shard, the last used last."""
        if base_dir is not None:
            super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return the schema for `config` in dagster.yaml."""
        return {"base_dir": Field(StringSource, is_required=False)}

    def register_instance(self, instance: DagsterInstance) -> None:
        """Register the instance and, if `base_dir` is not configured, use the default directory.

        The instance's home is not known earlier. Dagster calls this method before using the storage.
        """
        if not hasattr(self, "_base_dir"):
            base_dir = os.path.join(instance.root_directory, "history", "runs")  # noqa: PTH118
            super().__init__(base_dir, self._inst_data)
        super().register_instance(instance)

    def dispose(self) -> None:
        """Store the buffered events and close the connections."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()

    def _begin(self, stack: ExitStack, events: Events) -> dict[str, Connection]:
        """Begin a transaction in the run's file and, if necessary, in the index.

        BEGIN IMMEDIATE acquires the write lock immediately. Otherwise, a transaction that reads
        before it writes would fail if another process wrote in between. All processes acquire locks
        in the same order, so they cannot deadlock.
        """
        shards = sorted({event.run_id for event in events})
        if any(_is_one_of(event, _IN_INDEX) for event in events):
            shards.append(INDEX_SHARD_NAME)
        # Initialize before taking the first lock, because creating a new shard's tables also
        # acquires locks, but in a different order.
        engines = {shard: self._engine(shard) for shard in shards}
        connections = {shard: stack.enter_context(engines[shard].connect()) for shard in shards}
        for connection in connections.values():
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        return connections

    def _notify(self, shards: Iterable[str]) -> None:
        """Update the files' times. The UI watches the file, but SQLite writes to its log first."""
        for shard in shards:
            with suppress(FileNotFoundError):  # another process deleted the run
                os.utime(self.path_for_shard(shard))

    @contextmanager
    def _new_connection(self, shard: str) -> Iterator[Connection]:
        with self._lock, self._engine(shard).begin() as connection:
            yield connection

    def _insert(self, rows: Rows) -> Sequence[int]:
        for run_id in dict.fromkeys(row["run_id"] for row in rows):
            with self.run_connection(run_id) as connection:
                of_run = [row for row in rows if row["run_id"] == run_id]
                connection.execute(SqlEventLogStorageTable.insert(), of_run)
        with self.index_connection() as connection:
            # executemany has no limit on the number of values, but does not return keys. Assigning
            # keys here is safe because the transaction already holds the write lock.
            last = connection.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar() or 0
            ids = range(last + 1, last + 1 + len(rows))
            in_index = [row | {"id": event_id} for event_id, row in zip(ids, rows, strict=True)]
            connection.execute(SqlEventLogStorageTable.insert(), in_index)
        return ids

    def _engine(self, shard: str) -> Engine:
        """Return the engine of a shard. Engines are kept, because they hold open connections."""
        engine = self._engines.pop(shard, None)
        if shard not in self._initialized_dbs and engine is not None:  # the file was deleted
            engine.dispose()
            engine = None
        engine = self._engines[shard] = engine or self._new_engine(shard)
        if len(self._engines) > _MAX_ENGINES:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def _new_engine(self, shard: str) -> Engine:
        """Return the engine of a shard with tables.

        The engine keeps connections and compiled statements. If the last connection to a file were
        closed after each batch, SQLite would copy its write-ahead log to the file and wait for the
        disk several times: 2,400 times in a run over the seeds, which took 12 of 35 seconds on a disk
        that needs 5 ms. For the same reason, a commit does not wait for the disk. If the computer loses
        power, the latest events can be lost, but the file stays consistent.
        """
        url, timeout = self.conn_string_for_shard(shard), {"timeout": _LOCK_TIMEOUT_SECONDS}
        engine = create_engine(url, connect_args=timeout)
        listen(engine, "connect", _do_not_wait_for_the_disk)
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        return engine


def _do_not_wait_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


class BatchedPostgresEventLogStorage(_BatchedEventLog, PostgresEventLogStorage):
    """A PostgreSQL event log that keeps a connection and writes each batch in one transaction."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Dagster's own pool, without limits.
        self.optimize_for_webserver(statement_timeout=0, pool_recycle=3600, max_overflow=-1)

    @staticmethod
    def _arguments(config: Any) -> dict[str, Any]:
        return {
            "postgres_url": pg.pg_url_from_config(config),
            "should_autocreate_tables": config.get("should_autocreate_tables", True),
            "token_provider": pg.get_token_provider_from_config(config),
        }

    def dispose(self) -> None:
        """Store the buffered events and close the connections."""
        super().dispose()
        self._engine.dispose()

    def _begin(self, stack: ExitStack, events: Events) -> dict[str, Connection]:
        connection = stack.enter_context(pg.create_pg_connection(self._engine))
        connection.execution_options(isolation_level="READ COMMITTED").begin()
        return {INDEX_SHARD_NAME: connection}

    def _new_connection(self, shard: str) -> Any:
        return pg.create_pg_connection(self._engine)

    def _insert(self, rows: Rows) -> Sequence[int]:
        statement = SqlEventLogStorageTable.insert().returning(
            SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
        )
        with self.index_connection() as connection:
            return connection.execute(statement, rows).scalars().all()


def _is_one_of(event: EventLogEntry, types: Set[DagsterEventType]) -> bool:
    return event.is_dagster_event and event.dagster_event_type in types
