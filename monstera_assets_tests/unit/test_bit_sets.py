"""Bit sets and their differences equal the sets of numbers from which they are built."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import ibis
from hypothesis import given, settings
from hypothesis import strategies as st

from monstera_assets.checks.bit_sets import bit_count, bit_of, numbers_in, word_of
from monstera_assets.warehouse.compiler import compile_duckdb

_MEMBERS = ibis.table({"owner": "string", "side": "string", "number": "int64"}, name="members")

_SETS = st.sets(st.integers(0, 130))
_EDGES = {0, 31, 32, 63, 64}


def _bits(where: str) -> ibis.ir.Table:
    members = _MEMBERS.filter(_MEMBERS.side == where)
    return members.group_by("owner", word=word_of(members.number)).aggregate(
        bits=bit_of(members.number).bit_or()
    )


def _rows(
    expression: ibis.ir.Table, members: Iterable[tuple[str, str, int]]
) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE members (owner VARCHAR, side VARCHAR, number BIGINT)")
        for member in members:
            connection.execute("INSERT INTO members VALUES (?, ?, ?)", member)
        return connection.execute(compile_duckdb(expression)).fetchall()


@settings(deadline=None)
@given(left=_SETS, right=_SETS)
def test_numbers_of_one_set_and_not_of_another(left: set[int], right: set[int]) -> None:
    lefts, rights = _bits("left"), _bits("right").rename(others="bits")
    both = lefts.left_join(rights, ["owner", "word"])
    apart = both.select("owner", "word", bits=both.bits & ~both.others.fill_null(0))
    members = [
        *(("one", "left", number) for number in [*left, *left]),  # a repeated number counts once
        *(("one", "right", number) for number in right),
        *(("other", "left", number) for number in _EDGES),
    ]

    found = _rows(numbers_in(apart, "bits", word="word", number="number"), members)

    expected = {("one", number) for number in left - right}
    expected |= {("other", number) for number in _EDGES}
    assert sorted(found) == sorted(expected)


@settings(deadline=None)
@given(numbers=_SETS)
def test_a_count_of_bits_is_the_count_of_distinct_numbers(numbers: set[int]) -> None:
    sets = _bits("left")
    counted = sets.aggregate(counted=bit_count(sets.bits).sum().fill_null(0))

    found = _rows(counted, [("one", "left", number) for number in [*numbers, *numbers]])

    assert found == [(len(numbers),)]
