"""States and allowed moves as data, read by the engine, the checks, the docs and the charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True)
class Move:
    """An allowed move from one day to the next; `reason` says why an unpublished one is needed."""

    published: bool
    reason: str = ""


_PUBLISHED = Move(published=True)
_INTO_DUNNING = Move(
    published=False,
    reason="dunning covers only active: a user who becomes active while the account is in dunning"
    " enters it directly",
)
_OUT_OF_DUNNING = Move(
    published=False,
    reason="dunning covers only active: a user who falls quiet while the account is in dunning"
    " becomes dormant",
)
_QUIET_BEFORE_ACTIVATION = Move(
    published=False,
    reason="with an activation threshold above 1 a user can have used the product, fallen quiet and"
    " only then stop being new",
)

USER_MOVES: Mapping[UserState, Mapping[UserState, Move]] = {
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
