"""silver_account_churn_features: features and outcomes for account churn models."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.prediction import feature_snapshots
from monstera_assets.prediction.targets import ACCOUNTS
from monstera_assets.silver.silver_account_state_intervals import STATE_COLUMNS

_LAPSED = "subscription lapsed"
"""The prefix of `state_reason` for accounts whose subscription has lapsed."""
_WITHOUT_CONTRACT = (ma.AccountState.TRIAL, ma.AccountState.CHURNED)
_CHANGES = {30: 1, 90: 3}
"""Days over which a change is measured, mapped to the number of snapshots to look back."""
_STATE_FEATURES = tuple(column for column in STATE_COLUMNS if column.name in ACCOUNTS.features)

TABLE = ma.declare_table(
    "silver_account_churn_features",
    group=ma.AssetGroup.PREDICTION,
    grain="one snapshot of an account under contract",
    description="What was known about each account under contract, and did its subscription lapse"
    " in the next 90 days? Account churn models use these rows for training and scoring. Snapshots"
    " are taken on the as-of date and every 30 days before that date. Except for the outcome, a"
    " snapshot uses only facts dated on or before the snapshot date.",
    key=("account_id", "snapshot_date"),
    extra=ma.PREDICT,
    columns=(
        ma.ACCOUNT_ID,
        ma.SNAPSHOT_DATE,
        *_STATE_FEATURES,
        ma.Column("days_in_state", "int64", "Days since the account entered its current state."),
        ma.Column("days_since_creation", "int64", "Days since the account was created."),
        *(
            ma.nullable(
                f"{name}_change_{days}",
                dtype,
                f"{what} {days} days, or null if the account is less than {days} days old.",
            )
            for name, dtype, what in (
                ("health", "float64", "Change in health_score over the last"),
                ("active_seats", "int64", "Change in active seats over the last"),
            )
            for days in _CHANGES
        ),
        ma.nullable(
            "churned",
            "boolean",
            "Whether the subscription was lapsed on any of the 90 days after the snapshot, or null"
            " until those 90 days have passed.",
        ),
        ma.AS_OF_DATE,
    ),
)


def under_contract(rows: ir.Table) -> ir.BooleanValue:
    """Select accounts with a subscription that has not lapsed."""
    return ~rows.current_state.isin(_WITHOUT_CONTRACT) & ~rows.state_reason.startswith(_LAPSED)


@ma.table_asset(TABLE, days={"silver_account_state_history": ma.ALL_DAYS})
def silver_account_churn_features(
    silver_account_state_history: ir.Table, bronze_accounts: ir.Table, *, policy: ma.LifecyclePolicy
) -> ir.Table:
    """Select the account history rows for the snapshot dates."""
    history = silver_account_state_history
    as_of = history.aggregate(day=history.snapshot_date.max()).day.as_scalar()
    oldest = feature_snapshots.oldest_snapshot(policy.churn, ACCOUNTS.horizon_steps)
    states = feature_snapshots.with_snapshot(history, as_of, oldest + max(_CHANGES.values()))
    states = ma.materialized(states)
    rows = states.filter(under_contract(states), states.snapshot <= oldest)
    rows = feature_snapshots.sampled(rows, ["account_id"], "account_id", policy.churn)
    before = (
        states.select(
            "account_id",
            snapshot=states.snapshot - steps,
            **{f"health_{days}": states.health_score, f"seats_{days}": states.active_seats},
        )
        for days, steps in _CHANGES.items()
    )
    lapses = _lapses(history, as_of, oldest)
    rows = ma.left_joined(rows, *before, lapses, on=["account_id", "snapshot"])
    rows = rows.inner_join(
        ma.one_row_per_entity(bronze_accounts, ["account_id", "created_date"]).rename(
            created_on="created_date"
        ),
        "account_id",
    )
    return rows.mutate(
        days_in_state=rows.snapshot_date.delta(rows.state_since, unit="day"),
        days_since_creation=rows.snapshot_date.delta(rows.created_on, unit="day"),
        **{
            f"{name}_change_{days}": now - rows[f"{before}_{days}"]
            for name, now, before in (
                ("health", rows.health_score, "health"),
                ("active_seats", rows.active_seats, "seats"),
            )
            for days in _CHANGES
        },
        churned=ibis.ifelse(
            rows.snapshot >= ACCOUNTS.horizon_steps, rows.churned.fill_null(False), None
        ),
        as_of_date=as_of,
    ).select(ma.column_names(TABLE.columns))


def _lapses(history: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """Return the accounts without a contract on at least one of the 90 days after a snapshot."""
    lapsed = history.filter(~under_contract(history))
    block = feature_snapshots.block_of(lapsed.snapshot_date, as_of)
    lapsed = lapsed.select("account_id", block=block).distinct()
    steps = ibis.range(1, ACCOUNTS.horizon_steps + 1).unnest().name("steps").as_table()
    rows = lapsed.filter(lapsed.block < oldest).cross_join(steps)
    rows = rows.select("account_id", snapshot=(rows.block + rows.steps).cast("int64")).distinct()
    return rows.mutate(churned=ibis.literal(value=True))


@ma.rule(TABLE)
def outcomes_recomputed_from_history(
    silver_account_churn_features: ir.Table, silver_account_state_history: ir.Table
) -> ir.Table:
    """An account is marked as churned if and only if it lapsed within 90 days after the snapshot."""
    history = silver_account_state_history
    lapsed = history.filter(
        history.state_reason.startswith(_LAPSED) | history.current_state.isin(["churned", "trial"])
    )
    return feature_snapshots.wrong_outcomes(
        silver_account_churn_features,
        lapsed.select("account_id", day=ma.day_number(lapsed.snapshot_date)),
        ACCOUNTS,
        churned_if_any=True,
    )
