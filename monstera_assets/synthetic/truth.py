"""Compute the true hazard, the probability that a person has no qualifying event in the next 30 days.

The hazard is computed for each person with access at the end of a day, given the person's hidden state.
Let p be the daily probability of use, and f the weekday factor. Let h, r, a, b and d be the daily
probabilities of lapse, return, activation, abandonment and deletion. Let g be the daily probability
that a paid account closes, and c the daily probability that a trial converts. The probability of no
qualifying events from a day onward follows from the next day's probability (marked with '), which is 1
after 30 days:

    engaged        E = (1 - h) (1 - p f) E' + h L'
    lapsed         L = r (1 - p f) E' + (1 - r) L'
    not activated  N = b L' + (1 - a - b) N'
    paid           X = d + (1 - d) (g + (1 - g) X)
    on trial       X = d + (1 - d) (c X of paid + (1 - c) X of trial), or 1 after the trial's 30 days

X is E, L or N. In the last line, "X of paid" is the value before d and g are applied, because an
account does not close on the day of its first payment. The recursion is exact, because access is not
restored within 30 days after access ends, and the disturbances to h are known.
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
    """People with access at the end of a day, with their hidden states and true hazards."""

    user: Ints
    state: Ints
    on_trial: Ints
    no_use: Floats


def hazards(simulation: Simulation, day: int) -> Hazards:
    """Return the true hazards at the end of a day, which must be the last simulated day."""
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
