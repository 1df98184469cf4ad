"""Load events by day, and write accepted rows, rejected rows and the ledger in one transaction."""
# Over 400 lines: one load: its steps share a transaction and temporary tables.

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_loads,
    bronze_product_catalog,
    bronze_rejected_entities,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_users,
    event_rules,
)
from monstera_assets.bronze.aliases import merging_aliases
from monstera_assets.bronze.deliveries import Delivery, delivery_digest, record_delivery
from monstera_assets.bronze.loading import (
    StagedEvents,
    accepted,
    forget_in_rejected,
    kept_columns,
    raw_columns,
    staged_events,
    with_daily_files,
    with_details,
)
from monstera_assets.bronze.reading import FIRST_DAY, Reading
from monstera_assets.bronze.row_digests import (
    DIGEST,
    HASH,
    NO_ROWS,
    digests_by_day,
    malformed_hash,
    row_hash,
)
from monstera_assets.bronze.validation import DETAIL, HELD_BACK, REASON, REPEATED
from monstera_assets.source.fingerprint import fingerprint
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.source.reader import check_unchanged, explain_failure
from monstera_assets.warehouse.batches import (
    TableBatch,
    count_rows,
    temporary_relation,
    temporary_table,
    temporary_view,
)
from monstera_assets.warehouse.compiler import bind
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.io_manager import ROW_COUNT, InputRows
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import Cause, note_change
from monstera_assets.warehouse.table_asset import asset_key, batch_outs, partition_window
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA
from monstera_assets.warehouse.windows import DateWindow, from_text, windows_of

TABLES = (bronze_events.TABLE, bronze_rejected_events.TABLE, bronze_loads.TABLE)

LOOKED_UP = (
    "bronze_users",
    "bronze_accounts",
    "bronze_product_catalog",
    "bronze_subscription_events",
    "bronze_rejected_entities",
    "bronze_user_aliases",
)
"""The tables against which events are validated."""

ROWS_OUTSIDE = "rows_outside_the_run"
"""Metadata key for the number of rows outside the run's days (0 if the source is laid out by day)."""

CHANGED_DAYS = "monstera/changed_days"
"""Run tag for the days to load within the run's range, as windows in text form.

The tag may be empty. The run also loads days that were never loaded, days whose rows differ from the
ledger, and days that share an event id with a loaded day. Days that are not loaded stay unchanged.
"""

HELD_DAYS = "monstera/held_days"
"""Run tag for the days whose changed events are held back, as windows in text form.

The stored rows of these days stay. A row on another day with the same event id as one of these rows is
rejected as `held_back`, and rows in the source dated on these days do not supersede other rows.
"""

_DAYS = "events_days"
_DAYS_TABLE = ibis.table({"day": "date"}, name=_DAYS)
_HELD = "events_held_days"
_HELD_TABLE = ibis.table({"day": "date"}, name=_HELD)
_OTHERS = "events_other_days"
_MATERIALIZED = f"{OPERATIONS_SCHEMA}.materializations"
_LEDGER_BEFORE = "events_ledger_before"
_DIGESTS = "events_digests"
_CLASSIFIED = "events_classified"
_HASHES = "events_hashes"
_REPEATED_ROWS = "events_repeated_rows"
_REPEATED = "events_repeated"
_ENTRIES = "events_entries"


def build_load_events(
    source: Path,
    partitions: dg.DailyPartitionsDefinition,
    reading: Reading,
    queries: QueryCache | None = None,
    deps: Sequence[dg.AssetKey] = (),
) -> dg.AssetsDefinition:
    """Return the asset that loads event partitions from a source folder, after the assets `deps`."""

    @dg.multi_asset(
        name="load_events",
        outs=batch_outs(TABLES),
        ins={name: dg.AssetIn(asset_key(name), dagster_type=Any) for name in LOOKED_UP},
        deps=deps,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def load_events(
        context: dg.AssetExecutionContext,
        bronze_users: InputRows,
        bronze_accounts: InputRows,
        bronze_product_catalog: InputRows,
        bronze_subscription_events: InputRows,
        bronze_rejected_entities: InputRows,
        bronze_user_aliases: InputRows,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        del bronze_users, bronze_accounts, bronze_product_catalog
        del bronze_subscription_events, bronze_rejected_entities, bronze_user_aliases
        window = partition_window(context)
        changed = context.run.tags.get(CHANGED_DAYS)
        inputs = discover_source(source, delimiter=reading.delimiter)
        batch = event_batch(
            inputs,
            window=window,
            reading=reading,
            changed=None if changed is None else from_text(changed),
            held=from_text(context.run.tags.get(HELD_DAYS, "")),
            queries=queries,
        )
        first, *others = (table.name for table in TABLES)
        yield dg.MaterializeResult(asset_key=asset_key(first), value=batch)
        outside = batch.counts[ROWS_OUTSIDE]
        if outside:
            context.log.warning(f"Source rows outside {window}, which are not loaded: {outside:,}")
        for name in others:
            metadata = {
                ROW_COUNT: batch.totals[name],
                "rows_written": batch.counts[name],
                ROWS_OUTSIDE: outside,
            }
            yield dg.MaterializeResult(asset_key=asset_key(name), metadata=metadata)

    return load_events


def event_batch(
    inputs: Mapping[str, SourceInput],
    *,
    window: DateWindow,
    reading: Reading,
    changed: Sequence[DateWindow] | None = None,
    held: Sequence[DateWindow] = (),
    queries: QueryCache | None = None,
) -> TableBatch:
    """Return the batch that loads a range of event partitions, based on the stored entity tables.

    Args:
        inputs: the source's inputs.
        window: the partitions to fill.
        reading: rules for reading values. Rows without a readable date are loaded into its first day.
        changed: the days to load, or None to load the whole window. See `CHANGED_DAYS`.
        held: the days whose changes are held back. See `HELD_DAYS`.
        queries: cache of compiled queries.
    """
    load = _EventLoad(
        inputs["events"],
        window,
        reading,
        None if changed is None else frozenset(day for days in changed for day in days),
        frozenset(day for days in held for day in days),
        inputs,
        queries or QueryCache(),
    )
    return load.batch()


def day_digests(
    rows: ir.Table,
    malformed: ir.Table,
    *,
    reading: Reading,
) -> ir.Table:
    """Return `partition_date`, `rows_read` and `rows_digest` for each day with rows in a source.

    Rows dated after the query parameter `event_rules.LAST_DAY` are excluded.
    """
    read = event_rules.read_events(rows, bronze_events.TABLE, reading)
    read = event_rules.rank_events(event_rules.rows_so_far(read))
    dated = read.select(
        partition_date=bronze_events.partition_date(read.folder_date, read.event_date),
        **{HASH: row_hash(read)},
    )
    return digests_by_day(dated.union(_hashed(malformed)))


@dataclass
class _EventLoad:
    """The steps in a load, in batch order, and their shared state."""

    source_input: SourceInput
    window: DateWindow
    reading: Reading
    changed: frozenset[date] | None
    held: frozenset[date]
    inputs: Mapping[str, SourceInput]
    queries: QueryCache
    follows_others: bool = False
    listed_on: date | None = None
    counts: dict[str, int] = field(default_factory=dict)
    replaced: set[date] = field(default_factory=set)
    read: SourceInput | None = None
    other_days: tuple[date, ...] = ()
    last_date: date | None = None
    reads_only_its_days: bool = False

    def batch(self) -> TableBatch:
        """Return the batch that runs the load's steps."""
        return TableBatch(
            {
                bronze_events.TABLE: self.accepted_rows,
                bronze_rejected_events.TABLE: self.rejected_rows,
                bronze_loads.TABLE: self.ledger,
            },
            self.counts,
            replaced=self.replaced,
            only_days=_DAYS,
            before=self.remember_ledger,
            after=self.finish,
            explain=self.explain,
        )

    def remember_ledger(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Save the ledger's digests before the ledger is replaced."""
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_LEDGER_BEFORE} AS"
            f" SELECT partition_date, {DIGEST} FROM {bronze_loads.TABLE.qualified_name}"
        )

    def accepted_rows(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Select the days, classify the days' rows, and return the query for the accepted rows."""
        known = DuckDBEngine(connection).materialized_days(bronze_loads.TABLE)
        last = max([self.window.last, *known])
        bind(connection, {event_rules.LAST_DAY: last, FIRST_DAY: self.reading.first_day})
        days = set(self.window)
        if self.changed is not None:
            days = {day for day in days if day in self.changed or day not in known}
        rows, malformed, keys = self._stage(connection, days)
        if self.changed is not None and not self.source_input.by_day:
            days |= self._days_with_other_rows(connection, rows, malformed)
        _keep_days(connection, _DAYS, days)
        _keep_days(connection, _HELD, self.held)
        others = self._days_that_share_ids(connection, rows) if known - days else set()
        while self.changed is not None and (inside := others & set(self.window)):
            days |= inside
            _keep_days(connection, _DAYS, days)
            if self.source_input.by_day:
                rows, malformed, keys = self._stage(connection, days)
            # The added days may share ids with other days.
            others = self._days_that_share_ids(connection, rows)
        if others and self.source_input.by_day:
            rows, malformed, keys = self._stage(connection, days | others)
        self.other_days = tuple(sorted(others))
        self.reads_only_its_days = self.source_input.by_day and not self.other_days
        in_place = self.changed is None and not self.follows_others
        self._classify(connection, rows, keys, in_place=in_place)
        self.counts[ROWS_OUTSIDE] = self._look_outside(connection, rows, malformed)
        return accepted(bronze_events.TABLE, _CLASSIFIED)

    def _stage(self, connection: duckdb.DuckDBPyConnection, days: Collection[date]) -> StagedEvents:
        """Stage the rows for the given days.

        If all days in the window are loaded, rows are read in place and classified on demand, which
        avoids storing each row twice. Rows for selected days are stored, because they are read
        repeatedly.
        """
        self.read = self.source_input.of_days(self._folder_dates(days))
        return staged_events(
            connection,
            self.read,
            self.reading,
            self.queries,
            copy=self.changed is not None or self.follows_others,
        )

    def _folder_dates(self, days: Collection[date]) -> frozenset[date]:
        """Return the dates of the folders that contain the rows for the given days."""
        found = {file.folder_date for file in self.source_input.files if file.folder_date}
        return frozenset(day for day in found if max(day, self.reading.first_day) in days)

    def _partition(self, day: str) -> str:
        """Return the SQL expression for a day's partition."""
        return f"greatest({day}, DATE '{self.reading.first_day}')"

    def _select(self, name: str, build: Callable[[], ir.Table], *depends_on: object) -> str:
        """Return an expression's SQL. The expression is compiled unless its SQL is cached."""
        given = (
            self.reads_only_its_days,
            self.reading,
            bool(self.held),
            *depends_on,
        )
        return self.queries.select(f"{bronze_events.TABLE.name}.{name}", build, *given)

    def _classify(
        self,
        connection: duckdb.DuckDBPyConnection,
        rows: ir.Table,
        keys: ir.Table,
        *,
        in_place: bool,
    ) -> None:
        rules = bronze_events.Classification(
            bronze_users.TABLE.relation,
            bronze_accounts.TABLE.relation,
            bronze_product_catalog.TABLE.relation,
            bronze_subscription_events.TABLE.relation,
            reading=self.reading,
            only_product=self._only_product(connection),
            held_days=_HELD_TABLE if self.held else None,
            aliases=merging_aliases(connection),
        )
        columns = (*_staged(rows), rules.only_product, rules.aliases is None)

        def keyed() -> ir.Table:
            return rows.mutate(repeated_key=event_rules.event_key(rows))

        def single() -> ir.Table:
            return keyed().anti_join(keys, "repeated_key").drop("repeated_key")

        def few() -> ir.Table:
            return keyed().semi_join(keys, "repeated_key").drop("repeated_key")

        # Rows with repeated ids are stored, because they are read twice.
        repeated_rows = temporary_table(
            connection, _REPEATED_ROWS, self._select("repeated_rows", few, columns)
        )
        repeated = temporary_table(
            connection,
            _REPEATED,
            self._select(
                "repeated",
                lambda: self._kept(rules.of_repeated(repeated_rows)),
                columns,
            ),
        )

        def every() -> ir.Table:
            kept = self._kept(rules.of_single(single()))
            return kept.union(repeated.cast(kept.schema()))

        def hashes() -> ir.Table:
            hashed = self._of_loaded_days(rules.hashes_of_single(single()))
            return hashed.union(repeated.select(*hashed.columns))

        classified = self._select("classified", every, columns)
        if in_place and not forget_in_rejected(connection, _REPEATED):
            temporary_view(connection, _CLASSIFIED, classified)
            temporary_view(connection, _HASHES, self._select("hashes", hashes, columns))
        else:
            temporary_table(connection, _CLASSIFIED, classified)
            forget_in_rejected(connection, _CLASSIFIED)
            hashed = f"SELECT partition_date, {HASH} FROM {_CLASSIFIED}"
            temporary_view(connection, _HASHES, hashed)

    def _only_product(self, connection: duckdb.DuckDBPyConnection) -> str | None:
        if "product_catalog" in self.inputs:
            return None
        products = connection.execute(
            f"SELECT product_id FROM {bronze_product_catalog.TABLE.qualified_name} LIMIT 2"
        ).fetchall()
        named = [(bronze_product_catalog.ONLY_PRODUCT,)]
        return bronze_product_catalog.ONLY_PRODUCT if products == named else None

    def _kept(self, classified: ir.Table) -> ir.Table:
        classified = self._of_loaded_days(classified)
        if self.held:
            stored = bronze_events.TABLE.relation
            day = bronze_events.not_before(stored.event_date)
            stored = stored.semi_join(_HELD_TABLE, day == _HELD_TABLE.day)
            is_held = classified.event_id.isin(stored.event_id) & classified[REASON].isnull()
            reason = ibis.ifelse(is_held, HELD_BACK, classified[REASON])
            classified = classified.mutate(**{REASON: reason})
        return kept_columns(bronze_events.TABLE, classified, also=["partition_date", HASH])

    def _of_loaded_days(self, rows: ir.Table) -> ir.Table:
        return rows if self.reads_only_its_days else _of_days(rows)

    def _look_outside(
        self, connection: duckdb.DuckDBPyConnection, rows: ir.Table, malformed: ir.Table
    ) -> int:
        """Set `last_date`, and return the number of rows outside the window."""
        today = datetime.now(ZoneInfo(self.reading.timezone)).date()
        if self.source_input.by_day:
            folders = (file.folder_date for file in self.source_input.files)
            self.last_date = max((day for day in folders if day and day < today), default=None)
            return 0

        def dated() -> ir.Table:
            read = event_rules.read_events(rows, bronze_events.TABLE, self.reading)
            dates = bronze_events.partition_date(read.folder_date, read.event_date)
            hashed = _hashed(malformed)
            return read.select(partition_date=dates).union(hashed.select("partition_date"))

        dates = self._select("partition_dates", dated, _staged(rows))
        first, last = self.window.first, self.window.last
        [(outside, self.last_date)] = connection.execute(
            "SELECT count(*) FILTER (partition_date NOT BETWEEN ? AND ?),"
            f" max(partition_date) FILTER (partition_date < ?) FROM ({dates})",
            [first, last, today],
        ).fetchall()
        return int(outside)

    def _days_with_other_rows(
        self, connection: duckdb.DuckDBPyConnection, rows: ir.Table, malformed: ir.Table
    ) -> set[date]:
        """Return the days in the window whose rows differ from the ledger."""
        digests = self._select(
            "digests",
            lambda: day_digests(rows, malformed, reading=self.reading),
            _staged(rows),
        )
        temporary_table(connection, _DIGESTS, digests)
        found = connection.execute(
            f"SELECT ledger.partition_date FROM {_LEDGER_BEFORE} AS ledger LEFT JOIN {_DIGESTS} AS"
            f" now USING (partition_date) WHERE coalesce(now.{DIGEST}, ?) <> ledger.{DIGEST} AND"
            " partition_date BETWEEN ? AND ?",
            [NO_ROWS, self.window.first, self.window.last],
        ).fetchall()
        return {day for (day,) in found}

    def _days_that_share_ids(
        self, connection: duckdb.DuckDBPyConnection, rows: ir.Table
    ) -> set[date]:
        """Return the other loaded days that share an event id with this load's days.

        Ids in rows that were removed from this load's days are included.
        """

        def here() -> ir.Table:
            read = event_rules.read_events(rows, bronze_events.TABLE, self.reading)
            placed = bronze_events.partition_date(read.folder_date, read.event_date)
            return _of_days(read.select("event_id", partition_date=placed)).select("event_id")

        staged = self._select("ids", here, _staged(rows))
        # Rejected rows are included, because digests depend on the order of rows with the same id.
        rejected = (
            "SELECT partition_date AS day, CASE WHEN json_valid(raw_row)"
            " THEN raw_row ->> '$.event_id' END AS event_id"
            f" FROM {bronze_rejected_events.TABLE.qualified_name}"
        )
        stored = (
            f"SELECT {self._partition('event_date')} AS day, event_id"
            f" FROM {bronze_events.TABLE.qualified_name}"
        )
        found = connection.execute(
            f"""
            WITH stored AS ({stored} UNION ALL {rejected}), ids AS (
                {staged} UNION SELECT event_id FROM stored SEMI JOIN {_DAYS} USING (day)
            )
            SELECT DISTINCT day FROM stored ANTI JOIN {_DAYS} USING (day)
            WHERE event_id IN (SELECT event_id FROM ids)
            """
        ).fetchall()
        return {day for (day,) in found} - self.held

    def digests(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Count and digest each day's rows, and count the accepted and repeated rows."""
        hashes = temporary_relation(connection, _HASHES)
        malformed = temporary_relation(connection, "events_malformed")

        def read() -> ir.Table:
            unreadable = _of_days(_hashed(malformed))
            return digests_by_day(hashes.union(unreadable))

        # At this point, all accepted events are stored in the partitions for their dates.
        events = bronze_events.TABLE.qualified_name
        temporary_table(
            connection,
            _ENTRIES,
            f"SELECT day AS partition_date, coalesce({DIGEST}, '{NO_ROWS}') AS {DIGEST},"
            " coalesce(rows_read, 0) AS rows_read, coalesce(repeats, 0) AS rows_repeated,"
            " coalesce(taken, 0) AS rows_accepted,"
            " coalesce(rows_read, 0) - coalesce(repeats, 0) - coalesce(taken, 0) AS rows_rejected"
            f" FROM {_DAYS} LEFT JOIN ({self._select('days_read', read)}) AS found"
            " ON found.partition_date = day"
            f" LEFT JOIN (SELECT {self._partition('event_date')} AS taken_on, count(*) AS taken"
            f" FROM {events} SEMI JOIN {_DAYS} ON {self._partition('event_date')} = day"
            " GROUP BY ALL) ON taken_on = day"
            f" LEFT JOIN (SELECT partition_date, count(*) AS repeats FROM {_REPEATED}"
            f" WHERE {REASON} = '{REPEATED}' GROUP BY partition_date) AS repeated"
            " ON repeated.partition_date = day",
        )

    def rejected_rows(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the loaded days' rejected rows."""
        self.digests(connection)
        broken = (
            f"SELECT day AS partition_date, CAST(NULL AS DATE) AS event_date, reason AS {REASON},"
            f" CAST(NULL AS VARCHAR) AS {DETAIL}, source_file, raw_line AS raw_row"
            f" FROM events_malformed"
            f" JOIN {_DAYS} ON {self._partition('folder_date')} = day"
        )
        if count_rows(connection, f"SELECT * FROM {_ENTRIES} WHERE rows_rejected > 0") == 0:
            return broken  # only malformed records were rejected
        rejected = (
            f"SELECT partition_date, event_date, {REASON}, source_file, raw_row"
            f" FROM {_CLASSIFIED} WHERE {REASON} <> '{REPEATED}'"
        )
        refusals = bronze_rejected_entities.TABLE.qualified_name
        return f"{broken} UNION ALL BY NAME SELECT * FROM ({with_details(rejected, refusals)})"

    def ledger(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the loaded days' ledger entries."""
        return with_daily_files(
            connection,
            f"SELECT * FROM {_ENTRIES}",
            self.source_input,
            self.reading.first_day,
            self.files_listed_on,
        )

    @property
    def files_listed_on(self) -> str:
        """SQL for the day whose ledger entry lists all files if the source is not laid out by day."""
        if self.listed_on is not None:
            return f"DATE '{self.listed_on}'"
        first = f"DATE '{self.window.first}'"
        if self.changed is None:
            return first
        return f"least({first}, (SELECT min(partition_date) FROM {_LEDGER_BEFORE}))"

    def explain(self, connection: duckdb.DuckDBPyConnection, error: Exception) -> None:
        """Find the file that caused an error, if any.

        Raises:
            SourceError: If a file cannot be read.
        """
        if self.read is not None:
            columns = raw_columns(event_rules.SOURCE_COLUMNS, event_rules.REQUIRED)
            explain_failure(connection, self.read, columns, error)

    def finish(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Record the changes, and reload the other days that share event ids with this load."""
        self.note_what_changed(connection)
        if self.follows_others:
            return
        prints = {
            name: [fingerprint(file) for file in found.files] for name, found in self.inputs.items()
        }
        record_delivery(connection, Delivery(delivery_digest(prints), self.last_date))
        if not self.other_days:
            return
        self._remember_others(connection)
        [(listed_on,)] = connection.execute(f"SELECT {self.files_listed_on}").fetchall()
        for days in windows_of(self.other_days):
            other = replace(
                self,
                window=days,
                changed=None,
                follows_others=True,
                listed_on=listed_on,
                counts={},
                read=None,
                other_days=(),
            )
            other.batch().write(connection, days)
        self._settle_others(connection)

    def _remember_others(self, connection: duckdb.DuckDBPyConnection) -> None:
        _keep_days(connection, _OTHERS, self.other_days)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_OTHERS}_events AS {self._events_of_others}"
        )
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_OTHERS}_materialized AS FROM {_MATERIALIZED}"
            f" SEMI JOIN {_OTHERS} ON day = partition_date"
        )

    def _settle_others(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Record the first other day with changed events, and leave the unchanged days as they were.

        The tables that are computed from an unchanged day are still up to date.
        """
        now, before = f"({self._events_of_others})", f"{_OTHERS}_events"
        changed = (
            f"SELECT DISTINCT day FROM (FROM {now} EXCEPT FROM {before})"
            f" UNION SELECT DISTINCT day FROM (FROM {before} EXCEPT FROM {now})"
        )
        [(first,)] = connection.execute(f"SELECT min(day) FROM ({changed})").fetchall()
        if first is not None:
            note_change(connection, Cause.EVENTS, first)
        connection.execute(
            f"UPDATE {_MATERIALIZED} AS now SET materialized_at = before.materialized_at"
            f" FROM {_OTHERS}_materialized AS before"
            " WHERE now.schema_name = before.schema_name AND now.table_name = before.table_name"
            " AND now.partition_date = before.partition_date AND now.table_name IN"
            f" ({', '.join(repr(table.name) for table in TABLES)})"
            f" AND now.partition_date NOT IN ({changed})"
        )

    @property
    def _events_of_others(self) -> str:
        day = self._partition("event_date")
        return (
            f"SELECT {day} AS day, events.* FROM {bronze_events.TABLE.qualified_name} AS events"
            f" SEMI JOIN {_OTHERS} AS others ON others.day = {day}"
        )

    def note_what_changed(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Record the first affected day, and update the files for days whose rows have not changed.

        Raises:
            SourceError: If a file is missing or has changed since discovery.
        """
        if self.read is not None:
            check_unchanged(self.read)
        ledger = bronze_loads.TABLE.qualified_name
        [(first,)] = connection.execute(
            f"SELECT min(day) FROM {_DAYS} JOIN {ledger} AS now ON now.partition_date = day"
            f" LEFT JOIN {_LEDGER_BEFORE} AS ledger ON ledger.partition_date = day"
            f" WHERE ledger.{DIGEST} IS DISTINCT FROM now.{DIGEST}"
        ).fetchall()
        if first is not None:
            note_change(connection, Cause.EVENTS, first)
        if self.changed is not None and not self.source_input.by_day:
            # A load that includes all days would record the same files.
            connection.execute(
                f"UPDATE {ledger} SET files = (SELECT CASE WHEN partition_date ="
                f" {self.files_listed_on} THEN every ELSE summary END FROM events_file_lists)"
                f" FROM (SELECT partition_date AS day, coalesce(now.{DIGEST}, ?) AS {DIGEST} FROM"
                f" {_LEDGER_BEFORE} LEFT JOIN {_DIGESTS} AS now USING (partition_date)) AS found"
                f" WHERE partition_date = found.day AND {ledger}.{DIGEST} = found.{DIGEST}"
                f" AND partition_date NOT IN (SELECT day FROM {_DAYS})",
                [NO_ROWS],
            )


def _keep_days(connection: duckdb.DuckDBPyConnection, name: str, days: Collection[date]) -> None:
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT DISTINCT unnest(?::DATE[]) AS day",
        [sorted(days)],
    )


def _staged(rows: ir.Table) -> tuple[str, Any]:
    """Return the relation's name and schema, which are the cache key for queries on staged rows."""
    return rows.get_name(), rows.schema()


def _of_days(rows: ir.Table) -> ir.Table:
    return rows.semi_join(_DAYS_TABLE, rows.partition_date == _DAYS_TABLE.day)


def _hashed(malformed: ir.Table) -> ir.Table:
    dated = malformed.mutate(partition_date=bronze_events.not_before(malformed.folder_date))
    return dated.select("partition_date", **{HASH: malformed_hash(dated)})
