"""gold_videos_created_daily: videos that users created; what `entities_created` holds by default."""

from __future__ import annotations

from monstera_assets.settings.entities_created import VIDEOS_CREATED

__all__ = ["VIDEOS_CREATED"]
