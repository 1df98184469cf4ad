"""The page that `monstera status --cost --output FILE` writes: what runs cost.

The page is not part of the site, whose pages depend only on the tables. It uses the site's template,
style and script, and is one file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from monstera_assets.dashboards.library import ENVIRONMENT, SiteError, template_file
from monstera_assets.dashboards.model import Item, Listing, Page, Section, Tile, Unavailable, fields
from monstera_assets.operations.costs import Costs, full_text, size_text, summary
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
    files = {"style": template_file("style.css"), "script": template_file("site.js")}
    policy = (
        f"default-src 'none'; style-src '{_digest(files['style'])}'; script-src"
        f" '{_digest(files['script'])}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = Page(
        "",
        "Costs",
        "What a day costs, which tables are growing, and when the disk will be full.",
        [*_tiles(costs)],
        [Section("Steps and tables", [_steps(costs)]), Section("Runs", [_runs(costs)])],
    )
    return ENVIRONMENT.get_template("page.html").render(
        page=page,
        policy=policy,
        root="",
        fresh=("As of", now.isoformat(timespec="minutes"), f"{now:%Y-%m-%d %H:%M} UTC"),
        foot=[*summary(costs)],
        inline={name: Markup(text) for name, text in files.items()},  # noqa: S704  # own files
    )


def _tiles(costs: Costs) -> Iterator[Tile]:
    disk, count = costs.disk, costs.daily_runs
    day = "not known" if costs.day_seconds is None else f"{costs.day_seconds:.1f} s"
    runs = (
        ("no daily run yet", "1 daily run")[count] if count < 2 else f"mean of {count} daily runs"
    )
    growth = "not known" if disk.bytes_per_day is None else size_text(disk.bytes_per_day)
    copy = f"published copy {size_text(disk.published_bytes)}"
    for label, value, note in (
        ("Seconds per Day", day, runs),
        ("Database", size_text(disk.database_bytes), copy),
        ("Dagster's State", size_text(disk.dagster_bytes), "on the database's disk"),
        ("Growth per Day", growth, f"since {disk.growth_since}" if disk.growth_since else ""),
        ("Free Disk Space", size_text(disk.free_bytes), full_text(disk)),
    ):
        yield Tile(label, value, None, "", note=note)


def _steps(costs: Costs) -> Item:
    return _listing(
        *("Seconds, rows and bytes", "Steps, Seconds Rows and Bytes, Last Run, by Step"),
        "Seconds are those of the last run: of the step, and of the table's checks. Seconds per day are"
        " means of the last daily runs, checks included. Bytes are those of the table's blocks in the"
        " file; smaller tables share blocks and are not measured. The largest tables come first.",
        *(costs.steps, "No run has recorded any step yet."),
        *("step/Step", "seconds/Seconds/,.2f/-", "check_seconds/Seconds of checks/,.2f/-"),
        *("day_seconds/Seconds per day/,.2f/-", "rows/Rows/,d/-"),
        *("rows_per_day/Rows per day/,.0f/-", "bytes/Bytes/,d/-"),
        "bytes_per_day/Bytes per day/,.0f/-",
    )


def _runs(costs: Costs) -> Item:
    return _listing(
        *("Duration and size", "Runs, Duration and Database Size, Last Runs, by Run"),
        "The last successful runs of the whole graph.",
        *(costs.runs, "No run of the whole graph has succeeded yet."),
        *("at/Finished/day", "days/Days/,d", "seconds/Seconds/,.1f", "last_day/Data through/day"),
        "database_bytes/Bytes of the database/,d/-",
    )


def _listing(
    name: str, title: str, finding: str, records: Sequence[object], reason: str, *columns: str
) -> Item:
    """List attributes of records, or give the reason why there are none."""
    if not records:
        return Unavailable(reason, name, title)
    shown = fields(*columns)
    rows = [[getattr(record, one.name) for one in shown] for record in records]
    return Listing(finding, shown, rows, None, name=name, title=title)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
