"""Alerts of a configuration: taking in finished runs, and sending what waits.

The daemon's sensors and the command line call the same methods and may do so at the same time.
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
class _Sink:
    entry: Entry
    service: Service

    @property
    def label(self) -> str:
        """What it is called where its URL must not be."""
        return f"alert URL {self.entry.position} ({self.service.name})"


class Alerts:
    """Takes in finished runs and sends messages, by the settings."""

    def __init__(
        self,
        settings: Settings,
        tables: Iterable[Table],
        rules: Iterable[Rule],
        clock: Clock = time.time,
    ) -> None:
        """Look at the URLs without connecting to any.

        Args:
            settings: of which `alert_urls`, `ui_url` and `daily_run_at` are used.
            tables: the declared tables, which have owners.
            rules: the rules of tables, which have descriptions.
            clock: gives the seconds since 1970.

        Raises:
            SettingsError: a URL is of no use, or is for owners that there are not.
        """
        self._settings = settings
        self._tables = list(tables)
        self._catalog = Catalog.of(self._tables, rules)
        self._clock = clock
        self._sinks = [
            _Sink(entry, self._service(entry)) for entry in parse_entries(settings.alert_urls)
        ]

    @property
    def sends(self) -> bool:
        """Whether there is anywhere to send to."""
        return bool(self._sinks)

    def take(self, instance: DagsterInstance, run: DagsterRun) -> Message | None:
        """Take in a finished run, unless it was before; what is news waits to be sent.

        Returns:
            The run's message; None if there is nothing to tell.

        Raises:
            AlertStateError: the file of alerts cannot be used; nothing is lost.
        """
        if run.status not in FINISHED:
            return None
        state = self._state(instance)
        if state.taken([run.run_id]):
            return None
        return state.take(read_run(instance, run, self._catalog))

    def take_missed(
        self, instance: DagsterInstance, ours: Callable[[DagsterRun], bool]
    ) -> list[Message]:
        """Take in finished runs that nobody has: whose process was killed, or could not write.

        Args:
            instance: whose runs of the last days are looked through, the oldest first.
            ours: whether a run is to be taken in.

        Raises:
            AlertStateError: the file of alerts cannot be used; nothing is lost.
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
        taken = state.taken([record.dagster_run.run_id for record in records])
        messages = [
            self.take(instance, record.dagster_run)
            for record in sorted(records, key=lambda record: record.end_time or 0.0)
            if record.dagster_run.run_id not in taken
        ]
        return [message for message in messages if message is not None]

    def observe_lateness(self, instance: DagsterInstance, first_partition: date) -> Message | None:
        """Look whether the day that is due is there, unless it was seen to be.

        Args:
            instance: knows the materialized partitions.
            first_partition: the first day that there can be.

        Returns:
            The message that it is late, or no longer; None if there is no news.

        Raises:
            AlertStateError: the file of alerts cannot be used; nothing is lost.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        due = Due.at(now, self._settings)
        state = self._state(instance)
        if state.taken([observation(due, is_late=False)]):
            return None
        seen = observe(instance, self._tables, due, first_partition, now)
        return state.take(seen) if seen else None

    def send(self, instance: DagsterInstance) -> list[str]:
        """Send what waits, to each sink in order; a sink that fails does not keep up the others.

        Returns:
            A line for each sink that took nothing.

        Raises:
            AlertStateError: the file of alerts cannot be used; nothing is lost.
        """
        if not self._sinks:
            return []
        state = self._state(instance)
        # A URL may stand there several times, with several routes: it gets what one of them lets by.
        named: dict[str, list[_Sink]] = {}
        for sink in self._sinks:
            named.setdefault(state.sink_of(sink.entry.url), []).append(sink)
        state.queue(list(named))
        troubles = [self._send_to(state, name, sinks) for name, sinks in named.items()]
        return [trouble for trouble in troubles if trouble is not None]

    def after_run(self, instance: DagsterInstance, run_id: str) -> list[str]:
        """What the command line does after its run: take it in with those it missed, and send.

        Returns:
            A line for everything that went wrong, which is no reason to call the run a failure.
        """
        try:
            self.take_missed(instance, lambda run: run.remote_job_origin is None)
            run = instance.get_run_by_id(run_id)
            if run is not None:
                self.take(instance, run)
            return self.send(instance)
        except AlertStateError as error:
            return [str(error)]

    def text_of(self, message: Message) -> str:
        """A message as it is logged where there is nowhere to send it."""
        return f"{message.subject()}\n\n{message.body(self._settings.ui_url)}"

    def _send_to(self, state: AlertState, name: str, sinks: Sequence[_Sink]) -> str | None:
        token = state.lease(name)
        if token is None:
            return None
        sink, routes = sinks[0], [sink.entry.route for sink in sinks]
        try:
            while (waiting := state.next_message(name, token)) is not None:
                message_id, whole = waiting
                message = whole.only(lambda item: _accepts(routes, item))
                if message is not None and not sink.service.send(message, self._settings.ui_url):
                    wait = state.not_sent(name)
                    return f"{sink.label} took no message; it is kept and tried again in {wait:g} s"
                state.sent(name, message_id)
        finally:
            state.release(name, token)
        return None

    def _service(self, entry: Entry) -> Service:
        # Imported late: most runs have nowhere to send to.
        from monstera_assets.operations.alerts.sending import Service

        where = f"wrong setting: alert_urls: entry {entry.position}"
        owners = {owner for of_table in self._catalog.owners.values() for owner in of_table}
        unknown = sorted(entry.route.owners - owners)
        if unknown:
            raise SettingsError(
                f"{where}: no table is owned by {', '.join(unknown)}; owners are"
                f" {', '.join(sorted(owners))}"
            )
        try:
            return Service(entry.url)
        except ValueError as error:
            raise SettingsError(f"{where} {error}") from error

    def _state(self, instance: DagsterInstance) -> AlertState:
        return AlertState(Path(instance.root_directory), self._clock)


def _accepts(routes: Iterable[Route], item: Item) -> bool:
    return any(route.accepts(item.outcome.level, item.outcome.owners) for route in routes)
