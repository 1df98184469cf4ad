"""bronze_accounts: every account, as its latest row says."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

SUBSCRIPTION_TIERS = ("trial", "starter", "professional", "enterprise")

TABLE = ma.declare_table(
    "bronze_accounts",
    grain="one account, latest state",
    description="Accounts as the source's latest row describes them. Billing facts before any"
    " subscription event come from here.",
    key=("account_id",),
    columns=(
        ma.Column("account_id", "string", "Identifier of the account."),
        ma.Column("account_name", "string", "Name of the account. Stays in bronze."),
        ma.Column("subscription_tier", "string", "Tier at present.", allowed=SUBSCRIPTION_TIERS),
        ma.Column("total_seats", "int64", "Seats bought."),
        ma.Column("account_created_at", "timestamp", "Creation, UTC."),
        ma.Column(
            "first_paid_at", "timestamp", "First payment, UTC; null if never paid.", nullable=True
        ),
        ma.Column(
            "contract_renewal_date",
            "date",
            "Date on which the contract renews; null if open-ended or never paid.",
            nullable=True,
        ),
        ma.Column(
            "monthly_recurring_revenue",
            "decimal(18, 2)",
            "Recurring revenue a month, in the company's currency.",
        ),
        ma.Column("is_trial", "boolean", "Whether the account is on trial at present."),
    ),
)


def classify(rows: ir.Table) -> ir.Table:
    """Typed rows with the reason for which each is rejected, null if accepted."""
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
