"""Churn prediction targets for users and accounts, with their features, horizons and reasons.

Each reason describes a feature group, because the features in a group are correlated and their
individual weights have little meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from monstera_assets.lifecycle.policy import ChurnPolicy

STEP_DAYS = 30
"""Days between snapshots. A user with no qualifying event for this long has churned."""
ACCOUNT = "account_id"
"""Name of the account column in user and account features."""


@dataclass(frozen=True)
class Group:
    """A group of features that share one reason.

    Attributes:
        reason: sentence template with column names in braces.
        numbers: numeric columns; missing values form a separate level.
        categories: text columns.
        reason_if_unknown: sentence for rows with a missing value in one of those columns.
    """

    reason: str
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    reason_if_unknown: str = "not known"


@dataclass(frozen=True)
class Target:
    """An entity whose churn is predicted, with the horizon and features.

    Attributes:
        entity: `user` or `account`.
        model_version: version that changes whenever the features, model or calibration changes.
        horizon_steps: number of 30-day steps from a snapshot until its outcome is known.
        age: column with the number of days since signup or creation.
        baseline: the only column that the baseline uses.
        baseline_edges: lower edges of this column's bins.
        baseline_reason: reason given for baseline scores.
        risk_settings: names of the `ChurnPolicy` settings for medium and high risk.
        groups: feature groups, starting with the most predictive.
    """

    entity: str
    model_version: str
    horizon_steps: int
    age: str
    baseline: str
    baseline_edges: tuple[float, ...]
    baseline_reason: str
    risk_settings: tuple[str, str]
    groups: tuple[Group, ...]

    @property
    def key(self) -> str:
        """The column that contains the user or account ID."""
        return f"{self.entity}_id"

    @property
    def features(self) -> tuple[str, ...]:
        """The feature columns in all groups."""
        return tuple(name for group in self.groups for name in (*group.numbers, *group.categories))

    @property
    def horizon_days(self) -> int:
        """Days from a snapshot until its outcome is known."""
        return self.horizon_steps * STEP_DAYS

    def risk_thresholds(self, policy: ChurnPolicy) -> tuple[float, float]:
        """Return the probability thresholds for medium and high risk."""
        medium, high = (float(getattr(policy, name)) for name in self.risk_settings)
        return medium, high


USERS = Target(
    entity="user",
    model_version="user-churn-2",
    horizon_steps=1,
    age="days_since_signup",
    baseline="days_quiet",
    baseline_edges=(0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 18, 22, 26),
    baseline_reason="quiet for {days_quiet} days",
    risk_settings=("medium_risk_from", "high_risk_from"),
    groups=(
        Group(
            "quiet for {days_quiet} days, active on {active_days_90} of the last 90",
            numbers=("active_days_missed", "days_quiet"),
        ),
        Group(
            "active on {active_days_30} of the last 30 days, in {weeks_active} of the last 4 weeks",
            numbers=(
                *("active_days_7", "active_days_30", "active_days_90"),
                *("weeks_active", "events_30"),
            ),
        ),
        Group(
            "{events_30} events in the last 30 days, {events_before_30} in the 30 before",
            numbers=("months_active", "events_before_30"),
        ),
        Group(
            "{products_used_30} products and {features_used_30} features used in the last 30 days",
            numbers=(
                *("products_used_30", "products_active_before", "features_used_30"),
                *("people_reached", "workflows_started", "workflows_completed"),
            ),
        ),
        Group(
            "signed up {days_since_signup} days ago, {total_qualifying_events} events since then",
            numbers=("days_since_signup", "total_qualifying_events"),
            categories=("activity_state",),
        ),
        Group(
            "{temporal_pattern} use, engagement {engagement_intensity}",
            categories=("temporal_pattern", "engagement_intensity"),
        ),
        Group(
            "from {country}, acquired through {acquisition_source}",
            categories=("country", "acquisition_source"),
        ),
        Group(
            "account {account_state}, health {account_health:.0f}",
            numbers=("account_health", "account_contract", "account_utilization", "is_dunning"),
            categories=("account_state",),
            reason_if_unknown="account without history",
        ),
    ),
)

ACCOUNTS = Target(
    entity="account",
    model_version="account-churn-2",
    horizon_steps=3,
    age="days_since_creation",
    baseline="health_score",
    baseline_edges=(0, 30, 50, 70, 90),
    baseline_reason="health {health_score:.0f}",
    risk_settings=("account_medium_risk_from", "account_high_risk_from"),
    groups=(
        Group("health {health_score:.0f}", numbers=("health_score", "recent_activity_score")),
        Group(
            "health changed by {health_change_30:+.0f} in 30 days, {health_change_90:+.0f} in 90",
            numbers=(
                "health_change_30",
                "health_change_90",
                "active_seats_change_30",
                "active_seats_change_90",
            ),
            reason_if_unknown="created less than 90 days ago",
        ),
        Group(
            "{active_seats} of {total_seats} seats in use",
            numbers=("seat_utilization_pct", "products_active", "active_seats", "total_seats"),
        ),
        Group(
            "{current_state} for {days_in_state} days",
            categories=("current_state",),
            numbers=("contract_status_score", "days_in_state"),
        ),
        Group(
            "{days_to_renewal:.0f} days to renewal",
            numbers=("days_to_renewal",),
            reason_if_unknown="open-ended",
        ),
        Group(
            "{subscription_tier}, created {days_since_creation} days ago",
            numbers=("days_since_creation", "monthly_recurring_revenue"),
            categories=("subscription_tier",),
        ),
    ),
)
