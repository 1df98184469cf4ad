"""Print what an import found and changed, and what is proposed for new exports."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monstera_assets.imports.event_rows import REASONS
from monstera_assets.imports.importer import ImportReport
from monstera_assets.imports.proposal import Proposal
from monstera_assets.settings import Settings

_SHOWN = 5
_TYPES_SHOWN = 40


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
        *_listed("No longer exist, but their rows stay", report.vanished),
        *_listed("Aliases form a cycle, so these ids stay as they are", report.cycles),
        *_listed("Imports disagree, so the first one counts", report.conflicts),
        *_listed("Revenue differs from Stripe's movements", report.revenue_differences),
        *_listed("Free by a discount, so never started", report.free_subscriptions),
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


def print_proposal(console: Console, proposal: Proposal) -> None:
    """Print the event types with what is proposed for each, and the files that were written."""
    for kind, path in proposal.kinds.items():
        console.print(escape(f"{kind}: {path}"), soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("event type")
    for name in ("users", "days", "share"):
        table.add_column(name, justify="right")
    table.add_column("proposed")
    for each in proposal.event_types[:_TYPES_SHOWN]:
        role = "activates" if each.activates else "qualifies" if each.qualifies else ""
        table.add_row(each.name, f"{each.users:,}", f"{each.days:,}", f"{each.share:.1%}", role)
    console.print(table, highlight=False)
    if (more := len(proposal.event_types) - _TYPES_SHOWN) > 0:
        console.print(f"and {more:,} more event types", highlight=False)
    for line in _listed("Not recognized", proposal.unrecognized):
        console.print(escape(line), soft_wrap=True, highlight=False)
    console.print(
        escape(
            f"Written: {proposal.settings_file} and {proposal.catalog_file}. Edit which event types"
            " qualify and activate in the catalog, then run `monstera run`."
        ),
        soft_wrap=True,
        highlight=False,
    )
