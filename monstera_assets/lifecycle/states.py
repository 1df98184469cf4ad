"""States and allowed moves as data, read by the engine, the checks, the docs and the charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import ibis
import ibis.expr.types as ir


class UserState(StrEnum):
    """States of a user on the platform (framework, section 3)."""

    NEW = "new"
    ACTIVE = "active"
    RETURNING = "returning"
    DORMANT = "dormant"
    CHURNED = "churned"
    REACTIVATED = "reactivated"
    DUNNING = "dunning"
    DELETED = "deleted"


class DunningType(StrEnum):
    """How far a user's account is into dunning."""

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
"""The states that follow from activity alone, before dunning and deletion."""


class ProductState(StrEnum):
    """States of a user in a product (framework, section 4)."""

    NEVER_ADOPTED = "never_adopted"
    NEW = "new_to_product"
    ACTIVE = "active_in_product"
    DORMANT = "dormant_in_product"
    CHURNED = "churned_from_product"
    REACTIVATED = "reactivated_in_product"


class AccountState(StrEnum):
    """States of an account (framework, section 5)."""

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
    """Why an account is frozen."""

    PAYMENT_DUNNING = "payment_dunning"
    SEASONAL = "seasonal"
    VOLUNTARY_PAUSE = "voluntary_pause"


class HealthBand(StrEnum):
    """Bands of the health score, best first."""

    EXCELLENT = "excellent"
    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Transition:
    """An allowed move from one day to the next; `reason` says why an unpublished one is needed."""

    published: bool
    reason: str = ""


_PUBLISHED = Transition(published=True)
_INTO_DUNNING = Transition(
    published=False,
    reason="dunning covers only active: a user who becomes active while the account is in dunning"
    " enters it directly",
)
_OUT_OF_DUNNING = Transition(
    published=False,
    reason="dunning covers only active: a user who falls quiet while the account is in dunning"
    " becomes dormant",
)
_QUIET_BEFORE_ACTIVATION = Transition(
    published=False,
    reason="with an activation threshold above 1 a user can have used the product, fallen quiet and"
    " only then stop being new",
)

USER_TRANSITIONS: Mapping[UserState, Mapping[UserState, Transition]] = {
    UserState.NEW: {
        UserState.ACTIVE: _PUBLISHED,
        UserState.CHURNED: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
        UserState.DUNNING: _INTO_DUNNING,
        UserState.DORMANT: _QUIET_BEFORE_ACTIVATION,
    },
    UserState.ACTIVE: {
        UserState.RETURNING: _PUBLISHED,
        UserState.DORMANT: _PUBLISHED,
        UserState.CHURNED: _PUBLISHED,
        UserState.DUNNING: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
    },
    UserState.RETURNING: {
        UserState.ACTIVE: _PUBLISHED,
        UserState.DORMANT: _PUBLISHED,
        UserState.CHURNED: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
        UserState.DUNNING: _INTO_DUNNING,
    },
    UserState.DORMANT: {
        UserState.RETURNING: _PUBLISHED,
        UserState.CHURNED: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
    },
    UserState.CHURNED: {
        UserState.REACTIVATED: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
    },
    UserState.REACTIVATED: {
        UserState.ACTIVE: _PUBLISHED,
        UserState.CHURNED: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
        UserState.DUNNING: _INTO_DUNNING,
    },
    UserState.DUNNING: {
        UserState.ACTIVE: _PUBLISHED,
        UserState.CHURNED: _PUBLISHED,
        UserState.DELETED: _PUBLISHED,
        UserState.DORMANT: _OUT_OF_DUNNING,
    },
    UserState.DELETED: {},
}
"""From state, to state: the allowed moves of a user on the platform (framework, section 3)."""

PRODUCT_TRANSITIONS: Mapping[ProductState, Mapping[ProductState, Transition]] = {
    ProductState.NEW: {
        ProductState.ACTIVE: Transition(
            published=False, reason="activated, or no longer new but in use"
        ),
        ProductState.DORMANT: Transition(
            published=False, reason="used without being activated, then quiet until no longer new"
        ),
        ProductState.CHURNED: Transition(published=False, reason="never came to value while new"),
    },
    ProductState.ACTIVE: {
        ProductState.DORMANT: Transition(
            published=False, reason="quiet for longer than active_days"
        ),
        ProductState.CHURNED: Transition(
            published=False, reason="quiet, in a product whose dormant_days equal its active_days"
        ),
    },
    ProductState.DORMANT: {
        ProductState.ACTIVE: Transition(
            published=False, reason="used again; a product has no state of returning"
        ),
        ProductState.CHURNED: Transition(
            published=False, reason="quiet for longer than dormant_days"
        ),
    },
    ProductState.CHURNED: {
        ProductState.REACTIVATED: Transition(
            published=False, reason="used again after having churned"
        ),
    },
    ProductState.REACTIVATED: {
        ProductState.ACTIVE: Transition(published=False, reason="the day after reactivation"),
    },
}
"""From state, to state: the allowed moves of a user in a product; the framework publishes none."""


def _published(*states: AccountState) -> dict[AccountState, Transition]:
    return dict.fromkeys(states, _PUBLISHED)


def _because(reason: str, *states: AccountState) -> dict[AccountState, Transition]:
    return dict.fromkeys(states, Transition(published=False, reason=reason))


_FROZEN_ON_THE_DAY = (
    "a failed payment or a pause freezes a paying account at once; no way into frozen is published"
)
_UNFROZEN = "when the failure or pause ends, the account is again what its facts say"
_SIGNALS_MOVE_DAILY = "the signals of risk and growth are judged anew every day"

ACCOUNT_TRANSITIONS: Mapping[AccountState, Mapping[AccountState, Transition]] = {
    AccountState.TRIAL: {
        **_published(AccountState.NEW_PAID, AccountState.CHURNED),
        **_because("the first payment and a failure or pause on one day", AccountState.FROZEN),
    },
    AccountState.NEW_PAID: {
        **_published(
            AccountState.ACTIVE,
            AccountState.EXPANDING,
            AccountState.AT_RISK,
            AccountState.CHURNED,
        ),
        **_because("the contract can shrink within its first 90 days", AccountState.CONTRACTING),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.ACTIVE: {
        **_published(
            AccountState.EXPANDING,
            AccountState.AT_RISK,
            AccountState.CONTRACTING,
            AccountState.CHURNED,
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.EXPANDING: {
        **_published(AccountState.ACTIVE, AccountState.CONTRACTING, AccountState.AT_RISK),
        **_because("growth is over, within the first 90 days", AccountState.NEW_PAID),
        **_because("a lapse is a churn at once where churn_days is 1", AccountState.CHURNED),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.AT_RISK: {
        **_published(AccountState.ACTIVE, AccountState.CONTRACTING, AccountState.CHURNED),
        **_because("the risk is over, within the first 90 days", AccountState.NEW_PAID),
        **_because(_SIGNALS_MOVE_DAILY, AccountState.EXPANDING),
        **_because(
            "paid again after a short lapse, within the 90 days of an earlier return",
            AccountState.REACTIVATED,
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.CONTRACTING: {
        **_published(
            AccountState.ACTIVE,
            AccountState.EXPANDING,
            AccountState.AT_RISK,
            AccountState.CHURNED,
        ),
        **_because(
            "the smaller contract is 30 days old, within the first 90", AccountState.NEW_PAID
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.CHURNED: {
        **_published(AccountState.REACTIVATED),
        **_because("a first payment after an expired trial", AccountState.NEW_PAID),
        **_because("paid again and failed or paused on one day", AccountState.FROZEN),
    },
    AccountState.REACTIVATED: {
        **_published(AccountState.ACTIVE, AccountState.AT_RISK, AccountState.CHURNED),
        **_because(_SIGNALS_MOVE_DAILY, AccountState.EXPANDING, AccountState.CONTRACTING),
        **_because(
            "churned, returned and settled within new_paid_days, where the other days are few",
            AccountState.NEW_PAID,
        ),
        **_because(_FROZEN_ON_THE_DAY, AccountState.FROZEN),
    },
    AccountState.FROZEN: {
        **_published(AccountState.ACTIVE, AccountState.CHURNED),
        **_because(
            _UNFROZEN,
            AccountState.NEW_PAID,
            AccountState.EXPANDING,
            AccountState.CONTRACTING,
            AccountState.AT_RISK,
            AccountState.REACTIVATED,
        ),
    },
}
"""From state, to state: the allowed moves of an account (framework, section 5).

The published moves into deleted are left out: no fact deletes an account.
"""


def is_allowed(
    origin: ir.StringValue,
    target: ir.StringValue,
    moves: Mapping[UserState, Mapping[UserState, Transition]]
    | Mapping[ProductState, Mapping[ProductState, Transition]]
    | Mapping[AccountState, Mapping[AccountState, Transition]],
) -> ir.BooleanValue:
    """Whether a move is an edge of a matrix."""
    return ibis.or_(
        ibis.literal(value=False),
        *(
            (origin == str(state)) & target.isin([str(to) for to in targets])
            for state, targets in moves.items()
            if targets
        ),
    )
