"""Section 2 of the framework, "Versions": the values of a user or an account on a day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Generic, Protocol, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Versions(Generic[Value]):
    """The versions of an entity, or of one of its values.

    Attributes:
        first: The first version, which also holds for all days before it.
        later: The first day and the value of each later version, in any order.
    """

    first: Value
    later: tuple[tuple[date, Value], ...] = ()

    def on(self, day: date) -> Value:
        """Return the latest version whose first day is on or before a day, or the first version."""
        found, since = self.first, date.min
        for valid_from, value in self.later:
            if since < valid_from <= day:
                found, since = value, valid_from
        return found


class Dated(Protocol):
    """An activity of a user on a day."""

    @property
    def user_id(self) -> str:
        """The user."""

    @property
    def day(self) -> date:
        """The day."""


Activity = TypeVar("Activity", bound=Dated)


def activity_of_account(
    account_id: str,
    activity: Iterable[Activity],
    accounts_of_users: Mapping[str, Versions[str]],
) -> list[Activity]:
    """Return the activity that belongs to an account, which is the user's account on its day.

    Args:
        account_id: The account.
        activity: The activity of users of any account.
        accounts_of_users: The accounts of each user.
    """
    return [one for one in activity if accounts_of_users[one.user_id].on(one.day) == account_id]


def account_tier(tiers: Mapping[date, str], day: date) -> str:
    """Return the tier of an account as a segment of its users on a day.

    Args:
        tiers: The tier of the account at the end of each day since its creation.
        day: The day.
    """
    return tiers.get(day, "unknown")
