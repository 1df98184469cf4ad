"""Find columns by name, ignoring case and surrounding spaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from monstera_assets.source.errors import SourceError


def places(names: Sequence[str], wanted: Iterable[str], shown: str) -> Mapping[str, int]:
    """Return the position of each wanted column that exists in a file. Wanted names are lowercase.

    If several names differ only in case, an exact match takes precedence.

    Raises:
        SourceError: If the header of the file ``shown`` contains a wanted column more than once.
    """
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(name.strip().lower(), []).append(place)
    chosen: dict[str, int] = {}
    for name in wanted:
        same = found.get(name, [])
        exact = [place for place in same if names[place].strip() == name]
        if len(exact or same) > 1:
            raise SourceError(
                f"The header of {shown} contains the column {name} more than once. Rename or remove "
                "the duplicate columns."
            )
        chosen.update((name, place) for place in exact or same)
    return chosen
