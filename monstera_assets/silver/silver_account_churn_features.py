"""silver_account_churn_features: what was known of accounts under contract, and whether they lapsed."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.expressions import materialized
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState
from monstera_assets.prediction.feature_snapshots import (
    add_columns,
    block_of,
    oldest_snapshot,
    sampled,
    with_snapshot,
    wrong_outcomes,
)
from monstera_assets.prediction.targets import ACCOUNTS
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_account_state_intervals import ACCOUNT_COLUMN, STATE_COLUMNS
from monstera_assets.warehouse.table_asset import ALL_DAYS, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

_LAPSED = "subscription lapsed"
"""How the `state_reason` of an account begins whose subscription has ended."""
_WITHOUT_CONTRACT = (str(AccountState.TRIAL), str(AccountState.CHURNED))
_CHANGES = {30: 1, 90: 3}
"""Days over which changes are measured, and the same in steps between snapshots."""
_STATE_FEATURES = (
    "current_state",
    "subscription_tier",
    "total_seats",
    "active_seats",
    "seat_utilization_pct",
    "health_score",
    "recent_activity_score",
    "contract_status_score",
    "monthly_recurring_revenue",
    "days_to_renewal",
    "products_active",
)
_STATE_COLUMNS = {column.name: column for column in STATE_COLUMNS}

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_account_churn_features",
    grain="one account under contract and snapshot: the as-of date and dates 30, 60, ... days before",
    description="Features that account churn models are trained on and score. A snapshot holds facts up"
    " to its date only, with the outcome: whether the subscription lapsed in the 90 days after it.",
    owners=OWNERS,
    key=("account_id", "snapshot_date"),
    columns=(
        ACCOUNT_COLUMN,
        Column("snapshot_date", "date", "The day whose end is described."),
        *(_STATE_COLUMNS[name] for name in _STATE_FEATURES),
        Column("days_in_state", "int64", "Days since the state began."),
        Column("days_since_creation", "int64", "Days since the account was created."),
        *(
            Column(
                f"health_change_{days}",
                "float64",
                f"Health less what it was {days} days before; null if the account is younger.",
                nullable=True,
            )
            for days in _CHANGES
        ),
        *(
            Column(
                f"active_seats_change_{days}",
                "int64",
                f"Active seats less what they were {days} days before; null if the account is younger.",
                nullable=True,
            )
            for days in _CHANGES
        ),
        Column(
            "churned",
            "boolean",
            "Whether the subscription was lapsed on a day of the 90 after the day; null while they"
            " have not passed.",
            nullable=True,
        ),
        Column("as_of_date", "date", "The latest date for which history exists."),
    ),
)


def under_contract(rows: ir.Table) -> ir.BooleanValue:
    """Whether an account has a subscription that has not lapsed."""
    return ~rows.current_state.isin(_WITHOUT_CONTRACT) & ~rows.state_reason.startswith(_LAPSED)


@table_asset(TABLE, days={"silver_account_state_history": ALL_DAYS})
def silver_account_churn_features(
    silver_account_state_history: ir.Table,
    bronze_accounts: ir.Table,
    *,
    policy: LifecyclePolicy,
) -> ir.Table:
    """The accounts' history on the dates of the snapshots."""
    history = silver_account_state_history
    as_of = history.aggregate(day=history.snapshot_date.max()).day.as_scalar()
    oldest = oldest_snapshot(policy.churn, ACCOUNTS.horizon_steps)
    states = materialized(with_snapshot(history, as_of, oldest + max(_CHANGES.values())))
    rows = states.filter(under_contract(states), states.snapshot <= oldest)
    rows = sampled(rows, ["account_id"], "account_id", policy.churn)
    for days, steps in _CHANGES.items():
        before = states.select(
            "account_id",
            snapshot=states.snapshot - steps,
            **{f"health_{days}": states.health_score, f"seats_{days}": states.active_seats},
        )
        rows = add_columns(rows, before, ("account_id", "snapshot"))
    rows = add_columns(rows, _lapses(history, as_of, oldest), ("account_id", "snapshot"))
    rows = rows.inner_join(
        bronze_accounts.select("account_id", created_on=ibis._.account_created_at.date()),
        "account_id",
    )
    return rows.select(
        "account_id",
        "snapshot_date",
        *_STATE_FEATURES,
        days_in_state=rows.snapshot_date.delta(rows.state_since, unit="day"),
        days_since_creation=rows.snapshot_date.delta(rows.created_on, unit="day"),
        **{
            f"health_change_{days}": rows.health_score - rows[f"health_{days}"] for days in _CHANGES
        },
        **{
            f"active_seats_change_{days}": rows.active_seats - rows[f"seats_{days}"]
            for days in _CHANGES
        },
        churned=ibis.ifelse(
            rows.snapshot >= ACCOUNTS.horizon_steps, rows.churned.fill_null(False), None
        ),
        as_of_date=as_of,
    )


def _lapses(history: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """The accounts that were not under contract on some day of the 90 after a snapshot."""
    lapsed = history.filter(~under_contract(history))
    lapsed = lapsed.select("account_id", block=block_of(lapsed.snapshot_date, as_of)).distinct()
    steps = ibis.range(1, ACCOUNTS.horizon_steps + 1).unnest().name("steps").as_table()
    rows = lapsed.filter(lapsed.block < oldest).cross_join(steps)
    return (
        rows.select("account_id", snapshot=(rows.block + rows.steps).cast("int64"))
        .distinct()
        .mutate(churned=ibis.literal(value=True))
    )


@rule(TABLE, "Accounts marked as churned lapsed within the 90 days, the others did not.")
def outcomes_recomputed_from_history(
    silver_account_churn_features: ir.Table, silver_account_state_history: ir.Table
) -> ir.Table:
    """Rows whose outcome disagrees with the history, or is known too early."""
    history = silver_account_state_history
    lapsed = history.filter(
        history.state_reason.startswith(_LAPSED) | history.current_state.isin(["churned", "trial"])
    )
    return wrong_outcomes(
        silver_account_churn_features,
        lapsed.select("account_id", day=day_number(lapsed.snapshot_date)),
        ACCOUNTS.key,
        ACCOUNTS.horizon_days,
        churned_if_any=True,
    )
