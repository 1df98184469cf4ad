"""Load aliases, accounts, the product catalog, users, subscription events and workflows in full.

All inputs are loaded in one transaction, because their rows refer to each other. A user is accepted
only if the user's account is accepted. A subscription event is accepted only if its account or user is
accepted. Aliases come first, because they replace the ids of users in all other inputs.
"""
# Over 400 lines: all inputs are loaded in one transaction, in an order that their references
# determine.

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    MaterializeResult,
    multi_asset,
)

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_entity_loads,
    bronze_events,
    bronze_product_catalog,
    bronze_rejected_entities,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_user_aliases,
    bronze_users,
    bronze_workflows,
    event_rules,
    versions,
)
from monstera_assets.bronze.aliases import (
    merging_aliases,
    resolved_aliases,
    settle_users,
    with_created_at,
)
from monstera_assets.bronze.entity_changes import COMPARED, Named, entity_effect
from monstera_assets.bronze.held_back import RESTATE_FROM, Held
from monstera_assets.bronze.loading import (
    Classify,
    accepted,
    forget_in_rejected,
    kept_columns,
    stage,
    staged_events,
    with_details,
    with_files,
)
from monstera_assets.bronze.reading import FIRST_DAY, Reading
from monstera_assets.bronze.validation import DETAIL, REASON, REPEATED, UNDER_ALIAS, typed
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.warehouse.batches import TableBatch, count_rows, temporary_table
from monstera_assets.warehouse.compiler import bind, compile_duckdb
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.io_manager import ROW_COUNT
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import Cause, note_change
from monstera_assets.warehouse.table_asset import asset_key, batch_outs
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Table
from monstera_assets.warehouse.windows import DateWindow, window_of_run

TABLES = (*COMPARED, bronze_rejected_entities.TABLE, bronze_entity_loads.TABLE)
RESET_VERSIONS = "monstera/reset_versions"
"""Tag of runs that delete the versions from earlier loads."""
VERSIONED = (bronze_users.TABLE, bronze_accounts.TABLE)
"""The tables with versions. The view `<table>_current` contains each entity's latest version."""


@dataclass(frozen=True)
class _Entity:
    """An input's module, rules and query for derived rows.

    If `names_users` is true, `classify` takes the result of `merging_aliases` as `aliases`.
    """

    module: ModuleType
    classify: Classify
    derived: Callable[[duckdb.DuckDBPyConnection], ir.Table] | None = None
    names_users: bool = False

    @property
    def table(self) -> Table:
        table = self.module.TABLE
        assert isinstance(table, Table)  # noqa: S101  # modules are not typed
        return table

    @property
    def input_name(self) -> str:
        return self.table.name.removeprefix("bronze_")

    def accepted(self, load: "_EntityLoad", connection: duckdb.DuckDBPyConnection) -> str:
        """Stage and classify the input, and return the query for the accepted rows."""
        source_input = load.inputs.get(self.input_name)
        given = source_input or SourceInput(self.input_name, (), by_day=False)
        if self.module is bronze_subscription_events:
            rows, *_ = staged_events(connection, given, load.reading, load.queries)
        else:
            rows, _ = stage(connection, given, self.module.SOURCE_COLUMNS, self.module.REQUIRED)
        name, judged = f"{self.input_name}_classified", f"{self.input_name}_judged"
        bind(connection, {FIRST_DAY: load.reading.first_day})
        if self.versions is not None:
            bind(connection, {versions.LAST_DAY: load.last_day(connection)})
        aliases = merging_aliases(connection) if self.names_users else None

        def classified() -> ir.Table:
            found = self.classify(rows) if aliases is None else self.classify(rows, aliases=aliases)
            raw_if = ibis.literal(load.restate_from is not None)  # for rows that are held back
            if aliases is not None:
                raw_if |= found[UNDER_ALIAS]
            return kept_columns(self.table, found, raw_if=raw_if)

        select = load.queries.select(
            f"{self.table.name}.classified",
            classified,
            rows.get_name(),
            rows.schema(),
            load.reading,
            aliases is None,
            load.restate_from is None,
            *sorted(load.inputs),
        )
        temporary_table(connection, judged, select)
        stored = self.stored_rows(load, connection)
        if self.module is bronze_users:
            settle_users(
                connection,
                judged,
                stored,
                has_accounts="accounts" in load.inputs,
                restate_from=load.restate_from,
            )
        rejected = f"SELECT * FROM {self.input_name}_judged WHERE {REASON} IS NOT NULL"
        others = f"SELECT *, CAST(NULL AS VARCHAR) AS {DETAIL} FROM {self.input_name}_judged"
        temporary_table(
            connection,
            name,
            f"{others} WHERE {REASON} IS NULL UNION ALL BY NAME"
            f" SELECT * FROM ({with_details(rejected, load.refusals)})",
        )
        load.judged.append(self.input_name)
        forget_in_rejected(connection, name)
        if self.derived is not None and (source_input is None or load.adds_accounts(self.module)):
            derived = compile_duckdb(self.derived(connection))
            key = self.table.key[0]
            connection.execute(
                f"INSERT INTO {quote(name)} BY NAME SELECT * FROM ({derived}) WHERE {key} NOT IN"
                f" (SELECT {key} FROM {quote(name)} WHERE {REASON} IS NULL)"
            )
        held = load.held(connection, self.table, name)
        if self.module is bronze_user_aliases:
            if held is not None:
                name = held.aliases(load.users_created(connection))
            temporary_table(connection, "user_aliases_resolved", resolved_aliases(name, stored))
            return "FROM user_aliases_resolved"
        kept = ""
        if held is not None:
            self._hold(held, load, connection)
            kept = f" UNION ALL BY NAME FROM {quote(held.kept)}"
        if self.versions is None:
            return accepted(self.table, name) + kept
        merged = versions.merged_versions(self.table, self.versions, name, stored) + kept
        every = temporary_table(connection, f"{self.input_name}_merged", merged)
        dates = self.versions.dates.items()

        def dated() -> ir.Table:
            rows = with_created_at(every) if self.module is bronze_users else every
            # The time zone may have changed since the versions were stored.
            return rows.mutate(
                **{day: load.reading.local_date(rows[moment]) for day, moment in dates}
            )

        return load.queries.select(
            f"{self.table.name}.merged", dated, every.schema(), load.reading.timezone
        )

    def _hold(self, held: Held, load: "_EntityLoad", connection: duckdb.DuckDBPyConnection) -> None:
        """Hold back changes that affect days before the first day that the run recomputes."""
        if self.module is bronze_product_catalog:
            held.catalog()
        elif self.module is bronze_subscription_events:
            held.facts()
        elif self.versions is None:
            held.whole_table()
        elif load.keeps_versions(connection, self):
            held.versions(self.versions)
        else:
            held.derived(self.versions)

    def stored_rows(self, load: "_EntityLoad", connection: duckdb.DuckDBPyConnection) -> str:
        """Copy the rows from earlier loads that this load keeps, and return the copy's name."""
        stored, rows = f"{self.table.name}_stored", self.table.relation
        if self.module is bronze_user_aliases:
            keeps_rows = load.keep_versions
        else:
            keeps_rows = self.versions is not None and load.keeps_versions(connection, self)
        temporary_table(connection, stored, compile_duckdb(rows if keeps_rows else rows.limit(0)))
        return stored

    @property
    def versions(self) -> versions.Versioning | None:
        """The columns of versions, or None if the table has none."""
        return getattr(self.module, "VERSIONS", None)

    @property
    def rejected(self) -> str:
        """The query for the rejected rows and malformed records."""
        name = self.input_name
        return (
            f"SELECT '{name}' AS input_name, {REASON}, {DETAIL}, source_file, raw_row"
            f" FROM {name}_classified WHERE {REASON} <> '{REPEATED}' UNION ALL BY NAME"
            f" SELECT '{name}' AS input_name, reason AS {REASON}, CAST(NULL AS VARCHAR) AS {DETAIL},"
            f" source_file, raw_line AS raw_row FROM {name}_malformed"
        )

    def ledger_entry(self, load: "_EntityLoad", connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the input's row counts and files."""
        name = self.input_name
        source_input = load.inputs.get(name, SourceInput(name, (), by_day=False))
        held = load.held(connection, self.table, f"{name}_classified")
        kept = f"(SELECT count(*) FROM {quote(held.kept)})" if held is not None else "0"
        # Derived rows do not come from a file.
        counts = (
            f"SELECT '{name}' AS input_name, (SELECT count(*) FROM {name}_rows)"
            f" + (SELECT count(*) FROM {name}_malformed) AS rows_read,"
            f" count(*) FILTER ({REASON} IS NULL AND source_file IS NOT NULL) AS rows_accepted,"
            f" count(*) FILTER ({REASON} IS NULL AND source_file IS NULL) AS rows_derived,"
            f" count(*) FILTER ({REASON} = '{REPEATED}') AS rows_repeated,"
            f" count(*) FILTER ({REASON} <> '{REPEATED}')"
            f" + (SELECT count(*) FROM {name}_malformed) AS rows_rejected,"
            f" (SELECT count(*) FROM {self.table.qualified_name}) AS rows_stored,"
            f" {kept} AS rows_kept FROM {name}_classified"
        )
        return with_files(connection, counts, source_input)


@dataclass(frozen=True)
class _EntityLoad:
    """Load all entity tables."""

    inputs: Mapping[str, SourceInput]
    reading: Reading
    queries: QueryCache
    window: DateWindow | None
    keep_versions: bool = True
    restate_from: date | None = None
    loaded: Named = attrgetter("qualified_name")
    judged: list[str] = field(default_factory=list)

    @property
    def refusals(self) -> str:
        """The query for the users and accounts that have been rejected so far."""
        none = f"SELECT '' AS input_name, '' AS {REASON}, '' AS raw_row WHERE false"
        found = (
            f" UNION ALL SELECT '{name}', {REASON}, raw_row FROM {name}_classified"
            f" WHERE {REASON} IS NOT NULL"
            for name in self.judged
        )
        return f"({none}{''.join(found)})"

    def batch(self) -> TableBatch:
        """Return the batch that loads the entity tables."""
        entities = self._entities()
        return TableBatch(
            {
                **{entity.table: partial(entity.accepted, self) for entity in entities},
                bronze_rejected_entities.TABLE: lambda _connection: " UNION ALL BY NAME ".join(
                    entity.rejected for entity in entities
                ),
                bronze_entity_loads.TABLE: lambda connection: " UNION ALL BY NAME ".join(
                    entity.ledger_entry(self, connection) for entity in entities
                ),
            },
            before=None if self.restate_from is None else _remember_entities,
        )

    def held(
        self, connection: duckdb.DuckDBPyConnection, table: Table, classified: str
    ) -> Held | None:
        """Return the rows to which a limit of the recomputed days applies, or None without a limit."""
        if self.restate_from is None:
            return None
        return Held(connection, table, classified, _before, self.loaded, self.restate_from)

    def users_created(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the ids and signup dates in the source's rows of users."""
        given = self.inputs.get("users", SourceInput("users", (), by_day=False))
        rows, _ = stage(connection, given, bronze_users.SOURCE_COLUMNS, bronze_users.REQUIRED)

        def created() -> ir.Table:
            users = typed(rows, bronze_users.TABLE.columns, self.reading)
            created_on = self.reading.trusted_date(users.user_created_at)
            return users.select("user_id", created_on=created_on)

        return self.queries.select(
            f"{bronze_users.TABLE.name}.created", created, rows.schema(), self.reading
        )

    def last_day(self, connection: duckdb.DuckDBPyConnection) -> date:
        """Return the last day of the run or of the stored days, whichever is later."""
        [(stored,)] = connection.execute(
            f"SELECT max(partition_date) FROM {OPERATIONS_SCHEMA}.materializations"
        ).fetchall()
        days = [stored or self.reading.first_day]
        if self.window is not None:
            days.append(self.window.last)
        return max(days)

    def keeps_versions(self, connection: duckdb.DuckDBPyConnection, entity: _Entity) -> bool:
        """Return whether to keep the versions from earlier loads.

        Rows derived from events follow their events, so derived rows have no versions.

        Raises:
            SourceError: If earlier loads read the input, but the source does not contain it now.
        """
        name = entity.input_name
        derived = (
            f"FROM {bronze_entity_loads.TABLE.qualified_name} WHERE rows_derived + rows_kept > 0"
            f" AND input_name = '{name}'"
        )
        if not self.keep_versions or count_rows(connection, derived):
            return False
        if name not in self.inputs and count_rows(
            connection, f"FROM {entity.table.qualified_name}"
        ):
            raise SourceError(
                f"The source does not contain {name}, but an earlier load read {name}. Restore the"
                " file, or delete the recorded versions with: monstera run --reset-versions"
            )
        return True

    def adds_accounts(self, module: ModuleType) -> bool:
        """Return whether derived users get accounts in addition to the source's accounts."""
        return module is bronze_accounts and "users" not in self.inputs

    def _entities(self) -> tuple[_Entity, ...]:
        """Return the inputs in the order in which they are loaded.

        Accounts come before users, because users refer to accounts. If accounts or users are derived,
        users come first, because accounts are derived from users.
        """
        accounts, catalog, users = (
            module.TABLE.relation
            for module in (bronze_accounts, bronze_product_catalog, bronze_users)
        )
        has_accounts = "accounts" in self.inputs
        is_derived = not {"accounts", "users"} <= self.inputs.keys()
        of_accounts = _Entity(
            bronze_accounts, partial(bronze_accounts.classify, reading=self.reading), self._accounts
        )
        of_users = _Entity(
            bronze_users,
            partial(
                bronze_users.classify,
                accounts=accounts,
                reading=self.reading,
                has_accounts=has_accounts,
            ),
            self._users,
            names_users=True,
        )
        return (
            _Entity(
                bronze_user_aliases, partial(bronze_user_aliases.classify, reading=self.reading)
            ),
            _Entity(
                bronze_product_catalog,
                partial(bronze_product_catalog.classify, reading=self.reading),
                self._products,
            ),
            *((of_users, of_accounts) if is_derived else (of_accounts, of_users)),
            _Entity(
                bronze_subscription_events,
                partial(
                    bronze_subscription_events.classify,
                    users=users,
                    accounts=accounts,
                    catalog=catalog,
                    reading=self.reading,
                ),
                names_users=True,
            ),
            _Entity(
                bronze_workflows,
                partial(bronze_workflows.classify, catalog=catalog, reading=self.reading),
            ),
        )

    def _products(self, connection: duckdb.DuckDBPyConnection) -> ir.Table:
        """Return one product per product id in the source."""
        named = [
            self._named_products(connection, name, module)
            for name, module in (
                ("events", event_rules),
                ("subscription_events", event_rules),
                ("workflows", bronze_workflows),
            )
            if name in self.inputs
        ]
        return bronze_product_catalog.of_events(ibis.union(*named), self.reading)

    def _named_products(
        self, connection: duckdb.DuckDBPyConnection, name: str, module: ModuleType
    ) -> ir.Table:
        rows, _ = stage(
            connection, self.inputs[name], module.SOURCE_COLUMNS, module.REQUIRED, copy=False
        )
        return rows.select(product_id=self.reading.text(rows.product_id)).distinct()

    def _users(self, connection: duckdb.DuckDBPyConnection) -> ir.Table:
        """Return one user per entity of type user in accepted events."""
        rows, *_ = staged_events(
            connection, self.inputs["events"], self.reading, self.queries, copy=False
        )
        bind(connection, {event_rules.LAST_DAY: date.max})
        rules = bronze_events.Classification(
            None,
            bronze_accounts.TABLE.relation,
            bronze_product_catalog.TABLE.relation,
            bronze_subscription_events.TABLE.relation,
            reading=self.reading,
            aliases=merging_aliases(connection),
        )
        return bronze_users.of_events(rules.all_rows(rows), self.reading)

    def _accounts(self, connection: duckdb.DuckDBPyConnection) -> ir.Table:
        """Return one account per account id in users."""
        users = bronze_users.TABLE.relation
        known = bronze_accounts.of_users(users, self.reading, has_billing=True)
        if "subscription_events" not in self.inputs:
            return bronze_accounts.of_users(users, self.reading, has_billing=False)
        rows, *_ = staged_events(
            connection, self.inputs["subscription_events"], self.reading, self.queries
        )
        facts = bronze_subscription_events.classify(
            rows, users, known, bronze_product_catalog.TABLE.relation, reading=self.reading
        )
        facts = facts.filter(facts[REASON].isnull(), facts.entity_type == "account")
        has_billing = count_rows(connection, compile_duckdb(facts.limit(1))) > 0
        return bronze_accounts.of_users(users, self.reading, has_billing=has_billing)


def build_load_entities(
    source: Path,
    reading: Reading,
    queries: QueryCache | None = None,
    deps: Sequence[AssetKey] = (),
) -> AssetsDefinition:
    """Return the asset that loads all entity tables from a source folder, after the assets `deps`."""

    @multi_asset(name="load_entities", outs=batch_outs(TABLES), deps=deps)
    def load_entities(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        inputs = discover_source(source, delimiter=reading.delimiter)
        for path, reason in inputs.ignored:
            context.log.warning(f"{path} is not read: it {reason}")
        tags = context.run.tags
        batch = entity_load(
            inputs,
            reading,
            queries,
            window_of_run(tags),
            keep_versions=RESET_VERSIONS not in tags,
            restate_from=date.fromisoformat(tags[RESTATE_FROM]) if RESTATE_FROM in tags else None,
        )
        first, *others = (table.name for table in TABLES)
        yield MaterializeResult(asset_key=asset_key(first), value=batch)
        for name in others:
            metadata = {ROW_COUNT: batch.totals[name]}
            yield MaterializeResult(asset_key=asset_key(name), metadata=metadata)

    return load_entities


def entity_load(
    inputs: Mapping[str, SourceInput],
    reading: Reading,
    queries: QueryCache | None = None,
    window: DateWindow | None = None,
    *,
    keep_versions: bool = True,
    restate_from: date | None = None,
) -> TableBatch:
    """Return the result of `entity_batch`, extended to record the days that the changes affect."""
    return replace(
        entity_batch(
            inputs,
            reading,
            queries,
            window,
            keep_versions=keep_versions,
            restate_from=restate_from,
        ),
        before=_remember_entities,
        after=_finish,
    )


def entity_batch(
    inputs: Mapping[str, SourceInput],
    reading: Reading,
    queries: QueryCache | None = None,
    window: DateWindow | None = None,
    *,
    keep_versions: bool = True,
    restate_from: date | None = None,
    loaded: Named = attrgetter("qualified_name"),
) -> TableBatch:
    """Return the batch that loads all entity tables.

    Args:
        inputs: the source's inputs. Only `events` is required.
        reading: rules for reading values.
        queries: cache of compiled queries.
        window: the days of the run. Rows for which the source specifies no day are versions from its
            last day on, or from the last stored day on if that is later.
        keep_versions: whether to keep the versions from earlier loads.
        restate_from: the earliest day that the run recomputes. Changes that affect earlier days are
            held back (see `held_back`). None means that the number of days is not limited.
        loaded: returns the names of bronze_events and bronze_rejected_events.
    """
    return _EntityLoad(
        inputs, reading, queries or QueryCache(), window, keep_versions, restate_from, loaded
    ).batch()


def _remember_entities(connection: duckdb.DuckDBPyConnection) -> None:
    for table in COMPARED:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_before(table)} AS FROM {table.qualified_name}"
        )


def _finish(connection: duckdb.DuckDBPyConnection) -> None:
    for table in VERSIONED:
        connection.execute(
            f"CREATE OR REPLACE VIEW {table.qualified_name}_current AS FROM {table.qualified_name}"
            f" QUALIFY valid_from = max(valid_from) OVER (PARTITION BY {table.key[0]})"
        )
    _note_what_changed(connection)


def _note_what_changed(connection: duckdb.DuckDBPyConnection) -> None:
    """Record the first day affected by changes to entities."""
    events = (bronze_events.TABLE, bronze_rejected_events.TABLE)
    if not all(DuckDBEngine(connection).stored_columns(table) for table in events):
        return  # no day has been loaded
    stored = attrgetter("qualified_name")
    effect = entity_effect(connection, before=_before, after=stored, loaded=stored)
    first = date.min if effect.every_day else effect.affects_from
    if first is not None:
        note_change(connection, Cause.ENTITIES, first)


def _before(table: Table) -> str:
    return quote(f"{table.name}_before")
