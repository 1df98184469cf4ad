"""silver_events_enriched: accepted events with product, user and account attributes."""

from __future__ import annotations

from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import PRODUCT_TIERS, product_of_node
from monstera_assets.bronze.event_rules import EVENT_COLUMNS
from monstera_assets.lifecycle.billing import billing_intervals

_KEPT = (
    *("event_id", "entity_id", "entity_type", "event_type", "event_timestamp", "event_date"),
    *("location", "session_id", "is_qualifying_event", "is_activation_event", "metadata"),
)
_OF_USERS = ("account_id", "country", "plan_type", "acquisition_source", "account_tier")

_ADDRESS = r"^[\pL\pN._%+'-]+@[\pL\pN-]+(\.[\pL\pN-]+)+$"

TABLE = ma.declare_table(
    "silver_events_enriched",
    group=ma.AssetGroup.SEGMENTS,
    grain="one event",
    description="Which product, user and account does each accepted event belong to? User and"
    " account attributes are those on the event's day and are null for events from other entity types.",
    key=("event_id",),
    partition_column="event_date",
    takes_earlier_rows=True,
    columns=(
        *(column for column in EVENT_COLUMNS if column.name in _KEPT),
        ma.product_column(
            "product_id",
            "Product to which the event rolls up, or null for events without a product.",
            nullable=True,
        ),
        ma.product_column(
            "feature_id",
            "Feature or sub-feature specified in the event, or null if there is none.",
            nullable=True,
        ),
        replace(ma.ACCOUNT_OF_USER, nullable=True),
        ma.nullable("country", "string", "User's country, or null for other entities."),
        ma.nullable("plan_type", "string", "User's plan, or null for other entities."),
        ma.nullable(
            "acquisition_source", "string", "User's acquisition source, or null for other entities."
        ),
        ma.nullable(
            "account_tier",
            "string",
            "Tier of the user's account, unknown before the account's creation, or null for other"
            " entities.",
        ),
        ma.nullable(
            "days_since_signup",
            "int64",
            "Days from signup to the event, or null for other entities.",
        ),
    ),
)


@ma.table_asset(TABLE, days={"bronze_events": ma.SAME_DAYS})
def silver_events_enriched(
    bronze_events: ir.Table,
    bronze_product_catalog: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Join the events to the catalog, users and accounts."""
    nodes = product_of_node(bronze_product_catalog).rename(rolled_up_product_id="product_id")
    signups = ma.one_row_per_entity(bronze_users, ["user_id", "signup_date"])
    # silver_account_state_intervals has the same tiers, but is computed from these events.
    contracts = billing_intervals(bronze_accounts, bronze_subscription_events, policy)
    tiers = contracts.select("account_id", "valid_from", account_tier="tier")
    people = ma.user_dimensions(bronze_users, tiers).inner_join(signups, "user_id")
    people = people.mutate(signup_day=ma.day_number(people.signup_date)).drop("signup_date")
    events = bronze_events.left_join(nodes, bronze_events.product_id == nodes.node_id)
    events = events.left_join(
        people,
        [
            events.entity_id == people.user_id,
            events.entity_type == "user",
            ma.day_number(events.event_date) >= people.valid_from,
            ma.day_number(events.event_date) <= people.valid_to,
        ],
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
def flags_follow_the_catalog(
    silver_events_enriched: ir.Table, bronze_product_catalog: ir.Table, *, window: ma.Window
) -> ir.Table:
    """If the catalog lists the type of an event in a product, the event's flags match the catalog.

    The lists for the event's node and for all nodes above that node apply.
    """
    events = ma.within(silver_events_enriched, "event_date", window)
    events = events.mutate(node_id=ibis.coalesce(events.feature_id, events.product_id))
    listed = _listed_for_nodes(bronze_product_catalog)
    both = events.inner_join(listed, ["node_id", "event_type"])
    return both.filter(
        (both.is_qualifying_event != (both.qualifies | both.activates))
        | (both.is_activation_event != both.activates)
    ).select("event_id", "event_date", "event_type", "node_id")


@ma.rule(TABLE)
def no_email_leaves_bronze(
    silver_events_enriched: ir.Table, bronze_users: ir.Table, *, window: ma.Window
) -> ir.Table:
    """No event's `metadata` contains a user's email address.

    `metadata` is the only free-text column in silver and gold. Tests cover every other column. The
    check does not search for `email` values that are not addresses, such as `@` or `-`.
    """
    events = ma.within(silver_events_enriched, "event_date", window)
    events = events.filter(events.metadata.contains("@"))
    columns = ("event_id", "event_date", "event_type")
    words = events.select(
        *columns, word=events.metadata.lower().re_split(r"[^\pL\pN_@.+%-]+").unnest()
    )
    words = words.filter(words.word.contains("@"))
    addresses = bronze_users.select(address=bronze_users.email.lower()).distinct()
    addresses = addresses.filter(addresses.address.re_search(_ADDRESS))
    found = words.semi_join(
        addresses, words.word.re_replace(r"^[.]+|[.]+$", "") == addresses.address
    )
    return found.select(*columns).distinct()


def catalog_event_types(catalog: ir.Table) -> ir.Table:
    """Return the event types listed in the catalog, with one row per node and event type.

    The columns are `node_id`, `event_type`, `qualifies` and `activates`.
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


def _listed_for_nodes(catalog: ir.Table) -> ir.Table:
    """Return the event types that the catalog lists for each node or for a node above it.

    The columns are the same as in `catalog_event_types`.
    """
    nodes = catalog.select(above_id="product_id", parent_id="parent_product_id")
    step = catalog.select(node_id="product_id", at_id="product_id")
    steps = [step]
    for _ in PRODUCT_TIERS[1:]:
        step = step.inner_join(nodes, step.at_id == nodes.above_id)
        step = step.filter(step.parent_id.notnull()).select("node_id", at_id=step.parent_id)
        steps.append(step)
    listed = catalog_event_types(catalog).rename(at_id="node_id")
    found = ibis.union(*steps).inner_join(listed, "at_id")
    return found.group_by("node_id", "event_type").aggregate(
        qualifies=found.qualifies.any(), activates=found.activates.any()
    )
