"""The source oracle agrees with cases computed by hand from section 2 of the framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from monstera_assets_tests.helpers.source_files import write_source
from monstera_assets_tests.inputs.random_source import write_random_source
from monstera_assets_tests.oracle.source import (
    Counts,
    Source,
    load,
    local_date,
    read_amount,
    read_boolean,
    read_date,
    read_integer,
    read_timestamp,
)

at = datetime
UTC = ZoneInfo("UTC")
LOS_ANGELES = ZoneInfo("America/Los_Angeles")
KOLKATA = ZoneInfo("Asia/Kolkata")

Texts = Mapping[str, str]

ACCOUNT = {
    "account_id": "acc",
    "account_name": "Account",
    "subscription_tier": "starter",
    "total_seats": "5",
    "account_created_at": "2025-01-01 10:00:00",
    "first_paid_at": "2025-01-02",
    "contract_renewal_date": "2026-01-02",
    "monthly_recurring_revenue": "90.50",
    "is_trial": "false",
}
USER = {
    "user_id": "ada",
    "email": "ada@example.com",
    "account_id": "acc",
    "user_created_at": "2025-02-01 12:00:00",
    "country": "US",
    "plan_type": "paid",
    "acquisition_source": "organic",
}
FAMILY = {"product_id": "media", "tier": "family", "product_family_id": "media"}
VIDEO = {
    "product_id": "video",
    "product_name": "Video",
    "product_family_id": "media",
    "tier": "product",
    "parent_product_id": "media",
    "created_at": "2024-01-01",
    "activation_event_types": "video_created",
    "qualifying_event_types": "video_created|video_edited",
}
CAPTIONS = {
    "product_id": "captions",
    "product_family_id": "media",
    "tier": "feature",
    "parent_product_id": "video",
    "qualifying_event_types": "captions_added",
}
EVENT = {
    "event_id": "e1",
    "entity_id": "ada",
    "entity_type": "user",
    "event_type": "video_created",
    "timestamp": "2025-03-05 10:00:00",
    "location": "web_app",
    "session_id": "s1",
    "product_id": "video",
    "is_qualifying_event": "true",
    "is_activation_event": "true",
    "metadata": '{"project_id": "p1"}',
    "received_at": "2025-03-05 10:01:00",
}
FACT = {
    "event_id": "f1",
    "entity_id": "acc",
    "entity_type": "account",
    "event_type": "seats_changed",
    "timestamp": "2025-03-04 10:00:00",
    "metadata": '{"total_seats": 7}',
}


def write(folder: Path, **inputs: Sequence[Texts] | None) -> Path:
    """Write a source with one account, one user and a catalog of three nodes.

    Other inputs are added or replaced. An input that is None is left out.
    """
    files: dict[str, Sequence[Texts] | None] = {
        "accounts": [ACCOUNT],
        "users": [USER],
        "product_catalog": [FAMILY, VIDEO, CAPTIONS],
        "events": [EVENT],
        **inputs,
    }
    return write_source(folder, {name: rows for name, rows in files.items() if rows is not None})


def outcome(source: Source, name: str = "events") -> list[tuple[str, str | None]]:
    """Return the reason and detail of an input's rejected rows."""
    return [
        (found.reason, found.detail) for found in source.rejected if found.line.input_name == name
    ]


def one_event(folder: Path, **changes: str) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Load one event with other values, and return its rejection reason and its faults."""
    source = load(write(folder, events=[{**EVENT, **changes}]))
    assert source.counts["events"] == Counts(1, 1 - len(source.rejected), 0, len(source.rejected))
    return outcome(source), source.faults_of("events")


def ids(source: Source) -> list[str]:
    return [row["event_id"] for row in source.events]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2025-06-10 12:00:00", at(2025, 6, 10, 12)),
        ("2025-06-10T12:00:00", at(2025, 6, 10, 12)),
        ("2025-06-10T12:00:00Z", at(2025, 6, 10, 12)),
        ("2025-06-10 12:00:00 UTC", at(2025, 6, 10, 12)),
        ("2025-06-10 12:00:00 GMT", at(2025, 6, 10, 12)),
        ("2025-06-10 12:00:00.000 Z", at(2025, 6, 10, 12)),
        ("2025-06-10 12:00:00.000 -0800", at(2025, 6, 10, 20)),
        ("2025-06-10T12:00:00.000+0000", at(2025, 6, 10, 12)),
        ("2025-06-10T12:00:00+02:00", at(2025, 6, 10, 10)),
        ("2025-06-10 12:00:00+05", at(2025, 6, 10, 7)),
        ("2025-06-10 12:00", at(2025, 6, 10, 12)),
        ("2025-06-10T12:00Z", at(2025, 6, 10, 12)),
        ("2025-06-10 12:00:00.1234567", at(2025, 6, 10, 12, 0, 0, 123456)),
        ("2025-06-10 24:00:00", at(2025, 6, 11)),
        ("2025-06-10", at(2025, 6, 10)),
        ("1749556800", at(2025, 6, 10, 12)),
        ("1749556800.0", at(2025, 6, 10, 12)),
        ("1749556800000", at(2025, 6, 10, 12)),
        ("1749556800000000", at(2025, 6, 10, 12)),
        ("1749556800000000000", at(2025, 6, 10, 12)),
        ("1749556800123456789", at(2025, 6, 10, 12, 0, 0, 123456)),
        ("999999999", at(2001, 9, 9, 1, 46, 39)),
        ("0001-01-01T00:00:00Z", at(1, 1, 1)),
        ("9999-12-31 23:59:59.999999", at(9999, 12, 31, 23, 59, 59, 999999)),
    ],
)
def test_timestamps_that_are_read(text: str, instant: datetime) -> None:
    assert read_timestamp(text, UTC) == instant


@pytest.mark.parametrize(
    "text",
    [
        *(f"2025-06-10 12:00:00 {zone}" for zone in ("BST", "IST", "CST", "PST", "AST", "CEST")),
        "2025-06-10 12:00:00 Asia/Kolkata",
        "2025-06-10 12:00:00 PM",
        "6/10/2025 12:00",
        "20250610",
        "20250610120000",
        "17495568000",
        "0",
        "1749556800.5",
        "1.7495568e9",
        "-1749556800",
        "0000-00-00 00:00:00",
        "10000-01-01",
        "0001-01-01 00:00:00+01:00",
        "9999-12-31 23:59:59-12:00",
        "2025-02-29",
        "2025-06-10 25:00:00",
        "2025-06-10 24:00:01",
        "2025-06-10 23:59:60",
        "2025-06-10 12:00:00+02:60",
        "infinity",
        "now",
        "epoch",
        "yesterday",
    ],
)
def test_timestamps_that_are_unreadable(text: str) -> None:
    assert read_timestamp(text, UTC) is None


def test_a_date_is_a_local_midnight_and_a_time_without_offset_is_in_utc() -> None:
    # Clocks in Los Angeles change on 9 March and 2 November 2025, at 2 o'clock.
    assert read_timestamp("2025-03-09", LOS_ANGELES) == at(2025, 3, 9, 8)
    assert read_timestamp("2025-03-10", LOS_ANGELES) == at(2025, 3, 10, 7)
    assert read_timestamp("2025-11-02", LOS_ANGELES) == at(2025, 11, 2, 7)
    assert read_timestamp("2025-11-03", LOS_ANGELES) == at(2025, 11, 3, 8)
    assert read_timestamp("2025-03-09", KOLKATA) == at(2025, 3, 8, 18, 30)
    assert read_timestamp("2025-03-09 00:00:00", LOS_ANGELES) == at(2025, 3, 9)


@pytest.mark.parametrize(
    ("instant", "in_los_angeles", "in_kolkata"),
    [
        (at(2025, 3, 9, 7, 59, 59), date(2025, 3, 8), date(2025, 3, 9)),
        (at(2025, 3, 9, 8), date(2025, 3, 9), date(2025, 3, 9)),
        (at(2025, 3, 10, 6, 59, 59), date(2025, 3, 9), date(2025, 3, 10)),
        (at(2025, 3, 10, 7), date(2025, 3, 10), date(2025, 3, 10)),
        (at(2025, 11, 3, 7, 59, 59), date(2025, 11, 2), date(2025, 11, 3)),
        (at(2025, 11, 2, 18, 30), date(2025, 11, 2), date(2025, 11, 3)),
    ],
)
def test_local_dates(instant: datetime, in_los_angeles: date, in_kolkata: date) -> None:
    assert local_date(instant, LOS_ANGELES) == in_los_angeles
    assert local_date(instant, KOLKATA) == in_kolkata


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-06-03", date(2026, 6, 3)),
        ("2026-06-03 00:00:00", date(2026, 6, 3)),
        ("2026-06-03T00:00:00.000", date(2026, 6, 3)),
        ("2026-06-03 00:00:00Z", date(2026, 6, 2)),
        ("2026-06-03 05:00:00", date(2026, 6, 2)),
        ("2026-06-03 08:00:00", date(2026, 6, 3)),
        ("2026-06-02 17:00:00-0700", date(2026, 6, 2)),
        ("next year", None),
    ],
)
def test_columns_of_dates_keep_a_midnight_without_offset(text: str, day: date | None) -> None:
    assert read_date(text, LOS_ANGELES) == day


def test_numbers_and_flags() -> None:
    assert [read_integer(text) for text in ("5", "5.0", "0", "5.5", "-1", "five", "1,000")] == [
        *(5, 5, 0),
        *[None] * 4,
    ]
    assert [read_amount(text) for text in ("90.50", "1e3", "0", "-20", "$5", "NaN")] == [
        *(Decimal("90.50"), Decimal("1000.00"), Decimal("0.00")),
        *[None] * 3,
    ]
    assert [read_boolean(text) for text in ("TRUE", "1", "f", "No", "2", "perhaps")] == [
        *(True, True, False, False),
        *[None] * 2,
    ]


# ---------------------------------------------------------------- reasons of events


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"entity_id": "null"}, "missing_entity_id", None),
        ({"event_type": " None "}, "missing_event_type", None),
        ({"timestamp": r"\N"}, "missing_timestamp", None),
        ({"entity_type": "robot"}, "unknown_entity_type", None),
        ({"location": "Web App"}, "unknown_location", None),
        ({"location": "ios"}, "unknown_location", None),
        *(
            ({"event_type": event_type}, "invalid_event_type", None)
            for event_type in (
                *("signup", "Order Completed", "$pageview", "[Amplitude] Page Viewed"),
                *("video.created", "video-created", "VideoCreated", "video_created\n"),
            )
        ),
        *(
            ({"metadata": text}, "unreadable_metadata", None)
            for text in (
                *("[]", "3", '"x"', '{"a": ', "{'a': 1}", "undefined", "nan"),
                '[{"key": "a", "value": {"string_value": "b"}}]',
                '"{\\"a\\": 1}"',
            )
        ),
        ({"timestamp": "2025-06-10 12:00:00 BST"}, "unreadable_timestamp", None),
        ({"timestamp": "1989-12-31"}, "before_earliest_event_date", None),
        ({"timestamp": "1970-01-01 00:00:00"}, "before_earliest_event_date", None),
        ({"entity_id": "bob"}, "unknown_user", None),
        ({"entity_id": "Ada"}, "unknown_user", "ada"),
        ({"entity_id": " ada"}, "unknown_user", "ada"),
        ({"entity_id": "ADA.0 "}, "unknown_user", "ada"),
        ({"entity_type": "account"}, "unknown_account", None),
        ({"entity_type": "account", "entity_id": "ACC"}, "unknown_account", "acc"),
        ({"timestamp": "2025-01-31 23:59:59"}, "before_user_creation", None),
        ({"product_id": "Video"}, "unknown_product", "video"),
        ({"product_id": "audio"}, "unknown_product", None),
        ({"product_id": "N/A"}, "unknown_product", None),
    ],
)
def test_an_event_that_is_rejected(
    tmp_path: Path, changes: dict[str, str], reason: str, detail: str | None
) -> None:
    assert one_event(tmp_path, **changes) == ([(reason, detail)], [])


@pytest.mark.parametrize(
    "changes",
    [
        {"entity_type": "admin", "entity_id": "nobody"},
        {"entity_type": "system", "entity_id": "nobody"},
        {"entity_type": "account", "entity_id": "acc"},
        {"timestamp": "2025-02-01 00:00:00"},
        {"entity_type": "", "location": "NULL"},
        {"metadata": " NaN "},
        {"metadata": "{}"},
    ],
)
def test_an_event_that_is_accepted(tmp_path: Path, changes: dict[str, str]) -> None:
    assert one_event(tmp_path, **changes) == ([], [])


def test_the_first_reason_that_applies_counts(tmp_path: Path) -> None:
    broken = {
        "event_id": "x",
        "entity_id": "",
        "entity_type": "robot",
        "event_type": "Oh No",
        "timestamp": "yesterday",
        "location": "the moon",
        "product_id": "audio",
        "metadata": "[",
    }
    fixes: list[tuple[dict[str, str], str]] = [
        ({"entity_id": "bob"}, "missing_entity_id"),
        ({"entity_type": "user"}, "unknown_entity_type"),
        ({"location": "api"}, "unknown_location"),
        ({"event_type": "video_created"}, "invalid_event_type"),
        ({"metadata": ""}, "unreadable_metadata"),
        ({"timestamp": "1980-01-01"}, "unreadable_timestamp"),
        ({"timestamp": "2025-01-01"}, "before_earliest_event_date"),
        ({"entity_id": "ada"}, "unknown_user"),
        ({"timestamp": "2025-03-01"}, "before_user_creation"),
        ({"product_id": ""}, "unknown_product"),
    ]
    rows = []
    for number, (fix, _) in enumerate(fixes):
        rows.append({**broken, "event_id": f"x{number}"})
        broken |= fix
    source = load(write(tmp_path, events=rows))
    assert source.reasons("events") == [reason for _, reason in fixes]


def test_events_of_rejected_entities_name_the_reason_of_the_entity(tmp_path: Path) -> None:
    source = load(
        write(
            tmp_path,
            accounts=[
                ACCOUNT,
                {**ACCOUNT, "account_id": "old", "account_created_at": "0001-01-01"},
            ],
            users=[
                USER,
                {**USER, "user_id": "zero", "user_created_at": "0001-01-01T00:00:00Z"},
                {**USER, "user_id": "of_old", "account_id": "old"},
                {**USER, "user_id": "of_none", "account_id": "NULL"},
                {**USER, "user_id": "of_case", "account_id": "Acc"},
            ],
            events=[
                {**EVENT, "event_id": "1", "entity_id": "zero"},
                {**EVENT, "event_id": "2", "entity_id": "of_old"},
                {**EVENT, "event_id": "3", "entity_id": "of_none"},
                {**EVENT, "event_id": "4", "entity_type": "account", "entity_id": "old"},
                {**EVENT, "event_id": "5"},
            ],
        )
    )
    early = "before_earliest_event_date"
    assert outcome(source, "accounts") == [(early, None)]
    assert outcome(source, "users") == [
        (early, None),
        ("account_rejected", early),
        ("missing_account_id", None),
        ("unknown_account", "acc"),
    ]
    assert outcome(source) == [
        ("user_rejected", early),
        ("user_rejected", "account_rejected"),
        ("user_rejected", "missing_account_id"),
        ("account_rejected", early),
    ]
    assert ids(source) == ["5"]


@pytest.mark.parametrize(
    ("known", "given", "detail"),
    [
        ("101", "101.0", "101"),
        ("101.0", "101", "101.0"),
        ("101", "101.00", None),
        ("00042", "42", None),
        ("U_Case", " u_case ", "U_Case"),
        ("é", "e\u0301", None),
        ("ÉA", "éa", "ÉA"),
    ],
)
def test_a_known_id_that_differs_only_in_spelling_is_named(
    tmp_path: Path, known: str, given: str, detail: str | None
) -> None:
    source = load(
        write(
            tmp_path,
            users=[{**USER, "user_id": known}],
            events=[{**EVENT, "entity_id": given}, {**EVENT, "event_id": "e2", "entity_id": known}],
        )
    )
    assert outcome(source) == [("unknown_user", detail)]
    assert ids(source) == ["e2"]


def test_events_after_the_day_of_the_first_deletion(tmp_path: Path) -> None:
    deletion = {**FACT, "entity_id": "ada", "event_type": "user_deleted", "entity_type": ""}
    source = load(
        write(
            tmp_path,
            subscription_events=[
                {**deletion, "event_id": "too_early", "timestamp": "2025-01-15"},
                {**deletion, "event_id": "later", "timestamp": "2025-03-20"},
                {**deletion, "event_id": "first", "timestamp": "2025-03-10 09:00:00"},
            ],
            events=[
                {**EVENT, "event_id": "same_day", "timestamp": "2025-03-10 23:59:59"},
                {**EVENT, "event_id": "next_day", "timestamp": "2025-03-11"},
            ],
        )
    )
    assert outcome(source, "subscription_events") == [("before_user_creation", None)]
    assert ids(source) == ["same_day"]
    assert outcome(source) == [("after_user_deletion", None)]


def test_in_a_layout_by_day_the_local_date_is_the_date_of_the_folder(tmp_path: Path) -> None:
    day = "events/event_date=2025-03-09"
    write(tmp_path, events=None)
    write_source(
        tmp_path,
        {
            f"{day}/a": [
                {**EVENT, "event_id": "last", "timestamp": "2025-03-10T06:59:59Z"},
                {**EVENT, "event_id": "next", "timestamp": "2025-03-10T07:00:00Z"},
                {**EVENT, "event_id": "midnight", "timestamp": "2025-03-09"},
            ]
        },
    )
    source = load(tmp_path, timezone="America/Los_Angeles")
    assert ids(source) == ["last", "midnight"]
    assert outcome(source) == [("not_on_date_of_folder", None)]
    assert outcome(load(tmp_path)) == [("not_on_date_of_folder", None)] * 2


# ---------------------------------------------------------------- repeated and superseded rows


def several(folder: Path, *rows: Texts) -> Source:
    return load(write(folder, events=[{**EVENT, **row} for row in rows]))


def test_rows_that_differ_in_received_at_only_are_one_event(tmp_path: Path) -> None:
    source = several(
        tmp_path,
        {"received_at": "2025-03-05 10:05:00"},
        {"received_at": "2025-03-05 10:01:00"},
        {"received_at": ""},
    )
    assert source.counts["events"] == Counts(3, 1, 2, 0)
    assert source.events[0]["received_at"] == at(2025, 3, 5, 10, 5)


def test_the_latest_received_row_wins_whatever_its_place(tmp_path: Path) -> None:
    source = several(
        tmp_path,
        {"session_id": "corrected", "received_at": "2025-03-06"},
        {"session_id": "first", "received_at": "2025-03-05"},
        {"session_id": "without", "received_at": ""},
        {"session_id": "unreadable", "received_at": "soon"},
    )
    assert source.counts["events"] == Counts(4, 1, 0, 3)
    assert source.reasons("events") == ["superseded"] * 3
    assert source.events[0]["session_id"] == "corrected"


def test_without_received_at_the_last_file_and_its_last_row_win(tmp_path: Path) -> None:
    row = {**EVENT, "received_at": ""}
    write(tmp_path, events=None)
    write_source(
        tmp_path,
        {
            "events/b": [{**row, "session_id": "b1"}, {**row, "session_id": "b2"}],
            "events/a": [{**row, "session_id": "a1"}],
        },
    )
    assert [event["session_id"] for event in load(tmp_path).events] == ["b2"]


def test_a_content_that_comes_again_wins_again(tmp_path: Path) -> None:
    no_time = {"received_at": ""}
    source = several(
        tmp_path,
        {"session_id": "a", **no_time},
        {"session_id": "b", **no_time},
        {"session_id": "a", **no_time},
    )
    assert source.events[0]["session_id"] == "a"
    assert source.counts["events"] == Counts(3, 1, 1, 1)


def test_a_row_that_breaks_another_rule_supersedes_nothing(tmp_path: Path) -> None:
    source = several(
        tmp_path, {"received_at": ""}, {"received_at": "2025-04-01", "location": "the moon"}
    )
    assert source.counts["events"] == Counts(2, 1, 0, 1)
    assert source.reasons("events") == ["unknown_location"]


def test_rows_without_an_id_are_identified_by_their_content(tmp_path: Path) -> None:
    source = several(
        tmp_path,
        {"event_id": ""},
        {"event_id": "NULL"},
        {"event_id": "", "session_id": "other"},
    )
    assert source.counts["events"] == Counts(3, 2, 1, 0)
    assert ids(source) == [None, None]


def test_the_last_row_of_an_entity_holds(tmp_path: Path) -> None:
    write(tmp_path, users=None)
    write_source(
        tmp_path,
        {
            "users/2025-06-29": [{**USER, "country": "FR"}, {**USER, "country": "DE"}],
            "users/2025-06-28": [USER, {**USER, "country": "DE"}],
        },
    )
    source = load(tmp_path)
    assert [row["country"] for row in source.users] == ["DE"]
    assert source.counts["users"] == Counts(4, 1, 1, 2)
    assert source.reasons("users") == ["superseded", "superseded"]


# ---------------------------------------------------------------- versions


def countries(source: Source) -> list[tuple[date, str]]:
    """Return the first day and the country of each version of a user."""
    return sorted((row["valid_from"], row["country"]) for row in source.users)


@pytest.mark.parametrize(
    ("values", "day"),
    [
        ({"valid_from": "2025-03-01", "updated_at": "2025-03-02 12:00:00"}, date(2025, 3, 1)),
        ({"valid_from": "2025-03-01 00:00:00"}, date(2025, 3, 1)),
        ({"valid_from": "2025-03-01T00:00:00Z"}, date(2025, 2, 28)),
        ({"valid_from": "soon", "updated_at": "2025-03-02 07:59:59"}, date(2025, 3, 1)),
        ({"valid_from": "", "updated_at": "2025-03-02 08:00:00"}, date(2025, 3, 2)),
        ({"valid_from": "", "updated_at": "later"}, date(2025, 3, 4)),
        ({}, date(2025, 3, 4)),
    ],
)
def test_the_day_of_a_version(tmp_path: Path, values: dict[str, str], day: date) -> None:
    write(tmp_path, users=None)
    write_source(tmp_path, {"users/snapshot_date=2025-03-04/part": [{**USER, **values}]})
    source = load(tmp_path, timezone="America/Los_Angeles", last_day=date(2025, 3, 9))
    assert [row["valid_from"] for row in source.users] == [day]
    unreadable = [name for name, text in values.items() if text in ("soon", "later")]
    assert source.faults_of("users") == [f"unreadable_{name}" for name in unreadable]


def test_a_version_without_a_day_starts_on_the_last_day_of_the_run(tmp_path: Path) -> None:
    users = [{**USER, "valid_from": ""}, {**USER, "country": "DE", "valid_from": "2025-03-20"}]
    write(tmp_path, users=users)
    run = load(tmp_path, last_day=date(2025, 3, 9))
    assert countries(run) == [(date(2025, 3, 9), "US"), (date(2025, 3, 20), "DE")]
    # Without a run, it follows all others.
    assert countries(load(tmp_path)) == [(date(2025, 3, 5), "US"), (date(2025, 3, 20), "DE")]


def test_unchanged_rows_add_no_version_and_changes_back_add_one(tmp_path: Path) -> None:
    users = [
        {**USER, "valid_from": f"2025-03-0{day}", "country": country}
        for day, country in ((4, "US"), (1, "US"), (2, "US"), (3, "DE"), (5, "US"))
    ]
    source = load(write(tmp_path, users=users))
    assert countries(source) == [
        (date(2025, 3, 1), "US"),
        (date(2025, 3, 3), "DE"),
        (date(2025, 3, 4), "US"),
    ]
    assert source.counts["users"] == Counts(5, 3, 2, 0)


def test_the_latest_row_of_a_day_holds(tmp_path: Path) -> None:
    def user(hour: int | None, country: str) -> Texts:
        time = "" if hour is None else f"2025-03-01 {hour:02}:00:00"
        return {**USER, "valid_from": "2025-03-01", "updated_at": time, "country": country}

    write(tmp_path, users=None)
    write_source(
        tmp_path,
        {
            "users/a": [user(5, "US"), user(9, "DE"), user(6, "US"), user(7, "FR")],
            "users/b": [user(None, "UK"), user(8, "DE")],
        },
    )
    source = load(tmp_path)
    assert countries(source) == [(date(2025, 3, 1), "DE")]
    assert source.counts["users"] == Counts(6, 1, 2, 3)
    superseded = [found.line["country"] for found in source.rejected]
    assert superseded == ["US", "FR", "UK"]


def test_creation_is_that_of_the_first_version(tmp_path: Path) -> None:
    users = [
        {
            **USER,
            "valid_from": f"2025-03-0{day}",
            "user_created_at": f"2025-02-0{day}",
            "country": country,
        }
        for day, country in ((3, "DE"), (2, "US"), (1, "US"))
    ]
    source = load(write(tmp_path, users=users))
    assert countries(source) == [(date(2025, 3, 1), "US"), (date(2025, 3, 3), "DE")]
    assert {row["signup_date"] for row in source.users} == {date(2025, 2, 1)}
    # The row that differs in its creation is a version, but changes nothing.
    assert source.counts["users"] == Counts(3, 3, 0, 0)


def test_the_first_payment_is_that_of_the_latest_version_that_states_one(tmp_path: Path) -> None:
    accounts = [
        {**ACCOUNT, "valid_from": "2025-03-01", "first_paid_at": "2025-01-02", "total_seats": "1"},
        {**ACCOUNT, "valid_from": "2025-03-02", "first_paid_at": "2025-01-05", "total_seats": "2"},
        {**ACCOUNT, "valid_from": "2025-03-03", "first_paid_at": "", "total_seats": "3"},
    ]
    source = load(write(tmp_path, accounts=accounts))
    assert [row["total_seats"] for row in source.accounts] == [1, 2, 3]
    assert {row["first_paid_date"] for row in source.accounts} == {date(2025, 1, 5)}


def test_a_version_is_rejected_by_itself(tmp_path: Path) -> None:
    users = [
        {**USER, "valid_from": "2025-03-01"},
        {**USER, "valid_from": "2025-03-02", "account_id": "nobody"},
        {**USER, "valid_from": "2025-03-03", "country": "DE"},
    ]
    source = load(write(tmp_path, users=users))
    assert source.reasons("users") == ["unknown_account"]
    assert countries(source) == [(date(2025, 3, 1), "US"), (date(2025, 3, 3), "DE")]
    assert ids(source) == ["e1"]


# ---------------------------------------------------------------- aliases


def aliases(*pairs: tuple[str, str]) -> list[Texts]:
    return [{"alias_id": alias, "user_id": user} for alias, user in pairs]


def merged(source: Source) -> dict[str, str]:
    return {row["alias_id"]: row["merged_user_id"] for row in source.user_aliases}


def user_rows(source: Source) -> list[tuple[str, str | None, str, str]]:
    """Return the user, alias, country and signup date of each version."""
    return sorted(
        (row["user_id"], row["alias_id"], row["country"], f"{row['signup_date']:%m-%d}")
        for row in source.users
    )


def entities(source: Source) -> dict[str, str]:
    return {row["event_id"]: row["entity_id"] for row in source.events}


def test_a_chain_of_aliases_leads_to_its_end(tmp_path: Path) -> None:
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("a", "b"), ("c", "ada"), ("b", "c")),
            events=[{**EVENT, "event_id": name, "entity_id": name} for name in ("a", "b", "c")],
        )
    )
    assert source.user_aliases == [
        {
            "alias_id": alias,
            "user_id": user,
            "merged_user_id": "ada",
            "alias_created_at": None,
            "faults": None,
        }
        for alias, user in (("a", "b"), ("c", "ada"), ("b", "c"))
    ]
    assert source.counts["user_aliases"] == Counts(3, 3, 0, 0)
    assert entities(source) == {"a": "ada", "b": "ada", "c": "ada"}
    assert source.rejected == []


def test_ids_in_a_cycle_or_leading_into_one_stay_as_they_are(tmp_path: Path) -> None:
    names = ("x", "y", "z", "to_x", "self", "to_self")
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(
                *(("x", "y"), ("y", "z"), ("z", "x"), ("to_x", "x")),
                *(("self", "self"), ("to_self", "self"), ("a", "ada")),
            ),
            users=[USER, *({**USER, "user_id": name} for name in names)],
            subscription_events=[
                {**FACT, "event_id": "gone", "entity_id": "to_x", "entity_type": "user"}
                | {"event_type": "user_deleted", "timestamp": "2025-03-04"}
            ],
            events=[
                *({**EVENT, "event_id": name, "entity_id": name} for name in (*names, "a")),
                {**EVENT, "event_id": "target", "metadata": '{"target_user_id": "to_self"}'},
            ],
        )
    )
    assert merged(source) == {**{name: name for name in names}, "a": "ada"}
    assert [row["faults"] for row in source.user_aliases] == ["alias_in_cycle"] * 6 + [None]
    assert source.faults_of("user_aliases") == ["alias_in_cycle"] * 6
    assert {row["alias_created_at"] for row in source.user_aliases[:6]} == {None}
    assert [(user, alias) for user, alias, *_ in user_rows(source)] == [
        (name, None) for name in sorted(("ada", *names))
    ]
    # The deletion under an id that leads into a cycle is one of that user.
    assert len(source.subscription_events) == 1
    assert outcome(source) == [("after_user_deletion", None)]
    others = {name: name for name in names if name != "to_x"}
    assert entities(source) == {**others, "a": "ada", "target": "ada"}
    assert source.events[-1]["metadata"] == {"target_user_id": "to_self"}


def test_the_last_row_of_an_alias_holds(tmp_path: Path) -> None:
    write(tmp_path)
    write_source(
        tmp_path,
        {
            "user_aliases/b": aliases(("a", "ada"), ("b", "ada"), ("c", "y")),
            "user_aliases/a": aliases(("a", "bob"), ("a", "ada"), ("b", "eve"), ("b", "eve")),
            "user_aliases/c d": aliases(("c", "x"), ("c", "y"), ("c", "x"), ("c", "ada")),
        },
    )
    source = load(tmp_path)
    assert merged(source) == {"a": "ada", "b": "ada", "c": "ada"}
    # Of a: bob is superseded and ada repeated. Of b: of two rows with eve, one is repeated and one
    # superseded. Of c: y, x, y, x come before ada, two of them repeated and two superseded.
    assert source.counts["user_aliases"] == Counts(11, 3, 4, 4)
    assert source.reasons("user_aliases") == ["superseded"] * 4


def test_an_alias_without_one_of_its_ids_is_rejected_and_supersedes_nothing(
    tmp_path: Path,
) -> None:
    rows = aliases(("a", "ada"), ("a", " NULL "), ("", "ada"), ("", ""), ("b", "bob"))
    source = load(write(tmp_path, user_aliases=rows))
    assert outcome(source, "user_aliases") == [
        ("missing_user_id", None),
        ("missing_alias_id", None),
        ("missing_alias_id", None),
    ]
    assert merged(source) == {"a": "ada", "b": "bob"}


def test_an_alias_is_matched_exactly(tmp_path: Path) -> None:
    given = ("Ada", " ada", "ADA", "ada.0")
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("Ada", "ada"), (" ada", "ada"), ("101", "ada")),
            users=[USER, {**USER, "user_id": "ADA"}],
            events=[{**EVENT, "event_id": name, "entity_id": name} for name in (*given, "101.0")],
        )
    )
    assert entities(source) == {"Ada": "ada", " ada": "ada", "ADA": "ADA"}
    # Only users are known ids, and the alias 101 is none.
    assert outcome(source) == [("unknown_user", "ADA"), ("unknown_user", None)]


def test_ids_of_other_entity_types_are_no_aliases(tmp_path: Path) -> None:
    types = ("user", "", "admin", "system", "account")
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("acc", "ada")),
            events=[
                {**EVENT, "event_id": name or "none", "entity_id": "acc", "entity_type": name}
                for name in types
            ],
            subscription_events=[FACT],
        )
    )
    assert entities(source) == {
        **dict.fromkeys(("user", "none"), "ada"),
        **dict.fromkeys(("admin", "system", "account"), "acc"),
    }
    assert source.subscription_events[0]["entity_id"] == "acc"
    assert source.accounts[0]["account_id"] == "acc"


@pytest.mark.parametrize(
    ("metadata", "replaced"),
    [
        ('{"target_user_id": "a", "user_id": "a"}', {"target_user_id": "ada", "user_id": "a"}),
        ('{"target_user_id": "A"}', {"target_user_id": "A"}),
        ('{"x": {"target_user_id": "a"}}', {"x": {"target_user_id": "a"}}),
        ('{"target_user_id": 7}', {"target_user_id": "ada"}),
        ('{"target_user_id": 8}', {"target_user_id": 8}),
        ('{"target_user_id": ["a"]}', {"target_user_id": ["a"]}),
        ('{"target_user_id": true}', {"target_user_id": True}),
        ('{"target_user_id": "None"}', {"target_user_id": None}),
        # An alias may be an address, which is an alias first.
        ('{"target_user_id": "a@b.example"}', {"target_user_id": "ada"}),
    ],
)
def test_targets_in_metadata(tmp_path: Path, metadata: str, replaced: dict[str, Any]) -> None:
    names = ("a", "7", "true", "a@b.example")
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(*((name, "ada") for name in names)),
            events=[
                {**EVENT, "metadata": metadata},
                {**EVENT, "event_id": "e2", "metadata": metadata, "entity_type": "admin"},
            ],
            subscription_events=[{**FACT, "metadata": metadata}],
        )
    )
    facts = [*source.events, *source.subscription_events]
    assert [row["metadata"] for row in facts] == [replaced] * 3
    assert source.faults == []


def test_a_user_exists_from_the_earliest_creation(tmp_path: Path) -> None:
    def user(name: str, day: str, country: str = "US", **values: str) -> Texts:
        created = f"2025-02-{day} 12:00:00"
        return {**USER, "user_id": name, "user_created_at": created, "country": country, **values}

    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("a", "ada"), ("b", "a"), ("c", "ada"), ("bo", "bob")),
            users=[
                *(user("ada", "10"), user("a", "08", "DE"), user("b", "05", "FR")),
                # These are no users: neither their creation nor they themselves count.
                *(user("c", "01", account_id="nobody"), user("c", "02", account_id="")),
                *(user("bob", "10"), user("bo", "11", "DE"), user("bo", "12", "FR")),
            ],
            events=[
                {**EVENT, "event_id": f"{name}{day}", "entity_id": name}
                | {"timestamp": f"2025-02-{day}"}
                for name, day in (("b", "04"), ("ada", "05"), ("c", "09"), ("bob", "09"))
            ],
        )
    )
    assert user_rows(source) == [("ada", None, "US", "02-05"), ("bob", None, "US", "02-10")]
    assert [row["alias_created_at"] for row in source.user_aliases] == [
        at(2025, 2, 8, 12),
        at(2025, 2, 5, 12),
        None,
        at(2025, 2, 11, 12),
    ]
    assert outcome(source, "users") == [
        ("merged", None),
        ("merged", None),
        ("unknown_account", None),
        ("missing_account_id", None),
        ("merged", None),
        ("merged", None),
    ]
    assert source.counts["users"] == Counts(8, 2, 0, 6)
    assert outcome(source) == [("before_user_creation", None)] * 2
    assert entities(source) == {"ada05": "ada", "c09": "ada"}


def test_the_creation_of_a_user_counts_from_its_first_version_and_under_an_alias_from_any(
    tmp_path: Path,
) -> None:
    def user(name: str, valid_from: str, created: str) -> Texts:
        days = {"valid_from": f"2025-03-{valid_from}", "user_created_at": f"2025-02-{created}"}
        return {**USER, "user_id": name, "country": valid_from, **days}

    users = [user("ada", "01", "10"), user("ada", "02", "03"), user("a", "01", "09")]
    source = load(write(tmp_path, user_aliases=aliases(("a", "ada")), users=users))
    assert user_rows(source) == [("ada", None, "01", "02-09"), ("ada", None, "02", "02-09")]
    users.append(user("a", "02", "04"))
    source = load(write(tmp_path, user_aliases=aliases(("a", "ada")), users=users))
    assert user_rows(source) == [("ada", None, "01", "02-04"), ("ada", None, "02", "02-04")]


def test_a_user_without_a_row_has_the_rows_under_its_earliest_alias(tmp_path: Path) -> None:
    def user(name: str, created: str, country: str, valid_from: str = "2025-03-01") -> Texts:
        days = {"user_created_at": f"2025-02-{created}", "valid_from": valid_from}
        return {**USER, "user_id": name, "country": country, **days}

    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("y", "ada"), ("x", "ada"), ("z", "ada"), ("Z", "bob")),
            users=[
                user("y", "04", "FR"),
                *(user("x", "05", "US"), user("x", "03", "DE", "2025-03-05")),
                *(user("x", "05", "US", "2025-03-02"), user("x", "05", "UK", "2025-03-05")),
                user("z", "03", "AU"),
                # The own row of bob is none, since it breaks a rule.
                {**user("bob", "01", "US"), "account_id": "nobody"},
                user("Z", "06", "BR"),
            ],
            events=[{**EVENT, "entity_id": "bob"}],
        )
    )
    # The aliases x and z have the same creation. Of the rows for March 5, the last one wins.
    assert user_rows(source) == [
        ("ada", "x", "UK", "02-03"),
        ("ada", "x", "US", "02-03"),
        ("bob", "Z", "BR", "02-06"),
    ]
    assert source.reasons("users") == ["merged", "superseded", "merged", "unknown_account"]
    assert source.counts["users"] == Counts(8, 3, 1, 4)
    assert ids(source) == ["e1"]


def test_a_row_of_the_user_holds_for_all_days(tmp_path: Path) -> None:
    users = [
        {**USER, "user_id": "a", "valid_from": "2025-03-01", "country": "FR"},
        {**USER, "user_id": "a", "valid_from": "2025-03-09", "country": "DE"},
        {**USER, "valid_from": "2025-03-05"},
    ]
    source = load(write(tmp_path, user_aliases=aliases(("a", "ada")), users=users))
    assert countries(source) == [(date(2025, 3, 5), "US")]
    assert source.reasons("users") == ["merged", "merged"]


def test_a_deletion_under_an_alias_changes_nothing(tmp_path: Path) -> None:
    deletion = {**FACT, "entity_id": "a", "event_type": "user_deleted", "entity_type": ""}
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("a", "ada"), ("b", "nobody")),
            subscription_events=[
                deletion,
                deletion,
                {**deletion, "event_id": "f2", "entity_type": "user", "entity_id": "b"},
                {**deletion, "event_id": "f3", "timestamp": "2024-12-31"},
                {**deletion, "event_id": "f4", "timestamp": "soon"},
                # A row that breaks a rule supersedes nothing.
                {**deletion, "event_id": "f5", "entity_id": "ada", "timestamp": "2025-03-06"},
                {**deletion, "event_id": "f5", "received_at": "2025-04-01"},
            ],
            events=[
                EVENT,
                {**EVENT, "event_id": "e2", "entity_id": "a", "timestamp": "2025-03-06"},
                {**EVENT, "event_id": "e3", "entity_id": "a", "timestamp": "2025-03-07"},
            ],
        )
    )
    assert source.reasons("subscription_events") == [
        *(["merged"] * 4),
        "unreadable_timestamp",
        "merged",
    ]
    assert [row["entity_id"] for row in source.subscription_events] == ["ada"]
    assert entities(source) == {"e1": "ada", "e2": "ada"}
    assert outcome(source) == [("after_user_deletion", None)]


def test_rows_are_compared_as_read(tmp_path: Path) -> None:
    no_id = {"event_id": "", "session_id": "s2"}
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("a", "ada")),
            events=[
                EVENT,
                {**EVENT, "entity_id": "a"},
                {**EVENT, "entity_id": "a", "received_at": ""},
                *({**EVENT, **no_id, "entity_id": name} for name in ("ada", "a", "a")),
            ],
        )
    )
    assert source.counts["events"] == Counts(6, 3, 2, 1)
    assert source.reasons("events") == ["superseded"]
    assert [row["entity_id"] for row in source.events] == ["ada"] * 3
    # Of the rows e1 that were received last, the last one is that of the alias.
    assert [found.line["entity_id"] for found in source.rejected] == ["ada"]


def test_events_under_aliases_of_users_that_do_not_exist(tmp_path: Path) -> None:
    source = load(
        write(
            tmp_path,
            user_aliases=aliases(("a", "Ada"), ("b", "bob"), ("c", "eve"), ("d", "zed")),
            users=[
                USER,
                {**USER, "user_id": "b", "account_id": "nobody"},
                {**USER, "user_id": "eve", "user_created_at": "soon"},
            ],
            events=[
                {**EVENT, "event_id": name, "entity_id": name} for name in ("a", "b", "c", "d")
            ],
        )
    )
    assert outcome(source) == [
        ("unknown_user", "ada"),
        ("user_rejected", "unknown_account"),
        ("user_rejected", "unreadable_user_created_at"),
        ("unknown_user", None),
    ]


def test_without_users_there_is_a_user_for_each_end_of_a_chain(tmp_path: Path) -> None:
    def event(name: str, day: int) -> Texts:
        return {**EVENT, "event_id": f"{name}{day}", "entity_id": name} | {
            "timestamp": f"2025-03-{day:02}"
        }

    source = load(
        write(
            tmp_path,
            **dict.fromkeys(("users", "accounts")),
            user_aliases=aliases(("a", "ada"), ("x", "y"), ("y", "x")),
            events=[event("ada", 6), event("a", 4), event("x", 7)],
        )
    )
    assert user_rows(source) == [
        ("ada", None, "unknown", "03-04"),
        ("x", None, "unknown", "03-07"),
    ]
    assert [row["alias_created_at"] for row in source.user_aliases] == [None] * 3
    assert {row["account_id"]: row["created_date"] for row in source.accounts} == {
        "ada": date(2025, 3, 4),
        "x": date(2025, 3, 7),
    }


def test_without_accounts_a_row_under_an_alias_has_that_of_its_user(tmp_path: Path) -> None:
    def user(name: str, created: str, account: str = "") -> Texts:
        return {**USER, "user_id": name, "user_created_at": created, "account_id": account}

    source = load(
        write(
            tmp_path,
            accounts=None,
            user_aliases=aliases(("a", "ada"), ("b", "bob")),
            users=[
                user("a", "2025-02-01"),
                *(user("bob", "2025-02-09", "acc"), user("b", "2025-02-08", "old")),
            ],
        )
    )
    # The account `old` is only that of a row that is set aside.
    assert {row["account_id"]: row["created_date"] for row in source.accounts} == {
        "ada": date(2025, 2, 1),
        "acc": date(2025, 2, 8),
    }
    assert {(row["user_id"], row["account_id"]) for row in source.users} == {
        ("ada", "ada"),
        ("bob", "acc"),
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_source_with_aliases_is_that_with_the_ids_of_its_users(tmp_path: Path, seed: int) -> None:
    loaded = []
    for aliases in (True, False):
        folder = tmp_path / f"{aliases}"
        write_random_source(folder, seed, users=24, accounts=6, aliases=aliases)
        loaded.append(load(folder))
    merged, plain = loaded
    assert {row["alias_id"] is None for row in merged.users} == {True, False}
    for row in merged.users:
        row["alias_id"] = None
    for name in ("events", "subscription_events", "accounts"):
        assert getattr(merged, name) == getattr(plain, name)
    users = [sorted(source.users, key=lambda row: str(row["user_id"])) for source in loaded]
    assert users[0] == users[1]
    assert (merged.first_day, merged.last_day) == (plain.first_day, plain.last_day)
    assert plain.rejected == []
    assert set(merged.reasons("users")) == set(merged.reasons("subscription_events")) == {"merged"}


# ---------------------------------------------------------------- what may be missing


def test_a_source_of_events_alone(tmp_path: Path) -> None:
    write_source(
        tmp_path,
        {
            "events": [
                {"entity_id": "ada", "event_type": "video_created", "timestamp": "2025-03-05"},
                {"entity_id": "ada", "event_type": "video_edited", "timestamp": "2025-03-04"},
                {"entity_id": "bob", "event_type": "video_edited", "timestamp": "2025-03-06"},
                {"entity_id": "bob", "event_type": "video_edited", "timestamp": "2025-03-06"},
            ]
        },
    )
    source = load(tmp_path)
    assert source.counts == {"events": Counts(4, 3, 1, 0)}
    assert {row["user_id"]: row["user_created_at"] for row in source.users} == {
        "ada": at(2025, 3, 4),
        "bob": at(2025, 3, 6),
    }
    assert [(row["account_id"], row["first_paid_date"]) for row in source.accounts] == [
        ("ada", date(2025, 3, 4)),
        ("bob", date(2025, 3, 6)),
    ]
    assert [row["product_id"] for row in source.product_catalog] == ["product"]
    assert [row["created_date"] for row in source.product_catalog] == [date(2025, 3, 4)]
    assert {row["product_id"] for row in source.events} == {"product"}
    assert all(row["is_qualifying_event"] for row in source.events)
    assert not any(row["is_activation_event"] for row in source.events)
    assert {row["location"] for row in source.events} == {"api"}
    assert (source.first_day, source.last_day) == (date(2025, 3, 4), date(2025, 3, 6))


def test_without_a_catalog_there_is_a_product_for_each_one_named(tmp_path: Path) -> None:
    events = [EVENT, {**EVENT, "event_id": "e2", "product_id": ""}]
    source = load(write(tmp_path, product_catalog=None, events=events))
    assert [row["product_id"] for row in source.product_catalog] == ["video"]
    assert [row["product_id"] for row in source.events] == ["video", None]


def test_without_accounts_there_is_one_for_each_that_users_name(tmp_path: Path) -> None:
    users = [
        USER,
        {**USER, "user_id": "bob", "user_created_at": "2025-01-20"},
        {**USER, "user_id": "eve", "account_id": ""},
    ]
    source = load(write(tmp_path, accounts=None, users=users))
    assert [(row["account_id"], row["created_date"]) for row in source.accounts] == [
        ("acc", date(2025, 1, 20)),
        ("eve", date(2025, 2, 1)),
    ]
    assert source.reasons("users") == []


def test_accounts_without_rows_have_billing_if_there_are_facts(tmp_path: Path) -> None:
    source = load(write(tmp_path, accounts=None, subscription_events=[FACT]))
    assert [row["first_paid_at"] for row in source.accounts] == [None]


def test_defaults_of_missing_columns(tmp_path: Path) -> None:
    source = load(
        write(
            tmp_path,
            accounts=[{"account_id": "acc", "account_created_at": "2025-01-01"}],
            users=[{"user_id": "ada", "account_id": "acc", "user_created_at": "2025-02-01"}],
            product_catalog=[{"product_id": "video"}],
            events=[{name: EVENT[name] for name in ("entity_id", "event_type", "timestamp")}],
        )
    )
    [account], [user], [node], [event] = (
        source.accounts,
        source.users,
        source.product_catalog,
        source.events,
    )
    expected: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (
            account,
            {
                "account_name": "acc",
                "subscription_tier": "unknown",
                "total_seats": None,
                "first_paid_at": None,
                "contract_renewal_date": None,
                "monthly_recurring_revenue": 0,
            },
        ),
        (
            user,
            {
                "email": None,
                "country": "unknown",
                "plan_type": "unknown",
                "acquisition_source": "unknown",
            },
        ),
        (
            node,
            {
                "product_name": "video",
                "tier": "product",
                "is_active": True,
                "product_owner": "unknown",
                "created_date": date(2025, 3, 5),
            },
        ),
        (event, {"entity_type": "user", "location": "api", "metadata": None}),
    ]
    for row, values in expected:
        assert {name: row[name] for name in values} == values
    assert [found.fault for found in source.faults] == ["qualifies_by_default"]


def test_a_required_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, users=[{"user_id": "ada"}])
    with pytest.raises(ValueError, match=r"users\.csv lacks the required columns user_created_at"):
        load(tmp_path)


def test_values_that_are_unreadable_count_as_missing(tmp_path: Path) -> None:
    source = load(
        write(
            tmp_path,
            accounts=[
                {
                    **ACCOUNT,
                    "total_seats": "many",
                    "first_paid_at": "-",
                    "monthly_recurring_revenue": "90,00 €",
                    "contract_renewal_date": "2025-13-01",
                }
            ],
            subscription_events=[
                {
                    **FACT,
                    "metadata": '{"total_seats": 3.7, "monthly_recurring_revenue": "7.25",'
                    ' "contract_renewal_date": "NULL", "subscription_tier": "free"}',
                }
            ],
        )
    )
    assert source.rejected == []
    assert sorted(source.faults_of("accounts")) == [
        "unreadable_contract_renewal_date",
        "unreadable_first_paid_at",
        "unreadable_monthly_recurring_revenue",
        "unreadable_total_seats",
    ]
    assert sorted(source.faults_of("subscription_events")) == [
        "unknown_subscription_tier",
        "unreadable_total_seats",
    ]
    [fact] = source.subscription_events
    assert fact["total_seats"] is None
    assert fact["contract_renewal_date"] is None
    assert fact["monthly_recurring_revenue"] == Decimal("7.25")
    assert fact["subscription_tier"] == "free"


@pytest.mark.parametrize("tier", ["free", "Professional"])
def test_a_tier_outside_of_the_list_is_kept(tmp_path: Path, tier: str) -> None:
    source = load(write(tmp_path, accounts=[{**ACCOUNT, "subscription_tier": tier}]))
    assert source.rejected == []
    assert source.accounts[0]["subscription_tier"] == tier
    assert source.faults_of("accounts") == ["unknown_subscription_tier"]
    assert load(tmp_path, tiers=["free", "Professional"]).faults == []


@pytest.mark.parametrize("word", ["NULL", r"\N", "null", "None", "NaN", "NaT", " ", " NULL "])
def test_null_words(tmp_path: Path, word: str) -> None:
    source = load(
        write(
            tmp_path,
            accounts=[{**ACCOUNT, "total_seats": word, "contract_renewal_date": word}],
            events=[{**EVENT, "session_id": word, "product_id": word, "metadata": word}],
        )
    )
    assert source.rejected == []
    [event] = source.events
    assert [event[name] for name in ("session_id", "product_id", "metadata")] == [None] * 3
    assert source.accounts[0]["total_seats"] is None
    assert source.accounts[0]["contract_renewal_date"] is None
    assert [found.fault for found in source.faults] == ["event_without_product"]


@pytest.mark.parametrize("word", ["nan", "undefined", "N/A", "none", "Null"])
def test_words_that_are_no_null_words(tmp_path: Path, word: str) -> None:
    source = load(write(tmp_path, events=[{**EVENT, "session_id": word}]))
    assert source.events[0]["session_id"] == word
    assert load(tmp_path, null_words=(word,)).events[0]["session_id"] is None


# ---------------------------------------------------------------- faults and flags


@pytest.mark.parametrize(
    ("changes", "flags", "faults"),
    [
        ({}, (True, True), []),
        (
            {"product_id": "", "event_type": "video_created"},
            (True, True),
            ["event_without_product"],
        ),
        (
            {"product_id": "", "event_type": "user_logged_in", "is_activation_event": "false"},
            (True, False),
            ["qualifying_type_in_no_list"],
        ),
        (
            {"event_type": "video_edited", "is_qualifying_event": "false"},
            (True, False),
            ["flag_differs_from_catalog"],
        ),
        (
            {"event_type": "video_edited", "is_activation_event": ""},
            (True, False),
            [],
        ),
        (
            {"event_type": "video_edited"},
            (True, False),
            ["flag_differs_from_catalog"],
        ),
        (
            {"event_type": "video_shared", "is_activation_event": "false"},
            (True, False),
            ["qualifying_type_in_no_list"],
        ),
        (
            {"event_type": "video_shared", "is_qualifying_event": "false"},
            (True, True),
            ["qualifying_type_in_no_list"],
        ),
        (
            {
                "event_type": "page_viewed",
                "is_qualifying_event": "",
                "is_activation_event": "NULL",
            },
            (False, False),
            [],
        ),
        # A list holds for the nodes below its node, and not for those above it.
        ({"product_id": "captions"}, (True, True), []),
        (
            {"event_type": "captions_added", "is_activation_event": "false"},
            (True, False),
            ["qualifying_type_in_no_list"],
        ),
        (
            {"is_qualifying_event": "perhaps"},
            (True, True),
            ["unreadable_is_qualifying_event"],
        ),
    ],
)
def test_flags(
    tmp_path: Path, changes: dict[str, str], flags: tuple[bool, bool], faults: list[str]
) -> None:
    source = load(write(tmp_path, events=[{**EVENT, **changes}]))
    [event] = source.events
    assert (event["is_qualifying_event"], event["is_activation_event"]) == flags
    assert source.faults_of("events") == faults


def test_without_lists_the_flags_of_a_row_hold_and_a_row_without_flags_qualifies(
    tmp_path: Path,
) -> None:
    flags = (("true", ""), ("false", ""), ("", "true"), ("", ""), ("false", "true"))
    source = load(
        write(
            tmp_path,
            product_catalog=[{"product_id": "video"}],
            events=[
                {
                    **EVENT,
                    "event_id": f"{number}",
                    "is_qualifying_event": qualifying,
                    "is_activation_event": activation,
                }
                for number, (qualifying, activation) in enumerate(flags)
            ],
        )
    )
    assert [
        (event["is_qualifying_event"], event["is_activation_event"]) for event in source.events
    ] == [(True, False), (False, False), (True, True), (True, False), (True, True)]
    # Only the first row states neither flag.
    assert [found.fault for found in source.faults] == ["qualifies_by_default"]


def test_emails_in_metadata_are_replaced(tmp_path: Path) -> None:
    text = '{"invitee": "juniper@example.com", "note": ["from a.b+c@mail.example.org, today"]}'
    source = load(write(tmp_path, events=[{**EVENT, "metadata": text}]))
    assert source.events[0]["metadata"] == {
        "invitee": "[email]",
        "note": ["from [email], today"],
    }
    assert source.faults_of("events") == ["email_in_metadata"]


# ---------------------------------------------------------------- names and the range


@pytest.mark.parametrize(
    "product", ["all", "none", "VID-1", "Éditeur", "動画", "Reports (Beta)", "a|b", "'; --", "42"]
)
def test_any_id_is_an_id(tmp_path: Path, product: str) -> None:
    source = load(
        write(
            tmp_path,
            product_catalog=[{**VIDEO, "product_id": product, "product_name": "iOS App"}],
            users=[{**USER, "user_id": product}],
            events=[{**EVENT, "product_id": product, "entity_id": product}],
        )
    )
    assert source.rejected == []
    assert source.faults == []
    assert source.product_catalog[0]["product_name"] == "iOS App"


def test_the_range_is_that_of_accepted_rows(tmp_path: Path) -> None:
    source = load(
        write(
            tmp_path,
            accounts=[{**ACCOUNT, "account_created_at": "1998-05-01"}],
            users=[USER, {**USER, "user_id": "new", "user_created_at": "2025-04-01"}],
            events=[EVENT, {**EVENT, "event_id": "old", "timestamp": "2000-01-01 00:00:13"}],
        )
    )
    assert outcome(source) == [("before_user_creation", None)]
    assert (source.first_day, source.last_day) == (date(2025, 3, 5), date(2025, 4, 1))
