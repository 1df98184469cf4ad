"""Stripe: events, and objects such as invoices, charges, subscriptions, customers and prices.

The object in an event is the object as the API returns it, so one SELECT reads both. Fields that moved
between versions of the API are read in either place. Sources: Stripe's API reference and changelog, and
the description of the Sigma table subscription_item_change_events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monstera_assets.imports.tools import Role, Select, Tool, extracted, json, text
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


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return events, Sigma's movements of recurring revenue, and objects of any type."""
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
    )


TOOL = Tool(roles, {})
