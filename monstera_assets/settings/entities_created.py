"""Define the `entities_created` setting, which lists entities that users create."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)+$")]


class EntityCreated(BaseModel):
    """A type of entity that users create.

    Attributes:
        entity: plural entity name in title case, such as Videos. The table name is derived from the
            entity name.
        event_types: the event types that create an entity. Each event creates one entity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity: Annotated[str, StringConstraints(pattern=r"^[A-Z][a-z]+( [A-Z][a-z]+)*$")]
    event_types: tuple[EventType, ...] = Field(min_length=1)

    @property
    def metric_name(self) -> str:
        """The metric's name, such as Videos Created Daily."""
        return f"{self.entity} Created Daily"


VIDEOS_CREATED = EntityCreated(entity="Videos", event_types=("video_created",))
DEFAULT_ENTITIES_CREATED = (VIDEOS_CREATED,)
