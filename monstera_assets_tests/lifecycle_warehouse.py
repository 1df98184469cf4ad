"""The tables of the user lifecycle, computed by the engine from drawn facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache

import ibis.expr.types as ir

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_product_catalog,
    bronze_subscription_events,
    bronze_users,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver import (
    silver_daily_user_activity,
    silver_user_current_state,
    silver_user_state_history,
    silver_user_state_transitions,
)
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets.warehouse.writer import compile_duckdb
from monstera_assets_tests.memory_warehouse import MemoryWarehouse
from monstera_assets_tests.strategies import CATALOG, AccountCase, UserCase

ACCOUNTS = bronze_accounts.TABLE
EVENTS = bronze_events.TABLE
PRODUCTS = bronze_product_catalog.TABLE
SUBSCRIPTION_EVENTS = bronze_subscription_events.TABLE
USERS = bronze_users.TABLE
ACTIVITY = silver_daily_user_activity.TABLE
HISTORY = silver_user_state_history.TABLE
CURRENT = silver_user_current_state.TABLE
TRANSITIONS = silver_user_state_transitions.TABLE


class LifecycleWarehouse(MemoryWarehouse):
    """Bronze tables of drawn facts, and the tables of the user lifecycle made from them."""

    def __init__(self) -> None:
        super().__init__(
            (
                *(ACCOUNTS, EVENTS, PRODUCTS, SUBSCRIPTION_EVENTS, USERS),
                *(ACTIVITY, HISTORY, CURRENT, TRANSITIONS),
            )
        )
        self.load(PRODUCTS, CATALOG)

    def load_facts(
        self,
        accounts: Sequence[AccountCase],
        users: Sequence[UserCase],
        *,
        through: date = date.max,
    ) -> None:
        """Replace all facts; of events only those dated up to `through`."""
        self.load(ACCOUNTS, [account.row for account in accounts])
        self.load(USERS, [user.row for user in users])
        for table, cases in (
            (EVENTS, [user.event_rows for user in users]),
            (
                SUBSCRIPTION_EVENTS,
                [
                    *(account.event_rows for account in accounts),
                    *(user.deletion_rows for user in users),
                ],
            ),
        ):
            rows = [row for case in cases for row in case]
            self.load(table, [row for row in rows if str(row["event_date"]) <= str(through)])
        self.store(ACTIVITY, _activity_sql())

    def compute(self, table: Table, policy: LifecyclePolicy, window: DateWindow) -> None:
        """Compute a table of the user lifecycle; the current state reads the stored history."""
        self.store(table, _lifecycle_sql(table.name, policy, window))


@cache
def _activity_sql() -> str:
    return compile_duckdb(
        silver_daily_user_activity.silver_daily_user_activity(EVENTS.relation, PRODUCTS.relation)
    )


@cache
def _lifecycle_sql(table: str, policy: LifecyclePolicy, window: DateWindow) -> str:
    entities = (USERS.relation, ACCOUNTS.relation, SUBSCRIPTION_EVENTS.relation)
    result: ir.Table
    if table == CURRENT.name:
        result = silver_user_current_state.silver_user_current_state(
            HISTORY.relation, ACTIVITY.relation, *entities, policy=policy
        )
    else:
        function = {
            HISTORY.name: silver_user_state_history.silver_user_state_history,
            TRANSITIONS.name: silver_user_state_transitions.silver_user_state_transitions,
        }[table]
        # The days that the IO manager reads: up to the last one computed.
        activity = ACTIVITY.relation
        activity = activity.filter(activity.activity_date <= window.last)
        result = function(activity, *entities, policy=policy, window=window)
    return compile_duckdb(result)
