"""bronze_accounts: every account, as its latest row says."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import OWNERS
from monstera_assets.bronze.validation import (
    Rule,
    missing,
    rank_duplicates,
    typed,
    unknown_values,
    unreadable,
    with_reason,
)
from monstera_assets.warehouse.tables import Column, Layer, Table

SUBSCRIPTION_TIERS = ("trial", "starter", "professional", "enterprise")

TABLE = Table(
    layer=Layer.BRONZE,
    name="bronze_accounts",
    grain="one account, latest state",
    description="Accounts as the source's latest row describes them. Billing facts before any"
    " subscription event come from here.",
    owners=OWNERS,
    key=("account_id",),
    columns=(
        Column("account_id", "string", "Identifier of the account."),
        Column("account_name", "string", "Name of the account. Stays in bronze."),
        Column("subscription_tier", "string", "Tier at present.", allowed=SUBSCRIPTION_TIERS),
        Column("total_seats", "int64", "Seats bought."),
        Column("account_created_at", "timestamp", "Creation, UTC."),
        Column(
            "first_paid_at", "timestamp", "First payment, UTC; null if never paid.", nullable=True
        ),
        Column(
            "contract_renewal_date",
            "date",
            "Date on which the contract renews; null if open-ended or never paid.",
            nullable=True,
        ),
        Column(
            "monthly_recurring_revenue",
            "decimal(18, 2)",
            "Recurring revenue a month, in the company's currency.",
        ),
        Column("is_trial", "boolean", "Whether the account is on trial at present."),
    ),
)

REQUIRED = (
    "account_id",
    "account_name",
    "subscription_tier",
    "total_seats",
    "account_created_at",
    "monthly_recurring_revenue",
    "is_trial",
)


def classify(rows: ir.Table) -> ir.Table:
    """Typed rows with the reason for which each is rejected, null if accepted."""
    rows = typed(rows, TABLE)
    rows = rank_duplicates(
        rows, ["account_id"], [rows.account_created_at, rows.source_file, rows.account_name]
    )
    rules: list[Rule] = [
        *missing(rows, REQUIRED),
        ("duplicate_account_id", rows.duplicate_rank > 0),
        *unreadable(
            rows,
            {
                name: name
                for name in (
                    "total_seats",
                    "account_created_at",
                    "first_paid_at",
                    "contract_renewal_date",
                    "monthly_recurring_revenue",
                    "is_trial",
                )
            },
        ),
        *unknown_values(rows, TABLE, ["subscription_tier"]),
        ("negative_total_seats", rows.total_seats < 0),
        ("negative_monthly_recurring_revenue", rows.monthly_recurring_revenue < 0),
    ]
    return with_reason(rows, rules)
