"""Simulate accounts' trials, contracts, payment failures, pauses, departures and returns day by day.

People have access while their account is on trial or paid. The events that end access are memoryless.
After access ends, access is not restored within the 30 days that the hazard covers (see `truth`). The
hazard can therefore be computed exactly:

- A trial converts with probability `conversion_per_day` on each of its 30 days. If the trial does not
  convert, access ends on day 31.
- Starting on the day after its first payment, a paid account closes with probability `closing_per_day`
  on each day. The account decides to leave, is paused or stops paying. Any open payment failure is
  resolved first.

A subscription lapses at least 31 days after the account closes, when no user in the account is active.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.randomness import (
    Bools,
    Floats,
    Ints,
    Keys,
    Purpose,
    between,
    choice,
    draw,
    draw_once,
    keys,
    part,
    uniform,
)
from monstera_assets.synthetic.rates import HORIZON_DAYS, Rates

NEVER = np.int64(1 << 40)
_NONE = np.int64(-1)
_SECOND_FAILURE_AFTER = 6
_GRACE_DAYS = 7
_SILENT_WITHIN = 90
_LEAST_SEATS = 2

# Hour at which each type of fact occurs, which determines the order of facts within a day.
_RECOVERED, _SECOND, _RESUMED, _STARTED, _CLOSED, _RENEWED, _CHANGED = 3, 5, 6, 8, 10, 12, 20


class Phase(IntEnum):
    """An account's phase."""

    UNFOUNDED = 0
    TRIAL = 1
    EXPIRED = 2
    PAID = 3
    LEAVING = 4
    PAUSED = 5
    LAPSED = 6


class Facts(NamedTuple):
    """Subscription events of one type on one day, with one row per account. Missing values are -1."""

    event_type: str
    account: Ints
    second: Ints
    seats: Ints
    revenue: Ints
    tier: Ints
    renewal: Ints
    effective: Ints
    grace: Ints
    reason: Ints


VALUES = Facts._fields[3:]
_CARRIED = {
    "subscription_started": ("seats", "revenue", "tier", "renewal"),
    "subscription_renewed": ("renewal",),
    "seats_changed": ("seats", "revenue"),
    "tier_changed": ("seats", "revenue", "tier"),
}
"""The current account values that each event type includes."""


def closing_per_day(rates: Rates) -> float:
    """Return the daily probability that a paid account closes."""
    return rates.leaving_per_day + rates.pause_per_day + _fatal_per_day(rates)


def _fatal_per_day(rates: Rates) -> float:
    return rates.failure_per_day * (1 - rates.recovered_share)


class Accounts:
    """A company's accounts, as arrays with one element per account. `step` simulates one day."""

    def __init__(self, company: Company) -> None:
        rates, number, seed = company.rates, company.accounts, company.seed
        self.company = company
        self.facts: list[tuple[int, Facts]] = []
        self.created = np.full(number, NEVER)
        self.created_second = np.zeros(number, dtype=np.int64)
        self.phase = np.full(number, Phase.UNFOUNDED, dtype=np.int64)
        self.until = np.full(number, NEVER)
        self.failing_since = np.full(number, _NONE)
        self.recovers_on = np.full(number, NEVER)
        self.second_failure_on = np.full(number, NEVER)
        self.renewal = np.full(number, _NONE)
        self.lead = np.zeros(number, dtype=np.int64)
        self.seats = np.zeros(number, dtype=np.int64)
        self.least_seats = np.full(number, _LEAST_SEATS)
        self.used_seats = np.zeros(number, dtype=np.int64)
        self.first_paid = np.full(number, NEVER)
        self.first_paid_second = np.zeros(number, dtype=np.int64)
        terms = draw_once(seed, Purpose.TERMS, number)
        self.term = np.array(list(rates.terms))[choice(part(terms, 0), list(rates.terms.values()))]
        self.tier = choice(part(terms, 1), list(rates.tiers.values()))
        self.prices = np.array([rates.prices[tier] for tier in rates.tiers])
        countries = uniform(draw_once(seed, Purpose.ACCOUNT, number))
        self.country = choice(countries, list(rates.countries.values()))
        size = uniform(draw_once(seed, Purpose.ACCOUNT_SIZE, number))
        self.weight: Floats = (1.0 - size) ** -rates.size_exponent
        self._conversion = keys(seed, Purpose.CONVERSION, number)
        self._closing = keys(seed, Purpose.CLOSING, number)
        self._failure = keys(seed, Purpose.FAILURE, number)
        self._details = keys(seed, Purpose.DETAILS, number)
        self._contract = keys(seed, Purpose.CONTRACT, number)

    @property
    def open(self) -> Bools:
        """Whether each account's people have access."""
        return np.isin(self.phase, (Phase.TRIAL, Phase.PAID))

    @property
    def revenue(self) -> Ints:
        """Each account's monthly revenue under its current contract."""
        revenue: Ints = self.seats * self.prices[self.tier]
        return revenue

    def found(self, accounts: Ints, day: int, seconds: Ints) -> None:
        """Create accounts and start their trials."""
        self.created[accounts] = day
        self.created_second[accounts] = seconds
        self.phase[accounts] = Phase.TRIAL

    def step(self, day: int) -> None:
        """Simulate one day for all accounts. People are simulated afterward."""
        rates = self.company.rates
        details = draw(self._details, day)
        paid_before = self.phase == Phase.PAID
        self._end_of_subscription(day, details)
        due = (self.until == day) & np.isin(self.phase, (Phase.LAPSED, Phase.PAUSED))
        self._start(due & (self.phase == Phase.LAPSED), day, details)
        self._resume(due & (self.phase == Phase.PAUSED), day)
        trial = (self.phase == Phase.TRIAL) & (self.created < day)
        expires = trial & (day - self.created > HORIZON_DAYS)
        converts = uniform(draw(self._conversion, day)) < rates.conversion_per_day
        self._start(trial & ~expires & converts, day, details)
        self.phase[expires] = Phase.EXPIRED
        self._recover(paid_before & (self.recovers_on == day), day)
        self._close(paid_before, day, details)
        self._fail_again(day)
        self._fail(day)
        self._renew(day, details)

    def settle_seats(self, day: int, used: Ints) -> None:
        """Change seats and tiers at the end of a day. Accounts buy missing seats and drop spare seats.

        `used` is the number of people in each account with qualifying use in the 30 days that end on
        the given day.
        """
        rates = self.company.rates
        self.used_seats = used
        on_trial = self.phase == Phase.TRIAL
        self.least_seats = np.where(on_trial, np.maximum(self.least_seats, used), self.least_seats)
        paid = self.phase == Phase.PAID
        numbers = uniform(draw(self._contract, day))
        buys = paid & (used > self.seats)
        self.seats[buys] = np.ceil(used[buys] * rates.seat_purchase).astype(np.int64)
        upgrades = paid & ~buys & (numbers < rates.upgrade_per_day) & (self.tier < 2)
        self.tier[upgrades] += 1
        smaller = paid & ~buys & (1 - numbers < rates.downsizing_per_day)
        wanted = np.maximum(np.ceil(used * rates.seat_reserve).astype(np.int64), self.least_seats)
        gives_up = smaller & (wanted < self.seats)
        self.seats[gives_up] = wanted[gives_up]
        downgrades = smaller & ~gives_up & (self.tier > 0)
        self.tier[downgrades] -= 1
        self._note("seats_changed", day, buys | gives_up, _CHANGED)
        self._note("tier_changed", day, upgrades | downgrades, _CHANGED)

    def _end_of_subscription(self, day: int, details: Keys) -> None:
        rates = self.company.rates
        ended = (self.phase == Phase.LEAVING) & (self.until < day)
        self.phase[ended] = Phase.LAPSED
        self.failing_since[ended] = _NONE
        back = day + between(part(details, 0), rates.winback_days)
        returns = part(details, 1) < rates.winback_share
        self.until = np.where(ended, np.where(returns, back, NEVER), self.until)

    def _start(self, who: Bools, day: int, details: Keys) -> None:
        """Start the first subscription, or a new subscription after a lapse."""
        low, high = self.company.rates.seat_headroom
        headroom = low + (high - low) * part(details, 2)
        wanted = np.ceil(np.maximum(self.used_seats, 1) * headroom).astype(np.int64)
        self.seats[who] = np.maximum(wanted, self.least_seats)[who]
        self.phase[who] = Phase.PAID
        self.until[who] = NEVER
        self._begin_term(who, np.full(len(self.seats), day), details)
        is_first = who & (self.first_paid == NEVER)
        self.first_paid[is_first] = day
        self.first_paid_second[is_first] = self._seconds(day, _STARTED)[is_first]
        self._note("subscription_started", day, who, _STARTED)

    def _begin_term(self, who: Bools, start: Ints, details: Keys) -> None:
        self.renewal[who] = np.where(self.term > 0, start + self.term, _NONE)[who]
        lead = between(part(details, 3), self.company.rates.renewal_lead_days)
        self.lead[who] = lead[who]

    def _resume(self, who: Bools, day: int) -> None:
        self.phase[who] = Phase.PAID
        self.until[who] = NEVER
        self._note("subscription_resumed", day, who, _RESUMED)

    def _fail_again(self, day: int) -> None:
        who = (self.second_failure_on == day) & (self.failing_since >= 0)
        self._note("payment_failed", day, who, _SECOND)

    def _recover(self, who: Bools, day: int) -> None:
        who = who & (self.failing_since >= 0)
        self._note("payment_recovered", day, who, _RECOVERED)
        self._settle(who)

    def _settle(self, who: Bools) -> None:
        self.failing_since[who] = _NONE
        self.recovers_on[who] = NEVER
        self.second_failure_on[who] = NEVER

    def _close(self, paid: Bools, day: int, details: Keys) -> None:
        """Choose accounts that paid on the previous day, and make them leave, pause or stop paying."""
        rates = self.company.rates
        numbers = uniform(draw(self._closing, day))
        leaves = paid & (numbers < rates.leaving_per_day)
        stops = rates.leaving_per_day + _fatal_per_day(rates)
        fails = paid & ~leaves & (numbers < stops)
        pauses = paid & ~leaves & ~fails & (numbers < closing_per_day(rates))
        self._recover(leaves | fails | pauses, day)
        self._leave(leaves, day, details)
        self.phase[fails] = Phase.LEAVING
        self.until[fails] = day + HORIZON_DAYS
        self._open_failure(fails, day)
        self.phase[pauses] = Phase.PAUSED
        length = between(part(details, 0), rates.pause_days)
        self.until[pauses] = day + length[pauses]
        seasonal = (part(details, 1) < rates.seasonal_share).astype(np.int64)
        self._note("subscription_paused", day, pauses, _CLOSED, reason=seasonal)

    def _leave(self, who: Bools, day: int, details: Keys) -> None:
        """End contracts by notice, by nonrenewal or after a final short extension."""
        rates = self.company.rates
        notice = day + between(part(details, 0), rates.notice_days)
        has_term = self.renewal >= 0
        left = self.renewal - day
        extends = who & has_term & (left <= HORIZON_DAYS)
        silent = who & has_term & ~extends & (left <= _SILENT_WITHIN)
        silent &= part(details, 1) < rates.silent_share
        cancels = who & ~extends & ~silent
        last = np.where(has_term, np.minimum(notice, self.renewal), notice)
        self.phase[who] = Phase.LEAVING
        self.renewal[extends] = notice[extends]
        self.until[extends] = notice[extends]
        self.until[silent] = self.renewal[silent]
        self.until[cancels] = last[cancels]
        self._note("subscription_renewed", day, extends, _RENEWED)
        self._note("subscription_cancelled", day, cancels, _CLOSED, effective=last)

    def _fail(self, day: int) -> None:
        """Start payment failures that will be recovered and do not end access."""
        rates = self.company.rates
        numbers = uniform(draw(self._failure, day))
        hazard = rates.failure_per_day * rates.recovered_share
        fails = (self.phase == Phase.PAID) & (self.failing_since < 0) & (numbers < hazard)
        days = between(numbers / hazard if hazard else numbers, rates.recovery_days)
        self.recovers_on[fails] = day + days[fails]
        self._open_failure(fails, day)

    def _open_failure(self, who: Bools, day: int) -> None:
        rates = self.company.rates
        numbers = draw(self._failure, day + (1 << 32))
        self.failing_since[who] = day
        again = who & (part(numbers, 0) < rates.second_failure_share)
        self.second_failure_on[again] = day + _SECOND_FAILURE_AFTER
        grace = np.where(part(numbers, 1) < rates.grace_share, day + _GRACE_DAYS, _NONE)
        self._note("payment_failed", day, who, _CLOSED, grace=grace)

    def _renew(self, day: int, details: Keys) -> None:
        who = (self.phase == Phase.PAID) & (self.failing_since < 0) & (self.renewal >= 0)
        who &= day >= self.renewal - self.lead
        self._begin_term(who, self.renewal, details)
        self._note("subscription_renewed", day, who, _RENEWED)

    def _seconds(self, day: int, hour: int) -> Ints:
        """Return a random second of the day within the given hour for each account."""
        numbers = draw(self._details, day + ((hour + 1) << 32))
        return hour * 3600 + between(part(numbers, 0), (0, 3599))

    def _note(self, event_type: str, day: int, who: Bools, hour: int, **values: Ints) -> None:
        """Record an event for some accounts, with `values` and the event type's account values."""
        accounts = np.flatnonzero(who)
        if not len(accounts):
            return
        values |= {name: getattr(self, name) for name in _CARRIED.get(event_type, ())}
        nothing = np.full(len(accounts), _NONE)
        columns = (values[name][accounts] if name in values else nothing for name in VALUES)
        seconds = self._seconds(day, hour)[accounts]
        self.facts.append((day, Facts(event_type, accounts, seconds, *columns)))
