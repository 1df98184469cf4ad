"""Jobs of maintenance for Dagster: exports, and the removal of raw events older than the retention."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from monstera_assets.operations.exports import export_all
from monstera_assets.operations.jobs import EXPIRE_RAW_EVENTS, EXPORT_TABLES
from monstera_assets.operations.retention import expire_raw_events
from monstera_assets.settings import Settings
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY
from monstera_assets.warehouse.tables import Table

MONTHLY = "0 3 1 * *"

# These ops deliver nothing, and the warehouse's IO manager would hold the file open beside them.
_RESOURCES = {IO_MANAGER_KEY: dg.mem_io_manager}


def maintenance_jobs(settings: Settings, tables: Sequence[Table]) -> list[dg.JobDefinition]:
    """The job that removes old raw events; the job of exports too if there is a folder for them."""

    @dg.op(name="remove_old_raw_events")
    def expire(context: dg.OpExecutionContext) -> None:
        expired = expire_raw_events(settings, datetime.now(UTC).date())
        context.log.info(f"removed before {expired.removed_before}: {expired.rows}")

    @dg.job(
        name=EXPIRE_RAW_EVENTS,
        resource_defs=_RESOURCES,
        description="Remove raw events older than raw_event_retention_days. States and totals stay;"
        " their days cannot be computed anew.",
    )
    def expire_job() -> None:
        expire()

    @dg.op(name="write_export_files")
    def export(context: dg.OpExecutionContext) -> None:
        report = export_all(settings, tables)
        context.log.info(f"{len(report.rows)} tables exported to {report.folder}")

    @dg.job(
        name=EXPORT_TABLES,
        resource_defs=_RESOURCES,
        description="Export the tables for BI tools to export_directory.",
    )
    def export_job() -> None:
        export()

    return [expire_job, *([export_job] if settings.export_directory else [])]


def expiry_schedule(jobs: Sequence[dg.JobDefinition]) -> dg.ScheduleDefinition:
    """Once a month; stopped until somebody who wants raw events removed starts it."""
    [expire_job] = [each for each in jobs if each.name == EXPIRE_RAW_EVENTS]
    return dg.ScheduleDefinition(
        name="expire_raw_events_monthly",
        job=expire_job,
        cron_schedule=MONTHLY,
        execution_timezone="UTC",
    )
