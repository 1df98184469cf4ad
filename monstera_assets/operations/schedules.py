"""The daily run, which computes yesterday and any earlier missing days.

The schedule reads each daily table's materialized days from Dagster and requests one run for all
days from the first missing day through yesterday.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from monstera_assets.operations.jobs import DAILY, LATE_AFTER, local_day
from monstera_assets.operations.runs import range_tags
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import RANGE_END_TAG, DateWindow

TRANSIENT_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""Retry failed steps, since a source file may be incomplete or the database may be locked."""

daily_job = dg.define_asset_job(
    DAILY,
    selection=dg.AssetSelection.all(),
    op_retry_policy=TRANSIENT_RETRIES,
    tags={"dagster/max_retries": "2", "dagster/retry_strategy": "FROM_FAILURE"},
    description="Computes all tables and runs all checks for yesterday and any earlier missing days.",
)
gold_job = dg.define_asset_job(
    "gold_only",
    selection=dg.AssetSelection.groups("gold", "dashboards"),
    description="Computes and checks metrics and builds dashboards, without recomputing other tables.",
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
    settings: Settings, first_partition: date, daily_tables: Sequence[dg.AssetKey]
) -> dg.ScheduleDefinition:
    """Return the schedule that starts the daily run at `daily_run_at`."""
    at, zone = settings.daily_run_at, settings.timezone

    @dg.schedule(
        name="daily_run",
        job=daily_job,
        cron_schedule=f"{at.minute} {at.hour} * * *",
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Computes yesterday and any earlier missing days, daily at {at:%H:%M} {zone}.",
    )
    def daily_run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        yesterday = local_day(context.scheduled_execution_time, settings) - timedelta(days=1)
        if yesterday < first_partition:
            return dg.SkipReason(f"The first partition, {first_partition}, has not ended.")
        calendar = DateWindow(first_partition, yesterday)
        missing = missing_days(context.instance, daily_tables, calendar)
        if missing is None:
            return dg.SkipReason(f"All daily tables are up to date through {yesterday}.")
        if context.instance.get_runs(
            dg.RunsFilter(statuses=_UNFINISHED, tags={RANGE_END_TAG: str(missing.last)}), limit=1
        ):
            return dg.SkipReason(f"A run through {missing.last} is already in progress.")
        return dg.RunRequest(run_key=f"{missing.first}..{missing.last}", tags=range_tags(missing))

    return daily_run


def missing_days(
    instance: dg.DagsterInstance, tables: Sequence[dg.AssetKey], calendar: DateWindow
) -> DateWindow | None:
    """Return all days from the first day that any table is missing, or None if no days are missing.

    The window extends to the end of the calendar, since later days can depend on earlier days.
    """
    materialized = [set(instance.get_materialized_partitions(table)) for table in tables]
    for day in calendar:
        if any(day.isoformat() not in days for days in materialized):
            return DateWindow(day, calendar.last)
    return None
