"""What bronze_events and bronze_subscription_events share: the event schema and its rules."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.json_text import is_json_object
from monstera_assets.bronze.validation import (
    Rule,
    missing,
    rank_duplicates,
    raw_row,
    typed,
    unknown_reference,
    unknown_values,
    unreadable,
)
from monstera_assets.warehouse.common_columns import product_column
from monstera_assets.warehouse.tables import Column, Table

ENTITY_TYPES = ("user", "admin", "system", "account")
LOCATIONS = ("web_app", "mobile_app", "desktop_app", "api")

_EVENT_TYPE = "^[a-z][a-z0-9]*(_[a-z0-9]+)+$"

SOURCE_NAMES = {"event_timestamp": "timestamp"}
"""Columns that the source calls otherwise."""

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
    Column("event_id", "string", "Identifier of the event."),
    Column("entity_id", "string", "Who or what the event is about."),
    Column("entity_type", "string", "Kind of the entity.", allowed=ENTITY_TYPES),
    Column("event_type", "string", "What happened, as [object or product]_[action]."),
    Column("event_timestamp", "timestamp", "When it happened, UTC."),
    Column("event_date", "date", "UTC date of the event."),
    Column("location", "string", "Where it happened.", allowed=LOCATIONS),
    Column("session_id", "string", "Session of the event, if any.", nullable=True),
    product_column(
        "product_id", "Product, feature or sub-feature of the event, if any.", nullable=True
    ),
    Column("is_qualifying_event", "boolean", "Whether it is intentional, value-creating work."),
    Column("is_activation_event", "boolean", "Whether it activates the user in the product."),
    Column("metadata", "string", "Further facts as a JSON object.", nullable=True),
    Column("received_at", "timestamp", "When the source received it, UTC.", nullable=True),
)


def trusted_date(moment: ir.TimestampColumn, earliest: date) -> ir.DateColumn:
    """The UTC date of a moment; null where no date can be trusted."""
    return ibis.ifelse(moment >= earliest, moment.date(), None)


def read_events(rows: ir.Table, table: Table, earliest: date) -> ir.Table:
    """Typed event rows; `event_date` is null where no date can be trusted."""
    rows = typed(rows, table, SOURCE_NAMES)
    return rows.mutate(event_date=trusted_date(rows.event_timestamp, earliest))


def rank_events(rows: ir.Table, *, by_day: bool = False) -> ir.Table:
    """Add `duplicate_rank` to typed event rows.

    In a layout by day the rows of each folder are ranked by themselves.
    """
    return rank_duplicates(
        rows,
        ["event_id", "folder_date"] if by_day else ["event_id"],
        [rows.event_timestamp, rows.source_file, raw_row(rows)],
    )


def event_rules(
    rows: ir.Table,
    table: Table,
    *,
    users: ir.Table,
    catalog: ir.Table,
    deletions: ir.Table | None,
) -> tuple[ir.Table, list[Rule]]:
    """The event rules in the framework's order (section 2), and the rows joined to what they need.

    Args:
        rows: as `rank_events` gives them.
        table: the declaration of the event table.
        users: bronze_users.
        catalog: bronze_product_catalog.
        deletions: `user_id` and `deleted_on`; None to leave that rule out.
    """
    rows, unknown_product = unknown_reference(
        rows, "product_id", catalog, "product_id", "unknown_product"
    )
    people = users.select(person_id=users.user_id, person_created_on=users.user_created_at.date())
    rows = rows.left_join(people, rows.entity_id == people.person_id)
    if deletions is not None:
        gone = deletions.select(gone_id=deletions.user_id, gone_on=deletions.deleted_on)
        rows = rows.left_join(gone, rows.entity_id == gone.gone_id).drop("gone_id")
    is_user = rows.entity_type == "user"
    rules: list[Rule] = [
        *missing(rows, REQUIRED),
        ("duplicate_event_id", rows.duplicate_rank > 0),
        *unreadable(rows, {"event_timestamp": "timestamp"}),
        ("before_earliest_event_date", rows.event_date.isnull()),
        ("not_on_date_of_folder", rows.event_date != rows.folder_date),
        *unknown_values(rows, table, ["entity_type", "location"]),
        ("invalid_event_type", ~rows.event_type.re_search(_EVENT_TYPE)),
        ("unknown_user", is_user & rows.person_id.isnull()),
        ("before_user_creation", is_user & (rows.event_date < rows.person_created_on)),
    ]
    if deletions is not None:
        rules.append(("after_user_deletion", is_user & (rows.event_date > rows.gone_on)))
    rules += [
        unknown_product,
        *unreadable(
            rows,
            {name: name for name in ("is_qualifying_event", "is_activation_event", "received_at")},
        ),
        ("unreadable_metadata", rows.metadata.notnull() & ~is_json_object(rows.metadata)),
        ("activation_not_qualifying", rows.is_activation_event & ~rows.is_qualifying_event),
    ]
    return rows, rules
