"""Process finished runs and send the resulting alerts.

The daemon's sensors and the command line call the same methods, possibly at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dagster import DagsterInstance, DagsterRun, RunsFilter

from monstera_assets.checks.rules import Rule
from monstera_assets.operations.alerts.errors import AlertStateError
from monstera_assets.operations.alerts.lateness import observation, observe
from monstera_assets.operations.alerts.message import Item, Message
from monstera_assets.operations.alerts.outcomes import FINISHED, Catalog, read_run
from monstera_assets.operations.alerts.state import CATCH_UP_DAYS, AlertState
from monstera_assets.operations.jobs import Due
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.settings.alert_urls import Entry, Route, parse_entries
from monstera_assets.warehouse.tables import Table

if TYPE_CHECKING:
    from monstera_assets.operations.alerts.sending import Service

Clock = Callable[[], float]


@dataclass(frozen=True)
class _Channel:
    entry: Entry
    service: Service

    @property
    def label(self) -> str:
        """The channel's name in logs, which must not contain the URL."""
        return f"alert URL {self.entry.position} ({self.service.name})"


class Alerts:
    """Process finished runs and send messages according to the settings."""

    def __init__(
        self,
        settings: Settings,
        tables: Iterable[Table],
        rules: Iterable[Rule],
        clock: Clock = time.time,
    ) -> None:
        """Parse the URLs without connecting. `clock` returns seconds since the Unix epoch.

        Raises:
            SettingsError: If a URL is invalid or its route contains an unknown owner.
        """
        self._settings = settings
        self._tables = list(tables)
        self._catalog = Catalog.of(self._tables, rules)
        self._clock = clock
        self._channels = [
            _Channel(entry, self._service(entry)) for entry in parse_entries(settings.alert_urls)
        ]

    @property
    def sends(self) -> bool:
        """Whether any channel is configured."""
        return bool(self._channels)

    def process_run(self, instance: DagsterInstance, run: DagsterRun) -> Message | None:
        """Queue the message for a finished run unless the run has already been processed.

        Returns:
            The message, or None if there is nothing to report.

        Raises:
            AlertStateError: If the alert file cannot be used.
        """
        if run.status not in FINISHED:
            return None
        state = self._state(instance)
        if state.processed([run.run_id]):
            return None
        return state.process(read_run(instance, run, self._catalog))

    def process_missed_runs(
        self, instance: DagsterInstance, ours: Callable[[DagsterRun], bool]
    ) -> list[Message]:
        """Process missed runs that finished recently and for which `ours` returns true.

        A run is missed if its process was killed or could not write to the alert file.

        Raises:
            AlertStateError: If the alert file cannot be used.
        """
        state = self._state(instance)
        after = max(state.since(), self._clock() - CATCH_UP_DAYS * 86_400)
        records = [
            record
            for record in instance.get_run_records(
                RunsFilter(
                    statuses=list(FINISHED), updated_after=datetime.fromtimestamp(after, UTC)
                )
            )
            if ours(record.dagster_run)
        ]
        processed = state.processed([record.dagster_run.run_id for record in records])
        messages = [
            self.process_run(instance, record.dagster_run)
            for record in sorted(records, key=lambda record: record.end_time or 0.0)
            if record.dagster_run.run_id not in processed
        ]
        return [message for message in messages if message is not None]

    def observe_lateness(self, instance: DagsterInstance, first_partition: date) -> Message | None:
        """Check whether the daily tables contain the due day.

        Returns:
            A message that says the day is late or no longer late, or None if nothing changed.

        Raises:
            AlertStateError: If the alert file cannot be used.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        due = Due.at(now, self._settings)
        state = self._state(instance)
        if state.processed([observation(due, is_late=False)]):
            return None
        observed = observe(instance, self._tables, due, first_partition, now)
        return state.process(observed) if observed else None

    def send(self, instance: DagsterInstance) -> list[str]:
        """Send each channel's queued messages in order.

        Returns:
            One line for each channel that refused a message. A refusal does not delay other channels.

        Raises:
            AlertStateError: If the alert file cannot be used.
        """
        if not self._channels:
            return []
        state = self._state(instance)
        # A URL that is configured with several routes receives all items that any route accepts.
        by_id: dict[str, list[_Channel]] = {}
        for channel in self._channels:
            by_id.setdefault(state.channel_id(channel.entry.url), []).append(channel)
        state.queue(list(by_id))
        errors = [self._send_to(state, name, channels) for name, channels in by_id.items()]
        return [error for error in errors if error is not None]

    def after_run(self, instance: DagsterInstance, run_id: str) -> list[str]:
        """Process a command-line run and any earlier missed runs, and send the messages.

        Returns:
            One line for each problem. Problems with alerts do not cause the run to fail.
        """
        try:
            self.process_missed_runs(instance, lambda run: run.remote_job_origin is None)
            run = instance.get_run_by_id(run_id)
            if run is not None:
                self.process_run(instance, run)
            return self.send(instance)
        except AlertStateError as error:
            return [str(error)]

    def text_of(self, message: Message) -> str:
        """Return the text to log for a message when no channel is configured."""
        return f"{message.subject()}\n\n{message.body(self._settings.ui_url)}"

    def _send_to(self, state: AlertState, name: str, channels: Sequence[_Channel]) -> str | None:
        token = state.lease(name)
        if token is None:
            return None
        first, routes = channels[0], [channel.entry.route for channel in channels]
        try:
            while (waiting := state.next_message(name, token)) is not None:
                message_id, whole = waiting
                message = whole.only(lambda item: _accepts(routes, item))
                if message is not None and not first.service.send(message, self._settings.ui_url):
                    wait = state.not_sent(name)
                    return f"{first.label} refused a message. The next attempt is in {wait:g} s."
                state.sent(name, message_id)
        finally:
            state.release(name, token)
        return None

    def _service(self, entry: Entry) -> Service:
        # Import this lazily, since most runs have no channel.
        from monstera_assets.operations.alerts.sending import Service

        where = f"Invalid setting: alert_urls: entry {entry.position}"
        owners = {owner for of_table in self._catalog.owners.values() for owner in of_table}
        unknown = sorted(entry.route.owners - owners)
        if unknown:
            raise SettingsError(
                f"{where}: no table is owned by {', '.join(unknown)}. Choose from"
                f" {', '.join(sorted(owners))}."
            )
        try:
            return Service(entry.url)
        except ValueError as error:
            raise SettingsError(f"{where} {error}") from error

    def _state(self, instance: DagsterInstance) -> AlertState:
        return AlertState(Path(instance.root_directory), self._clock)


def _accepts(routes: Iterable[Route], item: Item) -> bool:
    return any(route.accepts(item.outcome.level, item.outcome.owners) for route in routes)
