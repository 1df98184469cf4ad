"""What is told, when it is told again, what waits for whom: the file of alerts by itself."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from monstera_assets.operations.alerts.errors import AlertStateError
from monstera_assets.operations.alerts.message import Message, News
from monstera_assets.operations.alerts.outcomes import FinishedRun, Outcome
from monstera_assets.operations.alerts.state import FILE, AlertState

NOON = 1_750_000_000.0 - 1_750_000_000.0 % 86_400 + 43_200
"""Noon of a day in 2025, in seconds."""
DAY = 86_400.0


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Diary:
    """A file of alerts, with its clock."""

    state: AlertState
    clock: Clock
    runs: int = 0

    def run(self, *, at: float, level: str = "P2", **failing: bool) -> dict[str, News]:
        """Take in a run that ends at a time with outcomes by subject; what was told."""
        self.runs += 1
        self.clock.now = max(self.clock.now, at)
        message = self.state.take(
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
        return told(message)


def told(message: Message | None) -> dict[str, News]:
    return {item.outcome.subject: item.news for item in message.items} if message else {}


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    clock = Clock()
    return Diary(AlertState(tmp_path, clock), clock)


def test_new_silent_recovered_and_new_again(diary: Diary) -> None:
    assert diary.run(at=NOON, a=True, b=False) == {"a": News.NEW}
    assert diary.run(at=NOON + DAY, a=True, b=False) == {}
    assert diary.run(at=NOON + 2 * DAY, a=False, b=True) == {"a": News.RECOVERED, "b": News.NEW}
    assert diary.run(at=NOON + 3 * DAY, a=False, b=True) == {}
    assert diary.run(at=NOON + 4 * DAY, a=True, b=True) == {"a": News.NEW}


def test_a_reminder_comes_every_seventh_day_a_minute_early_or_late(diary: Diary) -> None:
    days = {
        day: diary.run(at=NOON + day * DAY + (-60 if day % 2 else 60), a=True) for day in range(22)
    }
    assert {day: news["a"] for day, news in days.items() if news} == {
        0: News.NEW,
        7: News.REMINDER,
        14: News.REMINDER,
        21: News.REMINDER,
    }


def test_since_is_the_first_failure_of_the_present_ones(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.run(at=NOON + DAY, a=False)
    diary.run(at=NOON + 2 * DAY, a=True)
    diary.run(at=NOON + 3 * DAY, a=True)
    message = diary.state.take(
        FinishedRun(
            "last", "job", "", NOON + 4 * DAY, (Outcome("a", "a", False, NOON + 4 * DAY, "P2"),)
        )
    )
    assert message is not None
    [item] = message.items
    assert (item.since, item.since_days, item.since_run) == (NOON + 2 * DAY, "days3", "run3")


def test_what_becomes_more_urgent_is_new_and_less_urgent_is_not(diary: Diary) -> None:
    assert diary.run(at=NOON, level="P2", a=True) == {"a": News.NEW}
    assert diary.run(at=NOON + 1, level="P3", a=True) == {}
    assert diary.run(at=NOON + 2, level="P2", a=True) == {}
    assert diary.run(at=NOON + 3, level="P1", a=True) == {"a": News.NEW}
    assert diary.run(at=NOON + 4, level="P1", a=True) == {}


def test_an_older_run_that_is_taken_in_later_changes_nothing(diary: Diary) -> None:
    assert diary.run(at=NOON + 10, a=False, b=True) == {"b": News.NEW}
    assert diary.run(at=NOON, a=True, b=False) == {}
    assert diary.run(at=NOON + 20, a=False, b=True) == {}


def test_what_a_run_does_not_look_at_stays_as_it_is(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    assert diary.run(at=NOON + 1, b=False) == {}
    assert diary.run(at=NOON + 2, a=False) == {"a": News.RECOVERED}


def test_a_run_is_taken_in_once(diary: Diary) -> None:
    run = FinishedRun("r", "job", "", NOON, (Outcome("a", "a", True, NOON, "P0"),))
    assert told(diary.state.take(run)) == {"a": News.NEW}
    assert diary.state.take(run) is None
    assert diary.state.taken(["r", "other"]) == {"r"}


def test_a_sink_is_one_process_s_until_it_gives_it_back_or_dies(diary: Diary) -> None:
    state = diary.state
    state.queue(["s"])
    assert state.lease("s") is None  # nothing waits
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


def test_a_sink_that_takes_nothing_is_tried_less_and_less_often(diary: Diary) -> None:
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


def test_a_new_sink_gets_the_last_week_of_what_nobody_got(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.run(at=NOON + 3 * DAY, b=True)
    diary.run(at=NOON + 8 * DAY, c=True)
    assert waiting_for(diary, "new") == ["b", "c"]


def waiting_for(diary: Diary, sink: str) -> list[str]:
    """Send a sink all that waits for it; the subjects."""
    diary.state.queue([sink])
    subjects: list[str] = []
    token = diary.state.lease(sink) or ""
    while waiting := diary.state.next_message(sink, token):
        subjects.extend(told(waiting[1]))
        diary.state.sent(sink, waiting[0])
    diary.state.release(sink, token)
    return subjects


def test_messages_and_runs_are_forgotten_after_a_month_and_failures_are_not(diary: Diary) -> None:
    diary.run(at=NOON, a=True)
    diary.state.queue(["s"])
    diary.run(at=NOON + 31 * DAY, b=True)
    assert diary.state.taken(["run1", "run2"]) == {"run2"}
    assert waiting_for(diary, "s") == ["b"]
    assert diary.run(at=NOON + 31 * DAY + 1, a=False) == {"a": News.RECOVERED}


def test_a_sink_s_name_is_the_file_s_own(tmp_path: Path) -> None:
    url = SecretStr("slack://hunter2")
    names = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        names.append(AlertState(folder, Clock()).sink_of(url))
        assert AlertState(folder, Clock()).sink_of(url) == names[-1]
        assert AlertState(folder, Clock()).sink_of(SecretStr("slack://hunter3")) != names[-1]
    assert names[0] != names[1]


def test_a_file_of_another_version_is_left_alone(diary: Diary, tmp_path: Path) -> None:
    diary.run(at=NOON, a=True)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(AlertStateError, match="written by another version \\(7\\)"):
        diary.run(at=NOON + 1, a=False)


def test_a_full_disk_leaves_the_run_to_be_taken_in(
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
    assert diary.state.taken(["run2"]) == set()
    diary.runs = 1
    assert len(diary.run(at=NOON + 1, **many)) == 500
