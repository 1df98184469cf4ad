"""silver_events_enriched: accepted events with product, user and account attributes."""

from __future__ import annotations

from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_accounts import SUBSCRIPTION_TIERS
from monstera_assets.bronze.bronze_product_catalog import product_of_node
from monstera_assets.bronze.event_rules import EVENT_COLUMNS

_KEPT = (
    *("event_id", "entity_id", "entity_type", "event_type", "event_timestamp", "event_date"),
    *("location", "session_id", "is_qualifying_event", "is_activation_event", "metadata"),
)
_OF_USERS = ("account_id", "country", "plan_type", "acquisition_source", "account_tier")

TABLE = ma.declare_table(
    "silver_events_enriched",
    grain="one event",
    description="Which product, user and account does each accepted event belong to? User and"
    " account attributes come from the latest rows and are null for events of other entity types.",
    key=("event_id",),
    partition_column="event_date",
    columns=(
        *(column for column in EVENT_COLUMNS if column.name in _KEPT),
        ma.product_column(
            "product_id",
            "Product to which the event rolls up; null for events without a product.",
            nullable=True,
        ),
        ma.product_column(
            "feature_id",
            "Feature or sub-feature named in the event; null if none.",
            nullable=True,
        ),
        replace(ma.ACCOUNT_OF_USER, nullable=True),
        ma.nullable("country", "string", "User's country; null for other entities."),
        ma.nullable("plan_type", "string", "User's plan; null for other entities."),
        ma.nullable(
            "acquisition_source", "string", "User's acquisition source; null for other entities."
        ),
        ma.Column(
            "account_tier",
            "string",
            "Tier of the user's account.",
            nullable=True,
            allowed=SUBSCRIPTION_TIERS,
        ),
        ma.nullable(
            "days_since_signup", "int64", "Days from signup to the event; null for other entities."
        ),
    ),
)


@ma.table_asset(TABLE, days={"bronze_events": ma.SAME_DAYS})
def silver_events_enriched(
    bronze_events: ir.Table,
    bronze_product_catalog: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
) -> ir.Table:
    """Join the events to the catalog, users and accounts."""
    nodes = product_of_node(bronze_product_catalog).rename(rolled_up_product_id="product_id")
    people = bronze_users.inner_join(
        bronze_accounts.select("account_id", account_tier="subscription_tier"), "account_id"
    ).select("user_id", *_OF_USERS, signup_day=ma.day_number(bronze_users.user_created_at.date()))
    events = bronze_events.left_join(nodes, bronze_events.product_id == nodes.node_id)
    events = events.left_join(
        people, [events.entity_id == people.user_id, events.entity_type == "user"]
    )
    return events.select(
        *_KEPT,
        *_OF_USERS,
        product_id=events.rolled_up_product_id,
        feature_id=ibis.ifelse(
            events.product_id != events.rolled_up_product_id, events.product_id, None
        ),
        days_since_signup=ma.day_number(events.event_date) - events.signup_day,
    )


@ma.rule(TABLE)
def typed_events_have_a_product(
    silver_events_enriched: ir.Table, bronze_product_catalog: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Every event whose event type belongs to a product has a product."""
    events = ma.within(silver_events_enriched, "event_date", window)
    events = events.filter(events.product_id.isnull())
    listed = catalog_event_types(bronze_product_catalog).select("event_type").distinct()
    return events.semi_join(listed, "event_type").select("event_id", "event_date", "event_type")


@ma.rule(TABLE)
def flags_agree_with_catalog(
    silver_events_enriched: ir.Table, bronze_product_catalog: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Qualifying and activation flags match the catalog wherever it lists event types."""
    events = ma.within(silver_events_enriched, "event_date", window)
    events = events.filter(events.product_id.notnull())
    listed = catalog_event_types(bronze_product_catalog)
    has_lists = listed.select(listing_id=listed.node_id).distinct()
    named = events.left_join(has_lists, events.feature_id == has_lists.listing_id)
    named = named.mutate(lists_of=ibis.coalesce(named.listing_id, named.product_id))
    named = named.semi_join(has_lists, named.lists_of == has_lists.listing_id)
    listed = listed.rename(lists_of="node_id")
    both = ma.left_joined(named, listed, on=["lists_of", "event_type"])
    qualifies = both.qualifies.fill_null(False)
    activates = both.activates.fill_null(False)
    return both.filter(
        (both.is_qualifying_event != qualifies) | (both.is_activation_event != activates)
    ).select("event_id", "event_date", "event_type", "lists_of")


@ma.rule(TABLE)
def no_email_leaves_bronze(
    silver_events_enriched: ir.Table, bronze_users: ir.Table, *, window: ma.Window
) -> ir.Table:
    """No event's `metadata` contains a user's email address.

    `metadata` is the only free-text column in silver and gold. Tests cover every other column.
    """
    events = ma.within(silver_events_enriched, "event_date", window)
    events = events.filter(events.metadata.contains("@"))
    columns = ("event_id", "event_date", "event_type")
    words = events.select(
        *columns, word=events.metadata.lower().re_split(r"[^\pL\pN_@.+%-]+").unnest()
    )
    words = words.filter(words.word.contains("@"))
    addresses = bronze_users.select(address=bronze_users.email.lower()).distinct()
    found = words.semi_join(
        addresses, words.word.re_replace(r"^[.]+|[.]+$", "") == addresses.address
    )
    return found.select(*columns).distinct()


def catalog_event_types(catalog: ir.Table) -> ir.Table:
    """Return the event types listed in the catalog, with one row per node and event type.

    Columns: `node_id`, `event_type`, `qualifies`, `activates`.
    """
    listed = ibis.union(
        *(
            catalog.filter(catalog[f"{kind}_event_types"] != "").select(
                node_id=catalog.product_id,
                event_type=catalog[f"{kind}_event_types"].split("|").unnest(),
                kind=ibis.literal(kind),
            )
            for kind in ("qualifying", "activation")
        )
    )
    return listed.group_by("node_id", "event_type").aggregate(
        qualifies=(listed.kind == "qualifying").any(), activates=(listed.kind == "activation").any()
    )
