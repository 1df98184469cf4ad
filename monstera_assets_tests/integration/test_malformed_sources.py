"""Sources with one fault each: rows are rejected with a reason, or the load fails with one error.

Each case modifies a copy of the seeds and loads it over the seeds of June 2025. If the load succeeds,
the tables of rejected rows contain the faulty rows and all other rows are unchanged. If it fails, no
table has changed.
"""

from __future__ import annotations

import csv
import ctypes
import io
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.operations.runs import Failure, failures_of
from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings
from monstera_assets.source.csv_records import MAX_RECORD_CHARACTERS
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import (
    MONSTERA,
    environment,
    in_this_process,
    snapshot,
)
from monstera_assets_tests.integration.example_assets import Row
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, Graph, assert_same

at = datetime
SEEDS = Path(__file__).parents[2] / "seeds"
DAYS = DateWindow(date(2025, 6, 1), date(2025, 6, 30))
BOTH = ENTITIES + EVENTS
INPUTS = ("accounts", "product_catalog", "users", "subscription_events", "workflows", "events")
READ = dict(zip(INPUTS, (10, 17, 20, 23, 5, 40), strict=True))
"""Number of rows per input of the seeds. The first partition includes the events before June."""

Spoil = Callable[[Path], None]
"""Modifies the copy of the seeds in a folder."""


@dataclass(frozen=True)
class Case:
    """One fault in a source, and the expected outcome.

    Attributes:
        name: the fault.
        spoil: introduces the fault.
        loads: the tables to load.
        error: parts of the error, starting with the file name; none if the load succeeds.
        rejected: number of rejected rows by input and reason.
        more: number of rows read in addition to the seeds, by input.
        repeated: number of rows that repeat another one, by input.
        kept: number of entities that the load does not read, but an earlier load read, by input.
        lost: ids of seed rows that are not accepted, by table.
        gained: ids of additional rows that are accepted, by table.
        holds: expected results by query, to check the gained rows.
    """

    name: str
    spoil: Spoil
    loads: Sequence[str] = ENTITIES
    error: Sequence[str] = ()
    rejected: Mapping[tuple[str, str], int] = field(default_factory=dict)
    more: Mapping[str, int] = field(default_factory=dict)
    repeated: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, set[str]] = field(default_factory=dict)
    gained: Mapping[str, set[str]] = field(default_factory=dict)
    holds: Mapping[str, list[Row]] = field(default_factory=dict)


# ---------------------------------------------------------------- faults


def path_of(source: Path, name: str) -> Path:
    return source / f"seed_{name}.csv"


def then(*steps: Spoil) -> Spoil:
    """Apply several steps."""

    def spoil(source: Path) -> None:
        for step in steps:
            step(source)

    return spoil


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Change the content of a file."""

    def spoil(source: Path) -> None:
        path = path_of(source, name)
        before = path.read_bytes()
        after = change(before)
        assert after != before
        path.write_bytes(after)

    return spoil


def text_of(name: str, change: Callable[[str], str], encoding: str = "utf-8") -> Spoil:
    """Change the text of a file and optionally its encoding."""
    return bytes_of(name, lambda content: change(content.decode()).encode(encoding))


def sub(name: str, old: str, new: str) -> Spoil:
    """Replace text that occurs exactly once."""

    def change(text: str) -> str:
        assert text.count(old) == 1
        return text.replace(old, new)

    return text_of(name, change)


def add(name: str, *records: bytes) -> Spoil:
    """Add records at the end of a file."""
    return bytes_of(name, lambda content: content + b"".join(records))


def line(*fields: str) -> bytes:
    """Return a CSV record."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


ACCOUNT = {
    "account_id": "acc_new",
    "account_name": "New",
    "subscription_tier": "starter",
    "total_seats": "5",
    "account_created_at": "2025-06-01 10:00:00",
    "first_paid_at": "",
    "contract_renewal_date": "",
    "monthly_recurring_revenue": "90.00",
    "is_trial": "false",
}
NODE = {
    "product_id": "new",
    "product_name": "New",
    "product_family_id": "analytics",
    "tier": "product",
    "parent_product_id": "analytics",
    "is_active": "true",
    "created_at": "2024-01-01 00:00:00",
    "product_owner": "team",
    "activation_event_types": "",
    "qualifying_event_types": "",
    "active_days": "",
    "dormant_days": "",
}
USER = {
    "user_id": "usr_new",
    "email": "new@example.com",
    "account_id": "acc_01",
    "user_created_at": "2025-06-10 09:00:00",
    "country": "US",
    "plan_type": "trial",
    "acquisition_source": "organic",
}
EVENT = {
    "event_id": "evt_new",
    "entity_id": "usr_01",
    "entity_type": "user",
    "event_type": "video_created",
    "timestamp": "2025-06-20 10:00:00",
    "location": "web_app",
    "session_id": "",
    "product_id": "video_studio",
    "is_qualifying_event": "true",
    "is_activation_event": "true",
    "metadata": "",
}
BILLING = {
    **EVENT,
    "event_id": "sub_new",
    "entity_id": "acc_04",
    "entity_type": "account",
    "event_type": "seats_changed",
    "location": "api",
    "product_id": "",
    "is_qualifying_event": "false",
    "is_activation_event": "false",
}
STEP = {
    "workflow_id": "flow",
    "workflow_name": "Flow",
    "product_id": "video_studio",
    "step_number": "1",
    "event_type": "video_created",
}
ACCOUNTS = {f"acc_{number:02}" for number in range(1, 11)}
ROWS = dict(zip(INPUTS, (ACCOUNT, NODE, USER, BILLING, STEP, EVENT), strict=True))


_KEYS = {
    "accounts": "account_id",
    "product_catalog": "product_id",
    "users": "user_id",
    "subscription_events": "event_id",
    "workflows": "workflow_id",
    "events": "event_id",
}


def add_row(name: str, **values: str) -> Spoil:
    """Add a row that is valid except for these values."""
    return add(name, line(*{**ROWS[name], **values}.values()))


def rejected_row(
    name: str, input_name: str, reason: str, spoil: Spoil | None = None, **values: str
) -> Case:
    """Return a case with one additional row, which is rejected."""
    return Case(
        name,
        spoil or add_row(input_name, **values),
        loads=EVENTS if input_name == "events" else ENTITIES,
        rejected={(input_name, reason): 1},
        more={input_name: 1},
    )


def accepted_row(
    name: str, input_name: str, spoil: Spoil | None = None, *, shows: str = "", **values: str
) -> Case:
    """Return a case with one additional row, which is accepted and for which `shows` is true."""
    row = {**ROWS[input_name], **values}
    key = _KEYS[input_name]
    new_id = row[key]
    quoted = new_id.replace("'", "''")
    query = f"SELECT {shows} FROM bronze.bronze_{input_name} WHERE {key} = '{quoted}'"
    return Case(
        name,
        spoil or add_row(input_name, **values),
        loads=EVENTS if input_name == "events" else ENTITIES,
        more={input_name: 1},
        gained={input_name: {new_id}},
        holds={query: [(True,)]} if shows else {},
    )


def refused(name: str, input_name: str, spoil: Spoil, *error: str) -> Case:
    """Return a case that cannot be loaded because of one seed file."""
    return Case(
        name,
        spoil,
        loads=EVENTS if input_name == "events" else ENTITIES,
        error=(f"seed_{input_name}.csv", *error),
    )


def unchanged(name: str, input_name: str, spoil: Spoil) -> Case:
    """Return a case with the same content in another form."""
    return Case(name, spoil, loads=EVENTS if input_name == "events" else ENTITIES)


def wider(name: str, count: int) -> Spoil:
    """Add unknown columns."""

    def change(text: str) -> str:
        header, *rows = text.splitlines()
        header += "".join(f",more{number}" for number in range(count))
        return "\n".join([header, *(row + ",x" * count for row in rows)]) + "\n"

    return text_of(name, change)


def backwards(name: str) -> Spoil:
    """Reverse the order of the columns."""

    def change(text: str) -> str:
        return b"".join(line(*reversed(row)) for row in csv.reader(io.StringIO(text))).decode()

    return text_of(name, change)


def written(relative: str, content: bytes) -> Spoil:
    """Put a file into the source."""

    def spoil(source: Path) -> None:
        (source / relative).parent.mkdir(parents=True, exist_ok=True)
        (source / relative).write_bytes(content)

    return spoil


def copied(old: str, new: str) -> Spoil:
    """Copy a file."""

    def spoil(source: Path) -> None:
        shutil.copy(source / old, source / new)

    return spoil


def moved(old: str, new: str) -> Spoil:
    """Rename a file."""

    def spoil(source: Path) -> None:
        (source / old).rename(source / new)

    return spoil


def removed(name: str) -> Spoil:
    return lambda source: path_of(source, name).unlink()


def folder_of(name: str, file: str) -> Spoil:
    """Move an input's file into a folder."""

    def spoil(source: Path) -> None:
        (source / f"seed_{name}").mkdir()
        path_of(source, name).rename(source / f"seed_{name}" / file)

    return spoil


def split_file(relative: str, *others: str) -> Spoil:
    """Distribute the rows of a file over itself and other files in the same folder."""

    def spoil(source: Path) -> None:
        header, *rows = (source / relative).read_text(encoding="utf-8").splitlines(keepends=True)
        names = [Path(relative).name, *others]
        for number, name in enumerate(names):
            path = (source / relative).with_name(name)
            path.write_text("".join([header, *rows[number :: len(names)]]), encoding="utf-8")

    return spoil


def by_day(name: str) -> Spoil:
    """Lay an input of events out by day."""

    def spoil(source: Path) -> None:
        header, *rows = path_of(source, name).read_text(encoding="utf-8").splitlines(keepends=True)
        for row in rows:
            folder = source / f"seed_{name}" / f"event_date={row.split(',')[4][:10]}"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "a.csv"
            path.write_text((path.read_text() if path.exists() else header) + row, encoding="utf-8")
        path_of(source, name).unlink()

    return spoil


def day_file(day: str, *rows: Mapping[str, str]) -> Spoil:
    """Add a file of events to the folder of a day."""
    content = b"".join([line(*EVENT), *(line(*row.values()) for row in rows)])
    return written(f"seed_events/event_date={day}/b.csv", content)


def linked(name: str, target: Path) -> Spoil:
    """Replace an input's file by a link."""

    def spoil(source: Path) -> None:
        path_of(source, name).unlink()
        path_of(source, name).symlink_to(target)

    return spoil


def linked_folder(relative: str, target: str) -> Spoil:
    return lambda source: (source / relative).symlink_to(target)


def folder_for(name: str) -> Spoil:
    return then(removed(name), lambda source: path_of(source, name).mkdir())


def pipe(name: str) -> Spoil:
    return then(removed(name), lambda source: os.mkfifo(path_of(source, name)))


def parquet(name: str, **columns: str) -> Spoil:
    """Save an input as Parquet, with text columns except those given as SQL expressions."""

    def spoil(source: Path) -> None:
        path = path_of(source, name)
        replaced = ", ".join(f"{value} AS {column}" for column, value in columns.items())
        with duckdb.connect(config=dict(connection_config())) as connection:
            connection.execute(
                f"COPY (SELECT *{f' REPLACE ({replaced})' if columns else ''}"
                f" FROM read_csv('{path}', all_varchar = true))"
                f" TO '{path.with_suffix('.parquet')}' (FORMAT parquet)"
            )
        path.unlink()

    return spoil


def refused_parquet(name: str, change: Callable[[bytes], bytes]) -> Case:
    """Return a case with an invalid Parquet file."""

    def spoil(source: Path) -> None:
        parquet("accounts")(source)
        path = path_of(source, "accounts").with_suffix(".parquet")
        path.write_bytes(change(path.read_bytes()))

    return Case(
        f"Parquet: {name}",
        spoil,
        loads=ENTITIES,
        error=("seed_accounts.parquet cannot be read as Parquet (", "). Regenerate the file."),
    )


# ---------------------------------------------------------------- encodings

ENCODINGS = [
    refused(
        "UTF-16",
        "accounts",
        text_of("accounts", str, "utf-16"),
        "is encoded in UTF-16. Save the file in UTF-8",
    ),
    refused(
        "UTF-16 without a mark",
        "users",
        text_of("users", str, "utf-16-le"),
        "is not UTF-8 text. Save the file as CSV in UTF-8",
    ),
    refused(
        "UTF-32",
        "events",
        text_of("events", str, "utf-32"),
        "Save the file in UTF-8",
    ),
    unchanged(
        "a byte order mark", "events", bytes_of("events", lambda content: b"\xef\xbb\xbf" + content)
    ),
    rejected_row(
        "latin-1 in a value",
        "events",
        "malformed_row_encoding",
        add(
            "events",
            line(*{**EVENT, "session_id": "Österreich"}.values()).decode().encode("latin-1"),
        ),
    ),
    refused(
        "latin-1 in the header",
        "accounts",
        bytes_of(
            "accounts", lambda content: content.replace(b"is_trial", b"is_trial,gr\xf6\xdfe", 1)
        ),
        "is not UTF-8 text. Save the file as CSV in UTF-8",
    ),
    rejected_row(
        "half of a surrogate pair",
        "events",
        "malformed_row_encoding",
        add("events", line(*EVENT.values()).replace(b"web_app", b"web\xed\xa0\x80app")),
    ),
    accepted_row("a NUL in a value", "events", event_id="evt\x00new", shows="length(event_id) = 7"),
    rejected_row(
        "nothing but NULs, as after a crash of the writer",
        "events",
        "malformed_row_field_count",
        add("events", b"\x00" * 4096),
    ),
    accepted_row(
        "characters beyond the basic plane",
        "events",
        session_id="🌿\u202e\u0301",
        shows="session_id = '🌿\u202e\u0301'",
    ),
]

# ---------------------------------------------------------------- quoting and line ends

QUOTING = [
    Case(
        "a quote that is never closed",
        sub("accounts", "acc_05,Tallgrass", 'acc_05,"Tallgrass'),
        rejected={("accounts", "malformed_row_quoting"): 1},
        kept={"accounts": 1},
    ),
    rejected_row(
        "a quote that is never closed, at the end",
        "events",
        "malformed_row_quoting",
        add("events", line(*EVENT.values())[:-1] + b'"{'),
    ),
    accepted_row(
        "doubled quotes",
        "accounts",
        account_name='New "Leaf"',
        shows="account_name = 'New \"Leaf\"'",
    ),
    accepted_row(
        "a stray quote inside a value",
        "accounts",
        add("accounts", line(*ACCOUNT.values()).replace(b"New", b'6" Pots')),
        shows="account_name = '6\" Pots'",
    ),
    rejected_row(
        "text after the closing quote",
        "events",
        "malformed_row_quoting",
        add("events", line(*EVENT.values()).replace(b"web_app", b'"web"_app')),
    ),
    rejected_row(
        "quotes escaped by backslashes",
        "events",
        "malformed_row_quoting",
        add("events", line(*EVENT.values())[:-1] + b'"{\\"a\\": 1}"\n'),
    ),
    accepted_row(
        "line ends, commas and quotes in one value",
        "accounts",
        account_name='a,\r\n"b"\n\nc',
        shows="account_name = 'a,' || chr(13) || chr(10) || '\"b\"' || chr(10) || chr(10) || 'c'",
    ),
    Case(
        "an extra delimiter on every row",
        text_of("workflows", lambda text: re.sub(r"(?<=\d,\w)(\w*)$", r"\1,", text, flags=re.M)),
        rejected={("workflows", "malformed_row_field_count"): 5},
        lost={"workflows": {"video_publishing", "design_handoff"}},
    ),
    unchanged(
        "an extra delimiter on every row and the header",
        "events",
        text_of("events", lambda text: text.replace("\n", ",\n")),
    ),
    unchanged("semicolons", "users", text_of("users", lambda text: text.replace(",", ";"))),
    unchanged("tabs", "users", text_of("users", lambda text: text.replace(",", "\t"))),
    unchanged("pipes", "users", text_of("users", lambda text: text.replace(",", "|"))),
    unchanged(
        "CR LF", "events", bytes_of("events", lambda content: content.replace(b"\n", b"\r\n"))
    ),
    unchanged("CR", "events", bytes_of("events", lambda content: content.replace(b"\n", b"\r"))),
    unchanged(
        "line ends of all kinds and empty lines",
        "events",
        text_of(
            "events",
            lambda text: text.replace("\nevt_020", "\r\n\r\nevt_020").replace(
                "\nevt_025", "\revt_025"
            ),
        ),
    ),
    unchanged("no line end at the end", "events", text_of("events", lambda text: text[:-1])),
]

# ---------------------------------------------------------------- sizes

SIZES = [
    rejected_row(
        "a value of 10 MB",
        "events",
        "malformed_row_too_long",
        add_row("events", metadata=json.dumps({"note": "x" * 10_000_000})),
    ),
    rejected_row(
        "10 MB without a line end",
        "events",
        "malformed_row_too_long",
        add("events", b"x" * 10_000_000),
    ),
    refused(
        "a header of 10 MB",
        "users",
        bytes_of("users", lambda content: b"x" * 10_000_000 + content),
        "malformed_row_too_long",
    ),
    accepted_row(
        "a value of maximum length",
        "accounts",
        account_name="x" * (MAX_RECORD_CHARACTERS - 100),
        shows=f"length(account_name) = {MAX_RECORD_CHARACTERS - 100}",
    ),
    rejected_row(
        "a row of 100,000 fields",
        "events",
        "malformed_row_field_count",
        add("events", b"," * 100_000 + b"\n"),
    ),
    unchanged("a thousand unknown columns", "events", wider("events", 1_000)),
    refused(
        "50,000 columns",
        "users",
        wider("users", 50_000),
        "contains 50,007 columns",
        "Remove the columns that are not needed",
    ),
]

# ---------------------------------------------------------------- columns

COLUMNS = [
    refused(
        "two columns with the same name",
        "users",
        sub("users", "plan_type", "country"),
        "contains the column country more than once. Rename or remove",
    ),
    Case(
        "two optional columns missing",
        text_of("accounts", lambda text: re.sub(r"(,[^,\n]*){2}$", "", text, flags=re.M)),
        lost={"accounts": ACCOUNTS},
        gained={"accounts": ACCOUNTS},
        holds={
            "SELECT DISTINCT monthly_recurring_revenue, is_trial = (subscription_tier = 'trial'),"
            " faults FROM bronze.bronze_accounts": [(0, True, None)]
        },
    ),
    refused(
        "a renamed column",
        "events",
        sub("events", "event_type", "type"),
        "is missing required columns: event_type",
    ),
    unchanged("a column in capitals", "users", sub("users", "user_id", "USER_ID")),
    unchanged("columns in another order", "events", backwards("events")),
    unchanged(
        "spaces and quotes around the names",
        "events",
        sub("events", "event_id,entity_id,entity_type", ' event_id , "entity_id" ,"entity_type"'),
    ),
    Case(
        "a header without rows",
        text_of("workflows", lambda text: text.split("\n")[0] + "\n"),
        more={"workflows": -5},
        lost={"workflows": {"video_publishing", "design_handoff"}},
    ),
    Case(
        "no events in the file",
        text_of("events", lambda text: text.split("\n")[0]),
        loads=EVENTS,
        more={"events": -40},
        lost={"events": {f"evt_{number:03}" for number in range(41)}},
    ),
    refused("an empty file", "users", bytes_of("users", lambda _: b""), "does not have a header"),
    refused(
        "a file of line ends",
        "events",
        bytes_of("events", lambda _: b"\n\n"),
        "does not have a header",
    ),
]

# ---------------------------------------------------------------- ids

_REPEATED = {
    "accounts": {"acc_03"},
    "product_catalog": {"video_studio"},
    "users": {"usr_01"},
    "subscription_events": {"sub_001"},
    "workflows": {"design_handoff"},
}

IDS = [
    Case(
        "repeated ids",
        then(
            add_row("accounts", account_id="acc_03", account_created_at="2024-09-01"),
            add_row(
                "product_catalog",
                product_id="video_studio",
                product_family_id="content_creation",
                parent_product_id="content_creation",
            ),
            add_row("users", user_id="usr_01"),
            add_row("users", user_id="usr_01"),
            add_row("subscription_events", event_id="sub_001"),
            add_row("workflows", workflow_id="design_handoff", step_number="2.0"),
        ),
        # The last row holds; of two equal rows, one is repeated.
        rejected=dict.fromkeys(
            [(name, "superseded") for name in INPUTS if name != "events"],
            1,
        ),
        more={
            "accounts": 1,
            "product_catalog": 1,
            "users": 2,
            "subscription_events": 1,
            "workflows": 1,
        },
        repeated={"users": 1},
        lost=_REPEATED,
        gained=_REPEATED,
        holds={
            "SELECT account_name FROM bronze.bronze_accounts WHERE account_id = 'acc_03'": [
                ("New",)
            ],
        },
    ),
    Case(
        "an event repeated on its day, later, and before the run",
        then(
            add_row("events", event_id="evt_023", timestamp="2025-06-10 17:00:00.000001"),
            add_row("events", event_id="evt_023", timestamp="2025-06-21 10:00:00"),
            add_row(
                "events", event_id="evt_040", timestamp="2025-05-10 10:00:00", entity_id="usr_05"
            ),
        ),
        loads=EVENTS,
        rejected={("events", "superseded"): 3},
        more={"events": 3},
        lost={"events": {"evt_023", "evt_040"}},
        gained={"events": {"evt_023", "evt_040"}},
    ),
    Case(
        "a file under two names",
        then(
            folder_of("events", "a.csv"),
            copied("seed_events/a.csv", "seed_events/b.csv"),
        ),
        loads=EVENTS,
        more={"events": 40},
        repeated={"events": 40},
    ),
    Case(
        "an event in two days' folders",
        then(
            by_day("events"),
            day_file(
                "2025-06-21", EVENT | {"event_id": "evt_023", "timestamp": "2025-06-21 10:00:00"}
            ),
            day_file("2025-06-22", EVENT | {"timestamp": "2025-06-23 00:00:00"}),
            day_file("2025-06-24", EVENT | {"timestamp": "2025-06-24 01:00:00+02:00"}),
            day_file("2025-06-25", EVENT | {"timestamp": "soon"}),
        ),
        loads=EVENTS,
        rejected={
            ("events", "superseded"): 1,
            ("events", "not_on_date_of_folder"): 2,
            ("events", "unreadable_timestamp"): 1,
        },
        more={"events": 4},
        lost={"events": {"evt_023"}},
        gained={"events": {"evt_023"}},
    ),
    Case(
        "an event on its folder's day in its time zone but not in UTC",
        then(
            by_day("events"),
            day_file("2025-06-24", EVENT | {"timestamp": "2025-06-24 01:00:00+02:00"}),
        ),
        loads=EVENTS,
        rejected={("events", "not_on_date_of_folder"): 1},
        more={"events": 1},
    ),
    Case(
        "SQL as an id",
        then(
            add_row(
                "users", user_id="'; DROP TABLE bronze.bronze_users; --", email="$1", country='";'
            ),
            add_row("accounts", account_id="{x} %s ? $1", account_name="' OR 1=1 --"),
        ),
        more={"users": 1, "accounts": 1},
        gained={
            "users": {"'; DROP TABLE bronze.bronze_users; --"},
            "accounts": {"{x} %s ? $1"},
        },
        holds={
            "SELECT email, country FROM bronze.bronze_users WHERE starts_with(user_id, chr(39))": [
                ("$1", '";')
            ],
            "SELECT account_name FROM bronze.bronze_accounts WHERE contains(account_id, '%')": [
                ("' OR 1=1 --",)
            ],
        },
    ),
    accepted_row(
        "SQL as an event id",
        "events",
        event_id="'); DELETE FROM bronze.bronze_events; --",
        session_id="';",
        metadata='{"a\'; --": "\\u0000"}',
        shows="session_id = chr(39) || ';' AND metadata ->> '$.\"a''; --\"' = chr(0)",
    ),
]

# ---------------------------------------------------------------- references

REFERENCES = [
    Case(
        "references to missing entities",
        then(
            add_row("users", account_id="acc_99"),
            add_row("subscription_events", entity_id="acc_99"),
            add_row("subscription_events", event_id="sub_new2", product_id="acc_04"),
            add_row("workflows", product_id="usr_01"),
            add_row("events", entity_id="usr_99"),
            add_row("events", event_id="evt_new2", product_id="video"),
            add_row(
                "events", event_id="evt_new3", entity_id="usr_01", timestamp="2025-06-08 23:59:59"
            ),
            add_row("events", event_id="evt_new4", entity_id="usr_16"),
        ),
        loads=BOTH,
        rejected={
            ("users", "unknown_account"): 1,
            ("subscription_events", "unknown_account"): 1,
            ("subscription_events", "unknown_product"): 1,
            ("workflows", "unknown_product"): 1,
            ("events", "unknown_user"): 1,
            ("events", "unknown_product"): 1,
            ("events", "before_user_creation"): 1,
            ("events", "after_user_deletion"): 1,
        },
        more={"users": 1, "subscription_events": 2, "workflows": 1, "events": 4},
    ),
    Case(
        "no accounts",
        text_of("accounts", lambda text: text.split("\n")[0]),
        loads=BOTH,
        more={"accounts": -10},
        kept={"accounts": 10},
    ),
    Case(
        "a catalog with misplaced nodes",
        then(
            add_row("product_catalog", product_id="own_parent", parent_product_id="own_parent"),
            add_row("product_catalog", product_id="circle_1", parent_product_id="circle_2"),
            add_row("product_catalog", product_id="circle_2", parent_product_id="circle_1"),
            add_row("product_catalog", product_id="orphan", parent_product_id="nowhere"),
            add_row("product_catalog", product_id="no_parent", parent_product_id=""),
            add_row("product_catalog", product_id="too_high", tier="feature"),
            add_row(
                "product_catalog", product_id="upside_down", parent_product_id="scheduled_reports"
            ),
            add_row(
                "product_catalog", product_id="child", tier="family", product_family_id="child"
            ),
            add_row("product_catalog", product_id="adopted", product_family_id="collaboration"),
            add_row(
                "product_catalog",
                product_id="of_orphan",
                tier="feature",
                parent_product_id="orphan",
            ),
            add_row(
                "product_catalog",
                product_id="below_that",
                tier="sub_feature",
                parent_product_id="of_orphan",
            ),
            add_row(
                "product_catalog", product_id="lost_family", tier="family", parent_product_id=""
            ),
            add_row("product_catalog", product_id="fine"),
        ),
        rejected={
            ("product_catalog", "parent_not_of_tier_above"): 6,
            ("product_catalog", "unknown_parent_product"): 3,
            ("product_catalog", "other_family_than_parent"): 2,
        },
        more={"product_catalog": 13},
        # A product needs no parent.
        gained={"product_catalog": {"fine", "no_parent"}},
    ),
    Case(
        "a product whose family is gone",
        sub(
            "product_catalog",
            "analytics,Analytics,analytics,family",
            "analysis,Analysis,analysis,family",
        ),
        loads=BOTH,
        rejected={
            ("product_catalog", "unknown_parent_product"): 3,
            # events in the family's products and in one of their features
            ("events", "unknown_product"): 4,
        },
        lost={
            "product_catalog": {
                *("analytics", "insight_dashboards", "scheduled_reports", "audience_surveys"),
            },
            "events": {"evt_009", "evt_012", "evt_020", "evt_025"},
        },
        gained={"product_catalog": {"analysis"}},
    ),
    Case(
        "a workflow with gaps and invalid steps",
        then(
            add_row("workflows", step_number="2"),
            add_row("workflows", step_number="7"),
            add_row("workflows", workflow_id="zero", step_number="0"),
            add_row("workflows", workflow_id="minus", step_number="-1"),
            add_row("workflows", workflow_id="word", step_number="first"),
            add_row("workflows", workflow_id="part", step_number="1.5"),
        ),
        rejected={
            ("workflows", "step_number_below_1"): 2,
            ("workflows", "unreadable_step_number"): 2,
        },
        more={"workflows": 6},
        gained={"workflows": {"flow"}},
    ),
]

# ---------------------------------------------------------------- values


def of_values(
    name: str,
    input_name: str,
    column: str,
    bad: Mapping[str, str],
    good: Mapping[str, Any],
    faulty: Mapping[str, Any] | None = None,
    **fixed: str,
) -> Case:
    """Return a case of values of a column: bad ones by reason, others by the value read.

    Faulty values are unreadable ones of an optional column.
    """
    faulty = faulty or {}
    key = _KEYS[input_name]
    rows = {f"bad{number:02}": value for number, value in enumerate(bad)}
    rows |= {f"good{number:02}": value for number, value in enumerate([*good, *faulty])}
    stored = "event_timestamp" if column == "timestamp" else column
    return Case(
        name,
        then(
            *(
                add_row(input_name, **{**fixed, key: new, column: value})
                for new, value in rows.items()
            )
        ),
        loads=EVENTS if input_name == "events" else ENTITIES,
        rejected=Counter((input_name, reason) for reason in bad.values()),
        more={input_name: len(rows)},
        gained={input_name: {new for new in rows if new.startswith("good")}},
        holds={
            f"SELECT {stored} FROM bronze.bronze_{input_name} WHERE starts_with({key}, 'good')"
            f" ORDER BY {key}": [(value,) for value in (*good.values(), *faulty.values())],
            f"SELECT count(*) FROM bronze.bronze_{input_name} WHERE faults = 'unreadable_{column}'": [
                (len(faulty),)
            ],
        },
    )


_MISFITS = (
    '{"total_seats": 123456789012345678901234567890}',
    '{"total_seats": -1}',
    '{"total_seats": [1]}',
    '{"monthly_recurring_revenue": 1e17}',
    '{"monthly_recurring_revenue": "Infinity"}',
    '{"contract_renewal_date": "10000-01-01"}',
    '{"subscription_tier": {"a": "starter"}}',
    '{"subscription_tier": "starter\\u0000"}',
)
"""Metadata of accepted facts with values that cannot be used."""

VALUES = [
    of_values(
        "numbers of seats",
        "accounts",
        "total_seats",
        {},
        {"0": 0, "3.0": 3, "9223372036854775807": 2**63 - 1, "NaN": None},
        dict.fromkeys(
            ("-1", "3.5", "inf", "1,000", "12345678901234567890", "1e400", "five", "5 seats")
        ),
    ),
    of_values(
        "amounts of revenue",
        "accounts",
        "monthly_recurring_revenue",
        {},
        {
            "0": Decimal(0),
            "-0": Decimal(0),
            "9999999999999999.99": Decimal("9999999999999999.99"),
            "NaN": Decimal(0),
        },
        dict.fromkeys(
            (
                *("-0.01", "-1e3", "-nan", "Infinity", "-inf", "1e17", "1e400", "$5", "5,00"),
                "0x10",
            ),
            Decimal(0),
        ),
    ),
    of_values(
        "times of creation",
        "users",
        "user_created_at",
        dict.fromkeys(
            (
                *("2025-02-29", "2025-06-31", "0000-00-00", "10000-01-01", "0044-03-15 (BC)"),
                *("9999-12-31 23:59:59-12", "infinity", "now", "today", "20250610"),
                *("10/06/2025", "2025-06-10 25:00:00", "2016-12-31 23:59:60", "June 10"),
            ),
            "unreadable_user_created_at",
        )
        | dict.fromkeys(
            ("0001-01-01 00:00:00", "1970-01-01", "1989-12-31"), "before_earliest_event_date"
        ),
        {
            "1749556800": at(2025, 6, 10, 12),
            "1990-01-01": at(1990, 1, 1),
            "2024-02-29": at(2024, 2, 29),
            "9999-12-31 23:59:59.999999": at(9999, 12, 31, 23, 59, 59, 999999),
        },
    ),
    of_values(
        "times of events",
        "events",
        "timestamp",
        {
            "2025-06-10 23:59:60": "unreadable_timestamp",
            "2025-06-10 24:00:01": "unreadable_timestamp",
            "20250610": "unreadable_timestamp",
            "2025-06-10 12:00:00 Asia/Kolkata": "unreadable_timestamp",
            "2025-06-10 12:00:00 IST": "unreadable_timestamp",
            "epoch": "unreadable_timestamp",
            "0001-01-01 00:00:00": "before_earliest_event_date",
            "1970-01-01 00:00:00": "before_earliest_event_date",
            "1989-12-31 23:59:59.999999": "before_earliest_event_date",
        },
        {
            "2025-06-10 24:00:00": at(2025, 6, 11),
            "2025-06-10 23:59:59.9999999": at(2025, 6, 10, 23, 59, 59, 999999),
            "2025-06-10T12:00:00+02:00": at(2025, 6, 10, 10),
            "2025-06-30 23:59:59-00:00": at(2025, 6, 30, 23, 59, 59),
            "2025-05-31 23:30:00-05:30": at(2025, 6, 1, 5),
            "2025-06-10 12:00:00 +0530": at(2025, 6, 10, 6, 30),
            "1750000000": at(2025, 6, 15, 15, 6, 40),
            "1750000000123": at(2025, 6, 15, 15, 6, 40, 123000),
        },
        entity_id="usr_05",
    ),
    Case(
        "events after the run, up to the end of time",
        then(
            add_row("events", event_id="july", timestamp="2025-06-30 23:59:59-00:01"),
            add_row("events", event_id="late", timestamp="9999-12-31 23:59:59"),
        ),
        loads=EVENTS,
    ),
    of_values(
        "hours that clocks skip and repeat",
        "subscription_events",
        "timestamp",
        {"2025-03-30 02:30:00 Mars/Olympus": "unreadable_timestamp"},
        {
            # Berlin skips from 2:00 to 3:00 in March and repeats the hour from 2:00 in October.
            # An offset identifies the hour; a time without one is UTC.
            "2025-03-30 01:59:59+01:00": at(2025, 3, 30, 0, 59, 59),
            "2025-03-30 03:00:00+02:00": at(2025, 3, 30, 1),
            "2025-03-30 02:30:00": at(2025, 3, 30, 2, 30),
            "2024-10-27 02:30:00+02:00": at(2024, 10, 27, 0, 30),
            "2024-10-27 02:30:00+01:00": at(2024, 10, 27, 1, 30),
        },
    ),
    of_values(
        "metadata that is not a JSON object",
        "events",
        "metadata",
        dict.fromkeys(
            ("{", "[]", "1", '"x"', "{'a': 1}", '{"a": "\\ud800"}', "[" * 100_000, "<a/>"),
            "unreadable_metadata",
        ),
        {
            text: text
            for text in (
                '{"a":' * 50_000 + "1" + "}" * 50_000,
                '{"a": 1e400, "b": 123456789012345678901234567890}',
                '{"a": 1, "a": 2}',
            )
        }
        | {"null": None},
    ),
    of_values(
        "metadata with values that do not fit",
        "subscription_events",
        "metadata",
        {
            "{" * 100_000: "unreadable_metadata",
        },
        {
            text: text
            for text in (
                '{"total_seats": null}',
                '{"total_seats": "7"}',
                *_MISFITS,
            )
        },
    ),
    of_values(
        "flags and words",
        "events",
        "location",
        dict.fromkeys(("WEB_APP", "web_app ", "0", "\uff57eb_app"), "unknown_location"),
        {"api": "api"},
    ),
    of_values(
        "types of events",
        "events",
        "event_type",
        dict.fromkeys(
            ("Video_created", "video", "video created", "video_created\n", "vidéo_created", "a__b"),
            "invalid_event_type",
        ),
        {"video_created": "video_created"},
    ),
]

# ---------------------------------------------------------------- files and folders

FILES = [
    Case(
        "an input with two names",
        copied("seed_users.csv", "users.csv"),
        loads=ENTITIES,
        error=(
            "Found 2 files or folders for the input users: seed_users.csv, users.csv. Keep one",
        ),
    ),
    Case(
        "a file and a folder of one input",
        then(folder_of("users", "a.csv"), copied("seed_users/a.csv", "users.csv")),
        loads=ENTITIES,
        error=("Found 2 files or folders for the input users: seed_users, users.csv. Keep one",),
    ),
    Case(
        "no events",
        removed("events"),
        loads=ENTITIES,
        error=("does not contain the input events. Add events.csv, events.parquet",),
    ),
    Case(
        "a compressed copy",
        copied("seed_users.csv", "users.csv.gz"),
        loads=ENTITIES,
        error=(
            "Found 2 files or folders for the input users: seed_users.csv, users.csv.gz. Keep one",
        ),
    ),
    unchanged(
        "unusual file names",
        "events",
        then(
            folder_of("events", "it's; DROP TABLE x --.csv"),
            split_file(
                "seed_events/it's; DROP TABLE x --.csv",
                *('say "hi" [a-z]*?.csv', "two\nlines.csv", "a..b.csv", "{x} %s $1 é.csv"),
            ),
        ),
    ),
    Case(
        "an unusual file name in a message",
        then(folder_of("events", "a.csv"), written("seed_events/b\n\x1b[31m.csv", b"")),
        loads=EVENTS,
        error=(r"seed_events/b\n\x1b[31m.csv does not have a header",),
    ),
    refused(
        "a link to elsewhere",
        "users",
        linked("users", Path("/etc/passwd")),
        "points outside the source folder",
    ),
    refused(
        "a link to above",
        "users",
        linked("users", Path("..") / "kept.duckdb"),
        "points outside the source",
    ),
    refused(
        "a link to itself", "users", linked("users", Path("seed_users.csv")), "cannot be reached"
    ),
    refused("a link to nowhere", "users", linked("users", Path("nothing.csv")), "is a broken link"),
    Case(
        "folders that link back to themselves",
        then(folder_of("events", "a.csv"), linked_folder("seed_events/again", ".")),
        loads=EVENTS,
        error=("seed_events/again links back to itself. Remove the link",),
    ),
    refused(
        "a folder with a file's name",
        "users",
        folder_for("users"),
        "is not a regular file. Replace it with a regular file",
    ),
    refused(
        "a pipe", "users", pipe("users"), "is not a regular file. Replace it with a regular file"
    ),
    Case(
        "a folder without a valid date",
        then(by_day("events"), written("seed_events/event_date=2025-02-30/a.csv", b"")),
        loads=EVENTS,
        error=(
            "seed_events/event_date=2025-02-30 does not have a readable date. Rename the folder",
        ),
    ),
    Case(
        "a file outside the day folders",
        then(by_day("events"), written("seed_events/a.csv", b"")),
        loads=EVENTS,
        error=("and files outside those folders, such as seed_events/a.csv",),
    ),
]

# ---------------------------------------------------------------- Parquet

PARQUET = [
    unchanged("Parquet for CSV", "events", parquet("events")),
    refused_parquet("a wrong mark", lambda content: b"PAR0" + content[4:-4] + b"PAR0"),
    refused_parquet("half a file", lambda content: content[: len(content) // 2]),
    refused_parquet(
        "a footer that is too long", lambda content: content[:-8] + b"\xff\xff\xff\x7fPAR1"
    ),
    refused_parquet("damaged data", lambda content: content[:4] + b"\xff" * 400 + content[404:]),
    refused_parquet(
        "CSV with a Parquet name", lambda _: (SEEDS / "seed_accounts.csv").read_bytes()
    ),
    refused_parquet("an empty file", lambda _: b""),
    refused(
        "Parquet with a CSV name",
        "users",
        then(parquet("users"), moved("seed_users.parquet", "seed_users.csv")),
        "Save the file as CSV in UTF-8",
    ),
    Case(
        "Parquet: text that is not UTF-8",
        parquet("users", email="encode(email) || '\\xFF'::BLOB"),
        error=("seed_users.parquet cannot be read as Parquet (", "a value is not valid UTF8"),
    ),
    Case(
        "nested values, and numbers and times of other types",
        parquet(
            "accounts",
            account_name="{'first': account_name, 'more': [1, NULL]}",
            total_seats="total_seats::DOUBLE / CASE account_id WHEN 'acc_10' THEN 4 ELSE 1 END",
            account_created_at="account_created_at::TIMESTAMPTZ",
            contract_renewal_date="contract_renewal_date::DATE",
            monthly_recurring_revenue="CASE account_id WHEN 'acc_02' THEN 'NaN'::DOUBLE"
            " WHEN 'acc_03' THEN 'inf'::DOUBLE WHEN 'acc_04' THEN -1"
            " ELSE monthly_recurring_revenue::DOUBLE END",
            is_trial="is_trial::BOOLEAN",
        ),
        lost={"accounts": ACCOUNTS},
        gained={"accounts": ACCOUNTS},
        holds={
            "SELECT account_name, total_seats, monthly_recurring_revenue, contract_renewal_date"
            " FROM bronze.bronze_accounts WHERE account_id = 'acc_08'": [
                (
                    '{"first":"Silverbirch Health","more":[1,null]}',
                    5,
                    Decimal(1500),
                    date(2026, 5, 15),
                )
            ],
            "SELECT account_id, total_seats, monthly_recurring_revenue, faults"
            " FROM bronze.bronze_accounts WHERE account_id IN ('acc_02', 'acc_03', 'acc_04', 'acc_10')"
            " AND (total_seats IS NULL OR monthly_recurring_revenue = 0) ORDER BY account_id": [
                ("acc_02", 3, 0, None),
                ("acc_03", 4, 0, "unreadable_monthly_recurring_revenue"),
                ("acc_04", 6, 0, "unreadable_monthly_recurring_revenue"),
                ("acc_10", None, 60, "unreadable_total_seats"),
            ],
        },
    ),
]

FORMS = [*ENCODINGS, *QUOTING, *SIZES, *PARQUET]
"""Forms of files, which the tests of the source reader cover without a load."""

CASES = [
    *(pytest.param(case, id=case.name, marks=pytest.mark.slow) for case in FORMS),
    *(pytest.param(case, id=case.name) for case in (*COLUMNS, *IDS, *REFERENCES, *VALUES, *FILES)),
]


# ---------------------------------------------------------------- the test

Tables = Mapping[str, list[Row]]


@dataclass(frozen=True)
class Prepared:
    """A graph whose database contains the seeds, and a copy of the database to start from."""

    graph: Graph
    kept: Path
    before: Tables

    def load(self, case: Case) -> list[Failure]:
        """Load a faulty copy of the seeds over the original ones."""
        shutil.copy(self.kept, self.graph.database)
        shutil.rmtree(self.graph.source)
        shutil.copytree(SEEDS, self.graph.source)
        case.spoil(self.graph.source)
        result = self.graph.run(DAYS if set(EVENTS) & set(case.loads) else None, only=case.loads)
        found = failures_of(result.all_events)
        # Errors and their causes are stored, so they must not quote email addresses.
        assert not any("@example.com" in str(event) for event in result.all_events)
        assert bool(found) is not result.success
        return found

    def tables(self) -> Tables:
        """Return the current content of all tables."""
        return contents(self.graph)


def contents(graph: Graph) -> Tables:
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        done = connection.execute("SELECT * FROM operations.materializations ORDER BY ALL")
        return {**graph.contents_of(BOTH), "materializations": done.fetchall()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("malformed")
    source = shutil.copytree(SEEDS, folder / "source")
    graph = Graph(source, folder / "warehouse.duckdb", folder / "home", DAYS.first)
    with graph.instance:
        assert graph.run(DAYS, only=BOTH).success
        before = contents(graph)
        assert {name: len(before[f"bronze_{name}"]) for name in INPUTS} == READ
        kept = Path(shutil.copy(graph.database, folder / "kept.duckdb"))
        yield Prepared(graph, kept, before)


@pytest.mark.parametrize("case", CASES)
def test_malformed_source(prepared: Prepared, case: Case) -> None:
    found = prepared.load(case)
    after = prepared.tables()
    assert_bounds_are_known(prepared.graph, case)
    if case.error:
        [failure] = found
        assert failure.is_source_error
        for part in case.error:
            assert part in str(failure)
        assert_plain(str(failure))
        assert_same(after, prepared.before)
        return
    assert found == []
    assert rejected(after) == case.rejected
    assert ledger(after, case.loads) == {
        name: (
            READ[name] + case.more.get(name, 0),
            case.repeated.get(name, 0),
            len(after[f"bronze_{name}"]) - case.kept.get(name, 0),
            sum(count for (of, _), count in case.rejected.items() if of == name),
        )
        for name in INPUTS
        if f"bronze_{name}" in case.loads
    }
    for name in INPUTS:
        assert_rows(name, prepared.before, after, case)
    with duckdb.connect(str(prepared.graph.database), read_only=True) as connection:
        for query, expected in case.holds.items():
            assert connection.execute(query).fetchall() == expected


def assert_plain(message: str) -> None:
    """Assert that a message is one line without internals or email addresses."""
    assert "\n" not in message
    assert len(message) < 1_000
    for part in ("Traceback", 'File "', "@example.com", str(Path(__file__).parents[2])):
        assert part not in message


def assert_bounds_are_known(graph: Graph, case: Case) -> None:
    """Assert that the date range of the source is found, or refused with a plain message."""
    try:
        bounds = source_range(Settings(source=graph.source))
    except SourceError as error:
        # Only the source determines its range, so kept accounts do not count.
        nothing_remains = case.kept.get("accounts") == READ["accounts"]
        assert case.error or nothing_remains
        assert_plain(str(error))
    else:
        assert date(1990, 1, 1) <= bounds.first <= bounds.last


def rejected(tables: Tables) -> Mapping[tuple[str, str], int]:
    counted = Counter(
        (input_name, reason) for input_name, reason, *_ in tables["bronze_rejected_entities"]
    )
    counted.update(("events", reason) for _, _, reason, *_ in tables["bronze_rejected_events"])
    return counted


def ledger(tables: Tables, loads: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    """Return the number of rows read, repeated, accepted and rejected per input."""
    loaded = tables["bronze_entity_loads"]
    assert {derived for *_, derived, _, _ in loaded} == {0}  # all inputs are in the source
    counts = {name: tuple(counts) for name, _, *counts, _, _, _ in loaded}
    days = [counts for _, _, _, *counts in tables["bronze_loads"]]
    counts["events"] = tuple(sum(column) for column in zip(*days, strict=True))
    return {name: counts[name] for name in INPUTS if f"bronze_{name}" in loads}


def assert_rows(name: str, before: Tables, after: Tables, case: Case) -> None:
    """Assert that the rows of a table are unchanged except for the lost and gained ones."""
    table = f"bronze_{name}"
    lost, gained = case.lost.get(name, set()), case.gained.get(name, set())
    kept = [row for row in before[table] if row[0] not in lost]
    assert [row for row in after[table] if row[0] not in gained] == kept
    assert gained <= {row[0] for row in after[table]}


# ---------------------------------------------------------------- the command line

_DROP_FROM_BOUNDING_SET = 24
_CAPABILITIES_TO_READ_ANYTHING = (1, 2)


def bound_by_permissions() -> None:
    """Make the started program respect file permissions, even if root runs it."""
    libc = ctypes.CDLL(None)
    for capability in _CAPABILITIES_TO_READ_ANYTHING:
        libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


@pytest.mark.parametrize(
    ("spoil", "variables", "said"),
    [
        (
            text_of("events", str, "utf-16"),
            {},
            "monstera: seed_events.csv is encoded in UTF-16. Save the file in UTF-8.",
        ),
        (
            then(parquet("users"), written("seed_users.parquet", b"PAR1 no more PAR1")),
            {"MONSTERA_START_DATE": str(DAYS.first)},
            "monstera: load_entities: seed_users.parquet cannot be read as Parquet (",
        ),
    ],
    ids=["while looking for days", "in the run"],
)
def test_command_says_one_line(
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Spoil,
    variables: Mapping[str, str],
    said: str,
) -> None:
    with kept_as_it_is(prepared, tmp_path, spoil) as arguments:
        done = in_this_process(monkeypatch, tmp_path, *arguments, variables=variables)
    assert done.code == 2
    assert_one_line(done.err, said)


def test_a_file_that_may_not_be_read_is_one_line(prepared: Prepared, tmp_path: Path) -> None:
    def spoil(source: Path) -> None:
        path_of(source, "users").chmod(0)

    with kept_as_it_is(prepared, tmp_path, spoil) as arguments:
        done = subprocess.run(
            [MONSTERA, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=bound_by_permissions,
        )
    assert done.returncode == 2
    assert_one_line(
        done.stderr, "monstera: seed_users.csv cannot be read (Permission denied). Check"
    )


@contextmanager
def kept_as_it_is(prepared: Prepared, folder: Path, spoil: Spoil) -> Iterator[list[str]]:
    """Yield arguments of a run of a faulty source over the seeds, which must change no table."""
    source = Path(shutil.copytree(SEEDS, folder / "source"))
    spoil(source)
    database = Path(shutil.copy(prepared.kept, folder / "monstera.duckdb"))
    before = snapshot(database)
    yield ["run", "--source", "source", "--database", database.name, "--to", str(DAYS.last)]
    tables = snapshot(database)
    assert {name: tables[name] for name in before} == before


def assert_one_line(err: str, said: str) -> None:
    [line] = err.splitlines()
    assert line.startswith(said)
    assert_plain(line)
