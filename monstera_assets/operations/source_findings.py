"""Data models, messages and printing for the results of `monstera check`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from monstera_assets.operations.status import print_line

_MAX_EXAMPLE_CHARACTERS = 300
_MAX_EVENT_TYPES = 20
_NUMBERS = ("events", "share", "users", "days")
_BECAUSE = {"catalog": "catalog list", "flag": "event flag", "nothing": "not specified"}

MESSAGES: Mapping[str, tuple[str, str]] = {
    "source_error": ("{error}", ""),
    "ignored_file": ("{path} is not read: it {reason}", ""),
    "similar_column": (
        "The column {name} in {path} is not read, and the column {missing} is missing.",
        "If {name} contains the values for {missing}, rename the column to {missing}.",
    ),
    "rejected": ("{rows:,} of {rows_read:,} rows ({share:.1%}) rejected: {reason}", ""),
    "corrected": ("{rows:,} of {rows_read:,} rows ({share:.1%}) corrected: {reason}", ""),
    "no_events": ("No events were accepted.", "Correct the problems listed above."),
    "no_event_qualifies": (
        "None of the {rows:,} events qualify, so all users churn.",
        "In product_catalog, list the event types that count as use in qualifying_event_types.",
    ),
    "days_without_events": (
        "There are no events for {days}. The same weekdays usually have at least {usual:,} events.",
        "Add the events for these days, or confirm that no events occurred.",
    ),
    "isolated_first_day": (
        "The first day with events, {day} (events: {rows:,}), is {gap:,} days before the next day with"
        " events.",
        "Correct the dates of these events, or set MONSTERA_EARLIEST_EVENT_DATE to a later date.",
    ),
    "isolated_last_day": (
        "The last day with events, {day} (events: {rows:,}), is {gap:,} days after the previous day"
        " with events.",
        "Correct the dates of these events. Until then, almost all users are churned on {day}.",
    ),
    "future_events": (
        "{rows:,} events are dated after today. The latest date is {day}.",
        "Correct the dates. A run does not load an event until the event's day has ended.",
    ),
    "timezone": (
        "The quietest five hours of the day start at {begin:02}:00 UTC and contain {share:.1%} of the"
        " events. A {certainty} reason is that most users are in a time zone near UTC{offset:+d}, but"
        " the timezone setting is {timezone}.",
        "Set MONSTERA_TIMEZONE to the time zone of your users or company.",
    ),
}
"""The message and remedy for each kind of finding.

An empty remedy means that the message contains the remedy or that the check determines it.
"""

FAULT_REMEDIES: Mapping[str, str] = {
    "event_without_product": "Set product_id. An event without product_id does not count toward any"
    " product.",
    "flag_differs_from_catalog": "Correct the flag or the catalog lists. The catalog lists take"
    " precedence.",
    "qualifying_type_in_no_list": "Add the event type to a list in the catalog, or clear the flag.",
    "qualifies_by_default": "In product_catalog, list the event types that count as use in"
    " qualifying_event_types. If no types are listed, every event qualifies.",
    "email_in_metadata": "Remove email addresses from metadata. Each address is replaced with [email].",
    "unreadable_": "Correct the value. Unreadable values are treated as missing.",
    "alias_in_cycle": "Remove a row from the cycle. Until then, the ids in the cycle and the ids that"
    " lead into the cycle are separate users.",
    "unknown_subscription_tier": "Correct the tier, or add it to MONSTERA_POLICY__SUBSCRIPTION_TIERS.",
}
"""The remedy for each corrected fault, by the start of the fault's name."""


class Finding(BaseModel):
    """A problem in a source.

    Attributes:
        kind: a key in `MESSAGES`.
        input: the affected input, or None for the whole source.
        reason: the rejection reason or the fault.
        rows: the number of affected rows.
        share: the share of the input's rows that are affected.
        example: a row from the source, without email addresses, or the id of a corrected row.
        example_file: the file that contains the example row.
    """

    kind: str
    input: str | None = None
    reason: str | None = None
    rows: int | None = None
    share: float | None = None
    example: str | None = None
    example_file: str | None = None
    message: str
    remedy: str = ""


class InputCheck(BaseModel):
    """An input's files and row counts.

    Attributes:
        formats: the detected file formats, including delimiters.
    """

    input: str
    formats: Sequence[str]
    files: int
    rows_read: int
    rows_accepted: int
    rows_repeated: int
    rows_superseded: int
    rows_merged: int
    rows_rejected: int


class EventTypeCheck(BaseModel):
    """The accepted events for an event type.

    Attributes:
        share: share of all accepted events.
        because: what determines whether the events qualify: `catalog`, `flag` or `nothing`.
    """

    event_type: str
    events: int
    share: float
    users: int
    days: int
    qualifying_events: int
    because: Sequence[str]


class SourceCheck(BaseModel):
    """The result of a check. This model also defines the JSON output.

    Attributes:
        first_day: first day with accepted events, or MONSTERA_START_DATE if that date is later.
        last_day: last completed day with accepted events.
        events_before: number of accepted events before the first day.
        events_after: number of accepted events after the last day.
    """

    source: str
    timezone: str
    first_day: date | None = None
    last_day: date | None = None
    events_before: int = 0
    events_after: int = 0
    inputs: Sequence[InputCheck] = ()
    event_types: Sequence[EventTypeCheck] = ()
    findings: Sequence[Finding] = ()


def finding(kind: str, **values: Any) -> Finding:
    """Return a finding with the message and remedy for its kind.

    `values` contains the finding's fields and the values of the placeholders in both texts.
    """
    message, remedy_text = MESSAGES[kind]
    fields = {
        "remedy": remedy_text.format(**values),
        **values,
        "message": message.format(**values),
    }
    return Finding(kind=kind, **{n: v for n, v in fields.items() if n in Finding.model_fields})


def print_check(console: Console, check: SourceCheck) -> None:
    """Print the counts, the findings and the event types."""
    show = partial(print_line, console)
    days = f"events from {check.first_day} to {check.last_day}"
    days = days if check.last_day else "no complete day with events"
    show(f"{check.source}: {days} ({check.timezone})")
    if check.events_before:
        show(f"{check.events_before:,} events are dated before {check.first_day}.")
    if check.events_after:
        show(
            f"{check.events_after:,} events are dated today or later. A run does not load these events"
            " yet."
        )
    headings = ["input", "format", "files", "rows", "accepted", "repeated", "superseded"]
    has_aliases = any(each.input == "user_aliases" for each in check.inputs)
    headings += ["merged", "rejected"] if has_aliases else ["rejected"]
    show("")
    rows = [_input(each, has_aliases=has_aliases) for each in check.inputs]
    _print_grid(console, headings, rows)
    show("")
    print_findings(console, check.findings)
    if check.event_types:
        shown = check.event_types[:_MAX_EVENT_TYPES]
        show("")
        _print_grid(console, ("event type", *_NUMBERS, "qualifies"), map(_event_type, shown))
        if others := len(check.event_types) - len(shown):
            show(f"{others:,} more (use --json to list all event types)")


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print each finding with its example and remedy."""
    print_line(console, f"Findings: {len(findings) or 'none'}")
    for each in findings:
        lines = [f"  {f'{each.input}: ' if each.input else ''}{each.message}"]
        if each.example is not None:
            place = f" in {each.example_file}" if each.example_file else ""
            lines.append(f"    Example{place}: {_shortened(each.example)}")
        if each.remedy:
            lines.append(f"    Remedy: {each.remedy}")
        for line in lines:  # escape terminal control characters
            print_line(console, "".join(c if c.isprintable() else repr(c)[1:-1] for c in line))


def _shortened(row: str) -> str:
    """Return the start of a row, without empty values."""
    with suppress(ValueError, AttributeError):
        filled = {name: value for name, value in json.loads(row).items() if value is not None}
        row = json.dumps(filled, ensure_ascii=False)
    return row if len(row) <= _MAX_EXAMPLE_CHARACTERS else f"{row[:_MAX_EXAMPLE_CHARACTERS]}..."


def _input(each: InputCheck, *, has_aliases: bool) -> list[object]:
    shown = {**dict(each), "formats": " and ".join(each.formats)}
    return [shown[name] for name in shown if has_aliases or name != "rows_merged"]


def _event_type(each: EventTypeCheck) -> tuple[object, ...]:
    number = each.qualifying_events
    qualifies = "no" if not number else "yes" if number == each.events else f"{number:,} events"
    because = ", ".join(_BECAUSE[reason] for reason in each.because)
    numbers = (each.events, f"{each.share:.1%}", each.users, each.days)
    return each.event_type, *numbers, f"{qualifies} ({because})"


def _print_grid(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        is_text = heading in {headings[0], "format", "qualifies"}
        grid.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(f"{cell:,}" if isinstance(cell, int) else escape(str(cell)) for cell in row))
    console.print(grid)
