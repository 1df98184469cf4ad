"""An event log that can record thousands of partitions per run in seconds.

Dagster's SQLite event log opens four connections and commits four times per event, so recording many
partitions takes far longer than computing them. `BatchedSqliteEventLogStorage` stores the same events
in the same files and tables, but in one transaction per batch. Queries return the same results, except
for planned checks (see `_store_asset_check_evaluation_planned`).

Events about a step's inputs, outputs and checks are buffered until a different kind of event
arrives or this process reads the log. Dozens of these events occur within milliseconds, and one
transaction per event would take longer than the step itself. If the process is killed, the current
step's buffered events are lost, but that step must be rerun anyway.

The class is configured in dagster.yaml and does not depend on the asset graph:

    event_log_storage:
      module: monstera_assets.operations.event_log
      class: BatchedSqliteEventLogStorage
      config: {}

The class never adds, drops or changes events.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import groupby
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dagster import DagsterEventType, Field, StringSource, serialize_value
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    StepMaterializationData,
)
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster_shared.record import replace
from sqlalchemy import create_engine, func, select
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from dagster import DagsterInstance, EventLogEntry, MetadataValue
    from dagster._config import UserConfigSchema
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy.engine import Connection, Engine

DEFAULT_EVENT_BATCH_SIZE = 1000
"""Larger batches save little time, since Dagster's own per-event work dominates."""

_OF_STEP = frozenset(
    {
        DagsterEventType.STEP_INPUT,
        DagsterEventType.LOADED_INPUT,
        DagsterEventType.STEP_OUTPUT,
        DagsterEventType.HANDLED_OUTPUT,
        DagsterEventType.ASSET_CHECK_EVALUATION,
    }
)
"""Event types that are buffered."""

_IN_INDEX = (
    frozenset(ASSET_EVENTS)
    | frozenset(ASSET_CHECK_EVENTS)
    | frozenset(EVENT_TYPE_TO_PIPELINE_RUN_STATUS)
)
"""Event types that are also stored in the index, which covers all runs."""

_LOCK_TIMEOUT_SECONDS = 30
"""The timeout that Dagster's own connections use."""

_NO_PARTITION = "partition, left out by BatchedSqliteEventLogStorage"
_NO_TIME = -123456789.987654321


class _OpenBatch(threading.local):
    """Connections for the batch that this thread is writing, one per shard."""

    def __init__(self) -> None:
        self.connections: dict[str, Connection] = {}


class _Buffer:
    """Events that have not been stored yet, in order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[EventLogEntry] = []

    def add(self, event: "EventLogEntry") -> int:
        """Buffer an event and return the number of buffered events."""
        with self._lock:
            self._events.append(event)
            return len(self._events)

    def drain(self) -> "list[EventLogEntry]":
        """Remove and return all buffered events."""
        if not self._events:  # the usual case, which does not need a lock
            return []
        with self._lock:
            drained, self._events = self._events, []
            return drained


class _EventTemplate(NamedTuple):
    """A partition's materialization event, with placeholders for the partition and timestamp."""

    event: "EventLogEntry"
    metadata: "Mapping[str, MetadataValue[Any]]"
    partition: str
    timestamp: float

    @classmethod
    def of(cls, event: "EventLogEntry") -> "_EventTemplate | None":
        """Return the event's template, or None if the event does not materialize a partition."""
        dagster_event = event.dagster_event
        if dagster_event is None:
            return None
        data = dagster_event.event_specific_data
        if not isinstance(data, StepMaterializationData) or data.materialization.partition is None:
            return None
        materialization = data.materialization._replace(partition=_NO_PARTITION)
        template = event._replace(
            timestamp=_NO_TIME,
            dagster_event=dagster_event._replace(
                event_specific_data=data._replace(materialization=materialization)
            ),
        )
        return cls(
            template, materialization.metadata, data.materialization.partition, event.timestamp
        )

    def matches(self, other: "_EventTemplate") -> bool:
        """Return whether both templates have the same JSON. Equality is not enough: 1 equals True."""
        return (
            self.event == other.event
            and list(self.metadata) == list(other.metadata)
            and all(map(is_, self.metadata.values(), other.metadata.values()))
        )

    def render(self, template_json: str) -> str | None:
        """Return the event's JSON, or None if the event itself contains a placeholder."""
        partition, time = json.dumps(_NO_PARTITION), json.dumps(_NO_TIME)
        if template_json.count(partition) != 1 or template_json.count(time) != 1:
            return None
        return template_json.replace(time, json.dumps(self.timestamp)).replace(
            partition, json.dumps(self.partition)
        )


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """A SQLite event log that writes each batch of events in one transaction per file.

    `base_dir` defaults to the directory of Dagster's own event log: `history/runs` in the
    instance's home, including the temporary home that `dagster dev` creates.
    """

    def __init__(
        self, base_dir: str | None = None, inst_data: "ConfigurableClassData | None" = None
    ) -> None:
        self._inst_data = inst_data
        self._open_batch = _OpenBatch()
        self._buffer = _Buffer()
        self._tables = set[str]()
        # The cache is bounded because a webserver reads the shards for thousands of runs over time.
        self._engine = lru_cache(maxsize=8)(self._new_engine)
        if base_dir is not None:
            super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> "UserConfigSchema":
        """Return the schema for `config` in dagster.yaml."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: "ConfigurableClassData | None", config_value: Any
    ) -> Self:
        """Build the storage from dagster.yaml and enable batching in Dagster.

        Dagster batches events only if an environment variable is set, and dagster.yaml cannot set
        variables. Every process that writes events calls this method first. If the variable is
        already set, its value is kept.
        """
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(DEFAULT_EVENT_BATCH_SIZE))
        return cls(inst_data=inst_data, **config_value)

    def register_instance(self, instance: "DagsterInstance") -> None:
        """Register the instance and, if `base_dir` is not configured, use the default directory.

        The instance's home is not known earlier, because dagster.yaml does not support relative
        paths and no variable contains the path if DAGSTER_HOME is not set. Dagster calls this
        method before using the storage.
        """
        if not hasattr(self, "_base_dir"):
            base_dir = os.path.join(instance.root_directory, "history", "runs")  # noqa: PTH118
            super().__init__(base_dir, self._inst_data)
        super().register_instance(instance)

    def has_table(self, table_name: str) -> bool:
        """Return whether the index has a table. Dagster calls this method for every check event."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """Whether Dagster emits one planned event per asset and run for a range of partitions."""
        asked = os.getenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "true")
        return asked.lower() not in ("false", "none", "0", "")

    def store_event(self, event: "EventLogEntry") -> None:
        """Buffer an event, or store it after flushing the buffer."""
        if self._open_batch.connections:
            super().store_event(event)  # part of the batch that this thread is writing
        elif event.is_dagster_event and event.dagster_event_type in _OF_STEP:
            if self._buffer.add(event) >= DEFAULT_EVENT_BATCH_SIZE:
                self._flush()
        else:
            self._store([event])

    def store_event_batch(self, events: Sequence["EventLogEntry"]) -> None:
        """Store either all events or none. After an error, Dagster retries the events one by one."""
        self._store(events)

    def _store(self, events: Sequence["EventLogEntry"]) -> None:
        """Store the buffered events, followed by the given events."""
        buffered = self._buffer.drain()
        try:
            self._store_batch([*buffered, *events])
        except Exception:
            if not buffered:
                raise
            # If a new event cannot be stored, the buffered events must not be lost.
            self._store_each(buffered)
            self._store_batch(events)

    def _store_each(self, events: Sequence["EventLogEntry"]) -> None:
        first_error: Exception | None = None
        for event in events:
            try:
                self._store_batch([event])
            except Exception as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error

    def _flush(self) -> None:
        self._store([])

    def dispose(self) -> None:
        """Store the buffered events and close the files."""
        self._flush()
        super().dispose()

    def _store_batch(self, events: Sequence["EventLogEntry"]) -> None:
        if not events:
            return
        shards = sorted({event.run_id for event in events})
        if any(
            event.is_dagster_event and event.dagster_event_type in _IN_INDEX for event in events
        ):
            shards.append(INDEX_SHARD_NAME)
        with self._one_transaction(shards):
            for is_asset_event, group in groupby(events, _is_asset_event):
                if is_asset_event:
                    self._store_asset_events(list(group))
                else:
                    for event in group:
                        self.store_event(event)

    def _store_asset_check_evaluation_planned(
        self, event: "EventLogEntry", event_id: int | None
    ) -> None:
        """Record a planned check once per range instead of once per partition.

        In a run over a range, check evaluations do not include a partition. Dagster's own log writes
        one planned row per partition, but no evaluation ever completes these rows. For sixteen
        years of partitions, these rows take seconds and megabytes per check, and Dagster still
        shows the check as planned. The range is kept in the run's log.
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

    def _store_asset_events(self, events: Sequence["EventLogEntry"]) -> None:
        """Store asset events like `store_event`, but table by table instead of event by event."""
        rows = self._rows(events)
        for run_id in dict.fromkeys(row["run_id"] for row in rows):
            with self.run_connection(run_id) as conn:
                conn.execute(
                    SqlEventLogStorageTable.insert(),
                    [row for row in rows if row["run_id"] == run_id],
                )
        with self.index_connection() as conn:
            # executemany has no limit on the number of values, but does not return keys. Assigning
            # keys here is safe because the transaction already holds the write lock.
            last_id = conn.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar() or 0
            ids = range(last_id + 1, last_id + 1 + len(rows))
            conn.execute(
                SqlEventLogStorageTable.insert(),
                [row | {"id": event_id} for event_id, row in zip(ids, rows, strict=True)],
            )
            self._store_asset_event_tags(conn, events, ids)
            # Each event type always sets the same columns in the asset's row, so only the last event
            # per type matters. `pop` keeps these last events in order.
            last: dict[str, dict[str, tuple[EventLogEntry, int]]] = {}
            for event, event_id, row in zip(events, ids, rows, strict=True):
                of_asset = last.setdefault(row["asset_key"], {})
                of_asset.pop(row["dagster_event_type"], None)
                of_asset[row["dagster_event_type"]] = (event, event_id)
            for of_asset in last.values():
                for event, event_id in of_asset.values():
                    self._store_asset_event(conn, event, event_id)

    def _rows(self, events: Sequence["EventLogEntry"]) -> list[dict[str, Any]]:
        """Return one row per event, serializing data shared by consecutive events only once.

        Serialization is the most expensive part of storing an event, and the materializations in a
        range differ only in their partition and timestamp.
        """
        rows: list[dict[str, Any]] = []
        pattern, pattern_row = None, {}
        for event in events:
            template = _EventTemplate.of(event)
            if template is None:
                rows.append(self._event_to_row(event))
                continue
            if pattern is None or not template.matches(pattern):
                pattern, pattern_row = template, self._event_to_row(template.event)
            rows.append(
                pattern_row
                | {
                    "event": template.render(pattern_row["event"]) or serialize_value(event),
                    "timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
                    "partition": template.partition,
                }
            )
        return rows

    @contextmanager
    def _one_transaction(self, shards: Sequence[str]) -> Iterator[None]:
        """Open one transaction across the given shards, in order, for this thread.

        BEGIN IMMEDIATE acquires the write lock immediately. Otherwise, a transaction that reads
        before it writes would fail if another process wrote in between. All processes acquire locks
        in the same order, so they cannot deadlock. All files are written before the first commit,
        so only a disk failure between commits can leave them inconsistent.
        """
        with self._db_lock, ExitStack() as stack:
            # Initialize before taking the first lock, because creating a new shard's tables also
            # acquires locks, but in a different order.
            engines = [self._initialized_engine(shard) for shard in shards]
            connections: dict[str, Connection] = {}
            for shard, engine in zip(shards, engines, strict=True):
                connections[shard] = stack.enter_context(engine.connect())
                connections[shard].exec_driver_sql("BEGIN IMMEDIATE")
            self._open_batch.connections = connections
            try:
                yield
            finally:
                self._open_batch.connections = {}
            for conn in connections.values():
                conn.commit()

    @contextmanager
    def _connect(self, shard: str) -> Iterator["Connection"]:
        """Connect to a shard. Within a batch, reuse the batch's connection."""
        conn = self._open_batch.connections.get(shard)
        if conn is not None:
            yield conn
            return
        self._flush()
        with self._db_lock, self._initialized_engine(shard).begin() as conn:
            yield conn

    def _initialized_engine(self, shard: str) -> "Engine":
        engine = self._engine(shard)
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        return engine

    def _new_engine(self, shard: str) -> "Engine":
        """Return a shard's engine, which is cached because it stores compiled statements.

        The engine keeps no connections open. Closing the last connection flushes the write-ahead
        log to the database file, which the UI's live log watches.
        """
        return create_engine(
            self.conn_string_for_shard(shard),
            poolclass=NullPool,
            connect_args={"timeout": _LOCK_TIMEOUT_SECONDS},
        )


def _is_asset_event(event: "EventLogEntry") -> bool:
    return event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS
