"""The tables of the user lifecycle, computed by the engine from drawn facts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_product_catalog,
    bronze_subscription_events,
    bronze_users,
    bronze_workflows,
)
from monstera_assets.lifecycle.expressions import Window, parameter, window_parameters
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver.silver_cross_product_activity import silver_cross_product_activity
from monstera_assets.silver.silver_cross_product_analytics import silver_cross_product_analytics
from monstera_assets.silver.silver_daily_user_activity import silver_daily_user_activity
from monstera_assets.silver.silver_daily_user_feature_activity import (
    silver_daily_user_feature_activity,
)
from monstera_assets.silver.silver_events_enriched import silver_events_enriched
from monstera_assets.silver.silver_product_adoption_sequences import (
    silver_product_adoption_sequences,
)
from monstera_assets.silver.silver_product_affinity import silver_product_affinity
from monstera_assets.silver.silver_user_current_state import silver_user_current_state
from monstera_assets.silver.silver_user_product_adoptions import silver_user_product_adoptions
from monstera_assets.silver.silver_user_product_churn import silver_user_product_churn
from monstera_assets.silver.silver_user_product_state_history import (
    silver_user_product_state_history,
)
from monstera_assets.silver.silver_user_product_state_intervals import (
    silver_user_product_state_intervals,
)
from monstera_assets.silver.silver_user_product_states import silver_user_product_states
from monstera_assets.silver.silver_user_segment_history import silver_user_segment_history
from monstera_assets.silver.silver_user_state_history import silver_user_state_history
from monstera_assets.silver.silver_user_state_intervals import silver_user_state_intervals
from monstera_assets.silver.silver_user_state_transitions import silver_user_state_transitions
from monstera_assets.silver.silver_workflow_funnel import silver_workflow_funnel
from monstera_assets.silver.silver_workflow_runs import silver_workflow_runs
from monstera_assets.silver.silver_workflow_steps import silver_workflow_steps
from monstera_assets.warehouse.compiler import bind, compile_duckdb
from monstera_assets.warehouse.io_manager import Reads
from monstera_assets.warehouse.table_asset import LATEST_DAY, TableAsset
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse, Row
from monstera_assets_tests.inputs.strategies import (
    CATALOG,
    SPAN,
    AccountCase,
    UserCase,
    known_versions,
)

ACCOUNTS = bronze_accounts.TABLE
EVENTS = bronze_events.TABLE
CATALOG_NODES = bronze_product_catalog.TABLE
SUBSCRIPTION_EVENTS = bronze_subscription_events.TABLE
USERS = bronze_users.TABLE
WORKFLOWS = bronze_workflows.TABLE

ACTIVITY = silver_daily_user_activity
INTERVALS = silver_user_state_intervals
PRODUCT_INTERVALS = silver_user_product_state_intervals
HISTORY = silver_user_state_history
CURRENT = silver_user_current_state
TRANSITIONS = silver_user_state_transitions
PRODUCT_HISTORY = silver_user_product_state_history
PRODUCT_STATES = silver_user_product_states

ENRICHED = silver_events_enriched
FEATURE_ACTIVITY = silver_daily_user_feature_activity
SEGMENTS = silver_user_segment_history
STEPS = silver_workflow_steps
RUNS = silver_workflow_runs
FUNNEL = silver_workflow_funnel

ADOPTIONS = silver_user_product_adoptions
SEQUENCES = silver_product_adoption_sequences
AFFINITY = silver_product_affinity
PORTFOLIOS = silver_cross_product_analytics
CROSS_ACTIVITY = silver_cross_product_activity
PRODUCT_CHURN = silver_user_product_churn

_BRONZE = (ACCOUNTS, EVENTS, CATALOG_NODES, SUBSCRIPTION_EVENTS, USERS, WORKFLOWS)
_COMPUTED = (
    ACTIVITY,
    INTERVALS,
    PRODUCT_INTERVALS,
    HISTORY,
    CURRENT,
    TRANSITIONS,
    PRODUCT_HISTORY,
    PRODUCT_STATES,
    ENRICHED,
    FEATURE_ACTIVITY,
    STEPS,
    RUNS,
    FUNNEL,
    SEGMENTS,
    ADOPTIONS,
    SEQUENCES,
    AFFINITY,
    PORTFOLIOS,
    CROSS_ACTIVITY,
    PRODUCT_CHURN,
)
_TABLES = {table.name: table for table in (*_BRONZE, *(asset.table for asset in _COMPUTED))}


class LifecycleWarehouse(MemoryWarehouse):
    """Bronze tables of drawn facts, and the user lifecycle tables computed from them."""

    def __init__(self) -> None:
        super().__init__(_TABLES.values())
        self.load(CATALOG_NODES, CATALOG)

    def load_facts(
        self,
        accounts: Sequence[AccountCase],
        users: Sequence[UserCase],
        *,
        through: date = date.max,
    ) -> None:
        """Replace all facts; keep events dated, and versions that start, up to `through`."""
        self.load_accounts(accounts, users, through=through)
        rows = (row for user in users for row in user.rows)
        self.load(USERS, known_versions("user_id", rows, through))
        self.load(EVENTS, _dated([row for user in users for row in user.event_rows], through))
        self.compute(ACTIVITY)

    def load_accounts(
        self,
        accounts: Sequence[AccountCase],
        users: Sequence[UserCase] = (),
        *,
        through: date = date.max,
    ) -> None:
        rows = (row for account in accounts for row in account.rows)
        self.load(ACCOUNTS, known_versions("account_id", rows, through))
        facts = [
            *(row for account in accounts for row in account.event_rows),
            *(row for user in users for row in user.deletion_rows),
        ]
        self.load(SUBSCRIPTION_EVENTS, _dated(facts, through))

    def compute(
        self,
        asset: TableAsset,
        policy: LifecyclePolicy | None = None,
        window: DateWindow | None = None,
        as_of: date | None = None,
    ) -> list[Row]:
        """Compute a table from the stored ones; return its rows in the order of its columns.

        For a table of a window, intervals are computed first, as of a date: by default the window's
        last, or that of `SPAN`.
        """
        as_of = as_of or (window.last if window else SPAN.last)
        for intervals in (INTERVALS, PRODUCT_INTERVALS):
            if window is not None and intervals.table.name in asset.inputs:
                self.compute(intervals, policy, as_of=as_of)
        bind(self.connection, _days(asset, window, as_of))
        self.store(asset.table, _sql(asset.table.name, policy, in_window=window is not None))
        return self.stored(asset.table)


def as_mappings(asset: TableAsset, rows: Iterable[Row]) -> list[dict[str, Any]]:
    names = [column.name for column in asset.table.columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _dated(rows: Iterable[Mapping[str, object]], through: date) -> list[Mapping[str, object]]:
    return [row for row in rows if str(row["event_date"]) <= through.isoformat()]


def _days(asset: TableAsset, window: DateWindow | None, as_of: date) -> dict[str, date]:
    """Return the parameters of a query, which is compiled once for all days."""
    if window is None:
        return {"as_of_day": as_of}
    days = {
        f"{read}_first_day": window.first
        - timedelta(days=min(read_days.back, (window.first - date.min).days))
        for read, read_days in asset.days.items()
        if read_days.reads is Reads.COMPUTED_DAYS
    }
    ends = dict(zip(window_parameters(), (window.first, window.last), strict=True))
    return {"as_of_day": as_of, **ends, **days}


@cache
def _sql(name: str, policy: LifecyclePolicy | None, *, in_window: bool) -> str:
    asset = next(asset for asset in _COMPUTED if asset.table.name == name)
    relations = {name: _TABLES[name].relation for name in asset.inputs}
    window = Window.parameters() if in_window else None
    for read, days in asset.days.items():
        day = _TABLES[read].partition_column
        # The days that the IO manager reads.
        if days is LATEST_DAY and day is not None:
            latest = relations[read][day].max().as_scalar()
            relations[read] = relations[read].filter(relations[read][day] == latest)
        if window is None or days.reads is not Reads.COMPUTED_DAYS or day is None:
            continue
        relations[read] = relations[read].filter(
            relations[read][day].between(parameter(f"{read}_first_day", "date"), window.last)
        )
    accepts = inspect.signature(asset.function).parameters
    keywords = {
        name: value
        for name, value in (
            ("policy", policy or LifecyclePolicy()),
            ("window", window),
            ("as_of", parameter("as_of_day", "date")),
        )
        if name in accepts
    }
    return compile_duckdb(asset(*relations.values(), **keywords))
