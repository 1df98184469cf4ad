"""Compute the user lifecycle in each product (framework, section 4).

The history, current and transition tables are derived from `product_intervals`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import (
    ActivityLabels,
    activity_intervals,
    day_number,
    neighbours,
    numbered,
    with_state_since,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import ProductState

PRODUCT_LABELS = ActivityLabels(
    *(ProductState.NEW, ProductState.ACTIVE, ProductState.DORMANT, ProductState.CHURNED),
    *(ProductState.REACTIVATED, None),
)

KEYS = ("user_id", "product_id")
_NUMBER = "relationship_number"
IN_USE = (ProductState.ACTIVE, ProductState.REACTIVATED)
"""The states in which a user counts as active in a product."""


def active_products(catalog: ir.Table) -> ir.Table:
    """Return the catalog's active products, the only products with states, and their windows."""
    return catalog.filter(catalog.tier == "product", catalog.is_active).select(
        "product_id", "created_date", "active_days", "dormant_days"
    )


def product_intervals(activity: ir.Table, catalog: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return each user's state in each active product for every day since first access.

    The inputs are bronze_product_catalog, whose windows take precedence over the policy, and all
    days in silver_daily_user_activity.

    Returns:
        An interval table by `user_id` and `product_id`, with days as numbers: `current_state`,
        `state_since`, `first_access_at`, `start_day`, `activation_day`, `last_qualifying_event_at`,
        `total_qualifying_events` and `triggering_event_id` (the first qualifying event on the
        interval's first day, if the event changed the state).
    """
    in_products = activity.semi_join(active_products(catalog), "product_id")
    relationships = _relationships(in_products)
    states = activity_intervals(
        _starts(relationships, catalog, policy),
        _qualifying_days(in_products, relationships),
        keys=[_NUMBER],
        labels=PRODUCT_LABELS,
    ).rename(current_state="activity_state")
    states = with_state_since(states, keys=[_NUMBER], state="current_state")
    by_activity = (states.valid_from == states.last_activity_day) & states.activity_decides
    begins = states.previous_state != states.current_state
    states = states.mutate(
        triggering_event_id=ibis.ifelse(
            begins & by_activity, states.first_qualifying_event_id, None
        )
    )
    return states.inner_join(relationships.select(_NUMBER, *KEYS, "first_access_at"), _NUMBER)


def _relationships(activity: ir.Table) -> ir.Table:
    first = activity.group_by(*KEYS).aggregate(
        first_access_at=activity.first_event_at.min(),
        start_day=day_number(activity.activity_date.min()),
    )
    return numbered(first, by=KEYS, number=_NUMBER)


def _starts(relationships: ir.Table, catalog: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    joined = relationships.inner_join(active_products(catalog), "product_id")
    active_days = joined.active_days.fill_null(policy.active_days)
    # A product's active window may be longer than the default dormant window.
    dormant_days = ibis.greatest(joined.dormant_days.fill_null(policy.dormant_days), active_days)
    return joined.select(
        _NUMBER,
        "start_day",
        new_until=joined.start_day + policy.new_user_days,
        active_days=active_days,
        dormant_days=dormant_days,
    )


def _qualifying_days(activity: ir.Table, relationships: ir.Table) -> ir.Table:
    days = activity.filter(activity.qualifying_events > 0)
    days = days.inner_join(relationships.select(_NUMBER, *KEYS), KEYS)
    days = days.mutate(activity_day=day_number(days.activity_date))
    activates = ibis.ifelse(days.activation_events > 0, days.activity_day, None)
    so_far = ibis.cumulative_window(group_by=_NUMBER, order_by="activity_day")
    days = days.select(
        _NUMBER,
        "activity_day",
        "last_qualifying_event_at",
        "first_qualifying_event_id",
        **neighbours(days.activity_day, keys=[_NUMBER]),
        activation_day=activates.min().over(so_far),
        total_qualifying_events=days.qualifying_events.sum().over(so_far).cast("int64"),
    )
    return days.mutate(
        activated=days.activation_day.notnull(),
        activated_before=(days.activation_day < days.activity_day).fill_null(False),
    )
