"""Store reported outcomes and unsent messages in a SQLite file in `DAGSTER_HOME`.

Each method runs in one transaction that acquires the write lock immediately. Concurrent processes
therefore take turns, and a killed process leaves no partial changes. The file identifies a channel
(an alert URL, called a sink in the tables) by a slow, salted hash. The file never contains the URL.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from monstera_assets.operations.alerts.errors import AlertStateError
from monstera_assets.operations.alerts.message import AlertEvent, Item, Message
from monstera_assets.operations.alerts.outcomes import FinishedRun, Outcome

FILE = "alerts.sqlite"

REMIND_AFTER_DAYS = 7
"""Calendar days between reminders. A run that starts a minute early still sends a reminder."""
CATCH_UP_DAYS = 7
"""Maximum age, in days, of undelivered messages for a new channel and of missed runs to process."""
KEEP_DAYS = 30
"""Days after which run ids and messages, sent or unsent, are deleted."""

_DAY_SECONDS = 86_400.0
_FIRST_RETRY_SECONDS = 60.0
_LAST_RETRY_SECONDS = 3600.0
_LEASE_SECONDS = 300.0
"""A lease expires after this time, which is longer than it takes to send a message."""
_BUSY_SECONDS = 30.0
_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (salt BLOB NOT NULL, since REAL NOT NULL);
CREATE TABLE runs (run_id TEXT PRIMARY KEY, taken_at REAL NOT NULL);
CREATE TABLE subjects (
    subject TEXT PRIMARY KEY, failing INTEGER NOT NULL, level TEXT NOT NULL, seen_at REAL NOT NULL,
    since REAL NOT NULL, since_days TEXT NOT NULL, since_run TEXT NOT NULL, told_at REAL NOT NULL
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, made_at REAL NOT NULL, content TEXT NOT NULL
);
CREATE TABLE sinks (
    sink TEXT PRIMARY KEY, queued_up_to INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0,
    retry_at REAL NOT NULL DEFAULT 0, lease TEXT, leased_until REAL NOT NULL DEFAULT 0
);
CREATE TABLE outbox (
    message_id INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, sink TEXT NOT NULL,
    sent_at REAL, PRIMARY KEY (message_id, sink)
);
"""


class AlertState:
    """A Dagster instance's alert file."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """Use the file in `folder`. `clock` returns the time in seconds since the Unix epoch."""
        self._path = folder / FILE
        self._clock = clock

    def since(self) -> float:
        """Return the file's creation time in seconds since the Unix epoch. Earlier runs are ignored."""
        with self._transaction() as connection:
            return float(connection.execute("SELECT since FROM meta").fetchone()[0])

    def processed(self, run_ids: Collection[str]) -> set[str]:
        """Return the ids of the runs that have already been processed."""
        with self._transaction() as connection:
            return {run_id for run_id in run_ids if _is_processed(connection, run_id)}

    def process(self, run: FinishedRun) -> Message | None:
        """Record a run's outcomes and queue a message with the outcomes to report.

        Returns:
            The message, or None if there is nothing to report or the run was already processed.

        Raises:
            AlertStateError: If the file cannot be used. The run remains unprocessed.
        """
        now = self._clock()
        with self._transaction() as connection:
            if _is_processed(connection, run.run_id):
                return None
            connection.execute("INSERT INTO runs VALUES (?, ?)", (run.run_id, now))
            items = [
                item
                for outcome in run.outcomes
                if (item := _record(connection, outcome, run, now)) is not None
            ]
            _delete_old(connection, now - KEEP_DAYS * _DAY_SECONDS)
            if not items:
                return None
            message = Message.of(run, items)
            connection.execute(
                "INSERT INTO messages (made_at, content) VALUES (?, ?)", (now, message.to_json())
            )
            return message

    def channel_id(self, url: SecretStr) -> str:
        """Return the hash that identifies a URL in the file."""
        with self._transaction() as connection:
            salt = connection.execute("SELECT salt FROM meta").fetchone()[0]
        # The hash is slow so that a weak password in a URL cannot be guessed from the file.
        return hashlib.scrypt(
            url.get_secret_value().encode(), salt=salt, n=2**14, r=8, p=1, dklen=16
        ).hex()

    def queue(self, channels: Collection[str]) -> None:
        """For each channel, queue the messages created since the last call.

        A new channel gets messages from the last `CATCH_UP_DAYS` days that reached no channel or
        are still queued for a removed channel, such as a URL that has since been corrected.
        """
        now = self._clock()
        known = ", ".join("?" for _ in channels)
        with self._transaction() as connection:
            latest = int(
                connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]
            )
            found = connection.execute("SELECT sink FROM sinks").fetchall()
            new = [channel for channel in channels if (channel,) not in found]
            undelivered = connection.execute(
                "SELECT id FROM messages WHERE made_at >= ? AND ("
                " NOT EXISTS (SELECT 1 FROM outbox WHERE message_id = id AND sent_at NOT NULL)"
                " OR EXISTS (SELECT 1 FROM outbox WHERE message_id = id AND sent_at IS NULL"
                f" AND sink NOT IN ({known})))",
                (now - CATCH_UP_DAYS * _DAY_SECONDS, *channels),
            ).fetchall()
            for channel in channels:
                if channel not in new:
                    connection.execute(
                        "INSERT INTO outbox (message_id, sink) SELECT id, sink FROM messages"
                        " JOIN sinks ON id > queued_up_to WHERE sink = ?",
                        (channel,),
                    )
                    connection.execute(
                        "UPDATE sinks SET queued_up_to = ? WHERE sink = ?", (latest, channel)
                    )
            for channel in new:
                connection.execute(
                    "INSERT INTO sinks (sink, queued_up_to) VALUES (?, ?)", (channel, latest)
                )
                connection.executemany(
                    "INSERT INTO outbox (message_id, sink) VALUES (?, ?)",
                    [(message_id, channel) for (message_id,) in undelivered],
                )

    def lease(self, channel: str) -> str | None:
        """Reserve a channel for this process if the channel has queued messages and can be tried now.

        Returns:
            A token for the other methods, or None if nothing is due or another process has the lease.
        """
        now, token = self._clock(), uuid.uuid4().hex
        with self._transaction() as connection:
            leased = connection.execute(
                "UPDATE sinks SET lease = ?, leased_until = ? WHERE sink = ? AND retry_at <= ?"
                " AND (lease IS NULL OR leased_until <= ?)"
                " AND EXISTS (SELECT 1 FROM outbox WHERE outbox.sink = sinks.sink"
                " AND sent_at IS NULL)",
                (token, now + _LEASE_SECONDS, channel, now, now),
            ).rowcount
        return token if leased else None

    def next_message(self, channel: str, token: str) -> tuple[int, Message] | None:
        """Return a channel's oldest queued message and extend the lease.

        Returns:
            The message and its id, or None if the queue is empty or another process has the lease.
        """
        with self._transaction() as connection:
            extended = connection.execute(
                "UPDATE sinks SET leased_until = ? WHERE sink = ? AND lease = ?",
                (self._clock() + _LEASE_SECONDS, channel, token),
            ).rowcount
            waiting = connection.execute(
                "SELECT id, content FROM messages JOIN outbox ON message_id = id"
                " WHERE sink = ? AND sent_at IS NULL ORDER BY id LIMIT 1",
                (channel,),
            ).fetchone()
        return (int(waiting[0]), Message.from_json(waiting[1])) if extended and waiting else None

    def sent(self, channel: str, message_id: int) -> None:
        """Record that a channel accepted a message, or that its routes accept none of the items."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox SET sent_at = ? WHERE message_id = ? AND sink = ?",
                (self._clock(), message_id, channel),
            )
            connection.execute(
                "UPDATE sinks SET failures = 0, retry_at = 0 WHERE sink = ?", (channel,)
            )

    def not_sent(self, channel: str) -> float:
        """Record that a channel refused a message.

        Returns:
            Seconds until the next attempt. The delay doubles after each failure, up to one hour.
        """
        with self._transaction() as connection:
            [count] = connection.execute(
                "SELECT failures FROM sinks WHERE sink = ?", (channel,)
            ).fetchone()
            failures = int(count)
            wait = min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16), _LAST_RETRY_SECONDS)
            connection.execute(
                "UPDATE sinks SET failures = failures + 1, retry_at = ? WHERE sink = ?",
                (self._clock() + wait, channel),
            )
        return wait

    def release(self, channel: str, token: str) -> None:
        """Release a channel's lease."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE sinks SET lease = NULL, leased_until = 0 WHERE sink = ? AND lease = ?",
                (channel, token),
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("BEGIN IMMEDIATE")
                self._ensure_tables(connection)
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise AlertStateError(
                f"The alert file {self._path} cannot be used: {error}. Check the file's permissions"
                " and the free disk space. If the file is damaged, move the file elsewhere. Monstera"
                " then creates a new file and reports all failures again."
            ) from error

    def _ensure_tables(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _VERSION:
            return
        if version:
            raise AlertStateError(
                f"The alert file {self._path} has format version {version}, but this version of"
                f" Monstera uses version {_VERSION}. Use the version of Monstera that wrote the file,"
                " or move the file elsewhere. Monstera then creates a new file and reports all"
                " failures again."
            )
        # `executescript` would commit the open transaction.
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (?, ?)", (os.urandom(16), self._clock()))
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _is_processed(connection: sqlite3.Connection, run_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return found is not None


def _record(
    connection: sqlite3.Connection, outcome: Outcome, run: FinishedRun, now: float
) -> Item | None:
    """Record the outcome of a check, step or run, and return an item if it must be reported."""
    known = connection.execute(
        "SELECT failing, level, seen_at, told_at, since, since_days, since_run FROM subjects"
        " WHERE subject = ?",
        (outcome.subject,),
    ).fetchone()
    failed, level, seen_at, reported_at, *first = known or (0, "", 0.0, 0.0)
    if known is not None and outcome.at <= seen_at:
        return None  # runs may not be processed in the order in which they finished
    if not failed:
        first = [outcome.at, run.days, run.run_id]
    news = None
    if not outcome.failing:
        news = AlertEvent.RECOVERED if failed else None
    elif not failed or outcome.level < level:
        news = AlertEvent.NEW
    elif _date(now).toordinal() - _date(reported_at).toordinal() >= REMIND_AFTER_DAYS:
        news = AlertEvent.REMINDER
    connection.execute(
        "INSERT OR REPLACE INTO subjects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            outcome.subject,
            outcome.failing,
            # Keep the reported level: a failure that becomes less urgent is not reported again.
            outcome.level if news or not failed else level,
            outcome.at,
            *first,
            now if news else reported_at,
        ),
    )
    return Item(news, outcome, *first) if news else None


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _delete_old(connection: sqlite3.Connection, before: float) -> None:
    connection.execute("DELETE FROM messages WHERE made_at < ?", (before,))
    connection.execute("DELETE FROM runs WHERE taken_at < ?", (before,))
