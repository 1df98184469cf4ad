"""Render all pages and replace the site's folder in one step.

Each page is a single file that can be opened from disk, copied and sent by email. The page contains
its own style and script, and a content security policy blocks network connections. The same tables
always produce the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monstera_assets.dashboards import platform_pages, product_pages
from monstera_assets.dashboards.account_page import accounts_page
from monstera_assets.dashboards.cross_product_page import cross_product_page
from monstera_assets.dashboards.errors import SiteError
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.home_page import home_page
from monstera_assets.dashboards.model import Drawing, Figure, Listing, Page
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.structure import HOME, main_pages, read_catalog
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.operations.snapshots import CURRENT, Snapshots
from monstera_assets.settings import Settings
from monstera_assets.warehouse import writer
from monstera_assets.warehouse.connection import connect


@dataclass(frozen=True)
class SiteReport:
    """The location, size and as-of date of a built site.

    `as_of` is None if there is no data.
    """

    index: Path
    pages: int
    bytes: int
    as_of: date | None


def build_site(
    connection: duckdb.DuckDBPyConnection,
    output: Path,
    tables: Sequence[MetricTable],
    wording: Wording,
) -> SiteReport:
    """Build all pages and replace all previous pages in `output` in one step.

    The connection must not have an open transaction.

    Raises:
        SiteError: If the folder cannot be written to.
        SchemaMismatchError: If a stored table differs from its declaration.
    """
    with writer.transaction(connection):
        reader = Reader(connection, [table for table in tables if table.partition_column], wording)
        pages = render_site(reader, tables)
        as_of = reader.days[1] if reader.days else None
    snapshots = Snapshots(output, what="site", command="monstera dashboard", error=SiteError)
    with snapshots.replacing() as folder:
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
    size = sum(len(text.encode()) for text in pages.values())
    return SiteReport(output / CURRENT / HOME, len(pages), size, as_of)


def write_site(settings: Settings, output: Path, tables: Sequence[MetricTable]) -> SiteReport:
    """Build the site from a warehouse that is opened in read-only mode.

    Raises:
        WarehouseLockedError: If the database is still locked after the lock timeout.
        WarehouseError: If the site cannot be built or the database cannot be opened.
    """
    with connect(
        str(settings.database),
        {},
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=True,
    ) as connection:
        return build_site(connection, output, tables, Wording.of(settings))


def render_site(reader: Reader, tables: Sequence[MetricTable]) -> dict[str, str]:
    """Return each page's HTML by file name, with all text escaped."""
    loader = PackageLoader("monstera_assets.dashboards")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update({"plots": _plots, "svg": _svg, "day": day_in_words})
    environment.tests.update(
        {
            "figure": lambda item: isinstance(item, Figure),
            "listing": lambda item: isinstance(item, Listing),
        }
    )
    style, script = (loader.get_source(environment, name)[0] for name in ("style.css", "script.js"))
    first, last = reader.days or (None, None)
    template = environment.get_template(
        "page.html",
        globals={
            "style": Markup(style),  # noqa: S704  # files in this package
            "script": Markup(script),  # noqa: S704
            "policy": content_policy(style, script),
            "as_of": last,
            "first_day": first,
            "main_pages": main_pages(),
        },
    )
    return {page.file: template.render(page=page) for page in make_pages(reader, tables)}


def make_pages(reader: Reader, tables: Sequence[MetricTable]) -> Iterator[Page]:
    """Yield all pages, starting with the home page."""
    catalog = read_catalog(reader)
    created = [
        table
        for table in tables
        if table.name.endswith("_created_daily") and table.name != "gold_users_created_daily"
    ]
    yield home_page(reader, catalog)
    yield platform_pages.overall_page(reader, catalog)
    yield platform_pages.segments_page(reader, catalog)
    yield platform_pages.activity_page(reader, catalog, created)
    yield accounts_page(reader)
    yield cross_product_page(reader, catalog)
    for product in catalog.products:
        yield product_pages.overall_page(reader, catalog, product)
        yield product_pages.segments_page(reader, catalog, product)
        yield product_pages.activity_page(reader, catalog, product)


def content_policy(style: str, script: str) -> str:
    """Return a content security policy that allows only the page's own style and script."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def day_in_words(day: date) -> str:
    """Format a day for the page header, such as 30 June 2025."""
    return f"{day.day} {day:%B} {day.year}"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _plots(drawing: Drawing) -> str:
    places = [
        [
            *(round(place, 1) for place in (plot.left, plot.width, plot.top, plot.height)),
            plot.columns,
        ]
        for plot in drawing.plots
    ]
    return json.dumps(places, separators=(",", ":"))


def _svg(drawing: Drawing, figure: str) -> Markup:
    """Return a drawing's SVG, with the figure's title and finding as its accessible name."""
    named = f'<svg role="img" aria-labelledby="{figure}-title {figure}-finding" '
    return Markup(drawing.svg.replace("<svg ", named, 1))  # noqa: S704  # the text is escaped
