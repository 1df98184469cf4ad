"""Parse the entries in the `alert_urls` setting into alert routes.

An entry is an Apprise URL or `ROUTE=URL`. A route limits the alerts that the URL receives to a minimum
level, to owners, or to both. The parts of a route are joined by `+`, as in
`P1+team:data-platform=slack://...`. URLs contain passwords and tokens, so errors never quote an entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

LEVELS = ("P0", "P1", "P2", "P3")
"""The alert levels from most to least urgent, which is also alphabetical order."""

_SERVICE = r"[A-Za-z0-9][A-Za-z0-9+._-]*://"
_ENTRY = re.compile(rf"(?:(?P<route>[^=\s,/]*)=)?(?P<url>{_SERVICE}.+)", re.DOTALL)
_BETWEEN_ENTRIES = re.compile(rf"[\s,]+(?=(?:[^=\s,/]*=)?{_SERVICE})")
_OWNER = re.compile(r"team:\S+")


@dataclass(frozen=True)
class Route:
    """The minimum level and the owners that limit the alerts for a URL."""

    least_urgent: str = LEVELS[-1]
    owners: frozenset[str] = frozenset()

    def accepts(self, level: str, owners: Collection[str]) -> bool:
        """Return whether the route accepts an alert. An alert without owners matches any owner."""
        return level <= self.least_urgent and (
            not self.owners or not owners or not self.owners.isdisjoint(owners)
        )


@dataclass(frozen=True)
class Entry:
    """A URL and its route. Messages identify an entry by its `position`, which starts at 1."""

    position: int
    route: Route
    url: SecretStr


def split_entries(value: object) -> object:
    """Split a JSON list, or comma- or space-separated text, into entries.

    A value that is not a string is returned unchanged.

    Raises:
        ValueError: If the text starts with `[` but is not a JSON list of strings.
    """
    if not isinstance(value, str):
        return value
    text = value.strip(" \t\r\n,")
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            # Do not chain the errors, because the original error contains the text.
            raise ValueError("starts with [ but is not a JSON list") from None
        for position, entry in enumerate(listed, 1):
            if not isinstance(entry, str):
                raise ValueError(f"entry {position} is not a string")
        return listed
    return _BETWEEN_ENTRIES.split(text) if text else []


def parse_entries(entries: Sequence[SecretStr]) -> tuple[Entry, ...]:
    """Parse entries into URLs and routes.

    Raises:
        ValueError: If an entry is invalid. The message contains the entry's position.
    """
    return tuple(_parse(position, entry) for position, entry in enumerate(entries, 1))


def _parse(position: int, entry: SecretStr) -> Entry:
    found = _ENTRY.fullmatch(entry.get_secret_value().strip())
    if found is None:
        raise ValueError(f"entry {position} is neither a URL such as slack://... nor ROUTE=URL")
    parts = (found["route"] or "").split("+") if found["route"] is not None else []
    levels = [part for part in parts if part in LEVELS]
    owners = [part for part in parts if _OWNER.fullmatch(part)]
    if len(levels) > 1 or len(levels) + len(owners) != len(parts):
        raise ValueError(
            f"entry {position}: the route before = must be one of the levels {', '.join(LEVELS)},"
            " owners such as team:data-platform, or both, joined by +"
        )
    route = Route(levels[0] if levels else LEVELS[-1], frozenset(owners))
    return Entry(position, route, SecretStr(found["url"]))
