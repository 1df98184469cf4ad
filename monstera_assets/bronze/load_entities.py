"""Load the inputs that are loaded in full: accounts, catalog, users, billing and workflows.

All five are loaded in one transaction, because they refer to each other: a user is accepted only if
the user's account is accepted, and a subscription event only if its account or user is accepted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import duckdb
from dagster import AssetsDefinition, MaterializeResult, multi_asset

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_entity_loads,
    bronze_events,
    bronze_product_catalog,
    bronze_rejected_entities,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_users,
    bronze_workflows,
    event_rules,
)
from monstera_assets.bronze.entity_changes import COMPARED, entity_effect
from monstera_assets.bronze.loading import (
    Classify,
    accepted,
    forget_in_rejected,
    kept_columns,
    stage,
    with_files,
)
from monstera_assets.bronze.validation import REASON, required_columns
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.warehouse.batches import TableBatch, temporary_table
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.source_changes import Cause, note_change
from monstera_assets.warehouse.table_asset import asset_key, batch_outs
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.writer import stored_columns

TABLES = (*COMPARED, bronze_rejected_entities.TABLE, bronze_entity_loads.TABLE)


@dataclass(frozen=True)
class _Entity:
    """How one input is read: its table, its rules, and its columns if they differ from the table's."""

    table: Table
    classify: Classify
    required: Sequence[str] = ()
    optional: Sequence[str] = ()

    @property
    def input_name(self) -> str:
        return self.table.name.removeprefix("bronze_")

    def accepted(
        self,
        source_input: SourceInput,
        earliest: date,
        queries: QueryCache,
        connection: duckdb.DuckDBPyConnection,
    ) -> str:
        """Stage and classify the input, and return the query for the accepted rows."""
        required = self.required or required_columns(self.table)
        nullable = [column.name for column in self.table.columns if column.nullable]
        optional = self.optional or [name for name in nullable if name not in required]
        rows, _ = stage(connection, source_input, required, optional)
        classified = queries.select(
            f"{self.table.name}.classified",
            lambda: kept_columns(self.table, self.classify(rows)),
            rows.schema(),
            earliest,
        )
        temporary_table(connection, f"{self.input_name}_classified", classified)
        forget_in_rejected(connection, f"{self.input_name}_classified")
        return accepted(self.table, f"{self.input_name}_classified")

    @property
    def rejected(self) -> str:
        """The query for the rejected rows and malformed records."""
        name = self.input_name
        return (
            f"SELECT '{name}' AS input_name, {REASON}, source_file, raw_row FROM {name}_classified"
            f" WHERE {REASON} IS NOT NULL UNION ALL"
            f" SELECT '{name}', reason, source_file, raw_line FROM {name}_malformed"
        )

    def ledger_entry(self, source_input: SourceInput, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the query for the input's row counts and files."""
        name = self.input_name
        taken = accepted(self.table, f"{name}_classified")
        counts = (
            f"SELECT '{name}' AS input_name, (SELECT count(*) FROM {name}_rows)"
            f" + (SELECT count(*) FROM {name}_malformed) AS rows_read,"
            f" (SELECT count(*) FROM ({taken})) AS rows_accepted,"
            f" (SELECT count(*) FROM ({self.rejected})) AS rows_rejected"
        )
        return with_files(connection, counts, source_input)


def build_load_entities(
    source: Path, earliest: date, queries: QueryCache | None = None
) -> AssetsDefinition:
    """Return the asset that loads all entity tables from a source folder."""

    @multi_asset(name="load_entities", outs=batch_outs(TABLES))
    def load_entities() -> Iterator[MaterializeResult[Any]]:
        batch = entity_load(discover_source(source), earliest, queries)
        first, *others = (table.name for table in TABLES)
        yield MaterializeResult(asset_key=asset_key(first), value=batch)
        for name in others:
            metadata = {"dagster/row_count": batch.counts[name]}
            yield MaterializeResult(asset_key=asset_key(name), metadata=metadata)

    return load_entities


def entity_load(
    inputs: Mapping[str, SourceInput], earliest: date, queries: QueryCache | None = None
) -> TableBatch:
    """Return `entity_batch`, extended to record which days its changes affect."""
    return replace(
        entity_batch(inputs, earliest, queries),
        before=_remember_entities,
        after=_note_what_changed,
    )


def entity_batch(
    inputs: Mapping[str, SourceInput], earliest: date, queries: QueryCache | None = None
) -> TableBatch:
    """Return the batch of all entity tables.

    Args:
        inputs: the source's inputs; subscription_events and workflows may be missing.
        earliest: first accepted date of subscription events.
        queries: cache of compiled queries.
    """
    known = queries or QueryCache()
    entities = {
        entity: inputs.get(entity.input_name, SourceInput(entity.input_name, (), by_day=False))
        for entity in _entities(earliest)
    }

    def rejected_rows(_connection: duckdb.DuckDBPyConnection) -> str:
        return " UNION ALL ".join(entity.rejected for entity in entities)

    def ledger(connection: duckdb.DuckDBPyConnection) -> str:
        return " UNION ALL ".join(
            entity.ledger_entry(files, connection) for entity, files in entities.items()
        )

    return TableBatch(
        {
            **{
                entity.table: partial(entity.accepted, files, earliest, known)
                for entity, files in entities.items()
            },
            bronze_rejected_entities.TABLE: rejected_rows,
            bronze_entity_loads.TABLE: ledger,
        }
    )


def _entities(earliest: date) -> tuple[_Entity, ...]:
    accounts, catalog, users = (
        module.TABLE.relation for module in (bronze_accounts, bronze_product_catalog, bronze_users)
    )
    classify_billing = partial(
        bronze_subscription_events.classify,
        users=users,
        accounts=accounts,
        catalog=catalog,
        earliest=earliest,
    )
    return (
        _Entity(bronze_accounts.TABLE, bronze_accounts.classify),
        _Entity(
            bronze_product_catalog.TABLE,
            bronze_product_catalog.classify,
            bronze_product_catalog.REQUIRED,
        ),
        _Entity(bronze_users.TABLE, partial(bronze_users.classify, accounts=accounts)),
        _Entity(
            bronze_subscription_events.TABLE,
            classify_billing,
            event_rules.REQUIRED,
            event_rules.OPTIONAL,
        ),
        _Entity(bronze_workflows.TABLE, partial(bronze_workflows.classify, catalog=catalog)),
    )


def _remember_entities(connection: duckdb.DuckDBPyConnection) -> None:
    for table in COMPARED:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_before(table)} AS FROM {table.qualified_name}"
        )


def _note_what_changed(connection: duckdb.DuckDBPyConnection) -> None:
    """Record the first day affected by changes to entities."""
    events = (bronze_events.TABLE, bronze_rejected_events.TABLE)
    if not all(stored_columns(connection, table) for table in events):
        return  # no day has been loaded
    stored = attrgetter("qualified_name")
    effect = entity_effect(connection, before=_before, after=stored, loaded=stored)
    first = date.min if effect.every_day else effect.affects_from
    if first is not None:
        note_change(connection, Cause.ENTITIES, first)


def _before(table: Table) -> str:
    return f"{table.name}_before"
