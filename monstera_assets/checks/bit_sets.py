"""Sets of whole numbers as bits of numbers, so that a rule can compare sets instead of their members.

A set is one row, a word, for every 32 numbers of which it has any: `word_of` says which, `bit_of` which
of its bits. Put together with `bit_or()` a number counts once, however often it is there; union,
intersection and difference are those of the bits.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

_BITS_OF_A_PLACE = 5
_NUMBERS_OF_A_WORD = 2**_BITS_OF_A_PLACE


def word_of(number: ir.IntegerValue) -> ir.IntegerValue:
    """The word of a number that is not negative."""
    return number >> _BITS_OF_A_PLACE


def bit_of(number: ir.IntegerValue) -> ir.IntegerValue:
    """A number's bit within its word."""
    return ibis.literal(1, "int64") << (number & (_NUMBERS_OF_A_WORD - 1))


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # Ibis has no stubs
def bit_count(bits: int) -> int:  # type: ignore[empty-body]
    """How many numbers a word has."""


def numbers_in(sets: ir.Table, bits: str, *, word: str, number: str) -> ir.Table:
    """One row for each number of the sets.

    Args:
        sets: one row a set and word.
        bits: name of the column of bits.
        word: name of the column of words.
        number: name of the column to add.
    """
    each = sets.mutate(bit=ibis.range(_NUMBERS_OF_A_WORD).unnest().cast("int64"))
    each = each.filter(((each[bits] >> each.bit) & 1) == 1)
    return each.mutate(**{number: (each[word] << _BITS_OF_A_PLACE) + each.bit}).drop(
        "bit", word, bits
    )
