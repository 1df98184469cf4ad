"""Reproduction of a published result with the bronze load and the daily activity of users.

The CDNOW sample of P. Fader and B. Hardie contains the purchases, from January 1997 to June 1998, of
2,357 customers, a tenth of those who first bought in the first quarter of 1997 ("Forecasting Repeat
Sales at CDNOW: A Case Study", Interfaces 31, 2001). Models of repeat buying use three numbers per
customer at the end of September 30, 1997: frequency, recency and age T. The package lifetimes (MIT
license) contains the purchases and these numbers.

The definitions that reproduce them:

- Frequency is the number of distinct days with a purchase after the first day: 6,919 purchases are on
  6,696 customer days, and 80 customers bought more than once on a day up to the cutoff.
- Recency is the time from the first to the last purchase, 0 without a second day. T is the time from
  the first purchase to the cutoff. Both are differences of dates in weeks, rounded to two decimals.
- A purchase on the cutoff day counts, as 13 customers show; a purchase on the day after does not.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_assets import errors
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, Graph

DAYS = DateWindow(date(1997, 1, 1), date(1998, 6, 30))

AT_THE_CUT_OFF = """
SELECT user_id, count(DISTINCT activity_date) - 1 AS frequency,
    (date_diff('day', min(activity_date), max(activity_date)) / 7)::DECIMAL(6, 2) AS recency,
    (date_diff('day', min(activity_date), DATE '1997-09-30') / 7)::DECIMAL(6, 2) AS age
FROM silver.silver_daily_user_activity
WHERE qualifying_events > 0 AND activity_date <= DATE '1997-09-30'
GROUP BY user_id
"""


class Purchase(NamedTuple):
    """One row of the sample, without a time of day."""

    customer: int
    day: date


def _dataset(name: str) -> Path:
    """Return a file of the package lifetimes without importing it, because it has many dependencies."""
    try:
        return Path(str(distribution("lifetimes").locate_file(f"lifetimes/datasets/{name}")))
    except PackageNotFoundError:
        pytest.fail(
            "The package lifetimes, which contains the CDNOW data, is not installed. Run `make setup`."
        )


def _purchases() -> list[Purchase]:
    """Read the sample. Columns: number in the cohort, number in the sample, date, CDs, dollars."""
    lines = _dataset("CDNOW_sample.txt").read_text(encoding="ascii").splitlines()
    return [
        Purchase(int(customer), date.fromisoformat(day))
        for _, customer, day, _, _ in (line.split() for line in lines)
    ]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _write_source(folder: Path, purchases: Sequence[Purchase]) -> None:
    """Write a source with one event per purchase, users created at their first, and one product."""
    created: dict[int, date] = {}
    for customer, day in purchases:
        created[customer] = min(day, created.get(customer, day))
    _write(
        folder / "accounts.csv",
        [
            *("account_id", "account_name", "subscription_tier", "total_seats"),
            *("account_created_at", "first_paid_at", "contract_renewal_date"),
            *("monthly_recurring_revenue", "is_trial"),
        ],
        [["cdnow", "CDNOW", "starter", len(created), DAYS.first, DAYS.first, "", 0, "false"]],
    )
    _write(
        folder / "product_catalog.csv",
        [
            *("product_id", "product_name", "product_family_id", "tier", "parent_product_id"),
            *("is_active", "created_at", "product_owner"),
            *("activation_event_types", "qualifying_event_types"),
        ],
        [
            ["music", "Music", "music", "family", "", "true", DAYS.first, "shop", "", ""],
            [
                *("cds", "CDs", "music", "product", "music", "true", DAYS.first, "shop"),
                *("order_placed", "order_placed"),
            ],
        ],
    )
    _write(
        folder / "users.csv",
        [
            *("user_id", "email", "account_id", "user_created_at"),
            *("country", "plan_type", "acquisition_source"),
        ],
        [
            [customer, f"{customer}@example.com", "cdnow", day, "unknown", "none", "unknown"]
            for customer, day in created.items()
        ],
    )
    _write(
        folder / "events.csv",
        [
            *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
            *("product_id", "is_qualifying_event", "is_activation_event"),
        ],
        [
            [n, customer, "user", "order_placed", day, "web_app", "cds", "true", "true"]
            for n, (customer, day) in enumerate(purchases)
        ],
    )


@pytest.fixture(scope="module")
def purchases() -> list[Purchase]:
    return _purchases()


@pytest.fixture(scope="module")
def connection(
    tmp_path_factory: pytest.TempPathFactory, purchases: list[Purchase]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the database with bronze and the daily activity of all days."""
    folder = tmp_path_factory.mktemp("cdnow")
    source = folder / "source"
    source.mkdir()
    _write_source(source, purchases)
    graph = Graph(source, folder / "warehouse.duckdb", folder / "home", DAYS.first)
    with graph.instance:
        assert errors(graph.run(only=ENTITIES)) == {}
        assert errors(graph.run(DAYS, only=[*EVENTS, "silver_daily_user_activity"])) == {}
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        yield connection


def test_every_purchase_is_accepted(
    connection: duckdb.DuckDBPyConnection, purchases: list[Purchase]
) -> None:
    assert len(purchases) == 6_919
    rows = connection.execute(
        """
        SELECT (SELECT count(*) FROM bronze.bronze_events),
            (SELECT count(*) FROM bronze.bronze_users),
            (SELECT count(*) FROM bronze.bronze_rejected_events),
            (SELECT count(*) FROM bronze.bronze_rejected_entities)
        """
    ).fetchall()
    assert rows == [(6_919, 2_357, 0, 0)]


def test_purchases_of_a_day_are_one_row(
    connection: duckdb.DuckDBPyConnection, purchases: list[Purchase]
) -> None:
    assert len(set(purchases)) == 6_696
    rows = connection.execute(
        """
        SELECT count(*), sum(events), sum(qualifying_events),
            count(DISTINCT user_id) FILTER (events > 1 AND activity_date <= DATE '1997-09-30')
        FROM silver.silver_daily_user_activity
        """
    ).fetchall()
    assert rows == [(6_696, 6_919, 6_919, 80)]


def test_frequency_recency_and_age_are_the_published_ones(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """All three numbers of all customers equal the published table."""
    with _dataset("cdnow_customers_summary.csv").open(newline="", encoding="utf-8") as file:
        published = {
            row["ID"]: (int(row["frequency"]), Decimal(row["recency"]), Decimal(row["T"]))
            for row in csv.DictReader(file)
        }
    assert len(published) == 2_357
    computed = {user: tuple(row) for user, *row in connection.execute(AT_THE_CUT_OFF).fetchall()}
    assert len(computed) == 2_357
    differing = {
        user: (computed.get(user), row)
        for user, row in published.items()
        if computed.get(user) != row
    }
    assert differing == {}
