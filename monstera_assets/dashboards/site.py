"""Render all pages and replace the site's folder in one step.

The folder can be opened from disk and copied. Its pages load only the folder's own style sheet, scripts
and chart library, and a content security policy blocks everything else. The same tables always produce
the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from monstera_assets.dashboards.activity_page import activity_page, product_page
from monstera_assets.dashboards.entity_pages import entity_pages, name_entities
from monstera_assets.dashboards.findings import Wording
from monstera_assets.dashboards.home_page import home_page
from monstera_assets.dashboards.library import ENVIRONMENT, SiteError, chart_library, template_file
from monstera_assets.dashboards.lifecycle_page import accounts_page, lifecycle_page
from monstera_assets.dashboards.model import Page, day_number, day_text
from monstera_assets.dashboards.products_page import products_page
from monstera_assets.dashboards.reading import HOME, MAIN_PAGES, Reader, read_catalog
from monstera_assets.dashboards.retention_page import retention_page
from monstera_assets.dashboards.revenue_page import revenue_page
from monstera_assets.dashboards.risk_page import risk_page
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.operations import registered_folders
from monstera_assets.operations.snapshots import CURRENT, Snapshots
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.files import replacing_file
from monstera_assets.warehouse.tables import Table

if TYPE_CHECKING:
    from monstera_assets.operations.status import Status

OPENED = "opened"
"""The folder next to the snapshots with the pages that commands wrote for accounts and people."""
_REGISTER, _USUAL = ".dashboards", "dashboards"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; base-uri 'none';"
    " form-action 'none'"
)


@dataclass(frozen=True)
class SiteReport:
    """The location, size and as-of date of a built site. `as_of` is None if there is no data."""

    index: Path
    pages: int
    bytes: int
    as_of: date | None


def build_site(
    connection: duckdb.DuckDBPyConnection,
    output: Path,
    tables: Sequence[MetricTable],
    settings: Settings,
    status: Status | None = None,
) -> SiteReport:
    """Build all pages and replace all previous pages in `output` in one step.

    The connection must not have an open transaction. The home page shows the status, if it is given.

    Raises:
        SiteError: If the folder cannot be written to.
        SchemaMismatchError: If a stored table differs from its declaration.
    """
    register(settings.database, output)
    pages = size = 0
    with _snapshots(output).replacing() as folder, DuckDBEngine(connection).transaction():
        reader = _reader(connection, tables, settings)
        for name, text in render_site(reader, tables, status):
            size += (folder / name).write_bytes(text.encode())
            pages += name.endswith(".html")
        as_of = reader.days[1] if reader.days else None
    return SiteReport(output / CURRENT / HOME, pages, size, as_of)


def write_site(
    settings: Settings, output: Path, tables: Sequence[MetricTable], status: Status | None = None
) -> SiteReport:
    """Build the site from a warehouse that is opened in read-only mode.

    Raises:
        WarehouseLockedError: If the database is still locked after the lock timeout.
        WarehouseError: If the site cannot be built or the database cannot be opened.
    """
    with _reading(settings) as connection:
        return build_site(connection, output, tables, settings, status)


def write_entity(
    settings: Settings, output: Path, tables: Sequence[MetricTable], kind: str, entity: str
) -> Path:
    """Write the page of an account or person next to the site, and return its path.

    `kind` is `account` or `person`, and `entity` is the id. The site is built if it does not exist.
    Building the site does not change the page.

    Raises:
        SiteError: If the id is unknown or the folder cannot be written to.
        WarehouseError: If the database cannot be opened.
    """
    with _reading(settings) as connection:
        if not (output / CURRENT / "vega.js").exists():
            build_site(connection, output, tables, settings)
        register(settings.database, output)
        with DuckDBEngine(connection).transaction():
            reader = _reader(connection, tables, settings)
            pages = [*entity_pages(reader, kind, [entity])]
            render = _render(reader, f"../{CURRENT}/")
            text = render(page=pages[0]) if pages else ""
    if not text:
        raise SiteError(
            f"The warehouse contains no {kind} with the id {entity}. Check the id, which is"
            " case-sensitive."
        )
    path = output / OPENED / pages[0].file
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing_file(path, ".new") as incoming:
            incoming.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SiteError(f"Cannot write {path}: {error.strerror}.") from error
    return path


def rebuild_sites(settings: Settings, tables: Sequence[Table]) -> list[Path]:
    """Build this warehouse's existing sites again, and delete older pages and all opened pages.

    `tables` are all declared tables. The folders of the sites are returned.

    Raises:
        SiteError: If a folder cannot be written to. Other folders may already have been rebuilt.
    """
    folders = registered_folders.registered(settings.database, _REGISTER)
    usual = (settings.dashboards, settings.database.parent / _USUAL)
    known = {folder.absolute(): folder for folder in (*folders, *reversed(usual))}
    found = [folder for folder in reversed(known.values()) if (folder / CURRENT).exists()]
    for folder in found:
        write_site(settings, folder, [table for table in tables if isinstance(table, MetricTable)])
        _snapshots(folder).clean()
        shutil.rmtree(folder / OPENED, ignore_errors=True)
    return found


def register(database: Path, output: Path) -> None:
    """Record a site's folder next to the database so that later erasures can find it.

    The folder next to the database is always found.

    Raises:
        SiteError: If the register cannot be written to.
    """
    if output.absolute() == database.absolute().parent / _USUAL:
        return
    try:
        registered_folders.register(database, _REGISTER, output)
    except OSError as error:
        raise SiteError(
            f"Cannot write to {database}{_REGISTER}: {error.strerror}. This file lists the sites for"
            " `monstera forget`, so nothing was built. Check the file's permissions."
        ) from error


def _snapshots(output: Path) -> Snapshots:
    return Snapshots(output, what="site", command="monstera dashboard", error=SiteError)


def _reading(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    timeout = settings.lock_timeout_seconds
    return connect(str(settings.database), {}, lock_timeout_seconds=timeout, read_only=True)


def _reader(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[MetricTable], settings: Settings
) -> Reader:
    reader = Reader(connection, tables, Wording.of(settings))
    name_entities(reader, settings.account_pages)
    return reader


def _render(reader: Reader, root: str = "") -> Callable[..., str]:
    """Return the function that renders a page with all data escaped."""
    first, last = reader.days or (None, None)
    values = {
        "policy": POLICY,
        "root": root,
        "fresh": ("Data through", last, day_text(last)) if last else ("No data yet", "", ""),
        "first_day": day_text(first) if first else "",
        "bounds": {"first": day_number(first), "last": day_number(last)},
        "main_pages": MAIN_PAGES,
        "foot": (),
        "inline": None,
    }
    return partial(ENVIRONMENT.get_template("page.html").render, values)


def render_site(
    reader: Reader, tables: Sequence[MetricTable], status: Status | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each file in the site."""
    render = _render(reader)
    for page in make_pages(reader, tables, status):
        yield page.file, render(page=page)
    for kind, ids in (("account", reader.accounts), ("person", reader.people)):
        for page in entity_pages(reader, kind, [*ids]):
            yield page.file, render(page=page)
    for name in ("style.css", "charts.js", "site.js"):
        yield name, template_file(name)
    yield "vega.js", chart_library()


def make_pages(
    reader: Reader, tables: Sequence[MetricTable], status: Status | None = None
) -> Iterator[Page]:
    """Yield all pages, starting with the home page."""
    catalog = read_catalog(reader)
    created = [table for table in tables if table.name.endswith("_created_daily")]
    yield home_page(reader, status)
    yield lifecycle_page(reader)
    yield retention_page(reader)
    yield revenue_page(reader)
    yield products_page(reader, catalog)
    yield activity_page(reader, catalog, created)
    yield risk_page(reader)
    yield accounts_page(reader)
    yield from (product_page(reader, catalog, product) for product in catalog.products)
