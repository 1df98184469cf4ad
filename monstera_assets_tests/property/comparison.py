"""Compare all rows of a table with those that the oracle expects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from monstera_assets_tests.helpers.memory_warehouse import Row

_SHOWN = 5


def compare(
    names: Sequence[str],
    rows: Iterable[Row],
    expected: Iterable[Mapping[str, object]],
    facts: Callable[[str], str],
) -> None:
    """Fail unless the rows are the expected rows, each occurring as often as expected.

    The failure message shows the first entity that differs, with its facts and the differing rows.

    Args:
        names: the column names, of which the first is the id of the entity.
        rows: the engine's rows, in the order of the columns.
        expected: the oracle's rows, by column name.
        facts: a function that returns the facts about an entity, for the failure message.
    """
    found = Counter(rows)
    wanted = Counter(tuple(row[name] for name in names) for row in expected)
    if found == wanted:
        return
    parts = {"engine": found - wanted, "oracle": wanted - found}
    entity = min(str(row[0]) for part in parts.values() for row in part)
    lines = [facts(entity), f"columns: {', '.join(names)}"]
    for origin, part in parts.items():
        lines.append(f"only the {origin}:")
        lines += sorted(str(row) for row in part.elements() if row[0] == entity)[:_SHOWN]
    pytest.fail("\n".join(lines), pytrace=False)
