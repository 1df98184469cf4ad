"""The event log that lets one run materialize thousands of partitions in seconds.

Dagster's SQLite event log opens four connections and commits four times for every event, so the
bookkeeping of a long partition range takes far longer than computing it. The class in this module
stores the same events in the same files and tables, a batch to a transaction, and no query can
tell the difference, except for the plans of checks (`_store_asset_check_evaluation_planned`).

What a step says between its start and its end, of its inputs, outputs and checks, is kept in memory
until the next event of another kind, or until this process reads the log: such events come by the
dozen within milliseconds, and a transaction for each costs more than the step. A process that is
killed loses those of the step that it was in, which is computed again.

It belongs to the instance, not to the asset graph: dagster.yaml plugs it in.

    event_log_storage:
      module: monstera_assets.operations.event_log
      class: BatchedSqliteEventLogStorage
      config: {}

What does not belong here: anything that changes which events exist or what they say.
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
"""Beyond a few hundred events a batch, what is left is Dagster's own work on each event."""

_OF_STEP = frozenset(
    {
        DagsterEventType.STEP_INPUT,
        DagsterEventType.LOADED_INPUT,
        DagsterEventType.STEP_OUTPUT,
        DagsterEventType.HANDLED_OUTPUT,
        DagsterEventType.ASSET_CHECK_EVALUATION,
    }
)
"""What waits for the next event of another kind."""

_IN_INDEX = (
    frozenset(ASSET_EVENTS)
    | frozenset(ASSET_CHECK_EVENTS)
    | frozenset(EVENT_TYPE_TO_PIPELINE_RUN_STATUS)
)
"""What is stored in the index over all runs too."""

_LOCK_TIMEOUT_SECONDS = 30
"""As long as Dagster's own connections wait for another process."""

_NO_PARTITION = "partition, left out by BatchedSqliteEventLogStorage"
_NO_TIME = -123456789.987654321


class _OpenBatch(threading.local):
    """The connections of the batch this thread is writing, by shard; no other thread sees them."""

    def __init__(self) -> None:
        self.connections: dict[str, Connection] = {}


class _Buffer:
    """Events that are not stored yet, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[EventLogEntry] = []

    def add(self, event: "EventLogEntry") -> int:
        """Let an event wait; how many do now."""
        with self._lock:
            self._events.append(event)
            return len(self._events)

    def drain(self) -> "list[EventLogEntry]":
        """All that wait, which then do no more."""
        if not self._events:  # the ordinary case, for which no lock is needed
            return []
        with self._lock:
            taken, self._events = self._events, []
            return taken


class _EventTemplate(NamedTuple):
    """The materialization of a partition with the partition and the time taken out."""

    event: "EventLogEntry"
    metadata: "Mapping[str, MetadataValue[Any]]"
    partition: str
    timestamp: float

    @classmethod
    def of(cls, event: "EventLogEntry") -> "_EventTemplate | None":
        """The template of an event; None for all events that are not of this kind."""
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
        """Whether both have the same JSON, which equality alone does not tell: 1 equals True."""
        return (
            self.event == other.event
            and list(self.metadata) == list(other.metadata)
            and all(map(is_, self.metadata.values(), other.metadata.values()))
        )

    def render(self, template_json: str) -> str | None:
        """The event's JSON; None should the stand-ins also occur in the event's own words."""
        partition, time = json.dumps(_NO_PARTITION), json.dumps(_NO_TIME)
        if template_json.count(partition) != 1 or template_json.count(time) != 1:
            return None
        return template_json.replace(time, json.dumps(self.timestamp)).replace(
            partition, json.dumps(self.partition)
        )


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """SQLite event log that writes each batch of events in one transaction a file.

    Without a `base_dir` the log lies where Dagster's own would: in `history/runs` under the home
    of the instance, also when `dagster dev` made that home for one session.
    """

    def __init__(
        self, base_dir: str | None = None, inst_data: "ConfigurableClassData | None" = None
    ) -> None:
        self._inst_data = inst_data
        self._open_batch = _OpenBatch()
        self._buffer = _Buffer()
        self._tables = set[str]()
        # Bounded: a webserver reads the shards of thousands of runs in its life.
        self._engine = lru_cache(maxsize=8)(self._new_engine)
        if base_dir is not None:
            super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> "UserConfigSchema":
        """What dagster.yaml may say under `config`."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: "ConfigurableClassData | None", config_value: Any
    ) -> Self:
        """Build the storage from dagster.yaml and see to it that Dagster sends batches.

        Dagster batches only where this variable is set, reads it at every event and has no setting
        for it in dagster.yaml. Every process that writes events builds its storage here first, so
        this is the one place that reaches them all. A value that is already set wins.
        """
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(DEFAULT_EVENT_BATCH_SIZE))
        return cls(inst_data=inst_data, **config_value)

    def register_instance(self, instance: "DagsterInstance") -> None:
        """Take the instance, and its home where dagster.yaml named no directory.

        dagster.yaml has no relative paths, and in a session without DAGSTER_HOME no variable
        holds the home either, so it is only known here: before the first use, as Dagster
        registers the instance while it builds it.
        """
        if not hasattr(self, "_base_dir"):
            base_dir = os.path.join(instance.root_directory, "history", "runs")  # noqa: PTH118
            super().__init__(base_dir, self._inst_data)
        super().register_instance(instance)

    def has_table(self, table_name: str) -> bool:
        """Return whether the index has a table; Dagster asks at every event of a check."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """One planned event an asset and run that names its range, instead of one a partition."""
        asked = os.getenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "true")
        return asked.lower() not in ("false", "none", "0", "")

    def store_event(self, event: "EventLogEntry") -> None:
        """Store an event and what has waited for it, or let it wait."""
        if self._open_batch.connections:
            super().store_event(event)  # a part of the batch that this thread is writing
        elif event.is_dagster_event and event.dagster_event_type in _OF_STEP:
            if self._buffer.add(event) >= DEFAULT_EVENT_BATCH_SIZE:
                self._store_waiting()
        else:
            self._store([event])

    def store_event_batch(self, events: Sequence["EventLogEntry"]) -> None:
        """Store all the events or none: after an error Dagster stores them again, one by one."""
        self._store(events)

    def _store(self, events: Sequence["EventLogEntry"]) -> None:
        """Store events, after what has waited for them."""
        waiting = self._buffer.drain()
        try:
            self._store_batch([*waiting, *events])
        except Exception:
            if not waiting:
                raise
            # Any of them may spoil the batch: it must not take along those that waited.
            self._store_each(waiting)
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

    def _store_waiting(self) -> None:
        self._store([])

    def dispose(self) -> None:
        """Store what waits, and let go of the files."""
        self._store_waiting()
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
        """Plan a check of a range once, as it is evaluated, and not for each partition.

        Whether the check is partitioned or not, its evaluation in a run over a range names no
        partition. Dagster's own log makes one row a partition, which no evaluation ever fills: a
        range of sixteen years takes seconds and megabytes for every check and leaves it planned
        for ever. The event itself, in the log of the run, keeps its range.
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
        """What `store_event` does for asset events, a table at a time instead of an event."""
        rows = self._rows(events)
        for run_id in dict.fromkeys(row["run_id"] for row in rows):
            with self.run_connection(run_id) as conn:
                conn.execute(
                    SqlEventLogStorageTable.insert(),
                    [row for row in rows if row["run_id"] == run_id],
                )
        with self.index_connection() as conn:
            # executemany knows no limit on the number of values, but returns no keys: they are
            # given instead, which is safe as the transaction already holds the write lock.
            last_id = conn.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar() or 0
            ids = range(last_id + 1, last_id + 1 + len(rows))
            conn.execute(
                SqlEventLogStorageTable.insert(),
                [row | {"id": event_id} for event_id, row in zip(ids, rows, strict=True)],
            )
            self._store_asset_event_tags(conn, events, ids)
            # Each type of event always sets the same columns of the asset's row, so only the last
            # of each type leaves a trace; popped first, it also keeps its place in the order.
            last: dict[str, dict[str, tuple[EventLogEntry, int]]] = {}
            for event, event_id, row in zip(events, ids, rows, strict=True):
                of_asset = last.setdefault(row["asset_key"], {})
                of_asset.pop(row["dagster_event_type"], None)
                of_asset[row["dagster_event_type"]] = (event, event_id)
            for of_asset in last.values():
                for event, event_id in of_asset.values():
                    self._store_asset_event(conn, event, event_id)

    def _rows(self, events: Sequence["EventLogEntry"]) -> list[dict[str, Any]]:
        """The rows of the events, with what neighbours have in common serialized only once.

        Serialization is the most expensive part of storing an event, and the materializations of a
        range differ in nothing but their partition and their time.
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
        """Give this thread one transaction over shards: those of runs, and the index if it is last.

        BEGIN IMMEDIATE takes the write lock at once: a transaction that reads first and writes
        later fails when another process wrote in between. All processes lock in the same order,
        runs before the index, so none waits for another in a circle. Nothing is committed before
        everything is written; what could still part the files is a disk that fails in between.
        """
        with self._db_lock, ExitStack() as stack:
            # All of them before the first lock is taken: making a new shard's tables waits for
            # locks as well, and those in an order of its own.
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
        """The connection to a shard: within a batch the batch's own, so that all is one unit."""
        conn = self._open_batch.connections.get(shard)
        if conn is not None:
            yield conn
            return
        self._store_waiting()
        with self._db_lock, self._initialized_engine(shard).begin() as conn:
            yield conn

    def _initialized_engine(self, shard: str) -> "Engine":
        engine = self._engine(shard)
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        return engine

    def _new_engine(self, shard: str) -> "Engine":
        """The engine of a shard, kept for the statements that SQLAlchemy compiles for it.

        It keeps no connection open. Closing the last one is what moves the write-ahead log into
        the database file, and the live log of the UI watches that file for changes.
        """
        return create_engine(
            self.conn_string_for_shard(shard),
            poolclass=NullPool,
            connect_args={"timeout": _LOCK_TIMEOUT_SECONDS},
        )


def _is_asset_event(event: "EventLogEntry") -> bool:
    return event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS
