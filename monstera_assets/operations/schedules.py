"""The daily run: yesterday's partition and all that follows from it, and what was missed before.

The schedule asks Dagster which days every daily table has. What is missing up to yesterday is one run
over a range, in which each table's days are computed in order; after an outage that is all the missed
days, on an ordinary morning it is yesterday.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from monstera_assets.operations.jobs import DAILY, LATE_AFTER, deadline
from monstera_assets.operations.runs import range_tags
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import RANGE_END_TAG, DateWindow

TRANSIENT_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""For steps: a file that is just being replaced, a database that another process holds for long."""

daily_job = dg.define_asset_job(
    DAILY,
    selection=dg.AssetSelection.all(),
    op_retry_policy=TRANSIENT_RETRIES,
    tags={"dagster/max_retries": "2", "dagster/retry_strategy": "FROM_FAILURE"},
    description="Every table and every check for yesterday, and for days that were missed.",
)
gold_job = dg.define_asset_job(
    "gold_only",
    selection=dg.AssetSelection.groups("gold", "dashboards"),
    description="The metrics, their checks and the dashboards, from bronze and silver as they are.",
)

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def freshness(settings: Settings) -> dg.FreshnessPolicy:
    """Every table is made anew between the daily run's time and two hours after it."""
    late = deadline(settings)
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{late.minute} {late.hour} * * *", lower_bound_delta=LATE_AFTER
    )


def daily_schedule(
    settings: Settings, first_partition: date, daily_tables: Sequence[dg.AssetKey]
) -> dg.ScheduleDefinition:
    """The schedule of the daily run, at `daily_run_at` (UTC), for all tables with daily partitions."""
    at = settings.daily_run_at

    @dg.schedule(
        name="daily_run",
        job=daily_job,
        cron_schedule=f"{at.minute} {at.hour} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Yesterday and the days missed before, every day at {at:%H:%M} UTC.",
    )
    def daily_run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        yesterday = context.scheduled_execution_time.date() - timedelta(days=1)
        if yesterday < first_partition:
            return dg.SkipReason(f"the first partition, {first_partition}, is not over yet")
        calendar = DateWindow(first_partition, yesterday)
        missing = missing_days(context.instance, daily_tables, calendar)
        if missing is None:
            return dg.SkipReason(f"every daily table has all days up to {yesterday}")
        if context.instance.get_runs(
            dg.RunsFilter(statuses=_UNFINISHED, tags={RANGE_END_TAG: str(missing.last)}), limit=1
        ):
            return dg.SkipReason(f"a run up to {missing.last} is under way")
        return dg.RunRequest(run_key=f"{missing.first}..{missing.last}", tags=range_tags(missing))

    return daily_run


def missing_days(
    instance: dg.DagsterInstance, tables: Sequence[dg.AssetKey], calendar: DateWindow
) -> DateWindow | None:
    """From the first day of a calendar that some table lacks to the calendar's last; None if none.

    Later days are computed again, as what a table says of a day can depend on the days before it.
    """
    materialized = [set(instance.get_materialized_partitions(table)) for table in tables]
    for day in calendar:
        if any(day.isoformat() not in days for days in materialized):
            return DateWindow(day, calendar.last)
    return None
