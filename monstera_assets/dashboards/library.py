"""The chart library: Vega, Vega-Lite and Vega-Embed as one script, from the package vl-convert-python.

Making the script takes seconds, so it is cached in the user's cache folder, one file per version.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import version

from monstera_assets.warehouse.query_cache import (
    cache_folder,
    is_private,
    make_private,
    write_privately,
)

_PACKAGE = "vl-convert-python"


def chart_library() -> str:
    """Return the script, from the cache if it contains this version's."""
    folder = cache_folder("charts")
    path = folder / f"vega-{version(_PACKAGE)}.js" if folder else None
    with suppress(OSError):
        if path and is_private(path):
            return path.read_text(encoding="utf-8")
    # Imported here because the import alone is slow.
    import vl_convert

    # The package's types lack the default of `snippet`.
    script: str = vl_convert.javascript_bundle(None)  # type: ignore[arg-type]
    if path:
        with suppress(OSError):
            make_private(path.parent)
        write_privately(path, script)
    return script
