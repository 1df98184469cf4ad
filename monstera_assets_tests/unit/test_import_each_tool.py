"""One story as each tool exports it, with rows of the source that were worked out by hand.

Days are Berlin's, where clocks are set back on 26 October 2025. Kim visits and signs up on one device.
She uses a second one, and a merge in the second week says that it is hers. She visits on a third one
before she logs in there. Her account gets another name and plan on 28 October. Her events of 5 November
have 10,000 names.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from monstera_assets.imports.importer import run_import
from monstera_assets.imports.setting_expressions import columns_of
from monstera_assets.settings.imports import ImportSettings
from monstera_assets_tests.helpers.import_samples import (
    EXPORTS,
    landed_bytes,
    landed_rows,
    settings_of,
)

ZONE = "Europe/Berlin"
KIM, PERSON, EMAIL = "u_kim", "p-kim", "kim@example.invalid"
RENAMED = "2025-10-28 08:00:00"
SIGNED_UP = "2025-10-25 23:00:00"

Row = dict[str, Any]


@dataclass(frozen=True)
class Act:
    """Something that happens on a device, at a time in UTC, by a user if the device knows one."""

    id: str
    kind: str
    moment: str
    device: str | None = None
    user: str | None = None
    name: str = "Document Created"

    @property
    def at(self) -> datetime:
        """The moment, with its time zone."""
        return datetime.fromisoformat(self.moment).replace(tzinfo=UTC)

    @property
    def iso(self) -> str:
        """The moment as most tools write it."""
        return f"{self.moment.replace(' ', 'T')}.000Z"

    @property
    def account(self) -> tuple[str, str]:
        """The name and the plan that the account then has."""
        return ("Old Name", "starter") if self.moment < RENAMED else ("New Name", "professional")


WEEK_1 = (
    Act("v1", "visit", "2025-10-25 21:30:00", "dev-1"),  # 23:30 on the 25th
    Act("v2", "visit", "2025-10-25 22:30:00", "dev-1"),  # 00:30 on the 26th
    Act("i3", "login", SIGNED_UP, "dev-1", KIM),
    Act("w4", "work", "2025-10-25 23:01:00", "dev-1", KIM),
    Act("w5", "work", "2025-10-26 00:30:00", "dev-2"),  # 02:30, for the first time
    Act("w6", "work", "2025-10-26 01:30:00", "dev-2"),  # 02:30, for the second time
    Act("w7", "work", "2025-10-26 22:30:00", "dev-1", KIM),  # 23:30 on the 26th
    Act("w8", "work", "2025-10-26 23:30:00", "dev-1", KIM),  # 00:30 on the 27th
    Act("w9", "work", "2025-10-27 09:00:00", "dev-2"),
    Act("r10", "rename", RENAMED, "dev-1", KIM),
    Act("w11", "work", "2025-10-28 08:01:00", "dev-1", KIM),
)
NAMES = 10_000
WEEK_2 = (
    Act("m12", "merge", "2025-11-03 12:00:00", "dev-2", KIM),
    Act("v13", "visit", "2025-11-04 07:00:00", "dev-3"),
    Act("i14", "login", "2025-11-04 07:01:00", "dev-3", KIM),
    *(
        Act(f"n{number}", "work", "2025-11-05 10:00:00", "dev-3", KIM, f"Report {number} Opened")
        for number in range(NAMES)
    ),
)

# The local day of each event that lands, after the first week, and those that the second week adds.
FIRST = {
    "v2": "2025-10-26",
    "w4": "2025-10-26",
    "w7": "2025-10-26",
    "w8": "2025-10-27",
    "w11": "2025-10-28",
}
SECOND = {"w5": "2025-10-26", "w6": "2025-10-26", "w9": "2025-10-27", "v13": "2025-11-04"}
CHANGED_DAYS = ["2025-10-26", "2025-10-27", "2025-11-04", "2025-11-05"]

Versions = Sequence[tuple[str, str, str]]
# Name, tier and first day of each version of the account.
RENAME: Versions = (
    ("Old Name", "starter", "2025-10-26"),
    ("New Name", "professional", "2025-10-28"),
)


def _lines(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _parquet(path: Path, rows: Sequence[Row]) -> None:
    if not rows:
        return
    _lines(path.with_suffix(".json"), rows)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_json('{path.with_suffix('.json')}')) TO '{path}'"
        )
    path.with_suffix(".json").unlink()


def _posthog(raw: Path, week: int, acts: Sequence[Act]) -> None:
    """Write events and persons. Only the persons of the second week say whose the second device is."""
    rows, persons = [], [KIM, "dev-1"] if week == 1 else []
    for act in acts:
        if act.kind == "merge":
            persons.append(str(act.device))
            continue
        name, plan = act.account
        group: Row = {"$group_type": "company", "$group_key": "acct_1"}
        group["$group_set"] = {"name": name, "plan": plan}
        kinds: dict[str, list[tuple[str, Row]]] = {
            "visit": [("$pageview", {})],
            "work": [(act.name, {"$groups": {"company": "acct_1"}} if act.user else {})],
            "login": [("$identify", {"$anon_distinct_id": act.device}), ("$groupidentify", group)],
            "rename": [("$groupidentify", group)],
        }
        events = kinds[act.kind]
        for event, properties in events:
            rows.append(
                {
                    "uuid": act.id if event == events[0][0] else f"{act.id}-too",
                    "event": event,
                    "distinct_id": act.user or act.device,
                    "person_id": PERSON if act.user else f"p-{act.device}",
                    "properties": {
                        "$lib": "web",
                        "$device_id": act.device,
                        "$process_person_profile": act.user is not None,
                        **properties,
                    },
                    "timestamp": act.iso,
                    "created_at": act.iso,
                }
            )
    _lines(raw / f"events-{week}.jsonl", rows)
    _lines(
        raw / f"persons-{week}.jsonl",
        (
            {
                "distinct_id": each,
                "person_id": PERSON,
                "properties": {"email": EMAIL},
                "person_distinct_id_version": 1,
                "person_version": week,
                "created_at": "2025-10-25T23:00:00Z",
                "_inserted_at": acts[-1].iso,
                "is_deleted": False,
            }
            for each in persons
        ),
    )


def _segment(raw: Path, week: int, acts: Sequence[Act]) -> None:
    rows = []
    for act in acts:
        name, plan = act.account
        group: tuple[str, Row] = (
            "group",
            {"groupId": "acct_1", "traits": {"name": name, "plan": plan}},
        )
        kinds: dict[str, list[tuple[str, Row]]] = {
            "visit": [("page", {})],
            "work": [("track", {"event": act.name})],
            "login": [("identify", {"traits": {"email": EMAIL}}), group],
            "rename": [group],
            "merge": [("alias", {"previousId": act.device})],
        }
        calls = kinds[act.kind]
        for kind, values in calls:
            rows.append(
                {
                    "messageId": act.id if kind == calls[0][0] else f"{act.id}-too",
                    "type": kind,
                    "anonymousId": act.device,
                    "userId": act.user,
                    "timestamp": act.iso,
                    "receivedAt": act.iso,
                    "properties": {},
                    "context": {},
                    **values,
                }
            )
    _lines(raw / f"{week}.json", rows)


def _rudderstack(raw: Path, week: int, acts: Sequence[Act]) -> None:
    """Write the tables of a data lake, where times are microseconds."""
    tables: dict[str, list[Row]] = {
        name: [] for name in ("tracks", "pages", "identifies", "groups", "aliases")
    }
    for act in acts:
        name, plan = act.account
        row: Row = {"id": act.id, "anonymous_id": act.device, "user_id": act.user}
        row["_timestamp"] = row["received_at"] = int(act.at.timestamp()) * 1_000_000
        if act.kind == "visit":
            url = "https://app.example/start"
            tables["pages"].append({**row, "path": "/start", "url": url})
        elif act.kind == "work":
            event = act.name.lower().replace(" ", "_")
            tables["tracks"].append({**row, "event": event, "event_text": act.name})
        elif act.kind == "merge":
            tables["aliases"].append({**row, "previous_id": act.device})
        if act.kind == "login":
            tables["identifies"].append({**row, "email": EMAIL})
        if act.kind in {"login", "rename"}:
            tables["groups"].append({**row, "group_id": "acct_1", "name": name, "plan": plan})
    for table, rows in tables.items():
        _parquet(raw / f"{table}-{week}.parquet", rows)


def _amplitude(raw: Path, week: int, acts: Sequence[Act]) -> None:
    """Write events, of which those of Kim have the first device's id, and the merge of two ids."""
    rows, merges = [], []
    for act in acts:
        id_ = 1001 if act.user else {"dev-1": 1001, "dev-2": 1002, "dev-3": 1003}[str(act.device)]
        if act.kind == "merge":
            millis = int(act.at.timestamp()) * 1000
            merges.append({"amplitude_id": 1002, "merged_amplitude_id": 1001, "merge_time": millis})
            continue
        if act.kind == "rename":
            continue
        name, plan = act.account
        group = {"company": {"acct_1": {"name": name, "plan": plan}}}
        rows.append(
            {
                "uuid": act.id,
                "event_type": {"visit": "[Amplitude] Page Viewed", "login": "$identify"}.get(
                    act.kind, act.name
                ),
                "amplitude_id": id_,
                "user_id": act.user,
                "device_id": act.device,
                "event_time": f"{act.moment}.000000",
                "server_upload_time": f"{act.moment}.000000",
                "session_id": -1,
                "platform": "Web",
                "event_properties": {},
                "user_properties": {"email": EMAIL} if act.user else {},
                "groups": {"company": ["acct_1"]} if act.user else {},
                "group_properties": group if act.user else {},
            }
        )
    _lines(raw / f"187520_{week}.json", rows)
    if merges:
        _lines(raw / f"-189524_{week}.json", merges)


def _mixpanel_time(act: Act, clock: str) -> int:
    """Return the seconds of an act as a project's clock shows them, read as if they were UTC."""
    return int(act.at.astimezone(ZoneInfo(clock)).replace(tzinfo=UTC).timestamp())


def _mixpanel_name(act: Act) -> str:
    return {"visit": "$mp_web_page_view", "login": "$identify"}.get(act.kind, act.name)


def _mixpanel(clock: str) -> Callable[[Path, int, Sequence[Act]], None]:
    def write(raw: Path, week: int, acts: Sequence[Act]) -> None:
        """Write events, profiles, which contain the latest state, and the mappings of two devices."""
        rows = []
        for act in acts:
            if act.kind in {"merge", "rename"}:
                continue
            properties: Row = {
                "time": _mixpanel_time(act, clock),
                "distinct_id": act.user or f"$device:{act.device}",
                "$insert_id": act.id,
                "$device_id": act.device,
                "mp_lib": "web",
                "mp_processing_time_ms": int(act.at.timestamp()) * 1000,
            }
            if act.user:
                properties |= {"$user_id": act.user, "company_id": ["acct_1"]}
            rows.append({"event": _mixpanel_name(act), "properties": properties})
        _lines(raw / f"export-{week}.jsonl", rows)
        device = f"$device:dev-{week}"
        _lines(
            raw / f"mappings-{week}.json", [{"distinct_id": device, "resolved_distinct_id": KIM}]
        )
        created = datetime.fromtimestamp(_mixpanel_time(WEEK_1[2], clock), UTC)
        name, plan = acts[0].account
        pages: dict[str, Row] = {
            KIM: {"$email": EMAIL, "$created": created.strftime("%Y-%m-%dT%H:%M:%S")},
            "acct_1": {"$name": name, "plan": plan},
        }
        for id_, properties in pages.items():
            results = [{"$distinct_id": id_, "$properties": properties}]
            page = {"page": 0, "results": results, "status": "ok"}
            (raw / f"{id_}-{week}.json").write_text(json.dumps(page))

    return write


def _mixpanel_id(clock: str) -> Callable[[Act], str]:
    return lambda act: hashlib.md5(
        f"{_mixpanel_name(act)}|{_mixpanel_time(act, clock)}|{act.id}".encode(),
        usedforsecurity=False,
    ).hexdigest()


def _snake(act: Act) -> str:
    names = {"visit": "page_view", "login": "user_engagement", "merge": "user_engagement"}
    return names.get(act.kind, act.name.lower().replace(" ", "_"))


def _ga4(raw: Path, week: int, acts: Sequence[Act]) -> None:
    """Write a table. The account is a user property, which has no name, and a merge is a login."""
    rows = []
    for act in acts:
        properties = {"account_id": "acct_1", "plan": act.account[1]} if act.user else {}
        rows.append(
            {
                "event_timestamp": str(int(act.at.timestamp()) * 1_000_000),
                "event_name": _snake(act),
                "event_params": [{"key": "ga_session_id", "value": {"int_value": "7"}}],
                "event_server_timestamp_offset": "0",
                "user_id": act.user,
                "user_pseudo_id": act.device,
                "user_properties": [
                    {"key": key, "value": {"string_value": value}}
                    for key, value in properties.items()
                ],
                "platform": "WEB",
                "batch_page_id": "1",
                "batch_ordering_id": "2",
                "batch_event_index": "3",
            }
        )
    rows = [row for row, act in zip(rows, acts, strict=True) if act.kind != "rename"]
    _lines(raw / f"events_2025110{week}.json", rows)


def _ga4_id(act: Act) -> str:
    return f"{act.device}.{int(act.at.timestamp()) * 1_000_000}.{_snake(act)}.1.2.3"


def _snowplow(raw: Path, week: int, acts: Sequence[Act]) -> None:
    """Write enriched events. A merge is a login, which is seen by a page ping of the user."""
    header = (EXPORTS / "snowplow" / "raw" / "header.txt").read_text().split()
    lines = []
    for act in acts:
        if act.kind == "rename":
            continue
        name, plan = act.account
        account = {"account_id": "acct_1", "name": name, "plan": plan}
        contexts = [{"schema": "iglu:com.example/account/jsonschema/1-0-0", "data": account}]
        event: Row = {"schema": f"iglu:com.example/{_snake(act)}/jsonschema/1-0-0", "data": {}}
        kind = {"visit": "page_view", "work": "unstruct"}.get(act.kind, "page_ping")
        values = {
            "platform": "web",
            "collector_tstamp": f"{act.moment}.000",
            "derived_tstamp": f"{act.moment}.000",
            "event": kind,
            "event_name": _snake(act) if kind == "unstruct" else kind,
            "event_id": act.id,
            "user_id": act.user or "",
            "domain_userid": act.device,
            "contexts": json.dumps({"schema": "iglu:x/contexts", "data": contexts})
            if act.user
            else "",
            "unstruct_event": json.dumps({"schema": "iglu:x/unstruct_event", "data": event})
            if kind == "unstruct"
            else "",
        }
        lines.append("\t".join(str(values.get(column, "")) for column in header) + "\n")
    (raw / f"part-{week}").write_text("".join(lines))


def _table(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _tables(raw: Path, week: int, acts: Sequence[Act]) -> None:
    """Write tables of an application in Berlin, whose times are local and have no offset."""
    _table(
        raw / f"events{week}.csv",
        [
            {
                "id": act.id,
                "name": {"visit": "page_view", "work": act.name}.get(act.kind, "login"),
                "user": act.user,
                "device": act.device,
                "at": act.at.astimezone(ZoneInfo(ZONE)).strftime("%Y-%m-%d %H:%M:%S"),
            }
            for act in acts
            if act.kind != "rename"
        ],
    )
    created = "2025-10-26 01:00:00"
    user = {"id": KIM, "email": EMAIL, "org": "acct_1", "created": created, "since": created}
    _table(raw / "users.csv", [user])
    _table(
        raw / "orgs.csv",
        [
            {"id": "acct_1", "name": name, "plan": plan, "created": created, "since": since}
            for name, plan, since in RENAME
        ],
    )


TABLES = {
    "events": {
        "from": "events*.csv",
        "event_id": "id",
        "event": "name",
        "user_id": "user",
        "anonymous_id": "device",
        "timestamp": "at",
    },
    "users": {
        "from": "users.csv",
        "user_id": "id",
        "email": "email",
        "account_id": "org",
        "created_at": "created",
        "valid_from": "since",
    },
    "accounts": {
        "from": "orgs.csv",
        "account_id": "id",
        "name": "name",
        "tier": "plan",
        "created_at": "created",
        "valid_from": "since",
    },
    "timezone": ZONE,
}


@dataclass(frozen=True)
class Story:
    """How a tool exports the story, and how its rows differ from those of the other tools.

    Attributes:
        write: writes the files of a week.
        options: the settings of the import, except kind and path.
        user: Kim's id.
        email: her email address.
        event_id: the id of an act's event.
        first_accounts: the versions of the account after the first week.
        accounts: the versions of the account after both weeks.
        plans: the plan and first day of each of Kim's versions after both weeks.
        moments: the times of events that the export does not contain exactly.
        more: the days of further events that land, of the first and the second week.
    """

    write: Callable[[Path, int, Sequence[Act]], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    user: str = KIM
    email: str = EMAIL
    event_id: Callable[[Act], str] = lambda act: act.id
    first_accounts: Versions = RENAME
    accounts: Versions = RENAME
    plans: Sequence[tuple[str, str]] = (("starter", "2025-10-26"), ("professional", "2025-10-28"))
    moments: Mapping[str, str] = field(default_factory=dict)
    more: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})


# Profiles are the latest state, so the version of an account has no first day.
PROFILES: Mapping[str, Any] = {
    "first_accounts": (("Old Name", "starter", ""),),
    "accounts": (("New Name", "professional", ""),),
    "plans": (("professional", "2025-10-26"),),
}
# A user property has no name of the account.
NAMELESS: Versions = (
    ("acct_1", "starter", "2025-10-26"),
    ("acct_1", "professional", "2025-10-28"),
)
# The clock shows 02:30 twice, and without an offset it is the later one.
AMBIGUOUS = {"w5": "2025-10-26 01:30:00"}

STORIES = {
    "posthog": Story(_posthog, user=PERSON),
    "segment": Story(_segment),
    "rudderstack": Story(_rudderstack),
    "amplitude": Story(_amplitude),
    "mixpanel": Story(_mixpanel("UTC"), event_id=_mixpanel_id("UTC"), **PROFILES),
    # A project from before 2023, whose times are its own clock.
    "mixpanel-local": Story(
        _mixpanel(ZONE),
        {"timezone": ZONE},
        event_id=_mixpanel_id(ZONE),
        moments=AMBIGUOUS,
        **PROFILES,
    ),
    "ga4": Story(_ga4, email="", event_id=_ga4_id, first_accounts=NAMELESS, accounts=NAMELESS),
    "snowplow": Story(_snowplow, {"group_type": "com.example/account"}, email=""),
    # Logins are events like others.
    "tables": Story(
        _tables,
        TABLES,
        moments=AMBIGUOUS,
        more=({"i3": "2025-10-26"}, {"m12": "2025-11-03", "i14": "2025-11-04"}),
    ),
}


def _landed(source: Path) -> tuple[dict[str, tuple[str, str, str]], dict[str, str]]:
    """Return the user, day and time of each event by its id, and the days of the 10,000 types."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT event_id, event_type, entity_id, event_date::VARCHAR, timestamp::VARCHAR FROM"
            f" read_parquet('{source}/events/*/*.parquet', hive_partitioning = true)"
        ).fetchall()
    reports = {event_type: day for _, event_type, _, day, _ in rows if "report_" in event_type}
    events = {
        event_id: (user, day, moment)
        for event_id, event_type, user, day, moment in rows
        if event_type not in reports
    }
    return events, reports


def _accounts(source: Path) -> list[tuple[str, str, str, str]]:
    columns = ("account_name", "subscription_tier", "account_created_at", "valid_from")
    rows = landed_rows(source, "accounts")
    assert {row["account_id"] for row in rows} == {"acct_1"}
    return [(row[columns[0]], row[columns[1]], row[columns[2]], row[columns[3]]) for row in rows]


@pytest.mark.parametrize("tool", STORIES)
def test_second_story(tool: str, tmp_path: Path) -> None:
    story, raw = STORIES[tool], tmp_path / "raw"
    raw.mkdir()
    table = {"kind": tool.partition("-")[0], "path": str(raw), **story.options}
    settings = settings_of(tmp_path / "source", table, timezone=ZONE)
    acts = {act.id: act for act in (*WEEK_1, *WEEK_2)}

    def expected(days: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
        return {
            story.event_id(acts[id_]): (
                story.user,
                day,
                story.moments.get(id_, acts[id_].moment),
            )
            for id_, day in days.items()
        }

    def expected_accounts(versions: Versions) -> list[tuple[str, str, str, str]]:
        return [(name, tier, SIGNED_UP, day) for name, tier, day in versions]

    story.write(raw, 1, WEEK_1)
    report = run_import(settings)
    first = {**FIRST, **story.more[0]}
    assert _landed(settings.source) == (expected(first), {})
    # The visit of the 25th, and all on the second device.
    assert (report.totals["before_signup"], report.totals["anonymous"]) == (1, 3)
    assert _accounts(settings.source) == expected_accounts(story.first_accounts)

    story.write(raw, 2, WEEK_2)
    report = run_import(settings)
    events, reports = _landed(settings.source)
    assert events == expected({**first, **SECOND, **story.more[1]})
    assert reports == {f"report_{number}_opened": "2025-11-05" for number in range(NAMES)}
    assert (report.totals["before_signup"], report.totals["anonymous"]) == (1, 0)
    assert report.totals["landed"] == len(events) + NAMES
    for nothing in ("malformed", "duplicate", "no_account"):
        assert report.totals[nothing] == 0
    assert report.merged_names == {}
    assert report.unrecognized == ()
    # The 28th has the same rows as before.
    days = [path.split("=")[1][:10] for path in report.written if path.startswith("events/")]
    assert days == sorted({*CHANGED_DAYS, *story.more[1].values()})
    assert _accounts(settings.source) == expected_accounts(story.accounts)
    columns = ("user_id", "email", "account_id", "user_created_at", "plan_type", "valid_from")
    assert [
        tuple(row[each] for each in columns) for row in landed_rows(settings.source, "users")
    ] == [(story.user, story.email, "acct_1", SIGNED_UP, plan, day) for plan, day in story.plans]

    # Both weeks at once give the same bytes.
    at_once = settings_of(tmp_path / "at_once", table, timezone=ZONE)
    run_import(at_once)
    assert landed_bytes(at_once.source) == landed_bytes(settings.source)


@pytest.mark.parametrize("form", ["parquet", "json"])
def test_tables_of_a_warehouse_that_have_the_same_columns(form: str, tmp_path: Path) -> None:
    """Only a table named users describes users. An event's table without `tracks` is the events."""
    moment = {"received_at": "2025-06-02 10:00:00", "timestamp": "2025-06-02 10:00:00"}
    tables: dict[str, Row] = {
        "document_created": {
            "id": "e1",
            "event": "document_created",
            "event_text": "Document Created",
            "user_id": "u_1",
            "context_group_id": "acct_1",
            "pages": 7,
            **moment,
        },
        "users": {"id": "u_1", "received_at": moment["received_at"], "email": EMAIL},
        "accounts": {"id": "acct_1", "received_at": moment["received_at"], "name": "One"},
        "tickets": {"id": "t_1", "received_at": moment["received_at"], "name": "A ticket"},
    }
    (tmp_path / "raw").mkdir()
    write = _parquet if form == "parquet" else _lines
    for name, row in tables.items():
        write(tmp_path / "raw" / f"{name}.{form}", [row])
    table = {"kind": "segment", "path": str(tmp_path / "raw")}
    settings = settings_of(tmp_path / "source", table)
    report = run_import(settings)
    assert report.unrecognized == (f"tickets.{form}",)
    [event] = landed_rows(settings.source, "events")
    assert (event["event_id"], event["entity_id"], event["metadata"]) == (
        "e1",
        "u_1",
        '{"pages":7}',
    )
    [user] = landed_rows(settings.source, "users")
    assert (user["user_id"], user["email"], user["account_id"]) == ("u_1", EMAIL, "acct_1")
    [account] = landed_rows(settings.source, "accounts")
    assert (account["account_id"], account["account_name"]) == ("acct_1", "One")


def test_traits_of_rudderstack_calls(tmp_path: Path) -> None:
    """An identify call has its traits in the context, and a track call repeats them there."""
    traits = {"email": EMAIL, "createdAt": "2025-06-01T09:00:00Z", "address": {"country": "DE"}}
    call = {"userId": "u_1", "timestamp": "2025-06-02T10:00:00Z", "context": {"traits": traits}}
    later = {"traits": {"email": "other@example.invalid"}}
    rows = [
        {**call, "messageId": "m1", "type": "identify"},
        {**call, "messageId": "m2", "type": "track", "event": "Doc Made", "context": later},
    ]
    (tmp_path / "raw").mkdir()
    _lines(tmp_path / "raw" / "calls.json", rows)
    table = {"kind": "rudderstack", "path": str(tmp_path / "raw")}
    settings = settings_of(tmp_path / "source", table)
    run_import(settings)
    [user] = landed_rows(settings.source, "users")
    assert user["email"] == EMAIL
    assert (user["user_created_at"], user["country"]) == ("2025-06-01 09:00:00", "DE")


def test_mixpanel_pipeline(tmp_path: Path) -> None:
    """The pipeline has the time and the ids in columns, where the raw export has properties."""
    (tmp_path / "raw").mkdir()
    times = {"device_id": "d1", "insert_id": "i1", "time": "2025-06-02 10:00:00+00:00"}
    columns: list[Row] = [
        {"event_name": "Page Seen", "distinct_id": "$device:d1", "user_id": None, **times},
        {"event_name": "Doc Made", "distinct_id": "u_1", "user_id": "u_1", **times},
    ]
    rows = [{**row, "properties": json.dumps({"doc": 1})} for row in columns]
    _parquet(tmp_path / "raw" / "pipeline.parquet", rows)
    # The same event in the raw export is a duplicate, because its id is the same.
    seconds = 1_748_858_400
    properties = {"time": seconds, "distinct_id": "u_1", "$insert_id": "i1", "$user_id": "u_1"}
    _lines(tmp_path / "raw" / "raw.jsonl", [{"event": "Doc Made", "properties": properties}])
    table = {"kind": "mixpanel", "path": str(tmp_path / "raw")}
    settings = settings_of(tmp_path / "source", table)
    report = run_import(settings)
    assert (report.totals["landed"], report.totals["duplicate"]) == (2, 1)
    found = {row["event_id"]: row for row in landed_rows(settings.source, "events")}
    for name in ("Page Seen", "Doc Made"):
        id_ = hashlib.md5(f"{name}|{seconds}|i1".encode(), usedforsecurity=False).hexdigest()
        assert found[id_]["timestamp"] == "2025-06-02 10:00:00"
        assert found[id_]["entity_id"] == "u_1"


def test_mixpanel_table_of_fivetran(tmp_path: Path) -> None:
    """Fivetran writes Mixpanel's own properties to columns of the event's row."""
    row = {
        "event_id": "941",
        "name": "Doc Made",
        "time": "2025-06-02 10:00:00",
        "distinct_id": "u_1",
        "insert_id": "i1",
        "device_id": "d1",
        "properties": '{"doc":1}',
        "mp_processing_time_ms": "1748858401000",
        "mp_country_code": "DE",
        "mp_lib": "swift",
        "current_url": "https://app.example.com/boards/7",
    }
    (tmp_path / "raw").mkdir()
    with (tmp_path / "raw" / "event.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    table = {"kind": "mixpanel", "path": str(tmp_path / "raw")}
    settings = settings_of(tmp_path / "source", table)
    (settings.source).mkdir(exist_ok=True)
    (settings.source / "product_catalog.csv").write_text(
        "product_id,url_prefixes\nboards,https://app.example.com/boards\nother,\n"
    )
    run_import(settings)
    [event] = landed_rows(settings.source, "events")
    assert (event["timestamp"], event["received_at"]) == (
        "2025-06-02 10:00:00",
        "2025-06-02 10:00:01",
    )
    assert (event["location"], event["product_id"]) == ("mobile_app", "boards")
    assert event["metadata"] == '{"doc":1}'
    assert [row["country"] for row in landed_rows(settings.source, "users")] == ["DE"]


def test_snowplow_warehouse(tmp_path: Path) -> None:
    """In a warehouse, each schema has a column, which expressions turn into accounts and metadata."""
    row = {
        "event": "unstruct",
        "event_name": "document_created",
        "event_id": "e1",
        "user_id": "u_1",
        "domain_userid": "d1",
        "platform": "web",
        "collector_tstamp": "2025-06-02 10:00:01",
        "derived_tstamp": "2025-06-02 10:00:00",
        "contexts_com_example_account_1": [{"account_id": "acct_1", "name": "One", "plan": "pro"}],
        "unstruct_event_com_example_document_created_1": {"doc_id": "d1"},
    }
    (tmp_path / "raw").mkdir()
    _parquet(tmp_path / "raw" / "events.parquet", [row])
    context = "contexts_com_example_account_1"
    columns = {
        "account_id": f"{context}->>'$[0].account_id'",
        "account_name": f"{context}->>'$[0].name'",
        "account_plan": f"{context}->>'$[0].plan'",
        "properties": "unstruct_event_com_example_document_created_1",
    }
    table = {"kind": "snowplow", "path": str(tmp_path / "raw"), "events": {"columns": columns}}
    settings = settings_of(tmp_path / "source", table)
    run_import(settings)
    [event] = landed_rows(settings.source, "events")
    assert (event["timestamp"], event["metadata"]) == ("2025-06-02 10:00:00", '{"doc_id":"d1"}')
    [user] = landed_rows(settings.source, "users")
    assert (user["account_id"], user["plan_type"]) == ("acct_1", "pro")
    assert _accounts(settings.source) == [("One", "pro", "2025-06-02 10:00:00", "2025-06-02")]


PAGES = sorted((EXPORTS.parents[1] / "docs" / "how-to" / "import").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_settings_on_the_pages(page: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    [table] = tomllib.loads("".join(blocks))["import"]
    settings = ImportSettings.model_validate(table)
    assert settings.kind == {"files": "tables"}.get(page.stem, page.stem)
    for name, text in settings.columns.items():
        assert columns_of(text, name)
    if settings.deleted_when:
        assert columns_of(settings.deleted_when, "deleted_when")
