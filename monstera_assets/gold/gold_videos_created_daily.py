"""gold_videos_created_daily: videos that users created; what `entities_created` holds by default."""

from __future__ import annotations

from monstera_assets.gold.entities_created import EntityCreated

VIDEOS_CREATED = EntityCreated(entity="Videos", event_types=("video_created",))
