"""A second story, around the day on which clocks in Berlin are set back (26 October 2025).

Kim has three devices, and logs in on the second one under an old id that becomes an alias a week later.
Then Lee uses that device. The account is renamed. The expected rows were worked out by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets.imports.importer import run_import
from monstera_assets_tests.helpers.import_samples import landed_bytes, landed_rows, settings_of

ZONE = "Europe/Berlin"
OLD = "kim@old.example"


def _call(
    number: int, kind: str, moment: str, device: str | None, user: str | None, **values: Any
) -> str:
    call = {
        "messageId": f"m{number}",
        "type": kind,
        "event": "Document Created" if kind == "track" else None,
        "timestamp": moment,
        "receivedAt": moment,
        "anonymousId": device,
        "userId": user,
        "properties": {},
        "context": {},
        **values,
    }
    return json.dumps(call) + "\n"


FIRST_WEEK = "".join(
    [
        _call(1, "page", "2025-10-25T21:30:00Z", "dev-1", None),  # 23:30 on the 25th
        _call(2, "page", "2025-10-25T22:30:00Z", "dev-1", None),  # 00:30 on the 26th
        _call(
            3,
            "identify",
            "2025-10-25T23:00:00Z",
            "dev-1",
            "u_kim",
            traits={"email": "kim@example.invalid", "createdAt": "2025-10-26T01:00:00+02:00"},
        ),
        _call(
            4,
            "group",
            "2025-10-25T23:00:01Z",
            "dev-1",
            "u_kim",
            groupId="acct_1",
            traits={"name": "Old Name", "plan": "starter"},
        ),
        _call(5, "track", "2025-10-26T00:30:00Z", "dev-2", None),  # 02:30, for the first time
        _call(6, "track", "2025-10-26T22:30:00Z", "dev-1", "u_kim"),  # 23:30 on the 26th
        _call(7, "track", "2025-10-26T23:30:00Z", "dev-1", "u_kim"),  # 00:30 on the 27th
        _call(8, "identify", "2025-10-27T09:00:00Z", "dev-2", OLD),
        _call(9, "track", "2025-10-27T09:01:00Z", "dev-2", OLD),
        _call(
            10,
            "group",
            "2025-10-28T08:00:00Z",
            None,
            "u_kim",
            groupId="acct_1",
            traits={"name": "New Name"},
        ),
        _call(11, "identify", "2025-10-29T10:00:00Z", "dev-2", "u_lee"),
        _call(12, "track", "2025-10-29T10:05:00Z", "dev-2", None),
    ]
)
SECOND_WEEK = "".join(
    [
        _call(13, "alias", "2025-11-03T12:00:00Z", None, "u_kim", previousId=OLD),
        _call(14, "track", "2025-11-04T07:00:00Z", "dev-3", None),
        _call(15, "identify", "2025-11-04T07:01:00Z", "dev-3", "u_kim"),
    ]
)


def _events(source: Path) -> dict[str, tuple[str, str]]:
    """Return the user and the day of each landed event."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT event_id, entity_id, event_date::VARCHAR FROM"
            f" read_parquet('{source}/events/*/*.parquet', hive_partitioning = true)"
        ).fetchall()
    return {event_id: (user, day) for event_id, user, day in rows}


def test_second_story(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "1.json").write_text(FIRST_WEEK)
    table = {"kind": "segment", "path": str(raw)}
    settings = settings_of(tmp_path / "source", table, timezone=ZONE)
    report = run_import(settings)
    # Until the alias is known, the old id is a user of its own, who signed up on the 27th.
    assert _events(settings.source) == {
        "m2": ("u_kim", "2025-10-26"),
        "m6": ("u_kim", "2025-10-26"),
        "m7": ("u_kim", "2025-10-27"),
        "m9": (OLD, "2025-10-27"),
        "m12": ("u_lee", "2025-10-29"),
    }
    assert report.totals["before_signup"] == 2

    (raw / "2.json").write_text(SECOND_WEEK)
    report = run_import(settings)
    assert _events(settings.source) == {
        "m2": ("u_kim", "2025-10-26"),
        "m5": ("u_kim", "2025-10-26"),
        "m6": ("u_kim", "2025-10-26"),
        "m7": ("u_kim", "2025-10-27"),
        "m9": ("u_kim", "2025-10-27"),
        "m12": ("u_lee", "2025-10-29"),
        "m14": ("u_kim", "2025-11-04"),
    }
    assert report.totals["before_signup"] == 1
    # The day of Lee's only event has the same rows as before.
    days = [path.split("=")[1][:10] for path in report.written if path.startswith("events/")]
    assert days == ["2025-10-26", "2025-10-27", "2025-11-04"]

    users = [
        (
            row["user_id"],
            row["account_id"],
            row["user_created_at"],
            row["plan_type"],
            row["valid_from"],
        )
        for row in landed_rows(settings.source, "users")
    ]
    assert users == [
        ("u_kim", "acct_1", "2025-10-25 23:00:00", "starter", "2025-10-26"),
        ("u_lee", "u_lee", "2025-10-29 10:00:00", "", "2025-10-29"),
    ]
    accounts = [
        (row["account_id"], row["account_name"], row["subscription_tier"], row["valid_from"])
        for row in landed_rows(settings.source, "accounts")
    ]
    assert accounts == [
        ("acct_1", "Old Name", "starter", "2025-10-26"),
        ("acct_1", "New Name", "starter", "2025-10-28"),
        ("u_lee", "u_lee", "", "2025-10-29"),
    ]

    # Both weeks at once give the same bytes.
    at_once = settings_of(tmp_path / "at_once", table, timezone=ZONE)
    run_import(at_once)
    assert landed_bytes(at_once.source) == landed_bytes(settings.source)


def test_event_types_of_names(tmp_path: Path) -> None:
    names = {
        "boardCreated": "board_created",
        "HTMLPage Seen": "html_page_seen",
        "Übergabe erledigt": "ubergabe_erledigt",
        "login": "event_login",
        "2fa enabled": "event_2fa_enabled",
        "日本": "event_x4dbed2e6",
        "  Board--Created! ": "board_created",
    }
    calls = [
        _call(number, "track", "2025-10-27T10:00:00Z", None, "u_kim", event=name)
        for number, name in enumerate(names)
    ]
    raw = tmp_path / "raw.json"
    raw.write_text("".join(calls), encoding="utf-8")
    settings = settings_of(tmp_path / "source", {"kind": "segment", "path": str(raw)})
    report = run_import(settings)
    found = {row["event_id"]: row["event_type"] for row in landed_rows(settings.source, "events")}
    assert [found[f"m{number}"] for number in range(len(names))] == [*names.values()]
    assert report.merged_names == {"board_created": ("  Board--Created! ", "boardCreated")}


def test_names_and_anonymous_can_be_chosen(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    raw.write_text(FIRST_WEEK)
    table = {
        "kind": "segment",
        "path": str(raw),
        "anonymous": "keep",
        "names": {"identify": "user_identified", "Document Created": "report_created"},
    }
    settings = settings_of(tmp_path / "source", table, timezone=ZONE)
    run_import(settings)
    types = {row["event_id"]: row["event_type"] for row in landed_rows(settings.source, "events")}
    assert types["m3"] == types["m8"] == "user_identified"
    assert types["m6"] == "report_created"
    assert "m4" not in types


def test_two_imports_of_one_account(tmp_path: Path) -> None:
    """The first import that knows a value wins, and the entity is named where they differ."""
    for name, plan, email in (("a", "starter", None), ("b", "professional", "b@example.invalid")):
        calls = _call(1, "identify", "2025-10-27T10:00:00Z", None, "u_kim", traits={"email": email})
        calls += _call(
            2,
            "group",
            "2025-10-27T10:01:00Z",
            None,
            "u_kim",
            groupId="acct_1",
            traits={"plan": plan},
        )
        calls += _call(3, "track", "2025-10-27T10:02:00Z", None, "u_kim")
        (tmp_path / f"{name}.json").write_text(
            calls.replace('"messageId": "m', f'"messageId": "{name}')
        )
    tables = [{"kind": "segment", "path": str(tmp_path / f"{name}.json")} for name in "ab"]
    settings = settings_of(tmp_path / "source", *tables)
    report = run_import(settings)
    [user] = landed_rows(settings.source, "users")
    assert (user["plan_type"], user["email"]) == ("starter", "b@example.invalid")
    [account] = landed_rows(settings.source, "accounts")
    assert account["subscription_tier"] == "starter"
    assert report.conflicts == ("acct_1",)
    assert report.totals["landed"] == 2
