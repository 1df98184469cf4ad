"""Define the event schema and rules that bronze_events and bronze_subscription_events share."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.aliases import with_merged_ids
from monstera_assets.bronze.json_text import is_json_object
from monstera_assets.bronze.reading import Reading, has_at_sign
from monstera_assets.lifecycle.expressions import parameter

ENTITY_TYPES = ("user", "admin", "system", "account")
LOCATIONS = ("web_app", "mobile_app", "desktop_app", "api")

LAST_DAY = "events_last_day"
"""Query parameter: the last day that this run or an earlier run covers."""

_EVENT_TYPE = "^[a-z][a-z0-9]*(_[a-z0-9]+)+$"
_FLAGS = ("is_qualifying_event", "is_activation_event")

SOURCE_NAMES = {"event_timestamp": "timestamp"}
"""Source column names that differ from the table's column names, keyed by table column."""

REQUIRED = ("entity_id", "event_type", "timestamp")
# Stored digests depend on this column order.
SOURCE_COLUMNS = (
    *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
    *(*_FLAGS, "session_id", "product_id", "metadata", "received_at"),
)

EVENT_COLUMNS = (
    ma.Column("event_id", "string", "The event's id, or a hash of the row if the row has no id."),
    ma.Column("entity_id", "string", "Id of the entity that the event is about."),
    ma.Column("entity_type", "string", "The entity's type.", allowed=ENTITY_TYPES),
    ma.Column(
        "event_type", "string", "The event's type, in the form [object or product]_[action]."
    ),
    ma.Column("event_timestamp", "timestamp", "Time of the event in UTC."),
    ma.Column("event_date", "date", "The event's local date."),
    ma.Column("location", "string", "App or interface that sent the event.", allowed=LOCATIONS),
    ma.nullable(
        "session_id", "string", "Session in which the event occurred, or null if there is none."
    ),
    ma.product_column(
        "product_id",
        "Product, feature or sub-feature of the event, or null if there is none.",
        nullable=True,
    ),
    ma.Column(
        "is_qualifying_event",
        "boolean",
        "Whether the event represents intentional, value-creating work.",
    ),
    ma.Column(
        "is_activation_event", "boolean", "Whether the event activates the user in the product."
    ),
    ma.Column("metadata", "string", "Additional data as a JSON object.", nullable=True),
    ma.Column(
        "received_at", "timestamp", "Time at which the event was received in UTC.", nullable=True
    ),
)

_CONTENT = tuple(
    column.name
    for column in EVENT_COLUMNS
    if column.name not in ("event_id", "event_date", "received_at")
)
"""Columns that determine whether two rows with the same id represent the same event."""


def with_ids(rows: ir.Table, table: ma.Table, reading: Reading) -> ir.Table:
    """Add `filled_id`, which is the row's id or, if the row has no id, a hash of the row's content."""
    typed = ma.typed(rows, table.columns, reading, SOURCE_NAMES)
    places = ("source_file", "folder_date", "row_number")
    raw = {name: typed[name if name in places else f"raw_{name}"] for name in rows.columns}
    return typed.select(**raw, filled_id=ibis.coalesce(typed.event_id, content(typed)))


def read_events(rows: ir.Table, table: ma.Table, reading: Reading) -> ir.Table:
    """Convert staged rows or rows from `with_ids` to typed event rows, and add `event_date`."""
    rows = ma.typed(rows, table.columns, reading, SOURCE_NAMES)
    if "raw_filled_id" in rows.columns:
        rows = rows.mutate(event_id=rows.raw_filled_id).drop("raw_filled_id")
    return rows.mutate(event_date=reading.trusted_date(rows.event_timestamp))


NO_ID = -1
"""The key of rows without an id. All other keys are positive."""


def event_key(rows: ir.Table) -> ir.IntegerValue:
    """Return the hash of each staged row's id."""
    return (rows.filled_id if "filled_id" in rows.columns else rows.event_id.cast("string")).hash()


def repeated_keys(rows: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return the keys (`repeated_key`) of staged ids that may occur more than once.

    Most ids occur only once, and only rows with repeated ids need to be ordered. Keys are hashes, so a
    hash collision only causes additional rows to be ordered. If any row has no id, the result contains
    `NO_ID`, so that one scan finds both repeated and missing ids.
    """
    has_id = reading.text(rows.event_id).notnull() if "filled_id" not in rows.columns else True
    keys = rows.select(repeated_key=ibis.ifelse(has_id, event_key(rows), NO_ID))
    counted = keys.group_by("repeated_key").aggregate(times=keys.repeated_key.count())
    counted = counted.filter((counted.times > 1) | (counted.repeated_key == NO_ID))
    return counted.select("repeated_key")


def content(rows: ir.Table) -> ir.StringValue:
    """Return a hash of each typed row's values, excluding the id and the time of receipt."""
    said = ibis.struct({name: rows[name] for name in _CONTENT})
    return said.cast("json").cast("string").hexdigest("md5")


def rows_so_far(rows: ir.Table) -> ir.Table:
    """Drop typed rows dated after `LAST_DAY`, because future rows do not supersede other rows yet."""
    last_day = parameter(LAST_DAY, "date")
    return rows.filter(~(rows.event_date > last_day).fill_null(False))


def rank_events(rows: ir.Table) -> ir.Table:
    """Add `later_rows`, the number of later rows with the same id, to typed event rows.

    Rows are ordered by time of receipt, file name and position in the file. Rows without a time of
    receipt come first. Rows without a readable date are not ranked.
    """
    is_dated = rows.event_date.notnull()
    later = ibis.row_number().over(
        ibis.window(group_by=[rows.event_id, is_dated], order_by=_latest_first(rows))
    )
    return rows.mutate(later_rows=ibis.ifelse(is_dated, later, 0).cast("int64"))


def settle_repeated(rows: ir.Table) -> ir.Table:
    """Set rejection reasons for accepted rows that share an id (framework, section 2).

    Only the last row with each id is kept. An earlier row is `repeated` if a later row has the same
    content, and `superseded` otherwise. Rows must have a `content_hash` column, which contains the
    result of `content`.
    """
    rows = rows.mutate(is_accepted=rows[ma.REASON].isnull())
    order_by = _latest_first(rows)

    def is_last(*group_by: str) -> ir.BooleanValue:
        return (
            ibis.row_number().over(
                ibis.window(group_by=["event_id", "is_accepted", *group_by], order_by=order_by)
            )
            == 0
        )

    rows = rows.mutate(is_last=is_last(), is_last_of_content=is_last("content_hash"))
    reason = ibis.cases(
        (~rows.is_accepted, rows[ma.REASON]),
        (rows.is_last, None),
        (rows.is_last_of_content, ma.SUPERSEDED),
        else_=ma.REPEATED,
    )
    return rows.mutate(**{ma.REASON: reason}).drop(
        "is_accepted", "content_hash", "is_last", "is_last_of_content"
    )


def _latest_first(rows: ir.Table) -> list[ir.Value]:
    return [
        ibis.desc(rows.received_at, nulls_first=False),
        rows.source_file.desc(),
        rows.row_number.desc(),
    ]


def event_rules(
    rows: ir.Table,
    reading: Reading,
    *,
    entities: ir.Table | None,
    catalog: ir.Table,
    default_entity_type: ir.StringValue | str,
    may_qualify: bool = True,
    aliases: ir.Table | None = None,
) -> tuple[ir.Table, list[ma.Rejection]]:
    """Add defaults, flags and faults to rows, and return the rows and the ordered rules.

    For the rules, see section 2 of the framework.

    Args:
        rows: rows from `read_events`.
        reading: rules for reading values.
        entities: the result of `known_entities`, or None to accept any entity.
        catalog: bronze_product_catalog.
        default_entity_type: the entity type for rows that do not specify an entity type.
        may_qualify: whether the catalog determines the rows' flags.
        aliases: the result of `merging_aliases`. If not None, ids of users are replaced.
    """
    if aliases is not None:
        entity_type = ibis.coalesce(rows.entity_type, default_entity_type)
        rows = with_merged_ids(rows.mutate(entity_type=entity_type), aliases)
    rows, unknown_product = ma.unknown_reference(rows, "product_id", catalog, "unknown_product")
    if entities is not None:
        rows = rows.left_join(entities, rows.entity_id == entities.known_id)
    rows = rows.mutate(
        entity_type=ibis.coalesce(rows.entity_type, default_entity_type),
        location=rows.location.fill_null("api"),
    )
    optional = dict(ma.unreadable(rows, [*_FLAGS, "received_at"]))
    rows = rows.mutate(**optional)
    if may_qualify:
        rows = _with_flags(rows, catalog)
        about_flags = [
            ("event_without_product", rows.is_listed & rows.product_id.isnull()),
            ("flag_differs_from_catalog", rows.is_listed & rows.is_overruled),
            (
                "qualifying_type_in_no_list",
                ~rows.is_listed & rows.catalog_has_lists & rows.is_qualifying_event,
            ),
            ("qualifies_by_default", rows.is_unsaid),
        ]
    else:
        activates = rows.is_activation_event.fill_null(False)
        rows = rows.mutate(
            is_qualifying_event=rows.is_qualifying_event.fill_null(False) | activates,
            is_activation_event=activates,
        )
        about_flags = []
    has_address = (rows.metadata.notnull() & has_at_sign(rows.metadata)).fill_null(False)
    cleaned = reading.metadata(rows.metadata)
    faults: list[ma.Rejection] = [
        *about_flags,
        ("email_in_metadata", has_address & cleaned.contains("[email]")),
        *((name, rows[name]) for name in optional),
    ]
    rules: list[ma.Rejection] = [
        *ma.missing(rows, REQUIRED),
        *ma.unknown_values(rows, [each for each in EVENT_COLUMNS if each.allowed]),
        ("invalid_event_type", ~rows.event_type.re_search(_EVENT_TYPE)),
        ("unreadable_metadata", rows.metadata.notnull() & ~is_json_object(rows.metadata)),
        *ma.unreadable(rows, ["event_timestamp"], SOURCE_NAMES),
        ("before_earliest_event_date", rows.event_date.isnull()),
        ("not_on_date_of_folder", rows.event_date != rows.folder_date),
    ]
    if entities is not None:
        is_user, is_account = rows.entity_type == "user", rows.entity_type == "account"
        rules += [
            ("unknown_user", is_user & rows.signup_date.isnull()),
            ("unknown_account", is_account & ~rows.is_account.fill_null(False)),
            ("before_user_creation", is_user & (rows.event_date < rows.signup_date)),
            ("after_user_deletion", is_user & (rows.event_date > rows.deleted_on)),
        ]
    rules.append(unknown_product)
    return rows.mutate(clean_metadata=cleaned, **{ma.FAULTS: ma.fault_names(faults)}), rules


def classified(rows: ir.Table, rules: Sequence[ma.Rejection]) -> ir.Table:
    """Add a rejection reason to each row from `event_rules`, and clean the row's metadata."""
    judged = ma.with_reason(rows, rules)
    return judged.mutate(metadata=judged.clean_metadata)


def known_entities(users: ir.Table, accounts: ir.Table, deletions: ir.Table | None) -> ir.Table:
    """Return one row per user or account id.

    The columns are `known_id`, `signup_date` (null if the id is not a user id), `deleted_on` (null
    unless the user was deleted) and `is_account`.
    """
    people = users.select(known_id=users.user_id, signup_date=users.signup_date)
    if deletions is None:
        people = people.mutate(deleted_on=ibis.null("date"))
    else:
        people = people.left_join(
            deletions.select(known_id="user_id", deleted_on="deleted_on"), "known_id"
        ).drop("known_id_right")
    people = people.mutate(is_account=ibis.literal(False))
    companies = accounts.select(
        known_id=accounts.account_id,
        signup_date=ibis.null("date"),
        deleted_on=ibis.null("date"),
        is_account=ibis.literal(True),
    )
    both = people.union(companies)
    return both.group_by("known_id").aggregate(
        signup_date=both.signup_date.max(),
        deleted_on=both.deleted_on.max(),
        is_account=both.is_account.any(),
    )


def listed_types(catalog: ir.Table) -> ir.Table:
    """Return the event types in each node's lists and in the lists of the node's ancestors.

    The columns are `node_id`, `listed_type` and `activates`. Events without a product, to which all
    lists apply, have an empty `node_id`.
    """
    own = ibis.union(
        *(
            catalog.filter(catalog[f"{kind}_event_types"] != "").select(
                listing_id=catalog.product_id,
                listed_type=catalog[f"{kind}_event_types"].split("|").unnest().strip(),
                activates=ibis.literal(kind == "activation"),
            )
            for kind in ("qualifying", "activation")
        )
    )
    own = own.filter(own.listed_type != "")
    applying = own.select(
        node_id=ibis.literal(""), listed_type=own.listed_type, activates=own.activates
    )
    above = catalog.select(node_id=catalog.product_id, above_id=catalog.product_id)
    for _ in range(4):  # the taxonomy has at most four tiers
        found = above.inner_join(own, above.above_id == own.listing_id)
        applying = applying.union(found.select("node_id", "listed_type", "activates"))
        parents = catalog.select(child_id=catalog.product_id, parent_id=catalog.parent_product_id)
        above = above.inner_join(parents, above.above_id == parents.child_id).select(
            "node_id", above_id="parent_id"
        )
        above = above.filter(above.above_id.notnull())
    return applying.group_by("node_id", "listed_type").aggregate(activates=applying.activates.any())


def _with_flags(rows: ir.Table, catalog: ir.Table) -> ir.Table:
    """Set the event flags, and add `is_listed`, `is_overruled`, `is_unsaid` and `catalog_has_lists`."""
    listed = listed_types(catalog)
    has_lists = listed.aggregate(has_lists=listed.count() > 0)
    node = ibis.coalesce(rows.product_id, "")
    joined = rows.left_join(
        listed, [node == listed.node_id, rows.event_type == listed.listed_type]
    ).cross_join(has_lists)
    is_listed = joined.activates.notnull()
    qualifies, activates = joined.is_qualifying_event, joined.is_activation_event
    # An event without flags qualifies if the catalog does not contain any lists.
    unsaid = ~joined.has_lists & qualifies.isnull() & activates.isnull()
    own = qualifies.fill_null(False) | activates.fill_null(False) | unsaid
    overruled = ~qualifies.fill_null(True) | (
        activates.fill_null(joined.activates) != joined.activates
    )
    return joined.mutate(
        is_listed=is_listed,
        is_overruled=overruled.fill_null(False),
        is_unsaid=unsaid,
        catalog_has_lists=joined.has_lists,
        is_qualifying_event=ibis.ifelse(is_listed, True, own),
        is_activation_event=ibis.coalesce(joined.activates, activates, False),
    ).drop("node_id", "listed_type", "activates", "has_lists")
