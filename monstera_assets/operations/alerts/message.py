"""The message for a run: a subject and a Markdown body that is readable as plain text.

Text from the data is placed in code spans and code blocks, where markup has no effect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import Any

from monstera_assets.operations.alerts.outcomes import OBSERVATION, FinishedRun, Outcome, moment
from monstera_assets.operations.alerts.text import code, grid, shorten

BODY_LIMIT = 8000
"""Maximum message length in characters. Services with a lower limit get shorter messages."""

_SUBJECT_LIMIT = 150
_STEPS_SHOWN = 5


class AlertEvent(StrEnum):
    """The reason for reporting an outcome."""

    NEW = "new"
    """The failure is new, or more urgent than when it was last reported."""
    REMINDER = "reminder"
    """The failure persists, and the last report is at least a week old."""
    RECOVERED = "recovered"
    """The check, step or run passes again after a failure."""


@dataclass(frozen=True)
class Item:
    """An outcome to report, the reason for reporting it, and the first failure's time, days and run."""

    news: AlertEvent
    outcome: Outcome
    since: float
    since_days: str = ""
    since_run: str = ""
    also: tuple[str, ...] = field(default=(), compare=False)
    """Titles of other steps that failed for the same reason."""

    @property
    def failing(self) -> bool:
        """Whether the outcome is a failure."""
        return self.news is not AlertEvent.RECOVERED


@dataclass(frozen=True)
class Message:
    """All items to report for a run."""

    run_id: str
    job: str
    days: str
    ended_at: float
    items: tuple[Item, ...]

    @classmethod
    def of(cls, run: FinishedRun, items: Iterable[Item]) -> Message:
        """Create the message for a run, with the most urgent items first and recoveries last."""
        ordered = sorted(
            items, key=lambda item: (not item.failing, item.outcome.level, item.outcome.title)
        )
        return cls(run.run_id, run.job, run.days, run.ended_at, tuple(ordered))

    def only(self, accepts: Callable[[Item], bool]) -> Message | None:
        """Return the message with only the accepted items, or None if no items are accepted."""
        items = tuple(item for item in self.items if accepts(item))
        return replace(self, items=items) if items else None

    @property
    def failing(self) -> tuple[Item, ...]:
        """The items whose outcome is a failure."""
        return tuple(item for item in self.items if item.failing)

    @property
    def worst_level(self) -> str:
        """The most urgent level among the failures, or among the recoveries if nothing failed."""
        return min(item.outcome.level for item in self.failing or self.items)

    def subject(self) -> str:
        """Return one line with the worst level and the affected checks, steps or runs."""
        shown = self.failing or self.items
        others = len(shown) - 1
        what = shown[0].outcome.title + (
            f" and {others} other{'' if others == 1 else 's'}" if others else ""
        )
        verb = ("fail" if others else "fails") if self.failing else "recovered"
        mark = self.worst_level if self.failing else f"{self.worst_level} recovered"
        return shorten(f"[{mark}] Monstera: {what} {verb}", _SUBJECT_LIMIT)

    def body(self, ui_url: str, limit: int = BODY_LIMIT) -> str:
        """Return the body in at most `limit` characters, including the number of omitted items."""
        what = f"Run of {code(self.job)}{self._for_days}, ended"
        if self.run_id.startswith(OBSERVATION):
            what = "Checked"
        end = f"{what} {moment(self.ended_at)}: <{_link(ui_url, self.run_id)}>"
        shown: list[str] = []
        left = limit - len(end) - 80  # space for the line that counts the omitted items
        blocks = [block for group in self._groups(ui_url) for block in group]
        for number, (block, short) in enumerate(blocks):
            text = block if len(block) + 2 <= left else short
            if len(text) + 2 > left:
                shown.append(
                    f"… and {len(blocks) - number:,} more. Open the run to see all results."
                )
                break
            shown.append(text)
            left -= len(text) + 2
        return "\n\n".join([*shown, end])

    @property
    def _for_days(self) -> str:
        return f" for {self.days}" if self.days else ""

    def _groups(self, ui_url: str) -> Iterable[list[tuple[str, str]]]:
        """Return the items at each level, then the recoveries, each in full and as one line."""
        for heading, group in groupby(
            _merged(self.items),
            key=lambda item: item.outcome.level if item.failing else "Recovered",
        ):
            blocks = [self._block(item, ui_url) for item in group]
            full, short = blocks[0]
            title = f"**{heading}**\n\n"
            yield [(title + full, title + short), *blocks[1:]]

    def _block(self, item: Item, ui_url: str) -> tuple[str, str]:
        outcome = item.outcome
        also = ", ".join(code(title) for title in item.also[:_STEPS_SHOWN])
        more = len(item.also) - _STEPS_SHOWN
        head = f"- {code(outcome.title)}" + (f", {also}" if also else "")
        head += f" and {more:,} more" if more > 0 else ""
        since = moment(item.since)
        if item.news is not AlertEvent.NEW:
            since += f" ({_first(ui_url, item)})"
        if not item.failing:
            line = f"{head} passes again{self._for_days} after first failing at {since}"
            return line, line
        has, fails = ("have", "fail") if item.also else ("has", "fails")
        is_reminder = item.news is AlertEvent.REMINDER
        verb = (
            f"still {fails} after first failing at" if is_reminder else f"{has} been failing since"
        )
        lines = [f"{head} {verb} {since}"]
        if outcome.owners:
            lines.append(f"  Owner: {', '.join(outcome.owners)}")
        if outcome.description:
            lines.append(f"  Expected: {outcome.description}")
        if outcome.figures and not (outcome.note and not outcome.examples):
            lines.append(f"  Violations: {outcome.figures}, expected 0")
        if outcome.note:
            lines.append(f"  Observed: {code(outcome.note)}")
        full = "\n".join(lines)
        if len(outcome.examples) > 1:
            full += "\n\n" + grid(outcome.examples)
        return full, lines[0]

    def to_json(self) -> str:
        """Serialize the message."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Message:
        """Read a message written by `to_json`."""
        given = json.loads(text)
        return cls(**{**given, "items": tuple(map(_item, given["items"]))})


def _item(given: dict[str, Any]) -> Item:
    outcome = given["outcome"]
    return Item(
        news=AlertEvent(given["news"]),
        outcome=Outcome(
            **{
                **outcome,
                "owners": tuple(outcome["owners"]),
                "examples": tuple(map(tuple, outcome["examples"])),
            }
        ),
        since=given["since"],
        since_days=given["since_days"],
        since_run=given["since_run"],
        also=tuple(given["also"]),
    )


def _merged(items: Sequence[Item]) -> list[Item]:
    """Merge steps that failed for the same reason, such as a locked database."""
    merged: dict[object, Item] = {}
    for item in items:
        outcome = item.outcome
        of_step = outcome.subject.startswith("step:") and item.failing
        reason = (item.news, outcome.note) if of_step else outcome.subject
        first = merged.get(reason)
        merged[reason] = (
            item if first is None else replace(first, also=(*first.also, outcome.title))
        )
    return list(merged.values())


def _first(ui_url: str, item: Item) -> str:
    """Return a link to the run with the first failure, and that run's days."""
    days = f"for {item.since_days}" if item.since_days else ""
    if item.since_run.startswith(OBSERVATION):
        return days
    run = f"[run {item.since_run[:8]}]({_link(ui_url, item.since_run)})"
    return f"{run}, {days}" if days else run


def _link(ui_url: str, run_id: str) -> str:
    page = "assets" if run_id.startswith(OBSERVATION) else f"runs/{run_id}"
    return f"{ui_url.rstrip('/')}/{page}"
