"""Tables of entities created daily, which a company configures for its own event types.

The setting's `EntityCreated` says what is created and which events create it; `entity_created_table`
makes the table of it. What is configured by default is gold_videos_created_daily.
"""

from __future__ import annotations

from monstera_assets.settings.entities_created import EntityCreated

__all__ = ["EntityCreated"]
