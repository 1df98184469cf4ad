"""Computing an expression for one share of its keys at a time, so that its work fits into memory.

The facts that the expression marks with `by_key` are computed once, into temporary tables in the
order of their key's hash. A share is a range of hashes: each reads its own stretch of every table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from monstera_assets.lifecycle.shares import FactsByKey
from monstera_assets.warehouse.compiler import compile_duckdb

ROWS_OF_A_SHARE = 400_000
"""Facts that are computed together. Levels of a year take up to 2 KB of memory for each."""

_HASH = "hash_of_key"
_FIRST, _LAST = "first_hash_of_share", "last_hash_of_share"
_HASHES = 2**63
"""What `visit_Hash` of the compiler gives: as many values, from 0 on."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # Ibis has no stubs
def getvariable(variable: str) -> int:  # type: ignore[empty-body]
    """The value of a variable of the connection."""


@contextmanager
def in_shares(
    connection: duckdb.DuckDBPyConnection, expression: ir.Table
) -> Iterator[Iterator[str]]:
    """Yield the query of each share, to be run before the next is asked for.

    The queries' rows together are those of the expression. Temporary tables are there meanwhile.
    """
    names: dict[ops.Node, str] = {}
    for facts in expression.op().find(FactsByKey):
        names[facts] = f"facts_by_key_{len(names) + 1}"
        _keep(connection, names[facts], facts)
    query = compile_duckdb(
        expression.op()
        .replace({node: _slice(name, node) for node, name in names.items()})
        .to_expr()
    )
    rows = sum(
        int(connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])
        for name in names.values()
    )
    yield _each_share(connection, query, max(1, -(-rows // ROWS_OF_A_SHARE)))
    for name in names.values():
        connection.execute(f"DROP TABLE {name}")


def is_divided(expression: ir.Table) -> bool:
    """Whether an expression marks facts of keys that are computed apart."""
    return bool(expression.op().find(FactsByKey))


def _each_share(connection: duckdb.DuckDBPyConnection, query: str, shares: int) -> Iterator[str]:
    for share in range(shares):
        first, end = share * _HASHES // shares, (share + 1) * _HASHES // shares
        connection.execute(f"SET VARIABLE {_FIRST} = {first}::BIGINT")
        connection.execute(f"SET VARIABLE {_LAST} = {end - 1}::BIGINT")
        yield query


def _keep(connection: duckdb.DuckDBPyConnection, name: str, facts: FactsByKey) -> None:
    rows = facts.parent.to_expr()
    hashed = rows.mutate(**{_HASH: rows[facts.key].hash()}).order_by(_HASH)
    connection.execute(f"CREATE TEMP TABLE {name} AS {compile_duckdb(hashed)}")


def _slice(name: str, facts: FactsByKey) -> ops.Node:
    rows = ibis.table({**facts.schema, _HASH: "int64"}, name=name)
    share = rows.filter(rows[_HASH] >= getvariable(_FIRST), rows[_HASH] <= getvariable(_LAST))
    return share.drop(_HASH).view().op()
