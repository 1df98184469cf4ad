"""A source whose ids and segments are unusual but valid runs without a failing check.

Expected values are computed by hand from the rows below. Days are numbered from 1 January 2024.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.dashboards.reading import page_file
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import Graph

DAY_1 = date(2024, 1, 1)
DAYS = DateWindow(DAY_1, date(2024, 3, 10))

ODD = """O'Brien & "Söhne" <b>/\\..; %s {x}"""
ROCKET, SEASONS = "🚀 VID-1", "春夏秋冬"
LATE, EMPTY, FUTURE = "late", "without users", "not yet"

ACCOUNTS: Sequence[Sequence[object]] = (
    # id, tier, seats, day of creation, whether it pays from then on
    ("all", "professional", "", 1, True),
    ("none", "starter", 0, 1, True),
    (ODD, "enterprise", 2, 1, True),
    (LATE, "professional", "", 20, True),
    (EMPTY, "trial", "", 1, False),
    (FUTURE, "starter", 5, 400, True),
)
USERS: Sequence[Sequence[object]] = (
    # id, account, day of signup, country, plan, acquisition source
    ("all", "all", 1, "all", "all", "all"),
    ("none", "all", 1, "none", "none", "none"),
    (ODD, ODD, 1, ODD, ODD, ODD),
    (ROCKET, "none", 2, "日本", "ενα", "реклама"),
    (SEASONS, LATE, 15, "日本", "ενα", "google"),
    ("Usr", LATE, 15, "日本", "ενα", "Google"),
    ("usr", FUTURE, 399, "日本", "ενα", "google "),
)
PRODUCTS: Sequence[Sequence[object]] = (
    # id, name, family, tier, parent, is active
    ("family", "All of it", "family", "family", "", True),
    ("all", "Import from CSV", "family", "product", "family", True),
    ("none", "Éditeur", "family", "feature", "all", True),
    ("all_", "iOS App", "family", "product", "family", True),
    ("a", "レポート", "family", "product", "family", True),
    ("b", "Reports (Beta)", "family", "product", "family", True),
    ("a > b", "A > B", "family", "product", "family", True),
    (ODD, ODD, "family", "product", "family", False),
)
EVENTS: Sequence[tuple[str, int, str]] = (
    # user, day, product or feature; all qualify
    *(("all", day, "all") for day in range(1, 71, 3)),
    ("all", 70, "none"),
    ("all", 70, "all_"),
    ("none", 2, "a"),
    ("none", 3, "b"),
    (ODD, 2, "a > b"),
    (ODD, 70, ODD),
    (ROCKET, 2, "a"),
    (ROCKET, 70, ""),
    # Five days before the creation of the account, and on the day of it.
    (SEASONS, 15, "b"),
    ("Usr", 20, "b"),
)


def on(day: object) -> date:
    return DAY_1 + timedelta(days=int(str(day)) - 1)


def write(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split())
        writer.writerows(rows)


def write_source(folder: Path) -> None:
    folder.mkdir()
    write(
        folder / "accounts.csv",
        "account_id account_name subscription_tier total_seats account_created_at first_paid_at"
        " contract_renewal_date monthly_recurring_revenue is_trial",
        [
            (
                *(account, account, tier, seats, f"{on(day)} 00:00:00"),
                *(f"{on(day)} 00:00:00" if pays else "", "", 100, not pays),
            )
            for account, tier, seats, day, pays in ACCOUNTS
        ],
    )
    write(
        folder / "users.csv",
        "user_id email account_id user_created_at country plan_type acquisition_source",
        [
            (user, f"{n}@example.com", account, f"{on(day)} 00:00:00", *segments)
            for n, (user, account, day, *segments) in enumerate(USERS)
        ],
    )
    write(
        folder / "product_catalog.csv",
        "product_id product_name product_family_id tier parent_product_id is_active created_at"
        " product_owner activation_event_types qualifying_event_types",
        [
            (*row[:6], f"{DAY_1} 00:00:00", ODD, "thing_created", "thing_created|thing_edited")
            for row in PRODUCTS
        ],
    )
    write(
        folder / "events.csv",
        "event_id entity_id entity_type event_type timestamp location session_id product_id"
        " is_qualifying_event is_activation_event metadata",
        [
            (
                *(f"e{n}", user, "user", "thing_edited", f"{on(day)} 12:00:00", "web_app"),
                *(ODD, product, True, False, '{"note": "\\"all\\" \\u6625"}'),
            )
            for n, (user, day, product) in enumerate(EVENTS)
        ],
    )
    write(
        folder / "subscription_events.csv",
        "event_id entity_id entity_type event_type timestamp location session_id product_id"
        " is_qualifying_event is_activation_event metadata",
        [
            (
                *("s1", "none", "user", "user_deleted", f"{on(50)} 00:00:00", "api"),
                *("", "", False, False, ""),
            )
        ],
    )
    write(
        folder / "workflows.csv",
        "workflow_id workflow_name product_id step_number event_type",
        [("all", "none", "all", 1, "thing_edited"), ("all", "none", "none", 2, "thing_edited")],
    )


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder = tmp_path_factory.mktemp("odd")
    write_source(folder / "source")
    return Graph(folder / "source", folder / "warehouse.duckdb", folder / "home", DAY_1)


@pytest.fixture(scope="module")
def failed(graph: Graph) -> list[str]:
    """The names of the checks that fail in a run of the whole graph."""
    with graph.instance:
        result = graph.run(DAYS)
    assert result.success
    checks = result.get_asset_check_evaluations()
    return sorted(check.check_name for check in checks if not check.passed)


@pytest.fixture
def query(graph: Graph, failed: list[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    del failed
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        yield connection


def rows(query: duckdb.DuckDBPyConnection, text: str) -> list[tuple[Any, ...]]:
    return query.execute(f"{text} ORDER BY ALL").fetchall()


def test_only_the_naming_convention_and_a_missing_product_are_reported(failed: list[str]) -> None:
    # The event on day 70 that names no product has a listed type.
    assert failed == ["names_follow_convention", "nothing_is_corrected"]


def test_totals_and_products_with_their_names_are_apart(query: duckdb.DuckDBPyConnection) -> None:
    totals = rows(
        query,
        "SELECT product_id, sum(events_recorded_daily)::INT FROM gold.gold_activity_metrics"
        " WHERE event_type = 'all' GROUP BY ALL",
    )
    # The product `all` has 24 events and one in its feature, and `all_` has one. One event names no
    # product.
    assert dict(totals) == {
        "all": 34,
        "none": 1,
        "all_": 25,
        "all__": 1,
        "a": 2,
        "b": 3,
        "a > b": 1,
        ODD: 1,
    }
    of_feature = rows(
        query,
        "SELECT product_id, feature_id FROM gold.gold_activity_metrics WHERE feature_id = 'none_'",
    )
    assert of_feature == [("all_", "none_")]


def test_a_segment_with_the_name_of_the_total_is_apart(query: duckdb.DuckDBPyConnection) -> None:
    active = rows(
        query,
        "SELECT segment_dimension, users_active_monthly FROM gold.gold_users_active_monthly"
        " WHERE segment_value = 'all' AND is_current_day",
    )
    assert active == [
        ("acquisition_source", 1),
        ("all", 3),
        ("country", 1),
        ("plan_type", 1),
    ]


def test_a_path_through_an_id_with_an_arrow_is_apart(query: duckdb.DuckDBPyConnection) -> None:
    paths = rows(query, "SELECT path, users FROM silver.silver_product_adoption_sequences")
    assert paths == [
        *(("a", 2), ("a > b", 1), ("a >> b", 1)),
        *(("all", 1), ("all > all_", 1), ("b", 2)),
    ]


def test_use_before_the_creation_of_an_account_is_not_the_accounts(
    query: duckdb.DuckDBPyConnection,
) -> None:
    days = rows(
        query,
        "SELECT snapshot_date, active_seats, total_seats FROM silver.silver_account_state_history"
        f" WHERE account_id = '{LATE}' AND snapshot_date <= '{on(21)}'",
    )
    assert days == [(on(20), 1, 2), (on(21), 1, 2)]
    active = rows(
        query,
        "SELECT metric_date, accounts_active_monthly FROM gold.gold_accounts_active_monthly"
        f" WHERE segment_dimension = 'all' AND metric_date BETWEEN '{on(14)}' AND '{on(20)}'",
    )
    # The accounts all, none and that with the odd name, and from day 20 on the late one.
    assert active == [(on(day), 4 if day == 20 else 3) for day in range(14, 21)]


def test_tiers_have_rows_from_the_day_on_which_an_account_has_them(
    query: duckdb.DuckDBPyConnection,
) -> None:
    tiers = rows(
        query,
        "SELECT segment_value, min(metric_date), count(*)"
        " FROM gold.gold_accounts_active_monthly WHERE segment_dimension = 'account_tier'"
        " GROUP BY ALL",
    )
    assert tiers == [
        (tier, DAY_1, 70) for tier in ("enterprise", "professional", "starter", "trial")
    ]


def test_seats_are_those_stated_or_the_number_of_users(query: duckdb.DuckDBPyConnection) -> None:
    seats = rows(
        query,
        "SELECT account_id, total_seats, seat_utilization_pct, seat_utilization_score"
        " FROM silver.silver_account_current_state",
    )
    assert sorted(seats) == sorted(
        [
            # One of two users is deleted.
            ("all", 1, 100.0, 100.0),
            ("none", 0, None, 100.0),
            (ODD, 2, 50.0, 50.0),
            (LATE, 2, 0.0, 0.0),
            (EMPTY, 0, None, 100.0),
        ]
    )


def test_each_active_product_has_its_own_pages(graph: Graph, failed: list[str]) -> None:
    del failed
    site = graph.settings.dashboards / "current"
    pages = {path.name for path in site.glob("product_*.html")}
    # The ids a, b, a > b, all and all_; the id with quotes belongs to a retired product.
    assert pages == {page_file("product", own) for own in ("a", "a > b", "all", "all_", "b")}
    text = (site / "product_all.html").read_text(encoding="utf-8")
    assert "Import from CSV" in text
    assert "Éditeur" in text
