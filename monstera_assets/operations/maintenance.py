"""Dagster jobs that export tables and delete expired raw events."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from monstera_assets.operations.exports import export_all
from monstera_assets.operations.jobs import EXPIRE_RAW_EVENTS, EXPORT_TABLES, local_day
from monstera_assets.operations.retention import expire_raw_events
from monstera_assets.settings import Settings
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY
from monstera_assets.warehouse.tables import Table

MONTHLY = "0 3 1 * *"

# These ops have no output, and the warehouse's IO manager would keep the file open.
_RESOURCES = {IO_MANAGER_KEY: dg.mem_io_manager}


def maintenance_jobs(settings: Settings, tables: Sequence[Table]) -> list[dg.JobDefinition]:
    """Return the job that deletes old raw events and, if an export folder is set, the export job."""

    @dg.op(name="remove_old_raw_events")
    def expire(context: dg.OpExecutionContext) -> None:
        expired = expire_raw_events(settings, tables, local_day(datetime.now(UTC), settings))
        context.log.info(f"Deleted rows before {expired.removed_before}: {expired.rows}")

    @dg.job(
        name=EXPIRE_RAW_EVENTS,
        resource_defs=_RESOURCES,
        description="Deletes raw events older than raw_event_retention_days. States and totals are"
        " kept, but the affected days can no longer be recomputed.",
    )
    def expire_job() -> None:
        expire()

    @dg.op(name="write_export_files")
    def export(context: dg.OpExecutionContext) -> None:
        report = export_all(settings, tables)
        context.log.info(f"Exported {len(report.rows)} tables to {report.folder}")

    @dg.job(
        name=EXPORT_TABLES,
        resource_defs=_RESOURCES,
        description="Exports tables to export_directory for BI tools.",
    )
    def export_job() -> None:
        export()

    return [expire_job, *([export_job] if settings.export_directory else [])]


def expiry_schedule(jobs: Sequence[dg.JobDefinition], timezone: str) -> dg.ScheduleDefinition:
    """Return the monthly expiry schedule, which is off by default."""
    [expire_job] = [each for each in jobs if each.name == EXPIRE_RAW_EVENTS]
    return dg.ScheduleDefinition(
        name="expire_raw_events_monthly",
        job=expire_job,
        cron_schedule=MONTHLY,
        execution_timezone=timezone,
    )
