"""Generate events as whole columns for the people who worked or browsed on a day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monstera_assets.synthetic.catalog import EVENT_TYPES, PRODUCTS, VIEWED, WITH_TARGET
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.errors import GenerationError
from monstera_assets.synthetic.people import Day
from monstera_assets.synthetic.randomness import (
    Bools,
    Floats,
    Ints,
    Keys,
    Purpose,
    draw,
    geometric,
    keys,
    part,
    uniform,
)
from monstera_assets.synthetic.simulation import Simulation

BROWSING_EVENTS = 2
"""Number of events for a person who only browses: the login and a page view."""
LEAST_EVENTS = 2
"""Minimum number of events on an active day: the login and the first qualifying event."""

_DAY_SECONDS = 86_400
_MEMBERS_EVERY_DAYS = 7
# Approximate time zone of each country, for realistic hours.
_HOURS_FROM_UTC = {"US": -6, "UK": 0, "CA": -5, "AU": 10, "DE": 1, "FR": 1}

_CODES = {(kind.event_type, kind.node): code for code, kind in enumerate(EVENT_TYPES)}
_SETTINGS = 1
_FIRST_VIEW = _CODES[VIEWED, PRODUCTS[0].product_id]
_FIRST_ACT = np.array(
    [_CODES[product.acts[0].event_type, product.acts[0].node] for product in PRODUCTS]
)
_HAS_TARGET = np.array([kind.event_type in WITH_TARGET for kind in EVENT_TYPES])


class Events(NamedTuple):
    """A day's events in chronological order, with one row per event. Missing values are -1."""

    user: Ints
    code: Ints
    second: Ints
    place: Ints
    session: Ints
    project: Ints
    target: Ints


class EventMaker:
    """Generate events one day at a time."""

    def __init__(self, simulation: Simulation, mean_events: float) -> None:
        """Generate `mean_events` events per active day, on average, for a person with factor 1."""
        self._company = simulation.company
        self._people = simulation.people
        self._mean_events = mean_events
        self._of_events = keys(simulation.company.seed, Purpose.EVENTS, simulation.company.users)
        self._outage = keys(simulation.company.seed, Purpose.OUTAGE, 1)
        self._acts = np.stack([_act_bounds(features=False), _act_bounds(features=True)])
        ranks = np.array(simulation.company.rates.product_ranks)
        self._ranks = _rank_bounds(ranks)
        zones = [_HOURS_FROM_UTC.get(name, 0) for name in simulation.company.rates.countries]
        self._zones = np.array(zones)
        self._members: tuple[Ints, Ints, Ints] | None = None

    def of_day(self, day: int, done: Day) -> Events:
        """Return a day's events, excluding events lost in an outage."""
        people = self._people
        who = np.concatenate([done.working, done.browsing])
        works = np.arange(len(who)) < len(done.working)
        base = draw(self._of_events[who], day)
        count = np.full(len(who), BROWSING_EVENTS)
        count[works] = self._counts(base[works], people.events_factor[done.working])

        row = np.repeat(np.arange(len(who)), count)
        position = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        bits = draw(base[row], position)
        user = who[row]
        code = self._codes(bits, user, position, works[row])
        second, second_session = self._seconds(day, base, who, count, row, position)
        projects = (people.days_in_use - 1) // self._company.rates.days_per_project
        qualifies = np.array([kind.qualifies for kind in EVENT_TYPES])[code]
        project = np.where(qualifies, projects[user], -1)
        target = np.full(len(row), -1)
        reaches = np.flatnonzero(_HAS_TARGET[code])
        target[reaches] = self._targets(day, user[reaches], part(bits[reaches], 3))
        events = Events(
            user, code, second, people.place[user], second_session.astype(np.int64), project, target
        )
        order = np.argsort(second, kind="stable")
        events = Events(*(column[order] for column in events))
        missing = self._company.missing_share(day)
        if missing:
            there = np.arange(len(order)) + (day << 32)
            kept = uniform(draw(self._outage, there)) >= missing
            events = Events(*(column[kept] for column in events))
        return events

    def _counts(self, base: Keys, factor: Floats) -> Ints:
        """Return event counts: a login, a qualifying event and a geometric number of other events."""
        further = np.maximum(self._mean_events * factor - LEAST_EVENTS, 0.0)
        numbers = uniform(draw(base, 1 << 40))
        return LEAST_EVENTS - 1 + geometric(numbers, 1 / (1 + further)).astype(np.int64)

    def _codes(self, bits: Keys, user: Ints, position: Ints, works: Bools) -> Ints:
        rates, people = self._company.rates, self._people
        days = people.days_in_use[user]
        adopted_on = people.adopted_on[user]
        adopted = (adopted_on <= days[:, None]).sum(axis=1)
        latest = np.maximum(adopted - 1, 0)
        is_new = works & (days > 0)
        is_new &= np.take_along_axis(adopted_on, latest[:, None], axis=1)[:, 0] == days

        rank = (part(bits, 0)[:, None] >= self._ranks[latest]).sum(axis=1)
        kept = np.take_along_axis(people.kept[user], rank[:, None], axis=1)[:, 0]
        rank = np.where(kept, rank, 0)
        first = position == 1
        adopts = first & is_new
        rank = np.where(adopts, latest, rank)
        # People who only browse view their first product or the product that they will adopt next.
        further = np.minimum(adopted, len(PRODUCTS) - 1)
        looks = np.where(part(bits, 1) < rates.looking_further, further, 0)
        rank = np.where(works, rank, looks)
        product = np.take_along_axis(people.order[user], rank[:, None], axis=1)[:, 0].astype(int)

        qualifies = works & (first | ((position > 1) & (part(bits, 1) < rates.qualifying_share)))
        bounds = self._acts[people.uses_features[user].astype(int), product]
        act = (part(bits, 2)[:, None] >= bounds).sum(axis=1)
        act = np.where(adopts & (part(bits, 3) < rates.activating_share), 0, act)
        other = np.where(part(bits, 2) < rates.settings_share, _SETTINGS, _FIRST_VIEW + product)
        other = np.where(works, other, _FIRST_VIEW + product)
        code = np.where(qualifies, _FIRST_ACT[product] + act, other)
        return np.where(position == 0, 0, code).astype(np.int64)

    def _seconds(
        self, day: int, base: Keys, who: Ints, count: Ints, row: Ints, position: Ints
    ) -> tuple[Ints, Bools]:
        """Return each event's second of the day, and whether the event is in the second session."""
        people = self._people
        bits = draw(base, 1 << 41)
        # The sum of two random numbers makes the distribution peak at 13:00 local time.
        local = 7.0 + 6.0 * (part(bits, 0) + part(bits, 1))
        start = ((local - self._zones[people.country[who]]) % 24) * 3600
        new = people.signup[who] == day
        start = np.where(new, np.maximum(start, people.signup_second[who]), start)
        two = part(bits, 2) < self._company.rates.second_session_share
        step = 45.0 + 300.0 * part(bits, 3)
        later = two[row] & (position > 0) & (2 * position >= count[row])
        moment = start[row] + step[row] * position + 3.0 * 3600 * later
        # Compress the times of events that would fall after the end of the day.
        end = start + step * count + 3.0 * 3600 * two
        room = (_DAY_SECONDS - 1 - start) / np.maximum(end - start, 1.0)
        squeezed = start[row] + (moment - start[row]) * np.minimum(room, 1.0)[row]
        return np.minimum(squeezed, _DAY_SECONDS - 1).astype(np.int64), later

    def _targets(self, day: int, user: Ints, numbers: Floats) -> Ints:
        """Return another member of each user's account, or -1. Members are updated every 7 days."""
        if self._members is None or day % _MEMBERS_EVERY_DAYS == 0:
            self._members = self._members_on(day)
        members, start, size = self._members
        if not len(members):
            return np.full(len(user), -1)
        account = self._people.account[user]
        several = size[account]
        place = np.minimum((numbers * several).astype(np.int64), np.maximum(several - 1, 0))
        chosen = members[np.minimum(start[account] + place, len(members) - 1)]
        following = np.where(place + 1 < several, place + 1, 0)
        other = members[np.minimum(start[account] + following, len(members) - 1)]
        chosen = np.where(chosen == user, other, chosen)
        return np.where((several > 0) & (chosen != user), chosen, -1)

    def _members_on(self, day: int) -> tuple[Ints, Ints, Ints]:
        account = self._people.account[: self._people.signed_up_by(day)]
        size = np.bincount(account, minlength=self._company.accounts).astype(np.int64)
        return np.argsort(account, kind="stable"), np.cumsum(size) - size, size


def mean_events(company: Company) -> float:
    """Return the mean number of events per active day for a person with factor 1.

    If `company.events` is set, the company is simulated once to find the mean that yields that
    number of events.

    Raises:
        GenerationError: If `company.events` is too low for the number of active days.
    """
    if company.events is None:
        return company.rates.events_per_active_day
    simulation = Simulation(company.whole())
    fixed, weights = 0.0, np.zeros(len(company.rates.kinds))
    for _, done in simulation.run():
        fixed += BROWSING_EVENTS * len(done.browsing)
        weights += np.bincount(simulation.people.kind[done.working], minlength=len(weights))
    least = fixed + LEAST_EVENTS * float(weights.sum())
    if company.events < least or not weights.sum():
        raise GenerationError(
            f"--events: {company.events:,} is too few, because {company.users:,} users have at least"
            f" {least:,.0f} events over {company.days:,} days. Increase --events, or reduce"
            " --users or --days."
        )
    by_kind = np.array([kind.events_factor for kind in company.rates.kinds.values()])
    return _solve(company.events - fixed, weights, by_kind)


def _solve(events: float, days: Floats, factors: Floats) -> float:
    """Solve sum(days x max(m x factor, LEAST_EVENTS)) = events for m by bisection.

    The sum is over all types of people.
    """
    low, high = 0.0, events / float((days * factors).sum())
    for _ in range(100):
        middle = (low + high) / 2
        made = float((days * np.maximum(middle * factors, LEAST_EVENTS)).sum())
        low, high = (middle, high) if made < events else (low, middle)
    return high


def _act_bounds(*, features: bool) -> Floats:
    """Return the cumulative shares of each product's acts, with or without acts in features."""
    most = max(len(product.acts) for product in PRODUCTS)
    bounds = np.ones((len(PRODUCTS), most))
    for number, product in enumerate(PRODUCTS):
        shares = [
            act.share if features or act.node == product.product_id else 0.0 for act in product.acts
        ]
        bounds[number, : len(shares)] = np.cumsum(shares) / sum(shares)
    bounds[bounds > 1 - 1e-9] = 1.0
    return bounds


def _rank_bounds(weights: Floats) -> Floats:
    """Return the cumulative shares of product ranks, for each rank of the latest adopted product."""
    count = len(weights)
    bounds = np.ones((count, count))
    for last in range(count):
        shares = weights[: last + 1]
        bounds[last, : last + 1] = np.cumsum(shares) / shares.sum()
    bounds[bounds > 1 - 1e-9] = 1.0
    return bounds
