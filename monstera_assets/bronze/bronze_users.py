"""bronze_users: the latest row of each user; the only table with email addresses."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_users",
    grain="one user",
    description="Who are the users, and which attributes are used to segment them?",
    key=("user_id",),
    columns=(
        ma.Column("user_id", "string", "Identifier of the user."),
        ma.Column("email", "string", "Email address; never leaves bronze."),
        ma.Column(
            "account_id",
            "string",
            "Account of the user.",
            references=ma.Reference("bronze_accounts", "account_id"),
        ),
        ma.Column("user_created_at", "timestamp", "Time of signup, UTC."),
        ma.Column("country", "string", "Country of the user."),
        ma.Column("plan_type", "string", "Plan of the user."),
        ma.Column("acquisition_source", "string", "Acquisition source of the user."),
    ),
)

REQUIRED = ma.required_columns(TABLE)


def classify(rows: ir.Table, accounts: ir.Table) -> ir.Table:
    """Return typed rows, each with its rejection reason (null if accepted)."""
    rows = ma.typed(rows, TABLE)
    rows = ma.rank_duplicates(
        rows, TABLE.key, [rows.user_created_at, rows.source_file, rows.email, rows.account_id]
    )
    rows, unknown_account = ma.unknown_reference(rows, "account_id", accounts, "unknown_account")
    rules = ma.column_rules(rows, TABLE, "duplicate_user_id")
    return ma.with_reason(rows, [*rules, unknown_account])
