"""bronze_subscription_events: billing facts of accounts and deletions of users."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.bronze.event_rules import EVENT_COLUMNS, event_rules, rank_events, read_events
from monstera_assets.bronze.json_text import text_at

ACCOUNT_EVENT_TYPES = (
    "subscription_started",
    "subscription_renewed",
    "subscription_cancelled",
    "subscription_paused",
    "subscription_resumed",
    "seats_changed",
    "tier_changed",
    "payment_failed",
    "payment_recovered",
)
USER_EVENT_TYPES = ("user_deleted",)
PAUSE_REASONS = ("seasonal", "voluntary_pause")

# Columns that are read from metadata, with values after the change.
_FROM_METADATA = (
    ma.Column("total_seats", "int64", "Seats after the change.", nullable=True),
    ma.Column(
        "monthly_recurring_revenue",
        "decimal(18, 2)",
        "Monthly recurring revenue after the change, in the company's currency.",
        nullable=True,
    ),
    ma.Column(
        "subscription_tier",
        "string",
        "Subscription tier after the change.",
        nullable=True,
        allowed=SUBSCRIPTION_TIERS,
    ),
    ma.Column("contract_renewal_date", "date", "Renewal date after the change.", nullable=True),
    ma.nullable("effective_date", "date", "Date on which a cancellation takes effect."),
    ma.nullable("grace_until", "date", "Last day of the grace period after a failed payment."),
    ma.Column(
        "pause_reason",
        "string",
        "Reason for the pause.",
        nullable=True,
        allowed=PAUSE_REASONS,
    ),
)
_METADATA_KEYS = {"pause_reason": "reason"}

TABLE = ma.declare_table(
    "bronze_subscription_events",
    grain="one billing or subscription fact of an account, or one deletion of a user",
    description="Which billing facts are recorded for accounts, and which users were deleted? Rows"
    " follow the event schema; additional columns contain the metadata values after the change.",
    key=("event_id",),
    columns=(*EVENT_COLUMNS, *_FROM_METADATA),
)


def classify(
    rows: ir.Table, users: ir.Table, accounts: ir.Table, catalog: ir.Table, *, earliest: date
) -> ir.Table:
    """Return typed rows, each with its rejection reason (null if accepted)."""
    rows = rank_events(read_events(rows, TABLE, earliest))
    rows, rules = event_rules(rows, TABLE, users=users, catalog=catalog, deletions=None)
    of_account = ibis.ifelse(rows.entity_type == "account", rows.entity_id, None)
    rows, unknown_account = ma.unknown_reference(
        rows.mutate(account_id=of_account), "account_id", accounts, "unknown_account"
    )
    document = ibis.ifelse(_unreadable_metadata(rules), None, rows.metadata)
    texts = {
        column.name: text_at(document, _METADATA_KEYS.get(column.name, column.name))
        for column in _FROM_METADATA
    }
    # Other events may have reasons with other values.
    paused = rows.event_type == "subscription_paused"
    texts["pause_reason"] = ibis.ifelse(paused, texts["pause_reason"], None)
    values = {
        column.name: ma.read_as(texts[column.name], column.dtype) for column in _FROM_METADATA
    }
    misread: list[ma.Rejection] = [
        (
            f"unreadable_metadata_{column.name}",
            texts[column.name].notnull() & values[column.name].isnull(),
        )
        for column in _FROM_METADATA
        if not column.dtype.is_string()
    ]
    known: list[ma.Rejection] = [
        (f"unknown_{column.name}", values[column.name].notin(column.allowed))
        for column in _FROM_METADATA
        if column.allowed
    ]
    fits_entity = ((rows.entity_type == "account") & rows.event_type.isin(ACCOUNT_EVENT_TYPES)) | (
        (rows.entity_type == "user") & rows.event_type.isin(USER_EVENT_TYPES)
    )
    classified = ma.with_reason(
        rows,
        [
            *rules,
            unknown_account,
            ("unknown_subscription_event", ~fits_entity),
            *misread,
            *known,
            ("negative_total_seats", values["total_seats"] < 0),
            ("negative_monthly_recurring_revenue", values["monthly_recurring_revenue"] < 0),
        ],
    )
    return classified.mutate(**values)


def deletions(subscription_events: ir.Table) -> ir.Table:
    """Return the first deletion date of each deleted user: `user_id`, `deleted_on`."""
    deleted = subscription_events.filter(subscription_events.event_type.isin(USER_EVENT_TYPES))
    return deleted.group_by(user_id=deleted.entity_id).aggregate(
        deleted_on=deleted.event_date.min()
    )


def _unreadable_metadata(rules: list[ma.Rejection]) -> ir.BooleanValue:
    return dict(rules)["unreadable_metadata"].fill_null(False)
