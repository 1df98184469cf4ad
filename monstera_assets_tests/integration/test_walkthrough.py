"""The tables of docs/explanation/walkthrough.md equal the seed files and their database, row by row."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets_tests.helpers.markdown_page import Row, section
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "walkthrough.md").read_text(encoding="utf-8")
LAST = date(2025, 6, 30)


@pytest.fixture(scope="module")
def seeds(seeds_run: SeedsRun) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        yield connection


@cache
def seed_file(name: str) -> list[Row]:
    with (ROOT / "seeds" / f"seed_{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows_of(connection: duckdb.DuckDBPyConnection, query: str, *values: str) -> list[Row]:
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description]
    return [
        {name: written(value) for name, value in zip(names, row, strict=True)}
        for row in cursor.fetchall()
    ]


def written(value: Any) -> str:
    """Format a value like the page; null is an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def runs(days: Sequence[Row], by: Sequence[str]) -> list[list[Row]]:
    """Group consecutive days with the same values in the columns `by`; no day may be missing."""
    dates = [date.fromisoformat(day["day"]) for day in days]
    assert dates == [dates[0] + timedelta(days=n) for n in range(len(dates))]
    return [list(run) for _, run in groupby(days, lambda day: [day[name] for name in by])]


def span(run: Sequence[Row]) -> Row:
    """Return the first cells of a row of the page: first day, last day, number of days."""
    return {"from": run[0]["day"], "to": run[-1]["day"], "days": str(len(run))}


@pytest.mark.parametrize(
    ("heading", "user_id"), [("States of usr_05", "usr_05"), ("States of usr_11", "usr_11")]
)
def test_the_states_of_a_user(seeds: duckdb.DuckDBPyConnection, heading: str, user_id: str) -> None:
    days = rows_of(
        seeds,
        "SELECT snapshot_date AS day, platform_state AS state,"
        " days_since_last_qualifying_event AS gap, total_qualifying_events AS events"
        " FROM silver.silver_user_state_history WHERE user_id = ? ORDER BY snapshot_date",
        user_id,
    )
    begun = {
        row["transition_date"]: row["triggering_event_id"]
        for row in rows_of(
            seeds,
            "SELECT transition_date, triggering_event_id FROM silver.silver_user_state_transitions"
            " WHERE user_id = ? AND scope = 'platform'",
            user_id,
        )
    }
    expected = [
        span(run)
        | {
            "state": run[0]["state"],
            "first gap": run[0]["gap"],
            "last gap": run[-1]["gap"],
            "events to date": run[-1]["events"],
            "triggered by": begun.get(run[0]["day"], ""),
        }
        for run in runs(days, ["state"])
    ]
    assert section(PAGE, heading).rows == expected


@pytest.mark.parametrize(
    ("heading", "user_id"), [("States of usr_05", "usr_05"), ("States of usr_11", "usr_11")]
)
def test_the_gaps_of_a_user_follow_from_the_file(heading: str, user_id: str) -> None:
    [user] = [row for row in seed_file("users") if row["user_id"] == user_id]
    qualifying = sorted(
        date.fromisoformat(row["timestamp"][:10])
        for row in seed_file("events")
        if row["entity_id"] == user_id and row["is_qualifying_event"] == "true"
    )
    rows = section(PAGE, heading).rows
    assert rows[0]["from"] == user["user_created_at"][:10]
    for row in rows:
        first, last = date.fromisoformat(row["from"]), date.fromisoformat(row["to"])
        assert str((last - first).days + 1) == row["days"]
        assert row["events to date"] == str(sum(day <= last for day in qualifying))
        for gap, day in ((row["first gap"], first), (row["last gap"], last)):
            before = [used for used in qualifying if used <= day]
            assert gap == (str((day - before[-1]).days) if before else "")
        if row["triggered by"]:
            [event] = [
                event for event in seed_file("events") if event["event_id"] == row["triggered by"]
            ]
            assert (event["entity_id"], event["timestamp"][:10]) == (user_id, row["from"])


def test_the_events_of_the_user_are_the_files() -> None:
    mine = [row for row in seed_file("events") if row["entity_id"] == "usr_05"]
    assert all(row["is_qualifying_event"] == "true" for row in mine)
    assert section(PAGE, "Events of usr_05").rows == [
        {
            "event": row["event_id"],
            "date": row["timestamp"][:10],
            "type": row["event_type"],
            "product": row["product_id"],
        }
        for row in mine
    ]


def test_the_dunning_of_the_user(seeds: duckdb.DuckDBPyConnection) -> None:
    days = rows_of(
        seeds,
        "SELECT snapshot_date AS day, platform_state AS state, is_dunning, dunning_type"
        " FROM silver.silver_user_state_history WHERE user_id = 'usr_05'"
        " AND snapshot_date BETWEEN '2025-01-09' AND '2025-01-15' ORDER BY snapshot_date",
    )
    columns = ["state", "is_dunning", "dunning_type"]
    expected = [span(run) | {name: run[0][name] for name in columns} for run in runs(days, columns)]
    assert section(PAGE, "Dunning of usr_05").rows == expected
    failed, recovered = (
        next(row for row in seed_file("subscription_events") if row["event_id"] == event_id)
        for event_id in ("sub_011", "sub_012")
    )
    assert (failed["event_type"], failed["timestamp"][:10]) == ("payment_failed", "2025-01-10")
    assert json.loads(failed["metadata"]) == {"grace_until": "2025-01-13"}
    assert (recovered["event_type"], recovered["timestamp"][:10]) == (
        "payment_recovered",
        "2025-01-15",
    )


def test_the_states_in_the_product(seeds: duckdb.DuckDBPyConnection) -> None:
    days = rows_of(
        seeds,
        "SELECT snapshot_date AS day, current_state AS state, total_qualifying_events AS events"
        " FROM silver.silver_user_product_state_history"
        " WHERE user_id = 'usr_05' AND product_id = 'insight_dashboards' ORDER BY snapshot_date",
    )
    begun = {
        row["transition_date"]: row["triggering_event_id"]
        for row in rows_of(
            seeds,
            "SELECT transition_date, triggering_event_id FROM silver.silver_user_state_transitions"
            " WHERE user_id = 'usr_05' AND product_id = 'insight_dashboards'",
        )
    }
    assert section(PAGE, "States of usr_05 in insight_dashboards").rows == [
        span(run)
        | {
            "state": run[0]["state"],
            "events to date": run[-1]["events"],
            "triggered by": begun.get(run[0]["day"], ""),
        }
        for run in runs(days, ["state"])
    ]


def test_all_products_of_the_user(seeds: duckdb.DuckDBPyConnection) -> None:
    expected = rows_of(
        seeds,
        "SELECT product_id AS product, current_state AS state, state_since AS since,"
        " total_qualifying_events AS events FROM silver.silver_user_product_states"
        " WHERE user_id = 'usr_05' ORDER BY product_id",
    )
    found = section(PAGE, "All products of usr_05 on the last day")
    assert found.rows == expected
    assert sum(int(row["events"]) for row in found.rows) == 4
    body = " ".join(found.body.split())
    assert "4 events, compared with 5 on the platform" in body


def test_the_billing_of_the_account_is_the_files() -> None:
    mine = [row for row in seed_file("subscription_events") if row["entity_id"] == "acc_08"]
    assert section(PAGE, "Subscription events of acc_08").rows == [
        {
            "event": row["event_id"],
            "date": row["timestamp"][:10],
            "type": row["event_type"],
            "metadata": in_words(json.loads(row["metadata"])),
        }
        for row in mine
    ]
    [account] = [row for row in seed_file("accounts") if row["account_id"] == "acc_08"]
    assert account["account_name"] in PAGE
    assert f"created on {account['account_created_at'][:10]}" in PAGE


def in_words(metadata: dict[str, Any]) -> str:
    if "effective_date" in metadata:
        return f"effective {metadata['effective_date']}"
    return (
        f"{metadata['subscription_tier']}, {metadata['total_seats']} seats,"
        f" {metadata['monthly_recurring_revenue']:.2f} per month,"
        f" renewal {metadata['contract_renewal_date']}"
    )


def test_the_states_of_the_account(seeds: duckdb.DuckDBPyConnection) -> None:
    days = rows_of(
        seeds,
        "SELECT snapshot_date AS day, current_state AS state, state_reason AS reason,"
        " monthly_recurring_revenue AS revenue, total_seats AS seats, active_seats"
        " FROM silver.silver_account_state_history WHERE account_id = 'acc_08'"
        " ORDER BY snapshot_date",
    )
    begun = {row["date"]: row["event"] for row in transitions_of_the_account(seeds)}
    assert section(PAGE, "States of acc_08").rows == [
        span(run)
        | {name: run[0][name] for name in ("state", "reason", "revenue", "seats")}
        | {
            "active seats": run[0]["active_seats"],
            "triggered by": begun.get(run[0]["day"], ""),
        }
        for run in runs(days, ["state", "reason", "revenue", "seats"])
    ]


def test_the_transitions_of_the_account(seeds: duckdb.DuckDBPyConnection) -> None:
    found = section(PAGE, "Transitions of acc_08")
    assert found.rows == transitions_of_the_account(seeds)
    at_risk = [
        row["days"] for row in section(PAGE, "States of acc_08").rows if row["state"] == "at_risk"
    ]
    assert (
        f"{sum(map(int, at_risk))} days in at_risk are the sum of three rows above:"
        f" {' + '.join(at_risk)}" in " ".join(found.body.split())
    )


def transitions_of_the_account(seeds: duckdb.DuckDBPyConnection) -> list[Row]:
    return rows_of(
        seeds,
        'SELECT transition_date AS "date", from_state AS "from", to_state AS "to", reason,'
        ' mrr_change AS "revenue change", seat_change AS "seat change",'
        ' triggering_event_id AS "event", days_in_previous_state AS "days in previous state"'
        " FROM silver.silver_account_state_transitions WHERE account_id = 'acc_08'"
        " ORDER BY transition_date",
    )


def test_the_health_of_the_account(seeds: duckdb.DuckDBPyConnection) -> None:
    by_day = {
        row["date"]: row
        for row in rows_of(
            seeds,
            'SELECT snapshot_date AS "date", seat_utilization_score AS "seat utilization",'
            ' product_breadth_score AS "product breadth",'
            ' recent_activity_score AS "recent activity",'
            ' contract_status_score AS "contract status", health_score AS score,'
            " health_band AS band"
            " FROM silver.silver_account_state_history WHERE account_id = 'acc_08'",
        )
    }
    rows = section(PAGE, "Health of acc_08").rows
    assert len(rows) == 7
    for row in rows:
        assert row == by_day[row["date"]]
        components = list(row.values())[1:5]
        assert sum(map(float, components)) / 4 == float(row["score"])


@pytest.mark.parametrize(
    ("heading", "table", "column", "counted"),
    [
        ("Users on the last day", "silver_user_current_state", "platform_state", "users"),
        (
            "Product relationships on the last day",
            "silver_user_product_states",
            "current_state",
            "relationships",
        ),
        ("Accounts on the last day", "silver_account_current_state", "current_state", "accounts"),
    ],
)
def test_the_states_of_the_last_day(
    seeds: duckdb.DuckDBPyConnection, heading: str, table: str, column: str, counted: str
) -> None:
    states = rows_of(seeds, f"SELECT {column} AS state, as_of_date FROM silver.{table}")
    assert {row["as_of_date"] for row in states} == {str(LAST)}
    found = {row["state"]: int(row[counted]) for row in section(PAGE, heading).rows}
    assert found == Counter(row["state"] for row in states)


def test_every_date_and_event_that_the_text_names_is_in_the_seeds_year() -> None:
    dates = {date.fromisoformat(found) for found in re.findall(r"\d{4}-\d\d-\d\d", PAGE)}
    beyond = {date(2025, 7, 10), date(2026, 5, 15)}  # renewals
    assert min(dates) >= date(2024, 7, 1)
    assert max(dates - beyond) <= LAST
    named = set(re.findall(r"\b(?:evt|sub)_\d{3}\b", PAGE))
    known = {
        row["event_id"] for name in ("events", "subscription_events") for row in seed_file(name)
    }
    assert named <= known
