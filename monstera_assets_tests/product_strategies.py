"""Random use of products, for comparing the product tables with the oracle.

Each user uses a few products; distances between days in a product are around its thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache

from hypothesis import strategies as st

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets_tests.oracle.billing import AccountRow
from monstera_assets_tests.strategies import (
    SPAN,
    AccountCase,
    Population,
    ProductEvent,
    UserCase,
    edges,
)


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

_NODES = st.sampled_from((None, "work", *_PRODUCT_OF))
_MOMENTS = st.sampled_from((time.min, time(12), time(12), time(18, 30), time.max))
_KINDS = st.sampled_from(((False, False), (True, False), (True, False), (True, True)))
"""Whether an event qualifies and activates."""
_SIGNUPS = st.sampled_from((0, 1, 17, 30, 31, 88, 90, 120, len(SPAN) - 1, len(SPAN)))

Distance = tuple[int, list[tuple[tuple[bool, bool], time]]]


def product_of(node_id: str | None) -> str | None:
    """Return the product that a node counts for; None for a family, or without a node."""
    return _PRODUCT_OF.get(node_id or "")


@cache
def _days(policy: LifecyclePolicy, node_id: str | None) -> st.SearchStrategy[list[Distance]]:
    """Draw days of use of a node: distances to the previous day, and the events of the day."""
    own = next((p for p in PRODUCTS if p.product_id == product_of(node_id)), None)
    active = own.active_days if own and own.active_days else policy.active_days
    dormant = own.dormant_days if own and own.dormant_days else policy.dormant_days
    distances = (1, 1, 2, *edges(active, dormant), *edges(policy.new_user_days, active))
    events = st.lists(st.tuples(_KINDS, _MOMENTS), min_size=1, max_size=3)
    return st.lists(st.tuples(st.sampled_from(distances), events), min_size=1, max_size=6)


@st.composite
def user_cases(draw: st.DrawFn, user_id: str, account_id: str, policy: LifecyclePolicy) -> UserCase:
    """Draw a user who signs up in the span, or the day after it."""
    signup = SPAN.first + timedelta(days=draw(_SIGNUPS))
    drawn = list[tuple[datetime, str | None, bool, bool]]()
    for node_id in draw(st.lists(_NODES, max_size=4)):
        day = signup
        for distance, events in draw(_days(policy, node_id)):
            day += timedelta(days=max(0, distance - 1) if day == signup else distance)
            drawn += [
                (datetime.combine(day, moment), node_id, is_qualifying, is_activating)
                for (is_qualifying, is_activating), moment in events
            ]
    return UserCase(
        user_id=user_id,
        account_id=account_id,
        signed_up_at=datetime.combine(signup, time.min),
        # Ids decrease in the order of drawing, so that it does not decide ties.
        events=tuple(
            ProductEvent(at, f"{user_id}-{999 - n}", node_id, is_qualifying, is_activating)
            for n, (at, node_id, is_qualifying, is_activating) in enumerate(drawn)
        ),
        deletions=(),
    )


@st.composite
def populations(draw: st.DrawFn, policy: LifecyclePolicy, *, users: int = 20) -> Population:
    """Draw users of one account without subscription events."""
    account = AccountCase(AccountRow("a0", datetime.combine(SPAN.first, time.min)), ())
    return Population(
        accounts=(account,),
        users=tuple(draw(user_cases(f"u{n:02}", "a0", policy)) for n in range(users)),
    )


def catalog_rows() -> Sequence[Mapping[str, object]]:
    return [node.row for node in CATALOG]
