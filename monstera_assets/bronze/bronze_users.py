"""bronze_users: every user, as its latest row says; the only table with e-mail addresses."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import OWNERS
from monstera_assets.bronze.validation import (
    Rule,
    missing,
    rank_duplicates,
    typed,
    unknown_reference,
    unreadable,
    with_reason,
)
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

TABLE = Table(
    layer=Layer.BRONZE,
    name="bronze_users",
    grain="one user",
    description="Users and the attributes by which metrics are segmented.",
    owners=OWNERS,
    key=("user_id",),
    columns=(
        Column("user_id", "string", "Identifier of the user."),
        Column("email", "string", "E-mail address. Never leaves bronze."),
        Column(
            "account_id",
            "string",
            "The account that the user belongs to.",
            references=Reference("bronze_accounts", "account_id"),
        ),
        Column("user_created_at", "timestamp", "Signup, UTC."),
        Column("country", "string", "Country of the user."),
        Column("plan_type", "string", "Plan of the user."),
        Column("acquisition_source", "string", "Where the user came from."),
    ),
)

REQUIRED = tuple(column.name for column in TABLE.columns)


def classify(rows: ir.Table, accounts: ir.Table) -> ir.Table:
    """Typed rows with the reason for which each is rejected, null if accepted."""
    rows = typed(rows, TABLE)
    rows = rank_duplicates(
        rows, ["user_id"], [rows.user_created_at, rows.source_file, rows.email, rows.account_id]
    )
    rows, unknown_account = unknown_reference(
        rows, "account_id", accounts, "account_id", "unknown_account"
    )
    rules: list[Rule] = [
        *missing(rows, REQUIRED),
        ("duplicate_user_id", rows.duplicate_rank > 0),
        *unreadable(rows, {"user_created_at": "user_created_at"}),
        unknown_account,
    ]
    return with_reason(rows, rules)
