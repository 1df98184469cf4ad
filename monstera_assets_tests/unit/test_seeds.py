"""The seeds match their README: counts, valid rows, and every state on the last day.

Reads the files with the csv module and computes states with the oracle, without the package itself.
"""

import csv
import json
import re
from collections import Counter
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from monstera_assets_tests.oracle.accounts import AccountDay, Use, account_history
from monstera_assets_tests.oracle.billing import (
    KNOWN_TYPES,
    AccountRow,
    BillingDay,
    SubscriptionEvent,
    billing_history,
    dunning_by_day,
    read_date,
)
from monstera_assets_tests.oracle.products import ProductDay, product_history
from monstera_assets_tests.oracle.users import Dunning, QualifyingDay, UserDay, user_history

SEEDS = Path(__file__).parents[2] / "seeds"
FIRST, LAST = date(2024, 7, 1), date(2025, 6, 30)
EVENT_COLUMNS = (
    "event_id",
    "entity_id",
    "entity_type",
    "event_type",
    "timestamp",
    "location",
    "session_id",
    "product_id",
    "is_qualifying_event",
    "is_activation_event",
    "metadata",
)

Row: TypeAlias = dict[str, str]


class World(NamedTuple):
    """The oracle's states on the last day of the seeds, by user, (user, product) and account."""

    users: dict[str, UserDay]
    products: dict[tuple[str, str], ProductDay]
    accounts: dict[str, AccountDay]


@cache
def read(name: str) -> list[Row]:
    """Return the rows of a seed file."""
    with (SEEDS / f"seed_{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def moment(text: str) -> datetime:
    """Read a timestamp; seeds have UTC timestamps without an offset."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007


def day_of(text: str) -> date:
    """Read the UTC date of a timestamp."""
    return moment(text).date()


def roll_up(product_id: str) -> str | None:
    """Return the node's ancestor of tier product, or itself; None for families and empty ids."""
    nodes = {node["product_id"]: node for node in read("product_catalog")}
    while product_id:
        if nodes[product_id]["tier"] == "product":
            return product_id
        product_id = nodes[product_id]["parent_product_id"]
    return None


def events_of(user_id: str) -> list[Row]:
    """Return one user's events, ordered by timestamp and event id."""
    mine = [event for event in read("events") if event["entity_id"] == user_id]
    return sorted(mine, key=lambda event: (moment(event["timestamp"]), event["event_id"]))


def qualifying_days(events: list[Row]) -> list[QualifyingDay]:
    """Count qualifying events per date, with the first one."""
    by_day: dict[date, list[str]] = {}
    for event in events:
        if event["is_qualifying_event"] == "true":
            by_day.setdefault(day_of(event["timestamp"]), []).append(event["event_id"])
    return [QualifyingDay(day, len(ids), ids[0]) for day, ids in by_day.items()]


@cache
def billing(account_id: str) -> tuple[BillingDay, ...]:
    """Compute one account's billing up to the last date."""
    row = next(row for row in read("accounts") if row["account_id"] == account_id)
    events = [
        SubscriptionEvent(
            moment(event["timestamp"]),
            event["event_id"],
            event["event_type"],
            json.loads(event["metadata"] or "{}"),
        )
        for event in read("subscription_events")
        if event["entity_id"] == account_id
    ]
    account = AccountRow(
        account_id=account_id,
        account_created_at=moment(row["account_created_at"]),
        subscription_tier=row["subscription_tier"],
        total_seats=int(row["total_seats"]),
        monthly_recurring_revenue=float(row["monthly_recurring_revenue"]),
        contract_renewal_date=read_date(row["contract_renewal_date"]),
        first_paid_at=moment(row["first_paid_at"]) if row["first_paid_at"] else None,
    )
    return tuple(billing_history(account, events, LAST))


@pytest.fixture(scope="module")
def world() -> World:
    """Run the oracle over all seeds."""
    users: dict[str, UserDay] = {}
    products: dict[tuple[str, str], ProductDay] = {}
    accounts: dict[str, AccountDay] = {}
    uses: dict[str, list[Use]] = {row["account_id"]: [] for row in read("accounts")}
    catalog = [
        node
        for node in read("product_catalog")
        if node["tier"] == "product" and node["is_active"] == "true"
    ]
    deletions = {
        event["entity_id"]: event
        for event in read("subscription_events")
        if event["event_type"] == "user_deleted"
    }
    for user in read("users"):
        user_id, signup = user["user_id"], day_of(user["user_created_at"])
        events = events_of(user_id)
        deletion = deletions.get(user_id)
        debt = dunning_by_day(billing(user["account_id"]))
        users[user_id] = user_history(
            user_id,
            signup,
            qualifying_days(events),
            LAST,
            deleted_on=day_of(deletion["timestamp"]) if deletion else None,
            deletion_event_id=deletion["event_id"] if deletion else None,
            dunning=lambda day, debt=debt: debt.get(day, Dunning()),  # type: ignore[misc]
        )[-1]
        for node in catalog:
            inside = [
                event for event in events if roll_up(event["product_id"]) == node["product_id"]
            ]
            active_days, dormant_days = node["active_days"], node["dormant_days"]
            products[user_id, node["product_id"]] = product_history(
                user_id,
                node["product_id"],
                signup,
                LAST,
                first_access=min((day_of(e["timestamp"]) for e in inside), default=None),
                activation=min(
                    (day_of(e["timestamp"]) for e in inside if e["is_activation_event"] == "true"),
                    default=None,
                ),
                qualifying_days=qualifying_days(inside),
                active_days=int(active_days) if active_days else None,
                dormant_days=int(dormant_days) if dormant_days else None,
            )[-1]
        uses[user["account_id"]] += [
            Use(user_id, day_of(event["timestamp"]), roll_up(event["product_id"]))
            for event in events
            if event["is_qualifying_event"] == "true"
        ]
    for account_id, account_uses in uses.items():
        accounts[account_id] = account_history(billing(account_id), account_uses)[-1]
    return World(users, products, accounts)


def test_there_are_as_many_rows_as_promised() -> None:
    assert len(read("product_catalog")) == 17
    assert len(read("accounts")) == 10
    assert len(read("users")) == 20
    assert len(read("events")) == 40
    assert {event["entity_type"] for event in read("events")} == {"user"}
    assert {user["country"] for user in read("users")} == {"US", "UK", "CA", "AU", "DE", "FR"}


def test_the_span_is_a_year() -> None:
    dates = [day_of(row["timestamp"]) for row in read("events") + read("subscription_events")]
    dates += [day_of(row["user_created_at"]) for row in read("users")]
    dates += [day_of(row["account_created_at"]) for row in read("accounts")]
    assert (min(dates), max(dates)) == (FIRST, LAST)


def test_every_user_state_has_a_member_on_the_last_date(world: World) -> None:
    assert {user: row.platform_state for user, row in world.users.items()} == {
        "usr_01": "new",
        "usr_02": "active",
        "usr_03": "active",
        "usr_04": "new",
        "usr_05": "active",
        "usr_06": "active",
        "usr_07": "dormant",
        "usr_08": "active",
        "usr_09": "dormant",
        "usr_10": "reactivated",
        "usr_11": "returning",
        "usr_12": "churned",
        "usr_13": "reactivated",
        "usr_14": "active",
        "usr_15": "churned",
        "usr_16": "deleted",
        "usr_17": "active",
        "usr_18": "active",
        "usr_19": "dunning",
        "usr_20": "dormant",
    }
    late = [user for user, row in world.users.items() if row.is_first_activation]
    assert late == ["usr_10"]
    in_dunning = [user for user, row in world.users.items() if row.dunning_type == "hard"]
    assert in_dunning == ["usr_19", "usr_20"]


def test_every_product_state_has_a_member_on_the_last_date(world: World) -> None:
    assert Counter(row.current_state for row in world.products.values()) == {
        "never_adopted": 20 * 7 - 23,
        "new_to_product": 2,
        "active_in_product": 12,
        "dormant_in_product": 2,
        "churned_from_product": 5,
        "reactivated_in_product": 2,
    }


def test_every_account_state_has_a_member_on_the_last_date(world: World) -> None:
    assert {account: row.current_state for account, row in world.accounts.items()} == {
        "acc_01": "trial",
        "acc_02": "new_paid",
        "acc_03": "active",
        "acc_04": "expanding",
        "acc_05": "at_risk",
        "acc_06": "contracting",
        "acc_07": "churned",
        "acc_08": "reactivated",
        "acc_09": "frozen",
        "acc_10": "frozen",
    }
    assert world.accounts["acc_09"].frozen_reason == "payment_dunning"
    assert world.accounts["acc_10"].frozen_reason == "seasonal"


def test_ids_are_unique_and_references_exist() -> None:
    for name, key in (
        ("product_catalog", "product_id"),
        ("accounts", "account_id"),
        ("users", "user_id"),
        ("users", "email"),
    ):
        values = [row[key] for row in read(name)]
        assert len(values) == len(set(values)), key
    event_ids = [row["event_id"] for row in read("events") + read("subscription_events")]
    assert len(event_ids) == len(set(event_ids))
    accounts = {row["account_id"] for row in read("accounts")}
    assert {row["account_id"] for row in read("users")} == accounts
    created = {row["account_id"]: row["account_created_at"] for row in read("accounts")}
    assert all(user["user_created_at"] >= created[user["account_id"]] for user in read("users"))
    assert all(user["email"].endswith("@example.com") for user in read("users"))


def test_the_catalog_is_a_tree_of_four_tiers() -> None:
    nodes = {node["product_id"]: node for node in read("product_catalog")}
    order = ["family", "product", "feature", "sub_feature"]
    assert {node["tier"] for node in nodes.values()} == set(order)
    families = {key for key, node in nodes.items() if node["tier"] == "family"}
    assert families == {"content_creation", "collaboration", "analytics"}
    for key, node in nodes.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", key)
        assert node["product_name"] == key.replace("_", " ").title()
        assert node["product_family_id"] in families
        if node["tier"] == "family":
            assert node["parent_product_id"] == ""
        else:
            parent = nodes[node["parent_product_id"]]
            assert order.index(parent["tier"]) + 1 == order.index(node["tier"])
            assert parent["product_family_id"] == node["product_family_id"]


def test_the_lists_of_the_catalog_fit_together() -> None:
    nodes = {node["product_id"]: node for node in read("product_catalog")}
    for node in nodes.values():
        activation = set(filter(None, node["activation_event_types"].split("|")))
        qualifying = set(filter(None, node["qualifying_event_types"].split("|")))
        assert activation <= qualifying
        if node["tier"] in ("feature", "sub_feature"):
            parent = nodes[node["parent_product_id"]]
            assert qualifying <= set(parent["qualifying_event_types"].split("|"))
            assert activation == qualifying & set(parent["activation_event_types"].split("|"))
    own_windows = [key for key, node in nodes.items() if node["active_days"]]
    assert own_windows == ["audience_surveys"]
    retired = [key for key, node in nodes.items() if node["is_active"] == "false"]
    assert retired == ["legacy_slideshow"]


@pytest.mark.parametrize("name", ["events", "subscription_events"])
def test_rows_obey_the_event_rules(name: str) -> None:
    users = {user["user_id"]: user for user in read("users")}
    accounts = {account["account_id"]: account for account in read("accounts")}
    products = {node["product_id"] for node in read("product_catalog")}
    deleted_at = {
        event["entity_id"]: event["timestamp"]
        for event in read("subscription_events")
        if event["event_type"] == "user_deleted"
    }
    for event in read(name):
        assert tuple(event) == EVENT_COLUMNS
        assert event["event_id"]
        assert day_of(event["timestamp"]) >= date(1990, 1, 1)
        assert event["entity_type"] in ("user", "account")
        assert event["location"] in ("web_app", "mobile_app", "desktop_app", "api")
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", event["event_type"])
        assert event["is_qualifying_event"] in ("true", "false")
        assert event["is_activation_event"] in ("true", "false")
        assert isinstance(json.loads(event["metadata"] or "{}"), dict)
        assert event["product_id"] in products | {""}
        if event["entity_type"] == "user":
            user = users[event["entity_id"]]
            assert event["timestamp"] >= user["user_created_at"]
            assert event["timestamp"] <= deleted_at.get(user["user_id"], "9999")
        else:
            account = accounts[event["entity_id"]]
            assert event["timestamp"] >= account["account_created_at"]
    timestamps = [event["timestamp"] for event in read(name)]
    assert timestamps == sorted(timestamps)


def test_flags_agree_with_the_catalog() -> None:
    nodes = {node["product_id"]: node for node in read("product_catalog")}
    for event in read("events"):
        qualifying = event["is_qualifying_event"] == "true"
        activation = event["is_activation_event"] == "true"
        product = roll_up(event["product_id"])
        if product is None:
            assert (qualifying, activation) == (False, False)
            continue
        for node in (nodes[event["product_id"]], nodes[product]):
            assert qualifying == (event["event_type"] in node["qualifying_event_types"].split("|"))
            assert activation == (event["event_type"] in node["activation_event_types"].split("|"))
    for event in read("subscription_events"):
        assert event["is_qualifying_event"] == event["is_activation_event"] == "false"


def test_each_kind_of_billing_fact_occurs() -> None:
    kinds = {event["event_type"] for event in read("subscription_events")}
    assert kinds == {*KNOWN_TYPES, "user_deleted"}


def test_account_rows_tell_the_latest_values() -> None:
    for account in read("accounts"):
        last = billing(account["account_id"])[-1]
        assert account["subscription_tier"] == last.subscription_tier
        assert int(account["total_seats"]) == last.total_seats
        assert float(account["monthly_recurring_revenue"]) == last.monthly_recurring_revenue
        if last.status != "lapsed":
            assert read_date(account["contract_renewal_date"]) == last.contract_renewal_date
        assert (account["is_trial"] == "true") == (last.status == "never_paid")


def test_features_and_sub_features_carry_events() -> None:
    tiers = {node["product_id"]: node["tier"] for node in read("product_catalog")}
    used = Counter(tiers[event["product_id"]] for event in read("events") if event["product_id"])
    assert used["feature"] == 5
    assert used["sub_feature"] == 1


def test_the_workflows_have_one_completed_and_one_abandoned_run() -> None:
    steps = [
        row["event_type"] for row in read("workflows") if row["workflow_id"] == "video_publishing"
    ]
    runs: dict[str, list[str]] = {}
    for event in read("events"):
        project = json.loads(event["metadata"] or "{}").get("project_id")
        if project:
            runs.setdefault(project, []).append(event["event_type"])
    assert runs["prj_04"] == steps
    assert runs["prj_05"] == steps[:2]
    assert runs["prj_03"] == [
        row["event_type"] for row in read("workflows") if row["workflow_id"] == "design_handoff"
    ]
