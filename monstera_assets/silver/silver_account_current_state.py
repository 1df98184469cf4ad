"""silver_account_current_state: every account's state and health on the latest date."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.states import UserState
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_account_state_intervals import (
    ACCOUNT_COLUMN,
    STATE_COLUMNS,
    states_on,
)
from monstera_assets.silver.state_tables import differences_from_latest, state_updated_at
from monstera_assets.warehouse.common_columns import AS_OF_DATE, STATE_UPDATED_AT
from monstera_assets.warehouse.previews import distribution
from monstera_assets.warehouse.table_asset import table_asset
from monstera_assets.warehouse.tables import Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_account_current_state",
    grain="one account",
    description="The state and health of every account at the end of the as-of date, the latest date"
    " for which history exists. Read it for questions about now.",
    owners=OWNERS,
    key=("account_id",),
    columns=(
        ACCOUNT_COLUMN,
        *STATE_COLUMNS,
        AS_OF_DATE,
        STATE_UPDATED_AT,
    ),
)


@table_asset(
    TABLE,
    previews=[distribution("accounts", "current_state"), distribution("accounts", "health_band")],
)
def silver_account_current_state(silver_account_state_intervals: ir.Table) -> ir.Table:
    """The open intervals."""
    now = silver_account_state_intervals.filter(silver_account_state_intervals.valid_to.isnull())
    return now.select(
        "account_id",
        "as_of_date",
        state_updated_at=state_updated_at(now),
        **states_on(now, day_number(now.as_of_date)),
    )


@rule(TABLE, "The current state is the latest day of history.")
def agrees_with_history(
    silver_account_current_state: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    out_of_date: Callable[[str], ir.Table],
) -> ir.Table:
    """Accounts whose current state and latest history row differ, or that only one has."""
    return differences_from_latest(
        silver_account_current_state,
        silver_account_state_history,
        out_of_date("silver_account_state_history"),
    )


@rule(TABLE, "The accounts table says what the last subscription event said.", blocking=False)
def accounts_table_is_up_to_date(
    silver_account_current_state: ir.Table, bronze_accounts: ir.Table
) -> ir.Table:
    """Paid accounts whose row in bronze_accounts differs from what their events add up to."""
    current = silver_account_current_state.filter(
        silver_account_current_state.days_to_renewal.notnull()
        | (silver_account_current_state.monthly_recurring_revenue > 0)
    )
    both = current.inner_join(
        bronze_accounts.select(
            "account_id",
            table_tier=bronze_accounts.subscription_tier,
            table_seats=bronze_accounts.total_seats,
            table_revenue=bronze_accounts.monthly_recurring_revenue,
            table_renewal_date=bronze_accounts.contract_renewal_date,
        ),
        "account_id",
    )
    return both.filter(
        (both.subscription_tier != both.table_tier)
        | (both.total_seats != both.table_seats)
        | (both.monthly_recurring_revenue != both.table_revenue)
        | ~both.contract_renewal_date.identical_to(both.table_renewal_date)
    ).select(
        "account_id",
        "subscription_tier",
        "table_tier",
        "total_seats",
        "table_seats",
        "monthly_recurring_revenue",
        "table_revenue",
        "contract_renewal_date",
        "table_renewal_date",
    )


@rule(TABLE, "No user is active on an account whose subscription has lapsed.", blocking=False)
def nobody_is_active_on_a_lapsed_account(
    silver_account_current_state: ir.Table, silver_user_current_state: ir.Table
) -> ir.Table:
    """Active users of accounts that have lapsed."""
    lapsed = silver_account_current_state.filter(
        silver_account_current_state.state_reason.startswith("subscription lapsed")
    )
    users = silver_user_current_state.filter(
        silver_user_current_state.platform_state == str(UserState.ACTIVE)
    )
    return users.inner_join(
        lapsed.select("account_id", "state_reason", account_state=lapsed.current_state),
        "account_id",
    ).select("user_id", "account_id", "account_state", "state_reason")
