"""Render all pages and replace the site's folder in one step.

The folder can be opened from disk and copied. Its pages load only the folder's own style sheet, script
and chart library, and a content security policy blocks everything else. The same tables always produce
the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monstera_assets.dashboards.errors import SiteError
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.home_page import home_page
from monstera_assets.dashboards.library import chart_library
from monstera_assets.dashboards.lifecycle_page import lifecycle_page
from monstera_assets.dashboards.model import Figure, Listing, Page, day_number
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.retention_page import retention_page
from monstera_assets.dashboards.revenue_page import revenue_page
from monstera_assets.dashboards.risk_page import risk_page
from monstera_assets.dashboards.structure import HOME, MAIN_PAGES, read_catalog
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.operations.snapshots import CURRENT, Snapshots
from monstera_assets.settings import Settings
from monstera_assets.warehouse import writer
from monstera_assets.warehouse.connection import connect


POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; base-uri 'none';"
    " form-action 'none'"
)


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
    """Return the text of each file in the site by file name, with all data escaped."""
    loader = PackageLoader("monstera_assets.dashboards")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update({"json": _json, "day": day_in_words})
    environment.tests.update(
        {
            "figure": lambda item: isinstance(item, Figure),
            "listing": lambda item: isinstance(item, Listing),
        }
    )
    first, last = reader.days or (None, None)
    template = environment.get_template(
        "page.html",
        globals={
            "policy": POLICY,
            "as_of": last,
            "first_day": first,
            "bounds": {"first": day_number(first), "last": day_number(last)},
            "main_pages": MAIN_PAGES,
        },
    )
    pages = {page.file: template.render(page=page) for page in make_pages(reader, tables)}
    own = {name: loader.get_source(environment, name)[0] for name in ("style.css", "site.js")}
    return {**pages, **own, "vega.js": chart_library()}


def make_pages(reader: Reader, tables: Sequence[MetricTable]) -> Iterator[Page]:
    """Yield all pages, starting with the home page."""
    yield home_page(reader)
    yield lifecycle_page(reader)
    yield retention_page(reader)
    yield revenue_page(reader)
    yield risk_page(reader)


def day_in_words(day: date) -> str:
    """Format a day for the page header, such as 30 June 2025."""
    return f"{day.day} {day:%B} {day.year}"


def _json(value: Any) -> Markup:
    """Return JSON that cannot end the element that contains it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # escaped
