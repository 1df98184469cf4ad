"""What users create, which a company configures for its own event types: the setting's entries."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)+$")]


class EntityCreated(BaseModel):
    """What users create, and by which events.

    Attributes:
        entity: what is created, in the plural and in Title Case, such as Videos; the table is named
            after it.
        event_types: the event types that create one each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity: Annotated[str, StringConstraints(pattern=r"^[A-Z][a-z]+( [A-Z][a-z]+)*$")]
    event_types: tuple[EventType, ...] = Field(min_length=1)

    @property
    def metric_name(self) -> str:
        """The metric's name by the convention."""
        return f"{self.entity} Created Daily"


VIDEOS_CREATED = EntityCreated(entity="Videos", event_types=("video_created",))
DEFAULT_ENTITIES_CREATED = (VIDEOS_CREATED,)
