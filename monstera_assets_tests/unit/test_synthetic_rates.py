"""Test that a synthetic company behaves according to its rates.

Observed counts are compared with sums of probabilities that the tests derive from the rates alone. The
tolerance is four standard errors of a sum of independent Bernoulli draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from math import sqrt

import numpy as np
import pytest

from monstera_assets.synthetic.accounts import NEVER, Phase
from monstera_assets.synthetic.anomalies import (
    Anomaly,
    ChurnSpike,
    DoubledLoad,
    SlowDrift,
    TrackingOutage,
)
from monstera_assets.synthetic.catalog import EVENT_TYPES, PRODUCTS
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.events import EventMaker, Events, mean_events
from monstera_assets.synthetic.people import State
from monstera_assets.synthetic.randomness import Bools, Floats
from monstera_assets.synthetic.rates import DEFAULT_RATES as RATES
from monstera_assets.synthetic.simulation import Simulation

COMPANY = Company(users=6_000, days=360, seed=20_250_630)
KINDS = list(RATES.kinds.values())
COUNTRIES = list(RATES.countries)
SOURCES = [*RATES.sources, "invitation"]


@dataclass
class Tally:
    """The observed and the expected count, and the variance of their difference."""

    seen: float = 0.0
    expected: float = 0.0
    variance: float = 0.0

    def add(self, happened: Bools, probability: Floats | float) -> None:
        chances = np.broadcast_to(np.asarray(probability, dtype=float), happened.shape)
        self.seen += float(happened.sum())
        self.expected += float(chances.sum())
        self.variance += float((chances * (1 - chances)).sum())

    def holds(self) -> bool:
        assert self.expected >= 10, "too few expected events for a test"
        return abs(self.seen - self.expected) <= 4 * sqrt(self.variance)


@dataclass
class Observed:
    """A company after its last day, and the tallies by event and group."""

    simulation: Simulation
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def tally(self, what: str, of: str, happened: Bools, probability: Floats | float) -> None:
        self.tallies.setdefault((what, of), Tally()).add(happened, probability)


def lapse_hazard(kind: int, country: int, breadth: int) -> float:
    return (
        KINDS[kind].lapse_per_day
        * RATES.lapse_by_country[COUNTRIES[country]]
        * RATES.lapse_by_breadth[breadth - 1]
    )


@cache
def observed(anomalies: tuple[Anomaly, ...] = ()) -> Observed:
    """Simulate the company and tally all changes of people and accounts."""
    company = Company(COMPANY.users, COMPANY.days, COMPANY.seed, anomalies=anomalies)
    simulation = Simulation(company)
    people, accounts = simulation.people, simulation.accounts
    found = Observed(simulation)
    table = np.array(
        [
            [[lapse_hazard(k, c, b) for b in range(1, 6)] for c in range(len(COUNTRIES))]
            for k in range(len(KINDS))
        ]
    )
    before = people.state.copy()
    phase, failing = accounts.phase.copy(), accounts.failing_since.copy()
    for day, done in simulation.run():
        number = people.signed_up_by(day)
        now = people.state[:number]
        was = before[:number]
        country, kind = people.country[:number], people.kind[:number]
        half = "first half" if day < company.days // 2 else "second half"
        hazard = table[kind, country, people.breadth[:number] - 1]
        engaged = was == State.ENGAGED
        lapses = engaged & (now == State.LAPSED)
        found.tally("lapse", half, lapses[engaged], hazard[engaged])
        for index, name in enumerate(COUNTRIES):
            chosen = engaged & (country == index)
            found.tally("lapse", name, lapses[chosen], hazard[chosen])
        for index, name in enumerate(RATES.kinds):
            chosen = engaged & (kind == index)
            found.tally("lapse", name, lapses[chosen], hazard[chosen])
            chosen = (was == State.LAPSED) & (kind == index)
            found.tally("return", name, now[chosen] == State.ENGAGED, KINDS[index].return_per_day)
        fresh = was == State.NOT_ACTIVATED
        for index, source in enumerate(SOURCES):
            chosen = fresh & (people.source[:number] == index)
            by_country = np.array([RATES.activation_by_country[name] for name in COUNTRIES])
            odds = (
                RATES.activation_per_day
                * RATES.activation_by_source[source]
                * by_country[country[chosen]]
            )
            found.tally("activation", source, now[chosen] == State.ENGAGED, odds)
        found.tally("giving up", half, now[fresh] == State.LAPSED, RATES.giving_up_per_day)

        access = accounts.open[people.account[:number]] & (people.deleted[:number] > day)
        works = np.zeros(number, dtype=bool)
        works[done.working] = True
        browses = np.zeros(number, dtype=bool)
        browses[done.browsing] = True
        assert not (works | browses)[~access].any()
        just = fresh & (now == State.ENGAGED)
        assert works[just & access].all()
        weekday = (company.first + timedelta(days=day)).weekday()
        chosen = access & ~just & (now == State.ENGAGED)
        use = np.array([each.use_per_day for each in KINDS])[kind] * RATES.use_weekdays[weekday]
        found.tally("use", f"weekday {weekday}", works[chosen], use[chosen])
        chosen &= ~works
        found.tally("browsing", "engaged", browses[chosen], RATES.browsing_engaged_per_day)
        chosen = access & (now != State.ENGAGED)
        assert not works[chosen].any()
        found.tally("browsing", "others", browses[chosen], RATES.browsing_other_per_day)
        exposed = (people.deleted[:number] >= day) & (people.signup[:number] < day)
        found.tally(
            "deletion", half, people.deleted[:number][exposed] == day, RATES.deletion_per_day
        )

        trial = (phase == Phase.TRIAL) & (day - accounts.created <= 30)
        found.tally(
            "conversion", "all", accounts.phase[trial] == Phase.PAID, RATES.conversion_per_day
        )
        assert (accounts.phase[(phase == Phase.TRIAL) & ~trial] == Phase.EXPIRED).all()
        paid = phase == Phase.PAID
        fatal = RATES.failure_per_day * (1 - RATES.recovered_share)
        found.tally(
            "leaving", "all", accounts.phase[paid] == Phase.LEAVING, RATES.leaving_per_day + fatal
        )
        found.tally("pause", "all", accounts.phase[paid] == Phase.PAUSED, RATES.pause_per_day)
        steady = paid & (failing < 0) & (accounts.phase == Phase.PAID)
        found.tally(
            "failure",
            "all",
            accounts.failing_since[steady] == day,
            RATES.failure_per_day * RATES.recovered_share,
        )
        before[:number] = now
        phase, failing = accounts.phase.copy(), accounts.failing_since.copy()
    return found


TALLIES = [
    *(("lapse", of) for of in ("first half", "second half", *COUNTRIES, *RATES.kinds)),
    *(("return", of) for of in RATES.kinds),
    *(("activation", of) for of in SOURCES),
    *((what, of) for what in ("giving up", "deletion") for of in ("first half", "second half")),
    *(("use", f"weekday {weekday}") for weekday in range(7)),
    *(("browsing", of) for of in ("engaged", "others")),
    *((what, "all") for what in ("conversion", "leaving", "pause", "failure")),
]


@pytest.mark.parametrize(("what", "of"), TALLIES)
def test_frequencies_are_as_documented(what: str, of: str) -> None:
    assert observed().tallies[what, of].holds()


def shares() -> Iterator[tuple[str, Sequence[float], np.ndarray]]:
    people, accounts = observed().simulation.people, observed().simulation.accounts
    joiners = ~people.founds
    yield "kinds", [kind.share for kind in KINDS], people.kind
    yield "breadths", RATES.breadths, people.breadth - 1
    yield "locations", list(RATES.locations.values()), people.place
    yield "features", [1 - RATES.feature_users, RATES.feature_users], people.uses_features
    yield "countries", list(RATES.countries.values()), accounts.country
    yield "invited", [1 - RATES.invited_share, RATES.invited_share], people.source[joiners] == 4
    others = people.source[people.source < 4]
    yield "sources", list(RATES.sources.values()), others
    stays = RATES.in_country_of_account
    at_home = np.array(list(RATES.countries.values()))[accounts.country[people.account[joiners]]]
    same = people.country[joiners] == accounts.country[people.account[joiners]]
    chance = float((stays + (1 - stays) * at_home).mean())
    yield "in country of account", [1 - chance, chance], same
    first = [RATES.first_products[product.product_id] for product in PRODUCTS]
    yield "first products", first, people.order[:, 0]
    second = people.breadth > 1
    kept = people.kept[second, 1]
    yield "kept", [1 - RATES.kept_share, RATES.kept_share], kept
    # Weights by hand: those of the products after team_spaces, the third product, times affinity.
    after = second & (people.order[:, 0] == 2)
    weights = [0.34, 0.26, 0.0, 0.06 * 8, 0.10]
    yield "after team_spaces", [w / sum(weights) for w in weights], people.order[after, 1]


def test_shares_are_as_documented() -> None:
    for name, documented, drawn in shares():
        assert sum(documented) == pytest.approx(1.0), name
        for value, share in enumerate(documented):
            tally = Tally()
            tally.add(drawn.astype(int) == value, share)
            assert share == 0 or tally.holds(), (name, value)


def test_tiers_and_terms_of_first_payments() -> None:
    accounts = Simulation(Company(users=60_000, days=2)).accounts
    for documented, drawn in (
        (list(RATES.tiers.values()), accounts.tier),
        (list(RATES.terms.values()), np.searchsorted(sorted(RATES.terms), accounts.term)),
    ):
        for value, share in enumerate(documented):
            tally = Tally()
            tally.add(drawn == value, share)
            assert tally.holds()


def test_signups_grow_and_drop_on_weekends() -> None:
    people = observed().simulation.people
    days = np.arange(COMPANY.days)
    weekdays = np.array([(COMPANY.first + timedelta(days=int(day))).weekday() for day in days])
    pace = 2.0 ** (days / 365) * np.array(RATES.signup_weekdays)[weekdays]
    pace /= pace.sum()
    for month in range(0, COMPANY.days, 30):
        tally = Tally()
        within = (people.signup >= month) & (people.signup < month + 30)
        tally.add(within, float(pace[month : month + 30].sum()))
        assert tally.holds()
    for weekday in range(7):
        tally = Tally()
        tally.add(weekdays[people.signup] == weekday, float(pace[weekdays == weekday].sum()))
        assert tally.holds()
    assert (np.diff(people.signup * 86_400 + people.signup_second) >= 0).all()


def test_facts_of_accounts_have_their_documented_shares_and_lengths() -> None:
    accounts = Simulation(Company(users=60_000, days=400, seed=3))
    for _ in accounts.run():
        pass
    facts = accounts.accounts.facts
    failed = [each for _, each in facts if each.event_type == "payment_failed"]
    first = np.concatenate([each.grace[each.second >= 6 * 3600] for each in failed])
    tally = Tally()
    tally.add(first >= 0, RATES.grace_share)
    assert tally.holds()
    paused = np.concatenate(
        [each.reason for _, each in facts if each.event_type == "subscription_paused"]
    )
    tally = Tally()
    tally.add(paused == 1, RATES.seasonal_share)
    assert tally.holds()
    pauses: dict[int, int] = {}
    lengths = []
    for day, each in facts:
        for account in each.account.tolist():
            if each.event_type == "subscription_paused":
                pauses[account] = day
            elif each.event_type == "subscription_resumed":
                lengths.append(day - pauses.pop(account))
    assert min(lengths) >= 31
    assert max(lengths) <= 75


def day_events(company: Company) -> Iterator[tuple[int, Simulation, Events]]:
    simulation = Simulation(company)
    maker = EventMaker(simulation, mean_events(company))
    for day, done in simulation.run():
        yield day, simulation, maker.of_day(day, done)


def test_events_of_an_active_day() -> None:
    """Each active day has a login and work, and the number of events has the documented mean."""
    qualifies = np.array([kind.qualifies for kind in EVENT_TYPES])
    counts: dict[int, list[int]] = {kind: [] for kind in range(len(KINDS))}
    for _, simulation, events in day_events(Company(users=1_500, days=120, seed=5)):
        if not len(events.user):
            continue
        works = np.unique(events.user[qualifies[events.code]])
        total = np.bincount(events.user, minlength=1_500)
        logins = np.bincount(events.user[events.code == 0], minlength=1_500)
        assert (logins[np.unique(events.user)] == 1).all()
        for user in works:
            counts[int(simulation.people.kind[user])].append(int(total[user]))
    for kind, seen in counts.items():
        mean = max(RATES.events_per_active_day * KINDS[kind].events_factor, 2.0)
        further = mean - 2
        assert min(seen) >= 2
        error = sqrt(further * (1 + further) / len(seen))
        assert abs(float(np.mean(seen)) - mean) <= 4 * error


def test_sharing_reaches_others_of_the_same_account_who_had_joined() -> None:
    reached = 0
    for day, simulation, events in day_events(Company(users=800, days=90, seed=6)):
        chosen = events.target >= 0
        account = simulation.people.account
        assert (account[events.target[chosen]] == account[events.user[chosen]]).all()
        assert (events.target[chosen] != events.user[chosen]).all()
        assert (simulation.people.signup[events.target[chosen]] <= day).all()
        reached += int(chosen.sum())
    assert reached > 100


@pytest.mark.parametrize("events", [60_000, 200_000])
def test_requested_events_are_generated_within_five_percent(events: int) -> None:
    company = Company(users=1_000, days=150, seed=8, events=events)
    made = sum(len(each.user) for _, _, each in day_events(company))
    assert abs(made / events - 1) <= 0.05


def test_a_churn_spike_raises_the_lapses_of_its_country_only() -> None:
    spike = ChurnSpike(date(2025, 3, 1), date(2025, 5, 31), "DE", 6.0)
    found = observed((spike,))
    assert not found.tallies["lapse", "DE"].holds()
    assert all(found.tallies["lapse", name].holds() for name in COUNTRIES if name != "DE")


def test_a_drift_raises_the_hazard_evenly() -> None:
    first, last = date(2025, 1, 1), date(2025, 1, 10)
    company = Company(days=360, anomalies=(SlowDrift(first, last, 3.0),))
    start = (first - company.first).days
    factors = [company.lapse_factors(start + offset)["US"] for offset in (-1, 0, 4, 9, 60)]
    assert factors == pytest.approx([1.0, 1.2, 2.0, 3.0, 3.0])


def test_an_outage_loses_only_its_share() -> None:
    outage = TrackingOutage(date(2025, 6, 10), date(2025, 6, 12), 0.4)
    plain = Company(users=1_500, days=60, seed=4)
    with_outage = Company(users=1_500, days=60, seed=4, anomalies=(outage,))
    tally = Tally()
    for (day, _, all_events), (_, _, kept) in zip(
        day_events(plain), day_events(with_outage), strict=True
    ):
        if outage.first <= plain.date_of(day) <= outage.last:
            happened = np.arange(len(all_events.user)) < len(kept.user)
            tally.add(happened, 0.6)
        else:
            assert all((a == b).all() for a, b in zip(all_events, kept, strict=True))
    assert tally.holds()


def test_a_doubled_load_is_of_its_day() -> None:
    company = Company(days=30, anomalies=(DoubledLoad(date(2025, 6, 20)),))
    assert [day for day in range(30) if company.is_doubled(day)] == [19]


def test_seats_cover_active_users_and_no_user_is_active_when_a_subscription_lapses() -> None:
    company = Company(users=3_000, days=400, seed=11)
    simulation = Simulation(company)
    people, accounts = simulation.people, simulation.accounts
    lapsed_on = np.full(company.accounts, NEVER)
    for day, _ in simulation.run():
        paid = np.isin(accounts.phase, (Phase.PAID, Phase.LEAVING, Phase.PAUSED))
        assert (accounts.used_seats[paid] <= accounts.seats[paid]).all()
        lapsed = accounts.phase == Phase.LAPSED
        lapsed_on = np.where(lapsed, np.minimum(lapsed_on, day), NEVER)
        number = people.signed_up_by(day)
        there = lapsed[people.account[:number]]
        assert (day - people.last_used[:number][there] > 30).all()
    assert (lapsed_on < NEVER).sum() > 3


def test_contracts_run_and_come_back_as_documented() -> None:
    company = Company(users=80_000, days=420, seed=13)
    simulation = Simulation(company)
    accounts = simulation.accounts
    phase = accounts.phase.copy()
    lapsed_on = np.full(company.accounts, NEVER)
    back_after: dict[int, int] = {}
    for day, _ in simulation.run():
        lapses = (phase != Phase.LAPSED) & (accounts.phase == Phase.LAPSED)
        first = lapses & (lapsed_on == NEVER)
        lapsed_on[first] = day
        for account in np.flatnonzero((phase == Phase.LAPSED) & (accounts.phase == Phase.PAID)):
            back_after.setdefault(int(account), day - int(lapsed_on[account]))
        phase = accounts.phase.copy()
    assert min(back_after.values()) == 50
    assert max(back_after.values()) <= 120
    known = np.flatnonzero(lapsed_on + 120 < company.days)
    returned = np.array([int(account) in back_after for account in known])
    tally = Tally()
    tally.add(returned, RATES.winback_share)
    assert tally.holds()

    failed: dict[int, int] = {}
    renewed_before, notices, recovered_after = set(), set(), set()
    renewal: dict[int, int] = {}
    for day, each in accounts.facts:
        for account, date_then, effective in zip(
            each.account.tolist(), each.renewal.tolist(), each.effective.tolist(), strict=True
        ):
            if each.event_type == "subscription_renewed" and date_then - renewal[account] in (
                91,
                365,
            ):
                renewed_before.add(renewal[account] - day)
            if each.event_type == "subscription_cancelled":
                notices.add(effective - day)
            if each.event_type == "payment_failed":
                failed.setdefault(account, day)
            if each.event_type == "payment_recovered":
                recovered_after.add(day - failed.pop(account))
            if date_then >= 0:
                renewal[account] = date_then
    # A renewal can be late after a pause or a failure.
    assert set(range(1, 31)) <= renewed_before
    assert max(renewed_before) == 30
    assert notices == set(range(31, 61))
    assert set(range(2, 27)) <= recovered_after


def test_events_of_an_active_day_have_the_documented_shares() -> None:
    """Shares of qualifying events, settings changes, second sessions and activation events."""
    qualifies = np.array([kind.qualifies for kind in EVENT_TYPES])
    activates = np.array([kind.activates for kind in EVENT_TYPES])
    tallies = {name: Tally() for name in ("qualifying", "settings", "sessions", "activating")}
    for _, simulation, events in day_events(Company(users=2_000, days=150, seed=14)):
        people = simulation.people
        work = qualifies[events.code]
        works = np.zeros(2_000, dtype=bool)
        works[events.user[work]] = True
        of_worker = works[events.user]
        further = int(of_worker.sum() - 2 * works.sum())
        happened = np.arange(further) < int(work.sum() - works.sum())
        tallies["qualifying"].add(happened, RATES.qualifying_share)
        others = events.code[of_worker & ~work & (events.code != 0)]
        tallies["settings"].add(others == 1, RATES.settings_share)
        second = np.zeros(2_000, dtype=bool)
        second[events.user[events.session == 1]] = True
        tallies["sessions"].add(second[works], RATES.second_session_share)
        # The first work on the first active day.
        first_day = works & (people.days_in_use == 1)
        for user in np.flatnonzero(first_day):
            of_user = events.code[(events.user == user) & work]
            share = next(iter(PRODUCTS[people.order[user, 0]].acts)).share
            if people.uses_features[user]:
                chance = RATES.activating_share + (1 - RATES.activating_share) * share
                if len(of_user) == 1:
                    tallies["activating"].add(activates[of_user], chance)
    for name, tally in tallies.items():
        assert tally.holds(), name


def test_the_next_product_takes_the_documented_number_of_active_days() -> None:
    people = observed().simulation.people
    chosen = people.breadth > 1
    waits = (people.adopted_on[chosen, 1] - people.adopted_on[chosen, 0]).astype(float)
    chance = RATES.adoption_per_active_day
    error = sqrt((1 - chance) / chance**2 / len(waits))
    assert abs(waits.mean() - 1 / chance) <= 4 * error
    assert waits.min() == 1
