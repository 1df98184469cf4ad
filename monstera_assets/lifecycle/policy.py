"""The thresholds of the lifecycle, in days and counts; the defaults are the framework's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LifecyclePolicy(BaseModel):
    """Thresholds of the state rules (framework, sections 3 to 5). All day counts are calendar days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new_user_days: int = Field(
        default=30,
        ge=0,
        description="Days after signup in which a user who has no value yet is new.",
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

    @model_validator(mode="after")
    def _dormant_after_active(self) -> LifecyclePolicy:
        if self.dormant_days < self.active_days:
            raise ValueError(
                f"dormant_days ({self.dormant_days}) must not be below active_days"
                f" ({self.active_days})"
            )
        return self
