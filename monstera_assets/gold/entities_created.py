"""Configurable tables of entities created per day, such as gold_videos_created_daily (the default).

The setting `EntityCreated` names the entity and the events that create it. The table is built by
`entity_created_table`.
"""

from __future__ import annotations

from monstera_assets.settings.entities_created import EntityCreated

__all__ = ["EntityCreated"]
