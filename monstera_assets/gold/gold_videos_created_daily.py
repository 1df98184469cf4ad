"""gold_videos_created_daily: videos created by users, the default for `entities_created`."""

from __future__ import annotations

from monstera_assets.settings.entities_created import VIDEOS_CREATED

__all__ = ["VIDEOS_CREATED"]
