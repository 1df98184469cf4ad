"""Validate the time zone that defines days."""

from __future__ import annotations

from difflib import get_close_matches
from zoneinfo import available_timezones

UTC = "UTC"

_NOT_IANA = "localtime"
"""A name for the machine's local time zone, which differs between machines."""


def checked_timezone(name: str) -> str:
    """Return a time zone's name if the name is valid.

    Raises:
        ValueError: If the name is not an IANA time zone name.
    """
    if name == UTC:
        return name
    known = available_timezones() - {_NOT_IANA}
    if name not in known:
        by_lower_case = {zone.lower(): zone for zone in known}
        near = get_close_matches(name.lower(), by_lower_case, n=1)
        suggestion = f" Did you mean {by_lower_case[near[0]]}?" if near else ""
        raise ValueError(
            f"is not an IANA time zone such as America/New_York or Europe/Berlin.{suggestion}"
        )
    return name
