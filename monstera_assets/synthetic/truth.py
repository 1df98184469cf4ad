"""The true hazard: the probability that a person has no qualifying event in the next 30 days.

Told of everybody who has access at the end of a day, given the hidden state then. With p the use a day
and f the factor of the weekday, h, r, a and b the hazards of lapse, return, activation and giving up,
d of deletion, g of closing of a paid account and c of conversion of one on trial, the probabilities of
no use from some day on follow from those from the day after it on (marked by '), all 1 after 30 days:

    engaged        E = (1 - h) (1 - p f) E' + h L'
    lapsed         L = r (1 - p f) E' + (1 - r) L'
    not activated  N = b L' + (1 - a - b) N'
    paid           X = d + (1 - d) (g + (1 - g) X)
    on trial       X = d + (1 - d) (c X of paid + (1 - c) X of trial), or 1 after the trial's 30 days

In the last line "X of paid" is without its closing: the day of the first payment has none. Nobody gets
access back within the 30 days, and disturbances of h are known, so the recursion is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monstera_assets.synthetic.accounts import Phase, closing_per_day
from monstera_assets.synthetic.people import State
from monstera_assets.synthetic.randomness import Floats, Ints
from monstera_assets.synthetic.rates import HORIZON_DAYS
from monstera_assets.synthetic.simulation import Simulation

EVERY_DAYS = 7


class Hazards(NamedTuple):
    """The people with access at the end of a day, their hidden state and their probability."""

    user: Ints
    state: Ints
    on_trial: Ints
    no_use: Floats


def hazards(simulation: Simulation, day: int) -> Hazards:
    """The true hazards as of the end of a day, which the simulation must have just run."""
    people, accounts, rates = simulation.people, simulation.accounts, simulation.company.rates
    number = people.signed_up_by(day)
    access = accounts.open[people.account[:number]] & (people.deleted[:number] > day)
    who = np.flatnonzero(access)
    account = people.account[who]
    age = day - accounts.created[account]
    use, returning, activation = people.use[who], people.returning[who], people.activation[who]
    deletion, closing = rates.deletion_per_day, closing_per_day(rates)
    paid = [np.ones(len(who)) for _ in State]
    trial = [np.ones(len(who)) for _ in State]
    for ahead in range(HORIZON_DAYS, 0, -1):
        then = day + ahead
        rests = 1 - use * rates.use_weekdays[simulation.company.weekday(then)]
        lapse = people.lapse_on(then, number)[who]

        def moved(
            after: list[Floats], rests: Floats = rests, lapse: Floats = lapse
        ) -> list[Floats]:
            fresh, engaged, lapsed = after
            gives_up = rates.giving_up_per_day
            return [
                gives_up * lapsed + (1 - activation - gives_up) * fresh,
                (1 - lapse) * rests * engaged + lapse * lapsed,
                returning * rests * engaged + (1 - returning) * lapsed,
            ]

        if_paid, if_trial = moved(paid), moved(trial)
        expired = age + ahead > HORIZON_DAYS
        conversion = rates.conversion_per_day
        paid = [deletion + (1 - deletion) * (closing + (1 - closing) * x) for x in if_paid]
        trial = [
            deletion
            + (1 - deletion) * np.where(expired, 1.0, conversion * x + (1 - conversion) * y)
            for x, y in zip(if_paid, if_trial, strict=True)
        ]
    on_trial = accounts.phase[account] == Phase.TRIAL
    state = people.state[who].astype(np.int64)
    no_use = np.where(on_trial, np.choose(state, trial), np.choose(state, paid))
    return Hazards(who, state, on_trial.astype(np.int64), no_use)
