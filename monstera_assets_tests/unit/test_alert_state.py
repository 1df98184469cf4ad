"""Test what the alert file reports and when, and the message queues of channels."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from monstera_assets.operations.alerts.errors import AlertStateError
from monstera_assets.operations.alerts.message import AlertEvent, Message
from monstera_assets.operations.alerts.outcomes import FinishedRun, Outcome
from monstera_assets.operations.alerts.state import FILE, AlertState

NOON = 1_750_000_000.0 - 1_750_000_000.0 % 86_400 + 43_200
"""Noon of a day in 2025, in seconds since 1970."""
DAY = 86_400.0


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Diary:
    """An alert file with its clock."""

    state: AlertState
    clock: Clock
    runs: int = 0

    def run(self, *, at: float, level: str = "P2", **failing: bool) -> dict[str, AlertEvent]:
        """Process a run that ends at `at`, and return what is reported, by subject."""
        self.runs += 1
        self.clock.now = max(self.clock.now, at)
        message = self.state.process(
            FinishedRun(
                f"run{self.runs}",
                "job",
                f"days{self.runs}",
                at,
                tuple(
                    Outcome(subject, subject, failing=fails, at=at, level=level)
                    for subject, fails in failing.items()
                ),
            )
        )
        return reported(message)


def reported(message: Message | None) -> dict[str, AlertEvent]:
    return {item.outcome.subject: item.news for item in message.items} if message else {}


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    clock = Clock()
    return Diary(AlertState(tmp_path, clock), clock)


def test_new_silent_recovered_and_new_again(diary: Diary) -> None:
    assert diary.run(at=NOON, a=True, b=False) == {"a": AlertEvent.NEW}
    assert diary.run(at=NOON + DAY, a=True, b=False) == {}
    assert diary.run(at=NOON + 2 * DAY, a=False, b=True) == {
        "a": AlertEvent.RECOVERED,
        "b": AlertEvent.NEW,
    }
    assert diary.run(at=NOON + 3 * DAY, a=False, b=True) == {}
    assert diary.run(at=NOON + 4 * DAY, a=True, b=True) == {"a": AlertEvent.NEW}


def test_a_reminder_comes_every_seventh_day_a_minute_early_or_late(diary: Diary) -> None:
    days = {
        day: diary.run(at=NOON + day * DAY + (-60 if day % 2 else 60), a=True) for day in range(22)
    }
    assert {day: news["a"] for day, news in days.items() if news} == {
        0: AlertEvent.NEW,
        7: AlertEvent.REMINDER,
        14: AlertEvent.REMINDER,
        21: AlertEvent.REMINDER,
    }


def test_since_is_the_first_of_the_consecutive_failures(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.run(at=NOON + DAY, a=False)
    diary.run(at=NOON + 2 * DAY, a=True)
    diary.run(at=NOON + 3 * DAY, a=True)
    message = diary.state.process(
        FinishedRun(
            "last", "job", "", NOON + 4 * DAY, (Outcome("a", "a", False, NOON + 4 * DAY, "P2"),)
        )
    )
    assert message is not None
    [item] = message.items
    assert (item.since, item.since_days, item.since_run) == (NOON + 2 * DAY, "days3", "run3")


def test_a_more_urgent_failure_is_reported_and_a_less_urgent_one_is_not(diary: Diary) -> None:
    assert diary.run(at=NOON, level="P2", a=True) == {"a": AlertEvent.NEW}
    assert diary.run(at=NOON + 1, level="P3", a=True) == {}
    assert diary.run(at=NOON + 2, level="P2", a=True) == {}
    assert diary.run(at=NOON + 3, level="P1", a=True) == {"a": AlertEvent.NEW}
    assert diary.run(at=NOON + 4, level="P1", a=True) == {}


def test_an_older_run_that_is_processed_later_changes_nothing(diary: Diary) -> None:
    assert diary.run(at=NOON + 10, a=False, b=True) == {"b": AlertEvent.NEW}
    assert diary.run(at=NOON, a=True, b=False) == {}
    assert diary.run(at=NOON + 20, a=False, b=True) == {}


def test_a_run_leaves_subjects_without_outcome_unchanged(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    assert diary.run(at=NOON + 1, b=False) == {}
    assert diary.run(at=NOON + 2, a=False) == {"a": AlertEvent.RECOVERED}


def test_a_run_is_processed_once(diary: Diary) -> None:
    run = FinishedRun("r", "job", "", NOON, (Outcome("a", "a", True, NOON, "P0"),))
    assert reported(diary.state.process(run)) == {"a": AlertEvent.NEW}
    assert diary.state.process(run) is None
    assert diary.state.processed(["r", "other"]) == {"r"}


def test_a_lease_ends_when_it_is_released_or_expires(diary: Diary) -> None:
    state = diary.state
    state.queue(["s"])
    assert state.lease("s") is None  # the queue is empty
    diary.run(at=NOON, a=True)
    state.queue(["s"])
    token = state.lease("s")
    assert token is not None
    assert state.lease("s") is None
    assert state.next_message("s", "another") is None
    state.release("s", "another")
    assert state.lease("s") is None
    state.release("s", token)
    killed = state.lease("s")
    assert killed is not None
    diary.clock.now += 299
    assert state.lease("s") is None
    diary.clock.now += 1
    mine = state.lease("s")
    assert mine is not None
    assert state.next_message("s", killed) is None
    waiting = state.next_message("s", mine)
    assert waiting is not None
    state.sent("s", waiting[0])
    assert state.next_message("s", mine) is None


def test_the_retry_interval_of_a_refusing_channel_grows(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.state.queue(["s"])
    assert [diary.state.not_sent("s") for _ in range(8)] == [
        60, 120, 240, 480, 960, 1920, 3600, 3600,
    ]  # fmt: skip
    assert diary.state.lease("s") is None
    diary.clock.now += 3600
    token = diary.state.lease("s")
    assert token is not None
    waiting = diary.state.next_message("s", token)
    assert waiting is not None
    diary.state.sent("s", waiting[0])
    assert diary.state.not_sent("s") == 60


def test_a_new_channel_gets_the_undelivered_messages_of_the_last_week(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.run(at=NOON + 3 * DAY, b=True)
    diary.run(at=NOON + 8 * DAY, c=True)
    assert waiting_for(diary, "new") == ["b", "c"]


def waiting_for(diary: Diary, channel: str) -> list[str]:
    diary.state.queue([channel])
    subjects: list[str] = []
    token = diary.state.lease(channel) or ""
    while waiting := diary.state.next_message(channel, token):
        subjects.extend(reported(waiting[1]))
        diary.state.sent(channel, waiting[0])
    diary.state.release(channel, token)
    return subjects


def test_messages_and_runs_are_deleted_after_a_month_and_failures_are_not(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.state.queue(["s"])
    diary.run(at=NOON + 31 * DAY, b=True)
    assert diary.state.processed(["run1", "run2"]) == {"run2"}
    assert waiting_for(diary, "s") == ["b"]
    assert diary.run(at=NOON + 31 * DAY + 1, a=False) == {"a": AlertEvent.RECOVERED}


def test_a_channel_id_differs_between_files(tmp_path: Path) -> None:
    url = SecretStr("slack://hunter2")
    names = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        names.append(AlertState(folder, Clock()).channel_id(url))
        assert AlertState(folder, Clock()).channel_id(url) == names[-1]
        assert AlertState(folder, Clock()).channel_id(SecretStr("slack://hunter3")) != names[-1]
    assert names[0] != names[1]


def test_a_file_of_another_version_is_an_error(diary: Diary, tmp_path: Path) -> None:
    diary.run(at=NOON, a=True)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(AlertStateError, match="has format version 7"):
        diary.run(at=NOON + 1, a=False)


def test_a_full_disk_leaves_the_run_unprocessed(
    tmp_path: Path, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    diary.run(at=NOON, a=False)
    before = (tmp_path / FILE).read_bytes()
    opened = sqlite3.connect

    def small(*arguments: object, **keywords: object) -> sqlite3.Connection:
        connection = opened(*arguments, **keywords)  # type: ignore[call-overload]
        connection.execute(f"PRAGMA max_page_count = {len(before) // 4096}")
        assert isinstance(connection, sqlite3.Connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    many: dict[str, Any] = {f"subject {number} {'x' * 100}": True for number in range(500)}
    with pytest.raises(AlertStateError, match="database or disk is full"):
        diary.run(at=NOON + 1, **many)
    monkeypatch.undo()
    assert diary.state.processed(["run2"]) == set()
    diary.runs = 1
    assert len(diary.run(at=NOON + 1, **many)) == 500
