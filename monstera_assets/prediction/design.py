"""From features to the columns of a linear model, and back to the group that each belongs to.

A number becomes itself and its excess over some of the quantiles that it had in training, so that its
effect may bend; a category becomes one column a value that is frequent enough. Columns have mean 0
and variance 1 in training: a weight times a column is what it adds beside the average row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from monstera_assets.prediction.targets import Group

Floats = npt.NDArray[np.float64]

_KNOTS = (0.2, 0.4, 0.6, 0.8)
_MIN_SHARE = 0.01
"""Share of the rows that a category needs for a column of its own."""
_FLAT = 1e-9


@dataclass(frozen=True)
class _Number:
    name: str
    is_logarithm: bool
    low: float
    high: float
    fill: float
    knots: tuple[float, ...]

    def columns(self, rows: pd.DataFrame) -> list[Floats]:
        values = _numbers(rows, self.name, is_logarithm=self.is_logarithm)
        missing = np.isnan(values)
        # What training never saw counts as the most extreme value that it did see.
        known = np.clip(np.where(missing, self.fill, values), self.low, self.high)
        bends = [np.maximum(known - knot, 0.0) for knot in self.knots]
        return [known, *bends, missing.astype(np.float64)]


@dataclass(frozen=True)
class _Category:
    name: str
    values: tuple[str, ...]

    def columns(self, rows: pd.DataFrame) -> list[Floats]:
        found = rows[self.name].fillna("").astype(str).to_numpy()
        return [(found == value).astype(np.float64) for value in self.values]


@dataclass(frozen=True)
class Design:
    """How rows become columns, as learned from the rows of training."""

    parts: tuple[tuple[int, _Number | _Category], ...]
    owners: npt.NDArray[np.int64]
    means: Floats
    scales: Floats

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The number of the group that each column of `matrix` belongs to."""
        return self.owners[self.scales > _FLAT]

    def matrix(self, rows: pd.DataFrame) -> Floats:
        """The columns of some rows, those left out that were the same in all of training."""
        kept = self.scales > _FLAT
        columns = _columns(self.parts, rows)
        scaled: Floats = (columns[:, kept] - self.means[kept]) / self.scales[kept]
        return scaled


def learn_design(rows: pd.DataFrame, groups: tuple[Group, ...]) -> Design:
    """The design for rows of training."""
    parts: list[tuple[int, _Number | _Category]] = []
    for place, group in enumerate(groups):
        parts += [(place, _number(rows, name, is_logarithm=False)) for name in group.numbers]
        parts += [(place, _number(rows, name, is_logarithm=True)) for name in group.logarithms]
        parts += [(place, _category(rows, name)) for name in group.categories]
    columns = _columns(parts, rows)
    owner = [place for place, part in parts for _ in part.columns(rows.iloc[:0])]
    return Design(
        parts=tuple(parts),
        owners=np.array(owner, dtype=np.int64),
        means=columns.mean(axis=0),
        scales=columns.std(axis=0),
    )


def _columns(parts: Sequence[tuple[int, _Number | _Category]], rows: pd.DataFrame) -> Floats:
    return np.column_stack([column for _, part in parts for column in part.columns(rows)])


def _number(rows: pd.DataFrame, name: str, *, is_logarithm: bool) -> _Number:
    values = _numbers(rows, name, is_logarithm=is_logarithm)
    known = values[~np.isnan(values)]
    if not len(known):
        return _Number(name, is_logarithm, 0.0, 0.0, 0.0, ())
    low, high = float(known.min()), float(known.max())
    knots = sorted({float(knot) for knot in np.quantile(known, _KNOTS)})
    return _Number(
        name,
        is_logarithm,
        low,
        high,
        fill=float(np.median(known)),
        knots=tuple(knot for knot in knots if low < knot < high),
    )


def _category(rows: pd.DataFrame, name: str) -> _Category:
    counts = Counter(rows[name].fillna("").astype(str))
    least = _MIN_SHARE * len(rows)
    return _Category(name, tuple(sorted(v for v, count in counts.items() if count >= least)))


def _numbers(rows: pd.DataFrame, name: str, *, is_logarithm: bool) -> Floats:
    values = rows[name].astype("float64").to_numpy(dtype=np.float64, na_value=np.nan)
    found: Floats = (
        np.log1p(values).astype(np.float64) if is_logarithm else values.astype(np.float64)
    )
    return found
