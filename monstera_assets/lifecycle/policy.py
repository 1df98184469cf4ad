"""The thresholds of the lifecycle, in days and counts; the defaults are the framework's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LifecyclePolicy(BaseModel):
    """Thresholds of the state rules (framework, sections 3 to 5). All day counts are calendar days."""

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

    @model_validator(mode="after")
    def _dormant_after_active(self) -> LifecyclePolicy:
        if self.dormant_days < self.active_days:
            raise ValueError(
                f"dormant_days ({self.dormant_days}) must not be below active_days"
                f" ({self.active_days})"
            )
        return self
