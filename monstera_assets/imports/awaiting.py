"""Determine whether exports await an import, without reading them."""

from __future__ import annotations

import json
from hashlib import sha256

from monstera_assets.imports import landing
from monstera_assets.imports.catalog_lookup import CATALOG
from monstera_assets.imports.own_tables import patterns
from monstera_assets.imports.raw_files import RawFile, find_files
from monstera_assets.imports.raw_staging import STAGING_VERSION
from monstera_assets.settings import Settings
from monstera_assets.settings.imports import ImportKind, ImportSettings

INPUTS = "inputs"
"""The key of `inputs_digest` in an import's state."""


def raw_files(settings: ImportSettings) -> dict[str, list[RawFile]]:
    """Return an import's raw files, by relation for the kind tables. Other kinds have one, "".

    Raises:
        SourceError: If no files exist, or a file cannot be read.
    """
    if settings.kind is not ImportKind.TABLES:
        return {"": find_files(str(settings.path))}
    return {name: find_files(path) for name, path in patterns(settings).items()}


def inputs_digest(settings: Settings) -> str:
    """Return a digest of all that an import depends on: raw files, settings and the catalog.

    Files are compared by name, size and modification time.

    Raises:
        SourceError: If an export has no files, or a file cannot be read.
    """
    files = [
        [relation, file.name, file.size, file.modified_ns]
        for each in settings.imports
        for relation, found in raw_files(each).items()
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
        SourceError: If an export has no files, or a file cannot be read.
    """
    digest = inputs_digest(settings)
    work = settings.source / landing.WORK
    try:
        state = json.loads((work / landing.STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return digest  # the import raises an error if the state is damaged
    is_complete = not (work / landing.INCOMING / landing.MOVES).exists()
    has_ledger = (settings.source / landing.LEDGER).exists()
    return None if is_complete and has_ledger and state.get(INPUTS) == digest else digest
