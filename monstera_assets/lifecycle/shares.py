"""Keys apart: what is computed for each key by itself may be computed for some keys after others.

A computation whose work area is many times its result, such as that of levels from changes, marks the
facts that it starts from with `by_key`. The mark changes nothing of what is computed. Whoever runs
the expression over much may then give it the facts of a share of the keys at a time.
"""

from __future__ import annotations

import ibis.expr.types as ir
from ibis.expr.operations.relations import Simple


class FactsByKey(Simple):  # type: ignore[misc]  # Ibis has no stubs
    """A table of facts, each about one key, in a computation that treats each key by itself."""

    key: str


def by_key(facts: ir.Table, key: str) -> ir.Table:
    """Mark facts of keys that are computed apart; like `.view()`, they are computed once.

    Args:
        facts: a table with the column `key`; every row of the result must depend only on rows of
            its own key in all tables that are marked in the computation.
        key: name of the column.
    """
    return FactsByKey(facts.op(), key=key).to_expr()
