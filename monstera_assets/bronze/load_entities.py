"""The load of everything that is not loaded by day: accounts, catalog, users, billing, workflows.

The five inputs are loaded together, in one transaction, because they refer to each other: a user is
accepted only with an account, a subscription event only with the account or user it is about.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
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
from monstera_assets.bronze.loading import Classify, accepted, keep_classified, stage, with_files
from monstera_assets.bronze.validation import REASON, required_columns
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.warehouse.batches import TableBatch, temporary_relation
from monstera_assets.warehouse.source_changes import Cause, note_change
from monstera_assets.warehouse.table_asset import asset_key, batch_outs
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.writer import stored_columns

TABLES = (
    bronze_accounts.TABLE,
    bronze_product_catalog.TABLE,
    bronze_users.TABLE,
    bronze_subscription_events.TABLE,
    bronze_workflows.TABLE,
    bronze_rejected_entities.TABLE,
    bronze_entity_loads.TABLE,
)


@dataclass(frozen=True)
class _Entity:
    """How one input is read: its table, its rules, and its columns if not those of the table."""

    table: Table
    classify: Classify
    required: Sequence[str] = ()
    optional: Sequence[str] = ()

    @property
    def input_name(self) -> str:
        return self.table.name.removeprefix("bronze_")

    def temporary(self, connection: duckdb.DuckDBPyConnection, what: str) -> ir.Table:
        """What was kept of the input: `rows`, `malformed` or `classified`."""
        return temporary_relation(connection, f"{self.input_name}_{what}")

    def accepted(
        self, source_input: SourceInput, connection: duckdb.DuckDBPyConnection
    ) -> ir.Table:
        """Stage and classify the input, and give the accepted rows."""
        required = self.required or required_columns(self.table)
        nullable = [column.name for column in self.table.columns if column.nullable]
        optional = self.optional or [name for name in nullable if name not in required]
        rows, _ = stage(connection, source_input, required, optional)
        classified = keep_classified(connection, self.input_name, self.table, self.classify(rows))
        return accepted(classified, self.table)

    def rejected(self, connection: duckdb.DuckDBPyConnection) -> ir.Table:
        """The rejected rows and the records that are no rows."""
        classified = self.temporary(connection, "classified")
        malformed = self.temporary(connection, "malformed")
        malformed = malformed.rename(rejection_reason="reason", raw_row="raw_line")
        columns = ("rejection_reason", "source_file", "raw_row")
        rejected = classified.filter(classified[REASON].notnull()).select(columns)
        every = rejected.union(malformed.select(columns))
        return every.select(ibis.literal(self.input_name).name("input_name"), *columns)

    def ledger_entry(
        self, source_input: SourceInput, connection: duckdb.DuckDBPyConnection
    ) -> ir.Table:
        """Where the rows were read from and what became of them."""
        rows, malformed, classified = (
            self.temporary(connection, what) for what in ("rows", "malformed", "classified")
        )
        entry = rows.aggregate(rows_in_files=rows.count())
        counted = entry.select(
            input_name=ibis.literal(self.input_name),
            rows_read=entry.rows_in_files + malformed.count().as_scalar(),
            rows_accepted=accepted(classified, self.table).count().as_scalar(),
            rows_rejected=self.rejected(connection).count().as_scalar(),
        )
        return with_files(connection, counted, source_input)


def build_load_entities(source: Path, earliest: date) -> AssetsDefinition:
    """The asset that loads all entity tables from a source folder."""

    @multi_asset(name="load_entities", outs=batch_outs(TABLES))
    def load_entities() -> Iterator[MaterializeResult[Any]]:
        batch = entity_load(discover_source(source), earliest)
        first, *others = TABLES
        yield MaterializeResult(asset_key=asset_key(first.name), value=batch)
        for table in others:
            yield MaterializeResult(
                asset_key=asset_key(table.name),
                metadata={"dagster/row_count": batch.counts[table.name]},
            )

    return load_entities


def entity_load(inputs: Mapping[str, SourceInput], earliest: date) -> TableBatch:
    """The batch of `entity_batch` that also notes which days its changes affect."""
    return replace(
        entity_batch(inputs, earliest), before=_remember_entities, after=_note_what_changed
    )


def entity_batch(inputs: Mapping[str, SourceInput], earliest: date) -> TableBatch:
    """The tables of all entity inputs.

    Args:
        inputs: the source's inputs; subscription_events and workflows may be missing.
        earliest: no subscription event is older.
    """
    entities = {
        entity: inputs.get(entity.input_name, SourceInput(entity.input_name, (), by_day=False))
        for entity in _entities(earliest)
    }

    def rejected_rows(connection: duckdb.DuckDBPyConnection) -> ir.Table:
        return ibis.union(*(entity.rejected(connection) for entity in entities))

    def ledger(connection: duckdb.DuckDBPyConnection) -> ir.Table:
        return ibis.union(
            *(entity.ledger_entry(files, connection) for entity, files in entities.items())
        )

    return TableBatch(
        {
            **{entity.table: partial(entity.accepted, files) for entity, files in entities.items()},
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
    """Say from which day on tables are affected by entities that differ from those before."""
    events = (bronze_events.TABLE, bronze_rejected_events.TABLE)
    if not all(stored_columns(connection, table.stored) for table in events):
        return  # no day was ever loaded
    effect = entity_effect(
        connection,
        before=_before,
        after=lambda table: table.qualified_name,
        loaded=lambda table: table.qualified_name,
    )
    first = date.min if effect.every_day else effect.affects_from
    if first is not None:
        note_change(connection, Cause.ENTITIES, first)


def _before(table: Table) -> str:
    return f"{table.name}_before"
