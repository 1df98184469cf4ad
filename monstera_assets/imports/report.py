"""Print what an import found and changed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from monstera_assets.imports.events import REASONS
from monstera_assets.imports.importer import ImportReport
from monstera_assets.settings import Settings

_SHOWN = 5


def print_import(console: Console, settings: Settings, report: ImportReport) -> None:
    """Print the totals of the ledger, the files that changed, and what needs attention."""
    totals = report.totals
    lines = [
        f"{report.files:,} files, {totals['rows_read']:,} rows",
        f"landed  {totals['landed']:,} rows",
        *(f"set aside ({name})  {totals[name]:,} rows" for name in REASONS if totals[name]),
    ]
    if totals["described"]:
        lines.append(f"described users and accounts  {totals['described']:,} rows")
    if totals["malformed"]:
        lines.append(f"malformed  {totals['malformed']:,} rows")
    lines += [
        *_listed("Not recognized, so not read", report.unrecognized),
        *_listed("No longer there, but what they landed stays", report.vanished),
        *_listed("Aliases form a cycle, so these ids stay as they are", report.cycles),
        *_listed("Imports disagree, so the first one counts", report.conflicts),
        *_listed(
            "Several names became one event type",
            [f"{name} ({', '.join(raw)})" for name, raw in report.merged_names.items()],
        ),
        f"Source: {settings.source}, {len(report.written):,} files written,"
        f" {len(report.removed):,} removed",
    ]
    for line in lines:
        console.print(escape(line), soft_wrap=True, highlight=False)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(names[:_SHOWN])}{more}"]
