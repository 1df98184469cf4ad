"""Define thresholds for the lifecycle rules and segments, with the framework's defaults.

Each setting's docstring is also the setting's description in the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    field_validator,
    model_validator,
)

Count = Annotated[int, Field(ge=1)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]


def _in_order(value: object) -> object:
    return sorted(value.items()) if isinstance(value, Mapping) else value


ExchangeRates = Annotated[
    tuple[tuple[Currency, Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=8)]], ...],
    BeforeValidator(_in_order),
]
"""Rates by currency. They can be given as a mapping. As pairs, a policy can be hashed."""
Share = Annotated[float, Field(ge=0, le=1)]


class _Policy(BaseModel):
    """A base class for groups of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rising: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of settings in which the first setting must not exceed the second setting."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for lower, upper in self.rising:
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise ValueError(f"{lower} ({low}) must not exceed {upper} ({high})")
        return self


class SegmentPolicy(_Policy):
    """Thresholds for the behavioral segments (framework, section 7).

    All events are qualifying events, and all shares are between 0 and 1. The framework fixes the window
    lengths, which are set in `lifecycle/behavior.py`.
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
    """Minimum number of events in the 30 days before the last 30 days for a decline to be detected."""
    at_risk_max_event_share: Share = 0.5
    """Maximum ratio of events in the last 30 days to events in the previous 30 days for a decline."""
    at_risk_quiet_days: Count = 15
    """Minimum number of days since the last event for a quiet user to be at risk."""
    at_risk_max_quiet_days: int = Field(30, ge=1, le=89)
    """Maximum number of days since the last event for a quiet user to be at risk."""
    power_min_events: Count = 20
    """Minimum number of events in 28 days for a power user."""
    power_min_products: Count = 3
    """Minimum number of products used in 30 days for a user with enough events to be a power user."""
    power_min_features: Count = 5
    """Minimum number of features used in 30 days for a user with enough events to be a power user."""
    power_min_active_days: Count = 20
    """Minimum number of active days out of 30 for a user with enough events to be a power user."""
    regular_min_events: int = Field(4, ge=2)
    """Minimum number of events in 28 days for a regular user."""
    value_high_above: Share = 0.7
    """Share of completed workflow runs above which value realization is high."""
    value_moderate_from: Share = 0.3
    """Minimum share of completed workflow runs for moderate value realization."""
    platform_power_min_products: int = Field(4, ge=3)
    """Minimum number of active products for the platform_power segment."""
    multi_min_products: int = Field(2, ge=2)
    """Minimum number of active products for the multi segment."""
    explorer_min_products: Count = 3
    """Minimum number of products tried for the explorer segment."""
    reactivation_days: int = Field(30, ge=0, le=60)
    """Number of days after a reactivation during which a user is in the reactivation stage."""
    onboarding_days: NonNegativeInt = 30
    """Maximum number of days since signup for the onboarding stage."""
    adoption_days: NonNegativeInt = 90
    """Maximum number of days since signup for the adoption stage."""
    retention_days: NonNegativeInt = 365
    """Maximum number of days since signup for the retention stage."""
    completionist_min_share: float = Field(0.6, gt=0, le=1)
    """Minimum share of features used by a completionist, among all features in the products used."""
    completionist_min_features: Count = 2
    """Minimum number of features used by a completionist."""
    collaboration_event_types: tuple[str, ...] = ("member_invited", "project_shared")
    """Event types that count as collaboration."""
    team_leader_min_people: int = Field(6, ge=2)
    """Minimum number of people reached in 90 days for a team leader."""
    invitation_sources: tuple[str, ...] = ("invitation",)
    """Acquisition sources of invited users."""
    daily_min_days: int = Field(20, ge=1, le=28)
    """Minimum number of active days out of the last 28 for the daily pattern."""
    weekly_min_weeks: int = Field(3, ge=1, le=4)
    """Minimum number of active weeks out of the last 4 for the weekly pattern."""
    monthly_min_months: int = Field(2, ge=1, le=3)
    """Minimum number of active 30-day windows out of the last 3 for the monthly pattern."""
    seasonal_tolerance_days: int = Field(15, ge=0, le=30)
    """Maximum number of days between last year's activity and the date one year ago."""
    seasonal_quiet_days: Count = 60
    """Number of quiet days that a seasonal user must exceed after last year's activity."""
    struggling_days: NonNegativeInt = 14
    """Maximum number of days since signup for a struggling new user."""


class AlertPolicy(_Policy):
    """Alert thresholds (framework, section 9).

    Unless otherwise specified, changes are relative and measured week over week. All shares are between
    0 and 1.
    """

    min_alert_population: Count = 30
    """Minimum number of people, events or rows to evaluate a figure or show its change in percent."""
    alert_significance: float = Field(0.001, gt=0, lt=1)
    """Maximum p-value of the two-proportion test for a changed rate to raise an alert."""
    max_gap_days: Count = 14
    """Maximum number of days between the last two days with data."""
    min_schema_compliance: Share = 0.95
    """Minimum share of accepted rows per day."""
    max_churn_increase: NonNegativeFloat = 0.2
    """Maximum week-over-week increase in the churn rate without an alert."""
    max_dormancy_increase: NonNegativeFloat = 0.1
    """Maximum week-over-week increase in the dormancy rate without an alert."""
    max_activation_decrease: Share = 0.15
    """Maximum week-over-week decrease in the activation rate without an alert."""
    max_reactivation_decrease: Share = 0.25
    """Maximum week-over-week decrease in the reactivation rate without an alert."""
    min_dunning_recovery: Share = 0.6
    """Minimum share of closed payment failures that were recovered."""
    max_volume_deviation: NonNegativeFloat = 0.2
    """Maximum deviation of daily events from the mean for the same weekday over the last 4 weeks."""
    max_share_shift: Share = 0.05
    """Maximum deviation of a state's share of users from its mean over the previous 28 days."""
    max_time_in_new_increase: NonNegativeFloat = 0.2
    """Maximum increase in the mean time in the new state between consecutive 28-day periods."""
    max_slow_decline: Share = 0.05
    """Maximum decline in monthly active users over 4 consecutive weeks of decline."""


class AnomalyPolicy(_Policy):
    """Settings for anomaly detection (docs/explanation/anomalies.md).

    A series consists of the daily values of one measure for one segment, product or scope.
    """

    max_false_alarms: float = Field(0.5, gt=0, le=90)
    """Expected number of false alerts per quarter, across all series."""
    min_members: int = Field(100, ge=10)
    """Minimum number of members in a series for a day to be evaluated."""
    min_relative_deviation: NonNegativeFloat = 0.05
    """Minimum deviation for an anomaly in activity, as a share of expected activity."""
    min_share_deviation: Share = 0.002
    """Minimum deviation for an anomaly in the share of members in a state."""


class ChurnPolicy(_Policy):
    """Settings for the churn models (docs/explanation/churn.md).

    A snapshot captures what was known at the end of one day. Snapshots are 30 days apart, counting
    back from the as-of date. Each row represents a user or an account on a snapshot date. Risks are
    between 0 and 1.
    """

    rising = (
        ("medium_risk_from", "high_risk_from"),
        ("account_medium_risk_from", "account_high_risk_from"),
    )

    evaluation_dates: int = Field(6, ge=1, le=24)
    """Number of evaluation snapshots. The latest snapshots with known outcomes are used."""
    training_dates: int = Field(12, ge=1, le=36)
    """Number of snapshots used to train a model, counting back from the model date."""
    max_rows_per_date: int = Field(2500, ge=100)
    """Maximum number of rows per past snapshot. Larger snapshots are sampled."""
    min_training_rows: int = Field(500, ge=50)
    """Minimum number of training rows. With fewer rows, base rates are used as scores."""
    min_outcomes: int = Field(50, ge=10)
    """Minimum number of churned rows, and of non-churned rows, to train and evaluate a model."""
    medium_risk_from: Share = 0.25
    """Minimum churn probability for a user's risk to be medium."""
    high_risk_from: Share = 0.5
    """Minimum churn probability for a user's risk to be high."""
    account_medium_risk_from: Share = 0.1
    """Minimum churn probability for an account's risk to be medium."""
    account_high_risk_from: Share = 0.25
    """Minimum churn probability for an account's risk to be high."""


class RecommendationPolicy(_Policy):
    """Settings for recommendations and their evaluation (docs/explanation/recommendations.md)."""

    prior_users: NonNegativeInt = 10
    """Number of users added to each pair as a prior, at the product's overall adoption rate."""
    evaluation_dates: int = Field(6, ge=1, le=240)
    """Number of evaluation dates, 30 days apart. The latest date is 30 days before the as-of date."""
    min_judged_users: Count = 100
    """Minimum number of evaluated adoptions. With fewer adoptions, popular products are recommended."""


class LifecyclePolicy(_Policy):
    """Thresholds for the rules (framework, sections 3 through 7). Days are calendar days."""

    new_user_days: NonNegativeInt = 30
    """Number of days after signup during which a user who has not activated is new."""
    active_days: Count = 30
    """Maximum number of days since the last qualifying event for an active user."""
    dormant_days: NonNegativeInt = 60
    """Maximum number of days since the last qualifying event for a dormant user."""
    min_qualifying_events_to_activate: Count = 1
    """Minimum number of qualifying events for a new user to become active."""
    renewal_grace_days: NonNegativeInt = 3
    """Number of days after the renewal date during which an account still pays without a renewal."""
    dunning_days: NonNegativeInt = 30
    """Number of days from the first open payment failure to the end of the subscription."""
    trial_days: NonNegativeInt = 30
    """Number of days after creation during which an account that has never paid is on trial."""
    onboarding_days: NonNegativeInt = 30
    """Days after the first payment during which an account is new_paid regardless of activity."""
    new_paid_days: NonNegativeInt = 90
    """Days after the first payment during which an account without other signals is new_paid."""
    churn_days: Count = 61
    """Number of days after which a lapsed account is churned."""
    reactivated_days: NonNegativeInt = 90
    """Days after paying again during which an account that had churned is reactivated."""
    subscription_tiers: tuple[str, ...] = Field(
        ("trial", "starter", "professional", "enterprise"), min_length=1
    )
    """Subscription tiers, from the lowest to the highest. Other tiers are kept but have no rank."""
    reporting_currency: Currency = "USD"
    """Currency of all amounts in the tables, as an ISO 4217 code."""
    exchange_rates: ExchangeRates = ()
    """Constant value of one unit of other currencies in the reporting currency, by currency."""
    breadth_target: Count = 5
    """Number of products in use that is required for a full product breadth score."""
    workflow_days: NonNegativeInt = 7
    """Maximum number of days from the first step to the completion of a workflow run."""
    min_affinity_support: Count = 5
    """Minimum number of users who adopted both products. Pairs with fewer users have low support."""
    max_rejected_share: Share = 0.5
    """Maximum share of an input's rows that may be rejected before a run fails."""
    segments: SegmentPolicy = SegmentPolicy()
    """Thresholds for the behavioral segments."""
    alerts: AlertPolicy = AlertPolicy()
    """Alert thresholds."""
    anomalies: AnomalyPolicy = AnomalyPolicy()
    """Settings for anomaly detection."""
    churn: ChurnPolicy = ChurnPolicy()
    """Settings for the churn models."""
    recommendations: RecommendationPolicy = RecommendationPolicy()
    """Settings for product recommendations."""

    @field_validator("subscription_tiers")
    @classmethod
    def _each_tier_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({tier for tier in value if value.count(tier) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)}: list each tier only once")
        return value

    @model_validator(mode="after")
    def _dormant_after_active(self) -> Self:
        if self.dormant_days < self.active_days:
            raise ValueError(
                f"dormant_days ({self.dormant_days}) must not be less than active_days"
                f" ({self.active_days})"
            )
        return self
