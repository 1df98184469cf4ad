"""Determine whether exports await an import, without reading them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from monstera_assets.imports import landing
from monstera_assets.imports.catalog_lookup import CATALOG
from monstera_assets.imports.own_tables import patterns
from monstera_assets.imports.raw_files import NoFilesError, RawFile, find_files
from monstera_assets.imports.raw_staging import STAGING_VERSION, import_key
from monstera_assets.settings import Settings
from monstera_assets.settings.imports import ImportKind, ImportSettings

INPUTS = "inputs"
"""The key of `inputs_digest` in an import's state."""


def raw_files(settings: ImportSettings, state: Mapping[str, Any]) -> dict[str, list[RawFile]]:
    """Return an import's raw files, by relation for the kind tables. Other kinds have one, "".

    Args:
        settings: the import.
        state: what earlier imports recorded. If they landed files of this import, it may have none now,
            because what vanished files landed stays.

    Raises:
        SourceError: If no files exist and none ever landed, or a file cannot be read.
    """
    paths = {"": str(settings.path)}
    if settings.kind is ImportKind.TABLES:
        paths = dict(patterns(settings))
    found: dict[str, list[RawFile]] = {}
    for name, path in paths.items():
        try:
            found[name] = find_files(path)
        except NoFilesError:
            if import_key(settings) not in state.get("imports", {}):
                raise
            found[name] = []
    return found


def inputs_digest(settings: Settings) -> str:
    """Return a digest of all that an import depends on: raw files, settings and the catalog.

    Files are compared by name, size and modification time.

    Raises:
        SourceError: If an export has no files and none landed, or a file cannot be read.
    """
    state = _state(settings)
    files = [
        [relation, file.name, file.size, file.modified_ns]
        for each in settings.imports
        for relation, found in raw_files(each, state).items()
        for file in found
    ]
    catalogs = (path.stat() for path in sorted(settings.source.glob(f"*{CATALOG}*")))
    parts = [
        STAGING_VERSION,
        files,
        [[status.st_size, status.st_mtime_ns] for status in catalogs],
        [each.model_dump(mode="json") for each in settings.imports],
        [settings.timezone, settings.csv_delimiter, *settings.policy.subscription_tiers],
    ]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def awaiting_import(settings: Settings) -> str | None:
    """Return the digest of the inputs that the next import reads, or None if they have landed.

    Raises:
        SourceError: If an export has no files and none landed, or a file cannot be read.
    """
    digest = inputs_digest(settings)
    state, work = _state(settings), settings.source / landing.WORK
    is_complete = not (work / landing.INCOMING / landing.MOVES).exists()
    has_ledger = (settings.source / landing.LEDGER).exists()
    return None if is_complete and has_ledger and state.get(INPUTS) == digest else digest


def _state(settings: Settings) -> dict[str, Any]:
    """Return what the last import recorded. Without it, or if it is damaged, it is empty."""
    path = settings.source / landing.WORK / landing.STATE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}  # the import raises an error if the state is damaged
