"""Configurable tables of entities created per day, such as gold_videos_created_daily (the default).

Each `EntityCreated` setting names an entity and the events that create it.
`entity_created_table` builds the tables.
"""

from __future__ import annotations

from monstera_assets.settings.entities_created import EntityCreated

__all__ = ["EntityCreated"]
