"""Define disturbances that can be added to a company to test anomaly detection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from monstera_assets.synthetic.errors import GenerationError


@dataclass(frozen=True)
class _Days:
    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise GenerationError(f"last: {self.last} is before the first day, {self.first}.")


@dataclass(frozen=True)
class TrackingOutage(_Days):
    """A period in which a share of events is not recorded, although people behave as usual."""

    missing_share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.missing_share <= 1:
            raise GenerationError(f"missing_share: {self.missing_share} is not between 0 and 1.")


@dataclass(frozen=True)
class ChurnSpike(_Days):
    """A period in which the daily lapse probability in a country is multiplied by a factor."""

    country: str
    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor(self.factor)


@dataclass(frozen=True)
class DoubledLoad:
    """A day whose events are written twice, the second time with different ids."""

    day: date


@dataclass(frozen=True)
class SlowDrift(_Days):
    """A factor for the daily lapse probability that grows linearly from 1 and then stays constant."""

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor(self.factor)


Anomaly: TypeAlias = TrackingOutage | ChurnSpike | DoubledLoad | SlowDrift


def _check_factor(factor: float) -> None:
    if not 0 <= factor < float("inf"):
        raise GenerationError(f"factor: {factor} is not a finite number of at least 0.")
