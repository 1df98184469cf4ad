"""bronze_subscription_events: account billing facts and user deletions."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze import event_rules
from monstera_assets.bronze.event_rules import (
    EVENT_COLUMNS,
    known_entities,
    read_events,
    settle_repeated,
)
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

# Columns that are read from metadata. The values apply after the change.
_FROM_METADATA = (
    ma.Column("total_seats", "int64", "Number of seats after the change.", nullable=True),
    ma.Column(
        "monthly_recurring_revenue",
        "decimal(18, 2)",
        "Monthly recurring revenue after the change, as stated.",
        nullable=True,
    ),
    ma.Column(
        "currency",
        "string",
        "Currency of the monthly recurring revenue, or null for the reporting currency.",
        nullable=True,
    ),
    ma.nullable(
        "subscription_id",
        "string",
        "Subscription that the fact belongs to, if the metadata contains one.",
    ),
    ma.Column(
        "subscription_tier",
        "string",
        "Subscription tier after the change.",
        nullable=True,
    ),
    ma.Column(
        "contract_renewal_date", "date", "Contract renewal date after the change.", nullable=True
    ),
    ma.nullable("effective_date", "date", "Date on which a cancellation takes effect."),
    ma.nullable("grace_until", "date", "Last day of the grace period after a failed payment."),
    ma.Column(
        "pause_reason",
        "string",
        "Reason for the pause. Any reason other than seasonal is stored as voluntary_pause.",
        nullable=True,
        allowed=PAUSE_REASONS,
    ),
)
_METADATA_KEYS = {"pause_reason": "reason"}

TABLE = ma.declare_table(
    "bronze_subscription_events",
    group=ma.AssetGroup.REVENUE,
    grain="one billing or subscription fact for an account, or one user deletion",
    description="Which billing facts are recorded for accounts, and which users were deleted? Rows"
    " follow the event schema, and additional columns contain metadata values after the change.",
    key=("event_id",),
    columns=(*EVENT_COLUMNS, *_FROM_METADATA, ma.FAULTS_COLUMN),
)


SOURCE_COLUMNS, REQUIRED = event_rules.SOURCE_COLUMNS, event_rules.REQUIRED


def classify(
    rows: ir.Table,
    users: ir.Table,
    accounts: ir.Table,
    catalog: ir.Table,
    *,
    reading: ma.Reading,
    aliases: ir.Table | None = None,
) -> ir.Table:
    """Return typed rows with a rejection reason, which is null for accepted rows.

    If there are `aliases`, ids of users are replaced. The deletion of an alias is set aside.
    """
    rows = read_events(rows, TABLE, reading)
    rows = rows.mutate(content_hash=event_rules.content(rows))
    is_deletion = rows.event_type.isin(USER_EVENT_TYPES)
    rows, rules = event_rules.event_rules(
        rows,
        reading,
        entities=known_entities(users, accounts, None),
        catalog=catalog,
        default_entity_type=ibis.ifelse(is_deletion, "user", "account"),
        may_qualify=False,
        aliases=aliases,
    )
    # Each step becomes columns that the next step reads. A nested expression would be repeated in
    # the SQL, which DuckDB would take much longer to plan than to run.
    is_document = ~dict(rules)["unreadable_metadata"].fill_null(False)
    rows = rows.mutate(
        document=ibis.ifelse(is_document, rows.metadata, None),
        clean_document=ibis.ifelse(is_document, rows.clean_metadata, None),
    )
    rows = rows.mutate(
        **{
            f"found_{column.name}": text_at(
                rows.document, _METADATA_KEYS.get(column.name, column.name)
            )
            for column in _FROM_METADATA
        }
    )
    texts = {column.name: reading.text(rows[f"found_{column.name}"]) for column in _FROM_METADATA}
    seasonal, voluntary = PAUSE_REASONS
    texts["pause_reason"] = ibis.cases(
        (rows.event_type != "subscription_paused", None),
        (texts["pause_reason"] == seasonal, seasonal),
        (texts["pause_reason"].notnull(), voluntary),
    )
    # Checks show ids, so an address in an id is replaced as in the metadata.
    for name in ("subscription_id", "currency"):
        texts[name] = reading.text(text_at(rows.clean_document, name))
    texts["currency"] = texts["currency"].strip().upper()
    rows = rows.mutate(**{f"text_{name}": text for name, text in texts.items()})
    given = {column: f"text_{column.name}" for column in _FROM_METADATA}
    rows = ma.with_values(rows, given, reading)
    rows = rows.mutate(
        **{
            name: ibis.ifelse(rows[name] < 0, None, rows[name])
            for name in ("total_seats", "monthly_recurring_revenue")
        }
    )
    faults: list[ma.Rejection] = [
        *(
            (f"unreadable_{name}", rows[f"text_{name}"].notnull() & rows[name].isnull())
            for name in ma.column_names(_FROM_METADATA)
        ),
        ("unknown_subscription_tier", rows.subscription_tier.notin(reading.tiers)),
    ]
    fits_entity = ((rows.entity_type == "account") & rows.event_type.isin(ACCOUNT_EVENT_TYPES)) | (
        (rows.entity_type == "user") & rows.event_type.isin(USER_EVENT_TYPES)
    )
    found = ibis.literal(",").join([rows[ma.FAULTS], ma.fault_names(faults)]).nullif("")
    rules.append(("unknown_subscription_event", ~fits_entity))
    if aliases is not None:
        rules.append((ma.MERGED, is_deletion & rows[ma.UNDER_ALIAS]))
    judged = event_rules.classified(rows.mutate(**{ma.FAULTS: found}), rules)
    return settle_repeated(judged)


def deletions(subscription_events: ir.Table) -> ir.Table:
    """Return `user_id` and the first deletion date, `deleted_on`, for each deleted user."""
    deleted = subscription_events.filter(subscription_events.event_type.isin(USER_EVENT_TYPES))
    return deleted.group_by(user_id=deleted.entity_id).aggregate(
        deleted_on=deleted.event_date.min()
    )
