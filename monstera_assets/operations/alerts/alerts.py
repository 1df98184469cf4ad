"""Report what is new in finished runs, and late tables, to each alert URL.

Per URL, Dagster's storage keeps the last run that was reported. If a process is killed while it sends
a message, the message is sent again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from monstera_assets.operations.alerts.history import REMIND_AFTER_DAYS, History, Run
from monstera_assets.operations.alerts.message import AlertEvent, Item, Message, moment
from monstera_assets.operations.jobs import Due
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.settings.alert_urls import Entry, parse_entries
from monstera_assets.warehouse.tables import Table

if TYPE_CHECKING:
    from monstera_assets.operations.alerts.sending import Service

CATCH_UP_DAYS = 7
"""Maximum age, in days, of the runs that are reported."""

_DAY_SECONDS = 86_400.0
_DAEMON_SECONDS = 120.0  # a running daemon sends a heartbeat every 30 seconds


@dataclass(frozen=True)
class _Channel:
    """A URL and its entries. Without a URL, messages are logged."""

    entries: Sequence[Entry] = ()
    service: Service | None = None

    @property
    def state(self) -> str:
        return f"monstera_alerts/{self.entries[0].position if self.entries else 'log'}"

    def accepts(self, item: Item) -> bool:
        routes = [entry.route for entry in self.entries]
        return not routes or any(route.accepts(item.level, item.owners) for route in routes)


class Alerts:
    """Report runs and late tables according to the settings."""

    def __init__(
        self,
        settings: Settings,
        tables: Iterable[Table],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Parse the URLs without connecting. `clock` returns seconds since the Unix epoch.

        Raises:
            SettingsError: If a URL is invalid or its route contains an unknown owner.
        """
        self._settings, self._tables, self._clock = settings, list(tables), clock
        self._owners = tuple(sorted({owner for table in self._tables for owner in table.owners}))
        by_url: dict[str, list[Entry]] = {}
        for entry in parse_entries(settings.alert_urls):
            by_url.setdefault(entry.url.get_secret_value(), []).append(entry)
        self._channels = [
            _Channel(entries, [self._service(entry) for entry in entries].pop())
            for entries in by_url.values()
        ]

    def after_run(self, instance: DagsterInstance) -> list[str]:
        """Report runs, unless a daemon is running, and return a line for each URL that refused."""
        heartbeat = instance.get_daemon_heartbeats().get("SENSOR")
        if heartbeat and self._clock() - heartbeat.timestamp < _DAEMON_SECONDS:
            return []
        return self.report(instance) if self._channels else []

    def report(
        self, instance: DagsterInstance, ours: Callable[[DagsterRun], bool] | None = None
    ) -> list[str]:
        """Send each URL one message with all that is new.

        Without a daemon, `ours` is None: all runs are reported, and late tables are unknown.

        Returns:
            One line for each URL that refused a message, or the message without URLs. The next call
            tries again.
        """
        lines = []
        history, now = History(instance, self._tables), self._clock()
        for channel in self._channels or [_Channel()]:
            stored = instance.run_storage.get_cursor_values({channel.state}).get(channel.state)
            state = json.loads(stored or "{}")
            oldest = (now - CATCH_UP_DAYS * _DAY_SECONDS, "")
            after = max(tuple(state.get("after") or oldest), oldest)
            runs = [one for one in history.runs if one.key > after and (not ours or ours(one.run))]
            items = {item.subject: item for run in runs for item in history.news(run)}
            # A URL that has received no message before receives no recoveries.
            shown = [item for item in items.values() if stored or item.failing]
            links = [self._link(run) for run in runs if history.news(run)]
            late, news = state.get("late"), None
            if ours:
                late, news = self._late(history, late, now)
            if news and channel.accepts(news):
                shown, links = [*shown, news], [*links, self._link(None)]
            elif news:
                late = state.get("late")
            message = Message.of(filter(channel.accepts, shown), links)
            if message.items and channel.service is None:
                lines.append(self.text_of(message))
            elif message.items and channel.service and not channel.service.send(message):
                label = f"alert URL {channel.entries[0].position} ({channel.service.name})"
                lines.append(f"{label} refused a message. The next look tries again.")
                continue
            text = json.dumps({"after": runs[-1].key if runs else state.get("after"), "late": late})
            if text != stored:
                instance.run_storage.set_cursor_values({channel.state: text})
        return lines

    def text_of(self, message: Message) -> str:
        """Return the text to log for a message when no URL is set."""
        return f"{message.subject()}\n\n{message.body()}"

    def _link(self, run: Run | None) -> str:
        """Return one line with a run's page, or with the page of all tables."""
        ui_url = self._settings.ui_url.rstrip("/")
        if run is None:
            return f"Tables: <{ui_url}/assets>"
        return f"Run of {run.text}, ended {moment(run.ended_at)}: <{ui_url}/runs/{run.run_id}>"

    def _late(
        self, history: History, reported: Sequence[float] | None, now: float
    ) -> tuple[Sequence[float] | None, Item | None]:
        """Return since when tables are late and when that was reported, and what to report now."""
        found = history.late(Due.at(datetime.fromtimestamp(now, UTC), self._settings), now)
        if found is None:
            return reported, None
        since, item = found
        if reported:
            item = replace(item, since=moment(reported[0]))
        if not since:
            return None, item.recovered() if reported else None
        if not reported:
            return (since, now), item
        if now - reported[1] < REMIND_AFTER_DAYS * _DAY_SECONDS:
            return reported, None
        return (reported[0], now), replace(item, news=AlertEvent.REMINDER)

    def _service(self, entry: Entry) -> Service:
        # Import this lazily, since most runs have no channel.
        from monstera_assets.operations.alerts.sending import Service

        where = f"Invalid setting: alert_urls: entry {entry.position}"
        if unknown := sorted(entry.route.owners.difference(self._owners)):
            raise SettingsError(
                f"{where}: no table is owned by {', '.join(unknown)}. Choose from"
                f" {', '.join(self._owners)}."
            )
        try:
            return Service(entry.url)
        except ValueError as error:
            raise SettingsError(f"{where} {error}") from error


def build_alert_sensor(alerts: Alerts) -> SensorDefinition:
    """Return the sensor that reports finished runs and late tables, and retries unsent messages."""

    @sensor(
        name="alerts",
        description="Reports failing checks, failed runs, late tables and recoveries. Without an alert"
        " URL, the sensor writes to its own log.",
        # Setting a URL is enough to get alerts.
        default_status=DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
    )
    def look(context: SensorEvaluationContext) -> SkipReason:
        for line in alerts.report(context.instance, lambda run: _is_ours(run, context)):
            context.log.warning(line)
        return SkipReason("Reported what is new. Nothing to run.")

    return look


def _is_ours(run: DagsterRun, context: SensorEvaluationContext) -> bool:
    """Return whether the run was started by the command line or the sensor's code location."""
    if run.remote_job_origin is None or context.code_location_origin is None:
        return run.remote_job_origin is None
    of_run = run.remote_job_origin.repository_origin.code_location_origin
    return of_run.location_name == context.code_location_origin.location_name
