"""Simulate people day by day with a hidden Markov chain.

The hidden states are not activated, engaged and lapsed. On each day from signup on, the simulation
applies the following rules in order:

1. A person has access if the account is open and the person has not been deleted.
2. The hidden state can change: from not activated to engaged (activation) or lapsed (abandonment), from
   engaged to lapsed (lapse), or from lapsed to engaged (return). Each change has a daily probability.
3. A person with access can work, that is, have qualifying events. Every person with access works on
   the day of activation. On other days while engaged, the probability of working is the probability of
   use multiplied by the weekday factor.

The hidden state also changes while a person does not have access. `truth` computes the resulting
hazards.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from monstera_assets.synthetic.accounts import NEVER
from monstera_assets.synthetic.catalog import PRODUCTS
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.randomness import (
    Bools,
    Floats,
    Ints,
    Purpose,
    choice,
    draw,
    draw_once,
    geometric,
    keys,
    part,
    uniform,
)

INVITATION = "invitation"
_FAR = np.int32(1 << 30)


class State(IntEnum):
    """A person's hidden state."""

    NOT_ACTIVATED = 0
    ENGAGED = 1
    LAPSED = 2


class Day(NamedTuple):
    """Indexes of the people who worked on a day and of the people who only browsed."""

    working: Ints
    browsing: Ints


class People:
    """A company's people, as arrays with one element per person in signup order."""

    def __init__(self, company: Company) -> None:
        rates, number, seed = company.rates, company.users, company.seed
        self.company = company
        self._signups(company)
        self.account = np.zeros(number, dtype=np.int64)
        self.founds = np.zeros(number, dtype=np.bool_)
        # The newest account when each person signs up, and whether the person creates the account.
        self.latest_account = np.arange(number) * company.accounts // number
        self.founds[1:] = np.diff(self.latest_account) > 0
        self.founds[0] = True

        country = draw_once(seed, Purpose.COUNTRY, number)
        self._anywhere = part(country, 0) >= rates.in_country_of_account
        self.country = choice(part(country, 1), list(rates.countries.values()))
        source = draw_once(seed, Purpose.SOURCE, number)
        self.source = choice(part(source, 0), list(rates.sources.values()))
        invited = ~self.founds & (part(source, 1) < rates.invited_share)
        self.source[invited] = len(rates.sources)

        kinds = list(rates.kinds.values())
        kind = uniform(draw_once(seed, Purpose.KIND, number))
        self.kind = choice(kind, [each.share for each in kinds])
        breadth = uniform(draw_once(seed, Purpose.BREADTH, number))
        self.breadth = choice(breadth, list(rates.breadths)) + 1
        self.use = np.array([each.use_per_day for each in kinds])[self.kind]
        self.returning = np.array([each.return_per_day for each in kinds])[self.kind]
        self.events_factor = np.array([each.events_factor for each in kinds])[self.kind]
        self.lapse = np.zeros(number)
        self.activation = np.zeros(number)
        features = uniform(draw_once(seed, Purpose.FEATURES, number))
        self.uses_features = features < rates.feature_users
        place = uniform(draw_once(seed, Purpose.PLACE, number))
        self.place = choice(place, list(rates.locations.values()))
        deletion = uniform(draw_once(seed, Purpose.DELETION, number))
        lived = geometric(deletion, rates.deletion_per_day)
        self.deleted = self.signup + np.minimum(lived, float(NEVER)).astype(np.int64)

        self._products(company)
        self.state = np.full(number, State.NOT_ACTIVATED, dtype=np.int8)
        self.days_in_use = np.zeros(number, dtype=np.int32)
        self.last_used = np.full(number, -_FAR, dtype=np.int32)
        self._engagement = keys(seed, Purpose.ENGAGEMENT, number)
        self._use = keys(seed, Purpose.USE, number)

    def signed_up_by(self, day: int) -> int:
        """Return the number of people who have signed up by the end of a day."""
        return int(np.searchsorted(self.signup, day, side="right"))

    def join(self, first: int, last: int, accounts: Ints, country_of_account: Ints) -> None:
        """Assign the people from `first` to `last` (exclusive) to accounts, and set their rates."""
        rates = self.company.rates
        new = slice(first, last)
        self.account[new] = accounts
        stays = ~self._anywhere[new] | self.founds[new]
        self.country[new] = np.where(stays, country_of_account[accounts], self.country[new])
        country, source = self.country[new], self.source[new]
        sources = [*rates.sources, INVITATION]
        by_country = np.array([rates.activation_by_country[name] for name in rates.countries])
        by_source = np.array([rates.activation_by_source[name] for name in sources])
        activation = rates.activation_per_day * by_country[country] * by_source[source]
        self.activation[new] = np.minimum(activation, 1 - rates.giving_up_per_day)
        by_kind = np.array([kind.lapse_per_day for kind in rates.kinds.values()])
        of_country = np.array([rates.lapse_by_country[name] for name in rates.countries])
        of_breadth = np.array(rates.lapse_by_breadth)
        self.lapse[new] = (
            by_kind[self.kind[new]] * of_country[country] * of_breadth[self.breadth[new] - 1]
        )

    def lapse_on(self, day: int, number: int) -> Floats:
        """Return the first `number` people's lapse probabilities on a day, including disturbances."""
        factors = list(self.company.lapse_factors(day).values())
        if all(factor == 1.0 for factor in factors):
            return self.lapse[:number]
        hazard: Floats = self.lapse[:number] * np.array(factors)[self.country[:number]]
        return np.minimum(hazard, 1.0)

    def step(self, day: int, account_open: Bools) -> Day:
        """Simulate one day for all people who have signed up."""
        rates = self.company.rates
        number = self.signed_up_by(day)
        access = account_open[self.account[:number]] & (self.deleted[:number] > day)
        state = self.state[:number]
        numbers = uniform(draw(self._engagement[:number], day))
        fresh, engaged = state == State.NOT_ACTIVATED, state == State.ENGAGED
        activation = self.activation[:number]
        activates = fresh & (numbers < activation)
        gives_up = fresh & ~activates & (numbers < activation + rates.giving_up_per_day)
        lapses = engaged & (numbers < self.lapse_on(day, number))
        returns = (state == State.LAPSED) & (numbers < self.returning[:number])
        state[activates | returns] = State.ENGAGED
        state[gives_up | lapses] = State.LAPSED

        engaged = state == State.ENGAGED
        weekday = rates.use_weekdays[self.company.weekday(day)]
        use = np.where(engaged, self.use[:number] * weekday, 0.0)
        browsing = np.where(engaged, rates.browsing_engaged_per_day, rates.browsing_other_per_day)
        numbers = uniform(draw(self._use[:number], day))
        works = access & (activates | (numbers < use))
        browses = access & ~works & (numbers < use + (1 - use) * browsing)
        self.days_in_use[:number] += works
        self.last_used[:number][works] = day
        return Day(np.flatnonzero(works), np.flatnonzero(browses))

    def seats_in_use(self, day: int, accounts: int, window_days: int) -> Ints:
        """Count the people in each account with qualifying use in the window that ends on a day."""
        number = self.signed_up_by(day)
        used = self.last_used[:number] > day - window_days
        return np.bincount(self.account[:number][used], minlength=accounts).astype(np.int64)

    def _signups(self, company: Company) -> None:
        """Draw sorted signup times, with a density that depends on growth and weekday."""
        rates, days = company.rates, np.arange(company.days)
        growth = rates.growth_per_year ** (days / 365.0)
        weekdays = np.array(rates.signup_weekdays)[(company.weekday(0) + days) % 7]
        scale = np.concatenate([[0.0], np.cumsum(growth * weekdays)])
        numbers = uniform(draw_once(company.seed, Purpose.SIGNUP, company.users))
        numbers.sort()
        moments = np.interp(numbers * scale[-1], scale, np.arange(company.days + 1.0))
        self.signup = np.minimum(moments.astype(np.int64), company.days - 1)
        seconds = ((moments - self.signup) * 86_400).astype(np.int64)
        self.signup_second = np.minimum(seconds, 86_399)

    def _products(self, company: Company) -> None:
        """Draw each person's product order, adoption days and kept products."""
        rates, number = company.rates, company.users
        count = len(PRODUCTS)
        names = [product.product_id for product in PRODUCTS]
        weights = np.array([rates.first_products[name] for name in names])
        affinity = np.ones((count, count))
        for pair, factor in rates.affinities.items():
            before, after = pair.split(" > ")
            affinity[names.index(before), names.index(after)] = factor
        self.order = np.zeros((number, count), dtype=np.int8)
        self.adopted_on = np.full((number, count), _FAR, dtype=np.int32)
        self.kept = np.zeros((number, count), dtype=np.bool_)
        pick = keys(company.seed, Purpose.PRODUCTS, number)
        adoption = keys(company.seed, Purpose.ADOPTION, number)
        keeping = keys(company.seed, Purpose.KEEPING, number)
        free = np.broadcast_to(weights, (number, count)).copy()
        everybody = np.arange(number)
        adopted_on = np.ones(number)
        chosen = np.zeros(number, dtype=np.int64)
        for rank in range(count):
            odds = free if rank == 0 else free * affinity[chosen]
            odds = np.cumsum(odds, axis=1)
            target = uniform(draw(pick, rank)) * odds[:, -1]
            chosen = np.minimum((odds <= target[:, None]).sum(axis=1), count - 1)
            free[everybody, chosen] = 0.0
            self.order[:, rank] = chosen
            if rank:
                waits = geometric(uniform(draw(adoption, rank)), rates.adoption_per_active_day)
                adopted_on += np.minimum(waits, 1e6)
            within = self.breadth > rank
            self.adopted_on[within, rank] = adopted_on[within].astype(np.int32)
            kept = uniform(draw(keeping, rank)) < rates.kept_share
            self.kept[:, rank] = kept | (rank == 0)
