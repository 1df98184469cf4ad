"""Test that the true hazard equals a step-by-step simulation of the documented chain."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from math import sqrt
from random import Random

import numpy as np
import pytest

from monstera_assets.synthetic.anomalies import ChurnSpike
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.people import State
from monstera_assets.synthetic.rates import DEFAULT_RATES as RATES
from monstera_assets.synthetic.simulation import Simulation
from monstera_assets.synthetic.truth import Hazards, hazards

WALKS = 4_000
SPIKE = ChurnSpike(date(2025, 6, 1), date(2025, 6, 20), "US", 5.0)
COMPANY = Company(users=600, days=200, seed=12, anomalies=(SPIKE,))
DAY = 175  # 2025-06-05, so that the spike covers a part of the next 30 days


@cache
def known() -> tuple[Simulation, Hazards]:
    simulation = Simulation(COMPANY)
    for day, _ in simulation.run():
        if day == DAY:
            return simulation, hazards(simulation, day)
    raise AssertionError


def no_use(random: Random, simulation: Simulation, user: int, state: int, on_trial: int) -> bool:
    """Simulate 30 days by the rules of docs/reference/synthetic.md, and return if there was no use."""
    people, accounts = simulation.people, simulation.accounts
    kind = list(RATES.kinds.values())[people.kind[user]]
    country = list(RATES.countries)[people.country[user]]
    source = [*RATES.sources, "invitation"][people.source[user]]
    lapse = (
        kind.lapse_per_day
        * RATES.lapse_by_country[country]
        * RATES.lapse_by_breadth[people.breadth[user] - 1]
    )
    activation = (
        RATES.activation_per_day
        * RATES.activation_by_country[country]
        * RATES.activation_by_source[source]
    )
    closing = (
        RATES.leaving_per_day
        + RATES.pause_per_day
        + RATES.failure_per_day * (1 - RATES.recovered_share)
    )
    trial_age = DAY - int(accounts.created[people.account[user]])
    for ahead in range(1, 31):
        today = COMPANY.first + timedelta(days=DAY + ahead)
        if random.random() < RATES.deletion_per_day:
            return True
        if on_trial:
            if trial_age + ahead > 30:
                return True
            on_trial = random.random() >= RATES.conversion_per_day
        elif random.random() < closing:
            return True
        spiked = SPIKE.first <= today <= SPIKE.last and country == SPIKE.country
        chance = random.random()
        if state == State.NOT_ACTIVATED:
            if chance < activation:
                return False
            if chance < activation + RATES.giving_up_per_day:
                state = State.LAPSED
        elif state == State.ENGAGED:
            if chance < lapse * (SPIKE.factor if spiked else 1.0):
                state = State.LAPSED
        elif chance < kind.return_per_day:
            state = State.ENGAGED
        use = kind.use_per_day * RATES.use_weekdays[today.weekday()]
        if state == State.ENGAGED and random.random() < use:
            return False
    return True


def examples() -> list[int]:
    """Return rows of people who differ in hidden state, kind and account phase."""
    simulation, true = known()
    kinds = simulation.people.kind[true.user]
    groups = np.unique(np.stack([true.state, kinds, true.on_trial]), axis=1, return_index=True)[1]
    return sorted(groups.tolist())


def test_the_examples_cover_all_states_and_kinds() -> None:
    simulation, true = known()
    rows = examples()
    assert {int(true.state[row]) for row in rows} == {0, 1, 2}
    assert {int(true.on_trial[row]) for row in rows} == {0, 1}
    assert {int(simulation.people.kind[true.user[row]]) for row in rows} == {0, 1, 2, 3}


def test_the_true_hazard_equals_that_of_simulated_walks() -> None:
    simulation, true = known()
    random = Random(99)  # noqa: S311  # not for secrets
    for row in examples():
        user, state, on_trial = (
            int(true.user[row]),
            int(true.state[row]),
            int(true.on_trial[row]),
        )
        quiet = sum(no_use(random, simulation, user, state, on_trial) for _ in range(WALKS))
        probability = float(true.no_use[row])
        error = sqrt(probability * (1 - probability) / WALKS)
        assert abs(quiet / WALKS - probability) <= 4 * error, (user, state, on_trial)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_true_hazard_is_calibrated(seed: int) -> None:
    """Compare sums per account, because people in the same account are not independent."""
    company = Company(users=6_000, days=150, seed=seed)
    simulation = Simulation(company)
    day = company.days - 31
    true: Hazards | None = None
    used = np.zeros(company.users, dtype=bool)
    for today, done in simulation.run():
        if true is not None:
            used[done.working] = True
        if today == day:
            true = hazards(simulation, day)
    assert true is not None
    account = simulation.people.account[true.user]
    for state in State:
        chosen = true.state == state
        off = (~used[true.user] - true.no_use)[chosen]
        by_account = np.bincount(account[chosen], weights=off)
        assert abs(float(off.sum())) <= 4 * sqrt(float((by_account**2).sum())), state


def test_only_people_with_access_have_a_hazard() -> None:
    simulation, true = known()
    people = simulation.people
    assert simulation.accounts.open[people.account[true.user]].all()
    assert (people.deleted[true.user] > DAY).all()
    assert (people.signup[true.user] <= DAY).all()
    assert ((true.no_use > 0) & (true.no_use <= 1)).all()
