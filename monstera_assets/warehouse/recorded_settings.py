"""Record the settings used to compute the stored days so that a history never mixes settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from monstera_assets.warehouse.errors import WarehouseError

if TYPE_CHECKING:
    from monstera_assets.warehouse.engine import Engine

REBUILD = "monstera run --rebuild"
"""The command that recomputes all days."""


class ChangedSettingsError(WarehouseError):
    """The stored days were computed with different settings."""


def require_same_settings(engine: Engine, database: str, settings: Mapping[str, str]) -> None:
    """Compare settings with the settings used for the stored days, and record any new settings.

    Raises:
        ChangedSettingsError: If a value differs. The message lists each changed setting with both
            values and includes the command that recomputes all days.
    """
    recorded = engine.settings()
    changed = [
        f"{name} was {recorded[name]} and is now {value}"
        for name, value in settings.items()
        if recorded.get(name, value) != value
    ]
    if changed:
        raise ChangedSettingsError(
            f"{database} was computed with different settings: {'; '.join(changed)}. Restore the"
            f" earlier values, or recompute all days with: {REBUILD}"
        )
    missing = {name: value for name, value in settings.items() if name not in recorded}
    if missing:
        engine.record_settings(missing)
