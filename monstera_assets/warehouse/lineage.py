"""Which columns of its inputs each column of a table is computed from, read off its expression.

What decides *which* rows there are (filters, keys of joins and groups that are not shown) is not part
of it: a column's lineage says where its values come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ibis.expr.operations as ops
import ibis.expr.types as ir
from ibis.common.graph import Graph

Origin = tuple[str, str]
"""A table and a column of it."""

_Origins = Mapping[str, frozenset[Origin]]


def column_lineage(rows: ir.Table, inputs: Iterable[str]) -> dict[str, list[Origin]]:
    """The columns of the inputs that each column comes from, in order; none for a constant.

    Args:
        rows: an expression over unbound tables.
        inputs: names of the tables that count as inputs.
    """
    root = rows.op()
    relations: dict[ops.Node, _Origins] = {}
    for node in Graph.from_bfs(root).toposort()[0]:
        if isinstance(node, ops.Relation):
            relations[node] = _of_relation(node, relations)
    known = frozenset(inputs)
    return {
        name: sorted(origin for origin in origins if origin[0] in known)
        for name, origins in relations[root].items()
    }


def _of_relation(relation: ops.Relation, below: Mapping[ops.Node, _Origins]) -> _Origins:
    if isinstance(relation, ops.PhysicalTable):
        return {name: frozenset([(relation.name, name)]) for name in relation.schema}
    if isinstance(relation, ops.Reference):
        return below[relation.parent]
    if isinstance(relation, ops.Set):
        left, right = below[relation.left], below[relation.right]
        return {name: left[name] | right[name] for name in relation.schema}
    return {name: _of_value(value, below) for name, value in relation.values.items()}


def _of_value(value: ops.Value, below: Mapping[ops.Node, _Origins]) -> frozenset[Origin]:
    if isinstance(value, ops.Field):
        return below[value.rel][value.name]
    found: set[Origin] = set()
    for part in value.find((ops.Field, ops.Subquery), filter=ops.Value):
        if isinstance(part, ops.Field):
            found |= below[part.rel][part.name]
        else:
            found.update(*below[part.rel].values())
    return frozenset(found)
