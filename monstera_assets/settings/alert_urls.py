"""Which alerts go where: the entries of the setting `alert_urls`.

An entry is a URL of Apprise, or `ROUTE=URL` where the route narrows what the URL gets: a level (that
one and the more urgent ones), owners, or both joined by `+`, as in
`P1+team:data-platform=slack://...`. URLs hold passwords and tokens, so no error repeats an entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

LEVELS = ("P0", "P1", "P2", "P3")
"""From the most urgent level to the least, as strings sort."""

_SERVICE = r"[A-Za-z0-9][A-Za-z0-9+._-]*://"
_ENTRY = re.compile(rf"(?:(?P<route>[^=\s,/]*)=)?(?P<url>{_SERVICE}.+)", re.DOTALL)
_BETWEEN_ENTRIES = re.compile(rf"[\s,]+(?=(?:[^=\s,/]*=)?{_SERVICE})")
_OWNER = re.compile(r"team:\S+")


@dataclass(frozen=True)
class Route:
    """What a URL is to get: alerts up to a level, and of owners; without owners, of all."""

    least_urgent: str = LEVELS[-1]
    owners: frozenset[str] = frozenset()

    def accepts(self, level: str, owners: Collection[str]) -> bool:
        """Whether an alert is to be sent; one that nobody owns concerns everybody."""
        return level <= self.least_urgent and (
            not self.owners or not owners or not self.owners.isdisjoint(owners)
        )


@dataclass(frozen=True)
class Entry:
    """A URL with its route; `position` counts from 1, so that a message can name it."""

    position: int
    route: Route
    url: SecretStr


def split_entries(value: object) -> object:
    """The entries of a text: a JSON list, or entries with commas or spaces between them.

    Anything that is no text is left as it is.

    Raises:
        ValueError: the text begins like a JSON list of texts and is none.
    """
    if not isinstance(value, str):
        return value
    text = value.strip(" \t\r\n,")
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            # Not chained: the original error holds the text.
            raise ValueError("begins like a JSON list but is none") from None
        for position, entry in enumerate(listed, 1):
            if not isinstance(entry, str):
                raise ValueError(f"entry {position} is no text")
        return listed
    return _BETWEEN_ENTRIES.split(text) if text else []


def parse_entries(entries: Sequence[SecretStr]) -> tuple[Entry, ...]:
    """The entries with their routes.

    Raises:
        ValueError: an entry is none; it is named by its position.
    """
    return tuple(_parse(position, entry) for position, entry in enumerate(entries, 1))


def _parse(position: int, entry: SecretStr) -> Entry:
    found = _ENTRY.fullmatch(entry.get_secret_value().strip())
    if found is None:
        raise ValueError(f"entry {position} is no URL such as slack://..., nor one after ROUTE=")
    parts = (found["route"] or "").split("+") if found["route"] is not None else []
    levels = [part for part in parts if part in LEVELS]
    owners = [part for part in parts if _OWNER.fullmatch(part)]
    if len(levels) > 1 or len(levels) + len(owners) != len(parts):
        raise ValueError(
            f"entry {position}: before = may stand one of the levels {', '.join(LEVELS)} and owners"
            " such as team:data-platform, joined by +"
        )
    route = Route(levels[0] if levels else LEVELS[-1], frozenset(owners))
    return Entry(position, route, SecretStr(found["url"]))
