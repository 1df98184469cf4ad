"""Random use of products, for comparing the product tables with the oracle.

Each user uses a few products; distances between days in a product are around its thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from random import Random

from hypothesis import strategies as st

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets_tests.inputs.strategies import (
    GENERATORS,
    SPAN,
    AccountCase,
    Population,
    ProductEvent,
    UserCase,
    edges,
    some_days,
)
from monstera_assets_tests.oracle.billing import AccountRow


@dataclass(frozen=True)
class Node:
    """A row of bronze_product_catalog."""

    product_id: str
    tier: str
    parent_product_id: str | None = None
    active_days: int | None = None
    dormant_days: int | None = None
    is_active: bool = True

    @property
    def row(self) -> Mapping[str, object]:
        return vars(self)


CATALOG = (
    Node("work", "family"),
    Node("editor", "product", "work"),
    Node("canvas", "feature", "editor"),
    Node("brush", "sub_feature", "canvas"),
    Node("lasso", "feature", "editor", is_active=False),
    Node("boards", "product", "work", active_days=10, dormant_days=20),
    # Features also have windows, which do not affect their product.
    Node("pins", "feature", "boards", active_days=3, dormant_days=4),
    Node("charts", "product", "work", active_days=70),
    Node("notes", "product", "work", dormant_days=45),
    Node("quick", "product", "work", active_days=5, dormant_days=5),
    Node("fax", "product", "work", is_active=False),
    Node("tray", "feature", "fax"),
)
"""A product with three tiers, products with one or two windows of their own, a retired product."""

PRODUCTS = tuple(node for node in CATALOG if node.tier == "product" and node.is_active)
_PRODUCT_OF = {
    node: product
    for product, nodes in {
        "editor": ("editor", "canvas", "brush", "lasso"),
        "boards": ("boards", "pins"),
        "charts": ("charts",),
        "notes": ("notes",),
        "quick": ("quick",),
        "fax": ("fax", "tray"),
    }.items()
    for node in nodes
}

POLICIES = (
    LifecyclePolicy(),
    LifecyclePolicy(new_user_days=14, active_days=7, dormant_days=21),
    LifecyclePolicy(new_user_days=45, active_days=14, dormant_days=14),
    LifecyclePolicy(new_user_days=0, active_days=1, dormant_days=3),
)
"""The framework's thresholds, and others with which other rules coincide."""

_NODES = (None, "work", *_PRODUCT_OF)
_MOMENTS = (time.min, time(12), time(12), time(18, 30), time.max)
_KINDS = ((False, False), (True, False), (True, False), (True, True))
"""Whether an event qualifies and activates."""
_SIGNUPS = (0, 1, 17, 30, 31, 88, 90, 120, len(SPAN) - 1, len(SPAN))


def product_of(node_id: str | None) -> str | None:
    """Return the product that a node counts for; None for a family, or without a node."""
    return _PRODUCT_OF.get(node_id or "")


def some_user(
    random: Random, user_id: str, accounts: Sequence[str], policy: LifecyclePolicy
) -> UserCase:
    """Draw a user who signs up in the span, or the day after it, and uses up to four nodes.

    The user may change accounts, on which nothing in a product depends.
    """
    signup = SPAN.first + timedelta(days=random.choice(_SIGNUPS))
    events = list[ProductEvent]()
    for _ in range(random.randrange(5)):
        node_id, day = random.choice(_NODES), signup
        distances = _distances(policy, node_id)
        for _ in range(random.randint(1, 6)):
            distance = random.choice(distances)
            day += timedelta(days=max(0, distance - 1) if day == signup else distance)
            for _ in range(random.randint(1, 3)):
                # Ids fall in the order of drawing, so that they decide otherwise than it.
                event_id = f"{user_id}-{999 - len(events)}"
                at = datetime.combine(day, random.choice(_MOMENTS))
                events.append(ProductEvent(at, event_id, node_id, *random.choice(_KINDS)))
    return UserCase(
        user_id=user_id,
        account_id=accounts[0],
        signed_up_at=datetime.combine(signup, time.min),
        events=tuple(events),
        deletions=(),
        moves=tuple(
            (day, random.choice(accounts))
            for day in some_days(random, (signup, *(event.at.date() for event in events)))
        ),
    )


@cache
def _distances(policy: LifecyclePolicy, node_id: str | None) -> Sequence[int]:
    """Return how many days there can be between two days of use of a node."""
    own = next((p for p in PRODUCTS if p.product_id == product_of(node_id)), None)
    active = own.active_days if own and own.active_days else policy.active_days
    dormant = own.dormant_days if own and own.dormant_days else policy.dormant_days
    return (1, 1, 2, *edges(active, dormant), *edges(policy.new_user_days, active))


def populations(policy: LifecyclePolicy, *, users: int = 20) -> st.SearchStrategy[Population]:
    """Users of two accounts, on which nothing happens."""
    names = ("a0", "a1")
    accounts = tuple(
        AccountCase(AccountRow(name, datetime.combine(SPAN.first, time.min)), ()) for name in names
    )
    return GENERATORS.map(
        lambda random: Population(
            accounts=accounts,
            users=tuple(some_user(random, f"u{n:02}", names, policy) for n in range(users)),
        )
    )


def catalog_rows() -> Sequence[Mapping[str, object]]:
    return [node.row for node in CATALOG]
