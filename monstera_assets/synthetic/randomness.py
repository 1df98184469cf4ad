"""Generate random numbers as hashes of the seed, the purpose, the entity and a counter.

A number does not depend on earlier draws, so the order and the number of draws do not affect results.
The hash function is the SplitMix64 finalizer (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", 2014).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Keys: TypeAlias = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


Purpose = IntEnum(
    "Purpose",
    "SIGNUP ACCOUNT ACCOUNT_SIZE COUNTRY SOURCE KIND BREADTH PRODUCTS ADOPTION KEEPING FEATURES PLACE"
    " DELETION ENGAGEMENT USE EVENTS TERMS CONVERSION CLOSING FAILURE DETAILS CONTRACT OUTAGE",
)
"""The purpose of a random number. Numbers for different purposes are independent."""


def keys(seed: int, purpose: Purpose, number: int) -> Keys:
    """Return one key per entity, from which `draw` generates numbers."""
    start = _mix(np.array([(seed * 0x632BE59BD9B4E019 + purpose) & _MASK], dtype=np.uint64))
    return _mix(start + np.arange(1, number + 1, dtype=np.uint64) * _GAMMA)


def draw(of: Keys, counter: int | Ints) -> Keys:
    """Return 64 random bits per key and counter."""
    steps = np.atleast_1d(counter).astype(np.uint64) + np.uint64(1)
    return _mix(of + steps * _GAMMA)


def draw_once(seed: int, purpose: Purpose, number: int) -> Keys:
    """Return 64 random bits per entity, for properties that are drawn once."""
    return draw(keys(seed, purpose, number), 0)


def uniform(bits: Keys) -> Floats:
    """Convert 64 random bits to a number in [0, 1) with 53-bit precision."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def part(bits: Keys, number: int) -> Floats:
    """Return one of four independent numbers in [0, 1), each from 16 of the 64 bits."""
    return ((bits >> np.uint64(16 * number)) & np.uint64(0xFFFF)).astype(np.float64) * 2.0**-16


def geometric(numbers: Floats, probability: Floats | float) -> Floats:
    """Return the number of trials up to the first success, or infinity if success is impossible."""
    with np.errstate(divide="ignore"):
        trials: Floats = np.floor(np.log1p(-numbers) / np.log1p(-np.asarray(probability))) + 1.0
    return trials


def between(numbers: Floats, bounds: tuple[int, int]) -> Ints:
    """Convert numbers in [0, 1) to integers within inclusive bounds."""
    low, high = bounds
    return low + np.floor(numbers * (high - low + 1)).astype(np.int64)


def choice(numbers: Floats, shares: Floats | list[float]) -> Ints:
    """Convert numbers in [0, 1) to indexes with probabilities proportional to the shares."""
    bounds = np.cumsum(shares)
    return np.minimum(
        np.searchsorted(bounds / bounds[-1], numbers, side="right"), len(bounds) - 1
    ).astype(np.int64)


def _mix(bits: Keys) -> Keys:
    bits = bits ^ (bits >> np.uint64(30))
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits
