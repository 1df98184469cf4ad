"""bronze_accounts: the latest row of each account."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

SUBSCRIPTION_TIERS = ("trial", "starter", "professional", "enterprise")

TABLE = ma.declare_table(
    "bronze_accounts",
    grain="one account, latest state",
    description="What does the source currently state about each account? Billing facts before the"
    " first subscription event come from this table.",
    key=("account_id",),
    columns=(
        ma.Column("account_id", "string", "Identifier of the account."),
        ma.Column("account_name", "string", "Name of the account; never leaves bronze."),
        ma.Column(
            "subscription_tier", "string", "Current subscription tier.", allowed=SUBSCRIPTION_TIERS
        ),
        ma.Column("total_seats", "int64", "Number of seats purchased."),
        ma.Column("account_created_at", "timestamp", "Time of account creation, UTC."),
        ma.Column(
            "first_paid_at",
            "timestamp",
            "Time of the first payment, UTC; null if there was none.",
            nullable=True,
        ),
        ma.Column(
            "contract_renewal_date",
            "date",
            "Contract renewal date; null if open-ended or without a payment.",
            nullable=True,
        ),
        ma.Column(
            "monthly_recurring_revenue",
            "decimal(18, 2)",
            "Monthly recurring revenue, in the company's currency.",
        ),
        ma.Column("is_trial", "boolean", "Whether the account is currently on trial."),
    ),
)


def classify(rows: ir.Table) -> ir.Table:
    """Return typed rows, each with its rejection reason (null if accepted)."""
    rows = ma.typed(rows, TABLE)
    rows = ma.rank_duplicates(
        rows, TABLE.key, [rows.account_created_at, rows.source_file, rows.account_name]
    )
    rules = [
        *ma.column_rules(rows, TABLE, "duplicate_account_id"),
        ("negative_total_seats", rows.total_seats < 0),
        ("negative_monthly_recurring_revenue", rows.monthly_recurring_revenue < 0),
    ]
    return ma.with_reason(rows, rules)
