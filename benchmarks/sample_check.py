"""Compare sampled users' state histories with those of the oracle, the tests' slow implementation.

    python -m benchmarks.sample_check DATABASE [--users N]

It samples users by the hash of their ids. From bronze, the oracle computes every day for these users,
their products and their accounts. The results are compared with all of their rows in the three state
histories. The oracle uses the default thresholds. The exit code is 1 if any row differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets_tests.oracle.accounts import AccountDay, Use, account_history
from monstera_assets_tests.oracle.billing import (
    AccountRow,
    BillingDay,
    SubscriptionEvent,
    billing_history,
    dunning_by_day,
)
from monstera_assets_tests.oracle.products import ProductDay, product_history
from monstera_assets_tests.oracle.users import Dunning, QualifyingDay, UserDay, user_history

PRODUCT_OF_NODE = """
    CREATE TEMP TABLE nodes AS WITH RECURSIVE above AS (
        SELECT product_id AS node_id, product_id, tier, parent_product_id
        FROM bronze.bronze_product_catalog
        UNION ALL
        SELECT node_id, up.product_id, up.tier, up.parent_product_id
        FROM above JOIN bronze.bronze_product_catalog AS up
        ON up.product_id = above.parent_product_id
    ) SELECT node_id, product_id FROM above WHERE tier = 'product'
"""

Row = tuple[Any, ...]


class Sample:
    """Users sampled from a warehouse, and the bronze rows for these users and their accounts."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, users: int) -> None:
        self._connection = connection
        [(self.first, self.last)] = self._rows(
            "SELECT min(snapshot_date), max(snapshot_date) FROM silver.silver_user_state_history"
        )
        self._connection.execute(
            "CREATE TEMP TABLE sampled AS SELECT user_id, account_id, signup_date AS signup"
            " FROM bronze.bronze_users ORDER BY md5(user_id) LIMIT ?",
            [users],
        )
        self._connection.execute(PRODUCT_OF_NODE)
        self.users = self._rows("FROM sampled ORDER BY user_id")
        self._events = self._grouped(
            "SELECT entity_id, event_date, event_timestamp, event_id, is_qualifying_event,"
            " is_activation_event, nodes.product_id FROM bronze.bronze_events LEFT JOIN nodes"
            " ON node_id = bronze_events.product_id"
            " WHERE entity_type = 'user' AND entity_id IN (SELECT user_id FROM sampled)"
            " ORDER BY event_timestamp, event_id"
        )
        self._facts = self._grouped(
            "SELECT entity_id, event_timestamp, event_id, event_type, metadata"
            " FROM bronze.bronze_subscription_events WHERE entity_type = 'account' AND entity_id IN"
            " (SELECT account_id FROM sampled)"
        )
        self._deletions = self._grouped(
            "SELECT entity_id, event_date, event_id FROM bronze.bronze_subscription_events"
            " WHERE entity_type = 'user' ORDER BY event_timestamp, event_id"
        )

    def user_days(self) -> list[UserDay]:
        """Return the oracle's rows for silver_user_state_history."""
        dunning: dict[str, Mapping[date, Dunning]] = {
            account: dunning_by_day(days) for account, days in self._billing().items()
        }
        found: list[UserDay] = []
        for user, account, signup in self.users:
            [(deleted_on, deletion)] = self._deletions.get(user, [])[:1] or [(None, None)]
            found += user_history(
                user,
                signup,
                qualifying_days(self._events.get(user, [])),
                self.last,
                deleted_on=deleted_on,
                deletion_event_id=deletion,
                dunning=lambda day, of=dunning[account]: of.get(day, Dunning()),  # type: ignore[misc]
            )
        return found

    def product_days(self) -> list[ProductDay]:
        """Return the oracle's rows for silver_user_product_state_history."""
        own_days = {
            product: days
            for product, *days in self._rows(
                "SELECT product_id, active_days, dormant_days FROM bronze.bronze_product_catalog"
            )
        }
        found: list[ProductDay] = []
        for user, _, signup in self.users:
            by_product: dict[str, list[Row]] = defaultdict(list)
            for event in self._events.get(user, []):
                if event[5] is not None:
                    by_product[event[5]].append(event)
            for product, events in by_product.items():
                active_days, dormant_days = own_days[product]
                found += product_history(
                    user,
                    product,
                    signup,
                    self.last,
                    first_access=min(event[0] for event in events),
                    activation=min((event[0] for event in events if event[4]), default=None),
                    qualifying_days=qualifying_days(events),
                    active_days=active_days,
                    dormant_days=dormant_days,
                )
        return [day for day in found if day.is_stored]

    def account_days(self) -> list[AccountDay]:
        """Return the oracle's rows for silver_account_state_history."""
        uses = self._grouped(
            "SELECT account_id, user_id, event_date, nodes.product_id, count(*) FROM"
            " bronze.bronze_events JOIN bronze.bronze_users ON user_id = entity_id LEFT JOIN nodes"
            " ON node_id = bronze_events.product_id"
            " WHERE entity_type = 'user' AND is_qualifying_event AND account_id IN (SELECT account_id"
            " FROM sampled) GROUP BY ALL"
        )
        found: list[AccountDay] = []
        for account, billing in self._billing().items():
            found += account_history(billing, [Use(*use) for use in uses.get(account, [])])
        return found

    def stored(self, history: str, key: str, names: Sequence[str]) -> list[Row]:
        """Return the sample's stored rows from a history."""
        return self._rows(
            f"SELECT {', '.join(names)} FROM silver.{history}"  # noqa: S608
            f" WHERE {key} IN (SELECT {key} FROM sampled)"
        )

    def columns(self, history: str) -> set[str]:
        """Return a history's columns."""
        return {name for name, *_ in self._rows(f"DESCRIBE silver.{history}")}

    def _billing(self) -> dict[str, list[BillingDay]]:
        rows = self._rows(
            "SELECT account_id, account_created_at, subscription_tier, total_seats,"
            " monthly_recurring_revenue::DOUBLE, contract_renewal_date, first_paid_at"
            " FROM bronze.bronze_accounts WHERE account_id IN (SELECT account_id FROM sampled)"
        )
        return {
            row[0]: billing_history(
                AccountRow(*row),
                [
                    SubscriptionEvent(moment, event_id, event_type, json.loads(metadata or "{}"))
                    for moment, event_id, event_type, metadata in self._facts.get(row[0], [])
                ],
                self.last,
            )
            for row in rows
        }

    def _grouped(self, query: str) -> dict[str, list[Row]]:
        """Return a query's rows, grouped by their first column."""
        found: dict[str, list[Row]] = defaultdict(list)
        for key, *values in self._rows(query):
            found[key].append(tuple(values))
        return found

    def _rows(self, query: str) -> list[Row]:
        return self._connection.execute(query).fetchall()


def qualifying_days(events: Iterable[Row]) -> list[QualifyingDay]:
    """Convert ordered events to the oracle's input."""
    days: dict[date, list[str]] = defaultdict(list)
    for day, _, event_id, is_qualifying, *_ in events:
        if is_qualifying:
            days[day].append(event_id)
    return [QualifyingDay(day, len(ids), ids[0]) for day, ids in days.items()]


def differences(sample: Sample) -> Iterable[tuple[str, int, int, int]]:
    """Yield each history's name and its counts of compared, missing and unexpected rows."""
    for history, key, kind, days in (
        ("silver_user_state_history", "user_id", UserDay, sample.user_days()),
        ("silver_user_product_state_history", "user_id", ProductDay, sample.product_days()),
        ("silver_account_state_history", "account_id", AccountDay, sample.account_days()),
    ):
        known = sample.columns(history)
        names = [field.name for field in fields(kind) if field.name in known]
        expected = {
            tuple(_plain(getattr(day, name)) for name in names)
            for day in days
            if day.snapshot_date >= sample.first
        }
        stored = {tuple(map(_plain, row)) for row in sample.stored(history, key, names)}
        yield history, len(stored), len(expected - stored), len(stored - expected)


def _plain(value: Any) -> Any:
    """Convert decimals to floats, because amounts are decimals in tables and floats in the oracle."""
    return float(value) if isinstance(value, Decimal | float) else value


def main() -> None:
    """Parse the arguments, compare, and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--users", type=int, default=20)
    asked = parser.parse_args()
    differ = False
    with duckdb.connect(str(asked.database), read_only=True) as connection:
        for history, rows, missing, other in differences(Sample(connection, asked.users)):
            print(f"{history}: {rows:,} rows compared, {missing} missing, {other} unexpected")
            differ = differ or bool(missing or other) or not rows
    sys.exit(differ)


if __name__ == "__main__":
    main()
