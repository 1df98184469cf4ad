"""Stripe: events, and objects such as invoices, charges, subscriptions, customers and prices.

Objects are JSON, or tables with a column for each nested field, in which lines and items are tables of
their own, as Fivetran writes them.

The object in an event is the object as the API returns it, so one SELECT reads both. Fields that moved
between versions of the API are read in either place. Sources: Stripe's API reference and changelog, and
the description of the Sigma table subscription_item_change_events, and the columns of dbt_stripe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from monstera_assets.imports.tools import Role, Select, Tool, extracted, json, pointer, text
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

_CUSTOMER_PROPERTY = "customer.metadata."
_REASON_PROPERTY = "metadata."
_TEXTS = (
    *("id", "object", "created", "livemode", "customer", "status", "billing_reason", "amount_paid"),
    *("currency", "next_payment_attempt", "subscription", "invoice", "payment_intent", "cancel_at"),
    *("cancel_at_period_end", "canceled_at", "ended_at", "current_period_end", "name", "product"),
    *("unit_amount", "unit_amount_decimal", "amount", "interval", "interval_count", "usage_type"),
)
_NESTED = (
    *("items", "lines", "status_transitions", "parent", "payments", "pause_collection"),
    *("metadata", "recurring"),
)
_COLUMNS = (
    *("id", "livemode", "created", "status", "currency", "customer_id", "subscription_id"),
    *("invoice_id", "payment_intent_id", "billing_reason", "amount_paid", "amount", "quantity"),
    *(
        "status_transitions_paid_at",
        "period_start",
        "period_end",
        "proration",
        "price_id",
        "plan_id",
    ),
    *("subscription_item_id", "unique_id", "cancel_at", "cancel_at_period_end", "canceled_at"),
    *(
        "ended_at",
        "current_period_end",
        "_fivetran_active",
        "_fivetran_start",
        "product_id",
        "name",
    ),
    *("unit_amount", "unit_amount_decimal", "interval", "interval_count", "usage_type"),
    *("recurring_interval", "recurring_interval_count", "recurring_usage_type"),
)
"""The columns of tables."""
# Items that are added to an invoice have the columns of its lines, and are among its lines.
_ABSENT = {
    "line_item": frozenset({"customer_id"}),
    "subscription_item": frozenset({"customer_id", "invoice_id"}),
}
_ITEM = (
    '[{"id": "VARCHAR", "quantity": "BIGINT", "current_period_end": "VARCHAR",'
    ' "price": {"id": "VARCHAR"}, "plan": {"id": "VARCHAR"}}]'
)


def _id(column: str) -> str:
    """Return an expression for an object's id, where the object itself may have been expanded."""
    return (
        f"CASE WHEN starts_with({column}, '{{') THEN json_extract_string({column}, '/id')"
        f" ELSE {column} END"
    )


def _touched(*names: str) -> str:
    """Return a condition: the event changed one of the subscription's fields."""
    listed = ", ".join(map(literal, names))
    return f"coalesce(list_has_any(json_keys(previous_), [{listed}]), false)"


def _billing(settings: ImportSettings, columns: Iterable[str]) -> Select:
    """Return the SELECT for events and for objects, which have the columns given."""
    members = ", ".join(f"{literal(name)}, {name}" for name in columns)
    body = (
        f"CASE WHEN object = 'event' THEN json_extract(data, '/object')"
        f" ELSE json_object({members}) END"
    )
    account, reason = settings.account, settings.pause_reason
    fields = {
        **{f"{name}_": (name,) for name in (*_TEXTS, "pause_collection")},
        "parent_": ("parent", "subscription_details", "subscription"),
        "paid_at_": ("status_transitions", "paid_at"),
        "payment_": ("payments", "data", "0", "payment", "payment_intent"),
        "account_": ("metadata", account.removeprefix(_CUSTOMER_PROPERTY)),
        "reason_": ("metadata", reason.removeprefix(_REASON_PROPERTY)),
    }
    before = {"prior_plan_": ("plan",), "prior_quantity_": ("quantity",)}
    before["prior_period_"] = ("current_period_end",)
    previous = "CASE WHEN object = 'event' THEN json_extract(data, '/previous_attributes') END"
    named = (
        f"(SELECT *, {body} AS body_, {previous} AS previous_,"
        " CASE WHEN object = 'event' THEN type END AS event_ FROM raw)"
    )
    lists = f"""(SELECT *,
            coalesce(json_extract(body_, '/items/data'), json_extract(body_, '/items')) AS items_,
            coalesce(json_extract(body_, '/lines/data'), json_extract(body_, '/lines')) AS lines_,
            from_json(coalesce(json_extract(body_, '/items/data'), json_extract(body_, '/items')),
                {literal(_ITEM)}) AS now_,
            from_json(coalesce(json_extract(previous_, '/items/data'),
                json_extract(previous_, '/items')), {literal(_ITEM)}) AS prior_
        FROM {extracted("previous_", before, extracted("body_", fields, named))})"""
    same = "list_filter(now_, lambda n: n.id = p.id)[1]"
    # A previous item has only the fields that changed, or all of them.
    source = f"""(SELECT *,
            list_sort(list_transform(now_, lambda n: {{'id': n.id,
                'price': coalesce(n.price.id, n.plan.id), 'quantity': n.quantity}})) AS now_items_,
            list_sort(list_transform(prior_, lambda p: {{'id': p.id,
                'price': coalesce(p.price.id, p.plan.id, {same}.price.id, {same}.plan.id),
                'quantity': coalesce(p.quantity, {same}.quantity)}})) AS prior_items_,
            list_max(list_transform(now_, lambda n: n.current_period_end)) AS item_end_,
            list_max(list_transform(prior_, lambda p: p.current_period_end)) AS prior_end_
        FROM {lists})"""
    prices = "list_transform({}, lambda i: {{'id': i.id, 'price': i.price}})"
    repriced = f"coalesce({prices.format('now_items_')} <> {prices.format('prior_items_')}, false)"
    ends = "(cancel_at_ IS NOT NULL OR cancel_at_period_end_ IS NOT DISTINCT FROM 'true')"
    is_updated = "event_ IS NOT DISTINCT FROM 'customer.subscription.updated'"
    if account.startswith(_CUSTOMER_PROPERTY):
        account_id = "CASE WHEN object_ = 'customer' THEN account_ END"
    else:
        account_id = f"CASE WHEN object_ = 'customer' THEN id_ ELSE {_id('customer_')} END"
    touched_end = _touched("cancel_at", "cancel_at_period_end")
    return Select(
        {
            "event_id": "CASE WHEN object = 'event' THEN id END",
            "event_type": "event_",
            "ts": "CASE WHEN object = 'event' THEN instant(created) END",
            "object": "object_",
            "object_id": "id_",
            "customer": f"CASE WHEN object_ = 'customer' THEN id_ ELSE {_id('customer_')} END",
            "account_id": account_id,
            "subscription": "CASE WHEN object_ = 'subscription' THEN id_ ELSE"
            f" coalesce({_id('parent_')}, {_id('subscription_')}) END",
            "is_test": "coalesce(livemode, livemode_) IS NOT DISTINCT FROM 'false'",
            "created_at": "instant(created_)",
            "status": "status_",
            "billing_reason": "billing_reason_",
            "amount_paid": "try_cast(amount_paid_ AS BIGINT)",
            "currency": "upper(currency_)",
            "paid_at": "instant(paid_at_)",
            "next_attempt_at": "instant(next_payment_attempt_)",
            "invoice": _id("invoice_"),
            "payment_intent": f"coalesce({_id('payment_intent_')}, {_id('payment_')})",
            "cancel_at": f"CASE WHEN {ends} THEN"
            " instant(coalesce(cancel_at_, current_period_end_, item_end_)) END",
            "canceled_at": "instant(canceled_at_)",
            "ended_at": "instant(ended_at_)",
            "period_end": "instant(coalesce(current_period_end_, item_end_))",
            "name": "name_",
            "pause_reason": "coalesce(reason_, 'voluntary_pause')"
            if reason.startswith(_REASON_PROPERTY)
            else literal(reason),
            "items": "CASE WHEN object_ IN ('price', 'plan') THEN json_array(json_object('price',"
            " body_)) ELSE items_ END",
            "lines": "lines_",
            "is_changed": f"{is_updated} AND coalesce(now_items_ <> prior_items_,"
            " coalesce(prior_plan_, prior_quantity_) IS NOT NULL)",
            "is_repriced": f"{repriced} OR (prior_items_ IS NULL AND prior_plan_ IS NOT NULL)",
            "is_new_period": "coalesce(coalesce(current_period_end_, item_end_)"
            " <> coalesce(prior_period_, prior_end_), false)",
            "is_announced": f"{is_updated} AND {ends} AND {touched_end}",
            "is_revoked": f"{is_updated} AND NOT {ends} AND {touched_end}",
            "is_paused": f"({is_updated} AND pause_collection_ IS NOT NULL"
            f" AND {_touched('pause_collection')}"
            " AND json_extract_string(previous_, '/pause_collection') IS NULL)"
            " OR event_ IS NOT DISTINCT FROM 'customer.subscription.paused'",
            "is_resumed": f"({is_updated} AND pause_collection_ IS NULL"
            f" AND {_touched('pause_collection')})"
            " OR event_ IS NOT DISTINCT FROM 'customer.subscription.resumed'",
            "is_malformed": "id IS NULL OR object_ IS NULL OR (object = 'event'"
            " AND (event_ IS NULL OR instant(created) IS NULL))",
        },
        source,
    )


def _tables(settings: ImportSettings) -> Sequence[Role]:
    """Return each table's role, identified by its columns."""
    account = settings.account
    by_property = account.startswith(_CUSTOMER_PROPERTY)
    found = f"json_extract_string(metadata, {pointer(account.removeprefix(_CUSTOMER_PROPERTY))})"
    ends = "cancel_at IS NOT NULL OR lower(cancel_at_period_end) = 'true'"
    old = "lower(_fivetran_active) IS NOT DISTINCT FROM 'false'"
    unit = "json_object('id', coalesce(price_id, plan_id))"
    number = "try_cast({} AS BIGINT)"
    line = {
        "id": "coalesce(unique_id, id)",
        "amount": number.format("amount"),
        "quantity": number.format("quantity"),
        "proration": "coalesce(lower(proration) = 'true', false)",
        "subscription_item": "subscription_item_id",
        "period": "json_object('start', period_start, 'end', period_end)",
        "price": unit,
    }
    item = {"id": "id", "quantity": number.format("quantity"), "price": unit}
    recurring = {
        "interval": "coalesce(recurring_interval, interval)",
        "interval_count": number.format("coalesce(recurring_interval_count, interval_count)"),
        "usage_type": "coalesce(recurring_usage_type, usage_type)",
    }
    price = {
        **{name: name for name in ("id", "unit_amount", "unit_amount_decimal", "amount")},
        "product": "product_id",
        "recurring": _object(recurring),
    }
    shared = {
        "object_id": "id",
        "customer": "customer_id",
        "account_id": "NULL" if by_property else "customer_id",
        "subscription": "subscription_id",
        "is_test": "lower(livemode) IS NOT DISTINCT FROM 'false'",
        "created_at": "instant(created)",
        "status": "status",
        "currency": "upper(currency)",
        "invoice": "invoice_id",
        "payment_intent": "payment_intent_id",
        "is_malformed": "id IS NULL",
    }
    tables: Mapping[str, tuple[set[str], Mapping[str, str]]] = {
        "line_item": (
            {"invoice_id", "period_start", "proration"},
            {
                "object_id": "concat_ws('/', invoice_id, coalesce(unique_id, id))",
                "lines": _object(line),
            },
        ),
        "invoice": (
            {"customer_id", "billing_reason", "amount_paid"},
            {
                "billing_reason": "billing_reason",
                "amount_paid": number.format("amount_paid"),
                "paid_at": "instant(status_transitions_paid_at)",
            },
        ),
        "subscription_item": ({"subscription_id", "quantity"}, {"items": _object(item)}),
        "subscription": (
            {"customer_id", "cancel_at_period_end"},
            {
                "object": f"CASE WHEN {old} THEN 'subscription_version' ELSE 'subscription' END",
                "object_id": f"CASE WHEN {old} THEN concat_ws('/', id, _fivetran_start) ELSE id END",
                "subscription": "id",
                "cancel_at": f"CASE WHEN {ends} THEN"
                " instant(coalesce(cancel_at, current_period_end)) END",
                "canceled_at": "instant(canceled_at)",
                "ended_at": "instant(ended_at)",
                "period_end": "instant(current_period_end)",
            },
        ),
        "charge": ({"customer_id", "payment_intent_id", "failure_code"}, {}),
        "price": (
            {"product_id", "unit_amount"},
            {"items": f"json_array(json_object('price', {_object(price)}))"},
        ),
        "plan": (
            {"product_id", "interval", "amount"},
            {"items": f"json_array(json_object('price', {_object(price)}))"},
        ),
        "customer": (
            {"created", "delinquent"},
            {"customer": "id", "account_id": found if by_property else "id", "name": "name"},
        ),
    }
    return [
        Role(
            f"table of {name}s",
            frozenset({"id", *required}),
            {**text(*_COLUMNS), **json("metadata")},
            {"billing": Select({"object": literal(name), **shared, **columns})},
            absent=_ABSENT.get(name, frozenset()),
        )
        for name, (required, columns) in tables.items()
    ]


def _object(members: Mapping[str, str]) -> str:
    """Return an expression for a JSON object."""
    listed = (f"{literal(name)}, {value}" for name, value in members.items())
    return f"json_object({', '.join(listed)})"


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return events, Sigma's movements of recurring revenue, objects of any type, and tables."""
    fields = {**text(*_TEXTS), **json(*_NESTED)}
    columns = {**fields, **text("type"), **json("data")}
    billing = {"billing": _billing(settings, fields)}
    return (
        Role("events", frozenset({"id", "object", "type", "data", "created"}), columns, billing),
        Role(
            "movements",
            frozenset({"event_timestamp", "subscription_id", "mrr_change"}),
            text("event_timestamp", "subscription_id", "currency", "mrr_change"),
            {
                "movements": Select(
                    {
                        "ts": "instant(event_timestamp)",
                        "subscription": "subscription_id",
                        "currency": "upper(currency)",
                        "amount": "try_cast(mrr_change AS BIGINT)",
                    }
                )
            },
            key="subscription_id",
        ),
        Role("objects", frozenset({"id", "object"}), columns, billing),
        *_tables(settings),
    )


TOOL = Tool(roles, {})
