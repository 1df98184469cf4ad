"""Configurable tables that count entities created per day, by default gold_videos_created_daily.

Each `EntityCreated` setting specifies an entity and the events that create it. The tables are built by
`entity_created_table`.
"""

from __future__ import annotations

from monstera_assets.settings.entities_created import EntityCreated

__all__ = ["EntityCreated"]
