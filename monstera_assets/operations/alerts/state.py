"""What was told and what is still to be sent, in an SQLite file beside Dagster's state.

Every method is one transaction that takes the write lock at once, so processes that work on the same
file come one after the other, and one that is killed leaves nothing half done. A run is taken in
once, by whichever process comes first. Of a sink the file knows a slow, salted hash and never the
URL.
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
from monstera_assets.operations.alerts.message import Item, Message, News
from monstera_assets.operations.alerts.outcomes import FinishedRun, Outcome

FILE = "alerts.sqlite"

REMIND_AFTER_DAYS = 7
"""Days of silence, by the calendar: a daily run a minute early must not make it eight."""
CATCH_UP_DAYS = 7
"""How far back a sink that is new gets what reached nobody, and runs are looked for."""
KEEP_DAYS = 30
"""How long messages, sent or not, and the ids of runs are kept."""

_DAY_SECONDS = 86_400.0
_FIRST_RETRY_SECONDS = 60.0
_LAST_RETRY_SECONDS = 3600.0
_LEASE_SECONDS = 300.0
"""Longer than one message takes; a process killed while it sent gives the sink back after it."""
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
    """The file of alerts of a Dagster instance."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """Nothing is opened before it is used.

        Args:
            folder: where Dagster keeps its state.
            clock: gives the seconds since 1970.
        """
        self._path = folder / FILE
        self._clock = clock

    def since(self) -> float:
        """When the file was made: earlier runs are not looked for."""
        with self._transaction() as connection:
            return float(connection.execute("SELECT since FROM meta").fetchone()[0])

    def taken(self, run_ids: Collection[str]) -> set[str]:
        """Which of the runs were taken in."""
        with self._transaction() as connection:
            return {run_id for run_id in run_ids if _is_taken(connection, run_id)}

    def take(self, run: FinishedRun) -> Message | None:
        """Take a run in: what of it is news becomes the run's message, which waits to be sent.

        Returns:
            The message; None if there is no news, or the run was taken in before.

        Raises:
            AlertStateError: the file cannot be used; the run is then not taken in.
        """
        now = self._clock()
        with self._transaction() as connection:
            if _is_taken(connection, run.run_id):
                return None
            connection.execute("INSERT INTO runs VALUES (?, ?)", (run.run_id, now))
            items = [
                item
                for outcome in run.outcomes
                if (item := _take(connection, outcome, run, now)) is not None
            ]
            _forget(connection, now - KEEP_DAYS * _DAY_SECONDS)
            if not items:
                return None
            message = Message.of(run, items)
            connection.execute(
                "INSERT INTO messages (made_at, content) VALUES (?, ?)", (now, message.to_json())
            )
            return message

    def sink_of(self, url: SecretStr) -> str:
        """What the file calls a URL."""
        with self._transaction() as connection:
            salt = connection.execute("SELECT salt FROM meta").fetchone()[0]
        # A URL may hold a password that can be guessed: the file must not help with trying.
        return hashlib.scrypt(
            url.get_secret_value().encode(), salt=salt, n=2**14, r=8, p=1, dklen=16
        ).hex()

    def queue(self, sinks: Collection[str]) -> None:
        """Put what the sinks have not heard of in their queues.

        A sink that is new gets the messages of the last days that have reached nobody, or wait for a
        sink that is no longer there: those sent in vain to a URL that has been corrected since.
        """
        now = self._clock()
        known = ", ".join("?" for _ in sinks)
        with self._transaction() as connection:
            latest = int(
                connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]
            )
            new = [
                sink
                for sink in sinks
                if not connection.execute("SELECT 1 FROM sinks WHERE sink = ?", (sink,)).fetchone()
            ]
            unheard = connection.execute(
                "SELECT id FROM messages WHERE made_at >= ? AND ("
                " NOT EXISTS (SELECT 1 FROM outbox WHERE message_id = id AND sent_at NOT NULL)"
                " OR EXISTS (SELECT 1 FROM outbox WHERE message_id = id AND sent_at IS NULL"
                f" AND sink NOT IN ({known})))",
                (now - CATCH_UP_DAYS * _DAY_SECONDS, *sinks),
            ).fetchall()
            for sink in sinks:
                if sink not in new:
                    connection.execute(
                        "INSERT INTO outbox (message_id, sink) SELECT id, sink FROM messages"
                        " JOIN sinks ON id > queued_up_to WHERE sink = ?",
                        (sink,),
                    )
                    connection.execute(
                        "UPDATE sinks SET queued_up_to = ? WHERE sink = ?", (latest, sink)
                    )
            for sink in new:
                connection.execute(
                    "INSERT INTO sinks (sink, queued_up_to) VALUES (?, ?)", (sink, latest)
                )
                connection.executemany(
                    "INSERT INTO outbox (message_id, sink) VALUES (?, ?)",
                    [(message_id, sink) for (message_id,) in unheard],
                )

    def lease(self, sink: str) -> str | None:
        """Take a sink for this process, if something waits for it and it is due.

        Returns:
            A token for the other methods; None if there is nothing to do or another process has it.
        """
        now, token = self._clock(), uuid.uuid4().hex
        with self._transaction() as connection:
            taken = connection.execute(
                "UPDATE sinks SET lease = ?, leased_until = ? WHERE sink = ? AND retry_at <= ?"
                " AND (lease IS NULL OR leased_until <= ?)"
                " AND EXISTS (SELECT 1 FROM outbox WHERE outbox.sink = sinks.sink"
                " AND sent_at IS NULL)",
                (token, now + _LEASE_SECONDS, sink, now, now),
            ).rowcount
        return token if taken else None

    def next_message(self, sink: str, token: str) -> tuple[int, Message] | None:
        """The oldest message that waits for a sink, which is kept for a while longer.

        Returns:
            Its id and the message; None if there is none, or the sink was lost to another process.
        """
        with self._transaction() as connection:
            kept = connection.execute(
                "UPDATE sinks SET leased_until = ? WHERE sink = ? AND lease = ?",
                (self._clock() + _LEASE_SECONDS, sink, token),
            ).rowcount
            waiting = connection.execute(
                "SELECT id, content FROM messages JOIN outbox ON message_id = id"
                " WHERE sink = ? AND sent_at IS NULL ORDER BY id LIMIT 1",
                (sink,),
            ).fetchone()
        return (int(waiting[0]), Message.from_json(waiting[1])) if kept and waiting else None

    def sent(self, sink: str, message_id: int) -> None:
        """Note that a sink has a message, or is to have nothing of it."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox SET sent_at = ? WHERE message_id = ? AND sink = ?",
                (self._clock(), message_id, sink),
            )
            connection.execute(
                "UPDATE sinks SET failures = 0, retry_at = 0 WHERE sink = ?", (sink,)
            )

    def not_sent(self, sink: str) -> float:
        """Note that a sink took nothing.

        Returns:
            Seconds until it is tried again, twice as many after each failure up to an hour.
        """
        with self._transaction() as connection:
            failures = int(
                connection.execute("SELECT failures FROM sinks WHERE sink = ?", (sink,)).fetchone()[
                    0
                ]
            )
            wait = min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16), _LAST_RETRY_SECONDS)
            connection.execute(
                "UPDATE sinks SET failures = failures + 1, retry_at = ? WHERE sink = ?",
                (self._clock() + wait, sink),
            )
        return wait

    def release(self, sink: str, token: str) -> None:
        """Give a sink back."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE sinks SET lease = NULL, leased_until = 0 WHERE sink = ? AND lease = ?",
                (sink, token),
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
                f"{self._path}, which holds the alerts, cannot be used: {error}. Check its"
                " permissions and that the disk has room. If it is damaged, move it away: a new one"
                " is made, and what fails is told anew."
            ) from error

    def _ensure_tables(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _VERSION:
            return
        if version:
            raise AlertStateError(
                f"{self._path}, which holds the alerts, was written by another version ({version})"
                f" of this package than this one ({_VERSION}). Use that one, or move the file away:"
                " a new one is made, and what fails is told anew."
            )
        # Not executescript, which would commit what is before it.
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (?, ?)", (os.urandom(16), self._clock()))
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _is_taken(connection: sqlite3.Connection, run_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return found is not None


def _take(
    connection: sqlite3.Connection, outcome: Outcome, run: FinishedRun, now: float
) -> Item | None:
    """Note how a check, step or run ended; an item if that is news."""
    known = connection.execute(
        "SELECT failing, level, seen_at, told_at, since, since_days, since_run FROM subjects"
        " WHERE subject = ?",
        (outcome.subject,),
    ).fetchone()
    failed, level, seen_at, told_at, *first = known or (0, "", 0.0, 0.0)
    if known is not None and outcome.at <= seen_at:
        return None  # runs need not be taken in in the order in which they ended
    if not failed:
        first = [outcome.at, run.days, run.run_id]
    news = None
    if not outcome.failing:
        news = News.RECOVERED if failed else None
    elif not failed or outcome.level < level:
        news = News.NEW
    elif _date(now).toordinal() - _date(told_at).toordinal() >= REMIND_AFTER_DAYS:
        news = News.REMINDER
    connection.execute(
        "INSERT OR REPLACE INTO subjects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            outcome.subject,
            outcome.failing,
            # The level that was told: a failure that becomes less urgent is no news.
            outcome.level if news or not failed else level,
            outcome.at,
            *first,
            now if news else told_at,
        ),
    )
    return Item(news, outcome, *first) if news else None


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _forget(connection: sqlite3.Connection, before: float) -> None:
    connection.execute("DELETE FROM messages WHERE made_at < ?", (before,))
    connection.execute("DELETE FROM runs WHERE taken_at < ?", (before,))
