"""The figures in docs/explanation/billing.md are those that are computed from examples/billing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.markdown_page import Row, section, sections
from monstera_assets_tests.integration.example_runs import Graph

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "billing.md").read_text(encoding="utf-8")
DAYS = DateWindow(date(2024, 9, 2), date(2025, 6, 30))
FIRST = date(2025, 1, 1)
ACCOUNTS = [part.heading for part in sections(PAGE) if part.tables and part.heading != "Movements"]
KINDS = ("new", "reactivated", "expansion", "contraction", "churned")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder = tmp_path_factory.mktemp("billing_page")
    policy = LifecyclePolicy.model_validate({"exchange_rates": {"EUR": 1.08}})
    source, home = ROOT / "examples" / "billing", folder / "home"
    graph = Graph(source, folder / "billing.duckdb", home, DAYS.first, policy)
    graph.compute(["silver_account_state_intervals", "gold_revenue_by_tier"], DAYS.last)
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        yield connection


def test_each_account_is_on_the_page(warehouse: duckdb.DuckDBPyConnection) -> None:
    accounts = warehouse.execute("SELECT DISTINCT account_id FROM bronze.bronze_accounts")
    assert sorted(ACCOUNTS) == sorted(account_id for (account_id,) in accounts.fetchall())


@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_days_of_an_account(account_id: str, warehouse: duckdb.DuckDBPyConnection) -> None:
    relation = warehouse.execute(
        """
        SELECT greatest(min(valid_from), $first)::VARCHAR AS "from",
            least(max(coalesce(valid_to - 1, $last)), $last)::VARCHAR AS "to",
            current_state AS state, monthly_recurring_revenue::VARCHAR AS MRR,
            subscription_tier AS tier, total_seats::VARCHAR AS seats,
            coalesce(contract_renewal_date::VARCHAR, '') AS renewal
        FROM (
            SELECT *, count(*) FILTER (changes) OVER (ORDER BY valid_from) AS part FROM (
                SELECT *, (current_state, monthly_recurring_revenue, subscription_tier, total_seats,
                    contract_renewal_date) IS DISTINCT FROM lag((current_state,
                    monthly_recurring_revenue, subscription_tier, total_seats,
                    contract_renewal_date)) OVER (ORDER BY valid_from) AS changes
                FROM silver.silver_account_state_intervals WHERE account_id = $account
            )
        )
        GROUP BY part, 3, 4, 5, 6, 7 HAVING max(coalesce(valid_to - 1, $last)) >= $first ORDER BY 1
        """,
        {"first": FIRST, "last": DAYS.last, "account": account_id},
    )
    names = [name for name, *_ in relation.description or ()]
    found = [dict(zip(names, row, strict=True)) for row in relation.fetchall()]
    assert found == section(PAGE, account_id).rows


def test_movements_by_tier(warehouse: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f"sum(revenue_{kind}_daily)" for kind in KINDS)
    closing = (
        "coalesce((SELECT revenue_closing_daily FROM gold.gold_revenue_by_tier AS other"
        " WHERE metric_date = ? AND other.account_tier = tiers.account_tier), 0)"
    )
    rows = warehouse.execute(
        f"SELECT account_tier, {closing}, {columns}, {closing} FROM gold.gold_revenue_by_tier AS tiers"
        " WHERE metric_date >= ? GROUP BY account_tier",
        [date(2024, 12, 31), DAYS.last, FIRST],
    ).fetchall()
    found = {tier: amounts for tier, *amounts in rows if any(amounts)}
    found["total"] = [sum(column) for column in zip(*found.values(), strict=True)]

    def amounts_of(row: Row) -> list[str]:
        return [row[name] for name in ("opening", *KINDS, "closing")]

    rows_of_page = section(PAGE, "Movements").rows
    assert {row["tier"]: amounts_of(row) for row in rows_of_page} == {
        tier: [f"{amount:.2f}" for amount in amounts] for tier, amounts in found.items()
    }
    for row in rows_of_page:
        opens, *moved, moved_tier, closes = (
            float(row[name]) for name in ("opening", *KINDS, "moved between tiers", "closing")
        )
        assert opens + sum(moved) + moved_tier == closes
