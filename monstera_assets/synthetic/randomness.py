"""Random numbers by counter: each is a hash of seed, purpose, entity and counter.

So a number depends on nothing that was drawn before it: not on the order of the work, nor on how
much of it there is. The hash is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", 2014).
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
"""What a number is drawn for. Numbers of different purposes are independent."""


def keys(seed: int, purpose: Purpose, number: int) -> Keys:
    """A key for each of `number` entities, from which `draw` makes numbers."""
    start = _mix(np.array([(seed * 0x632BE59BD9B4E019 + purpose) & _MASK], dtype=np.uint64))
    return _mix(start + np.arange(1, number + 1, dtype=np.uint64) * _GAMMA)


def draw(of: Keys, counter: int | Ints) -> Keys:
    """64 random bits for each key and counter."""
    steps = np.atleast_1d(counter).astype(np.uint64) + np.uint64(1)
    return _mix(of + steps * _GAMMA)


def draw_once(seed: int, purpose: Purpose, number: int) -> Keys:
    """64 random bits for each of `number` entities, for what is drawn once in their life."""
    return draw(keys(seed, purpose, number), 0)


def uniform(bits: Keys) -> Floats:
    """Numbers in [0, 1), of 53 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def part(bits: Keys, number: int) -> Floats:
    """One of four independent numbers in [0, 1) that 64 bits hold, of 16 bits each."""
    return ((bits >> np.uint64(16 * number)) & np.uint64(0xFFFF)).astype(np.float64) * 2.0**-16


def geometric(numbers: Floats, probability: Floats | float) -> Floats:
    """Trials up to the first success, from 1 on, by inversion; infinite where that is impossible."""
    with np.errstate(divide="ignore"):
        trials: Floats = np.floor(np.log1p(-numbers) / np.log1p(-np.asarray(probability))) + 1.0
    return trials


def between(numbers: Floats, bounds: tuple[int, int]) -> Ints:
    """Whole numbers within bounds, both included."""
    low, high = bounds
    return low + np.floor(numbers * (high - low + 1)).astype(np.int64)


def choice(numbers: Floats, shares: Floats | list[float]) -> Ints:
    """Indexes, each with its share of the probability."""
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
