"""Simulate the company's accounts, signups, work and seats day by day.

Each day is computed with operations on whole columns. The computation time per day depends on the
number of people, not on the number of past days.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from monstera_assets.synthetic.accounts import Accounts
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.people import Day, People
from monstera_assets.synthetic.randomness import Ints, Purpose, draw, keys, uniform
from monstera_assets.synthetic.rates import HORIZON_DAYS


class Simulation:
    """A company's accounts and people, as of the last day that `run` yielded."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.accounts = Accounts(company)
        self.people = People(company)
        self._joining = keys(company.seed, Purpose.ACCOUNT, company.users)

    def run(self) -> Iterator[tuple[int, Day]]:
        """Yield each day's number and the people who worked or browsed on that day."""
        signed_up = 0
        for day in range(self.company.last_day + 1):
            self.accounts.step(day)
            number = self.people.signed_up_by(day)
            self._join(day, signed_up, number)
            signed_up = number
            done = self.people.step(day, self.accounts.open)
            used = self.people.seats_in_use(day, self.company.accounts, HORIZON_DAYS)
            self.accounts.settle_seats(day, used)
            yield day, done

    def _join(self, day: int, first: int, last: int) -> None:
        """Assign the people who sign up on a day to new or existing open accounts."""
        if first == last:
            return
        people, accounts = self.people, self.accounts
        joined = people.latest_account[first:last].copy()
        attraction = np.cumsum(np.where(accounts.open, accounts.weight, 0.0))
        if attraction[-1] > 0:
            numbers = uniform(draw(self._joining[first:last], 1)) * attraction[-1]
            chosen = np.searchsorted(attraction, numbers, side="right")
            joined = np.where(people.founds[first:last], joined, chosen)
        people.join(first, last, joined, accounts.country)
        founders: Ints = first + np.flatnonzero(people.founds[first:last])
        accounts.found(people.account[founders], day, people.signup_second[founders])
