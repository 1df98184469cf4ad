"""Store sets of integers as bits so that rules can compare sets instead of individual members.

Each set has one row per non-empty word of 32 numbers. `word_of` returns the word that contains a
number, and `bit_of` returns the number's bit within that word. `bit_or()` aggregates numbers into
sets and ignores duplicates. Union, intersection and difference are bitwise operations.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

_BITS_PER_PLACE = 5
_NUMBERS_PER_WORD = 2**_BITS_PER_PLACE


def word_of(number: ir.IntegerValue) -> ir.IntegerValue:
    """Return the word that contains a non-negative number."""
    return number >> _BITS_PER_PLACE


def bit_of(number: ir.IntegerValue) -> ir.IntegerValue:
    """Return a number's bit within its word."""
    return ibis.literal(1, "int64") << (number & (_NUMBERS_PER_WORD - 1))


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # Ibis has no stubs
def bit_count(bits: int) -> int:  # type: ignore[empty-body]
    """Return the number of members in a word."""


def numbers_in(sets: ir.Table, bits: str, *, word: str, number: str) -> ir.Table:
    """Return one row per set member.

    Args:
        sets: one row per set and word.
        bits: the name of the bits column.
        word: the name of the word column.
        number: the name of the number column to add.
    """
    each = sets.mutate(bit=ibis.range(_NUMBERS_PER_WORD).unnest().cast("int64"))
    each = each.filter(((each[bits] >> each.bit) & 1) == 1)
    return each.mutate(**{number: (each[word] << _BITS_PER_PLACE) + each.bit}).drop(
        "bit", word, bits
    )
