"""What is foretold of users and of accounts: from which features, and what they are called.

A group of features is what a reason names: features of a group say much the same, so that their
weights taken one by one would say little.
"""

from __future__ import annotations

from dataclasses import dataclass

from monstera_assets.prediction.snapshots import (
    ACCOUNT_HORIZON_STEPS,
    STEP_DAYS,
    USER_HORIZON_STEPS,
)

ACCOUNT = "account_id"
"""The column of the account, whomever a row is about."""


@dataclass(frozen=True)
class Group:
    """Features that are one reason.

    Attributes:
        words: the reason, with the names of columns in braces.
        numbers: columns of numbers; missing ones are a value of their own.
        logarithms: columns of numbers from 0 on whose ratios matter rather than differences.
        categories: columns of text.
        words_if_unknown: the reason of rows where one of those columns is missing.
    """

    words: str
    numbers: tuple[str, ...] = ()
    logarithms: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    words_if_unknown: str = "not known"


@dataclass(frozen=True)
class Target:
    """Who is foretold to churn, within how long, and from what.

    Attributes:
        entity: user or account.
        model_version: another one for any change of features, model or calibration.
        horizon_steps: steps of 30 days after a snapshot within which it happens.
        age: the column of days since it began, by which all rows of one are known.
        baseline: the column that alone makes the baseline.
        baseline_edges: the lower edges of its bins.
        baseline_words: what the baseline gives as its reason.
        groups: the features, most telling first.
    """

    entity: str
    model_version: str
    horizon_steps: int
    age: str
    baseline: str
    baseline_edges: tuple[float, ...]
    baseline_words: str
    groups: tuple[Group, ...]

    @property
    def key(self) -> str:
        """The column that identifies whom a row is about."""
        return f"{self.entity}_id"

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of all groups."""
        return tuple(
            name
            for group in self.groups
            for name in (*group.numbers, *group.logarithms, *group.categories)
        )

    @property
    def horizon_days(self) -> int:
        """Days after a snapshot within which it happens."""
        return self.horizon_steps * STEP_DAYS


USERS = Target(
    entity="user",
    model_version="user-churn-1",
    horizon_steps=USER_HORIZON_STEPS,
    age="days_since_signup",
    baseline="days_quiet",
    baseline_edges=(0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 18, 22, 26),
    baseline_words="quiet for {days_quiet} days",
    groups=(
        Group(
            "quiet for {days_quiet} days, active on {active_days_90} of the last 90",
            numbers=("active_days_missed",),
            logarithms=("days_quiet",),
        ),
        Group(
            "active on {active_days_30} of the last 30 days, in {weeks_active} of the last 4 weeks",
            numbers=("active_days_7", "active_days_30", "active_days_90", "weeks_active"),
            logarithms=("events_30",),
        ),
        Group(
            "{events_30} events in the last 30 days, {events_before_30} in the 30 before",
            numbers=("months_active",),
            logarithms=("events_before_30",),
        ),
        Group(
            "{products_used_30} products and {features_used_30} features used in the last 30 days",
            numbers=("products_used_30", "products_active_before", "features_used_30"),
            logarithms=("people_reached", "workflows_started", "workflows_completed"),
        ),
        Group(
            "signed up {days_since_signup} days ago, {total_qualifying_events} events since",
            logarithms=("days_since_signup", "total_qualifying_events"),
            categories=("activity_state",),
        ),
        Group(
            "{temporal_pattern} use, engagement {engagement_intensity}",
            categories=("temporal_pattern", "engagement_intensity"),
        ),
        Group(
            "in {country}, came by {acquisition_source}",
            categories=("country", "acquisition_source"),
        ),
        Group(
            "account {account_state}, health {account_health:.0f}",
            numbers=("account_health", "account_contract", "account_utilization", "is_dunning"),
            categories=("account_state",),
            words_if_unknown="account without history",
        ),
    ),
)

ACCOUNTS = Target(
    entity="account",
    model_version="account-churn-1",
    horizon_steps=ACCOUNT_HORIZON_STEPS,
    age="days_since_creation",
    baseline="health_score",
    baseline_edges=(0, 30, 50, 70, 90),
    baseline_words="health {health_score:.0f}",
    groups=(
        Group(
            "health {health_score:.0f}",
            numbers=("health_score", "recent_activity_score"),
        ),
        Group(
            "health changed by {health_change_30:+.0f} in 30 days, {health_change_90:+.0f} in 90",
            numbers=(
                "health_change_30",
                "health_change_90",
                "active_seats_change_30",
                "active_seats_change_90",
            ),
            words_if_unknown="created less than 90 days ago",
        ),
        Group(
            "{active_seats} of {total_seats} seats in use",
            numbers=("seat_utilization_pct", "products_active"),
            logarithms=("active_seats", "total_seats"),
        ),
        Group(
            "{current_state} for {days_in_state} days",
            logarithms=("days_in_state",),
            categories=("current_state",),
            numbers=("contract_status_score",),
        ),
        Group(
            "{days_to_renewal:.0f} days to renewal",
            numbers=("days_to_renewal",),
            words_if_unknown="open-ended",
        ),
        Group(
            "{subscription_tier}, created {days_since_creation} days ago",
            logarithms=("days_since_creation", "monthly_recurring_revenue"),
            categories=("subscription_tier",),
        ),
    ),
)
