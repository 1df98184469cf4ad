"""Define the synthetic company's rates, chosen and not measured. See docs/reference/synthetic.md."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

ByName: TypeAlias = dict[str, float]


class Kind(NamedTuple):
    """A type of person, with its share of people, daily probabilities and event factor."""

    share: float
    use_per_day: float
    lapse_per_day: float
    return_per_day: float
    events_factor: float


class Rates(BaseModel):
    """All of the company's probabilities and distributions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # Growth.
    growth_per_year: float = 2.0
    """Factor by which daily signups grow per year."""
    signup_weekdays: tuple[float, ...] = (1.0, 1.0, 1.0, 0.95, 0.85, 0.4, 0.4)
    """Signups by weekday, Monday through Sunday, relative to Monday."""
    users_per_account: int = 20
    """Mean number of users per account."""
    size_exponent: float = 0.4
    """Exponent x of the account weights. Accounts attract people in proportion to u^-x, where u is
    uniform on (0, 1), so the weights follow a Pareto law."""
    countries: ByName = {"US": 0.42, "UK": 0.16, "CA": 0.10, "AU": 0.08, "DE": 0.14, "FR": 0.10}
    """Share of accounts by country."""
    in_country_of_account: float = 0.85
    """Share of people whose country is their account's country. Other people are from any country."""
    invited_share: float = 0.5
    """Share of invited people among the people who join an existing account."""
    sources: ByName = {"organic": 0.45, "paid_search": 0.30, "referral": 0.15, "partner": 0.10}
    """Share of people by acquisition source, among people who were not invited."""

    # Activation.
    activation_per_day: float = 0.22
    """Daily probability of the first qualifying use, for people who have not given up."""
    giving_up_per_day: float = 0.12
    """Daily probability of giving up before the first use. People who give up can return later."""
    activation_by_country: ByName = {
        "US": 1.0,
        "UK": 1.05,
        "CA": 1.0,
        "AU": 0.95,
        "DE": 1.1,
        "FR": 0.9,
    }
    """Activation factor by the user's country."""
    activation_by_source: ByName = {
        "organic": 1.0,
        "paid_search": 0.75,
        "referral": 1.1,
        "partner": 1.0,
        "invitation": 1.2,
    }
    """Activation factor by acquisition source."""

    # Use, lapse and return.
    kinds: dict[str, Kind] = {
        "power": Kind(0.10, 0.70, 0.0025, 0.020, 1.6),
        "regular": Kind(0.30, 0.38, 0.0060, 0.012, 1.0),
        "casual": Kind(0.40, 0.13, 0.0100, 0.008, 0.7),
        "rare": Kind(0.20, 0.04, 0.0120, 0.006, 0.5),
    }
    """Types of people. Each type has a share of people, daily probabilities of use while engaged, of
    lapsing and of returning after a lapse, and a factor for the number of events per active day."""
    use_weekdays: tuple[float, ...] = (1.0, 1.0, 1.0, 0.97, 0.88, 0.35, 0.30)
    """Usage factor by weekday, Monday through Sunday."""
    lapse_by_country: ByName = {"US": 1.0, "UK": 1.0, "CA": 0.95, "AU": 1.1, "DE": 0.85, "FR": 1.15}
    """Lapse factor by the user's country."""
    lapse_by_breadth: tuple[float, ...] = (1.3, 1.0, 0.8, 0.65, 0.5)
    """Lapse factor by the number of products that the person will adopt."""
    deletion_per_day: float = 0.0003
    """Daily probability of deletion, starting on the day after signup."""
    browsing_engaged_per_day: float = 0.08
    """Daily probability that an engaged person only logs in and browses on a day without use."""
    browsing_other_per_day: float = 0.015
    """Daily probability that a person who is not engaged only logs in and browses."""

    # Products.
    breadths: tuple[float, ...] = (0.35, 0.27, 0.20, 0.12, 0.06)
    """Share of people who will adopt 1, 2, 3, 4 or 5 products."""
    adoption_per_active_day: float = 0.07
    """Probability of adopting the next product on an active day."""
    first_products: ByName = {
        "video_studio": 0.34,
        "design_canvas": 0.26,
        "team_spaces": 0.24,
        "live_review": 0.06,
        "insight_dashboards": 0.10,
    }
    """Share of people by first product, which is also the weight for later products."""
    affinities: ByName = {
        "video_studio > design_canvas": 3.0,
        "design_canvas > video_studio": 2.0,
        "team_spaces > live_review": 8.0,
        "video_studio > live_review": 2.0,
        "insight_dashboards > team_spaces": 2.0,
    }
    """Factor for the next product's weight, by the product that was adopted immediately before."""
    kept_share: float = 0.75
    """Share of later products that are used again after the first day."""
    product_ranks: tuple[float, ...] = (0.60, 0.22, 0.10, 0.05, 0.03)
    """Weights of a person's adopted products in the person's events, in order of adoption."""
    activating_share: float = 0.85
    """Share of adoptions that start with the product's activation event."""
    feature_users: float = 0.6
    """Share of people who ever use features."""
    looking_further: float = 0.3
    """Share of browsing page views on the next product instead of the first product."""

    # Events.
    events_per_active_day: float = 7.0
    """Mean number of events per active day for a person with factor 1. --events overrides this rate."""
    qualifying_share: float = 0.6
    """Share of qualifying events among the events after the login and the first qualifying event."""
    settings_share: float = 0.04
    """Share of settings changes among the non-qualifying events."""
    second_session_share: float = 0.25
    """Share of active days that have two sessions."""
    locations: ByName = {"web_app": 0.60, "mobile_app": 0.20, "desktop_app": 0.15, "api": 0.05}
    """Share of people by event location."""
    days_per_project: int = 3
    """Number of active days after which a person starts a new project."""

    # Accounts.
    conversion_per_day: float = 0.035
    """Daily probability of the first payment on each of the trial's 30 days."""
    leaving_per_day: float = 0.0008
    """Daily probability that a paid account decides to leave, which ends all use."""
    failure_per_day: float = 0.0022
    """Daily probability of a payment failure for a paid account."""
    recovered_share: float = 0.85
    """Share of payment failures that are recovered."""
    pause_per_day: float = 0.0005
    """Daily probability that a paid account is paused, which suspends all use."""
    seasonal_share: float = 0.5
    """Share of pauses that are seasonal."""
    silent_share: float = 0.5
    """Share of accounts that neither cancel nor renew, among accounts that leave 31 through 90 days
    before renewal."""
    second_failure_share: float = 0.5
    """Share of payment failures that are followed by a second failure, among payment failures that are
    still open after 6 days."""
    grace_share: float = 0.7
    """Share of payment failures that have a 7-day grace period."""
    winback_share: float = 0.6
    """Share of lapsed subscriptions that start again."""
    recovery_days: tuple[int, int] = (2, 26)
    """Days from a payment failure to its recovery, uniformly distributed."""
    pause_days: tuple[int, int] = (31, 75)
    """Length of a pause in days, uniformly distributed."""
    notice_days: tuple[int, int] = (31, 60)
    """Days from the decision to leave to the end of the contract, uniformly distributed."""
    winback_days: tuple[int, int] = (50, 120)
    """Days from a lapse to a new start, uniformly distributed."""
    renewal_lead_days: tuple[int, int] = (1, 30)
    """Days by which a renewal precedes the renewal date, uniformly distributed."""
    tiers: ByName = {"starter": 0.50, "professional": 0.38, "enterprise": 0.12}
    """Share of first payments by tier."""
    prices: dict[str, int] = {"starter": 12, "professional": 25, "enterprise": 45}
    """Revenue per seat and month by tier, in the reporting currency."""
    terms: dict[int, float] = {0: 0.3, 91: 0.3, 365: 0.4}
    """Share of accounts by the number of days from start to renewal, where 0 means open-ended."""
    seat_headroom: tuple[float, float] = (1.2, 1.8)
    """Ratio of seats to seats in use at the start, uniformly distributed."""
    seat_purchase: float = 1.4
    """Ratio of seats to seats in use after an account with too few seats buys seats."""
    seat_reserve: float = 1.1
    """Ratio of seats to seats in use after spare seats are dropped."""
    downsizing_per_day: float = 0.003
    """Daily probability that a paid account drops spare seats or, if the account has no spare seats,
    moves down one tier."""
    upgrade_per_day: float = 0.0008
    """Daily probability that a paid account upgrades to the next tier."""


DEFAULT_RATES = Rates()

HORIZON_DAYS = 30
"""Days that the hazard covers. Trials last exactly 30 days, and every loss of access lasts longer."""
