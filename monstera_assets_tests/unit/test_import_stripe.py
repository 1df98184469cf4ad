"""Stripe's events and objects become billing facts.

Expected rows were worked out by hand from the framework and from the description of Stripe's exports.
"""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from monstera_assets.checks.rules import Finding
from monstera_assets.imports.event_rows import REASONS
from monstera_assets.imports.importer import ImportReport, computed, run_import
from monstera_assets.imports.ledger_checks import evaluate, ledger_checks
from monstera_assets.imports.proposal import propose
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.settings.imports import ImportSettings
from monstera_assets_tests.helpers.import_samples import (
    SAMPLES,
    STRIPE,
    Rows,
    expected_rows,
    landed_bytes,
    landed_rows,
    settings_of,
)

EVENTS = "events.jsonl"
MOVEMENTS = "sigma_subscription_item_change_events.csv"
FORMS = {"events": "subscription_events", "objects": "subscription_events_from_objects"}
FACT_FILES = {"invoices.jsonl", "charges.jsonl", "subscriptions.jsonl"}

each_form = pytest.mark.parametrize("form", FORMS)


def _raw(folder: Path, form: str) -> Path:
    """Copy the sample, without its events where objects are to give the facts."""
    raw = folder / "raw"
    shutil.copytree(STRIPE.raw, raw)
    if form == "objects":
        (raw / EVENTS).unlink()
    return raw


def _import(folder: Path, raw: Path, **options: Any) -> tuple[Settings, ImportReport]:
    settings = settings_of(folder / "source", {**STRIPE.import_table(raw), **options})
    return settings, run_import(settings)


def _by_id(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: (row.get("event_id", ""), row.get("account_id", "")))


def _ledger(settings: Settings) -> dict[str, dict[str, int]]:
    names = ("rows_read", "landed", "described", "malformed", *REASONS)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT raw_file, {', '.join(names)} FROM '{settings.source / 'imports.parquet'}'"
        ).fetchall()
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def _reconciled(settings: Settings) -> Finding:
    [check] = [each for each in ledger_checks(settings) if each.name.startswith("revenue_")]
    assert not check.blocking
    return evaluate(check, settings.source)


@each_form
def test_expected_rows(form: str, tmp_path: Path) -> None:
    settings, report = _import(tmp_path, _raw(tmp_path, form))
    found = landed_rows(settings.source, "subscription_events")
    assert _by_id(found) == _by_id(expected_rows(STRIPE, FORMS[form]))
    accounts = landed_rows(settings.source, "accounts")
    assert _by_id(accounts) == _by_id(expected_rows(STRIPE, "accounts"))
    assert report.revenue_differences == ()
    assert report.conflicts == ()

    ledger = _ledger(settings)
    for name, counts in ledger.items():
        assert counts["rows_read"] == sum(counts.values()) - counts["rows_read"], name
        assert counts["rows_read"] == sum(1 for line in (STRIPE.raw / name).open()) - (
            name.endswith(".csv")
        )
    landed = {name: counts["landed"] for name, counts in ledger.items() if counts["landed"]}
    if form == "events":
        assert landed == {EVENTS: 11}
        assert all(
            counts["described"] == counts["rows_read"]
            for name, counts in ledger.items()
            if name != EVENTS
        )
    else:
        # in_n3 is a renewal and, by its prorations, a change of seats. sub_lumen goes on.
        assert landed == {"invoices.jsonl": 5, "charges.jsonl": 2, "subscriptions.jsonl": 1}
        assert ledger["invoices.jsonl"]["no_account"] == 1
        assert ledger["charges.jsonl"]["no_change"] == 5
        assert ledger["subscriptions.jsonl"]["no_change"] == 1
        assert {name for name, counts in ledger.items() if not counts["described"]} == FACT_FILES


@each_form
def test_parquet(form: str, tmp_path: Path) -> None:
    """Objects have nested columns, and events have JSON text."""
    raw = _raw(tmp_path, form)
    with duckdb.connect() as connection:
        for file in raw.glob("*.jsonl"):
            columns = "* REPLACE (data::VARCHAR AS data)" if file.name == EVENTS else "*"
            options = ", columns = {{{}}}".format(
                "id: 'VARCHAR', object: 'VARCHAR', type: 'VARCHAR', created: 'BIGINT',"
                " livemode: 'BOOLEAN', data: 'JSON'"
            )
            connection.execute(
                f"COPY (SELECT {columns} FROM read_json('{file}'"
                f"{options if file.name == EVENTS else ''}))"
                f" TO '{file.with_suffix('.parquet')}'"
            )
            file.unlink()
    settings, _ = _import(tmp_path, raw)
    found = landed_rows(settings.source, "subscription_events")
    assert _by_id(found) == _by_id(expected_rows(STRIPE, FORMS[form]))
    accounts = landed_rows(settings.source, "accounts")
    assert _by_id(accounts) == _by_id(expected_rows(STRIPE, "accounts"))


def _time(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _flattened(raw: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the sample's objects as tables, in which lists are tables and nested fields columns."""
    objects = {
        name: [json.loads(line) for line in (raw / f"{name}s.jsonl").open()]
        for name in ("invoice", "charge", "subscription", "customer", "price")
    }
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, rows in objects.items():
        for row in rows:
            flat = {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
            del flat["object"]
            for key in ("created", "canceled_at", "cancel_at", "ended_at", "current_period_end"):
                flat[key] = _time(flat.get(key))
            for key in ("customer", "invoice", "payment_intent", "product"):
                flat[f"{key}_id"] = flat.pop(key, None)
            tables.setdefault(name, []).append(flat)
            if name == "invoice":
                details = (row.get("parent") or {}).get("subscription_details") or {}
                flat["subscription_id"] = details.get("subscription")
                flat["status_transitions_paid_at"] = _time(row["status_transitions"]["paid_at"])
                for line in row["lines"]["data"]:
                    parent = (line.get("parent") or {}).get("subscription_item_details") or {}
                    tables.setdefault("invoice_line_item", []).append(
                        {
                            **{key: line.get(key) for key in ("id", "amount", "quantity")},
                            "invoice_id": row["id"],
                            "period_start": _time(line["period"]["start"]),
                            "period_end": _time(line["period"]["end"]),
                            "proration": parent.get("proration", False),
                            "price_id": line["pricing"]["price_details"]["price"],
                            "subscription_item_id": parent.get("subscription_item"),
                            "subscription_id": details.get("subscription"),
                        }
                    )
            if name == "subscription":
                ends = [_time(item.get("current_period_end")) for item in row["items"]["data"]]
                flat["current_period_end"] = flat["current_period_end"] or ends[0]
                flat["_fivetran_active"] = True
                # An earlier version of the row, as the history of subscriptions has it.
                older = {"_fivetran_active": False, "_fivetran_start": "2025-06-01 00:00:00"}
                tables[name].append({**flat, **older, "canceled_at": None, "cancel_at": None})
                for item in row["items"]["data"]:
                    tables.setdefault("subscription_item", []).append(
                        {
                            **{key: item[key] for key in ("id", "quantity")},
                            "subscription_id": row["id"],
                            "plan_id": item["price"]["id"],
                        }
                    )
            if name == "price":
                for key, value in (row.get("recurring") or {}).items():
                    flat[f"recurring_{key}"] = value
            if name == "customer":
                flat |= {"delinquent": False, "metadata": json.dumps(row.get("metadata"))}
            if name == "charge":
                flat.setdefault("failure_code", None)
    # Items that are added to an invoice are among its lines.
    [line] = [row for row in tables["invoice_line_item"] if row["id"] == "il_n3b"]
    tables["invoice_item"] = [{**line, "id": "ii_1", "customer_id": "cus_north"}]
    return tables


def test_tables_with_flattened_columns(tmp_path: Path) -> None:
    """Tables as Fivetran writes them give the facts of the objects, in any order of their rows."""
    for name, rows in _flattened(STRIPE.raw).items():
        (tmp_path / "raw").mkdir(exist_ok=True)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with (tmp_path / "raw" / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(reversed(rows))
    settings, report = _import(tmp_path, tmp_path / "raw")
    found = landed_rows(settings.source, "subscription_events")
    assert _by_id(found) == _by_id(expected_rows(STRIPE, FORMS["objects"]))
    accounts = landed_rows(settings.source, "accounts")
    assert _by_id(accounts) == _by_id(expected_rows(STRIPE, "accounts"))
    assert report.unrecognized == ("invoice_item.csv",)
    ledger = _ledger(settings)
    # The two earlier versions of subscriptions are no facts. sub_lumen goes on.
    assert ledger["subscription.csv"]["described"] == 2
    assert ledger["subscription.csv"]["no_change"] == 1
    landed = {name: counts["landed"] for name, counts in ledger.items() if counts["landed"]}
    assert landed == {"invoice.csv": 5, "charge.csv": 2, "subscription.csv": 1}
    for name in ("invoice_line_item.csv", "subscription_item.csv", "customer.csv", "price.csv"):
        assert ledger[name]["described"] == ledger[name]["rows_read"]


def test_expected_set_aside(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "source", STRIPE.import_table())
    with computed(settings) as found:
        rows = found.connection.execute(
            "SELECT event_id, event_type, reason FROM billing_reasons"
            " WHERE reason IS NOT NULL AND reason <> 'described'"
        ).fetchall()
    expected = [tuple(row.values()) for row in expected_rows(STRIPE, "set_aside")]
    assert sorted(rows) == sorted(expected)


@each_form
def test_same_bytes_again_shuffled_and_in_halves(form: str, tmp_path: Path) -> None:
    raw = _raw(tmp_path, form)
    settings, _ = _import(tmp_path, raw)
    before = landed_bytes(settings.source)
    assert run_import(settings).written == ()
    assert landed_bytes(settings.source) == before

    files = sorted(raw.iterdir())
    (tmp_path / "arriving").mkdir()
    for half in (files[1::2], files):
        for file in reversed(half):
            shutil.copy(file, tmp_path / "arriving" / file.name)
        arriving, _ = _import(tmp_path / "halves", tmp_path / "arriving")
    assert landed_bytes(arriving.source) == before

    for file in files:
        if file.suffix == ".jsonl":
            lines = file.read_text().splitlines(keepends=True)
            file.write_text("".join(sorted(lines, key=lambda line: sha256(line.encode()).digest())))
    shuffled, _ = _import(tmp_path / "shuffled", raw)
    # The ledger has the digests of the files, which did change.
    same = {name: content for name, content in before.items() if name != "imports.parquet"}
    assert same.items() <= landed_bytes(shuffled.source).items()
    counted = [list(each.values()) for each in _ledger(shuffled).values()]
    assert counted == [list(each.values()) for each in _ledger(settings).values()]


# The archive begins on 12 August, after both starts, the change of Lumen's tier, and Northwind's
# failures and change of seats. The objects give the starts and the changes, and Northwind's start is
# paid up to 9 September, the end of the last period that was paid by then.
ARCHIVE_START = 1754956800
FROM_OBJECTS = {
    "in_l1": ("subscription_started", "2026-06-05"),
    "in_n1": ("subscription_started", "2025-09-09"),
    "il_l2b": ("tier_changed", None),
    "il_n3b": ("seats_changed", None),
}
FROM_EVENTS = {
    "evt_n11": ("subscription_cancelled", None),
    "evt_l06": ("subscription_resumed", None),
}


def test_archive_that_begins_late(tmp_path: Path) -> None:
    raw = _raw(tmp_path, "events")
    lines = (raw / EVENTS).read_text().splitlines(keepends=True)
    late = [line for line in lines if json.loads(line)["created"] >= ARCHIVE_START]
    (raw / EVENTS).write_text("".join(late))
    settings, _ = _import(tmp_path, raw)
    found = {
        row["event_id"]: (
            row["event_type"],
            json.loads(row["metadata"]).get("contract_renewal_date"),
        )
        for row in landed_rows(settings.source, "subscription_events")
    }
    assert found == {**FROM_OBJECTS, **FROM_EVENTS}
    ledger = _ledger(settings)
    assert ledger["invoices.jsonl"]["landed"] == 4
    assert ledger["invoices.jsonl"]["described"] == 2
    assert ledger[EVENTS]["no_change"] == 1
    accounts = {row["account_id"]: row for row in landed_rows(settings.source, "accounts")}
    assert {name: row["total_seats"] for name, row in accounts.items()} == {
        "acct_lumen": "10",
        "acct_north": "3",
    }


# Segment's group calls and Stripe's customers declare the same names and creations. Segment alone
# knows a plan, which differs from what Stripe's accounts have before their first payment (trial): the
# first import counts, and the accounts are named. Stripe alone knows seats, revenue and trials. What
# Segment's import states without billing, paid since creation, is left to Stripe's facts.
UNITED = """\
account_id,account_name,subscription_tier,total_seats,account_created_at,first_paid_at,contract_renewal_date,monthly_recurring_revenue,is_trial,valid_from
acct_lumen,Lumen,professional,10,2025-06-05 16:00:00,,,0.00,true,2025-06-05
acct_north,Northwind,starter,3,2025-06-02 09:05:00,,,0.00,true,2025-06-02
"""


def test_stripe_beside_segment(tmp_path: Path) -> None:
    segment = SAMPLES["segment"]
    tables = [segment.import_table(), STRIPE.import_table()]
    settings = settings_of(tmp_path / "source", *tables)
    report = run_import(settings)
    names, *lines = UNITED.splitlines()
    expected = [dict(zip(names.split(","), line.split(","), strict=True)) for line in lines]
    assert _by_id(landed_rows(settings.source, "accounts")) == expected
    assert report.conflicts == ("acct_lumen", "acct_north")
    facts = landed_rows(settings.source, "subscription_events")
    assert _by_id(facts) == _by_id(
        expected_rows(STRIPE, "subscription_events") + expected_rows(segment, "subscription_events")
    )
    for name in ("users", "events"):
        found = sorted(map(str, landed_rows(settings.source, name)))
        assert found == sorted(map(str, expected_rows(segment, name)))

    # With Stripe first, its tier counts, also for the plan of users.
    other = settings_of(tmp_path / "other" / "source", *reversed(tables))
    run_import(other)
    assert {row["subscription_tier"] for row in landed_rows(other.source, "accounts")} == {"trial"}


DAY = 86_400
START = 1_748_822_400  # 2 June 2025, 00:00 UTC
MONTH_END = START + 30 * DAY  # 2 July


def _price(name: str, amount: int | None, interval: str = "month", **more: Any) -> dict[str, Any]:
    recurring = {"interval": interval, "interval_count": 1, "usage_type": "licensed"}
    return {
        "id": f"price_{name}",
        "object": "price",
        "product": f"prod_{name}",
        "currency": "usd",
        "unit_amount": amount,
        "recurring": {**recurring, **more},
    }


PRICES = {
    "starter": _price("starter", 1000),
    "pro": _price("pro", 52_000, "year"),
    "weekly": _price("weekly", 300, "week", interval_count=2),
    "metered": _price("metered", 5, usage_type="metered"),
}


def _items(*subscribed: tuple[str, int | None]) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {
                "id": f"si_{name}",
                "price": PRICES[name],
                "quantity": quantity,
                "current_period_end": MONTH_END,
            }
            for name, quantity in subscribed
        ],
    }


def _event(number: int, kind: str, day: float, body: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {
        "id": f"evt_{number}",
        "object": "event",
        "type": kind,
        "created": int(START + day * DAY),
        "livemode": True,
        "data": {"object": {"livemode": True, "customer": "cus_1", **body}, **data},
    }


def _subscription(
    number: int, day: float, before: dict[str, Any], name: str = "sub_1", **body: Any
) -> dict[str, Any]:
    whole = {
        "id": name,
        "object": "subscription",
        "status": "active",
        "currency": "usd",
        "created": START,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "pause_collection": None,
        "items": _items(("starter", 2)),
        **body,
    }
    kind = "customer.subscription.updated"
    return _event(number, kind, day, whole, previous_attributes=before)


def _deleted(number: int, day: float, **body: Any) -> dict[str, Any]:
    event = _subscription(number, day, {}, status="canceled", ended_at=START + day * DAY, **body)
    return {**event, "type": "customer.subscription.deleted"}


def _line(name: str, quantity: int | None, amount: int) -> dict[str, Any]:
    return {
        "id": f"il_{name}",
        "amount": amount,
        "quantity": quantity,
        "period": {"start": START, "end": MONTH_END},
        "pricing": {"price_details": {"price": f"price_{name}", "product": f"prod_{name}"}},
        "parent": {"subscription_item_details": {"subscription_item": f"si_{name}"}},
    }


def _invoice(
    number: int,
    day: float,
    kind: str = "invoice.paid",
    *,
    paid: int = 2000,
    name: str = "in_1",
    subscription: str = "sub_1",
    **body: Any,
) -> dict[str, Any]:
    whole = {
        "id": name,
        "object": "invoice",
        "status": "paid",
        "currency": "usd",
        "created": START,
        "amount_paid": paid,
        "billing_reason": "subscription_cycle",
        "parent": {"subscription_details": {"subscription": subscription}},
        "lines": {"data": [_line("starter", 2, 2000)]},
        **body,
    }
    return _event(number, kind, day, whole)


def _facts(
    folder: Path, rows: list[dict[str, Any]], **options: Any
) -> tuple[dict[str, tuple[str, dict[str, Any]]], ImportReport]:
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    customer = {"id": "cus_1", "object": "customer", "created": START, "name": "One"}
    objects = [customer, *PRICES.values()]
    (raw / "objects.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects))
    (raw / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiers = {"prod_starter": "starter", "price_pro": "professional"}
    table = {"kind": "stripe", "path": str(raw), "tiers": tiers, **options}
    settings = settings_of(folder / "source", table)
    report = run_import(settings)
    return {
        row["event_id"]: (row["event_type"], json.loads(row["metadata"]))
        for row in landed_rows(settings.source, "subscription_events")
    }, report


def _named(facts: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, str]:
    return {name: fact for name, (fact, _) in facts.items()}


def test_first_payment_starts(tmp_path: Path) -> None:
    facts, report = _facts(
        tmp_path,
        [
            # A trial's invoice of 0, and a first payment that fails before it succeeds.
            _invoice(1, 0, paid=0, name="in_0", billing_reason="subscription_create"),
            _invoice(2, 1, "invoice.payment_failed", next_payment_attempt=START + 2 * DAY),
            _invoice(3, 2),
            # The other name of the same payment, and a payment of 0 of what has started.
            _invoice(4, 2, "invoice.payment_succeeded"),
            _invoice(5, 32, paid=0, name="in_2"),
            # Without invoice.paid, the other name counts.
            _invoice(6, 60, "invoice.payment_succeeded", name="in_3"),
            # Prorations and invoices without a subscription are no change.
            _invoice(7, 61, name="in_4", billing_reason="subscription_update"),
            _invoice(8, 61, name="in_5", parent=None),
        ],
    )
    assert _named(facts) == {
        "evt_2": "payment_failed",
        "evt_3": "subscription_started",
        "evt_5": "subscription_renewed",
        "evt_6": "subscription_renewed",
    }
    assert facts["evt_2"][1] == {"subscription_id": "sub_1", "grace_until": "2025-06-04"}
    assert report.totals["no_change"] == 4
    assert report.free_subscriptions == ()


def test_subscription_that_is_free_is_named(tmp_path: Path) -> None:
    rows = [
        _invoice(1, 0, paid=0, name="in_1"),
        _invoice(2, 30, paid=0, name="in_2"),
        # A trial is not free for good: its lines cost nothing, either.
        _invoice(
            3,
            0,
            paid=0,
            name="in_3",
            subscription="sub_2",
            lines={"data": [_line("starter", 1, 0)]},
        ),
    ]
    facts, report = _facts(tmp_path, rows)
    assert facts == {}
    assert report.free_subscriptions == ("sub_1",)


def test_values_of_several_items(tmp_path: Path) -> None:
    """2 x 10 a month, 3 x 520 a year, and 4 x 3 every two weeks: 20 + 130 + 12 x 52 / 12 / 2 = 176."""
    lines = [
        _line("starter", 2, 2000),
        _line("pro", 3, 156_000),
        _line("weekly", 4, 1200),
        _line("metered", 900, 4500),
    ]
    facts, _ = _facts(tmp_path, [_invoice(1, 0, paid=9, lines={"data": lines})])
    assert facts["evt_1"][1] == {
        "subscription_id": "sub_1",
        "subscription_tier": "professional",
        "total_seats": 9,
        "monthly_recurring_revenue": 176.0,
        "currency": "USD",
        "contract_renewal_date": "2025-07-02",
    }


@pytest.mark.parametrize(
    ("currency", "expected"), [("jpy", 2000.0), ("kwd", 2.0), ("usd", 20.0), ("ISK", 20.0)]
)
def test_minor_units_of_currencies(currency: str, expected: float, tmp_path: Path) -> None:
    facts, _ = _facts(tmp_path, [_invoice(1, 0, currency=currency)])
    metadata = facts["evt_1"][1]
    assert (metadata["monthly_recurring_revenue"], metadata["currency"]) == (
        expected,
        currency.upper(),
    )


def test_dates_are_local(tmp_path: Path) -> None:
    """The period ends at midnight UTC on 2 July, which is 1 July in New York."""
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [_invoice(1, 0), *PRICES.values()]
    (raw / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = settings_of(
        tmp_path / "source", {"kind": "stripe", "path": str(raw)}, timezone="America/New_York"
    )
    run_import(settings)
    [row] = landed_rows(settings.source, "subscription_events")
    assert json.loads(row["metadata"])["contract_renewal_date"] == "2025-07-01"


def test_updates_of_a_subscription(tmp_path: Path) -> None:
    more, moved = _items(("starter", 5)), _items(("pro", 5))
    moved["data"][0]["current_period_end"] = START + 400 * DAY  # 7 July 2026
    facts, report = _facts(
        tmp_path,
        [
            _invoice(1, 0),
            # The items in previous_attributes are whole, or have only what changed.
            _subscription(2, 1, {"items": _items(("starter", 2))}, items=more),
            _subscription(
                3, 2, {"items": {"data": [{"id": "si_starter", "quantity": 4}]}}, items=more
            ),
            # A new period alone changes nothing that is a fact.
            _subscription(
                4,
                3,
                {"items": {"data": [{"id": "si_starter", "current_period_end": START}]}},
                items=more,
            ),
            # One update of tier and seats is one fact. The year begins at once.
            _subscription(5, 4, {"items": more}, items=moved),
            # Older versions of the API have the quantity next to the items.
            _subscription(6, 5, {"quantity": 4}, items=more),
            # One update of seats and of the end is two facts.
            _subscription(
                7,
                6,
                {"cancel_at_period_end": False, "cancel_at": None, "items": _items(("starter", 5))},
                cancel_at_period_end=True,
                cancel_at=START + 10 * DAY,
                items=_items(("starter", 1)),
            ),
            # It goes on after all.
            _subscription(8, 7, {"cancel_at_period_end": True, "cancel_at": START + 10 * DAY}),
            _subscription(9, 8, {"status": "past_due"}),
        ],
    )
    assert _named(facts) == {
        "evt_1": "subscription_started",
        "evt_2": "seats_changed",
        "evt_3": "seats_changed",
        "evt_5": "tier_changed",
        "evt_6": "seats_changed",
        "evt_7": "subscription_cancelled",
        "evt_7-seats_changed": "seats_changed",
        "evt_8": "subscription_renewed",
    }
    assert facts["evt_5"][1] == {
        "subscription_id": "sub_1",
        "subscription_tier": "professional",
        "total_seats": 5,
        "monthly_recurring_revenue": 216.67,  # 5 x 520 / 12
        "currency": "USD",
        "contract_renewal_date": "2026-07-07",
    }
    assert facts["evt_7"][1] == {"subscription_id": "sub_1", "effective_date": "2025-06-12"}
    assert facts["evt_8"][1]["contract_renewal_date"] == "2025-07-02"
    assert report.totals["landed"] == 7
    assert report.totals["no_change"] == 2


def test_ends(tmp_path: Path) -> None:
    announced = {"cancel_at_period_end": False}
    ending = {"cancel_at_period_end": True, "cancel_at": MONTH_END}
    other: dict[str, Any] = {"name": "sub_2", **ending}
    rows = [
        # Deleted at once, without an announcement.
        _invoice(1, 0),
        _deleted(2, 3),
        # Announced, then deleted on the announced day: the deletion only carries it out.
        _invoice(3, 0, name="in_2", subscription="sub_2"),
        _subscription(4, 5, announced, **other),
        _deleted(5, 30, id="sub_2", **ending),
        # Announced, but deleted earlier.
        _invoice(6, 0, name="in_3", subscription="sub_3"),
        _subscription(7, 5, announced, **{**other, "name": "sub_3"}),
        _deleted(8, 10, id="sub_3", **ending),
        # Announced, and renewed since, which voids the announcement.
        _invoice(9, 0, name="in_4", subscription="sub_4"),
        _subscription(10, 5, announced, **{**other, "name": "sub_4"}),
        _invoice(11, 6, name="in_5", subscription="sub_4"),
        _deleted(12, 30, id="sub_4", **ending),
    ]
    facts, report = _facts(tmp_path, rows)
    ends = {
        name: metadata["effective_date"]
        for name, (fact, metadata) in facts.items()
        if fact == "subscription_cancelled"
    }
    assert ends == {
        "evt_2": "2025-06-05",
        "evt_4": "2025-07-02",
        "evt_7": "2025-07-02",
        "evt_8": "2025-06-12",
        "evt_10": "2025-07-02",
        "evt_12": "2025-07-02",
    }
    assert report.totals["no_change"] == 1


@pytest.mark.parametrize(
    ("option", "expected"),
    [("seasonal", "seasonal"), ("metadata.why", "summer"), ("metadata.other", "voluntary_pause")],
)
def test_reasons_of_pauses(option: str, expected: str, tmp_path: Path) -> None:
    pause = {"behavior": "void", "resumes_at": None}
    rows = [
        _subscription(
            1, 0, {"pause_collection": None}, pause_collection=pause, metadata={"why": "summer"}
        ),
        # A later end of a pause is no new pause.
        _subscription(2, 1, {"pause_collection": pause}, pause_collection={**pause, "x": 1}),
        _subscription(3, 2, {"pause_collection": pause}),
    ]
    facts, report = _facts(tmp_path, rows, pause_reason=option)
    assert facts["evt_1"] == (
        "subscription_paused",
        {"subscription_id": "sub_1", "reason": expected},
    )
    assert facts["evt_3"] == ("subscription_resumed", {"subscription_id": "sub_1"})
    assert report.totals["no_change"] == 1


def test_item_that_is_removed_is_seen_in_objects(tmp_path: Path) -> None:
    """On 12 June the yearly item is credited and nothing takes its place: 20 a month remain."""
    credit = {
        **_line("pro", 1, -40_000),
        "id": "il_credit",
        "proration": True,
        "period": {"start": START + 10 * DAY, "end": MONTH_END},
    }
    first = _invoice(1, 0, lines={"data": [_line("starter", 2, 2000), _line("pro", 1, 52_000)]})
    later = _invoice(2, 10, name="in_2", billing_reason="manual", lines={"data": [credit]})
    rows = [
        {**each["data"]["object"], "status_transitions": {"paid_at": each["created"]}}
        for each in (first, later)
    ]
    facts, _ = _facts(tmp_path, rows)
    assert facts["il_credit"] == (
        "tier_changed",
        {
            "subscription_id": "sub_1",
            "subscription_tier": "starter",
            "total_seats": 2,
            "monthly_recurring_revenue": 20.0,
            "currency": "USD",
        },
    )
    assert _named(facts) == {"in_1": "subscription_started", "il_credit": "tier_changed"}


def test_older_versions_of_the_api(tmp_path: Path) -> None:
    """The subscription and the price are elsewhere, and a charge names only its payment intent."""
    line = {
        "id": "il_1",
        "amount": 2000,
        "quantity": 2,
        "period": {"start": START, "end": MONTH_END},
        "plan": {
            "id": "plan_old",
            "amount": 1000,
            "interval": "month",
            "interval_count": 1,
            "product": "prod_starter",
        },
    }
    invoice = {
        **_invoice(1, 0)["data"]["object"],
        "parent": None,
        "subscription": "sub_1",
        "payment_intent": "pi_1",
        "lines": {"data": [line]},
        "status_transitions": {"paid_at": START + DAY},
    }
    charge = {
        "id": "ch_1",
        "object": "charge",
        "status": "failed",
        "customer": "cus_1",
        "created": START + 60,
        "payment_intent": "pi_1",
    }
    facts, _ = _facts(tmp_path, [invoice, charge])
    assert _named(facts) == {"in_1": "subscription_started", "ch_1": "payment_failed"}
    assert facts["in_1"][1]["monthly_recurring_revenue"] == 20.0
    assert facts["in_1"][1]["subscription_tier"] == "starter"


def test_differences_from_movements_are_named(tmp_path: Path) -> None:
    raw = _raw(tmp_path, "events")
    path = raw / MOVEMENTS
    path.write_text(path.read_text().replace(",3000,2,", ",3100,2,"))
    settings, report = _import(tmp_path, raw)
    assert report.revenue_differences == ("sub_north on 2025-07-20 (EUR) by 30.00, not 31.00",)
    finding = _reconciled(settings)
    assert finding.examples == (("sub_north on 2025-07-20 (EUR)", 30.0, 31.0),)
    assert finding.observed == "sub_north on 2025-07-20 (EUR): 30, expected 31."


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((",eur,3000,2,", ",eur,3001,2,"), []),  # rounded up
        ((",eur,3000,2,", ",eur,3002,2,"), [("sub_north on 2025-07-20 (EUR)", 30.0, 30.02)]),
        (
            (",eur,3000,2,", ",usd,3000,2,"),
            [
                ("sub_north on 2025-07-20 (EUR)", 30.0, 0.0),
                ("sub_north on 2025-07-20 (USD)", 0.0, 30.0),
            ],
        ),
        (
            ("2025-07-20 10:00:00.000,", "2025-07-21 10:00:00.000,"),
            [
                ("sub_north on 2025-07-20 (EUR)", 30.0, 0.0),
                ("sub_north on 2025-07-21 (EUR)", 0.0, 30.0),
            ],
        ),
        ((",sub_lumen,", ",sub_other,"), None),
    ],
)
def test_each_movement_is_compared(
    change: tuple[str, str], expected: list[tuple[str, float, float]] | None, tmp_path: Path
) -> None:
    raw = _raw(tmp_path, "events")
    path = raw / MOVEMENTS
    path.write_text(path.read_text().replace(*change))
    settings, _ = _import(tmp_path, raw)
    if expected is None:  # each of the two movements of another subscription, on either side
        expected = [
            ("sub_lumen on 2025-06-05 (EUR)", 200.0, 0.0),
            ("sub_lumen on 2025-07-01 (EUR)", 200.0, 0.0),
            ("sub_other on 2025-06-05 (EUR)", 0.0, 200.0),
            ("sub_other on 2025-07-01 (EUR)", 0.0, 200.0),
        ]
    assert list(_reconciled(settings).examples) == expected


def test_an_export_without_movements_passes_with_a_note(tmp_path: Path) -> None:
    raw = _raw(tmp_path, "events")
    settings, _ = _import(tmp_path, raw)
    assert _reconciled(settings) == Finding("revenue_reconciles_with_stripe", 0)
    (raw / MOVEMENTS).unlink()
    run_import(settings, rebuild=True)
    finding = _reconciled(settings)
    assert finding.passed
    assert finding.note == "No export contains subscription_item_change_events."


MOVED = """\
event_timestamp,currency,mrr_change,subscription_id
2025-06-02 00:00:00,usd,2000,sub_1
2025-06-04 00:00:00,jpy,900,sub_2
2025-06-07 00:00:00,usd,3000,sub_1
2025-06-11 00:00:00,jpy,-900,sub_2
"""


def test_two_subscriptions_of_a_customer(tmp_path: Path) -> None:
    """One pays 20 USD a month, then 50. The other pays 900 JPY from a second attempt on, and ends."""
    yen = [{**_line("starter", 3, 900), "pricing": {"price_details": {"price": "price_yen"}}}]
    price = {**_price("yen", 300), "currency": "jpy"}
    other: dict[str, Any] = {"subscription": "sub_2", "currency": "jpy", "paid": 900}
    pause = {"behavior": "void"}
    rows = [
        price,
        _invoice(1, 0),
        _invoice(
            2,
            1,
            "invoice.payment_failed",
            name="in_2",
            lines={"data": yen},
            next_payment_attempt=START + 2 * DAY,
            **other,
        ),
        _invoice(3, 2, name="in_2", lines={"data": yen}, **other),
        _subscription(4, 3, {"pause_collection": None}, name="sub_2", pause_collection=pause),
        _subscription(5, 5, {"items": _items(("starter", 2))}, items=_items(("starter", 5))),
        _subscription(6, 6, {"pause_collection": pause}, name="sub_2"),
        # The renewal of the first one fails and recovers.
        _invoice(
            7, 30, "invoice.payment_failed", name="in_3", next_payment_attempt=START + 33 * DAY
        ),
        _invoice(8, 33, name="in_3"),
        # Deleted on 11 June, which is still paid, and which has Stripe's movement.
        _deleted(9, 9, id="sub_2"),
    ]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "movements.csv").write_text(MOVED)
    facts, report = _facts(tmp_path, rows)
    assert {
        name: (fact, metadata["subscription_id"]) for name, (fact, metadata) in facts.items()
    } == {
        "evt_1": ("subscription_started", "sub_1"),
        "evt_2": ("payment_failed", "sub_2"),
        "evt_3": ("subscription_started", "sub_2"),
        "evt_4": ("subscription_paused", "sub_2"),
        "evt_5": ("seats_changed", "sub_1"),
        "evt_6": ("subscription_resumed", "sub_2"),
        "evt_7": ("payment_failed", "sub_1"),
        "evt_8": ("payment_recovered", "sub_1"),
        "evt_9": ("subscription_cancelled", "sub_2"),
    }
    values = ("total_seats", "monthly_recurring_revenue", "currency")
    assert {
        name: tuple(metadata.get(value) for value in values)
        for name, (_, metadata) in facts.items()
        if "currency" in metadata
    } == {
        "evt_1": (2, 20.0, "USD"),
        "evt_3": (3, 900.0, "JPY"),
        "evt_5": (5, 50.0, "USD"),
    }
    assert facts["evt_7"][1]["grace_until"] == "2025-07-05"
    assert facts["evt_8"][1]["contract_renewal_date"] == "2025-07-02"
    assert facts["evt_9"][1]["effective_date"] == "2025-06-11"
    assert report.revenue_differences == ()


def test_one_file_of_events_and_objects(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    texts = [file.read_text() for file in sorted(STRIPE.raw.glob("*.jsonl"))]
    (raw / "all.jsonl").write_text("".join(texts))
    settings, report = _import(tmp_path, raw)
    found = landed_rows(settings.source, "subscription_events")
    assert _by_id(found) == _by_id(expected_rows(STRIPE, "subscription_events"))
    # 21 events and 21 objects.
    assert (report.totals["rows_read"], report.totals["described"]) == (42, 21)


def test_malformed_and_unknown_rows_are_counted(tmp_path: Path) -> None:
    raw = _raw(tmp_path, "events")
    with (raw / EVENTS).open("a") as file:
        file.write('{"id":"evt_x","object":"event","type":"invoice.paid","created":17\n')
        file.write('{"id":"evt_y","object":"event","type":"payout.paid","created":1757409010,')
        file.write('"data":{"object":{"id":"po_1","object":"payout"}}}\n')
        file.write('{"id":"evt_z","object":"event","type":"invoice.paid","data":{}}\n')
    settings, _ = _import(tmp_path, raw)
    counts = _ledger(settings)[EVENTS]
    assert (counts["rows_read"], counts["malformed"], counts["no_change"]) == (24, 2, 8)
    found = landed_rows(settings.source, "subscription_events")
    assert _by_id(found) == _by_id(expected_rows(STRIPE, "subscription_events"))


def test_init_recognizes_stripe(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    shutil.copytree(STRIPE.raw, exports / "stripe")
    shutil.copytree(SAMPLES["segment"].raw, exports / "segment")
    proposal = propose(exports, tmp_path)
    assert sorted(proposal.kinds) == ["segment", "stripe"]
    text = proposal.settings_file.read_text()
    assert "billing" not in text
    segment, stripe = tomllib.loads(text)["import"]
    assert (segment["kind"], segment["account"]) == ("segment", "group")
    assert (stripe["kind"], stripe["account"]) == ("stripe", "customer.metadata.account_id")
    # The products are listed to be given a tier.
    uncommented = text.replace('# "prod', '"prod')
    assert {*tomllib.loads(uncommented)["import"][1]["tiers"]} == {*STRIPE.options["tiers"]}
    settings = Settings(source=tmp_path / "source", imports=(segment, stripe))
    assert run_import(settings).totals["landed"] == 11 + 20


def test_settings(tmp_path: Path) -> None:
    assert ImportSettings(kind="stripe", path=".").account == "customer"
    for options, message in (
        ({"account": "group"}, "customer or customer.metadata.NAME"),
        ({"pause_reason": "holiday"}, "voluntary_pause, seasonal or metadata.NAME"),
        ({"billing": "none"}, "billing does not apply"),
        ({"names": {"x": "x_y"}}, "names does not apply"),
    ):
        with pytest.raises(ValidationError, match=message):
            ImportSettings(kind="stripe", path=".", **options)
    tables = [{**SAMPLES["segment"].import_table(), "billing": "none"}, STRIPE.import_table()]
    with pytest.raises(SettingsError, match="conflicts with the Stripe import"):
        run_import(settings_of(tmp_path / "source", *tables))
