"""Compare the source with the loaded data and determine what must be loaded and computed.

Two ledgers, the tables `bronze_loads` and `bronze_entity_loads`, record the files loaded for each
day and input. If events are stored by day, each day's file fingerprints are compared with the
ledgers. Otherwise, the fingerprints of all files are compared. If any fingerprint differs, the digests
of each day's rows are also compared. Files are always read in full, since files with the same size and
timestamp can have different contents.

Settings are not compared, because a run fails if the stored days were computed with other settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import duckdb
import ibis

from monstera_assets.bronze import (
    bronze_entity_loads,
    bronze_events,
    bronze_loads,
    bronze_rejected_events,
    event_rules,
    load_entities,
    load_events,
)
from monstera_assets.bronze.entity_changes import COMPARED, EntityEffect, entity_effect
from monstera_assets.bronze.loading import staged_events
from monstera_assets.bronze.reading import Reading
from monstera_assets.bronze.row_digests import NO_ROWS
from monstera_assets.operations.partitions import available_partitions
from monstera_assets.operations.source_range import reading, source_range
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.fingerprint import FileFingerprint, fingerprint, summary
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.warehouse.batches import temporary_table
from monstera_assets.warehouse.compiler import bind, compile_duckdb
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.layout import create_bookkeeping
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import Cause, OutOfDate, out_of_date
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Layer, Table
from monstera_assets.warehouse.windows import DateWindow, windows_of
from monstera_assets.warehouse.writer import prepare, quote, require_table

_EVENTS = "events"
_DAYS_NOW = "compared_days"
_CANDIDATE = "candidate"

Prints = Mapping[str, tuple[FileFingerprint, ...]]


@dataclass(frozen=True)
class EventDays:
    """The days whose events differ from the loaded data, in order.

    Attributes:
        added: days that had no rows or were never loaded, but now have rows.
        changed: days with different rows.
        removed: days that had rows but no longer have any rows.
        never_loaded: days that were never loaded, with or without rows.
        rows_outside: number of rows dated outside the available days, or None if not counted.
        content: digests of these days' current rows.
    """

    added: tuple[date, ...] = ()
    changed: tuple[date, ...] = ()
    removed: tuple[date, ...] = ()
    never_loaded: tuple[date, ...] = ()
    rows_outside: int | None = None
    content: tuple[str, ...] = ()

    @property
    def every(self) -> frozenset[date]:
        """All days whose events differ."""
        return frozenset([*self.added, *self.changed, *self.removed, *self.never_loaded])


@dataclass(frozen=True)
class SourceChanges:
    """The changes in a source and the run that they require.

    Attributes:
        days: the days that should exist.
        events: the days whose events differ.
        inputs: names of the other inputs whose files differ.
        effect: the days that the changed inputs affect.
        unfinished: days and tables that an earlier run did not complete.
        rebuild: the days to recompute, or None if no run is required.
        load: the days in `rebuild` whose events must be loaded.
        key: a unique key for the change.
    """

    days: DateWindow
    events: EventDays
    inputs: tuple[str, ...]
    effect: EntityEffect
    unfinished: OutOfDate
    rebuild: DateWindow | None
    load: tuple[DateWindow, ...]
    key: str


def compare_source(
    settings: Settings,
    assets: Sequence[TableAsset],
    *,
    lock_timeout_seconds: float | None = None,
) -> SourceChanges:
    """Compare the source with the loaded data without writing to the warehouse.

    Args:
        settings: the configuration. If `start_date` is not set, the calendar starts on the first day
            in the source or the first loaded day, whichever is earlier.
        assets: the silver and gold tables.
        lock_timeout_seconds: seconds to wait for the lock. Defaults to the configured value.

    Raises:
        SettingsError: If no day in the source has ended.
        SourceError: If the source cannot be read.
        WarehouseLockedError: If a run is writing to the warehouse.
        SchemaMismatchError: If the ledger was written with a different declaration.
        WarehouseError: If the warehouse cannot be opened.
    """
    in_source = source_range(settings)
    inputs = discover_source(settings.source, delimiter=settings.csv_delimiter)
    # Read the source before opening the warehouse, because an open warehouse blocks runs.
    prints: Prints = {
        name: tuple(fingerprint(file) for file in found.files) for name, found in inputs.items()
    }
    timeout = (
        settings.lock_timeout_seconds if lock_timeout_seconds is None else lock_timeout_seconds
    )
    with _reading(settings, timeout) as connection:
        loaded = _loaded_days(connection)
        first = settings.start_date or min(
            [in_source.first, *([loaded.first] if loaded is not None else [])]
        )
        available = available_partitions(first, settings.timezone)
        last = min(in_source.last, available.last)
        if loaded is not None:
            last = max(last, loaded.last)
        if last < first:
            raise SettingsError(
                f"No day in the source since {first} has ended. Set an earlier start_date, or"
                " wait for more data."
            )
        days = DateWindow(first, last)
        events = _compare_events(connection, settings, inputs[_EVENTS], prints[_EVENTS], days)
        changed_inputs, effect = _compare_entities(
            connection, reading(settings, first), inputs, prints, days
        )
        unfinished = out_of_date(
            connection,
            [asset.table for asset in assets],
            {asset.table.name: asset.inputs for asset in assets},
            _causes(assets),
            days,
        )
        # Entities determine which event rows are accepted.
        events_table = bronze_events.TABLE
        of_entities = {events_table.name: [Cause.ENTITIES]}
        events_behind = out_of_date(connection, [events_table], {}, of_entities, days)
    event_days = {max(day, days.first) for day in effect.event_days}
    load = {*events.every, *event_days, *events_behind.days}
    affected = {*load, *unfinished.days}
    if effect.every_day:
        load.update(days)
        affected.add(days.first)
    if effect.affects_from is not None:
        affected.add(max(effect.affects_from, days.first))
    affected = {day for day in affected if days.first <= day <= days.last}
    if not affected and (changed_inputs or unfinished.whole_tables):
        affected = {days.last}
    rebuild = DateWindow(min(affected), days.last) if affected else None
    to_load = windows_of(day for day in load if days.first <= day <= days.last)
    return SourceChanges(
        days,
        events,
        changed_inputs,
        effect,
        unfinished,
        rebuild,
        tuple(to_load),
        _key(events, {name: prints.get(name, ()) for name in changed_inputs}, unfinished),
    )


def _causes(assets: Sequence[TableAsset]) -> Mapping[str, frozenset[Cause]]:
    """Return the kinds of loads that each table depends on, directly or indirectly."""
    inputs = {asset.table.name: asset.inputs for asset in assets}
    causes = {table.name: frozenset({Cause.ENTITIES}) for table in load_entities.TABLES}
    causes |= {table.name: frozenset(Cause) for table in load_events.TABLES}

    def of(name: str) -> frozenset[Cause]:
        if name not in causes:
            causes[name] = frozenset().union(*(of(read) for read in inputs[name]))
        return causes[name]

    return {name: of(name) for name in inputs}


@contextmanager
def _reading(settings: Settings, timeout: float) -> Iterator[duckdb.DuckDBPyConnection]:
    config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
    if not settings.database.exists():
        with duckdb.connect(config=dict(config)) as connection:
            yield connection
        return
    with connect(
        str(settings.database), config, lock_timeout_seconds=timeout, read_only=True
    ) as connection:
        yield connection


def _has(connection: duckdb.DuckDBPyConnection, table: Table) -> bool:
    try:
        require_table(connection, table)
    except MissingTableError:
        return False
    return True


def _loaded_days(connection: duckdb.DuckDBPyConnection) -> DateWindow | None:
    if not _has(connection, bronze_loads.TABLE):
        return None
    [(first, last)] = connection.execute(
        f"SELECT min(partition_date), max(partition_date) FROM {bronze_loads.TABLE.qualified_name}"
    ).fetchall()
    return DateWindow(first, last) if first is not None else None


# ---------------------------------------------------------------- events


def _compare_events(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    source_input: SourceInput,
    prints: Sequence[FileFingerprint],
    days: DateWindow,
) -> EventDays:
    ledger = (
        f"SELECT * FROM {bronze_loads.TABLE.qualified_name}"
        if _has(connection, bronze_loads.TABLE)
        else "SELECT NULL::DATE AS partition_date, 0 AS rows_read, '' AS rows_digest,"
        " [{'path': '', 'size_bytes': 0::BIGINT, 'sha256': ''}] AS files WHERE false"
    )
    _keep_files(connection, source_input, prints)
    if source_input.by_day:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_DAYS_NOW} AS"
            f" SELECT greatest(folder_date, DATE '{days.first}') AS day,"
            " count(*) AS size, list(file ORDER BY file.path) AS files,"
            " md5(files::VARCHAR) AS content FROM compared_files GROUP BY day"
        )
        differs = "coalesce(now.files, []) <> ledger.files"
        size_before, size_now = "len(ledger.files)", "now.size"
    elif not _other_files(connection, ledger, prints, days):
        missing = _never_loaded(connection, ledger, days)
        if not missing:
            return EventDays()
        _digest_days(connection, settings, source_input, days)
        differs, size_before, size_now = "false", "ledger.rows_read", "now.size"
    else:
        _digest_days(connection, settings, source_input, days)
        differs = f"coalesce(now.content, '{NO_ROWS}') <> ledger.rows_digest"
        size_before, size_now = "ledger.rows_read", "now.size"
    rows = connection.execute(
        f"""
        SELECT calendar.day, ledger.partition_date IS NULL AS is_new,
            coalesce({size_before}, 0) AS size_before, coalesce({size_now}, 0) AS size_now,
            coalesce(now.content, '')
        FROM (SELECT unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY))::DATE AS day)
            AS calendar
        LEFT JOIN ({ledger}) AS ledger ON ledger.partition_date = calendar.day
        LEFT JOIN {_DAYS_NOW} AS now ON now.day = calendar.day
        WHERE ledger.partition_date IS NULL OR {differs}
        ORDER BY calendar.day
        """,
        [days.first, days.last],
    ).fetchall()
    [(outside,)] = connection.execute(
        f"SELECT coalesce(sum(size), 0)::BIGINT FROM {_DAYS_NOW} WHERE day NOT BETWEEN ? AND ?",
        [days.first, days.last],
    ).fetchall()
    return EventDays(
        added=tuple(day for day, _, before, now, _ in rows if now and not before),
        changed=tuple(day for day, _, before, now, _ in rows if now and before),
        removed=tuple(day for day, _, before, now, _ in rows if before and not now),
        never_loaded=tuple(day for day, is_new, *_ in rows if is_new),
        rows_outside=None if source_input.by_day else int(outside),
        content=tuple(f"{day}={content}" for day, *_, content in rows),
    )


def _keep_files(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    prints: Sequence[FileFingerprint],
) -> None:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE compared_files AS SELECT folder_date, {'path': path,"
        " 'size_bytes': size_bytes, 'sha256': sha256} AS file FROM (SELECT"
        " unnest(?::DATE[]) AS folder_date, unnest(?::VARCHAR[]) AS path,"
        " unnest(?::BIGINT[]) AS size_bytes, unnest(?::VARCHAR[]) AS sha256)",
        [
            [file.folder_date for file in source_input.files],
            [file.relative_path for file in prints],
            [file.size_bytes for file in prints],
            [file.sha256 for file in prints],
        ],
    )


def _other_files(
    connection: duckdb.DuckDBPyConnection,
    ledger: str,
    prints: Sequence[FileFingerprint],
    days: DateWindow,
) -> bool:
    """Return whether the ledger has different files or a different day for undated rows."""
    [(other, first)] = connection.execute(
        "WITH now AS (SELECT coalesce(list(file ORDER BY file.path), []) AS every,"
        " [{'path': ?, 'size_bytes': ?::BIGINT, 'sha256': ?}] AS summary FROM compared_files)"
        " SELECT coalesce(bool_or(files <> every AND files <> summary), false), min(partition_date)"
        f" FROM ({ledger}) CROSS JOIN now",
        list(summary(prints)),
    ).fetchall()
    return bool(other) or first != days.first


def _never_loaded(connection: duckdb.DuckDBPyConnection, ledger: str, days: DateWindow) -> int:
    [(loaded,)] = connection.execute(
        f"SELECT count(*) FROM ({ledger}) WHERE partition_date BETWEEN ? AND ?",
        [days.first, days.last],
    ).fetchall()
    return len(days) - int(loaded)


def _digest_days(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    source_input: SourceInput,
    days: DateWindow,
) -> None:
    reads = reading(settings, days.first)
    rows, malformed, _ = staged_events(connection, source_input, reads, QueryCache())
    bind(connection, {event_rules.LAST_DAY: days.last})
    digests = load_events.day_digests(
        rows,
        malformed,
        reading=reads,
        first_partition=days.first,
    )
    temporary_table(
        connection,
        _DAYS_NOW,
        compile_duckdb(
            digests.select(
                day=ibis._.partition_date, size=ibis._.rows_read, content=ibis._.rows_digest
            )
        ),
    )


# ---------------------------------------------------------------- entities


def _compare_entities(
    connection: duckdb.DuckDBPyConnection,
    reads: Reading,
    inputs: Mapping[str, SourceInput],
    prints: Prints,
    days: DateWindow,
) -> tuple[tuple[str, ...], EntityEffect]:
    """Return the inputs whose files differ from the ledger, and the days that these inputs affect."""
    names = [_input_name(table) for table in COMPARED]
    if not _has(connection, bronze_entity_loads.TABLE):
        return tuple(names), EntityEffect(every_day=True)
    loaded = {
        name: [(file["path"], file["size_bytes"], file["sha256"]) for file in files]
        for name, files in connection.execute(
            f"SELECT input_name, files FROM {bronze_entity_loads.TABLE.qualified_name}"
        ).fetchall()
    }
    changed = tuple(
        name
        for name in names
        if loaded.get(name)
        != [(p.relative_path, p.size_bytes, p.sha256) for p in prints.get(name, ())]
    )
    if not changed:
        return (), EntityEffect()
    compared = (*COMPARED, bronze_events.TABLE, bronze_rejected_events.TABLE)
    if not all(_has(connection, table) for table in compared):
        return changed, EntityEffect(every_day=True)
    [(warehouse,)] = connection.execute("SELECT current_database()").fetchall()
    connection.execute(f"ATTACH ':memory:' AS {_CANDIDATE} (READ_WRITE)")
    connection.execute(f"USE {_CANDIDATE}")
    create_bookkeeping(connection)
    try:
        for table in load_entities.READ_BY_LOADS:
            prepare(connection, table)
            connection.execute(
                f"INSERT INTO {table.qualified_name} BY NAME"
                f" FROM {quote(warehouse)}.{table.qualified_name}"
            )
        load_entities.entity_batch(inputs, reads, window=days).write(connection, None)
        effect = entity_effect(
            connection,
            before=lambda table: f"{quote(warehouse)}.{table.qualified_name}",
            after=lambda table: f"{_CANDIDATE}.{table.qualified_name}",
            loaded=lambda table: f"{quote(warehouse)}.{table.qualified_name}",
        )
    finally:
        connection.execute(f"USE {quote(warehouse)}")
        connection.execute(f"DETACH {_CANDIDATE}")
    return changed, effect


def _input_name(table: Table) -> str:
    return table.name.removeprefix(f"{Layer.BRONZE}_")


# ---------------------------------------------------------------- the key


def _key(events: EventDays, inputs: Prints, unfinished: OutOfDate) -> str:
    """Return a digest of the change.

    The digest includes the time of the latest loaded change. A source that is reverted and then
    changed again therefore gets a new key.
    """
    document = {
        "events": events.content,
        "inputs": {
            name: [(file.relative_path, file.sha256) for file in files]
            for name, files in inputs.items()
        },
        "unfinished": [str(day) for day in _ends(unfinished.days)] + list(unfinished.whole_tables),
        "noted_at": str(unfinished.noted_at),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _ends(days: Iterable[date]) -> list[date]:
    every = list(days)
    return [every[0], every[-1]] if every else []
