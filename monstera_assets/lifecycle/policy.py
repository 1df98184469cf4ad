"""The thresholds of lifecycle and segments; the defaults are the framework's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SegmentPolicy(BaseModel):
    """Thresholds of the behavioural segments (framework, section 7).

    Counts are of qualifying events unless said otherwise; shares lie between 0 and 1. The lengths of
    the windows are the framework's own and stand with the measures, in `lifecycle/behavior.py`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_risk_min_events_before: int = Field(
        default=4,
        ge=1,
        description="Events of the 30 days before the last 30 from which a decline can be told.",
    )
    at_risk_max_event_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of those events at or below which the last 30 days are a decline.",
    )
    at_risk_quiet_days: int = Field(
        default=15, ge=1, description="Days since the last event from which a user is at risk."
    )
    at_risk_max_quiet_days: int = Field(
        default=30,
        ge=1,
        le=89,
        description="Days since the last event up to which a user is at risk.",
    )
    power_min_events: int = Field(
        default=20, ge=1, description="Events in 28 days of a power user."
    )
    power_min_products: int = Field(
        default=3, ge=1, description="Products used in 30 days that make such a user a power user."
    )
    power_min_features: int = Field(
        default=5, ge=1, description="Features used in 30 days that do so."
    )
    power_min_active_days: int = Field(
        default=20, ge=1, description="Active days in 30 that do so."
    )
    regular_min_events: int = Field(
        default=4, ge=2, description="Events in 28 days of a regular user."
    )
    value_high_above: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Share of workflow runs completed above which it is high.",
    )
    value_moderate_from: float = Field(
        default=0.3, ge=0, le=1, description="Share of workflow runs completed that is moderate."
    )
    platform_power_min_products: int = Field(
        default=4, ge=3, description="Active products of platform_power."
    )
    multi_min_products: int = Field(default=2, ge=2, description="Active products of multi.")
    explorer_min_products: int = Field(
        default=3, ge=1, description="Products tried of an explorer, who is active in few of them."
    )
    reactivation_days: int = Field(
        default=30,
        ge=0,
        le=60,
        description="Days after a reactivation during which it is the stage.",
    )
    onboarding_days: int = Field(
        default=30, ge=0, description="Days since signup up to which a user is onboarding."
    )
    adoption_days: int = Field(
        default=90, ge=0, description="Days since signup up to which a user is in adoption."
    )
    retention_days: int = Field(
        default=365, ge=0, description="Days since signup up to which a user is in retention."
    )
    completionist_min_share: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="Share of the features of the products in use that a completionist uses.",
    )
    completionist_min_features: int = Field(
        default=2, ge=1, description="Minimum number of features used to count as a completionist."
    )
    collaboration_event_types: tuple[str, ...] = Field(
        default=("member_invited", "project_shared"),
        description="Event types with which a user reaches other people.",
    )
    team_leader_min_people: int = Field(
        default=6, ge=2, description="People reached in 90 days by a team leader."
    )
    invitation_sources: tuple[str, ...] = Field(
        default=("invitation",),
        description="Acquisition sources of users who came by invitation.",
    )
    daily_min_days: int = Field(
        default=20, ge=1, le=28, description="Active days in 28 of the daily pattern."
    )
    weekly_min_weeks: int = Field(
        default=3, ge=1, le=4, description="Active weeks of the last 4 of the weekly pattern."
    )
    monthly_min_months: int = Field(
        default=2, ge=1, le=3, description="Active windows of 30 days, of the last 3, of monthly."
    )
    seasonal_tolerance_days: int = Field(
        default=15, ge=0, le=30, description="Days by which last year's use may lie off a year ago."
    )
    seasonal_quiet_days: int = Field(
        default=60, ge=1, description="Quiet days between then and now that are exceeded."
    )
    struggling_days: int = Field(
        default=14, ge=0, description="Days since signup up to which a new user can be struggling."
    )

    @model_validator(mode="after")
    def _in_order(self) -> SegmentPolicy:
        for lower, upper in (
            ("at_risk_quiet_days", "at_risk_max_quiet_days"),
            ("regular_min_events", "power_min_events"),
            ("value_moderate_from", "value_high_above"),
            ("multi_min_products", "platform_power_min_products"),
            ("onboarding_days", "adoption_days"),
            ("adoption_days", "retention_days"),
        ):
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise ValueError(f"{lower} ({low}) must not be above {upper} ({high})")
        return self


class AlertPolicy(BaseModel):
    """Alert thresholds (framework, section 9).

    Changes are relative, from one week to the next unless said otherwise; shares lie between 0 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_alert_population: int = Field(
        default=30,
        ge=1,
        description="People, events or rows on fewer of which a figure is not judged.",
    )
    min_schema_compliance: float = Field(
        default=0.95, ge=0, le=1, description="Share of a day's rows that must be accepted."
    )
    max_churn_increase: float = Field(
        default=0.2,
        ge=0,
        description="Maximum week-on-week increase in the churn rate before alerting.",
    )
    max_dormancy_increase: float = Field(
        default=0.1,
        ge=0,
        description="Maximum week-on-week increase in the dormancy rate before alerting.",
    )
    max_activation_decrease: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Maximum week-on-week decrease in the activation rate before alerting.",
    )
    max_reactivation_decrease: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Maximum week-on-week decrease in the reactivation rate before alerting.",
    )
    min_dunning_recovery: float = Field(
        default=0.6, ge=0, le=1, description="Share of closed failures that must be recovered."
    )
    max_volume_deviation: float = Field(
        default=0.2,
        ge=0,
        description="Deviation of a day's events from the mean of the same weekday in 4 weeks.",
    )
    max_share_shift: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Shift of a state's share of users from its mean over the 28 days before.",
    )
    max_time_in_new_increase: float = Field(
        default=0.2,
        ge=0,
        description="Increase of the mean time in the state new, from 28 days to the next.",
    )
    max_slow_decline: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Maximum decline in monthly active users over 4 weeks before alerting, if they"
        " fell in each.",
    )


class AnomalyPolicy(BaseModel):
    """When a day of a series is out of its expected range (docs/anomalies.md).

    A series is a measure of a segment, product or scope, day by day.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_false_alarms: float = Field(
        default=0.5,
        gt=0,
        le=90,
        description="False alarms a quarter, over all series, that ranges are made for.",
    )
    min_members: int = Field(
        default=100,
        ge=10,
        description="Members of a series on fewer of which a day is not judged.",
    )
    min_relative_deviation: float = Field(
        default=0.05,
        ge=0,
        description="Deviation from the activity expected, as a share of it, below which no day is out"
        " of range.",
    )
    min_share_deviation: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="Deviation from the expected share of a state below which no day is out of range.",
    )


class ChurnPolicy(BaseModel):
    """What churn scores are made from, and from where on they speak (docs/churn.md).

    A snapshot is what was known at the end of one day; snapshots lie 30 days apart, back from the
    as-of date. Rows are users or accounts on the date of a snapshot. Risks lie between 0 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation_dates: int = Field(
        default=6,
        ge=1,
        le=24,
        description="Latest snapshots whose outcome is known, to evaluate on.",
    )
    training_dates: int = Field(
        default=12, ge=1, le=36, description="Snapshots before a date that a model learns from."
    )
    max_rows_per_date: int = Field(
        default=2500, ge=100, description="Rows of a past snapshot; of more a sample is taken."
    )
    min_training_rows: int = Field(
        default=500, ge=50, description="Rows to learn from below which base rates are given."
    )
    min_outcomes: int = Field(
        default=50,
        ge=10,
        description="Rows that churned, and rows that did not, that learning takes at least, and"
        " evaluation as well.",
    )
    medium_risk_from: float = Field(
        default=0.25, ge=0, le=1, description="Probability from which a user's risk is medium."
    )
    high_risk_from: float = Field(
        default=0.5, ge=0, le=1, description="Probability from which a user's risk is high."
    )
    account_medium_risk_from: float = Field(
        default=0.1, ge=0, le=1, description="Probability from which an account's risk is medium."
    )
    account_high_risk_from: float = Field(
        default=0.25, ge=0, le=1, description="Probability from which an account's risk is high."
    )

    @model_validator(mode="after")
    def _in_order(self) -> ChurnPolicy:
        for lower, upper in (
            ("medium_risk_from", "high_risk_from"),
            ("account_medium_risk_from", "account_high_risk_from"),
        ):
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise ValueError(f"{lower} ({low}) must not be above {upper} ({high})")
        return self


class RecommendationPolicy(BaseModel):
    """How products are recommended, and how that is evaluated (docs/recommendations.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prior_users: int = Field(
        default=10,
        ge=0,
        description="Users at a product's usual rate that are added to those of each pair.",
    )
    evaluation_dates: int = Field(
        default=6,
        ge=1,
        le=240,
        description="Dates, 30 days apart and the latest 30 days before the as-of date, to evaluate"
        " on.",
    )
    min_judged_users: int = Field(
        default=100,
        ge=1,
        description="Adoptions to judge by, on all dates together, below which the most popular"
        " products are recommended.",
    )


class LifecyclePolicy(BaseModel):
    """Thresholds of the rules (framework, sections 3 to 7). All day counts are calendar days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new_user_days: int = Field(
        default=30,
        ge=0,
        description="Days after signup during which a user without value yet is new.",
    )
    active_days: int = Field(
        default=30,
        ge=1,
        description="Largest number of days since qualifying use of an active user.",
    )
    dormant_days: int = Field(
        default=60,
        ge=0,
        description="Largest number of days since qualifying use of a dormant user.",
    )
    min_qualifying_events_to_activate: int = Field(
        default=1, ge=1, description="Qualifying events that end the state new within its days."
    )
    dunning_days: int = Field(
        default=30,
        ge=0,
        description="Days from the first open payment failure to the end of the subscription.",
    )
    trial_days: int = Field(
        default=30,
        ge=0,
        description="Days after creation for which an account that never paid is on trial.",
    )
    onboarding_days: int = Field(
        default=30,
        ge=0,
        description="Days after its first payment for which an account is new_paid whatever it does.",
    )
    new_paid_days: int = Field(
        default=90,
        ge=0,
        description="Days after its first payment for which an otherwise steady account is new_paid.",
    )
    churn_days: int = Field(
        default=61, ge=1, description="Days after which a lapsed account is churned."
    )
    reactivated_days: int = Field(
        default=90, ge=0, description="Days for which an account that returned is reactivated."
    )
    breadth_target: int = Field(
        default=5, ge=1, description="Products in use that make full marks for product breadth."
    )
    workflow_days: int = Field(
        default=7,
        ge=0,
        description="Days after its first step within which a workflow run can be completed.",
    )
    min_affinity_support: int = Field(
        default=5,
        ge=1,
        description="Users of both products below which the affinity of a pair is marked as weak.",
    )
    segments: SegmentPolicy = Field(
        default_factory=SegmentPolicy, description="Thresholds of the behavioural segments."
    )

    alerts: AlertPolicy = Field(default_factory=AlertPolicy, description="Alert thresholds.")
    anomalies: AnomalyPolicy = Field(
        default_factory=AnomalyPolicy, description="When a day is out of its expected range."
    )
    churn: ChurnPolicy = Field(
        default_factory=ChurnPolicy, description="What churn scores are made from."
    )
    recommendations: RecommendationPolicy = Field(
        default_factory=RecommendationPolicy, description="How products are recommended."
    )

    @model_validator(mode="after")
    def _dormant_after_active(self) -> LifecyclePolicy:
        if self.dormant_days < self.active_days:
            raise ValueError(
                f"dormant_days ({self.dormant_days}) must not be below active_days"
                f" ({self.active_days})"
            )
        return self
