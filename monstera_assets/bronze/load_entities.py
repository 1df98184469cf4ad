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
from monstera_assets.bronze.validation import REASON
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
    """How one input is read: its table, its columns in the source and its rules."""

    input_name: str
    table: Table
    required: Sequence[str]
    optional: Sequence[str]
    classify: Classify


def build_load_entities(source: Path, earliest: date) -> AssetsDefinition:
    """The asset that loads all entity tables from a source folder."""

    @multi_asset(
        name="load_entities",
        outs=batch_outs(TABLES),
    )
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
    entities = _entities(earliest)
    present = {
        entity.input_name: inputs.get(
            entity.input_name, SourceInput(entity.input_name, (), by_day=False)
        )
        for entity in entities
    }
    return TableBatch(
        {
            **{
                entity.table: partial(_accepted_rows, entity, present[entity.input_name])
                for entity in entities
            },
            bronze_rejected_entities.TABLE: partial(_rejected_rows, entities),
            bronze_entity_loads.TABLE: partial(_ledger, entities, present),
        }
    )


def _entities(earliest: date) -> tuple[_Entity, ...]:
    accounts = bronze_accounts.TABLE.relation
    catalog = bronze_product_catalog.TABLE.relation
    users = bronze_users.TABLE.relation
    return (
        _Entity(
            "accounts",
            bronze_accounts.TABLE,
            bronze_accounts.REQUIRED,
            ("first_paid_at", "contract_renewal_date"),
            bronze_accounts.classify,
        ),
        _Entity(
            "product_catalog",
            bronze_product_catalog.TABLE,
            (
                *bronze_product_catalog.REQUIRED,
                "parent_product_id",
                "activation_event_types",
                "qualifying_event_types",
            ),
            ("active_days", "dormant_days"),
            bronze_product_catalog.classify,
        ),
        _Entity(
            "users",
            bronze_users.TABLE,
            bronze_users.REQUIRED,
            (),
            partial(bronze_users.classify, accounts=accounts),
        ),
        _Entity(
            "subscription_events",
            bronze_subscription_events.TABLE,
            event_rules.REQUIRED,
            event_rules.OPTIONAL,
            partial(
                bronze_subscription_events.classify,
                users=users,
                accounts=accounts,
                catalog=catalog,
                earliest=earliest,
            ),
        ),
        _Entity(
            "workflows",
            bronze_workflows.TABLE,
            bronze_workflows.REQUIRED,
            (),
            partial(bronze_workflows.classify, catalog=catalog),
        ),
    )


def _accepted_rows(
    entity: _Entity, source_input: SourceInput, connection: duckdb.DuckDBPyConnection
) -> ir.Table:
    rows, _ = stage(connection, source_input, entity.required, entity.optional)
    classified = keep_classified(connection, entity.input_name, entity.table, entity.classify(rows))
    return accepted(classified, entity.table)


def _rejected_rows(entities: Sequence[_Entity], connection: duckdb.DuckDBPyConnection) -> ir.Table:
    return ibis.union(
        *(part for entity in entities for part in _rejected_parts(entity.input_name, connection))
    )


def _rejected_parts(
    input_name: str, connection: duckdb.DuckDBPyConnection
) -> tuple[ir.Table, ir.Table]:
    classified = temporary_relation(connection, f"{input_name}_classified")
    malformed = temporary_relation(connection, f"{input_name}_malformed")
    return (
        classified.filter(classified[REASON].notnull()).select(
            input_name=ibis.literal(input_name),
            rejection_reason=classified[REASON],
            source_file=classified.source_file,
            raw_row=classified.raw_row,
        ),
        malformed.select(
            input_name=ibis.literal(input_name),
            rejection_reason=malformed.reason,
            source_file=malformed.source_file,
            raw_row=malformed.raw_line,
        ),
    )


def _ledger(
    entities: Sequence[_Entity],
    inputs: Mapping[str, SourceInput],
    connection: duckdb.DuckDBPyConnection,
) -> ir.Table:
    entries = []
    for entity in entities:
        name = entity.input_name
        rows = temporary_relation(connection, f"{name}_rows")
        malformed = temporary_relation(connection, f"{name}_malformed")
        classified = temporary_relation(connection, f"{name}_classified")
        rejected, unreadable = _rejected_parts(name, connection)
        read = rows.aggregate(rows_read=rows.count()).cross_join(
            malformed.aggregate(rows_malformed=malformed.count())
        )
        outcome = (
            accepted(classified, entity.table)
            .aggregate(rows_accepted=ibis._.count())
            .cross_join(rejected.union(unreadable).aggregate(rows_rejected=ibis._.count()))
        )
        entry = read.cross_join(outcome)
        counted = entry.select(
            input_name=ibis.literal(name),
            rows_read=entry.rows_read + entry.rows_malformed,
            rows_accepted=entry.rows_accepted,
            rows_rejected=entry.rows_rejected,
        )
        entries.append(with_files(connection, counted, inputs[name]))
    return ibis.union(*entries)


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
