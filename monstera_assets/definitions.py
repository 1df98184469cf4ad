"""Where everything is put together: `defs` is what Dagster loads."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any, TypeVar

from dagster import AssetChecksDefinition, Definitions, definitions, in_process_executor

from monstera_assets import bronze, gold, silver
from monstera_assets.bronze import load_entities, load_events
from monstera_assets.checks.rules import Rule
from monstera_assets.checks.table_checks import build_table_checks
from monstera_assets.operations.partitions import daily_partitions, first_partition
from monstera_assets.operations.runs import whole_graph_job
from monstera_assets.settings import Settings, load_settings
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.io_manager import WarehouseIOManager
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY, TableAsset
from monstera_assets.warehouse.tables import Table

Declared = TypeVar("Declared", TableAsset, Rule)


def build_definitions(settings: Settings | None = None) -> Definitions:
    """All assets, checks and resources for a configuration.

    Raises:
        SettingsError: a setting is wrong.
        SourceError: the first partition is to be read from the source, and it cannot be read.
    """
    settings = settings or load_settings()
    first = first_partition(settings)
    partitions = daily_partitions(first)
    return Definitions(
        assets=[
            load_entities.build_load_entities(settings.source, settings.earliest_event_date),
            load_events.build_load_events(
                settings.source, partitions, first, settings.earliest_event_date
            ),
            *(asset.build(partitions, settings.policy) for asset in table_assets()),
        ],
        asset_checks=_checks(settings),
        jobs=[whole_graph_job],
        resources={
            IO_MANAGER_KEY: WarehouseIOManager(**_warehouse(settings)),
            "warehouse": Warehouse(**_warehouse(settings)),
        },
        # One process writes to the DuckDB file, and DuckDB itself uses all cores.
        executor=in_process_executor,
    )


def table_assets() -> list[TableAsset]:
    """The table assets of silver and gold, one a module of these packages."""
    return _declared(TableAsset, silver, gold)


def rules() -> list[Rule]:
    """The rules that the modules of the tables declare beyond their contract."""
    return _declared(Rule, bronze, silver, gold)


def tables() -> list[Table]:
    """All declared tables, in the order of the layers."""
    return [
        *load_entities.TABLES,
        *load_events.TABLES,
        *(asset.table for asset in table_assets()),
    ]


def _checks(settings: Settings) -> list[AssetChecksDefinition]:
    declared = {table.name: table for table in tables()}
    of_table: dict[str, list[Rule]] = {name: [] for name in declared}
    for rule in rules():
        of_table[rule.table.name].append(rule)
    return [
        build_table_checks(
            table,
            of_table[name],
            relations=lambda name: declared[name].relation,
            policy=settings.policy,
        )
        for name, table in declared.items()
    ]


def _warehouse(settings: Settings) -> dict[str, Any]:
    return {
        "database": str(settings.database),
        "connection_config": connection_config(
            settings.memory_limit, settings.threads, settings.temp_directory
        ),
        "lock_timeout_seconds": settings.lock_timeout_seconds,
    }


def _declared(kind: type[Declared], *packages: ModuleType) -> list[Declared]:
    return [
        value
        for package in packages
        for info in pkgutil.iter_modules(package.__path__)
        for value in vars(importlib.import_module(f"{package.__name__}.{info.name}")).values()
        if isinstance(value, kind)
    ]


@definitions
def defs() -> Definitions:
    """What Dagster loads: the configuration of environment and `monstera.toml`."""
    return build_definitions()
