"""silver_account_churn_features: what was known of accounts under contract, and which lapsed."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import rule
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.prediction.account_features import LAPSED, account_features
from monstera_assets.prediction.snapshots import ACCOUNT_HORIZON_STEPS, STEP_DAYS
from monstera_assets.silver import OWNERS
from monstera_assets.silver.silver_account_state_intervals import ACCOUNT_COLUMN, STATE_COLUMNS
from monstera_assets.warehouse.table_asset import ALL_DAYS, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Table

_OF_STATE = {column.name: column for column in STATE_COLUMNS}

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_account_churn_features",
    grain="one account under contract and snapshot: the as-of date and dates 30, 60, ... days before",
    description="What models of account churn learn from and score. A snapshot holds facts up to its"
    " date only, and whether the subscription lapsed in the 90 days after it.",
    owners=OWNERS,
    key=("account_id", "snapshot_date"),
    columns=(
        ACCOUNT_COLUMN,
        Column("snapshot_date", "date", "The day whose end is described."),
        *(
            _OF_STATE[name]
            for name in (
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
        ),
        Column("days_in_state", "int64", "Days since the state began."),
        Column("days_since_creation", "int64", "Days since the account was created."),
        *(
            Column(
                f"health_change_{days}",
                "float64",
                f"Health less what it was {days} days before; null if the account is younger.",
                nullable=True,
            )
            for days in (30, 90)
        ),
        *(
            Column(
                f"active_seats_change_{days}",
                "int64",
                f"Active seats less what they were {days} days before; null if the account is younger.",
                nullable=True,
            )
            for days in (30, 90)
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


@table_asset(TABLE, days={"silver_account_state_history": ALL_DAYS})
def silver_account_churn_features(
    silver_account_state_history: ir.Table,
    bronze_accounts: ir.Table,
    *,
    policy: LifecyclePolicy,
) -> ir.Table:
    """The accounts' history on the dates of the snapshots."""
    return account_features(silver_account_state_history, bronze_accounts, policy)


@rule(TABLE, "Accounts said to have lapsed did so within 90 days, others did not.")
def outcomes_recomputed_from_history(
    silver_account_churn_features: ir.Table, silver_account_state_history: ir.Table
) -> ir.Table:
    """Rows whose outcome a search in the history does not confirm, or that lies ahead."""
    rows = silver_account_churn_features.select(
        "account_id", "snapshot_date", "churned", "as_of_date"
    )
    history = silver_account_state_history
    ended = history.filter(
        history.state_reason.startswith(LAPSED) | history.current_state.isin(["churned", "trial"])
    ).select("account_id", day=day_number(history.snapshot_date))
    since = day_number(rows.snapshot_date)
    horizon = STEP_DAYS * ACCOUNT_HORIZON_STEPS
    later = rows.inner_join(
        ended,
        [
            rows.account_id == ended.account_id,
            ended.day > since,
            ended.day <= since + horizon,
        ],
    )
    lapsed = (
        later.select("account_id", "snapshot_date")
        .distinct()
        .mutate(ended=ibis.literal(value=True))
    )
    both = rows.left_join(lapsed, ["account_id", "snapshot_date"]).drop(
        "account_id_right", "snapshot_date_right"
    )
    is_known = day_number(both.as_of_date) - day_number(both.snapshot_date) >= horizon
    expected = ibis.ifelse(is_known, both.ended.notnull(), None)
    return both.filter(~both.churned.identical_to(expected))
