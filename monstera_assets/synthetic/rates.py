"""The rates of the made-up company. Chosen, not measured: docs/synthetic.md gives the reasons."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

ByName: TypeAlias = dict[str, float]


class Kind(NamedTuple):
    """A kind of person: how common, how busy while engaged, how likely to lapse and to return."""

    share: float
    use_per_day: float
    lapse_per_day: float
    return_per_day: float
    events_factor: float


class Rates(BaseModel):
    """Everything random, with its probability. "A day" is a probability on each day."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # How the company grows.
    growth_per_year: float = 2.0
    """Factor by which signups a day grow in a year."""
    signup_weekdays: tuple[float, ...] = (1.0, 1.0, 1.0, 0.95, 0.85, 0.4, 0.4)
    """Signups of Monday to Sunday, relative to Monday."""
    users_per_account: int = 20
    """Mean number of users of an account."""
    size_exponent: float = 0.4
    """Accounts attract people in proportion to u^-x, u even in (0, 1): a Pareto law."""
    countries: ByName = {"US": 0.42, "UK": 0.16, "CA": 0.10, "AU": 0.08, "DE": 0.14, "FR": 0.10}
    """Share of accounts by country."""
    in_country_of_account: float = 0.85
    """Share of joiners in their account's country; the others are anywhere."""
    invited_share: float = 0.5
    """Share of those who join an existing account who came by invitation."""
    sources: ByName = {"organic": 0.45, "paid_search": 0.30, "referral": 0.15, "partner": 0.10}
    """Acquisition source of everybody else."""

    # Whether people come to value.
    activation_per_day: float = 0.22
    """A day from signup on, first qualifying use of who has neither used nor given up."""
    giving_up_per_day: float = 0.12
    """A day, giving up before the first use; a later return is possible."""
    activation_by_country: ByName = {
        "US": 1.0,
        "UK": 1.05,
        "CA": 1.0,
        "AU": 0.95,
        "DE": 1.1,
        "FR": 0.9,
    }
    """Factor on activation by the user's country."""
    activation_by_source: ByName = {
        "organic": 1.0,
        "paid_search": 0.75,
        "referral": 1.1,
        "partner": 1.0,
        "invitation": 1.2,
    }
    """Factor on activation by acquisition source."""

    # How engaged people work, lapse and return.
    kinds: dict[str, Kind] = {
        "power": Kind(0.10, 0.70, 0.0025, 0.020, 1.6),
        "regular": Kind(0.30, 0.38, 0.0060, 0.012, 1.0),
        "casual": Kind(0.40, 0.13, 0.0100, 0.008, 0.7),
        "rare": Kind(0.20, 0.04, 0.0120, 0.006, 0.5),
    }
    """By kind of person: share of people; use a day while engaged; lapse a day; return a day of
    who has lapsed; factor on events of a day in use."""
    use_weekdays: tuple[float, ...] = (1.0, 1.0, 1.0, 0.97, 0.88, 0.35, 0.30)
    """Factor on use on Monday to Sunday."""
    lapse_by_country: ByName = {"US": 1.0, "UK": 1.0, "CA": 0.95, "AU": 1.1, "DE": 0.85, "FR": 1.15}
    """Factor on lapse by the user's country."""
    lapse_by_breadth: tuple[float, ...] = (1.3, 1.0, 0.8, 0.65, 0.5)
    """Factor on lapse by the number of products that the person is going to adopt."""
    deletion_per_day: float = 0.0003
    """A day from the day after signup on, deletion of the user."""
    browsing_engaged_per_day: float = 0.08
    """A day without use, logging in to look around only, while engaged."""
    browsing_other_per_day: float = 0.015
    """The same of everybody else."""

    # Products.
    breadths: tuple[float, ...] = (0.35, 0.27, 0.20, 0.12, 0.06)
    """Share of people who are going to adopt 1, 2, 3, 4, 5 products."""
    adoption_per_active_day: float = 0.07
    """On a day in use, adoption of the next product."""
    first_products: ByName = {
        "video_studio": 0.34,
        "design_canvas": 0.26,
        "team_spaces": 0.24,
        "live_review": 0.06,
        "insight_dashboards": 0.10,
    }
    """Share of people by first product; also the weight of further ones."""
    affinities: ByName = {
        "video_studio > design_canvas": 3.0,
        "design_canvas > video_studio": 2.0,
        "team_spaces > live_review": 8.0,
        "video_studio > live_review": 2.0,
        "insight_dashboards > team_spaces": 2.0,
    }
    """Factor on the weight of the next product by the one adopted before it."""
    kept_share: float = 0.75
    """Share of further products that are used again after the first day."""
    product_ranks: tuple[float, ...] = (0.60, 0.22, 0.10, 0.05, 0.03)
    """Weight of the first, second ... adopted product in what is done."""
    activating_share: float = 0.85
    """Share of adoptions that begin with the product's activation event."""
    feature_users: float = 0.6
    """Share of people who ever use features."""
    looking_further: float = 0.3
    """Share of days of browsing spent on the next product, not the first."""

    # Events.
    events_per_active_day: float = 7.0
    """Mean events of a day in use of a person with factor 1; --events replaces it."""
    qualifying_share: float = 0.6
    """Share of qualifying ones among events after the login and the first work."""
    settings_share: float = 0.04
    """Share of settings changed among the others."""
    second_session_share: float = 0.25
    """Share of days in use with two sessions."""
    locations: ByName = {"web_app": 0.60, "mobile_app": 0.20, "desktop_app": 0.15, "api": 0.05}
    """Share of people by where they work."""
    days_per_project: int = 3
    """Days in use after which a person turns to a new project."""

    # Accounts.
    conversion_per_day: float = 0.035
    """A day of the trial's 30 after creation, first payment."""
    leaving_per_day: float = 0.0008
    """A day while paid, decision to leave; nobody works from then on."""
    failure_per_day: float = 0.0022
    """A day while paid, failure of a payment."""
    recovered_share: float = 0.85
    """Share of failures that are recovered."""
    pause_per_day: float = 0.0005
    """A day while paid, pause; nobody works in it."""
    seasonal_share: float = 0.5
    """Share of pauses that are seasonal."""
    silent_share: float = 0.5
    """Share of leavers due for renewal in 31 to 90 days who let it pass in silence."""
    second_failure_share: float = 0.5
    """Share of failures still open after 6 days that then have a second one."""
    grace_share: float = 0.7
    """Share of failures with 7 days of grace."""
    winback_share: float = 0.6
    """Share of lapsed subscriptions that start again."""
    recovery_days: tuple[int, int] = (2, 26)
    """Days to recovery, evenly."""
    pause_days: tuple[int, int] = (31, 75)
    """Days of a pause, evenly."""
    notice_days: tuple[int, int] = (31, 60)
    """Days from decision to end, evenly."""
    winback_days: tuple[int, int] = (50, 120)
    """Days lapsed before a new start, evenly."""
    renewal_lead_days: tuple[int, int] = (1, 30)
    """Days before its date that a contract is renewed, evenly."""
    tiers: ByName = {"starter": 0.50, "professional": 0.38, "enterprise": 0.12}
    """Share of first payments by tier."""
    prices: dict[str, int] = {"starter": 12, "professional": 25, "enterprise": 45}
    """Revenue a seat and month by tier, in the company's currency."""
    terms: dict[int, float] = {0: 0.3, 91: 0.3, 365: 0.4}
    """Share of accounts by days from start to renewal; 0 is open-ended."""
    seat_headroom: tuple[float, float] = (1.2, 1.8)
    """Seats at the start over seats in use, evenly."""
    seat_purchase: float = 1.4
    """Seats over seats in use after a purchase, made when there are too few."""
    seat_reserve: float = 1.1
    """Seats over seats in use after spare ones were given up."""
    downsizing_per_day: float = 0.003
    """A day while paid, giving up spare seats, or without any a tier."""
    upgrade_per_day: float = 0.0008
    """A day while paid, move to the tier above."""


DEFAULT_RATES = Rates()

HORIZON_DAYS = 30
"""Days ahead of the hazard; trials last as long, and no stop of an account is shorter."""
