"""Rules of imports that the samples do not show: accounts, products, versions and times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from monstera_assets.bronze.forgotten import KEY, key_path, make_key, record
from monstera_assets.imports import raw_staging
from monstera_assets.imports.importer import run_import
from monstera_assets.imports.raw_staging import install_macros
from monstera_assets.settings.imports import ImportSettings
from monstera_assets_tests.helpers.import_samples import Rows, landed_rows, settings_of

USERS = {
    "u_1": {"email": "a@north.example", "company_id": "c_1"},
    "u_2": {"email": "B@North.example"},
    "u_3": {"email": "c@gmail.com", "company_id": "c_1"},
    "u_4": {},
}


def _segment(folder: Path, calls: list[dict[str, Any]], **options: Any) -> Path:
    lines = []
    for number, call in enumerate(calls):
        moment = f"2025-06-{2 + number // 60:02}T10:{number % 60:02}:00Z"
        whole = {
            "messageId": f"m{number}",
            "type": "track",
            "event": "Document Created",
            "timestamp": moment,
            "receivedAt": moment,
            "anonymousId": None,
            "context": {},
            "properties": {},
            **call,
        }
        lines.append(json.dumps(whole) + "\n")
    (folder / "raw.json").write_text("".join(lines))
    settings = settings_of(
        folder / "source", {"kind": "segment", "path": str(folder / "raw.json"), **options}
    )
    run_import(settings)
    return settings.source


def _identified() -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for user, traits in USERS.items():
        calls.append({"type": "identify", "userId": user, "traits": traits})
        calls.append({"userId": user})
    return calls


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ("property:company_id", ["c_1", "u_2", "c_1", "u_4"]),
        ("email_domain", ["north.example", "north.example", "u_3", "u_4"]),
        ("user", ["u_1", "u_2", "u_3", "u_4"]),
        ("group", ["u_1", "u_2", "u_3", "u_4"]),
    ],
)
def test_accounts(account: str, expected: list[str], tmp_path: Path) -> None:
    source = _segment(tmp_path, _identified(), account=account)
    found = [row["account_id"] for row in landed_rows(source, "users")]
    assert found == expected
    assert {row["account_id"] for row in landed_rows(source, "accounts")} == {*expected}


CATALOG = """\
product_id,tier,parent_product_id,activation_event_types,qualifying_event_types,url_prefixes
suite,family,,,,
docs,product,suite,document_created,document_created|document_shared,https://a.example/|https://a.example/docs
docs_links,feature,docs,,document_shared,
boards,product,suite,,card_moved,https://a.example/boards
"""


def test_products_and_flags(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "product_catalog.csv").write_text(CATALOG)
    cases: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
        # The property comes first, if the catalog has the product.
        ({"event": "Card Moved", "properties": {"product_id": "docs"}}, ("docs", "false", "false")),
        (
            {"event": "Card Moved", "properties": {"product_id": "other"}},
            ("boards", "true", "false"),
        ),
        # Then the deepest node that lists the type, whose lists include those above.
        ({"event": "Document Shared"}, ("docs_links", "true", "false")),
        ({"event": "Document Created"}, ("docs", "true", "true")),
        # Then the longest prefix of the URL.
        (
            {"event": "Help Opened", "context": {"page": {"url": "https://a.example/boards/7"}}},
            ("boards", "false", "false"),
        ),
        (
            {"event": "Help Opened", "context": {"page": {"url": "https://a.example/other"}}},
            ("docs", "false", "false"),
        ),
        ({"event": "Help Opened"}, ("", "false", "false")),
    ]
    source = _segment(tmp_path, [{"userId": "u_1", **call} for call, _ in cases])
    rows = sorted(landed_rows(source, "events"), key=lambda row: int(row["event_id"][1:]))
    found = [
        (row["product_id"], row["is_qualifying_event"], row["is_activation_event"]) for row in rows
    ]
    assert found == [expected for _, expected in cases]


def test_metadata_can_be_listed(tmp_path: Path) -> None:
    call = {"userId": "u_1", "properties": {"project_id": "p", "a/b": {"c": None}, "secret": 1}}
    source = _segment(tmp_path, [call], metadata=["project_id", "a/b", "missing"])
    [row] = landed_rows(source, "events")
    assert json.loads(row["metadata"]) == {"project_id": "p", "a/b": {"c": None}}


@pytest.mark.parametrize("sampled", [1, 4, 2_048])
def test_frequent_properties_are_those_of_any_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: int
) -> None:
    """The names are taken from the first rows, and other rows may have others."""
    monkeypatch.setattr(raw_staging, "SAMPLED_ROWS", sampled)
    texts = [
        """{"b":1,"it's":"x","a/b":null,"~":[1,{"b":2}]}""",
        """{"0":true,"b":{"b":"B"},"rare":0.5}""",
        r"""{"it's":null,"b":"","\"":2}""",
        """{"product_id":7,"b":null,"B":1,"":{}}""",
        "{}",
    ]
    calls = [{"userId": "u_1", "properties": json.loads(text)} for text in texts]
    source = _segment(tmp_path, calls, account="property:product_id")
    rows = landed_rows(source, "events")
    assert [row["metadata"] for row in rows] == [
        """{"a/b":null,"b":1,"it's":"x","~":[1,{"b":2}]}""",
        """{"0":true,"b":{"b":"B"},"rare":0.5}""",
        r"""{"\"":2,"b":"","it's":null}""",
        """{"":{},"B":1,"b":null,"product_id":7}""",
        "",
    ]
    assert {row["account_id"] for row in landed_rows(source, "users")} == {"7"}


def test_properties_that_only_some_calls_keep(tmp_path: Path) -> None:
    """A page's title is the library's own, a track's title is the customer's."""
    titled = {"userId": "u_1", "properties": {"a": 1, "title": "Plan"}}
    page = {"userId": "u_1", "type": "page", "properties": {"rare": 2, "title": "Home"}}
    both = {"userId": "u_1", "type": "page", "properties": {"a": None, "title": "Home", "rare": 2}}
    calls = [titled, titled, titled, page, both, {**page, "properties": {"title": "Home"}}]
    rows = landed_rows(_segment(tmp_path, calls), "events")
    assert [row["metadata"] for row in rows] == [
        *['{"a":1,"title":"Plan"}'] * 3,
        '{"rare":2}',
        '{"a":null,"rare":2}',
        "",
    ]


def test_properties_that_are_no_object(tmp_path: Path) -> None:
    """A text that is not an object has no properties, and the event is imported."""
    texts = ["not JSON", "[1]", "5", "null", "", '{"a":1,"a":2}', '{"a":', None]
    source = tmp_path / "export"
    source.mkdir()
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows (row INTEGER, properties VARCHAR)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", list(enumerate(texts)))
        connection.execute(
            "COPY (SELECT 'e' || row AS uuid, 'Page Read' AS event, 'd' AS distinct_id,"
            " 'p' AS person_id, properties, TIMESTAMPTZ '2025-06-01 10:00:00Z' AS timestamp,"
            " timestamp AS created_at, timestamp AS _inserted_at FROM rows)"
            f" TO '{source / 'events.parquet'}'"
        )
    settings = settings_of(tmp_path / "source", {"kind": "posthog", "path": str(source)})
    run_import(settings)
    rows = landed_rows(settings.source, "events")
    assert [(row["event_id"], row["metadata"]) for row in rows] == [
        (f"e{row}", '{"a":1}' if row == 5 else "") for row in range(len(texts))
    ]


def test_column_can_be_replaced(tmp_path: Path) -> None:
    columns = {
        "location": "CASE WHEN channel = 'kiosk' THEN 'desktop_app' END",
        "session_id": "context->>'$.session'",
        "timestamp": "originalTimestamp",
    }
    call = {
        "userId": "u_1",
        "channel": "kiosk",
        "context": {"session": "s1"},
        "originalTimestamp": "2025-06-01T12:00:00+02:00",
    }
    source = _segment(tmp_path, [call], events={"columns": columns})
    [row] = landed_rows(source, "events")
    assert (row["location"], row["session_id"], row["timestamp"]) == (
        "desktop_app",
        "s1",
        "2025-06-01 10:00:00",
    )


def test_key_of_the_tool_that_several_users_share(tmp_path: Path) -> None:
    """A user that an event names counts before the tool's key, which then says nothing of others."""
    events = [
        ("e1", 1, "u_1", "d1", "2025-06-02 10:00:00"),
        ("e2", 1, "u_2", "d2", "2025-06-02 10:01:00"),
        ("e3", 1, None, "d2", "2025-06-02 10:02:00"),
        ("e4", 2, "u_3", "d3", "2025-06-02 10:03:00"),
        ("e5", 2, None, "d4", "2025-06-02 10:04:00"),
    ]
    names = ("uuid", "amplitude_id", "user_id", "device_id", "event_time")
    rows: list[dict[str, Any]] = [
        {**dict(zip(names, row, strict=True)), "event_properties": {}} for row in events
    ]
    lines = [json.dumps({**row, "event_type": "Document Created"}) + "\n" for row in rows]
    (tmp_path / "raw.json").write_text("".join(lines))
    table = {"kind": "amplitude", "path": str(tmp_path / "raw.json")}
    settings = settings_of(tmp_path / "source", table)
    run_import(settings)
    found = {row["event_id"]: row["entity_id"] for row in landed_rows(settings.source, "events")}
    assert found == {"e1": "u_1", "e2": "u_2", "e3": "u_2", "e4": "u_3", "e5": "u_3"}


def test_tool_whose_rows_are_copied_to_csv(tmp_path: Path) -> None:
    """A pipeline may copy a tool's table with other columns in between, and times without a zone."""
    (tmp_path / "raw.csv").write_text(
        "device_id,id,server_upload_time,amplitude_id,event_properties,event_time,event_type,"
        "session_id,user_id,user_properties,uuid\n"
        'd1,7,2025-06-02T10:00:05.648,1,"{""a"":{""b"":1}}",2025-06-02T10:00:00.123,Watched Film,-1,'
        'u_1,"{""email"":""one@example.invalid""}",e1\n'
        "d1,8,2025-06-02T10:00:06,1,{},2025-06-02T10:01:00,session_start,5,u_1,,e2\n"
    )
    table = {"kind": "amplitude", "path": str(tmp_path)}
    settings = settings_of(tmp_path / "source", table)
    report = run_import(settings)
    assert (report.totals["landed"], report.totals["bookkeeping"]) == (1, 1)
    [row] = landed_rows(settings.source, "events")
    assert (row["timestamp"], row["received_at"], row["session_id"], row["metadata"]) == (
        "2025-06-02 10:00:00.123",
        "2025-06-02 10:00:05.648",
        "",
        '{"a":{"b":1}}',
    )
    assert landed_rows(settings.source, "users")[0]["email"] == "one@example.invalid"


def _tables(folder: Path, timezone: str, **tables: str) -> tuple[Rows, Rows, Rows]:
    """Import CSV files of events, users and accounts, and return the landed users, accounts, events."""
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    table = {
        "kind": "tables",
        "path": str(folder),
        "timezone": "America/New_York",
        "events": {"from": "events.csv", "event": "name", "user_id": "user", "timestamp": "at"},
        "users": {
            "from": "users.csv",
            "user_id": "id",
            "account_id": "org",
            "created_at": "created",
            "valid_from": "since",
        },
        "accounts": {"from": "orgs.csv", "account_id": "id", "tier": "plan", "valid_from": "since"},
    }
    settings = settings_of(folder / "source", table, timezone=timezone)
    run_import(settings)
    users, accounts, events = (
        landed_rows(settings.source, name) for name in ("users", "accounts", "events")
    )
    return users, accounts, events


def test_tables_with_history(tmp_path: Path) -> None:
    users, accounts, events = _tables(
        tmp_path,
        "America/New_York",
        events="name,user,at\nPage Seen,7,2025-11-02 01:30\nPage Seen,7,2025-11-02T01:30:00-04:00\n",
        users="id,org,created,since\n7,o1,2025-06-01,2025-06-01\n7,o2,2025-06-01,2025-07-04\n",
        orgs="id,plan,since\no1,starter,2025-05-01\no2,starter,2025-05-01\no2,pro,2025-09-09\n",
    )
    assert [(row["account_id"], row["plan_type"], row["valid_from"]) for row in users] == [
        ("o1", "starter", "2025-06-01"),
        ("o2", "starter", "2025-07-04"),
        ("o2", "pro", "2025-09-09"),
    ]
    assert [
        (row["account_id"], row["subscription_tier"], row["valid_from"]) for row in accounts
    ] == [
        ("o1", "starter", "2025-05-01"),
        ("o2", "starter", "2025-05-01"),
        ("o2", "pro", "2025-09-09"),
    ]
    # The clock shows 01:30 twice on this day. Without an offset, it is the later one.
    assert [row["timestamp"] for row in events] == ["2025-11-02 05:30:00", "2025-11-02 06:30:00"]


def test_file_that_is_read_as_users_and_accounts(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(
        "id,team,plan,joined\n7,t1,pro,2025-06-01\n8,t2,free,2025-06-02\n9,,free,2025-06-03\n"
    )
    (tmp_path / "events.csv").write_text("name,who,moment\nPage Seen,7,2025-06-02 10:00:00\n")
    table = {
        "kind": "tables",
        "path": str(tmp_path),
        "events": {"from": "events.csv", "event": "name", "user_id": "who", "timestamp": "moment"},
        "users": {
            "from": "people.csv",
            "user_id": "id",
            "account_id": "team",
            "created_at": "joined",
            "where": "id <> '8'",
        },
        "accounts": {"from": "people.csv", "account_id": "team", "tier": "plan"},
    }
    settings = settings_of(tmp_path / "source", table)
    run_import(settings)
    users = {row["user_id"]: row["account_id"] for row in landed_rows(settings.source, "users")}
    assert users == {"7": "t1", "9": "9"}
    tiers = {
        row["account_id"]: row["subscription_tier"]
        for row in landed_rows(settings.source, "accounts")
    }
    assert {name: tiers[name] for name in ("t1", "9")} == {"t1": "pro", "9": ""}
    ledger = {
        row["raw_file"]: (row["rows_read"], row["described"], row["malformed"], row["bookkeeping"])
        for row in landed_rows(settings.source, "imports")
    }
    assert ledger == {
        "events.csv": ("1", "0", "0", "0"),
        "people.csv (users)": ("3", "2", "0", "1"),
        "people.csv (accounts)": ("3", "2", "1", "0"),
    }


def test_malformed_rows_of_tables_are_counted(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "id,name,user,at\n"
        "1,Page Seen,7,2025-06-02 10:00:00\n"
        "2,Page Seen,7\n"
        "3,Page Seen,7,yesterday\n"
        "4,Skipped,7,2025-06-02 10:00:00\n"
    )
    columns = {"event_id": "id", "event": "name", "user_id": "user", "timestamp": "at"}
    table = {
        "kind": "tables",
        "path": str(tmp_path),
        "events": {"from": "events.csv", "where": "name <> 'Skipped'", **columns},
    }
    report = run_import(settings_of(tmp_path / "source", table))
    counts = {name: rows for name, rows in report.totals.items() if rows}
    assert counts == {"rows_read": 4, "landed": 1, "malformed": 2, "bookkeeping": 1}


TIMES = {
    "2025-06-02 09:05:00": "2025-06-02 09:05:00",
    "2025-06-02T09:05:00.250Z": "2025-06-02 09:05:00.25",
    "2025-06-02T11:05:00+02:00": "2025-06-02 09:05:00",
    "2025-06-02 11:05:00+02": "2025-06-02 09:05:00",
    "2025-06-02": "2025-06-02 00:00:00",
    "1748855100": "2025-06-02 09:05:00",
    "1748855100.0": "2025-06-02 09:05:00",
    "1748855100250": "2025-06-02 09:05:00.25",
    "1748855100250000": "2025-06-02 09:05:00.25",
    "1748855100250000000": "2025-06-02 09:05:00.25",
    "12345": None,
    "yesterday": None,
}


def test_times() -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        install_macros(connection)
        for text, expected in TIMES.items():
            [(found,)] = connection.execute("SELECT instant(?)::VARCHAR", [text]).fetchall()
            assert found == expected, text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "posthog"}, "path is missing"),
        ({"kind": "posthog", "path": "x", "account": "team"}, "is not group"),
        (
            {"kind": "posthog", "path": "x", "names": {"a": "Bad Name"}},
            "must be two or more lowercase",
        ),
        ({"kind": "posthog", "path": "x", "users": {"user_id": "id"}}, "only for the kind tables"),
        ({"kind": "posthog", "path": "x", "timezone": "Berlin"}, "is not an IANA time zone"),
        ({"kind": "tables"}, r"needs \[import.events\]"),
        ({"kind": "tables", "events": {"from": "x", "event": "name"}}, "timestamp is missing"),
        (
            {"kind": "tables", "users": {"from": "x", "user_id": "id", "age": "1"}},
            "users.age is not a supported setting",
        ),
    ],
)
def test_settings_are_checked(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImportSettings.model_validate(table)


def test_erased_people_do_not_land(tmp_path: Path) -> None:
    """No landed file contains the id or address of an erased person."""
    calls: list[dict[str, Any]] = [
        {"type": "identify", "userId": "u_1", "traits": {"email": "one@example.invalid"}},
        {"userId": "u_1", "properties": {"project_id": "p_1", "note": "by u_1"}},
        {"userId": "u_1", "event": "Account Deleted"},
        {"userId": "u_2", "properties": {"target_user_id": "u_1"}},
    ]
    source = _segment(tmp_path, calls, deleted_when="event = 'Account Deleted'")
    before = {name: landed_rows(source, name) for name in ("events", "users", "accounts")}
    database = tmp_path / "warehouse.duckdb"
    key = make_key(key_path(database))
    with duckdb.connect(database) as connection:
        erasures = [
            ("user_id", key.keyed_hash("user_id", "u_1"), "forgotten_1"),
            (KEY, key.check, ""),
        ]
        record(connection, erasures)
    table = {
        "kind": "segment",
        "path": str(tmp_path / "raw.json"),
        "deleted_when": "event = 'Account Deleted'",
    }
    settings = settings_of(source, table, database=database)
    run_import(settings)
    after = {name: landed_rows(source, name) for name in (*before, "subscription_events")}
    assert "u_1" not in str(after)
    assert "one@" not in str(after)
    assert {row["user_id"]: row["account_id"] for row in after["users"]} == {
        "forgotten_1": "forgotten_1",
        "u_2": "u_2",
    }
    assert [row["entity_id"] for row in after["events"]] == ["forgotten_1", "u_2"]
    assert [row["entity_id"] for row in after["subscription_events"]] == ["forgotten_1"]
    assert json.loads(after["events"][1]["metadata"]) == {"target_user_id": "forgotten_1"}
    assert [row["account_created_at"] for row in after["accounts"]] == [
        row["account_created_at"] for row in before["accounts"]
    ]
    # A second import finds the same rows.
    assert run_import(settings).written == ()


def test_rows_of_a_day_are_sorted_after_an_erasure(tmp_path: Path) -> None:
    raw = tmp_path / "raw.parquet"
    duckdb.execute(f"""
        COPY (SELECT 'Board Created' AS name, md5(i::VARCHAR) AS id, 'u_' || i % 5 AS uid,
            TIMESTAMP '2025-06-02' + to_seconds((hash(i) % 345600)::BIGINT) AS ts
            FROM range(400_000) AS r(i)) TO '{raw}'""")
    database = tmp_path / "warehouse.duckdb"
    key = make_key(key_path(database))
    with duckdb.connect(database) as connection:
        hashed = key.keyed_hash("user_id", "u_1")
        record(connection, [("user_id", hashed, "forgotten_1"), (KEY, key.check, "")])
    events = {"from": str(raw), "event": "name", "timestamp": "ts", "user_id": "uid"}
    table = {"kind": "tables", "events": {**events, "event_id": "id"}}
    settings = settings_of(tmp_path / "source", table, database=database)
    run_import(settings)
    erased = 0
    for path in settings.source.glob("events/*/*.parquet"):
        rows = duckdb.execute(f"SELECT timestamp, event_id, entity_id FROM '{path}'").fetchall()
        erased += sum(row[2] == "forgotten_1" for row in rows)
        assert rows == sorted(rows)
    assert erased == 80_000
