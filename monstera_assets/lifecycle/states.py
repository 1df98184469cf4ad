"""Define states and allowed transitions for the engine, checks, documentation and charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import ibis
import ibis.expr.types as ir


class UserState(StrEnum):
    """User states on the platform (framework, section 3)."""

    NEW = "new"
    ACTIVE = "active"
    RETURNING = "returning"
    DORMANT = "dormant"
    CHURNED = "churned"
    REACTIVATED = "reactivated"
    DUNNING = "dunning"
    DELETED = "deleted"


class DunningType(StrEnum):
    """The type of dunning that a user's account is in."""

    GRACE_PERIOD = "grace_period"
    SOFT = "soft"
    HARD = "hard"


ACTIVITY_STATES = (
    UserState.NEW,
    UserState.ACTIVE,
    UserState.RETURNING,
    UserState.DORMANT,
    UserState.CHURNED,
    UserState.REACTIVATED,
)
"""The states that depend on activity alone, before dunning and deletion are applied."""


class ProductState(StrEnum):
    """User states in a product (framework, section 4)."""

    NEVER_ADOPTED = "never_adopted"
    NEW = "new_to_product"
    ACTIVE = "active_in_product"
    DORMANT = "dormant_in_product"
    CHURNED = "churned_from_product"
    REACTIVATED = "reactivated_in_product"


class AccountState(StrEnum):
    """Account states (framework, section 5)."""

    TRIAL = "trial"
    NEW_PAID = "new_paid"
    ACTIVE = "active"
    EXPANDING = "expanding"
    AT_RISK = "at_risk"
    CONTRACTING = "contracting"
    CHURNED = "churned"
    REACTIVATED = "reactivated"
    FROZEN = "frozen"


class FrozenReason(StrEnum):
    """The reason that an account is frozen."""

    PAYMENT_DUNNING = "payment_dunning"
    SEASONAL = "seasonal"
    VOLUNTARY_PAUSE = "voluntary_pause"


class HealthBand(StrEnum):
    """Health score bands, from best to worst."""

    EXCELLENT = "excellent"
    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Transition:
    """An allowed transition. `reason` explains why an unpublished transition is needed."""

    published: bool
    reason: str = ""


State = TypeVar("State", bound=StrEnum)
Transitions = Mapping[State, Mapping[State, Transition]]
"""Allowed transitions, keyed by original state and then by new state."""


def _published(*states: State) -> dict[State, Transition]:
    return dict.fromkeys(states, Transition(published=True))


def _because(reason: str, *states: State) -> dict[State, Transition]:
    return dict.fromkeys(states, Transition(published=False, reason=reason))


_INTO_DUNNING = (
    "dunning applies only to active users, so a user who becomes active while the account is in"
    " dunning enters dunning directly"
)

USER_TRANSITIONS: Transitions[UserState] = {
    UserState.NEW: {
        **_published(UserState.ACTIVE, UserState.CHURNED, UserState.DELETED),
        **_because(_INTO_DUNNING, UserState.DUNNING),
        **_because(
            "with an activation threshold above 1, a user can have qualifying events and go quiet"
            " before the new period ends",
            UserState.DORMANT,
        ),
    },
    UserState.ACTIVE: _published(
        *(UserState.RETURNING, UserState.DORMANT, UserState.CHURNED),
        *(UserState.DUNNING, UserState.DELETED),
    ),
    UserState.RETURNING: {
        **_published(UserState.ACTIVE, UserState.DORMANT, UserState.CHURNED, UserState.DELETED),
        **_because(_INTO_DUNNING, UserState.DUNNING),
    },
    UserState.DORMANT: _published(UserState.RETURNING, UserState.CHURNED, UserState.DELETED),
    UserState.CHURNED: _published(UserState.REACTIVATED, UserState.DELETED),
    UserState.REACTIVATED: {
        **_published(UserState.ACTIVE, UserState.CHURNED, UserState.DELETED),
        **_because(_INTO_DUNNING, UserState.DUNNING),
    },
    UserState.DUNNING: {
        **_published(UserState.ACTIVE, UserState.CHURNED, UserState.DELETED),
        **_because(
            "dunning applies only to active users, so a user who goes quiet while the account is in"
            " dunning becomes dormant",
            UserState.DORMANT,
        ),
    },
    UserState.DELETED: {},
}
"""Allowed user transitions on the platform (framework, section 3)."""

PRODUCT_TRANSITIONS: Transitions[ProductState] = {
    ProductState.NEW: {
        **_because(
            "the user activates, or is no longer new but still uses the product",
            ProductState.ACTIVE,
        ),
        **_because(
            "the user uses the product without activating, then is quiet until no longer new",
            ProductState.DORMANT,
        ),
        **_because(
            "the user has not activated and does not use the product when the new period ends",
            ProductState.CHURNED,
        ),
    },
    ProductState.ACTIVE: {
        **_because("the user is quiet for longer than active_days", ProductState.DORMANT),
        **_because(
            "the user goes quiet in a product whose dormant_days and active_days are equal",
            ProductState.CHURNED,
        ),
    },
    ProductState.DORMANT: {
        **_because(
            "the user uses the product again, and products have no returning state",
            ProductState.ACTIVE,
        ),
        **_because("the user is quiet for longer than dormant_days", ProductState.CHURNED),
    },
    ProductState.CHURNED: _because(
        "the user uses the product again after churning", ProductState.REACTIVATED
    ),
    ProductState.REACTIVATED: _because(
        "the reactivated state lasts only one day", ProductState.ACTIVE
    ),
}
"""Allowed user transitions in a product. The framework does not publish these transitions."""

_FROZEN_ON_THE_DAY = (
    "a failed payment or a pause freezes a paying account immediately, although the framework does"
    " not publish this transition"
)
_UNFROZEN = "when the failure or pause ends, the state again depends on the account's other facts"
_SIGNALS_CHANGE_DAILY = "risk and growth signals are evaluated every day"

ACCOUNT_TRANSITIONS: Transitions[AccountState] = {
    AccountState.TRIAL: {
        **_published(AccountState.NEW_PAID, AccountState.CHURNED),
        **_because(
            "the first payment occurs on the same day as a failure or pause", AccountState.FROZEN
        ),
    },
    AccountState.NEW_PAID: {
        **_published(
            AccountState.ACTIVE, AccountState.EXPANDING, AccountState.AT_RISK, AccountState.CHURNED
        ),
        **_because("the contract can shrink within its first 90 days", AccountState.CONTRACTING),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.ACTIVE: {
        **_published(
            *(AccountState.EXPANDING, AccountState.AT_RISK),
            *(AccountState.CONTRACTING, AccountState.CHURNED),
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.EXPANDING: {
        **_published(AccountState.ACTIVE, AccountState.CONTRACTING, AccountState.AT_RISK),
        **_because("the growth ends within the first 90 days", AccountState.NEW_PAID),
        **_because("a lapsed account churns immediately if churn_days is 1", AccountState.CHURNED),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.AT_RISK: {
        **_published(AccountState.ACTIVE, AccountState.CONTRACTING, AccountState.CHURNED),
        **_because("the risk ends within the first 90 days", AccountState.NEW_PAID),
        **_because(_SIGNALS_CHANGE_DAILY, AccountState.EXPANDING),
        **_because(
            "the account pays again after a short lapse, within 90 days of an earlier return",
            AccountState.REACTIVATED,
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.CONTRACTING: {
        **_published(
            AccountState.ACTIVE, AccountState.EXPANDING, AccountState.AT_RISK, AccountState.CHURNED
        ),
        **_because(
            "the contract shrank 30 days ago, within the first 90 days", AccountState.NEW_PAID
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.CHURNED: {
        **_published(AccountState.REACTIVATED),
        **_because("the first payment occurs after the trial has expired", AccountState.NEW_PAID),
        **_because(
            "the account pays again, with a failure or pause on the same day", AccountState.FROZEN
        ),
    },
    AccountState.REACTIVATED: {
        **_published(AccountState.ACTIVE, AccountState.AT_RISK, AccountState.CHURNED),
        **_because(_SIGNALS_CHANGE_DAILY, AccountState.EXPANDING, AccountState.CONTRACTING),
        **_because(
            "the account churns, returns and settles within new_paid_days, which is possible if"
            " churn_days and reactivated_days are small",
            AccountState.NEW_PAID,
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.FROZEN: {
        **_published(AccountState.ACTIVE, AccountState.CHURNED),
        **_because(
            _UNFROZEN,
            *(AccountState.NEW_PAID, AccountState.EXPANDING, AccountState.CONTRACTING),
            *(AccountState.AT_RISK, AccountState.REACTIVATED),
        ),
    },
}
"""Allowed account transitions (framework, section 5).

The published transitions to deleted are omitted because no fact can delete an account.
"""


def is_allowed(
    origin: ir.StringValue, target: ir.StringValue, transitions: Transitions[State]
) -> ir.BooleanValue:
    """Return whether a transition is allowed."""
    return ibis.or_(
        ibis.literal(value=False),
        *(
            (origin == str(state)) & target.isin([str(to) for to in targets])
            for state, targets in transitions.items()
            if targets
        ),
    )
