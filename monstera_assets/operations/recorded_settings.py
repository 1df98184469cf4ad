"""The settings that the warehouse records because they affect rows in daily tables."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from monstera_assets.operations.open_warehouse import open_warehouse
from monstera_assets.settings import Settings
from monstera_assets.warehouse.recorded_settings import require_same_settings

_TOP = ("engine", "timezone", "earliest_event_date", "null_words", "entities_created")
_NOT_RECORDED = (
    *("alerts", "churn", "recommendations", "min_affinity_support"),
    "max_rejected_share",
)
"""Parts of the policy that do not affect rows in daily tables."""


def recorded_settings(settings: Settings) -> dict[str, str]:
    """Return the recorded settings' values as strings, by setting name."""
    return {
        **{name: _text(getattr(settings, name)) for name in _TOP},
        **({"warehouse": str(settings.warehouse)} if settings.engine != "duckdb" else {}),
        **{
            f"policy.{name}": text
            for name, text in _flat(settings.policy).items()
            if name.split(".")[0] not in _NOT_RECORDED
        },
    }


def ensure_writable(settings: Settings, *, rebuild: bool = False) -> None:
    """Open the warehouse for writing and close it so that a run that cannot write fails early.

    Args:
        settings: the configuration.
        rebuild: whether to delete all computed days before they are recomputed with other settings.

    Raises:
        ChangedSettingsError: If the stored days were computed with other settings, or cannot be
            recomputed.
        WarehouseError: If another process has locked the database, or the warehouse cannot be
            opened.
    """
    warehouse = open_warehouse(settings)
    with warehouse.open() as engine:
        if rebuild:
            engine.delete_all_days()
        require_same_settings(engine, warehouse.place, recorded_settings(settings))


def _flat(model: BaseModel) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= {f"{name}.{inner}": text for inner, text in _flat(value).items()}
        else:
            found[name] = _text(value)
    return found


def _text(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
