"""silver_events_enriched and silver_user_sessions agree with results computed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from typing import Any

import pytest

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_product_catalog,
    bronze_subscription_events,
    bronze_users,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver.silver_events_enriched import (
    flags_follow_the_catalog,
    no_email_leaves_bronze,
    silver_events_enriched,
)
from monstera_assets.silver.silver_user_sessions import silver_user_sessions
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

EVENTS = bronze_events.TABLE
ENRICHED = silver_events_enriched.table
SESSIONS = silver_user_sessions.table
TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        EVENTS,
        bronze_product_catalog.TABLE,
        bronze_users.TABLE,
        bronze_accounts.TABLE,
        bronze_subscription_events.TABLE,
        ENRICHED,
        SESSIONS,
    )
}

NODES = (
    ("work", "family", None, True),
    ("editor", "product", "work", True),
    ("canvas", "feature", "editor", True),
    ("brush", "sub_feature", "canvas", True),
    ("fax", "product", "work", False),
    ("tray", "feature", "fax", False),
)


@pytest.fixture
def warehouse() -> MemoryWarehouse:
    """Load a catalog, and the users Ada, with a starter account, and Ben, with a trial account."""
    warehouse = MemoryWarehouse(TABLES.values())
    warehouse.load(
        bronze_product_catalog.TABLE,
        [
            dict(
                zip(
                    ("product_id", "tier", "parent_product_id", "is_active"),
                    node,
                    strict=True,
                )
            )
            for node in NODES
        ],
    )
    warehouse.load(
        bronze_accounts.TABLE,
        [
            {
                "account_id": "small",
                "subscription_tier": "starter",
                "first_paid_at": "2024-01-01 00:00:00",
            },
            {"account_id": "fresh", "subscription_tier": "starter"},
        ],
    )
    warehouse.load(
        bronze_users.TABLE,
        [
            {
                "user_id": "ada",
                "account_id": "small",
                "user_created_at": "2024-02-28 23:59:59",
                "country": "UK",
                "plan_type": "team",
                "acquisition_source": "search",
            },
            {
                "user_id": "ben",
                "account_id": "fresh",
                "user_created_at": "2024-03-01 00:00:00",
                "country": "DE",
                "plan_type": "free",
                "acquisition_source": "referral",
            },
        ],
    )
    return warehouse


def event(
    event_id: str, at: str, user_id: str = "ada", /, **columns: object
) -> Mapping[str, object]:
    """Return a row of bronze_events, by default for a user and without a product."""
    return {
        "event_id": event_id,
        "entity_id": user_id,
        "entity_type": "user",
        "event_timestamp": at,
        "event_date": at[:10],
        "location": "web_app",
        **columns,
    }


def rows_made(
    warehouse: MemoryWarehouse, asset: TableAsset, *events: Mapping[str, object]
) -> list[dict[str, Any]]:
    warehouse.load(EVENTS, events)
    for step in (silver_events_enriched, asset):
        warehouse.store(step.table, _sql(step.table.name))
    names = [column.name for column in asset.table.columns]
    return [dict(zip(names, row, strict=True)) for row in warehouse.stored(asset.table)]


def enriched(warehouse: MemoryWarehouse, *events: Mapping[str, object]) -> dict[str, Any]:
    """Return the enriched events by id after checking that none is missing."""
    rows = rows_made(warehouse, silver_events_enriched, *events)
    assert len(rows) == len(events)
    return {row["event_id"]: row for row in rows}


@cache
def _sql(name: str) -> str:
    asset = {ENRICHED.name: silver_events_enriched, SESSIONS.name: silver_user_sessions}[name]
    policy = {"policy": LifecyclePolicy()} if asset.reads_policy else {}
    return compile_duckdb(asset(*(TABLES[table].relation for table in asset.inputs), **policy))


@pytest.mark.parametrize(
    ("node", "product", "feature"),
    [
        ("editor", "editor", None),
        ("canvas", "editor", "canvas"),
        ("brush", "editor", "brush"),
        ("fax", "fax", None),
        ("tray", "fax", "tray"),
        ("work", None, None),
        (None, None, None),
    ],
)
def test_an_event_counts_for_the_product_above_the_node_it_names(
    warehouse: MemoryWarehouse, node: str | None, product: str | None, feature: str | None
) -> None:
    row = enriched(warehouse, event("e1", "2024-03-05 10:00:00", product_id=node))["e1"]
    assert (row["product_id"], row["feature_id"]) == (product, feature)


def test_what_the_event_said_is_kept(warehouse: MemoryWarehouse) -> None:
    said = {
        "event_type": "page_published",
        "location": "api",
        "session_id": "s1",
        "is_qualifying_event": True,
        "is_activation_event": True,
        "metadata": '{"project_id": "p1"}',
    }
    row = enriched(warehouse, event("e1", "2024-03-05 10:11:12", **said))["e1"]
    assert {name: row[name] for name in said} == said
    assert row["event_timestamp"] == datetime(2024, 3, 5, 10, 11, 12)  # noqa: DTZ001
    assert row["event_date"] == date(2024, 3, 5)


def test_attributes_are_those_of_the_user_and_its_account(warehouse: MemoryWarehouse) -> None:
    rows = enriched(
        warehouse,
        event("e1", "2024-03-05 10:00:00", "ada"),
        event("e2", "2024-03-05 10:00:00", "ben"),
    )
    names = ("account_id", "country", "plan_type", "acquisition_source", "account_tier")
    assert [rows["e1"][name] for name in names] == ["small", "UK", "team", "search", "starter"]
    assert [rows["e2"][name] for name in names] == ["fresh", "DE", "free", "referral", "trial"]


def test_the_tier_is_that_of_the_day(warehouse: MemoryWarehouse) -> None:
    facts = (
        ("small", "tier_changed", "2024-03-05"),
        ("fresh", "subscription_started", "2024-03-07"),
    )
    warehouse.load(
        bronze_subscription_events.TABLE,
        [
            {
                "event_id": account,
                "entity_id": account,
                "entity_type": "account",
                "event_type": kind,
                "event_timestamp": f"{day} 12:00:00",
                "event_date": day,
                "subscription_tier": "enterprise",
            }
            for account, kind, day in facts
        ],
    )
    days = {"ada": ("2024-03-04", "2024-03-05"), "ben": ("2024-03-06", "2024-03-07")}
    rows = enriched(
        warehouse,
        *(event(day, f"{day} 09:00:00", user) for user, both in days.items() for day in both),
    )
    # An event counts under the tier at the end of its day, even before the fact of that day.
    assert {day: row["account_tier"] for day, row in rows.items()} == {
        "2024-03-04": "starter",
        "2024-03-05": "enterprise",
        "2024-03-06": "trial",
        "2024-03-07": "enterprise",
    }


@pytest.mark.parametrize("entity_type", ["admin", "system", "account"])
def test_an_entity_that_is_no_user_has_no_attributes(
    warehouse: MemoryWarehouse, entity_type: str
) -> None:
    about = {"entity_type": entity_type, "product_id": "canvas"}
    row = enriched(warehouse, event("e1", "2024-03-05 10:00:00", "ada", **about))["e1"]
    assert (row["entity_id"], row["product_id"]) == ("ada", "editor")
    attributes = (
        *("account_id", "country", "plan_type", "acquisition_source", "account_tier"),
        "days_since_signup",
    )
    assert {row[name] for name in attributes} == {None}


@pytest.mark.parametrize(
    ("at", "days"),
    [
        ("2024-02-28 23:59:59", 0),
        ("2024-02-29 00:00:00", 1),
        ("2024-02-29 23:59:59", 1),
        ("2024-03-01 00:00:00", 2),
        ("2025-02-28 12:00:00", 366),
    ],
)
def test_tenure_is_in_calendar_days(warehouse: MemoryWarehouse, at: str, days: int) -> None:
    assert enriched(warehouse, event("e1", at))["e1"]["days_since_signup"] == days


def test_a_session_is_counted_and_timed(warehouse: MemoryWarehouse) -> None:
    works = {"session_id": "s1", "is_qualifying_event": True}
    [session] = rows_made(
        warehouse,
        silver_user_sessions,
        event("e3", "2024-03-05 09:30:15", **works, product_id="brush", location="api"),
        event("e2", "2024-03-05 09:30:15", session_id="s1", location="mobile_app"),
        event("e1", "2024-03-05 10:00:00", **works, product_id="editor"),
        event("e4", "2024-03-05 11:30:16", session_id="s1", product_id="tray"),
    )
    assert session == {
        "user_id": "ada",
        "session_id": "s1",
        "session_date": date(2024, 3, 5),
        "session_started_at": datetime(2024, 3, 5, 9, 30, 15),  # noqa: DTZ001
        "session_ended_at": datetime(2024, 3, 5, 11, 30, 16),  # noqa: DTZ001
        "duration_seconds": 2 * 60 * 60 + 1,
        # If two events are first, the one with the lower id counts.
        "location": "mobile_app",
        "events": 4,
        "qualifying_events": 2,
        # The brush counts toward the editor, and the tray toward the fax.
        "products_used": 2,
    }


def test_a_session_of_one_event_takes_no_time(warehouse: MemoryWarehouse) -> None:
    [session] = rows_made(
        warehouse, silver_user_sessions, event("e1", "2024-03-05 10:00:00", session_id="s1")
    )
    counts = ("duration_seconds", "events", "qualifying_events", "products_used")
    assert [session[name] for name in counts] == [0, 1, 0, 0]


def test_a_session_across_midnight_has_a_row_on_each_day(warehouse: MemoryWarehouse) -> None:
    sessions = rows_made(
        warehouse,
        silver_user_sessions,
        event("e1", "2024-03-05 23:50:00", session_id="s1"),
        event("e2", "2024-03-05 23:59:59", session_id="s1"),
        event("e3", "2024-03-06 00:00:00", session_id="s1"),
    )
    assert [(s["session_date"], s["duration_seconds"], s["events"]) for s in sessions] == [
        (date(2024, 3, 5), 599, 2),
        (date(2024, 3, 6), 0, 1),
    ]


def test_sessions_belong_to_one_user_each(warehouse: MemoryWarehouse) -> None:
    sessions = rows_made(
        warehouse,
        silver_user_sessions,
        event("e1", "2024-03-05 10:00:00", "ada", session_id="s1"),
        event("e2", "2024-03-05 11:00:00", "ben", session_id="s1"),
        event("e3", "2024-03-05 12:00:00", "ada", session_id="s2"),
        event("e4", "2024-03-05 13:00:00", "ada"),
        event("e5", "2024-03-05 14:00:00", "ada", session_id="s1", entity_type="admin"),
    )
    assert [(s["user_id"], s["session_id"], s["events"]) for s in sessions] == [
        ("ada", "s1", 1),
        ("ada", "s2", 1),
        ("ben", "s1", 1),
    ]


@pytest.mark.parametrize(
    ("email", "metadata", "found"),
    [
        ("Ada@Example.com", '{"note": "ask ada@example.com."}', True),
        ("ada@example.com", '{"note": "ask bada@example.com"}', False),
        # Neither is an address, so bronze does not replace it.
        ("@", '{"note": "due @ noon"}', False),
        ("root@localhost", '{"note": "root@localhost"}', False),
    ],
)
def test_only_addresses_are_searched_for_in_metadata(
    warehouse: MemoryWarehouse, email: str, metadata: str, found: bool
) -> None:
    warehouse.load(bronze_users.TABLE, [{"user_id": "ada", "account_id": "small", "email": email}])
    enriched(warehouse, event("e1", "2024-03-05 10:00:00", metadata=metadata))
    day = date(2024, 3, 5)
    rule = no_email_leaves_bronze
    rows = rule.violations(
        [TABLES[name].relation for name in rule.inputs],
        policy=LifecyclePolicy(),
        window=DateWindow(day, day),
    )
    assert bool(warehouse.rows(compile_duckdb(rows))) is found


@pytest.mark.parametrize(
    ("node", "event_type", "flags", "fails"),
    [
        ("editor", "page_edited", (True, False), False),
        ("editor", "page_edited", (False, False), True),
        # The lists of the product apply to its features.
        ("brush", "page_edited", (False, False), True),
        ("brush", "page_made", (True, True), False),
        ("brush", "page_made", (True, False), True),
        # No list names the type, so the source's flag holds.
        ("editor", "page_read", (True, False), False),
    ],
)
def test_flags_are_compared_with_the_catalog_where_it_lists_the_type(
    warehouse: MemoryWarehouse,
    node: str,
    event_type: str,
    flags: tuple[bool, bool],
    fails: bool,
) -> None:
    listed = {"qualifying_event_types": "page_edited", "activation_event_types": "page_made"}
    warehouse.load(
        bronze_product_catalog.TABLE,
        [
            {
                "product_id": product_id,
                "tier": tier,
                "parent_product_id": parent,
                "is_active": True,
                "qualifying_event_types": "",
                "activation_event_types": "",
                **(listed if product_id == "editor" else {}),
            }
            for product_id, tier, parent, _ in NODES
        ],
    )
    qualifies, activates = flags
    said = {"is_qualifying_event": qualifies, "is_activation_event": activates}
    enriched(
        warehouse,
        event("e1", "2024-03-05 10:00:00", product_id=node, event_type=event_type, **said),
    )
    day = date(2024, 3, 5)
    rule = flags_follow_the_catalog
    rows = rule.violations(
        [TABLES[name].relation for name in rule.inputs],
        policy=LifecyclePolicy(),
        window=DateWindow(day, day),
    )
    assert bool(warehouse.rows(compile_duckdb(rows))) is fails
