"""Define a company by its size, days, seed, rates and disturbances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TypeVar

from monstera_assets.synthetic import DEFAULT_DAYS, DEFAULT_END, DEFAULT_SEED, DEFAULT_USERS
from monstera_assets.synthetic.anomalies import (
    Anomaly,
    ChurnSpike,
    DoubledLoad,
    SlowDrift,
    TrackingOutage,
)
from monstera_assets.synthetic.errors import GenerationError
from monstera_assets.synthetic.rates import DEFAULT_RATES, Rates

Planted = TypeVar("Planted", bound=Anomaly)

MOST_USERS = 10_000_000
MOST_DAYS = 3_660
EARLIEST, LATEST = date(1990, 1, 2), date(2200, 1, 1)


@dataclass(frozen=True)
class Company:
    """A company with no history before its first day.

    Attributes:
        users: number of people who have signed up by the last day.
        days: number of days through `end`. Days are numbered from 0.
        seed: seed for the random numbers, which must be at least 0.
        end: the last day.
        events: target number of events, which is met within 5%, or None to use the rate.
        until: last day to generate, or None to generate all days. The limit does not affect the
            generated days.
        rates: probabilities and distributions.
        anomalies: disturbances to add.

    Raises:
        GenerationError: If an argument is out of bounds.
    """

    users: int = DEFAULT_USERS
    days: int = DEFAULT_DAYS
    seed: int = DEFAULT_SEED
    end: date = DEFAULT_END
    events: int | None = None
    until: date | None = None
    rates: Rates = DEFAULT_RATES
    anomalies: tuple[Anomaly, ...] = ()

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("users", self.users, 1, MOST_USERS),
            ("days", self.days, 1, MOST_DAYS),
            ("seed", self.seed, 0, 2**63 - 1),
        ):
            if not low <= value <= high:
                raise GenerationError(f"--{name}: {value} is not between {low:,} and {high:,}.")
        if self.first < EARLIEST:
            raise GenerationError(
                f"--to: a period of {self.days:,} days ending on {self.end} starts before"
                f" {EARLIEST}. Choose a later date or fewer days."
            )
        if self.end > LATEST:
            raise GenerationError(f"--to: {self.end} is after {LATEST}.")
        if self.events is not None and self.events < 1:
            raise GenerationError(f"--events: {self.events} is not a positive number.")
        if self.until is not None and not self.first <= self.until <= self.end:
            raise GenerationError(
                f"--as-of: {self.until} is not between {self.first} and {self.end}."
            )
        for spike in self._planted(ChurnSpike):
            if spike.country not in self.rates.countries:
                known = ", ".join(self.rates.countries)
                raise GenerationError(f"country: {spike.country} is not one of {known}.")

    @property
    def first(self) -> date:
        """The first day."""
        return self.end - timedelta(days=self.days - 1)

    @property
    def last_day(self) -> int:
        """The number of the last generated day."""
        return ((self.until or self.end) - self.first).days

    @property
    def accounts(self) -> int:
        """The number of accounts created by the last day."""
        return max(1, self.users // self.rates.users_per_account)

    def date_of(self, day: int) -> date:
        """Return the date for a day number."""
        return self.first + timedelta(days=day)

    def weekday(self, day: int) -> int:
        """Return a day's weekday, from 0 for Monday through 6 for Sunday."""
        return self.date_of(day).weekday()

    def whole(self) -> Company:
        """Return the same company without the `until` limit."""
        return replace(self, until=None)

    def lapse_factors(self, day: int) -> Mapping[str, float]:
        """Return each country's factor for the lapse probability on a day, including disturbances."""
        today = self.date_of(day)
        factors = dict.fromkeys(self.rates.countries, 1.0)
        for spike in self._planted(ChurnSpike):
            if spike.first <= today <= spike.last:
                factors[spike.country] *= spike.factor
        for drift in self._planted(SlowDrift):
            length = (drift.last - drift.first).days + 1
            gone = min(max((today - drift.first).days + 1, 0), length)
            for country in factors:
                factors[country] *= 1 + (drift.factor - 1) * gone / length
        return factors

    def missing_share(self, day: int) -> float:
        """Return the share of the day's events that are lost in outages."""
        today = self.date_of(day)
        kept = 1.0
        for outage in self._planted(TrackingOutage):
            if outage.first <= today <= outage.last:
                kept *= 1 - outage.missing_share
        return 1 - kept

    def is_doubled(self, day: int) -> bool:
        """Return whether the day's events are written twice."""
        return DoubledLoad(self.date_of(day)) in self.anomalies

    def _planted(self, kind: type[Planted]) -> list[Planted]:
        return [anomaly for anomaly in self.anomalies if isinstance(anomaly, kind)]
