"""The daemon's sensors.

Two take in runs as they end, one sends what waits and finds what was missed, one looks whether the
day that is due is there.

The sensors of runs keep their place by Dagster's own cursor, which moves on even when a tick fails;
the third one therefore looks for runs that nobody took in, those of the command line included.
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
# Who has set a URL expects alerts, not a switch in the UI; without one the sensors only write to
# their own log.
_STATUS = DefaultSensorStatus.RUNNING


_LATENESS_INTERVAL_SECONDS = 300


def build_alert_sensors(alerts: Alerts, first_partition: date) -> list[SensorDefinition]:
    """The four sensors of a configuration, whose daily tables begin with a first partition."""

    @run_status_sensor(
        run_status=DagsterRunStatus.SUCCESS,
        name=OF_SUCCEEDED,
        description="Tells of checks that fail in runs that succeed, and of what has recovered.",
        default_status=_STATUS,
    )
    def of_succeeded(context: RunStatusSensorContext) -> None:
        _take(alerts, context)

    @run_failure_sensor(
        name=OF_FAILED,
        description="Tells why a run failed: a check that blocks, a step, or the run itself.",
        default_status=_STATUS,
    )
    def of_failed(context: RunFailureSensorContext) -> None:
        _take(alerts, context)

    @sensor(
        name=UNSENT,
        description="Sends alerts that a service did not take, in order, and takes in runs of the"
        " last days whose alerts nobody made.",
        default_status=_STATUS,
    )
    def unsent(context: SensorEvaluationContext) -> SkipReason:
        missed = alerts.take_missed(context.instance, lambda run: _is_ours(run, context))
        _tell(alerts, context.instance, context.log, missed)
        return SkipReason(f"{len(missed)} missed alerts found; nothing to run.")

    @sensor(
        name=OF_LATENESS,
        description="Tells of a day that is not there two hours after its daily run was to begin.",
        default_status=_STATUS,
        minimum_interval_seconds=_LATENESS_INTERVAL_SECONDS,
    )
    def of_lateness(context: SensorEvaluationContext) -> SkipReason:
        message = alerts.observe_lateness(context.instance, first_partition)
        _tell(alerts, context.instance, context.log, [message] if message else [])
        return SkipReason("The day that is due was looked for; nothing to run.")

    return [of_succeeded, of_failed, unsent, of_lateness]


def _take(alerts: Alerts, context: RunStatusSensorContext) -> None:
    message = alerts.take(context.instance, context.dagster_run)
    _tell(alerts, context.instance, context.log, [message] if message else [])


def _tell(
    alerts: Alerts, instance: DagsterInstance, log: logging.Logger, made: Sequence[Message]
) -> None:
    if not alerts.sends:
        for message in made:
            log.warning(alerts.text_of(message))
    for trouble in alerts.send(instance):
        log.warning(trouble)


def _is_ours(run: DagsterRun, context: SensorEvaluationContext) -> bool:
    """Whether a run is of the command line, or of the code location of the sensor."""
    if run.remote_job_origin is None or context.code_location_origin is None:
        return run.remote_job_origin is None
    of_run = run.remote_job_origin.repository_origin.code_location_origin
    return of_run.location_name == context.code_location_origin.location_name
