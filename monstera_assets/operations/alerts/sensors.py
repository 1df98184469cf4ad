"""The daemon's alert sensors.

Two sensors process runs when they finish. The third sensor sends queued messages and processes
missed runs, and the fourth sensor checks for late days.

Dagster advances a run status sensor's cursor even when a tick fails. The third sensor therefore
looks for runs that were not processed, including command-line runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunFailureSensorContext,
    RunStatusSensorContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    run_failure_sensor,
    run_status_sensor,
    sensor,
)

from monstera_assets.operations.alerts.alerts import Alerts
from monstera_assets.operations.alerts.message import Message

OF_SUCCEEDED, OF_FAILED, OF_LATENESS, UNSENT = (
    "alerts_of_succeeded_runs",
    "alerts_of_failed_runs",
    "alerts_of_lateness",
    "alerts_unsent",
)
# Setting a URL is enough to get alerts. Without a URL, the sensors only write to their own logs.
_STATUS = DefaultSensorStatus.RUNNING
_LATENESS_INTERVAL_SECONDS = 300


def build_alert_sensors(alerts: Alerts, first_partition: date) -> list[SensorDefinition]:
    """Return the four alert sensors. `first_partition` is the first day that can be late."""

    @run_status_sensor(
        run_status=DagsterRunStatus.SUCCESS,
        name=OF_SUCCEEDED,
        description="Reports failing checks in successful runs, and recoveries.",
        default_status=_STATUS,
    )
    def of_succeeded(context: RunStatusSensorContext) -> None:
        _process_run(alerts, context)

    @run_failure_sensor(
        name=OF_FAILED,
        description="Reports why a run failed: a blocking check, a step, or the run itself.",
        default_status=_STATUS,
    )
    def of_failed(context: RunFailureSensorContext) -> None:
        _process_run(alerts, context)

    @sensor(
        name=UNSENT,
        description="Sends queued alerts in order and reports recent runs that no other process"
        " reported.",
        default_status=_STATUS,
    )
    def unsent(context: SensorEvaluationContext) -> SkipReason:
        missed = alerts.process_missed_runs(context.instance, lambda run: _is_ours(run, context))
        _notify(alerts, context.instance, context.log, missed)
        return SkipReason(f"Found {len(missed)} missed alerts. Nothing to run.")

    @sensor(
        name=OF_LATENESS,
        description="Reports a day that is still missing two hours after its daily run was due.",
        default_status=_STATUS,
        minimum_interval_seconds=_LATENESS_INTERVAL_SECONDS,
    )
    def of_lateness(context: SensorEvaluationContext) -> SkipReason:
        message = alerts.observe_lateness(context.instance, first_partition)
        _notify(alerts, context.instance, context.log, [message] if message else [])
        return SkipReason("Checked for late days. Nothing to run.")

    return [of_succeeded, of_failed, unsent, of_lateness]


def _process_run(alerts: Alerts, context: RunStatusSensorContext) -> None:
    message = alerts.process_run(context.instance, context.dagster_run)
    _notify(alerts, context.instance, context.log, [message] if message else [])


def _notify(
    alerts: Alerts, instance: DagsterInstance, log: logging.Logger, messages: Sequence[Message]
) -> None:
    if not alerts.sends:
        for message in messages:
            log.warning(alerts.text_of(message))
    for error in alerts.send(instance):
        log.warning(error)


def _is_ours(run: DagsterRun, context: SensorEvaluationContext) -> bool:
    """Return whether the run was started by the command line or the sensor's code location."""
    if run.remote_job_origin is None or context.code_location_origin is None:
        return run.remote_job_origin is None
    of_run = run.remote_job_origin.repository_origin.code_location_origin
    return of_run.location_name == context.code_location_origin.location_name
