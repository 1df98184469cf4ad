"""The project's Dagster definitions. The entry point is `defs`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import TypeVar

from dagster import (
    AssetChecksDefinition,
    Definitions,
    apply_freshness_policy,
    definitions,
    in_process_executor,
    map_asset_specs,
)

from monstera_assets import bronze, gold, silver
from monstera_assets.bronze import load_entities, load_events
from monstera_assets.bronze.loading import open_queries
from monstera_assets.checks.rules import Rule
from monstera_assets.checks.table_checks import build_table_checks
from monstera_assets.dashboards.asset import build_static_site
from monstera_assets.dashboards.extract import extract
from monstera_assets.documentation.descriptions import with_links
from monstera_assets.gold.entity_created_table import entity_created_daily
from monstera_assets.gold.gold_metric_catalog import metric_catalog_asset
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.imports import landed_source
from monstera_assets.imports.ledger_checks import build_ledger_checks
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.operations.alerts.alerts import Alerts, build_alert_sensor
from monstera_assets.operations.exports import exportable
from monstera_assets.operations.maintenance import expiry_schedule, maintenance_jobs
from monstera_assets.operations.open_warehouse import open_warehouse
from monstera_assets.operations.partitions import daily_partitions, first_partition
from monstera_assets.operations.publishing import build_published_copy, published
from monstera_assets.operations.recorded_settings import recorded_settings
from monstera_assets.operations.run_io_manager import run_io_manager
from monstera_assets.operations.runs import selected_assets_job, whole_graph_job
from monstera_assets.operations.schedules import (
    daily_job,
    daily_schedule,
    dashboards_job,
    freshness,
    gold_job,
    import_job,
    import_schedule,
    source_changes_sensor,
)
from monstera_assets.operations.source_range import reading
from monstera_assets.settings import Settings, SettingsError, load_settings
from monstera_assets.settings.entities_created import DEFAULT_ENTITIES_CREATED
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.extras import how_to_install
from monstera_assets.warehouse.query_cache import QueryCache, open_cache
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY, TableAsset
from monstera_assets.warehouse.tables import Layer, Table

Declared = TypeVar("Declared", TableAsset, Rule)


def build_definitions(settings: Settings | None = None) -> Definitions:
    """Return all assets, checks, jobs, schedules, sensors and resources for a configuration.

    Raises:
        SettingsError: If a setting is invalid.
        SourceError: If the first partition depends on the source and the source cannot be read.
    """
    settings = settings or load_settings()
    first = first_partition(settings)
    partitions = daily_partitions(first, settings.timezone)
    reads = reading(settings, first)
    is_fresh = freshness(settings)
    warehouse = open_warehouse(settings, copied_tables(settings, tables(settings)))
    queries, of_source = _query_caches(settings, warehouse), open_queries()
    assets = {asset.table.name: asset for asset in table_assets(settings)}
    maintenance = maintenance_jobs(settings, tables(settings))
    before = [landed_source.KEY] if settings.imports else []
    linked = with_links(
        settings.documentation_url, {name for name, asset in assets.items() if asset.is_query}
    )
    return Definitions(
        assets=[
            *map(linked, landed_source.export_specs(settings)),
            *map_asset_specs(
                lambda spec: linked(apply_freshness_policy(spec, is_fresh)),
                [
                    *([landed_source.build_landed_source(settings)] if settings.imports else []),
                    load_entities.build_load_entities(
                        settings.source, reads, of_source, deps=before
                    ),
                    load_events.build_load_events(
                        settings.source, partitions, reads, of_source, deps=before
                    ),
                    *(
                        asset.build(
                            partitions,
                            settings.policy,
                            queries[asset.depends_on_policy(assets)],
                            settings.timezone,
                            assets,
                        )
                        for asset in assets.values()
                    ),
                    build_static_site(settings, metric_tables(settings)),
                    *build_published_copy(settings, tables(settings)),
                ],
            ),
        ],
        asset_checks=[
            *([build_ledger_checks(settings, landed_source.KEY)] if settings.imports else []),
            *_checks(settings, queries[True]),
        ],
        jobs=[
            *(whole_graph_job, selected_assets_job, daily_job, gold_job, dashboards_job),
            *([import_job] if settings.imports else []),
            *maintenance,
        ],
        schedules=[
            *([import_schedule(settings)] if settings.imports else []),
            daily_schedule(settings, table_assets(settings), first),
            expiry_schedule(maintenance, settings.timezone),
        ],
        sensors=[
            build_alert_sensor(build_alerts(settings)),
            source_changes_sensor(settings, table_assets(settings), first),
        ],
        resources={
            IO_MANAGER_KEY: run_io_manager(
                settings,
                first,
                warehouse,
                recorded_settings=recorded_settings(settings),
            ),
            "warehouse": warehouse,
        },
        # Only one process can write to the DuckDB file, and DuckDB already uses all cores.
        executor=in_process_executor,
    )


def query_caches(settings: Settings) -> dict[bool, QueryCache]:
    """Open two query caches: one for queries that read the policy and one for all other queries."""
    return _query_caches(settings, open_warehouse(settings))


def copied_tables(settings: Settings, tables: Sequence[Table]) -> list[str]:
    """Return the tables that the dashboards, exports and the published copy read from the DuckDB file.

    Bronze tables are always in the file.
    """
    metrics = [table for table in tables if isinstance(table, MetricTable)]
    read = {
        *(table.name for table in (*exportable(tables), *published(settings, tables))),
        *extract(metrics),
    }
    return sorted(
        table.name for table in tables if table.name in read and table.layer is not Layer.BRONZE
    )


def _query_caches(settings: Settings, warehouse: Warehouse) -> dict[bool, QueryCache]:
    # Queries that read absent tables differ.
    depends_on = (repr(settings.entities_created), repr(sorted(absent_tables())))
    compiler = warehouse.compile_query
    return {
        True: open_cache(settings.policy.model_dump_json(), *depends_on, compile_query=compiler),
        False: open_cache(*depends_on, compile_query=compiler),
    }


def table_query(name: str, settings: Settings) -> Query:
    """Return the query that runs execute to compute a table.

    Raises:
        SettingsError: If the table does not exist, or if its rows are loaded or computed in Python.
    """
    declared = {table.name: table for table in tables(settings)}
    if absent := absent_tables().get(name):
        raise SettingsError(how_to_install(absent))
    if name not in declared:
        near = get_close_matches(name, declared, n=3) or ["a table listed by `monstera status`"]
        raise SettingsError(f"Table {name} does not exist. Use {' or '.join(near)}.")
    queries = {asset.table.name: asset for asset in table_assets(settings) if asset.is_query}
    if name in queries:
        known = query_caches(settings)[queries[name].depends_on_policy(queries)]
        return known.get(
            queries[name].query_name(settings.timezone),
            lambda: known.compile_query(
                queries[name].rows(declared, settings.policy, settings.timezone)
            ),
        )
    raise SettingsError(
        f"Table {name} has no query because its rows are loaded or computed in Python."
    )


def build_alerts(settings: Settings) -> Alerts:
    """Return the object that reports finished runs and late tables.

    Raises:
        SettingsError: If a URL in `alert_urls` is invalid or has a route with an unknown owner.
    """
    return Alerts(settings, tables(settings))


def table_assets(settings: Settings | None = None) -> list[TableAsset]:
    """Return the silver and gold table assets: one per module, plus the assets that settings add.

    Tables whose extra is not installed are absent. Queries read an empty table instead.

    Args:
        settings: the configuration, or None for all defaults.

    Raises:
        SettingsError: If a setting adds a table that already exists.
    """
    absent = absent_tables()
    assets = [
        *(
            asset.without(absent)
            for asset in _declared(TableAsset, bronze, silver, gold)
            if asset.table.is_available
        ),
        *(asset for asset, _ in _entities_created(settings)),
    ]
    names = [asset.table.name for asset in assets]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingsError(
            f"entities_created: tables already exist: {', '.join(repeated)}. Rename the entities."
        )
    policy = settings.policy if settings else LifecyclePolicy()
    return [*assets, metric_catalog_asset(assets, policy)]


def rules(settings: Settings | None = None) -> list[Rule]:
    """Return the rules that supplement the table contracts, including rules that settings add."""
    absent = absent_tables()
    return [
        *(
            rule.without(absent)
            for rule in _declared(Rule, bronze, silver, gold)
            if rule.table.is_available
        ),
        *(rule for _, its_rules in _entities_created(settings) for rule in its_rules),
    ]


def absent_tables() -> dict[str, Table]:
    """Return the tables, by name, that the graph does not contain because an extra is missing."""
    declared = (asset.table for asset in _declared(TableAsset, bronze, silver, gold))
    return {table.name: table for table in declared if not table.is_available}


def tables(settings: Settings | None = None) -> list[Table]:
    """Return all declared tables that the graph contains, ordered by layer."""
    return [
        *load_entities.TABLES,
        *load_events.TABLES,
        *sorted(
            (asset.table for asset in table_assets(settings)),
            key=lambda table: (list(Layer).index(table.layer), table.name),
        ),
    ]


def metric_tables(settings: Settings | None = None) -> list[MetricTable]:
    """Return the gold tables that contain metrics."""
    return [table for table in tables(settings) if isinstance(table, MetricTable)]


def _entities_created(settings: Settings | None) -> list[tuple[TableAsset, list[Rule]]]:
    configured = settings.entities_created if settings else DEFAULT_ENTITIES_CREATED
    return [entity_created_daily(created) for created in configured]


def _checks(settings: Settings, queries: QueryCache) -> list[AssetChecksDefinition]:
    declared = {table.name: table for table in tables(settings)}
    of_table: dict[str, list[Rule]] = {name: [] for name in declared}
    for rule in rules(settings):
        of_table[rule.table.name].append(rule)
    return [
        build_table_checks(
            table,
            of_table[name],
            relations=lambda name: declared[name].relation,
            policy=settings.policy,
            queries=queries,
        )
        for name, table in declared.items()
    ]


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
    """Return the definitions for the configuration from the environment and `monstera.toml`."""
    return build_definitions()
