"""What `monstera check` reports, with the texts of the findings, and how it is printed."""

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
_BECAUSE = {"catalog": "catalog list", "flag": "own flag", "nothing": "nothing says"}

MESSAGES: Mapping[str, tuple[str, str]] = {
    "source_error": ("{error}", ""),
    "ignored_file": ("{path} is not read: {reason}", ""),
    "similar_column": (
        "{path} has a column {name}, which is not read, and no column {missing}.",
        "If it contains these values, rename it to {missing}.",
    ),
    "rejected": ("{rows:,} of {rows_read:,} rows ({share:.1%}) rejected: {reason}", ""),
    "corrected": ("{rows:,} of {rows_read:,} rows ({share:.1%}) corrected: {reason}", ""),
    "no_events": ("No event is accepted.", "Correct the findings above."),
    "no_event_qualifies": (
        "None of {rows:,} events qualifies, so all users churn.",
        "List the event types that count as use in qualifying_event_types of product_catalog.",
    ),
    "days_without_events": (
        "There are no events on {days}. The same weekdays usually have {usual:,}.",
        "Deliver the events of these days, or confirm that there were none.",
    ),
    "isolated_first_day": (
        "The first day with events, {day} (events: {rows:,}), is {gap:,} days before the next.",
        "Correct the dates of its events, or set MONSTERA_EARLIEST_EVENT_DATE to a later day.",
    ),
    "isolated_last_day": (
        "The last day with events, {day} (events: {rows:,}), is {gap:,} days after the day before it.",
        "Correct the dates of its events. Until then, almost all users are churned on that day.",
    ),
    "future_events": (
        "{rows:,} events are dated after today, through {day}.",
        "Correct the dates. A run does not load these events until their day has ended.",
    ),
    "timezone": (
        "The quietest five hours of the day begin at {begin:02}:00 UTC and have {share:.1%} of the"
        " events. They are {certainty} to be the night of a time zone near UTC{offset:+d}, but"
        " timezone is {timezone}.",
        "Set MONSTERA_TIMEZONE to the time zone of your users or company.",
    ),
}
"""The message and the remedy of each kind of finding. Where it is empty, the message contains it."""

FAULT_REMEDIES: Mapping[str, str] = {
    "event_without_product": "Fill product_id. The event counts for no product.",
    "flag_differs_from_catalog": "Correct the flag, or the lists of the catalog, which are used.",
    "qualifying_type_in_no_list": "Add the type to a list of the catalog, or clear the flag.",
    "qualifies_by_default": "List the event types that count as use in qualifying_event_types of"
    " product_catalog. Until then, every event qualifies.",
    "email_in_metadata": "Leave addresses out of metadata. They are replaced with [email].",
    "unreadable_": "Correct the value. It counts as missing.",
    "unknown_subscription_tier": "Correct the tier, or add it to MONSTERA_SUBSCRIPTION_TIERS.",
}
"""The remedy for each fault that is corrected, by the beginning of its name."""


class Finding(BaseModel):
    """Something that is wrong with a source.

    Attributes:
        kind: a key of `MESSAGES`.
        input: the input, or None for the whole source.
        reason: the rejection reason or the fault.
        rows: the number of rows concerned.
        share: their share of the input's rows.
        example: a row as delivered, without email addresses, or the id of a corrected row.
        example_file: the file of the example row.
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
    """The files and the number of rows of an input.

    Attributes:
        formats: the formats of the files. Each file's format and delimiter are detected.
    """

    input: str
    formats: Sequence[str]
    files: int
    rows_read: int
    rows_accepted: int
    rows_repeated: int
    rows_superseded: int
    rows_rejected: int


class EventTypeCheck(BaseModel):
    """The accepted events of a type.

    Attributes:
        share: share of all accepted events.
        because: why they qualify or not: `catalog`, `flag` or `nothing` (neither states it).
    """

    event_type: str
    events: int
    share: float
    users: int
    days: int
    qualifying_events: int
    because: Sequence[str]


class SourceCheck(BaseModel):
    """The result of a check, which also defines the JSON output.

    Attributes:
        first_day: first day of accepted events, or MONSTERA_START_DATE if that is later.
        last_day: last day of accepted events that has ended.
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
    """Return a finding with the text of its kind; `values` are its fields and those of the text."""
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
    days = f"{check.first_day} to {check.last_day}" if check.last_day else "no complete day"
    show(f"{check.source}: events from {days} ({check.timezone})")
    if check.events_before:
        show(f"{check.events_before:,} events are dated before {check.first_day}.")
    if check.events_after:
        show(
            f"{check.events_after:,} events are dated today or later. A run does not load them yet."
        )
    headings = (
        "input",
        "format",
        "files",
        "rows",
        "accepted",
        "repeated",
        "superseded",
        "rejected",
    )
    show("")
    _print_grid(console, headings, map(_input, check.inputs))
    show("")
    print_findings(console, check.findings)
    if check.event_types:
        shown = check.event_types[:_MAX_EVENT_TYPES]
        show("")
        _print_grid(console, ("event type", *_NUMBERS, "qualifies"), map(_event_type, shown))
        if others := len(check.event_types) - len(shown):
            show(f"{others:,} more: --json lists all event types.")


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print each finding with an example and the remedy."""
    print_line(console, f"Findings: {len(findings) or 'none'}")
    for each in findings:
        lines = [f"  {f'{each.input}: ' if each.input else ''}{each.message}"]
        if each.example is not None:
            place = f" in {each.example_file}" if each.example_file else ""
            lines.append(f"    Example{place}: {_shortened(each.example)}")
        if each.remedy:
            lines.append(f"    Remedy: {each.remedy}")
        for line in lines:  # without characters that control a terminal
            print_line(console, "".join(c if c.isprintable() else repr(c)[1:-1] for c in line))


def _shortened(row: str) -> str:
    """Return the beginning of a row without empty values."""
    with suppress(ValueError, AttributeError):
        filled = {name: value for name, value in json.loads(row).items() if value is not None}
        row = json.dumps(filled, ensure_ascii=False)
    return row if len(row) <= _MAX_EXAMPLE_CHARACTERS else f"{row[:_MAX_EXAMPLE_CHARACTERS]}..."


def _input(each: InputCheck) -> list[object]:
    return list({**dict(each), "formats": " and ".join(each.formats)}.values())


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
