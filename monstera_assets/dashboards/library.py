"""The templates, and the chart library: Vega, Vega-Lite and Vega-Embed as one script.

The script is made from the package vl-convert-python. This takes seconds, so it is cached in the user's
cache folder, one file per version.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from monstera_assets.dashboards.model import json_text
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.query_cache import (
    cache_folder,
    is_private,
    make_private,
    write_privately,
)


class SiteError(WarehouseError):
    """The site could not be written. The previous site is unchanged."""


_PACKAGE = "vl-convert-python"
_LOADER = PackageLoader("monstera_assets.dashboards")
ENVIRONMENT = Environment(
    loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
ENVIRONMENT.filters["json"] = json_text


def template_file(name: str) -> str:
    """Return the text of a file of the site that does not depend on the data."""
    return _LOADER.get_source(ENVIRONMENT, name)[0]


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
