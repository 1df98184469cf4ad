"""Every source row is either accepted, or rejected with the first reason that applies."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import ibis.expr.types as ir
import pytest

from monstera_assets.bronze import (
    authoring,
    bronze_accounts,
    bronze_events,
    bronze_product_catalog,
    bronze_subscription_events,
    bronze_users,
    bronze_workflows,
    event_rules,
    load_events,
    validation,
)
from monstera_assets.bronze.load_entities import entity_batch
from monstera_assets.bronze.load_events import ROWS_OUTSIDE, event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.definitions import tables
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.tables import Layer
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import SeedsRun

at = datetime
FIRST = date(2025, 3, 1)
DAYS = DateWindow(FIRST, date(2025, 3, 10))
READING = Reading(earliest=date(2025, 3, 2), first_day=FIRST)

Values = Mapping[str, str]


# ---------------------------------------------------------------- a minimal source

BASE: Mapping[str, Values] = {
    "accounts": {
        "account_id": "acc",
        "account_name": "Account",
        "subscription_tier": "starter",
        "total_seats": "5",
        "account_created_at": "2025-03-02 10:00:00",
        "first_paid_at": "2025-03-02",
        "contract_renewal_date": "2026-01-02",
        "monthly_recurring_revenue": "90.50",
        "is_trial": "false",
    },
    "product_catalog": {
        "product_id": "video",
        "product_name": "Video",
        "product_family_id": "family",
        "tier": "product",
        "parent_product_id": "family",
        "is_active": "true",
        "created_at": "2024-01-01",
        "product_owner": "team",
        "activation_event_types": "video_created",
        "qualifying_event_types": "video_created",
        "active_days": "10",
        "dormant_days": "20",
    },
    "users": {
        "user_id": "user",
        "email": "user@example.com",
        "account_id": "acc",
        "user_created_at": "2025-03-02 12:00:00",
        "country": "US",
        "plan_type": "paid",
        "acquisition_source": "organic",
    },
    "subscription_events": {
        "event_id": "sub",
        "entity_id": "acc",
        "entity_type": "account",
        "event_type": "seats_changed",
        "timestamp": "2025-03-04 10:00:00",
        "location": "api",
        "session_id": "",
        "product_id": "",
        "is_qualifying_event": "false",
        "is_activation_event": "false",
        "metadata": "",
        "received_at": "",
    },
    "workflows": {
        "workflow_id": "flow",
        "workflow_name": "Flow",
        "product_id": "video",
        "step_number": "1",
        "event_type": "video_created",
    },
    "events": {
        "event_id": "event",
        "entity_id": "user",
        "entity_type": "user",
        "event_type": "video_created",
        "timestamp": "2025-03-05 10:00:00",
        "location": "web_app",
        "session_id": "",
        "product_id": "video",
        "is_qualifying_event": "true",
        "is_activation_event": "true",
        "metadata": "",
        "received_at": "",
    },
}
"""A valid row per input, which every source contains; cases change some of its values."""

IDENTIFIED_BY = {
    "accounts": ("account_id", "account_name"),
    "product_catalog": ("product_id", "product_name"),
    "users": ("user_id", "country"),
    "subscription_events": ("event_id", "session_id"),
    "workflows": ("workflow_id", "workflow_name"),
    "events": ("event_id", "session_id"),
}
"""Two columns per input with the name of a case, of which the case may break one."""

FAMILY = {
    "product_id": "family",
    "tier": "family",
    "parent_product_id": "",
    "activation_event_types": "",
    "qualifying_event_types": "family_used",
}
OTHER_USERS = (
    {"user_id": "7"},
    {"user_id": "late", "user_created_at": "2025-03-05 12:00:00"},
    {"user_id": "gone", "user_created_at": "2025-03-02"},
)
DELETION = {
    "event_id": "deletion",
    "entity_id": "gone",
    "entity_type": "user",
    "event_type": "user_deleted",
    "timestamp": "2025-03-04 12:00:00",
}


@dataclass(frozen=True)
class Case:
    """A row that is rejected with a reason, and a similar row that is accepted."""

    input_name: str
    reason: str
    bad: Values
    good: Values = field(default_factory=dict)
    detail: str | None = None

    def rows(self, number: int) -> Iterator[dict[str, str]]:
        """Yield the accepted row last: of two rows with the same key, it is kept."""
        for kind, values in (("bad", self.bad), ("good", self.good)):
            name = f"{kind}-{number}"
            named = dict.fromkeys(IDENTIFIED_BY[self.input_name], name)
            yield {**BASE[self.input_name], **named, **values}


def _missing(input_name: str, *columns: str) -> list[Case]:
    return [
        Case(input_name, f"missing_{column}", {column: value})
        for column in columns
        for value in ("", " NULL ")
    ]


def _metadata(**values: object) -> dict[str, str]:
    return {"metadata": json.dumps(values)}


_MISSING_IN_EVENTS = ("entity_id", "event_type", "timestamp")


def _event_cases(name: str) -> list[Case]:
    """Return the cases common to events and subscription events."""
    case = partial(Case, name)
    return [
        *_missing(name, *_MISSING_IN_EVENTS),
        case("unknown_entity_type", {"entity_type": "robot"}, {"entity_type": ""}),
        case("unknown_location", {"location": "the moon"}, {"location": ""}),
        *(
            case("invalid_event_type", {"event_type": event_type})
            for event_type in ("Video_created", "video", "video-created", "_video_created", "v__c")
        ),
        *(
            case("unreadable_metadata", {"metadata": text}, {"metadata": '{"a": [1]}'})
            for text in ('{"a": ', "[1]", "3", "'a'")
        ),
        case("unreadable_timestamp", {"timestamp": "yesterday"}),
        case("unreadable_timestamp", {"timestamp": "2025-02-30 10:00:00"}),
        case(
            "unreadable_timestamp",
            {"timestamp": "2025-03-05 10:00:00 BST"},
            {"timestamp": "1741168800"},
        ),
        case(
            "before_earliest_event_date",
            {"timestamp": "2025-03-01 23:59:59"},
            {"timestamp": "2025-03-02 00:00:00"},
        ),
        case("before_earliest_event_date", {"timestamp": "1970-01-01 00:00:00"}),
        case(
            "before_earliest_event_date",
            {"timestamp": "2025-03-02T01:00:00+02:00"},
            {"timestamp": "2025-03-01T23:00:00-02:00"},
        ),
        *(
            case(f"unknown_{kind}", {"entity_type": kind, "entity_id": "no such"})
            for kind in ("account", "user")
            if (name, kind) != ("subscription_events", "user")
        ),
        *(
            case(
                "unknown_account",
                {"entity_type": "account", "entity_id": entity_id},
                {"entity_type": "account", "entity_id": "acc"},
                detail="acc",
            )
            for entity_id in ("ACC", " acc", "acc.0")
        ),
        case(
            "account_rejected",
            {"entity_type": "account", "entity_id": "old"},
            {"entity_type": "account", "entity_id": "acc"},
            detail="before_earliest_event_date",
        ),
        case("unknown_product", {"product_id": "no such"}, {"product_id": ""}),
        case("unknown_product", {"product_id": "Video"}, {"product_id": "\\N"}, detail="video"),
        case(
            "superseded",
            {"event_id": "twice", "timestamp": "2025-03-06 10:00:00"},
            {"event_id": "twice", "timestamp": "2025-03-06 11:00:00"},
        ),
        case(
            "superseded",
            {"event_id": "later", "received_at": "2025-03-07 10:00:00"},
            {
                "event_id": "later",
                "received_at": "2025-03-07T10:00:01Z",
                "timestamp": "2025-03-04 10:00:00",
            },
        ),
    ]


CASES = [
    *_missing("accounts", "account_id", "account_created_at"),
    Case("accounts", "unreadable_account_created_at", {"account_created_at": "long ago"}),
    Case(
        "accounts",
        "before_earliest_event_date",
        {"account_created_at": "2025-03-01 23:59:59"},
        {"account_created_at": "2025-03-02 00:00:00"},
    ),
    Case("accounts", "superseded", {"account_id": "twice"}, {"account_id": "twice"}),
    *_missing("product_catalog", "product_id"),
    Case(
        "product_catalog",
        "unknown_parent_product",
        {"parent_product_id": "no such"},
        {"tier": "feature", "parent_product_id": "video"},
    ),
    Case("product_catalog", "parent_not_of_tier_above", {"tier": "sub_feature"}),
    Case("product_catalog", "parent_not_of_tier_above", {"tier": "family"}),
    Case("product_catalog", "other_family_than_parent", {"product_family_id": "video"}),
    Case("product_catalog", "superseded", {"product_id": "twice"}, {"product_id": "twice"}),
    *_missing("users", "user_id", "user_created_at", "account_id"),
    Case("users", "unreadable_user_created_at", {"user_created_at": "2025-02-01 25:00:00"}),
    Case(
        "users",
        "before_earliest_event_date",
        {"user_created_at": "0001-01-01"},
        {"user_created_at": "2025-03-02"},
    ),
    Case("users", "unknown_account", {"account_id": "no such"}),
    Case("users", "unknown_account", {"account_id": "Acc "}, detail="acc"),
    Case("users", "account_rejected", {"account_id": "old"}, detail="before_earliest_event_date"),
    Case("users", "superseded", {"user_id": "twice"}, {"user_id": "twice"}),
    *_event_cases("subscription_events"),
    Case(
        "subscription_events",
        "unknown_user",
        {**DELETION, "event_id": "d", "entity_id": "nobody"},
        # The day of the first deletion does not limit later facts.
        {**DELETION, "event_id": "e", "timestamp": "2025-03-09"},
    ),
    Case(
        "subscription_events",
        "user_rejected",
        {**DELETION, "event_id": "h", "entity_id": "in-old"},
        {
            **DELETION,
            "event_id": "i",
            "entity_id": "late",
            "entity_type": "",
            "timestamp": "2025-03-09",
        },
        detail="account_rejected",
    ),
    Case(
        "subscription_events",
        "before_user_creation",
        {**DELETION, "event_id": "f", "entity_id": "late", "timestamp": "2025-03-04 23:00:00"},
    ),
    *(
        Case("subscription_events", "unknown_subscription_event", values)
        for values in (
            {"event_type": "coffee_made"},
            {"event_type": "user_deleted", "entity_type": "account"},
            {"entity_type": "system"},
            {**DELETION, "event_id": "g", "event_type": "seats_changed"},
        )
    ),
    *_missing("workflows", "workflow_id", "product_id", "step_number", "event_type"),
    Case("workflows", "unreadable_step_number", {"step_number": "one"}),
    Case("workflows", "unreadable_step_number", {"step_number": "1.5"}, {"step_number": "2"}),
    Case("workflows", "step_number_below_1", {"step_number": "0"}, {"step_number": "3"}),
    Case("workflows", "unknown_product", {"product_id": "no such"}),
    Case("workflows", "step_in_a_family", {"product_id": "family"}),
    Case("workflows", "superseded", {"workflow_id": "twice"}, {"workflow_id": "twice"}),
    *_event_cases("events"),
    *(
        Case("events", "unknown_user", {"entity_id": entity_id}, {"entity_id": "7"}, detail=detail)
        for entity_id, detail in (("USER", "user"), ("user ", "user"), ("7.0", "7"), ("usr", None))
    ),
    *(
        Case(
            "events",
            "unknown_user",
            {"entity_id": "nobody"},
            {"entity_id": "x", "entity_type": kind},
        )
        for kind in ("system", "admin")
    ),
    Case("events", "user_rejected", {"entity_id": "old"}, detail="before_earliest_event_date"),
    Case("events", "user_rejected", {"entity_id": "in-old"}, detail="account_rejected"),
    Case("events", "user_rejected", {"entity_id": "in-none"}, detail="unknown_account"),
    Case(
        "events",
        "before_user_creation",
        {"entity_id": "late", "timestamp": "2025-03-04 23:59:59"},
        {"entity_id": "late", "timestamp": "2025-03-05 00:00:00"},
    ),
    Case(
        "events",
        "after_user_deletion",
        {"entity_id": "gone", "timestamp": "2025-03-05 00:00:00"},
        {"entity_id": "gone", "timestamp": "2025-03-04 23:59:59"},
    ),
]
"""At least one case per reason of each input."""

REJECTED_ENTITIES: Mapping[str, Sequence[Values]] = {
    "accounts": [{"account_id": "old", "account_created_at": "1900-01-01"}],
    "users": [
        {"user_id": "old", "user_created_at": "0001-01-01"},
        {"user_id": "in-old", "account_id": "old"},
        {"user_id": "in-none", "account_id": "none such"},
    ],
}
"""Rows that are rejected, to which other rows refer."""


BY_FOLDER_ONLY = "not_on_date_of_folder"
"""The only reason that does not occur in single-file sources."""

CASCADING = {"user_rejected": "unknown_user", "account_rejected": "unknown_account"}
"""Reasons that replace another one where the entity itself was rejected."""


def _csv(columns: Sequence[str], rows: Sequence[Values]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, input_name: str, rows: Sequence[Values]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_csv(list(BASE[input_name]), rows), encoding="utf-8")
    return path


def _write_source(folder: Path, **rows: Sequence[Values]) -> Path:
    """Write a source of the base rows and `rows`, one file per input; events only if given."""
    entities: dict[str, list[Values]] = {
        name: [BASE[name], *rows.get(name, [])] for name in BASE if name != "events"
    }
    entities["users"] += [{**BASE["users"], **user} for user in OTHER_USERS]
    entities["product_catalog"].append({**BASE["product_catalog"], **FAMILY})
    entities["subscription_events"].append({**BASE["subscription_events"], **DELETION})
    for name, of_input in entities.items():
        _write(folder / f"{name}.csv", name, of_input)
    if "events" in rows:
        _write(folder / "events.csv", "events", rows["events"])
    return folder


@contextmanager
def _opened(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(str(database), connection_config(threads=2)) as connection:
        yield connection


def _load_entities(database: Path, source: Path, reading: Reading = READING) -> None:
    with _opened(database) as connection, DuckDBEngine(connection).transaction():
        entity_batch(discover_source(source), reading, open_queries()).write(connection, None)


def _load_events(
    database: Path, source: Path, window: DateWindow = DAYS, reading: Reading = READING
) -> Mapping[str, int]:
    inputs = discover_source(source)
    batch = event_batch(
        inputs,
        window=window,
        reading=reading,
        queries=open_queries(),
    )
    with _opened(database) as connection, DuckDBEngine(connection).transaction():
        batch.write(connection, window)
    return batch.counts


def _query(database: Path, select: str) -> list[tuple[Any, ...]]:
    with _opened(database) as connection:
        return connection.execute(select).fetchall()


@pytest.fixture(scope="module")
def _with_entities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("entities")
    _load_entities(folder / "warehouse.duckdb", _write_source(folder / "source", events=[]))
    return folder / "warehouse.duckdb"


@pytest.fixture
def database(tmp_path: Path, _with_entities: Path) -> Path:
    """Return a database with the entities of every minimal source."""
    return Path(shutil.copy(_with_entities, tmp_path / "warehouse.duckdb"))


# ---------------------------------------------------------------- every reason

MALFORMED = "malformed,row\n"


@dataclass(frozen=True)
class Loaded:
    """The loaded cases: the outcome of each row, and the rules that were evaluated."""

    database: Path
    source: Path
    rejected: Mapping[tuple[str, str], tuple[str, str | None]]
    accepted: frozenset[tuple[str, str]]
    rules: Mapping[str, Sequence[str]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("cases")
    rows: dict[str, list[Values]] = {
        name: [{**BASE[name], **values} for values in of_input]
        for name, of_input in REJECTED_ENTITIES.items()
    }
    for number, case in enumerate(CASES):
        rows.setdefault(case.input_name, []).extend(case.rows(number))
    for name, of_case in rows.items():
        # One row of each input is repeated.
        of_case += [BASE[name]] * (2 if name == "events" else 1)
    source = _write_source(folder / "source", **rows)
    for name in BASE:
        with (source / f"{name}.csv").open("a", encoding="utf-8") as file:
            file.write(MALFORMED)
    database = folder / "warehouse.duckdb"
    declared: dict[str, list[str]] = {name: [] for name in BASE}
    with pytest.MonkeyPatch.context() as patch:
        for module in (bronze_accounts, bronze_product_catalog, bronze_users, bronze_workflows):
            of_input = declared[module.TABLE.name.removeprefix("bronze_")]
            recording = {
                name: partial(_recorded, of_input, getattr(validation, name))
                for name in ("with_reason", "first_reason")
            }
            patch.setattr(module, "ma", SimpleNamespace(**{**vars(authoring), **recording}))
        classified = event_rules.classified
        of_events = partial(_recorded, declared["events"], classified)
        patch.setattr(bronze_events, "classified", of_events)
        of_facts = partial(_recorded, declared["subscription_events"], classified)
        rules = SimpleNamespace(**{**vars(event_rules), "classified": of_facts})
        patch.setattr(bronze_subscription_events, "event_rules", rules)
        _load_entities(database, source)
        _load_events(database, source)
    rejected = _query(
        database,
        "SELECT input_name, rejection_reason, rejection_detail, raw_row"
        " FROM bronze.bronze_rejected_entities UNION ALL SELECT 'events', rejection_reason,"
        " rejection_detail, raw_row FROM bronze.bronze_rejected_events",
    )
    accepted = {
        (name, value)
        for name, columns in IDENTIFIED_BY.items()
        for values in _query(database, f"SELECT {', '.join(columns)} FROM bronze.bronze_{name}")
        for value in values
    }
    return Loaded(
        database,
        source,
        {
            (name, value): (reason, detail)
            for name, reason, detail, raw_row in rejected
            if raw_row + "\n" != MALFORMED
            for value in (json.loads(raw_row)[column] for column in IDENTIFIED_BY[name])
            if value
        },
        frozenset(accepted),
        {name: tuple(dict.fromkeys(reasons)) for name, reasons in declared.items()},
    )


def _recorded(declared: list[str], function: Callable[..., Any], *args: Any) -> Any:
    """Record the names of the rules, which are the last argument, and call the function."""
    declared.extend(reason for reason, _ in args[-1])
    return function(*args)


@pytest.mark.parametrize(
    "number",
    range(len(CASES)),
    ids=[f"{case.input_name}-{case.reason}-{number}" for number, case in enumerate(CASES)],
)
def test_row_is_rejected_and_its_neighbour_accepted(loaded: Loaded, number: int) -> None:
    case = CASES[number]
    assert loaded.rejected[case.input_name, f"bad-{number}"] == (case.reason, case.detail)
    assert (case.input_name, f"bad-{number}") not in loaded.accepted
    assert (case.input_name, f"good-{number}") in loaded.accepted
    assert (case.input_name, f"good-{number}") not in loaded.rejected


@pytest.mark.parametrize("input_name", BASE)
def test_every_reason_has_a_case(loaded: Loaded, input_name: str) -> None:
    reasons = {*loaded.rules[input_name], "superseded"} - {BY_FOLDER_ONLY}
    if input_name == "subscription_events":
        reasons -= {"after_user_deletion"}
    shown = {case.reason for case in CASES if case.input_name == input_name}
    assert shown - CASCADING.keys() == reasons
    for cascading, reason in CASCADING.items():
        assert (cascading in shown) == (reason in shown)


_ORDER_OF_EVENTS = (
    *("missing_entity_id", "missing_event_type", "missing_timestamp"),
    *("unknown_entity_type", "unknown_location", "invalid_event_type", "unreadable_metadata"),
    *("unreadable_timestamp", "before_earliest_event_date", BY_FOLDER_ONLY),
    *("unknown_user", "unknown_account", "before_user_creation", "after_user_deletion"),
    "unknown_product",
)


@pytest.mark.parametrize(
    ("input_name", "order"),
    [
        ("events", _ORDER_OF_EVENTS),
        ("subscription_events", (*_ORDER_OF_EVENTS, "unknown_subscription_event")),
        (
            "users",
            (
                *("missing_user_id", "missing_user_created_at", "unreadable_user_created_at"),
                *("before_earliest_event_date", "missing_account_id", "unknown_account"),
            ),
        ),
        (
            "accounts",
            (
                *("missing_account_id", "missing_account_created_at"),
                *("unreadable_account_created_at", "before_earliest_event_date"),
            ),
        ),
    ],
)
def test_reasons_come_in_the_agreed_order(
    loaded: Loaded, input_name: str, order: Sequence[str]
) -> None:
    assert tuple(loaded.rules[input_name]) == tuple(order)


def test_first_reason_that_applies_counts(tmp_path: Path, database: Path) -> None:
    # Breaks all rules that one row can break at once; each further row fixes the first of them.
    broken = {
        "event_id": "twice",
        "entity_id": "",
        "entity_type": "robot",
        "event_type": "Oh No",
        "timestamp": "yesterday",
        "location": "the moon",
        "product_id": "no such",
        "is_qualifying_event": "perhaps",
        "received_at": "soon",
        "metadata": "[",
    }
    healing: list[tuple[dict[str, str], str]] = [
        ({}, "missing_entity_id"),
        ({"entity_id": "nobody"}, "unknown_entity_type"),
        ({"entity_type": "user"}, "unknown_location"),
        ({"location": "api"}, "invalid_event_type"),
        ({"event_type": "video_created"}, "unreadable_metadata"),
        ({"metadata": ""}, "unreadable_timestamp"),
        ({"timestamp": "1900-01-01"}, "before_earliest_event_date"),
        ({"timestamp": "2025-03-05"}, "unknown_user"),
        ({"entity_id": "gone"}, "after_user_deletion"),
        ({"entity_id": "user"}, "unknown_product"),
        ({"product_id": ""}, "superseded"),
    ]
    rows = []
    for healed, _ in healing:
        broken |= healed
        rows.append(dict(broken))
    rows.append({**BASE["events"], "event_id": "twice"})
    source = _write_source(tmp_path / "source", events=rows)
    _load_events(database, source)
    found = _query(database, "SELECT rejection_reason FROM bronze.bronze_rejected_events")
    assert Counter(reason for (reason,) in found) == Counter(reason for _, reason in healing)


def test_accepted_and_rejected_add_up_to_the_rows_of_the_files(loaded: Loaded) -> None:
    ledger = {
        name: counts
        for name, *counts in _query(
            loaded.database,
            "SELECT input_name, rows_read, rows_repeated, rows_accepted, rows_rejected FROM"
            " bronze.bronze_entity_loads UNION ALL SELECT 'events', sum(rows_read),"
            " sum(rows_repeated), sum(rows_accepted), sum(rows_rejected) FROM bronze.bronze_loads",
        )
    }
    for name in BASE:
        with (loaded.source / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            in_file = sum(1 for _ in csv.reader(file)) - 1
        [(in_table,)] = _query(loaded.database, f"SELECT count(*) FROM bronze.bronze_{name}")
        assert ledger[name] == [in_file, 1, in_table, in_file - in_table - 1]
    malformed = _query(
        loaded.database,
        "SELECT rejection_reason, raw_row FROM bronze.bronze_rejected_entities"
        " WHERE rejection_reason LIKE 'malformed%' UNION ALL SELECT rejection_reason, raw_row"
        " FROM bronze.bronze_rejected_events WHERE rejection_reason LIKE 'malformed%'",
    )
    assert malformed == [("malformed_row_field_count", MALFORMED.strip())] * len(BASE)


def test_rejected_row_is_kept_as_it_stood_in_the_source(loaded: Loaded) -> None:
    # The second such case is one of events.
    [_, number] = [n for n, case in enumerate(CASES) if case.bad == {"metadata": "'a'"}]
    [(raw_row, source_file, event_date)] = _query(
        loaded.database,
        "SELECT raw_row, source_file, event_date FROM bronze.bronze_rejected_events"
        f" WHERE raw_row LIKE '%\"bad-{number}\"%'",
    )
    [row] = [row for row in CASES[number].rows(number) if row["event_id"] == f"bad-{number}"]
    stood = {name: value or None for name, value in row.items()}
    assert stood.items() <= json.loads(raw_row).items()
    assert source_file == "events.csv"
    assert event_date == date(2025, 3, 5)


# ---------------------------------------------------------------- faults and defaults


@dataclass(frozen=True)
class Accepted:
    """A row that is accepted, with its faults in any order and what some columns contain."""

    input_name: str
    faults: str
    values: Values
    expected: Mapping[str, object] = field(default_factory=dict)

    def row(self, number: int) -> Values:
        named = dict.fromkeys(IDENTIFIED_BY[self.input_name], f"row-{number}")
        return {**BASE[self.input_name], **named, **self.values}


def _accepted(input_name: str, *rows: tuple[str, Values, Mapping[str, object]]) -> list[Accepted]:
    return [Accepted(input_name, *row) for row in rows]


def _accepted_events(name: str) -> list[Accepted]:
    row = partial(Accepted, name)
    address = '{"by": "[email]"}'
    return [
        row("", {"received_at": "2025-03-09T10:00:00Z"}, {"received_at": at(2025, 3, 9, 10)}),
        row("unreadable_received_at", {"received_at": "soon"}, {"received_at": None}),
        row("email_in_metadata", {"metadata": '{"by": "ada@x.org"}'}, {"metadata": address}),
        row("email_in_metadata", {"metadata": '{"by": "ada\\u0040x.org"}'}, {"metadata": address}),
        row("", {"metadata": '{"by": "@ada"}'}, {"metadata": '{"by": "@ada"}'}),
        row("", {"metadata": '{"a": "NULL"}'}, {"metadata": '{"a": null}'}),
        row(
            "",
            dict.fromkeys(("metadata", "session_id", "product_id", "received_at"), "NULL")
            | {
                "event_id": "null-" + name,
                "event_type": "seats_changed",
                "is_qualifying_event": "NULL",
                "is_activation_event": "false",
            },
            {"metadata": None, "session_id": None, "product_id": None, "received_at": None},
        ),
        row(
            "unreadable_received_at,email_in_metadata",
            {"received_at": "soon", "metadata": '{"by": "ada@x.org"}'},
        ),
    ]


ACCEPTED = [
    *_accepted(
        "accounts",
        ("", {"total_seats": "3.0"}, {"total_seats": 3}),
        ("", {"total_seats": "0"}, {"total_seats": 0}),
        *(
            ("unreadable_total_seats", {"total_seats": seats}, {"total_seats": None})
            for seats in ("many", "3.7", "-1")
        ),
        ("unreadable_first_paid_at", {"first_paid_at": "-"}, {"first_paid_at": None}),
        (
            "",
            {"first_paid_at": "1899-12-31"},
            {"first_paid_date": date(1899, 12, 31)},
        ),
        *(
            (
                "unreadable_contract_renewal_date",
                {"contract_renewal_date": day},
                {"contract_renewal_date": None},
            )
            for day in ("2025-13-01", "infinity")
        ),
        (
            "",
            {"contract_renewal_date": "9999-12-31"},
            {"contract_renewal_date": date(9999, 12, 31)},
        ),
        *(
            (
                "unreadable_monthly_recurring_revenue",
                {"monthly_recurring_revenue": amount},
                {"monthly_recurring_revenue": 0},
            )
            for amount in ("90,00 €", "-0.01")
        ),
        ("unreadable_is_trial", {"is_trial": "perhaps"}, {"is_trial": False}),
        (
            "unreadable_is_trial",
            {"is_trial": "perhaps", "subscription_tier": "trial"},
            {"is_trial": True},
        ),
        *(
            (
                "unknown_subscription_tier",
                {"subscription_tier": tier},
                {"subscription_tier": tier},
            )
            for tier in ("free", "Professional")
        ),
        (
            "unreadable_total_seats,unreadable_is_trial",
            {"total_seats": "x", "is_trial": "x"},
            {"total_seats": None, "is_trial": False},
        ),
        (
            "",
            {
                name: "\\N"
                for name in BASE["accounts"]
                if name not in ("account_id", "account_created_at")
            },
            {
                "subscription_tier": "unknown",
                "total_seats": None,
                "first_paid_at": None,
                "first_paid_date": None,
                "contract_renewal_date": None,
                "monthly_recurring_revenue": 0,
                "is_trial": False,
                "created_date": date(2025, 3, 2),
            },
        ),
    ),
    *_accepted(
        "product_catalog",
        ("unreadable_tier", {"tier": "suite"}, {"tier": "product"}),
        ("unreadable_is_active", {"is_active": "perhaps"}, {"is_active": True}),
        ("unreadable_created_at", {"created_at": "launch day"}, {"created_date": FIRST}),
        *(
            ("unreadable_active_days", {"active_days": days}, {"active_days": None})
            for days in ("x", "0")
        ),
        *(
            (
                "unreadable_dormant_days",
                {"active_days": "20", "dormant_days": days},
                {"active_days": 20, "dormant_days": None},
            )
            for days in ("x", "19")
        ),
        ("", {"active_days": "20", "dormant_days": "20"}, {"dormant_days": 20}),
        (
            "",
            {
                **dict.fromkeys(BASE["product_catalog"], "None"),
                "product_id": "bare",
            },
            {
                "product_name": "bare",
                "product_family_id": "bare",
                "tier": "product",
                "parent_product_id": None,
                "is_active": True,
                "created_at": at(2025, 3, 1),
                "created_date": FIRST,
                "product_owner": "unknown",
                "activation_event_types": "",
                "qualifying_event_types": "",
                "active_days": None,
                "dormant_days": None,
            },
        ),
    ),
    Accepted(
        "users",
        "",
        {
            **dict.fromkeys(("email", "country", "plan_type", "acquisition_source"), "NaN"),
            "user_id": "bare",
        },
        {
            "email": None,
            "country": "unknown",
            "plan_type": "unknown",
            "acquisition_source": "unknown",
            "signup_date": date(2025, 3, 2),
        },
    ),
    *_accepted_events("events"),
    *_accepted_events("subscription_events"),
    Accepted(
        "events",
        "",
        {"entity_type": "", "location": ""},
        {"entity_type": "user", "location": "api"},
    ),
    *(
        Accepted(
            "subscription_events",
            "",
            {"entity_type": "", "location": "", "entity_id": entity_id, "event_type": event_type},
            {"entity_type": entity_type, "location": "api"},
        )
        for entity_id, event_type, entity_type in (
            ("acc", "payment_failed", "account"),
            ("gone", "user_deleted", "user"),
        )
    ),
    *(
        Accepted("subscription_events", faults, _metadata(**{name: given}), {name: expected})
        for faults, name, given, expected in (
            ("unreadable_total_seats", "total_seats", "many", None),
            ("unreadable_total_seats", "total_seats", 3.7, None),
            ("unreadable_total_seats", "total_seats", -1, None),
            ("", "total_seats", 7, 7),
            ("", "total_seats", "NULL", None),
            ("", "total_seats", None, None),
            (
                "unreadable_monthly_recurring_revenue",
                "monthly_recurring_revenue",
                {"euros": 5},
                None,
            ),
            ("unreadable_monthly_recurring_revenue", "monthly_recurring_revenue", -0.01, None),
            ("", "monthly_recurring_revenue", "7.25", Decimal("7.25")),
            ("unreadable_contract_renewal_date", "contract_renewal_date", "next year", None),
            ("", "contract_renewal_date", "2026-03-01T00:00:00", date(2026, 3, 1)),
            ("unreadable_effective_date", "effective_date", 7, None),
            ("", "effective_date", "2025-04-01", date(2025, 4, 1)),
            ("unreadable_grace_until", "grace_until", "2025-02-30", None),
            ("unknown_subscription_tier", "subscription_tier", "gold", "gold"),
            ("", "subscription_tier", "professional", "professional"),
        )
    ),
    *(
        Accepted(
            "subscription_events",
            "",
            {"event_type": event_type, **_metadata(reason=reason)},
            {"pause_reason": expected},
        )
        for event_type, reason, expected in (
            ("subscription_paused", "seasonal", "seasonal"),
            ("subscription_paused", "tired", "voluntary_pause"),
            ("subscription_cancelled", "seasonal", None),
        )
    ),
]
"""Faults and defaults of each input."""

_LISTED = ("event_without_product", "flag_differs_from_catalog", "qualifying_type_in_no_list")
_DEFAULT = "qualifies_by_default"
_NO_PRODUCT, _DIFFERS, _UNLISTED = _LISTED

NODES: Sequence[Values] = (
    {
        "product_id": "clip",
        "tier": "feature",
        "parent_product_id": "video",
        "activation_event_types": "clip_shared",
        "qualifying_event_types": "clip_made | clip_cut",
    },
    {
        "product_id": "audio",
        "activation_event_types": "",
        "qualifying_event_types": "audio_made",
    },
)
"""A feature of the product video, and another product."""

FLAGS = [
    ("video", "video_created", "true", "true", True, True, ""),
    ("video", "video_created", "", "", True, True, ""),
    ("video", "video_created", "true", "", True, True, ""),
    ("video", "video_created", "false", "false", True, True, _DIFFERS),
    ("video", "video_created", "true", "false", True, True, _DIFFERS),
    ("video", "video_created", "perhaps", "", True, True, "unreadable_is_qualifying_event"),
    ("video", "video_created", "true", "2025", True, True, "unreadable_is_activation_event"),
    # The lists of all nodes above apply.
    ("clip", "video_created", "false", "", True, True, _DIFFERS),
    ("clip", "family_used", "", "", True, False, ""),
    ("clip", "family_used", "true", "true", True, False, _DIFFERS),
    ("clip", "clip_cut", "", "", True, False, ""),
    ("clip", "clip_shared", "", "", True, True, ""),
    ("family", "family_used", "", "", True, False, ""),
    # Those of nodes below and of other products do not.
    ("video", "clip_made", "false", "false", False, False, ""),
    ("video", "clip_made", "true", "false", True, False, _UNLISTED),
    ("audio", "video_created", "", "", False, False, ""),
    ("audio", "video_created", "", "true", True, True, _UNLISTED),
    ("audio", "video_created", "false", "true", True, True, _UNLISTED),
    # All lists apply to an event without a product.
    ("", "clip_made", "true", "false", True, False, _NO_PRODUCT),
    ("", "clip_made", "false", "", True, False, f"{_NO_PRODUCT},{_DIFFERS}"),
    ("", "audio_made", "", "", True, False, _NO_PRODUCT),
    ("", "login_done", "", "", False, False, ""),
    ("", "login_done", "perhaps", "", False, False, "unreadable_is_qualifying_event"),
    ("", "login_done", "true", "", True, False, _UNLISTED),
]
"""Product, event type and flags as delivered, and flags and faults as stored."""

WITHOUT_LISTS = [
    ("video", "video_created", "", "", True, False, _DEFAULT),
    ("", "login_done", "", "", True, False, _DEFAULT),
    ("", "login_done", "perhaps", "", True, False, f"{_DEFAULT},unreadable_is_qualifying_event"),
    ("", "login_done", "true", "", True, False, ""),
    ("", "login_done", "false", "", False, False, ""),
    ("", "login_done", "", "false", False, False, ""),
    ("", "login_done", "", "true", True, True, ""),
    ("", "login_done", "false", "true", True, True, ""),
]
"""The same where the catalog has no lists."""


def _sorted_faults(text: str | None) -> list[str]:
    return sorted(text.split(",")) if text else []


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    rows: dict[str, list[Values]] = {}
    for number, row in enumerate(ACCEPTED):
        rows.setdefault(row.input_name, []).append(row.row(number))
    source = _write_source(folder / "source", **rows)
    _load_entities(folder / "warehouse.duckdb", source)
    _load_events(folder / "warehouse.duckdb", source)
    return folder / "warehouse.duckdb"


@pytest.mark.parametrize(
    "number",
    range(len(ACCEPTED)),
    ids=[f"{row.input_name}-{row.faults}-{number}" for number, row in enumerate(ACCEPTED)],
)
def test_optional_values_are_corrected_and_their_faults_named(faulty: Path, number: int) -> None:
    row = ACCEPTED[number]
    columns = ", ".join(["faults", *row.expected])
    given = row.row(number)
    place = " OR ".join(
        f"{name} = '{given[name]}'"
        for name in IDENTIFIED_BY[row.input_name]
        if given[name] not in ("NULL", "NaN", "None", "\\N")
    )
    [(faults, *values)] = _query(
        faulty, f"SELECT {columns} FROM bronze.bronze_{row.input_name} WHERE {place}"
    )
    assert dict(zip(row.expected, values, strict=True)) == row.expected
    assert _sorted_faults(faults) == _sorted_faults(row.faults)


@pytest.mark.parametrize(
    ("flags", "has_lists"), [(FLAGS, True), (WITHOUT_LISTS, False)], ids=["lists", "no lists"]
)
def test_flags(tmp_path: Path, flags: Sequence[tuple[Any, ...]], has_lists: bool) -> None:
    source = _write_source(
        tmp_path / "source",
        product_catalog=[{**BASE["product_catalog"], **node} for node in NODES],
        events=[
            _event(
                f"{number:02}",
                "2025-03-05 10:00:00",
                product_id=product,
                event_type=event_type,
                is_qualifying_event=qualifying,
                is_activation_event=activation,
            )
            for number, (product, event_type, qualifying, activation, *_) in enumerate(flags)
        ],
    )
    if not has_lists:
        catalog = source / "product_catalog.csv"
        with catalog.open(encoding="utf-8", newline="") as file:
            nodes = [
                {**node, "activation_event_types": "", "qualifying_event_types": "NULL"}
                for node in csv.DictReader(file)
            ]
        _write(catalog, "product_catalog", nodes)
    database = tmp_path / "warehouse.duckdb"
    _load_entities(database, source)
    _load_events(database, source)
    found = _query(
        database,
        "SELECT is_qualifying_event, is_activation_event, faults FROM bronze.bronze_events"
        " ORDER BY event_id",
    )
    assert [
        (*case[:4], *as_stored, _sorted_faults(faults))
        for case, (*as_stored, faults) in zip(flags, found, strict=True)
    ] == [(*case[:6], _sorted_faults(case[6])) for case in flags]


# ---------------------------------------------------------------- days


def _event(event_id: str, timestamp: str, **values: str) -> dict[str, str]:
    return {**BASE["events"], "event_id": event_id, "timestamp": timestamp, **values}


def _by_day(source: Path, rows: Mapping[int, Sequence[Values]]) -> Path:
    for number, of_day in rows.items():
        day = date(2025, 3, number)
        _write(source / "events" / f"event_date={day}" / "part.csv", "events", of_day)
    return source


def _day(number: int) -> DateWindow:
    return DateWindow(date(2025, 3, number), date(2025, 3, number))


_OUTCOMES = (
    "SELECT event_id, event_date, NULL FROM bronze.bronze_events UNION ALL SELECT"
    " raw_row ->> 'event_id', partition_date, rejection_reason FROM bronze.bronze_rejected_events"
    " ORDER BY ALL"
)


def test_rows_of_a_single_file_outside_of_the_run(tmp_path: Path, database: Path) -> None:
    source = _write_source(
        tmp_path / "source",
        events=[
            _event("before", "2025-03-03 23:59:59"),
            _event("first", "2025-03-04 00:00:00"),
            _event("last", "2025-03-05 23:59:59"),
            _event("after", "2025-03-06 00:00:00"),
            _event("twice", "2025-03-03 10:00:00"),
            _event("twice", "2025-03-04 10:00:00"),
            _event("undated", "yesterday"),
            _event("unknown", "2025-03-04 11:00:00", entity_id="nobody"),
        ],
    )
    with (source / "events.csv").open("a", encoding="utf-8") as file:
        file.write(MALFORMED)
    counts = _load_events(database, source, DateWindow(date(2025, 3, 4), date(2025, 3, 5)))
    assert _query(database, _OUTCOMES) == [
        ("first", date(2025, 3, 4), None),
        ("last", date(2025, 3, 5), None),
        ("twice", date(2025, 3, 4), None),
        ("unknown", date(2025, 3, 4), "unknown_user"),
    ]
    assert counts[ROWS_OUTSIDE] == 5
    ledger = _query(
        database, "SELECT * EXCLUDE (files, rows_digest) FROM bronze.bronze_loads ORDER BY ALL"
    )
    assert ledger == [(date(2025, 3, 4), 3, 0, 2, 1), (date(2025, 3, 5), 1, 0, 1, 0)]

    # Rows without a date belong to the first partition of the source.
    counts = _load_events(database, source, _day(1))
    assert counts[ROWS_OUTSIDE] == 7
    undated = _query(
        database,
        "SELECT partition_date, event_date, rejection_reason FROM bronze.bronze_rejected_events"
        " WHERE partition_date = '2025-03-01' ORDER BY ALL",
    )
    assert undated == [
        (FIRST, None, "malformed_row_field_count"),
        (FIRST, None, "unreadable_timestamp"),
    ]


def test_superseded_and_repeated_rows_of_several_files(tmp_path: Path, database: Path) -> None:
    source = _write_source(tmp_path / "source")
    at_ten = "2025-03-04 10:00:00"
    files = {
        "a": [
            _event("one", at_ten, session_id="from a"),
            _event("two", at_ten, session_id="from a", received_at="2025-03-09"),
            _event("same", at_ten, received_at="2025-03-09"),
            _event("back", at_ten, session_id="first"),
            _event("back", at_ten, session_id="second"),
        ],
        "b": [
            _event("one", at_ten, session_id="from b"),
            _event("two", at_ten, session_id="from b", received_at="2025-03-08"),
            _event("same", at_ten, received_at="2025-03-08", is_qualifying_event="TRUE"),
            _event("back", at_ten, session_id="first"),
            _event("one", at_ten, session_id="from b"),
            _event("one", at_ten, session_id="last of b"),
        ],
    }
    for name, rows in files.items():
        _write(source / "events" / f"{name}.csv", "events", rows)
    _load_events(database, source)
    kept = _query(database, "SELECT event_id, session_id FROM bronze.bronze_events ORDER BY ALL")
    assert kept == [("back", "first"), ("one", "last of b"), ("same", None), ("two", "from a")]
    rejected = _query(
        database,
        "SELECT rejection_reason, rejection_detail, raw_row ->> 'event_id', raw_row ->> 'session_id'"
        " FROM bronze.bronze_rejected_events ORDER BY ALL",
    )
    # Of rows with the same content, one is superseded and the others repeat it.
    assert rejected == [
        ("superseded", None, "back", "second"),
        ("superseded", None, "one", "from a"),
        ("superseded", None, "one", "from b"),
        ("superseded", None, "two", "from b"),
    ]
    assert _counts(database, 4) == (11, 3, 4, 4)


def _counts(database: Path, day: int) -> tuple[int, ...]:
    """Return the numbers of rows that were read, repeated, accepted and rejected."""
    [counts] = _query(
        database,
        "SELECT rows_read, rows_repeated, rows_accepted, rows_rejected FROM bronze.bronze_loads"
        f" WHERE partition_date = '2025-03-0{day}'",
    )
    return counts


@pytest.fixture
def by_day(tmp_path: Path) -> Path:
    """Return a source by day with one event_id on two days, and rows in folders of other days."""
    return _by_day(
        _write_source(tmp_path / "source"),
        {
            4: [
                _event("twice", "2025-03-04 10:00:00"),
                _event("stray", "2025-03-05 00:00:00"),
                _event("undated", "yesterday"),
                _event("old", "1970-01-01 00:00:00"),
            ],
            6: [_event("twice", "2025-03-06 10:00:00"), _event("other", "2025-03-06 11:00:00")],
        },
    )


_OF_DAY_4 = [
    ("old", date(2025, 3, 4), "before_earliest_event_date"),
    ("stray", date(2025, 3, 4), "not_on_date_of_folder"),
    ("twice", date(2025, 3, 4), "superseded"),
    ("undated", date(2025, 3, 4), "unreadable_timestamp"),
]
_OF_DAY_6 = [
    ("other", date(2025, 3, 6), None),
    ("twice", date(2025, 3, 6), None),
]


def _as_parquet(source: Path) -> Path:
    """Replace the events of a source by day with Parquet files of strings."""
    for path in (source / "events").glob("*/*.csv"):
        target = path.with_suffix(".parquet")
        duckdb.execute(f"COPY (FROM read_csv('{path}', all_varchar = true)) TO '{target}'")
        path.unlink()
    return source


@pytest.mark.parametrize("change", [Path, _as_parquet], ids=["CSV", "Parquet"])
@pytest.mark.parametrize(
    "windows",
    [[DAYS], [_day(4), _day(5), _day(6)], [_day(6), _day(4)], [_day(4), _day(6), _day(6), _day(4)]],
    ids=["one run", "day by day", "backwards", "days again"],
)
def test_by_day_the_last_file_wins(
    database: Path, by_day: Path, windows: Sequence[DateWindow], change: Callable[[Path], Path]
) -> None:
    by_day = change(by_day)
    for window in windows:
        assert _load_events(database, by_day, window)[ROWS_OUTSIDE] == 0
    assert _query(database, _OUTCOMES) == sorted([*_OF_DAY_4, *_OF_DAY_6])


def test_a_file_that_is_damaged_behind_what_is_read_first_is_named(
    database: Path, by_day: Path
) -> None:
    """Parquet is read in place: ids first, to find duplicates, and other columns on storing."""
    _load_events(database, _as_parquet(by_day))
    before = _query(database, _OUTCOMES)
    damaged = by_day / "events" / "event_date=2025-03-06" / "part.parquet"
    content = damaged.read_bytes()
    place = content.index(b"other") + 200
    damaged.write_bytes(content[:place] + b"\xff" * 60 + content[place + 60 :])
    with pytest.raises(SourceError, match=r"event_date=2025-03-06/part\.parquet cannot be read"):
        _load_events(database, by_day)
    assert _query(database, _OUTCOMES) == before


def test_a_file_that_changes_while_it_is_read_in_place(
    database: Path, by_day: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _as_parquet(by_day)
    changing = by_day / "events" / "event_date=2025-03-06" / "part.parquet"
    rejected_rows = load_events._EventLoad.rejected_rows

    def and_change(*args: Any) -> ir.Table:
        rows = rejected_rows(*args)
        os.utime(changing, ns=(1, 1))
        return rows

    monkeypatch.setattr(load_events._EventLoad, "rejected_rows", and_change)
    with pytest.raises(SourceError, match=r"part\.parquet"):
        _load_events(database, by_day)
    stored = _query(
        database, "SELECT table_name FROM duckdb_tables() WHERE table_name = 'bronze_events'"
    )
    assert stored == []


_EARLY, _LATE = "2025-03-09 10:00:00", "2025-03-09T12:00:00+01:00"

ACROSS_DAYS: Mapping[int, Sequence[Values]] = {
    4: [
        _event("received", "2025-03-04 10:00:00", received_at=_LATE),
        _event("missing", "2025-03-04 10:00:00", received_at=_EARLY),
        _event("place", "2025-03-04 10:00:00"),
        _event("valid", "2025-03-04 10:00:00"),
        _event("often", "2025-03-04 10:00:00"),
        _event("same", "2025-03-04 10:00:00"),
        _event("same", "2025-03-04 10:00:00", received_at=_LATE),
    ],
    5: [_event("often", "2025-03-05 10:00:00"), _event("alone", "2025-03-05 10:00:00")],
    6: [
        _event("received", "2025-03-06 10:00:00", received_at=_EARLY),
        _event("missing", "2025-03-06 10:00:00"),
        _event("place", "2025-03-06 10:00:00"),
        _event("valid", "2025-03-06 10:00:00", product_id="no such", received_at=_LATE),
        _event("often", "2025-03-06 10:00:00"),
    ],
}
"""Rows of three days that supersede each other."""

_OF_ACROSS_DAYS = [
    ("alone", date(2025, 3, 5), None),
    ("missing", date(2025, 3, 4), None),
    ("missing", date(2025, 3, 6), "superseded"),
    ("often", date(2025, 3, 4), "superseded"),
    ("often", date(2025, 3, 5), "superseded"),
    ("often", date(2025, 3, 6), None),
    ("place", date(2025, 3, 4), "superseded"),
    ("place", date(2025, 3, 6), None),
    ("received", date(2025, 3, 4), None),
    ("received", date(2025, 3, 6), "superseded"),
    ("same", date(2025, 3, 4), None),
    ("valid", date(2025, 3, 4), None),
    ("valid", date(2025, 3, 6), "unknown_product"),
]


def _in_one_file(source: Path, rows: Mapping[int, Sequence[Values]]) -> Path:
    every = [row for number in sorted(rows) for row in rows[number]]
    _write(source / "events.csv", "events", every)
    return source


def _in_parquet(source: Path, rows: Mapping[int, Sequence[Values]]) -> Path:
    return _as_parquet(_by_day(source, rows))


_LAYOUTS = pytest.mark.parametrize(
    "layout", [_by_day, _in_one_file, _in_parquet], ids=["by day", "one file", "Parquet by day"]
)


@_LAYOUTS
@pytest.mark.parametrize("order", [None, "456", "654", "4656"])
def test_days_supersede_each_other_in_any_order_of_loading(
    tmp_path: Path,
    database: Path,
    layout: Callable[[Path, Mapping[int, Sequence[Values]]], Path],
    order: str | None,
) -> None:
    source = layout(_write_source(tmp_path / "source"), ACROSS_DAYS)
    for window in [DAYS] if order is None else [_day(int(number)) for number in order]:
        _load_events(database, source, window)
    assert _query(database, _OUTCOMES) == _OF_ACROSS_DAYS
    assert [_counts(database, day) for day in (4, 5, 6)] == [
        (7, 1, 4, 2),
        (2, 0, 1, 1),
        (5, 0, 2, 3),
    ]


@_LAYOUTS
def test_a_row_counts_again_when_its_successor_vanishes(
    tmp_path: Path, database: Path, layout: Callable[[Path, Mapping[int, Sequence[Values]]], Path]
) -> None:
    first, last = _event("e", "2025-03-04 10:00:00"), _event("e", "2025-03-06 10:00:00")
    other = _event("o", "2025-03-06 11:00:00")
    source = layout(_write_source(tmp_path / "source"), {4: [first], 6: [last, other]})
    _load_events(database, source, DateWindow(date(2025, 3, 4), date(2025, 3, 6)))
    assert _counts(database, 4) == (1, 0, 0, 1)
    layout(source, {4: [first], 6: [other]})
    _load_events(database, source, _day(6))
    assert _query(database, _OUTCOMES) == [
        ("e", date(2025, 3, 4), None),
        ("o", date(2025, 3, 6), None),
    ]
    assert [_counts(database, day) for day in (4, 6)] == [(1, 0, 1, 0)] * 2


def test_a_later_row_does_not_supersede_before_its_day_is_part_of_a_run(
    tmp_path: Path, database: Path
) -> None:
    first, last = _event("e", "2025-03-04 10:00:00"), _event("e", "2025-03-06 10:00:00")
    source = _in_one_file(_write_source(tmp_path / "source"), {4: [first], 6: [last]})
    _load_events(database, source, _day(4))
    assert _query(database, _OUTCOMES) == [("e", date(2025, 3, 4), None)]
    _load_events(database, source, _day(6))
    assert _query(database, _OUTCOMES) == [
        ("e", date(2025, 3, 4), "superseded"),
        ("e", date(2025, 3, 6), None),
    ]


# ---------------------------------------------------------------- the time zone


def test_dates_are_local(tmp_path: Path) -> None:
    """In New York, it is five hours earlier than in UTC until March 9, and four hours after."""
    source = _write_source(
        tmp_path / "source",
        users=[{**BASE["users"], "user_id": "night", "user_created_at": "2025-03-06 04:59:59"}],
        accounts=[
            {
                **BASE["accounts"],
                "account_id": "night",
                "account_created_at": "2025-03-06T04:59:59Z",
                "first_paid_at": "2025-03-10T03:59:59Z",
                "contract_renewal_date": "2026-03-10 00:00:00",
            }
        ],
    )
    _by_day(
        source,
        {
            5: [
                _event("in", "2025-03-06 04:59:59", entity_id="night"),
                _event("out", "2025-03-06 05:00:00"),
                _event("early", "2025-03-05 05:00:00", entity_id="night"),
            ],
            9: [_event("summer", "2025-03-10 03:59:59"), _event("day", "2025-03-09")],
            4: [_event("before", "2025-03-05 04:59:59", entity_id="night")],
        },
    )
    database = tmp_path / "warehouse.duckdb"
    reading = Reading(earliest=date(2025, 3, 2), first_day=FIRST, timezone="America/New_York")
    _load_entities(database, source, reading)
    _load_events(database, source, reading=reading)
    assert _query(database, _OUTCOMES) == [
        ("before", date(2025, 3, 4), "before_user_creation"),
        ("day", date(2025, 3, 9), None),
        ("early", date(2025, 3, 5), None),
        ("in", date(2025, 3, 5), None),
        ("out", date(2025, 3, 5), "not_on_date_of_folder"),
        ("summer", date(2025, 3, 9), None),
    ]
    moment = _query(
        database, "SELECT event_timestamp FROM bronze.bronze_events WHERE event_id = 'day'"
    )
    assert moment == [(at(2025, 3, 9, 5),)]
    dates = _query(
        database,
        "SELECT signup_date, created_date, first_paid_date, contract_renewal_date"
        " FROM bronze.bronze_users JOIN bronze.bronze_accounts"
        " ON user_id = 'night' AND bronze_accounts.account_id = 'night'",
    )
    assert dates == [(date(2025, 3, 5), date(2025, 3, 5), date(2025, 3, 9), date(2026, 3, 10))]
    launched = _query(
        database,
        "SELECT DISTINCT created_at, created_date FROM bronze.bronze_product_catalog",
    )
    assert launched == [(at(2024, 1, 1, 5), date(2024, 1, 1))]


# ---------------------------------------------------------------- what is missing


def _write_columns(path: Path, columns: Sequence[str], *rows: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(row) for row in (columns, *rows)) + "\n", encoding="utf-8")
    return path.parent


_REQUIRED = ("entity_id", "event_type", "timestamp")


def test_a_source_with_nothing_but_events(tmp_path: Path) -> None:
    source = _write_columns(
        tmp_path / "source" / "events.csv",
        _REQUIRED,
        ("ada", "page_opened", "2025-03-05 10:00:00"),
        ("ada", "page_opened", "2025-03-04 09:00:00"),
        ("ben", "page_opened", "1741168800"),
        ("ben", "page_opened", "1741168800000"),
        ("carl", "Oh No", "2025-03-03 10:00:00"),
    )
    database = tmp_path / "warehouse.duckdb"
    _load_entities(database, source)
    _load_events(database, source)
    ada, ben = at(2025, 3, 4, 9), at(2025, 3, 5, 10)
    for table, columns, expected in (
        (
            "users",
            "user_id, email, account_id, user_created_at, signup_date, country, plan_type,"
            " acquisition_source",
            [
                ("ada", None, "ada", ada, ada.date(), "unknown", "unknown", "unknown"),
                ("ben", None, "ben", ben, ben.date(), "unknown", "unknown", "unknown"),
            ],
        ),
        (
            "accounts",
            "account_id, account_name, subscription_tier, total_seats, account_created_at,"
            " created_date, first_paid_at, first_paid_date, contract_renewal_date,"
            " monthly_recurring_revenue, is_trial",
            [
                (
                    *(
                        name,
                        name,
                        "unknown",
                        None,
                        first,
                        first.date(),
                        first,
                        first.date(),
                        None,
                        0,
                    ),
                    False,
                )
                for name, first in (("ada", ada), ("ben", ben))
            ],
        ),
        (
            "product_catalog",
            "product_id, product_name, tier, parent_product_id, is_active, created_date",
            [("product", "product", "product", None, True, FIRST)],
        ),
        (
            "events",
            "entity_id, entity_type, location, product_id, is_qualifying_event,"
            " is_activation_event, event_timestamp, faults",
            [
                ("ada", "user", "api", "product", True, False, ada, _DEFAULT),
                ("ada", "user", "api", "product", True, False, at(2025, 3, 5, 10), _DEFAULT),
                ("ben", "user", "api", "product", True, False, ben, _DEFAULT),
            ],
        ),
    ):
        assert (
            _query(database, f"SELECT {columns} FROM bronze.bronze_{table} ORDER BY ALL")
            == expected
        )
    # Both rows of Ben have the same content, which is their id.
    assert _counts(database, 5) == (3, 1, 2, 0)
    assert _query(database, _OUTCOMES)[-1][1:] == (date(2025, 3, 3), "invalid_event_type")
    ids = [
        event_id for (event_id,) in _query(database, "SELECT event_id FROM bronze.bronze_events")
    ]
    assert {len(event_id) for event_id in ids} == {32}
    assert len(set(ids)) == 3
    ledger = _query(
        database,
        "SELECT input_name, rows_read, rows_repeated, rows_accepted, rows_rejected, files"
        " FROM bronze.bronze_entity_loads",
    )
    names = {*BASE, "user_aliases"} - {"events"}
    assert sorted(ledger) == [(name, 0, 0, 0, 0, []) for name in sorted(names)]


def test_ids_from_the_content(tmp_path: Path, database: Path) -> None:
    """Rows without an id that differ only in the time of receipt are one event, on any run."""
    rows = [
        _event("", "2025-03-05 10:00:00", received_at="2025-03-09"),
        _event("NULL", "2025-03-05T10:00:00Z", received_at="2025-03-08"),
        _event("given", "2025-03-05 10:00:00", session_id="s"),
        _event("", "2025-03-05 10:00:00", session_id="s"),
    ]
    source = _write_source(tmp_path / "source", events=rows)
    _load_events(database, source)
    query = "SELECT event_id FROM bronze.bronze_events ORDER BY ALL"
    found = _query(database, query)
    assert len(found) == 3
    assert ("given",) in found
    assert _counts(database, 5) == (4, 1, 3, 0)
    _write(source / "events.csv", "events", rows[::-1])
    _load_events(database, source, _day(5))
    assert _query(database, query) == found


@pytest.mark.parametrize(
    ("facts", "is_paid"),
    [
        ([], True),
        ([("u1", "user_deleted", "2025-03-09")], True),
        ([("acme", "seats_changed", "2025-03-09")], False),
    ],
    ids=["no facts", "a deletion", "a fact on an account"],
)
def test_accounts_of_users(tmp_path: Path, facts: Sequence[Sequence[str]], is_paid: bool) -> None:
    source = tmp_path / "source"
    _write_columns(source / "events.csv", _REQUIRED, ("u1", "page_opened", "2025-03-08"))
    _write_columns(
        source / "users.csv",
        ("user_id", "account_id", "user_created_at"),
        ("u1", "acme", "2025-03-07"),
        ("u2", "acme", "2025-03-06"),
        ("u3", "", "2025-03-05"),
    )
    if facts:
        _write_columns(source / "subscription_events.csv", _REQUIRED, *facts)
    database = tmp_path / "warehouse.duckdb"
    _load_entities(database, source)
    accounts = _query(
        database,
        "SELECT account_id, created_date, first_paid_date, monthly_recurring_revenue"
        " FROM bronze.bronze_accounts ORDER BY ALL",
    )
    assert accounts == [
        (name, created, created if is_paid else None, 0)
        for name, created in (("acme", date(2025, 3, 6)), ("u3", date(2025, 3, 5)))
    ]
    [(number,)] = _query(database, "SELECT count(*) FROM bronze.bronze_subscription_events")
    assert number == len(facts)


def test_products_that_are_named_without_a_catalog(tmp_path: Path) -> None:
    source = tmp_path / "source"
    _write_columns(
        source / "events.csv",
        (*_REQUIRED, "product_id", "is_qualifying_event"),
        ("ada", "page_opened", "2025-03-05", "p1", "false"),
        ("ada", "page_opened", "2025-03-06", "NULL", ""),
    )
    _write_columns(
        source / "workflows.csv",
        ("workflow_id", "workflow_name", "product_id", "step_number", "event_type"),
        ("flow", "Flow", "p2", "1", "page_opened"),
    )
    database = tmp_path / "warehouse.duckdb"
    _load_entities(database, source)
    _load_events(database, source)
    nodes = _query(
        database, "SELECT product_id, tier FROM bronze.bronze_product_catalog ORDER BY 1"
    )
    assert nodes == [("p1", "product"), ("p2", "product")]
    events = _query(
        database,
        "SELECT product_id, is_qualifying_event FROM bronze.bronze_events ORDER BY event_date",
    )
    assert events == [("p1", False), (None, True)]
    assert _query(database, "SELECT product_id FROM bronze.bronze_workflows") == [("p2",)]


# ---------------------------------------------------------------- the ledger


def _print(path: Path, root: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {
        "path": path.relative_to(root).as_posix(),
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_ledger_of_a_single_file(loaded: Loaded) -> None:
    entries = _query(loaded.database, "SELECT partition_date, files FROM bronze.bronze_loads")
    assert sorted(day for day, _ in entries) == list(DAYS)
    for _, files in entries:
        assert files == [_print(loaded.source / "events.csv", loaded.source)]
    entities = dict(
        _query(loaded.database, "SELECT input_name, files FROM bronze.bronze_entity_loads")
    )
    assert entities == {
        "user_aliases": [],
        **{
            name: [_print(loaded.source / f"{name}.csv", loaded.source)]
            for name in BASE
            if name != "events"
        },
    }


def test_ledger_by_day_has_the_files_of_the_day(database: Path, by_day: Path) -> None:
    more = by_day / "events" / "event_date=2025-03-06" / "a.csv"
    _write(more, "events", [_event("more", "2025-03-06 12:00:00")])
    _load_events(database, by_day)
    ledger = {
        day: (files, counts)
        for day, files, *counts in _query(
            database, "SELECT * EXCLUDE (rows_digest) FROM bronze.bronze_loads"
        )
    }
    assert sorted(ledger) == list(DAYS)
    fourth, sixth = (by_day / "events" / f"event_date=2025-03-0{n}" for n in (4, 6))
    assert ledger.pop(date(2025, 3, 4)) == ([_print(fourth / "part.csv", by_day)], [4, 0, 0, 4])
    assert ledger.pop(date(2025, 3, 6)) == (
        [_print(sixth / "a.csv", by_day), _print(sixth / "part.csv", by_day)],
        [3, 0, 3, 0],
    )
    assert all(entry == ([], [0, 0, 0, 0]) for entry in ledger.values())


def test_inputs_that_may_be_missing_have_a_ledger_too(tmp_path: Path) -> None:
    source = _write_source(tmp_path / "source", events=[])
    (source / "workflows.csv").unlink()
    (source / "subscription_events.csv").unlink()
    database = tmp_path / "warehouse.duckdb"
    _load_entities(database, source)
    ledger = {
        name: rest for name, *rest in _query(database, "SELECT * FROM bronze.bronze_entity_loads")
    }
    for name in ("workflows", "subscription_events", "user_aliases"):
        assert ledger[name] == [[], 0, 0, 0, 0, 0, 0, 0]
    assert _query(database, "SELECT * FROM bronze.bronze_workflows") == []


# ---------------------------------------------------------------- privacy


def test_people_and_companies_are_named_in_bronze_only(seeds_run: SeedsRun) -> None:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        names = {
            name
            for row in connection.execute(
                "SELECT email FROM bronze.bronze_users"
                " UNION ALL SELECT account_name FROM bronze.bronze_accounts"
            ).fetchall()
            for name in row
        }
        assert len(names) == 30
        for table in tables():
            if table.layer is Layer.BRONZE:
                continue
            for column in table.columns:
                assert "email" not in column.name
                if not column.dtype.is_string():
                    continue
                found = connection.execute(
                    f'SELECT "{column.name}" AS value FROM {table.qualified_name}'
                    " WHERE contains(value, '@') OR list_contains(?, value)",
                    [sorted(names)],
                ).fetchall()
                assert found == [], (table.name, column.name)
