"""Refuse runs for days after the last day of data.

The calendar ends yesterday, so days without data can be selected in the Dagster UI. The other runs do
not need this check, because `run_plan` chooses their days.

A refused run is canceled before its first step. Dagster shows each planned partition of a failed run as
failed, even if the partition was computed before, but does not do this for a canceled run.
"""

from __future__ import annotations

from datetime import date

from dagster import DagsterInstance, DagsterRun
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import SCHEDULE_NAME_TAG

from monstera_assets.bronze import bronze_loads
from monstera_assets.bronze.deliveries import delivery_digest, recorded_delivery
from monstera_assets.bronze.load_events import CHANGED_DAYS
from monstera_assets.imports.awaiting import awaiting_import
from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings
from monstera_assets.source.errors import SourceError
from monstera_assets.source.fingerprint import fingerprint
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow, window_of_run


class DaysWithoutDataError(DagsterExecutionInterruptedError):
    """A run includes days after the last day of data. Dagster cancels the run."""


def require_data(
    run: DagsterRun, instance: DagsterInstance, settings: Settings, first_partition: date
) -> None:
    """Cancel a run that was started in the UI for days after the last day of data.

    The last day of data is the last day in the source's range or the last loaded day, whichever is
    later. If files were delivered since the last load, a later day is a day without activity. Exports
    that await an import, which is the run's first step, are delivered files.

    Raises:
        DaysWithoutDataError: If the run includes a day after the last day of data.
    """
    window = window_of_run(run.tags)
    # Only the webserver and the daemon set an origin, and the command line does not use them.
    is_planned = (
        run.remote_job_origin is None or {CHANGED_DAYS, SCHEDULE_NAME_TAG} & run.tags.keys()
    )
    if window is None or is_planned:
        return
    config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
    with connect(
        str(settings.database), config, lock_timeout_seconds=settings.lock_timeout_seconds
    ) as connection:
        loaded = DuckDBEngine(connection).materialized_window(bronze_loads.TABLE)
        delivery = recorded_delivery(connection)
    if loaded is not None and window.last <= loaded.last:
        return
    try:
        if settings.imports and awaiting_import(settings):
            return
        last = source_range(settings).last
        inputs = discover_source(settings.source, delimiter=settings.csv_delimiter)
        prints = {
            name: [fingerprint(file) for file in found.files] for name, found in inputs.items()
        }
    except SourceError:
        return  # the import or the load raises the same error
    if loaded is not None:
        last = max(last, loaded.last)
    is_delivered = delivery is not None and delivery.digest != delivery_digest(prints)
    if window.last <= last or is_delivered:
        return
    choice = (
        "" if last < first_partition else f" Choose days from {DateWindow(first_partition, last)}."
    )
    message = (
        f"The last day of data is {last}, but this run is for {window}. No table was changed."
        f"{choice} Later days can be computed after their files are delivered."
    )
    instance.report_run_canceling(run, message)
    raise DaysWithoutDataError(message)
