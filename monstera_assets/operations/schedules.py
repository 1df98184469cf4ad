"""The daily run, the import before it, and the sensor that looks for changes in the source.

The daily run computes yesterday and any missing days, and recomputes earlier days whose data changed.
`run_plan` chooses the days. An import can change any day, so it is a separate run, and the days of
the daily run are chosen after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from monstera_assets.imports.awaiting import awaiting_import
from monstera_assets.imports.landed_source import KEY as LANDED_SOURCE
from monstera_assets.operations.jobs import DAILY, IMPORT_EXPORTS, LATE_AFTER
from monstera_assets.operations.run_plan import UNCHANGED, plan_changes, plan_day
from monstera_assets.operations.runs import range_tags, whole_graph_job
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.errors import WarehouseError, WarehouseLockedError
from monstera_assets.warehouse.layers import AssetGroup
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.windows import RANGE_END_TAG, DateWindow

CHANGES_SENSOR = "source_changes"

_MINUTES_BETWEEN_LOOKS = 10
_SECONDS_BETWEEN_TICKS = 300

TRANSIENT_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""Retry failed steps, since a source file may be incomplete or the database may be locked."""

_RETRIES = {"dagster/max_retries": "2", "dagster/retry_strategy": "FROM_FAILURE"}

daily_job = dg.define_asset_job(
    DAILY,
    selection=dg.AssetSelection.all(),
    op_retry_policy=TRANSIENT_RETRIES,
    tags=_RETRIES,
    description="Computes all tables and runs all checks for yesterday, any missing days, and earlier"
    " days whose data changed.",
)
import_job = dg.define_asset_job(
    IMPORT_EXPORTS,
    selection=dg.AssetSelection.assets(LANDED_SOURCE),
    op_retry_policy=TRANSIENT_RETRIES,
    tags=_RETRIES,
    description="Imports the exports into the source, and checks the ledger of raw files.",
)
gold_job = dg.define_asset_job(
    "gold_only",
    selection=dg.AssetSelection.key_prefixes("gold", "dashboards", "published"),
    description="Computes and checks metrics, builds dashboards and publishes a copy, without"
    " recomputing other tables.",
)
dashboards_job = dg.define_asset_job(
    "dashboards_only",
    selection=dg.AssetSelection.groups(str(AssetGroup.DASHBOARDS)),
    description="Builds the dashboards and publishes a copy from the current tables.",
)

_CLOCKS_GO_BACK = timedelta(hours=1)
"""Additional time until the deadline on the day when the clocks go back."""

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def freshness(settings: Settings) -> dg.FreshnessPolicy:
    """Return a policy that requires tables to be materialized within two hours after `daily_run_at`.

    The deadline is a time of day. If the clocks go forward after `daily_run_at`, the deadline is
    an hour early.
    """
    late = (datetime.combine(date.min, settings.daily_run_at) + LATE_AFTER).time()
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{late.minute} {late.hour} * * *",
        lower_bound_delta=LATE_AFTER + _CLOCKS_GO_BACK,
        timezone=settings.timezone,
    )


def daily_schedule(
    settings: Settings, assets: Sequence[TableAsset], first_partition: date
) -> dg.ScheduleDefinition:
    """Return the schedule that starts the daily run at `daily_run_at`, once files are delivered.

    Args:
        settings: the configuration.
        assets: the silver and gold tables.
        first_partition: the first day in the definitions' calendar.
    """
    at, zone = settings.daily_run_at, settings.timezone
    # A tick must not wait for a run.
    fixed = settings.model_copy(update={"start_date": first_partition, "lock_timeout_seconds": 0})

    @dg.schedule(
        name="daily_run",
        job=daily_job,
        cron_schedule=_looks(at, once_more=bool(settings.imports)),
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Computes yesterday and any missing days, and recomputes earlier days whose data"
        f" changed, daily at {at:%H:%M} {zone}. Without new files, looks again every"
        f" {_MINUTES_BETWEEN_LOOKS} minutes until the deadline. Exports are imported first.",
    )
    def daily_run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = _run_day(context.scheduled_execution_time, settings) - timedelta(days=1)
        if day < first_partition:
            return dg.SkipReason(f"The first partition, {first_partition}, has not ended.")
        if context.instance.get_runs(
            dg.RunsFilter(statuses=_UNFINISHED, tags={RANGE_END_TAG: str(day)}), limit=1
        ):
            return dg.SkipReason(f"A run through {day} is already in progress.")
        if settings.imports and _import_is_due(settings)[0]:
            return dg.SkipReason(f"The job {IMPORT_EXPORTS} has not imported the exports yet.")
        try:
            plan = plan_day(fixed, assets, day)
        except WarehouseLockedError:
            return dg.SkipReason("Another process is writing to the warehouse.")
        except (SettingsError, SourceError, WarehouseError) as error:
            # The run fails with the same error, so that the failure is recorded and sends an alert.
            context.log.error(str(error))
            days = DateWindow(day, day)
            return dg.RunRequest(run_key=f"{day} {error}", tags=range_tags(days))
        for line in plan.description:
            context.log.info(line)
        if plan.days is None:
            return dg.SkipReason(plan.description[-1])
        return dg.RunRequest(run_key=plan.key, tags=dict(plan.tags))

    return daily_run


def import_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that starts an import at the times when `daily_schedule` looks for files."""
    at, zone = settings.daily_run_at, settings.timezone

    @dg.schedule(
        name="daily_import",
        job=import_job,
        cron_schedule=_looks(at),
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Imports exports that are new or have changed, daily at {at:%H:%M} {zone} and"
        f" every {_MINUTES_BETWEEN_LOOKS} minutes until the deadline. Then `daily_run` computes the"
        " days.",
    )
    def daily_import(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if context.instance.get_runs(
            dg.RunsFilter(job_name=IMPORT_EXPORTS, statuses=_UNFINISHED), limit=1
        ):
            return dg.SkipReason("An import is already in progress.")
        is_due, inputs = _import_is_due(settings)
        if not is_due:
            return dg.SkipReason("No export is new or has changed since the last import.")
        # An import that failed is not started again until files or settings change, or the next day.
        day = _run_day(context.scheduled_execution_time, settings)
        return dg.RunRequest(run_key=f"{day} {inputs}")

    return daily_import


def _import_is_due(settings: Settings) -> tuple[bool, str]:
    """Return whether exports await an import, and their digest or the error that the import raises."""
    try:
        inputs = awaiting_import(settings)
    except SourceError as error:
        # The run fails with the same error, so that the failure is recorded and sends an alert.
        return True, str(error)
    return inputs is not None, inputs or ""


def _looks(at: time, *, once_more: bool = False) -> Sequence[str]:
    """Return the cron schedules for all times from `at` through the deadline.

    Args:
        at: the time of the first look.
        once_more: whether to look once after the deadline, for an import that started at the deadline.
    """
    minutes_of: dict[int, list[int]] = {}
    looks = LATE_AFTER // timedelta(minutes=_MINUTES_BETWEEN_LOOKS) + 1 + once_more
    for minutes in range(0, looks * _MINUTES_BETWEEN_LOOKS, _MINUTES_BETWEEN_LOOKS):
        look = datetime.combine(date.min, at) + timedelta(minutes=minutes)
        minutes_of.setdefault(look.hour, []).append(look.minute)
    return [f"{','.join(map(str, minutes))} {hour} * * *" for hour, minutes in minutes_of.items()]


def _run_day(now: datetime, settings: Settings) -> date:
    """Return the day on which the daily run was due, which may be the day before a look."""
    local = now.astimezone(ZoneInfo(settings.timezone)).replace(tzinfo=None)
    at = settings.daily_run_at
    return (local - timedelta(hours=at.hour, minutes=at.minute)).date()


def source_changes_sensor(
    settings: Settings, assets: Sequence[TableAsset], first_partition: date
) -> dg.SensorDefinition:
    """Return the sensor that requests one run per source change, however old the affected days are.

    Args:
        settings: the configuration.
        assets: the silver and gold tables.
        first_partition: the first day in the definitions' calendar.
    """
    # A tick must not wait for a run.
    fixed = settings.model_copy(update={"start_date": first_partition, "lock_timeout_seconds": 0})

    @dg.sensor(
        name=CHANGES_SENSOR,
        job=whole_graph_job,
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Compares the source with the loaded data and requests one run per change. The run"
        " loads events for the changed days and recomputes all tables from the first affected day,"
        " however old. The sensor is off by default.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            plan = plan_changes(fixed, assets)
        except WarehouseLockedError:
            return dg.SkipReason(
                "A run is writing to the warehouse. The next tick will compare the source again."
            )
        except (SettingsError, SourceError, WarehouseError) as error:
            # Do not raise the error, since every tick would fail until the user fixes the cause.
            context.log.error(str(error))
            return dg.SkipReason(f"The source cannot be compared: {error}")
        for line in plan.description:
            context.log.info(line)
        if plan.days is None:
            return dg.SkipReason(UNCHANGED)
        return dg.RunRequest(run_key=plan.key, tags=dict(plan.tags))

    return look
