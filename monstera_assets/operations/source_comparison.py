"""Compare the source with the loaded data and determine what must be loaded and computed.

Two ledgers, the tables `bronze_loads` and `bronze_entity_loads`, record the files loaded for each
day and input. If events are stored by day, each day's file fingerprints are compared with the
ledgers. Otherwise, the fingerprints of all files are compared. If any fingerprint differs, the digests
of each day's rows are also compared. Files are always read in full, since files with the same size and
timestamp can have different contents.

Settings are not compared, because a run fails if the stored days were computed with other settings.

If the number of recomputed days is limited, changes that affect earlier days are held back. They are
found again by the next comparison without a limit.
"""
# Over 400 lines: one comparison decides which days are loaded, computed and held back.

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta

import duckdb
import ibis.expr.types as ir

from monstera_assets.bronze import (
    bronze_entity_loads,
    bronze_events,
    bronze_loads,
    bronze_rejected_entities,
    bronze_rejected_events,
    event_rules,
    load_entities,
    load_events,
)
from monstera_assets.bronze.deliveries import delivery_digest, recorded_delivery
from monstera_assets.bronze.entity_changes import COMPARED, EntityEffect, entity_effect
from monstera_assets.bronze.forgotten import FORGOTTEN
from monstera_assets.bronze.loading import open_queries, staged_events
from monstera_assets.bronze.reading import FIRST_DAY, Reading
from monstera_assets.bronze.row_digests import NO_ROWS
from monstera_assets.bronze.validation import HELD_BACK, REASON
from monstera_assets.operations.partitions import available_partitions
from monstera_assets.operations.source_range import reading, source_range
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.fingerprint import FileFingerprint, fingerprint, summary
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.warehouse.batches import temporary_table
from monstera_assets.warehouse.compiler import bind
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.layout import create_bookkeeping
from monstera_assets.warehouse.source_changes import Cause, OutOfDate, out_of_date
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Layer, Table
from monstera_assets.warehouse.windows import DateWindow, windows_of

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
    def differing(self) -> frozenset[date]:
        """The days that were loaded before and now have other rows."""
        return frozenset([*self.added, *self.changed, *self.removed]) - {*self.never_loaded}

    @property
    def every(self) -> frozenset[date]:
        """All days whose events differ."""
        return frozenset([*self.added, *self.changed, *self.removed, *self.never_loaded])


@dataclass(frozen=True)
class HeldBack:
    """Changes that affect days before the earliest day that the run recomputes.

    Attributes:
        event_days: the days whose events differ.
        rows: number of rows of other inputs that are held back, by input.
        out_of_date: the stored days that were computed before their inputs changed.
    """

    event_days: tuple[date, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    out_of_date: tuple[date, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.event_days or self.rows or self.out_of_date)


@dataclass(frozen=True)
class SourceChanges:
    """The changes in a source and the run that they require.

    Attributes:
        is_delivered: whether a file is new or has changed since the last load, or the source contains
            events of complete days that were not loaded.
        days: the days that should exist.
        stored: the days that were loaded before, or None if there are none.
        events: the days whose events differ.
        inputs: names of the other inputs whose files differ.
        effect: the days that the changed inputs affect.
        unfinished: days and tables that an earlier run did not complete.
        rebuild: the days to recompute, or None if no run is required.
        load: the days in `rebuild` whose events must be loaded.
        restate_from: the earliest day that the run recomputes, or None if it is not limited.
        held: the changes that affect earlier days.
        delivery: a digest of all files in the source.
        key: a unique key for the change.
    """

    is_delivered: bool
    days: DateWindow
    stored: DateWindow | None
    events: EventDays
    inputs: tuple[str, ...]
    effect: EntityEffect
    unfinished: OutOfDate
    rebuild: DateWindow | None
    load: tuple[DateWindow, ...]
    restate_from: date | None
    held: HeldBack
    delivery: str
    key: str

    @property
    def restated(self) -> int:
        """The number of days to recompute that were computed before."""
        if self.rebuild is None or self.stored is None or self.rebuild.first > self.stored.last:
            return 0
        return len(DateWindow(self.rebuild.first, min(self.rebuild.last, self.stored.last)))


def compare_source(
    settings: Settings,
    assets: Sequence[TableAsset],
    *,
    restate_days: int | None = None,
    last: date | None = None,
) -> SourceChanges:
    """Compare the source with the loaded data without writing to the warehouse.

    Args:
        settings: the configuration. If `start_date` is not set, the calendar starts on the first day
            in the source or the first loaded day, whichever is earlier.
        assets: the silver and gold tables.
        restate_days: the number of stored days that may be recomputed, or None if it is not limited.
        last: the last day to compute if files were delivered since the last load. Without a delivery,
            no new day is computed. Defaults to the last day in the source.

    Raises:
        SettingsError: If no day in the source has ended.
        SourceError: If the source cannot be read.
        WarehouseLockedError: If a run is writing to the warehouse.
        SchemaMismatchError: If the ledger was written with a different declaration.
        WarehouseError: If the warehouse cannot be opened.
    """
    in_source = None if last and settings.start_date else source_range(settings)
    inputs = discover_source(settings.source, delimiter=settings.csv_delimiter)
    # Read the source before opening the warehouse, because an open warehouse blocks runs.
    prints: Prints = {
        name: tuple(fingerprint(file) for file in found.files) for name, found in inputs.items()
    }
    delivery = delivery_digest(prints)
    with _reading(settings) as connection:
        loaded = _loaded_days(connection)
        known = recorded_delivery(connection)
        is_delivered = (
            loaded is None
            or known is None
            or known.digest != delivery
            or (known.last_date is not None and known.last_date > loaded.last)
        )
        if last is None:
            # source_range is None only if a last day was requested.
            last_day = in_source.last if in_source is not None else date.min
        else:
            last_day = last if is_delivered or loaded is None else loaded.last
        days = _days_to_exist(settings, in_source, loaded, last_day)
        unfinished = out_of_date(
            connection,
            [asset.table for asset in assets],
            {asset.table.name: asset.inputs for asset in assets},
            _causes(assets),
            days,
        )
        events = EventDays()
        if is_delivered or last is None:
            events = _compare_events(connection, settings, inputs[_EVENTS], prints[_EVENTS], days)
        restate_from = None
        if restate_days is not None and loaded is not None:
            new = [*events.never_loaded, *unfinished.missing, loaded.last + timedelta(days=1)]
            earliest = min(new) - timedelta(days=restate_days)
            restate_from = earliest if earliest > days.first else None
        changed_inputs: tuple[str, ...] = ()
        effect, held_rows = EntityEffect(), dict[str, int]()
        if is_delivered or last is None:
            changed_inputs, effect, held_rows = _compare_entities(
                connection, reading(settings, days.first), inputs, prints, days, restate_from
            )
        # Entities determine which event rows are accepted.
        events_table = bronze_events.TABLE
        of_entities = {events_table.name: [Cause.ENTITIES]}
        events_behind = out_of_date(connection, [events_table], {}, of_entities, days)
    first = restate_from or days.first
    held = HeldBack(
        tuple(sorted(day for day in events.differing if day < first)),
        held_rows,
        tuple(day for day in unfinished.days if day < first),
    )
    load = {*events.every, *effect.event_days, *events_behind.days}
    affected = {*load, *unfinished.days}
    if effect.every_day:
        load.update(days)
        affected.add(first)
    if effect.affects_from is not None:
        affected.add(max(effect.affects_from, first))
    load = {day for day in load if first <= day <= days.last}
    affected = {day for day in affected if first <= day <= days.last}
    if not affected and (changed_inputs or unfinished.whole_tables):
        affected = {days.last}
    rebuild = DateWindow(min(affected), days.last) if affected else None
    return SourceChanges(
        is_delivered,
        days,
        loaded,
        events,
        changed_inputs,
        effect,
        unfinished,
        rebuild,
        tuple(windows_of(load)),
        restate_from,
        held,
        delivery,
        _key(events, {name: prints.get(name, ()) for name in changed_inputs}, unfinished),
    )


def _days_to_exist(
    settings: Settings,
    in_source: DateWindow | None,
    loaded: DateWindow | None,
    last: date,
) -> DateWindow:
    """Return the days from the first day of the calendar through the last day to compute.

    Raises:
        SettingsError: If the last day is before the first day.
    """
    stored = [] if loaded is None else [loaded]
    found = [*stored, *([] if in_source is None else [in_source])]
    first = settings.start_date or min(window.first for window in found)
    available = available_partitions(first, settings.timezone)
    last = max([min(last, available.last), *(window.last for window in stored)])
    if last < first:
        raise SettingsError(
            f"No day in the source since {first} has ended. Set an earlier start_date, or"
            " wait for more data."
        )
    return DateWindow(first, last)


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
def _reading(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
    if not settings.database.exists():
        with duckdb.connect(config=dict(config)) as connection:
            yield connection
        return
    with connect(
        str(settings.database),
        config,
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=True,
    ) as connection:
        yield connection


def _has(connection: duckdb.DuckDBPyConnection, table: Table) -> bool:
    try:
        DuckDBEngine(connection).require_table(table)
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
    queries = open_queries()
    rows, malformed, _ = staged_events(connection, source_input, reads, queries, copy=False)
    bind(connection, {event_rules.LAST_DAY: days.last, FIRST_DAY: days.first})

    def digests() -> ir.Table:
        found = load_events.day_digests(rows, malformed, reading=reads)
        return found.select(
            day=found.partition_date, size=found.rows_read, content=found.rows_digest
        )

    select = queries.select(
        "source_comparison.digests", digests, rows.get_name(), rows.schema(), reads
    )
    temporary_table(connection, _DAYS_NOW, select)


# ---------------------------------------------------------------- entities


def _compare_entities(
    connection: duckdb.DuckDBPyConnection,
    reads: Reading,
    inputs: Mapping[str, SourceInput],
    prints: Prints,
    days: DateWindow,
    restate_from: date | None,
) -> tuple[tuple[str, ...], EntityEffect, dict[str, int]]:
    """Return the changed inputs, the days that they affect, and the number of rows held back by input.

    An input has changed if its files differ from the ledger. If the number of recomputed days is not
    limited, an input with rows that were held back has also changed.
    """
    names = [_input_name(table) for table in COMPARED]
    if not _has(connection, bronze_entity_loads.TABLE):
        return tuple(names), EntityEffect(every_day=True), {}
    held = _held_rows(connection)
    waiting = {} if restate_from else held
    loaded = {
        name: [(file["path"], file["size_bytes"], file["sha256"]) for file in files]
        for name, files in connection.execute(
            f"SELECT input_name, files FROM {bronze_entity_loads.TABLE.qualified_name}"
        ).fetchall()
    }
    changed = tuple(
        name
        for name in names
        if name in waiting
        or loaded.get(name)
        != [(p.relative_path, p.size_bytes, p.sha256) for p in prints.get(name, ())]
    )
    if not changed:
        return (), EntityEffect(), held
    compared = (*COMPARED, bronze_events.TABLE, bronze_rejected_events.TABLE)
    if not all(_has(connection, table) for table in compared):
        return changed, EntityEffect(every_day=True), {}
    [(warehouse,)] = connection.execute("SELECT current_database()").fetchall()
    connection.execute(f"ATTACH ':memory:' AS {_CANDIDATE} (READ_WRITE)")
    connection.execute(f"USE {_CANDIDATE}")
    create_bookkeeping(connection)
    try:
        erased = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ?"
            " AND schema_name || '.' || table_name = ?",
            [warehouse, FORGOTTEN],
        ).fetchall()
        if erased[0][0]:
            connection.execute(f"CREATE TABLE {FORGOTTEN} AS FROM {quote(warehouse)}.{FORGOTTEN}")
        for table in (*COMPARED, bronze_entity_loads.TABLE):
            DuckDBEngine(connection).prepare(table)
            connection.execute(
                f"INSERT INTO {table.qualified_name} BY NAME"
                f" FROM {quote(warehouse)}.{table.qualified_name}"
            )

        def stored(table: Table) -> str:
            return f"{quote(warehouse)}.{table.qualified_name}"

        load_entities.entity_batch(
            inputs, reads, open_queries(), days, restate_from=restate_from, loaded=stored
        ).write(connection, None)
        held = _held_rows(connection)
        effect = entity_effect(
            connection,
            before=stored,
            after=lambda table: f"{_CANDIDATE}.{table.qualified_name}",
            loaded=stored,
        )
    finally:
        connection.execute(f"USE {quote(warehouse)}")
        connection.execute(f"DETACH {_CANDIDATE}")
    return changed, effect, held


def _held_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return the number of rows of each input that the stored load holds back."""
    found = connection.execute(
        f"""
        SELECT input_name, max(rows) FROM (
            SELECT input_name, count(*) AS rows FROM {bronze_rejected_entities.TABLE.qualified_name}
            WHERE {REASON} = '{HELD_BACK}' GROUP BY input_name
            UNION ALL
            -- A row that the source no longer contains is not rejected, but its stored row is kept.
            SELECT input_name, rows_kept FROM {bronze_entity_loads.TABLE.qualified_name}
        ) GROUP BY input_name HAVING max(rows) > 0 ORDER BY input_name
        """
    ).fetchall()
    return dict(found)


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
