"""The thresholds of lifecycle and segments; the defaults are the framework's.

The text under a setting is its description, in the documentation as well.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, model_validator

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Policy(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rising: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of settings of which the first must not be above the second."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for lower, upper in self.rising:
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise ValueError(f"{lower} ({low}) must not be above {upper} ({high})")
        return self


class SegmentPolicy(_Policy):
    """Thresholds of the behavioural segments (framework, section 7).

    Counts are of qualifying events unless said otherwise; shares lie between 0 and 1. The lengths of
    the windows are the framework's own and stand with the measures, in `lifecycle/behavior.py`.
    """

    rising = (
        ("at_risk_quiet_days", "at_risk_max_quiet_days"),
        ("regular_min_events", "power_min_events"),
        ("value_moderate_from", "value_high_above"),
        ("multi_min_products", "platform_power_min_products"),
        ("onboarding_days", "adoption_days"),
        ("adoption_days", "retention_days"),
    )

    at_risk_min_events_before: Count = 4
    """Events of the 30 days before the last 30 from which a decline can be told."""
    at_risk_max_event_share: Share = 0.5
    """Share of those events at or below which the last 30 days are a decline."""
    at_risk_quiet_days: Count = 15
    """Days since the last event from which a user is at risk."""
    at_risk_max_quiet_days: int = Field(30, ge=1, le=89)
    """Days since the last event up to which a user is at risk."""
    power_min_events: Count = 20
    """Events in 28 days of a power user."""
    power_min_products: Count = 3
    """Products used in 30 days that make such a user a power user."""
    power_min_features: Count = 5
    """Features used in 30 days that do so."""
    power_min_active_days: Count = 20
    """Active days in 30 that do so."""
    regular_min_events: int = Field(4, ge=2)
    """Events in 28 days of a regular user."""
    value_high_above: Share = 0.7
    """Share of workflow runs completed above which it is high."""
    value_moderate_from: Share = 0.3
    """Share of workflow runs completed that is moderate."""
    platform_power_min_products: int = Field(4, ge=3)
    """Active products of platform_power."""
    multi_min_products: int = Field(2, ge=2)
    """Active products of multi."""
    explorer_min_products: Count = 3
    """Products tried of an explorer, who is active in few of them."""
    reactivation_days: int = Field(30, ge=0, le=60)
    """Days after a reactivation during which it is the stage."""
    onboarding_days: NonNegativeInt = 30
    """Days since signup up to which a user is onboarding."""
    adoption_days: NonNegativeInt = 90
    """Days since signup up to which a user is in adoption."""
    retention_days: NonNegativeInt = 365
    """Days since signup up to which a user is in retention."""
    completionist_min_share: float = Field(0.6, gt=0, le=1)
    """Share of the features of the products in use that a completionist uses."""
    completionist_min_features: Count = 2
    """Minimum number of features used to count as a completionist."""
    collaboration_event_types: tuple[str, ...] = ("member_invited", "project_shared")
    """Event types with which a user reaches other people."""
    team_leader_min_people: int = Field(6, ge=2)
    """People reached in 90 days by a team leader."""
    invitation_sources: tuple[str, ...] = ("invitation",)
    """Acquisition sources of users who came by invitation."""
    daily_min_days: int = Field(20, ge=1, le=28)
    """Active days in 28 of the daily pattern."""
    weekly_min_weeks: int = Field(3, ge=1, le=4)
    """Active weeks of the last 4 of the weekly pattern."""
    monthly_min_months: int = Field(2, ge=1, le=3)
    """Active windows of 30 days, of the last 3, of monthly."""
    seasonal_tolerance_days: int = Field(15, ge=0, le=30)
    """Days by which last year's use may lie off a year ago."""
    seasonal_quiet_days: Count = 60
    """Quiet days between then and now that are exceeded."""
    struggling_days: NonNegativeInt = 14
    """Days since signup up to which a new user can be struggling."""


class AlertPolicy(_Policy):
    """Alert thresholds (framework, section 9).

    Changes are relative, from one week to the next unless said otherwise; shares lie between 0 and 1.
    """

    min_alert_population: Count = 30
    """People, events or rows on fewer of which a figure is not judged."""
    min_schema_compliance: Share = 0.95
    """Share of a day's rows that must be accepted."""
    max_churn_increase: NonNegativeFloat = 0.2
    """Maximum week-on-week increase in the churn rate before alerting."""
    max_dormancy_increase: NonNegativeFloat = 0.1
    """Maximum week-on-week increase in the dormancy rate before alerting."""
    max_activation_decrease: Share = 0.15
    """Maximum week-on-week decrease in the activation rate before alerting."""
    max_reactivation_decrease: Share = 0.25
    """Maximum week-on-week decrease in the reactivation rate before alerting."""
    min_dunning_recovery: Share = 0.6
    """Share of closed failures that must be recovered."""
    max_volume_deviation: NonNegativeFloat = 0.2
    """Deviation of a day's events from the mean of the same weekday in 4 weeks."""
    max_share_shift: Share = 0.05
    """Shift of a state's share of users from its mean over the 28 days before."""
    max_time_in_new_increase: NonNegativeFloat = 0.2
    """Increase of the mean time in the state new, from 28 days to the next."""
    max_slow_decline: Share = 0.05
    """Maximum decline in monthly active users over 4 weeks before alerting, if they fell in each."""


class AnomalyPolicy(_Policy):
    """When a day of a series is out of its expected range (docs/anomalies.md).

    A series is a measure of a segment, product or scope, day by day.
    """

    max_false_alarms: float = Field(0.5, gt=0, le=90)
    """False alarms a quarter, over all series, that ranges are made for."""
    min_members: int = Field(100, ge=10)
    """Members of a series on fewer of which a day is not judged."""
    min_relative_deviation: NonNegativeFloat = 0.05
    """Deviation from the activity expected, as a share of it, below which no day is out of range."""
    min_share_deviation: Share = 0.002
    """Deviation from the expected share of a state below which no day is out of range."""


class ChurnPolicy(_Policy):
    """What churn scores are made from, and from where on they speak (docs/churn.md).

    A snapshot is what was known at the end of one day; snapshots lie 30 days apart, back from the
    as-of date. Rows are users or accounts on the date of a snapshot. Risks lie between 0 and 1.
    """

    rising = (
        ("medium_risk_from", "high_risk_from"),
        ("account_medium_risk_from", "account_high_risk_from"),
    )

    evaluation_dates: int = Field(6, ge=1, le=24)
    """Latest snapshots whose outcome is known, to evaluate on."""
    training_dates: int = Field(12, ge=1, le=36)
    """Snapshots before a date that a model learns from."""
    max_rows_per_date: int = Field(2500, ge=100)
    """Rows of a past snapshot; of more a sample is taken."""
    min_training_rows: int = Field(500, ge=50)
    """Rows to learn from below which base rates are given."""
    min_outcomes: int = Field(50, ge=10)
    """Minimum rows that churned, and that did not, to train a model and to evaluate it."""
    medium_risk_from: Share = 0.25
    """Probability from which a user's risk is medium."""
    high_risk_from: Share = 0.5
    """Probability from which a user's risk is high."""
    account_medium_risk_from: Share = 0.1
    """Probability from which an account's risk is medium."""
    account_high_risk_from: Share = 0.25
    """Probability from which an account's risk is high."""


class RecommendationPolicy(_Policy):
    """How products are recommended, and how that is evaluated (docs/recommendations.md)."""

    prior_users: NonNegativeInt = 10
    """Users at a product's usual rate that are added to those of each pair."""
    evaluation_dates: int = Field(6, ge=1, le=240)
    """Dates, 30 days apart and the latest 30 days before the as-of date, to evaluate on."""
    min_judged_users: Count = 100
    """Adoptions on all dates, to judge by, below which the most popular products are recommended."""


class LifecyclePolicy(_Policy):
    """Thresholds of the rules (framework, sections 3 to 7). All day counts are calendar days."""

    new_user_days: NonNegativeInt = 30
    """Days after signup during which a user without value yet is new."""
    active_days: Count = 30
    """Largest number of days since qualifying use of an active user."""
    dormant_days: NonNegativeInt = 60
    """Largest number of days since qualifying use of a dormant user."""
    min_qualifying_events_to_activate: Count = 1
    """Qualifying events that end the state new within its days."""
    dunning_days: NonNegativeInt = 30
    """Days from the first open payment failure to the end of the subscription."""
    trial_days: NonNegativeInt = 30
    """Days after creation for which an account that never paid is on trial."""
    onboarding_days: NonNegativeInt = 30
    """Days after its first payment for which an account is new_paid whatever it does."""
    new_paid_days: NonNegativeInt = 90
    """Days after its first payment for which an otherwise steady account is new_paid."""
    churn_days: Count = 61
    """Days after which a lapsed account is churned."""
    reactivated_days: NonNegativeInt = 90
    """Days for which an account that returned is reactivated."""
    breadth_target: Count = 5
    """Products in use that make full marks for product breadth."""
    workflow_days: NonNegativeInt = 7
    """Days after its first step within which a workflow run can be completed."""
    min_affinity_support: Count = 5
    """Users of both products below which the affinity of a pair is marked as weak."""
    segments: SegmentPolicy = SegmentPolicy()
    """Thresholds of the behavioural segments."""
    alerts: AlertPolicy = AlertPolicy()
    """Alert thresholds."""
    anomalies: AnomalyPolicy = AnomalyPolicy()
    """When a day is out of its expected range."""
    churn: ChurnPolicy = ChurnPolicy()
    """What churn scores are made from."""
    recommendations: RecommendationPolicy = RecommendationPolicy()
    """How products are recommended."""

    @model_validator(mode="after")
    def _dormant_after_active(self) -> Self:
        if self.dormant_days < self.active_days:
            raise ValueError(
                f"dormant_days ({self.dormant_days}) must not be below active_days"
                f" ({self.active_days})"
            )
        return self
