"""Check a source without Dagster, and report what is wrong and how to correct it.

The source is loaded into a temporary database according to the bronze tables' rules. For events, only
the columns that findings need are stored. An error in one input does not hide findings about other
inputs, because all readable inputs are loaded.
"""
# Over 400 lines: one check loads a source once, and all findings read that load.

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_entity_loads,
    bronze_events,
    bronze_product_catalog,
    bronze_rejected_entities,
    bronze_rejected_events,
    bronze_source_faults,
    bronze_subscription_events,
    bronze_user_aliases,
    bronze_users,
    bronze_workflows,
    event_rules,
    load_entities,
)
from monstera_assets.bronze.aliases import merging_aliases
from monstera_assets.bronze.loading import (
    open_queries,
    raw_columns,
    stage,
    staged_events,
    with_details,
)
from monstera_assets.bronze.reading import Reading, without_addresses
from monstera_assets.bronze.remedies import remedy
from monstera_assets.bronze.validation import (
    DETAIL,
    FAULTS,
    MERGED,
    REASON,
    REPEATED,
    SUPERSEDED,
    raw_row,
)
from monstera_assets.operations.source_findings import (
    FAULT_REMEDIES,
    EventTypeCheck,
    Finding,
    InputCheck,
    SourceCheck,
    finding,
)
from monstera_assets.operations.source_range import reading
from monstera_assets.settings import Settings
from monstera_assets.source.databases import shown_source
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import Source, SourceInput, discover_source
from monstera_assets.source.reader import (
    FileDescription,
    check_unchanged,
    describe_files,
    explain_failure,
)
from monstera_assets.warehouse.batches import count_rows, temporary_relation
from monstera_assets.warehouse.compiler import bind, compile_duckdb
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.windows import DateWindow, windows_of

_MODULES: Mapping[str, ModuleType] = {
    "events": event_rules,
    "users": bronze_users,
    "accounts": bronze_accounts,
    "product_catalog": bronze_product_catalog,
    "subscription_events": bronze_subscription_events,
    "workflows": bronze_workflows,
    "user_aliases": bronze_user_aliases,
}
_CHECKED, _COUNTS = "checked_events", "checked_counts"

_SIMILARITY = 0.75
QUIET_HOURS = 5
MIN_EVENTS_FOR_TIMEZONE = 1_000
_NIGHT = 4
_MIN_ACTIVE_HOURS = 8
_MAX_TOLERATED_HOURS = 3
_CERTAINTIES = {"likely": 0.05, "possible": 0.10}
"""Maximum share of events in the quietest hours, by certainty (21% in an even distribution)."""


def check_source(settings: Settings, now: datetime) -> SourceCheck:
    """Read an entire source and return the findings about it.

    Raises:
        SourceError: If the folder does not exist or cannot be listed.
    """
    errors: dict[str, SourceError] = {}
    inputs = discover_source(settings.source, errors, delimiter=settings.csv_delimiter)
    config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
    with (
        tempfile.TemporaryDirectory(prefix="monstera-check-") as folder,
        connect(str(Path(folder) / "check.duckdb"), config) as connection,
    ):
        _load(connection, inputs, reading(settings, settings.earliest_event_date), errors)
        described = {
            name: list(describe_files(connection, each, _MODULES[name].SOURCE_COLUMNS))
            for name, each in inputs.items()
        }
        counted = list(_counted_inputs(connection, described))
        read = {each.input: each.rows_read for each in counted}
        types = _event_types(connection)
        days: dict[date, int] = dict(
            connection.execute(
                f"SELECT event_date, sum(events)::BIGINT FROM {_COUNTS}"
                " WHERE because IS NOT NULL GROUP BY event_date ORDER BY event_date"
            ).fetchall()
        )
        today = now.astimezone(ZoneInfo(settings.timezone)).date()
        findings = [
            *(finding("source_error", input=name, error=error) for name, error in errors.items()),
            *(
                finding("ignored_file", path=entry.path, reason=entry.reason)
                for entry in inputs.ignored
            ),
            *_similar_columns(described),
            *_rejections(connection, read),
            *_corrections(connection, read),
            *_about_types(types, has_events="events" in inputs),
            *about_days(days, settings, today),
            *_about_timezone(connection, days, settings),
        ]
    first = max(next(iter(days)), settings.start_date or date.min) if days else None
    return SourceCheck(
        source=shown_source(settings.source),
        timezone=settings.timezone,
        first_day=first,
        last_day=max((day for day in days if day < today), default=None),
        events_before=sum(events for day, events in days.items() if first and day < first),
        events_after=sum(events for day, events in days.items() if day >= today),
        inputs=counted,
        event_types=types,
        findings=findings,
    )


# ---------------------------------------------------------------- load


def _load(
    connection: duckdb.DuckDBPyConnection,
    inputs: Source,
    read: Reading,
    errors: dict[str, SourceError],
) -> None:
    """Load all readable inputs. Remove unreadable inputs and record their errors."""
    queries = open_queries()
    for table in (bronze_rejected_events.TABLE, bronze_rejected_entities.TABLE):
        DuckDBEngine(connection).prepare(table)

    def load() -> None:
        no_events = SourceInput("events", (), by_day=False)
        given = {"events": no_events, **inputs}
        load_entities.entity_batch(given, read, queries).write(connection, None)
        _load_events(connection, given["events"], read, queries)

    try:
        load()
    except (SourceError, duckdb.Error) as error:
        found = dict(_unreadable(connection, inputs, error))
        if not found:
            raise
        errors |= found
        for name in found:
            del inputs[name]
        load()
    for source_input in inputs.values():
        check_unchanged(source_input)


def _unreadable(
    connection: duckdb.DuckDBPyConnection, inputs: Mapping[str, SourceInput], error: Exception
) -> Iterator[tuple[str, SourceError]]:
    """Read each input separately, and yield the errors by input."""
    for name, source_input in inputs.items():
        columns, required = _MODULES[name].SOURCE_COLUMNS, _MODULES[name].REQUIRED
        try:
            stage(connection, source_input, columns, required, copy=False)
            explain_failure(connection, source_input, raw_columns(columns, required), error)
        except SourceError as found:
            yield name, found


def _load_events(
    connection: duckdb.DuckDBPyConnection,
    source_input: SourceInput,
    read: Reading,
    queries: QueryCache,
) -> None:
    """Classify all events, and store the data that findings need."""
    rows, _, keys = staged_events(connection, source_input, read, queries, copy=False)
    bind(connection, {event_rules.LAST_DAY: date.max})
    rules = bronze_events.Classification(
        bronze_users.TABLE.relation,
        bronze_accounts.TABLE.relation,
        bronze_product_catalog.TABLE.relation,
        bronze_subscription_events.TABLE.relation,
        reading=read,
        aliases=merging_aliases(connection),
    )
    staged = (rows.get_name(), rows.schema(), read, rules.aliases is None)
    has_repeated = count_rows(connection, compile_duckdb(keys)) > 0

    def checked() -> ir.Table:
        keyed = rows.mutate(repeated_key=event_rules.event_key(rows))
        if not has_repeated:
            return _kept(rules.of_single(rows))
        single = keyed.anti_join(keys, "repeated_key").drop("repeated_key")
        repeated = keyed.semi_join(keys, "repeated_key").drop("repeated_key")
        return _kept(rules.of_single(single)).union(_kept(rules.of_repeated(repeated)))

    select = queries.select("check.events", checked, *staged, has_repeated)
    connection.execute(f"CREATE OR REPLACE TABLE {_CHECKED} AS {select}")
    rejected = (
        f"SELECT coalesce(event_date, DATE '{read.first_day}') AS partition_date, event_date,"
        f" {REASON}, source_file, raw_row FROM {_CHECKED} WHERE {REASON} <> '{REPEATED}'"
    )
    refused = bronze_rejected_entities.TABLE.qualified_name
    stored = bronze_rejected_events.TABLE.qualified_name
    connection.execute(f"DELETE FROM {stored}")
    connection.execute(f"INSERT INTO {stored} BY NAME {with_details(rejected, refused)}")
    connection.execute(
        f"INSERT INTO {stored} BY NAME SELECT DATE '{read.first_day}' AS partition_date,"
        f" reason AS {REASON}, source_file, raw_line AS raw_row FROM events_malformed"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_COUNTS} AS SELECT event_type, user_id, event_date, because,"
        " is_qualifying_event, hour, count(*) AS events"
        f" FROM {_CHECKED} WHERE {REASON} IS NULL GROUP BY GROUPING SETS ((event_type, user_id),"
        " (event_type, event_date, because, is_qualifying_event), (hour))"
    )


def _kept(rows: ir.Table) -> ir.Table:
    """Return the columns that findings need."""
    is_user = rows.entity_type == "user"
    has_flag = ibis.or_(
        *(
            rows[f"text_{flag}"].notnull() & ~rows[f"unreadable_{flag}"].fill_null(False)
            for flag in ("is_qualifying_event", "is_activation_event")
        )
    )
    return rows.select(
        "event_type",
        "event_date",
        "is_qualifying_event",
        FAULTS,
        REASON,
        "source_file",
        user_id=ibis.ifelse(is_user, rows.entity_id, None),
        event_id=ibis.ifelse(rows[FAULTS].notnull(), rows.event_id, None),
        hour=ibis.ifelse(is_user, rows.event_timestamp.hour(), None),
        because=ibis.cases((rows.is_listed, "catalog"), (has_flag, "flag"), else_="nothing"),
        raw_row=ibis.ifelse(rows[REASON].notnull(), raw_row(rows), None),
    )


# ---------------------------------------------------------------- rows


def _similar_columns(described: Mapping[str, Sequence[FileDescription]]) -> Iterator[Finding]:
    """Yield a finding for each unread column whose name is similar to that of a missing column."""
    for name, files in described.items():
        columns = _MODULES[name].SOURCE_COLUMNS
        if not all(file.names for file in files):
            continue
        paths = {column.lower(): file.path for file in files for column in file.names}
        unread = [column for column in paths if column not in columns and "@" not in column]
        for missing in columns:
            if missing not in paths:
                for column in get_close_matches(missing, unread, n=1, cutoff=_SIMILARITY):
                    path = paths[column]
                    yield finding(
                        "similar_column", input=name, path=path, name=column, missing=missing
                    )


def _counted_inputs(
    connection: duckdb.DuckDBPyConnection, described: Mapping[str, Sequence[FileDescription]]
) -> Iterator[InputCheck]:
    rejected = (
        f"SELECT input_name, {REASON} FROM {bronze_rejected_entities.TABLE.qualified_name} UNION ALL"
        f" SELECT 'events', {REASON} FROM {bronze_rejected_events.TABLE.qualified_name}"
    )
    columns = "input_name, rows_accepted, rows_repeated"
    counts = {
        name: numbers
        for name, *numbers in connection.execute(
            f"SELECT {columns}, coalesce(superseded, 0), coalesce(merged, 0), coalesce(others, 0) FROM"
            f" (SELECT {columns} FROM {bronze_entity_loads.TABLE.qualified_name} UNION ALL"
            f" SELECT 'events', count(*) FILTER ({REASON} IS NULL),"
            f" count(*) FILTER ({REASON} = '{REPEATED}') FROM {_CHECKED}) LEFT JOIN"
            f" (SELECT input_name, count(*) FILTER ({REASON} = '{SUPERSEDED}') AS superseded,"
            f" count(*) FILTER ({REASON} = '{MERGED}') AS merged,"
            f" count(*) FILTER ({REASON} NOT IN ('{SUPERSEDED}', '{MERGED}')) AS others"
            f" FROM ({rejected})"
            " GROUP BY input_name) USING (input_name)"
        ).fetchall()
    }
    for name in _MODULES:
        if name in described:
            accepted, repeated, superseded, merged, others = counts[name]
            yield InputCheck(
                input=name,
                formats=sorted({file.format for file in described[name]}),
                files=len(described[name]),
                rows_read=sum(counts[name]),
                rows_accepted=accepted,
                rows_repeated=repeated,
                rows_superseded=superseded,
                rows_merged=merged,
                rows_rejected=others,
            )


def _rejections(
    connection: duckdb.DuckDBPyConnection, read: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield a finding for each input and rejection reason, most frequent first."""
    events = bronze_rejected_events.TABLE.relation
    columns = ["input_name", REASON, DETAIL, "source_file", "raw_row"]
    rows = bronze_rejected_entities.TABLE.relation.select(columns).union(
        events.mutate(input_name=ibis.literal("events")).select(columns)
    )
    rows = rows.filter(rows[REASON].notin([SUPERSEDED, MERGED]))
    place_in_source = rows.source_file + rows.raw_row
    found = rows.group_by("input_name", REASON).aggregate(
        rows=rows.count(),
        example=without_addresses(rows.raw_row.argmin(place_in_source)),
        file=rows.source_file.argmin(place_in_source),
        detail=rows[DETAIL].argmin(place_in_source),
    )
    found = found.select(
        *("input_name", REASON, "rows", "example", "file"),
        remedy=without_addresses(remedy(found[REASON], found.detail)),
    ).order_by(ibis.desc("rows"), "input_name", REASON)
    for name, reason, number, example, file, what_to_do in connection.execute(
        compile_duckdb(found)
    ).fetchall():
        yield finding(
            "rejected",
            input=name,
            reason=reason,
            rows=number,
            rows_read=read[name],
            share=number / read[name],
            example=example,
            example_file=file,
            remedy=what_to_do,
        )


def _corrections(
    connection: duckdb.DuckDBPyConnection, read: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield a finding for each input and corrected fault, most frequent first."""
    events = temporary_relation(connection, _CHECKED)
    faults = bronze_source_faults.bronze_source_faults(
        events.filter(events[REASON].isnull()),
        *(
            module.TABLE.relation
            for module in (
                bronze_subscription_events,
                bronze_users,
                bronze_accounts,
                bronze_product_catalog,
                bronze_user_aliases,
            )
        ),
    )
    faults = faults.mutate(example=without_addresses(faults.example_ids[0]))
    found = connection.execute(
        "SELECT input_name, fault, sum(rows)::BIGINT AS number, min(example)"
        f" FROM ({compile_duckdb(faults)}) GROUP BY ALL ORDER BY number DESC, input_name, fault"
    ).fetchall()
    for name, fault, number, example in found:
        texts = (text for start, text in FAULT_REMEDIES.items() if fault.startswith(start))
        yield finding(
            "corrected",
            input=name,
            reason=fault,
            rows=number,
            rows_read=read[name],
            share=number / read[name],
            example=example,
            remedy=next(texts, ""),
        )


# ---------------------------------------------------------------- events


def _event_types(connection: duckdb.DuckDBPyConnection) -> list[EventTypeCheck]:
    rows = connection.execute(
        "SELECT event_type, sum(events) FILTER (because IS NOT NULL)::BIGINT AS number,"
        " number / sum(number) OVER (), count(user_id), count(DISTINCT event_date),"
        " coalesce(sum(events) FILTER (is_qualifying_event), 0)::BIGINT,"
        " list_sort(list(DISTINCT because) FILTER (because IS NOT NULL))"
        f" FROM {_COUNTS} WHERE event_type IS NOT NULL GROUP BY event_type"
        " ORDER BY number DESC, event_type"
    ).fetchall()
    names = list(EventTypeCheck.model_fields)
    return [EventTypeCheck(**dict(zip(names, row, strict=True))) for row in rows]


def _about_types(types: Sequence[EventTypeCheck], *, has_events: bool) -> Iterator[Finding]:
    events = sum(each.events for each in types)
    if not events:
        if has_events:
            yield finding("no_events", input="events")
    elif not any(each.qualifying_events for each in types):
        yield finding("no_event_qualifies", input="events", rows=events, share=1)


def about_days(days: Mapping[date, int], settings: Settings, today: date) -> Iterator[Finding]:
    """Yield the findings about event counts by day. The days must be sorted."""
    alerts, known = settings.policy.alerts, list(days)
    gaps = [(later - earlier).days for earlier, later in pairwise(known)]
    body = known
    if gaps and gaps[-1] > alerts.max_gap_days:
        yield _on_day("isolated_last_day", days, known[-1], gap=gaps[-1])
        body = body[:-1]
    if len(gaps) > 1 and gaps[0] > alerts.max_gap_days:
        yield _on_day("isolated_first_day", days, known[0], gap=gaps[0])
        body = body[1:]
    if body:
        yield from _empty_days(days, DateWindow(body[0], body[-1]), alerts.min_alert_population)
    if late := [day for day in known if day > today]:
        rows = sum(days[day] for day in late)
        yield finding(
            "future_events",
            input="events",
            rows=rows,
            share=rows / sum(days.values()),
            day=late[-1],
        )


def _on_day(kind: str, days: Mapping[date, int], day: date, *, gap: int) -> Finding:
    share = days[day] / sum(days.values())
    return finding(kind, input="events", rows=days[day], share=share, day=day, gap=gap)


def _empty_days(days: Mapping[date, int], window: DateWindow, population: int) -> Iterator[Finding]:
    """Yield a finding for each period without events on days that usually have events, longest first.

    The usual number of events is the weekday's median, including days without events.
    """
    by_weekday: dict[int, list[int]] = {}
    for day in window:
        by_weekday.setdefault(day.weekday(), []).append(days.get(day, 0))
    usual = {weekday: sorted(each)[len(each) // 2] for weekday, each in by_weekday.items()}
    unusual = [day for day in window if day not in days and usual[day.weekday()] >= population]
    for empty in sorted(windows_of(unusual), key=lambda each: (-len(each), each.first)):
        least = min(usual[day.weekday()] for day in empty)
        yield finding("days_without_events", input="events", days=empty, usual=least)


def _about_timezone(
    connection: duckdb.DuckDBPyConnection, days: Mapping[date, int], settings: Settings
) -> Iterator[Finding]:
    hours = dict(
        connection.execute(f"SELECT hour, events FROM {_COUNTS} WHERE hour IS NOT NULL").fetchall()
    )
    found = plausible_night([hours.get(hour, 0) for hour in range(24)])
    if found is None:
        return
    begin, share, certainty = found
    offset = int(_within_half_a_day(_NIGHT - begin - QUIET_HOURS // 2))
    middle = list(days)[len(days) // 2]
    zone = ZoneInfo(settings.timezone)
    configured = datetime(middle.year, middle.month, middle.day, 12, tzinfo=zone).utcoffset()
    difference = offset - (configured or timedelta()) / timedelta(hours=1)
    if abs(_within_half_a_day(difference)) > _MAX_TOLERATED_HOURS:
        yield finding(
            "timezone",
            begin=begin,
            share=share,
            certainty=certainty,
            offset=offset,
            timezone=settings.timezone,
        )


def plausible_night(events: Sequence[int]) -> tuple[int, float, str] | None:
    """Return the first UTC hour of the quietest period, its share of events, and a certainty.

    Args:
        events: the number of events in each UTC hour of the day.

    Returns:
        None if there are too few events or active hours, or if no period is clearly quieter.
    """
    total = sum(events)
    is_active = [number * len(events) * 4 >= total for number in events]
    if total < MIN_EVENTS_FOR_TIMEZONE or sum(is_active) < _MIN_ACTIVE_HOURS:
        return None
    sums = [sum(events[(begin + hour) % 24] for hour in range(QUIET_HOURS)) for begin in range(24)]
    share = min(sums) / total
    certainty = next((name for name, most in _CERTAINTIES.items() if share <= most), None)
    if certainty is None:
        return None
    # If several periods are equally quiet, use the middle one. Periods may continue past midnight.
    after = next(hour for hour in range(24) if sums[hour] > min(sums))
    quietest = [(after + step) % 24 for step in range(24) if sums[(after + step) % 24] == min(sums)]
    return quietest[len(quietest) // 2], share, certainty


def _within_half_a_day(hours: float) -> float:
    """Return the equivalent time difference between -12 and 12 hours."""
    return (hours + 12) % 24 - 12
