"""The IO manager of the graph's runs, with the work before a run's first step and after its last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import duckdb
from dagster import InitResourceContext

from monstera_assets.operations.costs import record_sizes
from monstera_assets.operations.last_day import require_data
from monstera_assets.settings import Settings
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.io_manager import WarehouseIOManager
from monstera_assets.warehouse.resource import Warehouse


def run_io_manager(
    settings: Settings, first_partition: date, warehouse: Warehouse, **config: Any
) -> WarehouseIOManager:
    """Return an IO manager that refuses runs for days without data before their first step.

    After a run of the whole graph, the IO manager records the sizes of tables and files. If this
    fails, the run succeeds and its log contains a warning.

    Args:
        settings: the configuration.
        first_partition: the first day in the calendar.
        warehouse: the warehouse that the IO manager opens.
        config: the other configuration of the IO manager.
    """

    class RunIOManager(WarehouseIOManager):
        @contextmanager
        def yield_for_execution(self, context: InitResourceContext) -> Iterator[Any]:
            run, instance = context.run, context.instance
            if run is None or instance is None:
                with super().yield_for_execution(context) as manager:
                    yield manager
                return
            require_data(run, instance, settings, first_partition)
            with super().yield_for_execution(context) as manager:
                yield manager
                try:
                    with warehouse.get_connection() as connection:
                        record_sizes(connection, instance, run, settings)
                except (WarehouseError, duckdb.Error, OSError) as error:
                    if context.log is not None:
                        context.log.warning(f"The sizes of the tables were not recorded: {error}")

    return RunIOManager(warehouse=warehouse, **config)
