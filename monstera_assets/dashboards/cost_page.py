"""The page that `monstera status --cost --output FILE` writes: what runs cost.

The page is not part of the site, whose pages depend only on the tables. It uses the site's style.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monstera_assets.dashboards.errors import SiteError
from monstera_assets.operations.costs import Costs, StepCost, cells, full_text, size_text, summary
from monstera_assets.warehouse.files import replacing_file


def write_page(path: Path, costs: Costs, now: datetime) -> None:
    """Write the page, replacing an older page in one step.

    Raises:
        SiteError: If the file cannot be written.
    """
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path.absolute(), ".incoming") as incoming:
            incoming.write_text(render_page(costs, now), encoding="utf-8")
    except OSError as error:
        raise SiteError(
            f"Cannot write to --output {path}: {error.strerror}. Choose another file."
        ) from error


def render_page(costs: Costs, now: datetime) -> str:
    """Return the page's HTML, with all text escaped."""
    loader = PackageLoader("monstera_assets.dashboards")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["size"] = size_text
    style, script = (loader.get_source(environment, name)[0] for name in ("style.css", "site.js"))
    return environment.get_template("costs.html").render(
        style=Markup(style),  # noqa: S704  # files in this package
        script=Markup(script),  # noqa: S704
        policy=_content_policy(style, script),
        costs=costs,
        full=full_text(costs.disk),
        summary=list(summary(costs)),
        steps=[(step, zip(cells(step), _order(step), strict=True)) for step in costs.steps],
        now=now,
    )


def _content_policy(style: str, script: str) -> str:
    """Return a content security policy that allows only the page's own style and script."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _order(step: StepCost) -> list[float | None]:
    """Return the number by which each column is sorted, or None if it is unknown."""
    return [
        *(step.seconds, step.check_seconds, step.day_seconds),
        *(step.rows, step.rows_per_day, step.bytes, step.bytes_per_day),
    ]
