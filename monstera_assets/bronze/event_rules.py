"""The event schema and its rules, shared by bronze_events and bronze_subscription_events."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.json_text import is_json_object

ENTITY_TYPES = ("user", "admin", "system", "account")
LOCATIONS = ("web_app", "mobile_app", "desktop_app", "api")

_EVENT_TYPE = "^[a-z][a-z0-9]*(_[a-z0-9]+)+$"

SOURCE_NAMES = {"event_timestamp": "timestamp"}
"""Columns with a different name in the source."""

REQUIRED = (
    "event_id",
    "entity_id",
    "entity_type",
    "event_type",
    "timestamp",
    "location",
    "is_qualifying_event",
    "is_activation_event",
)
OPTIONAL = ("session_id", "product_id", "metadata", "received_at")

EVENT_COLUMNS = (
    ma.Column("event_id", "string", "Identifier of the event."),
    ma.Column("entity_id", "string", "Identifier of the entity that the event is about."),
    ma.Column("entity_type", "string", "Type of the entity.", allowed=ENTITY_TYPES),
    ma.Column("event_type", "string", "Type of the event: [object or product]_[action]."),
    ma.Column("event_timestamp", "timestamp", "Time of the event, UTC."),
    ma.Column("event_date", "date", "UTC date of the event."),
    ma.Column("location", "string", "App or interface that sent the event.", allowed=LOCATIONS),
    ma.nullable("session_id", "string", "Session in which the event occurred, if any."),
    ma.product_column(
        "product_id", "Product, feature or sub-feature of the event, if any.", nullable=True
    ),
    ma.Column(
        "is_qualifying_event", "boolean", "Whether the event is intentional, value-creating work."
    ),
    ma.Column(
        "is_activation_event", "boolean", "Whether the event activates the user in the product."
    ),
    ma.Column("metadata", "string", "Additional facts, as a JSON object.", nullable=True),
    ma.Column("received_at", "timestamp", "Time when the event was received, UTC.", nullable=True),
)


def trusted_date(moment: ir.TimestampColumn, earliest: date) -> ir.DateColumn:
    """Return the UTC date of a moment, or null if the moment is unreadable or before `earliest`."""
    return ibis.ifelse(moment >= earliest, moment.date(), None)


def read_events(rows: ir.Table, table: ma.Table, earliest: date) -> ir.Table:
    """Return typed event rows, with `event_date` from `trusted_date`."""
    rows = ma.typed(rows, table, SOURCE_NAMES)
    return rows.mutate(event_date=trusted_date(rows.event_timestamp, earliest))


def rank_events(rows: ir.Table, *, by_day: bool = False) -> ir.Table:
    """Add `duplicate_rank` to typed event rows, within each folder if the input has one per day."""
    return ma.rank_duplicates(
        rows,
        ["event_id", "folder_date"] if by_day else ["event_id"],
        [rows.event_timestamp, rows.source_file, ma.raw_row(rows)],
    )


def event_rules(
    rows: ir.Table,
    table: ma.Table,
    *,
    users: ir.Table,
    catalog: ir.Table,
    deletions: ir.Table | None,
) -> tuple[ir.Table, list[ma.Rejection]]:
    """Return the rows joined to their lookups, and the event rules in order (framework, section 2).

    `rows` come from `rank_events`; without `deletions`, the rule for deletions is omitted.
    """
    rows, unknown_product = ma.unknown_reference(rows, "product_id", catalog, "unknown_product")
    people = users.select(person_id=users.user_id, person_created_on=users.user_created_at.date())
    rows = rows.left_join(people, rows.entity_id == people.person_id)
    if deletions is not None:
        gone = deletions.select(gone_id=deletions.user_id, gone_on=deletions.deleted_on)
        rows = rows.left_join(gone, rows.entity_id == gone.gone_id).drop("gone_id")
    is_user = rows.entity_type == "user"
    rules: list[ma.Rejection] = [
        *ma.missing(rows, REQUIRED),
        ("duplicate_event_id", rows.duplicate_rank > 0),
        *ma.unreadable(rows, ["event_timestamp"], SOURCE_NAMES),
        ("before_earliest_event_date", rows.event_date.isnull()),
        ("not_on_date_of_folder", rows.event_date != rows.folder_date),
        *ma.unknown_values(rows, [each for each in EVENT_COLUMNS if each.allowed]),
        ("invalid_event_type", ~rows.event_type.re_search(_EVENT_TYPE)),
        ("unknown_user", is_user & rows.person_id.isnull()),
        ("before_user_creation", is_user & (rows.event_date < rows.person_created_on)),
    ]
    if deletions is not None:
        rules.append(("after_user_deletion", is_user & (rows.event_date > rows.gone_on)))
    rules += [
        unknown_product,
        *ma.unreadable(rows, ["is_qualifying_event", "is_activation_event", "received_at"]),
        ("unreadable_metadata", rows.metadata.notnull() & ~is_json_object(rows.metadata)),
        ("activation_not_qualifying", rows.is_activation_event & ~rows.is_qualifying_event),
    ]
    return rows, rules
