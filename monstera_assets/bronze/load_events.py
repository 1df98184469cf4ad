"""Load events by day: accepted rows, rejected rows and ledger, in one transaction."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import bronze_events, bronze_loads, bronze_rejected_events, event_rules
from monstera_assets.bronze.loading import (
    accepted,
    forget_in_rejected,
    kept_columns,
    raw_columns,
    stage,
    with_files,
)
from monstera_assets.bronze.row_digests import (
    DIGEST,
    HASH,
    NO_ROWS,
    digests_by_day,
    malformed_hash,
    row_hash,
)
from monstera_assets.bronze.validation import REASON
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.source.reader import check_unchanged, explain_failure
from monstera_assets.warehouse.batches import (
    TableBatch,
    count_rows,
    temporary_relation,
    temporary_table,
    temporary_view,
)
from monstera_assets.warehouse.io_manager import InputRows
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import Cause, note_change
from monstera_assets.warehouse.table_asset import asset_key, batch_outs, partition_window
from monstera_assets.warehouse.windows import DateWindow, from_text
from monstera_assets.warehouse.writer import materialized_days

TABLES = (bronze_events.TABLE, bronze_rejected_events.TABLE, bronze_loads.TABLE)

LOOKED_UP = ("bronze_users", "bronze_product_catalog", "bronze_subscription_events")
"""The tables against which events are validated."""

ROWS_OUTSIDE = "rows_outside_the_run"
"""Metadata key: number of rows outside the run's days, if the source is not laid out by day."""

CHANGED_DAYS = "monstera/changed_days"
"""Run tag: the days of events to load within the run's range, as text of windows, possibly none.

The run also loads days that were never loaded, days whose rows differ from the ledger, and days on
which an event becomes or stops being a duplicate of one on a loaded day. Others stay unchanged.
"""

_DAYS = "events_days"
_DAYS_TABLE = ibis.table({"day": "date"}, name=_DAYS)
_LEDGER_BEFORE = "events_ledger_before"
_DIGESTS = "events_digests"
_CLASSIFIED = "events_classified"
_HASHES = "events_hashes"
_REPEATED_KEYS = "events_repeated_keys"
_REPEATED_ROWS = "events_repeated_rows"
_REPEATED = "events_repeated"
_ENTRIES = "events_entries"


def build_load_events(
    source: Path,
    partitions: dg.DailyPartitionsDefinition,
    first_partition: date,
    earliest: date,
    queries: QueryCache | None = None,
) -> dg.AssetsDefinition:
    """Return the asset that loads event partitions from a source folder."""

    @dg.multi_asset(
        name="load_events",
        outs=batch_outs(TABLES),
        ins={name: dg.AssetIn(asset_key(name), dagster_type=Any) for name in LOOKED_UP},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def load_events(
        context: dg.AssetExecutionContext,
        bronze_users: InputRows,
        bronze_product_catalog: InputRows,
        bronze_subscription_events: InputRows,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        window = partition_window(context)
        changed = context.run.tags.get(CHANGED_DAYS)
        batch = event_batch(
            discover_source(source)["events"].within(window.first, window.last),
            bronze_users.table.relation,
            bronze_product_catalog.table.relation,
            bronze_subscription_events.table.relation,
            window=window,
            first_partition=first_partition,
            earliest=earliest,
            changed=None if changed is None else from_text(changed),
            queries=queries,
        )
        first, *others = (table.name for table in TABLES)
        yield dg.MaterializeResult(asset_key=asset_key(first), value=batch)
        outside = batch.counts[ROWS_OUTSIDE]
        if outside:
            context.log.warning(
                f"{outside} rows of the source are dated outside {window} and not part of this run."
            )
        for name in others:
            metadata = {"rows_written": batch.counts[name], ROWS_OUTSIDE: outside}
            yield dg.MaterializeResult(asset_key=asset_key(name), metadata=metadata)

    return load_events


def event_batch(
    source_input: SourceInput,
    users: ir.Table,
    catalog: ir.Table,
    subscription_events: ir.Table,
    *,
    window: DateWindow,
    first_partition: date,
    earliest: date,
    changed: Sequence[DateWindow] | None = None,
    queries: QueryCache | None = None,
) -> TableBatch:
    """Return the batch of a range of event partitions.

    Args:
        source_input: the files to read.
        users: bronze_users.
        catalog: bronze_product_catalog.
        subscription_events: bronze_subscription_events.
        window: the partitions to fill.
        first_partition: partition of rows without a readable date.
        earliest: first accepted event date.
        changed: the days to load if not the whole window; see `CHANGED_DAYS`.
        queries: cache of compiled queries.
    """
    load = _EventLoad(
        source_input,
        (users, catalog, subscription_events),
        window,
        first_partition,
        earliest,
        None if changed is None else frozenset(day for days in changed for day in days),
        queries or QueryCache(),
    )
    return TableBatch(
        {
            bronze_events.TABLE: load.accepted_rows,
            bronze_rejected_events.TABLE: load.rejected_rows,
            bronze_loads.TABLE: load.ledger,
        },
        load.counts,
        only_days=_DAYS,
        before=load.remember_ledger,
        after=load.note_what_changed,
        explain=load.explain,
    )


def day_digests(
    rows: ir.Table, malformed: ir.Table, *, by_day: bool, earliest: date, first_partition: date
) -> ir.Table:
    """Return `partition_date`, `rows_read` and `rows_digest` for each day with rows in a source."""
    read = event_rules.read_events(rows, bronze_events.TABLE, earliest)
    read = event_rules.rank_events(read, by_day=by_day)
    dated = read.select(
        partition_date=bronze_events.partition_date(
            read.folder_date, read.event_date, first_partition
        ),
        **{HASH: row_hash(read)},
    )
    return digests_by_day(dated.union(_hashed(malformed, first_partition)))


@dataclass
class _EventLoad:
    """The steps of one load, in the order of the batch, and their shared state."""

    source_input: SourceInput
    entities: tuple[ir.Table, ir.Table, ir.Table]
    window: DateWindow
    first_partition: date
    earliest: date
    changed: frozenset[date] | None
    queries: QueryCache
    counts: dict[str, int] = field(default_factory=dict)
    read: SourceInput | None = None

    def remember_ledger(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Save the digests of the ledger before it is replaced."""
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_LEDGER_BEFORE} AS"
            f" SELECT partition_date, {DIGEST} FROM {bronze_loads.TABLE.qualified_name}"
        )

    def accepted_rows(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Choose the days, classify their rows, and return the query for the accepted ones."""
        if self.changed is None:
            return self._classified(connection, list(self.window))
        known = materialized_days(connection, bronze_loads.TABLE)
        days = [day for day in self.window if day in self.changed or day not in known]
        rows = self._classified(connection, days)
        if self.source_input.by_day and (more := self._days_with_other_duplicates(connection)):
            rows = self._classified(connection, [*days, *more])
        return rows

    def _classified(self, connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> str:
        """Stage and classify the rows of days, and return the query for the accepted ones.

        A full range is read in place and classified on demand, which avoids storing each row twice.
        Rows of selected days are stored, because they are read repeatedly.
        """
        by_day = self.source_input.by_day
        in_place = self.changed is None
        self.read = self.source_input.of_days(frozenset(days))
        rows, malformed = stage(
            connection, self.read, event_rules.REQUIRED, event_rules.OPTIONAL, copy=not in_place
        )
        _keep_days(connection, days)
        if self.changed is not None and not by_day:
            digests = self._select(
                "digests",
                lambda: day_digests(
                    rows,
                    malformed,
                    by_day=by_day,
                    earliest=self.earliest,
                    first_partition=self.first_partition,
                ),
                _staged(rows),
            )
            temporary_table(connection, _DIGESTS, digests)
            _keep_days(connection, [*days, *self._days_with_other_rows(connection)])
        self._classify(connection, rows, in_place=in_place)
        self.counts[ROWS_OUTSIDE] = 0 if by_day else self._rows_outside(connection, rows, malformed)
        return accepted(bronze_events.TABLE, _CLASSIFIED)

    def _select(self, name: str, build: Callable[[], ir.Table], *depends_on: object) -> str:
        """Return the SQL for an expression in this load, and compile it unless it is cached."""
        given = (self.source_input.by_day, self.earliest, self.first_partition, *depends_on)
        return self.queries.select(f"{bronze_events.TABLE.name}.{name}", build, *given)

    def _classify(
        self, connection: duckdb.DuckDBPyConnection, rows: ir.Table, *, in_place: bool
    ) -> None:
        stored = bronze_events.TABLE.relation
        # A layout by day reads no files of other days, so duplicates of earlier days are found in
        # the stored events.
        rules = bronze_events.Classification(
            *self.entities,
            stored.anti_join(_DAYS_TABLE, stored.event_date == _DAYS_TABLE.day)
            if self.source_input.by_day
            else None,
            earliest=self.earliest,
            first_partition=self.first_partition,
        )
        columns = _staged(rows)
        keys = temporary_table(
            connection,
            _REPEATED_KEYS,
            self._select("repeated_keys", lambda: rules.repeated(rows), columns),
        )

        def keyed() -> ir.Table:
            return rows.mutate(repeated_key=bronze_events.event_key(rows))

        def single() -> ir.Table:
            return keyed().anti_join(keys, "repeated_key").drop("repeated_key")

        def few() -> ir.Table:
            return keyed().semi_join(keys, "repeated_key").drop("repeated_key")

        # Stored, because these few rows are read twice.
        repeated_rows = temporary_table(
            connection, _REPEATED_ROWS, self._select("repeated_rows", few, columns)
        )
        repeated = temporary_table(
            connection,
            _REPEATED,
            self._select("repeated", lambda: self._kept(rules.of_repeated(repeated_rows)), columns),
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

    def _kept(self, classified: ir.Table) -> ir.Table:
        classified = self._of_loaded_days(classified)
        return kept_columns(bronze_events.TABLE, classified, also=["partition_date", HASH])

    def _of_loaded_days(self, rows: ir.Table) -> ir.Table:
        # In a layout by day, only files of these days are read.
        return rows if self.source_input.by_day else _of_days(rows)

    def _rows_outside(
        self, connection: duckdb.DuckDBPyConnection, rows: ir.Table, malformed: ir.Table
    ) -> int:
        def dated() -> ir.Table:
            dates = bronze_events.partition_dates(rows, self.earliest, self.first_partition)
            hashed = _hashed(malformed, self.first_partition)
            return rows.select(partition_date=dates).union(hashed.select("partition_date"))

        dates = self._select("partition_dates", dated, _staged(rows))
        first, last = self.window.first, self.window.last
        outside = f"partition_date NOT BETWEEN DATE '{first}' AND DATE '{last}'"
        return count_rows(connection, f"SELECT * FROM ({dates}) WHERE {outside}")

    def _days_with_other_rows(self, connection: duckdb.DuckDBPyConnection) -> list[date]:
        """Return the days of the window whose rows differ from the ledger."""
        found = connection.execute(
            f"SELECT ledger.partition_date FROM {_LEDGER_BEFORE} AS ledger LEFT JOIN {_DIGESTS} AS"
            f" now USING (partition_date) WHERE coalesce(now.{DIGEST}, ?) <> ledger.{DIGEST} AND"
            " partition_date BETWEEN ? AND ?",
            [NO_ROWS, self.window.first, self.window.last],
        ).fetchall()
        return [day for (day,) in found]

    def _days_with_other_duplicates(self, connection: duckdb.DuckDBPyConnection) -> list[date]:
        """Return the days outside this load on which an event became or stopped being a duplicate.

        An accepted event became a duplicate if an earlier day has its id. Rows with one id and day
        that were all rejected as duplicates stopped being duplicates if no earlier day has the id.
        """
        rejected = bronze_rejected_events.TABLE.qualified_name
        found = connection.execute(
            f"""
            WITH others AS (
                SELECT event_id, event_date AS day FROM {bronze_events.TABLE.qualified_name}
                WHERE event_date NOT IN (SELECT day FROM {_DAYS})
            ), firsts AS (
                SELECT event_id, min(day) AS first_day FROM (
                    FROM others UNION ALL SELECT event_id, event_date FROM {_CLASSIFIED}
                    WHERE {REASON} IS NULL
                ) GROUP BY event_id
            ), rejections AS (
                SELECT partition_date AS day,
                    CASE WHEN json_valid(raw_row) THEN raw_row ->> '$.event_id' END AS event_id,
                    bool_and({REASON} = 'duplicate_event_id') AS are_duplicates
                FROM {rejected} WHERE partition_date NOT IN (SELECT day FROM {_DAYS})
                GROUP BY ALL
            )
            SELECT DISTINCT day FROM (
                SELECT day FROM others JOIN firsts USING (event_id) WHERE day > first_day
                UNION ALL
                SELECT day FROM rejections LEFT JOIN firsts USING (event_id)
                WHERE are_duplicates AND NOT coalesce(first_day <= day, false)
            ) WHERE day BETWEEN ? AND ?
            """,
            [self.window.first, self.window.last],
        ).fetchall()
        return [day for (day,) in found]

    def digests(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Count and digest the rows read per day, and count the accepted ones."""
        hashes = temporary_relation(connection, _HASHES)
        malformed = temporary_relation(connection, "events_malformed")

        def read() -> ir.Table:
            unreadable = _of_days(_hashed(malformed, self.first_partition))
            return digests_by_day(hashes.union(unreadable))

        # By now, all accepted events are stored, each in the partition of its date.
        events = bronze_events.TABLE.qualified_name
        temporary_table(
            connection,
            _ENTRIES,
            f"SELECT day AS partition_date, coalesce({DIGEST}, '{NO_ROWS}') AS {DIGEST},"
            " coalesce(rows_read, 0) AS rows_read, coalesce(taken, 0) AS rows_accepted,"
            " coalesce(rows_read, 0) - coalesce(taken, 0) AS rows_rejected"
            f" FROM {_DAYS} LEFT JOIN ({self._select('days_read', read)}) AS found"
            " ON found.partition_date = day"
            f" LEFT JOIN (SELECT event_date, count(*) AS taken FROM {events} SEMI JOIN {_DAYS}"
            " ON event_date = day GROUP BY event_date) ON event_date = day",
        )

    def rejected_rows(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the days' rejected rows."""
        self.digests(connection)
        broken = (
            "SELECT day AS partition_date, CAST(NULL AS DATE) AS event_date,"
            f" reason AS {REASON}, source_file, raw_line AS raw_row FROM events_malformed"
            f" JOIN {_DAYS} ON coalesce(folder_date, DATE '{self.first_partition}') = day"
        )
        if count_rows(connection, f"SELECT * FROM {_ENTRIES} WHERE rows_rejected > 0") == 0:
            return broken  # no other row was rejected
        return (
            f"{broken} UNION ALL SELECT partition_date, event_date, {REASON}, source_file, raw_row"
            f" FROM {_CLASSIFIED} WHERE {REASON} IS NOT NULL"
        )

    def ledger(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the days' ledger entries."""
        return with_files(connection, f"SELECT * FROM {_ENTRIES}", self.source_input)

    def explain(self, connection: duckdb.DuckDBPyConnection, error: Exception) -> None:
        """Find the file that caused an error, if any.

        Raises:
            SourceError: If a file cannot be read.
        """
        if self.read is not None:
            columns = raw_columns(event_rules.REQUIRED, event_rules.OPTIONAL)
            explain_failure(connection, self.read, columns, error)

    def note_what_changed(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Record the first affected day, and the current files of days whose rows have not changed.

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
            # A load of all days would record the same files.
            connection.execute(
                f"UPDATE {ledger} SET files = (SELECT coalesce(list({{'path': path, 'size_bytes':"
                " size_bytes, 'sha256': sha256} ORDER BY path), []) FROM events_files)"
                f" FROM (SELECT partition_date AS day, coalesce(now.{DIGEST}, ?) AS {DIGEST} FROM"
                f" {_LEDGER_BEFORE} LEFT JOIN {_DIGESTS} AS now USING (partition_date)) AS found"
                f" WHERE partition_date = found.day AND {ledger}.{DIGEST} = found.{DIGEST}"
                f" AND partition_date NOT IN (SELECT day FROM {_DAYS})",
                [NO_ROWS],
            )


def _keep_days(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_DAYS} AS SELECT DISTINCT unnest(?::DATE[]) AS day",
        [list(days)],
    )


def _staged(rows: ir.Table) -> tuple[str, Any]:
    """Return the cache key of queries on staged rows: the table or view, and its schema."""
    return rows.get_name(), rows.schema()


def _of_days(rows: ir.Table) -> ir.Table:
    return rows.semi_join(_DAYS_TABLE, rows.partition_date == _DAYS_TABLE.day)


def _dated(malformed: ir.Table, first_partition: date) -> ir.Table:
    return malformed.mutate(partition_date=ibis.coalesce(malformed.folder_date, first_partition))


def _hashed(malformed: ir.Table, first_partition: date) -> ir.Table:
    dated = _dated(malformed, first_partition)
    return dated.select("partition_date", **{HASH: malformed_hash(dated)})
