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
    load_events,
    validation,
)
from monstera_assets.bronze.load_entities import entity_batch
from monstera_assets.bronze.load_events import ROWS_OUTSIDE, event_batch
from monstera_assets.checks.contract import UNIQUE, evaluate_contract
from monstera_assets.definitions import tables
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse import writer
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.tables import Layer
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import SeedsRun

FIRST = date(2025, 3, 1)
DAYS = DateWindow(FIRST, date(2025, 3, 10))
EARLIEST = date(2025, 3, 2)

Values = Mapping[str, str]


# ---------------------------------------------------------------- a minimal source

BASE: Mapping[str, Values] = {
    "accounts": {
        "account_id": "acc",
        "account_name": "Account",
        "subscription_tier": "starter",
        "total_seats": "5",
        "account_created_at": "2025-01-01 10:00:00",
        "first_paid_at": "2025-01-02",
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
        "user_created_at": "2025-02-01 12:00:00",
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

FAMILY = {"product_id": "family", "tier": "family", "parent_product_id": ""}
OTHER_USERS = (
    {"user_id": "late", "user_created_at": "2025-03-05 12:00:00"},
    {"user_id": "gone", "user_created_at": "2025-01-01"},
)
FAMILY = {"product_id": "family", "tier": "family", "parent_product_id": ""}
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

    def rows(self, number: int) -> Iterator[dict[str, str]]:
        """Yield the accepted row first: of two rows with the same key and time, it is kept."""
        for kind, values in (("good", self.good), ("bad", self.bad)):
            name = f"{kind}-{number}"
            named = dict.fromkeys(IDENTIFIED_BY[self.input_name], name)
            yield {**BASE[self.input_name], **named, **values}


def _missing(input_name: str, *columns: str) -> list[Case]:
    return [Case(input_name, f"missing_{column}", {column: ""}) for column in columns]


def _metadata(**values: object) -> dict[str, str]:
    return {"metadata": json.dumps(values)}


_MISSING_IN_EVENTS = (
    *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
    *("is_qualifying_event", "is_activation_event"),
)


def _event_cases(name: str) -> list[Case]:
    """Return the cases common to events and subscription events."""
    case = partial(Case, name)
    return [
        *_missing(name, *_MISSING_IN_EVENTS),
        case(
            "duplicate_event_id",
            {"event_id": "twice", "timestamp": "2025-03-06 11:00:00"},
            {"event_id": "twice", "timestamp": "2025-03-06 10:00:00"},
        ),
        case("unreadable_timestamp", {"timestamp": "yesterday"}),
        case("unreadable_timestamp", {"timestamp": "2025-02-30 10:00:00"}),
        case("unreadable_timestamp", {"timestamp": "infinity"}),
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
        case("unknown_entity_type", {"entity_type": "robot"}),
        case("unknown_location", {"location": "the moon"}, {"location": "desktop_app"}),
        *(
            case("invalid_event_type", {"event_type": event_type})
            for event_type in ("Video_created", "video", "video-created", "_video_created", "v__c")
        ),
        case("unknown_product", {"product_id": "no such"}, {"product_id": ""}),
        case("unreadable_is_qualifying_event", {"is_qualifying_event": "perhaps"}),
        case("unreadable_is_activation_event", {"is_activation_event": "2025"}),
        case(
            "unreadable_received_at",
            {"received_at": "soon"},
            {"received_at": "2025-03-09T10:00:00Z"},
        ),
        *(
            case("unreadable_metadata", {"metadata": text}, {"metadata": '{"a": [1]}'})
            for text in ('{"a": ', "[1]", "3", "null", "'a'")
        ),
        case(
            "activation_not_qualifying",
            {"is_qualifying_event": "false", "is_activation_event": "true"},
            {"is_qualifying_event": "true", "is_activation_event": "false"},
        ),
    ]


CASES = [
    *_missing(
        "accounts",
        *("account_id", "account_name", "subscription_tier", "total_seats"),
        *("account_created_at", "monthly_recurring_revenue", "is_trial"),
    ),
    Case(
        "accounts",
        "duplicate_account_id",
        {"account_id": "twice", "account_created_at": "2025-01-02"},
        {"account_id": "twice"},
    ),
    Case("accounts", "unreadable_total_seats", {"total_seats": "many"}, {"total_seats": "0"}),
    Case("accounts", "unreadable_total_seats", {"total_seats": "3.7"}, {"total_seats": "3.0"}),
    Case("accounts", "unreadable_account_created_at", {"account_created_at": "long ago"}),
    Case("accounts", "unreadable_first_paid_at", {"first_paid_at": "-"}, {"first_paid_at": ""}),
    Case(
        "accounts",
        "unreadable_contract_renewal_date",
        {"contract_renewal_date": "2025-13-01"},
        {"contract_renewal_date": ""},
    ),
    Case(
        "accounts",
        "unreadable_contract_renewal_date",
        {"contract_renewal_date": "infinity"},
        {"contract_renewal_date": "9999-12-31"},
    ),
    Case(
        "accounts",
        "unreadable_monthly_recurring_revenue",
        {"monthly_recurring_revenue": "90,00 €"},
        {"monthly_recurring_revenue": "0"},
    ),
    Case("accounts", "unreadable_is_trial", {"is_trial": "perhaps"}, {"is_trial": "TRUE"}),
    Case("accounts", "unknown_subscription_tier", {"subscription_tier": "gold"}),
    Case("accounts", "negative_total_seats", {"total_seats": "-1"}),
    Case(
        "accounts",
        "negative_monthly_recurring_revenue",
        {"monthly_recurring_revenue": "-0.01"},
    ),
    *_missing(
        "product_catalog",
        *("product_id", "product_name", "product_family_id", "tier"),
        *("is_active", "created_at", "product_owner"),
    ),
    Case(
        "product_catalog",
        "duplicate_product_id",
        {"product_id": "twice", "created_at": "2024-01-02"},
        {"product_id": "twice"},
    ),
    Case("product_catalog", "unreadable_is_active", {"is_active": "perhaps"}),
    Case("product_catalog", "unreadable_created_at", {"created_at": "launch day"}),
    Case("product_catalog", "unreadable_active_days", {"active_days": "x"}, {"active_days": ""}),
    Case("product_catalog", "unreadable_dormant_days", {"dormant_days": "x"}, {"dormant_days": ""}),
    Case("product_catalog", "unknown_tier", {"tier": "suite"}),
    Case("product_catalog", "active_days_below_1", {"active_days": "0"}, {"active_days": "1"}),
    Case(
        "product_catalog",
        "dormant_days_below_active_days",
        {"active_days": "20", "dormant_days": "19"},
        {"active_days": "20", "dormant_days": "20"},
    ),
    Case(
        "product_catalog",
        "unknown_parent_product",
        {"parent_product_id": "no such"},
        {"tier": "feature", "parent_product_id": "video"},
    ),
    Case("product_catalog", "parent_not_of_tier_above", {"tier": "sub_feature"}),
    Case("product_catalog", "parent_not_of_tier_above", {"tier": "family"}),
    Case("product_catalog", "other_family_than_parent", {"product_family_id": "video"}),
    *_missing("users", *BASE["users"]),
    Case(
        "users",
        "duplicate_user_id",
        {"user_id": "twice", "user_created_at": "2025-02-02"},
        {"user_id": "twice"},
    ),
    Case("users", "unreadable_user_created_at", {"user_created_at": "2025-02-01 25:00:00"}),
    Case("users", "unknown_account", {"account_id": "no such"}),
    *_event_cases("subscription_events"),
    Case("subscription_events", "unknown_account", {"entity_id": "no such"}),
    Case(
        "subscription_events",
        "unknown_user",
        {**DELETION, "event_id": "d", "entity_id": "nobody"},
        {**DELETION, "event_id": "e", "entity_id": "late", "timestamp": "2025-03-09"},
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
            {"event_type": "user_deleted"},
            {"entity_type": "system"},
            {**DELETION, "event_id": "g", "event_type": "seats_changed"},
        )
    ),
    *(
        Case(
            "subscription_events",
            f"unreadable_metadata_{name}",
            _metadata(**{name: bad}),
            _metadata(**{name: good}),
        )
        for name, bad, good in (
            ("total_seats", "many", 7),
            ("total_seats", 3.7, None),
            ("monthly_recurring_revenue", {"euros": 5}, "7.25"),
            ("contract_renewal_date", "next year", "2026-03-01"),
            ("effective_date", 7, "2025-04-01"),
            ("grace_until", "2025-02-30", None),
        )
    ),
    Case(
        "subscription_events",
        "unknown_subscription_tier",
        _metadata(subscription_tier="gold"),
        _metadata(subscription_tier="professional"),
    ),
    Case(
        "subscription_events",
        "unknown_pause_reason",
        {"event_type": "subscription_paused", **_metadata(reason="tired")},
        {"event_type": "subscription_paused", **_metadata(reason="seasonal")},
    ),
    Case(
        "subscription_events",
        "negative_total_seats",
        _metadata(total_seats=-1),
        {"event_type": "subscription_cancelled", **_metadata(total_seats=0, reason="too dear")},
    ),
    Case(
        "subscription_events",
        "negative_monthly_recurring_revenue",
        _metadata(monthly_recurring_revenue=-0.01),
    ),
    *_missing("workflows", *BASE["workflows"]),
    Case(
        "workflows",
        "duplicate_step",
        {"workflow_id": "twice", "event_type": "video_edited"},
        {"workflow_id": "twice", "event_type": "video_created"},
    ),
    Case("workflows", "unreadable_step_number", {"step_number": "one"}),
    Case("workflows", "unreadable_step_number", {"step_number": "1.5"}, {"step_number": "2"}),
    Case("workflows", "step_number_below_1", {"step_number": "0"}, {"step_number": "3"}),
    Case("workflows", "unknown_product", {"product_id": "no such"}),
    Case(
        "workflows",
        "step_in_a_family",
        {"product_id": "family"},
    ),
    *_event_cases("events"),
    Case(
        "events",
        "unknown_user",
        {"entity_id": "nobody"},
        {"entity_id": "nobody", "entity_type": "system"},
    ),
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

BY_FOLDER_ONLY = "not_on_date_of_folder"
"""The only reason that does not occur in single-file sources."""


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
    entities["product_catalog"].append({**BASE["product_catalog"], **FAMILY})
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


def _load_entities(database: Path, source: Path) -> None:
    with _opened(database) as connection, writer.transaction(connection):
        entity_batch(discover_source(source), EARLIEST).write(connection, None)


def _load_events(
    database: Path, source: Path, window: DateWindow = DAYS, earliest: date = EARLIEST
) -> Mapping[str, int]:
    batch = event_batch(
        discover_source(source)["events"].within(window.first, window.last),
        bronze_users.TABLE.relation,
        bronze_product_catalog.TABLE.relation,
        bronze_subscription_events.TABLE.relation,
        window=window,
        first_partition=FIRST,
        earliest=earliest,
    )
    with _opened(database) as connection, writer.transaction(connection):
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
    rejected: Mapping[tuple[str, str], str]
    accepted: frozenset[tuple[str, str]]
    rules: Mapping[str, tuple[str, ...]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("cases")
    rows: dict[str, list[Values]] = {}
    for number, case in enumerate(CASES):
        rows.setdefault(case.input_name, []).extend(case.rows(number))
    source = _write_source(folder / "source", **rows)
    for name in BASE:
        with (source / f"{name}.csv").open("a", encoding="utf-8") as file:
            file.write(MALFORMED)
    database = folder / "warehouse.duckdb"
    declared: dict[str, tuple[str, ...]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            bronze_accounts,
            bronze_events,
            bronze_product_catalog,
            bronze_subscription_events,
            bronze_users,
            bronze_workflows,
        ):
            name = module.TABLE.name.removeprefix("bronze_")
            recording = {"with_reason": partial(_with_reason, declared, name)}
            patch.setattr(module, "ma", SimpleNamespace(**{**vars(authoring), **recording}))
        _load_entities(database, source)
        _load_events(database, source)
    rejected = _query(
        database,
        "SELECT input_name, rejection_reason, raw_row FROM bronze.bronze_rejected_entities"
        " UNION ALL SELECT 'events', rejection_reason, raw_row FROM bronze.bronze_rejected_events",
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
            (name, value): reason
            for name, reason, raw_row in rejected
            if raw_row + "\n" != MALFORMED
            for value in (json.loads(raw_row)[column] for column in IDENTIFIED_BY[name])
            if value
        },
        frozenset(accepted),
        declared,
    )


_real_with_reason = validation.with_reason


def _with_reason(
    declared: dict[str, tuple[str, ...]],
    name: str,
    rows: ir.Table,
    rules: Sequence[tuple[str, ir.BooleanValue]],
) -> ir.Table:
    declared[name] = tuple(reason for reason, _ in rules)
    return _real_with_reason(rows, rules)


@pytest.mark.parametrize(
    "number",
    range(len(CASES)),
    ids=[f"{case.input_name}-{case.reason}-{number}" for number, case in enumerate(CASES)],
)
def test_row_is_rejected_and_its_neighbour_accepted(loaded: Loaded, number: int) -> None:
    case = CASES[number]
    assert loaded.rejected[case.input_name, f"bad-{number}"] == case.reason
    assert (case.input_name, f"bad-{number}") not in loaded.accepted
    assert (case.input_name, f"good-{number}") in loaded.accepted
    assert (case.input_name, f"good-{number}") not in loaded.rejected


@pytest.mark.parametrize("input_name", BASE)
def test_every_reason_has_a_case(loaded: Loaded, input_name: str) -> None:
    reasons = [*loaded.rules[input_name]]
    assert len(set(reasons)) == len(reasons)
    shown = {case.reason for case in CASES if case.input_name == input_name}
    assert shown == set(reasons) - {BY_FOLDER_ONLY}


def test_reasons_of_events_come_in_the_order_of_the_framework(loaded: Loaded) -> None:
    assert loaded.rules["events"] == (
        *(f"missing_{name}" for name in _MISSING_IN_EVENTS),
        "duplicate_event_id",
        *("unreadable_timestamp", "before_earliest_event_date", BY_FOLDER_ONLY),
        *("unknown_entity_type", "unknown_location"),
        "invalid_event_type",
        *("unknown_user", "before_user_creation", "after_user_deletion"),
        "unknown_product",
        *(f"unreadable_{name}" for name in ("is_qualifying_event", "is_activation_event")),
        *("unreadable_received_at", "unreadable_metadata"),
        "activation_not_qualifying",
    )


def test_first_reason_that_applies_counts(tmp_path: Path, database: Path) -> None:
    # Breaks all rules that one row can break at once; each further row fixes the first of them.
    broken = {
        "event_id": "twice",
        "entity_id": "nobody",
        "entity_type": "user",
        "event_type": "Oh No",
        "timestamp": "yesterday",
        "location": "the moon",
        "product_id": "no such",
        "is_qualifying_event": "false",
        "is_activation_event": "true",
        "received_at": "soon",
        "metadata": "[",
    }
    healing: list[tuple[dict[str, str], str]] = [
        ({"entity_type": ""}, "missing_entity_type"),
        ({"entity_type": "user"}, "duplicate_event_id"),
        ({"event_id": "once"}, "unreadable_timestamp"),
        ({"event_id": "two", "timestamp": "1900-01-01"}, "before_earliest_event_date"),
        ({"event_id": "three", "timestamp": "2025-03-05"}, "unknown_location"),
        ({"event_id": "four", "location": "api"}, "invalid_event_type"),
        ({"event_id": "five", "event_type": "video_created"}, "unknown_user"),
        ({"event_id": "six", "entity_id": "gone"}, "after_user_deletion"),
        ({"event_id": "seven", "entity_id": "user"}, "unknown_product"),
        ({"event_id": "eight", "product_id": ""}, "unreadable_received_at"),
        ({"event_id": "nine", "received_at": ""}, "unreadable_metadata"),
        ({"event_id": "ten", "metadata": ""}, "activation_not_qualifying"),
    ]
    rows = [{**BASE["events"], "event_id": "twice"}]
    for healed, _ in healing:
        broken |= healed
        rows.append(dict(broken))
    source = _write_source(tmp_path / "source", events=rows)
    _load_events(database, source)
    found = _query(database, "SELECT rejection_reason FROM bronze.bronze_rejected_events")
    assert Counter(reason for (reason,) in found) == Counter(reason for _, reason in healing)


def test_accepted_and_rejected_add_up_to_the_rows_of_the_files(loaded: Loaded) -> None:
    ledger = {
        name: counts
        for name, *counts in _query(
            loaded.database,
            "SELECT input_name, rows_read, rows_accepted, rows_rejected"
            " FROM bronze.bronze_entity_loads UNION ALL SELECT 'events', sum(rows_read),"
            " sum(rows_accepted), sum(rows_rejected) FROM bronze.bronze_loads",
        )
    }
    for name in BASE:
        with (loaded.source / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            in_file = sum(1 for _ in csv.reader(file)) - 1
        [(in_table,)] = _query(loaded.database, f"SELECT count(*) FROM bronze.bronze_{name}")
        assert ledger[name] == [in_file, in_table, in_file - in_table]
    malformed = _query(
        loaded.database,
        "SELECT rejection_reason, raw_row FROM bronze.bronze_rejected_entities"
        " WHERE rejection_reason LIKE 'malformed%' UNION ALL SELECT rejection_reason, raw_row"
        " FROM bronze.bronze_rejected_events WHERE rejection_reason LIKE 'malformed%'",
    )
    assert malformed == [("malformed_row_field_count", MALFORMED.strip())] * len(BASE)


def test_rejected_row_is_kept_as_it_stood_in_the_source(loaded: Loaded) -> None:
    [number] = [n for n, case in enumerate(CASES) if case.bad == {"metadata": "'a'"}][1:]
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


def test_values_are_read_in_utc_and_as_declared(loaded: Loaded) -> None:
    rows = _query(
        loaded.database,
        "SELECT event_timestamp, event_date, received_at FROM bronze.bronze_events"
        " WHERE received_at IS NOT NULL"
        " OR event_timestamp BETWEEN '2025-03-02 01:00:00' AND '2025-03-02 23:00:00'",
    )
    at = datetime
    assert sorted(rows, key=str) == [
        (at(2025, 3, 2, 1), date(2025, 3, 2), None),
        (at(2025, 3, 5, 10), date(2025, 3, 5), at(2025, 3, 9, 10)),
    ]
    reasons = _query(
        loaded.database,
        "SELECT event_type, pause_reason, total_seats FROM bronze.bronze_subscription_events"
        " WHERE pause_reason IS NOT NULL OR event_type = 'subscription_cancelled' ORDER BY ALL",
    )
    assert reasons == [
        ("subscription_cancelled", None, 0),
        ("subscription_paused", "seasonal", None),
    ]


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
        ("twice", date(2025, 3, 4), "duplicate_event_id"),
        ("unknown", date(2025, 3, 4), "unknown_user"),
    ]
    assert counts[ROWS_OUTSIDE] == 5
    ledger = _query(
        database, "SELECT * EXCLUDE (files, rows_digest) FROM bronze.bronze_loads ORDER BY ALL"
    )
    assert ledger == [(date(2025, 3, 4), 3, 1, 2), (date(2025, 3, 5), 1, 1, 0)]

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


def test_duplicates_across_files_of_one_day_and_of_others(tmp_path: Path, database: Path) -> None:
    source = _write_source(tmp_path / "source")
    _write(
        source / "events" / "b.csv",
        "events",
        [
            _event("one", "2025-03-04 10:00:00", session_id="from b"),
            _event("two", "2025-03-03 10:00:00", session_id="from b"),
        ],
    )
    _write(
        source / "events" / "a.csv",
        "events",
        [
            _event("one", "2025-03-04 10:00:00", session_id="from a"),
            _event("two", "2025-03-04 10:00:00", session_id="from a"),
            _event("two", "2025-03-04 10:00:00", session_id="from a"),
        ],
    )
    _load_events(database, source)
    kept = _query(database, "SELECT event_id, session_id FROM bronze.bronze_events ORDER BY ALL")
    assert kept == [("one", "from a"), ("two", "from b")]
    rejected = _query(
        database,
        "SELECT rejection_reason, source_file, partition_date FROM bronze.bronze_rejected_events"
        " ORDER BY ALL",
    )
    assert rejected == [
        ("duplicate_event_id", "events/a.csv", date(2025, 3, 4)),
        ("duplicate_event_id", "events/a.csv", date(2025, 3, 4)),
        ("duplicate_event_id", "events/b.csv", date(2025, 3, 4)),
    ]


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
    ("twice", date(2025, 3, 4), None),
    ("undated", date(2025, 3, 4), "unreadable_timestamp"),
]
_OF_DAY_6 = [
    ("other", date(2025, 3, 6), None),
    ("twice", date(2025, 3, 6), "duplicate_event_id"),
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
    [[DAYS], [_day(4), _day(5), _day(6)], [_day(4), _day(6), _day(6), _day(4)]],
    ids=["one run", "day by day", "days again"],
)
def test_by_day_in_order_rejects_the_later_duplicate(
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


def test_by_day_out_of_order_is_noticed_by_the_contract(database: Path, by_day: Path) -> None:
    for window in (_day(6), _day(4)):
        _load_events(database, by_day, window)
    with _opened(database) as connection:
        for window in (_day(4), _day(6), DAYS):
            finding = evaluate_contract(connection, bronze_events.TABLE, window)[UNIQUE]
            assert finding.examples == (("twice", 2),)
        assert evaluate_contract(connection, bronze_events.TABLE, _day(5))[UNIQUE].passed
    # Loading the later day again fixes it.
    _load_events(database, by_day, _day(6))
    assert _query(database, _OUTCOMES) == sorted([*_OF_DAY_4, *_OF_DAY_6])


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
        name: [_print(loaded.source / f"{name}.csv", loaded.source)]
        for name in BASE
        if name != "events"
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
    assert ledger.pop(date(2025, 3, 4)) == ([_print(fourth / "part.csv", by_day)], [4, 1, 3])
    assert ledger.pop(date(2025, 3, 6)) == (
        [_print(sixth / "a.csv", by_day), _print(sixth / "part.csv", by_day)],
        [3, 2, 1],
    )
    assert all(entry == ([], [0, 0, 0]) for entry in ledger.values())


def test_inputs_that_may_be_missing_have_a_ledger_too(tmp_path: Path) -> None:
    source = _write_source(tmp_path / "source", events=[])
    (source / "workflows.csv").unlink()
    (source / "subscription_events.csv").unlink()
    database = tmp_path / "warehouse.duckdb"
    _load_entities(database, source)
    ledger = {
        name: rest for name, *rest in _query(database, "SELECT * FROM bronze.bronze_entity_loads")
    }
    assert ledger["workflows"] == ledger["subscription_events"] == [[], 0, 0, 0]
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
